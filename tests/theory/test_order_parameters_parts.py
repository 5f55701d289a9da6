"""Nested, scaled, own, several-output and local theories: starts, wild steps, widths, what has no minimum, portions."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy import stats

import finitewidth as fw
from finitewidth.inference.likelihoods import Gaussian
from finitewidth.kernels.local import local_kernels
from finitewidth.theory import general, local, saddle, scaled
from finitewidth.theory.general import General, Nested
from finitewidth.theory.scaled import KernelSpectrum, ScaledKernel, unit_network
from finitewidth.theory.spectrum import ScalePredictor

ONE = fw.FullyConnected(widths=(9,), weight_precision=(0.8, 1.4))
DEEP = fw.FullyConnected(widths=(9, 30), weight_precision=(0.8, 1.4, 0.7))


def several(train, outputs=2):
    y = np.stack([train.y, np.cos(2.0 * train.y), train.y**2 - 1.0], axis=1)[:, :outputs]
    return fw.Dataset(train.x, y, classes=())


# --- the gradient of the log evidence --------------------------------------------------------------------------------


@pytest.mark.parametrize("readout", ["standard", "mean-field"])
@pytest.mark.parametrize("case", ["one", "product", "nested", "outputs", "deep outputs", "cnn", "lcn", "cnn outputs"])
def test_the_evidence_gradient_is_explicit(case, readout, train, dense):
    """At the saddle's Q, held: differences of SciPy's normal density in temperature and every precision."""
    closure = case if case in ("product", "nested") else None
    images = fw.Dataset(np.tile(train.x, 2)[:, :8].reshape(12, 2, 4), train.y, classes=())
    patches = {"cnn": fw.Convolutional, "lcn": fw.LocallyConnected, "cnn outputs": fw.Convolutional}
    if case in patches:
        network = patches[case](channels=7, patch=2, weight_precision=(0.8, 1.4), readout=readout)
        data = several(images) if "outputs" in case else images
    else:
        data = several(train) if "outputs" in case else train
        network = replace(DEEP if case in ("product", "nested", "deep outputs") else ONE, readout=readout)
    solution = fw.solve(fw.theory_of(network, 0.1, closure), data)
    q, D = solution.order_parameters, data.n_outputs

    def log_evidence(temperature, precision):
        moved = network.with_precision(tuple(precision))
        if case in patches:
            K = local_kernels(moved, data.x)
            n = len(K)
            Q = np.diag(q) if case == "lcn" else q.reshape(n * D, n * D)
            K = np.einsum("idje,ijpq->pdqe", Q.reshape(n, D, n, D), K).reshape(12 * D, 12 * D)
            K /= n * moved.readout_precision
        else:
            K = dense.kernel(moved, data.x, q if closure == "nested" else None)
            K = np.kron(K, q.reshape(D, D)) if D > 1 else K * (np.prod(q) if closure != "nested" else 1.0)
        law = stats.multivariate_normal(cov=K + temperature * np.eye(len(K)))
        return float(law.logpdf(data.y.ravel()))

    found, precision, h = solution.evidence_gradient(), np.array(network.weight_precision), 1e-4
    ends = [log_evidence(0.1 * (1 + sign * h), precision) for sign in (1, -1)]
    assert found["temperature"] == pytest.approx((ends[0] - ends[1]) / (0.2 * h), rel=1e-5)
    assert found["weight_precision"].shape == precision.shape
    for k, value in enumerate(precision):
        ends = [log_evidence(0.1, precision * (1 + sign * h * np.eye(len(precision))[k])) for sign in (1, -1)]
        assert found["weight_precision"][k] == pytest.approx((ends[0] - ends[1]) / (2 * h * value), rel=1e-4, abs=1e-6)


# --- no minimum -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["scaled", "deep", "nested", "outputs", "cnn", "lcn", "cnn of two outputs"])
def test_an_action_without_a_minimum_is_not_converged(case, train, monkeypatch):
    """Nothing found: NaN for everything, in the shape of the order parameters; no prediction that looks like one."""
    images = fw.Dataset(np.tile(train.x, 2)[:, :8].reshape(12, 2, 4), train.y, classes=())
    network, data, size = {
        "scaled": (ONE, train, 1),
        "deep": (fw.FullyConnected(widths=(9, 30), activation="relu"), train, 2),
        "nested": (DEEP, train, 2),
        "outputs": (ONE, several(train), 4),
        "cnn": (fw.Convolutional(channels=5, patch=2), images, 4),
        "lcn": (fw.LocallyConnected(channels=5, patch=2), images, 2),
        "cnn of two outputs": (fw.Convolutional(channels=5, patch=2), several(images), 16),
    }[case]
    for module in (general, saddle):
        monkeypatch.setattr(module, "local_minima", lambda *_: [])
    monkeypatch.setattr(scaled, "scale_minima", lambda *_: [])
    solution = fw.solve(fw.theory_of(network, 0.1), data)
    assert (solution.converged, solution.minima, solution.gradient) == (False, (), None)
    assert "no" in solution.message
    assert "minimum of the action" in solution.message
    assert solution.order_parameters.shape == (size,)
    assert np.isnan(solution.order_parameters).all()
    assert math.isnan(solution.log_evidence)
    if case in ("scaled", "deep"):
        with pytest.raises(fw.InputError, match="did not converge"):
            fw.predict(solution, data.x)
    else:  # the network's own prior, Q = 1
        infinite = fw.predict(fw.solve(fw.theory_of(network, 0.1, method="infinite"), data), data.x)
        np.testing.assert_allclose(fw.predict(solution, data.x).mean, infinite.mean, atol=1e-8)


# --- a mixture of scales, test points ---------------------------------------------------------------------------------


@pytest.mark.parametrize("outputs", [1, 3])
def test_mixtures_of_scales(outputs, train, test_set):
    """E[m], E[v] + Var[m], E[train error] of three Gaussian processes, each by dense conditioning."""
    data = several(train, outputs) if outputs > 1 else train
    shared = KernelSpectrum.of(ONE, data)
    scales, weights = np.array([0.3, 1.0, 4.0]), np.array([0.5, 0.3, 0.2])
    found = ScalePredictor(shared, scales, weights, 0.2).predict(test_set.x)
    unit = unit_network(ONE)
    K, k = fw.kernels.nngp(unit, train.x), fw.kernels.nngp(unit, test_set.x, train.x)
    prior, y = fw.kernels.nngp_diagonal(unit, test_set.x), data.y.reshape(12, -1)
    means, variances, errors = [], [], []
    for s in scales:
        A = np.linalg.inv(s * K + 0.2 * np.eye(12))
        means.append(s * k @ A @ y)
        variances.append(s * prior - s**2 * np.einsum("ip,pq,iq->i", k, A, k))
        errors.append(np.mean((0.2 * A @ y) ** 2) + 0.2 * np.mean(1.0 - 0.2 * np.diagonal(A)))
    means, variances = np.array(means), np.array(variances)
    mean = np.tensordot(weights, means, 1)
    variance = (weights @ variances)[:, None] + np.tensordot(weights, (means - mean) ** 2, 1)
    shape = (9,) if outputs == 1 else (9, 3)
    np.testing.assert_allclose(found.mean, mean.reshape(shape), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found.variance, variance.reshape(shape), rtol=1e-8)
    assert found.train_error == pytest.approx(weights @ errors, rel=1e-9)


def test_test_points_are_kept_where_they_cannot_change(train, test_set):
    shared = KernelSpectrum.of(ONE, train)
    assert not test_set.x.flags.writeable
    first = shared.points(test_set.x)
    assert shared.points(test_set.x) is first
    np.testing.assert_allclose(first.power, first.cross**2)
    assert shared.points(test_set.x.copy()) is not first
    assert shared.points(test_set.x) is first
    other = train.x
    assert shared.points(other) is not first
    assert shared.points(test_set.x) is not first
    state = shared.__getstate__()
    assert (state["_points"], state["train"]) == (None, train)
    assert (unit_network(DEEP).weight_precision, unit_network(DEEP).widths) == ((0.8, 1.4, 1.0), (9, 30))
    assert unit_network(replace(ONE, readout="mean-field")).readout == "standard"


def test_covariances_of_two_sets(train, test_set, dense, unchangeable):
    """K_R(Q) of every theory between different points, and of one set with itself, from the dense recursion."""
    for module in (general, scaled):
        unchangeable(module)
    both, q = np.concatenate([train.x, test_set.x]), np.array([0.6, 1.7])
    for theory, wanted in (
        (Nested(DEEP, Gaussian(0.1)), dense.kernel(DEEP, both, q)),
        (ScaledKernel(DEEP, 0.1), 0.6 * 1.7 * dense.kernel(DEEP, both)),
    ):
        np.testing.assert_allclose(theory.covariance(q, train.x, test_set.x), wanted[:12, 12:], rtol=1e-9)
        np.testing.assert_allclose(theory.covariance(q, train.x), wanted[:12, :12], rtol=1e-9)
        rate = sum(n * (v - math.log(v) - 1.0) for n, v in zip((9, 30), q, strict=True))
        assert theory.rate(q) == pytest.approx(rate, rel=1e-12)
        with pytest.raises(ValueError, match="zip"):
            theory.rate(np.ones(3))
    Q = np.array([[1.5, 0.2], [0.2, 0.7]])
    theory = fw.theory_of(ONE, 0.1).for_outputs(2)
    K = dense.kernel(ONE, both)
    np.testing.assert_allclose(theory.covariance(Q.ravel(), train.x, test_set.x), np.kron(K[:12, 12:], Q), rtol=1e-9)
    np.testing.assert_allclose(theory.covariance(Q, train.x), np.kron(K[:12, :12], Q), rtol=1e-9)


# --- nested: the scan -------------------------------------------------------------------------------------------------


def test_the_nested_action_and_its_gradient(train, dense):
    theory = Nested(DEEP, Gaussian(0.1))
    assert not theory.by_default
    log_q = np.array([0.4, -0.3])
    value, slope = theory.action(train, log_q)
    assert value == pytest.approx(dense.action(DEEP, train, 0.1, np.exp(log_q), "nested"), rel=1e-11)
    exact = dense.slope(DEEP, train, 0.1, np.exp(log_q), "nested")
    np.testing.assert_allclose(slope, exact, rtol=1e-6)
    assert theory.energy(train, np.exp(log_q)) == pytest.approx(value - 0.5 * theory.rate(np.exp(log_q)), rel=1e-11)
    assert math.isfinite(theory.action(train, np.array([30.0, 0.0]))[0])
    for wild in ([300.0, 0.0], [0.0, -300.0]):
        value, slope = theory.action(train, np.array(wild))
        assert (value, slope.tolist()) == (math.inf, [0.0, 0.0])


@pytest.mark.parametrize("case", ["nested", "own", "outputs", "cnn", "lcn"])
def test_of_several_minima_the_best_is_the_solution(case, train, images, monkeypatch):
    """Order parameters, evidence, message and predictions are those of the first; all are handed on."""
    network, data, closure = {
        "nested": (DEEP, train, None),
        "own": (Product(widths=(9, 30)), train, None),
        "outputs": (ONE, several(train), None),
        "cnn": (CNN, images, None),
        "lcn": (LCN, images, None),
    }[case]
    for module in (general, saddle):
        monkeypatch.setattr(
            module,
            "local_minima",
            lambda _, starts, __: [(starts[0] + 0.4, 1.0, 1e-9), (starts[0] - 0.4, 3.5, 0.0)],
        )
    solution = fw.solve(fw.theory_of(network, 0.1, closure), data)
    best, other = solution.minima
    np.testing.assert_array_equal(solution.order_parameters, best.order_parameters.ravel())
    assert (best.order_parameters != other.order_parameters).any()
    assert (solution.action, solution.log_evidence, best.gradient_norm, other.action) == (1.0, -1.0, 1e-9, 3.5)
    assert solution.converged
    assert solution.message.startswith("2 minima; the next is 2.5 nats above")
    q, theory = solution.order_parameters, solution.theory
    K = theory.covariance(q, data.x)
    k = theory.covariance(q, data.x[:3] + 0.1, data.x)
    mean = k @ np.linalg.solve(K + 0.1 * np.eye(len(K)), data.y.ravel())
    np.testing.assert_allclose(fw.predict(solution, data.x[:3] + 0.1).mean.ravel(), mean, rtol=1e-6, atol=1e-9)


# --- architectures of the user's own ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Product(fw.Network):
    """Linear layers, by their covariance alone."""

    widths: object = 100

    def covariance(self, order_parameters, x1, x2):
        return np.prod(order_parameters) * (x1 @ x2.T) / (x1.shape[1] * np.prod(self.weight_precision))


@dataclass(frozen=True, kw_only=True)
class Bumpy(Product):
    """A rate with dips where it is told, no more."""

    dips: tuple[float, ...] = ()

    def rate(self, order_parameters):
        x = float(np.log(order_parameters).mean())
        return 2e3 * min(abs(x - dip) for dip in self.dips)


@pytest.mark.parametrize("dips", [(-3.0,), (3.0,), (-1.5, 2.0), (0.0,), (-0.5, 1.0, 3.0)])
def test_own_descents_start_from_every_dip(dips, train):
    theory = General(Bumpy(widths=(9, 30), dips=dips), Gaussian(0.1))
    starts = theory.starts(train, None)
    assert [round(float(s[0]), 9) for s in starts] == list(dips)
    assert all(s.shape == (2,) and s[0] == s[1] for s in starts)


def test_own_theories_are_those_of_the_package(train, test_set):
    network = Product(widths=(9, 30), weight_precision=(0.8, 1.4, 0.7))
    theory = General(network, Gaussian(0.1))
    solution = theory.solve(train)
    known = ScaledKernel(replace(DEEP, activation="linear"), 0.1)
    truth = known.solve(train)
    np.testing.assert_allclose(solution.order_parameters, truth.order_parameters, rtol=1e-4)
    assert solution.log_evidence == pytest.approx(truth.log_evidence, rel=1e-9)
    assert (theory.widths, theory.method, theory.rate(np.array([2.0, 1.0]))) == (
        *((9, 30), "saddle"),
        pytest.approx(9 * (1.0 - math.log(2.0))),
    )
    x = np.random.default_rng(0).standard_normal((257, 5))
    one, other = fw.predict(solution, x), fw.predict(truth, x)
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(one.variance, other.variance, rtol=1e-4)
    found, expected = solution.evidence_gradient(), truth.evidence_gradient()
    assert found["temperature"] == pytest.approx(expected["temperature"], rel=1e-4)
    np.testing.assert_allclose(found["weight_precision"], expected["weight_precision"], rtol=1e-4)
    infinite = General(network, Gaussian(0.1), infinite=True)
    assert (infinite.widths, infinite.method, infinite.rate(np.ones(2)), General(network, Gaussian(0.1)).infinite) == (
        *((), "infinite"),
        *(0.0, False),
    )
    limit = infinite.solve(train)
    assert (limit.order_parameters.size, limit.converged, limit.minima) == (0, True, ())
    exact = fw.solve(fw.theory_of(replace(DEEP, activation="linear"), 0.1, method="infinite"), train)
    assert limit.log_evidence == pytest.approx(exact.log_evidence, rel=1e-9)
    with pytest.raises(fw.InputError, match="2 outputs with Product; wanted: one output"):
        fw.solve(theory, several(train))


def test_what_is_taken_for_symmetric(train):
    @dataclass(frozen=True, kw_only=True)
    class Leaning(Product):
        lean: float = 0.0

        def covariance(self, order_parameters, x1, x2):
            found = super().covariance(order_parameters, x1, x2)
            found[0, -1] *= 1.0 + self.lean
            return found

    q, (well, badly) = np.ones(1), (Leaning(widths=(9,), lean=lean) for lean in (1e-9, 1e-7))
    general.covariance(well, q, train.x, train.x)
    general.covariance(badly, q, train.x, train.x.copy())  # two sets need not be alike
    with pytest.raises(fw.InputError, match="not symmetric"):
        general.covariance(badly, q, train.x, train.x)

    class Wide(Product):
        def covariance(self, order_parameters, x1, x2):
            return np.ones((len(x1), len(x2) + 1))

    with pytest.raises(fw.InputError, match=r"of shape \(12, 13\); wanted: shape \(12, 12\)"):
        general.covariance(Wide(widths=(9,)), q, train.x, train.x)


# --- several outputs --------------------------------------------------------------------------------------------------


# --- networks on patches ----------------------------------------------------------------------------------------------

CNN, LCN = fw.Convolutional(channels=5, patch=2), fw.LocallyConnected(channels=5, patch=2)


@pytest.fixture
def images():
    r = np.random.default_rng(0)
    return fw.Dataset(r.standard_normal((10, 4, 4)), r.standard_normal(10), classes=())


def test_rates_and_covariances_on_patches(images, unchangeable):
    unchangeable(local)
    r = np.random.default_rng(1)
    half = r.standard_normal((4, 4))
    Q, q = half @ half.T + 0.5 * np.eye(4), np.array([0.5, 1.0, 2.0, 3.0])
    shared, alone = fw.theory_of(CNN, 0.1), fw.theory_of(LCN, 0.1)
    rate = 5 * (np.trace(Q) - np.linalg.slogdet(Q)[1] - 4)
    assert shared.rate(Q) == pytest.approx(rate, rel=1e-10)
    assert shared.rate(Q.ravel()) == pytest.approx(rate, rel=1e-10)
    assert alone.rate(q) == pytest.approx(5 * (q - np.log(q) - 1.0).sum(), rel=1e-10)
    for theory, at, full in ((shared, Q, Q), (alone, q, np.diag(q))):
        K = np.einsum("ij,ijpq->pq", full, local_kernels(theory.network, images.x)) / 4
        for given in (at, at.ravel()):
            np.testing.assert_allclose(theory.covariance(given, images.x), K, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(theory.covariance(given, images.x[:3], images.x), K[:3], rtol=1e-9, atol=1e-12)
    assert (shared.shared_weights, alone.shared_weights, shared.widths) == (True, False, (5,))


def test_targets_whose_squares_overflow_start_from_the_identity():
    r = np.random.default_rng(0)
    train = fw.Dataset(r.standard_normal((6, 4, 4)), 1e200 * r.standard_normal(6), classes=())
    theory = fw.theory_of(LCN, 0.1)
    problem = local.LocalProblem(theory, train, theory.factorise(train))
    with np.errstate(over="ignore", invalid="ignore"):
        np.testing.assert_array_equal(problem._aligned(0.5), 0.5 * np.broadcast_to(np.eye(1), (4, 1, 1)))


def test_memory_of_all_pairs(images):
    """Twice the kernels of all pairs and six arrays of the training values."""
    data, theory = several(images), fw.theory_of(CNN, 0.1)
    assert isinstance(theory.factorise(images), local.SymmetricPairs)  # one output: packed, symmetrised
    need = 2 * np.empty((16, 100)).nbytes + 6 * np.empty((20, 20)).nbytes
    pairs = theory.factorise(data, need)
    assert isinstance(pairs, local.FullPairs)
    W = np.random.default_rng(3).standard_normal((20, 20))  # Q is symmetric, and so is what pulls on it
    np.testing.assert_allclose(pairs.project(W), pairs.project(0.5 * (W + W.T)), rtol=1e-9, atol=1e-12)
    with pytest.raises(fw.MemoryCapError, match="10 points of 4 patches with 2 outputs"):
        theory.factorise(data, need - 1.0)


@pytest.mark.parametrize("network", [CNN, LCN], ids=["cnn", "lcn"])
def test_many_test_points_of_several_outputs_are_the_single_ones(network, images):
    """Portions of at most 32."""
    data = several(images)
    solution = fw.solve(fw.theory_of(network, 0.1), data)
    x = np.random.default_rng(2).standard_normal((65, 4, 4))
    found = fw.predict(solution, x)
    assert found.covariance.shape == (65, 2, 2)
    for k in (0, 31, 32, 64):
        alone = fw.predict(solution, x[k : k + 1])
        np.testing.assert_allclose(found.mean[k], alone.mean[0], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found.covariance[k], alone.covariance[0], rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(found.variance[k], np.diagonal(found.covariance[k]), rtol=1e-12)
