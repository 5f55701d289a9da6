"""The nested closure of deep networks: ``K_l = Q_l kappa[K_{l-1}] / lambda_l``.

Each order parameter renormalises its layer before the next activation acts, so it is the NNGP recursion with precisions
``lambda_l / Q_l``: the kernel and its derivatives come from there unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from finitewidth import kernels
from finitewidth.data import Dataset
from finitewidth.linalg import RegularisedGram, excess, require_memory
from finitewidth.networks import FullyConnected
from finitewidth.prediction import Prediction, condition, train_error
from finitewidth.theory.action import action, energy_by_temperature, energy_cotangent, gaussian_energy, scalar_rate
from finitewidth.theory.saddle import DESCENT_TOLERANCE, Minimum, local_minima
from finitewidth.theory.scaled import KernelSpectrum, ScaledKernel
from finitewidth.theory.solution import Solution, Theory, certify, unsolved

Array = np.ndarray
_SCAN = np.linspace(-2.0, 2.0, 9)  # log Q, all layers alike, around the product closure's best scale


@dataclass(frozen=True)
class Nested(Theory):
    """One scalar a layer, each inside the next activation; equal to the product closure for homogeneous phi."""

    network: FullyConnected
    temperature: float
    by_default: bool = False  # not asked for by name: several outputs may then take the product closure
    closure = "nested"
    method = "saddle"

    @property
    def widths(self) -> tuple[int, ...]:
        return self.network.widths

    def rate(self, order_parameters: Array) -> float:
        """``sum_l N_l (Q_l - log Q_l - 1)``."""
        return float(sum(n * excess(q - 1.0) for n, q in zip(self.widths, order_parameters, strict=True)))

    def renormalised(self, order_parameters: Array) -> FullyConnected:
        """The network whose NNGP kernel is K_R(Q)."""
        precisions = np.asarray(self.network.weight_precision)
        return replace(self.network, weight_precision=(precisions[0], *(precisions[1:] / np.asarray(order_parameters))))

    def covariance(self, order_parameters: Array, x1: Any, x2: Any = None) -> Array:
        """K_R, (points1, points2)."""
        return kernels.nngp(self.renormalised(order_parameters), x1, x2)

    def factorise(self, train: Dataset, memory: float | None = None) -> NestedScan:
        """The work that all widths share."""
        return NestedScan(self.network, train, memory)

    def solve(self, train: Dataset, shared: NestedScan | None = None, memory: float | None = None) -> Solution:
        """Minimise the action from the scan's local minima and from the product closure's."""
        shared = shared or self.factorise(train, memory)
        unit = np.sqrt(0.5 * np.asarray(self.widths, dtype=float))  # one prior deviation of each log Q

        def objective(v: Array) -> tuple[float, Array]:
            return self._action(train, v / unit, unit)

        starts = [unit * start for start in shared.starts(self)]
        found = local_minima(objective, starts, DESCENT_TOLERANCE * train.y.size)
        minima = tuple(Minimum(np.exp(v / unit), value, left) for v, value, left in found)
        if not minima:
            nothing = GramPredictor(self.network, train, self.temperature)
            return unsolved(self, train, len(self.widths), nothing)
        best = minima[0]
        converged, message = certify(minima, train.y.size)
        predictor = GramPredictor(self.renormalised(best.order_parameters), train, self.temperature)
        gradient = partial(evidence_gradient, self, train, best.order_parameters)
        q = best.order_parameters
        return Solution(self, train, q, -best.action, converged, message, minima, predictor, gradient)

    def energy(self, train: Dataset, order_parameters: Array) -> float:
        """-log N(y; 0, K_R + T), nats."""
        gram = RegularisedGram(self.covariance(order_parameters, train.x), self.temperature)
        return gaussian_energy(gram, train.y)

    def _action(self, train: Dataset, log_q: Array, unit: Array) -> tuple[float, Array]:
        """F and its gradient in the coordinates ``unit * log Q``; a wild step is infinitely bad, not an error."""
        if np.abs(log_q).max() > 60.0:
            return np.inf, np.zeros_like(log_q)
        q, surplus = np.exp(log_q), np.expm1(log_q)
        network = self.renormalised(q)
        gram = RegularisedGram(kernels.nngp(network, train.x), self.temperature)
        rate = sum(float(scalar_rate(n, s)) for n, s in zip(self.widths, surplus, strict=True))
        value = float(action(rate, gaussian_energy(gram, train.y)))
        cotangent = energy_cotangent(gram, train.y)
        slope = 0.5 * np.asarray(self.widths) * surplus - kernels.nngp_pullback(network, train.x, cotangent)[1:]
        return value, slope / unit


class NestedScan:
    """Energies on a line through log Q, kept: they are the same for every width, only the rate differs."""

    def __init__(self, network: FullyConnected, train: Dataset, memory: float | None = None) -> None:
        require_memory(
            8.0 * 5 * train.n_points**2 + 3 * train.flat.nbytes,
            f"the nested closure on {train.n_points} points",
            "use fewer training points, closure='product', or raise the memory cap",
            memory,
        )
        self.train = train
        self._spectrum: KernelSpectrum | None = None
        self._energies: dict[tuple[Any, ...], float] = {}

    def starts(self, theory: Nested) -> list[Array]:
        """log Q of the product closure's minima, and of the local minima of the action on the scanned line."""
        product = ScaledKernel(theory.network, theory.temperature)
        if self._spectrum is None:
            self._spectrum = KernelSpectrum.of(theory.network, self.train)
        solved = product.solve(self.train, self._spectrum)
        starts = [np.log(m.order_parameters) for m in solved.minima]
        line = [x * np.ones(theory.network.depth) for x in _SCAN]
        actions = [theory.rate(np.exp(x)) / 2 + self._energy(theory, x) for x in line]
        padded = np.concatenate([[np.inf], actions, [np.inf]])
        dips = np.flatnonzero((padded[1:-1] <= padded[:-2]) & (padded[1:-1] <= padded[2:]))
        return starts + [line[k] for k in dips if all(np.abs(line[k] - s).max() > 0.3 for s in starts)]

    def _energy(self, theory: Nested, log_q: Array) -> float:
        key = (theory.network.weight_precision, theory.network.readout_precision, theory.temperature, *log_q)
        if key not in self._energies:
            self._energies[key] = theory.energy(self.train, np.exp(log_q))
        return self._energies[key]


@dataclass(frozen=True)
class GramPredictor:
    """Gaussian conditioning under the kernel of one (renormalised) network."""

    network: FullyConnected
    train: Dataset
    temperature: float

    def predict(self, x: Array) -> Prediction:
        gram = RegularisedGram(kernels.nngp(self.network, self.train.x), self.temperature)
        cross = kernels.nngp(self.network, x, self.train.x)
        mean, variance = condition(gram, self.train.y, cross, kernels.nngp_diagonal(self.network, x))
        return Prediction(mean, variance, train_error(gram, self.train.y))


def evidence_gradient(theory: Nested, train: Dataset, q: Array) -> dict[str, Any]:
    """See ``Solution.evidence_gradient``."""
    network = theory.renormalised(q)
    gram = RegularisedGram(kernels.nngp(network, train.x), theory.temperature)
    cotangent = energy_cotangent(gram, train.y)
    by_log_precision = -kernels.nngp_pullback(network, train.x, cotangent)
    by_width = -0.5 * excess(q - 1.0)
    if network.readout == "mean-field":
        by_width[-1] += by_log_precision[-1] / network.widths[-1]
    return {
        "temperature": -energy_by_temperature(gram, train.y),
        "weight_precision": by_log_precision / np.asarray(theory.network.weight_precision),
        "width": by_width,
    }
