"""The figure of ``fw.Curve``: the answer with its interval, and what it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from finitewidth.report.plots import COLOURS, COLUMN, drawing, error_bars, legend_above, log_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from finitewidth.curves.on_demand import CurveRow


def on_demand(rows: Sequence[CurveRow], ax: Axes | None = None) -> Axes:
    """Test error against width, with 90 % intervals: the band; samples with bars of two standard errors.

    The thin line is the action alone, the dashed one infinite width. Raises MissingExtraError without matplotlib.
    """
    rows = sorted(rows, key=_width)
    x = [_width(row) for row in rows]
    low, value, high, action = (
        np.array([getattr(row, name) for row in rows])
        for name in ("test_error_low", "test_error", "test_error_high", "theory_test_error")
    )
    with drawing(ax, 3.0) as ax:
        if len(rows) > 1:
            ax.fill_between(x, low, high, color=COLOURS[0], alpha=0.22, lw=0, label="90 %", zorder=1)
            ax.plot(x, value, color=COLOURS[0], label="test error", zorder=4)
            ax.plot(x, action, color="0.35", lw=0.7, ls=(0, (1, 1)), label="theory alone", zorder=3)
        else:
            bars = [[value[0] - low[0]], [high[0] - value[0]]]
            ax.errorbar(x, value, bars, color=COLOURS[0], fmt="s", label="test error, 90 %", zorder=4)
            ax.plot(x, action, color="0.35", marker="x", ls="none", label="theory alone", zorder=3)
        ax.axhline(
            rows[0].infinite_test_error, color="0.35", ls=(0, (4, 2.2)), lw=1.0, label="infinite width", zorder=2
        )
        sampled = [row for row in rows if row.sampled_test_error is not None]
        if sampled:
            errors, deviations = (
                np.array([getattr(row, name) for row in sampled], dtype=float)
                for name in ("sampled_test_error", "sampled_test_error_se")
            )
            error_bars(ax, [_width(row) for row in sampled], errors, deviations, COLOURS[1], "sampled", ms=4)
        log_axis(ax, x)
        ax.set_xlabel(f"width $N$\n{rows[0].rests_on}; right at infinite width")
        ax.set_ylabel("test error")
        legend_above(ax)
    return ax


def on_demand_figure(rows: Sequence[CurveRow]) -> Figure:
    """One panel for each temperature and number of training points."""
    from finitewidth.report.plots import new_figure, panel, style

    groups: dict[tuple[float, int], list[CurveRow]] = {}
    for row in rows:
        groups.setdefault((row.temperature, row.n_train), []).append(row)
    figure, axes = new_figure(len(groups), max(1.3 * COLUMN, COLUMN * len(groups)), 3.2)
    with style():
        for ax, ((temperature, n_train), group), letter in zip(axes, groups.items(), "abcdefghijkl", strict=False):
            on_demand(group, ax)
            if len(groups) > 1:
                panel(ax, letter)
                ax.set_title(f"$T$ = {temperature:g}, $P$ = {n_train}", loc="right", fontsize="small")
    return figure


def _width(row: CurveRow) -> int:
    return row.width[0] if isinstance(row.width, tuple) else row.width
