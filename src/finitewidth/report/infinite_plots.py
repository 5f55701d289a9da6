"""Figures of infinite width: lazy training against time, learning curves from the spectrum."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from finitewidth.checks.exceptions import InputError
from finitewidth.report.plots import COLOURS, LIMIT_DASHES, drawing, error_bars, log_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from finitewidth.theory import SpectralCurve
    from finitewidth.training import LazyCurve


def lazy_training(curve: LazyCurve, ax: Axes | None = None) -> Axes:
    """Train and test error of linearised networks against time, the limit t -> infinity, the Bayesian posterior.

    Raises InputError for a curve without rows, MissingExtraError without matplotlib.
    """
    rows = [row for row in curve if row.time > 0.0]
    if not rows:
        raise InputError("a curve without times above 0", "at least one", "give times")
    times = np.array([row.time for row in rows])
    test, train = [row.test_error for row in rows], [row.train_error for row in rows]
    t = curve.temperature
    with drawing(ax) as ax:
        ax.plot(times, test, color=COLOURS[0], label="test error")
        ax.plot(times, train, color=COLOURS[1], label="train error")
        ax.axhline(curve.limit.test_error, color=COLOURS[0], ls=LIMIT_DASHES, label=r"test error, $t \to \infty$")
        ax.axhline(curve.bayesian.test_error, color=COLOURS[2], ls=":", label=f"Bayesian test error, $T = {t:g}$")
        ax.loglog()
        ax.set_xlim(times[0], times[-1])
        ax.set_ylim(bottom=max(0.3 * min(*test, curve.bayesian.test_error), min(e for e in train if e > 0.0)))
        ax.set(xlabel="time $t$ (learning rate × steps)", ylabel="error")
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
        ax.set(xlabel="training points $P$", ylabel="test error")
    return ax
