"""What solving a theory on a data set gives: order parameters, evidence, and a way to predict."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from finitewidth.data import Dataset
from finitewidth.exceptions import InputError
from finitewidth.prediction import Prediction
from finitewidth.theory.saddle import Minimum

Array = np.ndarray


class Predictor(Protocol):
    """The posterior of the function, ready to be conditioned at new points."""

    def predict(self, x: Array) -> Prediction: ...


class EvidenceGradient(Protocol):
    def __call__(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Solution:
    """The order parameters that a theory takes on a data set.

    order_parameters: Q, flat: one number a layer (fully connected), n x n row-major (convolutional), n (locally
        connected), one (pooled), D x D row-major (several outputs); empty at infinite width. With ``integrate`` their
        posterior mean.
    log_evidence: in nats; -F at a saddle, the log of the integral with ``integrate``.
    minima: every local minimum of the action that was found, the best first; more than one is metastability.
    converged, message: whether the stated tolerance was reached, and what to know or do.
    """

    theory: Any
    train: Dataset
    order_parameters: Array
    log_evidence: float
    converged: bool
    message: str
    minima: tuple[Minimum, ...]
    predictor: Predictor = field(repr=False)
    gradient: EvidenceGradient | None = field(default=None, repr=False)

    @property
    def action(self) -> float:
        """F of the best minimum, nats; without order parameters, -log evidence."""
        return self.minima[0].action if self.minima else -self.log_evidence

    @property
    def gradient_norm(self) -> float:
        """Largest |dF/d log Q| left at the best minimum, nats: the certificate of convergence."""
        return self.minima[0].gradient_norm if self.minima else 0.0

    def evidence_gradient(self) -> dict[str, Any]:
        """Derivatives of the log evidence at the saddle: by the envelope theorem only the explicit ones count.

        ``{"temperature": float, "weight_precision": (L + 1,), "width": (L,)}``, nats per unit of each.
        Raises InputError where the theory has none (integrated order parameters).
        """
        if self.gradient is None:
            raise InputError(
                "the evidence gradient of an integrated solution", "a saddle or infinite width", "use method='saddle'"
            )
        return self.gradient()


def predict(solution: Solution, x: Any) -> Prediction:
    """Predictive mean and variance of the outputs f at points ``x`` (points, inputs) or images.

    Raises InputError if ``x`` does not have the inputs of the training data, or is not finite.
    """
    from finitewidth import checks

    x = checks.real_array("x", x, (2, 3, 4))
    inputs = int(np.prod(x.shape[1:]))
    if inputs != solution.train.n_inputs:
        raise InputError(
            f"x with {inputs} inputs a point",
            f"{solution.train.n_inputs}, as in training",
            "prepare test points as the training points were prepared",
        )
    return solution.predictor.predict(x)
