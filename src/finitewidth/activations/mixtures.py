"""Duals in closed form at every size: sums of erf (tanh, sigmoid) and of x erf (gelu, silu).

The logistic distribution is a normal one whose deviation is random, twice a Kolmogorov variable (Andrews and Mallows
1974; Stefanski 1991): ``sigmoid(x) = E[Phi(x / 2K)]`` and ``tanh(x) = E[erf(x / (sqrt(2) K))]``. Fourteen Gauss nodes
of log K give the duals to rounding. All weights are positive, so every Gram matrix is positive semidefinite.

With ``Delta = c11 c22 - c12^2`` of the points (``duals.sine_squared``), all that the formulas need,
``D_jk = (s_j + c11)(s_k + c22) - c12^2 = Delta + s_j c22 + s_k c11 + s_j s_k``, is a sum without cancellation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from finitewidth.activations.duals import Array, Dual, Gradient, sine_squared
from finitewidth.checks.exceptions import InputError

_LARGEST = 1e150
_NODES = 14
_GRID = (0.15, 4.4, 400)  # of K, evenly in log K: the density outside is below 1e-16


def logistic_scales() -> tuple[Array, Array]:
    """Weights w and squared scales s, (14,) each, with ``sigmoid(x) = sum_j w_j Phi(x / sqrt(s_j))``: s = 4 K^2."""
    t, step = np.linspace(math.log(_GRID[0]), math.log(_GRID[1]), _GRID[2], retstep=True)
    k = np.exp(t)
    exponent = (2.0 * np.arange(1, 21)[:, None] - 1.0) ** 2 * math.pi**2 / (8.0 * k**2)
    density = (math.sqrt(2.0 * math.pi) / k**2 * (2.0 * exponent - 1.0) * np.exp(-exponent)).sum(0)
    mass = np.maximum(density, 0.0) * k * step
    vectors = [np.sqrt(mass / mass.sum())]  # Lanczos: the Jacobi matrix of the discrete measure
    jacobi = np.zeros((_NODES, _NODES))
    for n in range(_NODES):
        basis = np.array(vectors)
        new = t * vectors[-1]
        jacobi[n, n] = new @ vectors[-1]
        for _ in range(2):
            new = new - (basis @ new) @ basis
        if n + 1 < _NODES:
            jacobi[n, n + 1] = jacobi[n + 1, n] = np.linalg.norm(new)
            vectors.append(new / jacobi[n, n + 1])
    nodes, columns = np.linalg.eigh(jacobi)
    return columns[0] ** 2, 4.0 * np.exp(2.0 * nodes)


class _Mixture(Dual):
    """Double sums over pairs of scales, for phi a sum of one function at scales ``sqrt(s_j)`` with weights ``w_j``."""

    def __init__(self, weights: Array, squares: Array) -> None:
        self.weights, self.squares = np.asarray(weights, dtype=float), np.asarray(squares, dtype=float)

    def prepare(self, c: Array) -> Array:
        c = np.asarray(c, dtype=float)
        if not c.max(initial=0.0) < _LARGEST:  # True for NaN
            raise InputError(
                f"arguments of an activation with a variance of {c.max():.3g}",
                f"variances below {_LARGEST:g}, whose products are finite",
                "rescale the inputs (standardise them) or raise the prior precisions",
            )
        return c[None]

    def _pairs(self, c11: Array, c12: Array, c22: Array) -> Iterator[tuple[float, float, float, Array, Array]]:
        """(w_j w_k, s_j, s_k, Delta, sqrt(D_jk)); the last array is the caller's to use up."""
        shape = np.broadcast_shapes(c11.shape, c12.shape, c22.shape)
        sine = sine_squared(*(np.broadcast_to(c, shape) for c in (c11, c12, c22)))
        delta = sine * c11 * c22
        for v, s in zip(self.weights, self.squares, strict=True):
            row = delta + s * c22
            for w, t in zip(self.weights, self.squares, strict=True):
                root = row + t * (c11 + s)
                yield v * w, s, t, delta, np.sqrt(root, out=root)


def _zeros(p1: Array, p2: Array, c12: Array) -> Array:
    return np.zeros(np.broadcast_shapes(p1[0].shape, c12.shape, p2[0].shape))


class ErfMixtureDual(_Mixture):
    """phi = constant + sum_j w_j erf(x / sqrt(2 s_j)).

    ``kappa = constant^2 + (2/pi) sum_jk w_j w_k arctan(c12 / sqrt(D_jk))``, erf's dual (Williams 1997) at every pair of
    scales; ``kappa' = (2/pi) sum_jk w_j w_k / sqrt(D_jk)``.
    """

    def __init__(self, weights: Array, squares: Array, constant: float = 0.0) -> None:
        super().__init__(weights, squares)
        self.constant = constant

    def kappa(self, p1: Array, p2: Array, c12: Array, out: Array | None = None) -> Array:
        return np.positive(self.kappa_and_slope(p1, p2, c12)[0], out=out)

    def kappa_and_slope(self, p1: Array, p2: Array, c12: Array) -> tuple[Array, Array]:
        value, slope = self.constant**2 + _zeros(p1, p2, c12), _zeros(p1, p2, c12)
        for w, _, _, _, root in self._pairs(p1[0], c12, p2[0]):
            value += (2.0 / math.pi) * w * np.arctan(c12 / root)
            slope += (2.0 / math.pi) * w / root
        return value, slope

    def gradient(self, p1: Array, p2: Array, c12: Array) -> Gradient:
        c11, c22 = p1[0], p2[0]
        value, d12 = self.kappa_and_slope(p1, p2, c12)
        d11, d22 = np.zeros_like(value), np.zeros_like(value)
        for w, s, t, _, root in self._pairs(c11, c12, c22):
            slope = np.divide((2.0 / math.pi) * w, root, out=root)
            d11 += slope / (s + c11)
            d22 += slope / (t + c22)
        half = -0.5 * c12
        return value, half * d11, d12, half * d22

    def diagonal(self, c: Array) -> tuple[Array, Array]:
        flat = self.prepare(c).ravel()
        value, slope = np.full_like(flat, self.constant**2), np.zeros_like(flat)
        for v, s in zip(self.weights, self.squares, strict=True):
            root = np.sqrt(s * self.squares[:, None] + (s + self.squares[:, None]) * flat)
            value += (2.0 / math.pi) * v * (self.weights @ np.arctan(flat / root))
            slope += (2.0 / math.pi) * v * s / (s + flat) * (self.weights @ (1.0 / root))  # all three derivatives
        return value.reshape(np.shape(c)), slope.reshape(np.shape(c))

    def mean(self, c: Array) -> Array:
        return np.full(np.shape(c), self.constant)


class GeluMixtureDual(_Mixture):
    """phi = x sum_j w_j Phi(x / sqrt(s_j)), Phi the normal distribution function; one term with s = 1 is gelu.

    By parity and Gaussian integration by parts, with a = s + c11, b = t + c22 and theta = pi/2 + arctan(c12 / sqrt(D)),

        2 pi kappa  = sum w w' { c12 theta + (Delta + c12^2 (s/a + t/b)) / sqrt(D) },
        2 pi kappa' = sum w w' { theta + c12 (s/a + t/b + s t/D) / sqrt(D) },
        4 pi d kappa/d c11 = sum w w' { (a + s) m - s c12^2 (2 t a + m) / D } / (a^2 sqrt(D)), m = s c22 + Delta.
    """

    def kappa(self, p1: Array, p2: Array, c12: Array, out: Array | None = None) -> Array:
        total = _zeros(p1, p2, c12)
        for w, s, t, delta, root in self._pairs(p1[0], c12, p2[0]):
            total += w * self._term(s, p1[0], c12, t, p2[0], delta, root)[0]
        return np.multiply(total, 1.0 / (2.0 * math.pi), out=out)

    def kappa_and_slope(self, p1: Array, p2: Array, c12: Array) -> tuple[Array, Array]:
        value, slope = _zeros(p1, p2, c12), _zeros(p1, p2, c12)
        for w, s, t, delta, root in self._pairs(p1[0], c12, p2[0]):
            own, angle, shares = self._term(s, p1[0], c12, t, p2[0], delta, root)
            value += w * own
            slope += w * (angle + c12 / root * (shares + s * t / root / root))
        return value / (2.0 * math.pi), slope / (2.0 * math.pi)

    @staticmethod
    def _term(
        s: float, c11: Array, c12: Array, t: float, c22: Array, delta: Array, root: Array
    ) -> tuple[Array, Array, Array]:
        """2 pi kappa of a pair of scales, theta, and s/a + t/b."""
        angle, shares = np.arctan2(root, -c12), s / (s + c11) + t / (t + c22)
        return c12 * angle + (delta + c12 * c12 * shares) / root, angle, shares

    def gradient(self, p1: Array, p2: Array, c12: Array) -> Gradient:
        c11, c22 = p1[0], p2[0]
        value, slope = self.kappa_and_slope(p1, p2, c12)
        d11, d22 = np.zeros_like(value), np.zeros_like(value)
        for w, s, t, delta, root in self._pairs(c11, c12, c22):
            d11 += w * self._own(s, c11, c12, t, c22, delta, root)
            d22 += w * self._own(t, c22, c12, s, c11, delta, root)
        return value, d11, slope, d22

    @staticmethod
    def _own(s: float, c11: Array, c12: Array, t: float, c22: Array, delta: Array, root: Array) -> Array:
        """d/d c11 of the term of a pair of scales."""
        a, m = s + c11, s * c22 + delta
        return ((a + s) / a * (m / a) - s * (c12 / a / root) ** 2 * (2.0 * t * a + m)) / (4.0 * math.pi * root)

    def diagonal(self, c: Array) -> tuple[Array, Array]:
        c = np.asarray(c, dtype=float)
        value, d11, d12, d22 = self.gradient(c[None], c[None], c)
        return value, d11 + d12 + d22

    def mean(self, c: Array) -> Array:
        c = np.asarray(c, dtype=float)
        total = np.zeros_like(c)
        for w, s in zip(self.weights, self.squares, strict=True):
            total += w * c / np.sqrt(2.0 * math.pi * (s + c))
        return total
