"""The work on points, the same in every process: load, solve, sample or train, and say what came of it."""

from __future__ import annotations

import errno
import shutil
import time
import warnings
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finitewidth import __version__
from finitewidth.checks.exceptions import InputError, ScaleWarning, unexpected
from finitewidth.data import Dataset, load
from finitewidth.display.documents import row_document
from finitewidth.inference.methods import Control, Problem, Solution
from finitewidth.jobs.options import Command, command_of, data_of
from finitewidth.runs.durations import now, time_limit
from finitewidth.runs.fingerprints import versions
from finitewidth.sweeps.point import Point, compact
from finitewidth.sweeps.store import CHECKPOINTS, Outcome

if TYPE_CHECKING:
    from finitewidth.sampling import Draws

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LIBRARIES = ("scipy", "scikit-learn", "blackjax", "optax")


class StopSweepError(InputError):
    """A reason to stop the whole sweep: it would meet every other point too."""


@dataclass(frozen=True)
class Task:
    """A point, and where its data are found."""

    point: Point
    source: str


@dataclass(frozen=True)
class Setting:
    """What every worker of a sweep is given.

    folder: of the results, as all workers see it; where one does not, it saves no checkpoints. memory: bytes a point
    may take. keep_draws: send them back.
    """

    folder: str
    memory: float | None
    keep_draws: bool
    version: str = __version__


class Worker:
    """Works on one point after another, and keeps what the next ones may share: data, spectra, scans."""

    def __init__(self, setting: Setting) -> None:
        if setting.version != __version__:
            raise StopSweepError(
                f"a worker with finitewidth {__version__}", f"{setting.version}, as here", "install the same version"
            )
        self.setting = setting
        self._data: tuple[str, tuple[Dataset, Dataset, str]] | None = None
        self._checked: tuple[dict[str, Any], Command] | None = None
        self._group, self._shared = "", {}  # type: str, dict[Any, Any]

    def outcome(self, task: Task) -> Outcome:
        """Of one point: a result, or the reason why there is none. Raises StopSweepError where the disk is full."""
        started_at, started = now(), time.perf_counter()
        result, reason, draws = None, "", None
        with warnings.catch_warnings(record=True) as caught, time_limit(None):
            try:
                result, draws = self._result(task)
                reason = result.get("message") or ""
            except Exception as error:
                _stop_where_the_disk_is_full(error)
                written = isinstance(error, (InputError, ImportError))  # for people
                reason = " ".join((str(error) if written else unexpected(error)).split())
        said = {" ".join(str(w.message).split()): w.category for w in caught}
        if result is not None:
            reason = "; ".join([reason, *said]).strip("; ")
        return Outcome(
            point=task.point,
            status="failed" if result is None else "done",
            result=result,
            reason=reason,
            started_at=started_at,
            finished_at=now(),
            seconds=time.perf_counter() - started,
            versions=_versions(),
            data_fingerprint=None if self._data is None or self._data[0] != task.point.data_key else self._data[1][2],
            peak_memory=_peak(),
            draws=draws,
            scale=[text for text, category in said.items() if issubclass(category, ScaleWarning)],
        )

    def _result(self, task: Task) -> tuple[dict[str, Any], Draws | None]:
        """The row of a point as plain data, and the draws behind it where they are stored."""
        from finitewidth.theory.rows import without_validity

        train, test, _ = self.data(task)
        started = time.perf_counter()
        solution = self._solution(task, train, test)
        row = without_validity(solution.row(test, time.perf_counter() - started))
        draws = getattr(solution, "draws", None) if self.setting.keep_draws else None
        return row_document(row, self._command(task).layer_widths), draws

    def _solution(self, task: Task, train: Dataset, test: Dataset) -> Solution:
        """A long run goes on from its checkpoint; one that no longer fits (other versions, say) is left behind."""
        point, (job,) = task.point, self._command(task).jobs
        if self._group != point.group:
            self._group, self._shared = point.group, {}
        folder = Path(self.setting.folder) / CHECKPOINTS
        place = folder / point.id if folder.is_dir() else None
        network = job.problems[0].network
        network = network.with_width(point.config["width"]) if "width" in point.config else network
        problem = Problem(network, job.method.likelihood(point.config["temperature"]))
        job = replace(
            job, problems=(problem,), control=Control(self.setting.memory, checkpoints=place, shared=self._shared)
        )
        try:
            (solution,) = job.solutions(train, test)
        except InputError:
            if place is None or not place.exists():
                raise
            shutil.rmtree(place)
            (solution,) = job.solutions(train, test)
        if not solution.complete:  # an interrupt is no result; its checkpoint stays
            raise KeyboardInterrupt
        if place is not None:
            shutil.rmtree(place, ignore_errors=True)
        return solution

    def _command(self, task: Task) -> Command:
        """Checked as on the command line; once for points that differ in width and temperature alone."""
        config = task.point.config
        others = {key: value for key, value in config.items() if key not in ("width", "temperature")}
        if self._checked is None or self._checked[0] != others:
            self._checked = (others, command_of(task.point.values(task.source, self.setting.memory)))
        return self._checked[1]

    def data(self, task: Task) -> tuple[Dataset, Dataset, str]:
        """Training part, test part, and the fingerprint of both; the same objects for as long as points share them."""
        key = task.point.data_key
        if self._data is None or self._data[0] != key:
            self._data = None
            source, options = data_of(task.point.values(task.source, self.setting.memory))
            train, test = load(source, **options)
            self._data = (key, (train, test, f"{train.fingerprint()} {test.fingerprint()}"))
        return self._data[1]


def _stop_where_the_disk_is_full(error: BaseException) -> None:
    if isinstance(error, StopSweepError):
        raise error
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        raise StopSweepError(
            f"a disk that takes no more ({error.strerror})",
            "room for checkpoints and results",
            "make room and run the same command again; every point that was done is kept",
        ) from error


@lru_cache(maxsize=1)
def _versions() -> str:
    return compact(versions(*_LIBRARIES))


def _peak() -> int | None:
    """Peak memory of this process in bytes, where the system says it."""
    try:
        import resource
    except ImportError:
        return None
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
