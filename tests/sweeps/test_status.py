"""How far a sweep is, in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from finitewidth.sweeps import Status

STATUS = Status("out", "finished", 2, 2, 0, 0, 0, 2, 4.0, 0.5, None, "then", "now", "finished", "serial", {})


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "finished: 2 of 2 points done"),
        ({"done": 1, "failed": 1}, "finished: 1 of 2 points done, 1 failed"),
        (
            {"state": "running", "done": 1, "left": 1, "seconds_left": 2.0},
            "0.5 points/s over 4 seconds, 2 seconds left (serial)",
        ),
        ({"seconds": 125.0}, "0.5 points/s over 2.1 minutes (serial)"),
        ({"seconds": 3725.0}, "0.5 points/s over 1 hour (serial)"),
        ({"not_converged": 1}, "NOT CONVERGED: 1 points of this run; see column converged"),
        ({"stored": 5}, "3 more points of other plans are in the folder"),
        ({"failures": {"no memory": 1}}, "failed (1): no memory"),
    ],
)
def test_told(changes, line):
    assert line in replace(STATUS, **changes).lines()
    assert (line in STATUS.lines()) == (not changes)


def test_without_a_rate():
    assert replace(STATUS, rate=None).lines() == ["finished: 2 of 2 points done"]
