"""Figures of infinite width: lazy training against time, learning curves from the spectrum."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from finitewidth.checks.exceptions import InputError
from finitewidth.report.plots import COLOURS, PAGE, drawing, error_bars, log_axis, new_figure, panel, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from finitewidth.theory import SpectralCurve
    from finitewidth.training import LazyCurve

_DASHED = (0, (4, 2.2))


def lazy_training(curve: LazyCurve, ax: Axes | None = None) -> Axes:
    """Train and test error of linearised networks against time, and the limit t -> infinity.

    Raises InputError for a curve without rows, MissingExtraError without matplotlib.
    """
    rows = [row for row in curve if row.time > 0.0]
    if not rows:
        raise InputError("a curve without times above 0", "at least one", "give times")
    times = np.array([row.time for row in rows])
    test, train = [row.test_error for row in rows], [row.train_error for row in rows]
    with drawing(ax) as ax:
        ax.plot(times, test, color=COLOURS[0], label="test error")
        ax.plot(times, train, color=COLOURS[1], label="train error")
        end = curve.limit.test_error
        ax.axhline(end, color=COLOURS[0], ls=_DASHED, lw=1.2, label=r"test error, $t \to \infty$")
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlim(times[0], times[-1])
        ax.set_ylim(bottom=max(0.3 * min(test), min(e for e in train if e > 0.0)))
        ax.set_xlabel("time $t$ (learning rate × steps)")
        ax.set_ylabel("error")
    return ax


def spectral_curve(curve: SpectralCurve, ax: Axes | None = None) -> Axes:
    """Test error against training points: predicted from the spectrum, and regression on random subsets.

    Bars are two standard errors. Raises MissingExtraError without matplotlib.
    """
    rows = sorted(curve, key=lambda row: row.n_train)
    sizes = np.array([row.n_train for row in rows])
    fine = np.geomspace(sizes[0], sizes[-1], 60) if len(sizes) > 1 else sizes
    smooth = [curve.theory.test_error(float(size), curve.ridge, curve.noise) for size in fine]
    with drawing(ax) as ax:
        ax.plot(fine, smooth, color=COLOURS[0], label="from the spectrum")
        if rows[0].sampled_test_error is not None:
            points = [(row.n_train, row.sampled_test_error, row.sampled_test_error_se) for row in rows]
            x, y, se = np.array(points, dtype=float).T
            error_bars(ax, x, y, se, COLOURS[1], "random subsets")
        log_axis(ax, sizes)
        ax.set_yscale("log")
        ax.set_xlabel("training points $P$")
        ax.set_ylabel("test error")
    return ax


def spectral_modes(curve: SpectralCurve, ax: Axes | None = None) -> Axes:
    """Share of the target's power in the leading modes, with the number of modes learned at each size marked."""
    alignment = curve.theory.alignment
    modes = np.arange(1, len(alignment) + 1)
    with drawing(ax) as ax:
        ax.plot(modes, alignment, color=COLOURS[0], label="target alignment")
        learned = {row.n_train: row.modes_learned for row in sorted(curve, key=lambda row: row.n_train)}
        x = list(learned.values())
        y = np.interp(x, modes, alignment)
        ax.plot(x, y, "o", mfc="white", mec=COLOURS[1], label="modes learned", zorder=5)
        for size, place in zip(learned, zip(x, y, strict=True), strict=True):
            ax.annotate(f"$P = {size}$", place, xytext=(4, -11), textcoords="offset points", fontsize=7)
        ax.set_xscale("log")
        ax.set_xlabel("modes")
        ax.set_ylabel("share of the target")
    return ax


def spectral_figure(curve: SpectralCurve) -> Figure:
    """Learning curve and modes side by side, a page wide, the assumption written below."""
    figure, (left, right) = new_figure(2, PAGE, 3.0)
    with style():
        for draw, ax, letter in ((spectral_curve, left, "a"), (spectral_modes, right, "b")):
            draw(curve, ax)
            panel(ax, letter)
            ax.legend()
        figure.supxlabel(curve.assumption, fontsize=6, wrap=True)
    return figure
