"""Tables for people: 80 columns, readable without colour."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from finitewidth.data import Dataset

if TYPE_CHECKING:
    from finitewidth.curves.comparison import ComparedRow
    from finitewidth.inference.methods import Problem, Row

NOTHING = "—"  # stands where there is no result
_READING = "0.0391(6) stands for 0.0391 ± 0.0006, one standard error"
_COLUMNS = 80
_INTERVAL = "90 % interval"
_MEAN_Q = "mean Q: over the layers, or over the diagonal of Q (patches, outputs); --json has all of Q"
_FORMATS = {"Q": ".3g", "mean Q": ".3g", "log evidence": ".2f", "R-hat": ".3f", "ESS": ".0f", "networks": "d"}
_NAMES = {"fc": "fully connected", "cnn": "convolutional", "lcn": "locally connected"}


def title(source: str, train: Dataset, test: Dataset, kind: str, problems: Sequence[Problem]) -> str:
    """Data, architecture and temperature in two lines; in a third, how targets were standardised."""
    network, names = problems[0].network, train.classes or ()
    classes = f", classes {_listed(names)}" if 0 < len(names) <= 4 else f", {len(names)} classes" * bool(names)
    layers = f"{network.depth} hidden layer" + ("s" if network.depth > 1 else "")
    heat = _listed(list(dict.fromkeys(f"{problem.likelihood.temperature:g}" for problem in problems)))
    return (
        f"{source}{classes}: {train.n_points} training points, {test.n_points} test points\n"
        f"{_NAMES.get(kind, type(network).__name__)}, {layers}, {network.activation_names}, "
        f"T = {heat}{_of_targets(train)}"
    )


def _of_targets(train: Dataset) -> str:
    if train.target_scaling is None:
        return ""
    mean, scale = _listed([f"{m:.4g}" for m in train.target_scaling.mean]), train.target_scaling.scale
    return f"\ntarget standardised (mean {mean}, deviation {scale:.4g}): errors in its own units, T not"


def curve(rows: Iterable[Row], heading: str) -> Table:
    """One line a row. What was not converged: no number, or one with ? where it was sampled or trained."""
    rows = list(rows)
    named = ["accuracy"] if any(row.accuracy is not None for row in rows) else []
    several = _several(rows)
    caption = _READING
    if all(hasattr(row, "rests_on") for row in rows):
        variance = [] if several and named else ["variance"]  # test error - bias
        columns = ["width", *several, "test error", _INTERVAL, "bias", *variance, "train error", *named]
        return filled(heading, columns, ([_cell(row, name) for name in columns] for row in rows))
    if all(hasattr(row, "r_hat") for row in rows):
        more = ["R-hat", "ESS"]
    elif all(hasattr(row, "networks") for row in rows):
        more = ["networks"]
    else:
        parameters = max(len(row.order_parameters) for row in rows)
        more = ["Q"] if parameters == 1 else ["mean Q"] if parameters else []
        more += [] if several and named and more else ["log evidence"]
        caption = _MEAN_Q if "mean Q" in more else ""
    variance = [] if several and named and "R-hat" in more else ["variance"]  # test error - bias
    columns = ["width", *several, "test error", "bias", *variance, "train error", *named, *more]
    return filled(heading, columns, ([_cell(row, name) for name in columns] for row in rows), caption or None)


def comparison(rows: Iterable[ComparedRow], heading: str) -> Table:
    """One line a network and method; each is compared with the last of its network."""
    rows = list(rows)
    several = ["T"] if len({row.temperature for row in rows}) > 1 else []
    errors = ("test error", "bias", "train error")  # the variance is what the bias leaves of the test error
    lines = []
    for row in rows:
        for name, one in row.rows.items():
            off = row.difference_of("test_error", name) if name in row.others else None
            apart = [NOTHING if x is None else f"{x:+.1f}" for x in ((off.in_se, off.percent) if off else (None, None))]
            test, *others = [_cell(one, column) for column in errors]
            lines.append([*(_cell(one, column) for column in ("width", *several)), name, test, *apart, *others])
    columns = ["width", *several, "method", errors[0], "off by SE", "off by %", *errors[1:]]
    return filled(heading, columns, lines, _READING)


def filled(heading: str, columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str | None = None) -> Table:
    """A table in our style with these cells; a heading of several words takes several lines."""
    table = Table(
        title=heading,
        caption=caption,
        caption_justify="left",
        caption_style="",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="",
        header_style="",
        pad_edge=False,
    )
    for name in columns:
        table.add_column("\n".join(name.rsplit(" ", 1)), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def inputs(names: Sequence[str]) -> Text:
    """One line with the names of the inputs, as many as have room."""
    line = "".join(c if c.isprintable() else "?" for c in f"Inputs ({len(names)}): {', '.join(names)}")
    return Text(line if len(line) <= _COLUMNS else f"{line[: _COLUMNS - 5].rsplit(', ', 1)[0]}, ...")


def notes(rows: Iterable[Row], infinite: Iterable[Row] | None = None) -> Iterator[Text]:
    """What to know about the rows: those without a result, other minima, the distance to infinite width."""
    rows = list(rows)
    several = _several(rows)
    for row in rows:
        place = ", ".join([f"width {width(row)}", *(f"{name} = {_cell(row, name)}" for name in several)])
        if not row.converged:
            what = "marked ?" if hasattr(row, "test_error_se") else "no result"
            yield Text(f"NOT CONVERGED, {what}: {place}: {row.message}")
        elif row.message not in ("", "converged"):
            yield Text(f"Note: {place}: {row.message}")
    for rests_on in dict.fromkeys(getattr(row, "rests_on", "") for row in rows):
        if rests_on:
            yield Text(f"Rests on {rests_on}; exact at infinite width.")
    yield from _solvers(rows)
    yield from _statements(rows, several)
    for limit in infinite or ():
        yield Text(_against_infinite([r for r in rows if r.temperature == limit.temperature], limit))


def _solvers(rows: list[Any]) -> Iterator[Text]:
    """One line where a Krylov space stood in for the eigendecomposition."""
    found = [row for row in rows if getattr(row, "solver", "exact") == "krylov" and row.converged]
    if found:
        error = 100 * max(row.solver_error for row in found)
        evidence = max(row.log_evidence_error for row in found)
        yield Text(
            f"Solver: Krylov space, not an eigendecomposition; it leaves the test error off by up to {error:.2g} %, "
            f"the log evidence by {evidence:.2g} (99 % intervals)."
        )


def _several(rows: Iterable[Row]) -> list[str]:
    """Temperature and training points, as far as rows differ in them."""
    return [name for name in ("T", "P") if len({_cell(row, name) for row in rows}) > 1]


def _statements(rows: list[Row], several: list[str]) -> Iterator[Text]:
    """One line for every statement of validity, with the rows that share it, and for every slope of the evidence."""
    widths: dict[str, list[str]] = {}
    slopes: dict[str, str] = {}
    for row in rows:
        apart = ", ".join(f"{name} = {_cell(row, name)}" for name in several)
        place = f" ({apart})" if apart else ""
        if (validity := getattr(row, "validity", None)) is not None:
            widths.setdefault(validity.statement, []).append(width(row) + place)
        if (slope := getattr(row, "evidence_slope", None)) is not None:
            slopes[place] = slope.statement  # all widths share it
    for statement, places in widths.items():
        yield Text(f"Validity, width {', '.join(dict.fromkeys(places))}: {statement}")
    for place, statement in slopes.items():
        yield Text(f"Evidence slope at infinite width{place}: {statement}.")


def number(value: float | None) -> str:
    """Four decimals, or three digits and an exponent where they would be lost."""
    if value is None or value != value:
        return NOTHING
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e3 else f"{value:.2e}"


def with_error(value: float, error: float) -> str:
    """1.309(4): value and standard error in its last digit, two digits where the first is a one."""
    if not (0.0 < error < math.inf):
        return number(value)
    power = math.floor(math.log10(error))
    decimals = max(0, 1 - power if round(error / 10.0**power) == 1 else -power)
    if decimals > 7:
        return f"{value:.2e}({error:.0e})"
    return f"{value:.{decimals}f}({round(error * 10**decimals)})"


def width(row: Row) -> str:
    """50, 40-60 (one width a layer), 1e+12, ∞."""
    if row.method == "infinite":
        return "∞"
    sizes = row.width if isinstance(row.width, (list, tuple)) else [row.width]
    return "-".join(str(n) if n < 1e6 else f"{n:.3g}" for n in sizes)


def _cell(row: Any, column: str) -> str:
    sampled = hasattr(row, "test_error_se")  # or trained
    if column == "width":
        return width(row)
    if column == "T":
        return f"{row.temperature:g}"
    if column == "P":
        return str(row.n_train)
    if column == _INTERVAL:
        return f"{number(row.test_error_low)} – {number(row.test_error_high)}"
    if not (row.converged or sampled):
        return NOTHING
    name = {"Q": "mean_order_parameter", "mean Q": "mean_order_parameter", "R-hat": "r_hat"}.get(column, column.lower())
    value = getattr(row, name.replace(" ", "_"), None)
    if value is None or value != value:
        return NOTHING
    if column == "accuracy":
        return f"{100 * value:.{1 if sampled else 2}f} %"
    if sampled and column.endswith("error"):
        return with_error(value, getattr(row, f"{name.replace(' ', '_')}_se")) + ("" if row.converged else "?")
    if column == "ESS" and value >= 9999.5:
        return f"{value / 1000:.0f}k"
    return f"{value:{_FORMATS[column]}}" if column in _FORMATS else number(value)


def _against_infinite(rows: list[Row], limit: Row) -> str:
    text = f"Infinite width (T = {limit.temperature:g}): test error {number(limit.test_error)}"
    solved = [row for row in rows if row.converged]
    if not (solved and limit.converged):
        return text
    row = min(solved, key=lambda r: min(r.width) if isinstance(r.width, tuple) else r.width)
    change = 100 * (row.test_error / limit.test_error - 1)
    side = "above" if change > 0 else "below"
    return f"{text}; width {width(row)} is {abs(change):.2g} % {side} it."


def _listed(items: Sequence[object]) -> str:
    shown = ", ".join(map(str, items[:10]))
    return shown if len(items) <= 10 else f"{shown}, ..."
