"""Time two pieces of work side by side: in turn, in one process, on the same inputs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Ratio:
    """Seconds of the work (ours) and of the yardstick, pair by pair; ``best`` compares the fastest runs of each."""

    ours: list[float]
    yardstick: list[float]

    @property
    def pairs(self) -> list[float]:
        return [a / b for a, b in zip(self.ours, self.yardstick, strict=True)]

    @property
    def median(self) -> float:
        return statistics.median(self.pairs)

    @property
    def best(self) -> float:
        return min(self.ours) / min(self.yardstick)

    def __str__(self) -> str:
        return (
            f"ratio {self.median:.2f} (pairs {min(self.pairs):.2f}-{max(self.pairs):.2f}, best {self.best:.2f}); "
            f"{statistics.median(self.ours):.4f} s against {statistics.median(self.yardstick):.4f} s"
        )


def times(work: Callable[[], object], runs: int) -> list[float]:
    """Seconds of each run, after one warm-up."""
    work()
    out = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        out.append(time.perf_counter() - started)
    return out


def compare(ours: Callable[[], object], yardstick: Callable[[], object], runs: int = 7) -> Ratio:
    """Run the two in turn after one warm-up each."""
    ours(), yardstick()
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        for work, out in zip((ours, yardstick), seconds, strict=True):
            started = time.perf_counter()
            work()
            out.append(time.perf_counter() - started)
    return Ratio(*seconds)
