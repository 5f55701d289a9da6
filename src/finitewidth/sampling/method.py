"""``Sample``: draws from the posterior of the finite network itself, as a method; and ``sample``, one run of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finitewidth import checks
from finitewidth.checks.exceptions import InputError
from finitewidth.data import Dataset
from finitewidth.data.dataset import same_targets
from finitewidth.inference.likelihoods import Gaussian
from finitewidth.inference.methods import Control, Method, Problem, Solution, parts
from finitewidth.linalg import memory_cap, require_memory
from finitewidth.networks import Network
from finitewidth.networks.scale import warn_of_scale
from finitewidth.runs.long_runs import carry_out, refuse_without_weights, solutions_of
from finitewidth.sampling.draws import Draws
from finitewidth.sampling.run import SamplingRun

SAMPLERS = ("collapsed", "langevin", "langevin-unadjusted", "nuts")
OBSERVABLES = ("order_parameter", "hidden_kernel", "weight_covariance")
_WARMUP = {"collapsed": 300, "langevin": 500, "langevin-unadjusted": 500, "nuts": 300}


@dataclass(frozen=True)
class Sample(Method):
    """Draw from the posterior of the finite network itself (docs/theory.md section 7).

    chains, draws, warmup: ``draws`` are recorded a chain, after ``warmup`` iterations of adaptation.
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
    draws: int = 500
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
        checked |= {name: checks.positive_integer(name, getattr(self, name)) for name in ("chains", "draws")}
        for name in ("step_size", "trajectory"):
            value = getattr(self, name)
            checked[name] = None if value is None else checks.positive(name, value)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def iterations_before(self) -> int:
        """Iterations of adaptation, chosen by the sampler where ``warmup`` is None."""
        return _WARMUP[self.sampler] if self.warmup is None else self.warmup

    def serves(self, problem: Problem, n_outputs: int = 1) -> None:
        """Raise InputError for a likelihood that is not Gaussian, and for a network without weights to draw."""
        if not isinstance(problem.likelihood, Gaussian):
            raise InputError(
                f"method 'sample' with likelihood {problem.likelihood!r}",
                "a Gaussian likelihood",
                "write Gaussian(0.05), or a temperature",
            )
        refuse_without_weights(problem.network, "sample")

    def solutions(
        self,
        problems: Sequence[Problem],
        train: Dataset,
        test: Dataset | None = None,
        sizes: Sequence[int] | None = None,
        control: Control | None = None,
    ) -> Iterator[Solution]:
        """One run a problem, for every size of the training set. See ``Method``; all is checked before the first."""
        if test is not None:
            same_targets(train, test)
        for problem in problems:
            self.serves(problem, train.n_outputs)
        runs = [
            SamplingRun(
                settings=self,
                network=network,
                train=part,
                test=part if test is None else test,
                temperature=likelihood.temperature,
                keeps_weights=test is None,
            )
            for part in parts(train, sizes)
            for network, likelihood in problems
        ]
        return solutions_of(runs, control or Control())


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
    network: any architecture. train, test: data sets; of ``test`` only the inputs are used.
    temperature: T, the variance of the Gaussian likelihood.
    checkpoint: a file that the run is saved to, and resumed from to the same result. An interrupt (Ctrl-C)
        gives the draws so far with ``complete=False``, or is passed on where there are none.
    progress: a bar on stderr with the time left; a text stands in front of it.
    memory: cap such as "8GB"; what would need more is refused before it starts.
    settings: chains, draws, seed and the others of ``fw.Sample``.

    Warns (ScaleWarning) of data far from the size that the prior expects.
    Raises InputError for inputs that cannot be and for a checkpoint of another run, MemoryCapError above
    the cap, TimeCapError where its first iterations show that it takes longer than ``fw.time_limit``,
    MissingExtraError without the extra "sample".
    """
    run = SamplingRun(settings=Sample(**settings), network=network, train=train, test=test, temperature=temperature)
    warn_of_scale(network, train)
    require_memory(run.bytes(), str(run), run.remedy, memory_cap(memory))
    return run.collect(carry_out(run, None if checkpoint is None else Path(checkpoint), progress))
