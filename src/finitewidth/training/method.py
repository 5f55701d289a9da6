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
from finitewidth.data.dataset import same_targets, split
from finitewidth.inference.likelihoods import Gaussian, LeastSquares, Likelihood
from finitewidth.inference.methods import Noise, Problem
from finitewidth.inference.prediction import in_own_units
from finitewidth.linalg import Spectrum
from finitewidth.networks import Network
from finitewidth.runs.jax_runs import require_jax, single_thread
from finitewidth.runs.long_runs import LongRun, MethodOfRuns, carry_out_alone
from finitewidth.training.ensemble import Ensemble, History

if TYPE_CHECKING:
    from finitewidth.training.engine import Arrays, Engine, Program, Progress

OPTIMISERS = ("sgd", "adam", "langevin")
_MOST_SEEDS = 10**6
_RECORDS = 100  # of a run: looks at the errors, for the history, early stopping and checkpoints
_ADAM_RATE = 0.01
# step times the largest curvature; 2 diverges, and Langevin's bias is linear in it
_SAFETY = {"sgd": 0.5, "langevin": 0.05}


@dataclass(frozen=True)
class Train(MethodOfRuns):
    """Train the finite network from several seeds at once, on ``1/2 sum (y - f)^2 + T/2 sum lambda |theta|^2``.

    T is the temperature of the likelihood; with ``LeastSquares`` (temperature 0) there is no weight decay.

    optimiser: "sgd": gradient descent, with ``momentum`` (default 0) and mini-batches of ``batch`` points (default: all
        points, which is full-batch descent). "adam": Optax's, on all points or mini-batches. "langevin":
        ``theta <- theta - eta grad loss + sqrt(2 eta T) xi`` on all points, whose law tends, for small eta, to the
        posterior of ``fw.sample`` at that temperature (docs/theory.md section 7).
    learning_rate: eta. With the mean-field readout, sgd steps N_L eta, so that one eta serves all widths (Mei,
        Montanari and Nguyen 2018). Default: 0.01 (adam), or the largest curvature's inverse at infinite width times 0.5
        (sgd) or 0.05 (langevin).
    steps: of training. seeds: how many networks (seeds 0, 1, ...), or the seeds themselves. The same call gives the
        same bits on one machine.
    hold_out: part of the training points held out (drawn from the first seed) for early stopping: every network ends at
        its smallest held-out error, and stops after ``patience`` steps (default: a tenth) without a smaller one.

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
    hold_out: float | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        checks.choice("optimiser", self.optimiser, OPTIMISERS)
        number, whole = checks.optional(checks.positive), checks.optional(checks.positive_integer)
        checks.put(self, learning_rate=number, hold_out=number, momentum=checks.optional(checks.not_negative))
        checks.put(self, batch=whole, patience=whole, steps=checks.positive_integer, seeds=_seeds)
        self._refuse_together()

    def _refuse_together(self) -> None:
        """InputError for settings that do not go together."""
        for name, others, why in (
            ("momentum", ("adam", "langevin"), "it is a setting of sgd"),
            ("batch", ("langevin",), "its noise would not be that of the temperature"),
            ("hold_out", ("langevin",), "its law has no best moment"),
        ):
            if getattr(self, name) is not None and self.optimiser in others:
                given = f"{name} with optimiser {self.optimiser!r}, but {why}"
                raise InputError(given, f"no {name}", f"leave {name} out")
        if self.momentum is not None and self.momentum >= 1.0:
            raise InputError(f"momentum = {self.momentum}", "a number below 1", "write momentum=0.9, for example")
        if self.patience is not None and self.hold_out is None:
            wanted = "hold_out and patience together"
            raise InputError("patience without held-out points", wanted, "write hold_out=0.2 as well")

    @property
    def each_seed(self) -> np.ndarray:
        """The seeds themselves, (S,)."""
        return np.arange(self.seeds) if isinstance(self.seeds, int) else np.array(self.seeds, dtype=np.int64)

    @property
    def steps_to_wait(self) -> int | None:
        """Steps without a smaller held-out error; None without early stopping."""
        return None if self.hold_out is None else self.patience or max(1, self.steps // 10)

    def likelihood(self, noise: Noise) -> Likelihood:
        """What a temperature stands for: of 0, least squares."""
        if isinstance(noise, Likelihood):
            return noise
        temperature = checks.not_negative("temperature", noise)
        return Gaussian(temperature) if temperature else LeastSquares()

    def checked_temperature(self, temperature: float) -> float:
        """Positive for Langevin, else 0 at least; raises InputError."""
        check = checks.positive if self.optimiser == "langevin" else checks.not_negative
        return check("temperature", temperature)

    def serves(self, problem: Problem, n_outputs: int = 1) -> None:
        """Raise InputError unless the likelihood is Gaussian or ``LeastSquares``, and the network has weights."""
        super().serves(problem, n_outputs)
        self.checked_temperature(problem.likelihood.temperature)

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
    temperature: T, which sets the weight decay T lambda of every weight. 0: none (sgd, adam).
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
        object.__setattr__(self, "temperature", self.settings.checked_temperature(self.temperature))
        hold_out, batch = self.settings.hold_out, self.settings.batch
        if hold_out is not None and not 1 <= self._held_out < len(self.train):
            raise InputError(
                f"hold_out = {hold_out} of {len(self.train)} points",
                "a part that leaves at least one point on either side",
                "write hold_out=0.2, for example",
            )
        if batch is not None and batch > len(self.parts[0]):
            raise InputError(
                f"batch = {batch} with {len(self.parts[0])} training points",
                "a batch of at most all points",
                "leave batch out to use all points in every step",
            )

    def __str__(self) -> str:
        return f"training {len(self.settings.each_seed)} networks on {len(self.train)} points"

    # --- what follows from the settings ---------------------------------------------------------------------------

    @property
    def _held_out(self) -> int:
        """Points held out."""
        return round((self.settings.hold_out or 0.0) * len(self.train))

    @cached_property
    def parts(self) -> tuple[Dataset, Dataset | None]:
        """The points trained on, and those held out."""
        if self.settings.hold_out is None:
            return self.train, None
        return split(self.train, len(self.train) - self._held_out, self._held_out, int(self.settings.each_seed[0]))

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
        return _SAFETY[settings.optimiser] / (self._curvature() * self._width_factor)

    def _curvature(self) -> float:
        """The largest of the loss at infinite width: that of the NTK, and of the weight decay."""
        precisions = [*self.network.weight_precision, self.network.offset_precision or 0.0]
        largest = Spectrum.of(kernels.ntk(self.network, self.parts[0].x)).values[-1]
        return float(largest) + self.temperature * max(precisions)

    @property
    def _width_factor(self) -> int:
        """N_L where gradients are 1/N_L of those of the standard readout."""
        mean_field = self.network.readout == "mean-field" and self.settings.optimiser == "sgd"
        return self.network.widths[-1] if mean_field else 1

    def bytes(self) -> float:
        program, arrays = self.program(), self.arrays()
        import jax

        with single_thread():
            one = sum(leaf.size for leaf in jax.tree.leaves(program.structure(arrays)))
        hidden = self.network.n_features(arrays.train.shape[1:]) * self.network.depth
        points = sum(len(x) for x in (arrays.train, arrays.held_out, arrays.test))
        inputs = arrays.train[0].size
        patches = self.network.n_features(arrays.train.shape[1:]) // self.network.widths[-1]
        # states before and after a step, here and in JAX, with gradients; activations forward and backward
        return 8.0 * len(self.settings.each_seed) * (5.0 * one + points * (6.0 * hidden + 2.0 * inputs * patches)) + 2e8

    def program(self) -> Program:
        """What is compiled. Raises MissingExtraError."""
        require_jax(self.network, "training", "optax")
        from finitewidth.training.engine import Program

        points = len(self.parts[0])
        batch = 0 if self.settings.batch is None or self.settings.batch == points else self.settings.batch
        early = self.settings.hold_out is not None
        return Program(self.network, self.settings.optimiser, batch, early)

    def arrays(self) -> Arrays:
        """What it reads."""
        from finitewidth.training.engine import Arrays

        kept, held_out = self.parts
        empty = kept.x[:0], kept.y[:0]
        sets = [(kept.x, kept.y), empty if held_out is None else (held_out.x, held_out.y), (self.test.x, self.test.y)]
        outputs = self.train.n_outputs
        return Arrays(*(part for x, y in sets for part in (x, y.reshape(len(y), outputs))))

    @property
    def cost(self) -> float:
        """Hidden neurons."""
        return sum(self.network.widths)

    @property
    def decided_by(self) -> dict[str, Any]:
        settings = self.settings
        names = ("optimiser", "momentum", "batch", "steps", "hold_out")
        chosen = {"learning_rate": self.rate, "seeds": settings.each_seed.tolist(), "patience": settings.steps_to_wait}
        return {name: getattr(settings, name) for name in names} | chosen

    # --- as a long run --------------------------------------------------------------------------------------------

    @cached_property
    def engine(self) -> Engine:
        """The program on this data, nothing compiled yet."""
        from finitewidth.training.engine import Engine, Settings

        given = self.settings
        patience = -(-(given.steps_to_wait or 0) // self.every)
        settings = Settings(self.rate * self._width_factor, given.momentum or 0.0, self.temperature, patience)
        return Engine(self.program(), self.arrays(), settings, given.each_seed, given.steps, self.every)

    def usable(self, state: Progress) -> bool:
        """Whether any step was done."""
        return state.steps > 0

    def solution(self, done: Progress, /) -> Ensemble:
        state, settings = done.states, self.settings
        early = settings.hold_out is not None
        recorded = {k: np.where(np.isfinite(v), v, np.nan) for k, v in done.records.items()}
        steps = np.minimum(np.arange(recorded["objective"].shape[1]) * self.every, settings.steps)
        return Ensemble(
            network=self.network,
            train=self.parts[0],
            test=self.test,
            seeds=settings.each_seed,
            parameters=state.best if early else state.parameters,
            initial=self.engine.start().states.parameters,
            history=in_own_units(History(step=steps, **recorded), self.train.encoding),
            stopped=state.stopped,
            settings={
                "optimiser": settings.optimiser,
                "temperature": self.temperature,
                "learning_rate": self.rate,
                "momentum": settings.momentum or 0.0,
                "batch": settings.batch,
                "steps": settings.steps,
                "hold_out": settings.hold_out,
                "patience": settings.steps_to_wait,
            },
            complete=done.steps >= settings.steps or bool(state.stopped.all()),
        )
