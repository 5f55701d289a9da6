"""Fully connected networks of any depth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from finitewidth.networks.base import ListedWeights

if TYPE_CHECKING:
    from jax import Array as JaxArray


@dataclass(frozen=True)
class FullyConnected(ListedWeights):
    """``h_1 = W_0 x / sqrt(N0)``, ``h_{l+1} = W_l phi(h_l) / sqrt(N_l)``, ``f = v.phi(h_L) / sqrt(N_L)``.

    Weights have prior variance ``1 / weight_precision[l]``. ``widths`` are N_1 .. N_L (a single
    number is one hidden layer). See ``Network`` for the other fields.
    Hidden weights are (N_{l+1}, N_l), offsets (N_{l+1},).

    Raises InputError for widths, precisions or names that cannot be.
    """

    kernel_recursion = True
    rotates_inputs = True

    widths: Any

    def neuron_inputs(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(1, len(x), -1)

    def _weight_shapes(self, input_shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        return [(width, inputs) for inputs, width in pairwise((math.prod(input_shape), *self.widths))]

    def features(self, hidden: dict[str, list[JaxArray]], x: JaxArray) -> JaxArray:
        """phi(h_L) / sqrt(N_L), or / N_L with the mean-field readout; (points, N_L)."""
        h = x.reshape(x.shape[0], -1)
        for layer, weight in enumerate(hidden["weights"]):
            h = h @ weight.T / math.sqrt(weight.shape[1])
            if hidden["offsets"]:
                h = h + hidden["offsets"][layer]
            h = self.phi.jax_function(h)
        width = self.widths[-1]
        return h / (width if self.readout == "mean-field" else math.sqrt(width))
