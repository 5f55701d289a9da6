"""How targets follow from outputs: a likelihood takes a covariance of the outputs and the targets to a posterior.

Theories ask a posterior for its energy (minus the log evidence), how that changes with the covariance, and for
predictions. ``Gaussian`` is the likelihood of regression; classes are its targets, encoded.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from finitewidth import checks
from finitewidth.checks.exceptions import InputError
from finitewidth.checks.keywords import CheckedKeywords
from finitewidth.display import Settings
from finitewidth.linalg import RegularisedGram, left_over

Array = np.ndarray
LOG_2PI = math.log(2.0 * math.pi)


class Posterior(Protocol):
    """A Gaussian process conditioned on the targets of P training points.

    energy: minus the log evidence of the targets, nats. train_error: posterior mean of (1/P) sum (y - f)^2.
    """

    @property
    def energy(self) -> float: ...
    @property
    def train_error(self) -> float: ...

    def cotangent(self) -> Array:
        """d energy / d K, symmetric (P, P)."""

    def predict(self, cross: Array, prior: Array) -> tuple[Array, Array]:
        """Mean and variance of f at P* points: cross k(x, X) (P*, P), prior k(x, x) (P*,)."""


class Likelihood(CheckedKeywords, Settings, abc.ABC):
    """Targets given outputs. Subclass it for one of your own (docs/methods.md).

    temperature: T, the variance of the noise around an output; a field or a property.
    """

    if TYPE_CHECKING:

        @property
        def temperature(self) -> float: ...

    @abc.abstractmethod
    def posterior(self, covariance: Array, y: Array) -> Posterior:
        """Of outputs with prior covariance (P, P), given targets y (P,)."""

    @classmethod
    def of(cls, given: float | Likelihood) -> Likelihood:
        """A likelihood as it is; a number is the temperature of a Gaussian one."""
        return given if isinstance(given, Likelihood) else Gaussian(given)


@dataclass(frozen=True)
class Gaussian(Likelihood):
    """``y = f + noise`` of variance ``temperature``. Raises InputError unless that is positive."""

    temperature: float

    def __post_init__(self) -> None:
        checks.put(self, temperature=checks.positive)

    def posterior(self, covariance: Array, y: Array) -> GaussianPosterior:
        """See ``Likelihood``; y (P, D) is D outputs of the same covariance."""
        return GaussianPosterior(RegularisedGram(covariance, self.temperature), y)


@dataclass(frozen=True)
class LeastSquares(Likelihood):
    """Targets are fitted as they are: temperature 0. There is no posterior, so only training takes it."""

    @property
    def temperature(self) -> float:
        """0."""
        return 0.0

    def posterior(self, covariance: Array, y: Array) -> Posterior:
        """Raises InputError."""
        raise InputError("temperature = 0", "a positive temperature", "write temperature=0.05, for example")


@dataclass(frozen=True)
class GaussianPosterior:
    """Gaussian noise in closed form. gram: A = K + T (P, P). y: (P,), or (P, D) with one covariance for all outputs."""

    gram: RegularisedGram
    y: Array

    @property
    def outputs(self) -> int:
        return 1 if self.y.ndim == 1 else self.y.shape[1]

    @cached_property
    def energy(self) -> float:
        """``-log N(y; 0, A)`` in nats, summed over outputs."""
        y = self.y
        return 0.5 * (self.outputs * self.gram.log_det + float(np.vdot(y, self.gram.solve(y))) + y.size * LOG_2PI)

    def cotangent(self) -> Array:
        """``1/2 (D A^-1 - a a^T)``, a = A^-1 y, (P, P); for changes that are zero where K is."""
        a = self.gram.solve_range(self.y).reshape(self.gram.size, -1)
        cotangent = self.gram.inverse_range()
        cotangent *= 0.5 * self.outputs
        cotangent -= 0.5 * a @ a.T
        return cotangent

    def by_temperature(self) -> float:
        """``d energy / d T = 1/2 (D Tr A^-1 - |A^-1 y|^2)``."""
        return 0.5 * float(self.outputs * self.gram.inverse_trace - np.sum(self.gram.solve(self.y) ** 2))

    @cached_property
    def train_error(self) -> float:
        """``(T^2/P) |A^-1 y|^2 + (T/P) Tr(K A^-1)``, a mean over points and outputs."""
        gram = self.gram
        residual = gram.ridge * gram.solve(self.y)
        trace = float(left_over(np.array([gram.size]), np.array([gram.ridge * gram.inverse_trace]))[0])
        return float(np.mean(residual**2)) + gram.ridge * trace / gram.size

    def predict(self, cross: Array, prior: Array) -> tuple[Array, Array]:
        """Mean ``k A^-1 y`` and variance ``K(x,x) - k A^-1 k``, of every output with y (P, D).

        cross: (P*, P). prior: (P*,). Where only rounding is left of the variance, it is zero.
        """
        mean = cross @ self.gram.solve_range(self.y)
        whitened = self.gram.whiten(cross.T)
        variance = left_over(prior, np.einsum("pi,pi->i", whitened, whitened))
        return mean, np.broadcast_to(variance[:, None], mean.shape).copy() if mean.ndim == 2 else variance

    def predict_coupled(self, cross: Array, prior: Array) -> tuple[Array, Array]:
        """Mean (P*, D) and covariance (P*, D, D) of D coupled outputs, outputs running fastest in all indices.

        gram: (P D, P D), y: (P D,). cross: (P* D, P D). prior: (P*, D, D).
        """
        points, outputs = prior.shape[:2]
        mean = (cross @ self.gram.solve_range(self.y)).reshape(points, outputs)
        whitened = self.gram.whiten(cross.T).reshape(-1, points, outputs)
        return mean, prior - np.einsum("kpa,kpb->pab", whitened, whitened, optimize=True)
