"""``Sample``: draws from the posterior of the finite network itself, as a method; and ``sample``, one run of it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from finitewidth import checks
from finitewidth.checks.exceptions import InputError
from finitewidth.data import Dataset
from finitewidth.networks import Network
from finitewidth.runs.long_runs import MethodOfRuns, carry_out_alone
from finitewidth.sampling.draws import Draws, SampledErrors
from finitewidth.sampling.run import SamplingRun

SAMPLERS = ("collapsed", "langevin", "langevin-unadjusted", "nuts")
OBSERVABLES = ("order_parameter", "hidden_kernel", "weight_covariance")
_WARMUP = {"collapsed": None, "langevin": 500, "langevin-unadjusted": 500, "nuts": 300}  # None: until it has adapted
_MOST_WEIGHTS = 100  # draws of a chain whose weights are stored
_DRAWS, _MOST_DRAWS = 500, 5000  # a chain: without an accuracy, and at most with one


@dataclass(frozen=True)
class Sample(MethodOfRuns):
    """Draw from the posterior of the finite network itself (docs/theory.md section 7).

    chains: at least two, where they are to be compared.
    draws: recorded of each chain, 500; with ``accuracy`` or ``seconds`` the most of them, 5000.
    accuracy: relative standard error wanted of the test error on the test set that is given (of the train error where
        none is): 0.01 is 1 %. The run ends as soon as that is reached and the chains agree.
    seconds: the run ends after so long, compilation included, with the draws that it has (20 a chain at least); how
        many these are depends on the machine.
    warmup: iterations of adaptation before the draws. Default: until the sampler has adapted, 80 to 350 iterations
        (collapsed), 300 (nuts) or 500.
    seed: decides every random number. The same call gives the same bits on one machine.
    sampler: "collapsed": readouts integrated exactly, Hamiltonian Monte Carlo on the hidden weights.
        "langevin", "langevin-unadjusted": Langevin on all weights, with or without a Metropolis test; see
        ``step_bias`` for what the latter costs. "nuts": BlackJAX on all weights.
    step_size, trajectory: fixed instead of adapted. The trajectory is in radians of the prior's rotation
        (collapsed), or the steps between two draws (langevin).
    observables: averaged over draws: "order_parameter", "hidden_kernel", "weight_covariance".

    Without a test set, weights of at most a hundred draws a chain are kept, evenly spaced and ten iterations apart at
    least, from which predictions at any points follow. Raises InputError for settings that cannot be.
    """

    name = "sample"
    averages = True
    chains: int = 4
    draws: int | None = None
    accuracy: float | None = None
    seconds: float | None = None
    warmup: int | None = None
    seed: int = 0
    sampler: str = "collapsed"
    step_size: float | None = None
    trajectory: float | None = None
    observables: Sequence[str] = ("order_parameter",)

    def __post_init__(self) -> None:
        checks.choice("sampler", self.sampler, SAMPLERS)
        given = self.observables
        names = (given,) if isinstance(given, str) else checks.sequence("observables", given, empty=True)
        checked: dict[str, Any] = {
            "observables": tuple(dict.fromkeys(checks.choice("observables", name, OBSERVABLES) for name in names)),
            "seed": checks.seed("seed", self.seed),
            "warmup": None if self.warmup is None else checks.seed("warmup", self.warmup),
        }
        checked["chains"] = checks.positive_integer("chains", self.chains)
        checked["draws"] = None if self.draws is None else checks.positive_integer("draws", self.draws)
        for name in ("step_size", "trajectory", "accuracy", "seconds"):
            value = getattr(self, name)
            checked[name] = None if value is None else checks.positive(name, value)
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        self._refuse_vain_accuracy()

    def _refuse_vain_accuracy(self) -> None:
        """InputError for an accuracy that is none, or that nothing could tell was reached."""
        if self.accuracy is None:
            return
        if self.accuracy >= 1.0:
            raise InputError(f"accuracy = {self.accuracy:g}", "a relative error below 1", "write accuracy=0.01 for 1 %")
        if self.chains < 2:
            wanted = "at least two, whose agreement shows that they have converged"
            raise InputError("an accuracy of one chain", wanted, "write chains=4, for example")

    @property
    def most_draws(self) -> int:
        """Draws of a chain: as many as that, or, with an accuracy or a time, at most."""
        open_end = self.accuracy is not None or self.seconds is not None
        return self.draws or (_MOST_DRAWS if open_end else _DRAWS)

    @property
    def iterations_before(self) -> int | None:
        """Iterations of adaptation; None: until the sampler has adapted."""
        return _WARMUP[self.sampler] if self.warmup is None else self.warmup

    def _run(self, network: Network, train: Dataset, test: Dataset | None, temperature: float) -> SamplingRun:
        """Keeps weights where no test set is known."""
        return SamplingRun(
            settings=self,
            network=network,
            train=train,
            test=train if test is None else test,
            temperature=temperature,
            stored=_MOST_WEIGHTS if test is None else 0,
        )


def sample(
    network: Network,
    train: Dataset,
    test: Dataset,
    temperature: float,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool | str = False,
    memory: str | float | None = None,
    **settings: Any,
) -> Draws:
    """Draw from the posterior of the finite network itself, with predictions at the test points.

    Parameters
    ----------
    network: any architecture. train, test: data sets; what is drawn depends on the inputs of ``test`` only, how long,
        with an ``accuracy``, on its targets too.
    temperature: T, the variance of the Gaussian likelihood.
    checkpoint: a file that the run is saved to, and resumed from to the same result. A finished run goes on from it
        where more draws or a higher accuracy are wanted, as if they had been wanted at once; more draws than wanted
        stay. An interrupt (Ctrl-C) gives the draws so far with ``complete=False``, or is passed on without any.
    progress: a bar on stderr with the time left; a text stands in front of it.
    memory: cap such as "8GB"; what would need more is refused before it starts.
    settings: chains, draws, accuracy, seed and the others of ``fw.Sample``.

    Warns (ScaleWarning) of data far from the size that the prior expects.
    Raises InputError for inputs that cannot be and for a checkpoint of another run, MemoryCapError above
    the cap, TimeCapError where its first iterations show that it takes longer than ``fw.time_limit``,
    MissingExtraError without the extra "sample".
    """
    run = SamplingRun(settings=Sample(**settings), network=network, train=train, test=test, temperature=temperature)
    return run.collect(carry_out_alone(run, checkpoint, progress, memory))


# --- what a step size does to unadjusted Langevin dynamics -------------------------------------------------------


@dataclass(frozen=True)
class StepBias:
    """What a step size does to unadjusted Langevin dynamics: errors at the step (coarse) and at half of it
    (fine).

    The bias is linear in a small step, so ``test_error`` extrapolates to step 0 (Richardson): 2 fine -
    coarse.
    """

    step_size: float
    coarse: SampledErrors
    fine: SampledErrors

    @property
    def difference(self) -> float:
        """Test error at the step minus that at half the step."""
        return self.coarse.test_error - self.fine.test_error

    @property
    def difference_se(self) -> float:
        """Standard error of the difference."""
        return math.hypot(self.coarse.test_error_se, self.fine.test_error_se)

    @property
    def test_error(self) -> float:
        """Extrapolated to step 0."""
        return 2.0 * self.fine.test_error - self.coarse.test_error

    @property
    def test_error_se(self) -> float:
        """Standard error of the extrapolation."""
        return math.hypot(2.0 * self.fine.test_error_se, self.coarse.test_error_se)


def step_bias(
    network: Network,
    train: Dataset,
    test: Dataset,
    temperature: float,
    *,
    step_size: float,
    trajectory: float = 50,
    **options: Any,
) -> StepBias:
    """Unadjusted Langevin at ``step_size`` and at half of it, over the same stretch of time (twice the
    steps).

    ``options``: as for ``sample``. Step sizes are those of whitened weights, lambda eta T in the notation of
    docs/theory.md section 7.
    """
    step_size = checks.positive("step_size", step_size)
    errors = [
        sample(
            network,
            train,
            test,
            temperature,
            **options,
            sampler="langevin-unadjusted",
            step_size=step_size / parts,
            trajectory=trajectory * parts,
        ).errors(test.y)
        for parts in (1, 2)
    ]
    return StepBias(step_size, *errors)
