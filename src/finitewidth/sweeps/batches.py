"""Batches of points: points that share work go to one worker, as long as every worker has some."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

from finitewidth.sweeps.worker import Task

_MOST = 64  # points in a batch; a worker returns after a moment what it has done by then


@dataclass
class Batches:
    """Hands out every task once, and again where it was given back; never all of a group, so that others can help."""

    tasks: Iterator[Task]
    _groups: Iterator[list[Task]] = field(init=False)
    _left: dict[Hashable, list[Task]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        groups = itertools.groupby(self.tasks, key=lambda task: task.point.group)
        self._groups = (list(group) for _, group in groups)

    def take(self, worker: Hashable) -> list[Task]:
        """The next batch for a worker; empty where nothing is left."""
        own = self._left.pop(worker, None) or next(self._groups, None) or self._half_of_another()
        size = max(1, min(_MOST, len(own) // 2))
        self._left[worker] = own[size:]
        return own[:size]

    def give_back(self, worker: Hashable, tasks: list[Task]) -> None:
        """What a worker has not come to; it is the next that it takes, unless another is idle."""
        self._left[worker] = tasks + self._left.get(worker, [])

    def _half_of_another(self) -> list[Task]:
        if not self._left:
            return []
        most = max(self._left, key=lambda worker: len(self._left[worker]))  # None: any worker, once one has gone
        left = self._left[most]
        cut = len(left) // 2
        self._left[most] = left[:cut]
        return left[cut:]
