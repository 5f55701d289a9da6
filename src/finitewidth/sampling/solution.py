"""What ``Sample`` gives: draws, or weights of some of them, and predictions and errors that follow."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from finitewidth.checks.exceptions import InputError
from finitewidth.data import Dataset
from finitewidth.data.dataset import points_like
from finitewidth.display import Displayed
from finitewidth.inference.likelihoods import Likelihood
from finitewidth.inference.methods import Row, as_in_theory
from finitewidth.inference.prediction import Prediction
from finitewidth.linalg import require_memory
from finitewidth.networks import Network
from finitewidth.runs.jax_runs import compiled, single_thread
from finitewidth.sampling.draws import Draws, SampledErrors

if TYPE_CHECKING:
    from jax import Array as JaxArray
    from numpy.typing import ArrayLike

    from finitewidth.sampling.method import SamplingRun
    from finitewidth.sampling.posterior import Arrays, Target
    from finitewidth.sampling.program import Record

Array = np.ndarray


@dataclass(frozen=True)
class SampledRow(SampledErrors, Row):
    """Errors of one sampled network, as a line of a learning curve.

    method: the sampler. acceptance: mean of the Metropolis test.
    order_parameters: from the readouts: one number (fully connected, pooled), n x n row-major (convolutional), n
        (locally connected), D x D or n D x n D (several outputs).
    converged: False where chains disagree or are too short; the numbers stay, ``message`` says what is wrong.
    """

    chains: int
    draws: int
    acceptance: float


@dataclass(frozen=True, eq=False)
class Weights:
    """positions: whitened weights of k draws of every chain, (chains, k, dim); see ``posterior.Target``. iterations: of
    the run, after which each was there."""

    run: SamplingRun
    positions: Array
    iterations: tuple[int, ...]

    def outputs(self, x: Array) -> tuple[Array, Array]:
        """E[f(x) | draw] and Var[f(x) | draw], as ``Draws`` has them, of the k draws.

        The readouts are conditioned on the training set exactly, or are those drawn; weights of inputs outside the
        training span have their prior, and are drawn as the sampler draws them. Raises MemoryCapError.
        """
        run, engine = self.run, self.run.engine
        numbers = 4.0 * self.positions[..., 0].size * len(x) * (run.y.shape[1] + 1) + run.working(len(x))
        require_memory(8.0 * numbers, f"{len(x)} points to predict", "predict fewer at once")
        at, n_extra = run.inputs.at(x)
        target = replace(engine.sampler.target, n_extra=n_extra)
        one = compiled(_observed, target, engine.sampler.conditional)
        arrays = engine.arrays._replace(test=at)
        with single_thread():
            records = [
                [one(*drawn, words, arrays) for drawn in zip(thetas, self.iterations, strict=True)]
                for thetas, words in zip(self.positions, engine.words, strict=True)
            ]
        mean, variance = (
            np.array([[record[name] for record in chain] for chain in records]) for name in ("mean", "variance")
        )
        return run.outputs(mean, variance)


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
        if "order_parameter" not in self.draws.observables:
            return np.empty(0)
        return as_in_theory(self.draws.order_parameter, self.network, self.train)

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
        x = points_like(x, self.train)
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
        draws = self.at(test)
        return SampledRow.of(
            *(self, draws.errors(test), seconds, draws.attrs["sampler"]),
            chains=draws.n_chains,
            draws=draws.n_draws,
            acceptance=float(draws.acceptance.mean()),
        )


def _observed(
    target: Target, conditional: bool, theta: JaxArray, iteration: int, words: Array, arrays: Arrays
) -> Record:
    """As the sampler observed that draw, at the points of ``arrays``."""
    from finitewidth.sampling.program import observe, observing_key

    return observe(target, theta, observing_key(words, iteration), arrays, (), conditional)[0]
