"""Figures. Every plot takes ``ax=`` and returns the Axes; pyplot, backend and global settings stay alone."""

from __future__ import annotations

import contextlib
import io
import math
import os
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finitewidth import checks
from finitewidth.checks.exceptions import InputError, MissingExtraError
from finitewidth.runs.checkpoints import write_whole
from finitewidth.theory.expansion.slopes import proportions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import ErrorbarContainer
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

    from finitewidth.curves.on_demand import CurveRow
    from finitewidth.inference.methods import Row
    from finitewidth.theory.expansion import FirstOrderSlopes, Slope

STYLE = Path(__file__).with_name("style.mplstyle")
COLUMN, PAGE = 3.4, 7.0  # inches: one column of a journal, a full page
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe, Ito 2008
DASHES: tuple[Any, ...] = ("-", (0, (6, 1, 1, 1)), (0, (1, 1)), (0, (9, 1.5)), (0, (5, 1, 1, 1, 1, 1)))
MARKS = ("o", "s", "^", "D", "v")  # with dashes, lines and points differ in grey
QUANTITIES = ("test_error", "train_error", "bias", "variance", "accuracy", "log_evidence", "mean_order_parameter")
INVERSE = "1 / width"  # an axis: 1/N of the first hidden layer
_LABELS = {
    "log_evidence": "log evidence (nats)",
    "mean_order_parameter": "mean of $Q$",
    "n_train": "training points $P$",
    "temperature": "temperature $T$",
    "width": "width $N$",
    INVERSE: "width $N$ (axis linear in $1/N$)",
}
_SYMBOLS = {"width": "$N$", "temperature": "$T$", "n_train": "$P$"}
_APART = 0.09  # of that axis, between the names of two widths
_FAR, FAR = 0.5, 15.0  # change of an error, relative, and of the evidence, nats, up to which a tangent is shown
TANGENT = "exact to first order"
LIMIT, LIMIT_DASHES = "infinite width", (0, (4, 2.2))


def require_matplotlib() -> None:
    """Raise MissingExtraError without matplotlib."""
    if find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "plot", "a figure")


@contextlib.contextmanager
def style() -> Iterator[None]:
    """finitewidth's settings for print, inside a with-block only."""
    require_matplotlib()
    from matplotlib import style as matplotlib_style

    with matplotlib_style.context(str(STYLE)):
        yield


def new_figure(
    n_axes: int = 1, width: float = COLUMN, height: float = 2.6, columns: int | None = None
) -> tuple[Figure, list[Axes]]:
    """A figure in our style. width: of the whole, in inches. height: of each line of ``columns`` axes (None: all)."""
    require_matplotlib()
    from matplotlib.figure import Figure

    columns = min(n_axes, columns or n_axes)
    lines = math.ceil(n_axes / columns)
    with style():
        figure = Figure(figsize=(width, height * lines))
        axes = list(np.ravel(figure.subplots(lines, columns)))
    for ax in axes[n_axes:]:
        ax.remove()
    return figure, axes[:n_axes]


@contextlib.contextmanager
def drawing(ax: Axes | None, height: float = 2.6) -> Iterator[Axes]:
    """The axes to draw into: those given, which keep the style of their owner, or new ones in ours, with a legend."""
    if ax is not None:
        yield ax
        return
    with style():
        (ours,) = new_figure(1, COLUMN, height)[1]
        yield ours
        if ours.get_legend_handles_labels()[1]:
            ours.legend()


def save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure whole or not at all; the ending of the name is its format."""
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind)
    with style():
        return write_whole(path, lambda draft: figure.savefig(draft, format=kind, metadata=metadata))


def svg_of(figure: Figure) -> str:
    """A figure for a page: letters as outlines, as the reader has no font; the same text in every run."""
    import matplotlib

    text = io.StringIO()
    with style(), matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "finitewidth"}):
        figure.savefig(text, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return text.getvalue()[text.getvalue().index("<svg") :]


def learning_curve(
    curve: Iterable[Any],
    ax: Axes | None = None,
    infinite: float | Iterable[Row] | None = None,
    sampled: Iterable[Any] | None = None,
    quantity: str = "test_error",
    split: bool = True,
    tangent: FirstOrderSlopes | None = None,
    inverse: bool = False,
) -> Axes:
    """One quantity of a learning curve against what varies: width, temperature or number of training points.

    curve: rows of ``fw.learning_curve``; of theory they make a line, with a gap where one did not converge and a band
        where they have an interval; sampled or trained ones are points with bars of two standard errors.
    infinite: the infinite-width limit, a number or rows, drawn dashed.
    sampled: objects or mappings with the position on the axis, the quantity and ``<quantity>_se``, drawn with error
        bars of two standard errors; grey inside where ``converged`` is False.
    split: fill the test error with its two parts, bias and variance.
    tangent: of ``fw.first_order``, drawn to the one line of a curve over widths, in a wedge of two standard errors.
    inverse: of a curve over widths, draw it against 1/N, from infinite width on, where the tangent is a straight line;
        the axes hold the tangent as far as it may be believed.
    Rows that vary in more than one way become one line each.
    Raises InputError for an empty curve, an unknown quantity, and a tangent of another temperature, training set or
    proportion of layers than the line; MissingExtraError without matplotlib.
    """
    checks.choice("quantity", quantity, QUANTITIES)
    rows = list(curve)
    if not rows:
        raise InputError("a learning curve without rows", "at least one row", "give widths")
    axis, groups = _lines(rows)
    axis = INVERSE if inverse and axis == "width" else axis
    of_networks = all(hasattr(row, f"{quantity}_se") and not hasattr(row, "test_error_low") for row in rows)
    points = sampled is None and of_networks  # sampled or trained
    split = split and quantity == "test_error" and len(groups) == 1 and not points
    with drawing(ax) as ax:
        for k, ((name, group), own) in enumerate(zip(groups, cycle(COLOURS), strict=False)):
            mark = MARKS[k % len(MARKS)]
            if points:
                draw_sampled(ax, group, quantity, own, name or "sampled", axis, mark)
            else:
                label = name or ("test error" if group[0].method == "curve" else "theory")
                draw_line(ax, group, axis, quantity, split, label, own, DASHES[k % len(DASHES)])
                _draw_interval(ax, group, axis, quantity, own)
            if axis in ("width", INVERSE):
                draw_limit(ax, _limit(infinite, group[0], quantity), own, axis)
            draw_sampled(ax, _samples(sampled, group, axis), quantity, own, axis=axis, mark=mark)
        finish(ax, axis, quantity, rows, split, room=points or sampled is not None or rows[0].method == "curve")
        if tangent is not None and axis in ("width", INVERSE) and len(groups) == 1 and len(rows) > 1:
            _require_one_line(rows, tangent)
            draw_tangents(ax, [slope_of(tangent, quantity)], ["black"], axis, quantity)
    return ax


def learning_curve_figure(
    curve: Iterable[Any], infinite: Any = None, sampled: Any = None, tangent: FirstOrderSlopes | None = None
) -> Figure:
    """Test error with its two parts beside train error, a page wide."""
    return two_panels(partial(learning_curve, list(curve), infinite=infinite, sampled=sampled, tangent=tangent))


def comparison_figure(rows: Iterable[Any], tangent: FirstOrderSlopes | None = None) -> Figure:
    """Theory (lines) and samples (points with bars of two standard errors): test error beside train error."""
    rows = list(rows)
    return learning_curve_figure([row.theory for row in rows], None, [row.sample for row in rows], tangent)


def two_panels(draw: Callable[..., Any], quantities: Sequence[str] = ("test_error", "train_error")) -> Figure:
    """Two quantities side by side, a page wide, with one legend; ``draw(ax=, quantity=)`` draws either."""
    figure, axes = new_figure(2, PAGE, 2.8)
    with style():
        for ax, quantity, letter in zip(axes, quantities, "ab", strict=True):
            draw(ax=ax, quantity=quantity)
            ax.set_title(f"({letter})", loc="left")
        legend_of_figure(figure, axes)
    return figure


def on_demand(rows: Sequence[CurveRow], ax: Axes | None = None) -> Axes:
    """Test error of one curve against width: its 90 % interval as a band, samples with bars of two standard errors.

    The thin line is the action alone, the dashed one infinite width; under the axis stands what the curve rests on.
    Raises MissingExtraError without matplotlib.
    """
    rows = sorted(rows, key=lambda row: position(row, "width"))
    widths = [position(row, "width") for row in rows]
    points = [
        {"width": row.width, "y": row.sampled_test_error, "y_se": row.sampled_test_error_se}
        for row in rows
        if row.sampled_test_error is not None
    ]
    with drawing(ax, 3.0) as ax:
        learning_curve(rows, ax, rows[0].infinite_test_error, split=False)
        ax.lines[0].set(marker=".", ms=4)
        theory = [row.theory_test_error for row in rows]
        ax.plot(widths, theory, color="0.35", lw=0.7, marker="x", ms=3, label="theory alone", zorder=3)
        draw_sampled(ax, points, "y", COLOURS[1], "sampled, ± 2 SE")
        note = textwrap.wrap(f"rests on {rows[0].rests_on}; exact at infinite width", _characters_below(ax))
        ax.set_xlabel("\n".join([ax.get_xlabel(), *note]))
    return ax


def _characters_below(ax: Axes) -> int:
    """That fit into a line below the axes; a letter is about half as wide as it is high."""
    points = ax.get_window_extent().width * 72.0 / ax.figure.dpi
    return max(12, int(points / (0.5 * float(ax.xaxis.label.get_fontsize()))))


def on_demand_figure(rows: Sequence[CurveRow]) -> Figure:
    """One panel for each number of training points and temperature, with one legend."""
    groups: dict[tuple[int, float], list[CurveRow]] = {}
    for row in rows:
        groups.setdefault((row.n_train, row.temperature), []).append(row)
    figure, axes = new_figure(len(groups), PAGE if len(groups) > 1 else 1.3 * COLUMN, 2.9, columns=3)
    with style():
        for ax, ((n_train, temperature), group) in zip(axes, groups.items(), strict=True):
            on_demand(group, ax)
            ax.set_title(f"$T = {temperature:g}$, $P = {n_train}$", loc="left")
        legend_of_figure(figure, axes)
    return figure


def legend_of_figure(figure: Figure, axes: Iterable[Axes]) -> None:
    """A legend of what these axes show, each name once, over all axes, in as few rows as its width allows."""
    named: dict[str, Any] = {}
    for ax in axes:
        for handle, name in zip(*ax.get_legend_handles_labels(), strict=True):
            named.setdefault(name, handle)
    names = list(named)
    for rows in range(1, len(names) + 1):
        columns = math.ceil(len(names) / rows)
        legend = figure.legend([named[name] for name in names], names, loc="outside upper center", ncols=columns)
        if rows == len(names) or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def draw_sampled(
    ax: Axes,
    sampled: Iterable[Any],
    quantity: str,
    colour: str,
    label: str = "sampled",
    axis: str = "width",
    mark: str = "o",
) -> None:
    """Points with bars of two standard errors; see ``learning_curve``."""
    points = list(sampled)
    for converged, face, text in ((True, "white", label), (False, "0.75", f"{label}, not converged")):
        found = [p for p in points if bool(_of(p, "converged", True)) == converged]
        if not found:
            continue
        y, se = (np.array([_of(p, name) for p in found], dtype=float) for name in (quantity, f"{quantity}_se"))
        named = text in ax.get_legend_handles_labels()[1]
        x = [position(p, axis) for p in found]
        error_bars(ax, x, y, se, colour, None if named else text, fmt=mark, mfc=face)


def error_bars(ax: Axes, x: Any, y: Any, se: Any, colour: str, label: str | None, **look: Any) -> ErrorbarContainer:
    """Samples: open marks with bars of two standard errors, over all lines."""
    usual: dict[str, Any] = {"fmt": "o", "mfc": "white", "mew": 1.1, "elinewidth": 1.1, "zorder": 5}
    return ax.errorbar(x, y, None if se is None else 2.0 * se, mec=colour, ecolor=colour, label=label, **(usual | look))


def log_axis(ax: Axes, places: Iterable[float]) -> None:
    """A logarithmic x axis, with ticks at some of the places where decades alone would leave it without labels."""
    found = sorted(set(places))
    ax.set_xscale("log")
    if found and found[-1] < 100 * found[0]:
        ax.set_xticks(found[:: max(1, len(found) // 4)])
        ax.set_xticks([], minor=True)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter("")


def legend_above(ax: Axes, **options: Any) -> Legend:
    """A legend over the curves, inside the axes, which are made higher for it."""
    names = ax.get_legend_handles_labels()[1]
    columns = 2 if len(names) <= 6 else 3
    share = min(0.5, 0.1 * -(-len(names) // columns) + 0.03)  # of the height of the axes
    turned, back = (np.log, np.exp) if ax.get_yscale() == "log" else (np.asarray, np.asarray)
    low, high = turned(ax.get_ylim())
    ax.set_ylim(*back([low, low + (high - low) / (1.0 - share)]))
    return ax.legend(loc="upper left", ncols=columns, columnspacing=1.2, borderaxespad=0.1, **options)


# --- parts --------------------------------------------------------------------------------------------


def _lines(rows: list[Any]) -> tuple[str, list[tuple[str, list[Any]]]]:
    """What runs along the axis, and the rows of each line with the name of what tells the lines apart."""
    values = {name: len({getattr(row, name) for row in rows}) for name in ("width", "temperature", "n_train")}
    varying = [name for name in sorted(values, key=lambda name: -values[name]) if values[name] > 1]
    axis = varying[0] if varying else "width"
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for row in rows:
        groups.setdefault(tuple(getattr(row, name) for name in varying[1:]), []).append(row)
    named = [
        (", ".join(equals(n, v) for n, v in zip(varying[1:], key, strict=True)), group) for key, group in groups.items()
    ]
    return axis, named


def equals(name: str, value: Any) -> str:
    """Of a width, a temperature or a number of points: $N$ = 40, 60."""
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}"
    return f"{_SYMBOLS[name]} = {text}"


def _samples(sampled: Iterable[Any] | None, group: list[Any], axis: str) -> list[Any]:
    """The samples that belong to a line: equal in all that varies between lines, as far as they say."""
    fixed = [name for name in ("width", "temperature", "n_train") if name != axis]
    return [p for p in sampled or () if all(_of(p, n, getattr(group[0], n)) == getattr(group[0], n) for n in fixed)]


def position(row: Any, axis: str) -> float:
    """Where a row is on an axis: "width" (of the first hidden layer), ``INVERSE``, "temperature" or "n_train"."""
    value = _of(row, "width" if axis == INVERSE else axis)
    value = float(value[0] if isinstance(value, (tuple, list)) else value)
    return 1.0 / value if axis == INVERSE else value


def values_of(rows: Sequence[Any], quantity: str) -> np.ndarray:
    """The quantity of each row, NaN (a gap) where it did not converge or does not exist."""
    found = [getattr(row, quantity) if row.converged else None for row in rows]
    return np.array([np.nan if value is None else value for value in found], dtype=float)


def draw_line(
    ax: Axes, rows: list[Any], axis: str, quantity: str, split: bool, label: str, colour: str, dashes: Any
) -> None:
    """A quantity of rows along an axis, a gap where one did not converge."""
    rows = sorted(rows, key=lambda row: position(row, axis))
    x, y = [position(row, axis) for row in rows], values_of(rows, quantity)
    mark = "o" if len(rows) == 1 else None
    ax.plot(x, y, color=colour, ls=dashes, label=label, marker=mark, zorder=3)
    if split and len(rows) > 1:
        bias = values_of(rows, "bias")
        ax.fill_between(x, 0.0, bias, color=colour, alpha=0.28, lw=0, label="bias", zorder=1)
        ax.fill_between(x, bias, y, color=colour, alpha=0.12, lw=0, label="variance", zorder=1)


def _draw_interval(ax: Axes, rows: list[Any], axis: str, quantity: str, colour: str) -> None:
    """A band, of a single row a bar, where all rows have an interval."""
    if not all(hasattr(row, f"{quantity}_low") for row in rows):
        return
    rows = sorted(rows, key=lambda row: position(row, axis))
    low, high = (values_of(rows, f"{quantity}_{end}") for end in ("low", "high"))
    x = [position(row, axis) for row in rows]
    label = "90 % interval" if rows[0].method == "curve" else "interval"
    if len(rows) == 1:
        ax.vlines(x, low, high, color=colour, lw=1.1, label=label)
    else:
        ax.fill_between(x, low, high, color=colour, alpha=0.25, lw=0, label=label, zorder=1)


# --- the exact first order in 1/N -------------------------------------------------------------------------------------


def slope_of(slopes: FirstOrderSlopes, quantity: str) -> Slope | None:
    """Of an error, the accuracy or the log evidence; None for the accuracy where targets are no labels."""
    if quantity == "log_evidence":
        return slopes.evidence_slope.as_slope
    found: Slope | None = getattr(slopes, quantity)
    return found


def draw_tangents(
    ax: Axes, slopes: Iterable[Slope | None], colours: Iterable[str], axis: str, quantity: str = "test_error"
) -> None:
    """``infinite + slope / N`` against the width or 1/N, dotted, in a wedge of two standard errors; one is named.

    Against 1/N the axes are made to hold the tangents as far as they may be believed; against the width they keep their
    limits. Nothing is drawn beyond them, where legends stand.
    """
    found = [(slope, colour) for slope, colour in zip(slopes, colours, strict=True) if slope is not None]
    ends = ax.get_xlim()
    x = np.geomspace(*ends, 200) if axis == "width" else np.linspace(0.0, ends[1], 200)
    inverse = 1.0 / x if axis == "width" else x
    if axis == INVERSE:
        for slope, _ in found:
            _hold(ax, slope, inverse[-1], FAR if quantity == "log_evidence" else _FAR * abs(slope.infinite))
    low, high = ax.get_ylim()
    for slope, colour in found:
        y, wide = slope.infinite + slope.slope * inverse, 2.0 * slope.slope_se * inverse
        below, above = np.clip(y - wide, low, high), np.clip(y + wide, low, high)
        ax.fill_between(x, below, above, where=above > below, color=colour, alpha=0.16, lw=0, zorder=2)
        shown = np.where((y >= low) & (y <= high), y, np.nan)
        named = TANGENT in ax.get_legend_handles_labels()[1]
        ax.plot(x, shown, color=colour, ls=(0, (1, 1.3)), lw=1.3, label=None if named else TANGENT, zorder=4)
    ax.set_ylim(low, high)


def _hold(ax: Axes, slope: Slope, inverse: float, most: float) -> None:
    """Limits that hold a tangent at 1/N, up to that change, and its standard error."""
    ends = inverse * (slope.slope + 2.0 * slope.slope_se * np.array([-1.0, 1.0]))
    low, high = ax.get_ylim()
    wanted = slope.infinite + np.clip(ends, -most, most)
    ax.set_ylim(min(low, *wanted), max(high, *wanted))


def _require_one_line(rows: Sequence[Any], slopes: FirstOrderSlopes) -> None:
    """InputError for rows of another temperature, training set or proportion of layers than the slopes."""
    for name in ("temperature", "n_train"):
        found = sorted({getattr(row, name) for row in rows})
        if found != [getattr(slopes, name)]:
            what = f"rows of {name} = {', '.join(f'{value:g}' for value in found)}"
            raise InputError(what, f"that of the slopes, {getattr(slopes, name):g}", "draw them one by one")
    for row in rows:
        widths = row.width if isinstance(row.width, tuple) else (row.width,) * row.depth
        if proportions(widths) != proportions(slopes.network.widths):
            given = f"widths {', '.join(map(str, widths))} with slopes of {', '.join(map(str, slopes.network.widths))}"
            raise InputError(given, "one proportion", "ask fw.first_order for a network of these proportions")


# --- limits and axes --------------------------------------------------------------------------------------------------


def _limit(infinite: float | Iterable[Row] | None, like: Any, quantity: str) -> float:
    """The limit that belongs to a line, of which a row is given; NaN where there is none."""
    if infinite is None or isinstance(infinite, (int, float)):
        return math.nan if infinite is None else infinite
    found = [row for row in infinite if (row.temperature, row.n_train) == (like.temperature, like.n_train)]
    return float(values_of(found, quantity)[0]) if found else math.nan


def draw_limit(ax: Axes, value: float, colour: str, axis: str, mark: str = "D") -> None:
    """A dashed line, on an axis of 1/N a mark; the first one in the axes is named, others differ in colour."""
    if not math.isfinite(value):
        return
    label = None if LIMIT in ax.get_legend_handles_labels()[1] else LIMIT
    if axis == INVERSE:
        ax.plot([0.0], [value], color=colour, marker=mark, ls="none", clip_on=False, label=label, zorder=6)
    else:
        ax.axhline(value, color=colour, ls=LIMIT_DASHES, lw=1.0, label=label, zorder=2)


def finish(ax: Axes, axis: str, quantity: str, rows: list[Any], from_zero: bool = False, room: bool = False) -> None:
    """Scale, labels and ends of the axes. from_zero: of y. room: for whole markers at the ends."""
    places = sorted({position(row, axis) for row in rows})
    ax.set_ylabel(_LABELS.get(quantity, quantity.replace("_", " ")))
    ax.set_xlabel(_LABELS[axis])
    if axis == INVERSE:
        _name_widths(ax, places)
        return
    log_axis(ax, places)
    if from_zero:
        ax.set_ylim(bottom=0.0)
    if len(places) > 1:
        margin = (places[-1] / places[0]) ** (0.04 if room else 0.0)  # room for whole markers
        ax.set_xlim(places[0] / margin, places[-1] * margin)


def _name_widths(ax: Axes, places: Sequence[float]) -> None:
    """From infinite width on, an axis linear in 1/N with ticks at the widths that have room for their names."""
    ax.margins(y=0.1)
    ax.set_xlim(0.0, 1.04 * places[-1])
    named: list[float] = []
    for place in reversed(places):
        if place > _APART * places[-1] and (not named or named[-1] - place > _APART * places[-1]):
            named.append(place)
    ax.set_xticks([0.0, *named], ["∞", *(f"{1.0 / place:.0f}" for place in named)])
    ax.set_xticks([place for place in places if place not in named], minor=True)


def _of(point: Any, name: str, default: Any = None) -> Any:
    return point.get(name, default) if isinstance(point, dict) else getattr(point, name, default)
