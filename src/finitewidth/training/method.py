"""``Train``: networks trained by gradient descent, as a method; and ``train``, one ensemble of them.

On a CPU the networks are trained in at most 16 lanes, each vmapped and on one thread, so that the numbers do not depend
on how many cores there are; on other devices all seeds are one batch. Random numbers depend on the network's seed and
the step only: a run that was interrupted and resumed equals one that was not, bit for bit.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from finitewidth import checks, kernels
from finitewidth.checks.exceptions import InputError
from finitewidth.data import Dataset
from finitewidth.data.dataset import same_targets
from finitewidth.inference.likelihoods import Gaussian, LeastSquares, Likelihood
from finitewidth.inference.methods import Noise
from finitewidth.inference.prediction import in_own_units
from finitewidth.linalg import Spectrum
from finitewidth.networks import Network
from finitewidth.runs.jax_runs import require_jax, single_thread
from finitewidth.runs.long_runs import LongRun, MethodOfRuns, carry_out_alone
from finitewidth.training.ensemble import Ensemble, History

if TYPE_CHECKING:
    from finitewidth.training.engine import Engine, Program, Progress

OPTIMISERS = ("sgd", "adam")
_MOST_SEEDS = 10**6
_RECORDS = 100  # of a run: looks at the errors, for the history and checkpoints
_ADAM_RATE = 0.01
_SAFETY = 0.5  # of sgd: step times the largest curvature; 2 diverges


@dataclass(frozen=True)
class Train(MethodOfRuns):
    """Train the finite network from several seeds at once, on ``1/2 sum (y - f)^2 + T/2 sum lambda |theta|^2``.

    T is the temperature of the likelihood; with ``LeastSquares`` (temperature 0) there is no weight decay.

    optimiser: "sgd": gradient descent, with ``momentum`` (default 0) and mini-batches of ``batch`` points (default: all
        points, which is full-batch descent). "adam": Optax's, on all points or mini-batches.
    learning_rate: eta. With the mean-field readout, sgd steps N_L eta, so that one eta serves all widths (Mei,
        Montanari and Nguyen 2018). Default: 0.01 (adam), or half the inverse of the largest curvature at infinite width
        (sgd).
    steps: of training. seeds: how many networks (seeds 0, 1, ...), or the seeds themselves. The same call gives the
        same bits on one machine.

    Raises InputError for settings that cannot be.
    """

    name = "train"
    averages = True
    without_noise = True
    optimiser: str = "adam"
    learning_rate: float | None = None
    momentum: float | None = None
    batch: int | None = None
    steps: int = 2000
    seeds: int | Sequence[int] = 8

    def __post_init__(self) -> None:
        checks.choice("optimiser", self.optimiser, OPTIMISERS)
        checks.put(self, learning_rate=checks.optional(checks.positive), momentum=checks.optional(checks.not_negative))
        checks.put(self, batch=checks.optional(checks.positive_integer), steps=checks.positive_integer, seeds=_seeds)
        if self.momentum is not None and self.optimiser != "sgd":
            given = f"momentum with optimiser {self.optimiser!r}, but it is a setting of sgd"
            raise InputError(given, "no momentum", "leave momentum out")
        if self.momentum is not None and self.momentum >= 1.0:
            raise InputError(f"momentum = {self.momentum}", "a number below 1", "write momentum=0.9, for example")

    @property
    def each_seed(self) -> np.ndarray:
        """The seeds themselves, (S,)."""
        return np.arange(self.seeds) if isinstance(self.seeds, int) else np.array(self.seeds, dtype=np.int64)

    def likelihood(self, noise: Noise) -> Likelihood:
        """What a temperature stands for: of 0, least squares."""
        if isinstance(noise, Likelihood):
            return noise
        temperature = checks.not_negative("temperature", noise)
        return Gaussian(temperature) if temperature else LeastSquares()

    def _run(self, network: Network, train: Dataset, test: Dataset | None, temperature: float) -> TrainingRun:
        """Errors as training goes are those on the training points where no test set is known."""
        at = train if test is None else test
        return TrainingRun(settings=self, network=network, train=train, test=at, temperature=temperature)


def train(
    network: Network,
    train: Dataset,
    test: Dataset,
    temperature: float = 0.0,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool | str = False,
    memory: str | float | None = None,
    **settings: Any,
) -> Ensemble:
    """Train the finite network from several seeds at once, on ``1/2 sum (y - f)^2 + T/2 sum lambda |theta|^2``.

    Parameters
    ----------
    network: any architecture, with its own ``readout`` (standard or mean-field). It starts from its prior,
        ``network.init(jax.random.key(seed), ...)``. train, test: data sets; nothing is learned from ``test``.
    temperature: T, which sets the weight decay T lambda of every weight. 0: none.
    checkpoint: a file that the run is saved to, and resumed from to the same result. An interrupt (Ctrl-C) gives the
        networks as they are with ``complete=False``.
    progress: a bar on stderr with the time left; a text stands in front of it.
    memory: cap such as "8GB"; what would need more is refused before it starts.
    settings: optimiser, learning_rate, steps, seeds and the others of ``fw.Train``.

    Warns (ScaleWarning) of data far from the size that the prior expects.
    Raises InputError for inputs that cannot be and for a checkpoint of another run, MemoryCapError above the cap,
    TimeCapError where its first steps show that it takes longer than ``fw.time_limit``, MissingExtraError without the
    extra "sample".
    """
    run = TrainingRun(settings=Train(**settings), network=network, train=train, test=test, temperature=temperature)
    return run.solution(carry_out_alone(run, checkpoint, progress, memory))


def _seeds(name: str, value: int | Sequence[int]) -> int | tuple[int, ...]:
    """How many, or different whole numbers of at least 0."""
    if checks.scalar(value):
        count = checks.positive_integer(name, value)
        if count > _MOST_SEEDS:
            raise InputError(f"seeds = {count}", f"at most {_MOST_SEEDS}", "train them in several calls")
        return count
    seeds = tuple(checks.seed(f"{name}[{i}]", s) for i, s in enumerate(checks.sequence(name, value)))
    if len(set(seeds)) < len(seeds):
        given = f"seeds = {checks.shown(value)}"
        raise InputError(given, "different whole numbers from 0", "write seeds=range(8), for example")
    return seeds


# --- one ensemble in training -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TrainingRun(LongRun["Progress"]):
    """Settings, network and data, checked against one another; nothing is learned from ``test``."""

    verb: ClassVar[str] = "training"
    remedy: ClassVar[str] = "use fewer seeds or points, or smaller widths"
    libraries: ClassVar[tuple[str, ...]] = ("optax",)
    settings: Train
    network: Network
    train: Dataset
    test: Dataset
    temperature: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        same_targets(self.train, self.test)
        checks.put(self, temperature=checks.not_negative)
        batch = self.settings.batch
        if batch is not None and batch > len(self.train):
            raise InputError(
                f"batch = {batch} with {len(self.train)} training points",
                "a batch of at most all points",
                "leave batch out to use all points in every step",
            )

    def __str__(self) -> str:
        return f"training {len(self.settings.each_seed)} networks on {len(self.train)} points"

    # --- what follows from the settings ---------------------------------------------------------------------------

    @property
    def every(self) -> int:
        """Steps between two records."""
        return -(-self.settings.steps // _RECORDS)

    @cached_property
    def rate(self) -> float:
        """The learning rate, chosen if it was not given."""
        settings = self.settings
        if settings.learning_rate is not None:
            return settings.learning_rate
        if settings.optimiser == "adam":
            return _ADAM_RATE
        return _SAFETY / (self._curvature() * self._width_factor)

    def _curvature(self) -> float:
        """The largest of the loss at infinite width: that of the NTK, and of the weight decay."""
        precisions = [*self.network.weight_precision, self.network.offset_precision or 0.0]
        largest = Spectrum.of(kernels.ntk(self.network, self.train.x)).values[-1]
        return float(largest) + self.temperature * max(precisions)

    @property
    def _width_factor(self) -> int:
        """N_L where gradients are 1/N_L of those of the standard readout."""
        mean_field = self.network.readout == "mean-field" and self.settings.optimiser == "sgd"
        return self.network.widths[-1] if mean_field else 1

    def bytes(self) -> float:
        program = self.program()
        import jax

        with single_thread():
            one = sum(leaf.size for leaf in jax.tree.leaves(program.structure()))
        features, points = self.network.n_features(program.input_shape), len(self.train) + len(self.test)
        patched = self.train.n_inputs * (features // self.network.widths[-1])
        active = 6.0 * features * self.network.depth + 2.0 * patched
        # states before and after a step, here and in JAX, with gradients; activations forward and backward
        return 8.0 * len(self.settings.each_seed) * (5.0 * one + points * active) + 2e8

    def program(self) -> Program:
        """What is compiled. Raises MissingExtraError."""
        require_jax(self.network, "training", "optax")
        from finitewidth.training.engine import Program

        batch, points = self.settings.batch or 0, len(self.train)
        shape, outputs = self.train.x.shape[1:], self.train.n_outputs
        return Program(self.network, self.settings.optimiser, 0 if batch == points else batch, shape, outputs)

    @property
    def cost(self) -> float:
        """Hidden neurons."""
        return sum(self.network.widths)

    @property
    def _chosen(self) -> dict[str, Any]:
        """The settings, with the learning rate that was chosen."""
        names = ("optimiser", "momentum", "batch", "steps")
        return {name: getattr(self.settings, name) for name in names} | {"learning_rate": self.rate}

    @property
    def decided_by(self) -> dict[str, Any]:
        return self._chosen | {"seeds": self.settings.each_seed.tolist()}

    # --- as a long run --------------------------------------------------------------------------------------------

    @cached_property
    def engine(self) -> Engine:
        """The program on this data, nothing compiled yet."""
        from finitewidth.training.engine import Arrays, Engine

        given, program = self.settings, self.program()
        y, y_test = (part.y.reshape(len(part), -1) for part in (self.train, self.test))
        rate, momentum = self.rate * self._width_factor, given.momentum or 0.0
        arrays = Arrays(self.train.x, y, self.test.x, y_test, rate, momentum, self.temperature)
        return Engine(program, arrays, given.each_seed, given.steps, self.every)

    def usable(self, state: Progress) -> bool:
        """Whether any step was done."""
        return state.steps > 0

    def solution(self, done: Progress, /) -> Ensemble:
        settings = self.settings
        recorded = {k: np.where(np.isfinite(v), v, np.nan) for k, v in done.records.items()}
        steps = np.minimum(np.arange(recorded["objective"].shape[1]) * self.every, settings.steps)
        return Ensemble(
            network=self.network,
            train=self.train,
            test=self.test,
            seeds=settings.each_seed,
            parameters=done.states.parameters,
            initial=self.engine.start().states.parameters,
            history=in_own_units(History(step=steps, **recorded), self.train.encoding),
            settings=self._chosen | {"temperature": self.temperature},
            complete=done.steps >= settings.steps,
        )
