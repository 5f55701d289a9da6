"""Runs any sampler: chains beside one another, stages in chunks, compiled once, resumable after every chunk.

On a CPU every chain is a lane of its own on one thread; on other devices the chains are one batch (vmap).
XLA and the
BLAS below it are kept to one thread a lane: OpenBLAS threads called from several XLA threads spin, and on a
busy machine slow a run down a hundred times. Random numbers depend on seed, chain and iteration only, so a
run that was interrupted and resumed equals one that was not, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg  # noqa: F401  the BLAS that jaxlib calls, loaded before its threads are limited
from threadpoolctl import threadpool_limits

from finitewidth.linalg import n_threads
from finitewidth.sampling.observables import observe
from finitewidth.sampling.posterior import Array, Arrays, Target

CHUNK = 10  # iterations between two looks at the clock; stages are rounded up to whole chunks
BLOCKS = 10  # parts of a run that sums are kept for, so that they have error bars
Settings = dict[str, float]
Records = dict[str, np.ndarray]  # (chains, iterations, ...) each


class Info(NamedTuple):
    """One iteration: acceptance probability, gradients taken, whether the energy error exploded."""

    acceptance: Array
    steps: Array
    diverged: Array


class Moment(NamedTuple):
    """When an iteration happens: number in its stage, whether to adapt, and a quasi-random number in (0, 1)."""

    index: Array
    adapt: Array
    jitter: Array


@dataclass(frozen=True)
class Stage:
    """A part of a run. adapt: the step size follows the acceptance by dual averaging. kept: draws, not warmup."""

    name: str
    iterations: int
    adapt: bool = False
    kept: bool = False

    @property
    def chunks(self) -> int:
        return -(-self.iterations // CHUNK)


class Sampler(Protocol):
    """What the engine asks of a sampler; collapsed.py, langevin.py and nuts.py answer.

    conditional: positions are hidden weights, records exact expectations over the readouts; else positions
    hold the readouts too. acceptance: what dual averaging aims at.
    """

    target: Target
    conditional: bool
    acceptance: float

    def init(self, key: Array, arrays: Arrays) -> Any: ...
    def settings(self) -> Settings: ...
    def stages(self, warmup: int, draws: int) -> list[Stage]: ...
    def before(self, stage: Stage, settings: Settings, scores: dict[str, float]) -> Settings: ...
    def score(self, stage: Stage, records: Records) -> float | None: ...
    def step(self, state: Any, key: Array, moment: Moment, settings: Any, arrays: Arrays) -> tuple[Any, Info]: ...
    def position(self, state: Any) -> Array: ...
    def energy(self, state: Any, arrays: Arrays) -> Array: ...


class DualAveraging(NamedTuple):
    """Step size of one chain while it adapts (Hoffman and Gelman 2014, section 3.2)."""

    log_step: Array
    log_average: Array
    error: Array
    count: Array
    centre: Array

    @classmethod
    def start(cls, step_size: np.ndarray) -> DualAveraging:
        """One a chain, (chains,) each."""
        log_step = np.log(step_size)
        zero = np.zeros_like(log_step)
        return cls(log_step, log_step, zero, zero, log_step + np.log(2.0))

    def update(self, shortfall: Array) -> DualAveraging:
        """``shortfall``: wanted acceptance minus that of the last trajectory."""
        count = self.count + 1.0
        error = self.error + (shortfall - self.error) / (count + 10.0)
        log_step = self.centre - jnp.sqrt(count) / 0.05 * error
        weight = count**-0.75
        average = weight * log_step + (1.0 - weight) * self.log_average
        return DualAveraging(log_step, average, error, count, self.centre)


@dataclass(frozen=True)
class Progress:
    """Everything a run is: all that a checkpoint holds.

    stage, chunk: what is done of which stage. states, tuners: one pytree of NumPy arrays, chains first.
    records: of the current stage. sums: (chains, BLOCKS, ...), with their ``counts`` (BLOCKS,).
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


@dataclass(frozen=True)
class Engine:
    """One sampler on one data set."""

    sampler: Sampler
    arrays: Arrays
    chains: int
    seed: int
    observables: tuple[str, ...]
    stages: tuple[Stage, ...]

    def start(self) -> Progress:
        """States from the prior, nothing done."""
        with single_thread():
            keys = [self._key(chain, -1) for chain in range(self.chains)]
            init = jax.jit(self.sampler.init)
            states = _stack([jax.device_get(init(key, self.arrays)) for key in keys])
            settings = self.sampler.before(self.stages[0], self.sampler.settings(), {})
            return Progress(0, 0, 0, states, self._tuners(settings), settings)

    def run(self, progress: Progress) -> Iterator[Progress]:
        """Do what is left, chunk by chunk; every state yielded is whole and stays as it is."""
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(min(n_threads(), self.chains)) as pool:
            advance = self._compiled(pool)
            while progress.stage < len(self.stages):
                progress = self._chunk(progress, advance)
                yield progress

    @property
    def chunks(self) -> int:
        """Chunks of a whole run."""
        return sum(stage.chunks for stage in self.stages)

    def _chunk(self, done: Progress, advance: Callable) -> Progress:
        stage = self.stages[done.stage]
        first = done.chunk * CHUNK
        kept = min(CHUNK, stage.iterations - first)
        states, tuners, records, sums = advance(done, stage, first, kept)
        trimmed = {name: value[:, :kept] for name, value in records.items()}
        following = replace(
            done,
            chunk=done.chunk + 1,
            iterations=done.iterations + CHUNK,
            states=states,
            tuners=tuners,
            records=[*done.records, trimmed],
        )
        if stage.kept:
            following = _added(following, sums, kept, done.chunk * BLOCKS // stage.chunks)
        return self._finished(following, stage) if following.chunk == stage.chunks else following

    def _finished(self, done: Progress, stage: Stage) -> Progress:
        """The state that the next stage starts from; after the last one, its records are kept."""
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
        return DualAveraging.start(np.full(self.chains, settings["step_size"]))

    def _key(self, chain: Any, iteration: Any) -> Array:
        key = jax.random.key(self.seed, impl="threefry2x32")
        return jax.random.fold_in(jax.random.fold_in(key, chain), iteration + 1)

    # --- the compiled part ----------------------------------------------------------------------------------

    def _compiled(self, pool: ThreadPoolExecutor) -> Callable:
        """``(progress, stage, first, kept) -> (states, tuners, records, sums)``, chains first in all of them."""
        on_cpu = jax.default_backend() == "cpu"
        axes = (0, 0, 0, None, None, None, None, None, None)
        one = self._advance if on_cpu else jax.vmap(self._advance, axes)
        options = {"xla_cpu_multi_thread_eigen": False} if on_cpu else {}
        compiled = jax.jit(one, compiler_options=options)

        def lane(chain: Any, progress: Progress, stage: Stage, first: int, kept: int) -> Any:
            with jax.enable_x64(True):  # a setting of the thread
                state, tuner = jax.tree.map(lambda leaf: leaf[chain], (progress.states, progress.tuners))
                rest = (first, kept, progress.iterations, stage.adapt, progress.settings, self.arrays)
                return jax.device_get(compiled(state, tuner, chain, *rest))

        def advance(*moment: Any) -> Any:
            if not on_cpu:
                return lane(np.arange(self.chains), *moment)
            return _stack(list(pool.map(lambda chain: lane(chain, *moment), range(self.chains))))

        return advance

    def _advance(
        self,
        state: Any,
        tuner: DualAveraging,
        chain: Array,
        first: Array,
        kept: Array,
        iteration: Array,
        adapt: Array,
        settings: Settings,
        arrays: Arrays,
    ) -> tuple[Any, DualAveraging, Any, Any]:
        """CHUNK iterations of one chain."""

        def body(carry: Any, index: Array) -> tuple[Any, Any]:
            state, tuner, sums = carry
            key, observe_key = jax.random.split(self._key(chain, iteration + index))
            moment = Moment(first + index, adapt, van_der_corput(iteration + index))
            step_size = jnp.where(adapt, jnp.exp(tuner.log_step), settings["step_size"])
            state, info = self.sampler.step(state, key, moment, {**settings, "step_size": step_size}, arrays)
            tuner = tuner.update(self.sampler.acceptance - info.acceptance)
            record, terms = self._observe(state, observe_key, arrays)
            sums = jax.tree.map(lambda total, term: total + jnp.where(index < kept, term, 0.0), sums, terms)
            return (state, tuner, sums), {**record, **info._asdict()}

        shapes = jax.eval_shape(self._observe, state, self._key(0, 0), arrays)[1]
        zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
        (state, tuner, sums), records = jax.lax.scan(body, (state, tuner, zeros), jnp.arange(CHUNK))
        return state, tuner, records, sums

    def _observe(self, state: Any, key: Array, arrays: Arrays) -> tuple[Any, Any]:
        sampler = self.sampler
        theta = sampler.position(state)
        record, terms = observe(sampler.target, theta, key, arrays, self.observables, sampler.conditional)
        return {**record, "energy": sampler.energy(state, arrays)}, terms


@contextmanager
def single_thread() -> Iterator[None]:
    """Float64 in JAX, and one BLAS thread, for as long as the context lasts."""
    with threadpool_limits(1, user_api="blas"), jax.enable_x64(True):
        yield


def joined(records: list[Records]) -> Records:
    """Chunks after one another, (chains, iterations, ...)."""
    if not records:
        return {}
    return {name: np.concatenate([part[name] for part in records], axis=1) for name in records[0]}


def van_der_corput(index: Array) -> Array:
    """The van der Corput sequence in base 2 of whole numbers from 0, in (0, 1): jitter that fills the interval."""
    bits = (jnp.asarray(index + 1)[..., None] >> jnp.arange(31)) & 1
    return (bits * 0.5 ** jnp.arange(1, 32)).sum(-1)


def _added(done: Progress, sums: dict[str, np.ndarray], count: int, block: int) -> Progress:
    totals, counts = {}, done.counts.copy()
    for name, value in sums.items():
        old = done.sums.get(name)
        totals[name] = np.zeros((len(value), BLOCKS, *value.shape[1:])) if old is None else old.copy()
        totals[name][:, block] += value
    counts[block] += count
    return replace(done, sums=totals, counts=counts)


def _stack(parts: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *parts)
