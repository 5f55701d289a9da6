"""Sweeps on several processes, and what happens when one of them, or the sweep itself, is killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from killing import children, command, content, moments, resume, wait_for

import finitewidth as fw
from finitewidth.sweeps import processes
from finitewidth.sweeps.dealing import Dealer
from finitewidth.sweeps.point import Point
from finitewidth.sweeps.work import Setting, Task

pytest.importorskip("pydantic")
pytest.importorskip("yaml")

PLAN = {
    "data": "digits",
    "classes": [6, 9],
    "n_train": 60,
    "n_test": 40,
    "depth": 2,
    "grid": {"seed": [0, 1], "closure": ["nested", "product"], "width": [20, 60], "temperature": [0.02, 0.1, 0.5]},
}
LOCAL = ("local", "--workers", "2")


def tasks(groups: int, size: int, method: str = "saddle") -> list[Task]:
    base = {"data": "digits", "method": method}
    points = ({"seed": g, "temperature": t} for g in range(groups) for t in range(1, size + 1))
    return [Task(Point.of(base | point), "digits") for point in points]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("method", ["saddle", "sample"])
def test_every_task_is_dealt_once_and_groups_stay_together(workers, method):
    todo = tasks(5, 40, method)
    dealer = Dealer(iter(todo), workers)
    seen: list[tuple[int, Task]] = []
    turn = 0
    while batch := dealer.take(turn % workers):
        seen += [(turn % workers, task) for task in batch]
        turn += 1
        assert len(batch) == 1 or method == "saddle"
    assert Counter(task.point.id for _, task in seen) == Counter(task.point.id for task in todo)
    meetings = {(worker, task.point.group) for worker, task in seen}
    assert len(meetings) <= 5 + workers


def test_what_is_given_back_is_dealt_again():
    dealer = Dealer(iter(tasks(1, 4)), 1)
    first = dealer.take(0)
    dealer.give_back(first)
    again = [task for _ in range(9) for task in dealer.take(0)]
    assert sorted(task.point.id for task in again) == sorted(task.point.id for task in tasks(1, 4))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A plan, and what comes of it in one process."""
    folder = tmp_path_factory.mktemp("undisturbed")
    plan = folder / "plan.yaml"
    plan.write_text(json.dumps(PLAN))
    fw.sweeps.run(plan, folder / "out")
    return plan, content(folder / "out")


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["sweep", "worker"])
def test_killed_and_resumed_as_if_nothing_had_happened(tmp_path, undisturbed, victim):
    """Twenty kills in each of more ways: python benchmarks/killing.py."""
    plan, reference = undisturbed
    out = tmp_path / "out"
    process = subprocess.Popen(command(plan, out, LOCAL), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(out, random.Random(victim).randint(1, 12), 0.0, process)
    workers = children(process.pid)
    assert len(workers) == 2
    os.kill(workers[0] if victim == "worker" else process.pid, signal.SIGKILL)
    _, said = process.communicate()
    assert process.returncode == (0 if victim == "worker" else -signal.SIGKILL), said
    before = moments(out)
    if victim == "sweep":
        assert 0 < len(before) < len(reference)
        assert fw.sweeps.status(out).state == "stopped"
        assert gone(workers), "workers outlive their sweep"
        resume(plan, out, ("serial",))
    assert content(out) == reference
    assert before.items() <= moments(out).items(), "a point that was done was done again"


def gone(pids: list[int]) -> bool:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if not any(Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
def test_interrupted_watched_and_refused_meanwhile(tmp_path, undisturbed):
    plan, reference = undisturbed
    out = tmp_path / "out"
    process = subprocess.Popen(command(plan, out, LOCAL), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(out, 2, 0.0, process)
    status = fw.sweeps.status(out)
    assert status.state == "running"
    assert status.planned == len(reference)
    assert 0 < status.done < status.planned
    assert status.rate > 0.0
    assert status.seconds_left > 0.0
    with pytest.raises(fw.InputError, match=f"process {process.pid} on"):
        fw.sweeps.run(plan, out)
    process.send_signal(signal.SIGINT)
    out_text, said = process.communicate()
    assert (process.returncode, out_text) == (130, ""), said
    assert 0 < len(moments(out)) < len(reference)
    assert fw.sweeps.status(out).outcome == "interrupted"


def test_a_point_that_kills_its_workers_fails_and_the_others_do_not(monkeypatch):
    """With stand-ins for processes: the third death of the same point is its own fault."""
    todo = tasks(1, 2)
    fatal = todo[0].point.id

    class StandIn:
        exitcode = -signal.SIGKILL

        def join(self, timeout=None):
            pass

        def is_alive(self):
            return False

        def kill(self):
            pass

    def start(setting):
        pipe, _ = processes.multiprocessing.Pipe()
        return processes._Process(StandIn(), pipe)

    def hand(worker, dealer, number):
        worker.tasks = dealer.take(number)
        return bool(worker.tasks)

    def news(worker):
        if not worker.ready:
            return "ready"
        task = worker.tasks[0]
        return None if task.point.id == fatal else processes.lost(task, "done by a stand-in")

    monkeypatch.setattr(processes, "_start", start)
    monkeypatch.setattr(processes, "_with_news", lambda pool: list(pool))
    monkeypatch.setattr(processes, "_news", news)
    monkeypatch.setattr(processes, "_hand", hand)
    found = {o.point.id: o.reason for o in processes.outcomes(iter(todo), Setting("out", None, False), 1)}
    assert set(found) == {task.point.id for task in todo}
    assert found[fatal] == "its worker ended 3 times (SIGKILL, out of memory perhaps)"
