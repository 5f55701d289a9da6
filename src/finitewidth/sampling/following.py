"""Draws of target networks that follow layers of a source network, and their errors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from finitewidth import checks
from finitewidth.data import TargetEncoding
from finitewidth.data.encoding import NUMBERS
from finitewidth.inference.prediction import in_own_units
from finitewidth.sampling.convergence import Diagnosis, diagnose, verdict
from finitewidth.sampling.draws import SampledErrors
from finitewidth.sampling.frozen import squared_bias

Array = np.ndarray
CHAINS = 2  # of every target: as many as R-hat and the overlap of replicas need


@dataclass(frozen=True, eq=False)
class FollowingDraws:
    """Target networks that follow draws of the source: S source layers, two chains of n draws after each.

    mean, variance: of f at the test points given a draw of the target's hidden weights, (S, 2, n, P*).
    train_error, energy, diverged: (S, 2, n). source_r_hat, source_ess: of the source's chains.
    order_parameters: of every source layer, (S,): "source", "cross", "target", "replica", as a ``TransferSolution``'s.
    encoding: of the target's training set.
    """

    mean: Array
    variance: Array
    train_error: Array
    energy: Array
    diverged: Array
    order_parameters: dict[str, Array]
    source_r_hat: float
    source_ess: float
    encoding: TargetEncoding = NUMBERS

    @property
    def n_sources(self) -> int:
        """S."""
        return len(self.mean)

    @cached_property
    def effective(self) -> float:
        """Independent source layers among the S."""
        return min(float(self.n_sources), self.source_ess)

    def errors(self, y: Any) -> SampledErrors:
        """Errors of the target against ``y`` (P*,); standard errors are over source layers, R-hat over the chains that
        follow one layer (all layers together) and over the source's.

        ``y``: as for ``Prediction.errors``, and refused as there.
        """
        y = self.encoding.targets(y, self.mean.shape[3:])
        series = ((y - self.mean) ** 2 + self.variance).mean(-1)
        test_error, test_error_se = self.average(series.mean((1, 2)))
        bias, bias_se = squared_bias(self.mean.mean((1, 2)), y)
        bias_se *= math.sqrt(self.n_sources / self.effective)
        train_error, train_error_se = self.average(self.train_error.mean((1, 2)))
        watched = {
            "test error": _within(series),
            "train error": _within(self.train_error),
            "energy": _within(self.energy),
            "source": Diagnosis(self.source_r_hat, self.source_ess, 0.0),
        }
        divergences = int(self.diverged.sum())
        converged, message = verdict(watched, divergences, self.mean.shape[2])
        errors = SampledErrors(
            test_error=test_error,
            bias=bias,
            variance=test_error - bias,
            accuracy=None,
            train_error=train_error,
            test_error_se=test_error_se,
            train_error_se=train_error_se,
            bias_se=bias_se,
            variance_se=test_error_se + bias_se,  # the largest that it can be
            accuracy_se=None,
            r_hat=max(one.r_hat for one in watched.values()),
            ess=self.effective,
            divergences=divergences,
            converged=converged,
            message=message,
        )
        return in_own_units(errors, self.encoding)

    def average(self, values: Array) -> tuple[float, float]:
        """Mean over source layers, (S,), and its standard error."""
        return float(values.mean()), float(values.std(ddof=1) / math.sqrt(self.effective))

    def order_parameter(self, name: str) -> tuple[float, float]:
        """ "source", "cross", "target" or "replica", with its standard error over source layers."""
        return self.average(self.order_parameters[checks.choice("name", name, self.order_parameters)])


def _within(series: Array) -> Diagnosis:
    """Of the short chains (S, 2, n) that follow the layers, without what layers differ by.

    First and second halves of either chain, each put together over all layers (nested R-hat, Margossian et al. 2024):
    alone, chains so short would differ by their own noise.
    """
    centred = series - series.mean((1, 2), keepdims=True)
    half = series.shape[2] // 2
    parts = [centred[:, c, part] for c in range(CHAINS) for part in (slice(half), slice(half, 2 * half))]
    return diagnose(np.stack([part.ravel() for part in parts]))
