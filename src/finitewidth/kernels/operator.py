"""The kernel of fully connected networks as an operator: applied tile by tile, stored only where it fits.

``K V`` needs no Gram matrix. Tiles of the upper triangle are made once and kept in single precision where the memory
cap allows it (2 P^2 bytes), and made anew in every product where it does not; sums are always in double precision.
What single precision changes is measured on a few rows (``noise``).
Tiles are grouped into parts, the same for any number of threads: a part is what one thread, or one Dask worker, does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from finitewidth import checks, linalg
from finitewidth.activations import ErfDual, LinearDual
from finitewidth.kernels.blocks import rectangle, slices
from finitewidth.kernels.fully_connected import Recursion
from finitewidth.networks.base import Network

Array = np.ndarray
TILE = (512, 1024)  # points: what is multiplied at once
_INNER = (128, 256)  # points of a block that stays in cache while it goes through the layers
_LARGEST = 1e4  # variance up to which single precision keeps correlations below one
_PARTS = 16
_CHECKED_ROWS = 4  # on which single precision is compared with double
_WAITS = (1.0, 3.0, 10.0)  # seconds for a cluster to notice a lost worker, before each new attempt

Gather = Callable[[Array], Iterable[Array]]  # columns -> what each part adds, in the order of the parts


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
            rows = slice(i.start + a.start, i.start + a.stop)
            mine.through_layers(block[a, b], theirs, rows, slice(j.start + b.start, j.start + b.stop))
        return block.astype(self.dtype, copy=False)


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


class WorkerParts:
    """Parts on the workers of a Dask cluster: ``parts(columns)`` -> what each adds to K columns, in their order.

    Every worker is sent the points once; its parts of K stay with it, made once where they are kept and anew in every
    product where they are not. A product sends the columns (P, b) to the workers and one (P, b) sum a part back. Where
    a worker is lost on the way, points and parts are placed again on those that are left, and the product is repeated.
    """

    def __init__(self, client: Any, points: Points, groups: list[list[slice]], keep: bool) -> None:
        self._client, self._points, self._groups, self._keep = client, points, groups, keep
        self._place()

    def _place(self) -> None:
        everywhere = self._client.scatter(self._points, broadcast=True, hash=False)
        self._parts = self._client.map(_part, self._groups, points=everywhere, keep=self._keep, pure=False)

    def __call__(self, columns: Array) -> list[Array]:
        from distributed.scheduler import KilledWorker

        for wait in _WAITS:
            try:
                return self._sums(columns)
            except (OSError, CancelledError, KilledWorker):
                time.sleep(wait)
                self._place()
        return self._sums(columns)

    def _sums(self, columns: Array) -> list[Array]:
        sent = self._client.scatter(columns, broadcast=True, hash=False)
        sums = self._client.map(GramPart.multiply, self._parts, columns=sent, pure=False)
        found: list[Array] = self._client.gather(sums)
        return found


def workers_memory(client: Any) -> float:
    """Bytes that the workers may take together; infinite where they know no limit."""
    limits = [worker["memory_limit"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()]
    return float(sum(limits)) if all(limits) else math.inf


def _part(rows: list[slice], points: Points, keep: bool) -> GramPart:
    return GramPart(points, rows, keep)


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
        rows = slices(0, len(self.points), TILE[0])
        groups = [rows[k::_PARTS] for k in range(min(_PARTS, len(rows)))]
        self._gather: Gather
        if client is None:
            self._parts = list(linalg.map_threads(lambda rows: GramPart(self.points, rows, keep), groups))
            self._gather = self._locally
        else:
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
        checks.same_shape(other.recursion.x.shape[1:], self.points.recursion.x.shape[1:])
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
            for part in slices(0, len(self), TILE[1])
        ]
        return float(np.sqrt(np.sum(squares) / (len(chosen) * len(self))))


def stored_bytes(count: int, dtype: type) -> float:
    """Bytes of the stored tiles: the upper triangle and half a tile a row."""
    return float(np.dtype(dtype).itemsize * count * (0.5 * count + TILE[0]))


def working_bytes(count: int, columns: int) -> float:
    """Bytes of one product beside the tiles: a sum for every part."""
    return 8.0 * count * columns * min(_PARTS, -(-count // TILE[0]))


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
            for j in slices(0, len(self.columns), TILE[1]):
                out += self.rows.tile(self.columns, i, j).astype(np.float64, copy=False) @ right[j]
            return out

        return np.concatenate(list(linalg.map_threads(product, slices(0, len(self.rows), TILE[0]))))
