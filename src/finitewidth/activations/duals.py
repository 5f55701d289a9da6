"""What a dual is, and those in closed form: erf (Williams 1997), relu and leaky relu (Cho and Saul 2009), x, x^2."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np

Array = np.ndarray
Gradient = tuple[Array, Array, Array, Array]


class Dual(Protocol):
    """kappa and its derivatives, split so that what belongs to one point is computed once a point.

    ``prepare`` maps variances of any shape ``S`` to an array ``(k, *S)``; the other methods take two such arrays
    whose trailing shapes broadcast against ``c12``. All methods are thread-safe and release the GIL in NumPy.
    """

    def prepare(self, c: Array) -> Array: ...

    def kappa(self, p1: Array, p2: Array, c12: Array, out: Array | None = None) -> Array:
        """E[phi(u) phi(v)]; ``out`` may be ``c12`` itself."""
        ...

    def advance(self, p1: Array, p2: Array, c12: Array, scale: float) -> float:
        """Replace ``c12`` by ``kappa(scale * c12) / pending`` in place and return ``pending``.

        A recursion carries constants along in ``scale`` so that no pass over the block is spent on them.
        """
        ...

    def advance_both(self, p1: Array, p2: Array, c12: Array, tangent: Array) -> None:
        """Multiply ``tangent`` by d kappa/d c12 = E[phi' phi'] and replace ``c12`` by kappa, both in place."""
        ...

    def gradient(self, p1: Array, p2: Array, c12: Array) -> Gradient:
        """(kappa, d kappa/d c11, d kappa/d c12, d kappa/d c22); the middle one is E[phi' phi']."""
        ...

    def diagonal(self, c: Array) -> tuple[Array, Array]:
        """E[phi(u)^2] for u of variance c, and its derivative in c."""
        ...

    def mean(self, c: Array) -> Array:
        """E[phi(u)] for u of variance c."""
        ...


class Advance:
    """``advance`` for duals that have no constant to carry, ``advance_both`` from ``gradient``."""

    def advance(self: Any, p1: Array, p2: Array, c12: Array, scale: float) -> float:
        if scale != 1.0:
            c12 *= scale
        self.kappa(p1, p2, c12, out=c12)
        return 1.0

    def advance_both(self: Any, p1: Array, p2: Array, c12: Array, tangent: Array) -> None:
        value, _, slope, _ = self.gradient(p1, p2, c12)
        tangent *= slope
        c12[...] = value


class LinearDual(Advance):
    """phi(x) = x."""

    def advance(self, p1: Array, p2: Array, c12: Array, scale: float) -> float:
        return scale

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


class QuadraticDual(Advance):
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


class ErfDual:
    """kappa = (2/pi) arcsin( 2 c12 / sqrt((1 + 2 c11)(1 + 2 c22)) ) (Williams 1997)."""

    def prepare(self, c: Array) -> Array:
        return np.sqrt(2.0 / (1.0 + 2.0 * np.asarray(c)))[None]

    def _cosine(self, p1: Array, p2: Array, c12: Array, out: Array | None) -> Array:
        out = np.multiply(c12, p1[0], out=out)
        out *= p2[0]
        if p2.min(initial=1.0) < 1e-5:  # only for huge variances can rounding pass the ends
            np.clip(out, -1.0, 1.0, out=out)
        return out

    def kappa(self, p1: Array, p2: Array, c12: Array, out: Array | None = None) -> Array:
        out = self._cosine(p1, p2, c12, out)
        np.arcsin(out, out=out)
        out *= 2.0 / math.pi
        return out

    def advance(self, p1: Array, p2: Array, c12: Array, scale: float) -> float:
        np.arcsin(self._cosine(p1 * scale, p2, c12, c12), out=c12)
        return 2.0 / math.pi

    def advance_both(self, p1: Array, p2: Array, c12: Array, tangent: Array) -> None:
        u = self._cosine(p1, p2, c12, c12)
        root = np.square(u)
        np.subtract(1.0, root, out=root)
        if p2.min(initial=1.0) < 1e-5:  # see ``_cosine``
            np.maximum(root, np.finfo(float).tiny, out=root)
        np.sqrt(root, out=root)
        tangent /= root
        tangent *= p1[0] * (2.0 / math.pi)
        tangent *= p2[0]
        np.arcsin(u, out=u)
        u *= 2.0 / math.pi

    def gradient(self, p1: Array, p2: Array, c12: Array) -> Gradient:
        u = self._cosine(p1, p2, c12, None)
        slope = (2.0 / math.pi) / np.sqrt(np.maximum((1.0 - u) * (1.0 + u), np.finfo(float).tiny))
        return (
            (2.0 / math.pi) * np.arcsin(u),
            -0.5 * slope * u * p1[0] ** 2,
            slope * p1[0] * p2[0],
            -0.5 * slope * u * p2[0] ** 2,
        )

    def diagonal(self, c: Array) -> tuple[Array, Array]:
        c = np.asarray(c, dtype=float)
        root = np.sqrt(1.0 + 4.0 * c)
        return (2.0 / math.pi) * np.arctan2(2.0 * c, root), (4.0 / math.pi) / ((1.0 + 2.0 * c) * root)

    def mean(self, c: Array) -> Array:
        return np.zeros_like(c)


class LeakyReluDual(Advance):
    """phi(x) = x for x > 0, slope * x else; slope 0 is relu (Cho and Saul 2009, order 1).

    With phi = slope x + (1 - slope) relu(x): kappa = slope c12 + (1 - slope)^2 kappa_relu.
    """

    def __init__(self, slope: float = 0.0) -> None:
        self.slope = slope

    def prepare(self, c: Array) -> Array:
        root = np.sqrt(c)
        inverse = np.divide(1.0, root, out=np.zeros_like(root), where=root > 0.0)
        return np.stack([root, inverse])

    def _cosine(self, p1: Array, p2: Array, c12: Array) -> Array:
        u = c12 * p1[1]
        u *= p2[1]
        return np.clip(u, -1.0, 1.0, out=u)

    def kappa(self, p1: Array, p2: Array, c12: Array, out: Array | None = None) -> Array:
        u = self._cosine(p1, p2, c12)
        kink = (1.0 - self.slope) ** 2 / (2.0 * math.pi)
        angle = np.arcsin(u)
        angle += 0.5 * math.pi + self.slope / kink if kink > 0.0 else 0.0
        angle *= u
        np.multiply(u, u, out=u)
        np.subtract(1.0, u, out=u)
        np.sqrt(u, out=u)
        angle += u
        angle *= p1[0] * kink
        return np.multiply(angle, p2[0], out=out)

    def advance_both(self, p1: Array, p2: Array, c12: Array, tangent: Array) -> None:
        u = self._cosine(p1, p2, c12)
        # the slope rises from its end as a root: within rounding of the end it is taken there
        u[u > 1.0 - 16.0 * np.finfo(float).eps] = 1.0
        kink = (1.0 - self.slope) ** 2 / (2.0 * math.pi)
        angle = np.arcsin(u)
        angle += 0.5 * math.pi
        angle *= kink
        angle += self.slope  # kappa', and kappa = root root' (kappa' u + kink sqrt(1 - u^2))
        tangent *= angle
        angle *= u
        np.multiply(u, u, out=u)
        np.subtract(1.0, u, out=u)
        np.sqrt(u, out=u)
        u *= kink
        u += angle
        u *= p1[0]
        np.multiply(u, p2[0], out=c12)

    def gradient(self, p1: Array, p2: Array, c12: Array) -> Gradient:
        u = self._cosine(p1, p2, c12)
        kink = (1.0 - self.slope) ** 2
        sine = np.sqrt((1.0 - u) * (1.0 + u)) * (kink / (4.0 * math.pi))
        return (
            self.kappa(p1, p2, c12),
            sine * p2[0] * p1[1],
            self.slope + kink * (0.25 + np.arcsin(u) / (2.0 * math.pi)),
            sine * p1[0] * p2[1],
        )

    def diagonal(self, c: Array) -> tuple[Array, Array]:
        gain = 0.5 * (1.0 + self.slope**2)
        return gain * np.asarray(c), np.full(np.shape(c), gain)

    def mean(self, c: Array) -> Array:
        return (1.0 - self.slope) * np.sqrt(np.asarray(c) / (2.0 * math.pi))
