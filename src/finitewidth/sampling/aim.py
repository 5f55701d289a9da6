"""What draws go on for: a relative standard error of the test error, from chains that agree."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from finitewidth.sampling.convergence import Diagnosis, diagnose, verdict

Array = np.ndarray
_FIRST = 5  # chunks of draws before the first look
_EXPECTED = 12  # chunks of draws, before there are any


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
