"""Linear convolutional and linear several-output networks, exactly: the order parameter has a Wishart prior.

For linear phi the output given the readouts is a Gaussian process with covariance K_R(Q), ``Q = lambda_1 V V^T / N``
exactly, and Q is Wishart with N degrees of freedom and scale 1/N. So posterior means and the evidence are integrals
over Q alone, done here by importance sampling: a multivariate t with eight degrees of freedom around the mode, in
log-Cholesky coordinates. Nothing of ``finitewidth.theory`` is used in the oracle, nor its kernels.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import linalg, optimize, stats

import finitewidth as fw

pytestmark = pytest.mark.statistical
T = 0.05
WIDTHS = (20, 40, 80, 160)


@dataclass
class Exact:
    """Posterior expectations with their standard errors, and the effective number of draws."""

    test_error: tuple
    q: tuple
    log_evidence: tuple
    effective: float


def exact(errors_of, log_likelihood, dim, N, draws=4000, seed=0):
    """Importance sampling over Q (dim, dim). Both functions take a stack of Q, (S, dim, dim), and return (S,)."""
    lower = np.tril_indices(dim)
    on_diagonal = lower[0] == lower[1]
    # dQ = 2^dim prod_k L_kk^(dim - k) dL (k from 0), and dL_kk = L_kk d log L_kk
    powers = dim - np.arange(dim) + 1.0

    def matrices(v):
        L = np.zeros((len(v), dim, dim))
        L[:, *lower] = np.where(on_diagonal, np.exp(v), v)
        return L, L @ L.swapaxes(1, 2)

    def log_density(v):
        L, Q = matrices(np.atleast_2d(v))
        log_diagonal = np.log(np.einsum("sii->si", L))
        prior = stats.wishart(df=N, scale=np.eye(dim) / N).logpdf(np.moveaxis(Q, 0, -1))
        return np.atleast_1d(prior) + dim * np.log(2) + log_diagonal @ powers + log_likelihood(Q)

    start = np.zeros(len(on_diagonal))
    mode = optimize.minimize(lambda v: -log_density(v)[0], start, method="BFGS", options={"gtol": 1e-3}).x
    hessian = curvature(lambda v: -log_density(v), mode)
    values, vectors = np.linalg.eigh(hessian)
    spread = 1.1 * vectors / np.sqrt(np.maximum(values, 0.1 * N))
    proposal = stats.multivariate_t(mode, spread @ spread.T, df=8, seed=np.random.default_rng(seed))
    v = proposal.rvs(draws)
    log_weight = log_density(v) - proposal.logpdf(v)
    top = log_weight.max()
    w = np.exp(log_weight - top)
    Q = matrices(v)[1]
    evidence = np.log(w.mean()) + top, w.std() / w.mean() / np.sqrt(draws)
    w /= w.sum()

    def average(value):
        mean = np.tensordot(w, value, 1)
        centred = (value - mean) * w.reshape(-1, *[1] * (value.ndim - 1))
        return mean, np.sqrt((centred**2).sum(0))

    return Exact(average(errors_of(Q)), average(Q), evidence, 1.0 / (w**2).sum())


def curvature(function, at, step=2e-3):
    """Hessian by central differences; ``function`` takes a stack of points."""
    size = len(at)
    moves = step * np.eye(size)
    points = [at + s * a + t * b for a in moves for b in moves for s in (1, -1) for t in (1, -1)]
    values = function(np.array(points)).reshape(size, size, 4)
    return (values @ np.array([1, -1, -1, 1])) / (4 * step**2)


def conditioned(A, cross, prior, y, y_test):
    """(log N(y; 0, A), mean over test values of bias^2 + variance) for a stack of covariances."""
    root = np.linalg.cholesky(A)
    z = np.linalg.solve(root, np.broadcast_to(y[:, None], (len(A), len(y), 1)))[..., 0]
    white = np.linalg.solve(root, cross.swapaxes(1, 2))
    log_det = 2 * np.log(np.einsum("sii->si", root)).sum(1)
    mean = np.einsum("sip,si->sp", white, z)
    error = ((y_test - mean) ** 2 + prior - (white**2).sum(1)).mean(1)
    return -0.5 * (log_det + (z**2).sum(1) + len(y) * np.log(2 * np.pi)), error


def in_chunks(function, Q, size=500):
    return [np.concatenate(part) for part in zip(*(function(q) for q in np.split(Q, range(size, len(Q), size))), strict=True)]


class LinearConvolution:
    """Images of two by six pixels, three patches of 2 x 2; the first patch carries most of the label."""

    def __init__(self, count=40, test=30):
        r = np.random.default_rng(1)
        x = r.standard_normal((count + test, 2, 6))
        teacher = np.array([[2.0, 1.0, 0.5, 0.2, 0.1, 0.0], [1.0, -1.0, 0.0, 0.3, 0.0, 0.1]])
        y = (x * teacher).sum((1, 2)) + 0.2 * r.standard_normal(count + test)
        self.train, self.test = (fw.Dataset(x[part], y[part], classes=()) for part in (slice(count), slice(count, None)))
        patches = x.reshape(-1, 2, 3, 2).transpose(2, 0, 1, 3).reshape(3, count + test, 4)
        self.K = np.einsum("ipm,jqm->ijpq", patches, patches) / 4 / 3  # lambda = 1, n = 3
        self.dim, self.count = 3, count

    def network(self, N):
        return fw.Convolutional(channels=N, patch=2, activation="linear")

    def _both(self, Q):
        K, cut = np.einsum("sij,ijpq->spq", Q, self.K, optimize=True), self.count
        A = K[:, :cut, :cut] + T * np.eye(cut)
        prior = np.einsum("spp->sp", K[:, cut:, cut:])
        return conditioned(A, K[:, cut:, :cut], prior, self.train.y, self.test.y)

    def exact(self, N, **more):
        return exact(lambda Q: in_chunks(self._both, Q)[1], lambda Q: in_chunks(self._both, Q)[0], self.dim, N, **more)


class LinearOutputs(LinearConvolution):
    """Fully connected, three outputs, two of them correlated: covariance Q (x) x x^T / N0 (outputs slowest)."""

    def __init__(self, count=20, test=20):
        r = np.random.default_rng(2)
        x = r.standard_normal((count + test, 6))
        y = x @ r.standard_normal((6, 3)) @ np.array([[1.0, 0.8, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 0.4]])
        y += 0.2 * r.standard_normal(y.shape)
        self.train, self.test = fw.Dataset(x[:count], y[:count]), fw.Dataset(x[count:], y[count:])
        self.K = x @ x.T / 6
        self.dim, self.count = 3, count

    def network(self, N):
        return fw.FullyConnected(widths=(N,), activation="linear")

    def _both(self, Q):
        cut = self.count

        def kron(K):
            return np.einsum("sab,pq->sapbq", Q, K).reshape(len(Q), 3 * len(K), -1)

        A = kron(self.K[:cut, :cut]) + T * np.eye(3 * cut)
        prior = np.einsum("saa,p->sap", Q, np.diagonal(self.K)[cut:]).reshape(len(Q), -1)
        return conditioned(A, kron(self.K[cut:, :cut]), prior, self.train.y.T.ravel(), self.test.y.T.ravel())


PROBLEMS = {"convolutional": LinearConvolution, "three outputs": LinearOutputs}


def saddle(problem, N):
    """(test error, Q, log evidence) of the theory."""
    solution = fw.solve(fw.theory_of(problem.network(N), T), problem.train)
    assert solution.converged
    error = fw.predict(solution, problem.test.x).errors(problem.test.y).test_error
    return error, solution.order_parameters.reshape(problem.dim, problem.dim), solution.log_evidence


@pytest.fixture(params=PROBLEMS, ids=str, scope="module")
def rows(request):
    """(problem, [(N, saddle, exact)])"""
    problem = PROBLEMS[request.param]()
    return problem, [(N, saddle(problem, N), problem.exact(N)) for N in WIDTHS]


def test_the_oracle_samples_well(rows):
    for _, _, oracle in rows[1]:
        assert oracle.effective > 2000
        assert oracle.test_error[1] < 0.01 * oracle.test_error[0]


def test_the_oracle_against_draws_of_the_weights():
    """Few points: the readouts themselves from their prior, weighted by the likelihood."""
    problem, N = LinearConvolution(count=4), 20
    V = np.random.default_rng(5).standard_normal((40_000, 3, N))
    Q = V @ V.swapaxes(1, 2) / N
    log_likelihood, errors = in_chunks(problem._both, Q, 2000)
    w = np.exp(log_likelihood - log_likelihood.max())
    evidence = np.log(w.mean()) + log_likelihood.max()
    oracle = problem.exact(N)
    se = np.hypot(w.std() / w.mean() / 200, oracle.log_evidence[1])
    assert abs(evidence - oracle.log_evidence[0]) < 4 * se
    w /= w.sum()
    mean = w @ errors
    se = np.hypot(np.sqrt((w**2) @ (errors - mean) ** 2), oracle.test_error[1])
    assert abs(mean - oracle.test_error[0]) < 4 * se


def test_the_saddle_is_off_by_a_constant_over_n(rows):
    """N |saddle - exact| stays bounded: in the test error, in every entry of Q, and in the evidence."""
    for N, (error, Q, evidence), oracle in rows[1]:
        bound = 3.0 / N
        assert abs(error / oracle.test_error[0] - 1.0) < bound + 4 * oracle.test_error[1] / oracle.test_error[0]
        scale = np.trace(oracle.q[0]) / len(Q)
        assert (np.abs(Q - oracle.q[0]) < 2.5 * bound * scale + 4 * oracle.q[1]).all()
        assert abs(evidence - oracle.log_evidence[0]) < 40 * bound + 4 * oracle.log_evidence[1]


def test_infinite_width_and_a_wrong_width_fail(rows):
    """Negative control: Q = 1, and the theory of half the width, do not pass for the network of width 20."""
    problem, table = rows
    N, (error, _, _), oracle = table[0]
    exact_error, se = oracle.test_error
    infinite = fw.solve(fw.theory_of(problem.network(N), T, method="infinite"), problem.train)
    wrong = fw.predict(infinite, problem.test.x).errors(problem.test.y).test_error
    assert np.abs(oracle.q[0] - np.eye(problem.dim)).max() > 20 * oracle.q[1].max()
    assert abs(wrong - exact_error) > 4 * se
    assert abs(wrong - exact_error) > 1.5 * abs(error - exact_error)
    half = saddle(problem, N // 2)[1]
    assert np.abs(half - oracle.q[0]).max() > 2 * np.abs(saddle(problem, N)[1] - oracle.q[0]).max()


def test_the_solver_itself_is_the_mode_of_the_dense_action(rows):
    """The table is about the theory and not about its solver: F by the oracle's own likelihood, by Nelder-Mead steps."""
    problem, table = rows
    N, (_, Q, evidence), _ = table[0]
    root = linalg.cholesky(Q, lower=True)

    def F(half):
        q = half @ half.T
        rate = N * (np.trace(q) - np.linalg.slogdet(q)[1] - len(q))
        return 0.5 * rate - problem._both(q[None])[0][0]

    assert F(root) == pytest.approx(-evidence, rel=1e-9)
    r = np.random.default_rng(0)
    for _ in range(10):
        move = r.standard_normal(Q.shape)
        assert F(root @ (np.eye(3) + 0.02 * move)) > F(root)
