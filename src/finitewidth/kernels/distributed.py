"""The kernel operator on the workers of a Dask cluster.

Every worker is sent the points once; its parts of K stay with it, made once where they are kept and anew in every
product where they are not. A product sends the columns (P, b) to the workers and one (P, b) sum a part back. Where a
worker is lost on the way, points and parts are placed again on those that are left, and the product is repeated.
"""

from __future__ import annotations

import math
import time
from concurrent.futures import CancelledError
from typing import Any

import numpy as np

from finitewidth.kernels.tiles import GramPart, Points

Array = np.ndarray
_WAITS = (1.0, 3.0, 10.0)  # seconds for a cluster to notice a lost worker, before each new attempt


class WorkerParts:
    """``parts(columns)`` -> what each part of K adds to K columns, in the order of the parts."""

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
