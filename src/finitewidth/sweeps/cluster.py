"""Workers through Dask: processes of this machine, or those of any scheduler (dask-jobqueue, another machine)."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import ctypes
import importlib.util
import itertools
import logging
import queue
import signal
import threading
import time
from collections.abc import Generator, Iterator
from multiprocessing import resource_tracker
from types import ModuleType
from typing import TYPE_CHECKING, Any

from finitewidth.checks.exceptions import InputError, needed
from finitewidth.runs.durations import now
from finitewidth.sweeps.store import Outcome
from finitewidth.sweeps.worker import Setting, StopSweepError, Task, Worker

if TYPE_CHECKING:
    from distributed import Client

_CONNECT = "10s"
_LOOK = 1.0  # seconds between looks at how many workers there are
_RETURN = 0.5  # seconds after which a worker returns what it has done of a batch
_MOST = 64  # points in a batch
_DEATHS = 3  # of its worker, after which a point counts as failed
_CANCELLED = (asyncio.CancelledError, concurrent.futures.CancelledError)


# --- clients ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def local(workers: int) -> Iterator[Client]:
    """A client of new processes of this machine, one thread each, that end with this process, however it ends.

    Raises InputError where they cannot begin.
    """
    distributed = _distributed()
    encrypted = importlib.util.find_spec("cryptography") is not None
    with _silent():
        try:
            with _uninterrupted():
                cluster = distributed.LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    memory_limit=0,  # a point has its own
                    dashboard_address="127.0.0.1:0",
                    security=encrypted or None,  # True: nobody else on this machine can connect
                    scheduler_kwargs={"allowed_failures": _DEATHS - 1, "dashboard": False},
                    silence_logs=logging.CRITICAL,
                )
        except RuntimeError as error:
            raise InputError(
                "workers that end before they begin",
                "a main module that can be imported",
                "put what starts the sweep under: if __name__ == '__main__':",
            ) from error
        with cluster, distributed.Client(cluster, set_as_default=False) as client:
            yield client


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """An interrupt waits until the end. Threads and processes started meanwhile, and theirs, hear of none: a terminal
    interrupts the whole group, and this process says what is to be done."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # which would lift the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def connected(address: str) -> Iterator[Client]:
    """A client of the scheduler at ``address``; InputError where there is none. Dask warns of other versions."""
    distributed = _distributed()
    with _silent():
        try:
            client = distributed.Client(address, timeout=_CONNECT, set_as_default=False, name="finitewidth-sweep")
        except Exception as error:  # OSError, TimeoutError, ValueError, and whatever another version answers
            raise InputError(
                f"no Dask scheduler at {address} ({type(error).__name__}: {error})",
                f"the address of a running scheduler of distributed {distributed.__version__}, tcp://HOST:8786",
                "start one with: dask scheduler",
            ) from error
        try:
            yield client
        finally:
            with contextlib.suppress(Exception):
                client.close(timeout=2)


def _distributed() -> ModuleType:
    with needed("distributed", "sweep", "workers beside this process"):
        import distributed
    return distributed


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """What happens to a connection is said in one line of ours, not in tracebacks of distributed's log."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client", "distributed.core")]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


# --- batches to workers, outcomes back --------------------------------------------------------------------------------


def outcomes(tasks: Iterator[Task], setting: Setting, client: Any, ahead: int, count: int) -> Generator[Outcome]:
    """Outcomes as they come in; every worker has ``ahead`` batches under way, and workers may come and go.

    count: of tasks. The points of a batch share work; every worker gets two batches at least. Dask gives
    a batch whose worker has gone to another.
    Raises InputError where the scheduler is gone, StopSweepError where a worker met a reason to stop them all.
    """
    dispatch = _Dispatch(setting, client)
    size = max(1, min(_MOST, count // (2 * dispatch.workers())))
    groups = (list(group) for _, group in itertools.groupby(tasks, key=lambda task: task.point.group))
    batches = (group[i : i + size] for group in groups for i in range(0, len(group), size))
    try:
        while True:
            for batch in itertools.islice(batches, max(0, ahead * dispatch.workers() - len(dispatch.running))):
                dispatch.submit(batch)
            if not (dispatch.running or dispatch.submit_suspect()):
                return
            yield from dispatch.finished()
    except BaseException:
        dispatch.interrupt()
        raise


class _Dispatch:
    """What is under way.

    Where workers die of a batch again and again, its points are done at the end, each with nothing beside it: who dies
    of that point does so by its fault.
    """

    def __init__(self, setting: Setting, client: Any) -> None:
        self.setting, self.client = setting, client
        self.address = str(client.scheduler.address)
        self.running: dict[str, tuple[Any, list[Task], bool]] = {}
        self.ended: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self.suspects: list[Task] = []

    def workers(self) -> int:
        """How many there are; one at least, which may be under way."""
        try:
            return max(1, len(self.client.nthreads()))
        except Exception as error:  # whatever distributed says of a lost connection
            raise _gone(self.address) from error

    def submit(self, batch: list[Task], alone: bool = False, **where: Any) -> None:
        """Hand out a batch."""
        future = self.client.submit(work, batch, self.setting, pure=False, **where)
        self.running[future.key] = (future, batch, alone)
        future.add_done_callback(self._collect)

    def submit_suspect(self) -> bool:
        """Hand out a point whose batch has ended its workers, if there is one."""
        if self.suspects:
            self.submit([self.suspects.pop()], alone=True)
        return bool(self.running)

    def finished(self) -> Iterator[Outcome]:
        """Of a batch, as soon as one ends, or of none after a moment."""
        try:
            key, found = self.ended.get(timeout=_LOOK)
        except queue.Empty:
            return
        _, batch, alone = self.running.pop(key)
        if isinstance(found, tuple):
            done, worker = found
            if len(done) < len(batch):  # whoever began has what the rest shares
                self.submit(batch[len(done) :], workers=[worker], allow_other_workers=True)
            yield from done
        elif isinstance(found, StopSweepError):
            raise found
        elif isinstance(found, _CANCELLED):
            raise _gone(self.address)
        elif alone:
            yield _lost(batch[0], found)
        else:
            self.suspects += batch

    def interrupt(self) -> None:
        """Let workers save the checkpoints of what they are at."""
        with contextlib.suppress(Exception):
            self.client.cancel([future for future, _, _ in self.running.values()])
            self.client.run(interrupt)

    def _collect(self, future: Any) -> None:
        """In a thread of Dask's, for a result may be lost with its worker just before it is fetched."""
        try:
            self.ended.put((future.key, future.result()))
        except BaseException as error:  # one that is cancelled is no Exception
            self.ended.put((future.key, error))


def _lost(task: Task, error: BaseException) -> Outcome:
    """The outcome of a point whose worker could not tell."""
    killed = type(error).__name__ == "KilledWorker"
    said = f"{type(error).__name__}: {' '.join(str(error).split())}"
    reason = "its worker ended again and again, out of memory perhaps" if killed else said
    moment = now()
    return Outcome(task.point, "failed", None, reason, moment, moment, 0.0, "{}")


def _gone(address: str) -> InputError:
    return InputError(
        f"the Dask scheduler at {address}, which is gone",
        "one that runs as long as the sweep",
        "start it again and run the same command again; every point that was done is kept",
    )


# --- on a worker ------------------------------------------------------------------------------------------------------

_lock = threading.Lock()
_workers: dict[Setting, Worker] = {}  # of this process
_threads: list[int] = []  # at work


def work(batch: list[Task], setting: Setting) -> tuple[list[Outcome], str]:
    """The outcomes of a batch, or of its first points when a moment has passed; and the address of this worker.

    Workers of several threads take turns, for BLAS has one setting.
    """
    with _lock:
        _threads.append(threading.get_ident())
        try:
            return _done(batch, setting), _distributed().get_worker().address
        except KeyboardInterrupt:
            raise RuntimeError("interrupted") from None  # Dask would end the worker
        finally:
            _threads.clear()


def _done(batch: list[Task], setting: Setting) -> list[Outcome]:
    if setting not in _workers:
        _workers.clear()
        _workers[setting] = Worker(setting)
    found, until = [], time.monotonic() + _RETURN
    for task in batch:
        found.append(_workers[setting].outcome(task))
        if time.monotonic() > until:
            break
    return found


def interrupt() -> None:
    """As Ctrl-C in the process itself."""
    for thread in _threads:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt))
