"""Stationary points of the action: every minimum, with its gradient as certificate.

Scalars are scanned in log Q and refined by Brent and Newton; vectors and matrices go through BFGS from several starts.
F is not convex: several minima mean metastability, and all of them are returned.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize

from finitewidth.display import Displayed
from finitewidth.linalg import Spectrum, x_minus_log1p
from finitewidth.theory.action import ScaleEnergy, SpectralEnergy, action, scalar_rate

Array = np.ndarray
GRADIENT_TOLERANCE = 1e-6  # nats per training value and prior deviation of log Q: what "converged" certifies
DESCENT_TOLERANCE = 1e-7  # where a descent stops, in the same unit


@dataclass(frozen=True)
class Minimum(Displayed):
    """A local minimum of the action.

    order_parameters: Q there. action: F in nats. gradient_norm: largest gradient
    left, in nats per prior standard deviation sqrt(2/N) of log Q.
    """

    order_parameters: Array
    action: float
    gradient_norm: float


# --- one scalar: the scale s = prod_l Q_l of a fixed kernel ----------------------------------------------------------


def shift_of_scale(log_scale: Array | float, widths: Sequence[float]) -> Array:
    """The c with ``prod_l (1 + c/N_l) = s``: at fixed s the rate is least for ``Q_l = 1 + c/N_l``.

    Monotone Newton from below: the sum of logarithms is concave and increasing in c > -min N.
    """
    x = np.asarray(log_scale, dtype=float)
    n = np.asarray(widths, dtype=float)
    small, large, depth = n.min(), n.max(), len(n)
    if small == large:
        return small * np.expm1(x / depth)
    c = np.where(x >= 0.0, small * np.expm1(x / depth), np.maximum(large * np.expm1(x / depth), small * np.expm1(x)))
    c = np.maximum(c, -small * (1.0 - 1e-15))
    for _ in range(100):
        ratio = np.log1p(c[..., None] / n).sum(-1) - x
        step = ratio / (1.0 / (n + c[..., None])).sum(-1)
        c = np.maximum(c - step, -small * (1.0 - 1e-15))
        if (np.abs(step) <= 4e-16 * np.maximum(np.abs(c), 1e-300)).all():
            break
    return c


def scale_of_shift(shift: Array | float, widths: Sequence[float]) -> Array:
    """log s = sum_l log(1 + c/N_l)."""
    return np.log1p(np.asarray(shift, dtype=float)[..., None] / np.asarray(widths, dtype=float)).sum(-1)


_LATTICE = 0.05  # step in log s of the scan, whose points are the same for every width


def scale_minima(
    energy: ScaleEnergy, temperature: float, widths: Sequence[int], log_prior_scale: float
) -> list[Minimum]:
    """Every minimum over Q of a theory with ``K_R = exp(log_prior_scale) prod_l Q_l K``.

    The stationarity of all Q_l is one equation in c = N_l (Q_l - 1), the same for every layer:
    ``D c = data_term(s(c))`` (docs/theory.md section 2). All its solutions lie where -P <= c <= |y|^2 / 4TD. With D > 1
    outputs they share the scale: the order parameter is restricted to a multiple of the identity.
    """

    def imbalance(log_scale: float | Array) -> Array:  # 2 dF / d log s
        c = shift_of_scale(log_scale - log_prior_scale, widths)
        return energy.outputs * c - energy.data_term(np.exp(log_scale), temperature)

    low, high = (end + log_prior_scale for end in _search_range(energy, temperature, widths, log_prior_scale))
    lattice = _LATTICE * np.arange(math.floor(low / _LATTICE), math.ceil(high / _LATTICE) + 1)
    slope = imbalance(lattice)
    minima = []
    for k in np.flatnonzero((slope[:-1] < 0.0) & (slope[1:] >= 0.0)):
        ends = (lattice[k] - log_prior_scale, lattice[k + 1] - log_prior_scale)
        x = _root(lambda v: float(imbalance(v + log_prior_scale)), *ends)
        minima.append(_polish(energy, temperature, widths, log_prior_scale, float(shift_of_scale(x, widths))))
    return sorted(minima, key=lambda m: m.action)


def single_scale_minima(
    kernel: Array, y: Array, temperature: float, width: int, log_prior_scale: float = 0.0
) -> list[Minimum]:
    """The same of one Q before a kernel (P, P)."""
    energy = SpectralEnergy.of(Spectrum.of(kernel), y)
    return scale_minima(energy, temperature, (width,), log_prior_scale)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function changes its sign; rounding may have moved a root at an end out of the interval."""
    at_low, at_high = function(low), function(high)
    if at_low * at_high > 0.0:
        return low if abs(at_low) < abs(at_high) else high
    return float(optimize.brentq(function, low, high, xtol=1e-13))


def _search_range(
    energy: ScaleEnergy, temperature: float, widths: Sequence[int], log_prior_scale: float
) -> tuple[float, float]:
    """Bounds on log prod Q outside which the action has no stationary point."""
    narrowest = float(min(widths))
    largest = float(energy.power.sum()) / (4.0 * temperature * energy.outputs) + 1.0
    high = min(float(scale_of_shift(largest, widths)), 340.0 - log_prior_scale)  # beyond, s K overflows
    if energy.size < 0.9 * narrowest:
        return float(scale_of_shift(-float(energy.size), widths)), high
    # the data's term is >= -D s Tr K / T, so that below this scale it cannot balance D c <= -D N/2
    trace = energy.trace + np.finfo(float).tiny
    low = float(np.log(0.5 * narrowest) + np.log(temperature) - np.log(trace)) - log_prior_scale
    return min(low, float(scale_of_shift(-0.5 * narrowest, widths))), high


def _polish(
    energy: ScaleEnergy, temperature: float, widths: Sequence[int], log_prior_scale: float, c: float
) -> Minimum:
    """Newton in log Q of the narrowest layer: to machine precision where Q is small, and relative to Q - 1 near one."""
    n, outputs, left = np.asarray(widths, dtype=float), energy.outputs, math.inf
    narrowest = float(n.min())
    x = math.log1p(max(c / narrowest, -1.0 + 1e-15))
    for _ in range(50):
        c = narrowest * math.expm1(x)
        log_q = np.where(n == narrowest, x, np.log1p(c / n))
        scale = float(np.exp(log_q.sum() + log_prior_scale))
        left, best = c - float(energy.data_term(scale, temperature)) / outputs, left
        slope = 1.0 - energy.data_term_slope(scale, temperature) / outputs * float(np.exp(-log_q) @ (1.0 / n))
        if abs(left) >= abs(best) or slope <= 0.0:
            break
        x -= float(np.clip(left / (slope * narrowest * math.exp(x)), -1.0, 1.0))
    rate = scalar_rate(n, c / n) if x > -2.0 else c - n * log_q  # the first would cancel Q, the second Q - 1
    value = float(action(outputs * np.sum(rate), energy.energy(scale, temperature)))
    return Minimum(np.exp(log_q), value, 0.5 * outputs * abs(left) * math.sqrt(2.0 / narrowest))


# --- several parameters ----------------------------------------------------------------------------------------------

Objective = Callable[[Array], tuple[float, Array]]
_SAME_BASIN = (0.5, 0.1)  # closer in every coordinate, and in nats, a descent has joined an earlier one


def local_minima(objective: Objective, starts: Iterable[Array], tolerance: float) -> list[tuple[Array, float, float]]:
    """(coordinates, F, largest gradient) of every distinct minimum reached from the starts, the best first.

    ``objective`` returns F and its gradient in coordinates of unit curvature, about: one prior standard deviation of
    log Q. BFGS stops at a largest gradient of ``tolerance``; a later descent that joins an earlier one is left there.
    """
    found: list[tuple[Array, float, float]] = []

    def watch(intermediate_result: optimize.OptimizeResult) -> None:
        if any(_same_basin(known, intermediate_result.x, intermediate_result.fun) for known in found):
            raise _Joined

    for start in starts:
        try:
            result = optimize.minimize(objective, start, jac=True, callback=watch, **_descent(len(start), tolerance))
        except _Joined:
            continue
        if not np.isfinite(result.fun):
            continue
        reached = _newton(objective, (np.asarray(result.x), float(result.fun), result.jac), tolerance)
        twin = [k for k, known in enumerate(found) if _same_basin(known, reached[0], reached[1])]
        if not twin:
            found.append(reached)
        elif reached[1] < found[twin[0]][1]:
            found[twin[0]] = reached
    return sorted(found, key=lambda item: item[1])


_MANY = 40  # parameters from which keeping a dense Hessian costs more than it saves


def _descent(parameters: int, tolerance: float) -> dict[str, Any]:
    """Method and options for scipy.optimize.minimize."""
    if parameters <= _MANY:
        # many times what a problem takes that converges; others would go on for minutes
        return {"method": "BFGS", "options": {"gtol": tolerance, "maxiter": 60 + 20 * parameters}}
    limits = {"maxiter": 1000, "maxfun": 1200, "maxcor": 40}
    return {"method": "L-BFGS-B", "options": {"gtol": tolerance, "ftol": 0.0, **limits}}


_FEW = 8  # parameters up to which a Hessian by differences of the gradient is cheap


def _newton(objective: Objective, reached: tuple[Array, float, Array], tolerance: float) -> tuple[Array, float, float]:
    """A few Newton steps on the gradient alone, where BFGS ended because F no longer resolves its descent."""
    x, value, gradient = reached
    left = float(np.abs(gradient).max())
    for _ in range(5):
        if left <= tolerance or len(x) > _FEW:
            break
        curvature = hessian(objective, x, 1e-3)
        if not np.isfinite(curvature).all() or np.linalg.eigvalsh(curvature)[0] <= 0.0:
            break
        moved = x - np.linalg.solve(curvature, gradient)
        new_value, new_gradient = objective(moved)
        if not float(np.abs(new_gradient).max()) < left:
            break
        x, value, gradient, left = moved, new_value, new_gradient, float(np.abs(new_gradient).max())
    return x, float(value), left


def hessian(objective: Objective, x: Array, step: float) -> Array:
    found = np.stack([(objective(x + h)[1] - objective(x - h)[1]) / (2.0 * step) for h in step * np.eye(len(x))])
    return 0.5 * (found + found.T)


class _Joined(Exception):
    """A descent has entered the basin of a minimum that is known."""


def _same_basin(known: tuple[Array, float, float], x: Array, value: float) -> bool:
    apart, nats = _SAME_BASIN
    return bool(np.abs(known[0] - x).max() < apart and value - known[1] < nats)


# --- a positive definite matrix --------------------------------------------------------------------------------------


def squarable(scale: float) -> bool:
    """Whether a multiple of the identity can be the centre of coordinates: its square is a normal double."""
    return 1e-150 < scale < 1e150


class LogCholesky:
    """Coordinates of symmetric positive definite Q: ``Q = (C L)(C L)^T``, L lower triangular, logs on its diagonal.

    Any real vector is a positive definite Q, and v = 0 is ``centre`` = C C^T. ``unit`` scales the coordinates so that
    the action has a curvature of about one in each.
    """

    def __init__(self, centre: Array, unit: float) -> None:
        self.root, self.unit = np.linalg.cholesky(centre), unit
        self.lower = np.tril_indices(len(centre))
        self._diagonal = self.lower[0] == self.lower[1]

    def matrix(self, v: Array) -> Array:
        """Q (..., n, n) of v (..., n (n + 1) / 2)."""
        half = self._half(v)
        return half @ half.swapaxes(-1, -2)

    def coordinates_of(self, matrix: Array) -> Array:
        """v of positive definite Q (..., n, n)."""
        inner = np.linalg.solve(self.root, np.linalg.solve(self.root, matrix).swapaxes(-1, -2))
        v = np.linalg.cholesky(0.5 * (inner + inner.swapaxes(-1, -2)))[..., *self.lower]
        v[..., self._diagonal] = np.log(v[..., self._diagonal])
        return v * self.unit

    def pullback(self, v: Array, cotangent: Array) -> Array:
        """dF/dv from symmetric dF/dQ."""
        slope = (self.root.T @ (2.0 * cotangent @ self._half(v)))[..., *self.lower]
        slope[..., self._diagonal] *= np.exp(v[..., self._diagonal] / self.unit)
        return slope / self.unit

    def _half(self, v: Array) -> Array:
        entries = v / self.unit
        entries[..., self._diagonal] = np.exp(entries[..., self._diagonal])
        L = np.zeros((*v.shape[:-1], *self.root.shape))
        L[..., *self.lower] = entries
        return self.root @ L


def in_coordinates(action: Objective, coordinates: LogCholesky, stack: tuple[int, ...] = ()) -> Objective:
    """F and dF/dv from F and dF/dQ of Q (*stack, n, n); a wild step is infinitely bad, not an error."""

    def objective(v: Array) -> tuple[float, Array]:
        at, value = v.reshape(*stack, -1), math.inf
        if np.abs(v).max() <= 30.0 * coordinates.unit:
            value, slope = action(coordinates.matrix(at))
        return (
            (value, coordinates.pullback(at, slope).ravel()) if math.isfinite(value) else (math.inf, np.zeros_like(v))
        )

    return objective


def matrix_minima(action: Objective, coordinates: LogCholesky, starts: Sequence[Array], values: int) -> list[Minimum]:
    """Every distinct minimum of F over positive definite Q (..., n, n) reached from the starts, the best first.

    action: F and dF/dQ. Starts without coordinates, for they are not finite or singular to rounding, are left out.
    values: number of training values, in proportion to which the gradient left is tolerated.
    """
    stack, vectors = starts[0].shape[:-2], []
    for start in starts:
        with contextlib.suppress(np.linalg.LinAlgError):
            vectors.append(coordinates.coordinates_of(start).ravel())
    reachable = [v for v in vectors if np.isfinite(v).all()]
    found = local_minima(in_coordinates(action, coordinates, stack), reachable, DESCENT_TOLERANCE * values)
    return [Minimum(coordinates.matrix(v.reshape(*stack, -1)), value, left) for v, value, left in found]


def matrix_rate(width: float, order_parameter: Array) -> tuple[float, Array]:
    """``N (tr Q - log det Q - dim)`` and its gradient ``N (1 - Q^-1)``, without cancellation at large N."""
    if not np.isfinite(order_parameter).all():  # a wild step
        return math.inf, np.zeros_like(order_parameter)
    shift, vectors = np.linalg.eigh(order_parameter - np.eye(len(order_parameter)))
    if shift[0] <= -1.0:  # singular to rounding, infinitely far
        return math.inf, np.zeros_like(order_parameter)
    gradient = (vectors * (width * shift / (1.0 + shift))) @ vectors.T
    return float(width * x_minus_log1p(shift).sum()), gradient
