"""The self-consistent field of one neuron by stochastic approximation (docs/neuron.md, "How it is solved").

Rounds alternate: the particles move under the field (particles.py), the field follows their averages here. The field is
never evaluated on the particles that it was fitted to: predictions come from rounds at a fixed field.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from finitewidth.linalg import RegularisedGram
from finitewidth.runs.checkpoints import RunFile, now_and_then
from finitewidth.runs.jax_runs import single_thread
from finitewidth.theory.neuron import particles as compiled
from finitewidth.theory.neuron.design import Design
from finitewidth.theory.neuron.particles import Data, Directions, Field, Model, Moments, Reference, State

Array = np.ndarray
RESIDUAL_BOUND, KERNEL_BOUND = 0.02, 0.03  # above either, the result has not converged
STRONG = 2.5  # lambda_1 E[v^2] above which one neuron's output is of the order of the targets
LOST = 0.3  # residual above which the quadratic response has no solution that the particles find
GAIN = 0.05
ATTEMPTS = 3
ACCEPTANCE = 0.85
SHIFT = 0.3  # nats by which one change of the field may move the particles apart
REFRESH = 20  # rounds between two looks at the directions of the jumps
JUMPS = 3  # directions
SNAPSHOTS = 24  # states of the particles that are stored for predictions
_SAVED = ("s", "kernel", "frozen", "potential")
_DIRECTIONS = ("vectors", "deviations", "log_odds")


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

    def digest(self) -> str:
        """Of all its numbers."""
        found = hashlib.sha256(f"{self.step!r} {self.round}".encode())
        for part in (*self.state, self.s, self.kernel, self.frozen):
            found.update(np.ascontiguousarray(part).tobytes())
        return found.hexdigest()[:16]


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
        return self.shortfall <= 1.0

    @property
    def shortfall(self) -> float:
        """Residual and change of the kernel in units of their bounds, the larger one."""
        return max(self.residual / RESIDUAL_BOUND, self.change / KERNEL_BOUND)

    @property
    def complaint(self) -> str:
        """What has not converged."""
        residual = f"residual {self.residual:.3f} (bound {RESIDUAL_BOUND})"
        return f"{residual}, kernel change {self.change:.3f} (bound {KERNEL_BOUND})"

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
        file: RunFile | None = None,
    ) -> Result:
        """Approach with a constant gain, average with a falling one, then measure at the averaged field.

        What has not converged is averaged and measured again, for twice as long each time, unless another response is
        wanted and ``may_change``. ``file``: where the run is saved, and from where it goes on.
        """
        stages = [("approach", rounds[0])]
        for count in (rounds[1] * 2**attempt for attempt in range(ATTEMPTS)):
            stages += [("average", count), ("measure", max(1, count // 2))]
        with single_thread():
            run = _Run(self, position, seed, reference, tell, file)
            while True:
                kind, count = stages[run.stage]
                run.go(kind, count)
                if kind == "measure":
                    result = run.result()
                    last = run.stage + 1 == len(stages)
                    if last or result.converged or (may_change and result.strong):
                        break
                run.stage, run.done = run.stage + 1, 0
            run.save()
            return result


class _Run:
    """The moving parts of one run."""

    def __init__(
        self,
        problem: Problem,
        at: Position,
        seed: int,
        reference: Reference | None,
        tell: Callable[[], None],
        file: RunFile | None,
    ) -> None:
        self.problem, self.seed, self.reference, self.tell, self.file = problem, seed, reference, tell, file
        self.state, self.s, self.kernel, self.frozen = at.state, at.s.copy(), at.kernel.copy(), at.frozen.copy()
        self.step, self.round = at.step, at.round
        self.model = problem.model(reference is not None)
        self._advance = compiled.compiled(compiled.advance, self.model)
        self.directions = leading(at.state.theta)
        self.potential = np.full(at.state.theta.shape[:2], np.nan)  # unknown: nobody is favoured
        self.pace = 1.0
        self.stage = self.done = 0  # rounds done of the stage
        self.sums: dict[str, Array] = {}  # of the stage
        self.saved: list[State] = []
        self._restore()
        self._save_if_due = now_and_then(lambda _: self.save())

    def go(self, kind: str, rounds: int) -> None:
        """The rounds of a stage, or those that are left of it."""
        if self.done == 0:
            self._begin(kind)
        work = getattr(self, f"_{kind}")
        R = RegularisedGram(self.kernel, self.problem.temperature).inverse() if kind == "measure" else None
        while self.done < rounds:
            work(self.done, rounds, R)
            self.done += 1
            self._save_if_due(None)

    def _begin(self, kind: str) -> None:
        size = len(self.s)
        self.sums, self.saved = {}, []
        if kind == "average":
            self.sums = {"s": self.s.copy(), "kernel": self.kernel.copy(), "frozen": self.frozen.copy()}
        elif kind == "measure":
            self.sums = {"f": np.zeros(size), "kernel": np.zeros((size, size)), "order": np.zeros(())}

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

    def _approach(self, k: int, rounds: int, _: Any) -> None:
        self.follow(GAIN)

    def _average(self, k: int, rounds: int, _: Any) -> None:
        """With falling gain; the field becomes its average over the stage."""
        self.follow(GAIN / (1.0 + 4.0 * k / rounds), near=True)
        for name, mean in self.sums.items():
            mean += (getattr(self, name) - mean) / (k + 1)
        if k + 1 == rounds:
            self.s, self.kernel, self.frozen = self.sums["s"], self.sums["kernel"], self.sums["frozen"]

    def _measure(self, k: int, rounds: int, R: Array) -> None:
        """At the field as it is."""
        moments, sums = self._move(R), self.sums
        sums["f"] += np.asarray(moments.f).ravel() / rounds
        sums["kernel"] += np.asarray(moments.kernel).reshape(sums["kernel"].shape) / rounds
        sums["order"] = sums["order"] + np.asarray(moments.order) / rounds
        every = max(1, rounds // SNAPSHOTS)
        if k % every == every - 1:
            self.saved.append(State(*(np.asarray(part, dtype=np.float32) for part in self.state)))

    def result(self) -> Result:
        """Of a stage that has measured."""
        problem, f, kernel = self.problem, self.sums["f"], self.sums["kernel"]
        scale = float(np.sqrt(np.mean(problem.y**2))) or 1.0
        residual = float(np.sqrt(np.mean((problem.temperature * self.s + f - problem.y) ** 2))) / scale
        change = float(np.linalg.norm(kernel - self.kernel) / np.linalg.norm(self.kernel))
        snapshots = State(*(np.stack(parts) for parts in zip(*self.saved, strict=True)))
        here = Position(compiled.numpy_of(self.state), self.s, self.kernel, self.frozen, self.step, self.round)
        averages = Averages(f, kernel, self.sums["order"])
        return Result(here, averages, snapshots, self.model, residual, change, self.reference)

    def save(self) -> None:
        """All that the run needs to go on, into its file."""
        if self.file is None:
            return
        plain = {name: np.asarray(getattr(self, name)) for name in _SAVED}
        state, directions = zip(State._fields, self.state, strict=True), zip(_DIRECTIONS, self.directions, strict=True)
        arrays = plain | {name: np.asarray(part) for name, part in (*state, *directions)}
        arrays |= {f"sum_{name}": part for name, part in self.sums.items()}
        if self.saved:
            arrays |= {f"kept_{name}": np.stack([getattr(one, name) for one in self.saved]) for name in State._fields}
        counts = {"stage": self.stage, "done": self.done, "round": self.round}
        self.file.write(counts | {"step": self.step, "pace": self.pace}, arrays)

    def _restore(self) -> None:
        found = None if self.file is None else self.file.read()
        if found is None:
            return
        meta, arrays = found
        self.stage, self.done, rounds = meta["stage"], meta["done"], meta["round"] - self.round
        self.round, self.step, self.pace = meta["round"], meta["step"], meta["pace"]
        for name in _SAVED:
            setattr(self, name, arrays[name])
        self.state = State(*(arrays[name] for name in State._fields))
        self.directions = Directions(*(arrays[name] for name in _DIRECTIONS))
        self.sums = {name[4:]: part for name, part in arrays.items() if name.startswith("sum_")}
        if "kept_z" in arrays:
            self.saved = [State(*one) for one in zip(*(arrays[f"kept_{name}"] for name in State._fields), strict=True)]
        for _ in range(rounds):
            self.tell()

    def _move(self, R: Array) -> Moments:
        key = compiled.key_of(self.seed, self.round)
        at = self.problem.field(self.s, R)
        step = np.float64(self.step)
        if self.round % REFRESH == 1:
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
