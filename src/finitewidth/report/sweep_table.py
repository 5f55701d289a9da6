"""What a sweep came to: its first points as a table of 80 columns, and how far it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from finitewidth.display.tables import NOTHING, filled, number, with_error
from finitewidth.runs.durations import format_time
from finitewidth.sweeps import Status

SHOWN = 30  # points of a table
RESULTS = ("test error", "bias", "variance", "train error", "accuracy", "R-hat")
_WIDTH = 80


def sweep_table(rows: Sequence[dict[str, Any]], swept: Sequence[str], status: Status) -> Table:
    """One line a point: the keys that are swept, then as many results as 80 columns hold.

    ``rows``: with ``config``, ``status`` and ``result``, as ``fw.sweeps.rows`` gives them.
    """
    results = [name for name in RESULTS if any(cell(row, name) != NOTHING for row in rows)] or ["test error"]
    keys = list(swept) or ["method"]
    while True:
        table = _table(rows, keys, results, status)
        if Console(width=1000).measure(table).maximum <= _WIDTH or len(keys) + len(results) == 2:
            return table
        if len(results) > 1:
            results.pop()
        else:
            keys.pop()


def _table(rows: Sequence[dict[str, Any]], keys: list[str], results: list[str], status: Status) -> Table:
    heading = f"The first {len(rows)} of {status.planned} points" if status.planned > len(rows) else "All points"
    columns = [*(key.replace("_", " ") for key in keys), *results]
    cells = ([*(short(row["config"].get(key)) for key in keys), *(cell(row, name) for name in results)] for row in rows)
    return filled(heading, columns, cells)


def short(value: Any) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, list):
        return ",".join(map(short, value))
    text = f"{value:g}" if isinstance(value, float) or (isinstance(value, int) and value >= 1e6) else str(value)
    return text if len(text) <= 24 else f"...{text[-21:]}"


def cell(row: dict[str, Any], name: str) -> str:
    if row["result"] is None:
        return row["status"] if name == "test error" else NOTHING
    key = {"R-hat": "r_hat"}.get(name, name.replace(" ", "_"))
    value, error = (number_of(row["result"].get(k)) for k in (key, f"{key}_se"))
    if value is None:
        return NOTHING
    if name == "accuracy":
        return f"{100 * value:.1f} %"
    if name == "R-hat":
        return f"{value:.3f}"
    doubtful = "?" if row["converged"] is False and name == "test error" else ""
    return (number(value) if error is None else with_error(value, error)) + doubtful


def number_of(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) and abs(value) < 1e300 else None


def status_lines(status: Status) -> list[str]:
    """How far a sweep is, a line a fact."""
    lines = [
        f"{status.state}: {status.done} of {status.planned} points done"
        + (f", {status.failed} failed" if status.failed else "")
        + (f", {status.left} left" if status.left else "")
    ]
    if status.rate is not None:
        left = f", {format_time(status.seconds_left)} left" if status.seconds_left and status.left else ""
        lines.append(f"{status.rate:.3g} points/s over {format_time(status.seconds)}{left} ({status.client})")
    if status.not_converged:
        lines.append(f"NOT CONVERGED: {status.not_converged} points of this run; see column converged")
    if status.stored > status.done + status.failed:
        lines.append(f"{status.stored - status.done - status.failed} more points of other plans are in the folder")
    lines += [f"failed ({count}): {reason}" for reason, count in status.failures.items()]
    return lines
