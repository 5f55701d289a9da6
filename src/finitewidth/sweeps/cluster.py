"""Workers behind any Dask scheduler: another machine's, or a cluster's started with dask-jobqueue."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import queue
import threading
import time
from collections.abc import Generator, Iterator
from importlib import metadata
from typing import Any

from finitewidth.exceptions import InputError, MissingExtraError
from finitewidth.fingerprints import versions
from finitewidth.sweeps.dealing import Dealer
from finitewidth.sweeps.processes import DEATHS, lost
from finitewidth.sweeps.store import Outcome
from finitewidth.sweeps.work import Setting, StopSweepError, Task, Worker

_CONNECT = "10s"
_LOOK = 3.0  # seconds between looks at the scheduler and its threads
_COMPARED = ("python", "distributed", "dask", "cloudpickle", "msgpack", "numpy")
_lock = threading.Lock()
_workers: dict[Setting, Worker] = {}  # of this process


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """A client of the scheduler at ``address``; InputError where there is none, or one of other versions."""
    try:
        import distributed
    except ImportError as error:
        raise MissingExtraError("distributed", "cluster", "a Dask client") from error
    with _silent():
        client = _client(distributed.Client, address)
        try:
            _refuse_other_versions(client, address)
            yield client
        finally:
            with contextlib.suppress(Exception):
                client.close(timeout=2)


def _client(kind: Any, address: str) -> Any:
    try:
        return kind(address, timeout=_CONNECT, set_as_default=False, name="finitewidth-sweep")
    except Exception as error:  # OSError, TimeoutError, ValueError, and whatever another version answers
        ours = metadata.version("distributed")
        raise InputError(
            f"no Dask scheduler at {address} ({type(error).__name__}: {error})",
            f"the address of a running scheduler of distributed {ours}, tcp://HOST:8786",
            "start one with: dask scheduler",
        ) from error


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """What happens to a connection is told in one line of ours, not in tracebacks of distributed's log."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client", "distributed.core")]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _refuse_other_versions(client: Any, address: str) -> None:
    found = client.get_versions()
    ours = found["client"]["packages"] | versions()
    sides = {"the scheduler": found["scheduler"]["packages"]}
    sides |= {f"the worker {name}": worker["packages"] for name, worker in found["workers"].items()}
    for name, installed in client.run(versions).items():
        sides[f"the worker {name}"] = sides.get(f"the worker {name}", {}) | installed
    for side, theirs in sides.items():
        for library in (*_COMPARED, "finitewidth", "jax"):
            given, wanted = theirs.get(library), ours.get(library)
            if given and wanted and _shortened(library, given) != _shortened(library, wanted):
                raise InputError(
                    f"{side} at {address} with {library} {given}",
                    f"{library} {wanted}, as here",
                    "install the same version on both sides",
                )


def _shortened(library: str, version: str) -> str:
    """Of Python, 3.11: patch releases understand one another."""
    return ".".join(version.split(".")[:2]) if library == "python" else version


def outcomes(tasks: Iterator[Task], setting: Setting, client: Any) -> Generator[Outcome, None, None]:
    """Outcomes as they come in; twice as many batches are under way as there are threads, which may come and go.

    Raises InputError where the scheduler is gone, StopSweepError where a worker met a reason to stop them all.
    """
    address = str(client.scheduler.address)
    dealer, slots = Dealer(tasks, 1), itertools.count()
    running: dict[str, tuple[Any, int, list[Task]]] = {}
    finished: queue.Queue[str] = queue.Queue()
    deaths: dict[str, int] = {}

    def submit(slot: int) -> bool:
        batch = dealer.take(slot)
        if batch:
            future = client.submit(work, batch, setting, pure=False)
            running[future.key] = (future, slot, batch)
            future.add_done_callback(lambda future: finished.put(future.key))
        return bool(batch)

    looked = -math.inf
    while True:
        if time.monotonic() - looked > _LOOK:
            looked, dealer.workers = time.monotonic(), _slots(client, address)
            while len(running) < dealer.workers and submit(next(slots)):
                pass
        if not running:
            return
        try:
            future, slot, batch = running.pop(finished.get(timeout=_LOOK))
        except queue.Empty:
            continue
        if future.cancelled():
            raise _gone(address)
        failure = future.exception()
        if failure is None:
            yield from future.result()
        elif isinstance(failure, StopSweepError):
            raise failure
        else:
            yield from _lost(batch, failure, dealer, deaths)
        if not submit(slot):
            looked = -math.inf  # something may have been given back


def _slots(client: Any, address: str) -> int:
    """Batches to have under way."""
    try:
        return max(2, 2 * sum(client.nthreads().values()))
    except Exception as error:  # whatever distributed says of a lost connection
        raise _gone(address) from error


def _lost(batch: list[Task], error: BaseException, dealer: Dealer, deaths: dict[str, int]) -> Iterator[Outcome]:
    """Batches whose workers died go out again, point by point; a point that is fatal again and again fails."""
    if len(batch) > 1:
        dealer.give_back(batch)
        return
    (task,) = batch
    deaths[task.point.id] = deaths.get(task.point.id, 0) + 1
    if deaths[task.point.id] >= DEATHS or type(error).__name__ == "KilledWorker":
        yield lost(task, f"{type(error).__name__}: {' '.join(str(error).split())}")
    else:
        dealer.give_back(batch)


def _gone(address: str) -> InputError:
    return InputError(
        f"the Dask scheduler at {address}, which is gone",
        "one that runs as long as the sweep",
        "start it again and run the same command again; every point that was done is kept",
    )


def work(batch: list[Task], setting: Setting) -> list[Outcome]:
    """On a worker: the outcomes of a batch. Workers of several threads take turns, for BLAS has one setting."""
    with _lock:
        if setting not in _workers:
            _workers.clear()
            _workers[setting] = Worker(setting)
        worker = _workers[setting]
        return [worker.outcome(task) for task in batch]
