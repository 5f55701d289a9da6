"""Figures against 1/N: an error or the log evidence, with its exact tangent at infinite width.

The axis is linear in 1/N, so that the first order is a straight line, and named by widths. Wedges and bars are two
standard errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from finitewidth import checks
from finitewidth.checks.exceptions import InputError
from finitewidth.curves import learning_curve
from finitewidth.curves.selection import Selection
from finitewidth.data import Dataset
from finitewidth.report.plots import (
    COLOURS,
    COLUMN,
    DASHES,
    INVERSE,
    LIMIT,
    MARKS,
    PAGE,
    QUANTITIES,
    draw_line,
    draw_sampled,
    drawing,
    label_of,
    legend_of_figure,
    new_figure,
    panel,
    position,
    style,
    values_of,
)
from finitewidth.report.tangents import draw_tangent, slope_of
from finitewidth.theory.expansion import FirstOrderSlopes, Slope, first_order
from finitewidth.theory.expansion.evidence import FAR, layers
from finitewidth.theory.expansion.slopes import proportions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = np.ndarray
_APART = 0.09  # of the axis, between the names of two widths
_FAR = 0.5  # change of an error up to which its tangent is shown whatever the curve does
_NEURONS = 20_000  # a layer, of the tangents of a selection


def against_inverse_width(
    curve: Iterable[Any],
    slopes: FirstOrderSlopes,
    ax: Axes | None = None,
    quantity: str = "test_error",
    sampled: Iterable[Any] | None = None,
) -> Axes:
    """One quantity of a curve over widths against 1/N, with the exact tangent at infinite width.

    curve: rows of ``fw.learning_curve`` at one temperature and training-set size; rows without a result leave a gap,
        and the interval of method "first-order" is a band. slopes: of ``fw.first_order`` on the same data. sampled: as
        for ``plots.learning_curve``.
    Raises InputError for no rows, an unknown quantity, rows of several temperatures or sizes, and widths that have
    another proportion than those of ``slopes``; MissingExtraError without matplotlib.
    """
    checks.choice("quantity", quantity, QUANTITIES)
    rows, points = list(curve), list(sampled or ())
    _require_one_line(rows, slopes)
    with drawing(ax) as ax:
        _draw_interval(ax, rows, quantity)
        draw_line(ax, rows, INVERSE, quantity, False, f"method {rows[0].method}", COLOURS[0], DASHES[0])
        draw_sampled(ax, points, quantity, COLOURS[1], axis=INVERSE)
        slope = slope_of(slopes, quantity)
        _finish(ax, [rows, points], quantity, [slope])
        _draw_limit(ax, slope, "black")
    return ax


def first_order_figure(curve: Iterable[Any], slopes: FirstOrderSlopes, sampled: Iterable[Any] | None = None) -> Figure:
    """Test error beside log evidence against 1/N, a page wide; see ``against_inverse_width``."""
    rows = list(curve)
    figure, axes = new_figure(2, PAGE, 2.8)
    with style():
        for ax, quantity, points in zip(axes, ("test_error", "log_evidence"), (sampled, None), strict=True):
            against_inverse_width(rows, slopes, ax, quantity, points)
        _compose(figure, axes)
    return figure


def selection_figure(chosen: Selection, test: Dataset | None = None) -> Figure:
    """Wider or deeper: log evidence of every depth tried against 1/N, with its exact tangent at infinite width.

    Points are candidates, each with its own temperature and precisions; what was optimised does not change the tangent.
    test: beside it the test error, at the temperature and precisions that are best at infinite width. Raises InputError
    where there is no first order (``chosen.evidence_slopes`` is empty), MissingExtraError without matplotlib.
    """
    if not chosen.evidence_slopes:
        given = f"a selection of {type(chosen.network).__name__} whose evidence slope is not known"
        raise InputError(given, "networks that fw.first_order serves", "plot chosen.table")
    figure, axes = new_figure(1 if test is None else 2, COLUMN if test is None else PAGE, 2.8)
    with style():
        draw_candidates(chosen, axes[0])
        if test is not None:
            _draw_errors(chosen, test, axes[1])
        _compose(figure, axes)
    return figure


def draw_candidates(chosen: Selection, ax: Axes) -> Axes:
    """The first panel of ``selection_figure``."""
    slopes = {depth: slope.as_slope for depth, slope in chosen.evidence_slopes.items()}
    groups = {depth: _candidates(chosen, depth) for depth in slopes}
    for k, (depth, rows) in enumerate(groups.items()):
        _draw_depth(ax, rows, "log_evidence", depth, k)
    _finish(ax, groups.values(), "log_evidence", slopes.values())
    for k, slope in enumerate(slopes.values()):
        _draw_limit(ax, slope, COLOURS[k % len(COLOURS)], MARKS[k % len(MARKS)])
    return ax


# --- parts -----------------------------------------------------------------------------------------------------------


def _candidates(chosen: Selection, depth: int) -> list[Any]:
    """Those that the limit of a depth belongs to: of its activations and proportions."""
    limit = chosen.limits[depth].network
    rows = [row for row in chosen.table if row.depth == depth and row.network.activations == limit.activations]
    return [row for row in rows if proportions(row.network.widths) == proportions(limit.widths)]


def _draw_errors(chosen: Selection, test: Dataset, ax: Axes) -> None:
    train, curves, slopes = chosen.solution.train, [], []
    for k, depth in enumerate(chosen.evidence_slopes):
        limit = chosen.limits[depth]
        networks = [limit.network.with_widths(row.network.widths) for row in _candidates(chosen, depth)]
        rows = [learning_curve(net, train, test, temperature=limit.temperature)[0] for net in networks]
        _draw_depth(ax, rows, "test_error", depth, k)
        curves.append(rows)
        found = first_order(limit.network, train, test, limit.temperature, neurons=_NEURONS)
        slopes.append(found.test_error)
    _finish(ax, curves, "test_error", slopes)
    for k, slope in enumerate(slopes):
        _draw_limit(ax, slope, COLOURS[k % len(COLOURS)], MARKS[k % len(MARKS)])


def _draw_depth(ax: Axes, rows: Sequence[Any], quantity: str, depth: int, k: int) -> None:
    draw_line(ax, list(rows), INVERSE, quantity, False, layers(depth), COLOURS[k % len(COLOURS)], "-")
    ax.lines[-1].set(marker=MARKS[k % len(MARKS)], mfc="white")


def _draw_interval(ax: Axes, rows: Sequence[Any], quantity: str) -> None:
    """Of method "first-order"."""
    if quantity == "test_error" and all(hasattr(row, "test_error_low") for row in rows):
        rows = sorted(rows, key=lambda row: position(row, INVERSE))
        low, high = (values_of(rows, f"test_error_{end}") for end in ("low", "high"))
        x = [position(row, INVERSE) for row in rows]
        ax.fill_between(x, low, high, color=COLOURS[0], alpha=0.25, lw=0, label="interval", zorder=2)


def _draw_limit(ax: Axes, slope: Slope | None, colour: str, mark: str = "D") -> None:
    """The tangent, and where it starts."""
    if slope is None:
        return
    draw_tangent(ax, slope, (0.0, ax.get_xlim()[1]), lambda inverse: inverse, colour)
    named = LIMIT in ax.get_legend_handles_labels()[1]
    look: dict[str, Any] = {"color": colour, "marker": mark, "ls": "none", "clip_on": False, "zorder": 6}
    ax.plot([0.0], [slope.infinite], label=None if named else LIMIT, **look)


def _finish(ax: Axes, groups: Iterable[Sequence[Any]], quantity: str, slopes: Iterable[Slope | None]) -> None:
    """Limits that hold all points, infinite width and the tangents as far as they may be believed; ticks at widths."""
    x = sorted({position(row, INVERSE) for group in groups for row in group})
    for slope in slopes:
        if slope is not None:
            most = FAR if quantity == "log_evidence" else _FAR * abs(slope.infinite)
            ends = slope.slope * x[-1] + 2.0 * slope.slope_se * x[-1] * np.array([-1.0, 1.0])
            ax.update_datalim([(0.0, slope.infinite + change) for change in (0.0, *np.clip(ends, -most, most))])
    ax.margins(y=0.1)
    ax.autoscale_view()
    ax.set_xlim(0.0, 1.04 * x[-1])
    named: list[float] = []
    for place in reversed(x):
        if place > _APART * x[-1] and (not named or named[-1] - place > _APART * x[-1]):
            named.append(place)
    ax.set_xticks([0.0, *named], ["∞", *(f"{1.0 / place:.0f}" for place in named)])
    ax.set_xticks([place for place in x if place not in named], minor=True)
    ax.set_xlabel("width $N$ (axis linear in $1/N$)")
    ax.set_ylabel(label_of(quantity))


def _compose(figure: Figure, axes: Sequence[Axes]) -> None:
    if len(axes) > 1:
        for ax, letter in zip(axes, "ab", strict=False):
            panel(ax, letter)
    legend_of_figure(figure, axes)


def _require_one_line(rows: Sequence[Any], slopes: FirstOrderSlopes) -> None:
    if not rows:
        raise InputError("a curve without rows", "at least one row", "give widths")
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
