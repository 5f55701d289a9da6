"""The table of a sweep, and how far it is, in words."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from finitewidth.report.sweep_table import status_lines, sweep_table
from finitewidth.sweeps import Status

STATUS = Status("out", "finished", 2, 2, 0, 0, 0, 2, 4.0, 0.5, None, "then", "now", "finished", "serial", {})
RESULT = {"test_error": 0.25, "train_error": 0.125, "bias": 0.2, "variance": 0.05, "accuracy": 0.975}


def row(config=None, status="done", converged=True, **result):
    return {
        "config": config or {"width": 20},
        "status": status,
        "result": RESULT | result if status == "done" else None,
        "converged": converged,
    }


def printed(rows, swept=("width",), status=STATUS):
    console = Console(width=200)
    with console.capture() as capture:
        console.print(sweep_table(rows, swept, status))
    return capture.get()


def test_results_and_what_is_doubtful():
    text = printed([row(), row({"width": 40}, converged=False), row({"width": 80}, "failed")])
    of_width = {
        line.split()[0]: line.split() for line in text.splitlines() if line.split()[:1] in (["20"], ["40"], ["80"])
    }
    assert "97.5" in of_width["20"]
    assert "0.2500" in " ".join(of_width["20"])
    assert "?" not in " ".join(of_width["20"])
    assert "?" in " ".join(of_width["40"])
    assert "failed" in of_width["80"]
    assert "0.25" not in " ".join(of_width["80"])


def test_samples_have_error_bars_and_r_hat():
    text = printed([row(test_error_se=0.01, r_hat=1.0234)])
    assert "1.023" in text
    assert "0.250(10)" in text


def test_configurations_in_short():
    config = {
        "widths": [40, 60],
        "data": "a/very/long/path/to/the/data/of/someone.npz",
        "n_train": 2_000_000,
        "seed": None,
    }
    text = printed([row(config)], tuple(config))
    assert "40,60" in text
    assert "...to/the/data/of/someone.npz"[-21:] in text
    assert "a/very" not in text
    assert "2e+06" in text


def test_what_does_not_fit_is_left_out_from_the_end():
    keys = [f"an_unusually_long_key_{i}" for i in range(6)]
    text = printed([row(dict.fromkeys(keys, "x" * 24))], keys)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert text.count("x" * 24) == 2
    assert "0.2500" in text


def test_only_the_first_points():
    assert "The first 1 of 2 points" in printed([row()])
    assert "All points" in printed([row(), row()])


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
    assert line in status_lines(replace(STATUS, **changes))
    assert (line in status_lines(STATUS)) == (not changes)


def test_without_a_rate():
    assert status_lines(replace(STATUS, rate=None)) == ["finished: 2 of 2 points done"]
