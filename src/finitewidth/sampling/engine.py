"""Runs any sampler: chains beside one another, stages in chunks, resumable after every chunk.

On a CPU every chain is a lane of its own on one thread; on other devices the chains are one batch (vmap).
XLA and
the BLAS below it use one thread a lane: OpenBLAS threads called from several XLA threads spin, and
on a busy machine slow a run down a hundred times. Random numbers depend on seed, chain and iteration only,
so a run that was interrupted and resumed equals one that was not, bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import jax
import numpy as np

from finitewidth.linalg import n_threads
from finitewidth.runs.checkpoints import RunFile, arrays_of
from finitewidth.runs.durations import timed
from finitewidth.runs.jax_runs import compiled, lanes, on_cpu, single_thread
from finitewidth.sampling.convergence import Aim, Standing
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
    words_of,
)

T = TypeVar("T")
_MOST_CHUNKS = 10**9
BLOCKS = 10  # parts of a run that have sums of their own, so that they have error bars; even
_FEWEST = 2  # chunks of draws where the time is up


@dataclass(frozen=True)
class Progress:
    """Everything a run is: all that a checkpoint holds.

    stage, chunk: what is done of which stage; of the last, the draws, there is always more to do. states, tuners: one
    pytree of NumPy arrays, chains first. records: of the current stage. sums: (chains, BLOCKS, ...), with their
    ``counts`` (BLOCKS,). positions: weights of some draws, (chains, dim) each. standing: of the draws, when they were
    last looked at. timed_out: it ended because its time was up.
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
    standing: Standing | None = None
    timed_out: bool = False

    @property
    def before(self) -> int:
        """Iterations before those of the current stage."""
        return self.iterations - CHUNK * self.chunk


@dataclass(frozen=True)
class Engine:
    """One program on one data set.

    stored: positions of a chain that are, at most, one a chunk of draws; where there are more, every second is dropped.
    aim: what ends the draws before the last of their stage. seconds: after which the run ends with what it has.
    """

    program: Program
    arrays: Arrays
    chains: int
    seed: int
    stages: tuple[Stage, ...]
    stored: int = 0
    aim: Aim | None = None
    seconds: float = math.inf

    @property
    def sampler(self) -> Sampler:
        """The sampler of the program."""
        return self.program.sampler

    def start(self) -> Progress:
        """States from the prior, nothing done."""
        with lanes(self.threads) as do:
            words = self.words
            states = _stack(do(lambda i: self.program.init(words[i], self._arrays_of(i)), range(self.chains)))
        settings = self.sampler.before(self.stages[0], self.sampler.settings(), {})
        return Progress(0, 0, 0, states, self._tuners(settings), settings)

    @property
    def words(self) -> np.ndarray:
        """What decides the random numbers of every chain, (chains, 2)."""
        return np.stack([words_of(self.seed, chain) for chain in range(self.chains)])

    @cached_property
    def shapes(self) -> Step:
        """State, tuner, records and sums of a chunk of one chain, without making any: pytrees of shapes."""
        with jax.enable_x64(True):
            return self.program.shapes(self.sampler.settings(), self._arrays_of(0))

    def _arrays_of(self, chain: Any) -> Arrays:
        """What a chain reads, or several."""
        centre = self.arrays.centre
        return self.arrays if isinstance(centre, tuple) else self.arrays._replace(centre=centre[chain])

    def run(self, progress: Progress) -> Iterator[Progress]:
        """Do what is left, chunk by chunk; every state yielded is whole and stays as it is."""
        started = time.monotonic()
        with lanes(self.threads) as do:
            while not self.finished(progress):
                left = 1.0 - (time.monotonic() - started) / self.seconds
                progress = self._chunk(progress, do, hurried=left < 0.5)
                drawn = progress.chunk if self.drawing(progress) else 0
                out_of_time = time.monotonic() - started > self.seconds and drawn >= _FEWEST
                progress = replace(progress, timed_out=out_of_time)
                yield progress
                if out_of_time:
                    return

    def drawing(self, state: Progress) -> bool:
        """Whether warmup is over."""
        return state.stage == len(self.stages) - 1

    def finished(self, state: Progress) -> bool:
        """Whether all draws are there, or enough for what is aimed at."""
        if not self.drawing(state):
            return False
        if state.chunk >= self.stages[-1].chunks:
            return True
        if self.aim is None or not self.aim.looks(state.chunk):
            return False
        return self.aim.reached(self._standing(self.aim, state))

    def _standing(self, aim: Aim, state: Progress) -> Standing:
        """Now, unless it is known already."""
        if state.standing is not None and state.standing.chunk == state.chunk:
            return state.standing
        return aim.standing(state.chunk, joined(state.records))

    def complete(self, state: Progress) -> bool:
        """Whether the run ended by itself."""
        return state.timed_out or self.finished(state)

    def when_stored(self, state: Progress) -> list[int]:
        """The iteration of the whole run after which each position was stored."""
        spacing = CHUNK * self._spacing(state.chunk)
        return [state.before + spacing * (index + 1) - 1 for index in range(len(state.positions))]

    def _spacing(self, chunk: int) -> int:
        """Chunks between two positions that are stored after so many."""
        spacing = 1
        while chunk // spacing > self.stored:
            spacing *= 2
        return spacing

    @property
    def threads(self) -> int:
        """How many chains run at once on a CPU."""
        return min(n_threads(), self.chains)

    def where(self, state: Progress) -> tuple[str, int, int]:
        """The stage, and chunks done and in all, those of the draws as expected."""
        done = state.iterations // CHUNK
        return self.stages[state.stage].name, done, done + self._left(state)

    def _left(self, state: Progress) -> int:
        """Chunks that are left, as far as that is known."""
        following = sum(stage.chunks for stage in self.stages[state.stage + 1 : -1])
        draws = self.stages[-1].chunks
        if not self.drawing(state):
            expected = draws if self.aim is None else min(draws, self.aim.needed(None))
            return max(self.stages[state.stage].chunks - state.chunk, 1) + following + expected
        if self.finished(state):
            return 0
        if self.aim is not None:
            draws = min(draws, self.aim.needed(state.standing))
        return max(draws - state.chunk, 1)

    def least_seconds(self, state: Progress) -> float:
        """Of iterations at their shortest, two gradients; where ``init`` adapts, and in resumed runs, nobody knows.

        A gradient takes two products as large as that of the features with themselves, and more.
        """
        if state.iterations or not self.sampler.settings():
            return 0.0
        sizes = sorted((len(self.arrays.y), self.sampler.target.n_features))
        with single_thread():
            features, product = np.ones(sizes), compiled(_gram)
            jax.device_get(product(features))
            gradient = 2.0 * timed(lambda: jax.device_get(product(features)))
        rounds = -(-self.chains // self.threads) if on_cpu() else 1
        return 2.0 * CHUNK * self._left(state) * rounds * gradient

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
        """The state that was saved, of a run that may have asked for other draws; InputError unless it fits.

        Everything is held to the shapes that the engine makes: what is compiled trusts them.
        """
        stage = file.whole(meta, "stage", len(self.stages) - 1)
        current, before = self.stages[stage], sum(one.chunks for one in self.stages[:stage])
        chunk = file.whole(meta, "chunk", _MOST_CHUNKS if current.draws else current.chunks - 1)
        iterations = file.whole(meta, "iterations", CHUNK * (before + chunk))
        if iterations % CHUNK or iterations < CHUNK * chunk:
            raise file.misfit("iterations")
        settings, scores = file.numbers(meta, "settings"), file.numbers(meta, "scores")
        chosen = self.sampler.before(current, self.sampler.settings(), scores) | {"step_size": 0.0}
        if settings | {"step_size": 0.0} != chosen or settings.get("step_size", 1.0) <= 0.0:
            raise file.misfit("settings")
        found = file.fitting(arrays, self._wanted(current, chunk))
        found["records"] = [found["records"]] if found["records"] else []
        state = Progress(stage=stage, chunk=chunk, iterations=iterations, settings=settings, scores=scores, **found)
        if self.aim is None or not current.draws or not chunk:
            return state
        return replace(state, standing=self._standing(self.aim, state))

    def _wanted(self, current: Stage, chunk: int) -> dict[str, Any]:
        """Shapes and types of what is saved after so many chunks of the current stage."""
        states, tuners, records, sums = self.shapes
        done = CHUNK * chunk

        def like(tree: Any, *sizes: int, skip: int = 0) -> Any:
            """Those of one chain, with those sizes in front in place of its first ``skip``."""
            return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((*sizes, *leaf.shape[skip:]), leaf.dtype), tree)

        stored = chunk // self._spacing(chunk) if self.stored and current.draws else 0
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
        if not at.records or self.complete(at):
            return None
        records = at.records[-1]
        settings = at.settings
        if self.stages[at.stage].adapt:
            settings = settings | {"step_size": float(np.exp(at.tuners.log_step.mean()))}
        left = CHUNK * self._left(at)
        last = CHUNK * (1.0 + float(records["steps"].mean()))
        return last, left * (1.0 + self.sampler.gradients(settings, records))

    def _chunk(self, done: Progress, do: Callable[..., list[Step]], hurried: bool) -> Progress:
        """The next state. hurried: a stage of warmup that ends when it has adapted ends now."""
        stage = self.stages[done.stage]
        when, words = When(done.iterations, stage.adapt), self.words
        states = self.sampler.adapted(done.states) if stage.adapt else done.states

        def advance(chain: Any) -> Step:
            state, tuner = jax.tree.map(lambda leaf: leaf[chain], (states, done.tuners))
            return self.program.advance(state, tuner, words[chain], when, done.settings, self._arrays_of(chain))

        if on_cpu():
            states, tuners, records, sums = _stack(do(advance, range(self.chains)))
        else:
            ((states, tuners, records, sums),) = do(advance, [np.arange(self.chains)])
        following = replace(
            done,
            chunk=done.chunk + 1,
            iterations=done.iterations + CHUNK,
            states=states,
            tuners=tuners,
            records=[*done.records, records],
        )
        if stage.draws:
            return self._kept(_added(following, sums))
        ended = following.chunk == stage.chunks
        if stage.settles and not ended:
            ended = hurried or self.sampler.settled(stage, joined(following.records))
        return self._following(following, stage) if ended else following

    def _kept(self, done: Progress) -> Progress:
        """With a look at the draws, and with the positions after this chunk, where it is time for either."""
        if self.aim is not None and self.aim.looks(done.chunk):
            done = replace(done, standing=self._standing(self.aim, done))
        if not self.stored or done.chunk % self._spacing(done.chunk - 1):
            return done
        positions = (*done.positions, np.asarray(self.sampler.position(done.states)))
        return replace(done, positions=positions[1::2] if len(positions) > self.stored else positions)

    def _following(self, done: Progress, stage: Stage) -> Progress:
        """The state that the stage after this one of warmup starts from."""
        scores, settings = dict(done.scores), done.settings
        records = {name: value[:, : stage.iterations] for name, value in joined(done.records).items()}
        score = self.sampler.score(stage, records)
        if score is not None:
            scores[stage.name] = score
        if stage.adapt:
            step_size = float(np.exp(np.mean(done.tuners.log_average)))
            settings = {**settings, "step_size": step_size}
        settings = self.sampler.before(self.stages[done.stage + 1], settings, scores)
        return replace(
            done,
            stage=done.stage + 1,
            chunk=0,
            scores=scores,
            settings=settings,
            tuners=self._tuners(settings),
            records=[],
        )

    def _tuners(self, settings: Settings) -> DualAveraging:
        return DualAveraging.start(np.full(self.chains, settings.get("step_size", 1.0)))


def _added(done: Progress, sums: dict[str, np.ndarray]) -> Progress:
    """With the sums over its last chunk of draws. Where the blocks are full, two and two become one."""
    index, length = done.chunk - 1, 1
    while index >= BLOCKS * length:
        length *= 2
    merged = length > 1 and index == BLOCKS * length // 2  # blocks were half as long before
    totals = {}
    for name, value in sums.items():
        old = done.sums.get(name, np.zeros((len(value), BLOCKS, *value.shape[1:])))
        totals[name] = _halved(old, 1) if merged else old.copy()
        totals[name][:, index // length] += value
    counts = _halved(done.counts, 0) if merged else done.counts.copy()
    counts[index // length] += CHUNK
    return replace(done, sums=totals, counts=counts)


def _halved(blocks: np.ndarray, axis: int) -> np.ndarray:
    """Neighbouring blocks along an axis added up, followed by as many that are empty."""
    first = np.moveaxis(blocks, axis, 0)
    summed = first[0::2] + first[1::2]
    return np.moveaxis(np.concatenate([summed, np.zeros_like(summed)]), 0, axis)


def _gram(features: jax.Array) -> jax.Array:
    return (features @ features.T).sum()


def _stack(parts: list[T]) -> T:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *parts)


def joined(records: list[Records]) -> Records:
    """Chunks after one another, (chains, iterations, ...)."""
    if not records:
        return {}
    return {name: np.concatenate([part[name] for part in records], axis=1) for name in records[0]}
