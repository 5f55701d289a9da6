"""Predictions and learned features of a solved single-neuron theory, from its stored particles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from finitewidth.data import Dataset
from finitewidth.inference.likelihoods import GaussianPosterior
from finitewidth.inference.prediction import Prediction
from finitewidth.linalg import RegularisedGram
from finitewidth.networks import Network
from finitewidth.runs.jax_runs import single_thread
from finitewidth.theory.learned import LearnedFeatures

if TYPE_CHECKING:
    from finitewidth.theory.neuron.particles import Neuron, PointMoments
    from finitewidth.theory.neuron.rounds import Result

Array = np.ndarray
_AT_ONCE = 4e6  # numbers in one array of features at other points


@dataclass(frozen=True)
class NeuronPredictor:
    """Averages over the particles stored at the solved field (s, R)."""

    network: Network
    train: Dataset
    result: Result

    def predict(self, x: Array) -> Prediction:
        """What the particles say, corrected to first order for ``T s + f - y`` on the same particles.

        The correction removes most of their noise: that of f at test points goes with that at training points.
        """
        moments, problem, s = self._moments(x), self.result.problem, self.result.s
        outputs, points = moments.f.shape
        values, T = problem.y.size, problem.temperature
        kernel = moments.kernel.reshape(values, values)
        gram = RegularisedGram(0.5 * (kernel + kernel.T), T)
        residual = T * s + moments.f_train.ravel() - problem.y
        cross = moments.cross.transpose(1, 0, 2, 3).reshape(points * outputs, values)
        change, covariance = GaussianPosterior(gram, -residual).predict_coupled(cross, moments.own.transpose(2, 0, 1))
        mean = moments.f.T + change
        variance = np.maximum(np.einsum("paa->pa", covariance), 0.0)
        left = T * (s - gram.solve(residual))  # y - f on the training points
        error = float(np.mean(left**2)) + T * (1.0 - T * gram.inverse_trace / values)
        if self.train.y.ndim == 1:
            return Prediction(mean[:, 0], variance[:, 0], error)
        return Prediction(mean, variance, error, covariance)

    @property
    def order_parameters(self) -> Array:
        """Q = lambda_1 E[v v^T]: (n, n), (n,), (1,), (D, D), (n D, n D) or (n, D, D)."""
        order = self.result.order  # (G, m D, m D)
        if self.network.shares_weights:
            return order[0]
        return order if self.train.n_outputs > 1 else order[:, 0, 0]

    def kernel_at(self, x: Array) -> Array:
        """K_R of points ``x``, (points, points), averaged over outputs."""
        from finitewidth.theory.neuron import particles

        rows = self.result.problem.design.at(np.asarray(x))
        return np.mean([np.asarray(part) for part in self._of_snapshots(particles.kernel_at, rows)], axis=0)

    @cached_property
    def features(self) -> LearnedFeatures:
        """What the neurons learned, averaged over the particles."""
        from finitewidth.theory.neuron import particles

        design, generator = self.result.problem.design, np.random.default_rng(0)
        _, *shape = self.result.theta.shape
        gram, hidden, drawn = np.zeros((shape[0], shape[2], shape[2])), np.zeros((design.n_points,) * 2), []
        for theta, neuron in zip(self.result.theta, self._of_snapshots(particles.readouts), strict=True):
            weight = np.asarray(particles.shares(neuron))
            gram += np.einsum("gkr,gks->grs", theta * weight[..., None], theta, optimize=True)
            psi = (np.asarray(neuron.psi) * np.sqrt(weight)[..., None, None]).reshape(-1, design.n_points)
            hidden += psi.T @ psi
            drawn.append(draw_readouts(neuron, weight, generator))
        count = len(self.result.theta)
        covariance = design.weight_covariance(gram / count)
        return LearnedFeatures(
            covariance[0] if self.network.shares_weights else covariance,
            hidden / count * self.network.readout_precision,
            np.concatenate(drawn),
            self.network.field_shape(self.train.x.shape[1:]),
        )

    def _moments(self, x: Array) -> PointMoments:
        """Averages over the snapshots, a few points at a time."""
        from finitewidth.theory.neuron.particles import PointMoments

        design = self.result.problem.design
        count = int(np.prod(self.result.theta.shape[1:3])) * design.n_preactivations
        parts = np.array_split(np.asarray(x), max(1, -(-len(x) * count // int(_AT_ONCE))))
        moments = [self._at(design.at(part)) for part in parts]
        return PointMoments(
            np.concatenate([m.f for m in moments], axis=1),
            np.concatenate([m.cross for m in moments], axis=1),
            np.concatenate([m.own for m in moments], axis=2),
            *moments[0][3:],
        )

    def _at(self, rows: Array) -> PointMoments:
        from finitewidth.theory.neuron import particles

        total = reduce(_added, self._of_snapshots(particles.at_points, rows))
        return particles.PointMoments(*(np.asarray(part) / len(self.result.theta) for part in total))

    def _of_snapshots(self, function: Callable[..., Any], *rows: Array) -> Iterator[Any]:
        """``function`` of every stored state at the solved field, and at other points where there are ``rows``."""
        from finitewidth.theory.neuron import particles

        problem = self.result.problem
        with single_thread():
            field = problem.field(self.result.s, self.result.kernel)
            work = particles.compiled(function, problem.model)
            for k, theta in enumerate(self.result.theta):
                keys = [particles.key_of(k, 3)] if rows else []
                yield work(theta.astype(float), problem.data, field, *rows, *keys)


def draw_readouts(neuron: Neuron, weight: Array, generator: np.random.Generator) -> Array:
    """Readouts z (samples, m D) of neurons that are equally likely: half as many as there are particles.

    Particles are chosen by their weight (G, M), z drawn given their weights.
    """
    out = []
    for mean, covariance, share in zip(np.asarray(neuron.mean), np.asarray(neuron.covariance), weight, strict=True):
        chosen = generator.choice(len(share), size=len(share) // 2, p=share / share.sum())
        values, vectors = np.linalg.eigh(covariance[chosen])
        noise = generator.standard_normal((len(chosen), mean.shape[1]))
        root = np.sqrt(np.maximum(values, 0.0))
        out.append(mean[chosen] + np.einsum("kab,kb->ka", vectors, root * noise))
    return np.concatenate(out)


def _added(total: PointMoments, moments: PointMoments) -> PointMoments:
    return type(total)(*(a + b for a, b in zip(total, moments, strict=True)))
