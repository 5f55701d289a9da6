"""What a study finds, as plain types that tables, figures and the HTML report are made from, and that JSON keeps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from finitewidth.documents import json_ready

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

    @classmethod
    def equal(cls, statement: str, what: str, difference: float, error: float) -> Claim:
        """ "``what`` is zero": not contradicted while ``difference`` is within three standard errors of it."""
        text = f"{what}: {difference:.2g} ± {error:.2g}"
        if not (math.isfinite(difference) and error > 0.0):
            return cls(statement, UNDECIDED, f"{text}, no standard error")
        text += f", {abs(difference) / error:.1f} standard errors from zero"
        return cls(statement, SUPPORTED if abs(difference) < SURE * error else CONTRADICTED, text)


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


@dataclass(frozen=True)
class Panel:
    """One set of axes. diagonal: draw y = x, where both axes show the same quantity."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    log_x: bool = True
    log_y: bool = False
    diagonal: bool = False


@dataclass(frozen=True)
class Bar:
    """A test error with its two parts. se: its standard error, None for theory."""

    name: str
    bias: float | None
    variance: float | None
    se: float | None = None


@dataclass(frozen=True)
class QMatrix:
    """Order parameters of one network, square: 1 x 1 where Q is a scalar."""

    name: str
    matrix: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Stop:
    """One position of the slider."""

    label: str
    maps: tuple[QMatrix, ...]
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Findings:
    """Everything a study found. slider: stops in order, moved over by what ``slider_label`` names; notes: validity
    statements, and what did not converge."""

    claims: tuple[Claim, ...]
    tables: tuple[Table, ...]
    panels: tuple[Panel, ...]
    slider: tuple[Stop, ...] = ()
    slider_label: str = "width"
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data, NaN as None."""
        plain: dict[str, Any] = json_ready(asdict(self))
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Findings:
        """The findings that ``to_dict`` gave."""
        return cls(
            claims=tuple(Claim(**claim) for claim in plain["claims"]),
            tables=tuple(
                Table(t["title"], tuple(t["columns"]), tuple(tuple(map(_cell, row)) for row in t["rows"]))
                for t in plain["tables"]
            ),
            panels=tuple(Panel(**{**p, "series": tuple(map(_series, p["series"]))}) for p in plain["panels"]),
            slider=tuple(map(_stop, plain["slider"])),
            slider_label=plain["slider_label"],
            notes=tuple(plain["notes"]),
        )


def _cell(cell: Any) -> Cell:
    if isinstance(cell, Sequence) and not isinstance(cell, str):
        value, error = (math.nan if item is None else item for item in cell)
        return (value, error)
    return cell


def _series(plain: Mapping[str, Any]) -> Series:
    return Series(**{**plain, **{name: tuple(plain[name]) for name in ("x", "y", "se")}})


def _stop(plain: Mapping[str, Any]) -> Stop:
    maps = tuple(QMatrix(m["name"], tuple(map(tuple, m["matrix"]))) for m in plain["maps"])
    return Stop(plain["label"], maps, tuple(Bar(**bar) for bar in plain["bars"]))
