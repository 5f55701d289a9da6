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

    train: (P, ...). basis: (N0, r) of the training span, None where nothing was rotated. largest: singular value of the
    training points. ``FullyConnected`` divides by the root of the number of inputs it is given; the inputs are scaled
    so that the original 1/sqrt(N0) is what remains.
    """

    train: Array
    flat: bool = False
    basis: Array | None = None
    largest: float = 0.0

    @classmethod
    def of(cls, network: Network, train: Array) -> Inputs:
        """Onto the principal axes of the training points, where the network is fully connected."""
        if not network.rotates_inputs:
            return cls(train)
        train = train.reshape(len(train), -1)
        basis, largest = _span(train, 0.0)
        rank, size = basis.shape[1], train.shape[1]
        if rank == 0:
            return cls(train, True)
        return cls(train @ basis * math.sqrt(rank / size), True, basis, largest)

    def at(self, x: Array) -> tuple[Array, int]:
        """Other points (P*, ...), and how many inputs they have more than ``train``, for what is outside its span."""
        x = x.reshape(len(x), -1) if self.flat else x
        if self.basis is None:
            return x, 0
        inside = x @ self.basis
        extra, _ = _span(x - inside @ self.basis.T, self.largest)
        size, full = len(self.basis), self.basis.shape[1] + extra.shape[1]
        return np.concatenate([inside, x @ extra], axis=1) * math.sqrt(full / size), extra.shape[1]

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
