"""An architecture of one's own, with theory and sampler: a hidden layer beside a direct linear path."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

import finitewidth as fw


@dataclass(frozen=True)
class Skip(fw.Network):
    """``f = (sqrt(N) v.[phi(h) + x.u] / N) ``: every feature is phi of a neuron plus a linear function of its own."""

    widths: Any = 100

    def covariance(self, order_parameters: np.ndarray, x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
        """``Q (kappa + x.x' / (lambda_0 N0)) / lambda_1``: both paths share the readout."""
        flat1, flat2 = x1.reshape(len(x1), -1), x2.reshape(len(x2), -1)
        inner, readout = self.weight_precision
        hidden = fw.FullyConnected(self.widths, activation=self.activation, weight_precision=(inner, 1.0))
        kernel = fw.kernels.nngp(hidden, flat1, flat2) + flat1 @ flat2.T / (inner * flat1.shape[1])
        return order_parameters[0] * kernel / readout

    def init_hidden(self, key: Any, input_shape: tuple[int, ...]) -> dict[str, list[Any]]:
        """Two matrices (N, N0) from the prior."""
        import jax

        shape = (2, self.widths[0], math.prod(input_shape))
        return {"weights": list(jax.random.normal(key, shape) / math.sqrt(self.weight_precision[0]))}

    def features(self, hidden: dict[str, list[Any]], x: Any) -> Any:
        """(points, N)."""
        flat = x.reshape(len(x), -1)
        inside, direct = (flat @ weights.T / math.sqrt(flat.shape[1]) for weights in hidden["weights"])
        return (self.phi.jax_function(inside) + direct) / math.sqrt(self.widths[0])

    def hidden_log_prior(self, hidden: dict[str, list[Any]]) -> Any:
        """Gaussian."""
        return -0.5 * self.weight_precision[0] * sum((weights**2).sum() for weights in hidden["weights"])
