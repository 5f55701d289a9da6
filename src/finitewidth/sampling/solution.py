"""What ``Sample`` gives: draws, and predictions and errors of them at the points where there are any."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from finitewidth import checks
from finitewidth.checks.exceptions import InputError
from finitewidth.data import Dataset
from finitewidth.display import Displayed
from finitewidth.inference.likelihoods import Likelihood
from finitewidth.inference.prediction import Prediction
from finitewidth.networks import Network
from finitewidth.sampling.draws import Draws, SampledErrors
from finitewidth.sampling.rows import SampledRow, order_parameters
from finitewidth.sampling.weights import Weights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Sampled(Displayed):
    """A sampled network; see ``methods.Solution``.

    draws: with predictions at the points ``x``: those of the test set, or of training where none was given. weights:
    of some draws, from which predictions at other points follow; None where a test set was given.
    """

    network: Network
    likelihood: Likelihood
    train: Dataset
    draws: Draws
    x: Array
    weights: Weights | None = None

    def _facts(self) -> dict[str, Any]:
        return {"network": self.network, "train": self.train, "draws": self.draws, "message": self.message}

    @property
    def order_parameters(self) -> Array:
        """Q of the last layer from the readouts, flat, laid out as the theory's; empty where it was not recorded."""
        return np.ravel(order_parameters(self.network, self.draws))

    @property
    def log_evidence(self) -> float:
        """NaN: a sampler does not know it."""
        return math.nan

    @property
    def converged(self) -> bool:
        """Whether the chains agree in energy and train error; that of the test error is in ``errors``."""
        return self.draws.verdict()[0]

    @property
    def message(self) -> str:
        """What is wrong, and what to do."""
        return self.draws.verdict()[1]

    @property
    def complete(self) -> bool:
        """False where an interrupt cut the run short."""
        return self.draws.complete

    def at(self, x: Any) -> Draws:
        """The draws with predictions at points ``x``, an array or a ``Dataset``.

        They are those recorded for the points of the run, and follow from the stored weights for others; these
        are fewer draws. Raises InputError where none were stored and for points of another shape, MemoryCapError.
        """
        x = checks.real_array("x", x.x if isinstance(x, Dataset) else x, None)
        if x.shape[1:] != self.train.x.shape[1:]:
            raise InputError(
                f"points of shape {x.shape[1:]}",
                f"points of shape {self.train.x.shape[1:]}, as in training",
                "prepare them as the training points were",
            )
        if np.array_equal(x, self.x):
            return self.draws
        if self.weights is None:
            raise InputError(
                f"{len(x)} points that are not those of the test set",
                "the test points that were given before sampling",
                "give these points as the test set, or sample without one, which keeps weights: method.solve(..)",
            )
        mean, variance = self.weights.outputs(x)
        return replace(self.draws, mean=mean, variance=variance)

    def predict(self, x: ArrayLike | Dataset) -> Prediction:
        """Predictive mean and variance over draws at points ``x``; see ``at``."""
        return self.at(x).prediction()

    def errors(self, test: Dataset) -> SampledErrors:
        """On a test set, with Monte-Carlo standard errors; see ``at``."""
        return self.at(test).errors(test)

    def row(self, test: Dataset, seconds: float) -> SampledRow:
        """The line of a learning curve."""
        temperature, n_train = self.likelihood.temperature, self.train.n_points
        return SampledRow.of(self.network, self.at(test), temperature, n_train, test, seconds)
