"""Sweeps on several processes, and what happens when one of them, or the sweep itself, is killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from killing import children, command, content, moments, wait_for

import finitewidth as fw
from finitewidth.sweeps import cluster
from finitewidth.sweeps.point import Point
from finitewidth.sweeps.store import Outcome
from finitewidth.sweeps.worker import Setting, Task

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


def tasks(groups: int, size: int) -> list[Task]:
    points = ({"seed": g, "temperature": t} for g in range(groups) for t in range(1, size + 1))
    return [Task(Point.of({"data": "digits"} | point), "digits") for point in points]


def ids(found) -> list[str]:
    return sorted(task.point.id for task in found)


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
        assert fw.sweeps.run(plan, out).left == 0
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
def test_interrupted_watched_and_refused_meanwhile(tmp_path):
    plan, out = tmp_path / "plan.yaml", tmp_path / "out"
    temperatures = [number / 200 for number in range(1, 101)]
    plan.write_text(json.dumps(PLAN | {"grid": PLAN["grid"] | {"temperature": temperatures}}))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command(plan, out, LOCAL), **pipes, start_new_session=True)
    wait_for(out, 2, 0.0, process)
    status = fw.sweeps.status(out)
    assert status.state == "running"
    assert status.planned == 800
    assert 0 < status.done < status.planned
    assert status.rate > 0.0
    assert status.seconds_left > 0.0
    with pytest.raises(fw.InputError, match=f"process {process.pid} on"):
        fw.sweeps.run(plan, out)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert (*process.communicate(), process.returncode) == ("", "", 130)
    assert 0 < len(moments(out)) < 800
    assert fw.sweeps.status(out).outcome == "interrupted"


class StandIn:
    """For Dask's client: ``perform`` is what a worker does of a batch."""

    def __init__(self, perform, workers=("tcp://a", "tcp://b")):
        self.perform, self.workers, self.calls = perform, workers, []
        self.scheduler = SimpleNamespace(address="tcp://s")

    def nthreads(self):
        return dict.fromkeys(self.workers, 1)

    def submit(self, work, batch, setting, pure, workers=None, allow_other_workers=False):
        assert allow_other_workers == (workers is not None)
        self.calls.append((workers, ids(batch)))
        found = self.perform(batch)

        def result():
            if isinstance(found, Exception):
                raise found
            return found, "tcp://a"

        future = SimpleNamespace(key=str(len(self.calls)), result=result, cancel=lambda: None)
        future.add_done_callback = lambda tell: tell(future)
        return future

    def cancel(self, futures):
        self.calls.append("cancelled")

    def run(self, function):
        self.calls.append(function.__name__)


class KilledWorker(Exception):
    """As Dask says it."""


def done(batch) -> list[Outcome]:
    return [Outcome(task.point, "done", {}, "", "", "", 0.0, "{}") for task in batch]


def outcomes(todo, client) -> dict[str, str]:
    found = list(cluster.outcomes(iter(todo), Setting("out", None, False), client, 1, len(todo)))
    assert ids(found) == ids(todo)
    return {outcome.point.id: outcome.reason for outcome in found}


def test_a_point_that_kills_its_workers_fails_and_the_others_do_not():
    todo = tasks(1, 9)
    fatal = todo[2].point.id
    client = StandIn(lambda batch: KilledWorker() if fatal in ids(batch) else done(batch))
    found = outcomes(todo, client)
    assert found.pop(fatal) == "its worker ended again and again, out of memory perhaps"
    assert set(found.values()) == {""}
    assert client.calls[-1] != "interrupt"


def test_what_a_worker_does_not_come_to_is_done_later_there_if_possible():
    client = StandIn(lambda batch: done(batch[:1]))
    outcomes(tasks(2, 9), client)
    assert {tuple(workers) for workers, _ in client.calls if workers} == {("tcp://a",)}


@pytest.mark.parametrize(("groups", "size", "batches"), [(2, 9, 6), (20, 4, 20), (1, 3, 3), (1, 1000, 16)])
def test_the_points_of_a_batch_share_work_and_every_worker_has_some(groups, size, batches):
    todo = tasks(groups, size)
    client = StandIn(done)
    outcomes(todo, client)
    assert len(client.calls) == batches
    group = {task.point.id: task.point.group for task in todo}
    assert all(len({group[name] for name in names}) == 1 for _, names in client.calls)


def test_workers_hear_of_an_end_and_of_a_scheduler_that_is_gone():
    client = StandIn(lambda batch: done(batch))
    found = cluster.outcomes(iter(tasks(1, 9)), Setting("out", None, False), client, 1, 9)
    next(found)
    found.close()
    assert client.calls[-2:] == ["cancelled", "interrupt"]

    def gone():
        raise OSError("nobody answers")

    client.nthreads = gone
    with pytest.raises(fw.InputError, match="tcp://s, which is gone"):
        outcomes(tasks(1, 1), client)


def test_no_scheduler(monkeypatch):
    """One that is there: examples/06_sweep_on_a_cluster.py."""

    def nobody(*_, **__):
        raise OSError("nobody answers")

    monkeypatch.setattr("distributed.Client", nobody)
    refusal = pytest.raises(fw.InputError, match=r"no Dask scheduler at tcp://h:1 \(OSError: nobody answers\)")
    with refusal, cluster.connected("tcp://h:1"):
        pass


def test_an_interrupted_worker_ends_its_point_and_no_more(monkeypatch):
    monkeypatch.setattr(cluster, "_done", lambda batch, setting: (cluster.interrupt(), time.sleep(5.0)))
    with pytest.raises(RuntimeError, match="interrupted"):
        cluster.work([], Setting("out", None, False))
    cluster.interrupt()  # idle: nothing happens


def test_a_worker_returns_after_a_moment(monkeypatch):
    monkeypatch.setattr(cluster, "Worker", lambda setting: SimpleNamespace(outcome=lambda task: task))
    setting = Setting("elsewhere", None, False)
    assert cluster._done([1, 2, 3], setting) == [1, 2, 3]
    monkeypatch.setattr(cluster, "_RETURN", -1.0)
    assert cluster._done([1, 2, 3], setting) == [1]
