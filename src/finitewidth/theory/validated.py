"""The range in which theories were held to samples (docs/validity.md), and the warning outside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from finitewidth.inference.likelihoods import Gaussian
from finitewidth.networks.scale import Departure, unusual_scale

if TYPE_CHECKING:
    from finitewidth.theory.solution import TheorySolution

_MOST_Q = 4.5  # the largest of the cases of docs/validity.md is 4.34; from 4.9 on statements were off twofold and more


def applies(solution: TheorySolution) -> bool:
    """Whether ``validity`` has something to say: a converged prediction of the action with Gaussian noise, of a network
    whose neurons it knows."""
    known = solution.theory.network.known_neurons and isinstance(solution.likelihood, Gaussian)
    return known and solution.converged and solution.theory.method in ("saddle", "integrate")


def outside_validated(solution: TheorySolution) -> Departure | None:
    """What takes a solution out of the range in which theories were held to samples: its data, or its Q."""
    unusual = unusual_scale(solution.theory.network, solution.train)
    if unusual is not None or not applies(solution) or np.max(solution.order_parameters, initial=0.0) <= _MOST_Q:
        return unusual
    return Departure(f"an order parameter Q above {_MOST_Q:g}, beyond what was held to samples", "compare with samples")


def warn_outside_validated(solution: TheorySolution) -> None:
    """One ScaleWarning for such a solution."""
    outside = outside_validated(solution)
    if outside is not None:
        outside.warn()
