"""Training without noise and without weight decay, as a likelihood: what a Gaussian one tends to at temperature 0."""

from __future__ import annotations

from dataclasses import dataclass

from finitewidth.checks.exceptions import InputError
from finitewidth.inference.likelihoods import Array, Gaussian, Likelihood, Posterior


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


def likelihood_at(temperature: float) -> Likelihood:
    """Gaussian; least squares at temperature 0."""
    return LeastSquares() if temperature == 0.0 else Gaussian(temperature)
