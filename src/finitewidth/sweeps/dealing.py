"""Who works on what: points that share work go to one worker, as long as every worker has some."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

from finitewidth.sweeps.work import Task

BATCH = 16  # points handed out at once
_LONG = ("sample", "train", "neuron")  # points worth handing out one by one


@dataclass
class Dealer:
    """Hands out batches to ``workers`` workers; every task once, and again only where it was given back."""

    tasks: Iterator[Task]
    workers: int
    _groups: Iterator[list[Task]] = field(init=False)
    _left: dict[Hashable, list[Task]] = field(init=False, default_factory=dict)
    _returned: list[Task] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        groups = itertools.groupby(self.tasks, key=lambda task: task.point.group)
        self._groups = (list(group) for _, group in groups)

    def take(self, worker: Hashable) -> list[Task]:
        """The next batch for a worker; empty where nothing is left."""
        if self._returned:
            return [self._returned.pop()]
        own = self._left.pop(worker, None) or next(self._groups, None) or self._half_of_another()
        count = 1 if own and own[0].point.method in _LONG else -(-len(own) // (2 * self.workers))
        batch = own[: min(BATCH, max(1, count))]
        self._left[worker] = own[len(batch) :]
        return batch

    def give_back(self, tasks: list[Task]) -> None:
        """What a worker that is no more has not done; handed out one by one from now on."""
        self._returned.extend(tasks)

    def _half_of_another(self) -> list[Task]:
        most = max(self._left, key=lambda worker: len(self._left[worker]), default=None)
        if most is None:
            return []
        left = self._left[most]
        cut = len(left) // 2
        self._left[most] = left[:cut]
        return left[cut:]
