"""The self-consistent field of one neuron by stochastic approximation (docs/neuron.md, "How it is solved").

Rounds alternate: the particles move under the field (particles.py), the field follows their averages here. The field is
never evaluated on the particles that it was fitted to: predictions come from rounds at a fixed field.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from finitewidth.linalg import RegularisedGram
from finitewidth.runs import single_thread
from finitewidth.theory.neuron import particles as compiled
from finitewidth.theory.neuron.design import Design
from finitewidth.theory.neuron.options import KERNEL_BOUND, LOST, RESIDUAL_BOUND, STRONG
from finitewidth.theory.neuron.particles import Data, Directions, Field, Model, Moments, Reference, State

Array = np.ndarray
GAIN = 0.05
ATTEMPTS = 3
ACCEPTANCE = 0.85
SHIFT = 0.3  # nats by which one change of the field may move the particles apart
REFRESH = 20  # rounds between two looks at the directions of the jumps
JUMPS = 3  # directions
SNAPSHOTS = 24  # states of the particles that are kept for predictions


@dataclass(frozen=True)
class Position:
    """Where a run stands: all that it needs to go on.

    s: (PD,). kernel, frozen: K_R and the response at frozen weights, (PD, PD), outputs one after another.
    step: of the trajectories, radians. round: rounds done, which decide the random numbers.
    """

    state: State
    s: Array
    kernel: Array
    frozen: Array
    step: float
    round: int


@dataclass(frozen=True)
class Averages:
    """Of the rounds at a fixed field. f: (PD,). kernel: (PD, PD). order: E[z z^T], (G, m D, m D)."""

    f: Array
    kernel: Array
    order: Array


@dataclass(frozen=True)
class Result:
    """One solution from one seed.

    position: at the end; its field is the averaged one. averages: at that field. snapshots: weights and readouts,
    (rounds, G, M, r) and (rounds, G, M, m D), float32. residual: rms of ``T s + f - y`` over the rms of y.
    change: of K_R between the field and what the particles give at it, relative, in Frobenius norm.
    """

    position: Position
    averages: Averages
    snapshots: State
    model: Model
    residual: float
    change: float
    reference: Reference | None = field(default=None, repr=False)

    @property
    def converged(self) -> bool:
        return self.residual <= RESIDUAL_BOUND and self.change <= KERNEL_BOUND

    @property
    def strong(self) -> bool:
        """Whether the quadratic response is out of its depth: the rule between the two (docs/neuron.md)."""
        return not (self.strength <= STRONG and self.residual <= LOST)

    @property
    def strength(self) -> float:
        """lambda_1 E[v^2], averaged over a neuron's readouts and over populations."""
        return float(np.einsum("gaa->ga", self.averages.order).mean())


@dataclass(frozen=True)
class Problem:
    """One training set under one network and temperature."""

    design: Design
    y: Array  # (PD,), outputs one after another
    outputs: int
    temperature: float
    width: int

    @property
    def points(self) -> int:
        return self.design.n_points

    @property
    def data(self) -> Data:
        return Data(self.design.rows, np.float64(self.design.feature_scale), np.float64(self.width))

    def model(self, nonlinear: bool) -> Model:
        """The compiled code that serves it."""
        design = self.design
        phi = design.network.phi
        function = compiled.fast_erf if phi.name == "erf" else phi.jax_function
        return Model(function, self.points, design.n_preactivations, design.pooled, self.outputs, nonlinear)

    def field(self, s: Array, R: Array) -> Field:
        shape = (self.outputs, self.points)
        return Field(s.reshape(shape), R.reshape(*shape, *shape))

    def begin(self, s: Array, kernel: Array, count: int, seed: int) -> Position:
        """Particles from the prior, under a field that some other theory gives."""
        model = self.model(False)
        with single_thread():
            key = compiled.key_of(seed, 0)
            state = compiled.start(model, self.design.n_populations, count, self.design.rank, key)
            return Position(compiled.numpy_of(state), s, kernel, kernel.copy(), 0.3, 1)

    def with_readouts(self, position: Position, seed: int) -> Position:
        """Twice the particles, readouts drawn from their conditional: where the nonlinear response starts.

        Sampled readouts are noisier than those that are integrated.
        """
        model = self.model(False)
        with single_thread():
            R = RegularisedGram(position.kernel, self.temperature).inverse()
            key = compiled.key_of(seed, position.round, 1)
            draw = compiled.compiled(compiled.draw_readouts, model)
            state = State(*(np.concatenate([part, part], axis=1) for part in position.state))
            z = np.asarray(draw(state, self.data, self.field(position.s, R), key))
            return replace(position, state=State(state.theta, z), round=position.round + 1)

    def solve(
        self,
        position: Position,
        rounds: tuple[int, int],
        seed: int,
        reference: Reference | None = None,
        tell: Callable[[], None] = lambda: None,
        may_change: bool = False,
    ) -> Result:
        """Approach with a constant gain, average with a falling one, then measure at the averaged field.

        What has not converged is averaged and measured again, for twice as long each time, unless another response is
        wanted and ``may_change``.
        """
        run = _Run(self, position, seed, reference, tell)
        with single_thread():
            for _ in range(rounds[0]):
                run.follow(GAIN)
            for attempt in range(ATTEMPTS):
                run.average(rounds[1] * 2**attempt, GAIN)
                result = run.measure(max(1, rounds[1] * 2**attempt // 2))
                if result.converged or (may_change and result.strong):
                    break
            return result


class _Run:
    """The moving parts of one run."""

    def __init__(
        self, problem: Problem, at: Position, seed: int, reference: Reference | None, tell: Callable[[], None]
    ) -> None:
        self.problem, self.seed, self.reference, self.tell = problem, seed, reference, tell
        self.state, self.s, self.kernel, self.frozen = at.state, at.s.copy(), at.kernel.copy(), at.frozen.copy()
        self.step, self.round = at.step, at.round
        self.model = problem.model(reference is not None)
        self._advance = compiled.compiled(compiled.advance, self.model)
        self.directions, self.fixed = leading(at.state.theta), False
        self.potential = np.full(at.state.theta.shape[:2], np.nan)  # unknown: nobody is favoured
        self.pace = 1.0

    def follow(self, gain: float, near: bool = False) -> None:
        """One round: the particles move, the field follows by ``gain``.

        s moves by the response at frozen weights, which is right far from the solution: where s is too high, a few
        neurons with huge outputs dominate K_R, and Newton's step would be far too short. ``near`` it, K_R is the slope.
        """
        moments = self._move(RegularisedGram(self.kernel, self.problem.temperature).inverse())
        size = len(self.s)
        gain *= self.pace
        self.kernel += gain * (np.asarray(moments.kernel).reshape(size, size) - self.kernel)
        self.frozen += gain * (np.asarray(moments.frozen).reshape(size, size) - self.frozen)
        self.kernel = 0.5 * (self.kernel + self.kernel.T)
        residual = self.problem.temperature * self.s + np.asarray(moments.f).ravel() - self.problem.y
        slope = self.kernel if near and self.pace > 0.9 else self.frozen
        self.s -= gain * RegularisedGram(slope, self.problem.temperature).solve(residual)

    def average(self, rounds: int, gain: float) -> None:
        """Rounds with falling gain; the field becomes its average over them."""
        s, kernel, frozen = self.s.copy(), self.kernel.copy(), self.frozen.copy()
        for k in range(rounds):
            self.follow(gain / (1.0 + 4.0 * k / rounds), near=True)
            for mean, value in ((s, self.s), (kernel, self.kernel), (frozen, self.frozen)):
                mean += (value - mean) / (k + 1)
        self.s, self.kernel, self.frozen = s, kernel, frozen

    def measure(self, rounds: int) -> Result:
        """Averages at the field as it is."""
        size, problem = len(self.s), self.problem
        R = RegularisedGram(self.kernel, problem.temperature).inverse()
        f, kernel, order = np.zeros(size), np.zeros((size, size)), np.zeros(())
        every = max(1, rounds // SNAPSHOTS)
        kept: list[State] = []
        for k in range(rounds):
            moments = self._move(R)
            f += np.asarray(moments.f).ravel() / rounds
            kernel += np.asarray(moments.kernel).reshape(size, size) / rounds
            order = order + np.asarray(moments.order) / rounds
            if k % every == every - 1:
                kept.append(State(*(np.asarray(part, dtype=np.float32) for part in self.state)))
        scale = float(np.sqrt(np.mean(problem.y**2))) or 1.0
        residual = float(np.sqrt(np.mean((problem.temperature * self.s + f - problem.y) ** 2))) / scale
        change = float(np.linalg.norm(kernel - self.kernel) / np.linalg.norm(self.kernel))
        snapshots = State(*(np.stack(parts) for parts in zip(*kept, strict=True)))
        here = Position(compiled.numpy_of(self.state), self.s, self.kernel, self.frozen, self.step, self.round)
        averages = Averages(f, kernel, np.asarray(order))
        return Result(here, averages, snapshots, self.model, residual, change, self.reference)

    def _move(self, R: Array) -> Moments:
        key = compiled.key_of(self.seed, self.round)
        at = self.problem.field(self.s, R)
        step = np.float64(self.step)
        if self.round % REFRESH == 1 and not self.fixed:
            self.directions = leading(self.state.theta)
        data = self.problem.data
        moving = (data, at, self.reference, self.directions, key, step)
        self.state, self.potential, moments = self._advance(self.state, self.potential, *moving)
        self.pace = self.pace * 0.7 if float(moments.shift) > SHIFT else min(1.0, 1.1 * self.pace)
        self.step = float(np.clip(self.step * np.exp(0.2 * (float(moments.acceptance) - ACCEPTANCE)), 1e-4, 1.0))
        self.round += 1
        self.tell()
        return moments


def leading(theta: Any) -> Directions:
    """Directions in which the particles (G, M, r) spread most."""
    theta = np.asarray(theta)
    gram = np.einsum("gkr,gks->grs", theta, theta, optimize=True) / theta.shape[1]
    values, vectors = np.linalg.eigh(gram)
    values, vectors = values[:, ::-1][:, :JUMPS], vectors[:, :, ::-1][:, :, :JUMPS]
    deviations = np.sqrt(np.maximum(values, 1.0))
    return Directions(np.ascontiguousarray(vectors), 1.2 * deviations, np.log(deviations - 0.95))
