"""What is compiled: some steps of training one network, and of several at once (vmap over seeds)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.flatten_util import ravel_pytree

from finitewidth.networks import Network
from finitewidth.runs.jax_runs import Leaf, Tree, compiled


class Arrays(NamedTuple):
    """What the compiled functions read: x (points, ...), targets (points, D); the held-out part may have no points."""

    train: Leaf
    y: Leaf
    held_out: Leaf
    y_held_out: Leaf
    test: Leaf
    y_test: Leaf


class Settings(NamedTuple):
    """Numbers that may change without compiling anew. rate: the step. patience: records without improvement."""

    rate: Leaf
    momentum: Leaf
    temperature: Leaf
    patience: Leaf


class State(NamedTuple):
    """One network in training. best: parameters of the smallest held-out error so far, () without early stopping."""

    parameters: Tree
    optimiser: Tree
    best: Tree
    best_error: Leaf
    waited: Leaf
    stopped: Leaf


@dataclass(frozen=True)
class Program:
    """How networks of one kind are trained: no data, no seed; equal programs share compiled code.

    batch: points a step, 0 for all. early: stop on the held-out part. activations:
    ``network.jax_functions``.
    """

    network: Network
    activations: tuple[Callable[[Array], Array], ...]
    optimiser: str
    batch: int
    early: bool

    def start(self, seeds: np.ndarray, arrays: Arrays) -> State:
        """Networks drawn from the prior, (seeds, ...)."""
        state: State = compiled(_start_each, self)(seeds, arrays)
        return state

    def advance(
        self, states: State, seeds: np.ndarray, first: int, count: int, settings: Settings, arrays: Arrays
    ) -> tuple[State, dict[str, Array]]:
        """``count`` steps after the first ``first`` ones, and what is recorded after them, (seeds,) each."""
        found: tuple[State, dict[str, Array]] = compiled(_advance_together, self)(
            states, seeds, first, count, settings, arrays
        )
        return found

    def structure(self, arrays: Arrays) -> Tree:
        """What a state is, without making one: a pytree of shapes."""
        return jax.eval_shape(self._start, 0, arrays)

    def shapes(self, settings: Settings, arrays: Arrays) -> tuple[State, dict[str, Array]]:
        """What ``advance`` gives of one network, without doing anything: pytrees of shapes."""
        found: tuple[State, dict[str, Array]] = jax.eval_shape(
            self._advance, self.structure(arrays), 0, 0, 0, settings, arrays
        )
        return found

    def _start(self, seed: Array, arrays: Arrays) -> State:
        parameters = self.network.init(_key(seed), arrays.train.shape[1:], arrays.y.shape[1])
        best = parameters if self.early else ()
        zero = jnp.zeros((), int)
        return State(parameters, self._rule(0.0).init(parameters), best, jnp.array(jnp.inf), zero, jnp.array(False))

    def _rule(self, momentum: Array | float) -> optax.GradientTransformation:
        """From a gradient to a direction; Langevin follows the gradient and adds noise."""
        if self.optimiser == "adam":
            return optax.scale_by_adam()
        return optax.trace(momentum) if self.optimiser == "sgd" else optax.identity()

    def _advance(
        self, state: State, seed: Array, first: Array, count: Array, settings: Settings, arrays: Arrays
    ) -> tuple[State, dict[str, Array]]:
        def one(index: Array, carry: tuple[Tree, Tree]) -> tuple[Tree, Tree]:
            return self._step(*carry, jax.random.fold_in(_key(seed), 1), first + index, settings, arrays)

        parameters, optimiser = jax.lax.fori_loop(0, count, one, (state.parameters, state.optimiser))
        record = self._record(parameters, settings, arrays)
        state = state._replace(parameters=parameters, optimiser=optimiser)
        return (self._check(state, record["held_out_error"], settings) if self.early else state), record

    def _step(
        self, parameters: Tree, optimiser: Tree, key: Array, step: Array, settings: Settings, arrays: Arrays
    ) -> tuple[Tree, Tree]:
        x, y = arrays.train, arrays.y
        if self.batch:
            chosen = self._batch(key, step, len(x))
            x, y = x[chosen], y[chosen]
        share = len(arrays.train) / len(x)  # the gradient of a batch is that of all points in the mean

        def loss(parameters: Tree) -> Array:
            misfit = 0.5 * share * ((y - self.network.apply(parameters, x)) ** 2).sum()
            return misfit - settings.temperature * self.network.log_prior(parameters)

        gradient = jax.grad(loss)(parameters)
        direction, optimiser = self._rule(settings.momentum).update(gradient, optimiser, parameters)
        moved = jax.tree.map(lambda w, d: w - settings.rate * d, parameters, direction)
        if self.optimiser == "langevin":
            moved = _noisy(moved, jax.random.fold_in(key, step), jnp.sqrt(2.0 * settings.rate * settings.temperature))
        return moved, optimiser

    def _batch(self, key: Array, step: Array, points: int) -> Array:
        """Without replacement in every epoch, which leaves out what does not fill a batch: other points each time."""
        batches = points // self.batch
        order = jax.random.permutation(jax.random.fold_in(key, step // batches), points)
        return jax.lax.dynamic_slice(order, ((step % batches) * self.batch,), (self.batch,))

    def _record(self, parameters: Tree, settings: Settings, arrays: Arrays) -> dict[str, Array]:
        def error(x: Array, y: Array) -> Array:
            return ((y - self.network.apply(parameters, x)) ** 2).mean() if len(x) else jnp.array(jnp.nan)

        train_error = error(arrays.train, arrays.y)
        prior = settings.temperature * self.network.log_prior(parameters)
        return {
            "objective": 0.5 * train_error * arrays.y.size - prior,
            "train_error": train_error,
            "test_error": error(arrays.test, arrays.y_test),
            "held_out_error": error(arrays.held_out, arrays.y_held_out),
        }

    def _check(self, state: State, error: Array, settings: Settings) -> State:
        """Keep the best parameters; stopped networks keep theirs, whatever comes."""
        better = (error < state.best_error) & ~state.stopped
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), state.parameters, state.best)
        waited = jnp.where(better, 0, state.waited + 1)
        stopped = state.stopped | (waited >= settings.patience)
        return state._replace(
            best=best, best_error=jnp.where(better, error, state.best_error), waited=waited, stopped=stopped
        )


def _noisy(parameters: Tree, key: Array, scale: Array) -> Tree:
    flat, restored = ravel_pytree(parameters)  # one generator for all weights, which compiles in half the time
    return restored(flat + scale * jax.random.normal(key, flat.shape, flat.dtype))


def _key(seed: Array) -> Array:
    return jax.random.key(seed, impl="threefry2x32")


def _start_each(program: Program, seeds: Array, arrays: Arrays) -> State:
    """One after another: vmapped generators compile slowly."""
    state: State = jax.lax.map(lambda seed: program._start(seed, arrays), seeds)
    return state


def _advance_together(program: Program, *arguments: Any) -> tuple[State, dict[str, Array]]:
    found: tuple[State, dict[str, Array]] = jax.vmap(program._advance, (0, 0, None, None, None, None))(*arguments)
    return found
