"""Inputs rotated into the span of the training points, exactly.

A first layer sees its weights only through ``W_0 x``. With V (N0, r) a basis of the training span and V'
(N0, r') of what the test points add to it, ``W_0 x = (W_0 V)(V^T x) + (W_0 V')(V'^T x)``, and both factors
have the same isotropic prior as W_0. Only ``W_0 V`` meets the data; ``W_0 V'`` keeps its prior and is drawn
afresh for every draw.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from finitewidth.networks import Network

Array = np.ndarray
_RANK_TOLERANCE = 1e-10  # directions below this part of the largest singular value are rounding


@dataclass(frozen=True)
class Inputs:
    """Inputs as the sampler sees them.

    train: (P, ...). test: (P*, ...), with ``n_extra`` more inputs than ``train`` where rotated. basis: (N0,
    r) of the training span, None where nothing was rotated. ``FullyConnected`` divides by the root of the
    number of inputs it is given; the inputs are scaled so that the original 1/sqrt(N0) is what remains.
    """

    train: Array
    test: Array
    n_extra: int = 0
    basis: Array | None = None

    @classmethod
    def of(cls, network: Network, train: Array, test: Array) -> Inputs:
        """Rotate where the network is fully connected and the training points span fewer than N0 directions."""
        if not network.rotates_inputs:
            return cls(train, test)
        flat, other = train.reshape(len(train), -1), test.reshape(len(test), -1)
        size = flat.shape[1]
        basis, largest = _span(flat, 0.0)
        if basis.shape[1] in (0, size):
            return cls(flat, other)
        inside = other @ basis
        extra, _ = _span(other - inside @ basis.T, largest)
        outside = other @ extra
        rank, full = basis.shape[1], basis.shape[1] + extra.shape[1]
        rotated = np.concatenate([inside, outside], axis=1)
        return cls(flat @ basis * math.sqrt(rank / size), rotated * math.sqrt(full / size), extra.shape[1], basis)

    def original(self, gram: Array, n_inputs: int) -> Array:
        """``lambda_0 <w w^T>`` (N0, N0) from that of the rotated weights; outside the span it is the prior's, 1."""
        if self.basis is None:
            return gram
        return np.eye(n_inputs) + self.basis @ (gram - np.eye(len(gram))) @ self.basis.T

    def original_error(self, error: Array) -> Array:
        """Standard errors beside ``original``; those of different entries are taken as independent."""
        if self.basis is None:
            return error
        square = self.basis**2
        return np.sqrt(square @ error**2 @ square.T)


def _span(x: Array, scale: float) -> tuple[Array, float]:
    """Orthonormal basis (N0, r) of the rows of x, and the largest singular value."""
    _, values, rows = np.linalg.svd(x, full_matrices=False)
    largest = max(scale, float(values[0]))
    return np.ascontiguousarray(rows[values > _RANK_TOLERANCE * largest].T), largest
