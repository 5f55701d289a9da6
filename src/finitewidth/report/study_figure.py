"""The figure of a study: its panels side by side, theory as lines, samples with bars of two standard errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from finitewidth.report.findings import Findings, Panel, Series
from finitewidth.report.plots import (
    COLOURS,
    DASHES,
    MARKS,
    PAGE,
    error_bars,
    legend_of_figure,
    log_axis,
    new_figure,
    style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_LONGEST = 16  # characters of a name along the axis


def study_figure(findings: Findings) -> Figure:
    """One page wide, one axes a panel; raises MissingExtraError without matplotlib."""
    count = len(findings.panels)
    figure, axes = new_figure(count, max(PAGE, 3.2 * count), 3.1)
    with style():
        for ax, one, letter in zip(axes, findings.panels, "abcdef", strict=False):
            draw_panel(ax, one)
            ax.set_title(f"({letter}) {one.title}", loc="left")
        legend_of_figure(figure, axes)
    return figure


def draw_panel(ax: Axes, one: Panel, apart: bool = False) -> None:
    """All series of a panel, with its scales and labels.

    apart: dashes and marks besides colours, a mark at every point of a line, as it may stand between gaps.
    """
    for series in one.series:
        _draw(ax, series, not one.x_names, apart)
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
    ax.set_xlabel(plain_text(one.x_label))
    ax.set_ylabel(plain_text(one.y_label))


def plain_text(text: str) -> str:
    """Text from outside for matplotlib, which sets what stands between dollar signs as formulas."""
    return text.replace("$", r"\$")


def _name_places(ax: Axes, names: tuple[str, ...]) -> None:
    short = [name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…" for name in names]
    upright = len(names) * max(map(len, short)) > 40
    ax.set_xticks(range(len(names)), [plain_text(name) for name in short], rotation=90 if upright else 0)
    ax.set_xlim(-0.5, len(names) - 0.5)


def _draw(ax: Axes, series: Series, joined: bool, apart: bool) -> None:
    colour, name = COLOURS[series.colour % len(COLOURS)], plain_text(series.name)
    y = np.array([np.nan if value is None else value for value in series.y])
    if series.kind == "points":
        se = np.array([0.0 if value is None else value for value in series.se]) if series.se else None
        error_bars(ax, series.x, y, se, colour, name)
        return
    look: dict[str, Any] = {"ls": DASHES[series.colour % len(DASHES)] if apart else "-"}
    if series.kind == "limit":
        look = {"ls": (0, (4, 2.2)), "lw": 1.0}
    if apart or not joined:
        look |= {"marker": MARKS[series.colour % len(MARKS)] if apart else "o", "ms": 3 if joined else 4}
    if not joined:
        look["ls"] = "none"
    ax.plot(series.x, y, color=colour, label=name, zorder=3, **look)
