"""What the evidence slope at infinite width says: whether data favour narrower or wider layers, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from finitewidth.display import Displayed, plus_minus

FAR = 15.0  # nats of log evidence, up to which a first order may be believed
RESOLVED = 2.0  # standard errors from zero of what is said to have a sign


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

    def at(self, width: float) -> float:
        """The straight line at a width N of the first hidden layer."""
        return self.infinite + self.total / width

    def reaches(self, width: float) -> bool:
        """Whether the straight line may be believed at a width: as far as it changes the log evidence by 15 nats."""
        return abs(self.total) <= FAR * width

    def reach(self, width: int) -> str:
        """The change at a width in brackets, with its standard error."""
        if not self.reaches(width):
            return f"; the straight line reaches down to N of about {_round(abs(self.total) / FAR)}"
        return f"; {signed(self.total / width, self.total_se / width)} nats at N = {width}"

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
    """Deeper or shallower, in one line, from networks of several depths.

    A depth is said to be favoured where it is so by more than a nat at infinite width, and to first order at ``width``
    too, as far as a first order reaches there.
    """
    if len(slopes) < 2:
        return []
    first, second, *_ = sorted(slopes, key=lambda depth: -slopes[depth].infinite)
    gap = slopes[first].infinite - slopes[second].infinite
    text = f"{layers(first)} over {second} by {gap:.2f} nats at infinite width"
    clear = gap > 1.0
    if all(slopes[depth].reaches(width) for depth in (first, second)):
        error = math.hypot(slopes[first].total_se, slopes[second].total_se) / width
        there = slopes[first].at(width) - slopes[second].at(width)
        text += f", {signed(there, error)} at N = {width} to first order"
        clear = clear and there > max(1.0, RESOLVED * error)
    if not clear:
        return [f"Depth: these data do not tell; {text}."]
    side = {min(slopes): "shallower networks", max(slopes): "deeper networks"}.get(first, layers(first))
    return [f"Depth: these data favour {side}; {text}."]


def layers(count: int) -> str:
    """1 layer, 2 layers."""
    return f"{count} layer{'s' * (count != 1)}"


def signed(value: float, error: float) -> str:
    """+12.30 ± 0.42."""
    return f"{'+' * (value > 0.0)}{plus_minus(value, error)}"


def _round(value: float) -> str:
    """To two digits."""
    return f"{float(f'{value:.1e}'):,.0f}"


def _side(value: float, error: float) -> str:
    if not abs(value) > RESOLVED * error:
        return ""
    return "narrower" if value > 0.0 else "wider"
