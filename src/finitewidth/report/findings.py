"""What a study or a sweep comes to, as plain types, of which tables, figures and pages are made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SURE = 3.0  # standard errors from which a claim counts as decided
SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"

Cell = str | float | int | tuple[float, float] | None  # a pair is a value and its standard error


@dataclass(frozen=True)
class Claim:
    """A sentence, whether it holds on these data, and the numbers that say so."""

    statement: str
    verdict: str
    evidence: str

    @property
    def sentence(self) -> str:
        """One sentence for people, for example "Supported on these data: ... (5.2 standard errors)."."""
        return f"{self.verdict.capitalize()} on these data: {self.statement} ({self.evidence})."

    @classmethod
    def above(cls, statement: str, what: str, value: float, error: float, bound: float = 0.0) -> Claim:
        """ "``what`` is above ``bound``", decided at three standard errors ``error`` of ``value``; NaN decides nothing.

        Without an error (0.0: both sides exact) the sign decides.
        """
        gap = value - bound
        text = f"{what}: {value:.3g}" + (f" ± {error:.2g}" if error > 0.0 else "")
        if not (math.isfinite(gap) and math.isfinite(error)):
            return cls(statement, UNDECIDED, f"{text}, no standard error")
        beside = f" from {bound:g}" if bound else " from zero"
        if error > 0.0:
            text += f", {abs(gap) / error:.1f} standard errors{beside}"
        sure = abs(gap) >= SURE * error and gap != 0.0
        return cls(statement, (SUPPORTED if gap > 0.0 else CONTRADICTED) if sure else UNDECIDED, text)

    @classmethod
    def below(cls, statement: str, what: str, value: float, error: float, bound: float = 0.0) -> Claim:
        """ "``what`` is below ``bound``"; see ``above``."""
        turned = cls.above(statement, what, value, error, bound)
        opposite = {SUPPORTED: CONTRADICTED, CONTRADICTED: SUPPORTED, UNDECIDED: UNDECIDED}
        return cls(statement, opposite[turned.verdict], turned.evidence)


@dataclass(frozen=True)
class Table:
    """Columns and rows of cells; a pair is a value and its standard error."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Series:
    """One curve of a panel. kind: "line" (theory), "points" (samples, with bars of two standard errors), "limit"
    (infinite width, dashed). colour: index that curves of one network share. se: standard errors of y, or empty."""

    name: str
    kind: str
    colour: int
    x: tuple[float, ...]
    y: tuple[float | None, ...]
    se: tuple[float | None, ...] = ()

    @classmethod
    def of(cls, name: str, kind: str, colour: int, rows: Mapping[Any, Any], quantity: str = "test_error") -> Series:
        """A quantity of rows by their place along x, of samples with its standard errors ("points").

        A gap where there is no number, or where a theory did not converge.
        """
        sampled = kind == "points"
        drawn = [row if sampled or getattr(row, "converged", True) else None for row in rows.values()]
        y = tuple(_finite(row, quantity) for row in drawn)
        se = tuple(_finite(row, f"{quantity}_se") for row in drawn) if sampled else ()
        return cls(name, kind, colour, tuple(map(float, rows)), y, se)


def _finite(row: Any, field: str) -> float | None:
    value = getattr(row, field, None)
    return float(value) if value is not None and math.isfinite(value) else None


@dataclass(frozen=True)
class Panel:
    """One set of axes. diagonal: draw y = x, where both axes show the same quantity. x_names: what the places 0, 1, ...
    along x stand for, where they are no numbers."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    log_x: bool = True
    log_y: bool = False
    diagonal: bool = False
    x_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Findings:
    """Everything a study found. notes: validity statements, and what did not converge."""

    claims: tuple[Claim, ...]
    tables: tuple[Table, ...]
    panels: tuple[Panel, ...]
    notes: tuple[str, ...] = ()
