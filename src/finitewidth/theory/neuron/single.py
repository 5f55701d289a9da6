"""The self-consistent single-neuron theory: one hidden layer, features that need not be Gaussian (docs/neuron.md).

One neuron is solved exactly, by particles, in the field of all others; the field follows from the neuron. With Gaussian
features it is the saddle of the action. It takes every one-hidden-layer architecture and any activation.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from finitewidth import checks
from finitewidth.checks.exceptions import InputError, MissingExtraError
from finitewidth.data import Dataset
from finitewidth.inference import methods
from finitewidth.inference.methods import Control, gaussian_temperature
from finitewidth.linalg import require_memory
from finitewidth.networks import Network
from finitewidth.runs import durations
from finitewidth.runs.checkpoints import RunFile, folder_of
from finitewidth.runs.fingerprints import network_fingerprint, versions
from finitewidth.runs.long_runs import reporting
from finitewidth.theory.local import rate_on_patches
from finitewidth.theory.neuron.design import Design
from finitewidth.theory.neuron.predictor import NeuronPredictor
from finitewidth.theory.neuron.reference import ScalarAction
from finitewidth.theory.solution import Theory, TheorySolution
from finitewidth.theory.solving import TheoryMethod

if TYPE_CHECKING:
    from finitewidth.theory.neuron.particles import State
    from finitewidth.theory.neuron.rounds import Position, Problem, Result

Array = np.ndarray
_REMEDY = "use fewer training points, fewer particles (fw.SingleNeuron)"
RESPONSES = ("auto", "quadratic", "nonlinear")
_PACED = 3  # rounds that show the pace
_START = 0.4  # of the action's s: from above, the specialised neurons would overshoot


@dataclass(frozen=True)
class SingleNeuron(TheoryMethod):
    """The self-consistent single-neuron theory as a method; one hidden layer, any activation (docs/neuron.md).

    particles: M, neurons that are followed at once; None: as many as the training points ask for.
    rounds: of approach, and of averaging the field, one Hamiltonian trajectory of every particle each; half as many as
        the latter then measure at that field. What has not converged goes on, up to seven times the latter in all.
    response: of the other neurons to one neuron's output: "quadratic", "nonlinear", or "auto": the latter where
        the former gives lambda_1 E[v^2] above 2.5, or finds no solution (residual above .3).
    seed: decides every random number: the same call gives the same numbers on one machine.
    seeds: independent solutions, ``seed``, ``seed + 1``, ...; more than one gives standard errors.

    Raises InputError for values that cannot be.
    """

    particles: int | None = None
    rounds: tuple[int, int] = (150, 150)
    response: str = "auto"
    seed: int = 0
    seeds: int = 1
    name = "neuron"

    def __post_init__(self) -> None:
        checks.choice("response", self.response, RESPONSES)
        checked = {
            "particles": None if self.particles is None else checks.positive_integer("particles", self.particles),
            "rounds": _pair("rounds", self.rounds),
            "seed": checks.seed("seed", self.seed),
            "seeds": checks.positive_integer("seeds", self.seeds),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def theory(self, problem: methods.Problem, control: Control | None = None) -> NeuronTheory:
        """For one output or several. Raises InputError for more than one hidden layer, and for other noise."""
        network, temperature = problem.network, gaussian_temperature(problem, self)
        if network.depth != 1 or not network.known_neurons:
            raise InputError(
                f"method = 'neuron' for {type(network).__name__} with {network.depth} hidden layers",
                "one hidden layer (fully connected, convolutional, locally connected or average-pooled)",
                "use method='saddle'",
            )
        return NeuronTheory(network, temperature, self, control or Control())

    def particles_for(self, n_values: int) -> int:
        """M for a number of training values P D.

        Raises InputError for too few: below 2 P D the second moments of the features have fewer particles than twice
        their rank, and the response matrix is fitted to noise.
        """
        least = max(200, 2 * n_values)
        if self.particles is None:
            return max(1200, 8 * n_values) if n_values <= 300 else max(2400, 3 * n_values)
        if self.particles < least:
            raise InputError(
                f"particles = {self.particles} for {n_values} training values",
                f"at least {least} (twice the training values)",
                "give more particles, or leave the number out",
            )
        return self.particles


def _pair(name: str, value: Any) -> tuple[int, int]:
    """Two whole numbers of at least one."""
    counts = [checks.positive_integer(name, count) for count in checks.sequence(name, value)]
    if len(counts) != 2:
        raise InputError(
            f"{name} = {checks.shown(value)}", "two whole numbers", f"write {name}=(150, 150), for example"
        )
    return counts[0], counts[1]


@dataclass(frozen=True)
class NeuronTheory(Theory["Continuation"]):
    """One hidden layer of any architecture, one output or several.

    Source: the project's own (docs/neuron.md); with Gaussian features it reduces to the action.
    """

    network: Network
    temperature: float
    options: SingleNeuron = field(default_factory=lambda: SingleNeuron())
    control: Control = field(default_factory=Control, repr=False)
    method = "neuron"
    estimates_itself = True

    @property
    def sharing(self) -> Hashable:
        """Inputs, and where the last solution ended."""
        return "neuron", self.network.with_width(1)

    def reusable(self, shared: Continuation) -> bool:
        """Each solution starts where the last one ended."""
        return False

    def work(self, rows: int, train: Dataset) -> tuple[str, str]:
        return f"particles on {train.n_points:,} training points", _REMEDY

    def rate(self, order_parameters: Array) -> float:
        """Of Q = lambda_1 E[v v^T]: what the action would charge for it, twice nats."""
        return rate_on_patches(self.network, order_parameters)

    def factorise(self, train: Dataset, memory: float | None = None) -> Continuation:
        """What a curve over widths and temperatures hands on: the inputs, and where the last solution ended."""
        return Continuation(Design.of(self.network, train.x))

    def solve(self, train: Dataset, shared: Continuation | None = None, memory: float | None = None) -> TheorySolution:
        """Approach the self-consistent field by stochastic approximation, once for every seed.

        ``shared``: an earlier ``factorise`` on the same data; the solution then starts where the last one ended.
        Raises MemoryCapError above ``memory`` bytes, InputError for too few particles, MissingExtraError without JAX.
        """
        shared = shared or self.factorise(train, memory)
        count = self.options.particles_for(train.y.size)
        self._require_memory(shared.design, train, count, memory)
        _require_jax()
        runs = []
        with _bar(
            self.options, self.control.progress, f"{count} particles on {train.n_points} training points"
        ) as tell:
            for seed in range(self.options.seed, self.options.seed + self.options.seeds):
                runs.append(self._solve(train, shared, count, seed, tell))
        return self._solution(train, shared, runs)

    def _solve(
        self, train: Dataset, shared: Continuation, count: int, seed: int, tell: Callable[[], None]
    ) -> tuple[Result, str]:
        """One seed: the quadratic response, and the nonlinear one where it is wanted (docs/neuron.md, "Rule")."""
        problem = self.problem(train, shared.design)
        first, second = self.options.rounds
        action = ScalarAction.of(self.network, train, self.temperature)
        position = shared.positions.pop((seed, count), None)
        if position is not None:
            first = max(1, first // 2)
        start = position or self._begin(problem, action, train, count, seed)
        wanted, one_output = self.options.response, train.n_outputs == 1
        if one_output and wanted == "nonlinear":
            result, note = None, "nonlinear response"
        else:
            may_change = one_output and wanted == "auto"
            rounds = (first, second)
            file = self._file(train, start, rounds, seed, "quadratic", may_change)
            result = problem.solve(start, rounds, seed, None, tell, may_change, file)
            note = "quadratic response"
            if wanted != "quadratic" and result.strong:
                told = f"lambda_1 E[v^2] = {result.strength:.2f}, residual {result.residual:.2f}"
                if one_output:
                    note = f"nonlinear response (the quadratic one gives {told})"
                    # where that found no solution, its particles are no place to start from
                    start = result.position if result.converged else self._begin(problem, action, train, count, seed)
                    result = None
                else:
                    note = f"quadratic response ({told}; no other for several outputs)"
        if result is None:
            reference = action.reference(train.y, self.temperature)
            rounds, start = (self.options.rounds[0], second), problem.with_readouts(start, seed)
            file = self._file(train, start, rounds, seed, "nonlinear")
            result = problem.solve(start, rounds, seed, reference, tell, file=file)
        if result.converged:
            shared.positions[seed, count] = replace(result.position, state=_first(result.position.state, count))
        return result, note

    def _begin(self, problem: Problem, action: ScalarAction, train: Dataset, count: int, seed: int) -> Position:
        s, kernel = action.field(train.y, self.temperature)
        return problem.begin(_START * s, kernel, count, seed)

    def _file(
        self,
        train: Dataset,
        start: Position,
        rounds: tuple[int, int],
        seed: int,
        response: str,
        may_change: bool = False,
    ) -> RunFile | None:
        """Where this run is saved: named by all that decides its numbers, so that a folder takes many."""
        if self.control.checkpoints is None:
            return None
        decides = {
            "network": network_fingerprint(self.network),
            "temperature": self.temperature,
            "train": train.fingerprint(),
            "start": start.digest(),
            "rounds": rounds,
            "seed": seed,
            "response": [response, may_change],
            "versions": versions(),
        }
        text = json.dumps(decides)
        name = f"neuron-{hashlib.sha256(text.encode()).hexdigest()[:16]}.npz"
        return RunFile(folder_of(self.control.checkpoints) / name, text)

    def problem(self, train: Dataset, design: Design) -> Problem:
        """The training set as the particles see it."""
        from finitewidth.theory.neuron.rounds import Problem

        y = train.y.reshape(train.n_points, -1).T.ravel()
        return Problem(replace_network(design, self.network), y, train.n_outputs, self.temperature, self.widths[0])

    def _solution(self, train: Dataset, shared: Continuation, runs: list[tuple[Result, str]]) -> TheorySolution:
        results = tuple(result for result, _ in runs)
        converged = all(result.converged for result in results)
        message = runs[0][1] + (f", {len(runs)} seeds" if len(runs) > 1 else "")
        if not converged:
            worst = max(results, key=lambda result: result.shortfall)
            remedy = "give more particles or rounds (fw.SingleNeuron), or raise the temperature"
            message = f"{worst.complaint}, {message}; {remedy}"
        problem = self.problem(train, shared.design)
        predictor = NeuronPredictor(self, train, problem, results)
        order = predictor.order_parameters
        return TheorySolution(self, train, order.ravel(), math.nan, converged, message, (), predictor)

    def _require_memory(self, design: Design, train: Dataset, count: int, memory: float | None) -> None:
        values, m = train.y.size, design.n_readouts
        per_particle = design.n_preactivations * train.n_points * (6 + 2 * train.n_outputs**2) + 8 * design.rank
        per_particle += 6 * (m * train.n_outputs) ** 2
        kept = 0.5 * 24 * count * (design.rank + m * train.n_outputs) * self.options.seeds
        square = 12.0 * values**2
        require_memory(
            8.0 * (design.n_populations * (count * per_particle + kept) + square) + 3e8,
            f"{count} particles with {values} training values and {design.rank} weights a neuron",
            f"{_REMEDY}, or raise the memory cap",
            memory,
        )


@dataclass
class Continuation:
    """What solutions on one training set share, and where the last one of each seed and particle number ended."""

    design: Design
    positions: dict[tuple[int, int], Position] = field(default_factory=dict)


def replace_network(design: Design, network: Network) -> Design:
    """The same inputs for a network of another width (with the mean-field readout, psi depends on it)."""
    ratio = math.sqrt(design.network.readout_precision / network.readout_precision)
    return replace(design, network=network, feature_scale=design.feature_scale * ratio)


def _first(state: State, count: int) -> State:
    """So many particles of each population."""
    return type(state)(*(part[:, :count] for part in state))


def _require_jax() -> None:
    try:
        import jax  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("jax", "sample", "method = 'neuron'") from error


@contextlib.contextmanager
def _bar(options: SingleNeuron, progress: bool, what: str) -> Iterator[Callable[[], None]]:
    """Called after every round: requires the time of the rest; with ``progress`` it moves a bar on stderr."""
    first, second = options.rounds
    # what has not converged takes more rounds, and what starts from the last solution less
    total = options.seeds * (first + second + second // 2)
    pace, left = durations.Pace(what, _REMEDY, _PACED), total
    with reporting(pace, progress, "single neuron", total) as report:

        def tell() -> None:
            nonlocal left
            left = max(0, left - 1)
            report("single neuron", (1.0, left))

        yield tell
