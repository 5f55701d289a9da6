"""Several outputs against dense Kronecker algebra, and class probabilities against draws."""

from functools import partial

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Kernel

import finitewidth as fw
from finitewidth import kernels
from finitewidth.inference.prediction import Prediction, class_probabilities
from finitewidth.theory.saddle import LogCholesky, in_coordinates
from finitewidth.theory.scaled import KernelSpectrum

T = 0.05
fc = partial(fw.FullyConnected, activation="erf")
NETWORKS = {
    "one layer": fc(widths=(15,)),
    "equal widths": fc(widths=(15, 15, 15)),
    "unequal widths": fc(widths=(8, 30), weight_precision=(0.7, 1.5, 2.0)),
    "mean-field": fc(widths=(12, 6), readout="mean-field"),
    "pooled": fw.Convolutional(channels=10, patch=2, pool="average", input_shape=(2, 3, 1)),
}


def toy(outputs=3, count=18, seed=0):
    r = np.random.default_rng(seed)
    x = r.standard_normal((count, 6))
    y = np.sin(x @ r.standard_normal((6, outputs))) @ (np.eye(outputs) + 0.5) + 0.1 * r.standard_normal(
        (count, outputs)
    )
    return fw.Dataset(x, y)


def solved(network, train, temperature=T):
    solution = fw.solve(fw.theory_of(network, temperature), train)
    assert solution.converged, solution.message
    return solution


def square(solution):
    D = solution.train.n_outputs
    return solution.order_parameters.reshape(D, D)


def dense_rate(network, q):
    """``sum_d sum_l N_l (x - log x - 1)`` with prod_l x_l = q_d at equal N_l (x_l - 1): bisection, one q at a time."""
    total = 0.0
    for value in q:
        low, high = -min(network.widths) + 1e-13, 1e6
        for _ in range(300):
            c = 0.5 * (low + high)
            low, high = (c, high) if np.prod([1 + c / n for n in network.widths]) < value else (low, c)
        x = [1 + c / n for n in network.widths]
        total += sum(n * (v - np.log(v) - 1) for n, v in zip(network.widths, x, strict=True))
    return total


def dense_action(network, train, Q, temperature=T):
    """Cholesky of the full (P D, P D) matrix Q (x) K + T, outputs running slowest (unlike in the package)."""
    A = np.kron(Q, kernels.nngp(network, train.x)) + temperature * np.eye(train.y.size)
    root = np.linalg.cholesky(A)
    z = np.linalg.solve(root, train.y.T.ravel())
    fit = 2 * np.log(np.diagonal(root)).sum() + z @ z + train.y.size * np.log(2 * np.pi)
    return 0.5 * (dense_rate(network, np.linalg.eigvalsh(Q)) + fit)


@pytest.fixture(params=NETWORKS, ids=str, scope="module")
def case(request):
    network, train = NETWORKS[request.param], toy()
    return network, train, solved(network, train)


def test_the_action_is_the_dense_one(case):
    network, train, solution = case
    Q = square(solution)
    np.testing.assert_allclose(Q, Q.T, atol=1e-12)
    assert np.linalg.eigvalsh(Q).min() > 0.0
    assert np.abs(Q - np.eye(3)).max() > 0.02
    assert solution.action == pytest.approx(dense_action(network, train, Q), rel=1e-10)
    assert solution.theory.rate(solution.order_parameters) == pytest.approx(
        dense_rate(network, np.linalg.eigvalsh(Q)), rel=1e-7
    )


def test_the_saddle_is_stationary_in_the_dense_action(case):
    network, train, solution = case
    root, r = np.linalg.cholesky(square(solution)), np.random.default_rng(0)

    def moved(step):
        half = root @ (np.eye(3) + step)
        return dense_action(network, train, half @ half.T)

    for _ in range(4):
        move = r.standard_normal((3, 3))
        assert abs(moved(1e-4 * move) - moved(-1e-4 * move)) / 2e-4 < 1e-4
        assert moved(0.05 * move) > solution.action + 1e-3


def test_the_gradient_is_that_of_finite_differences(case):
    network, train, solution = case
    theory, shared = solution.theory, KernelSpectrum.of(network, train)
    coordinates, r = LogCholesky(1.3 * np.eye(3), 4.0), np.random.default_rng(1)
    v, direction = r.standard_normal(6), r.standard_normal(6)
    objective = in_coordinates(partial(theory.action, shared), coordinates)
    numeric = (objective(v + 1e-5 * direction)[0] - objective(v - 1e-5 * direction)[0]) / 2e-5
    assert objective(v)[1] @ direction == pytest.approx(numeric, rel=1e-7)
    assert objective(v)[0] == pytest.approx(dense_action(network, train, coordinates.matrix(v)), rel=1e-9)


def test_the_rate_of_equal_widths_is_the_matrix_formula():
    """``N ( L tr Q^(1/L) - log det Q - L D )``, the root taken by its eigenvectors."""
    r = np.random.default_rng(0)
    half = r.standard_normal((4, 4))
    Q = half @ half.T + 0.3 * np.eye(4)
    for depth in (1, 2, 5):
        network = fc(widths=(20,) * depth)
        values, vectors = np.linalg.eigh(Q)
        root = (vectors * values ** (1 / depth)) @ vectors.T
        expected = 20 * (depth * np.trace(root) - np.linalg.slogdet(Q)[1] - depth * 4)
        theory = fw.theory_of(network, T, closure="product").for_outputs(4)
        assert theory.rate(Q.ravel()) == pytest.approx(expected, rel=1e-10)
        assert dense_rate(network, values) == pytest.approx(expected, rel=1e-8)


def test_one_output_is_the_scalar_theory():
    """A single column is a vector to Dataset, so the matrix theory is asked by hand."""
    from finitewidth.theory.scaled import SeveralOutputs

    for network in (fc(widths=(15,)), fc(widths=(8, 30))):
        train = toy(2)
        column = fw.Dataset(train.x, train.y[:, 0], classes=())
        scalar = fw.solve(fw.theory_of(network, T, closure="product"), column)
        matrix = fw.Dataset(train.x, np.stack([train.y[:, 0], 0 * train.y[:, 0]], 1))
        silent = fw.solve(
            fw.theory_of(network, T, closure="product"), fw.Dataset(train.x, 0 * train.y[:, 0], classes=())
        )
        two = solved(network, matrix)
        assert isinstance(two.theory, SeveralOutputs)
        scale = np.prod(scalar.order_parameters)
        np.testing.assert_allclose(square(two), np.diag([scale, np.prod(silent.order_parameters)]), atol=1e-6)
        assert two.action == pytest.approx(scalar.action + silent.action, abs=1e-8)
        theory = SeveralOutputs(network, T)
        assert theory.rate(np.array([scale])) == pytest.approx(scalar.theory.rate(scalar.order_parameters), rel=1e-9)


def test_identical_outputs_are_one_output_of_greater_norm_and_silent_ones():
    """Rotated, D equal targets t are (sqrt(D) t, 0, .., 0): Q = q(sqrt(D) t) 11^T/D + q(0) (1 - 11^T/D)."""
    D, train, network = 4, toy(2), fc(widths=(9, 20))
    t = train.y[:, 0]
    equal = solved(network, fw.Dataset(train.x, np.repeat(t[:, None], D, 1)))
    loud, silent = (
        fw.solve(fw.theory_of(network, T, closure="product"), fw.Dataset(train.x, y, classes=()))
        for y in (np.sqrt(D) * t, 0 * t)
    )
    q, q0 = (np.prod(s.order_parameters) for s in (loud, silent))
    ones = np.full((D, D), 1 / D)
    np.testing.assert_allclose(square(equal), q * ones + q0 * (np.eye(D) - ones), atol=1e-6)
    assert equal.action == pytest.approx(loud.action + (D - 1) * silent.action, abs=1e-8)


class Nngp(Kernel):
    """The network's infinite-width kernel for scikit-learn."""

    def __init__(self, network):
        self.network = network

    def __call__(self, X, Y=None, eval_gradient=False):
        return kernels.nngp(self.network, X, X if Y is None else Y)

    def diag(self, X):
        return kernels.nngp_diagonal(self.network, X)

    def is_stationary(self):
        return False


@pytest.mark.parametrize("name", ["one layer", "unequal widths", "pooled"])
def test_width_1e12_is_the_gaussian_process(name):
    network, train, x = NETWORKS[name].with_width(10**12), toy(), toy(seed=1).x
    solution = solved(network, train)
    process = GaussianProcessRegressor(Nngp(network), alpha=T, optimizer=None).fit(train.x, train.y)
    mean, std = process.predict(x, return_std=True)
    prediction = fw.predict(solution, x)
    np.testing.assert_allclose(square(solution), np.eye(3), atol=1e-8)
    np.testing.assert_allclose(prediction.mean, mean, atol=1e-8)
    np.testing.assert_allclose(prediction.std, std, atol=1e-8)
    np.testing.assert_allclose(prediction.covariance, std[:, :1, None] ** 2 * np.eye(3), atol=1e-8)
    assert solution.log_evidence == pytest.approx(process.log_marginal_likelihood_value_, rel=1e-8)


def test_permuting_outputs_permutes_q(case):
    network, train, solution = case
    order = [2, 0, 1]
    other = solved(network, fw.Dataset(train.x, train.y[:, order]))
    np.testing.assert_allclose(square(other), square(solution)[np.ix_(order, order)], rtol=1e-5)
    x = toy(seed=1).x
    np.testing.assert_allclose(fw.predict(other, x).mean, fw.predict(solution, x).mean[:, order], atol=1e-5)


def test_the_prediction_is_dense_conditioning(case):
    network, train, solution = case
    x = toy(count=5, seed=2).x
    Q, both = square(solution), kernels.nngp(network, np.concatenate([x, train.x]))
    K = np.kron(both, Q)  # (points D, points D)
    Kt = K[15:, 15:]
    A = Kt + T * np.eye(train.y.size)
    prediction = fw.predict(solution, x)
    mean = K[:15, 15:] @ np.linalg.solve(A, train.y.ravel())
    spread = (K[:15, :15] - K[:15, 15:] @ np.linalg.solve(A, K[15:, :15])).reshape(5, 3, 5, 3)
    own = spread[np.arange(5), :, np.arange(5)]
    np.testing.assert_allclose(prediction.mean.ravel(), mean, atol=1e-10)
    np.testing.assert_allclose(prediction.covariance, own, atol=1e-10)
    np.testing.assert_allclose(prediction.variance, np.einsum("paa->pa", own), atol=1e-10)
    residual = train.y.ravel() - Kt @ np.linalg.solve(A, train.y.ravel())
    posterior = np.diagonal(Kt - Kt @ np.linalg.solve(A, Kt))
    assert prediction.train_error == pytest.approx(np.mean(residual**2 + posterior), abs=1e-10)
    np.testing.assert_allclose(solution.theory.covariance(solution.order_parameters, train.x), Kt, atol=1e-12)
    errors = prediction.errors(np.zeros((5, 3)))
    assert errors.test_error == pytest.approx(np.mean(mean**2) + np.mean(prediction.variance))
    assert errors.accuracy is None


def test_every_minimum_is_reported():
    """A weak input carries a target: one minimum fits it, the other calls it noise; both are minima of dense F."""
    r = np.random.default_rng(30)
    x = r.standard_normal((12, 6))
    x[:, 0] *= 0.02
    train = fw.Dataset(x, np.stack([x[:, 0] / 0.02 * 0.2, 0.1 * r.standard_normal(12)], 1))
    network = fc(widths=(1,), activation="linear")
    solution = solved(network, train, 1e-3)
    assert len(solution.minima) == 2
    gap = solution.minima[1].action - solution.minima[0].action
    assert gap > 1.0
    assert f"{gap:.3g} nats" in solution.message
    for minimum in solution.minima:
        value = dense_action(network, train, minimum.order_parameters, 1e-3)
        assert value == pytest.approx(minimum.action, abs=1e-8)
        root = np.linalg.cholesky(minimum.order_parameters)
        for _ in range(20):
            half = root @ (np.eye(2) + 0.02 * r.standard_normal((2, 2)))
            assert dense_action(network, train, half @ half.T, 1e-3) > value


# --- class probabilities ------------------------------------------------------------------------------------


def random_prediction(outputs, points=4, rank=None, seed=0):
    r = np.random.default_rng(seed)
    half = r.standard_normal((points, outputs, rank or outputs))
    covariance = half @ half.swapaxes(1, 2)
    mean = 0.7 * r.standard_normal((points, outputs))
    return Prediction(mean, np.einsum("paa->pa", covariance), 0.0, covariance), half


def drawn_frequencies(prediction, half, draws=100_000):
    """(frequency that each output is the largest, its standard error), (points, D)."""
    z = np.random.default_rng(9).standard_normal((draws, half.shape[2]))
    largest = np.stack([(m + z @ h.T).argmax(1) for m, h in zip(prediction.mean, half, strict=True)])
    frequency = np.stack([(largest == c).mean(1) for c in range(half.shape[1])], 1)
    return frequency, np.sqrt(np.maximum(frequency * (1 - frequency), 1 / draws) / draws)


@pytest.mark.statistical
@pytest.mark.parametrize(("outputs", "rank"), [(2, None), (3, None), (5, None), (10, None), (4, 3), (3, 1)])
def test_class_probabilities_are_the_frequencies_of_draws(outputs, rank):
    """Within four standard errors of 100 000 draws plus the 2e-4 of the quadrature; singular covariances included."""
    prediction, half = random_prediction(outputs, rank=rank)
    probabilities = class_probabilities(prediction)
    frequency, se = drawn_frequencies(prediction, half)
    np.testing.assert_allclose(probabilities.sum(1), 1.0, atol=1e-12)
    assert (np.abs(probabilities - frequency) < 4 * se + 2e-4).all()
    # negative control: outputs taken for independent
    wrong = class_probabilities(Prediction(prediction.mean, prediction.variance, 0.0, None))
    assert (np.abs(wrong - frequency) > 4 * se + 2e-4).any()


@pytest.mark.statistical
def test_expected_accuracy_is_that_of_drawn_classifiers():
    """digits 0-3: the share of right argmaxes over draws of f."""
    train, test = fw.data.digits(classes=(0, 1, 2, 3), n_train=60, n_test=40)
    prediction = fw.predict(solved(fc(widths=(30,)), train), test.x)
    half = np.linalg.cholesky(prediction.covariance + 1e-12 * np.eye(4))
    z, truth = np.random.default_rng(0).standard_normal((20_000, 4)), test.y.argmax(1)
    right = np.stack([(m + z @ h.T).argmax(1) == c for m, h, c in zip(prediction.mean, half, truth, strict=True)])
    per_point, se = right.mean(1), np.sqrt((right.mean(1) * (1 - right.mean(1))).sum() / 20_000) / len(truth)
    accuracy = prediction.errors(test.y).accuracy
    assert abs(accuracy - per_point.mean()) < 4 * se + 2e-4
    assert 0.5 < accuracy < 1.0
    confident = (prediction.mean.argmax(1) == truth).mean()  # negative control: the mean's own accuracy
    assert abs(confident - per_point.mean()) > 4 * se + 2e-4
