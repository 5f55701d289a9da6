"""``Curve``: errors at the accuracy asked for, made of theory, its exact first order in 1/N, and a few samples."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from finitewidth import checks
from finitewidth.checks.exceptions import InputError
from finitewidth.curves.refinement import Estimate, Refinement, refine
from finitewidth.data import Dataset
from finitewidth.display import Displayed
from finitewidth.inference.likelihoods import Likelihood
from finitewidth.inference.methods import Control, Method, Problem, Row, parts
from finitewidth.inference.prediction import ERRORS, Errors
from finitewidth.networks import Network
from finitewidth.sampling import Sample
from finitewidth.theory.expansion.slopes import family
from finitewidth.theory.methods import Infinite
from finitewidth.theory.solution import TheorySolution

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

WITHIN, FINEST = 0.05, 0.01  # accuracy where none is given, and where only a time is


@dataclass(frozen=True)
class Curve(Method):
    """One curve over widths with honest intervals: theory, its first order in 1/N, and samples where they are needed.

    within: relative accuracy wanted of the test error at every width, at 90 %; .05 by default, .01 where ``seconds`` is
    given. seconds: the most that a call may take, shared among its curves; what was reached then is in ``met``.
    seed: of neurons and samples.

    The widths of one call, of networks whose layers keep their proportions, are one curve. It is exact at infinite
    width, has the exact slope there in 1/N, and goes through the sampled widths, which are chosen one after another by
    what they add to the accuracy, a second (docs/accuracy.md). Serves what can be sampled and has an infinite width.
    """

    within: float | None = None
    seconds: float | None = None
    seed: int = 0
    name = "curve"

    def __post_init__(self) -> None:
        number = checks.optional(checks.positive)
        checks.put(self, within=number, seconds=number, seed=checks.seed)
        if self.within is not None and self.within >= 1.0:
            raise InputError(f"within = {self.within:g}", "a relative accuracy below 1", "write within=0.05 for 5 %")

    @property
    def accuracy(self) -> float:
        """What is wanted of every width, relative."""
        if self.within is not None:
            return self.within
        return WITHIN if self.seconds is None else FINEST

    def serves(self, problem: Problem, n_outputs: int = 1) -> None:
        """See ``Method``."""
        Sample().serves(problem, n_outputs)
        if problem.network.readout != "standard":
            raise InputError(
                f"method 'curve' with readout {problem.network.readout!r}, whose prior depends on the width",
                "readout 'standard', which has a limit at infinite width",
                "use method='sample'",
            )
        Infinite().serves(problem, n_outputs)

    def solutions(
        self,
        problems: Sequence[Problem],
        train: Dataset,
        test: Dataset | None = None,
        sizes: Sequence[int] | None = None,
        control: Control | None = None,
    ) -> Iterator[CurveSolution]:
        """See ``Method``; InputError without a test set, whose errors these are."""
        if test is None:
            raise InputError(
                "method 'curve' without a test set",
                "a test set, the errors on which are what it finds",
                "use fw.learning_curve(..., method='curve'); for predictions at single points method='sample'",
            )
        for problem in problems:
            self.serves(problem, train.n_outputs)
        return self._solutions(problems, train, test, sizes, control or Control())

    def _solutions(
        self,
        problems: Sequence[Problem],
        train: Dataset,
        test: Dataset,
        sizes: Sequence[int] | None,
        control: Control,
    ) -> Iterator[CurveSolution]:
        started = time.perf_counter()
        found: list[tuple[Problem, Dataset, Refinement]] = []
        for part in parts(train, sizes):
            curves: dict[Any, Refinement] = {}
            for problem in problems:
                network, likelihood = problem
                key = (family(network), likelihood)
                if key not in curves:
                    alike = [p.network for p in problems if (family(p.network), p.likelihood) == key]
                    curves[key] = Refinement(self, alike, likelihood.temperature, part, test, control)
                found.append((problem, part, curves[key]))
        refine([*dict.fromkeys(curve for _, _, curve in found)], started)
        for problem, part, curve in found:
            yield CurveSolution(*problem, part, test, curve)


@dataclass(frozen=True)
class CurveRow(Row):
    """The line of a learning curve. ``_low``, ``_high``: 90 % intervals.

    rests_on: what the numbers follow from: "theory", "first order", or "samples at 20, 80". met: whether the accuracy
    asked for is reached here. theory_test_error: of the action alone, NaN where it has none. infinite_test_error: at
    infinite width. sampled_test_error, sampled_test_error_se: of the samples at this width, None where there are none.
    """

    test_error_low: float
    test_error_high: float
    bias_low: float
    bias_high: float
    variance_low: float
    variance_high: float
    train_error_low: float
    train_error_high: float
    rests_on: str
    met: bool
    theory_test_error: float
    infinite_test_error: float
    sampled_test_error: float | None
    sampled_test_error_se: float | None


@dataclass(frozen=True)
class CurveSolution(Displayed):
    """Errors of one network on the test set, as a point of a curve over widths; see ``Curve``."""

    network: Network
    likelihood: Likelihood
    train: Dataset
    test: Dataset
    curve: Refinement = field(repr=False)
    converged = True

    @property
    def _width(self) -> int:
        return self.network.widths[0]

    @property
    def _action(self) -> TheorySolution | None:
        return self.curve.theory.solutions.get(self._width)

    @property
    def order_parameters(self) -> np.ndarray:
        """Q of the action; empty where it has no solution."""
        return np.empty(0) if self._action is None else self._action.order_parameters

    @property
    def log_evidence(self) -> float:
        """Of the action, nats; NaN where it has no solution."""
        return math.nan if self._action is None else self._action.log_evidence

    @property
    def complete(self) -> bool:
        """False where an interrupt stopped the sampling."""
        return self.curve.complete

    @property
    def message(self) -> str:
        """What was reached where that is not what was asked for."""
        return self.curve.message(self._width)

    def predict(self, x: ArrayLike | Dataset) -> NoReturn:
        """InputError: errors on the test set are corrected, predictions at single points are not."""
        raise InputError(
            "predictions at single points by method 'curve'", "errors on its test set", "use method='sample'"
        )

    def errors(self, test: Dataset) -> Errors:
        """On the test set that the curve was made for; InputError for another."""
        if test is not self.test and test.fingerprint() != self.test.fingerprint():
            raise InputError("another test set than that of the curve", "the same one", "make a curve for it")
        return self.curve.estimate(self._width).errors

    def row(self, test: Dataset, seconds: float) -> CurveRow:
        errors, curve = self.errors(test), self.curve
        found: Estimate = curve.estimate(self._width)
        intervals = {f"{name}_{side}": getattr(found, side)[name] for name in ERRORS for side in ("low", "high")}
        sampled = curve.samples.get(self._width)
        others: dict[str, Any] = {
            "rests_on": curve.rests_on,
            "met": found.off_by <= curve.accuracy,
            "theory_test_error": curve.theory.error_at(self._width),
            "infinite_test_error": curve.theory.infinite.test_error,
            "sampled_test_error": None if sampled is None else sampled.test_error,
            "sampled_test_error_se": None if sampled is None else sampled.test_error_se,
        }
        return CurveRow.of(self, errors, seconds, Curve.name, **intervals, **others)
