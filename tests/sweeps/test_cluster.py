"""Sweeps through a Dask scheduler. Kills of schedulers and workers: benchmarks/killing.py."""

from __future__ import annotations

import json
from types import SimpleNamespace

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


def client_with(**packages: str) -> SimpleNamespace:
    """A stand-in for a client whose worker has other versions than this process."""
    ours = {"python": "3.11.7.final.0", "distributed": "2026.8.0", "finitewidth": fw.__version__}
    everywhere = {"packages": ours}
    found = {"client": everywhere, "scheduler": everywhere, "workers": {"tcp://w": {"packages": ours | packages}}}
    return SimpleNamespace(get_versions=lambda packages: found)


@pytest.mark.parametrize(
    ("library", "version", "ours"),
    [
        ("distributed", "2024.1.0", "2026.8.0"),
        ("python", "3.12.1.final.0", "3.11.7"),
        ("finitewidth", "0.0.9", fw.__version__),
    ],
)
def test_another_version_is_refused_with_both(library, version, ours):
    with pytest.raises(fw.InputError, match=r"the worker tcp://w at tcp://s") as error:
        cluster._refuse_other_versions(client_with(**{library: version}), "tcp://s")
    assert version in str(error.value)
    assert ours in str(error.value)


def test_patch_releases_of_python_may_differ():
    cluster._refuse_other_versions(client_with(python="3.11.2.final.0"), "tcp://s")


def test_no_scheduler(monkeypatch):
    def nobody(*_, **__):
        raise OSError("nobody answers")

    with pytest.raises(fw.InputError, match=r"no Dask scheduler at tcp://h:1 \(OSError: nobody answers\)"):
        cluster._client(nobody, "tcp://h:1")
