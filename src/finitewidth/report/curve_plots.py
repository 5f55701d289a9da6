"""The figure of ``fw.Curve``: the answer with its interval, and what it rests on."""

from __future__ import annotations

import math
import textwrap
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
    panel,
    style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from finitewidth.curves.on_demand import CurveRow

_GREY = "0.35"  # of what the answer is compared with
_APART = 1.06  # factor of the width between the points of a single width
_SMALLER = 0.78  # letters of the note, over those of the label above it
_SHORTEST = 12  # characters in a line of the note


def on_demand(rows: Sequence[CurveRow], ax: Axes | None = None) -> Axes:
    """Test error of one curve against width: its 90 % interval as a band, samples with bars of two standard errors.

    The thin line is the action alone, the dashed one infinite width; a note under the axis says what the curve rests
    on. Of a single width points with bars. Raises MissingExtraError without matplotlib.
    """
    rows = sorted(rows, key=_width)
    with drawing(ax, 3.0) as ax:
        learning_curve(rows, ax, rows[0].infinite_test_error, split=False)
        ax.lines[0].set(marker=".", ms=4)
        _draw_theory(ax, rows)
        _draw_samples(ax, rows)
        if len(rows) == 1:
            ax.set_xticks([_width(rows[0])], [str(_width(rows[0]))])
            ax.set_xticks([], minor=True)
            ax.set_xlim(_width(rows[0]) / 2.0, _width(rows[0]) * 2.0)
        if isinstance(rows[0].width, tuple):
            ax.set_xlabel("width $N$ of the first layer")
        _note(ax, f"rests on {rows[0].rests_on}; exact at infinite width")
    return ax


def on_demand_figure(rows: Sequence[CurveRow]) -> Figure:
    """One panel for each number of training points and temperature, with one legend."""
    groups: dict[tuple[int, float], list[CurveRow]] = {}
    for row in rows:
        groups.setdefault((row.n_train, row.temperature), []).append(row)
    columns = len(groups) if len(groups) < 4 else 2 if len(groups) == 4 else 3
    lines = math.ceil(len(groups) / columns)
    figure, axes = new_figure(columns, 1.3 * COLUMN if columns == 1 else PAGE, 0.4 + 2.7 * lines, lines)
    with style():
        for k, ((n_train, temperature), group) in enumerate(groups.items()):
            on_demand(group, axes[k])
            axes[k].set_title(f"$T = {temperature:g}$, $P = {n_train}$", loc="right", fontsize="medium")
            if len(groups) > 1:
                panel(axes[k], chr(ord("a") + k) if k < 26 else str(k + 1))
            if k % columns:
                axes[k].set_ylabel("")
        for ax in axes[len(groups) :]:
            ax.remove()
        legend_of_figure(figure, axes[: len(groups)])
    return figure


def _draw_theory(ax: Axes, rows: Sequence[CurveRow]) -> None:
    """Of the action alone, where it has a solution."""
    found = [(_width(row), row.theory_test_error) for row in rows if math.isfinite(row.theory_test_error)]
    if not found:
        return
    x, y = zip(*found, strict=True)
    if len(rows) == 1:
        ax.plot(x[0] / _APART, y[0], color=_GREY, marker="x", ls="none", label="theory alone", zorder=3)
    else:
        ax.plot(x, y, color=_GREY, lw=0.7, marker="x" if len(x) == 1 else None, label="theory alone", zorder=3)


def _draw_samples(ax: Axes, rows: Sequence[CurveRow]) -> None:
    beside = _APART if len(rows) == 1 else 1.0
    points = [
        {"width": _width(row) * beside, "y": row.sampled_test_error, "y_se": row.sampled_test_error_se}
        for row in rows
        if row.sampled_test_error is not None
    ]
    draw_sampled(ax, points, "y", COLOURS[1], "sampled, ± 2 SE")


def _note(ax: Axes, text: str) -> None:
    """Below the label of the x axis, in smaller letters, and in as many lines as the width of the axes asks for."""
    label = ax.xaxis.label
    note = ax.annotate(
        text,
        (0.5, 0.0),
        xycoords=label,
        xytext=(0.0, -2.0),
        textcoords="offset points",
        ha="center",
        va="top",
        fontsize=_SMALLER * float(label.get_fontsize()),
        linespacing=1.1,
        annotation_clip=False,
    )
    room, columns = ax.get_window_extent().width, len(text)
    while columns > _SHORTEST and (wide := note.get_window_extent().width) > room:
        columns = max(_SHORTEST, min(columns - 1, int(columns * room / wide)))
        note.set_text(textwrap.fill(text, columns, break_long_words=False, break_on_hyphens=False))


def _width(row: CurveRow) -> int:
    return row.width[0] if isinstance(row.width, tuple) else row.width
