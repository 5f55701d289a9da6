"""Fully connected networks of any depth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from finitewidth.networks.base import Network

if TYPE_CHECKING:
    from jax import Array as JaxArray


@dataclass(frozen=True)
class FullyConnected(Network):
    """``h_1 = W_0 x / sqrt(N0)``, ``h_{l+1} = W_l phi(h_l) / sqrt(N_l)``, ``f = v.phi(h_L) / sqrt(N_L)``.

    Weights have prior variance ``1 / weight_precision[l]``. ``widths`` are N_1 .. N_L (a single
    number is one hidden layer). See ``Network`` for the other fields.

    Raises InputError for widths, precisions or names that cannot be.
    """

    kernel_recursion = True
    own = False
    known_neurons = True
    rotates_inputs = True

    widths: Any

    def neuron_inputs(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(1, len(x), -1)

    # --- the finite network: JAX arrays in and out ------------------------------------------------------------------

    def init_hidden(self, key: JaxArray, input_shape: tuple[int, ...]) -> dict[str, list[JaxArray]]:
        """``{"weights": [(N_{l+1}, N_l)] for l < L, "offsets": [(N_{l+1},)] or []}``."""
        import jax

        sizes = (math.prod(input_shape), *self.widths)
        keys = jax.random.split(key, 2 * self.depth)
        weights = [
            jax.random.normal(keys[2 * i], (sizes[i + 1], sizes[i])) / math.sqrt(self.weight_precision[i])
            for i in range(self.depth)
        ]
        if self.offset_precision is None:
            return {"weights": weights, "offsets": []}
        scale = math.sqrt(self.offset_variance)
        offsets = [scale * jax.random.normal(keys[2 * i + 1], (sizes[i + 1],)) for i in range(self.depth)]
        return {"weights": weights, "offsets": offsets}

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

    def hidden_log_prior(self, hidden: dict[str, list[JaxArray]]) -> JaxArray | float:
        total: JaxArray | float = 0.0
        for precision, weight in zip(self.weight_precision, hidden["weights"], strict=False):
            total = total - 0.5 * precision * (weight**2).sum()
        for offset in hidden["offsets"]:
            total = total - 0.5 * (offset**2).sum() / self.offset_variance
        return total
