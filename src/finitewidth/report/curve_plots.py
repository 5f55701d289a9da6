"""The figure of ``fw.Curve``: the answer with its interval, and what it rests on."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from finitewidth.report.plots import (
    COLOURS,
    COLUMN,
    LIMIT,
    LIMIT_DASHES,
    PAGE,
    drawing,
    error_bars,
    legend_of_figure,
    log_axis,
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
        _draw_answer(ax, rows)
        _draw_theory(ax, rows)
        ax.axhline(rows[0].infinite_test_error, color=_GREY, ls=LIMIT_DASHES, lw=1.0, label=LIMIT, zorder=2)
        _draw_samples(ax, rows)
        _finish(ax, rows)
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


def _draw_answer(ax: Axes, rows: Sequence[CurveRow]) -> None:
    x = [_width(row) for row in rows]
    low, value, high = (
        np.array([getattr(row, name) for row in rows]) for name in ("test_error_low", "test_error", "test_error_high")
    )
    if len(rows) == 1:
        bars = [value - low, high - value]
        ax.errorbar(x, value, bars, color=COLOURS[0], fmt="s", label="test error, 90 % interval", zorder=4)
        return
    ax.plot(x, value, color=COLOURS[0], marker=".", ms=4, label="test error", zorder=4)
    ax.fill_between(x, low, high, color=COLOURS[0], alpha=0.25, lw=0, label="90 % interval", zorder=1)


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
    sampled = [row for row in rows if row.sampled_test_error is not None]
    if sampled:
        value, error = (
            np.array([getattr(row, name) for row in sampled], dtype=float)
            for name in ("sampled_test_error", "sampled_test_error_se")
        )
        x = np.array([_width(row) for row in sampled]) * (_APART if len(rows) == 1 else 1.0)
        error_bars(ax, x, value, error, COLOURS[1], "sampled, ± 2 SE", ms=4.5)


def _finish(ax: Axes, rows: Sequence[CurveRow]) -> None:
    x = [_width(row) for row in rows]
    log_axis(ax, x)
    if len(x) == 1:
        ax.set_xticks(x)
        ax.set_xticks([], minor=True)
        ax.set_xlim(x[0] / 2.0, x[0] * 2.0)
    ax.set_xlabel("width $N$ of the first layer" if isinstance(rows[0].width, tuple) else "width $N$")
    ax.set_ylabel("test error")
    _note(ax, f"rests on {rows[0].rests_on}; exact at infinite width")


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
