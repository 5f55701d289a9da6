"""Linear convolutional and linear several-output networks, exactly: the order parameter has a Wishart prior.

For linear phi the output given the readouts is a Gaussian process with covariance K_R(Q), ``Q = lambda_1 V V^T / N``
exactly, and Q is Wishart with N degrees of freedom and scale 1/N. So posterior means and the evidence are integrals
over Q alone, done here by importance sampling: a multivariate t with eight degrees of freedom around the mode, in
log-Cholesky coordinates. Nothing of ``finitewidth.theory`` is used in the oracle, nor its kernels.

The theory is the leading order when P, the inputs and N grow together, so here P = N and N0 = 3N/2 or N: its relative
error in the test error, in Q and in the evidence a point must then fall as 1/N. ``benchmarks/saddle_vs_exact.py``
makes the table.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import optimize, stats

import finitewidth as fw

pytestmark = pytest.mark.statistical
T = 0.05
WIDTHS = (20, 40, 80)


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


class LinearConvolution:
    """N images of 1 x 3N/2 pixels, three patches of N/2; the label weighs them 1.5 : 0.8 : 0.3."""

    dim = 3

    def __init__(self, N, seed=1, tests=150):
        r, M, count = np.random.default_rng(seed), N // 2, N
        x = r.standard_normal((count + tests, 1, 3 * M))
        teacher = np.repeat([1.5, 0.8, 0.3], M) * r.standard_normal(3 * M) / np.sqrt(M)
        y = x[:, 0] @ teacher + 0.2 * r.standard_normal(count + tests)
        self.train, self.test = (
            fw.Dataset(x[part], y[part], classes=()) for part in (slice(count), slice(count, None))
        )
        patches = x.reshape(-1, 3, M).swapaxes(0, 1)
        K = np.einsum("ipm,jqm->ijpq", patches, patches, optimize=True) / M / 3  # lambda = 1, n = 3
        self.K, self.prior = K[..., :count].reshape(9, -1), np.einsum("ijpp->ijp", K[:, :, count:, count:])
        self.count, self.patch = count, (1, M)

    def network(self, N):
        return fw.Convolutional(channels=N, patch=self.patch, activation="linear")

    def both(self, Q):
        """(log likelihood, test error) of a stack of Q, by Cholesky factors."""
        cut = self.count
        K = (Q.reshape(-1, 9) @ self.K).reshape(len(Q), -1, cut)
        root = np.linalg.cholesky(K[:, :cut] + T * np.eye(cut))
        z = np.linalg.solve(root, np.broadcast_to(self.train.y[:, None], (len(Q), cut, 1)))[..., 0]
        white = np.linalg.solve(root, K[:, cut:].swapaxes(1, 2))
        log_det = 2 * np.log(np.einsum("sii->si", root)).sum(1)
        mean = np.einsum("sip,si->sp", white, z)
        variance = np.einsum("sij,ijp->sp", Q, self.prior) - (white**2).sum(1)
        log_likelihood = -0.5 * (log_det + (z**2).sum(1) + cut * np.log(2 * np.pi))
        return log_likelihood, ((self.test.y - mean) ** 2 + variance).mean(1)


class LinearOutputs:
    """N points of N inputs and three outputs, two of them correlated; covariance Q (x) x x^T / N0."""

    dim = 3

    def __init__(self, N, seed=2, tests=150):
        r, count = np.random.default_rng(seed), N
        x = r.standard_normal((count + tests, N))
        mix = np.array([[1.5, 1.0, 0.0], [0.0, 0.7, 0.0], [0.0, 0.0, 0.4]])
        y = x @ r.standard_normal((N, 3)) / np.sqrt(N) @ mix + 0.2 * r.standard_normal((count + tests, 3))
        self.train, self.test = fw.Dataset(x[:count], y[:count]), fw.Dataset(x[count:], y[count:])
        self.k, U = np.linalg.eigh(x[:count] @ x[:count].T / N)
        self.y, self.cross, self.prior = U.T @ y[:count], x[count:] @ x[:count].T / N @ U, (x[count:] ** 2).sum(1) / N

    def network(self, N):
        return fw.FullyConnected(widths=(N,), activation="linear")

    def both(self, Q):
        """(log likelihood, test error) of a stack of Q: every data mode is a Gaussian of three outputs."""
        A = self.k[:, None, None] * Q[:, None] + T * np.eye(3)  # (S, P, 3, 3)
        inverse, log_det = np.linalg.inv(A), np.linalg.slogdet(A)[1].sum(1)
        a = np.einsum("spab,pb->spa", inverse, self.y)
        log_likelihood = -0.5 * (log_det + np.einsum("spa,pa->s", a, self.y) + self.y.size * np.log(2 * np.pi))
        mean = np.einsum("tp,spa,sab->stb", self.cross, a, Q, optimize=True)
        taken = np.einsum("sab,spbc,sca->sp", Q, inverse, Q, optimize=True) @ (self.cross**2).T
        variance = np.einsum("saa->s", Q)[:, None] * self.prior - taken
        return log_likelihood, ((self.test.y - mean) ** 2).mean((1, 2)) + variance.mean(1) / 3


PROBLEMS = {"convolutional": LinearConvolution, "three outputs": LinearOutputs}


def oracle_of(problem, N, **more):
    """Exact results of a problem at width N."""

    def chunked(which, Q):
        return np.concatenate([problem.both(q)[which] for q in np.array_split(Q, max(1, len(Q) // 400))])

    return exact(lambda Q: chunked(1, Q), lambda Q: chunked(0, Q), problem.dim, N, **more)


def saddle(problem, N, method="saddle"):
    """(test error, Q, log evidence) of the theory; Q = 1 at infinite width."""
    solution = fw.solve(fw.theory_of(problem.network(N), T, method=method), problem.train)
    assert solution.converged
    error = fw.predict(solution, problem.test.x).errors(problem.test.y).test_error
    q = solution.order_parameters if method == "saddle" else np.eye(problem.dim)
    return error, q.reshape(problem.dim, problem.dim), solution.log_evidence


def differences(theory, oracle, points):
    """(relative in the test error, relative in Q, nats a point) and their standard errors."""
    error, Q, evidence = theory
    scale = np.trace(oracle.q[0]) / len(Q)
    values = (
        abs(error / oracle.test_error[0] - 1.0),
        np.abs(Q - oracle.q[0]).max() / scale,
        abs(evidence - oracle.log_evidence[0]) / points,
    )
    se = oracle.test_error[1] / oracle.test_error[0], oracle.q[1].max() / scale, oracle.log_evidence[1] / points
    return np.array(values), np.array(se)


BOUNDS = np.array([1.0, 1.5, 3.0])  # times 1/N, for the three differences


@pytest.fixture(params=PROBLEMS, ids=str, scope="module")
def rows(request):
    """[(N, problem, exact)]"""
    problems = [(N, PROBLEMS[request.param](N)) for N in WIDTHS]
    return [(N, problem, oracle_of(problem, N, draws=1600)) for N, problem in problems]


def test_the_oracle_samples_well(rows):
    for _, _, oracle in rows:
        assert oracle.effective > 1000
        assert oracle.test_error[1] < 0.01 * oracle.test_error[0]


@pytest.mark.parametrize("kind", PROBLEMS.values(), ids=PROBLEMS)
def test_the_oracle_against_draws_of_the_readouts(kind):
    """Six points: readouts from their prior, weighted by the likelihood."""
    problem, N = kind(6, tests=10), 20
    V = np.random.default_rng(5).standard_normal((40_000, 3, N))
    Q = V @ V.swapaxes(1, 2) / N
    log_likelihood, errors = problem.both(Q)
    oracle = oracle_of(problem, N)
    w = np.exp(log_likelihood - log_likelihood.max())
    evidence, se = np.log(w.mean()) + log_likelihood.max(), w.std() / w.mean() / 200
    assert abs(evidence - oracle.log_evidence[0]) < 4 * np.hypot(se, oracle.log_evidence[1])
    w /= w.sum()
    mean = w @ errors
    se = np.sqrt((w**2) @ (errors - mean) ** 2)
    assert abs(mean - oracle.test_error[0]) < 4 * np.hypot(se, oracle.test_error[1])


def test_the_saddle_is_off_by_order_one_over_n(rows):
    for N, problem, oracle in rows:
        values, se = differences(saddle(problem, N), oracle, problem.train.y.size)
        assert (values < BOUNDS / N + 4 * se).all(), (N, values * N)


def test_infinite_width_and_half_the_width_fail(rows):
    """Negative controls: Q = 1, and the theory of N/2, are outside the bounds the saddle keeps."""
    for N, problem, oracle in rows:
        for wrong in (saddle(problem, N, "infinite"), saddle(problem, N // 2)):
            values, se = differences(wrong, oracle, problem.train.y.size)
            assert values[1] > BOUNDS[1] / N + 4 * se[1]
    values, se = differences(saddle(problem, N, "infinite"), oracle, problem.train.y.size)  # the widest, all three
    assert (values > BOUNDS / N + 4 * se).all(), values * N


def test_the_solver_finds_the_minimum_of_the_same_likelihood(rows):
    """The difference is not the solver's: F from the oracle's likelihood has its minimum there."""
    N, problem, _ = rows[0]
    _, Q, evidence = saddle(problem, N)
    root, r = np.linalg.cholesky(Q), np.random.default_rng(0)

    def F(half):
        q = half @ half.T
        return 0.5 * N * (np.trace(q) - np.linalg.slogdet(q)[1] - len(q)) - problem.both(q[None])[0][0]

    assert F(root) == pytest.approx(-evidence, rel=1e-9)
    for _ in range(10):
        assert F(root @ (np.eye(3) + 0.02 * r.standard_normal((3, 3)))) > F(root)
