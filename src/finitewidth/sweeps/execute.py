"""``run``: from a plan to a folder of results, serially, on processes of this machine, or behind a Dask scheduler."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from finitewidth import checks
from finitewidth.checks.exceptions import InputError, MissingExtraError, ScaleWarning
from finitewidth.data.files import located
from finitewidth.linalg import available_memory, parse_memory
from finitewidth.runs.checkpoints import folder_of, refuse_links
from finitewidth.runs.progress import progress_bar
from finitewidth.sweeps.lock import FILE as LOCK
from finitewidth.sweeps.lock import locked
from finitewidth.sweeps.plan import MOST_POINTS, Plan
from finitewidth.sweeps.point import DATA
from finitewidth.sweeps.status import Status, status
from finitewidth.sweeps.store import CHECKPOINTS, DATABASE, DRAWS, Outcome, Store
from finitewidth.sweeps.worker import Setting, Task, Worker


def run(
    plan: Plan | str | os.PathLike[str] | Mapping[str, Any],
    out: str | os.PathLike[str],
    *,
    client: str = "serial",
    workers: int | None = None,
    retry_failed: bool = False,
    memory: str | float | None = None,
    progress: bool = False,
) -> Status:
    """Do every point of a plan that the folder ``out`` does not hold yet (docs/sweeps.md).

    plan: a YAML file, the same keys in a mapping, or a Plan. client: "serial" (in this process), "local" (``workers``
    processes of one thread, default: one a processor), or the address of a Dask scheduler, tcp://HOST:8786.
    retry_failed: points that failed once more. memory: cap on what a point may take, such as "8GB".
    progress: a bar on stderr.

    A point that fails is recorded with its reason, and the sweep goes on. Warns once (ScaleWarning) where points have
    data far from the size that their prior expects. An interrupt (Ctrl-C) is passed on; whatever
    ends a run, the same call goes on where it was.
    Raises InputError for a plan that cannot be, a folder in use or of something else, data that have changed, a disk
    that takes no more; MissingExtraError without the extra "sweep".
    """
    plan = plan if isinstance(plan, Plan) else Plan.of(plan)
    if plan.size > MOST_POINTS:
        raise InputError(
            f"{plan.document.where(('grid',))}: a grid of {plan.size:,} points",
            f"at most {MOST_POINTS:,} of them",
            "take fewer values, or several plans with one --out",
        )
    cap = None if memory is None else parse_memory(memory)
    _refuse_missing_extras(plan)
    count = _workers(client, workers)
    folder = folder_of(out, "--out")
    refuse_links(folder, (DATABASE, DRAWS, CHECKPOINTS, LOCK))
    with locked(folder), contextlib.closing(Store(folder)) as store:
        _prepare(folder)
        worker = Worker(Setting(str(folder.absolute()), _share(cap, client, count), plan.keep_draws))
        _check_first_data(plan, worker, store)
        scaled = _work(plan, store, worker, client, count, retry_failed, progress)
    if scaled:
        warnings.warn(f"{scaled[0]} (points of this sweep concerned: {len(scaled)})", ScaleWarning, stacklevel=2)
    return status(folder)


def _prepare(folder: Path) -> None:
    """Make the folder that workers write to, and remove what a killed run left half written."""
    with contextlib.suppress(OSError):
        (folder / CHECKPOINTS).mkdir(exist_ok=True)
        for draft in (folder / DRAWS).glob(".*.part"):
            draft.unlink()


def _work(
    plan: Plan, store: Store, worker: Worker, client: str, workers: int, retry_failed: bool, progress: bool
) -> list[str]:
    """Do and store what is left of a plan. Returns what there is to say of the size of the data, one text a point."""
    known = {name: status for name, status in store.statuses().items() if status == "done" or not retry_failed}
    wanted = [point.id for point in plan.points()]  # made twice rather than held, for there may be many
    before = [known[name] for name in wanted if name in known]
    todo, failed = len(wanted) - len(before), before.count("failed")
    left = (Task(point, plan.find(point.config["data"])) for point in plan.points() if point.id not in known)
    of_the_run = (plan.document.text, client, len(wanted), len(before) - failed, failed)
    scaled: list[str] = []
    with (
        _outcomes(left, todo, worker, client if todo else "serial", workers) as outcomes,
        _recorded(store, *of_the_run),
        progress_bar(progress and todo > 0, "points", len(wanted), len(wanted) - todo) as advance,
    ):
        for found in outcomes:
            if found.data_fingerprint is not None:
                store.refuse_changed(found.point, found.data_fingerprint)
            store.add(found)
            scaled += found.scale
            failed += found.status == "failed"
            advance(f"points, {failed} failed" if failed else "points")
    return scaled


@contextlib.contextmanager
def _recorded(store: Store, *run: Any) -> Iterator[None]:
    """Store when a run begins (see ``Store.begin``), and how it ends."""
    store.begin(*run)
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


@contextlib.contextmanager
def _outcomes(
    tasks: Iterator[Task], count: int, worker: Worker, client: str, workers: int
) -> Iterator[Iterator[Outcome]]:
    """Of tasks, as they come in: by this worker, or by others like it through Dask."""
    if client == "serial":
        yield (worker.outcome(task) for task in tasks)
        return
    from finitewidth.sweeps import cluster

    local = client == "local"
    with (
        cluster.local(workers) if local else cluster.connected(client) as connection,
        # an adaptive cluster grows where more waits than is under way
        contextlib.closing(cluster.outcomes(tasks, worker.setting, connection, 1 if local else 2, count)) as found,
    ):
        yield found  # interrupted here, the workers hear of it too


def _share(cap: float | None, client: str, workers: int) -> float | None:
    """The bytes a point may take: with several workers on one machine, each has its part."""
    return cap if client != "local" else (available_memory() if cap is None else cap) / workers


def _refuse_missing_extras(plan: Plan) -> None:
    methods = {plan.base.get("method"), *(method for grid in plan.grids for method in grid.get("method", []))}
    if plan.keep_draws and "sample" in methods and find_spec("xarray") is None:
        raise MissingExtraError("xarray", "sample", "keeping draws (keep_draws: false leaves them out)")


# --- data -------------------------------------------------------------------------------------------------------------


def _check_first_data(plan: Plan, worker: Worker, store: Store) -> None:
    """Refuse data that cannot be loaded, where all points have the same, and those that have changed."""
    point = next(plan.points())
    try:
        with located(plan.document.where(plan.place("data"))):
            fingerprint = worker.data(Task(point, plan.find(point.config["data"])))[2]
    except InputError:
        if set(plan.swept).isdisjoint(DATA):
            raise
        return
    store.refuse_changed(point, fingerprint)
