"""What a study finds, as plain types that tables, figures and the HTML report are made from, and that JSON keeps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from finitewidth.display.documents import json_ready

T = TypeVar("T")
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
        """The findings that ``to_dict`` gave."""
        return cls(
            claims=tuple(Claim(*(_text(claim, name) for name in _names(Claim))) for claim in _list(plain, "claims")),
            tables=tuple(map(_table, _list(plain, "tables"))),
            panels=tuple(map(_panel, _list(plain, "panels", _MOST_PANELS))),
            slider=tuple(map(_stop, _list(plain, "slider"))),
            slider_label=_text(plain, "slider_label"),
            notes=tuple(_is(str, note) for note in _list(plain, "notes")),
        )


# --- from JSON that may hold anything: ValueError, TypeError or KeyError where it is not what to_dict gives -----------

_MOST_PANELS, _MOST_SERIES = 12, 200
_LARGEST = 1e300  # of a number in a plot, so that differences stay finite; its inverse on a logarithmic axis


def _names(kind: Any) -> list[str]:
    return list(kind.__dataclass_fields__)


def _is(kind: type[T] | tuple[type[T], ...], value: object) -> T:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{type(value).__name__} in place of {kind}")
    return value


def _text(plain: Mapping[str, Any], name: str) -> str:
    return _is(str, plain[name])


def _list(plain: Mapping[str, Any], name: str, most: int | None = None) -> list[Any]:
    found: list[Any] = _is(list, plain[name])
    if most is not None and len(found) > most:
        raise ValueError(f"{len(found)} {name}")
    return found


def _numbers(values: Any, missing: bool = False) -> tuple[Any, ...]:
    """Finite numbers of a size that can be drawn; with ``missing``, None among them."""
    for value in _is(list, values):
        if not (missing and value is None) and not abs(_is((int, float), value)) <= _LARGEST:
            raise ValueError(f"{value}")
    return tuple(values)


def _table(plain: Mapping[str, Any]) -> Table:
    columns = tuple(_is(str, column) for column in _list(plain, "columns"))
    rows = tuple(tuple(map(_cell, _is(list, row))) for row in _list(plain, "rows"))
    if any(len(row) != len(columns) for row in rows):
        raise ValueError("rows of other lengths than the head")
    return Table(_text(plain, "title"), columns, rows)


def _cell(cell: Any) -> Cell:
    if isinstance(cell, list):
        value, error = (math.nan if item is None else float(item) for item in _numbers(cell, missing=True))
        return (value, error)
    return cell if cell is None or isinstance(cell, str) else _is((int, float), cell)


def _panel(plain: Mapping[str, Any]) -> Panel:
    given = {name: _is(bool, plain[name]) for name in ("log_x", "log_y", "diagonal")}
    series = tuple(map(_series, _list(plain, "series", _MOST_SERIES)))
    if given["log_x"] and not all(x >= 1.0 / _LARGEST for one in series for x in one.x):
        raise ValueError("x of at most 0 on a logarithmic axis")
    title, x_label, y_label = (_text(plain, name) for name in ("title", "x_label", "y_label"))
    names = tuple(_is(str, name) for name in plain.get("x_names", ()))  # newer than other fields
    return Panel(title, x_label, y_label, series, **given, x_names=names)


def _series(plain: Mapping[str, Any]) -> Series:
    x, y = _numbers(plain["x"]), _numbers(plain["y"], missing=True)
    se = _numbers(plain["se"], missing=True)
    if len(y) != len(x) or len(se) not in (0, len(x)) or any(error is not None and error < 0.0 for error in se):
        raise ValueError("a series of uneven lengths, or of an error below zero")
    if plain["kind"] not in ("line", "points", "limit"):
        raise ValueError(f"{plain['kind']}")
    return Series(_text(plain, "name"), plain["kind"], _is(int, plain["colour"]), x, y, se)


def _stop(plain: Mapping[str, Any]) -> Stop:
    maps = tuple(QMatrix(_text(m, "name"), tuple(map(_numbers, _list(m, "matrix")))) for m in _list(plain, "maps"))
    if any(len(row) != len(one.matrix[0]) for one in maps for row in one.matrix):
        raise ValueError("a matrix with rows of different lengths")
    return Stop(_text(plain, "label"), maps, tuple(map(_bar, _list(plain, "bars"))))


def _bar(plain: Mapping[str, Any]) -> Bar:
    return Bar(_text(plain, "name"), *_numbers([plain[name] for name in ("bias", "variance", "se")], missing=True))
