"""Local kernel renormalisation against dense algebra written here, Gaussian processes, and known limits."""

from pathlib import Path

import numpy as np
import pytest
from scipy.special import erf
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Kernel

import finitewidth as fw
from finitewidth.data.files import of_classes, parts
from finitewidth.data.images import block_average
from finitewidth.kernels.local import local_kernels, memory_estimate
from finitewidth.theory.local import FullPairs, LocalProblem
from finitewidth.theory.solution import TheorySolution

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="reference data of docs/theory.md are not here")
T = 0.05


def cnn(channels=12, patch=2, **more):
    return fw.Convolutional(channels=channels, patch=patch, **more)


def lcn(channels=12, patch=2, **more):
    return fw.LocallyConnected(channels=channels, patch=patch, **more)


def toy(shape=(4, 4), count=24, outputs=0, seed=0):
    """Images whose first patches carry the target."""
    r = np.random.default_rng(seed)
    x = r.standard_normal((count, *shape))
    teacher = r.standard_normal((x[0].size, max(outputs, 1)))
    y = np.tanh(x.reshape(count, -1)[:, :4] @ teacher[:4]) + 0.2 * r.standard_normal((count, max(outputs, 1)))
    return fw.Dataset(x, y if outputs else y[:, 0], classes=())


def solved(network, train, temperature=T, **more):
    solution = fw.solve(fw.theory_of(network, temperature), train, **more)
    assert solution.converged, solution.message
    return solution


# --- the dense action, written down from docs/theory.md section 2 -------------------------------------------


class Dense:
    """F(Q) and its parts from all pair kernels K_ij; Q is (n D, n D), blocks (i d)(j e)."""

    def __init__(self, network, train, temperature=T):
        self.N, self.T, self.D = network.channels, temperature, train.n_outputs
        self.K = local_kernels(network, train.x) / network.readout_precision
        self.n, self.y = len(self.K), train.y.reshape(-1)
        self.K /= self.n

    def covariance(self, Q):
        q = Q.reshape(self.n, self.D, self.n, self.D)
        return np.einsum("idje,ijpq->pdqe", q, self.K).reshape(len(self.y), -1)

    def A(self, Q):
        return self.covariance(Q) + self.T * np.eye(len(self.y))

    def F(self, Q):
        A = self.A(Q)
        rate = self.N * (np.trace(Q) - np.linalg.slogdet(Q)[1] - len(Q))
        fit = np.linalg.slogdet(A)[1] + self.y @ np.linalg.solve(A, self.y)
        return 0.5 * (rate + fit + len(self.y) * np.log(2 * np.pi))

    def G(self, Q):
        """``(1/(lambda_1 n)) [ a^T K_ij a - Tr(A^-1 K_ij) ]``, symmetrised."""
        A = self.A(Q)
        a = np.linalg.solve(A, self.y)
        pull = (np.outer(a, a) - np.linalg.inv(A)).reshape(-1, self.D, len(self.y) // self.D, self.D)
        G = np.einsum("pdqe,ijpq->idje", pull, self.K).reshape(self.n * self.D, -1)
        return 0.5 * (G + G.T)


def full_q(solution, n, outputs=1):
    """The solution's Q as a dense (n D, n D) matrix."""
    q = solution.order_parameters
    if q.size == (n * outputs) ** 2:
        return q.reshape(n * outputs, -1)
    out = np.zeros((n, outputs, n, outputs))
    out[np.arange(n), :, np.arange(n)] = q.reshape(n, outputs, outputs)
    return out.reshape(n * outputs, -1)


CASES = {
    "cnn": (cnn(), (4, 4)),
    "overlapping": (cnn(patch=(3, 2), stride=(1, 2)), (4, 4)),
    "gaps": (cnn(stride=3), (5, 5)),
    "padded": (cnn(patch=3, stride=2, padding="same"), (4, 4)),
    "colours": (cnn(weight_precision=(0.5, 2.0)), (4, 4, 3)),
    "signal": (cnn(patch=(3,), stride=(2,), activation="tanh"), (9, 2)),
    "offsets": (cnn(offset_precision=2.0, activation="relu"), (4, 4)),
    "mean-field": (cnn(readout="mean-field"), (4, 4)),
    "relu": (cnn(activation="relu"), (4, 4)),
    "lcn": (lcn(), (4, 4)),
    "lcn overlapping signal": (lcn(patch=(3,), stride=(2,)), (9, 2)),
    "lcn padded colours": (lcn(patch=3, stride=2, padding="same"), (4, 4, 3)),
}


@pytest.fixture(params=CASES, ids=str, scope="module")
def case(request):
    """(network, train, its solution, dense action)"""
    network, shape = CASES[request.param]
    train = toy(shape)
    return network, train, solved(network, train), Dense(network, train)


def test_the_action_is_the_dense_one(case):
    _, _, solution, dense = case
    Q = full_q(solution, dense.n)
    assert np.linalg.eigvalsh(Q).min() > 0.0
    assert solution.action == pytest.approx(dense.F(Q), rel=1e-12)
    assert solution.log_evidence == -solution.action
    assert solution.theory.rate(solution.order_parameters) == pytest.approx(
        dense.N * (np.trace(Q) - np.linalg.slogdet(Q)[1] - dense.n), rel=1e-9, abs=1e-9
    )


def test_the_saddle_is_stationary_in_the_dense_action(case):
    """``1 - Q^-1 = G / N``, G from the dense kernels; only on the diagonal without weight sharing."""
    network, _, solution, dense = case
    Q = full_q(solution, dense.n)
    left, right = np.eye(dense.n) - np.linalg.inv(Q), dense.G(Q) / dense.N
    if isinstance(network, fw.LocallyConnected):
        left, right = np.diagonal(left), np.diagonal(right)
    assert np.abs(left - right).max() < 1e-6
    assert np.abs(right).max() > 1e-2  # what is balanced is not small


def test_the_prediction_is_dense_conditioning(case):
    network, train, solution, dense = case
    x = toy(train.x.shape[1:], count=7, seed=5).x
    Q = full_q(solution, dense.n)
    both = local_kernels(network, np.concatenate([x, train.x])) / (network.readout_precision * dense.n)
    if isinstance(network, fw.LocallyConnected):
        both = both * np.eye(dense.n)[:, :, None, None]  # Q_ij = 0
    K = np.einsum("ij,ijpq->pq", Q, both)
    A = K[7:, 7:] + T * np.eye(len(train))
    prediction = fw.predict(solution, x)
    np.testing.assert_allclose(prediction.mean, K[:7, 7:] @ np.linalg.solve(A, train.y), atol=1e-10)
    variance = np.diagonal(K[:7, :7] - K[:7, 7:] @ np.linalg.solve(A, K[7:, :7]))
    np.testing.assert_allclose(prediction.variance, variance, atol=1e-10)
    # train error: E[(y - f)^2] under the posterior of f at the training points
    Kt = K[7:, 7:]
    residual = train.y - Kt @ np.linalg.solve(A, train.y)
    posterior = Kt - Kt @ np.linalg.solve(A, Kt)
    assert prediction.train_error == pytest.approx(np.mean(residual**2 + np.diagonal(posterior)), abs=1e-10)


@pytest.mark.parametrize("network", [cnn(), cnn(activation="relu", stride=1), lcn()], ids=["cnn", "relu", "lcn"])
@pytest.mark.parametrize("outputs", [0, 2])
def test_the_gradient_is_that_of_finite_differences(network, outputs):
    train = toy(outputs=outputs, count=12)
    theory = fw.theory_of(network, T)
    problem = LocalProblem(theory, train, theory.factorise(train))
    r = np.random.default_rng(1)
    blocks, moves = [], []
    for _ in range(problem.shape[0]):
        half = 0.3 * r.standard_normal(problem.shape[1:]) + np.eye(problem.shape[1])
        move = r.standard_normal(problem.shape[1:])
        blocks.append(half @ half.T)
        moves.append(move + move.T)
    blocks, move, step = np.stack(blocks), np.stack(moves), 1e-6
    slope = problem.action(blocks)[1]
    numeric = (problem.action(blocks + step * move)[0] - problem.action(blocks - step * move)[0]) / (2 * step)
    assert np.vdot(slope, move) == pytest.approx(numeric, rel=1e-6)


def test_the_gradient_in_coordinates_is_that_of_finite_differences():
    from finitewidth.theory.saddle import LogCholesky, in_coordinates

    train, theory = toy(), fw.theory_of(cnn(), T)
    problem = LocalProblem(theory, train, theory.factorise(train))
    coordinates = LogCholesky(1.5 * np.eye(4), 5.0)
    r = np.random.default_rng(2)
    v, direction = 2.0 * r.standard_normal(10), r.standard_normal(10)
    objective = in_coordinates(problem.action, coordinates, (1,))
    ends = [objective(v + sign * 1e-5 * direction)[0] for sign in (1, -1)]
    gradient = objective(v)[1]
    assert gradient @ direction == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-7)


# --- limits -------------------------------------------------------------------------------------------------


class Precomputed(Kernel):
    """A kernel function for scikit-learn's Gaussian process."""

    def __init__(self, function):
        self.function = function

    def __call__(self, X, Y=None, eval_gradient=False):
        return self.function(X, X if Y is None else Y)

    def diag(self, X):
        return np.diagonal(self.function(X, X)).copy()

    def is_stationary(self):
        return False


def erf_of_patches(x1, x2, pooled=False):
    """Infinite-width kernel of 2 x 2 patches of 4 x 4 images, Williams 1997, cut out by slicing."""
    cuts = [(slice(a, a + 2), slice(b, b + 2)) for a in (0, 2) for b in (0, 2)]
    p1, p2 = ([x.reshape(-1, 4, 4)[:, r, c].reshape(len(x), 4) for r, c in cuts] for x in (x1, x2))

    def kappa(u, v):
        norms = [1.0 + 2.0 * (w**2).sum(1) / 4 for w in (u, v)]
        return (2 / np.pi) * np.arcsin(2.0 * (u @ v.T / 4) / np.sqrt(np.outer(*norms)))

    pairs = [(i, j) for i in range(4) for j in range(4) if pooled or i == j]
    return sum(kappa(p1[i], p2[j]) for i, j in pairs) / (16 if pooled else 4)


@pytest.mark.parametrize(
    "network", [cnn(10**12), lcn(10**12), cnn(10**12, pool="average")], ids=["cnn", "lcn", "pooled"]
)
@pytest.mark.parametrize("outputs", [0, 3])
def test_width_1e12_is_the_gaussian_process(network, outputs):
    train, x = toy(outputs=outputs), toy(count=9, seed=4).x
    solution = solved(network, train)
    kernel = Precomputed(lambda a, b: erf_of_patches(a, b, network.pool == "average"))
    process = GaussianProcessRegressor(kernel, alpha=T, optimizer=None).fit(train.flat, train.y)
    mean, std = process.predict(x.reshape(9, -1), return_std=True)
    prediction = fw.predict(solution, x)
    np.testing.assert_allclose(prediction.mean, mean, atol=1e-8)
    np.testing.assert_allclose(prediction.std, std, atol=1e-8)
    assert solution.log_evidence == pytest.approx(process.log_marginal_likelihood_value_, rel=1e-8)
    infinite = fw.solve(fw.theory_of(network, T, method="infinite"), train)
    np.testing.assert_allclose(prediction.mean, fw.predict(infinite, x).mean, atol=1e-8)


@pytest.mark.parametrize("activation", ["erf", "relu", "linear"])
@pytest.mark.parametrize(
    "build", [cnn, lcn, lambda *a, **k: cnn(*a, pool="average", **k)], ids=["cnn", "lcn", "pooled"]
)
@pytest.mark.parametrize("outputs", [0, 2])
def test_one_patch_as_large_as_the_image_is_fully_connected(build, activation, outputs):
    train, x = toy(outputs=outputs), toy(count=9, seed=4).x
    local = solved(build(12, 4, activation=activation), train)
    dense = solved(fw.FullyConnected(widths=(12,), activation=activation), train)
    tolerance = 1e-10 if not outputs else 1e-6  # two descents, each to its own tolerance
    np.testing.assert_allclose(local.order_parameters, dense.order_parameters, rtol=0, atol=tolerance)
    assert local.log_evidence == pytest.approx(dense.log_evidence, abs=1e-10)
    one, two = fw.predict(local, x), fw.predict(dense, x)
    np.testing.assert_allclose(one.mean, two.mean, atol=tolerance)
    np.testing.assert_allclose(one.variance, two.variance, atol=tolerance)
    assert one.train_error == pytest.approx(two.train_error, abs=tolerance)


def test_locally_connected_is_the_diagonal_theory():
    """n scalar equations ``N (1 - 1/Q_i) = G_ii``, iterated here to their fixed point."""
    train, network = toy(), lcn()
    solution, dense = solved(network, train), Dense(network, train)
    q = np.ones(4)
    for _ in range(500):
        g = np.diagonal(dense.G(np.diag(q)))
        q = 0.7 * q + 0.3 / (1.0 - g / dense.N)
    np.testing.assert_allclose(solution.order_parameters, q, atol=1e-7)
    assert solution.q_map().matrix.shape == (4,)
    assert np.ptp(q) > 0.1  # patches differ


def test_locally_connected_with_a_mean_uses_second_moments():
    """relu: K_ii is the full second moment, sampled here from neurons; no patch couples to another."""
    train, network = toy(count=6), lcn(activation="relu")
    solution = solved(network, train)
    w = np.random.default_rng(0).standard_normal((4, 200_000))
    patches = network.grid(train.x).extract(train.x)
    K = np.zeros((6, 6))
    for i, q in enumerate(solution.order_parameters):
        phi = np.maximum(patches[:, i] @ w / 2.0, 0.0)
        K += q * (phi @ phi.T) / phi.shape[1] / 4
    covariance = solution.theory.covariance(solution.order_parameters, train.x)
    assert np.abs(covariance - K).max() < 0.01 * np.abs(K).max()
    assert fw.features.between_patches(solution) == pytest.approx(0.0, abs=1e-14)


def test_pooled_is_one_scalar_on_the_pooled_kernel():
    """The fully connected equation ``N (Q - 1) = y^T A^-1 K_R A^-1 y - Tr A^-1 K_R`` on the mean over all pairs."""
    train, network = toy(), cnn(pool="average")
    solution = solved(network, train)
    K = local_kernels(network, train.x).mean((0, 1))
    q = float(solution.order_parameters[0])
    A = q * K + T * np.eye(len(train))
    a = np.linalg.solve(A, train.y)
    assert network.channels * (q - 1.0) == pytest.approx(q * (a @ K @ a - np.trace(np.linalg.solve(A, K))), abs=1e-8)
    with pytest.raises(fw.InputError, match="no patches"):
        solution.q_map()


# --- several outputs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "network", [cnn(), cnn(patch=(3, 2), stride=(1, 2), activation="relu"), lcn()], ids=["cnn", "relu", "lcn"]
)
@pytest.mark.parametrize("outputs", [2, 3])
def test_several_outputs_are_the_dense_theory(network, outputs):
    train, x = toy(outputs=outputs, count=12), toy(count=5, seed=4).x
    solution, dense = solved(network, train), Dense(network, train)
    Q = full_q(solution, dense.n, outputs)
    assert np.linalg.eigvalsh(Q).min() > 0.0
    np.testing.assert_allclose(Q, Q.T, atol=1e-12)
    assert solution.action == pytest.approx(dense.F(Q), rel=1e-12)
    left, right = np.eye(len(Q)) - np.linalg.inv(Q), dense.G(Q) / dense.N
    if isinstance(network, fw.LocallyConnected):
        same = np.kron(np.eye(dense.n), np.ones((outputs, outputs)))
        left, right = left * same, right * same
    assert np.abs(left - right).max() < 1e-5
    both = local_kernels(network, np.concatenate([x, train.x])) / (network.readout_precision * dense.n)
    q = Q.reshape(dense.n, outputs, dense.n, outputs)
    K = np.einsum("idje,ijpq->pdqe", q, both)
    cut = 5 * outputs
    K = K.reshape(17 * outputs, -1)
    A = K[cut:, cut:] + T * np.eye(12 * outputs)
    prediction = fw.predict(solution, x)
    mean = K[:cut, cut:] @ np.linalg.solve(A, train.y.ravel())
    np.testing.assert_allclose(prediction.mean.ravel(), mean, atol=1e-10)
    spread = (K[:cut, :cut] - K[:cut, cut:] @ np.linalg.solve(A, K[cut:, :cut])).reshape(5, outputs, 5, outputs)
    own = spread[np.arange(5), :, np.arange(5)]
    np.testing.assert_allclose(prediction.covariance, own, atol=1e-10)
    np.testing.assert_allclose(prediction.variance, np.einsum("paa->pa", own), atol=1e-10)


@pytest.mark.parametrize("network", [cnn(), lcn(), cnn(pool="average")], ids=["cnn", "lcn", "pooled"])
def test_identical_outputs_are_one_output_of_greater_norm_and_silent_ones(network):
    """The action is invariant under rotations of the outputs, and D equal targets t rotate to (sqrt(D) t, 0, .., 0).

    The rotated problem separates: one output with target sqrt(D) t, and D - 1 with target 0.
    """
    D, train = 3, toy(count=12)
    equal = solved(network, fw.Dataset(train.x, np.repeat(train.y[:, None], D, 1)))
    loud = solved(network, fw.Dataset(train.x, np.sqrt(D) * train.y, classes=()))
    silent = solved(network, fw.Dataset(train.x, 0.0 * train.y, classes=()))
    assert equal.action == pytest.approx(loud.action + (D - 1) * silent.action, abs=1e-8)
    n = 1 if network.pool == "average" else 4
    together = np.full((D, D), 1.0 / D)
    expected = np.kron(full_q(loud, n), together) + np.kron(full_q(silent, n), np.eye(D) - together)
    if network.pool == "average":
        np.testing.assert_allclose(full_q(equal, 1, D), expected, atol=1e-5)
    else:
        np.testing.assert_allclose(full_q(equal, n, D), expected, atol=1e-5)
    x = toy(count=5, seed=4).x
    means = fw.predict(equal, x).mean
    np.testing.assert_allclose(means, np.repeat(fw.predict(loud, x).mean[:, None], D, 1) / np.sqrt(D), atol=1e-5)


def test_full_pairs_project_is_the_adjoint_of_contract():
    r = np.random.default_rng(0)
    for network, shape in ((cnn(), (1, 12, 12)), (lcn(), (4, 3, 3))):
        pairs = FullPairs(network, toy(outputs=3, count=5), None)
        Q, W = r.standard_normal(shape), r.standard_normal((15, 15))
        Q, W = Q + Q.swapaxes(1, 2), W + W.T
        assert np.vdot(W, pairs.contract(Q)) == pytest.approx(np.vdot(Q, pairs.project(W)), rel=1e-12)


# --- memory, minima, evidence -------------------------------------------------------------------------------


def test_streamed_and_cached_solutions_agree():
    train, network = toy((8, 8), count=40), cnn(stride=1)
    streamed = memory_estimate(40, 49, cached=False, patch_size=4)
    theory = fw.theory_of(network, T)
    assert theory.factorise(train, 1.01 * streamed).gram.storage == "streamed"
    assert theory.factorise(train).gram.storage == "cached"
    small, train = cnn(), toy(count=70)
    cap = 1.01 * memory_estimate(70, 4, cached=False, patch_size=4)
    theory, results = fw.theory_of(small, T), []
    for memory in (cap, None):
        shared = theory.factorise(train, memory)
        results.append((shared.gram.storage, theory.solve(train, shared)))
    assert [storage for storage, _ in results] == ["streamed", "cached"]
    one, two = (solution for _, solution in results)
    np.testing.assert_allclose(one.order_parameters, two.order_parameters, atol=1e-7)
    assert one.action == pytest.approx(two.action, rel=1e-13)


def metastable():
    """One channel; a weak input carries the target: Q shrinks and leaves it as noise, or grows 15-fold to fit it."""
    r = np.random.default_rng(12)
    x = r.standard_normal((9, 4, 2))
    x[:, 0, 0] *= 0.02
    x[:, 3, 1] *= 0.02
    return cnn(1, activation="linear"), fw.Dataset(x, x[:, 0, 0] / 0.02 * 0.2, classes=())


def test_every_minimum_is_reported():
    network, train = metastable()
    solution = solved(network, train, 5e-4)
    assert len(solution.minima) == 2
    best, next_one = solution.minima
    assert best.action < next_one.action
    assert f"{next_one.action - best.action:.3g} nats" in solution.message
    dense = Dense(network, train, 5e-4)
    r = np.random.default_rng(0)
    for minimum in solution.minima:  # a minimum of the dense action, not only of ours
        Q = minimum.order_parameters
        assert np.linalg.eigvalsh(Q).min() > 0.0
        assert dense.F(Q) == pytest.approx(minimum.action, abs=1e-9)
        root = np.linalg.cholesky(Q)
        for _ in range(20):
            step = 1e-2 * r.standard_normal(Q.shape)
            half = root @ (np.eye(len(Q)) + step + step.T)
            assert dense.F(half @ half.T) > minimum.action


def test_flat_points_are_the_images_they_were():
    train = toy()
    flat = fw.Dataset(train.flat, train.y, classes=())
    one, two = solved(cnn(), train), solved(cnn(input_shape=(4, 4, 1)), flat)
    np.testing.assert_allclose(one.order_parameters, two.order_parameters, atol=1e-12)
    with pytest.raises(fw.InputError, match="input_shape"):
        fw.solve(fw.theory_of(cnn(), T), flat)


def test_the_map_is_labelled_with_its_patches():
    solution = solved(cnn(patch=(3, 2), stride=(1, 2)), toy())
    qmap = solution.q_map()
    assert qmap.grid_shape == (2, 2)
    assert qmap.positions.tolist() == [[0, 0], [0, 2], [1, 0], [1, 2]]
    values, vectors = qmap.eigenvectors(4)
    assert vectors.shape == (4, 2, 2)
    flat = vectors.reshape(4, 4)
    np.testing.assert_allclose((flat.T * values) @ flat, qmap.square, atol=1e-12)
    np.testing.assert_allclose(qmap.diagonal.ravel(), np.diagonal(qmap.square))


# --- docs/theory.md section 9 -------------------------------------------------------------------------------


def reference(name, side):
    """(train, test) by the recipe of docs/theory.md section 9: classes 0 and 1, 100 and 200 points, seed 0."""
    if name == "cifar":
        with np.load(SHARED / "cifar10_subset.npz", allow_pickle=False) as file:
            images = np.concatenate([file["x_train"], file["x_test"]]).mean(-1) / 255.0
            labels = np.concatenate([file["y_train"], file["y_test"]])
    else:
        with np.load(SHARED / "mnist_10k.npz", allow_pickle=False) as file:
            images, labels = file["x"] / 255.0, file["y"]
    return parts(of_classes(block_average(images, side), labels, (0, 1)), 100, 200, 0, "global")


@needs_data
@pytest.mark.parametrize(
    ("data", "network", "test_error", "train_error"),
    [
        (("cifar", 16), cnn(40, 8), 1.2229, 0.0850),
        (("cifar", 16), lcn(40, 8), 1.2216, 0.0852),
        (("cifar", 16), cnn(40, 8, stride=4), 1.1838, 0.0970),
        (("mnist", 14), cnn(40, 7), 0.0840, 0.0307),
    ],
    ids=["cnn", "lcn", "cnn overlapping", "mnist"],
)
def test_reference_rows(data, network, test_error, train_error):
    train, test = reference(*data)
    errors = fw.predict(solved(network, train), test.x).errors(test.y)
    assert round(errors.test_error, 4) == test_error
    assert round(errors.train_error, 4) == train_error


def test_erf_of_the_witness_is_the_activation_of_the_networks():
    """The closed form above against neurons drawn here."""
    w = np.random.default_rng(0).standard_normal((4, 400_000))
    x = toy(count=3).flat
    sampled = (
        sum(
            np.cov(erf(x.reshape(3, 4, 4)[:, a : a + 2, b : b + 2].reshape(3, 4) @ w / 2.0), bias=True)
            for a in (0, 2)
            for b in (0, 2)
        )
        / 4
    )
    assert np.abs(sampled - erf_of_patches(x, x)).max() < 0.005


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_map_is_the_order_parameter_averaged_over_outputs(outputs, rng):
    x, y = rng.standard_normal((6, 4, 4)), rng.standard_normal((6, outputs))
    train = fw.Dataset(x, y[:, 0] if outputs == 1 else y, classes=())

    def q_map(theory, q):
        return TheorySolution(theory, train, q.ravel(), 0.0, True, "", (), None).q_map().matrix

    q = rng.standard_normal((4, outputs, 4, outputs))
    shared = fw.theory_of(fw.Convolutional(5, patch=2), 0.1)
    expected = sum(q[:, d, :, d] for d in range(outputs)) / outputs
    np.testing.assert_allclose(q_map(shared, q), expected, rtol=1e-12)
    alone = fw.theory_of(fw.LocallyConnected(5, patch=2), 0.1)
    own = rng.standard_normal((4, outputs, outputs))
    expected = sum(own[:, d, d] for d in range(outputs)) / outputs
    np.testing.assert_allclose(q_map(alone, own), expected, rtol=1e-12)
