"""What integrals over order parameters are made of: gamma functions, quadrature, a mean's two dimensions, draws."""

from __future__ import annotations

import itertools
import math
from decimal import Decimal, getcontext

import numpy as np
import pytest
from scipy import integrate, special, stats

import finitewidth as fw
from finitewidth.theory import integrate as module
from finitewidth.theory.integrate import Integrated, integrate_log_density, log_scale_density
from finitewidth.theory.nested import Nested
from finitewidth.theory.scaled import KernelSpectrum, ScaledKernel
from moments import relu_moments

# --- gamma functions --------------------------------------------------------------------------------------------------


def exact_stirling(z):
    """log (z-1)! - (z - 1/2) log z + z - log(2 pi)/2 in 50 digits."""
    getcontext().prec = 50
    pi = Decimal("3.14159265358979323846264338327950288419716939937510")
    factorial = Decimal(math.factorial(z - 1)).ln()
    return float(factorial - (Decimal(z) - Decimal("0.5")) * Decimal(z).ln() + z - (2 * pi).ln() / 2)


@pytest.mark.parametrize("z", [30, 31, 45, 200])
def test_stirlings_series(z):
    assert module._stirling(float(z)) == pytest.approx(exact_stirling(z), abs=1e-16)
    assert module._log_gamma_norm(float(z)) == pytest.approx(
        0.5 * math.log(z / (2 * math.pi)) - exact_stirling(z), rel=1e-15
    )


@pytest.mark.parametrize("a", [0.5, 1.0, 7.5, 29.5])
def test_the_norm_of_a_narrow_layer(a):
    """a^a e^-a / Gamma(a), from the integral of its density over log s."""
    total = integrate.quad(lambda x: math.exp(-a * (math.expm1(x) - x)), -80.0, 6.0, epsabs=0.0, limit=400)[0]
    assert module._log_gamma_norm(a) == pytest.approx(-math.log(total), rel=1e-9, abs=1e-10)


@pytest.mark.parametrize("a", [0.5, 3.0, 29.5, 30.0, 41.5, 1e3, 1e12])
def test_growth_by_whole_steps_is_a_product(a):
    """Gamma(a + k) / (Gamma(a) a^k) = prod_j (1 + j/a), up and down."""
    for k in (1, 2, 13, 40):
        up = float(np.log1p(np.arange(k) / a).sum())
        assert module._log_gamma_growth(a, np.array([float(k)]))[0] == pytest.approx(up, rel=1e-11, abs=1e-12)
        if a > k:
            down = -float(np.log1p(-np.arange(1, k + 1) / a).sum())
            assert module._log_gamma_growth(a, np.array([-float(k)]))[0] == pytest.approx(down, rel=1e-11, abs=1e-12)
    if a > 0.5:
        half = float(special.poch(a - 0.5, 0.5)) if a < 1e6 else math.sqrt(a)
        assert module._log_gamma_half_ratio(a) == pytest.approx(math.log(half), rel=1e-9)


def test_gamma_along_a_vertical_line():
    """Both ways at once: bases below and above 30, near and far; then a base of 1e12, where a Gaussian is exact."""
    b = np.array([[0.3], [5.0], [29.9], [30.0], [77.0], [500.0]])
    t = np.array([0.0, 0.1, 1.0, 9.0, 80.0]) * np.sqrt(b)
    exact = special.loggamma(b + 1j * t) - special.gammaln(b) - 1j * t * np.log(b)
    found = module._log_gamma_ratio(b, t)
    np.testing.assert_allclose(found.real, exact.real, rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(found.imag, exact.imag, rtol=1e-10, atol=1e-10)
    wide = module._log_gamma_ratio(np.array([[1e12]]), np.array([[1e6]]))
    assert wide[0, 0] == pytest.approx(-0.5, abs=1e-5)


@pytest.mark.parametrize("widths", [(1, 1), (3, 200), (7, 7, 7), (1, 10**8)])
def test_the_saddle_of_mellins_integrand(widths):
    a, x = 0.5 * np.array(widths, float), np.array([-300.0, -60.0, -30.0, -18.0, -2.0, -0.3, 0.0, 0.2, 4.0])
    theta = module._mellin_saddle(x, widths, a)
    found = (special.digamma(a + theta[:, None]) - np.log(a)).sum(1)
    np.testing.assert_allclose(found, x, rtol=1e-6, atol=1e-7)
    assert (theta > -a.min()).all()


@pytest.mark.parametrize("widths", [(2,), (30, 61), (5, 3, 40)])
def test_far_out_the_density_falls_as_it_must(widths):
    """To the left as e^{N x/2} of the narrowest layer; E[s^k] of every k by the gamma function, far to the right."""
    x = np.array([-40.0, -40.5])
    narrowest = 0.5 * min(widths)
    change = log_scale_density(x, widths)
    assert (change[0] - change[1]) / 0.5 == pytest.approx(narrowest, rel=0.05 if len(widths) > 1 else 1e-9)
    a = 0.5 * np.array(widths, float)
    for k in (-0.4 * a.min(), 3.0, 8.0):
        log_moment = (special.gammaln(a + k) - special.gammaln(a) - k * np.log(a)).sum()
        nodes = integrate_log_density(
            lambda x, k=k, m=log_moment: log_scale_density(x, widths) + k * x - m, [(0.0, 1.0)]
        )
        assert nodes.log_integral == pytest.approx(0.0, abs=1e-9)


# --- quadrature -------------------------------------------------------------------------------------------------------


def watched(log_density):
    sizes = []

    def function(x):
        sizes.append(x.copy())
        return log_density(x)

    return function, sizes


def test_nodes_double_until_the_integral_stands_still():
    function, asked = watched(lambda x: -0.5 * x**2 + 0.3 * np.sin(20.0 * x))
    nodes = integrate_log_density(function, [(0.0, 1.0)])
    grids = [x for x in asked if len(x) >= 129]
    assert [len(x) for x in grids] == [128 * 2**k + 1 for k in range(len(grids))]
    assert len(grids) > 2
    for coarse, fine in itertools.pairwise(grids):
        np.testing.assert_allclose(fine[::2], coarse, rtol=1e-13, atol=1e-13)
    exact = integrate.quad(
        lambda x: math.exp(-0.5 * x * x + 0.3 * math.sin(20 * x)), -10, 10, epsabs=1e-13, epsrel=1e-13, limit=300
    )
    assert nodes.settled
    assert nodes.log_integral == pytest.approx(math.log(exact[0]), abs=1e-11)
    assert nodes.weights.sum() == pytest.approx(1.0, abs=1e-13)
    integrals = [math.log(np.exp(-0.5 * x**2 + 0.3 * np.sin(20.0 * x)).sum() * (x[1] - x[0])) for x in grids]
    changes = np.abs(np.diff(integrals))
    assert changes[-1] <= 1e-11
    assert (changes[:-1] > 1e-11).all()  # no earlier, no later


def test_the_integral_stands_still_relatively_where_it_is_large():
    """A kink converges slowly: at 1e8 nats the change that ends it is 1e-11 of them, 1e-3; at 0 it does not end."""
    sizes = []
    for height in (0.0, 1e8, -1e8):
        function, asked = watched(lambda x, h=height: h - np.abs(x - 0.1))
        nodes = integrate_log_density(function, [(0.0, 1.0)])
        assert nodes.settled is (height != 0.0)
        sizes.append(len(asked[-1]))
        assert nodes.log_integral - height == pytest.approx(math.log(2.0), abs=2e-3)
    assert sizes[1] == sizes[2] < 0.3 * sizes[0]


def test_what_does_not_settle_says_so(unchangeable):
    unchangeable(module)
    steps, asked = watched(lambda x: np.where(np.abs(x) < 1.0 / 3.0, 0.0, -1e3 * np.abs(x)))
    nodes = integrate_log_density(steps, [(0.0, 0.1)])
    assert not nodes.settled
    assert nodes.log_integral == pytest.approx(math.log(2.0 / 3.0), abs=1e-3)
    assert 8192 < len(asked[-1]) <= 2 * 8192 + 1
    for height, settled in ((0.99e10, True), (1.01e10, False), (-1.01e10, False)):
        assert integrate_log_density(lambda x, h=height: h - 0.5 * x**2, [(0.0, 1.0)]).settled is settled


@pytest.mark.parametrize("case", ["narrow", "infinite", "nan"])
def test_what_has_no_integral_in_doubles(case):
    def log_density(x):
        values = -0.5 * ((x - 1e9) / 1e-12) ** 2 if case == "narrow" else -0.5 * (x - 1e9) ** 2
        return values if case == "narrow" else np.full_like(x, float(case.replace("infinite", "inf")))

    nodes = integrate_log_density(log_density, [(1e9, 1e-12 if case == "narrow" else 1.0)])
    assert (nodes.settled, nodes.weights.tolist(), len(nodes.x)) == (False, [1.0], 1)
    assert nodes.x[0] == pytest.approx(1e9, rel=1e-6)
    assert math.isnan(nodes.log_integral)


@pytest.mark.parametrize("width", [0.05, 1.0, 4.0])
def test_the_window_holds_what_counts_and_little_more(width):
    """A Gaussian is e^-42 of its maximum 9.17 deviations out, whatever it was thought to be wide."""
    low, high, top = module._window(lambda x: 7.0 - 0.5 * (x - 1.0) ** 2, [(1.3, width)])
    reach = math.sqrt(2.0 * 42.0)
    assert -14.0 * max(width, 1.0) < low - 1.0 < -reach
    assert reach < high - 1.0 < 14.0 * max(width, 1.0)
    assert top == pytest.approx(7.0, abs=0.7)


def test_the_window_follows_the_highest_point_it_meets():
    """The maximum is 30 nats above where it was told to start: the cut is below the maximum."""
    low, high, top = module._window(lambda x: -0.5 * x**2, [(-7.8, 1.0)])
    assert top == pytest.approx(0.0, abs=1.0)
    assert low < -9.16
    assert 9.16 < high < 20.0


@pytest.mark.parametrize(("depth", "there"), [(80.0, True), (88.0, False)])
def test_bumps_84_nats_down_are_left_out(depth, there):
    def log_density(x):
        return np.logaddexp(-0.5 * x**2, -depth - 0.5 * (x - 60.0) ** 2)

    low, high, _ = module._window(log_density, [(0.0, 1.0), (60.0, 1.0)])
    assert (high > 60.0) is there
    assert low < -9.0
    low, high, _ = module._window(lambda x: log_density(-x), [(-60.0, 1.0), (0.0, 1.0)])
    assert (low < -60.0) is there


# --- one scalar -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("widths", [(9,), (6, 30)])
def test_bumps_are_as_wide_as_their_curvature_says(widths, make_data, dense):
    """Along the line of equal surplus: 1/sqrt(F'') in log s by differences of the dense action."""
    data = make_data(3)
    train = fw.Dataset(data.x, 3.0 * data.y, classes=())
    network = fw.FullyConnected(widths=widths, activation="linear", weight_precision=(1.0, *[1.3] * len(widths)))
    inner = ScaledKernel(network, 0.01)
    shared = KernelSpectrum.of(network, train)
    saddle = inner.solve(train, shared)
    ((centre, width),) = module._bumps(saddle, inner, shared.energy)
    q = saddle.order_parameters
    assert centre == pytest.approx(float(np.log(q).sum()), rel=1e-12)
    c, n = widths[0] * (q[0] - 1.0), np.array(widths, float)

    def at(surplus):
        scales = 1.0 + surplus / n
        return float(np.log(scales).sum()), dense.action(network, train, 0.01, scales, "product")

    h = 1e-2
    (x0, F0), (x1, F1), (x2, F2) = (at(c + step) for step in (-h, 0.0, h))
    curvature = 2.0 * ((F2 - F1) / (x2 - x1) - (F1 - F0) / (x1 - x0)) / (x2 - x0)
    assert width == pytest.approx(1.0 / math.sqrt(curvature), rel=1e-3)


def test_no_bump_is_wider_than_the_prior_and_the_points_allow(make_data):
    """Flat bottoms of the action: what is left is 1/sum(2/N) for the prior and a quarter a point."""
    train, network = make_data(8), fw.FullyConnected(widths=(3, 7), activation="linear")
    inner = ScaledKernel(network, 1e-9)  # without targets, every point pulls the scale down by one, whatever it is
    silent = fw.Dataset(train.x, 0.0 * train.y, classes=())
    shared = KernelSpectrum.of(network, silent)
    ((_, width),) = module._bumps(inner.solve(silent, shared), inner, shared.energy)
    assert width <= 1.0 / math.sqrt(2.0 + 1.0 / (2 / 3 + 2 / 7)) + 1e-12


def test_unsettled_and_unsolved_are_not_converged(train, monkeypatch):
    theory = fw.theory_of(fw.FullyConnected(widths=(5,)), 0.1, method="integrate")
    monkeypatch.setattr(module, "_MOST_NODES", 10)
    solution = fw.solve(theory, train)
    assert not solution.converged
    assert "has not settled" in solution.message
    assert "method='saddle'" in solution.message
    monkeypatch.undo()
    assert fw.solve(theory, train).message == ""
    solve = ScaledKernel.solve
    monkeypatch.setattr(
        ScaledKernel, "solve", lambda *a, **k: module.replace(solve(*a, **k), converged=False, message="why")
    )
    solution = fw.solve(theory, train)
    assert (solution.converged, solution.message, solution.theory, solution.gradient) == (False, "why", theory, None)


@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_nothing_to_integrate_at_infinite_width(activation, train):
    inner = ScaledKernel(fw.FullyConnected(widths=(5,), activation=activation), 0.1, infinite=True)
    theory = Integrated(inner)
    solution = theory.solve(train)
    assert solution.log_evidence == inner.solve(train).log_evidence
    assert (solution.theory, solution.order_parameters.size) == (theory, 0)
    assert (theory.temperature, theory.closure, theory.method, theory.network) == (
        *(0.1, "product", "integrate"),
        inner.network,
    )


# --- an activation with a mean ----------------------------------------------------------------------------------------


def on_a_grid(train, x, width, precisions, T):
    """Everything over (log q, angle) by plain sums: log evidence, E[q], mean, variance, train error."""
    mean, second = relu_moments(np.concatenate([train.x, x]), precisions[0])
    K, P = second - np.outer(mean, mean), len(train)
    m, m_x, lam = mean[:P] / math.sqrt(precisions[1]), mean[P:] / math.sqrt(precisions[1]), precisions[1]
    log_q = np.linspace(-60.0 / width - 3.0, 3.5, 700)
    q = np.exp(log_q)
    A = q[:, None, None] * K[:P, :P] / lam + T * np.eye(P)
    inverse, log_det = np.linalg.inv(A), np.linalg.slogdet(A)[1]
    if width == 1:
        sine, measure = np.array([-1.0, 1.0]), np.array([0.5, 0.5])
    else:
        node, weight = np.polynomial.legendre.leggauss(300)
        sine = np.sin(0.5 * np.pi * node)
        measure = weight * np.cos(0.5 * np.pi * node) ** (width - 2)
        measure /= measure.sum()
    u = np.sqrt(width * q)[:, None] * sine
    residual = train.y - u[..., None] * m
    solved = residual @ inverse  # (q, u, P)
    fit = np.einsum("qup,qup->qu", residual, solved) + log_det[:, None] + P * math.log(2 * math.pi)
    log_weight = stats.chi2.logpdf(width * q, width)[:, None] + (np.log(width) + log_q)[:, None] - 0.5 * fit
    weight = measure * np.exp(log_weight - log_weight.max())
    evidence = math.log(weight.sum() * (log_q[1] - log_q[0])) + log_weight.max()
    weight /= weight.sum()
    cross = q[:, None, None] * K[P:, :P] / lam
    f = u[..., None] * m_x + np.einsum("qxp,qup->qux", cross, solved)
    v = q[:, None] * np.diagonal(K[P:, P:]) / lam - np.einsum("qxp,qpr,qxr->qx", cross, inverse, cross)
    mean_f = np.einsum("qu,qux->x", weight, f)
    variance = np.einsum("qu,qux->x", weight, (f - mean_f) ** 2) + weight.sum(1) @ v
    posterior = T * P - T**2 * np.einsum("qpp->q", inverse)  # Tr[K - K A^-1 K] = T Tr[1 - T A^-1]
    train_error = (np.vdot(weight, T**2 * (solved**2).sum(2)) + weight.sum(1) @ posterior) / P
    return evidence, weight.sum(1) @ q, mean_f, variance, train_error


@pytest.mark.parametrize("width", [1, 2, 3, 9, 40])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_relu_by_plain_sums_over_both_dimensions(width, sign, make_data):
    data, test = make_data(4, 3), make_data(3, 3, 1)
    train = fw.Dataset(data.x, sign * (data.y + 1.0), classes=())
    network = fw.FullyConnected(widths=(width,), activation="relu", weight_precision=(0.8, 1.3))
    evidence, q, mean, variance, train_error = on_a_grid(train, test.x, width, (0.8, 1.3), 0.3)
    solution = fw.solve(fw.theory_of(network, 0.3, method="integrate"), train)
    found = fw.predict(solution, test.x)
    assert solution.log_evidence == pytest.approx(evidence, rel=1e-7)
    assert solution.order_parameters[0] == pytest.approx(q, rel=1e-7)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.variance, variance, rtol=1e-6)
    assert found.train_error == pytest.approx(train_error, rel=1e-7)


@pytest.mark.parametrize("width", [2, 3, 30])
def test_the_mode_over_the_angle(width, train):
    """The highest of a fine grid, and its curvature by differences, for pulls of either sign."""
    model = module.MeanModel(None, train, None, None, 1.0, width, 0.1, 1.0)
    b = np.array([-300.0, -5.0, -0.2, 0.0, 0.3, 4.0, 200.0])
    a = np.array([10.0, 3.0, 0.5, 2.0, 30.0, 8.0, 100.0])
    mode, spread = model._mode(b, a)
    angle = np.linspace(-0.5 * np.pi, 0.5 * np.pi, 20_001)[1:-1]

    def height(v, chosen=slice(None)):
        sine = np.sin(v)
        return (width - 2) * np.log(np.cos(v)) + b[chosen, None] * sine - 0.5 * a[chosen, None] * sine**2

    best = angle[height(angle[None]).argmax(1)]
    np.testing.assert_allclose(mode, best, atol=2e-4)
    inside, h = np.abs(mode) < 1.5, 1e-3
    ends = [height(mode[inside, None] + step, inside)[:, 0] for step in (-h, 0.0, h)]
    curvature = -(ends[0] - 2 * ends[1] + ends[2]) / h**2
    np.testing.assert_allclose(spread[inside], 1.0 / np.sqrt(np.maximum(curvature, 0.25)), rtol=2e-3)


# --- importance sampling ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 2, 4])
def test_draws_are_those_of_a_multivariate_t(dim):
    r = np.random.default_rng(dim)
    centre, root = r.standard_normal(dim), 0.3 * r.standard_normal((dim, dim)) + np.eye(dim)
    draws, log_density = module._student_draws(centre, root, seed=0)
    law = stats.multivariate_t(centre, root @ root.T, df=8)
    np.testing.assert_allclose(log_density, law.logpdf(draws), rtol=1e-9)
    standard = np.linalg.solve(root, (draws - centre).T)
    assert np.abs(standard.mean(1)).max() < 0.1
    np.testing.assert_allclose(standard @ standard.T / len(draws), 8.0 / 6.0 * np.eye(dim), atol=0.25)
    quantiles = np.quantile(standard, [0.1, 0.5, 0.9], axis=1)
    np.testing.assert_allclose(quantiles, np.outer(stats.t(8).ppf([0.1, 0.5, 0.9]), np.ones(dim)), atol=0.12)
    again, other = module._student_draws(centre, root, seed=0)[0], module._student_draws(centre, root, seed=1)[0]
    assert (draws == again).all()
    assert (draws != other).any()


def test_the_proposal_has_the_curvature_of_the_action(train, dense):
    network = fw.FullyConnected(widths=(9, 30), activation="erf")
    inner = Nested(network, 0.1)
    centre = np.log(inner.solve(train).order_parameters)
    root = module._laplace_root(inner, train, centre)
    h, eye = 1e-3, np.eye(2)

    def F(x):
        return dense.action(network, train, 0.1, np.exp(x), "nested")

    def mixed(a, b):
        return (F(centre + a + b) - F(centre + a - b) - F(centre - a + b) + F(centre - a - b)) / (4 * h * h)

    hessian = np.array([[mixed(h * eye[i], h * eye[j]) for j in (0, 1)] for i in (0, 1)])
    np.testing.assert_allclose(root @ root.T, np.linalg.inv(hessian), rtol=1e-3)


def test_a_proposal_where_the_action_does_not_curve_up(train):
    """Far down the action is concave: the proposal there is as wide as a twentieth of the narrowest width says."""
    network = fw.FullyConnected(widths=(9, 30), activation="linear")
    root = module._laplace_root(Nested(network, 1e-3), train, np.array([-9.0, -9.0]))
    variances = np.linalg.eigvalsh(root @ root.T)
    assert variances.max() == pytest.approx(1.0 / (0.05 * 9), rel=1e-9)


def test_the_target_of_importance_sampling(train):
    """Chi-square densities of every layer in log Q, and SciPy's normal density."""
    network, log_q = fw.FullyConnected(widths=(9, 30), activation="erf"), np.array([0.3, -0.2])
    inner = Nested(network, 0.1)
    prior = sum(
        stats.chi2.logpdf(n * math.exp(v), n) + math.log(n) + v for n, v in zip(network.widths, log_q, strict=True)
    )
    A = inner.covariance(np.exp(log_q), train.x) + 0.1 * np.eye(len(train))
    expected = prior + stats.multivariate_normal(cov=A).logpdf(train.y)
    assert module._nested_log_target(inner, train, log_q) == pytest.approx(float(expected), rel=1e-10)


def test_what_draws_are_worth(make_data, test_set, dense, monkeypatch):
    """Effective number, error of the log evidence, weighted averages: from the weights, drawn here again."""
    train, network = make_data(5), fw.FullyConnected(widths=(9, 30), activation="erf")
    theory = fw.theory_of(network, 0.1, method="integrate")
    solution = fw.solve(theory, train)
    inner = theory.theory
    centre = np.log(inner.solve(train).order_parameters)
    draws, log_proposal = module._student_draws(centre, module._laplace_root(inner, train, centre), 0)
    log_weight = np.array([module._nested_log_target(inner, train, x) for x in draws]) - log_proposal
    weight = np.exp(log_weight - log_weight.max())
    assert solution.log_evidence == pytest.approx(math.log(weight.mean()) + log_weight.max(), rel=1e-10)
    spread_error = weight.std() / weight.mean() / math.sqrt(len(draws))
    weight /= weight.sum()
    assert solution.message == f"{1 / (weight**2).sum():.0f} effective of 256 draws, log evidence +- {spread_error:.2g}"
    np.testing.assert_allclose(solution.order_parameters, weight @ np.exp(draws), rtol=1e-9)
    P, joint = len(train), np.concatenate([train.x, test_set.x])
    parts = []
    for x in draws:
        K = dense.kernel(network, joint, np.exp(x))
        A = np.linalg.inv(K[:P, :P] + 0.1 * np.eye(P))
        variance = np.diagonal(K[P:, P:] - K[P:, :P] @ A @ K[:P, P:])
        residual = 0.1 * A @ train.y  # y - K A^-1 y, and Tr[K - K A^-1 K] = T Tr[1 - T A^-1]
        error = np.mean(residual**2) + 0.1 * np.mean(1.0 - 0.1 * np.diagonal(A))
        parts.append((K[P:, :P] @ A @ train.y, variance, error))
    means, variances, errors = map(np.array, zip(*parts, strict=True))
    found = fw.predict(solution, test_set.x)
    np.testing.assert_allclose(found.mean, weight @ means, rtol=1e-4, atol=1e-5)
    spread = weight @ (variances + (means - weight @ means) ** 2)
    np.testing.assert_allclose(found.variance, spread, rtol=1e-4)
    assert found.train_error == pytest.approx(float(weight @ errors), rel=1e-4)
    assert weight.min() > 1e-6  # so that none is left out
    np.testing.assert_allclose(solution.predictor.weights, weight, rtol=1e-9)
    monkeypatch.setattr(module, "_FEWEST", 257.0)
    few = fw.solve(theory, train)
    assert not few.converged
    assert "has not settled" in few.message
    assert few.message.endswith(f"+- {spread_error:.2g}; use method='saddle'")
