"""Runs any sampler: chains beside one another, stages in chunks, resumable after every chunk.

On a CPU every chain is a lane of its own on one thread; on other devices the chains are one batch (vmap).
XLA and
the BLAS below it use one thread a lane: OpenBLAS threads called from several XLA threads spin, and
on a busy machine slow a run down a hundred times. Random numbers depend on seed, chain and iteration only,
so a run that was interrupted and resumed equals one that was not, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import jax
import numpy as np
import scipy.linalg  # noqa: F401  the BLAS that jaxlib calls, loaded before its threads are limited
from threadpoolctl import threadpool_limits

from finitewidth.linalg import n_threads
from finitewidth.runs.checkpoints import RunFile
from finitewidth.runs.durations import timed
from finitewidth.runs.jax_runs import Tree, on_cpu
from finitewidth.sampling import checkpoint
from finitewidth.sampling.checkpoint import BLOCKS, Progress, joined
from finitewidth.sampling.posterior import Arrays
from finitewidth.sampling.program import (
    CHUNK,
    DualAveraging,
    Program,
    Sampler,
    Settings,
    Stage,
    Step,
    When,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Engine:
    """One program on one data set. spacing: chunks of draws between two positions that are stored; 0: none are."""

    program: Program
    arrays: Arrays
    chains: int
    seed: int
    stages: tuple[Stage, ...]
    spacing: int = 0

    @property
    def sampler(self) -> Sampler:
        """The sampler of the program."""
        return self.program.sampler

    def start(self) -> Progress:
        """States from the prior, nothing done."""

        def lane(chain: int) -> Tree:
            with jax.enable_x64(True):
                return jax.device_get(self.program.init(self.seed, chain, self.arrays))

        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(min(n_threads(), self.chains)) as pool:
            states = _stack(list(pool.map(lane, range(self.chains))))
        settings = self.sampler.before(self.stages[0], self.sampler.settings(), {})
        return Progress(0, 0, 0, states, self._tuners(settings), settings)

    @cached_property
    def shapes(self) -> Step:
        """State, tuner, records and sums of a chunk of one chain, without making any: pytrees of shapes."""
        with jax.enable_x64(True):
            return self.program.shapes(self.sampler.settings(), self.arrays)

    def run(self, progress: Progress) -> Iterator[Progress]:
        """Do what is left, chunk by chunk; every state yielded is whole and stays as it is."""
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(min(n_threads(), self.chains)) as pool:
            advance = self._lanes(pool)
            while progress.stage < len(self.stages):
                progress = self._chunk(progress, advance)
                yield progress

    @property
    def chunks(self) -> int:
        """Of a whole run."""
        return sum(stage.chunks for stage in self.stages)

    def iteration(self, index: int) -> int:
        """Of the whole run, after which the position of that index was stored."""
        before = sum(stage.chunks for stage in self.stages if not stage.draws)
        return CHUNK * (before + self.spacing * (index + 1)) - 1

    def first_seconds(self) -> float:
        """Of the first state of one chain, compiled already: of a gradient, or of all warmup where ``init`` does it."""
        with jax.enable_x64(True), threadpool_limits(1, user_api="blas"):
            return timed(lambda: jax.device_get(self.program.init(self.seed, 0, self.arrays)))

    @property
    def rounds(self) -> int:
        """How often as many chains run as there are threads."""
        return -(-self.chains // min(n_threads(), self.chains)) if on_cpu() else 1

    def where(self, state: Progress) -> tuple[str, int, int]:
        """The stage, and chunks done and in all."""
        stage = self.stages[min(state.stage, len(self.stages) - 1)]
        return stage.name, state.iterations // CHUNK, self.chunks

    def least_seconds(self, state: Progress) -> float:
        """Of iterations at their shortest, two gradients; where ``init`` adapts, and in resumed runs, nobody knows."""
        if state.iterations or not self.sampler.settings():
            return 0.0
        return 2.0 * sum(stage.iterations for stage in self.stages) * self.rounds * self.first_seconds()

    def to_file(self, state: Progress) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What ``from_file`` reads."""
        return checkpoint.to_file(state)

    def from_file(self, file: RunFile, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> Progress:
        """The state that was saved; InputError unless it is one of this engine."""
        return checkpoint.from_file(file, meta, arrays, self)

    def effort(self, at: Progress) -> tuple[float, float] | None:
        """Gradients of the last chunk, and of all that is left; looking at a draw counts for one."""
        if not at.records or at.stage == len(self.stages):
            return None
        records = at.records[-1]
        settings = at.settings
        if self.stages[at.stage].adapt:
            settings = settings | {"step_size": float(np.exp(at.tuners.log_step.mean()))}
        left = CHUNK * (self.chunks - at.iterations // CHUNK)
        last = CHUNK * (1.0 + float(records["steps"].mean()))
        return last, left * (1.0 + self.sampler.gradients(settings, records))

    def _chunk(self, done: Progress, advance: Callable[[Progress, Stage, int, int], Step]) -> Progress:
        stage = self.stages[done.stage]
        first = done.chunk * CHUNK
        counted = min(CHUNK, stage.iterations - first)
        states, tuners, records, sums = advance(done, stage, first, counted)
        trimmed = {name: value[:, :counted] for name, value in records.items()}
        following = replace(
            done,
            chunk=done.chunk + 1,
            iterations=done.iterations + CHUNK,
            states=states,
            tuners=tuners,
            records=[*done.records, trimmed],
        )
        if stage.draws:
            following = _added(following, sums, counted, done.chunk * BLOCKS // stage.chunks)
            if self.spacing and following.chunk % self.spacing == 0:
                following = replace(following, positions=(*done.positions, np.asarray(self.sampler.position(states))))
        return self._finished(following, stage) if following.chunk == stage.chunks else following

    def _finished(self, done: Progress, stage: Stage) -> Progress:
        """The state that the next stage starts from; after the last one, its records stay."""
        scores, settings = dict(done.scores), done.settings
        score = self.sampler.score(stage, joined(done.records))
        if score is not None:
            scores[stage.name] = score
        if stage.adapt:
            step_size = float(np.exp(np.mean(done.tuners.log_average)))
            settings = {**settings, "step_size": step_size}
        done = replace(done, stage=done.stage + 1, chunk=0, scores=scores, settings=settings)
        if done.stage == len(self.stages):
            return done
        settings = self.sampler.before(self.stages[done.stage], settings, scores)
        return replace(done, settings=settings, tuners=self._tuners(settings), records=[])

    def _lanes(self, pool: ThreadPoolExecutor) -> Callable[[Progress, Stage, int, int], Step]:
        """``(progress, stage, first, counted) -> (states, tuners, records, sums)``, chains first in all of them."""

        def lane(chain: Any, progress: Progress, stage: Stage, first: int, counted: int) -> Step:
            with jax.enable_x64(True):  # a setting of the thread
                state, tuner = jax.tree.map(lambda leaf: leaf[chain], (progress.states, progress.tuners))
                when = When(self.seed, progress.iterations, first, counted, stage.adapt)
                result = self.program.advance(state, tuner, chain, when, progress.settings, self.arrays)
                return jax.device_get(result)

        def advance(*moment: Any) -> Step:
            if not on_cpu():
                return lane(np.arange(self.chains), *moment)
            return _stack(list(pool.map(lambda chain: lane(chain, *moment), range(self.chains))))

        return advance

    def _tuners(self, settings: Settings) -> DualAveraging:
        return DualAveraging.start(np.full(self.chains, settings.get("step_size", 1.0)))


def _added(done: Progress, sums: dict[str, np.ndarray], count: int, block: int) -> Progress:
    totals, counts = {}, done.counts.copy()
    for name, value in sums.items():
        old = done.sums.get(name)
        totals[name] = np.zeros((len(value), BLOCKS, *value.shape[1:])) if old is None else old.copy()
        totals[name][:, block] += value
    counts[block] += count
    return replace(done, sums=totals, counts=counts)


def _stack(parts: list[T]) -> T:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *parts)
