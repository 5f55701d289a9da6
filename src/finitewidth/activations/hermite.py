"""The dual of any function, by its Hermite series and quadrature; its accuracy: docs/accuracy_of_duals.md."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np

from finitewidth.activations.duals import Advance, Array, Gradient
from finitewidth.exceptions import InputError

_REACH = 13.0  # standard deviations integrated over; the Gaussian weight beyond is 1e-37
_ORDERS = (32, 64, 128, 256, 512, 1024)  # series lengths tried in turn
_SERIES_TOLERANCE = 1e-13  # share of E[phi^2] that a series may leave out before the next length is tried
_TAIL_NODES = 10
_PANEL_NODES = 16
_CHEBYSHEV = (48, 96)  # nodes tried when the coefficients of many variances are interpolated
_WIDEST = 1e4  # ratio of the variances interpolated together
_SMALLEST_VARIANCE = 1e-12  # derivatives at c = 0 are taken here: sqrt(c) resolves phi, c^2 does not matter


class HermiteDual(Advance):
    """Dual of any function through its Hermite series (Mehler's formula).

    With orthonormal Hermite polynomials h_n and ``a_n(c) = E[phi(sqrt(c) z) h_n(z)]``,
    ``kappa = sum_n a_n(c11) a_n(c22) rho^n`` with ``rho = c12 / sqrt(c11 c22)``.
    The weight beyond the last order is known exactly from Parseval's identity, apart for even and odd orders; it is
    spread over the higher orders as n^(-5/2), the law of a function with a kink (Darboux). All terms are
    positive semidefinite, so every Gram matrix is. The coefficients come from Gauss-Legendre panels with a break
    at 0 and at the given ``kinks``.
    """

    def __init__(self, function: Callable[[Array], Array], kinks: Sequence[float] = ()) -> None:
        self.function = function
        mirrored = {float(k) for k in kinks} | {-float(k) for k in kinks}  # parity needs phi(-z) as well
        self.kinks = tuple(sorted(mirrored - {0.0}))

    # prepared rows: root variance, inverse root, even tail, odd tail, then the coefficients a_0 ... a_M
    _HEAD = 4

    def prepare(self, c: Array) -> Array:
        c = np.asarray(c, dtype=float)
        flat = c.reshape(-1)
        return self._coefficients(flat, self._order(flat)).reshape(-1, *c.shape)

    def _order(self, c: Array) -> int:
        """The shortest series that leaves out next to nothing, judged on the spread of the variances."""
        probes = np.quantile(c, (0.0, 0.25, 0.5, 0.75, 1.0)) if c.size > 5 else c
        for order in _ORDERS[:-1]:
            rows = self._coefficients(probes, order)
            left_out = rows[2] ** 2 + rows[3] ** 2
            power = (rows[self._HEAD :] ** 2).sum(0) + left_out
            if (left_out <= _SERIES_TOLERANCE * np.maximum(power, np.finfo(float).tiny)).all():
                return order
        return _ORDERS[-1]

    def _coefficients(self, c: Array, order: int) -> Array:
        """The prepared rows of variances (m,): interpolated where there are many."""
        inside = c > c.max(initial=0.0) / _WIDEST
        if np.count_nonzero(inside) < 4 * _CHEBYSHEV[0]:
            return self._quadrature(c, order)
        rows = np.empty((self._HEAD + order + 1, c.size))
        rows[:, inside] = self._interpolated(c[inside], order)
        rest, place = np.unique(c[~inside], return_inverse=True)
        rows[:, ~inside] = self._quadrature(rest, order)[:, place]
        return rows

    def _interpolated(self, c: Array, order: int) -> Array:
        """Chebyshev interpolation in log c, where the coefficients are analytic: as good as the quadrature, or that."""
        low, high = math.log(c.min()), math.log(c.max())
        t = (np.log(c) - 0.5 * (low + high)) / max(0.5 * (high - low), 1e-300)
        for nodes in _CHEBYSHEV:
            angle = math.pi * (np.arange(nodes) + 0.5) / nodes
            at_nodes = self._quadrature(np.exp(0.5 * (low + high) + 0.5 * (high - low) * np.cos(angle)), order)
            at_nodes[2:4] **= 2  # the weights of the tails are smooth, their roots need not be
            series = at_nodes @ np.cos(np.outer(angle, np.arange(nodes))) * (2.0 / nodes)
            series[:, 0] *= 0.5
            left_out = np.abs(series[2:, -6:]).max()
            if left_out <= 1e-14 * np.abs(at_nodes[self._HEAD :]).max():
                rows = series @ np.polynomial.chebyshev.chebvander(t, nodes - 1).T
                rows[0] = np.sqrt(c)
                rows[1] = 1.0 / rows[0]
                rows[2:4] = np.sqrt(np.maximum(rows[2:4], 0.0))
                return rows
        return self._quadrature(c, order)

    def _quadrature(self, c: Array, order: int) -> Array:
        root = np.sqrt(c)
        rows = np.empty((self._HEAD + order + 1, c.size))
        rows[0] = root
        rows[1] = np.divide(1.0, root, out=np.zeros_like(root), where=root > 0.0)
        step = 500  # points at a time: 500 x 3328 function values are 13 MB
        for start in range(0, c.size, step):
            part = slice(start, min(start + step, c.size))
            rows[self._HEAD :, part], rows[2, part], rows[3, part] = self._expand(root[part], order)
        return rows

    def _expand(self, root: Array, order: int) -> tuple[Array, Array, Array]:
        """Coefficients (order + 1, m) and the root weights of the even and odd tails, (m,) each."""
        z, weight, hermite = _hermite_table(order)
        values = evaluate(self.function, root[:, None] * z)
        root_weight = np.sqrt(weight)  # weight = dz * Gaussian density; the table carries the other half
        if self.kinks:
            root_weight = root_weight * self._split(root)[0]
        half = values * root_weight
        a = hermite @ half.T
        power = np.einsum("pz,pz->p", half, half)
        cross = np.einsum("pz,pz->p", half, values[:, ::-1] * root_weight)
        if self.kinks:
            _, z, weight = self._split(root)
            half = evaluate(self.function, root[:, None] * z) * np.sqrt(weight)
            for n, h in enumerate(_hermite_rows(z, weight, order)):
                a[n] += np.einsum("pz,pz->p", h, half)
            power += np.einsum("pz,pz->p", half, half)
            cross += np.einsum("pz,pz->p", half, evaluate(self.function, -root[:, None] * z) * np.sqrt(weight))
        even = 0.5 * (power + cross) - (a[0::2] ** 2).sum(0)
        odd = 0.5 * (power - cross) - (a[1::2] ** 2).sum(0)
        floor = 1e-14 * power  # below this, the difference is rounding
        return a, np.sqrt(np.where(even > floor, even, 0.0)), np.sqrt(np.where(odd > floor, odd, 0.0))

    def _split(self, root: Array) -> tuple[Array, Array, Array]:
        """Panels that hold a kink are done in parts, which move with the scale of each point.

        Returns which nodes of the table stay (m, nodes), and nodes and weights of the parts (m, parts).
        """
        edges = _panel_edges()
        with np.errstate(divide="ignore", over="ignore"):
            place = np.clip(np.asarray(self.kinks) / root[:, None], -_REACH, _REACH)
        panel = np.clip(np.searchsorted(edges, place, side="right") - 1, 0, len(edges) - 2)
        stays = np.ones((len(root), len(edges) - 1))
        np.put_along_axis(stays, panel, 0.0, axis=1)
        low, high = edges[panel], edges[panel + 1]
        together = panel[:, 1:] == panel[:, :-1]  # two kinks in a panel: the part between them belongs to the second
        low[:, 1:] = np.where(together, place[:, :-1], low[:, 1:])
        high[:, :-1] = np.where(together, place[:, :-1], high[:, :-1])
        z, weight = _panel_rule(np.concatenate([low, place], axis=1), np.concatenate([place, high], axis=1))
        return np.repeat(stays, _PANEL_NODES, axis=1), z, weight

    def kappa(self, p1: Array, p2: Array, c12: Array, out: Array | None = None) -> Array:
        rho = np.clip(c12 * p1[1] * p2[1], -1.0, 1.0)
        total = self._series(p1, p2, rho)
        total += self._tail(p1, p2, rho)
        return np.positive(total, out=out)

    def advance_both(self, p1: Array, p2: Array, c12: Array, tangent: Array) -> None:
        p1, p2 = self._lifted(p1), self._lifted(p2)
        rho = c12 * p1[1]
        rho *= p2[1]
        np.clip(rho, -1.0, 1.0, out=rho)
        slope = self._tail(p1, p2, rho, derivative=True) + np.zeros_like(rho)
        series = np.zeros_like(rho)
        top = min(len(p1), len(p2)) - self._HEAD
        for n in range(top - 1, 0, -1):  # Horner
            series *= rho
            series += p1[self._HEAD + n] * (n * p2[self._HEAD + n])
        slope += series
        slope *= p1[1]
        slope *= p2[1]
        tangent *= slope
        np.add(self._series(p1, p2, rho), self._tail(p1, p2, rho), out=c12)

    def _series(self, p1: Array, p2: Array, rho: Array) -> Array:
        top = min(len(p1), len(p2)) - 1
        total = np.array(np.broadcast_to(p1[top] * p2[top], rho.shape))
        for k in range(top - 1, self._HEAD - 1, -1):
            total *= rho
            total += p1[k] * p2[k]
        return total

    def _tail(self, p1: Array, p2: Array, rho: Array, derivative: bool = False) -> Array | float:
        even, odd = p1[2] * p2[2], p1[3] * p2[3]
        if not (np.any(even) or np.any(odd)):
            return 0.0
        order = min(len(p1), len(p2)) - self._HEAD
        size = np.maximum(np.abs(rho), 1e-300)
        log_size = np.log(size)
        exponents, weights = _tail_rule(order)
        tail = np.zeros(np.broadcast_shapes(even.shape, rho.shape))
        for m, w in zip(exponents, weights, strict=True):
            tail += (w * m) * np.exp((m - 1.0) * log_size) if derivative else w * np.exp(m * log_size)
        sign = np.sign(rho)
        return tail * (even * sign + odd if derivative else even + odd * sign)

    def gradient(self, p1: Array, p2: Array, c12: Array) -> Gradient:
        p1, p2 = self._lifted(p1), self._lifted(p2)
        rho = np.clip(c12 * p1[1] * p2[1], -1.0, 1.0)
        top = min(len(p1), len(p2)) - self._HEAD
        a, b = p1[self._HEAD :], p2[self._HEAD :]
        value = np.zeros(np.broadcast_shapes(a[0].shape, b[0].shape, rho.shape))
        d12, d11, d22 = np.zeros_like(value), np.zeros_like(value), np.zeros_like(value)
        for n in range(top - 1, -1, -1):  # Horner, all four series at once
            value = value * rho + a[n] * b[n]
            d12 = d12 * rho + ((n + 1) * a[n + 1] * b[n + 1] if n + 1 < top else 0.0)
            if n + 2 < top:
                climb = math.sqrt((n + 1.0) * (n + 2.0))
                d11 = d11 * rho + climb * a[n + 2] * b[n]
                d22 = d22 * rho + climb * a[n] * b[n + 2]
        value += self._tail(p1, p2, rho)
        steep = self._tail(p1, p2, rho, derivative=True)
        d12 += steep
        d11, d22 = d11 - rho * steep, d22 - rho * steep  # a_(n+2) ~ -a_n for a kink
        return value, 0.5 * d11 * p1[1] ** 2, d12 * p1[1] * p2[1], 0.5 * d22 * p2[1] ** 2

    def _lifted(self, p: Array) -> Array:
        """Prepared data with vanishing variances lifted to where derivatives exist numerically."""
        low = p[0] ** 2 < _SMALLEST_VARIANCE
        if not np.any(low):
            return p
        return self.prepare(np.maximum(p[0] ** 2, _SMALLEST_VARIANCE))

    def diagonal(self, c: Array) -> tuple[Array, Array]:
        c = np.asarray(c, dtype=float)
        safe = np.maximum(c, _SMALLEST_VARIANCE)
        lifted, slope = self._square_moments(np.sqrt(safe).ravel())
        value = lifted if (c >= _SMALLEST_VARIANCE).all() else self._square_moments(np.sqrt(c).ravel())[0]
        return value.reshape(c.shape), slope.reshape(c.shape) / (2.0 * safe)  # Gaussian integration by parts

    def _square_moments(self, root: Array) -> tuple[Array, Array]:
        """E[phi^2] and E[phi^2 (z^2 - 1)] of phi(root z), each (m,)."""
        z, weight, _ = _hermite_table(_ORDERS[0])
        square = evaluate(self.function, root[:, None] * z) ** 2
        if not self.kinks:
            return square @ weight, square @ (weight * (z**2 - 1.0))
        stays, parts, part_weight = self._split(root)
        square *= stays
        part_square = evaluate(self.function, root[:, None] * parts) ** 2 * part_weight
        return (
            square @ weight + part_square.sum(1),
            square @ (weight * (z**2 - 1.0)) + (part_square * (parts**2 - 1.0)).sum(1),
        )

    def mean(self, c: Array) -> Array:
        return self.prepare(c)[self._HEAD]


def evaluate(function: Callable[[Array], Array], x: Array) -> Array:
    with np.errstate(over="ignore", under="ignore"):
        values = np.asarray(function(x), dtype=float)
    if values.shape != x.shape or not np.isfinite(values).all():
        what = f"values of shape {values.shape}" if values.shape != x.shape else "NaN or infinity"
        raise InputError(
            f"an activation that returns {what} on inputs of shape {x.shape} up to {np.abs(x).max():.3g}",
            "a function that acts on every element of a NumPy array and stays finite",
            "vectorise it, or bound it for large arguments",
        )
    return values


@lru_cache(maxsize=1)
def _panel_edges() -> Array:
    return np.linspace(-_REACH, _REACH, 209)


def _panel_rule(low: Array, high: Array) -> tuple[Array, Array]:
    """Gauss-Legendre nodes z and weights dz * density(z) on panels (..., panels): (..., panels * nodes)."""
    node, gauss = np.polynomial.legendre.leggauss(_PANEL_NODES)
    half = 0.5 * (high - low)[..., None]
    z = 0.5 * (high + low)[..., None] + half * node
    weight = half * gauss * np.exp(-0.5 * z**2) / math.sqrt(2.0 * math.pi)
    shape = (*low.shape[:-1], -1)
    return z.reshape(shape), weight.reshape(shape)


def _hermite_rows(z: Array, weight: Array, order: int) -> Iterator[Array]:
    """h_n(z) * sqrt(weight) for n = 0 .. order."""
    before, row = np.zeros_like(z), np.sqrt(weight)
    for n in range(order + 1):
        yield row
        before, row = row, (z * row - math.sqrt(n) * before) / math.sqrt(n + 1.0)


@lru_cache(maxsize=8)
def _hermite_table(order: int) -> tuple[Array, Array, Array]:
    """Nodes z, weights dz * density(z), and h_n(z) * sqrt(weight) of shape (order + 1, nodes)."""
    edges = _panel_edges()
    z, weight = _panel_rule(edges[:-1], edges[1:])
    return z, weight, np.array(list(_hermite_rows(z, weight, order)))


@lru_cache(maxsize=8)
def _tail_rule(order: int) -> tuple[Array, Array]:
    """Exponents and weights with sum_j w_j rho^(m_j) ~ sum_{n >= order} n^(-5/2) rho^n, normalised to one at rho = 1.

    n = (order - 1/2) / t^2 turns the sum into an integral of 3 t^2 rho^n over t in (0, 1), done by Gauss-Legendre.
    """
    t, w = np.polynomial.legendre.leggauss(_TAIL_NODES)
    t, w = 0.5 * (t + 1.0), 0.5 * w
    weights = 3.0 * t**2 * w
    return (order - 0.5) / t**2, weights / weights.sum()
