"""One linear neuron in the field of all others, in closed form: the second route of the particles (docs/neuron.md)."""

from __future__ import annotations

import math

import numpy as np

from finitewidth.networks import FullyConnected

Array = np.ndarray
_READOUTS, _FARTHEST = 2000, 14.0  # quadrature points, prior standard deviations


def linear_neuron(network: FullyConnected, X: Array, s: Array, R: Array) -> tuple[Array, Array]:
    """f(X) (P,) and K_R (P, P) of one linear neuron in the field s (P,), R (P, P).

    Given its readout v the weights are Gaussian of precision ``B(v) = lambda_0 + v^2 X^T R X / (N N0)`` and mean
    ``v B^-1 b / sqrt(N)``, b = X^T s / sqrt(N0); v is left for a one-dimensional quadrature, with weight
    ``exp(-lambda_1 v^2 / 2) det B^-1/2 exp(v^2 b^T B^-1 b / (2 N))``. X: (P, N0), one output, no offsets.
    """
    N, size = network.widths[0], X.shape[1]
    precision, readout = network.weight_precision[0], network.readout_precision
    pull, basis = np.linalg.eigh(X.T @ R @ X / (N * size))
    inputs = X @ basis / math.sqrt(size)
    b = inputs.T @ s
    v2 = np.linspace(0.0, _FARTHEST / math.sqrt(readout), _READOUTS) ** 2
    B = precision + np.outer(v2, np.maximum(pull, 0.0))  # (readouts, N0), in the basis where it is diagonal
    log_weight = 0.5 * (-readout * v2 - np.log(B).sum(1) + v2 / N * (b**2 / B).sum(1))
    weight = np.exp(log_weight - log_weight.max())
    weight[0] *= 0.5  # half of a line, the weight is even: the trapezoidal rule
    weight /= weight.sum()
    f = inputs @ ((weight * v2) @ (b / B))
    mean = v2[:, None] * b / B / math.sqrt(N)
    second = (inputs * ((weight * v2) @ (1.0 / B))) @ inputs.T + inputs @ (mean.T * weight) @ mean @ inputs.T
    return f, second - np.outer(f, f) / N
