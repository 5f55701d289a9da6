"""``Train``: networks trained by gradient descent, as a method; and ``train``, one ensemble of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from finitewidth import checks
from finitewidth.checks.exceptions import InputError
from finitewidth.data import Dataset
from finitewidth.inference.likelihoods import Gaussian, LeastSquares, Likelihood
from finitewidth.inference.methods import Noise, Problem
from finitewidth.networks import Network
from finitewidth.runs.long_runs import MethodOfRuns, carry_out_alone
from finitewidth.training.ensemble import Ensemble
from finitewidth.training.run import TrainingRun

OPTIMISERS = ("sgd", "adam", "langevin")
_MOST_SEEDS = 10**6


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
        put = partial(object.__setattr__, self)
        checks.choice("optimiser", self.optimiser, OPTIMISERS)
        checked = {
            "learning_rate": checks.positive,
            "momentum": checks.not_negative,
            "batch": checks.positive_integer,
            "hold_out": checks.positive,
            "patience": checks.positive_integer,
        }
        for name, check in checked.items():
            if getattr(self, name) is not None:
                put(name, check(name, getattr(self, name)))
        put("steps", checks.positive_integer("steps", self.steps))
        put("seeds", _seeds(self.seeds))
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


def _seeds(value: int | Sequence[int]) -> int | tuple[int, ...]:
    """How many, or different whole numbers of at least 0."""
    if checks.scalar(value):
        count = checks.positive_integer("seeds", value)
        if count > _MOST_SEEDS:
            raise InputError(f"seeds = {count}", f"at most {_MOST_SEEDS}", "train them in several calls")
        return count
    seeds = tuple(checks.seed(f"seeds[{i}]", s) for i, s in enumerate(checks.sequence("seeds", value)))
    if len(set(seeds)) < len(seeds):
        given = f"seeds = {checks.shown(value)}"
        raise InputError(given, "different whole numbers from 0", "write seeds=range(8), for example")
    return seeds
