"""The figure of a study: its panels side by side, theory as lines, samples with bars of two standard errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from finitewidth.report.findings import Findings, Panel, Series
from finitewidth.report.plots import COLOURS, PAGE, legend_of_figure, new_figure, style

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
        named: dict[str, Any] = {}
        for ax in axes:
            for handle, name in zip(*ax.get_legend_handles_labels(), strict=True):
                named.setdefault(name, handle)
        legend_of_figure(figure, list(named.values()), list(named))
    return figure


def draw_panel(ax: Axes, one: Panel) -> None:
    """All series of a panel, with its scales and labels."""
    for series in one.series:
        _draw(ax, series, joined=not one.x_names)
    if one.x_names:
        _name_places(ax, one.x_names)
    elif one.log_x:
        ax.set_xscale("log")
        places = sorted({x for series in one.series for x in series.x})
        if len(places) > 1 and places[-1] < 100 * places[0]:  # decades alone would leave the axis without labels
            ax.set_xticks(places[:: max(1, len(places) // 4)])
            ax.set_xticks([], minor=True)
        ax.xaxis.set_major_formatter("{x:g}")
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


def _draw(ax: Axes, series: Series, joined: bool) -> None:
    colour, name = COLOURS[series.colour % len(COLOURS)], plain_text(series.name)
    y = np.array([np.nan if value is None else value for value in series.y])
    if series.kind == "points":
        se = np.array([0.0 if value is None else value for value in series.se]) if series.se else None
        bars = None if se is None else 2 * se
        ax.errorbar(series.x, y, bars, fmt="o", mfc="white", mec=colour, ecolor=colour, label=name, zorder=5)
        return
    look: dict[str, Any] = {"ls": (0, (4, 2.2)), "lw": 1.0} if series.kind == "limit" else {}
    if not joined:
        look = {"ls": "none", "marker": "o"}
    ax.plot(series.x, y, color=colour, label=name, zorder=3, **look)
