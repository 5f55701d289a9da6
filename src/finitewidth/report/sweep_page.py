"""The page of a sweep, finished or not: its points as a table, and the test error over every key that is swept."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finitewidth import checks, sweeps
from finitewidth.display.tables import NOTHING
from finitewidth.report import html, plots
from finitewidth.report.findings import Cell, Findings, Panel, Series, Table
from finitewidth.report.panels import sweep_figure
from finitewidth.report.sweep_table import RESULTS, cell, number_of, short, status_lines
from finitewidth.sweeps.point import compact
from finitewidth.sweeps.results import plan_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from finitewidth.sweeps import Status

_MOST_POINTS = 20_000  # that a page looks at
_MOST_ROWS, _MOST_PANELS, _MOST_LINES, _MOST_PLACES = 200, 12, 6, 200
_FIRST = ("width", "widths", "depth", "temperature", "n_train", "method")  # columns and panels, then the other keys
_NO_NUMBERS = ("seed",)  # keys that are numbers but have no order
_REASON = 160  # characters
Row = dict[str, Any]


def write_page(folder: str | os.PathLike[str]) -> list[Path]:
    """``report.html`` and ``sweep.png``, ``sweep.pdf`` in the folder of a sweep, from what is stored so far.

    Raises InputError where there is no sweep, or a damaged one; MissingExtraError without matplotlib.
    """
    plots.require_matplotlib()
    place = checks.path("folder", folder)
    status, rows = sweeps.status(place), list(sweeps.rows(place, most=_MOST_POINTS))
    plan = plan_text(place)

    def make() -> tuple[str, Figure | None]:
        found = findings_of(rows, status)
        text = html.document("Sweep", _sections(found, status, rows, place, plan), found)
        return text, sweep_figure(found.panels) if found.panels else None

    return html.write(place, "sweep", make)


def findings_of(rows: Sequence[Row], status: Status) -> Findings:
    """Tables, curves and notes of the points, ``rows`` as ``fw.sweeps.rows`` gives them; there are no claims."""
    keys = _swept(rows)
    panels = [panel for key in keys if (panel := panel_over(key, rows, keys)) is not None]
    tables = (_points(rows, keys, status), _shared(rows, keys)) if rows else ()
    return Findings((), tables, tuple(panels[:_MOST_PANELS]), notes=tuple(_notes(rows, keys, panels, status)))


def panel_over(key: str, rows: Iterable[Row], keys: Sequence[str]) -> Panel | None:
    """Test error against one key; None where no point with that key has a converged result.

    Up to six lines tell other keys apart; those beyond are held at the value with most results, which the title names.
    """
    rows = [row for row in rows if key in row["config"]]
    if not any(_error(row) for row in rows):
        return None
    rows, lines, held = _sliced(key, rows, [other for other in keys if other != key])
    values = _values(rows, key)
    values = values[:: -(-len(values) // _MOST_PLACES)]
    ordered = key not in _NO_NUMBERS and all(_is_number(value) for value in values)
    places = {compact(value): float(value) if ordered else float(k) for k, value in enumerate(values)}
    drawn = [_series(name, k, key, group, places) for k, (name, group) in enumerate(_by_line(rows, lines).items())]
    series = tuple(one for one in drawn if any(y is not None for y in one.y))
    errors = [y for one in series for y in one.y if y is not None]
    if not errors:
        return None
    at = f" at {', '.join(_setting(k, value) for k, value in held.items())}" if held else ""
    return Panel(
        title=f"Test error over {_words(key)}{at}",
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


def _error(row: Row) -> tuple[float, float | None] | None:
    """Test error and its standard error, of a result that converged."""
    result = row["result"]
    if row["status"] != "done" or result is None or row["converged"] is False:
        return None
    value = number_of(result.get("test_error"))
    return None if value is None else (value, number_of(result.get("test_error_se")))


# --- curves ----------------------------------------------------------------------------------------------------------


def _sliced(key: str, rows: list[Row], others: Sequence[str]) -> tuple[list[Row], list[str], dict[str, Any]]:
    """The rows of a panel, the keys that tell its lines apart, and the values at which the others are held.

    The method comes first, then keys of few values; seeds last. A point without a key is at any value of it.
    """
    lines: list[str] = []
    held: dict[str, Any] = {}
    for other in sorted(others, key=lambda k: (k != "method", k == "seed", len(_values(rows, k)))):
        if len(_by_line(rows, [*lines, other])) <= _MOST_LINES:
            lines.append(other)
            continue
        good = [row for row in rows if _error(row)]
        held[other] = max(_values(good, other) or [None], key=lambda value: len(_values(_at(good, other, value), key)))
        rows = _at(rows, other, held[other])
    return rows, lines, held


def _at(rows: Iterable[Row], key: str, value: Any) -> list[Row]:
    return [row for row in rows if row["config"].get(key, value) == value]


def _by_line(rows: Iterable[Row], keys: Sequence[str]) -> dict[str, list[Row]]:
    """The rows of each line by its name."""
    order = sorted(rows, key=lambda row: [_rank(row["config"].get(key)) for key in keys])
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
    errors = [_error(found[place]) or (None, None) for place in x]
    sampled = any(se is not None for _, se in errors)
    infinite = all(row["config"].get("method") == "infinite" for row in found.values())
    kind = "points" if sampled else "limit" if infinite else "line"
    se = tuple(error for _, error in errors) if sampled else ()
    return Series(name, kind, colour, tuple(x), tuple(y for y, _ in errors), se)


# --- tables and text -------------------------------------------------------------------------------------------------


def _points(rows: Sequence[Row], keys: Sequence[str], status: Status) -> Table:
    """One line a point, in the order of its keys."""
    ordered = sorted(rows, key=lambda row: [_rank(row["config"].get(key)) for key in keys])[:_MOST_ROWS]
    results = [name for name in RESULTS if any(cell(row, name) != NOTHING for row in ordered if row["result"])]
    reasons = any(row["reason"] for row in ordered)
    title = f"The {len(rows)} points done so far" if status.left else f"All {len(rows)} points"
    if status.stored > len(ordered):
        title = f"The first {len(ordered)} of {status.stored} points; fw.sweeps.read(folder) gives all"
    columns = ("status", *map(_words, keys), *results, *(["what to know"] if reasons else []))
    lines: list[tuple[Cell, ...]] = []
    for row in ordered:
        config = [short(row["config"].get(key)) for key in keys]
        values = [cell(row, name) if row["result"] else NOTHING for name in results]
        lines.append((_state(row), *config, *values, *([_shortened(row["reason"] or "")] if reasons else [])))
    return Table(title, columns, tuple(lines))


def _state(row: Row) -> str:
    return "not converged" if row["status"] == "done" and row["converged"] is False else str(row["status"])


def _shortened(text: str) -> str:
    return text if len(text) <= _REASON else f"{text[: _REASON - 1]}…"


def _shared(rows: Sequence[Row], keys: Sequence[str]) -> Table:
    """What is the same for all points that use it."""
    config: dict[str, Any] = {}
    for row in rows:
        config |= row["config"]
    fixed = tuple((_words(key), short(config[key])) for key in sorted(config) if key not in keys)
    return Table("The same for all points", ("key", "value"), fixed)


def _notes(rows: Sequence[Row], keys: Sequence[str], panels: Sequence[Panel], status: Status) -> Iterator[str]:
    states = [_state(row) for row in rows]
    missing = [f"{states.count(state)} {text}" for state, text in _STATES.items() if state in states]
    if missing:
        yield f"Of {len(rows)} points {' and '.join(missing)}: gaps in the curves, marked in the table."
    if status.stored > len(rows):
        yield f"Only {len(rows)} of {status.stored} points are looked at here."
    drawn = {panel.x_label for panel in panels}
    if undrawn := [_words(key) for key in keys if _words(key) not in drawn]:
        yield f"No converged result to draw over {', '.join(undrawn)}."
    if any(len(_values(rows, key)) > _MOST_PLACES for key in keys) or len(panels) > _MOST_PANELS:
        yield f"Curves show at most about {_MOST_PLACES} values of a key, and {_MOST_PANELS} keys."


_STATES = {"failed": "failed", "not converged": "did not converge"}


def _sections(found: Findings, status: Status, rows: Sequence[Row], folder: Path, plan: str) -> Iterator[str]:
    over = ", ".join(map(_words, _swept(rows))) or "one point"
    progress = status_lines(replace(status, not_converged=0, rate=None))
    yield html.header("Sweep", f"Sweep over {over}", [*progress, *found.notes])
    if found.panels:
        yield html.curves(found)
    if found.tables:
        yield html.numbers(found)
    command = f"finitewidth sweep plan.yaml --out {shlex.quote(str(folder))}\n\n# plan.yaml\n{plan}"
    prints = sorted({row["data_fingerprint"] for row in rows if row["data_fingerprint"]})
    named = [" and ".join(f"{part[:16]}…" for part in text.split()[:2]) for text in prints]
    more = f", and {len(named) - 3} more" if len(named) > 3 else ""
    versions = {str(k): str(v) for row in rows[-1:] for k, v in (row["versions"] or {}).items()}
    yield f"{html.repeat(command, versions, '; '.join(named[:3]) + more or 'none')}\n</main>"
