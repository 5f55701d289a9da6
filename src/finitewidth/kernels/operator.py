"""The kernel of fully connected networks as an operator: applied tile by tile, stored only where it fits.

``K V`` needs no Gram matrix. Tiles of the upper triangle are made once and kept in single precision where the memory
cap allows it (2 P^2 bytes), and made anew in every product where it does not; sums are always in double precision.
What single precision changes is measured on a few rows (``noise``).
Tiles are grouped into parts, the same for any number of threads: a part is what one thread, or one Dask worker, does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from finitewidth import linalg
from finitewidth.checks.exceptions import InputError
from finitewidth.kernels import tiles
from finitewidth.kernels.blocks import slices
from finitewidth.kernels.tiles import GramPart, Points
from finitewidth.networks.base import Network

Array = np.ndarray
_PARTS = 16
_CHECKED_ROWS = 4  # on which single precision is compared with double


Gather = Callable[[Array], Iterable[Array]]  # columns -> what each part adds, in the order of the parts


class GramOperator:
    """K (P, P) of a network on points, as something that multiplies: ``operator @ columns``.

    keep: whether tiles stay in memory (``stored_bytes``). dtype: of the tiles, float32 or float64.
    client: a ``distributed.Client``; parts then live on its workers, which are sent the columns in every product.
    """

    def __init__(
        self, network: Network, x: Any, keep: bool = True, dtype: type = np.float32, client: Any = None
    ) -> None:
        self.network, self.x, self.keep = network, x, keep
        self.points = Points.of(network, x, dtype)
        rows = slices(0, len(self.points), tiles.TILE[0])
        groups = [rows[k::_PARTS] for k in range(min(_PARTS, len(rows)))]
        self._gather: Gather
        if client is None:
            parts = linalg.map_threads(lambda rows: GramPart(self.points, rows, keep), groups)
            self._parts = list(parts)
            self._gather = self._locally
        else:
            from finitewidth.kernels.distributed import WorkerParts

            self._gather = WorkerParts(client, self.points, groups, keep)
        self.passes = 0

    def __len__(self) -> int:
        return len(self.points)

    @property
    def trace(self) -> float:
        return float(self.points.diagonal.sum())

    def __matmul__(self, columns: Array) -> Array:
        """K columns, (P, b), float64."""
        self.passes += 1
        out = np.zeros(columns.shape)
        for part in self._gather(np.ascontiguousarray(columns)):
            out += part
        return out

    def _locally(self, columns: Array) -> Iterable[Array]:
        return linalg.map_threads(lambda part: part.multiply(columns), self._parts)

    def cross(self, x: Any) -> CrossKernel:
        """The kernel between other points and these."""
        other = Points.of(self.network, x, self.points.dtype)
        if other.recursion.x.shape[1] != self.points.recursion.x.shape[1]:
            raise InputError(
                f"points with {other.recursion.x.shape[1]} inputs",
                f"{self.points.recursion.x.shape[1]}, as in training",
                "prepare test points as the training points were prepared",
            )
        return CrossKernel(other, self.points)

    def noise(self) -> float:
        """Root mean square error of an entry from the precision of the tiles, measured on a few rows; 0 for float64."""
        if self.points.dtype == np.float64:
            return 0.0
        exact = Points.of(self.network, self.x, np.float64)
        chosen = np.linspace(0, len(self) - 1, min(_CHECKED_ROWS, len(self))).astype(int)
        squares = [
            np.square(self.points.tile(self.points, row, part) - exact.tile(exact, row, part)).sum()
            for row in (slice(r, r + 1) for r in chosen)
            for part in slices(0, len(self), tiles.TILE[1])
        ]
        return float(np.sqrt(np.sum(squares) / (len(chosen) * len(self))))


def stored_bytes(count: int, dtype: type) -> float:
    """Bytes of the stored tiles: the upper triangle and half a tile a row."""
    return float(np.dtype(dtype).itemsize * count * (0.5 * count + tiles.TILE[0]))


def working_bytes(count: int, columns: int) -> float:
    """Bytes of one product beside the tiles: a sum for every part."""
    return 8.0 * count * columns * min(_PARTS, -(-count // tiles.TILE[0]))


@dataclass(frozen=True)
class CrossKernel:
    """K between two sets of points, (rows, columns); its tiles are never stored."""

    rows: Points
    columns: Points

    @property
    def T(self) -> CrossKernel:
        return CrossKernel(self.columns, self.rows)

    def __matmul__(self, right: Array) -> Array:
        """K right, (rows, b)."""
        right = np.ascontiguousarray(right)

        def product(i: slice) -> Array:
            out = np.zeros((i.stop - i.start, right.shape[1]))
            for j in slices(0, len(self.columns), tiles.TILE[1]):
                out += self.rows.tile(self.columns, i, j).astype(np.float64, copy=False) @ right[j]
            return out

        return np.concatenate(list(linalg.map_threads(product, slices(0, len(self.rows), tiles.TILE[0]))))
