"""One ensemble in training: a network, data and settings that fit one another, and what becomes of the last state.

On a CPU the networks are trained in at most 16 lanes, each vmapped and on one thread, so that the numbers do not depend
on how many cores there are; on other devices all seeds are one batch. Random numbers depend on the network's seed and
the step only: a run that was interrupted and resumed equals one that was not, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from finitewidth import kernels
from finitewidth.checks.exceptions import InputError
from finitewidth.data import Dataset
from finitewidth.data.dataset import same_targets, split
from finitewidth.inference.prediction import in_own_units
from finitewidth.linalg import Spectrum
from finitewidth.networks import Network
from finitewidth.runs.jax_runs import require_jax, single_thread
from finitewidth.runs.long_runs import LongRun
from finitewidth.training.ensemble import Ensemble, History

if TYPE_CHECKING:
    from finitewidth.training.engine import Engine, Progress
    from finitewidth.training.method import Train
    from finitewidth.training.program import Arrays, Program

_RECORDS = 100  # of a run: looks at the errors, for the history, early stopping and checkpoints
_ADAM_RATE = 0.01
# step times the largest curvature; 2 diverges, and Langevin's bias is linear in it
_SAFETY = {"sgd": 0.5, "langevin": 0.05}


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
        from finitewidth.training.program import Program

        points = len(self.parts[0])
        batch = 0 if self.settings.batch is None or self.settings.batch == points else self.settings.batch
        early = self.settings.hold_out is not None
        return Program(self.network, self.network.jax_functions, self.settings.optimiser, batch, early)

    def arrays(self) -> Arrays:
        """What it reads."""
        from finitewidth.training.program import Arrays

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
        from finitewidth.training.engine import Engine
        from finitewidth.training.program import Settings

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
