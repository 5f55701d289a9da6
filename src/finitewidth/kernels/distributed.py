"""The kernel operator on the workers of a Dask cluster.

Every worker is sent the points once; its parts of K stay with it, made once where they are kept and anew in every
product where they are not. A product sends the columns (P, b) to the workers and one (P, b) sum a part back. Where a
worker is lost, Dask makes its parts again elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from finitewidth.kernels.tiles import GramPart, Points

Array = np.ndarray


class WorkerParts:
    """``parts(columns)`` -> what each part of K adds to K columns, in the order of the parts."""

    def __init__(self, client: Any, points: Points, groups: list[list[slice]], keep: bool) -> None:
        self._client = client
        everywhere = client.scatter(points, broadcast=True)
        self._parts = client.map(_part, groups, points=everywhere, keep=keep, pure=False)

    def __call__(self, columns: Array) -> Iterator[Array]:
        sent = self._client.scatter(columns, broadcast=True, hash=False)
        sums = self._client.map(GramPart.multiply, self._parts, columns=sent, pure=False)
        for part in sums:  # one at a time: all of them together may be large
            yield part.result()
            part.release()


def workers_memory(client: Any) -> float:
    """Bytes that the workers may take together; infinite where they know no limit."""
    limits = [worker["memory_limit"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()]
    return float(sum(limits)) if all(limits) else math.inf


def _part(rows: list[slice], points: Points, keep: bool) -> GramPart:
    return GramPart(points, rows, keep)
