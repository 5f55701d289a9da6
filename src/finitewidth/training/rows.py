"""Trained networks as the line of a learning curve."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from finitewidth.display import Displayed
from finitewidth.training.ensemble import Ensemble, TrainedErrors


@dataclass(frozen=True)
class TrainedRow(Displayed):
    """Errors of networks of one width, trained; ``_se`` are standard errors over networks.

    width, depth, temperature, n_train: as in a row of ``fw.learning_curve``; n_train without the held-out points.
    method: the optimiser. networks: seeds. steps: done. learning_rate: as given or chosen.
    order_parameters: Q of the last layer, from the readouts, laid out as there.
    log_evidence: None; rows of predict, sample and train are alike.
    converged: False where a network diverged (every error is NaN then) or still moved; ``message`` says which.
    complete: False where the run was interrupted.
    """

    width: int | tuple[int, ...]
    depth: int
    temperature: float
    n_train: int
    method: str
    networks: int
    steps: int
    learning_rate: float
    train_error: float
    test_error: float
    bias: float
    variance: float
    accuracy: float | None
    train_error_se: float
    test_error_se: float
    bias_se: float
    variance_se: float
    accuracy_se: float | None
    order_parameters: list[float]
    log_evidence: None
    converged: bool
    complete: bool
    message: str
    seconds: float

    @classmethod
    def of(cls, ensemble: Ensemble, seconds: float) -> TrainedRow:
        """Of trained networks on their test set."""
        errors = ensemble.errors()
        shared = {field.name for field in fields(cls)} & {field.name for field in fields(TrainedErrors)}
        return cls(
            width=ensemble.network.common_width,
            depth=ensemble.network.depth,
            temperature=ensemble.settings["temperature"],
            n_train=len(ensemble.train),
            method=ensemble.settings["optimiser"],
            steps=ensemble.steps,
            learning_rate=ensemble.settings["learning_rate"],
            order_parameters=[float(q) for q in np.ravel(order_parameters(ensemble))],
            log_evidence=None,
            complete=ensemble.complete,
            seconds=seconds,
            **{name: getattr(errors, name) for name in shared},
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON but for NaN."""
        return asdict(self)


def order_parameters(ensemble: Ensemble) -> np.ndarray:
    """Q as the theory lays it out: without weight sharing only its diagonal has a meaning."""
    q, network = ensemble.order_parameter, ensemble.network
    diagonal = not network.shares_weights and ensemble.readouts.shape[1] == 1
    return np.diagonal(q) if diagonal else q
