"""Parts of the search for saddles: bounds that are reached, certificates, Newton's last steps, joined descents."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize

from finitewidth.linalg import Spectrum
from finitewidth.theory.action import SpectralEnergy
from finitewidth.theory.saddle import (
    LogCholesky,
    Minimum,
    _polish,
    local_minima,
    matrix_rate,
    scale_minima,
    scale_of_shift,
    shift_of_scale,
)
from finitewidth.theory.solution import check_convergence


def energy_of(values, targets):
    values, targets = np.asarray(values, float), np.asarray(targets, float)
    order = np.argsort(values)
    return SpectralEnergy.of(Spectrum(values[order], np.eye(len(values))), targets[order])


def dense_action(energy, temperature, widths, shift, q):
    """F(Q) of D outputs that share their scalars, from sums written out."""
    n, q = np.asarray(widths, float), np.asarray(q, float)
    targets = energy.rotated.reshape(energy.size, -1)
    shifted = np.prod(q) * np.exp(shift) * energy.spectrum.values + temperature
    rate = (n * (q - np.log(q) - 1.0)).sum()
    fit = np.log(shifted).sum() + len(shifted) * np.log(2 * np.pi)
    return 0.5 * (targets.shape[1] * (rate + fit) + ((targets**2).sum(1) / shifted).sum())


def minima_of(energy, temperature, widths, shift=0.0):
    return scale_minima(energy, temperature, widths, shift)


# --- scalars ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("outputs", [1, 2])
def test_every_minimum_is_one_of_the_dense_action(seed, outputs):
    """Its value, at its Q; no layer's Q can be moved, alone, to something lower."""
    r = np.random.default_rng(seed)
    count = int(r.integers(1, 30))
    targets = 10 ** r.uniform(-2, 1.5, (count, outputs))
    energy = energy_of(10 ** r.uniform(-3, 1, count), targets[:, 0] if outputs == 1 else targets)
    widths, T, shift = [int(n) for n in 10 ** r.uniform(0, 2, r.integers(1, 4))], 10 ** r.uniform(-4, 0), 0.7
    found = minima_of(energy, T, widths, shift)
    assert found
    for minimum in found:
        q = minimum.order_parameters
        assert q.shape == (len(widths),)
        value = dense_action(energy, T, widths, shift, q)
        assert minimum.action == pytest.approx(value, rel=1e-10, abs=1e-10)
        for layer in range(len(widths)):
            for step in (-1e-2, 1e-2):
                assert dense_action(energy, T, widths, shift, q * np.exp(step * np.eye(len(q))[layer])) > value
        np.testing.assert_allclose(np.array(widths) * (q - 1.0), widths[0] * (q[0] - 1.0), rtol=1e-9, atol=1e-9)
        assert minimum.gradient_norm <= 1e-10 * max(1.0, abs(value))


@pytest.mark.parametrize("pull", [0.5, 2.5, 10.0])
def test_more_points_than_neurons_and_a_temperature_above_their_kernel(pull):
    """No targets, Tr K / T = pull: N (Q - 1) = -Q pull / (1 + Q pull / P), a quadratic equation in Q."""
    size, n, k = 30, 10, 2.0
    T = size * k / pull
    (minimum,) = minima_of(energy_of(np.full(size, k), np.zeros(size)), T, [n])
    share = pull / size
    b = 1.0 - share + pull / n  # share Q^2 + b Q - 1 = 0
    assert minimum.order_parameters[0] == pytest.approx(2.0 / (b + math.sqrt(b * b + 4.0 * share)), rel=1e-10)


@pytest.mark.parametrize("size", [2, 30])
@pytest.mark.parametrize("shift", [0.0, 0.25])
def test_without_a_kernel_there_is_nothing_to_balance(size, shift):
    """The slope is zero exactly on the lattice, at Q = 1: one minimum, not none and not two."""
    energy = energy_of(np.zeros(size), np.ones(size))
    (minimum,) = minima_of(energy, 0.5, [7], shift)
    assert minimum.order_parameters[0] == pytest.approx(1.0, abs=1e-12)
    assert minimum.action == pytest.approx(float(energy.energy(1.0, 0.5)), rel=1e-12)


class Stuck(SpectralEnergy):
    """A drive so stiff, as it says, that Newton does not move."""

    def data_term_slope(self, scale, temperature):
        return -math.inf


@pytest.mark.parametrize("c", [3.0, -4.0, -9.6])
@pytest.mark.parametrize("outputs", [1, 2])
def test_the_gradient_that_is_left_is_the_actions(c, outputs):
    """Per prior deviation sqrt(2/N) of log Q, of the narrowest layer, wherever the search was left."""
    widths, T, shift = np.array([30, 10]), 0.2, 0.4
    y = np.random.default_rng(0).standard_normal((4, outputs))
    energy = Stuck.of(Spectrum(np.array([0.1, 0.5, 1.0, 2.0]), np.eye(4)), y[:, 0] if outputs == 1 else y)
    found = _polish(energy, T, list(widths), shift, c)
    np.testing.assert_allclose(found.order_parameters, 1.0 + c / widths, rtol=1e-12)
    assert found.action == pytest.approx(dense_action(energy, T, widths, shift, 1.0 + c / widths), rel=1e-11)
    ends = [dense_action(energy, T, widths, shift, (1.0 + c / widths) * np.exp([0.0, step])) for step in (1e-5, -1e-5)]
    assert found.gradient_norm == pytest.approx(abs(ends[0] - ends[1]) / 2e-5 * math.sqrt(2 / 10), rel=1e-6)


@pytest.mark.parametrize("widths", [(3, 40), (1, 10**12), (2, 30, 500), (4, 4)])
def test_surplus_to_machine_precision(widths):
    """Against a bracketing root-finder in log(narrowest + c), where it does not cancel."""
    n = np.array(widths, float)
    for x in (-12.0, -1.0, -1e-6, 1e-9, 0.3, 25.0):
        exact = optimize.brentq(
            lambda v, x=x: float(np.log((n - n.min() + np.exp(v)) / n).sum()) - x, -60.0, 60.0, xtol=1e-15, rtol=1e-15
        )
        c = float(shift_of_scale(x, widths))
        assert n.min() + c == pytest.approx(math.exp(exact), rel=1e-9)
        assert c == pytest.approx(math.exp(exact) - n.min(), rel=1e-12, abs=1e-14 * n.min())
        assert scale_of_shift(c, widths) == pytest.approx(x, rel=1e-9)
    assert shift_of_scale(0.0, widths) == 0.0
    assert shift_of_scale(np.zeros((2, 3)), widths).shape == (2, 3)


asked: list[np.ndarray] = []


# --- several parameters -----------------------------------------------------------------------------------------------


def bowls(*centres, depth=None):
    """The lowest of several quadratic bowls."""
    depths = np.zeros(len(centres)) if depth is None else np.asarray(depth)
    centres = np.asarray(centres, float)

    def objective(v):
        values = 0.5 * ((v - centres) ** 2).sum(1) + depths
        k = int(values.argmin())
        return float(values[k]), v - centres[k]

    return objective


def test_the_lower_of_twins_is_kept_whichever_came_first():
    """Two starts that stop near one another: on a slope too weak for the tolerance, 0.2 apart."""

    def objective(v):
        return float(1e-3 * v[0]), np.array([1e-3])

    for starts in ((0.0, 0.2), (0.2, 0.0)):
        ((x, value, left),) = local_minima(objective, [np.array([s]) for s in starts], 1e-2)
        assert (x[0], value) == (0.0, 0.0)
        assert left == 1e-3
    apart = local_minima(objective, [np.array([2.0]), np.array([0.0])], 1e-2)
    assert [x[0] for x, *_ in apart] == [0.0, 2.0]


def test_a_descent_that_joins_an_earlier_one_is_left():
    objective, calls = bowls((0.0, 0.0), (50.0, 0.0), depth=(0.0, -1.0)), []

    def counted(v):
        calls.append(v)
        return (0.5 * float(v @ (v * [1.0, 30.0])), v * [1.0, 30.0])

    first = local_minima(counted, [np.array([3.0, 2.0])], 1e-9)
    alone = len(calls)
    calls.clear()
    both = local_minima(counted, [np.array([3.0, 2.0]), np.array([-2.0, 3.0])], 1e-9)
    assert len(first) == len(both) == 1
    assert alone < len(calls) < 2 * alone
    found = local_minima(objective, [np.array([1.0, 1.0]), np.array([49.0, 2.0]), np.array([0.5, -1.0])], 1e-9)
    assert [value for _, value, _ in found] == pytest.approx([-1.0, 0.0], abs=1e-12)
    np.testing.assert_allclose([x for x, *_ in found], [[50.0, 0.0], [0.0, 0.0]], atol=1e-8)


def test_what_is_not_finite_is_no_minimum():
    assert local_minima(lambda v: (math.inf, np.zeros_like(v)), [np.ones(2)], 1e-9) == []
    good = local_minima(
        lambda v: (math.nan if v[0] > 5 else float(v @ v), 2.0 * v), [np.full(2, 9.0), np.ones(2)], 1e-9
    )
    assert len(good) == 1


H = np.array([[3.0, 0.5, 0.0], [0.5, 2.0, -0.4], [0.0, -0.4, 5.0]])


def quadratic(v):
    return 0.5 * float(v @ H @ v) - float(v[0]), H @ v - np.eye(3)[0]


def test_newton_ends_what_rounding_of_f_stopped():
    """F = 1e10 + quadratic: line searches see nothing below 1e-6, the gradient does."""

    def objective(v):
        value, gradient = quadratic(v)
        return 1e10 + value, gradient

    ((x, _, left),) = local_minima(objective, [np.array([30.0, -20.0, 10.0])], 1e-9)
    assert left <= 1e-9
    np.testing.assert_allclose(x, np.linalg.solve(H, np.eye(3)[0]), atol=1e-9)


@pytest.mark.parametrize("size", [1, 40, 41, 90])
def test_descents_of_any_size_reach_their_tolerance(size):
    scales = np.linspace(0.5, 2.0, size)

    def objective(v):
        return 0.5 * float(v @ (scales * v)) + 1.0, scales * v

    ((x, value, left),) = local_minima(objective, [np.linspace(-3.0, 3.0, size) + 1.0], 1e-7)
    assert left <= 1e-7
    assert value == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(x, 0.0, atol=1e-6)


# --- matrices ---------------------------------------------------------------------------------------------------------


def test_coordinates_of_matrices():
    r = np.random.default_rng(0)
    half = r.standard_normal((3, 3))
    centre = half @ half.T + 0.5 * np.eye(3)
    coordinates, other = LogCholesky(centre, 6.0), LogCholesky(centre, 1.0)
    np.testing.assert_allclose(coordinates.matrix(np.zeros(6)), centre, rtol=1e-12)
    v = r.standard_normal(6)
    Q = coordinates.matrix(v)
    L = np.zeros((3, 3))
    L[[0, 1, 1, 2, 2, 2], [0, 0, 1, 0, 1, 2]] = v / 6.0
    L[[0, 1, 2], [0, 1, 2]] = np.exp(np.diagonal(L))
    root = np.linalg.cholesky(centre) @ L
    np.testing.assert_allclose(Q, root @ root.T, rtol=1e-12)
    np.testing.assert_allclose(coordinates.coordinates_of(Q), v, atol=1e-10)
    np.testing.assert_allclose(other.coordinates_of(Q), v / 6.0, atol=1e-11)
    kept = v.copy()
    W = r.standard_normal((3, 3))
    W, direction = W + W.T, r.standard_normal(6)
    ends = [np.vdot(W, coordinates.matrix(v + sign * 1e-5 * direction)) for sign in (1, -1)]
    assert coordinates.pullback(v, W) @ direction == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-8)
    np.testing.assert_array_equal(v, kept)


@pytest.mark.parametrize("width", [7.0, 1e12])
def test_the_rate_of_a_matrix(width):
    r = np.random.default_rng(0)
    half = r.standard_normal((3, 3))
    Q = half @ half.T + 0.2 * np.eye(3)
    rate, slope = matrix_rate(width, Q)
    assert rate == pytest.approx(width * (np.trace(Q) - np.linalg.slogdet(Q)[1] - 3.0), rel=1e-10)
    np.testing.assert_allclose(slope, width * (np.eye(3) - np.linalg.inv(Q)), rtol=1e-8, atol=1e-9 * width)
    tiny = 1e-7 * (half + half.T)  # the rate is quadratic in what is left of one: N tr(surplus^2) / 2
    assert matrix_rate(width, np.eye(3) + tiny)[0] == pytest.approx(0.5 * width * (tiny**2).sum(), rel=1e-5)
    wild = (np.diag([1.0, 2.0, np.inf]), np.full((3, 3), np.nan))
    for singular in (np.zeros((3, 3)), np.diag([1.0, 2.0, 0.0]), np.diag([1.0, 2.0, -1.0]), *wild):
        rate, slope = matrix_rate(width, singular)
        assert rate == math.inf
        np.testing.assert_array_equal(slope, np.zeros((3, 3)))


# --- certificates -----------------------------------------------------------------------------------------------------


def at(action, gradient):
    return Minimum(np.ones(1), action, gradient)


@pytest.mark.parametrize(
    ("action", "gradient", "values", "converged"),
    [
        (3.0, 1e-7, 1, True),
        (3.0, 1e-5, 1, False),
        (3.0, 1e-5, 20, True),
        (3.0, 1e-4, 20, False),
        (-1e9, 5e-5, 20, True),  # rounding of F
        (1e9, 5e-5, 20, True),
        (-1e9, 1e-3, 20, False),
        (math.nan, 0.0, 1, False),
        (math.inf, 0.0, 1, False),
    ],
)
def test_what_counts_as_converged(action, gradient, values, converged):
    found, message = check_convergence([at(action, gradient)], values)
    assert found is converged
    assert (message == "") is converged
    if not converged:
        finite = f"gradient {gradient:.1e} nats is above the tolerance"
        assert (finite if math.isfinite(action) else "the action is not finite") in message
        assert "rescale the data" in message


def test_a_certificate_counts_the_minima_and_says_the_gap():
    assert check_convergence([at(2.0, 0.0), at(3.25, 0.0), at(9.0, 0.0)], 5) == (
        True,
        "3 minima; the next is 1.25 nats above the best (metastability)",
    )
