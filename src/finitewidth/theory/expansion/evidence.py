"""Slopes in 1/N at infinite width; what that of the evidence says of wider and narrower, deeper and shallower."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from finitewidth.display import Displayed, plus_minus

FAR = 15.0  # nats of log evidence, up to which a first order may be believed
RESOLVED = 2.0  # standard errors from zero of what is said to have a sign


@dataclass(frozen=True)
class Slope(Displayed):
    """``value(N) = infinite + slope / N + O(1/N^2)``, N the width of the first hidden layer, the others in proportion.

    slope_se: standard error of the slope, from the neurons drawn.
    """

    infinite: float
    slope: float
    slope_se: float

    def at(self, width: float) -> float:
        """The straight line at a width."""
        return self.infinite + self.slope / width


@dataclass(frozen=True)
class EvidenceSlope(Displayed):
    """``log Z = infinite + total / N``, nats; the share of layer l is ``by_layer[l - 1] / N_l``.

    A layer of positive share is one that the data prefer narrower. by_layer_se, total_se: standard errors.
    """

    infinite: float
    total: float
    total_se: float
    by_layer: tuple[float, ...]
    by_layer_se: tuple[float, ...]

    @property
    def as_slope(self) -> Slope:
        """Without its layers."""
        return Slope(self.infinite, self.total, self.total_se)

    @property
    def narrowest(self) -> int:
        """The width down to which the straight line may be believed: where it has changed the evidence by 15 nats."""
        return max(1, math.ceil(float(f"{abs(self.total) / FAR:.1e}")))

    def reach(self, width: int) -> str:
        """The change at a width with its standard error, or at the narrowest one that the line reaches."""
        near = max(width, self.narrowest)
        return f"{signed(self.total / near, self.total_se / near)} nats at N = {near}"

    @property
    def favours(self) -> str:
        """ "narrower" or "wider"; empty where the slope is not resolved: two standard errors or less from zero."""
        return _side(self.total, self.total_se)

    @property
    def statement(self) -> str:
        """One line: the slope with its standard error, and what these data favour."""
        number = f"{signed(self.total, self.total_se)} nats / N"
        if not self.favours:
            return f"{number}, not resolved from zero: these data favour neither narrower nor wider layers"
        return f"{number}: these data favour {self.favours} layers{self._layers()}"

    def _layers(self) -> str:
        """The layers of another sign, else the one that stands out."""
        sides = [_side(value, se) for value, se in zip(self.by_layer, self.by_layer_se, strict=True)]
        other = [k + 1 for k, side in enumerate(sides) if side and side != self.favours]
        if other:
            opposite = {"narrower": "wider", "wider": "narrower"}[self.favours]
            return f", but layer {', '.join(map(str, other))} {opposite}"
        ranked = sorted(range(len(sides)), key=lambda k: -abs(self.by_layer[k]))
        if len(ranked) < 2:
            return ""
        first, second, *_ = ranked
        gap = abs(self.by_layer[first]) - abs(self.by_layer[second])
        clear = gap > RESOLVED * math.hypot(self.by_layer_se[first], self.by_layer_se[second])
        return f" (layer {first + 1} most)" if clear else ""


def by_depth(slopes: Mapping[int, EvidenceSlope], width: int) -> list[str]:
    """Deeper or shallower, in one line, from networks of several depths of this width, or as near as the lines reach.

    The best depth there is said to be favoured if it is more than a nat and two standard errors above the next.
    """
    if len(slopes) < 2:
        return []
    near = max(width, *(slope.narrowest for slope in slopes.values()))
    first, second, *_ = sorted(slopes, key=lambda depth: -slopes[depth].as_slope.at(near))
    gap = slopes[first].as_slope.at(near) - slopes[second].as_slope.at(near)
    error = math.hypot(slopes[first].total_se, slopes[second].total_se) / near
    side = {min(slopes): "shallower networks", max(slopes): "deeper networks"}.get(first, f"{first} layers")
    says = f"these data favour {side}" if gap > max(1.0, RESOLVED * error) else "these data do not tell"
    infinite = slopes[first].infinite - slopes[second].infinite
    numbers = f"{layers(first)} over {second} by {signed(gap, error)} nats, {infinite:+.2f} at infinite width"
    return [f"Depth, to first order at N = {near}: {says}; {numbers}."]


def layers(count: int) -> str:
    """1 layer, 2 layers."""
    return f"{count} layer{'s' * (count != 1)}"


def signed(value: float, error: float) -> str:
    """+12.30 ± 0.42."""
    return f"{'+' * (value > 0.0)}{plus_minus(value, error)}"


def _side(value: float, error: float) -> str:
    if not abs(value) > RESOLVED * error:
        return ""
    return "narrower" if value > 0.0 else "wider"
