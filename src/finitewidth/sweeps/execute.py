"""``run``: from a plan to a folder of results, serially, on processes of this machine, or behind a Dask scheduler."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from finitewidth import checks
from finitewidth.checks.exceptions import InputError, MissingExtraError, ScaleWarning
from finitewidth.linalg import available_memory, parse_memory
from finitewidth.runs.checkpoints import folder_of, refuse_links
from finitewidth.runs.progress import progress_bar
from finitewidth.sweeps.fingerprints import fingerprint_of
from finitewidth.sweeps.lock import FILE as LOCK
from finitewidth.sweeps.lock import FolderLock
from finitewidth.sweeps.plan import MOST_POINTS, Plan
from finitewidth.sweeps.status import Status, status
from finitewidth.sweeps.store import CHECKPOINTS, DATABASE, DRAWS, SPECTRA, Outcome, Store
from finitewidth.sweeps.worker import Setting, Task, Worker

_HELD = 100_000
_TRIED = 8  # sets of data that are loaded before the first point, until one can be


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

    A point that fails is recorded with its reason, and the sweep goes on. Warns once (ScaleWarning) where points have
    data far from the size that their prior expects. An interrupt (Ctrl-C) is passed on; whatever
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
    count = _workers(client, workers)
    folder = folder_of(out, "--out")
    refuse_links(folder, (DATABASE, DRAWS, SPECTRA, CHECKPOINTS, LOCK))
    with FolderLock(folder), contextlib.closing(Store(folder)) as store:
        _prepare(folder)
        worker = Worker(Setting(str(folder.absolute()), _share(cap, client, count), plan.keep_draws))
        _refuse_changed_data(plan, store, worker)
        scaled = _work(plan, store, worker, client, count, retry_failed, progress)
    if scaled:
        warnings.warn(f"{scaled[0]} (points of this sweep concerned: {len(scaled)})", ScaleWarning, stacklevel=2)
    return status(folder)


def _prepare(folder: Path) -> None:
    """Make the folders that workers write to, and remove what a killed run left half written."""
    with contextlib.suppress(OSError):
        for part in (SPECTRA, CHECKPOINTS):
            (folder / part).mkdir(exist_ok=True)
        for draft in (*(folder / SPECTRA).glob(".*.part"), *(folder / DRAWS).glob(".*.part")):
            shutil.rmtree(draft) if draft.is_dir() else draft.unlink()


def _work(
    plan: Plan, store: Store, worker: Worker, client: str, workers: int, retry_failed: bool, progress: bool
) -> list[str]:
    """Do and store what is left of a plan. Returns what there is to say of the size of the data, one text a point."""
    known, failed = store.known(failed=not retry_failed), store.failed()
    points = list(plan.points()) if plan.size <= _HELD else None  # many are made twice rather than held
    wanted = [point.id for point in points or plan.points()]
    todo = sum(1 for point_id in wanted if point_id not in known)
    failed_before = sum(1 for point_id in wanted if point_id in failed and point_id in known)
    begin = partial(store.begin, plan.document.text, _name(client, workers), len(wanted))
    left = (Task(point, plan.find(point.config["data"])) for point in points or plan.points() if point.id not in known)
    tally = _Tally()
    with (
        _outcomes(left, worker, client if todo else "serial", workers) as outcomes,
        _recorded(store, partial(begin, len(wanted) - todo - failed_before, failed_before)),
        progress_bar(progress and todo > 0, "points", len(wanted), len(wanted) - todo) as advance,
    ):
        for found in outcomes:
            _refuse_other_data(store, found)
            store.add(found)
            advance(tally.add(found))
    return tally.scaled


@contextlib.contextmanager
def _recorded(store: Store, begin: Callable[[], None]) -> Iterator[None]:
    """Store when a run begins, and how it ends."""
    begin()
    outcome = "failed"
    try:
        yield
        outcome = "finished"
    except KeyboardInterrupt:
        outcome = "interrupted"
        raise
    except InputError as error:
        outcome = f"stopped: {error}"
        raise
    finally:
        with contextlib.suppress(InputError):  # a full disk has been reported already
            store.end(outcome)


# --- who does the work ------------------------------------------------------------------------------------------------


def _workers(client: str, given: int | None) -> int:
    """How many there are on this machine. Raises InputError for a client that is none, or has no such number."""
    if client not in ("serial", "local") and "://" not in client:
        raise InputError(f"--client {checks.shown(client)}", "serial, local or tcp://HOST:PORT", "write --client local")
    if client != "local" and given is not None:
        raise InputError(f"--workers {given} with --client {client}", "--client local", "leave --workers out")
    return given or (len(os.sched_getaffinity(0)) if client == "local" else 1)


def _name(client: str, workers: int) -> str:
    """As a status shows it."""
    return f"local, {workers} workers" if client == "local" else client


@contextlib.contextmanager
def _outcomes(tasks: Iterator[Task], worker: Worker, client: str, workers: int) -> Iterator[Iterator[Outcome]]:
    """Of tasks, as they come in: by this worker, or by others like it through Dask."""
    if client == "serial":
        yield (worker.outcome(task) for task in tasks)
        return
    from finitewidth.sweeps import cluster

    local = client == "local"
    with (
        cluster.local(workers) if local else cluster.connected(client) as connection,
        # an adaptive cluster grows where more waits than is under way
        contextlib.closing(cluster.outcomes(tasks, worker.setting, connection, ahead=1 if local else 2)) as found,
    ):
        yield found  # interrupted here, the workers hear of it too


def _share(cap: float | None, client: str, workers: int) -> float | None:
    """The bytes a point may take: with several workers on one machine, each has its part."""
    return cap if client != "local" else (available_memory() if cap is None else cap) / workers


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


class _Tally:
    """What the bar says beside its counts, and what is to be said at the end."""

    def __init__(self) -> None:
        self._done, self._failed, self._started = 0, 0, time.monotonic()
        self.scaled: list[str] = []

    def add(self, outcome: Outcome) -> str:
        self._done += 1
        self._failed += outcome.status == "failed"
        self.scaled += outcome.scale
        rate = self._done / max(1e-9, time.monotonic() - self._started)
        return f"{rate:.3g} points/s" + (f", {self._failed} failed" if self._failed else "")
