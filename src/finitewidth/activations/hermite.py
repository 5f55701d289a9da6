"""The dual of any function, by its Hermite series and quadrature; its accuracy: docs/infinite_width.md."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from finitewidth.activations.duals import Array, Dual, Gradient
from finitewidth.checks.exceptions import InputError

_REACH = 13.0  # standard deviations integrated over; the Gaussian weight beyond is 1e-37
_LENGTHS = (64, 256, 1024)  # of the series on which the order is judged, in turn
_SEEN = 0.75  # of such a length may be needed, so that the terms beyond it are smaller still
_SERIES_TOLERANCE = 1e-15  # share of E[phi'^2] that a complete series may leave out
_NOISE = 1e-26  # of E[phi^2]: what rounding makes of the squares of coefficients that are zero
_MOST_LEFT_OUT = 0.05  # share of E[phi^2] beyond the last order; a jump leaves 0.02
_MOST_SLOPE_ERROR = 1e-2  # of E[phi'^2], before it is mended
_TAIL_NODES = 10
_PANEL_NODES = 16
_CHEBYSHEV = (16, 64)  # nodes tried for the coefficients of variances within a factor of two
_SMALL_VARIANCE = 0.1  # below it the series' derivatives in c11 and c22, of order c, lose digits
_SMALLEST_VARIANCE = 1e-12  # derivatives at c = 0 are taken here: sqrt(c) resolves phi, c^2 does not matter


class HermiteDual(Dual):
    """Dual of any function through its Hermite series (Mehler's formula).

    With orthonormal Hermite polynomials h_n and ``a_n(c) = E[phi(sqrt(c) z) h_n(z)]``,
    ``kappa = sum_n a_n(c11) a_n(c22) rho^n`` with ``rho = c12 / sqrt(c11 c22)``.
    The weight beyond the last order is known exactly from Parseval's identity, apart for even and odd orders; it is
    spread over the higher orders as n^(-5/2), the law of a function with a kink (Darboux). All terms are
    positive semidefinite, so every Gram matrix is. The coefficients come from Gauss-Legendre panels with a break
    at 0 and at the given ``kinks``, which grow with the distance from 0.

    The larger the variance, the longer the series. Where it is not complete, another dual of the same function,
    ``beyond``, takes over. Without one, it is refused (InputError) where it leaves out more than 5 % of
    E[phi^2]. Its derivatives are made to give the right E[phi'^2] at correlation 1, and refused where the tail alone
    is more than 1 % off it.

    phi = constant + function: a constant would drown the slope of small arguments in its rounding. The function
    is then odd.
    """

    def __init__(
        self,
        function: Callable[[Array], Array],
        kinks: Sequence[float] = (),
        beyond: Dual | None = None,
        constant: float = 0.0,
    ) -> None:
        self.function, self.beyond, self.constant = function, beyond, constant
        mirrored = {float(k) for k in kinks} | {-float(k) for k in kinks}  # parity needs phi(-z) as well
        self.kinks = tuple(sorted(mirrored - {0.0}))
        right = np.linspace(0.0, 3.0, 301)
        self.odd = bool(np.allclose(evaluate(function, right), -evaluate(function, -right), rtol=1e-14, atol=0.0))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HermiteDual) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((self.function, self.kinks))

    # prepared rows: variance, inverse root, root weights of the even and odd tail, share of E[phi^2] in both tails,
    # relative error of E[phi'^2] with these tails, and the root of the factor on their derivative that mends it; then
    # the coefficients a_0 ... a_M. The variance alone where ``beyond`` serves.
    _HEAD = 7

    def prepare(self, c: Array) -> Array:
        c = np.asarray(c, dtype=float)
        flat = c.reshape(-1)
        exponents = np.where(np.isfinite(flat), np.frexp(flat)[1], np.finfo(float).maxexp)
        bands = [(exponents == k, _band(self, int(k))) for k in np.unique(exponents)]
        orders = [band.order for _, band in bands]
        if None in orders and self.beyond is not None:
            return self.beyond.prepare(c)
        rows = np.zeros((self._HEAD + 1 + max((order or _LENGTHS[-1] for order in orders), default=1), flat.size))
        for inside, band in bands:
            found = band.rows(self, flat[inside])
            rows[: len(found), inside] = found
        return rows.reshape(-1, *c.shape)

    def band(self, exponent: int) -> Band:
        """The coefficients of the variances from 2^(exponent - 1) to 2^exponent."""
        middle, half = (exponent - 0.5) * math.log(2.0), 0.5 * math.log(2.0)
        for nodes in _CHEBYSHEV:
            angle = math.pi * (np.arange(nodes) + 0.5) / nodes
            c = np.exp(middle + half * np.cos(angle))
            order = self._order(c)
            at_nodes = self._quadrature(c, order or _LENGTHS[-1])
            at_nodes[2:4] **= 2  # the weights of the tails are smooth, their roots need not be
            series = at_nodes @ np.cos(np.outer(angle, np.arange(nodes))) * (2.0 / nodes)
            series[:, 0] *= 0.5
            left_out = max(np.abs(series[2:4, -4:]).max(), np.abs(series[self._HEAD :, -4:]).max())
            if left_out <= 1e-14 * np.abs(at_nodes[self._HEAD :]).max():
                return Band(order, series)
        return Band(order, None)

    def _order(self, c: Array) -> int | None:
        """The least order that leaves out next to nothing at any of the variances; None: none does."""
        for length in _LENGTHS:
            square = self._quadrature(c, length)[self._HEAD :] ** 2
            share_of_slope = np.arange(length + 1)[:, None] * square  # E[phi'^2] c = sum_n n a_n^2
            left_out = np.cumsum(share_of_slope[::-1], axis=0)[::-1]
            complete = (left_out <= _SERIES_TOLERANCE * left_out[0] + _NOISE * square.sum(0)).all(1)
            if complete[int(_SEEN * length)]:
                return max(1, int(np.argmax(complete)))
        return None

    def _quadrature(self, c: Array, order: int) -> Array:
        root = np.sqrt(c)
        rows = np.empty((self._HEAD + order + 1, c.size))
        rows[0] = c
        rows[1] = np.divide(1.0, root, out=np.zeros_like(root), where=root > 0.0)
        step = 500  # points at a time: 500 x 4160 function values are 17 MB
        for start in range(0, c.size, step):
            part = slice(start, min(start + step, c.size))
            rows[2:, part] = self._expand(root[part], order)
        return rows

    def _expand(self, root: Array, order: int) -> Array:
        """The prepared rows after the first two, (5 + order + 1, m); below the last order the series is complete."""
        z, weight, hermite = _hermite_table(order)
        values = evaluate(self.function, root[:, None] * z)
        root_weight = np.sqrt(weight)  # weight = dz * Gaussian density; the table carries the other half
        if self.kinks:
            root_weight = root_weight * self._split(root)[0]
        rows = np.zeros((self._HEAD - 2 + order + 1, len(root)))
        rows[5:] = hermite @ (values * root_weight).T
        if self.kinks:
            _, z, weight = self._split(root)
            half = evaluate(self.function, root[:, None] * z) * np.sqrt(weight)
            for n, h in enumerate(_hermite_rows(z, weight, order)):
                rows[5 + n] += np.einsum("pz,pz->p", h, half)
        if order == _LENGTHS[-1]:
            rows[:5] = self._left_out(root, rows[5:])
        rows[5] += self.constant
        return rows

    def _left_out(self, root: Array, a: Array) -> Array:
        """What the prepared rows say of the tails, (5, m)."""
        phi = self._phi
        power = self._moments(root, lambda z: phi(root, z) ** 2)
        cross = self._moments(root, lambda z: phi(root, z) * phi(root, -z))
        steepness = self._moments(root, lambda z: _derivative(phi(root, z), z) ** 2)
        even = 0.5 * (power + cross) - (a[0::2] ** 2).sum(0)
        odd = 0.5 * (power - cross) - (a[1::2] ** 2).sum(0)
        floor = 1e-14 * power  # below this, the difference is rounding
        even, odd = np.where(even > floor, even, 0.0), np.where(odd > floor, odd, 0.0)
        exponents, weights = _tail_rule(len(a) - 1)
        series, tail = np.arange(len(a)) @ a**2, (exponents @ weights) * (even + odd)
        least = np.finfo(float).tiny
        error = (series + tail - steepness) / np.maximum(np.maximum(series + tail, steepness), least)
        factor = np.maximum(steepness - series, 0.0) / np.maximum(tail, least)
        return np.stack([np.sqrt(even), np.sqrt(odd), (even + odd) / np.maximum(power, least), error, np.sqrt(factor)])

    def _phi(self, root: Array, z: Array) -> Array:
        return evaluate(self.function, root[:, None] * z)

    def _moments(self, root: Array, product: Callable[[Array], Array]) -> Array:
        """E[product(z)] of every point, (m,); ``product``: nodes (nodes,) or (m, nodes) -> values (m, nodes)."""
        z, weight, _ = _hermite_table(_LENGTHS[0])
        if not self.kinks:
            return product(z) @ weight
        stays, parts, part_weight = self._split(root)
        return (product(z) * stays) @ weight + (product(parts) * part_weight).sum(1)

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

    def _other(self, p1: Array, p2: Array, slopes: bool) -> Dual | None:
        """The dual that serves where the series of either side has ended; InputError where there is none."""
        if self.beyond is not None:
            return self.beyond if min(len(p1), len(p2)) == 1 else None
        for p in (p1, p2):
            if p[4].max(initial=0.0) > _MOST_LEFT_OUT or (slopes and np.abs(p[5]).max(initial=0.0) > _MOST_SLOPE_ERROR):
                what = "derivatives of the kernel" if slopes else "a kernel"
                raise InputError(
                    "an activation of your own whose Hermite series does not converge for arguments of root mean "
                    f"square {math.sqrt(p[0].max()):.3g}",
                    f"{what} within the accuracy of docs/infinite_width.md",
                    "standardise the inputs, name the kinks, or take an activation known by name, exact at every size",
                )
        return None

    def kappa(self, p1: Array, p2: Array, c12: Array, out: Array | None = None) -> Array:
        other = self._other(p1, p2, slopes=False)
        if other is not None:
            return other.kappa(p1[:1], p2[:1], c12, out)
        rho = np.clip(c12 * p1[1] * p2[1], -1.0, 1.0)
        total = self._series(p1, p2, rho)
        total += self._tail(p1, p2, rho)
        return np.positive(total, out=out)

    def kappa_and_slope(self, p1: Array, p2: Array, c12: Array) -> tuple[Array, Array]:
        other = self._other(p1, p2, slopes=True)
        if other is not None:
            return other.kappa_and_slope(p1[:1], p2[:1], c12)
        value = self.kappa(p1, p2, c12)
        p1, p2 = self._lifted(p1), self._lifted(p2)
        rho = c12 * p1[1]
        rho *= p2[1]
        np.clip(rho, -1.0, 1.0, out=rho)
        a, b = p1[self._HEAD + 1 :], p2[self._HEAD + 1 :]
        slope = self._power_series(_weighted(a, np.arange(1.0, len(a) + 1.0)), b, rho, even=True)
        slope += self._tail(p1, p2, rho, derivative=True)
        slope *= p1[1]
        slope *= p2[1]
        return value, slope

    def _series(self, p1: Array, p2: Array, rho: Array) -> Array:
        a, b = p1[self._HEAD :], p2[self._HEAD :]
        return self._power_series(a, b, rho, even=False) + self.constant**2 * self.odd

    def _power_series(self, a: Array, b: Array, rho: Array, even: bool) -> Array:
        """``sum_n a_n b_n rho^n`` by Horner; of an odd function only the even or the odd n have terms."""
        start, step = (0 if even else 1, 2) if self.odd else (0, 1)
        power = rho * rho if self.odd else rho
        orders = range(start, min(len(a), len(b)), step)
        total = np.zeros(np.broadcast_shapes(a.shape[1:], b.shape[1:], rho.shape))
        for n in reversed(orders):
            total *= power
            total += a[n] * b[n]
        if start:
            total *= rho
        return total

    def _tail(self, p1: Array, p2: Array, rho: Array, derivative: bool = False) -> Array | float:
        even, odd = p1[2] * p2[2], p1[3] * p2[3]
        if not (np.any(even) or np.any(odd)):
            return 0.0
        order = min(len(p1), len(p2)) - self._HEAD
        size = np.maximum(np.abs(rho), 1e-300)
        log_size = np.log(size)
        exponents, weights = _tail_rule(order)
        if derivative:
            factor = p1[6] * p2[6]
            even, odd = factor * even, factor * odd
        tail = np.zeros(np.broadcast_shapes(even.shape, rho.shape))
        for m, w in zip(exponents, weights, strict=True):
            tail += (w * m) * np.exp((m - 1.0) * log_size) if derivative else w * np.exp(m * log_size)
        sign = np.sign(rho)
        return tail * (even * sign + odd if derivative else even + odd * sign)

    def gradient(self, p1: Array, p2: Array, c12: Array) -> Gradient:
        small = min(p1[0].min(initial=1.0), p2[0].min(initial=1.0)) < _SMALL_VARIANCE
        other = self.beyond if small else None
        other = other or self._other(p1, p2, slopes=True)
        if other is not None:
            return other.gradient(p1[:1], p2[:1], c12)
        value, d12 = self.kappa_and_slope(p1, p2, c12)
        p1, p2 = self._lifted(p1), self._lifted(p2)
        rho = np.clip(c12 * p1[1] * p2[1], -1.0, 1.0)
        steep = rho * self._tail(p1, p2, rho, derivative=True)
        d11, d22 = self._along_own(p1, p2, rho) - steep, self._along_own(p2, p1, rho) - steep  # a_(n+2) ~ -a_n: kinks
        return value, 0.5 * d11 * p1[1] ** 2, d12, 0.5 * d22 * p2[1] ** 2

    def _along_own(self, p1: Array, p2: Array, rho: Array) -> Array:
        """``2 c11 d kappa/d c11``, without the tail."""
        a, b = p1[self._HEAD + 2 :], p2[self._HEAD :]
        n = np.arange(len(a))
        return self._power_series(_weighted(a, np.sqrt((n + 1.0) * (n + 2.0))), b, rho, even=False)

    def _lifted(self, p: Array) -> Array:
        """Prepared data with vanishing variances lifted to where derivatives exist numerically."""
        low = p[0] < _SMALLEST_VARIANCE
        if not np.any(low):
            return p
        return self.prepare(np.maximum(p[0], _SMALLEST_VARIANCE))

    def diagonal(self, c: Array) -> tuple[Array, Array]:
        c = np.asarray(c, dtype=float)
        if self.beyond is not None:
            return self.beyond.diagonal(c)
        flat = c.ravel()
        lifted = np.maximum(flat, _SMALLEST_VARIANCE)
        root, high = np.sqrt(flat), np.sqrt(lifted)
        value = self._moments(root, lambda z: self._phi(root, z) ** 2)
        slope = self._moments(high, lambda z: self._phi(high, z) ** 2 * (z**2 - 1.0)) / (2.0 * lifted)  # by parts
        return value.reshape(c.shape), slope.reshape(c.shape)

    def mean(self, c: Array) -> Array:
        c = np.asarray(c, dtype=float)
        if self.beyond is not None:
            return self.beyond.mean(c)
        root = np.sqrt(c.ravel())
        return self._moments(root, lambda z: self._phi(root, z)).reshape(c.shape)


def _weighted(a: Array, weights: Array) -> Array:
    return a * weights.reshape(-1, *(1,) * (a.ndim - 1))


@dataclass(frozen=True)
class Band:
    """Coefficients of variances within a factor of two, by Chebyshev interpolation in log c, where they are analytic.

    order: of the last that is needed; None: the series is not complete. series: (rows, nodes); None: it is no better
    than the quadrature.
    """

    order: int | None
    series: Array | None

    def rows(self, dual: HermiteDual, c: Array) -> Array:
        """What ``HermiteDual.prepare`` has to say of these variances."""
        order, zero = self.order or _LENGTHS[-1], c == 0.0
        if self.series is None:
            return dual._quadrature(c, order)
        t = 2.0 * np.log2(np.where(zero, 1.0, np.frexp(c)[0])) + 1.0
        rows: Array = self.series @ np.polynomial.chebyshev.chebvander(t, self.series.shape[1] - 1).T
        rows[0] = c
        rows[1] = 1.0 / np.sqrt(np.where(zero, 1.0, c))
        rows[2:4] = np.sqrt(np.maximum(rows[2:4], 0.0))
        if zero.any():
            rows[:, zero] = dual._quadrature(np.zeros(1), order)
        return rows


@lru_cache(maxsize=256)
def _band(dual: HermiteDual, exponent: int) -> Band:
    """Worked out once: a dual is asked for the same variances at every step of a minimisation."""
    return dual.band(exponent)


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
    """Even panels, and towards 0 ever narrower ones: there phi(root z) changes when root is large."""
    near = 0.125 * 2.0 ** -np.arange(1.0, 27.0)
    return np.sort(np.concatenate([np.linspace(-_REACH, _REACH, 209), near, -near]))


@lru_cache(maxsize=1)
def _differentiation() -> Array:
    """D with (D f)(x_i) = f'(x_i) for polynomials f through the 16 Gauss-Legendre nodes of (-1, 1)."""
    node, _ = np.polynomial.legendre.leggauss(_PANEL_NODES)
    basis = np.polynomial.legendre.Legendre.basis
    values = np.array([basis(k)(node) for k in range(_PANEL_NODES)])
    slopes = np.array([basis(k).deriv()(node) for k in range(_PANEL_NODES)])
    return np.linalg.solve(values, slopes).T


def _derivative(values: Array, z: Array) -> Array:
    """d/dz of values (m, nodes) on panels of nodes z, (nodes,) or (m, nodes); zero on panels without width."""
    node, _ = np.polynomial.legendre.leggauss(_PANEL_NODES)
    z = z.reshape(*z.shape[:-1], -1, _PANEL_NODES)
    half = (z[..., -1:] - z[..., :1]) / (node[-1] - node[0])
    slopes = values.reshape(len(values), -1, _PANEL_NODES) @ _differentiation().T
    return np.divide(slopes, half, out=np.zeros_like(slopes), where=half > 0.0).reshape(values.shape)


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


def _hermite_table(order: int) -> tuple[Array, Array, Array]:
    """Nodes z, weights dz * density(z), and h_n(z) * sqrt(weight) of shape (order + 1, nodes)."""
    z, weight, hermite = _longest_table(next(length for length in _LENGTHS if length >= order))
    return z, weight, hermite[: order + 1]


@lru_cache(maxsize=len(_LENGTHS))
def _longest_table(length: int) -> tuple[Array, Array, Array]:
    edges = _panel_edges()
    z, weight = _panel_rule(edges[:-1], edges[1:])
    return z, weight, np.array(list(_hermite_rows(z, weight, length)))


@lru_cache(maxsize=8)
def _tail_rule(order: int) -> tuple[Array, Array]:
    """Exponents and weights with sum_j w_j rho^(m_j) ~ sum_{n >= order} n^(-5/2) rho^n, normalised to one at rho = 1.

    n = (order - 1/2) / t^2 turns the sum into an integral of 3 t^2 rho^n over t in (0, 1), done by Gauss-Legendre.
    """
    t, w = np.polynomial.legendre.leggauss(_TAIL_NODES)
    t, w = 0.5 * (t + 1.0), 0.5 * w
    weights = 3.0 * t**2 * w
    return (order - 0.5) / t**2, weights / weights.sum()
