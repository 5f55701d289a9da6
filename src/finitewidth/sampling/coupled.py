"""Posteriors of two networks with coupled first layers, as targets of the collapsed sampler.

Whitened weights have the prior N(0, 1) here too: what couples the layers are arrays, not settings, so that all
couplings share compiled code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.linalg import block_diag

from finitewidth.runs.jax_runs import Leaf, Tree, compiled
from finitewidth.sampling.posterior import Arrays, Target, collapsed_energy, condition, readout_gram


class Tasks(NamedTuple):
    """Points of either task, (P, inputs) each."""

    source: Leaf
    target: Leaf


class Coupling(NamedTuple):
    """Of both networks' weights, in ``Arrays`` of ``Tasks``; y: (P_s + P_t, 1), test: points of the target task.

    mixing: Cholesky factor of the prior covariance of a source weight and its target weight, (2, 2). outside: prior
    deviation of a target weight.
    """

    mixing: Leaf
    outside: Leaf


class Prior(NamedTuple):
    """Of the target's weights given the source's. centre: mean, (dim,). outside: see ``Coupling``."""

    centre: Leaf
    outside: Leaf


@dataclass(frozen=True)
class JointTarget(Target):
    """Both networks at once: ``theta`` holds the whitened source and target layers, features are block diagonal."""

    def hidden(self, theta: Array, arrays: Arrays) -> Tree:
        white = theta.reshape(2, self.network.widths[0], -1)
        layers = jnp.einsum("ab,bni->ani", arrays.coupling.mixing, white)
        return {"layers": [layers[0], layers[1]], "outside": arrays.coupling.outside}

    def features(self, hidden: Tree, x: Any) -> Array:
        """(points, 2 N), those of the source network first; x: ``Tasks``, or points of the target task."""
        if isinstance(x, Tasks):
            return block_diag(*self._features(hidden, x))
        phi = self._of(hidden["layers"][1], x)
        return jnp.concatenate([jnp.zeros_like(phi), phi], axis=1)

    def potential(self, theta: Array, arrays: Arrays) -> Array:
        parts = jnp.split(arrays.y, [len(arrays.train.source)])
        both = zip(self._features(self.hidden(theta, arrays), arrays.train), parts, strict=True)
        return sum((collapsed_energy(phi, y, arrays.temperature) for phi, y in both), jnp.zeros(()))

    def extended(self, hidden: Tree, key: Array) -> Tree:
        if self.n_extra == 0:
            return hidden
        source, target = hidden["layers"]
        return {**hidden, "layers": [source, _extended(target, self.n_extra, hidden["outside"], key)]}

    def _features(self, hidden: Tree, x: Tasks) -> list[Array]:
        return [self._of(weights, points) for weights, points in zip(hidden["layers"], x, strict=True)]

    def _of(self, weights: Array, x: Array) -> Array:
        return super().features({"weights": [weights], "offsets": []}, x)


@dataclass(frozen=True)
class FollowingTarget(Target):
    """The target network given the source's weights: ``centre + scale theta``."""

    def hidden(self, theta: Array, arrays: Arrays) -> Tree:
        return {**self._unravel(arrays.coupling.centre + theta * arrays.scale), "outside": arrays.coupling.outside}

    def extended(self, hidden: Tree, key: Array) -> Tree:
        if self.n_extra == 0:
            return hidden
        return {**hidden, "weights": [_extended(hidden["weights"][0], self.n_extra, hidden["outside"], key)]}


def _extended(weights: Array, count: int, deviation: Array, key: Array) -> Array:
    """With columns for inputs outside the training span, where the weights have their prior."""
    fresh = deviation * jax.random.normal(key, (weights.shape[0], count))
    return jnp.concatenate([weights, fresh], axis=1)


def overlaps(target: Target, thetas: Any, arrays: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Mean readouts (S, N) of whitened hidden weights (S, dim), and E[z.z | weights] / N, (S,)."""
    one = compiled(_overlaps, target, lane=False)
    means, own = zip(*(one(theta, arrays) for theta in thetas), strict=True)
    return np.stack(means), np.array(own)


def _overlaps(target: Target, theta: Array, arrays: Arrays) -> tuple[Array, Array]:
    phi = target.features(target.hidden(theta, arrays), arrays.train)
    given = condition(phi, arrays.y, arrays.temperature)
    gram = readout_gram(given, phi, arrays.temperature, target.network.widths[-1])
    return given.mean[:, 0], gram[0, 0]
