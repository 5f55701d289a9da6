"""The self-consistent field of one neuron by stochastic approximation (docs/neuron.md, "How it is solved").

Rounds alternate: the particles move under the field (particles.py), the field follows their averages here. The field is
never evaluated on the particles that it was fitted to: predictions come from rounds at a fixed field.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from finitewidth.linalg import RegularisedGram
from finitewidth.runs.jax_runs import single_thread
from finitewidth.theory.neuron import particles as compiled
from finitewidth.theory.neuron.design import Design
from finitewidth.theory.neuron.particles import Data, Directions, Field, Model, Moments

Array = np.ndarray
RESIDUAL_BOUND, KERNEL_BOUND = 0.02, 0.03  # above either, the result has not converged
ATTEMPTS = 3
HOPELESS = 10.0  # times the bounds, after the first attempt
IMPROVEMENT = 0.7  # of what is missing that may be left after a further attempt, or it has stalled
NEAR = 2.0  # times the bounds, up to which noise decides, which further attempts lower
GAIN = 0.05
ACCEPTANCE = 0.85
SHIFT = 0.3  # nats by which one change of the field may move the particles apart
REFRESH = 20  # rounds between two looks at the directions of the jumps
JUMPS = 3  # directions
SNAPSHOTS = 24  # states of the particles that are stored for predictions


class NotConvergedError(Exception):
    """There is no solution within the bounds, or it would take too long; the message says which."""


@dataclass(frozen=True)
class Problem:
    """One training set under one network and temperature. y: (PD,), outputs one after another. width: N."""

    design: Design
    y: Array
    outputs: int
    temperature: float
    width: int

    @property
    def data(self) -> Data:
        """What the compiled code takes."""
        return Data(self.design.rows, np.float64(self.design.feature_scale), np.float64(self.width))

    @property
    def model(self) -> Model:
        """The compiled code that serves it."""
        design, phi = self.design, self.design.network.phi
        function = compiled.fast_erf if phi.name == "erf" else phi.jax_function
        return Model(function, design.n_points, design.n_preactivations, design.pooled, self.outputs)

    def field(self, s: Array, kernel: Array) -> Field:
        """Of s (PD,) and K_R (PD, PD)."""
        R, shape = RegularisedGram(kernel, self.temperature).inverse(), (self.outputs, self.design.n_points)
        return Field(s.reshape(shape), R.reshape(*shape, *shape))


@dataclass(frozen=True)
class Result:
    """A solution. s: (PD,). kernel: K_R of the field, (PD, PD). theta: states of the particles at that field,
    (snapshots, G, M, r), float32. order: E[z z^T], (G, m D, m D). rounds: that it took.
    """

    problem: Problem
    s: Array
    kernel: Array
    theta: Array
    order: Array
    rounds: int


@dataclass
class Run:
    """The particles and the field that follows them.

    theta: (G, M, r). s: (PD,). kernel, frozen: K_R and the response at frozen weights, (PD, PD), outputs one after
    another. seed: decides every random number. tell: called after every round with the rounds that are left.
    """

    problem: Problem
    theta: Array
    s: Array
    kernel: Array
    seed: int
    tell: Callable[[int], None]

    def __post_init__(self) -> None:
        self.frozen, self.step, self.round, self.left = self.kernel, 0.3, 0, 0
        self.potential = np.full(self.theta.shape[:2], np.nan)  # unknown: nobody is favoured
        self.pace = 1.0
        self._advance = compiled.compiled(compiled.advance, self.problem.model)

    def solve(self, approach: int, averaging: int) -> Result:
        """Approach with a constant gain, average with a falling one, then measure at the averaged field.

        What has not converged is averaged and measured again, for twice as long each time, as long as that helps.
        Raises NotConvergedError.
        """
        missing = HOPELESS
        with single_thread():
            self.left = approach + averaging + _measured(averaging)
            for _ in range(approach):
                self._follow(GAIN)
            for attempt in range(ATTEMPTS):
                count = averaging * 2**attempt
                self.left = count + _measured(count)
                self._average(count)
                result, residual, change = self._measure(_measured(count))
                found = max(residual / RESIDUAL_BOUND, change / KERNEL_BOUND)
                if found <= 1.0:
                    return result
                if not found <= missing:
                    break
                missing = max(NEAR, IMPROVEMENT * found)
        raise NotConvergedError(
            f"no solution after {self.round} rounds: residual {residual:.3f} (bound {RESIDUAL_BOUND}), "
            f"kernel change {change:.3f} (bound {KERNEL_BOUND})"
        )

    def _follow(self, gain: float, near: bool = False) -> None:
        """One round: the particles move, the field follows by ``gain``.

        s moves by the response at frozen weights, which is right far from the solution: where s is too high, a few
        neurons with huge outputs dominate K_R, and Newton's step would be far too short. ``near`` it, K_R is the slope.
        """
        moments = self._move(self.problem.field(self.s, self.kernel))
        size, temperature = len(self.s), self.problem.temperature
        gain *= self.pace
        kernel = np.asarray(moments.kernel).reshape(size, size)
        self.kernel = self.kernel + gain * (0.5 * (kernel + kernel.T) - self.kernel)
        self.frozen = self.frozen + gain * (np.asarray(moments.frozen).reshape(size, size) - self.frozen)
        residual = temperature * self.s + np.asarray(moments.f).ravel() - self.problem.y
        slope = self.kernel if near and self.pace > 0.9 else self.frozen
        self.s = self.s - gain * RegularisedGram(slope, temperature).solve(residual)

    def _average(self, rounds: int) -> None:
        """With falling gain; the field becomes its average over these rounds."""
        total: list[Any] = [0.0, 0.0, 0.0]
        for k in range(rounds):
            self._follow(GAIN / (1.0 + 4.0 * k / rounds), near=True)
            total = [a + b for a, b in zip(total, (self.s, self.kernel, self.frozen), strict=True)]
        self.s, self.kernel, self.frozen = (part / rounds for part in total)

    def _measure(self, rounds: int) -> tuple[Result, float, float]:
        """At the field as it is: what it gives, the rms of ``T s + f - y`` over that of y, and the change of K_R."""
        problem, size = self.problem, len(self.s)
        field, states = problem.field(self.s, self.kernel), []
        f, kernel, order = np.zeros(size), np.zeros((size, size)), np.zeros(())
        every = max(1, rounds // SNAPSHOTS)
        for k in range(rounds):
            moments = self._move(field)
            f += np.asarray(moments.f).ravel() / rounds
            kernel += np.asarray(moments.kernel).reshape(size, size) / rounds
            order = order + np.asarray(moments.order) / rounds
            if k % every == every - 1:
                states.append(np.asarray(self.theta, dtype=np.float32))
        scale = float(np.sqrt(np.mean(problem.y**2))) or 1.0
        residual = float(np.sqrt(np.mean((problem.temperature * self.s + f - problem.y) ** 2))) / scale
        change = float(np.linalg.norm(kernel - self.kernel) / np.linalg.norm(self.kernel))
        return Result(problem, self.s, self.kernel, np.stack(states), order, self.round), residual, change

    def _move(self, field: Field) -> Moments:
        if self.round % REFRESH == 0:
            self.directions = leading(self.theta)
        given = (self.theta, self.potential, self.problem.data, field, self.directions)
        key = compiled.key_of(self.seed, self.round)
        self.theta, self.potential, moments = self._advance(*given, key, np.float64(self.step))
        self.pace = self.pace * 0.7 if float(moments.shift) > SHIFT else min(1.0, 1.1 * self.pace)
        self.step = float(np.clip(self.step * np.exp(0.2 * (float(moments.acceptance) - ACCEPTANCE)), 1e-4, 1.0))
        self.round, self.left = self.round + 1, self.left - 1
        self.tell(self.left)
        return moments


def _measured(averaged: int) -> int:
    """Rounds that measure after so many that average."""
    return max(1, averaged // 2)


def leading(theta: Any) -> Directions:
    """Directions in which the particles (G, M, r) spread most."""
    theta = np.asarray(theta)
    gram = np.einsum("gkr,gks->grs", theta, theta, optimize=True) / theta.shape[1]
    values, vectors = np.linalg.eigh(gram)
    values, vectors = values[:, ::-1][:, :JUMPS], vectors[:, :, ::-1][:, :, :JUMPS]
    deviations = np.sqrt(np.maximum(values, 1.0))
    return Directions(np.ascontiguousarray(vectors), 1.2 * deviations, np.log(deviations - 0.95))
