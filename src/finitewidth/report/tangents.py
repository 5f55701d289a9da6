"""The exact first order in 1/N, drawn into axes that show a quantity at several widths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from finitewidth.theory.expansion import EvidenceSlope, FirstOrderSlopes, Slope

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = np.ndarray
TANGENT = "exact to first order"
_DOTTED = (0, (1, 1.3))
_WEDGE = 0.16  # opacity: several may overlap
_FINE = 200  # points of a line, which is curved where the axis is not linear in 1/N


def slope_of(slopes: FirstOrderSlopes, quantity: str) -> Slope | None:
    """Of an error, the accuracy or the log evidence; None for the accuracy where targets are no labels."""
    found: Slope | EvidenceSlope | None
    found = slopes.evidence_slope if quantity == "log_evidence" else getattr(slopes, quantity)
    return found.as_slope if isinstance(found, EvidenceSlope) else found


def draw_tangent(
    ax: Axes, slope: Slope | None, inverse: Sequence[float], place: Callable[[Array], Array], colour: str = "black"
) -> None:
    """``infinite + slope / N`` for 1/N in a range, dotted, in a wedge of two standard errors.

    place: from 1/N to the axis. Axes keep their limits, and nothing is drawn beyond them, where legends stand. Of
    several in the same axes the first one is named.
    """
    if slope is None:
        return
    low, high = ax.get_ylim()
    x = np.linspace(inverse[0], inverse[1], _FINE)
    y, wide = slope.infinite + slope.slope * x, 2.0 * slope.slope_se * x
    named = TANGENT in ax.get_legend_handles_labels()[1]
    below, above = y - wide, y + wide
    seen = (above >= low) & (below <= high)
    edges = np.clip(below, low, high), np.clip(above, low, high)
    ax.fill_between(place(x), edges[0], edges[1], where=seen, color=colour, alpha=_WEDGE, lw=0, zorder=2)
    shown = np.where((y >= low) & (y <= high), y, np.nan)
    ax.plot(place(x), shown, color=colour, ls=_DOTTED, lw=1.3, label=None if named else TANGENT, zorder=4)
    ax.set_ylim(low, high)
