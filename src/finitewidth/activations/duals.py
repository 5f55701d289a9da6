"""What a dual is, and those in closed form: erf (Williams 1997), relu and leaky relu (Cho and Saul 2009), x, x^2.

Points that are nearly parallel have cosines u near +-1, where 1 - u^2 loses its digits. There it comes from
``sine_squared``, which loses none. It is exactly zero on the diagonal, which needs no route of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Array = np.ndarray
Gradient = tuple[Array, Array, Array, Array]
_END = 1e-3  # below it, 1 - u^2 loses more than 1e-12 of itself to rounding
_AT_ONCE = 4096  # of these: their products in twice the digits take fifteen arrays
_PARALLEL = 64.0 * np.finfo(float).eps  # squared sines up to this are what rounding leaves of parallel points


class Dual:
    """kappa and its derivatives, split so that what belongs to one point is computed once a point.

    ``prepare`` maps variances of any shape ``S`` to an array ``(k, *S)``; the other methods take two such arrays
    whose trailing shapes broadcast against ``c12``. All methods are thread-safe and release the GIL in NumPy.
    """

    def prepare(self, c: Array) -> Array:
        raise NotImplementedError

    def kappa(self, p1: Array, p2: Array, c12: Array, out: Array | None = None) -> Array:
        """E[phi(u) phi(v)]; ``out`` may be ``c12`` itself."""
        raise NotImplementedError

    def kappa_and_slope(self, p1: Array, p2: Array, c12: Array) -> tuple[Array, Array]:
        """(kappa, d kappa/d c12), the latter being E[phi' phi']."""
        value, _, slope, _ = self.gradient(p1, p2, c12)
        return value, slope

    def gradient(self, p1: Array, p2: Array, c12: Array) -> Gradient:
        """(kappa, d kappa/d c11, d kappa/d c12, d kappa/d c22)."""
        raise NotImplementedError

    def diagonal(self, c: Array) -> tuple[Array, Array]:
        """E[phi(u)^2] for u of variance c, and its derivative in c."""
        raise NotImplementedError

    def mean(self, c: Array) -> Array:
        """E[phi(u)] for u of variance c."""
        raise NotImplementedError


def sine_squared(c11: Array, c12: Array, c22: Array) -> Array:
    """``1 - c12^2 / (c11 c22)`` of covariances of one shape, to full relative accuracy; zero at zero variance.

    Products are taken in twice the digits (Dekker 1971). Below 1.4e-14, an angle of 1.2e-7, it is zero: covariances of
    equal points that were summed in different orders differ by as much.
    """
    c11, c12, c22 = (np.asarray(c, dtype=float) for c in (c11, c12, c22))
    even = [np.frexp(c)[1] // 2 * 2 for c in (c11, c22)]  # powers of 4 are taken out, so that no product overflows
    m11, m22 = (np.ldexp(c, -e) for c, e in zip((c11, c22), even, strict=True))
    product, low = _exact_product(m11, m22)
    m12 = np.ldexp(c12, -(even[0] + even[1]) // 2)
    square, rest = _exact_product(m12, m12)
    difference = (product - square) + (low - rest)
    return np.divide(difference, product, out=np.zeros_like(product), where=difference > _PARALLEL * product)


def _exact_product(x: Array, y: Array) -> tuple[Array, Array]:
    """The rounded product and what rounding took from it."""
    product = x * y
    (x1, x2), (y1, y2) = _halves(x), _halves(y)
    return product, ((x1 * y1 - product) + x1 * y2 + x2 * y1) + x2 * y2


def _halves(x: Array) -> tuple[Array, Array]:
    """x as the sum of two numbers of 26 digits each."""
    shifted = 134217729.0 * x  # 2^27 + 1
    high = shifted - (shifted - x)
    return high, x - high


def _erf_complement(c11: Array, c12: Array, c22: Array) -> Array:
    """1 - u^2 of erf's cosine u, without cancellation."""
    h1, h2 = 1.0 / (1.0 + 2.0 * c11), 1.0 / (1.0 + 2.0 * c22)
    return h1 + h2 - h1 * h2 + (1.0 - h1) * (1.0 - h2) * sine_squared(c11, c12, c22)


class _Cosine:
    """Cosines u (``u`` is used up) with 1 - u^2 and arcsin(u), all to rounding, near +-1 as well.

    at_end: 1 - u^2 there, from the covariances (c11, c12, c22); the variances are the last rows of p1 and p2.
    """

    def __init__(
        self, u: Array, p1: Array, p2: Array, c12: Array, at_end: Callable[[Array, Array, Array], Array]
    ) -> None:
        self.u, self.complement = u, np.square(u)
        self._ends: Array | None = None  # flat indices
        np.subtract(1.0, self.complement, out=self.complement)
        if self.complement.min(initial=1.0) < _END:
            np.clip(u, -1.0, 1.0, out=u)
            self._ends = np.flatnonzero(self.complement < _END)
            given = [np.broadcast_to(v, u.shape) for v in (p1[-1], c12, p2[-1])]
            for start in range(0, len(self._ends), _AT_ONCE):
                at = np.unravel_index(self._ends[start : start + _AT_ONCE], u.shape)
                self.complement[at] = at_end(*(v[at] for v in given))

    def arcsine(self, shift: float = 0.0, out: Array | None = None) -> Array:
        """arcsin(u) + shift."""
        angle: Array = np.arcsin(self.u, out=out)
        if shift:
            angle += shift
        if self._ends is not None:
            at = np.unravel_index(self._ends, self.u.shape)
            to_end = np.arcsin(np.sqrt(self.complement[at]))
            low, high = (shift - 0.5 * math.pi) + to_end, (shift + 0.5 * math.pi) - to_end
            angle[at] = np.where(self.u[at] < 0.0, low, high)
        return angle


class LinearDual(Dual):
    """phi(x) = x."""

    def prepare(self, c: Array) -> Array:
        return np.empty((0, *np.shape(c)))

    def kappa(self, p1: Array, p2: Array, c12: Array, out: Array | None = None) -> Array:
        if out is c12:
            return c12
        return np.positive(c12, out=out)

    def gradient(self, p1: Array, p2: Array, c12: Array) -> Gradient:
        zero = np.zeros_like(c12)
        return c12, zero, np.ones_like(c12), zero

    def diagonal(self, c: Array) -> tuple[Array, Array]:
        return np.array(c, dtype=float), np.ones_like(c)

    def mean(self, c: Array) -> Array:
        return np.zeros_like(c)


class QuadraticDual(Dual):
    """phi(x) = x^2: kappa = c11 c22 + 2 c12^2 (Wick)."""

    def prepare(self, c: Array) -> Array:
        return np.asarray(c)[None]

    def kappa(self, p1: Array, p2: Array, c12: Array, out: Array | None = None) -> Array:
        out = np.multiply(c12, c12, out=out)
        out *= 2.0
        out += p1[0] * p2[0]
        return out

    def gradient(self, p1: Array, p2: Array, c12: Array) -> Gradient:
        c11, c22 = np.broadcast_arrays(p1[0], p2[0])
        return self.kappa(p1, p2, c12), c22, 4.0 * c12, c11

    def diagonal(self, c: Array) -> tuple[Array, Array]:
        return 3.0 * np.square(c), 6.0 * np.asarray(c)

    def mean(self, c: Array) -> Array:
        return np.array(c, dtype=float)


class ErfDual(Dual):
    """kappa = (2/pi) arcsin( 2 c12 / sqrt((1 + 2 c11)(1 + 2 c22)) ) (Williams 1997)."""

    def prepare(self, c: Array) -> Array:
        c = np.asarray(c, dtype=float)
        return np.stack([np.sqrt(2.0 / (1.0 + 2.0 * c)), c])

    def _scaled(self, p1: Array, p2: Array, c12: Array, out: Array | None = None) -> Array:
        out = np.multiply(c12, p1[0], out=out)
        out *= p2[0]
        return out

    def _reaches_end(self, p1: Array, p2: Array) -> bool:
        """Whether cosines can be near +-1: 1 - u^2 >= 1 / (1 + 2 c) for c the smaller of both variances."""
        least = max(p1[0].min(initial=1.5), p2[0].min(initial=1.5))
        return bool(least**2 < 2.0 * _END)

    def _cosine(self, p1: Array, p2: Array, c12: Array) -> _Cosine:
        return _Cosine(self._scaled(p1, p2, c12), p1, p2, c12, _erf_complement)

    def kappa(self, p1: Array, p2: Array, c12: Array, out: Array | None = None) -> Array:
        if self._reaches_end(p1, p2):
            return np.multiply(self._cosine(p1, p2, c12).arcsine(), 2.0 / math.pi, out=out)
        out = self._scaled(p1, p2, c12, out)
        np.arcsin(out, out=out)
        out *= 2.0 / math.pi
        return out

    def kappa_and_slope(self, p1: Array, p2: Array, c12: Array) -> tuple[Array, Array]:
        cosine = self._cosine(p1, p2, c12)
        value = cosine.arcsine()
        value *= 2.0 / math.pi
        slope = np.sqrt(cosine.complement, out=cosine.complement)
        np.divide(2.0 / math.pi, slope, out=slope)
        return value, self._scaled(p1, p2, slope, slope)

    def gradient(self, p1: Array, p2: Array, c12: Array) -> Gradient:
        value, slope = self.kappa_and_slope(p1, p2, c12)
        shared = -0.5 * slope * c12
        return value, shared * p1[0] ** 2, slope, shared * p2[0] ** 2

    def diagonal(self, c: Array) -> tuple[Array, Array]:
        c = np.asarray(c, dtype=float)
        root = np.sqrt(1.0 + 4.0 * c)
        return (2.0 / math.pi) * np.arctan2(2.0 * c, root), (4.0 / math.pi) / ((1.0 + 2.0 * c) * root)

    def mean(self, c: Array) -> Array:
        return np.zeros_like(c)


class LeakyReluDual(Dual):
    """phi(x) = x for x > 0, slope * x else; slope 0 is relu (Cho and Saul 2009, order 1).

    With phi = slope x + (1 - slope) relu(x): kappa = slope c12 + (1 - slope)^2 kappa_relu.
    """

    def __init__(self, slope: float = 0.0) -> None:
        self.slope = slope

    def prepare(self, c: Array) -> Array:
        root = np.sqrt(c)
        inverse = np.divide(1.0, root, out=np.zeros_like(root), where=root > 0.0)
        return np.stack([root, inverse, c])

    def _cosine(self, p1: Array, p2: Array, c12: Array) -> _Cosine:
        u = c12 * p1[1]
        u *= p2[1]
        return _Cosine(u, p1, p2, c12, sine_squared)

    def _value(self, p1: Array, p2: Array, cosine: _Cosine, slope: Array, out: Array | None) -> Array:
        """kappa = root root' (kappa' u + kink sqrt(1 - u^2)); the arrays of the cosine are used up."""
        value = np.multiply(cosine.u, slope, out=cosine.u)
        sine = np.sqrt(cosine.complement, out=cosine.complement)
        sine *= (1.0 - self.slope) ** 2 / (2.0 * math.pi)
        value += sine
        value *= p1[0]
        return np.multiply(value, p2[0], out=value if out is None else out)

    def _derivative(self, cosine: _Cosine, out: Array | None = None) -> Array:
        """kappa' = slope + kink (pi/2 + arcsin u)."""
        slope = cosine.arcsine(0.5 * math.pi, out)
        slope *= (1.0 - self.slope) ** 2 / (2.0 * math.pi)
        slope += self.slope
        return slope

    def kappa(self, p1: Array, p2: Array, c12: Array, out: Array | None = None) -> Array:
        cosine = self._cosine(p1, p2, c12)
        return self._value(p1, p2, cosine, self._derivative(cosine, out), out)

    def kappa_and_slope(self, p1: Array, p2: Array, c12: Array) -> tuple[Array, Array]:
        cosine = self._cosine(p1, p2, c12)
        slope = self._derivative(cosine)
        return self._value(p1, p2, cosine, slope, None), slope

    def gradient(self, p1: Array, p2: Array, c12: Array) -> Gradient:
        cosine = self._cosine(p1, p2, c12)
        slope = self._derivative(cosine)
        sine = np.sqrt(cosine.complement) * ((1.0 - self.slope) ** 2 / (4.0 * math.pi))
        return (
            self._value(p1, p2, cosine, slope, None),
            sine * p2[0] * p1[1],
            slope,
            sine * p1[0] * p2[1],
        )

    def diagonal(self, c: Array) -> tuple[Array, Array]:
        gain = 0.5 * (1.0 + self.slope**2)
        return gain * np.asarray(c), np.full(np.shape(c), gain)

    def mean(self, c: Array) -> Array:
        return (1.0 - self.slope) * np.sqrt(np.asarray(c) / (2.0 * math.pi))
