"""Trains any networks: lanes of several beside one another, resumable after every record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np

from finitewidth.linalg import n_threads
from finitewidth.runs import durations
from finitewidth.runs.checkpoints import RunFile, arrays_of
from finitewidth.runs.jax_runs import Tree, lanes, on_cpu, single_thread
from finitewidth.training.program import Arrays, Program, Settings, State

_LANES = 16
_Lanes = Callable[[Callable[[slice], Tree], Iterable[slice]], list[Tree]]


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
    settings: Settings
    seeds: np.ndarray
    steps: int
    every: int

    @cached_property
    def shapes(self) -> tuple[State, dict[str, Any]]:
        """State and record of one network, without making any: pytrees of shapes."""
        with single_thread():
            return self.program.shapes(self.settings, self.arrays)

    def start(self) -> Progress:
        """Networks from the prior, and their errors; once, for an ensemble remembers them."""
        return self._first

    @cached_property
    def _first(self) -> Progress:
        """On one thread, or each would compile what all of them share."""
        with lanes(1) as do:
            states = _joined(do(lambda part: self.program.start(self.seeds[part], self.arrays), self._parts))
            return self._advanced(Progress(0, states, {}), 0, do)

    def step_seconds(self, at: Progress) -> float:
        """Of one step and a look at the errors, which come to nothing."""
        with lanes(n_threads()) as do:
            return durations.timed(lambda: self._advanced(at, 1, do))

    def run(self, done: Progress) -> Iterator[Progress]:
        """Do what is left, record by record; every state yielded is whole and stays as it is."""
        with lanes(n_threads()) as do:
            while done.steps < self.steps and not done.states.stopped.all():
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
        count = 1 - (-steps // self.every)

        def like(tree: Any, *sizes: int) -> Any:
            """Those of one network, of all, with those sizes behind."""
            front = (len(self.seeds), *sizes)
            return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((*front, *leaf.shape), leaf.dtype), tree)

        states, records = self.shapes
        return Progress(steps, **file.fitting(arrays, {"states": like(states), "records": like(records, count)}))

    def _advanced(self, done: Progress, count: int, do: _Lanes) -> Progress:
        def work(part: slice) -> Tree:
            states = jax.tree.map(lambda leaf: leaf[part], done.states)
            return self.program.advance(states, self.seeds[part], done.steps, count, self.settings, self.arrays)

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
