"""Panels of studies and sweeps, drawn by matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from finitewidth.report.findings import Findings, Panel, Series
from finitewidth.report.plots import (
    COLOURS,
    DASHES,
    LIMIT_DASHES,
    MARKS,
    PAGE,
    error_bars,
    legend_above,
    legend_of_figure,
    log_axis,
    new_figure,
    style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def study_figure(findings: Findings) -> Figure:
    """The panels side by side under one legend; raises MissingExtraError without matplotlib."""
    count = len(findings.panels)
    figure, axes = new_figure(count, max(PAGE, 3.2 * count), 3.1)
    with style():
        for ax, one, letter in zip(axes, findings.panels, "abcdef", strict=False):
            draw_panel(ax, one)
            ax.set_title(f"({letter}) {one.title}", loc="left")
        legend_of_figure(figure, axes)
    return figure


def sweep_figure(panels: Sequence[Panel]) -> Figure:
    """Panels below one another, a page wide, each with its legend."""
    figure, axes = new_figure(len(panels), PAGE, 2.9, columns=1)
    with style():
        for ax, one, letter in zip(axes, panels, "abcdefghijkl", strict=False):
            draw_panel(ax, one, apart=True)
            ax.set_title(f"({letter}) {_plain(one.title)}", loc="left", wrap=True)
            if len(one.series) > 1:
                legend_above(ax, fontsize=7).set_in_layout(False)  # names of any length
    return figure


def draw_panel(ax: Axes, one: Panel, apart: bool = False) -> None:
    """All series of a panel, with its scales and labels.

    apart: dashes and marks besides colours, a mark at every point of a line, as it may stand between gaps.
    """
    for series in one.series:
        _draw(ax, one, series, apart)
    if one.x_names:
        _name_places(ax, one.x_names)
    elif one.log_x:
        log_axis(ax, (x for series in one.series for x in series.x))
    if one.log_y:
        ax.set_yscale("log")
    if one.diagonal:
        values = [v for series in one.series for v in (*series.x, *series.y) if v is not None]
        ends = (min(values), max(values))
        ax.plot(ends, ends, color="0.6", lw=0.8, zorder=1)
    ax.set_xlabel(_plain(one.x_label))
    ax.set_ylabel(_plain(one.y_label))


def _plain(text: str) -> str:
    """Text from outside for matplotlib, which sets what stands between dollar signs as formulas."""
    return text.replace("$", r"\$")


def _name_places(ax: Axes, names: tuple[str, ...]) -> None:
    upright = sum(map(len, names)) > 40
    ax.set_xticks(range(len(names)), list(map(_plain, names)), rotation=90 if upright else 0)
    ax.set_xlim(-0.5, len(names) - 0.5)


def _draw(ax: Axes, panel: Panel, series: Series, apart: bool) -> None:
    colour, name = COLOURS[series.colour % len(COLOURS)], _plain(series.name)
    y = np.array([np.nan if value is None else value for value in series.y], dtype=float)
    if series.kind == "points":
        se = np.array([0.0 if value is None else value for value in series.se]) if series.se else None
        error_bars(ax, series.x, y, se, colour, name)
        return
    look: dict[str, Any] = {"ls": "-"}
    if apart:
        look = {"ls": DASHES[series.colour % len(DASHES)], "marker": MARKS[series.colour % len(MARKS)], "ms": 3}
    if series.kind == "limit":
        look |= {"ls": LIMIT_DASHES, "lw": 1.0}
    if panel.x_names:
        look["ls"] = "none"
    ax.plot(series.x, y, color=colour, label=name, zorder=3, **look)
