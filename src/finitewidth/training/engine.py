"""Trains any networks: what is compiled, and lanes of several networks at once, resumable after every record.

Some steps of one network are compiled, and of several at once (vmap over seeds).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import Array

from finitewidth.linalg import n_threads
from finitewidth.networks import Network
from finitewidth.runs import durations
from finitewidth.runs.checkpoints import RunFile, arrays_of
from finitewidth.runs.jax_runs import Leaf, Tree, compiled, lanes, on_cpu

_LANES = 16
_Lanes = Callable[[Callable[[slice], Tree], Iterable[slice]], list[Tree]]


class Arrays(NamedTuple):
    """What the compiled functions read: x (points, ...), targets (points, D), and numbers. rate: the step."""

    train: Leaf
    y: Leaf
    test: Leaf
    y_test: Leaf
    rate: Leaf
    momentum: Leaf
    temperature: Leaf


class State(NamedTuple):
    """One network in training."""

    parameters: Tree
    optimiser: Tree


@dataclass(frozen=True)
class Program:
    """How networks of one kind are trained: no data, no seed; equal programs share compiled code.

    batch: points a step, 0 for all. input_shape: of a point.
    """

    network: Network
    optimiser: str
    batch: int
    input_shape: tuple[int, ...]
    n_outputs: int

    def start(self, seeds: np.ndarray) -> State:
        """Networks drawn from the prior, (seeds, ...)."""
        state: State = compiled(_start_each, self)(seeds)
        return state

    def advance(
        self, states: State, seeds: np.ndarray, first: int, count: int, arrays: Arrays
    ) -> tuple[State, dict[str, Array]]:
        """``count`` steps after the first ``first`` ones, and what is recorded after them, (seeds,) each."""
        together = compiled(_advance_together, self)
        found: tuple[State, dict[str, Array]] = together(states, seeds, first, count, arrays)
        return found

    def structure(self) -> Tree:
        """What a state is, without making one: a pytree of shapes."""
        return jax.eval_shape(self._start, 0)

    def _start(self, seed: Array) -> State:
        parameters = self.network.init(_key(seed), self.input_shape, self.n_outputs)
        return State(parameters, self._rule(0.0).init(parameters))

    def _rule(self, momentum: Array | float) -> optax.GradientTransformation:
        """From a gradient to a direction."""
        return optax.scale_by_adam() if self.optimiser == "adam" else optax.trace(momentum)

    def _advance(
        self, state: State, seed: Array, first: Array, count: Array, arrays: Arrays
    ) -> tuple[State, dict[str, Array]]:
        def one(index: Array, state: State) -> State:
            return self._step(state, jax.random.fold_in(_key(seed), 1), first + index, arrays)

        state = jax.lax.fori_loop(0, count, one, state)
        return state, self._record(state.parameters, arrays)

    def _step(self, state: State, key: Array, step: Array, arrays: Arrays) -> State:
        x, y = arrays.train, arrays.y
        if self.batch:
            chosen = self._batch(key, step, len(x))
            x, y = x[chosen], y[chosen]
        share = len(arrays.train) / len(x)  # the gradient of a batch is that of all points in the mean

        def loss(parameters: Tree) -> Array:
            misfit = 0.5 * share * ((y - self.network.apply(parameters, x)) ** 2).sum()
            return misfit - arrays.temperature * self.network.log_prior(parameters)

        gradient = jax.grad(loss)(state.parameters)
        direction, optimiser = self._rule(arrays.momentum).update(gradient, state.optimiser, state.parameters)
        return State(jax.tree.map(lambda w, d: w - arrays.rate * d, state.parameters, direction), optimiser)

    def _batch(self, key: Array, step: Array, points: int) -> Array:
        """Without replacement in every epoch, which leaves out what does not fill a batch: other points each time."""
        batches = points // self.batch
        order = jax.random.permutation(jax.random.fold_in(key, step // batches), points)
        return jax.lax.dynamic_slice(order, ((step % batches) * self.batch,), (self.batch,))

    def _record(self, parameters: Tree, arrays: Arrays) -> dict[str, Array]:
        def error(x: Array, y: Array) -> Array:
            return ((y - self.network.apply(parameters, x)) ** 2).mean()

        train_error = error(arrays.train, arrays.y)
        prior = arrays.temperature * self.network.log_prior(parameters)
        return {
            "objective": 0.5 * train_error * arrays.y.size - prior,
            "train_error": train_error,
            "test_error": error(arrays.test, arrays.y_test),
        }


def _key(seed: Array) -> Array:
    return jax.random.key(seed, impl="threefry2x32")


def _start_each(program: Program, seeds: Array) -> State:
    """One after another: vmapped generators compile slowly."""
    state: State = jax.lax.map(program._start, seeds)
    return state


def _advance_together(program: Program, *arguments: Any) -> tuple[State, dict[str, Array]]:
    found: tuple[State, dict[str, Array]] = jax.vmap(program._advance, (0, 0, None, None, None))(*arguments)
    return found


# --- a run -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Progress:
    """Everything a run is: all that a checkpoint holds. records: by name, (networks, 1 + records so far)."""

    steps: int
    states: State
    records: dict[str, np.ndarray]


@dataclass(frozen=True)
class Engine:
    """One program on one data set. steps: of a whole run. every: steps between two records."""

    program: Program
    arrays: Arrays
    seeds: np.ndarray
    steps: int
    every: int

    def start(self) -> Progress:
        """Networks from the prior, and their errors; once, for an ensemble remembers them."""
        return self._first

    @cached_property
    def _first(self) -> Progress:
        """On one thread, or each would compile what all of them share."""
        with lanes(1) as do:
            states = _joined(do(lambda part: self.program.start(self.seeds[part]), self._parts))
            return self._advanced(Progress(0, states, {}), 0, do)

    def step_seconds(self, at: Progress) -> float:
        """Of one step and a look at the errors, which come to nothing."""
        with lanes(n_threads()) as do:
            return durations.timed(lambda: self._advanced(at, 1, do))

    def run(self, done: Progress) -> Iterator[Progress]:
        """Do what is left, record by record; every state yielded is whole and stays as it is."""
        with lanes(n_threads()) as do:
            while done.steps < self.steps:
                done = self._advanced(done, min(self.every, self.steps - done.steps), do)
                yield done

    def where(self, state: Progress) -> tuple[str, int, int]:
        """The optimiser, and records done and in all."""
        return self.program.optimiser, -(-state.steps // self.every), -(-self.steps // self.every)

    def effort(self, state: Progress) -> tuple[float, float]:
        """Steps since the last record, and left."""
        return (state.steps - 1) % self.every + 1.0, float(self.steps - state.steps)

    def least_seconds(self, state: Progress) -> float:
        """Half a step with a look at the errors, which only every hundredth has, for every step."""
        left = self.steps - state.steps
        return 0.5 * left * self.step_seconds(state) if left else 0.0

    def to_file(self, done: Progress) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What ``from_file`` reads."""
        return {"steps": done.steps}, arrays_of({"states": done.states, "records": done.records})

    def from_file(self, file: RunFile, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> Progress:
        """The state that was saved; InputError unless it is one of this engine."""
        steps = file.whole(meta, "steps", self.steps)
        if steps % self.every and steps != self.steps:
            raise file.misfit("steps")
        size, first = (len(self.seeds), 1 - (-steps // self.every)), self.start()
        records = {name: np.broadcast_to(value, size) for name, value in first.records.items()}
        return Progress(steps, **file.fitting(arrays, {"states": first.states, "records": records}))

    def _advanced(self, done: Progress, count: int, do: _Lanes) -> Progress:
        def work(part: slice) -> Tree:
            states = jax.tree.map(lambda leaf: leaf[part], done.states)
            return self.program.advance(states, self.seeds[part], done.steps, count, self.arrays)

        states, record = _joined(do(work, self._parts))
        columns = {name: value[:, None] for name, value in record.items()}
        if done.records:
            columns = {name: np.concatenate([done.records[name], value], axis=1) for name, value in columns.items()}
        return Progress(done.steps + count, states, columns)

    @property
    def _parts(self) -> list[slice]:
        """Networks of every lane."""
        size = -(-len(self.seeds) // _LANES) if on_cpu() else len(self.seeds)
        return [slice(first, first + size) for first in range(0, len(self.seeds), size)]


def _joined(parts: list[Tree]) -> Tree:
    """One behind the other, networks first."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
