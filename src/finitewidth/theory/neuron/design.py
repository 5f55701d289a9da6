"""One neuron's inputs, whitened: ``h = design . theta`` with theta ~ N(0, 1), for every one-hidden-layer architecture.

A neuron reads m features of a point (one for each patch that it has a readout for) and has D readouts of each. Locally
connected networks have n populations of neurons, one a patch; all others have one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from finitewidth.linalg import row_basis
from finitewidth.networks import Network

Array = np.ndarray


@dataclass(frozen=True)
class Design:
    """Training inputs of every population, rotated into their span where that has fewer directions.

    rows: (G, J P, r), G populations, J preactivations of a point (patches), patch by patch. basis: (G, inputs, r), None
    where nothing was rotated. feature_scale: what multiplies phi so that ``f = sum_a z_a psi(w_a) / sqrt(N)`` with
    readouts z ~ N(0, 1). pooled: psi is the mean over the J patches, so that m = 1; else m = J.
    """

    network: Network
    rows: Array
    basis: Array | None
    n_points: int
    feature_scale: float
    pooled: bool

    @classmethod
    def of(cls, network: Network, x: Array) -> Design:
        """For training inputs ``x`` (P, ...)."""
        rows = whitened(network, x)
        n_patches = network.n_patches(x.shape[1:])
        pooled = n_patches > 1 and not network.patched
        scale = 1.0 / math.sqrt(network.readout_precision * (1 if pooled else n_patches))
        rows, basis = _rotated(rows)
        return cls(network, rows, basis, len(x), scale, pooled)

    @property
    def n_populations(self) -> int:
        """G."""
        return len(self.rows)

    @property
    def n_preactivations(self) -> int:
        """J."""
        return self.rows.shape[1] // self.n_points

    @property
    def n_readouts(self) -> int:
        """m: readouts of one neuron for one output."""
        return 1 if self.pooled else self.n_preactivations

    @property
    def rank(self) -> int:
        """r: weights of one neuron that meet the data."""
        return self.rows.shape[2]

    def at(self, x: Array) -> Array:
        """Rows of other points, (G, J P*, r + r'): the last r' columns are directions outside the training span.

        The weights along these keep their prior, so they are drawn afresh (exactly, docs/theory.md section 7).
        """
        rows = whitened(self.network, x)
        if self.basis is None:
            return rows
        inside = rows @ self.basis
        outside = rows - inside @ self.basis.swapaxes(1, 2)
        scale = float(np.abs(self.rows).max())
        extra = [part @ row_basis(part, 1e-10 * scale) for part in outside]
        widest = max(part.shape[1] for part in extra)
        padded = [np.pad(part, ((0, 0), (0, widest - part.shape[1]))) for part in extra]
        return np.concatenate([inside, np.stack(padded)], axis=2)

    def weight_covariance(self, gram: Array) -> Array:
        """``lambda_0 E[w w^T]`` of the network's own weights (G, inputs, inputs) from E[theta theta^T] (G, r, r).

        Outside the training span it is the prior's, the identity. Offsets, where there are any, are the last input.
        """
        if self.basis is None:
            return gram
        change = self.basis @ (gram - np.eye(self.rank)) @ self.basis.swapaxes(1, 2)
        return np.eye(self.basis.shape[1]) + change


def whitened(network: Network, x: Array) -> Array:
    """Rows (G, J P, inputs) with ``h = rows @ theta``: inputs over sqrt(lambda_0 N0), one more for the offset."""
    patches = network.neuron_inputs(x)
    n, points, size = patches.shape
    rows = patches / math.sqrt(network.weight_precision[0] * size)
    if network.offset_precision is not None:
        rows = np.concatenate([rows, np.full((n, points, 1), math.sqrt(network.offset_variance))], axis=2)
    return rows if not network.shares_weights else rows.reshape(1, n * points, -1)


def _rotated(rows: Array) -> tuple[Array, Array | None]:
    """The rows in a basis of their span, and that basis; unchanged where they span everything."""
    count, size = rows.shape[1:]
    if count >= size:
        return np.ascontiguousarray(rows), None
    bases = [row_basis(part, 1e-10 * float(np.abs(rows).max())) for part in rows]
    rank = max(basis.shape[1] for basis in bases)
    if rank == 0 or rank >= size:
        return np.ascontiguousarray(rows), None
    basis = np.stack([_completed(basis, rank) for basis in bases])
    return rows @ basis, basis


def _completed(basis: Array, rank: int) -> Array:
    """An orthonormal basis (size, rank) whose first columns are ``basis``; populations need equally many."""
    missing = rank - basis.shape[1]
    if missing == 0:
        return basis
    complement = np.eye(len(basis)) - basis @ basis.T
    return np.concatenate([basis, row_basis(complement, 0.5)[:, :missing]], axis=1)
