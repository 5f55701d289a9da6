"""What ``Train`` gives: an ensemble, and its predictions and errors at any points."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from finitewidth import checks
from finitewidth.data import Dataset
from finitewidth.display import Displayed
from finitewidth.inference.likelihoods import Likelihood
from finitewidth.inference.prediction import Prediction
from finitewidth.networks import Network
from finitewidth.training.ensemble import Ensemble, TrainedErrors
from finitewidth.training.least_squares import likelihood_at
from finitewidth.training.rows import TrainedRow, order_parameters

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Trained(Displayed):
    """Trained networks; see ``methods.Solution``."""

    ensemble: Ensemble

    @property
    def network(self) -> Network:
        """What was trained."""
        return self.ensemble.network

    @property
    def likelihood(self) -> Likelihood:
        """Gaussian; least squares at temperature 0."""
        return likelihood_at(self.ensemble.settings["temperature"])

    @property
    def train(self) -> Dataset:
        """The points trained on, without those held out."""
        return self.ensemble.train

    @property
    def order_parameters(self) -> Array:
        """Q of the last layer from the readouts, flat, laid out as the theory's."""
        return np.ravel(order_parameters(self.ensemble))

    @property
    def log_evidence(self) -> float:
        """NaN: training does not know it."""
        return math.nan

    @property
    def converged(self) -> bool:
        """Whether the networks have come to rest."""
        return self.ensemble.verdict[0]

    @property
    def message(self) -> str:
        """What is wrong, and what to do."""
        return self.ensemble.verdict[1]

    @property
    def complete(self) -> bool:
        """False where an interrupt cut the run short."""
        return self.ensemble.complete

    def predict(self, x: ArrayLike | Dataset) -> Prediction:
        """Mean and variance over networks at points ``x``, an array or a ``Dataset``."""
        return self.ensemble.prediction(checks.real_array("x", x.x if isinstance(x, Dataset) else x, None))

    def errors(self, test: Dataset) -> TrainedErrors:
        """On a test set, with standard errors over networks."""
        return self._at(test).errors()

    def row(self, test: Dataset, seconds: float) -> TrainedRow:
        """The line of a learning curve."""
        return TrainedRow.of(self._at(test), seconds)

    def _at(self, test: Dataset) -> Ensemble:
        return self.ensemble if test is self.ensemble.test else replace(self.ensemble, test=test)
