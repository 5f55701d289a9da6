"""The short run by quadrature, loops and differences; what it is given; words and thresholds of the statement."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import integrate

import finitewidth as fw
from finitewidth.checks.exceptions import InputError
from finitewidth.linalg import RegularisedGram
from finitewidth.theory import short_run as short_run_module
from finitewidth.theory import validity as module
from finitewidth.theory.short_run import OneLayer, Outcome, _evaluate, _round, short_run
from finitewidth.theory.validity import Estimate, estimate, last_covariance, statement_of, validity

# --- the short run ----------------------------------------------------------------------------------------------------


def layer(groups=1, patches=1, points=3, inputs=2, width=5, pooled=False, phi=np.tanh, scale=0.8, seed=0):
    r = np.random.default_rng(seed)
    rows, y = r.standard_normal((groups, patches * points, inputs)), r.standard_normal(points)
    return OneLayer(phi, rows, y, 0.2, width, scale, pooled)


def fields(points=3, seed=1):
    r = np.random.default_rng(seed)
    half = r.standard_normal((points, points))
    return r.standard_normal(points), np.linalg.inv(half @ half.T + 0.3 * np.eye(points))


SHAPES = [dict(), dict(groups=2), dict(patches=3), dict(patches=3, pooled=True), dict(groups=2, patches=2)]


def psi_of(problem, g, theta):
    """psi (J or 1, P) of one neuron of group g, written out."""
    h = (problem.rows[g] @ theta).reshape(-1, len(problem.y))
    value = problem.scale * problem.phi(h)
    return value.mean(0, keepdims=True) if problem.pooled else value


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_features_and_their_slopes(shape):
    problem = layer(**shape)
    theta = np.random.default_rng(2).standard_normal((len(problem.rows), 4, 2))
    psi, pull = problem.slopes(theta)
    for g in range(len(theta)):
        for k in range(4):
            np.testing.assert_allclose(psi[g, k], psi_of(problem, g, theta[g, k]), rtol=1e-12)
    W, move = np.random.default_rng(3).standard_normal(psi.shape), 1e-4
    slope = pull(W)
    for axis in range(2):
        step = move * np.eye(2)[axis]
        numeric = (W * (problem.slopes(theta + step)[0] - problem.slopes(theta - step)[0])).sum((2, 3)) / (2 * move)
        np.testing.assert_allclose(slope[..., axis], numeric, rtol=1e-4, atol=1e-5)
    assert problem.patches == shape.get("groups", 1) * shape.get("patches", 1)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_potential_and_moments_of_every_particle(shape):
    """Readouts: N(0, 1) tilted by exp(b.v - v psi R psi v / 2N), integrated out; weights 1 / (0.2 + |v|^2/m)."""
    problem, (s, R) = layer(**shape), fields()
    groups, N = len(problem.rows), problem.width
    theta = np.random.default_rng(2).standard_normal((groups, 4, 2))
    potential, gradient, (f, kernel, frozen, strength) = _evaluate(problem, theta, s, R)
    f0, kernel0, frozen0, strength0 = np.zeros(3), np.zeros((3, 3)), np.zeros((3, 3)), 0.0
    for g in range(groups):
        weights, parts = [], []
        for k in range(4):
            psi = psi_of(problem, g, theta[g, k])
            precision, b = np.eye(len(psi)) + psi @ R @ psi.T / N, psi @ s / math.sqrt(N)
            C = np.linalg.inv(precision)
            mean = C @ b
            size = np.trace(C + np.outer(mean, mean)) / len(psi)
            log_z = 0.5 * (b @ mean - np.linalg.slogdet(precision)[1])
            assert potential[g, k] == pytest.approx(-log_z - math.log(0.2 + size), rel=1e-10)
            weights.append(1.0 / (0.2 + size))
            parts.append((mean @ psi, psi.T @ (C + np.outer(mean, mean)) @ psi, psi.T @ C @ psi, size))
        w = np.array(weights) / np.sum(weights)
        own = math.sqrt(N) * sum(a * p[0] for a, p in zip(w, parts, strict=True))
        f0 += own
        kernel0 += sum(a * p[1] for a, p in zip(w, parts, strict=True)) - np.outer(own, own) / N
        frozen0 += sum(a * p[2] for a, p in zip(w, parts, strict=True))
        strength0 += sum(a * p[3] for a, p in zip(w, parts, strict=True)) / groups
    np.testing.assert_allclose(f, f0, rtol=1e-10)
    np.testing.assert_allclose(kernel, kernel0, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(frozen, frozen0, rtol=1e-9, atol=1e-12)
    assert strength == pytest.approx(strength0, rel=1e-10)
    for axis in range(2):
        step = 1e-4 * np.eye(2)[axis]
        ends = [_evaluate(problem, theta + sign * step, s, R, moments=False)[0] for sign in (1, -1)]
        np.testing.assert_allclose(gradient[..., axis], (ends[0] - ends[1]) / 2e-4, rtol=1e-4, atol=1e-5)


def test_one_readout_by_quadrature(unchangeable):
    unchangeable(short_run_module)
    problem, (s, R) = layer(), fields()
    theta = np.array([[[0.7, -1.2]]])
    psi = psi_of(problem, 0, theta[0, 0])[0]

    def moment(k):
        def density(v):
            return v**k * math.exp(-0.5 * v**2 + v * (psi @ s) / math.sqrt(5) - 0.5 * v**2 * (psi @ R @ psi) / 5)

        return integrate.quad(density, -12, 12, epsabs=1e-12)[0] / math.sqrt(2 * math.pi)

    z, square = moment(0), moment(2) / moment(0)
    potential, _, (f, _, _, strength) = _evaluate(problem, theta, s, R)
    assert potential[0, 0] == pytest.approx(-math.log(z) - math.log(0.2 + square), rel=1e-9)
    assert strength == pytest.approx(square, rel=1e-9)
    np.testing.assert_allclose(f, math.sqrt(5) * moment(1) / z * psi, rtol=1e-9)


@pytest.mark.statistical
def test_trajectories_sample_the_potential():
    """One input, so that the density is on a line: mean square and fourth power of theta against quadrature."""
    problem = layer(inputs=1, width=1, scale=2.0)
    s, R = 1.5 * np.array([1.0, -0.8, 0.6]), 0.4 * np.eye(3)

    def density(t):
        return math.exp(-0.5 * t**2 - _evaluate(problem, np.array([[[t]]]), s, R, moments=False)[0][0, 0])

    z, second, fourth = (integrate.quad(lambda t, k=k: t**k * density(t), -8, 8, limit=200)[0] for k in (0, 2, 4))
    r = np.random.default_rng(0)
    theta, squares, fourths, chances = r.standard_normal((1, 4000, 1)), [], [], []
    for k in range(60):
        theta, _, chance = _round(problem, theta, s, R, 0.6, r)
        chances.append(chance)
        if k >= 20:
            squares.append((theta**2).mean())
            fourths.append((theta**4).mean())
    assert np.mean(squares) == pytest.approx(second / z, rel=0.03)
    assert np.mean(fourths) == pytest.approx(fourth / z, rel=0.06)
    assert abs(second / z - 1.0) > 0.15  # the prior's is 1: what is found is not that
    assert 0.6 < np.mean(chances) < 1.0


def test_without_a_field_nothing_is_refused_and_rotations_are_exact():
    problem, r = layer(), np.random.default_rng(0)
    theta = r.standard_normal((1, 2000, 2))
    moved, moments, chance = _round(problem, theta, np.zeros(3), np.zeros((3, 3)), 0.9, r)
    assert chance == pytest.approx(1.0, abs=1e-12)
    assert (moved != theta).all()
    assert (moved**2).mean() == pytest.approx(1.0, abs=0.1)
    assert moments[3] == pytest.approx(1.0, rel=1e-12)
    small = [_round(problem, theta, *fields(), step, np.random.default_rng(1))[2] for step in (1e-3, 0.3, 1.5)]
    assert small[0] > 0.9999 > small[1] > small[2]  # the error of a trajectory grows with its step
    assert small[1] > 0.9


def test_wide_layers_stay_where_the_gaussian_process_is():
    problem = layer(points=4, inputs=3, width=10**9)
    r = np.random.default_rng(5)
    draws = problem.scale * np.tanh(r.standard_normal((200_000, 3)) @ problem.rows[0].T)
    K = draws.T @ draws / len(draws)
    s = np.linalg.solve(K + 0.2 * np.eye(4), problem.y)
    found = short_run(problem, 0.3 * s, 1.2 * K, 400, 100)
    np.testing.assert_allclose(found.kernel, K, atol=0.02 * np.abs(K).max())
    np.testing.assert_allclose(found.s, s, atol=0.05 * np.abs(s).max())
    np.testing.assert_array_equal(found.kernel, found.kernel.T)
    assert found.strength == pytest.approx(1.0, abs=1e-6)
    again, other = short_run(problem, 0.3 * s, 1.2 * K, 400, 100, 0), short_run(problem, 0.3 * s, 1.2 * K, 400, 100, 1)
    assert (again.s == found.s).all()
    assert (other.s != found.s).any()


def scripted(monkeypatch, outcome):
    """short_run with rounds that do nothing but give what ``outcome(k)`` says; what each was called with."""
    calls = []

    def fake(problem, theta, s, R, step, generator):
        calls.append(SimpleNamespace(theta=theta, s=s.copy(), R=R, step=step))
        moments, acceptance = outcome(len(calls) - 1)
        return theta, moments, acceptance

    monkeypatch.setattr(short_run_module, "_round", fake)
    return calls


@pytest.mark.parametrize(("rounds", "first"), [(5, 2), (8, 4)])
def test_the_second_half_of_the_rounds_is_averaged(rounds, first, monkeypatch):
    """Outputs f_k, kernels K_k and strengths k of scripted rounds; s ends where T s + f = y for the averages."""
    monkeypatch.setattr(short_run_module, "_RESOLVED", 0.0)  # the scripted rounds are in double precision
    problem, K0, r = layer(), np.eye(3), np.random.default_rng(0)
    f, K = r.standard_normal((rounds, 3)), np.array([a @ a.T for a in r.standard_normal((rounds, 3, 3))])
    calls = scripted(monkeypatch, lambda k: ((f[k], K[k], 0.5 * K[k], float(k)), 0.8))
    s0 = np.array([1.0, -2.0, 0.5])
    found = short_run(problem, s0, K0, 7, rounds)
    assert found.strength == pytest.approx(np.mean(np.arange(first, rounds)), rel=1e-12)
    mean = K[first:].mean(0)
    np.testing.assert_allclose(found.kernel, mean, rtol=1e-10)
    s_mean = np.mean([c.s for c in calls[first:]], axis=0)
    residual = 0.2 * s_mean + f[first:].mean(0) - problem.y
    np.testing.assert_allclose(found.s, s_mean - np.linalg.solve(mean + 0.2 * np.eye(3), residual), rtol=1e-9)
    # on the way: a tenth of the change a round, half of that while averaging; s by the response at frozen weights
    kernel, frozen, s = K0, K0, 0.4 * s0
    for k, call in enumerate(calls):
        np.testing.assert_allclose(call.R, np.linalg.inv(kernel + 0.2 * np.eye(3)), rtol=1e-8)
        np.testing.assert_allclose(call.s, s, rtol=1e-9)
        gain = 0.1 if k < first else 0.05
        kernel, frozen = (1 - gain) * kernel + gain * K[k], (1 - gain) * frozen + gain * 0.5 * K[k]
        s = s - gain * np.linalg.solve(frozen + 0.2 * np.eye(3), 0.2 * s + f[k] - problem.y)
    assert calls[0].theta.shape == (1, 7, 2)


@pytest.mark.parametrize(("acceptance", "sign"), [(1.0, 1.0), (0.0, -1.0)])
def test_steps_follow_the_acceptance(acceptance, sign, monkeypatch):
    """Longer where all is accepted, shorter where nothing is, within bounds."""
    calls = scripted(monkeypatch, lambda k: ((np.zeros(3), np.eye(3), np.eye(3), 1.0), acceptance))
    short_run(layer(), np.zeros(3), np.eye(3), 5, 60)
    steps = np.array([c.step for c in calls])
    change = sign * np.diff(steps)
    assert change[0] > 0.0
    assert (change >= 0.0).all()
    assert change[-1] == 0.0
    assert (steps > 0.0).all()


@pytest.mark.statistical
def test_few_linear_neurons_find_the_saddle():
    """Linear features stay Gaussian: s = (y - f) / T and K_R are those of the action, Q solved here by bisection."""
    problem = layer(points=6, inputs=6, width=30, phi=lambda h: h, scale=1.0)
    y = 3.0 * problem.y
    problem = OneLayer(problem.phi, problem.rows, y, 0.2, 30, 1.0, False)
    K = problem.rows[0] @ problem.rows[0].T
    low, high = 0.01, 10.0
    for _ in range(80):
        q = 0.5 * (low + high)
        A = np.linalg.inv(q * K + 0.2 * np.eye(6))
        pull = y @ A @ (q * K) @ A @ y - np.trace(A @ (q * K))
        low, high = (q, high) if 30 * (q - 1.0) < pull else (low, q)
    assert abs(q - 1.0) > 0.1
    s = np.linalg.solve(q * K + 0.2 * np.eye(6), y)
    found = short_run(problem, s, q * K, 400, 200)
    np.testing.assert_allclose(found.kernel, q * K, atol=0.15 * np.abs(q * K).max())
    np.testing.assert_allclose(found.s, s, atol=0.15 * np.abs(s).max())
    assert found.strength == pytest.approx(q, rel=0.1)


# --- what it is given -------------------------------------------------------------------------------------------------

IMAGES = np.random.default_rng(0).standard_normal((5, 4, 4))
NETWORKS = {
    "dense": (fw.FullyConnected(widths=(7,), weight_precision=(0.8, 1.7)), 7),
    "offsets": (fw.FullyConnected(widths=(7,), offset_precision=2.0, activation="relu"), 7),
    "mean-field": (fw.FullyConnected(widths=(7,), readout="mean-field"), 7),
    "cnn": (fw.Convolutional(channels=7, patch=2, weight_precision=(0.8, 1.7)), 28),
    "lcn": (fw.LocallyConnected(channels=7, patch=2), 28),
    "pooled": (fw.Convolutional(channels=7, patch=2, pool="average"), 7),
    "deep": (fw.FullyConnected(widths=(9, 7), weight_precision=(0.8, 1.3, 1.7)), 7),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_effective_layer_is_that_of_the_network(name):
    """Its features have the network's kernel as second moment, by drawing them; the scalars of its action."""
    network, together = NETWORKS[name]
    x = IMAGES if isinstance(network, fw.networks.LocalNetwork) else IMAGES.reshape(5, 16)
    train = fw.Dataset(x, np.arange(5.0), classes=())
    problem, kernel, found = module._effective(network, train, train.y, 0.3, 7, np.ones(len(network.widths)))
    assert (found, problem.width, problem.temperature) == (together, 7, 0.3)
    np.testing.assert_allclose(kernel, fw.kernels.nngp(network, x), rtol=1e-9)
    np.testing.assert_array_equal(problem.y, train.y)
    r, drawn = np.random.default_rng(1), np.zeros((5, 5))
    theta = r.standard_normal((len(problem.rows), 40_000, problem.rows.shape[2]))
    psi = problem.slopes(theta)[0]
    drawn = np.einsum("gkip,gkiq->pq", psi, psi) / psi.shape[1]
    np.testing.assert_allclose(drawn, kernel, atol=0.02 * np.abs(kernel).max())
    assert problem.pooled is (name == "pooled")


def test_directions_without_variance_are_dropped_for_deep_networks():
    x = np.concatenate([IMAGES.reshape(5, 16)] * 2)
    train = fw.Dataset(x, np.arange(10.0), classes=())
    problem, *_ = module._effective(NETWORKS["deep"][0], train, train.y, 0.3, 7, np.ones(2))
    assert problem.rows.shape == (1, 10, 5)
    covariance = last_covariance(NETWORKS["deep"][0], x, np.ones(2))
    np.testing.assert_allclose(problem.rows[0] @ problem.rows[0].T, covariance, atol=1e-8)


def test_lower_layers_are_renormalised_and_the_last_is_not(rng):
    """Three layers: Q_1 and Q_2 multiply the covariance that follows them; a Q of another size counts as one."""
    network, x = fw.FullyConnected(widths=(9, 8, 7), activation="linear", weight_precision=(0.5, 2.0, 0.8, 3.0)), None
    x = rng.standard_normal((4, 3))
    found = last_covariance(network, x, np.array([1.5, 0.7, 50.0]))
    np.testing.assert_allclose(found, 1.5 * 0.7 * (x @ x.T / 3) / (0.5 * 2.0 * 0.8), rtol=1e-10)
    np.testing.assert_allclose(
        last_covariance(network, x, np.array([4.0])), (x @ x.T / 3) / (0.5 * 2.0 * 0.8), rtol=1e-10
    )
    offsets = fw.FullyConnected(widths=(9, 8), activation="linear", offset_precision=4.0)
    np.testing.assert_allclose(last_covariance(offsets, x, np.ones(2)), x @ x.T / 3 + 0.25 + 0.25, rtol=1e-10)


@pytest.fixture
def asked(monkeypatch):
    """What the short run is called with."""
    calls = []

    def fake(problem, s, kernel, particles, rounds, seed=0):
        calls.append(
            SimpleNamespace(problem=problem, s=s, kernel=kernel, particles=particles, rounds=rounds, seed=seed)
        )
        return Outcome(2.0 * s, kernel, 0.7)

    monkeypatch.setattr(module, "short_run", fake)
    return calls


@pytest.mark.parametrize(("points", "outputs"), [(40, 1), (150, 1), (60, 2), (200, 3)])
def test_what_the_short_run_is_given(points, outputs, asked):
    r = np.random.default_rng(0)
    x, y = r.standard_normal((points, 4)), r.standard_normal((points, outputs)) * [1.0, 3.0, 2.0][:outputs]
    train = fw.Dataset(x, y[:, 0] if outputs == 1 else y, classes=())
    network = fw.FullyConnected(widths=(30,), activation="erf")
    found = estimate(network, train, 0.2, np.ones(1))
    (call,) = asked
    count, chosen = min(points, 150), y[:150, 1 if outputs > 1 else 0]
    assert call.problem.width == round(30 * count / points)
    np.testing.assert_array_equal(call.problem.y, chosen)
    np.testing.assert_array_equal(call.problem.rows.shape[1], count)
    K = fw.kernels.nngp(network, x[:150])
    q = found.q
    np.testing.assert_allclose(call.kernel, q * K, rtol=1e-9)
    A = np.linalg.inv(q * K + 0.2 * np.eye(count))
    np.testing.assert_allclose(call.s, A @ chosen, rtol=1e-7, atol=1e-10)
    pull = chosen @ A @ (q * K) @ A @ chosen - np.trace(A @ (q * K))  # N (Q - 1) of the action of that many neurons
    assert call.problem.width * (q - 1.0) == pytest.approx(pull, rel=1e-6)
    assert call.seed == 0
    assert (found.strength, found.depth) == (0.7, 1)
    s, d = A @ chosen, np.diagonal(A)
    assert found.action == pytest.approx(np.mean((s / d) ** 2 + 1 / d) - 0.2, rel=1e-7)
    assert found.neuron == pytest.approx(np.mean((2 * s / d) ** 2 + 1 / d) - 0.2, rel=1e-7)
    estimate(network, train, 0.2, np.ones(1), seed=5)
    assert asked[1].seed == 5


def test_of_several_minima_the_best_is_looked_at(asked, monkeypatch):
    """Fifty eigenvalues 1 without signal, one of 0.01 that carries it all: one minimum gives up, one fits."""
    values, y = np.append(np.ones(50), 0.01), np.append(np.zeros(50), np.sqrt(1000.0))
    train = fw.Dataset(np.diag(np.sqrt(51.0 * values)), y, classes=())
    network = fw.FullyConnected(widths=(1,), activation="linear")
    solution = fw.solve(fw.theory_of(network, 1.0), train)
    assert len(solution.minima) == 2
    assert estimate(network, train, 1.0, np.ones(1)).q == pytest.approx(solution.order_parameters[0], rel=1e-6)
    monkeypatch.setattr(module, "scale_minima", lambda *_: [])
    assert estimate(network, train, 1.0, np.ones(1)).q == 1.0


def test_the_narrowest_part_of_a_narrow_network_is_one_neuron(asked):
    r = np.random.default_rng(0)
    train = fw.Dataset(r.standard_normal((320, 2)), r.standard_normal(320), classes=())
    estimate(fw.FullyConnected(widths=(1,)), train, 0.2, np.ones(1))
    assert asked[0].problem.width == 1


# --- what is said -----------------------------------------------------------------------------------------------------


def found(raw=0.05, q=0.5, strength=0.5, depth=1, sign=1.0):
    return Estimate(1.0 + sign * raw, 1.0, q, strength, depth)


def test_the_estimate_of_a_ratio(unchangeable):
    """Less where Q is large, up to a bound; doubled for deep networks."""
    unchangeable(module)
    assert found(q=1e-3).relative == pytest.approx(0.05, rel=1e-6)
    assert found(q=1e-3, sign=-1.0).relative == pytest.approx(0.05, rel=1e-6)
    assert Estimate(3.0, 2.0, 1e-3, 0.5, 1).relative == pytest.approx(0.5)
    assert 0.05 > found(q=1.0).relative > found(q=2.0).relative > found(q=3.0).relative
    assert found(q=100.0).relative == found(q=200.0).relative < found(q=3.0).relative
    assert found(q=1e-3, depth=2).relative == pytest.approx(0.1, rel=1e-6)
    assert found(q=1e-3, depth=3).relative == pytest.approx(0.1, rel=1e-6)


@pytest.mark.parametrize(
    ("q", "strength", "away"), [(0.3, 1.0, False), (0.3, 9.0, True), (9.0, 9.0, False), (9.0, 90.0, True)]
)
def test_a_runaway_is_far_above_q_and_the_prior(q, strength, away):
    assert (found(q=q, strength=strength).relative == 1.0) is away
    assert found(raw=1e4, q=q, strength=1e3).relative > 1.0


@pytest.mark.parametrize(
    ("error", "words", "not_words"),
    [
        (0.0, ["close to Gaussian", "a few per cent"], ["off by"]),
        (0.03, ["close to Gaussian"], ["not quite"]),
        (0.0301, ["not quite Gaussian", "about 3 %"], ["far from"]),
        (0.10, ["not quite Gaussian", "about 10 %"], ["far from"]),
        (0.101, ["far from Gaussian", "about 10 %"], ["not quite"]),
        (0.37, ["about 37 %", "may be off"], ["factor"]),
        (1.0, ["about 100 %"], ["factor"]),
        (1.01, ["a factor of two or more"], ["about"]),
        (math.nan, ["not known", "did not stay finite"], ["Gaussian"]),
        (math.inf, ["not known"], ["Gaussian"]),
    ],
)
@pytest.mark.parametrize("depth", [1, 2])
def test_words_of_an_estimate(error, words, not_words, depth):
    theory = SimpleNamespace(network=SimpleNamespace(depth=depth))
    said = statement_of(SimpleNamespace(relative=error), theory)
    assert all(word in said.statement for word in words)
    assert not any(word in said.statement for word in not_words)
    finite = math.isfinite(error)
    assert said.expected_relative_error == error if finite else math.isnan(said.expected_relative_error)
    assert (f"last of {depth} hidden layers" in said.statement) is (depth > 1 and finite)
    assert ("method neuron" in said.statement) is (finite and error > 0.1 and depth == 1)
    assert ("compare with samples" in said.statement) is (finite and error > 0.1)


def test_a_run_that_leaves_the_range_of_doubles_is_not_known(train, monkeypatch):
    solution = fw.solve(fw.theory_of(fw.FullyConnected(widths=(9,)), 0.1), train)
    for error in (np.linalg.LinAlgError("singular"), InputError("a", "b", "c")):

        def fail(*_, error=error):
            raise error

        monkeypatch.setattr(module, "estimate", fail)
        said = validity(solution)
        assert math.isnan(said.expected_relative_error)
        assert "did not stay finite" in said.statement
    monkeypatch.setattr(module, "estimate", lambda *_: found(raw=0.2))
    assert validity(solution).expected_relative_error == pytest.approx(0.2, rel=1e-3)


def test_what_it_says_nothing_about(train):
    solution = fw.solve(fw.theory_of(fw.FullyConnected(widths=(9,)), 0.1), train)
    assert module.applies(solution)
    assert module.applies(fw.solve(fw.theory_of(fw.FullyConnected(widths=(9,)), 0.1, method="integrate"), train))
    failed = replace(solution, converged=False)
    assert not module.applies(failed)
    with pytest.raises(InputError, match="that did not converge"):
        validity(failed)
    infinite = fw.solve(fw.theory_of(fw.FullyConnected(widths=(9,)), 0.1, method="infinite"), train)
    with pytest.raises(InputError, match="FullyConnected by method 'infinite'; wanted") as caught:
        validity(infinite)
    assert "did not converge" not in str(caught.value)


def test_residuals_of_the_outcome_are_zero():
    """T s + f = y to first order with the averaged kernel: the s of a field that is already right stays there."""
    problem = layer(points=4, inputs=3, width=10**9)
    K = np.eye(4)
    s = RegularisedGram(K, 0.2).solve(problem.y)
    one, other = (short_run(problem, s0, K, 150, 40) for s0 in (s, 0.0 * s))
    np.testing.assert_allclose(one.s, other.s, atol=0.1 * np.abs(s).max())


@pytest.mark.statistical
@pytest.mark.parametrize(("activation", "temperature"), [("erf", 0.05), ("relu", 0.1), ("tanh", 0.02)])
def test_single_precision_says_what_double_says(activation, temperature, monkeypatch):
    """To within the spread over seeds of the short run itself."""
    train, _ = fw.data.digits(classes=(6, 9), n_train=40, n_test=20)
    network = fw.FullyConnected(widths=(20,), activation=activation)
    q = fw.solve(network, train, temperature).order_parameters
    estimates = {}
    for resolved in (1e4, 0.0):
        monkeypatch.setattr(short_run_module, "_RESOLVED", resolved)
        estimates[resolved] = [estimate(network, train, temperature, q, seed).neuron for seed in range(4)]
    single, double = (np.array(values) for values in estimates.values())
    error = np.hypot(single.std(ddof=1), double.std(ddof=1)) / 2.0
    assert abs(single.mean() - double.mean()) < 3.5 * error
    assert abs(1.3 * single.mean() - double.mean()) > 3.5 * error  # the control
