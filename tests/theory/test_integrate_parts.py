"""What integrals over order parameters are made of: gamma functions, quadrature, a mean's two dimensions, draws."""

from __future__ import annotations

import itertools
import math
from functools import partial

import numpy as np
import pytest
from scipy import integrate, special, stats

import finitewidth as fw
from finitewidth.theory import integrate as module
from finitewidth.theory.integrate import integrate_log_density, log_scale_density
from finitewidth.theory.saddle import hessian
from finitewidth.theory.scaled import ScaledKernel
from moments import relu_moments

# --- gamma functions --------------------------------------------------------------------------------------------------


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


# --- one scalar -------------------------------------------------------------------------------------------------------


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


# --- importance sampling ----------------------------------------------------------------------------------------------


def test_what_draws_are_worth(make_data, test_set, dense, monkeypatch):
    """Effective number, error of the log evidence, weighted averages: from the weights, drawn here again."""
    train, network = make_data(5), fw.FullyConnected(widths=(9, 30), activation="erf")
    theory = fw.theory_of(network, 0.1, method="integrate")
    solution = fw.solve(theory, train)
    inner = fw.theory_of(network, 0.1)
    centre = np.log(inner.solve(train).order_parameters)
    values, vectors = np.linalg.eigh(hessian(partial(inner.action, train), centre, 1e-4))
    draws, log_proposal = module._student_draws(centre, vectors / np.sqrt(np.maximum(values, 0.45)), 0)
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
