"""What theory says of the errors of networks that differ in width only, as bases of a curve over widths."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from finitewidth.checks.exceptions import InputError, MemoryCapError, TimeCapError
from finitewidth.curves.interpolation import Base
from finitewidth.data import Dataset
from finitewidth.inference.likelihoods import Gaussian
from finitewidth.inference.methods import Control, Problem
from finitewidth.inference.prediction import ERRORS, Errors
from finitewidth.networks import Network
from finitewidth.theory.expansion import FirstOrderSlopes, first_order
from finitewidth.theory.methods import Infinite, Saddle
from finitewidth.theory.solution import TheorySolution

MISCLASSIFIED = "misclassified"  # expected share of the points; of labels only
_ODDS = (0.9, 0.1)  # that it is the action that is off by a smooth factor, or the constant of infinite width
_NEVER = 1e-12  # share of points misclassified that counts as none, and has a logarithm
_NEURONS = 20_000  # a layer, of the slopes


def values_of(errors: Errors) -> dict[str, float]:
    """What is interpolated: squared errors, and the share of points that are misclassified."""
    values = {name: float(getattr(errors, name)) for name in ERRORS}
    return values if errors.accuracy is None else values | {MISCLASSIFIED: max(1.0 - errors.accuracy, _NEVER)}


class TheoryOfWidths:
    """The action, infinite width and the exact first order of networks that differ in width only.

    solutions, errors: of the action, by the width of the first layer, where it has a solution. infinite: errors at
    infinite width. slopes: None where there are none.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        temperature: float,
        train: Dataset,
        test: Dataset,
        seed: int,
        control: Control,
    ) -> None:
        noise = Gaussian(temperature)
        self.infinite = Infinite().solve(Problem(networks[0], noise), train, control).errors(test)
        self.solutions: dict[int, TheorySolution] = {}
        self.errors: dict[int, Errors] = {}
        problems = [Problem(network, noise) for network in networks]
        try:
            found = list(Saddle().solutions(problems, train, test, control=control))
        except (MemoryCapError, TimeCapError):
            raise
        except InputError:  # an architecture whose action is not known
            found = []
        for solution in found:
            if solution.converged:
                self.solutions[solution.network.widths[0]] = solution
                self.errors[solution.network.widths[0]] = solution.errors(test)
        self.slopes: FirstOrderSlopes | None = None
        settings: dict[str, Any] = {"neurons": _NEURONS, "seed": seed, "memory": control.memory}
        with contextlib.suppress(InputError, np.linalg.LinAlgError):  # not known here, not finite, or beyond memory
            self.slopes = first_order(networks[0], train, test, temperature, **settings)

    def error_at(self, width: int) -> float:
        """Test error of the action; NaN where it has no solution."""
        return self.errors[width].test_error if width in self.errors else math.nan

    def bases(self, name: str, widths: Sequence[int]) -> list[Base]:
        """The action, where it is known at all of the widths, and the constant of infinite width."""
        limit = values_of(self.infinite)[name]
        slope = action = error = math.nan
        if self.slopes is not None:
            slope, error, action = _slope(self.slopes, name)
        known = {width: values_of(errors)[name] for width, errors in self.errors.items()}
        found = []
        if all(known.get(width, 0.0) > 0.0 for width in widths):
            found.append((known, slope - action, _ODDS[0]))
        found.append((dict.fromkeys(widths, limit), slope, _ODDS[1]))
        return [
            Base(
                {width: math.log(values[width]) for width in widths},
                (missed / limit, error / limit) if math.isfinite(missed) else None,
                odds,
            )
            for values, missed, odds in found
        ]


def _slope(slopes: FirstOrderSlopes, name: str) -> tuple[float, float, float]:
    """Exact slope of an error in 1/N, its standard error, and the slope of the action."""
    if name != MISCLASSIFIED:
        found = getattr(slopes, name)
        return found.slope, found.slope_se, getattr(slopes.action, name)
    if slopes.accuracy is None or slopes.action.accuracy is None:
        return math.nan, math.nan, math.nan
    return -slopes.accuracy.slope, slopes.accuracy.slope_se, -slopes.action.accuracy
