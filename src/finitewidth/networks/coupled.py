"""Two networks with coupled first layers, the prior of transfer learning: one for a source task, one for a target task.

Both have one fully connected hidden layer of the same width and readouts of their own; the coupling g pulls their first
layers together neuron by neuron (Ingrosso, Pacelli, Rotondo and Gerace 2025). l0 is the precision of the first layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from finitewidth import checks
from finitewidth.checks.exceptions import InputError
from finitewidth.data import Dataset
from finitewidth.display import Settings
from finitewidth.networks.base import Network
from finitewidth.networks.fully_connected import FullyConnected

Array = np.ndarray


@dataclass(frozen=True)
class Coupled(Settings):
    """What both protocols share. network: that of either task, readouts included. coupling: g.

    Raises InputError for other architectures, for offsets, and for a coupling that is negative.
    """

    network: Network
    coupling: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "coupling", checks.not_negative("coupling", self.coupling))
        if not isinstance(self.network, FullyConnected) or self.network.depth != 1:
            raise InputError(
                f"transfer with {type(self.network).__name__} of depth {self.network.depth}",
                "one hidden layer, fully connected",
                "use FullyConnected(widths=N)",
            )
        if self.network.offset_precision is not None:
            raise InputError("transfer between networks with offsets", "none", "leave offset_precision out")

    @property
    def width(self) -> int:
        """N."""
        return int(self.network.widths[0])

    @property
    def precision(self) -> float:
        """l0."""
        return float(self.network.weight_precision[0])

    @property
    def covariance(self) -> Array:
        """Prior covariance of a source weight and the target weight that it is coupled to, (2, 2), source first."""
        raise NotImplementedError

    @property
    def correlation(self) -> float:
        """Prior correlation of the two weights, from 0 (no coupling) to 1."""
        own = self.covariance
        return float(own[0, 1] / math.sqrt(own[0, 0] * own[1, 1]))

    def check(self, source: Dataset, target: Dataset, test: Dataset | None = None) -> None:
        """Raise InputError for tasks of several outputs, and for points of different sizes."""
        both = {"source": source, "target": target}
        for name, data in both.items():
            if data.n_outputs != 1:
                raise InputError(f"a {name} task of {data.n_outputs} outputs", "one output", "choose two classes")
        for name, data in (both if test is None else both | {"test": test}).items():
            if data.n_inputs != source.n_inputs:
                raise InputError(
                    f"{name} points of {data.n_inputs} inputs and source points of {source.n_inputs}",
                    "the same inputs in both tasks",
                    "prepare both in the same way",
                )


@dataclass(frozen=True)
class Joint(Coupled):
    """Both tasks learned together: energy ``l0/2 (|W_s|^2 + |W_t|^2) - (g/2) W_s.W_t``, which needs g < 2 l0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.coupling >= 2.0 * self.precision:
            raise InputError(
                f"coupling = {self.coupling:g} of tasks learned jointly at precision {self.precision:g}",
                f"a coupling below twice the precision, {2.0 * self.precision:g}",
                "lower the coupling, or raise the precision of the first layer",
            )

    @property
    def covariance(self) -> Array:
        own, half = self.precision, 0.5 * self.coupling
        return np.array([[own, half], [half, own]]) / (own**2 - half**2)

    @classmethod
    def of_correlation(cls, network: Network, correlation: float) -> Joint:
        """With the coupling that gives this prior correlation, in [0, 1): g = 2 l0 correlation."""
        value = _correlation(correlation)
        return cls(network, 2.0 * network.weight_precision[0] * value)


@dataclass(frozen=True)
class SourceFirst(Coupled):
    """The source learned first, alone; then the target with ``l0/2 |W_t|^2 + (g/2) |W_t - W_s|^2``, W_s kept.

    ``W_t | W_s`` has the prior mean ``shift`` W_s and the prior variance ``spread``.
    """

    @property
    def shift(self) -> float:
        """c = g / (l0 + g)."""
        return self.coupling / (self.precision + self.coupling)

    @property
    def spread(self) -> float:
        """s^2 = 1 / (l0 + g)."""
        return 1.0 / (self.precision + self.coupling)

    @property
    def covariance(self) -> Array:
        own, c = 1.0 / self.precision, self.shift
        return np.array([[own, c * own], [c * own, c**2 * own + self.spread]])

    @property
    def between_replicas(self) -> float:
        """Covariance of two target weights that follow the same source weight."""
        return self.shift**2 / self.precision

    @classmethod
    def of_correlation(cls, network: Network, correlation: float) -> SourceFirst:
        """With the coupling that gives this prior correlation, in [0, 1): the root of ``g^2 (1 - r^2) = r^2 (g + 1)``.

        In units of l0; the square of the correlation is ``c^2 / (c^2 + l0 s^2)``.
        """
        value = _correlation(correlation)
        odds = value**2 / (1.0 - value**2)
        return cls(network, network.weight_precision[0] * 0.5 * (odds + math.sqrt(odds**2 + 4.0 * odds)))


def _correlation(value: float) -> float:
    value = checks.not_negative("correlation", value)
    if value >= 1.0:
        raise InputError(f"correlation = {value:g}", "a number in [0, 1)", "lower it; 1 is an infinite coupling")
    return value
