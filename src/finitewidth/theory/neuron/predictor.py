"""Predictions and learned features of a solved single-neuron theory, from its stored particles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from finitewidth.data import Dataset
from finitewidth.inference.likelihoods import GaussianPosterior
from finitewidth.inference.prediction import Errors, Prediction
from finitewidth.linalg import RegularisedGram
from finitewidth.runs.jax_runs import single_thread
from finitewidth.theory.learned import LearnedFeatures

if TYPE_CHECKING:
    from finitewidth.theory.neuron.particles import PointMoments, State
    from finitewidth.theory.neuron.rounds import Problem, Result

Array = np.ndarray
_AT_ONCE = 4e6  # numbers in one array of features at other points


@dataclass(frozen=True)
class NeuronErrors(Errors):
    """Errors with their standard errors over independent seeds; NaN from a single one."""

    test_error_se: float
    train_error_se: float


@dataclass(frozen=True)
class NeuronPrediction(Prediction):
    """The mean over seeds; ``parts`` are the predictions of each."""

    parts: tuple[Prediction, ...] = ()

    def errors(self, y: Any) -> NeuronErrors:
        """Errors of the mean over seeds, and the standard errors of that mean. Raises InputError as ``Prediction``."""
        each = [replace(part, encoding=self.encoding).errors(y) for part in self.parts]
        whole = super().errors(y)
        return NeuronErrors(
            whole.test_error,
            whole.bias,
            whole.variance,
            whole.accuracy,
            whole.train_error,
            _standard_error([e.test_error for e in each]),
            _standard_error([e.train_error for e in each]),
        )


@dataclass(frozen=True)
class NeuronPredictor:
    """Averages over the particles stored at the solved field (s, R), one set for every seed."""

    theory: Any
    train: Dataset
    problem: Problem
    results: tuple[Result, ...]

    def predict(self, x: Array) -> NeuronPrediction:
        parts = tuple(self._of(result, x) for result in self.results)
        mean = np.mean([part.mean for part in parts], axis=0)
        variance = np.mean([part.variance for part in parts], axis=0)
        covariances = [part.covariance for part in parts if part.covariance is not None]
        covariance = np.mean(covariances, axis=0) if covariances else None
        error = float(np.mean([part.train_error for part in parts]))
        return NeuronPrediction(mean, variance, error, covariance, parts)

    @cached_property
    def order_parameters(self) -> Array:
        """Q = lambda_1 E[v v^T], averaged over seeds: (n, n), (n,), (1,), (D, D), (n D, n D) or (n, D, D)."""
        order = np.mean([result.averages.order for result in self.results], axis=0)  # (G, m D, m D)
        if self.theory.network.shares_weights:
            return order[0]
        return order if self.train.n_outputs > 1 else order[:, 0, 0]

    def kernel_at(self, x: Array) -> Array:
        """K_R of points ``x``, (points, points), averaged over outputs; of the first seed."""
        from finitewidth.theory.neuron import particles

        result, rows = self.results[0], self.problem.design.at(np.asarray(x))
        parts = self._of_snapshots(particles.kernel_at, result, rows)
        return np.mean([np.asarray(part) for part in parts], axis=0)

    @cached_property
    def features(self) -> LearnedFeatures:
        """What the neurons learned, averaged over the particles of all seeds."""
        parts = [self._learned(result) for result in self.results]
        return LearnedFeatures(
            np.mean([part[0] for part in parts], axis=0),
            np.mean([part[1] for part in parts], axis=0),
            np.concatenate([part[2] for part in parts]),
            self.theory.network.field_shape(self.train.x.shape[1:]),
        )

    # --- predictions -------------------------------------------------------------------------------------------------

    def _of(self, result: Result, x: Array) -> Prediction:
        """One seed: what the particles say, corrected to first order for ``T s + f - y`` on the same particles.

        The correction removes most of their noise: that of f at test points goes with that at training points.
        """
        moments = self._moments(result, x)
        outputs, points = moments.f.shape
        values, T = self.problem.y.size, self.problem.temperature
        kernel = moments.kernel.reshape(values, values)
        gram = RegularisedGram(0.5 * (kernel + kernel.T), T)
        residual = T * result.position.s + moments.f_train.ravel() - self.problem.y
        cross = moments.cross.transpose(1, 0, 2, 3).reshape(points * outputs, values)
        change, covariance = GaussianPosterior(gram, -residual).predict_coupled(cross, moments.own.transpose(2, 0, 1))
        mean = moments.f.T + change
        variance = np.maximum(np.einsum("paa->pa", covariance), 0.0)
        left = T * (result.position.s - gram.solve(residual))  # y - f on the training points
        error = float(np.mean(left**2)) + T * (1.0 - T * gram.inverse_trace / values)
        if self.train.y.ndim == 1:
            return Prediction(mean[:, 0], variance[:, 0], error)
        return Prediction(mean, variance, error, covariance)

    def _moments(self, result: Result, x: Array) -> PointMoments:
        """Averages over the snapshots, a few points at a time."""
        from finitewidth.theory.neuron.particles import PointMoments

        design = self.problem.design
        count = int(np.prod(result.snapshots.theta.shape[1:3])) * design.n_preactivations
        parts = np.array_split(np.asarray(x), max(1, -(-len(x) * count // int(_AT_ONCE))))
        moments = [self._at(result, design.at(part)) for part in parts]
        return PointMoments(
            np.concatenate([m.f for m in moments], axis=1),
            np.concatenate([m.cross for m in moments], axis=1),
            np.concatenate([m.own for m in moments], axis=2),
            *moments[0][3:],
        )

    def _at(self, result: Result, rows: Array) -> PointMoments:
        from finitewidth.theory.neuron import particles

        total = reduce(_added, self._of_snapshots(particles.at_points, result, rows))
        count = len(result.snapshots.theta)
        return particles.PointMoments(*(np.asarray(part) / count for part in total))

    def _of_snapshots(self, function: Callable[..., Any], result: Result, *rows: Array) -> Iterator[Any]:
        """``function`` of every stored state at the solved field, and at other points where there are ``rows``."""
        from finitewidth.theory.neuron import particles

        position = result.position
        with single_thread():
            R = RegularisedGram(position.kernel, self.problem.temperature).inverse()
            field, work = self.problem.field(position.s, R), particles.compiled(function, result.model)
            for k, state in enumerate(_states(result)):
                keys = [particles.key_of(k, 3)] if rows else []
                yield work(state, self.problem.data, field, *rows, *keys)

    # --- features ----------------------------------------------------------------------------------------------------

    def _learned(self, result: Result) -> tuple[Array, Array, Array]:
        """Weight covariance (G, inputs, inputs), hidden kernel (P, P) and equally likely readouts (samples, m D)."""
        from finitewidth.theory.neuron import particles

        design, generator = self.problem.design, np.random.default_rng(0)
        shape = result.snapshots.theta.shape[1:]
        gram, hidden, drawn = np.zeros((shape[0], shape[2], shape[2])), np.zeros((design.n_points,) * 2), []
        for state, found in zip(_states(result), self._of_snapshots(particles.readouts, result), strict=True):
            known = particles.numpy_of(found)
            weight = known.weight / known.weight.sum(1, keepdims=True)
            gram += np.einsum("gkr,gks->grs", state.theta * weight[..., None], state.theta, optimize=True)
            psi = (known.psi * np.sqrt(weight)[..., None, None]).reshape(-1, design.n_points)
            hidden += psi.T @ psi
            drawn.append(_draw_readouts(known, generator))
        count = len(result.snapshots.theta)
        covariance = design.weight_covariance(gram / count)
        covariance = covariance[0] if self.theory.network.shares_weights else covariance
        kernel = hidden / count * self.theory.network.readout_precision
        return covariance, kernel, np.concatenate(drawn)


def _states(result: Result) -> Iterator[State]:
    from finitewidth.theory.neuron.particles import State

    for theta, z in zip(*result.snapshots, strict=True):
        yield State(theta.astype(float), z.astype(float))


def _draw_readouts(known: Any, generator: np.random.Generator) -> Array:
    """Readouts z of neurons that are equally likely: particles are chosen by weight, z drawn given their weights."""
    out = []
    for mean, covariance, weight in zip(known.mean, known.covariance, known.weight, strict=True):
        chosen = generator.choice(len(weight), size=len(weight) // 2, p=weight / weight.sum())
        values, vectors = np.linalg.eigh(covariance[chosen])
        noise = generator.standard_normal((len(chosen), mean.shape[1]))
        root = np.sqrt(np.maximum(values, 0.0))
        out.append(mean[chosen] + np.einsum("kab,kb->ka", vectors, root * noise))
    return np.concatenate(out)


def _added(total: PointMoments, moments: PointMoments) -> PointMoments:
    return type(total)(*(a + b for a, b in zip(total, moments, strict=True)))


def _standard_error(values: list[float]) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
