"""``run``: from a plan to a folder of results, serially, on processes of this machine, or behind a Dask scheduler."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

from finitewidth import checks
from finitewidth.checkpoints import folder_of, refuse_links
from finitewidth.exceptions import InputError, MissingExtraError
from finitewidth.linalg import available_memory, parse_memory
from finitewidth.progress import progress_bar
from finitewidth.sweeps.fingerprints import fingerprint_of
from finitewidth.sweeps.lock import FILE as LOCK
from finitewidth.sweeps.lock import FolderLock
from finitewidth.sweeps.plan import MOST_POINTS, Plan
from finitewidth.sweeps.status import Status, status
from finitewidth.sweeps.store import CHECKPOINTS, DATABASE, DRAWS, SPECTRA, Outcome, Store
from finitewidth.sweeps.work import Setting, Task, Worker

_HELD = 100_000
_TRIED = 8  # sets of data that are loaded before the first point, until one can be

Outcomes = Callable[[Iterator[Task], Worker], Generator[Outcome, None, None]]  # by this worker, or others like it


def run(
    plan: Plan | str | os.PathLike[str] | Mapping[str, Any],
    out: str | os.PathLike[str],
    *,
    client: str = "serial",
    workers: int | None = None,
    retry_failed: bool = False,
    yes: bool = False,
    memory: str | float | None = None,
    progress: bool = False,
) -> Status:
    """Do every point of a plan that the folder ``out`` does not hold yet (docs/sweeps.md).

    plan: a YAML file, the same keys in a mapping, or a Plan. client: "serial" (in this process), "local" (``workers``
    processes of one thread, default: one a processor), or the address of a Dask scheduler, tcp://HOST:8786.
    retry_failed: points that failed once more. yes: more than a million points. memory: cap on what a point may take,
    such as "8GB", in place of the plan's. progress: a bar on stderr.

    A point that fails is recorded with its reason, and the sweep goes on. An interrupt (Ctrl-C) is passed on; whatever
    ends a run, the same call goes on where it was.
    Raises InputError for a plan that cannot be, a folder in use or of something else, data that have changed, a Dask
    scheduler of other versions, and a disk that takes no more; MissingExtraError without the extra "sweep".
    """
    plan = plan if isinstance(plan, Plan) else Plan.of(plan)
    if plan.size > MOST_POINTS and not yes:
        raise InputError(
            f"{plan.document.where(('grid',))}: a grid of {plan.size:,} points",
            f"at most {MOST_POINTS:,} of them",
            "take fewer values, or add --yes (yes=True) if you mean it",
        )
    cap = plan.memory if memory is None else parse_memory(memory)
    _refuse_missing_extras(plan)
    with contextlib.ExitStack() as stack:
        engine, name = _engine(stack, client, workers)
        folder = folder_of(out, "--out")
        refuse_links(folder, (DATABASE, DRAWS, SPECTRA, CHECKPOINTS, LOCK))
        stack.enter_context(FolderLock(folder))
        store = Store(folder)
        stack.callback(store.close)
        _prepare(folder)
        worker = Worker(Setting(str(folder.absolute()), _share(cap, name, workers), plan.keep_draws))
        _refuse_changed_data(plan, store, worker)
        _work(plan, store, engine, worker, name, retry_failed, progress)
    return status(folder)


def _prepare(folder: Path) -> None:
    """Make the folders that workers write to, and remove what a killed run left half written."""
    with contextlib.suppress(OSError):
        for part in (SPECTRA, CHECKPOINTS):
            (folder / part).mkdir(exist_ok=True)
        for draft in (*(folder / SPECTRA).glob(".*.part"), *(folder / DRAWS).glob(".*.part")):
            shutil.rmtree(draft) if draft.is_dir() else draft.unlink()


def _work(
    plan: Plan, store: Store, engine: Outcomes, worker: Worker, name: str, retry_failed: bool, progress: bool
) -> None:
    """Do and store what is left of a plan."""
    known, failed = store.known(failed=not retry_failed), store.failed()
    points = list(plan.points()) if plan.size <= _HELD else None  # many are made twice rather than held
    wanted = [point.id for point in points or plan.points()]
    todo = sum(1 for point_id in wanted if point_id not in known)
    failed_before = sum(1 for point_id in wanted if point_id in failed and point_id in known)
    before = len(wanted) - todo - failed_before
    store.begin(plan.document.text, name, len(wanted), before, failed_before)
    left = (Task(point, plan.find(point.config["data"])) for point in points or plan.points() if point.id not in known)
    outcome = "failed"
    try:
        with progress_bar(progress and todo > 0, "points", len(wanted), len(wanted) - todo) as advance:
            rate = _Rate()
            with contextlib.closing(engine(left, worker)) as outcomes:  # interrupted here, the workers hear of it too
                for found in outcomes:
                    _refuse_other_data(store, found)
                    store.add(found)
                    advance(rate.told(found))
        outcome = "finished"
    except KeyboardInterrupt:
        outcome = "interrupted"
        raise
    except InputError as error:
        outcome = f"stopped: {error}"
        raise
    finally:
        with contextlib.suppress(InputError):  # a full disk has been told of already
            store.end(outcome)


# --- who does the work ------------------------------------------------------------------------------------------------


def _engine(stack: contextlib.ExitStack, client: str, workers: int | None) -> tuple[Outcomes, str]:
    """What does the work, and its name."""
    if workers is not None and client != "local":
        raise InputError(f"--workers {workers} with --client {client}", "--client local", "leave --workers out")
    if client == "serial":
        return lambda tasks, worker: (worker.outcome(task) for task in tasks), client
    if client == "local":
        from finitewidth.sweeps import processes

        count = _workers(workers)
        return lambda tasks, worker: processes.outcomes(tasks, worker.setting, count), f"local, {count} workers"
    if "://" in client:
        from finitewidth.sweeps import cluster

        connection = stack.enter_context(cluster.connected(client))
        return lambda tasks, worker: cluster.outcomes(tasks, worker.setting, connection), client
    raise InputError(f"--client {checks.shown(client)}", "serial, local or tcp://HOST:PORT", "write --client local")


def _workers(given: int | None) -> int:
    return len(os.sched_getaffinity(0)) if given is None else given


def _share(cap: float | None, client: str, workers: int | None) -> float | None:
    """The bytes a point may take: with several workers on one machine, each has its part."""
    if not client.startswith("local"):
        return cap
    return (available_memory() if cap is None else cap) / _workers(workers)


def _refuse_missing_extras(plan: Plan) -> None:
    if not plan.keep_draws or "sample" not in _values(plan, "method"):
        return
    for library, extra in (("zarr", "sweep"), ("xarray", "sample")):
        try:
            importlib.import_module(library)
        except ImportError as error:
            raise MissingExtraError(library, extra, "keeping draws (keep_draws: false leaves them out)") from error


# --- data -------------------------------------------------------------------------------------------------------------


def _values(plan: Plan, key: str) -> list[Any]:
    """All values of a key in a plan."""
    found = [plan.base[key]] if key in plan.base else []
    return found + [value for grid in plan.grids for value in grid.get(key, [])]


def _refuse_changed_data(plan: Plan, store: Store, worker: Worker) -> None:
    """Files must be as they were when the sweep began; data that no point can load are refused before the first."""
    for name in dict.fromkeys(_values(plan, "data")):
        source = plan.find(name)
        try:
            found = fingerprint_of(source)
        except InputError:  # not there: said by those who load it
            continue
        before = None if found is None else store.same_data("sources", name, found, source)
        if before is not None:
            raise _changed(plan, name, str(found), before)
    errors = _loading(plan, worker)
    if errors:
        place = plan.document.where(plan.place("data"))
        raise InputError(f"{place}: {errors[0].given}", errors[0].wanted, errors[0].remedy)


def _loading(plan: Plan, worker: Worker) -> list[InputError]:
    """Let the worker load sets of data until one can be; the errors where none can."""
    errors: list[InputError] = []
    tried: set[str] = set()
    for point in plan.points():
        if point.data_key in tried:
            continue
        if len(tried) == _TRIED:
            return []
        tried.add(point.data_key)
        try:
            worker.data(Task(point, plan.find(point.config["data"])))
        except InputError as error:
            errors.append(error)
            continue
        return []
    return errors


def _changed(plan: Plan, name: str, found: str, before: str) -> InputError:
    place = plan.document.where(plan.place("data"))
    return InputError(
        f"{place}: data {name!r} with fingerprint {found[:16]}, which have changed",
        f"fingerprint {before[:16]}, as when this sweep began",
        "bring the old data back, or choose another --out; nothing was changed",
    )


def _refuse_other_data(store: Store, outcome: Outcome) -> None:
    """Every worker must see the data that the first point saw."""
    if outcome.data_fingerprint is None:
        return
    before = store.same_data("data", outcome.point.data_key, outcome.data_fingerprint)
    if before is not None:
        raise InputError(
            f"data {outcome.point.config['data']!r} with fingerprints {outcome.data_fingerprint}, on a worker or later",
            f"{before}, as when this sweep began",
            "bring the old data back, or choose another --out; nothing was changed",
        )


class _Rate:
    """What the bar says beside its counts."""

    def __init__(self) -> None:
        from time import monotonic

        self._clock, self._done, self._failed = monotonic, 0, 0
        self._started = monotonic()

    def told(self, outcome: Outcome) -> str:
        self._done += 1
        self._failed += outcome.status == "failed"
        rate = self._done / max(1e-9, self._clock() - self._started)
        failed = f", {self._failed} failed" if self._failed else ""
        return f"{rate:.3g} points/s{failed}"
