"""Transfer's parts: kernels by drawing weights, slopes by differences, dense predictions, the branch, what is said."""

from __future__ import annotations

import math

import numpy as np
import pytest

from finitewidth import FullyConnected, InputError
from finitewidth.data import Dataset
from finitewidth.networks.coupled import Joint, SourceFirst
from finitewidth.theory import saddle
from finitewidth.theory import transfer as module
from finitewidth.theory.saddle import Minimum
from finitewidth.theory.transfer import transfer

T = 0.1
NETWORK = FullyConnected(widths=12, activation="relu", weight_precision=(1.2, 0.7))
COUPLED = {"joint": Joint(NETWORK, 1.3), "source first": SourceFirst(NETWORK, 3.0)}


def task(count, seed):
    r = np.random.default_rng(seed)
    x = r.standard_normal((count, 4))
    return Dataset(x, x @ [1.0, -0.5, 0.3, 0.0] + 0.3 * r.standard_normal(count), classes=())


SOURCE, TARGET, TEST = task(9, 0), task(5, 1), task(4, 2)


@pytest.mark.parametrize("name", COUPLED)
def test_kernels_by_drawing_the_weights(name):
    """relu of one neuron in both networks (and two targets): second moments, less the means between networks."""
    coupled, r = COUPLED[name], np.random.default_rng(0)
    s, t = module._sides(coupled, SOURCE, TARGET)
    root = np.linalg.cholesky(coupled.covariance)
    both = np.einsum("ab,bni->ani", root, r.standard_normal((2, 100_000, 4)))
    phi = [np.maximum(w @ side.x.T / 2.0, 0.0) for w, side in zip(both, (s, t), strict=True)]
    for mine, other, found, centred in (
        (phi[0], phi[0], s.own(), False),
        (phi[1], phi[1], t.own(), False),
        (phi[1], phi[0], t.across(s, coupled.covariance[0, 1]), True),
        (phi[0], phi[1], s.across(t, coupled.covariance[0, 1]), True),
    ):
        drawn = mine.T @ other / len(mine)
        drawn -= np.outer(mine.mean(0), other.mean(0)) if centred else 0.0
        assert np.abs(drawn / 0.7 - found).max() < 0.02 * np.abs(s.own()).max()
    np.testing.assert_allclose(t.prior, np.diagonal(t.own()), rtol=1e-10)
    at = module._Side(coupled, TEST.x, coupled.covariance[1, 1])
    np.testing.assert_allclose(at.own(t), t.own(at).T, rtol=1e-12)
    np.testing.assert_allclose(t.variance, coupled.covariance[1, 1] * (TARGET.x**2).mean(1), rtol=1e-12)
    if name == "source first":  # two targets that follow one source
        c, own = coupled.shift, root[0, 0] * r.standard_normal((100_000, 4))
        pair = [c * own + math.sqrt(coupled.spread) * r.standard_normal(own.shape) for _ in (0, 1)]
        a, b = (np.maximum(w @ TARGET.x.T / 2.0, 0.0) for w in pair)
        drawn = (a.T @ b / len(a) - np.outer(a.mean(0), b.mean(0))) / 0.7
        assert np.abs(drawn - t.across(t, coupled.between_replicas)).max() < 0.02 * np.abs(t.own()).max()


# --- together ---------------------------------------------------------------------------------------------------------


def joint_problem():
    coupled = COUPLED["joint"]
    s, t = module._sides(coupled, SOURCE, TARGET)
    return module._JointProblem(coupled, s, t, np.concatenate([SOURCE.y, TARGET.y]), T)


def test_the_joint_action_by_loops_and_differences():
    problem, q = joint_problem(), np.array([[1.3, 0.4], [0.4, 0.8]])
    assert problem.counts == (9, 5)
    A = T * np.eye(14)
    for i in range(14):
        for j in range(14):
            A[i, j] += q[int(i >= 9), int(j >= 9)] * problem.kernel[i, j]
    rate = 12 * (np.trace(q) - np.linalg.slogdet(q)[1] - 2.0)
    fit = np.linalg.slogdet(A)[1] + problem.y @ np.linalg.solve(A, problem.y) + 14 * math.log(2 * math.pi)
    value, slope = problem.action(q)
    assert value == pytest.approx(0.5 * (rate + fit), rel=1e-11)
    for move in (np.diag([1.0, 0.0]), np.diag([0.0, 1.0]), np.array([[0.0, 1.0], [1.0, 0.0]])):
        ends = [problem.action(q + sign * 1e-5 * move)[0] for sign in (1, -1)]
        assert np.vdot(slope, move) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)
    assert problem.action(np.diag([1.0, 0.0]))[0] == math.inf
    assert problem.action(np.diag([1.0, -1.0]))[0] == math.inf


def test_joint_predictions_are_dense_conditioning():
    found = transfer(COUPLED["joint"], SOURCE, TARGET, T)
    o = found.order_parameters
    q = np.array([[o["source"], o["cross"]], [o["cross"], o["target"]]])
    assert o["cross"] > 0.01
    problem = joint_problem()
    A = np.repeat(np.repeat(q, (9, 5), 0), (9, 5), 1) * problem.kernel + T * np.eye(14)
    at = module._Side(problem.coupled, TEST.x, problem.coupled.covariance[1, 1])
    k = np.concatenate(
        [q[1, 0] * at.across(problem.source, problem.coupled.covariance[0, 1]), q[1, 1] * at.own(problem.target)], 1
    )
    prediction = found.predict(TEST.x)
    np.testing.assert_allclose(prediction.mean, k @ np.linalg.solve(A, problem.y), rtol=1e-9)
    variance = q[1, 1] * at.prior - np.einsum("ip,pi->i", k, np.linalg.solve(A, k.T))
    np.testing.assert_allclose(prediction.variance, variance, rtol=1e-9)
    inverse = np.linalg.inv(A)[9:, 9:]
    residual = T * np.linalg.solve(A, problem.y)[9:]
    assert prediction.train_error == pytest.approx(np.mean(residual**2 + T - T**2 * np.diagonal(inverse)), rel=1e-9)
    assert (found.converged, found.message, found.temperature) == (True, "", T)


def test_joint_starts_cover_both_signs_and_every_pair(monkeypatch):
    problem, seen = joint_problem(), {}
    lone = {9: [0.5, 2.0], 5: [0.8, 1.5]}
    monkeypatch.setattr(
        module,
        "single_scale_minima",
        lambda kernel, y, width, temperature: [Minimum(np.array([v]), 0.0, 0.0) for v in lone[len(y)]],
    )

    def watch(objective, starts, tolerance):
        seen.update(objective=objective, starts=starts, tolerance=tolerance)
        return [(starts[0], 1.0, 0.0)]

    monkeypatch.setattr(saddle, "local_minima", watch)
    (minimum,) = problem.minima()
    np.testing.assert_allclose(minimum.order_parameters, np.diag([0.5, 0.8]), atol=1e-12)
    coordinates = module.LogCholesky(np.diag([0.5, 0.8]), math.sqrt(24.0))
    matrices = [coordinates.matrix(v) for v in seen["starts"]]
    half = 0.5 * math.sqrt(0.4)
    wanted = [np.diag(pair) for pair in ((0.5, 0.8), (0.5, 1.5), (2.0, 0.8), (2.0, 1.5))]
    wanted += [np.array([[0.5, sign * half], [sign * half, 0.8]]) for sign in (1, -1)]
    np.testing.assert_allclose(matrices, wanted, atol=1e-12)
    assert seen["tolerance"] == pytest.approx(14e-7)
    limit = 30.0 * math.sqrt(24.0)
    for size, finite in ((0.5, True), (1.01 * limit, False), (-1.01 * limit, False)):
        value, slope = seen["objective"](np.array([size, 0.0, 0.0]))
        assert math.isfinite(value) is finite
        assert finite or (slope == 0.0).all()
    v, h = np.array([0.5, -1.0, 0.7]), 1e-5
    value, slope = seen["objective"](v)
    assert value == pytest.approx(problem.action(coordinates.matrix(v))[0], rel=1e-12)
    for k in range(3):
        ends = [seen["objective"](v + sign * h * np.eye(3)[k])[0] for sign in (1, -1)]
        assert slope[k] == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-5)
    lone.update({9: [], 5: []})
    problem.minima()
    start = module.LogCholesky(np.eye(2), math.sqrt(24.0)).matrix(seen["starts"][0])
    np.testing.assert_allclose(start, np.eye(2), atol=1e-12)


def test_one_task_alone_has_all_its_minima():
    """The scalar equation N (Q - 1) = y A^-1 K_R A^-1 y - Tr A^-1 K_R."""
    s, _ = module._sides(COUPLED["joint"], SOURCE, TARGET)
    K = s.own()
    (minimum,) = module.single_scale_minima(K.copy(), SOURCE.y, T, 12)
    q = minimum.order_parameters[0]
    A = np.linalg.inv(q * K + T * np.eye(9))
    assert 12 * (q - 1.0) == pytest.approx(SOURCE.y @ A @ (q * K) @ A @ SOURCE.y - np.trace(A @ (q * K)), rel=1e-7)


# --- source first -----------------------------------------------------------------------------------------------------


def first_problem(q_source=1.4):
    coupled = COUPLED["source first"]
    s, t = module._sides(coupled, SOURCE, TARGET)
    gram = module.RegularisedGram(q_source * s.own(), T)
    return module._SourceFirstProblem(coupled, s, t, SOURCE.y, TARGET.y, T, gram)


@pytest.mark.parametrize("width", [12.0, 500.0])
def test_slopes_of_the_targets_action(width):
    """At generic (q, p, r), by differences; at another width the rate alone is another."""
    problem, q_source = first_problem(), 1.4
    for root in ([1.3, 0.2, 0.3], [0.7, -0.1, 0.5], [2.0, 0.9, -0.6]):
        root = np.array(root)

        def action(at):
            q, p, r = at
            rate = q - math.log(q - p) - (p - r**2 / q_source) / (q - p) - 1.0
            return problem.action(at, q_source) + 0.5 * (width - 12.0) * rate

        h = 1e-5
        numeric = [(action(root + h * e) - action(root - h * e)) / (2 * h) for e in np.eye(3)]
        np.testing.assert_allclose(problem.slope(root, q_source, width), numeric, rtol=1e-6, atol=1e-6)
        left = np.abs(numeric).max() * math.sqrt(2.0 / width)
        assert problem._left(root, q_source, width) == pytest.approx(left, rel=1e-6)
    for bad in ([1.0, 1.0, 0.0], [1.0, 1.5, 0.0], [math.nan, 0.0, 0.0], [math.inf, 0.0, 0.0]):
        assert problem._left(np.array(bad), q_source, width) == math.inf


def test_the_parts_of_the_targets_action(unchangeable):
    unchangeable(module)
    problem, q_source = first_problem(), 1.4
    s, t = problem.source, problem.target
    A = np.linalg.inv(q_source * s.own() + T * np.eye(9))
    cross = t.across(s, problem.coupled.covariance[0, 1])
    replica = t.across(t, problem.coupled.between_replicas)
    q, p, r = 1.3, 0.2, 0.3
    gram, between, z = problem.parts(np.array([q, p, r]))
    np.testing.assert_allclose(gram.inverse(), np.linalg.inv(q * t.own() - p * replica + T * np.eye(5)), rtol=1e-8)
    np.testing.assert_allclose(between, p * replica - r**2 * cross @ A @ cross.T, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(z, TARGET.y - r * cross @ A @ SOURCE.y, rtol=1e-8)


def test_the_branch_is_followed_down_from_where_it_is_known(monkeypatch):
    """0.7 from a width to the next, from 10^4 points' worth; a failure halves the step, in logarithms, four times."""
    problem, asked, failing = first_problem(), [], set()

    def root(self, start, q_source, width):
        asked.append((start, width))
        fails = any(low < width < high for low, high in failing)
        return np.array([1.0, 0.0, 1.0 / width]), math.inf if fails else 0.0

    monkeypatch.setattr(module._SourceFirstProblem, "_root", root)
    found, left = problem.stationary(1.4)
    widths = [w for _, w in asked]
    assert widths[0] == 5e4  # five points
    np.testing.assert_allclose(np.array(widths[1:-1]) / np.array(widths[:-2]), 0.7, rtol=1e-9)
    assert widths[-1] == 12.0 >= 0.7 * widths[-2]
    np.testing.assert_array_equal(asked[0][0], [1.0, 0.0, 0.0])
    assert all(start[2] == 1.0 / width for (start, _), width in zip(asked[1:], widths, strict=False))
    assert (found[2], left) == (1.0 / 12.0, 0.0)
    asked.clear()
    failing.add((0.6 * 5e4, 0.75 * 5e4))  # the first step lands there, one half as long does not
    problem.stationary(1.4)
    widths = [w for _, w in asked]
    np.testing.assert_allclose(np.array(widths[1:4]) / 5e4, [0.7, 0.7**0.5, 0.7], rtol=1e-9)
    asked.clear()
    failing.clear()
    failing.add((11.0, 20_000.0))
    found, left = problem.stationary(1.4)
    widths = np.array([w for _, w in asked])
    assert (widths[-1] < 20_000.0, len(widths[widths < 20_000.0])) == (True, 5)  # once, and four times nearer
    assert left == problem._left(found, 1.4, 12.0) < math.inf
    assert found[2] == 1.0 / widths[widths > 20_000.0].min()


def test_newton_from_a_start_ends_on_the_branch():
    problem = first_problem()
    root, left = problem._root(np.array([1.0, 0.0, 0.0]), 1.4, 1e5)
    assert left < 1e-8
    np.testing.assert_allclose(problem.slope(root, 1.4, 1e5), 0.0, atol=1e-5)
    assert np.abs(root - [1.0, 0.0, 0.0]).max() < 1e-2
    again, left = problem._root(root + np.array([1e-3, 1e-3, -1e-3]), 1.4, 1e5)
    np.testing.assert_allclose(again, root, atol=1e-9)


def test_a_solution_says_what_it_is():
    found = transfer(COUPLED["source first"], SOURCE, TARGET, T)
    s, _ = module._sides(COUPLED["source first"], SOURCE, TARGET)
    (alone,) = module.single_scale_minima(s.own(), SOURCE.y, T, 12)
    o = found.order_parameters
    assert (set(o), found.converged, found.message) == ({"source", "cross", "target", "replica"}, True, "")
    assert o["source"] == alone.order_parameters[0]
    problem = first_problem(o["source"])
    assert found.action == pytest.approx(problem.action(np.array([o["target"], o["replica"], o["cross"]]), o["source"]))


def test_several_minima_of_the_source_and_none(monkeypatch):
    several = [Minimum(np.array([1.4]), 0.0, 0.0), Minimum(np.array([0.3]), 1.0, 0.0)]
    monkeypatch.setattr(module, "single_scale_minima", lambda *_: several)
    found = transfer(COUPLED["source first"], SOURCE, TARGET, T)
    assert (found.converged, found.message) == (True, "2 minima of the source task, the best was taken")
    assert found.order_parameters["source"] == 1.4
    monkeypatch.setattr(module._SourceFirstProblem, "stationary", lambda self, q: (np.array([1.0, 0.0, 0.0]), 5.1e-6))
    found = transfer(COUPLED["source first"], SOURCE, TARGET, T)
    assert not found.converged  # 5 values, 1e-6 each
    assert found.message.startswith("2 minima of the source task, the best was taken; gradient 5.1e-06 nats is left")
    monkeypatch.setattr(module._SourceFirstProblem, "stationary", lambda self, q: (np.array([1.0, 0.0, 0.0]), 4.9e-6))
    assert transfer(COUPLED["source first"], SOURCE, TARGET, T).converged
    monkeypatch.setattr(module, "single_scale_minima", lambda *_: [])
    found = transfer(COUPLED["source first"], SOURCE, TARGET, T)
    assert (found.converged, found.order_parameters["source"]) == (False, 1.0)
    assert found.message.startswith("gradient")


def test_points_of_other_inputs_are_refused():
    found = transfer(COUPLED["joint"], SOURCE, TARGET, T)
    for shape in ((2, 3), (2, 3, 2), (4,)):
        with pytest.raises(InputError, match=r"x of shape .* a point, \(4,\) in training"):
            found.predict(np.ones(shape))
