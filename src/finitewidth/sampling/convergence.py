"""Whether chains agree and how much their mean is worth: R-hat, effective sample size, standard error, by
ArviZ.

Vehtari, Gelman, Simpson, Carpenter, Bürkner 2021. Series are (chains, draws).
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from finitewidth.checks.exceptions import MissingExtraError

Array = np.ndarray
R_HAT_LIMIT = 1.01
ESS_LIMIT = 100.0
_SHORTEST = 4  # draws a chain below which nothing can be said


@dataclass(frozen=True)
class Diagnosis:
    """Of one series: R-hat (NaN for one chain), bulk effective sample size, standard error of the mean."""

    r_hat: float
    ess: float
    standard_error: float


def diagnose(series: Array) -> Diagnosis:
    """Rank-normalised split R-hat, bulk ESS and the Monte-Carlo standard error of the mean.

    A chain that never moves has no ESS: everything is NaN.
    """
    chains, draws = series.shape
    if draws < _SHORTEST or not np.isfinite(series).all():
        return Diagnosis(math.nan, math.nan, math.nan)
    if (np.ptp(series, axis=1) <= 1e-14 * np.abs(series).max()).any():
        return Diagnosis(math.nan, math.nan, math.nan)
    with _arviz() as arviz:
        r_hat = float(arviz.rhat(series)) if chains > 1 else math.nan
        return Diagnosis(r_hat, float(arviz.ess(series)), float(arviz.mcse(series)))


def standard_error(series: Array) -> float:
    """Monte-Carlo standard error of the mean of a series."""
    if series.shape[1] < _SHORTEST or not np.isfinite(series).all():
        return math.nan
    if np.ptp(series) == 0.0:
        return 0.0
    with _arviz() as arviz:
        return float(arviz.mcse(series))


def verdict(watched: dict[str, Diagnosis], divergences: int, draws: int) -> tuple[bool, str]:
    """Whether every watched series converged, and if not, why and what to do, in one line."""
    chains_needed = [name for name, d in watched.items() if math.isnan(d.r_hat) and not math.isnan(d.ess)]
    stuck = [name for name, d in watched.items() if math.isnan(d.ess)]
    apart = [name for name, d in watched.items() if d.r_hat > R_HAT_LIMIT]
    few = [name for name, d in watched.items() if d.ess < ESS_LIMIT]
    complaints = []
    if stuck:
        complaints.append(f"{_list(stuck)} did not move or was too short ({draws} draws a chain): sample longer")
    if chains_needed:
        complaints.append("one chain, so R-hat cannot be computed: run at least two chains")
    if apart:
        worst = max(watched[name].r_hat for name in apart)
        complaints.append(f"R-hat {worst:.3f} of {_list(apart)} is above {R_HAT_LIMIT}: sample longer")
    if few:
        least = min(watched[name].ess for name in few)
        complaints.append(f"effective sample size {least:.0f} of {_list(few)} is below {ESS_LIMIT:.0f}: sample longer")
    if divergences:
        complaints.append(f"{divergences} divergent trajectories: lower the step size or raise the temperature")
    return not complaints, "; ".join(complaints) or "converged"


def _list(names: list[str]) -> str:
    return ", ".join(names)


@contextlib.contextmanager
def _arviz() -> Iterator[ModuleType]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import arviz
        except ImportError as error:
            raise MissingExtraError("arviz", "sample", "the diagnostics of sampled posteriors") from error
        yield arviz
