"""The self-consistent single-neuron theory: one hidden layer, features that need not be Gaussian (docs/neuron.md).

One neuron is solved exactly, by particles, in the field of all others, which answer it linearly; the field follows from
the neuron. With Gaussian features it is the saddle of the action. It takes every one-hidden-layer architecture and any
activation.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from finitewidth import checks, kernels
from finitewidth.checks.exceptions import InputError, needed
from finitewidth.data import Dataset
from finitewidth.inference import methods
from finitewidth.inference.methods import Control, gaussian_temperature
from finitewidth.linalg import RegularisedGram, require_memory
from finitewidth.networks import Network
from finitewidth.runs import durations
from finitewidth.runs.long_runs import reporting
from finitewidth.theory.local import rate_on_patches
from finitewidth.theory.neuron.design import Design
from finitewidth.theory.neuron.predictor import NeuronPredictor
from finitewidth.theory.saddle import single_scale_minima
from finitewidth.theory.solution import NoPredictor, Theory, TheorySolution
from finitewidth.theory.solving import TheoryMethod

Array = np.ndarray
_REMEDY = "use fewer training points, or sample: --method sample --accuracy 5%"
_PACED = 3  # rounds that show the pace
_START = 0.4  # of the action's s: from above, the specialised neurons would overshoot
_WIDE = 8  # times the training points
_DOUBT = 1.5  # how much longer than allowed it may seem to take before it is given up


@dataclass(frozen=True)
class SingleNeuron(TheoryMethod):
    """The self-consistent single-neuron theory as a method; one hidden layer, any activation (docs/neuron.md).

    It shows what neurons learn (``solution.features``). Its errors are dearer than samples of the same accuracy.

    particles: M, neurons that are followed at once; None: as many as the training points ask for.
    rounds: of approach, and of averaging the field, one Hamiltonian trajectory of every particle each; half as many as
        the latter then measure at that field. What has not converged goes on, up to seven times the latter in all.
    seconds: the most that a solution may take. What would take longer, or has stalled, has not converged.
    seed: decides every random number: the same call gives the same numbers on one machine.

    Raises InputError for values that cannot be.
    """

    particles: int | None = None
    rounds: tuple[int, int] = (150, 150)
    seconds: float = 60.0
    seed: int = 0
    name = "neuron"

    def __post_init__(self) -> None:
        checks.put(self, particles=checks.optional(checks.positive_integer), rounds=_pair)
        checks.put(self, seconds=checks.positive, seed=checks.seed)

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
class NeuronTheory(Theory[Design]):
    """One hidden layer of any architecture, one output or several.

    Source: the project's own (docs/neuron.md); with Gaussian features it reduces to the action.
    """

    network: Network
    temperature: float
    options: SingleNeuron = field(default_factory=lambda: SingleNeuron())
    control: Control = field(default_factory=Control, repr=False)
    method = "neuron"
    evaluations = None

    def rate(self, order_parameters: Array) -> float:
        """Of Q = lambda_1 E[v v^T]: what the action would charge for it, twice nats."""
        return rate_on_patches(self.network, order_parameters)

    def factorise(self, train: Dataset, memory: float | None = None) -> Design:
        """The inputs of a neuron."""
        return Design.of(self.network, train.x)

    def solve(self, train: Dataset, shared: Design | None = None, memory: float | None = None) -> TheorySolution:
        """Approach the self-consistent field by stochastic approximation.

        Raises MemoryCapError above ``memory`` bytes, InputError for too few particles, MissingExtraError without JAX.
        """
        design = shared or self.factorise(train, memory)
        count = self.options.particles_for(train.y.size)
        self._require_memory(design, train, count, memory)
        _require_jax()
        from finitewidth.theory.neuron.rounds import NotConvergedError, Problem, Run

        y = train.y.reshape(train.n_points, -1).T.ravel()
        problem = Problem(design, y, train.n_outputs, self.temperature, self.widths[0])
        shape, rng = (design.n_populations, count, design.rank), np.random.default_rng(self.options.seed)
        s, kernel = starting_field(self.network, train, self.temperature)
        what = f"{count} particles on {train.n_points} training points"
        try:
            with self._watched(what) as tell:
                run = Run(problem, rng.standard_normal(shape), _START * s, kernel, self.options.seed, tell)
                result = run.solve(*self.options.rounds)
        except NotConvergedError as error:
            instead = self._instead(train)
            why = InputError(f"a single neuron that has not converged ({error})", "one that has", instead)
            message = f"{error}; {instead}"
            return TheorySolution(self, train, np.empty(0), math.nan, False, message, (), NoPredictor(why))
        predictor = NeuronPredictor(self.network, train, result)
        message = f"{result.rounds} rounds"
        return TheorySolution(self, train, predictor.order_parameters.ravel(), math.nan, True, message, (), predictor)

    @contextlib.contextmanager
    def _watched(self, what: str) -> Iterator[Callable[[int], None]]:
        """Called after every round: requires the time of the rest, moves a bar on stderr, and ends what takes too long.

        What it calls raises NotConvergedError and, above the limit of ``fw.time_limit``, TimeCapError.
        """
        from finitewidth.theory.neuron.rounds import NotConvergedError

        (first, second), allowed, started = self.options.rounds, self.options.seconds, time.perf_counter()
        total = first + second + second // 2
        times: list[float] = []
        with reporting(durations.Pace(what, _REMEDY, _PACED), self.control.progress, "single neuron", total) as report:

            def tell(left: int) -> None:
                times.append(time.perf_counter())
                report("single neuron", (1.0, left), len(times) + left)
                spent = times[-1] - started
                pace = (times[-1] - times[0]) / max(len(times) - 1, 1)  # the first round compiles
                needed = spent + pace * left
                if len(times) > _PACED and left and (spent > allowed or needed > _DOUBT * allowed):
                    took = durations.format_time(needed)
                    raise NotConvergedError(f"it would take about {took}, beyond seconds = {allowed:g}")

            yield tell

    def _instead(self, train: Dataset) -> str:
        """What serves where this does not."""
        from finitewidth.theory.validity import sampling_seconds

        if self.widths[0] > _WIDE * train.n_points:
            return "so wide a network hardly differs from the action: --method saddle, or first-order"
        seconds = durations.format_time(sampling_seconds(self.network, train))
        return f"samples serve, in about {seconds}: --method sample --accuracy 5%, or --within 5%"

    def _require_memory(self, design: Design, train: Dataset, count: int, memory: float | None) -> None:
        values, m = train.y.size, design.n_readouts
        per_particle = design.n_preactivations * train.n_points * (6 + 2 * train.n_outputs**2) + 20 * design.rank
        per_particle += 6 * (m * train.n_outputs) ** 2
        require_memory(
            8.0 * (design.n_populations * count * per_particle + 12.0 * values**2) + 3e8,
            f"{count} particles with {values} training values and {design.rank} weights a neuron",
            f"{_REMEDY}, or raise the memory cap",
            memory,
        )


def starting_field(network: Network, train: Dataset, temperature: float) -> tuple[Array, Array]:
    """s = A^-1 y (P D,) and K_R = q K (P D, P D) of the action with one order parameter q for all patches and outputs.

    Outputs stand one after another. q costs its width for each patch that has readouts of its own.
    """
    kernel = kernels.nngp(network, train.x)
    weight = network.widths[0] * (network.n_patches(train.x.shape[1:]) if network.patched else 1)
    minima = single_scale_minima(kernel, train.y, temperature, weight)
    scaled = (float(minima[0].order_parameters[0]) if minima else 1.0) * kernel
    targets = train.y.reshape(train.n_points, -1)
    s = RegularisedGram(scaled, temperature).solve(targets)
    return s.T.ravel(), np.kron(np.eye(targets.shape[1]), scaled)


def _require_jax() -> None:
    with needed("jax", "sample", "method = 'neuron'"):
        import jax  # noqa: F401
