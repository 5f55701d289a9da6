"""What is compiled: a chunk of iterations of one chain of any sampler.

Programs are compared by value, so that two runs that differ in data or seed only share what was compiled.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from finitewidth.runs.jax_runs import Leaf, Tree, compiled, on_cpu
from finitewidth.sampling.posterior import (
    Arrays,
    Conditional,
    Target,
    condition,
    predict,
    readout_gram,
    train_error,
)

CHUNK = 10  # iterations between two looks at the clock
Settings = dict[str, float]
Records = dict[str, np.ndarray]  # (chains, iterations, ...) each


class Info(NamedTuple):
    """One iteration: acceptance probability, gradients taken, whether the energy error exploded."""

    acceptance: Leaf
    steps: Leaf
    diverged: Leaf


@dataclass(frozen=True)
class Stage:
    """A part of a run, of so many iterations at most, rounded up to whole chunks.

    adapt: the step size follows the acceptance by dual averaging. settles: it ends as soon as ``Sampler.settled``.
    draws: not warmup.
    """

    name: str
    iterations: int
    adapt: bool = False
    settles: bool = False
    draws: bool = False

    @property
    def chunks(self) -> int:
        return -(-self.iterations // CHUNK)


class Sampler(abc.ABC):
    """What the engine asks of a sampler; those of collapsed.py, langevin.py and nuts.py answer.

    conditional: positions are hidden weights, records exact expectations over the readouts; else positions
    hold the readouts too. acceptance: what dual averaging aims at.
    """

    conditional: ClassVar[bool] = False
    target: Target
    acceptance: float

    @abc.abstractmethod
    def init(self, key: Array, arrays: Arrays) -> Tree:
        """The first state of a chain."""

    @abc.abstractmethod
    def settings(self) -> Settings:
        """Before warmup; empty where the chains share none."""

    @abc.abstractmethod
    def stages(self, warmup: int | None, draws: int) -> list[Stage]:
        """What a run goes through; the last are the draws. warmup: None to end when it has adapted."""

    @abc.abstractmethod
    def step(self, state: Tree, key: Array, jitter: Array, settings: Any, arrays: Arrays) -> tuple[Tree, Info]:
        """One draw. jitter: a quasi-random number in (0, 1)."""

    def adapted(self, states: Tree) -> Tree:
        """The chains that a chunk starts with in a stage that adapts: they use what the chunks before have taught."""
        return states

    @abc.abstractmethod
    def energy(self, state: Tree, arrays: Arrays) -> Array:
        """U, without constants."""

    def before(self, stage: Stage, settings: Settings, scores: dict[str, float]) -> Settings:
        """Settings that a stage starts with; scores: of the stages before it."""
        return settings

    def settled(self, stage: Stage, records: Records) -> bool:
        """Whether a stage that ends when it has adapted may end after these iterations."""
        return True

    def score(self, stage: Stage, records: Records) -> float | None:
        """Of a stage whose settings were tried; None where there is nothing to choose from."""
        return None

    def position(self, state: Tree) -> Array:
        """Whitened weights."""
        theta: Array = state.theta
        return theta

    def gradients(self, settings: Settings, records: Records) -> float:
        """Expected of a draw, at the settings and after the records of a chunk."""
        return float(records["steps"].mean())


class DualAveraging(NamedTuple):
    """Step size of one chain while it adapts (Hoffman and Gelman 2014, section 3.2)."""

    log_step: Leaf
    log_average: Leaf
    error: Leaf
    count: Leaf
    centre: Leaf

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


Step = tuple[Tree, DualAveraging, Tree, Tree]  # state, tuner, records and sums


class When(NamedTuple):
    """What a chunk is part of.

    iterations: done before it in the whole run. adapt: whether the stage adapts the step size.
    """

    iterations: Leaf
    adapt: Leaf


@dataclass(frozen=True)
class Program:
    """A sampler and what is summed over its draws."""

    sampler: Sampler
    observables: tuple[str, ...]

    def init(self, words: np.ndarray, arrays: Arrays) -> Tree:
        """The first state of a chain. words: ``words_of`` it."""
        return compiled(Program._init, self)(words, arrays)

    def shapes(self, settings: Settings, arrays: Arrays) -> Step:
        """What ``advance`` gives of one chain, without doing anything: pytrees of shapes."""
        words = words_of(0, 0)
        state, tuner = jax.eval_shape(self._init, words, arrays), DualAveraging.start(np.ones(()))
        shapes: Step = jax.eval_shape(self._advance, state, tuner, words, When(0, False), settings, arrays)
        return shapes

    def advance(
        self, state: Tree, tuner: DualAveraging, words: np.ndarray, when: When, settings: Settings, arrays: Arrays
    ) -> Step:
        """CHUNK iterations of one chain, or of a batch of them: state, tuner, records and sums. words: ``words_of``."""
        step: Step = compiled(Program._advance if on_cpu() else _batch, self)(
            state, tuner, words, when, settings, arrays
        )
        return step

    def _init(self, words: Array, arrays: Arrays) -> Tree:
        return self.sampler.init(_key(words, 0, _START), arrays)

    def _advance(
        self,
        state: Tree,
        tuner: DualAveraging,
        words: Array,
        when: When,
        settings: dict[str, Array],
        arrays: Arrays,
    ) -> Step:
        def body(carry: Tree, index: Array) -> tuple[Tree, Tree]:
            state, tuner, sums = carry
            now = when.iterations + index
            used = dict(settings)
            if "step_size" in used:
                used["step_size"] = jnp.where(when.adapt, jnp.exp(tuner.log_step), used["step_size"])
            state, info = self.sampler.step(state, _key(words, now, _STEP), van_der_corput(now), used, arrays)
            tuner = tuner.update(self.sampler.acceptance - info.acceptance)
            record, terms = self._observe(state, observing_key(words, now), arrays)
            return (state, tuner, jax.tree.map(jnp.add, sums, terms)), {**record, **info._asdict()}

        shapes = jax.eval_shape(self._observe, state, observing_key(words, 0), arrays)[1]
        zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
        (state, tuner, sums), records = jax.lax.scan(body, (state, tuner, zeros), jnp.arange(CHUNK))
        return state, tuner, records, sums

    def _observe(self, state: Tree, key: Array, arrays: Arrays) -> tuple[Tree, Tree]:
        sampler = self.sampler
        theta = sampler.position(state)
        record, terms = observe(sampler.target, theta, key, arrays, self.observables, sampler.conditional)
        return {**record, "energy": sampler.energy(state, arrays)}, terms


def _batch(program: Program, *arguments: Any) -> Step:
    """``_advance`` of several chains at once."""
    shared = Arrays(*(None,) * 5, centre=0)  # by all chains
    step: Step = jax.vmap(program._advance, (0, 0, 0, None, None, shared))(*arguments)
    return step


_STEP, _OBSERVE, _START = range(3)  # what random numbers are for


def words_of(seed: int, chain: int) -> np.ndarray:
    """What decides all random numbers of a chain: two words of 32 bits, as unlike for neighbours as for others."""
    return np.random.SeedSequence((seed, chain)).generate_state(2)


def _key(words: Any, iteration: Any, purpose: int) -> Array:
    """Threefry takes any different keys for independent ones, so that counting them up needs no code that mixes."""
    first, second = jnp.asarray(words, jnp.uint32)
    key = jnp.stack([first ^ jnp.uint32(purpose << 30), second + jnp.asarray(iteration).astype(jnp.uint32)])
    return jax.random.wrap_key_data(key, impl="threefry2x32")


def observing_key(words: Any, iteration: Any) -> Array:
    """Of what is drawn to observe the state after an iteration."""
    return _key(words, iteration, _OBSERVE)


def van_der_corput(index: Array) -> Array:
    """The van der Corput sequence in base 2 of whole numbers from 0, in (0, 1): jitter that fills the interval."""
    bits = (jnp.asarray(index + 1)[..., None] >> jnp.arange(31)) & 1
    return (bits * 0.5 ** jnp.arange(1, 32)).sum(-1)


# --- what is recorded of every draw, and what is only summed up over draws --------------------------------------

Record = dict[str, Array]


def observe(
    target: Target, theta: Array, key: Array, arrays: Arrays, names: tuple[str, ...], conditional: bool
) -> tuple[Record, Record]:
    """The record of one draw (mean (P*, D), variance (P*,), train_error), and the terms of the sums
    ``names``.

    conditional: exact expectations over the readouts given the hidden weights; else theta holds the
    readouts too and
    the record is of that one network: its outputs, with variance zero.
    """
    hidden = target.hidden(theta[: arrays.scale.size], arrays)
    phi = target.features(hidden, arrays.train)
    at = target.features(target.extended(hidden, key), arrays.test)
    given: Conditional | Array
    if conditional:
        given = condition(phi, arrays.y, arrays.temperature)
        mean, variance = predict(given, phi, at, arrays.temperature)
        error = train_error(given, phi, arrays.temperature)
    else:
        given = theta[arrays.scale.size :].reshape(phi.shape[1], -1)
        mean, variance = at @ given, jnp.zeros(len(at))
        error = ((arrays.y - phi @ given) ** 2).mean()
    terms = {name: _SUMMED[name](target, hidden, phi, given, arrays) for name in names}
    return {"mean": mean, "variance": variance, "train_error": error}, terms


def _order_parameter(target: Target, hidden: Tree, phi: Array, given: Conditional | Array, arrays: Arrays) -> Array:
    width = target.network.widths[-1]
    if isinstance(given, Conditional):
        return readout_gram(given, phi, arrays.temperature, width)
    z = given.reshape(-1, width, given.shape[1])
    size = z.shape[0] * z.shape[2]
    return jnp.einsum("iad,jae->idje", z, z).reshape(size, size) / width


def _hidden_kernel(target: Target, hidden: Tree, phi: Array, given: Conditional | Array, arrays: Arrays) -> Array:
    """phi phi^T / N of the training points (P, P); with patches, their mean (or, pooled, of the pooled features)."""
    scale = target.readout_scale / math.sqrt(target.network.widths[-1] if target.network.readout == "mean-field" else 1)
    return phi @ phi.T / scale**2


def _weight_covariance(target: Target, hidden: Tree, phi: Array, given: Conditional | Array, arrays: Arrays) -> Array:
    """``lambda_0 w w^T`` averaged over the first layer's neurons, (inputs, inputs); one matrix a patch if unshared."""
    weights = target.network.first_weights(hidden)
    gram = jnp.swapaxes(weights, -1, -2) @ weights
    return target.network.weight_precision[0] * gram / weights.shape[-2]


def _readout(target: Target, hidden: Tree, phi: Array, given: Conditional | Array, arrays: Arrays) -> Array:
    """E[z | hidden weights] of whitened readouts, (F, D): its overlaps between networks are order parameters."""
    return given.mean if isinstance(given, Conditional) else given


_SUMMED = {
    "order_parameter": _order_parameter,
    "hidden_kernel": _hidden_kernel,
    "weight_covariance": _weight_covariance,
    "readout": _readout,
}
