"""Linear networks with one output: ``method="integrate"`` against the exact posterior, found twice.

First route: importance sampling over the prior of the hidden weights, readout integrated (THEORY.md section 7):
nothing is shared with the package, and the standard error is stated. Second: quadrature over the chi-squares, SciPy's
adaptive one or a plain grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import logsumexp

import finitewidth as fw
from finitewidth.theory.integrate import IntegratedNested
from moments import relu_moments


@dataclass
class Exact:
    """Posterior means with their standard errors."""

    test_error: float
    train_error: float
    log_evidence: float
    errors: tuple[float, float, float]

    def deviations(self, solution, test):
        """Predicted minus exact, in standard errors."""
        errors = fw.predict(solution, test.x).errors(test.y)
        ours = (errors.test_error, errors.train_error, solution.log_evidence)
        return (np.array(ours) - [self.test_error, self.train_error, self.log_evidence]) / self.errors


def conditioned(K, y, y_test, T):
    """(test error, train error, log evidence) of Gaussian processes with joint covariances K (draws, P+P*, P+P*)."""
    P = len(y)
    A = K[:, :P, :P] + T * np.eye(P)
    right = np.concatenate([np.broadcast_to(y[:, None], (len(K), P, 1)), K[:, :P]], axis=2)
    solved = np.linalg.solve(A, right)
    mean = np.einsum("npi,np->ni", K[:, :P], solved[..., 0])
    variance = np.einsum("nii->ni", K) - np.einsum("npi,npi->ni", K[:, :P], solved[..., 1:])
    square = (np.concatenate([y, y_test]) - mean) ** 2 + variance
    log_evidence = -0.5 * (np.linalg.slogdet(A)[1] + np.einsum("p,np->n", y, solved[..., 0]) + P * np.log(2 * np.pi))
    return square[:, P:].mean(1), square[:, :P].mean(1), log_evidence


def importance_sampling(draw_features, y, y_test, T, draws=40_000, batch=10_000):
    """Weight prior draws of the features (n, P+P*, N) by N(y; 0, Phi Phi^T + T)."""
    parts = []
    for _ in range(draws // batch):
        features = draw_features(batch)
        parts.append(conditioned(features @ features.transpose(0, 2, 1), y, y_test, T))
    test, train, log_weight = (np.concatenate(column) for column in zip(*parts, strict=True))
    weight = np.exp(log_weight - logsumexp(log_weight))

    def mean_and_error(values):
        mean = weight @ values
        return mean, np.sqrt(weight**2 @ (values - mean) ** 2)

    (a, a_error), (b, b_error) = mean_and_error(test), mean_and_error(train)
    relative = draws * weight
    return Exact(a, b, logsumexp(log_weight) - np.log(draws), (a_error, b_error, relative.std() / np.sqrt(draws)))


def linear_features(x, widths, precisions, rng):
    """Draws of the last hidden layer of linear networks, readout scaling included."""

    def draw(count):
        h = np.broadcast_to(x, (count, *x.shape))
        for width, precision in zip(widths, precisions, strict=False):
            weights = rng.standard_normal((count, h.shape[2], width)) / np.sqrt(precision * h.shape[2])
            h = h @ weights
        return h / np.sqrt(precisions[-1] * widths[-1])

    return draw


def data(P, N0, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((P + 3, N0))
    y = x[:, 0] + 0.3 * rng.standard_normal(P + 3)
    return fw.Dataset(x[:P], y[:P], classes=()), fw.Dataset(x[P:], y[P:], classes=())


CASES = [  # widths, precisions, P, N0
    ((5,), (1.0, 1.0), 3, 6),
    ((2,), (0.7, 1.4), 8, 3),
    ((3, 6), (1.0, 0.8, 1.2), 4, 5),
    ((6, 2), (1.0, 0.8, 1.2), 7, 2),
    ((2, 5, 3), (1.0, 1.0, 0.6, 0.9), 3, 4),
    ((4, 1, 8), (1.0, 1.0, 1.0, 1.0), 6, 2),
]


@pytest.mark.statistical
@pytest.mark.parametrize(("widths", "precisions", "P", "N0"), CASES)
def test_equals_importance_sampling(widths, precisions, P, N0):
    train, test = data(P, N0)
    features = linear_features(np.concatenate([train.x, test.x]), widths, precisions, np.random.default_rng(1))
    exact = importance_sampling(features, train.y, test.y, 0.3)
    network = fw.FullyConnected(widths=widths, activation="linear", weight_precision=precisions)
    solution = fw.solve(fw.theory_of(network, 0.3, method="integrate"), train)
    assert solution.converged
    assert np.abs(exact.deviations(solution, test)).max() < 4.0
    assert np.max(np.divide(exact.errors[:2], (exact.test_error, exact.train_error))) < 0.02  # it has power


@pytest.mark.statistical
@pytest.mark.control
@pytest.mark.parametrize(("widths", "precisions", "P", "N0"), CASES[1:5:2])
def test_negative_control_temperature_off_by_a_fifth(widths, precisions, P, N0):
    train, test = data(P, N0)
    features = linear_features(np.concatenate([train.x, test.x]), widths, precisions, np.random.default_rng(1))
    exact = importance_sampling(features, train.y, test.y, 0.3)
    network = fw.FullyConnected(widths=widths, activation="linear", weight_precision=precisions)
    solution = fw.solve(fw.theory_of(network, 1.2 * 0.3, method="integrate"), train)
    assert np.abs(exact.deviations(solution, test)).max() > 4.0


def by_quadrature(train, test, widths, precisions, T):
    """SciPy's adaptive quadrature over log s, s = chi2_N / N."""
    x = np.concatenate([train.x, test.x])
    K = x @ x.T / x.shape[1] / np.prod(precisions)

    def moments(v):
        s, (n,) = np.exp(v), widths
        test_error, train_error, log_evidence = conditioned(s * K[None], train.y, test.y, T)
        weight = stats.chi2.pdf(n * s, n) * n * s * np.exp(log_evidence[0])
        return np.array([weight, weight * test_error[0], weight * train_error[0]])

    z, a, b = integrate.quad_vec(moments, -30.0, 4.0, epsrel=1e-11, epsabs=1e-300)[0]
    return a / z, b / z, np.log(z)


@pytest.mark.parametrize(("widths", "precisions", "P", "N0"), CASES[:2])
def test_one_layer_equals_adaptive_quadrature(widths, precisions, P, N0):
    train, test = data(P, N0)
    exact = by_quadrature(train, test, widths, precisions, 0.3)
    network = fw.FullyConnected(widths=widths, activation="linear", weight_precision=precisions)
    solution = fw.solve(fw.theory_of(network, 0.3, method="integrate"), train)
    errors = fw.predict(solution, test.x).errors(test.y)
    np.testing.assert_allclose((errors.test_error, errors.train_error, solution.log_evidence), exact, rtol=1e-9)


def test_two_layers_equal_the_trapezoid_rule_over_both_chi_squares():
    widths, precisions = (6, 9), (1.0, 0.8, 1.2)
    train, test = data(3, 2)
    x = np.linspace(-9.0, 2.5, 601)  # log s; the trapezoid rule on a smooth bump is exact to rounding
    u, v = np.meshgrid(x, x, indexing="ij")

    def log_prior(n, x):
        return stats.chi2.logpdf(n * np.exp(x), n) + np.log(n) + x

    joint = np.concatenate([train.x, test.x])
    K = joint @ joint.T / 2.0 / np.prod(precisions)
    scales = np.exp(np.unique((u + v).ravel().round(9)))
    parts = [
        np.interp(np.exp((u + v).ravel()), scales, p)
        for p in conditioned(scales[:, None, None] * K, train.y, test.y, 0.3)
    ]
    weight = np.exp(log_prior(6, u) + log_prior(9, v)).ravel() * np.exp(parts[2])
    z = weight.sum() * (x[1] - x[0]) ** 2
    exact = (weight @ parts[0] / weight.sum(), weight @ parts[1] / weight.sum(), np.log(z))
    network = fw.FullyConnected(widths=widths, activation="linear", weight_precision=precisions)
    solution = fw.solve(fw.theory_of(network, 0.3, method="integrate"), train)
    errors = fw.predict(solution, test.x).errors(test.y)
    np.testing.assert_allclose((errors.test_error, errors.train_error, solution.log_evidence), exact, rtol=1e-6)


def test_order_parameters_are_posterior_means():
    """One layer: E[s | y] by SciPy's quadrature."""
    train, _ = data(8, 3)
    K = train.x @ train.x.T / 3.0

    def moment(k):
        def integrand(s):
            A = s * K + 0.3 * np.eye(8)
            likelihood = np.exp(-0.5 * (np.linalg.slogdet(A)[1] + train.y @ np.linalg.solve(A, train.y)))
            return s**k * stats.chi2.pdf(4 * s, 4) * likelihood

        return integrate.quad(integrand, 0.0, np.inf, epsabs=0.0, epsrel=1e-11)[0]

    network = fw.FullyConnected(widths=(4,), activation="linear")
    solution = fw.solve(fw.theory_of(network, 0.3, method="integrate"), train)
    assert solution.order_parameters[0] == pytest.approx(moment(1) / moment(0), rel=1e-9)
    assert solution.gradient is None
    assert len(solution.minima) == 1


# --- relu: Gaussian features with the mean and covariance of relu -----------------------------------------------------


@cache
def exact_relu(width, P):
    train, test = data(P, 3, seed=2)
    x = np.concatenate([train.x, test.x])
    mean, second = relu_moments(x, 0.8)
    values, vectors = np.linalg.eigh(second - np.outer(mean, mean))
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    rng = np.random.default_rng(3)

    def features(count):
        g = root @ rng.standard_normal((count, len(x), width))
        return (mean[:, None] + g) / np.sqrt(1.3 * width)

    return importance_sampling(features, train.y, test.y, 0.3)


@pytest.mark.statistical
@pytest.mark.parametrize(("width", "P"), [(5, 9), (1, 3), (30, 4)])
@pytest.mark.parametrize(
    ("temperature_factor", "agrees"), [(1.0, True), pytest.param(1.2, False, marks=pytest.mark.control)]
)
def test_relu_equals_gaussian_features_with_a_mean(width, P, temperature_factor, agrees):
    train, test = data(P, 3, seed=2)
    network = fw.FullyConnected(widths=(width,), activation="relu", weight_precision=(0.8, 1.3))
    solution = fw.solve(fw.theory_of(network, 0.3 * temperature_factor, method="integrate"), train)
    assert solution.converged
    assert (np.abs(exact_relu(width, P).deviations(solution, test)).max() < 4.0) == agrees


# --- the nested closure -----------------------------------------------------------------------------------------------


def test_nested_equals_a_plain_grid():
    """Two layers of erf, P = 5: all of (log Q_1, log Q_2) on a grid, dense algebra at every node."""
    train, test = data(5, 3, seed=4)
    network = fw.FullyConnected(widths=(6, 9), activation="erf")
    x = np.linspace(-4.0, 2.2, 45)
    joint = np.concatenate([train.x, test.x])
    K0 = joint @ joint.T / 3.0

    def erf_kernel(K):
        s = 1.0 + 2.0 * np.diag(K)
        return 2.0 / np.pi * np.arcsin(2.0 * K / np.sqrt(np.outer(s, s)))

    first = [np.exp(u) * erf_kernel(K0) for u in x]
    kernels = np.array([np.exp(v) * erf_kernel(K) for K in first for v in x])
    test_error, train_error, log_evidence = conditioned(kernels, train.y, test.y, 0.1)
    log_prior = [stats.chi2.logpdf(n * np.exp(x), n) + np.log(n) + x for n in network.widths]
    log_weight = np.add.outer(*log_prior).ravel() + log_evidence
    weight = np.exp(log_weight - logsumexp(log_weight))
    exact = logsumexp(log_weight) + 2.0 * np.log(x[1] - x[0])
    q = [weight @ np.exp(np.add.outer(x, 0.0 * x)).ravel(), weight @ np.exp(np.add.outer(0.0 * x, x)).ravel()]

    solution = fw.solve(fw.theory_of(network, 0.1, method="integrate"), train)
    assert isinstance(solution.theory, IntegratedNested)
    assert solution.converged
    error = float(solution.message.split("+-")[1].split()[0])
    assert abs(solution.log_evidence - exact) < 4.0 * error
    assert error < 0.1
    errors = fw.predict(solution, test.x).errors(test.y)
    assert errors.test_error == pytest.approx(weight @ test_error, rel=4.0 * error)
    assert errors.train_error == pytest.approx(weight @ train_error, rel=4.0 * error)
    np.testing.assert_allclose(solution.order_parameters, q, rtol=4.0 * error)


# --- how fast the saddle becomes exact -------------------------------------------------------------------------------


@pytest.mark.parametrize("widths", [(1,), (1, 2), (2, 1, 1)])
def test_the_saddle_is_off_by_one_over_n(widths):
    """Fixed data, wider and wider layers; the exact values are integrated. The slope of log error in log N is -1."""
    train, test = data(12, 6, seed=5)
    sizes, relative = np.array([40, 80, 160, 320, 640]), []
    for size in sizes:
        network = fw.FullyConnected(widths=tuple(size * w for w in widths), activation="linear")
        exact, saddle = (
            fw.predict(fw.solve(fw.theory_of(network, 0.2, method=method), train), test.x).errors(test.y).test_error
            for method in ("integrate", "saddle")
        )
        relative.append(abs(saddle / exact - 1.0))
    assert np.polyfit(np.log(sizes), np.log(relative), 1)[0] == pytest.approx(-1.0, abs=0.15)
