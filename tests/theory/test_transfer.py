"""Transfer: against single tasks, Gaussian processes, actions written anew, and explicit replicas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate

from finitewidth import Convolutional, FullyConnected, InputError, learning_curve
from finitewidth.data import Dataset
from finitewidth.networks.coupled import Joint, SourceFirst
from finitewidth.theory import transfer as module
from finitewidth.theory.transfer import transfer

T = 0.1
PROTOCOLS = [(Joint, 1.3), (SourceFirst, 3.0)]


@pytest.fixture
def tasks():
    """(source, target, test) of one linear teacher."""
    generator = np.random.default_rng(0)
    teacher = generator.standard_normal(8)

    def data(count: int) -> Dataset:
        x = generator.standard_normal((count, 8))
        return Dataset(x, x @ teacher / math.sqrt(8) + 0.1 * generator.standard_normal(count), classes=())

    return data(25), data(6), data(30)


def kernels(coupled, a, b, task_a, task_b, replicas=False):
    """Kernel between points of two tasks (0: source, 1: target), one Gaussian integral an entry; phi's means taken off
    between different networks."""
    own = coupled.covariance
    c = own[task_a, task_b] if not replicas else coupled.covariance[0, 1] ** 2 / coupled.covariance[0, 0]
    scale, size = 1.0 / coupled.network.weight_precision[1], a.shape[1]
    phi = coupled.network.phi
    variances = [own[t, t] * (x**2).sum(1) / size for t, x in ((task_a, a), (task_b, b))]
    K = phi.kappa(variances[0][:, None], c * a @ b.T / size, variances[1])
    if replicas or task_a != task_b:
        K = K - np.outer(*(phi.mean(v) for v in variances))
    return scale * K


def joint_action(coupled, source, target, q, temperature=T):
    """F of both tasks, dense."""
    sets = (source.x, target.x)
    A = np.block([[q[a, b] * kernels(coupled, sets[a], sets[b], a, b) for b in (0, 1)] for a in (0, 1)])
    A, y = A + temperature * np.eye(len(A)), np.concatenate([source.y, target.y])
    rate = coupled.network.widths[0] * (np.trace(q) - np.linalg.slogdet(q)[1] - 2)
    return 0.5 * (rate + np.linalg.slogdet(A)[1] + y @ np.linalg.solve(A, y) + len(y) * math.log(2 * math.pi))


def source_first_action(coupled, source, target, root, q_source):
    """F of the target in (q, p, r), dense, with explicit inverses."""
    q, p, r = root
    A = np.linalg.inv(q_source * kernels(coupled, source.x, source.x, 0, 0) + T * np.eye(len(source)))
    cross = kernels(coupled, target.x, source.x, 1, 0)
    replica = kernels(coupled, target.x, target.x, 1, 1, replicas=True)
    D = q * kernels(coupled, target.x, target.x, 1, 1) - p * replica + T * np.eye(len(target))
    E, z = p * replica - r**2 * cross @ A @ cross.T, target.y - r * cross @ A @ source.y
    rate = q - math.log(q - p) - (p - r**2 / q_source) / (q - p) - 1
    inverse = np.linalg.inv(D)
    value = np.linalg.slogdet(D)[1] + np.trace(inverse @ E) + z @ inverse @ z + len(z) * math.log(2 * math.pi)
    return 0.5 * (coupled.network.widths[0] * rate + value)


def slopes(action, at, step=1e-5):
    shifts = step * np.eye(len(at))
    return np.array([(action(at + h) - action(at - h)) / (2 * step) for h in shifts])


@pytest.mark.parametrize("activation", ["linear", "erf", "relu"])
@pytest.mark.parametrize("protocol", [Joint, SourceFirst])
def test_without_coupling_it_is_the_single_task(tasks, protocol, activation):
    source, target, test = tasks
    network = FullyConnected(widths=15, activation=activation)
    found = transfer(protocol(network, 0.0), source, target, T)
    assert found.converged
    for name, data in (("source", source), ("target", target)):
        alone = learning_curve(network, data, test, temperature=T)[0]
        assert found.order_parameters[name] == pytest.approx(alone.order_parameters[0], rel=1e-6)
    assert found.order_parameters["cross"] == pytest.approx(0.0, abs=1e-6)
    errors = found.predict(test.x).errors(test.y)
    for name in ("test_error", "bias", "variance", "train_error"):
        assert getattr(errors, name) == pytest.approx(getattr(alone, name), rel=1e-6)


@pytest.mark.parametrize(("protocol", "coupling"), PROTOCOLS)
def test_infinite_width_is_a_gaussian_process(tasks, protocol, coupling):
    """Of the target's own prior: no source has an effect there. At width 10 it has, the negative control."""
    source, target, test = tasks
    coupled = protocol(FullyConnected(widths=10**10, activation="relu"), coupling)
    network = FullyConnected(widths=1, activation="relu", weight_precision=(1 / coupled.covariance[1, 1], 1.0))
    limit = learning_curve(network, target, test, temperature=T, method="infinite")[0]
    errors = transfer(coupled, source, target, T).predict(test.x).errors(test.y)
    assert errors.test_error == pytest.approx(limit.test_error, rel=1e-6)
    assert errors.train_error == pytest.approx(limit.train_error, rel=1e-6)
    narrow = protocol(FullyConnected(widths=10, activation="relu"), coupling)
    assert transfer(narrow, source, target, T).predict(test.x).errors(test.y).test_error < 0.95 * limit.test_error


@pytest.mark.parametrize("activation", ["linear", "erf", "relu"])
def test_joint_saddle(tasks, activation):
    """Stationary and lowest of the action written anew, at its value."""
    source, target, _ = tasks
    coupled = Joint(FullyConnected(widths=12, activation=activation, weight_precision=(1.2, 0.7)), 1.3)
    found = transfer(coupled, source, target, T)
    q = found.order_parameters
    at = np.array([q["source"], q["cross"], q["target"]])

    def action(v):
        return joint_action(coupled, source, target, np.array([[v[0], v[1]], [v[1], v[2]]]))

    assert found.converged
    assert action(at) == pytest.approx(found.action, rel=1e-10)
    assert np.abs(slopes(action, at)).max() < 1e-4
    generator = np.random.default_rng(1)
    assert all(action(at) < action(at + 0.02 * generator.standard_normal(3)) for _ in range(10))


@pytest.mark.parametrize("activation", ["linear", "erf", "relu"])
def test_source_first_saddle(tasks, activation):
    source, target, _ = tasks
    coupled = SourceFirst(FullyConnected(widths=12, activation=activation, weight_precision=(1.2, 0.7)), 4.0)
    found = transfer(coupled, source, target, T)
    q = found.order_parameters
    at = np.array([q["target"], q["replica"], q["cross"]])

    def action(v):
        return source_first_action(coupled, source, target, v, q["source"])

    assert found.converged
    assert action(at) == pytest.approx(found.action, rel=1e-10)
    assert np.abs(slopes(action, at)).max() < 1e-4
    assert np.abs(slopes(action, at + 0.05)).min() > 1e-2


def test_joint_evidence_of_two_points():
    """Linear, one point a task, N = 200: -F against the log of the integral over both readouts' Gram matrix.

    The saddle leaves out the fluctuations of Q, which are -1/2 log det of its Hessian: they are O(1), so the difference
    between two labels is compared, where they cancel to O(1/N).
    """
    width, x = 200, np.array([[1.0, 0.5]])
    coupled = Joint(FullyConnected(widths=width, activation="linear"), 1.0)
    own = coupled.covariance * (x @ x.T).item() / 2

    def exact(y):
        generator = np.random.default_rng(0)
        v = generator.standard_normal((20000, 2, width))
        q = np.einsum("san,sbn->sab", v, v) / width
        A = q * own + T * np.eye(2)
        exponent = -0.5 * (np.linalg.slogdet(A)[1] + np.einsum("a,sab,b->s", y, np.linalg.inv(A), y))
        return np.log(np.mean(np.exp(exponent))) - math.log(2 * math.pi)

    def saddle(y):
        source, target = (Dataset(x, np.array([value]), classes=()) for value in y)
        return -transfer(coupled, source, target, T).action

    one, other = np.array([1.5, 1.5]), np.array([1.5, -1.5])
    assert exact(one) - exact(other) == pytest.approx(saddle(one) - saddle(other), abs=0.01)
    assert abs(saddle(one) - saddle(other)) < 0.1  # of readouts that hardly correlate


@pytest.mark.parametrize(("protocol", "coupling"), PROTOCOLS)
@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_train_error_by_predicting_the_training_points(tasks, protocol, coupling, activation):
    source, target, _ = tasks
    found = transfer(protocol(FullyConnected(widths=10, activation=activation), coupling), source, target, T)
    again = found.predict(target.x).errors(target.y)
    assert again.train_error == pytest.approx(again.test_error, rel=1e-9)


def replica_prediction(coupled, source, target, x, order, count):
    """Mean and variance of the first of ``count`` target networks that follow one source, by plain conditioning."""
    q, p, r, q_source = (order[name] for name in ("target", "replica", "cross", "source"))
    own, replica = (kernels(coupled, target.x, target.x, 1, 1, replicas=flag) for flag in (False, True))
    cross, at_cross = kernels(coupled, target.x, source.x, 1, 0), r * kernels(coupled, x, source.x, 1, 0)
    source_block = q_source * kernels(coupled, source.x, source.x, 0, 0)
    same, different = np.eye(count), 1 - np.eye(count)
    targets = np.kron(same, q * own) + np.kron(different, p * replica)
    sides = np.kron(np.ones((count, 1)), r * cross)
    A = np.block([[source_block, sides.T], [sides, targets]])
    A, y = A + T * np.eye(len(A)), np.concatenate([source.y, *[target.y] * count])
    first = q * kernels(coupled, x, target.x, 1, 1)
    others = p * kernels(coupled, x, target.x, 1, 1, replicas=True)
    k = np.concatenate([at_cross, first, *[others] * (count - 1)], axis=1)
    prior = q * np.diagonal(kernels(coupled, x, x, 1, 1))
    return k @ np.linalg.solve(A, y), prior - np.einsum("ij,ji->i", k, np.linalg.solve(A, k.T))


def test_predictions_are_the_limit_of_no_replicas(tasks):
    """Conditioning on n = 1 .. 8 replicas, extrapolated to n = 0. The negative control is one replica, plain Bayes."""
    source, target, test = tasks
    # wide enough for a small overlap of replicas, with which the series in n converges
    coupled = SourceFirst(FullyConnected(widths=25, activation="erf"), 1.0)
    found = transfer(coupled, source, target, T)
    predicted, x = found.predict(test.x), test.x
    counts = np.arange(1, 9)
    runs = [replica_prediction(coupled, source, target, x, found.order_parameters, n) for n in counts]
    weights = [np.prod([-m / (n - m) for m in counts if m != n]) for n in counts]
    for k, value in enumerate((predicted.mean, predicted.variance)):
        limit = sum(w * run[k] for w, run in zip(weights, runs, strict=True))
        change = np.abs(runs[0][k] - value).max()
        assert np.abs(limit - value).max() < 1e-3 * change
        assert change > 1e-6 * np.abs(value).max()


def test_sign_of_the_source_does_not_matter(tasks):
    """Readouts are of either task alone: flipped source labels flip the overlap and leave the rest."""
    source, target, test = tasks
    flipped = Dataset(source.x, -source.y, classes=())
    for protocol, coupling in PROTOCOLS:
        coupled = protocol(FullyConnected(widths=10, activation="erf"), coupling)
        one, other = (transfer(coupled, s, target, T) for s in (source, flipped))
        assert one.order_parameters["cross"] == pytest.approx(-other.order_parameters["cross"], rel=1e-4)
        np.testing.assert_allclose(one.predict(test.x).mean, other.predict(test.x).mean, rtol=1e-4, atol=1e-6)
        assert one.order_parameters["cross"] > 0.05


def test_joint_tasks_are_alike(tasks):
    """Source and target exchange their order parameters with their roles."""
    source, target, _ = tasks
    coupled = Joint(FullyConnected(widths=10, activation="relu"), 1.0)
    one, other = transfer(coupled, source, target, T), transfer(coupled, target, source, T)
    assert one.action == pytest.approx(other.action, rel=1e-9)
    assert one.order_parameters["source"] == pytest.approx(other.order_parameters["target"], rel=1e-4)


def test_prior_of_coupled_weights():
    """From the energies themselves, by quadrature and by composition."""
    joint = Joint(FullyConnected(widths=3, weight_precision=(1.5, 1.0)), 1.2)

    def moment(a, b):
        def density(t, s):
            return s**a * t**b * math.exp(-0.75 * (s**2 + t**2) + 0.6 * s * t)

        return integrate.dblquad(density, -9, 9, -9, 9, epsabs=1e-10)[0]

    total = moment(0, 0)
    np.testing.assert_allclose(joint.covariance[0], [moment(2, 0) / total, moment(1, 1) / total], rtol=1e-6)
    first = SourceFirst(FullyConnected(widths=3, weight_precision=(1.5, 1.0)), 1.2)
    draws = np.random.default_rng(0).standard_normal((2, 400_000))
    source = draws[0] / math.sqrt(1.5)
    target = first.shift * source + math.sqrt(first.spread) * draws[1]
    np.testing.assert_allclose(first.covariance, np.cov(source, target), atol=0.005)
    for protocol in (Joint, SourceFirst):
        for value in (0.0, 0.3, 0.95):
            assert protocol.of_correlation(joint.network, value).correlation == pytest.approx(value)


def test_a_branch_that_ends_is_reported(tasks, monkeypatch):
    source, target, _ = tasks
    monkeypatch.setattr(module._SourceFirstProblem, "_root", lambda self, start, q, width: (start, math.inf))
    found = transfer(SourceFirst(FullyConnected(widths=5), 1.0), source, target, T)
    assert not found.converged
    assert "gradient" in found.message


def test_bad_input(tasks):
    source, target, _ = tasks
    network = FullyConnected(widths=5, weight_precision=(1.5, 1.0))
    for make, match in (
        (lambda: Joint(network, 3.0), "below twice the precision, 3"),
        (lambda: Joint(network, -0.1), "coupling = -0.1"),
        (lambda: SourceFirst(network, math.inf), "coupling"),
        (lambda: Joint(FullyConnected(widths=(5, 5)), 1.0), "one hidden layer"),
        (lambda: SourceFirst(Convolutional(channels=5, patch=2), 1.0), "Convolutional"),
        (lambda: Joint(FullyConnected(widths=5, offset_precision=1.0), 1.0), "offsets"),
        (lambda: Joint.of_correlation(network, 1.0), r"in \[0, 1\)"),
    ):
        with pytest.raises(InputError, match=match):
            make()
    coupled = Joint(network, 1.0)
    two = Dataset(target.x, np.stack([target.y, target.y], 1))
    other = Dataset(target.x[:, :3], target.y, classes=())
    with pytest.raises(InputError, match="target task of 2 outputs"):
        transfer(coupled, source, two, T)
    with pytest.raises(InputError, match="3 inputs and source points of 8"):
        transfer(coupled, source, other, T)
    with pytest.raises(InputError, match="temperature"):
        transfer(coupled, source, target, 0.0)
    with pytest.raises(InputError, match="x of shape"):
        transfer(coupled, source, target, T).predict(other.x)
