"""Runs any sampler: chains beside one another, stages in chunks, resumable after every chunk.

On a CPU every chain is a lane of its own on one thread; on other devices the chains are one batch (vmap).
XLA and
the BLAS below it use one thread a lane: OpenBLAS threads called from several XLA threads spin, and
on a busy machine slow a run down a hundred times. Random numbers depend on seed, chain and iteration only,
so a run that was interrupted and resumed equals one that was not, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import jax
import numpy as np

from finitewidth.linalg import n_threads
from finitewidth.runs.checkpoints import RunFile, arrays_of
from finitewidth.runs.durations import timed
from finitewidth.runs.jax_runs import lanes, on_cpu, single_thread
from finitewidth.sampling.posterior import Arrays
from finitewidth.sampling.program import (
    CHUNK,
    DualAveraging,
    Program,
    Records,
    Sampler,
    Settings,
    Stage,
    Step,
    When,
)

T = TypeVar("T")
BLOCKS = 10  # parts of a run that have sums of their own, so that they have error bars


@dataclass(frozen=True)
class Progress:
    """Everything a run is: all that a checkpoint holds.

    stage, chunk: what is done of which stage. states, tuners: one pytree of NumPy arrays, chains first.
    records: of the current stage. sums: (chains, BLOCKS, ...), with their ``counts`` (BLOCKS,).
    positions: weights of some draws, (chains, dim) each.
    """

    stage: int
    chunk: int
    iterations: int
    states: Any
    tuners: DualAveraging
    settings: Settings
    scores: dict[str, float] = field(default_factory=dict)
    records: list[Records] = field(default_factory=list)
    sums: dict[str, np.ndarray] = field(default_factory=dict)
    counts: np.ndarray = field(default_factory=lambda: np.zeros(BLOCKS))
    positions: tuple[np.ndarray, ...] = ()


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

        with lanes(self.threads) as do:
            states = _stack(do(lambda chain: self.program.init(self.seed, chain, self.arrays), range(self.chains)))
        settings = self.sampler.before(self.stages[0], self.sampler.settings(), {})
        return Progress(0, 0, 0, states, self._tuners(settings), settings)

    @cached_property
    def shapes(self) -> Step:
        """State, tuner, records and sums of a chunk of one chain, without making any: pytrees of shapes."""
        with jax.enable_x64(True):
            return self.program.shapes(self.sampler.settings(), self.arrays)

    def run(self, progress: Progress) -> Iterator[Progress]:
        """Do what is left, chunk by chunk; every state yielded is whole and stays as it is."""
        with lanes(self.threads) as do:
            while progress.stage < len(self.stages):
                progress = self._chunk(progress, do)
                yield progress

    @property
    def chunks(self) -> int:
        """Of a whole run."""
        return sum(stage.chunks for stage in self.stages)

    def iteration(self, index: int) -> int:
        """Of the whole run, after which the position of that index was stored."""
        before = sum(stage.chunks for stage in self.stages if not stage.draws)
        return CHUNK * (before + self.spacing * (index + 1)) - 1

    @property
    def threads(self) -> int:
        """How many chains run at once on a CPU."""
        return min(n_threads(), self.chains)

    def where(self, state: Progress) -> tuple[str, int, int]:
        """The stage, and chunks done and in all."""
        stage = self.stages[min(state.stage, len(self.stages) - 1)]
        return stage.name, state.iterations // CHUNK, self.chunks

    def least_seconds(self, state: Progress) -> float:
        """Of iterations at their shortest, two gradients; where ``init`` adapts, and in resumed runs, nobody knows."""
        if state.iterations or not self.sampler.settings():
            return 0.0
        with single_thread():  # compiled already: a state takes one gradient
            gradient = timed(lambda: jax.device_get(self.program.init(self.seed, 0, self.arrays)))
        rounds = -(-self.chains // self.threads) if on_cpu() else 1
        return 2.0 * sum(stage.iterations for stage in self.stages) * rounds * gradient

    def to_file(self, state: Progress) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What ``from_file`` reads."""
        meta = {name: getattr(state, name) for name in ("stage", "chunk", "iterations", "settings", "scores")}
        arrays = {
            "states": state.states,
            "tuners": state.tuners,
            "records": joined(state.records),
            "sums": state.sums,
            "counts": state.counts,
            "positions": state.positions,
        }
        return meta, arrays_of(arrays)

    def from_file(self, file: RunFile, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> Progress:
        """The state that was saved; InputError unless it is one of this engine.

        Everything is held to the shapes that the engine makes: what is compiled trusts them.
        """
        chunks = [one.chunks for one in self.stages]
        stage = file.whole(meta, "stage", len(chunks))
        chunk = file.whole(meta, "chunk", 0 if stage == len(chunks) else chunks[stage] - 1)
        if meta.get("iterations") != CHUNK * (sum(chunks[:stage]) + chunk):
            raise file.misfit("iterations")
        current = self.stages[min(stage, len(chunks) - 1)]
        settings, scores = file.numbers(meta, "settings"), file.numbers(meta, "scores")
        chosen = self.sampler.before(current, self.sampler.settings(), scores) | {"step_size": 0.0}
        if settings | {"step_size": 0.0} != chosen or settings.get("step_size", 1.0) <= 0.0:
            raise file.misfit("settings")
        found = file.fitting(arrays, self._wanted(current, chunks[-1] if stage == len(chunks) else chunk, stage))
        found["records"] = [found["records"]] if found["records"] else []
        return Progress(
            stage=stage, chunk=chunk, iterations=meta["iterations"], settings=settings, scores=scores, **found
        )

    def _wanted(self, current: Stage, chunk: int, stage: int) -> dict[str, Any]:
        """Shapes and types of what is saved after so many chunks of the current stage."""
        states, tuners, records, sums = self.shapes
        done = current.iterations if stage == len(self.stages) else CHUNK * chunk

        def like(tree: Any, *sizes: int, skip: int = 0) -> Any:
            """Those of one chain, with those sizes in front in place of its first ``skip``."""
            return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((*sizes, *leaf.shape[skip:]), leaf.dtype), tree)

        stored = chunk // self.spacing if self.spacing and current.draws else 0
        return {
            "states": like(states, self.chains),
            "tuners": like(tuners, self.chains),
            "records": like(records, self.chains, done, skip=1) if done else {},
            "sums": like(sums, self.chains, BLOCKS) if done and current.draws else {},
            "counts": np.zeros(BLOCKS),
            "positions": (like(self.sampler.position(states), self.chains),) * stored,
        }

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

    def _chunk(self, done: Progress, do: Callable[..., list[Step]]) -> Progress:
        stage = self.stages[done.stage]
        first = done.chunk * CHUNK
        counted = min(CHUNK, stage.iterations - first)
        when = When(self.seed, done.iterations, first, counted, stage.adapt)

        def advance(chain: Any) -> Step:
            state, tuner = jax.tree.map(lambda leaf: leaf[chain], (done.states, done.tuners))
            return self.program.advance(state, tuner, chain, when, done.settings, self.arrays)

        if on_cpu():
            states, tuners, records, sums = _stack(do(advance, range(self.chains)))
        else:
            ((states, tuners, records, sums),) = do(advance, [np.arange(self.chains)])
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


def joined(records: list[Records]) -> Records:
    """Chunks after one another, (chains, iterations, ...)."""
    if not records:
        return {}
    return {name: np.concatenate([part[name] for part in records], axis=1) for name in records[0]}
