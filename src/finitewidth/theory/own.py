"""The saddle of an architecture of one's own, from nothing but its ``rate(Q)`` and ``covariance(Q, x1, x2)``.

``F(Q) = 1/2 rate(Q) - log N(y; 0, K_R(Q) + T)`` (docs/theory.md section 2). The derivative of the likelihood in K_R is
exact; how K_R changes with log Q is a central difference, which needs no further formula from the user.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from finitewidth import checks
from finitewidth.data import Dataset
from finitewidth.exceptions import InputError
from finitewidth.linalg import RegularisedGram, require_memory
from finitewidth.networks import Network
from finitewidth.prediction import Prediction, condition, train_error
from finitewidth.theory.action import action, energy_by_temperature, energy_cotangent, gaussian_energy
from finitewidth.theory.saddle import DESCENT_TOLERANCE, Minimum, local_minima
from finitewidth.theory.solution import Solution, Theory, certify

Array = np.ndarray
_SCAN = np.linspace(-3.0, 3.0, 13)  # log Q, all layers alike: where descents start from
_STEP = 1e-4  # of log Q in central differences: their error is of order 1e-8
_BLOCK = 256  # points whose covariance with one another is computed for the sake of its diagonal


@dataclass(frozen=True)
class OwnTheory(Theory):
    """One scalar a hidden layer; with ``infinite`` no order parameter at all."""

    network: Network
    temperature: float
    infinite: bool = False
    closure = "own"

    @property
    def method(self) -> str:
        return "infinite" if self.infinite else "saddle"

    @property
    def widths(self) -> tuple[int, ...]:
        """Width behind each order parameter; none at infinite width."""
        return () if self.infinite else self.network.widths

    def rate(self, order_parameters: Array) -> float:
        """The network's own, twice nats."""
        return 0.0 if self.infinite else float(self.network.rate(order_parameters))

    def covariance(self, order_parameters: Array, x1: Array, x2: Array | None = None) -> Array:
        """K_R, (points1, points2)."""
        return covariance(self.network, order_parameters, x1, x1 if x2 is None else x2)

    def factorise(self, train: Dataset, memory: float | None = None) -> None:
        """Nothing is shared: the covariance may depend on the width in any way. Refuses what does not fit."""
        require_memory(
            8.0 * 6 * train.n_points**2 + 3 * train.flat.nbytes,
            f"the action on {train.n_points} points",
            "use fewer training points, or raise the memory cap",
            memory,
        )

    def solve(self, train: Dataset, shared: None = None, memory: float | None = None) -> Solution:
        """Minimise the action from every dip of a scan in which all layers have the same Q."""
        self.factorise(train, memory)
        ones = np.ones(self.network.depth)
        if self.infinite:
            energy = self.energy(train, ones)
            return Solution(self, train, np.empty(0), -energy, True, "", (), OwnPredictor(self, train, ones))
        if train.n_outputs > 1:
            raise InputError(
                f"{train.n_outputs} outputs with {type(self.network).__name__}",
                "one output: the order parameters of an architecture of your own are scalars",
                "predict one output at a time, or use method='infinite'",
            )
        minima = self._minima(train)
        q = minima[0].order_parameters
        converged, message = certify(minima, train.y.size)
        gradient = partial(evidence_gradient, self, train, q)
        return Solution(
            self, train, q, -minima[0].action, converged, message, minima, OwnPredictor(self, train, q), gradient
        )

    def energy(self, train: Dataset, order_parameters: Array) -> float:
        """-log N(y; 0, K_R + T), nats."""
        gram = RegularisedGram(self.covariance(order_parameters, train.x), self.temperature)
        return gaussian_energy(gram, train.y)

    def _minima(self, train: Dataset) -> tuple[Minimum, ...]:
        unit = np.sqrt(0.5 * np.asarray(self.widths, dtype=float))  # one prior deviation of each log Q

        def objective(v: Array) -> tuple[float, Array]:
            log_q = v / unit
            if np.abs(log_q).max() > 60.0:  # a wild step is infinitely bad, not an error
                return np.inf, np.zeros_like(v)
            q = np.exp(log_q)
            gram = RegularisedGram(self.covariance(q, train.x), self.temperature)
            value = float(action(self.rate(q), gaussian_energy(gram, train.y)))
            slope = by_log(lambda at: np.array(0.5 * self.rate(at)), q, np.ones(()))
            slope += by_log(lambda at: self.covariance(at, train.x), q, energy_cotangent(gram, train.y))
            return value, slope / unit

        found = local_minima(
            objective, [unit * start for start in self._starts(train)], DESCENT_TOLERANCE * train.y.size
        )
        return tuple(Minimum(np.exp(v / unit), value, left) for v, value, left in found)

    def _starts(self, train: Dataset) -> list[Array]:
        """log Q of every dip of the action on the scanned line."""
        line = [x * np.ones(self.network.depth) for x in _SCAN]
        actions = [float(action(self.rate(np.exp(x)), self.energy(train, np.exp(x)))) for x in line]
        padded = np.concatenate([[np.inf], actions, [np.inf]])
        dips = np.flatnonzero((padded[1:-1] <= padded[:-2]) & (padded[1:-1] <= padded[2:]))
        return [line[k] for k in dips]


@dataclass(frozen=True)
class OwnPredictor:
    """Gaussian conditioning under the covariance at one Q."""

    theory: OwnTheory
    train: Dataset
    order_parameters: Array

    def predict(self, x: Array) -> Prediction:
        q, theory = self.order_parameters, self.theory
        gram = RegularisedGram(theory.covariance(q, self.train.x), theory.temperature)
        blocks = [x[start : start + _BLOCK] for start in range(0, len(x), _BLOCK)]
        prior = np.concatenate([np.diagonal(theory.covariance(q, part)) for part in blocks])
        mean, variance = condition(gram, self.train.y, theory.covariance(q, x, self.train.x), prior)
        return Prediction(mean, variance, train_error(gram, self.train.y))


def covariance(network: Network, order_parameters: Array, x1: Array, x2: Array) -> Array:
    """What the network states, checked: a finite (points1, points2) array, symmetric where it has to be."""
    name = f"the covariance of {type(network).__name__}"
    found = checks.real_array(name, network.covariance(np.asarray(order_parameters, dtype=float), x1, x2), (2,))
    if found.shape != (len(x1), len(x2)):
        raise InputError(
            f"{name} of shape {found.shape}",
            f"shape ({len(x1)}, {len(x2)}), a row a point of x1 and a column a point of x2",
            "return K_R(Q) between all pairs of points",
        )
    if x1 is x2 and not np.allclose(found, found.T, rtol=1e-8, atol=1e-12 * np.abs(found).max()):
        raise InputError(f"{name}, which is not symmetric", "k(x, x') = k(x', x)", "correct covariance()")
    return found


def by_log(function: Any, at: Array, cotangent: Array) -> Array:
    """``<cotangent, d function / d log at_l>`` for every l, by central differences."""
    out = np.empty(len(at))
    for layer in range(len(at)):
        step = np.where(np.arange(len(at)) == layer, _STEP, 0.0)
        change = function(at * np.exp(step)) - function(at * np.exp(-step))
        out[layer] = float(np.vdot(cotangent, change)) / (2.0 * _STEP)
    return out


def evidence_gradient(theory: OwnTheory, train: Dataset, q: Array) -> dict[str, Any]:
    """See ``Solution.evidence_gradient``; that in the widths is not known (NaN)."""
    network = theory.network
    gram = RegularisedGram(theory.covariance(q, train.x), theory.temperature)
    cotangent = energy_cotangent(gram, train.y)
    precisions = np.asarray(network.weight_precision)

    def at_precisions(values: Array) -> Array:
        return covariance(network.with_precision(tuple(values)), q, train.x, train.x)

    return {
        "temperature": -energy_by_temperature(gram, train.y),
        "weight_precision": -by_log(at_precisions, precisions, cotangent) / precisions,
        "width": np.full(network.depth, np.nan),  # rate and covariance are known at whole widths alone
    }
