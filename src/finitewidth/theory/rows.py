"""The line of a learning curve that a theory gives."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from finitewidth.data import Dataset
from finitewidth.inference.methods import Row
from finitewidth.inference.prediction import NO_ERRORS
from finitewidth.theory.krylov import KrylovPredictor
from finitewidth.theory.validated import applies
from finitewidth.theory.validity import Validity, validity

if TYPE_CHECKING:
    from finitewidth.theory.solution import TheorySolution


@dataclass(frozen=True)
class TheoryRow(Row):
    """One prediction of a learning curve; what did not converge has NaN errors and ``converged=False``.

    width: see ``Row``; at infinite width that of the network given, which makes no difference. mean_order_parameter:
    see ``TheorySolution``. assessed: the solution without its matrices, from which ``validity`` is computed; None where
    it does not apply or was not wanted. solver: "exact" or "krylov"; with the latter, solver_error is the estimated
    relative error of the test error that it causes, and log_evidence_error that of the log evidence in nats (99 %
    intervals).
    """

    closure: str
    mean_order_parameter: float = math.nan
    assessed: tuple[TheorySolution, Dataset] | None = field(default=None, repr=False, compare=False)
    solver: str = "exact"
    solver_error: float | None = None
    log_evidence_error: float | None = None

    @cached_property
    def validity(self) -> Validity | None:
        """What to expect of a prediction of the action (``theory/validity.py``): a second or so, when first read."""
        return None if self.assessed is None else validity(*self.assessed)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        plain = asdict(without_validity(self)) | {"validity": self.validity and asdict(self.validity)}
        del plain["assessed"]
        return plain


def without_validity(row: Row) -> Row:
    """The same row; nothing is left to compute."""
    return replace(row, assessed=None) if isinstance(row, TheoryRow) else row


def as_far_as_known(row: Row) -> Row:
    """The same row; without its validity, where that has yet to be computed."""
    return without_validity(row) if pending(row) else row


def pending(row: Row) -> bool:
    """Whether a row's validity has yet to be computed."""
    return isinstance(row, TheoryRow) and row.assessed is not None and "validity" not in vars(row)


def row_of(solution: TheorySolution, test: Dataset, seconds: float = 0.0) -> TheoryRow:
    """The row of one solution; ``seconds``: what finding it took."""
    started = time.perf_counter()
    found, converged, message, solver_error = NO_ERRORS, solution.converged, solution.message, None
    if solution.converged:
        found = solution.conditioned(test.x).errors(test.y)
        if not math.isfinite(found.test_error + found.train_error):
            converged, message = False, "errors beyond double precision; rescale inputs and targets"
        elif isinstance(solution.predictor, KrylovPredictor):
            solver_error = solution.predictor.estimated_error(test.x, test.y)
            complaint = solution.predictor.complaint(solver_error)
            converged, message = not complaint, complaint or message
    return TheoryRow.of(
        solution,
        found if converged else NO_ERRORS,
        seconds + time.perf_counter() - started,
        solution.theory.method,
        closure=solution.theory.closure,
        log_evidence=float(solution.log_evidence),
        converged=converged,
        message=message,
        assessed=(solution.bare(), test) if applies(solution) else None,
        mean_order_parameter=solution.mean_order_parameter,
        solver=solution.solver,
        solver_error=solver_error,
        log_evidence_error=None if solution.solver_errors is None else solution.solver_errors.log_evidence,
    )
