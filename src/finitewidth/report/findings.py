"""What a study finds, as plain types that tables, figures and the HTML report are made from, and that JSON keeps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from finitewidth.display.documents import json_ready

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
class Bar:
    """A test error with its two parts. se: its standard error, None for theory."""

    name: str
    bias: float | None
    variance: float | None
    se: float | None = None

    @classmethod
    def of(cls, name: str, row: Any) -> Bar:
        """Of a row of theory, without numbers where it did not converge, or of samples."""
        se = getattr(row, "test_error_se", None)
        if se is None and not getattr(row, "converged", True):
            return cls(name, None, None)
        return cls(name, row.bias, row.variance, se)


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
        return json_ready(asdict(self))

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Findings:
        """The findings that ``to_dict`` gave; raises KeyError, TypeError or ValueError for anything else."""
        found: Findings = _read(cls, plain)
        _refuse_undrawable(found)
        return found


# --- from JSON that may hold anything: ValueError, TypeError or KeyError where it is not what to_dict gives -----------

_MOST_PANELS, _MOST_SERIES = 12, 200
_LARGEST = 1e300  # of a number in a plot, so that differences stay finite; its inverse on a logarithmic axis


def _read(kind: Any, value: Any) -> Any:
    """A value of a type that a field above has; a number missing from a pair is NaN."""
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        given = [field.name for field in fields(kind) if field.name in value or field.default is MISSING]
        make: Any = kind
        return make(**{name: _read(hints[name], value[name]) for name in given})
    if get_origin(kind) is UnionType:
        return _read_any(get_args(kind), value)
    if get_origin(kind) is tuple:
        first, *rest = get_args(kind)
        if rest == [...]:
            return tuple(_read(first, item) for item in _of(list, value))
        pairs = zip((first, *rest), _of(list, value), strict=True)
        return tuple(math.nan if item is None else _read(one, item) for one, item in pairs)
    if kind is not float:
        return _of(kind, value)
    if not abs(_of((int, float), value)) <= _LARGEST:
        raise ValueError(f"{value}")
    return value


def _read_any(kinds: tuple[Any, ...], value: Any) -> Any:
    for kind in kinds:
        try:
            return _read(kind, value)
        except (TypeError, ValueError):
            continue
    raise TypeError(f"{type(value).__name__} in place of {kinds}")


def _of(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{type(value).__name__} in place of {kind}")
    return value


def _refuse_undrawable(findings: Findings) -> None:
    """ValueError for parts that do not fit together."""
    panels, maps = findings.panels, [one for stop in findings.slider for one in stop.maps]
    if len(panels) > _MOST_PANELS or any(len(panel.series) > _MOST_SERIES for panel in panels):
        raise ValueError(f"{len(panels)} panels")
    if any(len(row) != len(table.columns) for table in findings.tables for row in table.rows):
        raise ValueError("rows of other lengths than the head")
    if any(len(set(map(len, one.matrix))) > 1 for one in maps):
        raise ValueError("a matrix with rows of different lengths")
    for panel in panels:
        if panel.log_x and not all(x >= 1.0 / _LARGEST for one in panel.series for x in one.x):
            raise ValueError("x of at most 0 on a logarithmic axis")
        for one in panel.series:
            if one.kind not in ("line", "points", "limit"):
                raise ValueError(one.kind)
            if len(one.y) != len(one.x) or len(one.se) not in (0, len(one.x)) or any((se or 0.0) < 0 for se in one.se):
                raise ValueError("a series of uneven lengths, or of an error below zero")
