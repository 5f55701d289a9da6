"""Which widths to sample: those that add most to the accuracy of all, a second."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Array = np.ndarray


def planned(
    covariance: Array, wanted: float, errors: Sequence[Sequence[float]], seconds: Sequence[float], left: float
) -> list[int]:
    """Widths to sample, in order, were all to come out as expected; a width may come again, to be known better.

    covariance: of the logarithms of the errors at n widths, (n, n). wanted: standard deviation that is good enough.
    errors: of each width, the standard errors of the samples that may be taken there, one after another. seconds: what
    one takes. left: seconds that there are.
    """
    taken, plan = [0] * len(errors), []
    while (np.diag(covariance) > wanted**2).any():
        possible = [k for k, own in enumerate(errors) if taken[k] < len(own) and seconds[k] <= left]
        gains = {k: _gain(covariance, wanted, k, errors[k][taken[k]]) for k in possible}
        if not any(gain > 0.0 for gain in gains.values()):
            break
        best = max(gains, key=lambda k: gains[k] / seconds[k])
        covariance = _after(covariance, best, errors[best][taken[best]])
        left -= seconds[best]
        taken[best] += 1
        plan.append(best)
    return plan


def _after(covariance: Array, k: int, error: float) -> Array:
    """The covariance after a sample of this standard error at the k-th width."""
    seen = covariance[:, k]
    return np.asarray(covariance - np.outer(seen, seen) / (seen[k] + error**2))


def _gain(covariance: Array, wanted: float, k: int, error: float) -> float:
    """By how much a sample at the k-th width brings all deviations nearer to that wanted, in logarithms."""
    before, after = (np.maximum(np.diag(c), wanted**2) for c in (covariance, _after(covariance, k, error)))
    return float(0.5 * np.log(before / after).sum())
