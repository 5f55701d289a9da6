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

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from finitewidth.runs.jax_runs import Tree

_KEPT = 0.5  # of older slopes, whenever masses are learned anew: early in warmup they are those of other states


class Metric(NamedTuple):
    """Masses of whitened weights (dim,), and what they are learned from.

    squares: of slopes along trajectories, added up, each weighed by how likely its trajectory is accepted. weight: how
    many slopes these are, weighed alike.
    """

    mass: Array
    squares: Array
    weight: Array

    @classmethod
    def of_prior(cls, theta: Array) -> Metric:
        """Mass 1."""
        return cls(jnp.ones_like(theta), jnp.zeros_like(theta), jnp.zeros(()))

    def seen(self, squares: Array, steps: Array, acceptance: Array) -> Metric:
        """With one more trajectory; squares: of its slopes, added up over so many steps."""
        squares = acceptance * jnp.where(acceptance > 0.0, squares, 0.0)  # may be infinite where nothing is accepted
        return self._replace(squares=self.squares + squares, weight=self.weight + acceptance * steps)

    def learned(self, unravel: Callable[[Array], Tree]) -> Metric:
        """Fitted to the slopes that were seen. unravel: (dim,) to the arrays of weights, inputs of a neuron last."""
        excess = self.squares / jnp.maximum(self.weight, 1.0) - 1.0
        fitted, _ = ravel_pytree(jax.tree.map(_product, unravel(excess)))
        mass = jnp.where(self.weight >= 1.0, jnp.sqrt(1.0 + fitted), self.mass)
        return Metric(mass, _KEPT * self.squares, _KEPT * self.weight)


def _product(excess: Array) -> Array:
    """Of two factors that have the same sums over neurons and over inputs (..., inputs), none below 0."""
    table = excess.reshape(-1, excess.shape[-1])
    neurons, inputs = jnp.maximum(table.sum(1), 0.0), jnp.maximum(table.sum(0), 0.0)
    total = inputs.sum()
    return (jnp.outer(neurons, inputs) / jnp.where(total > 0.0, total, 1.0)).reshape(excess.shape)
