"""Kill sweeps at random moments, resume them, and compare with a sweep that nobody disturbed.

    python benchmarks/killing.py --kills 20            # each way; minutes
    python benchmarks/killing.py --kills 2 --ways local-4 scheduler

Ways: ``serial``, ``local-1`` and ``local-4`` kill the sweep itself (SIGKILL), ``worker`` one of its four workers,
``scheduler`` the Dask scheduler that it works through, ``dask-worker`` a worker of that; ``disk`` kills nothing but
lets a small tmpfs run full (needs the right to mount). Short versions are in tests/sweeps/test_workers.py.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

PLAN = {
    "data": "digits",
    "classes": [6, 9],
    "n_train": 100,
    "n_test": 60,
    "depth": 2,
    "grid": {
        "seed": [0, 1, 2],
        "closure": ["nested", "product"],
        "width": [20, 60, 180],
        "temperature": [0.02, 0.1, 0.5],
    },
}
CLIENTS = {
    "serial": ("serial",),
    "local-1": ("local", "--workers", "1"),
    "local-4": ("local", "--workers", "4"),
    "worker": ("local", "--workers", "4"),
}
WAYS = (*CLIENTS, "scheduler", "dask-worker", "disk")


def command(plan: Path, out: Path, client: tuple[str, ...]) -> list[str]:
    sweep = [sys.executable, "-m", "finitewidth.cli", "sweep", str(plan), "--out", str(out)]
    return [*sweep, "--json", "--client", *client]


def content(out: Path) -> dict[str, tuple[str, str, str]]:
    """Of every point: configuration, status and result, but for the seconds."""
    with contextlib.closing(sqlite3.connect(out / "results.sqlite")) as db:
        rows = db.execute("SELECT point_id, config, status, result FROM points").fetchall()
    found = {}
    for point_id, config, status, result in rows:
        plain = {} if result is None else json.loads(result)
        plain.pop("seconds", None)
        found[point_id] = (config, status, json.dumps(plain, sort_keys=True))
    assert len(found) == len(rows), "a point stands there twice"
    return found


def moments(out: Path) -> dict[str, str]:
    """When every point that is stored was begun."""
    if not (out / "results.sqlite").exists():
        return {}
    with contextlib.closing(sqlite3.connect(f"file:{out / 'results.sqlite'}?mode=ro", uri=True)) as db:
        try:
            return dict(db.execute("SELECT point_id, started_at FROM points"))
        except sqlite3.OperationalError:  # killed before the table was there
            return {}


def children(pid: int) -> list[int]:
    """The workers of a sweep: its children but for Python's resource tracker."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, task.read_text().split())
    return [child for child in found if "spawn_main" in _words(child)]


def _words(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def wait_for(out: Path, count: int, seconds: float, process: subprocess.Popen) -> None:
    """Until so many points are stored, and a moment longer."""
    while len(moments(out)) < count and process.poll() is None:
        time.sleep(0.01)
    time.sleep(seconds)


def kill_once(plan: Path, out: Path, way: str, wait: Callable[[subprocess.Popen], None]) -> bool:
    """Start a sweep, kill what is to be killed; whether it was still running then."""
    process = subprocess.Popen(command(plan, out, CLIENTS[way]), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait(process)
    running = process.poll() is None
    with contextlib.suppress(ProcessLookupError, IndexError, OSError):
        victim = random.choice(children(process.pid)) if way == "worker" else process.pid
        os.kill(victim, signal.SIGKILL)
    process.communicate()
    assert process.returncode == 0 or way != "worker", "a sweep must survive its workers"
    return running


def resume(plan: Path, out: Path, client: tuple[str, ...]) -> None:
    done = subprocess.run(command(plan, out, client), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- Dask -------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def scheduler(port: int) -> Iterator[subprocess.Popen]:
    options = ["--port", str(port), "--no-dashboard", "--host", "127.0.0.1"]
    with _ended(_program("distributed.cli.dask_scheduler", *options)) as process:
        _wait_for(port)
        yield process


@contextlib.contextmanager
def worker(port: int) -> Iterator[subprocess.Popen]:
    options = ["--nthreads", "1", "--nworkers", "1", "--no-dashboard", "--no-nanny", "--death-timeout", "20"]
    with _ended(_program("distributed.cli.dask_worker", f"tcp://127.0.0.1:{port}", *options)) as process:
        yield process


def _program(module: str, *options: str) -> subprocess.Popen:
    # in a folder of its own: distributed leaves its scratch space where it runs
    place = Path(tempfile.gettempdir()) / f"finitewidth-dask-{os.getpid()}"
    place.mkdir(exist_ok=True)
    command = [sys.executable, "-m", module, *options]
    return subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def _ended(process: subprocess.Popen) -> Iterator[subprocess.Popen]:
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def _wait_for(port: int) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise TimeoutError(f"no scheduler at port {port}")


def kill_with_dask(plan: Path, out: Path, way: str, wait: Callable[[subprocess.Popen], None]) -> bool:
    """A sweep through Dask whose scheduler or worker is killed; then the same command with new ones."""
    port = free_port()
    client = (f"tcp://127.0.0.1:{port}",)
    with scheduler(port) as ruler, worker(port) as one, worker(port):
        process = subprocess.Popen(
            command(plan, out, client), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        wait(process)
        running = process.poll() is None
        (ruler if way == "scheduler" else one).kill()
        _, said = process.communicate()
        if way == "scheduler" and running and process.returncode != 0:
            assert process.returncode == 2, said
            assert said.count("\n") == 1, said
        assert way == "scheduler" or process.returncode == 0, said
    if way == "scheduler":
        with scheduler(port), worker(port):
            resume(plan, out, client)
    return running


# --- trials -----------------------------------------------------------------------------------------------------------


def trial(
    plan: Path, out: Path, way: str, wait: Callable[[subprocess.Popen], None], reference: dict
) -> tuple[bool, int]:
    """One kill and one resumption, held to the reference; (was it running, how many points were there)."""
    running = (kill_once if way in CLIENTS else kill_with_dask)(plan, out, way, wait)
    before = moments(out)
    resume(plan, out, ("serial",))
    assert content(out) == reference, f"another result after a kill ({way})"
    after = moments(out)
    assert all(after[point] == moment for point, moment in before.items()), "a point that was done was done again"
    return running, len(before)


def fill_the_disk(plan: Path, place: Path, reference: dict) -> int:
    """A sweep on a tmpfs that is too small, then the same command with more room; points stored when it was full."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(place)], check=True)
    try:
        done = subprocess.run(command(plan, place / "out", ("serial",)), capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
        before = moments(place / "out")
        subprocess.run(["mount", "-o", "remount,size=30m", str(place)], check=True)
        resume(plan, place / "out", ("serial",))
        assert content(place / "out") == reference
        assert before.items() <= moments(place / "out").items()
    finally:
        subprocess.run(["umount", str(place)], check=True)
    return len(before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=WAYS)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    random.seed(given.seed)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        plan = folder / "plan.yaml"
        plan.write_text(json.dumps(PLAN))
        resume(plan, folder / "reference", ("serial",))
        reference = content(folder / "reference")
        print(f"{len(reference)} points", flush=True)
        for way in given.ways:
            if way == "disk":
                held = fill_the_disk(plan, folder / "disk", reference)
                print(f"disk         full after {held} points; with room, every point once and equal", flush=True)
                continue
            started, found = time.monotonic(), []
            for number in range(given.kills):
                out = folder / f"{way}-{number}"
                wait = partial(wait_for, out, random.randrange(len(reference)), random.uniform(0.0, 0.3))
                found.append(trial(plan, out, way, wait, reference))
            held = sorted(count for _, count in found)
            killed = sum(running for running, _ in found)
            print(
                f"{way:12s} {given.kills} kills, {killed} before the end; points stored then: {held}; after resuming "
                f"every point once and equal; {time.monotonic() - started:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
