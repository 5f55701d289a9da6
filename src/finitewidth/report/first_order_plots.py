"""Figures against 1/N: errors and log evidence of curves and candidates, with exact tangents at infinite width.

Wedges and bars are two standard errors.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle
from typing import TYPE_CHECKING, Any

from finitewidth.checks.exceptions import InputError
from finitewidth.curves.selection import Selection
from finitewidth.report.plots import (
    COLOURS,
    INVERSE,
    MARKS,
    draw_limit,
    draw_line,
    draw_tangents,
    finish,
    learning_curve,
    legend_of_figure,
    new_figure,
    slope_of,
    style,
    two_panels,
)
from finitewidth.theory.expansion import FirstOrderSlopes
from finitewidth.theory.expansion.evidence import layers
from finitewidth.theory.expansion.slopes import proportions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def first_order_figure(curve: Iterable[Any], slopes: FirstOrderSlopes) -> Figure:
    """Test error beside log evidence against 1/N, with the exact tangents at infinite width, a page wide.

    curve: rows of ``fw.learning_curve`` at one temperature and training-set size; the interval of method "first-order"
    is a band. slopes: of ``fw.first_order`` on the same data.
    Raises InputError for rows that are not those of the slopes, MissingExtraError without matplotlib.
    """
    rows = list(curve)

    def draw(quantity: str, ax: Axes) -> None:
        limit = slope_of(slopes, quantity)
        infinite = None if limit is None else limit.infinite
        learning_curve(rows, ax, infinite, None, quantity, split=False, tangent=slopes, inverse=True)

    return two_panels(draw, ("test_error", "log_evidence"))


def selection_figure(chosen: Selection) -> Figure:
    """Wider or deeper: log evidence of every depth tried against 1/N, with its exact tangent at infinite width.

    Points are candidates, each with its own temperature and precisions; what was optimised does not change the tangent.
    Raises InputError where there is no first order (``chosen.evidence_slopes`` is empty), MissingExtraError without
    matplotlib.
    """
    if not chosen.evidence_slopes:
        given = f"a selection of {type(chosen.network).__name__} whose evidence slope is not known"
        raise InputError(given, "networks that fw.first_order serves", "plot chosen.table")
    figure, (ax,) = new_figure(height=2.8)
    found = {depth: _candidates(chosen, depth) for depth in chosen.evidence_slopes}
    slopes = [slope.as_slope for slope in chosen.evidence_slopes.values()]
    colours = [COLOURS[k % len(COLOURS)] for k in range(len(found))]
    with style():
        for (depth, rows), colour, mark, slope in zip(found.items(), colours, cycle(MARKS), slopes, strict=False):
            draw_line(ax, rows, INVERSE, "log_evidence", False, layers(depth), colour, "-")
            ax.lines[-1].set(marker=mark, mfc="white")
            draw_limit(ax, slope.infinite, colour, INVERSE, mark)
        finish(ax, INVERSE, "log_evidence", [row for rows in found.values() for row in rows])
        draw_tangents(ax, slopes, colours, INVERSE, "log_evidence")
        legend_of_figure(figure, [ax])
    return figure


def _candidates(chosen: Selection, depth: int) -> list[Any]:
    """Those that the limit of a depth belongs to: of its activations and proportions."""
    limit = chosen.limits[depth].network
    rows = [row for row in chosen.table if row.depth == depth and row.network.activations == limit.activations]
    return [row for row in rows if proportions(row.network.widths) == proportions(limit.widths)]
