"""Trains any networks: lanes of several beside one another, resumable after every record."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np

from finitewidth.linalg import n_threads
from finitewidth.runs import durations
from finitewidth.runs.checkpoints import RunFile
from finitewidth.runs.jax_runs import Tree, on_cpu, one_blas_thread, single_thread
from finitewidth.training.program import Arrays, Program, Settings, State

_LANES = 16
_Work = Callable[[slice, np.ndarray], Tree]  # on the networks of a slice, with their seeds


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
        with self._lanes(1) as lanes:
            states = lanes(lambda part, seeds: self.program.start(seeds, self.arrays))
            return self._advanced(Progress(0, states, {}), 0, lanes)

    def step_seconds(self, at: Progress) -> float:
        """Of one step and a look at the errors, which come to nothing."""
        with self._lanes(n_threads()) as lanes:
            return durations.timed(lambda: self._advanced(at, 1, lanes))

    def run(self, done: Progress) -> Iterator[Progress]:
        """Do what is left, record by record; every state yielded is whole and stays as it is."""
        with self._lanes(n_threads()) as lanes:
            while done.steps < self.steps and not done.states.stopped.all():
                done = self._advanced(done, min(self.every, self.steps - done.steps), lanes)
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
        leaves = {f"state/{i}": leaf for i, leaf in enumerate(jax.tree.leaves(done.states))}
        return {"steps": done.steps}, leaves | {f"record/{name}": value for name, value in done.records.items()}

    def from_file(self, file: RunFile, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> Progress:
        """The state that was saved; InputError unless it is one of that self."""
        networks, every = len(self.seeds), self.every
        steps = file.whole(meta, "steps", self.steps)
        if steps % every and steps != self.steps:
            raise file.misfit("steps")
        states, records = self.shapes
        leaves, structure = jax.tree.flatten(states)
        wanted = {
            f"state/{i}": jax.ShapeDtypeStruct((networks, *leaf.shape), leaf.dtype) for i, leaf in enumerate(leaves)
        }
        count = 1 - (-steps // every)
        wanted |= {f"record/{name}": jax.ShapeDtypeStruct((networks, count), of.dtype) for name, of in records.items()}
        fitting = file.fitting(arrays, wanted)
        return Progress(
            steps,
            jax.tree.unflatten(structure, [fitting[f"state/{i}"] for i in range(len(leaves))]),
            {name: fitting[f"record/{name}"] for name in records},
        )

    def _advanced(self, done: Progress, count: int, lanes: Callable[[_Work], Tree]) -> Progress:
        def work(part: slice, seeds: np.ndarray) -> Tree:
            states = jax.tree.map(lambda leaf: leaf[part], done.states)
            return self.program.advance(states, seeds, done.steps, count, self.settings, self.arrays)

        states, record = lanes(work)
        columns = {name: value[:, None] for name, value in record.items()}
        if done.records:
            columns = {name: np.concatenate([done.records[name], value], axis=1) for name, value in columns.items()}
        return Progress(done.steps + count, states, columns)

    @contextlib.contextmanager
    def _lanes(self, threads: int) -> Iterator[Callable[[_Work], Tree]]:
        """Does work on every lane and puts the pytrees that come back one behind the other, networks first."""
        seeds = self.seeds
        size = -(-len(seeds) // _LANES) if on_cpu() else len(seeds)
        parts = [slice(first, first + size) for first in range(0, len(seeds), size)]

        def lane(work: _Work, part: slice) -> Tree:
            with jax.enable_x64(True):  # a setting of the thread
                return jax.device_get(work(part, seeds[part]))

        def lanes(work: _Work) -> Tree:
            done = list(pool.map(partial(lane, work), parts))
            return jax.tree.map(lambda *leaves: np.concatenate(leaves), *done)

        with one_blas_thread(), ThreadPoolExecutor(min(threads, len(parts))) as pool:
            yield lanes
