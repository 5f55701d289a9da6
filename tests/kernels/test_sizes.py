"""Kernels of small and large inputs: sizes 1e-6 to 1e9, equal points and nearly equal ones."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad

import finitewidth as fw
from finitewidth import kernels
from finitewidth.checks.exceptions import InputError

SIZES = [1e-6, 1e-2, 1.0, 30.0, 1e3, 1e6, 1e9]


def erf_diagonal(c):
    """E[erf^2] and E[erf'^2] (Williams 1997 at u = v), without a difference."""
    root = np.sqrt(1.0 + 4.0 * c)
    return 2.0 / math.pi * np.arctan2(2.0 * c, root), 4.0 / math.pi / root


def mean(function, c):
    """E[function(z)] for an even function that is constant beyond 40."""
    s = math.sqrt(c)
    breaks = sorted({0.0, *(p for p in (0.1 * s, s, 1.0, 5.0) if p < min(40.0, 12.0 * s)), min(40.0, 12.0 * s)})
    density = lambda z: math.exp(-0.5 * (z / s) ** 2) / (s * math.sqrt(2.0 * math.pi))  # noqa: E731
    inside = sum(
        quad(lambda z: function(z) * density(z), a, b, epsabs=0.0, epsrel=1e-13)[0] for a, b in pairwise(breaks)
    )
    return 2.0 * inside + function(40.0) * math.erfc(breaks[-1] / s / math.sqrt(2.0))


def tanh_diagonal(c):
    value = np.array([mean(lambda z: math.tanh(z) ** 2, v) for v in c])
    return value, np.array([mean(lambda z: math.cosh(min(abs(z), 300.0)) ** -4, v) for v in c])


def sigmoid_diagonal(c):
    """sigmoid = 1/2 + tanh(x/2)/2."""
    value, slope = tanh_diagonal(0.25 * c)
    return 0.25 + 0.25 * value, slope / 16.0


DIAGONALS = {"erf": erf_diagonal, "tanh": tanh_diagonal, "sigmoid": sigmoid_diagonal}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("activation", DIAGONALS)
def test_diagonal_of_both_kernels(activation, size):
    """Theta(x, x) = E[phi^2] + c E[phi'^2]. It was 26 % off for tanh of size 100, and refused for erf of size 1e8."""
    x = size * np.random.default_rng(0).standard_normal((3, 5))
    c = (x**2).mean(1)
    value, slope = DIAGONALS[activation](c)
    network = fw.FullyConnected(widths=(5,), activation=activation)
    stack = kernels.from_layers(network)
    both = stack.both(x, parameters="weights")
    np.testing.assert_allclose(np.diag(both.nngp), value, rtol=1e-12)
    for own in (np.diag(both.ntk), stack.diagonal(x, "weights").ntk, stack.diagonal(x).ntk):
        np.testing.assert_allclose(own, value + c * slope, rtol=1e-12)


@pytest.mark.parametrize("kind", [fw.Convolutional, fw.LocallyConnected])
@pytest.mark.parametrize("activation", DIAGONALS)
def test_diagonal_of_local_networks(kind, activation):
    network = kind(5, patch=2, stride=2, activation=activation)
    x = 1e4 * np.random.default_rng(1).standard_normal((3, 4, 4))
    x[0, :2, :2] = 0.0  # an empty patch
    c = np.stack([(x[:, i : i + 2, j : j + 2] ** 2).mean((1, 2)) for i in (0, 2) for j in (0, 2)])
    safe = np.maximum(c, 1e-300)
    value, slope = (part.reshape(c.shape) for part in DIAGONALS[activation](safe.ravel()))
    both = kernels.from_layers(network).both(x, parameters="weights")
    np.testing.assert_allclose(np.diag(both.nngp), value.mean(0), rtol=1e-11)
    np.testing.assert_allclose(np.diag(both.ntk), (value + c * slope).mean(0), rtol=1e-11)


@pytest.mark.parametrize("size", [1.0, 1e4, 1e8])
@pytest.mark.parametrize("activation", ["erf", "relu", "tanh", "gelu"])
def test_equal_points_have_equal_kernels(activation, size):
    """A product of matrices sums in another order than the diagonal; at size 1e8 that was all of the kernel."""
    x = size * np.random.default_rng(2).standard_normal((40, 784))
    x[20:] = x[:20]
    for widths in ((5,), (5, 5)):
        network = fw.FullyConnected(widths=widths, activation=activation)
        theta = kernels.ntk(network, x)
        np.testing.assert_allclose(np.diag(theta[:20, 20:]), np.diag(theta)[:20], rtol=1e-12)


@pytest.mark.parametrize(("size", "angle"), [(1.0, 1e-5), (30.0, 1e-3), (1e4, 1e-4), (1e6, 1e-3), (1e7, 1e-6)])
def test_nearly_equal_points_lose_what_rounding_of_products_takes(size, angle):
    """Against rational arithmetic; the bound is that of docs/infinite_width.md."""
    rng = np.random.default_rng(3)
    for _ in range(5):
        x = size * rng.standard_normal(50)
        x = np.stack([x, x + angle * size * rng.standard_normal(50)])
        a, b, c = (sum(Fraction(u) * Fraction(v) for u, v in zip(x[i], x[j], strict=True)) / 50 for i, j in _PARTS)
        root = math.sqrt(1 + 2 * a + 2 * b + 4 * (a * b - c * c))
        right = 2.0 / math.pi * math.atan2(2.0 * c, root) + float(c) * 4.0 / math.pi / root
        bound = 1e-15 * size**2 / (1.0 + (size * angle) ** 2) + 1e-14
        assert kernels.ntk(fw.FullyConnected(widths=(5,)), x)[0, 1] == pytest.approx(right, rel=bound)


_PARTS = ((0, 0), (1, 1), (0, 1))


def test_gradient_of_the_kernel_in_the_precisions():
    """One point, and the same point twice: d K / d log lambda_0 = -c d kappa / d c."""
    network = fw.FullyConnected(widths=(5,))
    for size in (1.0, 1e3, 1e6):
        x = size * np.random.default_rng(4).standard_normal((1, 20))
        c = float((x**2).mean())
        right = -c * 4.0 / math.pi / ((1.0 + 2.0 * c) * math.sqrt(1.0 + 4.0 * c))
        assert kernels.nngp_pullback(network, x, np.ones((1, 1)))[0] == pytest.approx(right, rel=1e-12)
        twice = kernels.nngp_pullback(network, np.concatenate([x, x]), np.ones((2, 2)))[0]
        assert twice == pytest.approx(
            4.0 * right, rel=1e-15 * c + 1e-12
        )  # two terms of size c cancel beside the diagonal


def test_a_function_of_ones_own_is_refused_where_its_series_ends():
    network = fw.FullyConnected(widths=(5,), activation=lambda x: x / (1.0 + x * x) ** 0.5)
    x = np.random.default_rng(5).standard_normal((4, 5))
    assert np.isfinite(kernels.ntk(network, x)).all()
    with pytest.raises(InputError, match="standardise the inputs"):
        kernels.ntk(network, 1000.0 * x)


@pytest.mark.statistical
def test_finite_networks_on_large_inputs():
    """The infinite NTK of one hidden layer is the mean of finite ones: size 100, where tanh was 26 % off."""
    pytest.importorskip("jax")
    network = fw.FullyConnected(widths=(6000,), activation="tanh")
    x = 100.0 * np.random.default_rng(6).standard_normal((3, 5))
    drawn = kernels.empirical(network.init, network.apply, x, n_samples=200, seed=1)
    right = kernels.ntk(network, x)
    assert (np.abs(drawn.ntk - right) < 5.0 * drawn.ntk_se).all()
    assert np.abs(np.diag(drawn.ntk) - 0.74 * np.diag(right)).min() > 5.0 * np.diag(drawn.ntk_se).max()
