"""Masses for Hamiltonian Monte Carlo, learned in warmup from the slopes of the negative log posterior U.

Where a narrow network has specialised, few neurons carry the output, and U is up to a thousand times steeper in their
weights than the prior is, most of all along the leading directions of the inputs: one step size for all weights would
be that of the steepest. Under the posterior the mean square of a slope is the mean curvature, E[(dU/dθ)²] = E[d²U/dθ²]
(integrate by parts), so that the slopes along a few trajectories tell it. They are too few for every weight by itself;
what exceeds the prior's curvature, 1, is taken as a product of a factor for each neuron and one for each of its inputs
(as in Adafactor, Shazeer and Stern 2018).

The mass is the square root of that curvature: with all of it, neurons that carry little could not become ones that
carry much, and networks of ten neurons mixed three times slower. Any masses leave the posterior as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from finitewidth.runs.jax_runs import Leaf

_KEPT = 0.5  # of older slopes, whenever masses are learned anew: early in warmup they are those of other states


class Metric(NamedTuple):
    """Masses of whitened weights (dim,), and what they are learned from; of several chains, chains first.

    squares: of slopes along trajectories, added up, each weighed by how likely its trajectory is accepted. weight: how
    many slopes these are, weighed alike.
    """

    mass: Leaf
    squares: Leaf
    weight: Leaf

    @classmethod
    def of_prior(cls, theta: Array) -> Metric:
        """Mass 1."""
        return cls(jnp.ones_like(theta), jnp.zeros_like(theta), jnp.zeros(()))

    def seen(self, squares: Array, steps: Array, acceptance: Array) -> Metric:
        """With one more trajectory; squares: of its slopes, added up over so many steps."""
        squares = acceptance * jnp.where(acceptance > 0.0, squares, 0.0)  # may be infinite where nothing is accepted
        return self._replace(squares=self.squares + squares, weight=self.weight + acceptance * steps)

    def learned(self, shapes: Sequence[tuple[int, ...]]) -> Metric:
        """Of all chains, outside compiled code: fitted to the slopes that were seen.

        shapes: of the arrays of weights that theta holds one after another, inputs of a neuron last.
        """
        excess = self.squares / np.maximum(self.weight, 1.0)[:, None] - 1.0
        arrays = np.split(excess, np.cumsum([math.prod(shape) for shape in shapes])[:-1], axis=1)
        fitted = np.concatenate([_product(part, shape[-1]) for part, shape in zip(arrays, shapes, strict=True)], axis=1)
        mass = np.where(self.weight[:, None] >= 1.0, np.sqrt(1.0 + fitted), self.mass)
        return Metric(mass, _KEPT * self.squares, _KEPT * self.weight)


def _product(excess: np.ndarray, n_inputs: int) -> np.ndarray:
    """Of two factors with the sums of ``excess`` (chains, size) over neurons and over inputs, none below 0."""
    table = excess.reshape(len(excess), -1, n_inputs)
    neurons, inputs = (np.maximum(table.sum(axis, keepdims=True), 0.0) for axis in (2, 1))
    total = inputs.sum(2, keepdims=True)
    return np.asarray(neurons * inputs / np.where(total > 0.0, total, 1.0)).reshape(excess.shape)
