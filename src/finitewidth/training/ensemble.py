"""Trained networks, one a seed: their prediction, their errors with standard errors over seeds, what they learned."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from finitewidth.data import Dataset
from finitewidth.data.dataset import points_like
from finitewidth.display import Displayed
from finitewidth.inference.likelihoods import Gaussian, LeastSquares, Likelihood
from finitewidth.inference.methods import Row, as_in_theory
from finitewidth.inference.prediction import Errors, Prediction, in_own_units
from finitewidth.networks import Network
from finitewidth.runs.jax_runs import Tree, compiled, single_thread

if TYPE_CHECKING:
    from jax import Array as JaxArray
    from numpy.typing import ArrayLike

Array = np.ndarray
_OfNetwork = Callable[[Network, Tree, "JaxArray"], "JaxArray"]
_STILL = 0.01  # change of the objective in the second half of a run, above which a network is not at rest


@dataclass(frozen=True)
class TrainedErrors(Errors):
    """Errors of trained networks; ``_se`` are standard errors over ``networks`` seeds, NaN for one.

    test_error: mean over networks of their own test error. bias: of the mean network, free of the noise of the mean.
    variance: over networks, unbiased, 0 for one. converged is False where a network diverged (then every number is
    NaN), where the run was interrupted or its objective still fell; ``message`` says which.
    """

    test_error_se: float
    train_error_se: float
    bias_se: float
    variance_se: float
    accuracy_se: float | None
    networks: int
    converged: bool
    message: str


@dataclass(frozen=True)
class TrainedRow(TrainedErrors, Row):
    """Errors of trained networks of one width, as a line of a learning curve.

    method: the optimiser. steps: done. learning_rate: as given or chosen.
    """

    steps: int
    learning_rate: float


@dataclass(frozen=True, eq=False)
class History(Displayed):
    """Training as it went: ``step`` (H,), from 0; all else (networks, H).

    objective: ``1/2 sum (y - f)^2 + T/2 sum lambda |theta|^2``. train_error, test_error: mean of (y - f)^2 over points
    and outputs, in the unit of ``Errors``.
    """

    step: Array
    objective: Array
    train_error: Array
    test_error: Array


@dataclass(frozen=True, eq=False)
class Ensemble(Displayed):
    """Networks trained from different seeds; see ``fw.train``. What ``Train`` makes, a ``methods.Solution``.

    Attributes
    ----------
    network, train, test: what was trained, on what.
    seeds: (S,). parameters, initial: after and before training, pytrees of arrays (S, ...) as ``network.apply`` takes
        them.
    history: errors against steps. settings: optimiser, temperature, learning rate, steps. complete: False where the run
        was interrupted.
    """

    network: Network
    train: Dataset
    test: Dataset
    seeds: Array
    parameters: dict[str, Any]
    initial: dict[str, Any]
    history: History
    settings: dict[str, Any]
    complete: bool

    def _facts(self) -> dict[str, Any]:
        done = {"networks": len(self.seeds), "complete": self.complete}
        return {"network": self.network, "train": self.train} | self.settings | {"steps": self.steps} | done

    @property
    def likelihood(self) -> Likelihood:
        """Gaussian; least squares at temperature 0."""
        temperature = self.settings["temperature"]
        return Gaussian(temperature) if temperature else LeastSquares()

    @property
    def order_parameters(self) -> Array:
        """Q of the last layer from the readouts, flat, laid out as the theory's."""
        return as_in_theory(self.order_parameter, self.network, self.train)

    @property
    def log_evidence(self) -> float:
        """NaN: training does not know it."""
        return math.nan

    @property
    def steps(self) -> int:
        """Steps done."""
        return int(self.history.step[-1])

    @property
    def diverged(self) -> Array:
        """Networks whose loss or outputs are not finite, (S,)."""
        outputs = self._at_test.reshape(len(self.seeds), -1)
        return ~(np.isfinite(self.history.objective).all(1) & np.isfinite(outputs).all(1))

    # --- prediction and errors --------------------------------------------------------------------------------

    def outputs(self, x: Any) -> Array:
        """f(x) of every network at points (P, ...): (S, P), or (S, P, D) as the targets are.

        Raises InputError for points of another shape.
        """
        outputs = self._map(_apply, self.parameters, points_like(x, self.train))
        return outputs[..., 0] if self.train.y.ndim == 1 else outputs

    def predict(self, x: ArrayLike | Dataset) -> Prediction:
        """Mean and variance over networks at points ``x``, an array or a ``Dataset``; NaN where a network diverged.

        The variance is unbiased (S - 1), and 0 for one network.
        """
        outputs = self.outputs(x)
        outputs[self.diverged] = np.nan
        mean = outputs.mean(0)
        variance = outputs.var(0, ddof=1) if len(outputs) > 1 else np.zeros_like(mean)
        return Prediction(mean, variance, float(self._train_errors.mean()), encoding=self.train.encoding)

    def row(self, test: Dataset, seconds: float) -> TrainedRow:
        """The line of a learning curve."""
        rate = self.settings["learning_rate"]
        return TrainedRow.of(
            self, self.errors(test), seconds, self.settings["optimiser"], steps=self.steps, learning_rate=rate
        )

    def errors(self, y: Any = None) -> TrainedErrors:
        """Errors, averaged over points and outputs, on a test set ``y``, a ``Dataset`` (default: ``test``).

        ``y``: targets alone are those at the points of ``test``; as for ``Prediction.errors``, and refused as there.
        """
        if isinstance(y, Dataset) and y is not self.test:
            return replace(self, test=y).errors()
        outputs = self._at_test
        y = self.train.encoding.targets(self.test if y is None else y, outputs.shape[1:])
        outputs = np.where(self.diverged.reshape(-1, *(1,) * y.ndim), np.nan, outputs)
        mean, count = outputs.mean(0), len(outputs)
        own = ((y - outputs) ** 2).reshape(count, -1).mean(1)
        variance = float(outputs.var(0, ddof=1).mean()) if count > 1 else 0.0
        # to first order the bias errs as the mean of this (delta method)
        slope = (-2.0 * (y - mean) * (outputs - mean)).reshape(count, -1).mean(1)
        test_error, accuracy = _mean(own), self._accuracy(y, outputs)
        errors = TrainedErrors(
            test_error=test_error,
            bias=test_error - variance,
            variance=variance,
            accuracy=None if accuracy is None else _mean(accuracy),
            train_error=_mean(self._train_errors),
            test_error_se=standard_error(own),
            train_error_se=standard_error(self._train_errors),
            bias_se=standard_error(slope),
            variance_se=standard_error(own - slope),
            accuracy_se=None if accuracy is None else standard_error(accuracy),
            networks=count,
            converged=self.converged,
            message=self.message,
        )
        return in_own_units(errors, self.train.encoding)

    @property
    def message(self) -> str:
        """Why the networks have not come to rest, and what to do; empty where they have."""
        if self.diverged.any():
            remedy = "take a smaller learning_rate"
            return f"{int(self.diverged.sum())} of {len(self.seeds)} networks diverged; {remedy}"
        if not self.complete:
            return f"interrupted after {self.steps} of {self.settings['steps']} steps"
        if self._falling.any():
            where = f"the objective of {int(self._falling.sum())} of {len(self.seeds)} networks moved by more than 1 %"
            return f"{where} in the second half of the run; train for more steps"
        return ""

    @property
    def converged(self) -> bool:
        """Whether the networks have come to rest."""
        return not self.message

    @property
    def _falling(self) -> Array:
        """Networks whose objective changed in the second half of the run by more than 1 % of its end.

        An objective below a thousandth of its start counts as zero.
        """
        objective, step = self.history.objective, self.history.step
        before = objective[:, np.searchsorted(step, 0.5 * step[-1])]
        floor = np.maximum(objective[:, -1], 1e-3 * objective[:, 0])
        return np.abs(before - objective[:, -1]) > _STILL * floor

    def _accuracy(self, y: Array, outputs: Array) -> Array | None:
        """Of every network, (S,); NaN where it diverged, None for regression."""
        if y.ndim == 1 and np.isin(y, (-1.0, 1.0)).all():
            right = y * outputs > 0.0
        elif y.ndim == 2 and self.train.is_classification:
            right = outputs.argmax(2) == y.argmax(1)
        else:
            return None
        return np.where(self.diverged, np.nan, right.mean(1))

    @cached_property
    def _at_test(self) -> Array:
        return self.outputs(self.test.x)

    @cached_property
    def _train_errors(self) -> Array:
        """Mean of (y - f)^2 over the points trained on, (S,)."""
        errors = ((self.train.y - self.outputs(self.train.x)) ** 2).reshape(len(self.seeds), -1).mean(1)
        return np.where(self.diverged, np.nan, errors)

    # --- what the networks learned ----------------------------------------------------------------------------

    def hidden_kernels(self, x: Array | None = None, initial: bool = False) -> Array:
        """``phi phi^T / N`` of every network on ``x`` (default: the training points), (S, P, P).

        With patches, their mean (or, pooled, of the pooled features). initial: before training.
        """
        kernels = self._map(
            _hidden_kernel, self.initial if initial else self.parameters, self.train.x if x is None else x
        )
        return kernels * (self.network.widths[-1] if self.network.readout == "mean-field" else 1)

    @property
    def order_parameter(self) -> Array:
        """Q = lambda_L <v v^T>/N over networks, (n D, n D) with index i D + d for patch i, output d; see ``Draws``."""
        width, outputs = self.network.widths[-1], self.readouts.shape[1]
        v = self.readouts.reshape(len(self.seeds), outputs, -1, width)
        size = v.shape[2] * outputs
        gram = np.einsum("sdia,seja->idje", v, v) / (width * len(v))
        return self.network.weight_precision[-1] * gram.reshape(size, size)

    @property
    def readouts(self) -> Array:
        """Readout weights of every network, (S, D, features)."""
        return np.asarray(self.parameters["readout"])

    @property
    def first_layer(self) -> Array:
        """First-layer weights of every network, (S, N, inputs), or (S, n, N, inputs of a patch) if unshared."""
        import jax

        hidden = jax.tree.map(np.asarray, self.parameters["hidden"])
        networks = (jax.tree.map(lambda leaf: leaf[i], hidden) for i in range(len(self.seeds)))  # noqa: B023
        return np.stack([self.network.first_weights(one) for one in networks])

    def _map(self, function: _OfNetwork, parameters: Tree, x: Any) -> Array:
        """One network after another, which bounds the memory; (S, ...)."""
        import jax

        x = np.asarray(x, dtype=float)
        one = compiled(function, self.network, lane=False)
        with single_thread():
            networks = (jax.tree.map(lambda leaf: leaf[i], parameters) for i in range(len(self.seeds)))  # noqa: B023
            return np.stack([np.asarray(one(network, x)) for network in networks])


def _apply(network: Network, parameters: Tree, x: JaxArray) -> JaxArray:
    return network.apply(parameters, x)


def _hidden_kernel(network: Network, parameters: Tree, x: JaxArray) -> JaxArray:
    features = network.features(parameters["hidden"], x)
    return features @ features.T


def standard_error(values: Array) -> float:
    """Of the mean of independent values; NaN for one."""
    return float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def _mean(values: Array) -> float:
    return float(np.mean(values))
