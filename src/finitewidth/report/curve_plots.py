"""The figure of ``fw.Curve``: the answer with its interval, and what it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from finitewidth.report.plots import (
    COLOURS,
    COLUMN,
    PAGE,
    draw_sampled,
    drawing,
    learning_curve,
    legend_of_figure,
    new_figure,
    position,
    style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from finitewidth.curves.on_demand import CurveRow


def on_demand(rows: Sequence[CurveRow], ax: Axes | None = None) -> Axes:
    """Test error of one curve against width: its 90 % interval as a band, samples with bars of two standard errors.

    The thin line is the action alone, the dashed one infinite width. Raises MissingExtraError without matplotlib.
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
    return ax


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
