"""How the single-neuron theory is solved: particles, rounds, seeds."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from finitewidth import checks
from finitewidth.display import Settings
from finitewidth.exceptions import InputError
from finitewidth.keywords import CheckedKeywords

RESPONSES = ("auto", "quadratic", "nonlinear")
RESIDUAL_BOUND, KERNEL_BOUND = 0.02, 0.03  # above either, the result has not converged
STRONG = 2.5  # lambda_1 E[v^2] above which one neuron's output is of the order of the targets
LOST = 0.3  # residual above which the quadratic response has no solution that the particles find


@dataclass(frozen=True)
class NeuronOptions(CheckedKeywords, Settings):
    """Options of ``method="neuron"`` (docs/neuron.md).

    particles: M, neurons that are followed at once; None: as many as the training points ask for.
    rounds: of approach, and of averaging the field, one Hamiltonian trajectory of every particle each; half as many as
        the latter then measure at that field. What has not converged goes on, up to seven times the latter in all.
    response: of the other neurons to one neuron's output: "quadratic", "nonlinear", or "auto": the latter where
        the former gives lambda_1 E[v^2] above 2.5, or finds no solution (residual above .3).
    seed: decides every random number: the same call gives the same numbers on one machine.
    seeds: independent solutions, ``seed``, ``seed + 1``, ...; more than one gives standard errors.
    progress: a bar on stderr.
    checkpoint: a folder where runs are saved every 15 seconds; the same call goes on from there, to the same numbers.

    Raises InputError for values that cannot be.
    """

    particles: int | None = None
    rounds: tuple[int, int] = (150, 150)
    response: str = "auto"
    seed: int = 0
    seeds: int = 1
    progress: bool = False
    checkpoint: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        if self.particles is not None:
            put("particles", checks.positive_integer("particles", self.particles))
        first, second = (checks.positive_integer("rounds", count) for count in self.rounds)
        put("rounds", (first, second))
        checks.choice("response", self.response, RESPONSES)
        put("seed", checks.positive_integer("seed", self.seed + 1) - 1)
        put("seeds", checks.positive_integer("seeds", self.seeds))

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
