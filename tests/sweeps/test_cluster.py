"""Sweeps through a Dask scheduler. Kills of schedulers and workers: benchmarks/killing.py."""

from __future__ import annotations

import json

import pytest
from killing import content, free_port, resume, scheduler, worker

import finitewidth as fw
from finitewidth.sweeps import cluster

pytest.importorskip("distributed")

PLAN = {
    "data": "digits",
    "classes": [6, 9],
    "n_test": 30,
    "grid": {"seed": [0, 1], "width": [20, 60], "n_train": [40, 5000]},
}


@pytest.mark.slow
def test_through_a_scheduler_as_in_one_process(tmp_path):
    plan = tmp_path / "plan.yaml"
    plan.write_text(json.dumps(PLAN))
    port = free_port()
    with scheduler(port), worker(port):
        resume(plan, tmp_path / "out", (f"tcp://127.0.0.1:{port}",))
    status = fw.sweeps.run(PLAN, tmp_path / "serial")
    assert (status.done, status.failed) == (4, 4)
    assert content(tmp_path / "out") == content(tmp_path / "serial")
    assert fw.sweeps.status(tmp_path / "out").client == f"tcp://127.0.0.1:{port}"


def test_no_scheduler(monkeypatch):
    def nobody(*_, **__):
        raise OSError("nobody answers")

    monkeypatch.setattr("distributed.Client", nobody)
    refusal = pytest.raises(fw.InputError, match=r"no Dask scheduler at tcp://h:1 \(OSError: nobody answers\)")
    with refusal, cluster.connected("tcp://h:1"):
        pass
