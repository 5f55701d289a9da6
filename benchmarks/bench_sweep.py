"""What a sweep costs beside a plain loop, and what a second worker brings: ``make bench``.

Each test states its bound, taken from the project's issue 8; the machine should be quiet. ``python
benchmarks/bench_sweep.py`` prints the same numbers without a test run.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

import pytest
from pairs import Ratio, compare

import finitewidth as fw
from finitewidth.theory.rows import TheoryRow, row_of

SEEDS, TEMPERATURES = range(10), (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5)
WIDTHS = (20, 30, 45, 70, 100, 150, 230, 350, 520, 800)
DATA = {"classes": (0, 1), "n_train": 200, "n_test": 150}
THEORY = DATA | {
    "data": "digits",
    "classes": [0, 1],
    "grid": {"seed": list(SEEDS), "temperature": list(TEMPERATURES), "width": list(WIDTHS)},
}
SECONDS = {"data": "digits", "n_train": 1000, "n_test": 300, "grid": {"seed": list(range(16))}}  # a point takes one
SMALL = {"data": "digits", "classes": [0, 1], "n_train": 100, "grid": {"seed": [0, 1], "width": [20, 40, 80, 160]}}


def by_hand() -> list[TheoryRow]:
    """The same thousand predictions in one loop that factorises once a data set."""
    rows = []
    for seed in SEEDS:
        train, test = fw.data.digits(**DATA, seed=seed)
        shared = None
        for temperature in TEMPERATURES:
            for width in WIDTHS:
                theory = fw.theory_of(fw.FullyConnected(widths=width), temperature)
                shared = shared or theory.factorise(train)
                rows.append(row_of(theory.solve(train, shared), test))
    return rows


def sweep(plan: dict, **options: object) -> fw.sweeps.Status:
    with tempfile.TemporaryDirectory() as folder:
        status = fw.sweeps.run(plan, Path(folder) / "out", **options)
    assert status.done == status.planned == status.stored
    return status


def against_the_loop(runs: int = 5) -> Ratio:
    return compare(lambda: sweep(THEORY), by_hand, runs=runs)


def second_worker(runs: int = 3) -> tuple[list[float], list[float]]:
    """Seconds of the work on points with one worker and with two, in turn; their start comes before."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        for workers, found in zip((1, 2), seconds, strict=True):
            found.append(sweep(SECONDS, client="local", workers=workers).seconds)
    return seconds


def start_of_workers(runs: int = 3) -> list[float]:
    """Seconds that a sweep of eight quick points takes longer with two workers than in the process itself."""
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        sweep(SMALL)
        alone = time.perf_counter() - started
        sweep(SMALL, client="local", workers=2)
        seconds.append(time.perf_counter() - started - 2.0 * alone)
    return seconds


def test_thousand_points_against_a_loop() -> None:
    ratio = against_the_loop()
    print(f"\n1,000 points of theory on digits, sweep / loop by hand: {ratio}")
    assert ratio.best <= 1.3


def test_a_second_worker() -> None:
    if len(os.sched_getaffinity(0)) < 2 or os.getloadavg()[0] > 1.0:
        pytest.skip("needs two idle processors")
    one, two = second_worker()
    print(f"\n16 points with one worker {one} s, with two {two} s: {min(one) / min(two):.2f} times faster")
    assert min(one) / min(two) >= 1.7


if __name__ == "__main__":
    print(f"load {os.getloadavg()}")
    print(f"1,000 points of theory on digits, sweep / loop by hand: {against_the_loop()}")
    print(f"two workers start and end in {start_of_workers()} s")
    one, two = second_worker()
    print(f"16 points: one worker {one} s, two workers {two} s, {statistics.median(one) / statistics.median(two):.2f}")
