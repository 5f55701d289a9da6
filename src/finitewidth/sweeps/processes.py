"""Workers that are processes of this machine, one thread each. A worker that is killed is replaced."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from finitewidth.durations import now
from finitewidth.exceptions import InputError
from finitewidth.sweeps.dealing import Dealer
from finitewidth.sweeps.store import Outcome
from finitewidth.sweeps.work import Setting, StopSweepError, Task, Worker

DEATHS = 3  # of its worker, after which a point counts as failed
_PATIENCE = 10.0  # seconds that workers have to save their checkpoints
_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
_READY = "ready"


@dataclass
class _Process:
    """A worker as its owner sees it. tasks: handed to it and not answered yet, the one it works on first."""

    process: Any
    pipe: Connection
    ready: bool = False
    tasks: list[Task] = field(default_factory=list)


def outcomes(tasks: Iterator[Task], setting: Setting, workers: int) -> Generator[Outcome, None, None]:
    """Outcomes as they come in. Raises StopSweepError where a worker met a reason to stop them all."""
    dealer, deaths = Dealer(tasks, workers), dict[str, int]()
    pool: dict[int, _Process] = {}
    stillborn = 0
    try:
        for number in range(workers):
            pool[number] = _start(setting)
        while pool:
            for number in _with_news(pool):
                worker = pool[number]
                news = _news(worker)
                if news is None:
                    stillborn = 0 if worker.ready else stillborn + 1
                    _refuse_stillborn(stillborn)
                    yield from _bury(worker, dealer, deaths)
                    pool[number] = _start(setting)
                    continue
                if isinstance(news, Exception):
                    raise news
                worker.ready = True
                if isinstance(news, Outcome):
                    worker.tasks.pop(0)
                    yield news
                if not worker.tasks and not _hand(worker, dealer, number):
                    _end(pool.pop(number))
    except BaseException:
        _interrupt(pool)
        raise
    finally:
        for worker in pool.values():
            _end(worker)


def _start(setting: Setting) -> _Process:
    context = multiprocessing.get_context("spawn")  # a fork would share locks, threads and JAX with its parent
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, setting), name="finitewidth-worker", daemon=True)
    with _environment(_ONE_THREAD):
        process.start()
    theirs.close()
    return _Process(process, ours)


def _with_news(pool: dict[int, _Process]) -> list[int]:
    """Workers that have answered or ended; waits for one."""
    by_pipe = {worker.pipe: number for number, worker in pool.items()}
    return [by_pipe[pipe] for pipe in wait(list(by_pipe)) if isinstance(pipe, Connection)]


def _news(worker: _Process) -> Any:
    """An outcome, "ready", a reason to stop; None where the worker is no more."""
    try:
        return worker.pipe.recv()
    except (EOFError, OSError):
        return None


def _hand(worker: _Process, dealer: Dealer, number: int) -> bool:
    """Give a worker its next batch; False where nothing is left."""
    worker.tasks = dealer.take(number)
    if worker.tasks:
        with contextlib.suppress(OSError):  # it has just died: its pipe tells next
            worker.pipe.send(list(worker.tasks))
    return bool(worker.tasks)


def _bury(worker: _Process, dealer: Dealer, deaths: dict[str, int]) -> Iterator[Outcome]:
    """Give the tasks of a dead worker to others; the one that it worked on fails where it was fatal again and again."""
    worker.process.join()
    left = worker.tasks
    if left:
        point = left[0].point
        deaths[point.id] = deaths.get(point.id, 0) + 1
        if deaths[point.id] >= DEATHS:
            yield lost(left[0], f"its worker ended {DEATHS} times ({_exit(worker.process.exitcode)})")
            left = left[1:]
    dealer.give_back(left)
    worker.pipe.close()


def lost(task: Task, reason: str) -> Outcome:
    """The outcome of a point whose worker could not tell."""
    moment = now()
    return Outcome(task.point, "failed", None, reason, moment, moment, 0.0, "{}")


def _exit(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"{name}, out of memory perhaps" if name == "SIGKILL" else name
    return f"exit status {code}"


def _refuse_stillborn(count: int) -> None:
    if count >= DEATHS:
        raise InputError(
            "workers that end before they begin",
            "a main module that can be imported",
            "put what starts the sweep under: if __name__ == '__main__':",
        )


def _interrupt(pool: dict[int, _Process]) -> None:
    """Let workers save the checkpoints of what they are at."""
    for worker in pool.values():
        if worker.process.is_alive() and worker.tasks and hasattr(signal, "SIGINT"):
            with contextlib.suppress(OSError):
                os.kill(worker.process.pid, signal.SIGINT)
    until = time.monotonic() + _PATIENCE
    for worker in pool.values():
        if worker.tasks:
            worker.process.join(max(0.0, until - time.monotonic()))


def _end(worker: _Process) -> None:
    worker.pipe.close()  # an idle worker ends by itself
    if worker.tasks:
        worker.process.kill()
    worker.process.join(1.0)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """For processes started meanwhile: libraries read it when they are loaded."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


# --- in the worker ----------------------------------------------------------------------------------------------------


def _serve(pipe: Connection, setting: Setting) -> None:
    """Answer batches of tasks, one outcome after another, until the pipe closes."""
    signal.signal(signal.SIGINT, _interrupted_once)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        try:
            worker = Worker(setting)
            pipe.send(_READY)
            while True:
                for task in pipe.recv():
                    pipe.send(worker.outcome(task))
        except StopSweepError as error:
            pipe.send(error)


def _interrupted_once(number: int, frame: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal tells parent and worker, and so does the parent
    raise KeyboardInterrupt


def _end_with_the_parent() -> None:
    """A parent that is killed closes nothing behind it: nobody may go on writing its checkpoints."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
