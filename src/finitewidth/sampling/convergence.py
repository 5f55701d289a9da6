"""Whether chains agree and how much their mean is worth: R-hat, effective sample size, standard error.

Vehtari, Gelman, Simpson, Carpenter and Bürkner 2021; numbers as ArviZ has them. Series are (chains, draws).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import fft, special, stats

Array = np.ndarray
STRICT, LARGEST = 1.01, 1.2  # an R-hat of at most STRICT is always good enough, one above LARGEST never is
ESS_LIMIT = 100.0
ESS_OF_ACCURACY = 50.0  # of what an accuracy was asked for: its standard error is itself known to a tenth or two
_UNKNOWN = 12.0  # draws by which an effective size stands for fewer: see ``standard_error``
_CHANCE = 0.001  # of an R-hat above its limit where chains do agree
_SHORTEST = 4  # draws a chain below which nothing can be said
_FIRST = 5  # chunks of draws before the first look
_EXPECTED = 12  # chunks of draws, before there are any


@dataclass(frozen=True)
class Diagnosis:
    """Of one series: R-hat (NaN for one chain), bulk effective sample size, standard error of the mean.

    limit: what R-hat stays below, but for one time in a thousand, where chains of this length agree; between 1.01 and
    1.2. mean: of the series.
    """

    r_hat: float
    ess: float
    standard_error: float
    limit: float = STRICT
    mean: float = math.nan

    @property
    def relative_error(self) -> float:
        """Standard error beside the mean."""
        return self.standard_error / abs(self.mean) if self.mean else math.nan


def diagnose(series: Array) -> Diagnosis:
    """Rank-normalised split R-hat, bulk ESS and the Monte-Carlo standard error of the mean.

    A chain that never moves has no ESS: everything is NaN.
    """
    chains, draws = series.shape
    if draws < _SHORTEST or not np.isfinite(series).all():
        return Diagnosis(math.nan, math.nan, math.nan)
    if (np.ptp(series, axis=1) <= 1e-14 * np.abs(series).max()).any():
        return Diagnosis(math.nan, math.nan, math.nan)
    split = _split(series)
    bulk, tails = _normalised(split), _normalised(np.abs(split - np.median(split)))
    ess, error, mean = effective_size(bulk), standard_error(series), float(series.mean())
    if chains == 1:
        return Diagnosis(math.nan, ess, error, mean=mean)
    found = [(_r_hat(part), _limit(part)) for part in (bulk, tails)]
    r_hat = max(value for value, _ in found)
    _, limit = max(found, key=lambda one: (one[0] - 1.0) / (one[1] - 1.0))  # of the one that is further off
    return Diagnosis(r_hat, ess, error, limit, mean)


def standard_error(series: Array) -> float:
    """Monte-Carlo standard error of the mean of a series.

    ``s sqrt((1 + 12 / ESS) / ESS)`` with its deviation s: of short chains the autocorrelation time is known badly, and
    draws end where it looks short. So measured on autoregressions; ArviZ has no such factor.
    """
    if series.shape[1] < _SHORTEST or not np.isfinite(series).all():
        return math.nan
    if np.ptp(series) == 0.0:
        return 0.0
    size = effective_size(_split(series))
    return float(np.std(series, ddof=1) * math.sqrt((1.0 + _UNKNOWN / size) / size))


def effective_size(chains: Array) -> float:
    """Independent draws with the same standard error of the mean as all of ``chains`` (equation 10 there)."""
    count = len(chains)
    between = float(chains.mean(1).var(ddof=1)) if count > 1 else 0.0
    time = _autocorrelation_time(_autocovariance(chains), between)
    return chains.size / max(time, 1.0 / math.log10(chains.size))


# --- in what chains are worth -----------------------------------------------------------------------------------------


def _split(series: Array) -> Array:
    """First and second halves of the chains, as chains of their own."""
    half = series.shape[1] // 2
    return np.concatenate([series[:, :half], series[:, -half:]])


def _normalised(values: Array) -> Array:
    """Normal scores of the ranks (Blom)."""
    ranks = stats.rankdata(values).reshape(values.shape)
    scores: Array = special.ndtri((ranks - 0.375) / (values.size + 0.25))
    return scores


def _r_hat(chains: Array) -> float:
    length = chains.shape[1]
    between, within = chains.mean(1).var(ddof=1), chains.var(1, ddof=1).mean()
    return math.sqrt(between / within + (length - 1.0) / length) if within > 0.0 else math.inf


def _limit(chains: Array) -> float:
    """What R-hat stays below with probability 1 - ``_CHANCE`` where the chains have one law.

    Their M means then scatter by ``variance * time / length`` (chi square, M - 1 degrees of freedom); the
    autocorrelation time is that which expects as much scatter of the means, whatever theirs is.
    """
    count, length = chains.shape
    covariance = _autocovariance(chains)
    within, time = covariance[0] * length / (length - 1.0), 1.0
    for _ in range(20):
        time = min(max(_autocorrelation_time(covariance, within * time / length), 1.0), length / 2.0)
    scatter = stats.chi2.isf(_CHANCE, count - 1) / (count - 1)
    return min(max(math.sqrt(1.0 + (scatter * time - 1.0) / length), STRICT), LARGEST)


def _autocovariance(chains: Array) -> Array:
    """At every lag, mean over chains; their own means subtracted."""
    length = chains.shape[1]
    size = fft.next_fast_len(2 * length, real=True)
    power = np.abs(fft.rfft(chains - chains.mean(1, keepdims=True), size, axis=1)) ** 2
    covariance: Array = fft.irfft(power.mean(0), size)[:length] / length
    return covariance


def _autocorrelation_time(covariance: Array, between: float) -> float:
    """Of chains with such autocovariances, whose means vary by ``between``: Geyer's initial monotone sequence."""
    length = len(covariance)
    within = covariance[0] * length / (length - 1.0)
    correlation = 1.0 - (within - covariance) / (within * (length - 1.0) / length + between)
    correlation[0] = 1.0
    sums = correlation[: 2 * max((length - 1) // 2, 1)].reshape(-1, 2).sum(1)
    last = len(sums) - 1  # of the last pair of lags only the even one counts
    positive = int(np.argmax(sums <= 0.0)) if (sums <= 0.0).any() else last
    total = np.minimum.accumulate(sums[:positive]).sum() if positive else 0.0
    following = correlation[2 * positive]
    return float(2.0 * total - 1.0 + (following if sums[positive] > 0.0 else max(following, 0.0)))


# --- in words ---------------------------------------------------------------------------------------------------------


def verdict(
    watched: Mapping[str, Diagnosis], divergences: int, draws: int, accuracy: float | None = None
) -> tuple[bool, str]:
    """Whether every watched series converged, and if not, why and what to do, in one line.

    accuracy: relative standard error that was asked for, of the first of them. Without one, the effective sample size
    of every series decides.
    """
    chains_needed = [name for name, d in watched.items() if math.isnan(d.r_hat) and not math.isnan(d.ess)]
    stuck = [name for name, d in watched.items() if math.isnan(d.ess)]
    apart = [name for name, d in watched.items() if d.r_hat > d.limit]
    first = next(iter(watched))
    least, counted = (ESS_LIMIT, watched) if accuracy is None else (ESS_OF_ACCURACY, {first: watched[first]})
    few = {name: d.ess for name, d in counted.items() if d.ess < least}
    complaints = []
    if stuck:
        complaints.append(f"{', '.join(stuck)} did not move or was too short ({draws} draws a chain): sample longer")
    if chains_needed:
        complaints.append("one chain, so R-hat cannot be computed: run at least two chains")
    if apart:
        worst = max((watched[name] for name in apart), key=lambda d: d.r_hat)
        complaints.append(f"R-hat {worst.r_hat:.3f} of {', '.join(apart)} is above {worst.limit:.3f}: sample longer")
    if few:
        complaints.append(
            f"effective sample size {min(few.values()):.0f} of {', '.join(few)} is below {least:.0f}: sample longer"
        )
    if accuracy is not None and watched[first].relative_error > accuracy:
        error = 100.0 * watched[first].relative_error
        complaints.append(f"{first} known to {error:.2g} %, {100.0 * accuracy:.2g} % asked for: sample longer")
    if divergences:
        complaints.append(f"{divergences} divergent trajectories: lower the step size or raise the temperature")
    return not complaints, "; ".join(complaints) or "converged"


# --- what draws go on for: a relative standard error of the test error, from chains that agree ------------------------


@dataclass(frozen=True)
class Standing:
    """After so many chunks of draws: the relative standard error, and whether the chains agree."""

    chunk: int
    error: float
    agree: bool


@dataclass(frozen=True)
class Aim:
    """accuracy: relative standard error wanted. y: targets (P*, D) of the test points; None: of the train error."""

    accuracy: float
    y: Array | None

    def looks(self, chunk: int) -> bool:
        """Whether it is time to look: after ever more chunks, a tenth more each time."""
        look = _FIRST
        while look < chunk:
            look = max(look + 1, look * 11 // 10)
        return look == chunk

    def standing(self, chunk: int, records: Mapping[str, Array]) -> Standing:
        """After the draws whose records these are."""
        series = {} if self.y is None else {"test error": error_series(self.y, records["mean"], records["variance"])}
        watched = watch(series, records)
        first = next(iter(watched.values()))
        return Standing(chunk, first.relative_error, verdict(watched, 0, 0, math.inf)[0])

    def reached(self, standing: Standing) -> bool:
        """Whether no more draws are needed."""
        return standing.agree and standing.error <= self.accuracy

    def needed(self, standing: Standing | None) -> int:
        """Chunks of draws in all, as expected."""
        if standing is None or not standing.error > 0.0:
            return _EXPECTED
        whole = standing.chunk * max((standing.error / self.accuracy) ** 2, 0.0 if standing.agree else 1.5)
        return math.ceil(min(whole, 1e9))


def error_series(y: Array, mean: Array, variance: Array) -> Array:
    """Test error of every draw, (chains, draws): mean over points and outputs of ``(y - mean)^2 + variance``.

    mean (chains, draws, P*, D); variance the same, or without D where it is the same for all outputs.
    """
    wide = variance if variance.ndim == mean.ndim else variance[..., None]
    return ((y - mean) ** 2 + wide).reshape(*mean.shape[:2], -1).mean(-1)


def watch(series: Mapping[str, Array], records: Mapping[str, Array]) -> dict[str, Diagnosis]:
    """Diagnoses of what must have converged: those series, train error and energy."""
    both = {"train error": records["train_error"], "energy": records["energy"]}
    return {name: diagnose(one) for name, one in {**series, **both}.items()}
