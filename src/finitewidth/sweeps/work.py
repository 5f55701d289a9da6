"""The work on points, the same in every process: load, solve, sample or train, and say what came of it."""

from __future__ import annotations

import errno
import os
import shutil
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from finitewidth import __version__
from finitewidth.data import Dataset
from finitewidth.data.pairs import same_targets
from finitewidth.documents import row_document
from finitewidth.durations import now, time_limit
from finitewidth.exceptions import InputError
from finitewidth.fingerprints import versions
from finitewidth.options import Job, job_of, neuron_options
from finitewidth.sweeps.point import Point, compact
from finitewidth.sweeps.spectra import Spectra
from finitewidth.sweeps.store import CHECKPOINTS, SPECTRA, Outcome

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
    """What every worker of a sweep is told.

    folder: of the results, as all workers see it; where one does not, nothing is kept between runs. memory: bytes a
    point may take. keep_draws: send them back.
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
        self._data: tuple[str, tuple[Dataset, Dataset], str] | None = None
        self._checked: tuple[dict[str, Any], Job, Any] | None = None
        self._group, self._shared = "", {}  # type: str, dict[Any, Any]

    @cached_property
    def spectra(self) -> Spectra:
        return Spectra(self._subfolder(SPECTRA), self.setting.memory)

    def outcome(self, task: Task) -> Outcome:
        """Of one point: a result, or the reason why there is none. Raises StopSweepError where the disk is full."""
        started_at, started = now(), time.perf_counter()
        _forget_peak()
        result, reason, draws = None, "", None
        with warnings.catch_warnings(record=True) as caught, time_limit(None):
            try:
                result, draws = self._result(task)
                reason = result.get("message") or ""
            except Exception as error:
                _stop_where_the_disk_is_full(error)
                reason = _told(error)
        if result is not None:
            reason = "; ".join([reason, *dict.fromkeys(" ".join(str(w.message).split()) for w in caught)]).strip("; ")
        return Outcome(
            point=task.point,
            status="failed" if result is None else "done",
            result=result,
            reason=reason,
            started_at=started_at,
            finished_at=now(),
            seconds=time.perf_counter() - started,
            versions=_versions(),
            data_fingerprint=None if self._data is None or self._data[0] != task.point.data_key else self._data[2],
            peak_memory=_peak(),
            draws=draws,
        )

    def _result(self, task: Task) -> tuple[dict[str, Any], Any]:
        point = task.point
        train, test = self.data(task)
        job, options = self._job(task)
        if point.method == "sample":
            return self._sample(point, job, options.sampling(), train, test)
        if point.method == "train":
            return self._train(point, job, options.training(), train, test), None
        return self._solve(point, job, options, train, test), None

    def _job(self, task: Task) -> tuple[Job, Any]:
        """Checked as on the command line; once for points that differ in width and temperature alone."""
        config = task.point.config
        others = {key: value for key, value in config.items() if key not in ("width", "temperature")}
        if self._checked is None or self._checked[0] != others:
            options = task.point.options(task.source, self.setting.memory)
            self._checked = (others, job_of(options), options)
        job, options = self._checked[1:]
        network = job.network.with_width(config["width"]) if "width" in config else job.network
        return replace(job, network=network, temperatures=[config["temperature"]]), options

    def data(self, task: Task) -> tuple[Dataset, Dataset]:
        """The training and the test part, the same objects for as long as points share them."""
        key = task.point.data_key
        if self._data is None or self._data[0] != key:
            self._data = None
            parts = self._job(task)[0].load()
            self._data = (key, parts, " ".join(part.fingerprint() for part in parts))
        return self._data[1]

    def _solve(self, point: Point, job: Job, options: Any, train: Dataset, test: Dataset) -> dict[str, Any]:
        from finitewidth.theory import theory_of
        from finitewidth.theory.choose import for_outputs
        from finitewidth.theory.curves import solved_row
        from finitewidth.theory.kept import keeping
        from finitewidth.theory.krylov import KrylovKernel

        neuron = neuron_options(options, progress=False)
        saved = self._subfolder(CHECKPOINTS)
        if neuron is not None and saved is not None:
            neuron = replace(neuron, checkpoint=saved / point.id)
        theory = theory_of(job.network, job.temperatures[0], options.closure, options.method, neuron, options.solver)
        theory = for_outputs(theory, train.n_outputs)
        kind = (type(theory), type(getattr(theory, "theory", None)), getattr(theory, "solver", None))
        if self._group != point.group:
            self._group, self._shared = point.group, {}
        with keeping(self.spectra):
            row, shared = solved_row(theory, train, test, self._shared.get(kind), self.setting.memory)
        if neuron is not None and neuron.checkpoint is not None:
            shutil.rmtree(neuron.checkpoint, ignore_errors=True)
        # a neuron goes on where the last solution ended, a Krylov space grows: such points would not stand alone
        if options.method != "neuron" and not isinstance(shared, KrylovKernel):
            self._shared[kind] = shared
        return row_document(row, job.layer_widths)

    def _sample(
        self, point: Point, job: Job, sampling: dict[str, Any], train: Dataset, test: Dataset
    ) -> tuple[dict[str, Any], Any]:
        from finitewidth.sampling import SampledRow, sample

        same_targets(train, test)
        temperature = job.temperatures[0]
        started = time.perf_counter()

        def work(checkpoint: Path | None) -> Any:
            options = sampling | {"checkpoint": checkpoint, "memory": self.setting.memory}
            return sample(job.network, train, test, temperature, **options)

        draws = self._resumed(point, work)
        seconds = time.perf_counter() - started
        row = SampledRow.of(job.network, draws, temperature, train.n_points, test.y, seconds)
        return row_document(row, job.layer_widths), draws if self.setting.keep_draws else None

    def _train(self, point: Point, job: Job, training: dict[str, Any], train: Dataset, test: Dataset) -> dict[str, Any]:
        from finitewidth.training import TrainedRow
        from finitewidth.training import train as fit

        started = time.perf_counter()

        def work(checkpoint: Path | None) -> Any:
            options = training | {"checkpoint": checkpoint, "memory": self.setting.memory}
            return fit(job.network, train, test, job.temperatures[0], **options)

        ensemble = self._resumed(point, work)
        return row_document(TrainedRow.of(ensemble, time.perf_counter() - started), job.layer_widths)

    def _resumed(self, point: Point, work: Callable[[Path | None], Any]) -> Any:
        """A long run from its checkpoint; one that does not fit any more (other versions, say) is left behind."""
        folder = self._subfolder(CHECKPOINTS)
        if folder is None:
            return _whole(work(None))
        file = folder / f"{point.id}.npz"
        files = [file, file.with_name(f"{file.name}.previous"), file.with_name(f"{file.name}.part")]
        had_one = any(path.exists() for path in files[:2])
        try:
            result = _whole(work(file))
        except InputError:
            if not had_one:
                raise
            _remove(files)
            result = _whole(work(file))
        _remove(files)
        return result

    def _subfolder(self, name: str) -> Path | None:
        folder = Path(self.setting.folder) / name
        return folder if folder.is_dir() else None


def _whole(result: Any) -> Any:
    """A run that an interrupt cut short is no result; its checkpoint stays."""
    if not result.complete:
        raise KeyboardInterrupt
    return result


def _remove(files: list[Path]) -> None:
    for path in files:
        with suppress(OSError):
            path.unlink()


def _stop_where_the_disk_is_full(error: BaseException) -> None:
    if isinstance(error, StopSweepError):
        raise error
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        raise StopSweepError(
            f"a disk that takes no more ({error.strerror})",
            "room for checkpoints and results",
            "make room and run the same command again; every point that was done is kept",
        ) from error


def _told(error: Exception) -> str:
    """One line: the message where it was written for people, else where it went wrong as well."""
    if isinstance(error, (InputError, ImportError)):
        return str(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text} ({Path(last.filename).name}, line {last.lineno})"


@lru_cache(maxsize=1)
def _versions() -> str:
    return compact(versions(*_LIBRARIES))


@lru_cache(maxsize=2)
def _opened(name: str, flags: int) -> int:
    """A file of /proc/self, kept open for the many points to come."""
    return os.open(f"/proc/self/{name}", flags)


def _forget_peak() -> None:
    """From here on the system counts the peak memory of this process anew, where it can (Linux)."""
    with suppress(OSError):
        os.pwrite(_opened("clear_refs", os.O_WRONLY), b"5", 0)


def _peak() -> int | None:
    """Peak memory of this process in bytes."""
    with suppress(OSError, ValueError, IndexError):
        return 1024 * int(os.pread(_opened("status", os.O_RDONLY), 4096, 0).split(b"VmHWM:")[1].split()[0])
    try:
        import resource
    except ImportError:
        return None
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
