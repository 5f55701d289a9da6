"""The page of a sweep, finished or not: its points as a table, and the test error over every key that is swept."""

from __future__ import annotations

import os
import shlex
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finitewidth import checks, sweeps
from finitewidth.display.tables import NOTHING
from finitewidth.report import html, plots
from finitewidth.report.findings import Findings, Panel, Series, Table
from finitewidth.report.panels import sweep_figure
from finitewidth.sweeps.point import compact
from finitewidth.sweeps.results import plan_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from finitewidth.sweeps import Status

_MOST_POINTS = 20_000  # that a page looks at
_MOST_ROWS, _MOST_PANELS, _MOST_LINES, _MOST_NAMES = 200, 12, 6, 30
_FIRST = ("width", "widths", "depth", "temperature", "n_train", "method")  # columns and panels, then the other keys
_NO_NUMBERS = ("seed",)  # keys that are numbers but have no order
_RESULTS = ("test_error", "bias", "variance", "train_error", "accuracy", "r_hat")  # columns
_VALUE, _REASON = 24, 160  # characters
Row = dict[str, Any]


def write_page(folder: str | os.PathLike[str]) -> list[Path]:
    """``report.html`` and ``sweep.png``, ``sweep.pdf`` in the folder of a sweep, from what is stored so far.

    Raises InputError where there is no sweep, or a damaged one; MissingExtraError without matplotlib.
    """
    plots.require_matplotlib()
    place = checks.path("folder", folder)
    status, rows = sweeps.status(place), list(islice(sweeps.rows(place), _MOST_POINTS))
    command = f"finitewidth sweep plan.yaml --out {shlex.quote(str(place))}\n\n# plan.yaml\n{plan_text(place)}"

    def make() -> tuple[str, Figure | None]:
        found = findings_of(rows, status)
        figure = sweep_figure(found.panels) if found.panels else None
        title = f"Sweep over {', '.join(map(_words, _swept(rows))) or 'one point'}"
        versions = {str(k): str(v) for row in rows[-1:] for k, v in (row["versions"] or {}).items()}
        return html.page("Sweep", title, status.lines(), found, figure, command, versions), figure

    return html.write(place, "sweep", make)


def findings_of(rows: Sequence[Row], status: Status) -> Findings:
    """Tables, curves and notes of the points, ``rows`` as ``fw.sweeps.rows`` gives them; there are no claims."""
    keys = _swept(rows)
    panels = [panel for key in keys if (panel := panel_over(key, rows, keys)) is not None]
    tables = (_points(rows, keys, status),) if rows else ()
    notes = (f"Curves show at most {_MOST_PANELS} keys, {_MOST_LINES} lines of each, and {_MOST_NAMES} names.",)
    return Findings((), tables, tuple(panels[:_MOST_PANELS]), notes)


def panel_over(key: str, rows: Iterable[Row], keys: Sequence[str]) -> Panel | None:
    """Test error against one key, a line for every value of the others, the first six of them: methods, then others.

    None where no point with that key has a converged result.
    """
    rows = [row for row in rows if key in row["config"]]
    others = sorted((other for other in keys if other != key), key=lambda other: (other == "seed", other != "method"))
    values = _values(rows, key)
    ordered = key not in _NO_NUMBERS and all(_is_number(value) for value in values)
    values = values if ordered else values[:_MOST_NAMES]
    places = {compact(value): float(value) if ordered else float(k) for k, value in enumerate(values)}
    drawn = [_series(name, k, key, group, places) for k, (name, group) in enumerate(_by_line(rows, others).items())]
    series = tuple(one for one in drawn if any(y is not None for y in one.y))[:_MOST_LINES]
    errors = [y for one in series for y in one.y if y is not None]
    if not errors:
        return None
    return Panel(
        title=f"Test error over {_words(key)}",
        x_label=_words(key),
        y_label="test error",
        series=series,
        log_x=ordered and min(places.values()) > 0.0 and max(places.values()) >= 3.0 * min(places.values()),
        log_y=min(errors) > 0.0 and max(errors) > 30.0 * min(errors),
        x_names=() if ordered else tuple(short(value) for value in values),
    )


# --- keys and their values -------------------------------------------------------------------------------------------


def _swept(rows: Iterable[Row]) -> list[str]:
    """Keys with several values among the points; a key that some points do not use is no value of it."""
    seen: dict[str, set[str]] = {}
    for row in rows:
        for key, value in row["config"].items():
            seen.setdefault(key, set()).add(compact(value))
    found = [key for key, values in seen.items() if len(values) > 1]
    return sorted(found, key=lambda key: (_FIRST.index(key) if key in _FIRST else len(_FIRST), key))


def _values(rows: Iterable[Row], key: str) -> list[Any]:
    """Of a key, each once, numbers first and in order."""
    found = {compact(row["config"][key]): row["config"][key] for row in rows if key in row["config"]}
    return sorted(found.values(), key=_rank)


def _rank(value: Any) -> tuple[int, float, str]:
    return (0, float(value), "") if _is_number(value) else (1, 0.0, compact(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= 1e300


def _words(key: str) -> str:
    return key.replace("_", " ")


def _setting(key: str, value: Any) -> str:
    """temperature 0.1, relu."""
    return short(value) if isinstance(value, str) else f"{_words(key)} {short(value)}"


def short(value: Any) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, list):
        return ",".join(map(short, value))
    text = f"{value:g}" if isinstance(value, float) or (isinstance(value, int) and value >= 1e6) else str(value)
    return text if len(text) <= _VALUE else f"...{text[3 - _VALUE :]}"


def _result(row: Row, name: str = "test_error") -> float | tuple[float, float] | None:
    """A number of a result that converged, with its standard error where it has one."""
    if _state(row) != "done" or row["result"] is None:
        return None
    value, error = (_number(row["result"].get(key)) for key in (name, f"{name}_se"))
    return value if value is None or error is None else (value, error)


def _number(value: Any) -> float | None:
    return value if _is_number(value) else None


# --- curves ----------------------------------------------------------------------------------------------------------


def _by_line(rows: Iterable[Row], keys: Sequence[str]) -> dict[str, list[Row]]:
    """The rows of each line by its name; between neighbours the first key varies."""
    order = sorted(rows, key=lambda row: [_rank(row["config"].get(key)) for key in reversed(keys)])
    found: dict[str, list[Row]] = {}
    for row in order:
        name = ", ".join(_setting(key, row["config"][key]) for key in keys if key in row["config"])
        found.setdefault(name or "test error", []).append(row)
    return found


def _series(name: str, colour: int, key: str, rows: Iterable[Row], places: Mapping[str, float]) -> Series:
    """One line, with a gap where a point failed or did not converge."""
    found: dict[float, Row] = {}
    for row in rows:
        place = places.get(compact(row["config"][key]))
        if place is not None:
            found.setdefault(place, row)
    x = sorted(found)
    cells = [_result(found[place]) for place in x]
    errors = [cell if isinstance(cell, tuple) else (cell, None) for cell in cells]
    sampled = any(se is not None for _, se in errors)
    infinite = all(row["config"].get("method") == "infinite" for row in found.values())
    kind = "points" if sampled else "limit" if infinite else "line"
    se = tuple(error for _, error in errors) if sampled else ()
    return Series(name, kind, colour, tuple(x), tuple(y for y, _ in errors), se)


# --- tables and text -------------------------------------------------------------------------------------------------


def _points(rows: Sequence[Row], keys: Sequence[str], status: Status) -> Table:
    """One line a point, in the order of its keys."""
    ordered = sorted(rows, key=lambda row: [_rank(row["config"].get(key)) for key in keys])[:_MOST_ROWS]
    results = [name for name in _RESULTS if any(_result(row, name) is not None for row in ordered)]
    title = f"The {len(rows)} points done so far" if status.left else f"All {len(rows)} points"
    if status.stored > len(ordered):
        title = f"The first {len(ordered)} of {status.stored} points; fw.sweeps.read(folder) gives all"
    columns = ("status", *map(_words, (*keys, *results)), "what to know")
    lines = [
        (
            _state(row),
            *(short(row["config"].get(key)) for key in keys),
            *(_result(row, name) for name in results),
            textwrap.shorten(row["reason"] or "", _REASON, placeholder="…"),
        )
        for row in ordered
    ]
    return Table(title, columns, tuple(lines))


def _state(row: Row) -> str:
    return "not converged" if row["status"] == "done" and row["converged"] is False else str(row["status"])
