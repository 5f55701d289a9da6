"""Tiles of the kernel of fully connected networks: blocks of its upper triangle, in single or double precision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from finitewidth import linalg
from finitewidth.activations import ErfDual, LinearDual
from finitewidth.kernels.blocks import rectangle, slices
from finitewidth.kernels.fully_connected import Recursion
from finitewidth.networks.base import Network

Array = np.ndarray
TILE = (512, 1024)  # points: what is multiplied at once
_INNER = (128, 256)  # points of a block that stays in cache while it goes through the layers
_LARGEST = 1e4  # variance up to which single precision keeps correlations below one


@dataclass(frozen=True)
class Points:
    """Points ready for tiles of their kernel, in the precision ``dtype`` of the tiles."""

    recursion: Recursion
    dtype: type

    @classmethod
    def of(cls, network: Network, x: Any, dtype: type) -> Points:
        """float32 becomes float64 where variances are too large for it."""
        recursion = Recursion.of(network, x)
        if max(float(d.max()) for d in recursion.diagonals) > _LARGEST:
            dtype = np.float64
        single = dtype == np.float32 and isinstance(network.phi.dual, (ErfDual, LinearDual))
        prepared = [p.astype(dtype) for p in recursion.prepared] if single else recursion.prepared
        return cls(replace(recursion, x=recursion.x.astype(dtype, copy=False), prepared=prepared), dtype)

    def __len__(self) -> int:
        return len(self.recursion.x)

    @property
    def diagonal(self) -> Array:
        """k(x, x), (points,), in double precision."""
        return self.recursion.diagonals[-1]

    def tile(self, other: Points, i: slice, j: slice) -> Array:
        """K between points i of these and j of the others, in their precision.

        Only erf and linear duals, which lose nothing by it, are computed in single precision.
        """
        mine, theirs = self.recursion, other.recursion
        block = mine.x[i] @ theirs.x[j].T
        if mine.prepared and mine.prepared[0].dtype != block.dtype:
            block = block.astype(mine.prepared[0].dtype)
        for a, b in rectangle(block.shape[0], block.shape[1], _INNER):
            mine.through_layers(block[a, b], theirs, _shifted(a, i), _shifted(b, j))
        return block.astype(self.dtype, copy=False)


def _shifted(inner: slice, outer: slice) -> slice:
    return slice(outer.start + inner.start, outer.start + inner.stop)


class GramPart:
    """Some rows of tiles of the upper triangle of K, stored or made when they are needed."""

    def __init__(self, points: Points, rows: list[slice], keep: bool) -> None:
        self.points, self.rows = points, rows
        self.stored = {(i.start, j.start): self._make(i, j) for i, j in self._pairs()} if keep else {}

    def _pairs(self) -> Iterator[tuple[slice, slice]]:
        for i in self.rows:
            for j in slices(i.start, len(self.points), TILE[1]):
                linalg.stop_if_given_up()
                yield i, j

    def _make(self, i: slice, j: slice) -> Array:
        block = self.points.tile(self.points, i, j)
        if i.start == j.start:  # rounding of a product need not be symmetric, and the diagonal is known
            width = min(*block.shape)
            square = block[:, :width]
            square[:] = np.triu(square) + np.triu(square, 1).T
            np.fill_diagonal(square, self.points.diagonal[i])
        return block

    def multiply(self, columns: Array) -> Array:
        """What these tiles and their mirror images add to K columns, (P, b)."""
        out = np.zeros(columns.shape)
        for i, j in self._pairs():
            block = self.stored.get((i.start, j.start))
            wide = (self._make(i, j) if block is None else block).astype(np.float64, copy=False)
            out[i] += wide @ columns[j]
            beside = i.stop - i.start if i.start == j.start else 0  # columns of the square on the diagonal
            if beside < wide.shape[1]:
                out[j.start + beside : j.stop] += wide[:, beside:].T @ columns[i]
        return out
