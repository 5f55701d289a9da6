"""Figures. Every plot takes ``ax=`` and returns the Axes; pyplot, backend and global settings stay alone."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finitewidth import checks
from finitewidth.checks.exceptions import InputError, MissingExtraError
from finitewidth.report.tangents import draw_tangent, slope_of
from finitewidth.runs.checkpoints import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import ErrorbarContainer
    from matplotlib.figure import Figure

    from finitewidth.inference.methods import Row
    from finitewidth.theory.expansion import FirstOrderSlopes

STYLE = Path(__file__).with_name("style.mplstyle")
COLUMN, PAGE = 3.4, 7.0  # inches: one column of a journal, a full page
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe, Ito 2008
DASHES: tuple[Any, ...] = ("-", (0, (6, 1, 1, 1)), (0, (1, 1)), (0, (9, 1.5)), (0, (5, 1, 1, 1, 1, 1)))
MARKS = ("o", "s", "^", "D", "v")  # with dashes, lines and points differ in grey
QUANTITIES = ("test_error", "train_error", "bias", "variance", "accuracy", "log_evidence")
_LABELS = {"log_evidence": "log evidence (nats)", "n_train": "training points $P$", "width": "width $N$"}
_LABELS |= {"temperature": "temperature $T$"}
_SYMBOLS = {"width": "$N$", "temperature": "$T$", "n_train": "$P$"}
INVERSE = "1 / width"  # an axis: 1/N of the first hidden layer
_NAMED = 5  # layers up to which each is in the legend
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
    n_axes: int = 1, width: float = COLUMN, height: float = 2.6, lines: int = 1
) -> tuple[Figure, list[Axes]]:
    """A figure of ``n_axes`` axes side by side, in so many lines, in our style; sizes in inches."""
    require_matplotlib()
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(width, height))
        return figure, list(np.ravel(figure.subplots(lines, n_axes)))


@contextlib.contextmanager
def drawing(ax: Axes | None, height: float = 2.6) -> Iterator[Axes]:
    """The axes to draw into: those given, which keep the style of their owner, or new ones in ours."""
    if ax is not None:
        yield ax
        return
    with style():
        yield new_figure(1, COLUMN, height)[1][0]


def save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure whole or not at all; the ending of the name is its format."""
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind)
    with style():
        return write_whole(path, lambda draft: figure.savefig(draft, format=kind, metadata=metadata))


def learning_curve(
    curve: Iterable[Any],
    ax: Axes | None = None,
    infinite: Row | float | Iterable[Row] | None = None,
    sampled: Iterable[Any] | None = None,
    quantity: str = "test_error",
    split: bool = True,
    tangent: FirstOrderSlopes | None = None,
) -> Axes:
    """One quantity of a learning curve against what varies: width, temperature or number of training points.

    curve: rows of ``fw.learning_curve``; rows that did not converge leave a gap.
    infinite: the infinite-width limit (a number, a row, or rows), drawn dashed.
    sampled: objects or mappings with the position on the axis, the quantity and ``<quantity>_se``, drawn with error
        bars of two standard errors; grey inside where ``converged`` is False.
    split: fill the test error with its two parts, bias and variance.
    tangent: of ``fw.first_order``, drawn to the one line of a curve over widths, in a wedge of two standard errors.
    Rows that vary in more than one way become one line each.
    Raises InputError for an empty curve or an unknown quantity, MissingExtraError without matplotlib.
    """
    checks.choice("quantity", quantity, QUANTITIES)
    rows = list(curve)
    if not rows:
        raise InputError("a learning curve without rows", "at least one row", "give widths")
    axis, groups = _lines(rows)
    split = split and quantity == "test_error" and len(groups) == 1
    with drawing(ax) as ax:
        for k, ((name, group), own) in enumerate(zip(groups, cycle(COLOURS), strict=False)):
            draw_line(ax, group, axis, quantity, split, name or "theory", own, DASHES[k % len(DASHES)])
            if axis == "width":
                _draw_limit(ax, _limit(infinite, group), quantity, own)
            draw_sampled(ax, _samples(sampled, group, axis), quantity, own, axis=axis, mark=MARKS[k % len(MARKS)])
        _finish(ax, axis, quantity, rows, from_zero=split, room=sampled is not None)
        if len(groups) == 1:
            _draw_tangent(ax, axis, quantity, rows, tangent)
    return ax


def order_parameters(curve: Iterable[Any], ax: Axes | None = None) -> Axes:
    """Q against what varies: of every layer, or the mean of its diagonal over patches and outputs.

    The thin line is its value at infinite width, 1. Rows that did not converge leave a gap.
    Raises InputError for rows without order parameters, MissingExtraError without matplotlib.
    """
    rows = [row for row in curve if row.order_parameters]
    if not rows:
        raise InputError("a curve without order parameters", "rows at finite width", "use method='saddle'")
    axis, groups = _lines(rows)
    layers, what = _layers(rows)
    lines = [(name, group, layer) for name, group in groups for layer in layers]
    with drawing(ax) as ax:
        for k, (name, group, layer) in enumerate(lines):
            _draw_q(ax, sorted(group, key=lambda row: position(row, axis)), axis, layer, k, name)
        ax.axhline(1.0, color="0.5", lw=0.6, zorder=1)
        _finish(ax, axis, what, rows, from_zero=False, room=True)
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


def sampled_figure(rows: Iterable[Any], tangent: FirstOrderSlopes | None = None) -> Figure:
    """Sampled test and train error with bars of two standard errors, against width or temperature."""
    return two_panels(partial(sampled_curve, list(rows), tangent=tangent))


def sampled_curve(
    rows: Iterable[Any],
    ax: Axes | None = None,
    quantity: str = "test_error",
    tangent: FirstOrderSlopes | None = None,
) -> Axes:
    """One quantity of sampled rows against what varies, with bars of two standard errors; see ``learning_curve``.

    Raises InputError for no rows or an unknown quantity, MissingExtraError without matplotlib.
    """
    checks.choice("quantity", quantity, QUANTITIES)
    rows = list(rows)
    if not rows:
        raise InputError("no sampled rows", "at least one row", "give widths")
    axis, groups = _lines(rows)
    with drawing(ax) as ax:
        for k, ((name, group), own) in enumerate(zip(groups, cycle(COLOURS), strict=False)):
            draw_sampled(ax, group, quantity, own, name or "sampled", axis, MARKS[k % len(MARKS)])
        _finish(ax, axis, quantity, rows, from_zero=False, room=True)
        if len(groups) == 1:
            _draw_tangent(ax, axis, quantity, rows, tangent)
    return ax


def two_panels(draw: Callable[..., Any]) -> Figure:
    """Test error beside train error, a page wide, with one legend; ``draw(ax=, quantity=)`` draws either."""
    figure, axes = new_figure(2, PAGE, 2.8)
    with style():
        for ax, quantity, letter in zip(axes, ("test_error", "train_error"), "ab", strict=True):
            draw(ax=ax, quantity=quantity)
            panel(ax, letter)
        legend_of_figure(figure, axes[:1])
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
    if len(found) > 1 and found[-1] < 100 * found[0]:
        ax.set_xticks(found[:: max(1, len(found) // 4)])
        ax.set_xticks([], minor=True)
    if found and found[0] >= 1 and found[-1] <= 1e5:
        ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter("")


def legend_above(ax: Axes, **options: Any) -> None:
    """A legend over the curves, inside the axes, which are made higher for it."""
    names = ax.get_legend_handles_labels()[1]
    columns = 2 if len(names) <= 6 else 3
    share = min(0.5, 0.1 * -(-len(names) // columns) + 0.03)  # of the height of the axes
    turned, back = (np.log, np.exp) if ax.get_yscale() == "log" else (np.asarray, np.asarray)
    low, high = turned(ax.get_ylim())
    ax.set_ylim(*back([low, low + (high - low) / (1.0 - share)]))
    ax.legend(loc="upper left", ncols=columns, columnspacing=1.2, borderaxespad=0.1, **options)


def panel(ax: Axes, letter: str) -> None:
    """(a), (b), ... at the upper left, outside the axes."""
    ax.set_title(f"({letter})", loc="left")


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
        (", ".join(_equals(n, v) for n, v in zip(varying[1:], key, strict=True)), group)
        for key, group in groups.items()
    ]
    return axis, named


def label_of(quantity: str) -> str:
    """What an axis of it is called."""
    return _LABELS.get(quantity, quantity.replace("_", " "))


def _equals(name: str, value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}"
    return f"{_SYMBOLS[name]} = {text}"


def _samples(sampled: Iterable[Any] | None, group: list[Any], axis: str) -> list[Any]:
    """The samples that belong to a line: equal in all that varies between lines, as far as they say."""
    fixed = [name for name in ("width", "temperature", "n_train") if name != axis]
    return [p for p in sampled or () if all(_of(p, n, getattr(group[0], n)) == getattr(group[0], n) for n in fixed)]


def position(row: Any, axis: str) -> float:
    """Where a row is on an axis: "width" (of several the geometric mean), ``INVERSE``, "temperature" or "n_train"."""
    value = _of(row, "width" if axis == INVERSE else axis)
    if axis == INVERSE:
        return 1.0 / (value[0] if isinstance(value, (tuple, list)) else value)
    return float(np.exp(np.mean(np.log(value)))) if isinstance(value, tuple) else float(value)


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


def _draw_tangent(ax: Axes, axis: str, quantity: str, rows: list[Any], tangent: FirstOrderSlopes | None) -> None:
    """At the widths shown."""
    if axis == "width" and tangent is not None and len({position(row, axis) for row in rows}) > 1:
        shift = position(rows[0], axis) * position(rows[0], INVERSE)  # where layers differ, N is that of the first
        low, high = ax.get_xlim()
        draw_tangent(ax, slope_of(tangent, quantity), (shift / high, shift / low), lambda inverse: shift / inverse)


def _layers(rows: Sequence[Any]) -> tuple[Sequence[int | None], str]:
    """The layers that have an order parameter each (None: a mean is shown), and what the axis is called."""
    first = next((row for row in rows if row.converged), rows[0])
    q = first.order_parameters
    if len(q) != first.depth or not np.isclose(np.mean(q), first.mean_order_parameter):  # a matrix, or one Q a patch
        return [None], "mean of $Q_{ii}$"
    if len(q) > 1 and all(np.allclose(row.order_parameters, row.order_parameters[0]) for row in rows if row.converged):
        return [None], "$Q$ of every layer"  # the product closure at equal widths
    return range(len(q)), "$Q$"


def _draw_q(ax: Axes, rows: list[Any], axis: str, layer: int | None, k: int, name: str) -> None:
    mean = [row.mean_order_parameter if layer is None else row.order_parameters[layer] for row in rows]
    y = np.where([row.converged for row in rows], mean, np.nan)
    several = layer is not None and rows[0].depth > 1
    labelled = not several or rows[0].depth <= _NAMED or layer in (0, rows[0].depth - 1)
    parts = [name, f"$Q_{{{(layer or 0) + 1}}}$" if several else ""]
    label = ", ".join(part for part in parts if part) or "theory"
    look: dict[str, Any] = {"color": COLOURS[k % len(COLOURS)], "ls": DASHES[k % len(DASHES)], "marker": "o"}
    ax.plot([position(row, axis) for row in rows], y, label=label if labelled else None, ms=3, zorder=3, **look)


def _limit(infinite: Any, group: list[Any]) -> Row | float | None:
    """The row (or number) of the limit that belongs to a line."""
    if infinite is None or isinstance(infinite, (int, float)) or hasattr(infinite, "converged"):
        return infinite
    keys = ("temperature", "n_train")
    found = [row for row in infinite if all(getattr(row, k) == getattr(group[0], k) for k in keys)]
    return found[0] if found else None


def _draw_limit(ax: Axes, limit: Row | float | None, quantity: str, colour: str) -> None:
    """A dashed line; the first one in the axes is named, the others tell themselves apart by colour."""
    if limit is None:
        return
    value = limit if isinstance(limit, (int, float)) else values_of([limit], quantity)[0]
    if np.isfinite(value):
        named = LIMIT in ax.get_legend_handles_labels()[1]
        ax.axhline(value, color=colour, ls=LIMIT_DASHES, lw=1.0, label=None if named else LIMIT, zorder=2)


def _finish(ax: Axes, axis: str, quantity: str, rows: list[Any], from_zero: bool, room: bool) -> None:
    places = sorted({position(row, axis) for row in rows})
    log_axis(ax, places)
    ax.set_xlabel(_LABELS[axis])
    ax.set_ylabel(label_of(quantity))
    if from_zero:
        ax.set_ylim(bottom=0.0)
    if len(places) > 1:
        margin = (places[-1] / places[0]) ** (0.04 if room else 0.0)  # room for whole markers
        ax.set_xlim(places[0] / margin, places[-1] * margin)


def _of(point: Any, name: str, default: Any = None) -> Any:
    return point.get(name, default) if isinstance(point, dict) else getattr(point, name, default)
