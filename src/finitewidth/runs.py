"""What long runs share, sampling and training alike: a file to resume from, a bar with the time left, one thread."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import numpy as np

from finitewidth import checks
from finitewidth.data.archive import read_archive
from finitewidth.exceptions import InputError
from finitewidth.linalg import available_memory

_FORMAT = 1
_DEEPEST = 64  # of JSON
_VERSIONED = ("finitewidth", "jax", "jaxlib", "numpy")


@dataclass(frozen=True)
class RunFile:
    """The last whole state of a run at ``path``, the one before it at ``path`` + ".previous"; arrays and JSON only.

    fingerprint: JSON of all that decides the numbers; a file of another run is refused.
    """

    path: Path
    fingerprint: str

    def __post_init__(self) -> None:
        if self.path.is_dir() or not self.path.absolute().parent.is_dir():
            raise InputError(
                f"checkpoint {self.path}, which cannot be written",
                "a file in a folder that exists",
                "create the folder first, or give another path",
            )

    @property
    def previous(self) -> Path:
        """Where the state before the last is kept."""
        return self.path.with_name(self.path.name + ".previous")

    def write(self, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Write beside, then rename: whenever this is cut short, one whole state is left."""
        meta = {"format": _FORMAT, "fingerprint": self.fingerprint, **meta}
        draft = self.path.with_name(self.path.name + ".part")
        draft.unlink(missing_ok=True)  # a link there would lead elsewhere
        with open(draft, "xb") as file:
            save_arrays(file, meta=np.array(json.dumps(meta)), **arrays)
            file.flush()
            os.fsync(file.fileno())
        if self.path.exists():
            os.replace(self.path, self.previous)
        os.replace(draft, self.path)

    def read(self) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
        """The last whole state, or None where there is none.

        Raises InputError for a file of another run, and where files exist and none can be read.
        """
        found = [path for path in (self.path, self.previous) if path.exists()]
        for path in found:
            arrays = read_arrays(path)
            meta = None if arrays is None else _meta(arrays)
            if arrays is not None and meta is not None:
                self._refuse_other(path, meta)
                return meta, arrays
        if found:
            raise InputError(
                f"checkpoint {self.path}, which cannot be read",
                "a checkpoint written by finitewidth",
                "delete it, or give another path",
            )
        return None

    def misfit(self, what: str) -> InputError:
        """Of a file whose fingerprint is right and whose contents are not those of this run."""
        return InputError(
            f"checkpoint {self.path}, of which {what} does not fit this run",
            "a checkpoint written by finitewidth",
            "delete it, or give another path",
        )

    def fitting(self, arrays: dict[str, np.ndarray], wanted: dict[str, Any]) -> dict[str, np.ndarray]:
        """The arrays of the names in ``wanted``, each of the shape and type of its value there; raises InputError."""
        for name, like in wanted.items():
            found = arrays.get(name)
            if found is None or found.shape != tuple(like.shape) or found.dtype != like.dtype:
                raise self.misfit(f"array {name!r}")
        return {name: arrays[name] for name in wanted}

    def whole(self, meta: dict[str, Any], name: str, most: int) -> int:
        """A number of the meta data, from 0 to ``most``; raises InputError."""
        value = meta.get(name)
        if type(value) is not int or not 0 <= value <= most:
            raise self.misfit(name)
        return value

    def numbers(self, meta: dict[str, Any], name: str) -> dict[str, float]:
        """A mapping of numbers of the meta data; raises InputError."""
        values = meta.get(name)
        if not isinstance(values, dict) or not all(type(value) in (int, float) for value in values.values()):
            raise self.misfit(name)
        return values

    def _refuse_other(self, path: Path, meta: dict[str, Any]) -> None:
        ours, theirs = json.loads(self.fingerprint), parse_json(meta["fingerprint"])
        differ = sorted(key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key))
        if differ:
            raise InputError(
                f"checkpoint {path} of another run ({', '.join(differ)} differ)",
                "a checkpoint of this very run",
                "give another path, or delete the checkpoint to start afresh",
            )


def _meta(arrays: dict[str, np.ndarray]) -> dict[str, Any] | None:
    """The JSON of a checkpoint, taken out of its arrays; None where it is none of ours."""
    text = arrays.pop("meta", None)
    if text is None or text.ndim or text.dtype.kind != "U":
        return None
    try:
        meta = parse_json(str(text), finite=False)  # R-hat of one chain is NaN
        theirs = parse_json(meta["fingerprint"])
    except (ValueError, KeyError, TypeError):
        return None
    return meta if isinstance(theirs, dict) else None


def save_arrays(file: IO[bytes], **arrays: np.ndarray) -> None:
    """Numbers and text as an npz file; objects, which NumPy before 2.2 would pickle unasked, are a defect of ours."""
    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise TypeError(f"array {name} holds objects")
    np.savez(file, **arrays)  # type: ignore[arg-type]


def read_arrays(path: Path, max_bytes: float | None = None) -> dict[str, np.ndarray] | None:
    """All arrays of an npz file, each checked against its checksum.

    None if the file is missing, cut short or of another kind, or would take more than ``max_bytes`` (half of what is
    free): nothing is read then.
    """
    if not path.is_file():  # a pipe would never end
        return None
    try:
        return read_archive(path, available_memory() / 2.0 if max_bytes is None else max_bytes)
    except InputError:
        return None


def parse_json(text: Any, finite: bool = True) -> Any:
    """Plain data of JSON from outside, at most 64 deep; ValueError for anything else, NaN and infinity included."""
    if not isinstance(text, (str, bytes)):
        raise ValueError(f"{type(text).__name__} in place of JSON")
    try:
        plain = json.loads(text, parse_constant=_no_constant, parse_float=_finite) if finite else json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    level = [plain]
    for _ in range(_DEEPEST):
        level = [item for held in level if isinstance(held, (dict, list)) for item in _items(held)]
        if not level:
            return plain
    raise ValueError("nested too deeply")


def _items(held: dict[str, Any] | list[Any]) -> Any:
    return held.values() if isinstance(held, dict) else held


def _no_constant(name: str) -> float:
    raise ValueError(f"{name}, which JSON has not")


def _finite(text: str) -> float:
    value = float(text)
    if value - value != 0.0:
        raise ValueError(f"{text[:20]}, beyond double precision")
    return value


def folder_of(path: str | os.PathLike[str], what: str = "checkpoint") -> Path:
    """A folder for ``what``, made if need be; InputError where there can be none."""
    folder = checks.path(what, path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{what} {str(path)!r} ({error.strerror})", "a folder, or a place for one", "choose another"
        ) from error
    return folder


def refuse_links(folder: Path, names: Iterable[str]) -> None:
    """InputError where a name in a folder of results is a symbolic link, through which a write would leave it."""
    for name in names:
        if (folder / name).is_symlink():
            raise InputError(
                f"{str(folder / name)!r}, a symbolic link",
                "results that lie in their own folder",
                "put the folder itself elsewhere, or remove the link",
            )


def now() -> str:
    """The time, UTC, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def every(seconds: float, save: Callable[[Any], None] | None) -> Callable[[Any], None]:
    """``save``, at most every so many seconds."""
    saved = time.monotonic()

    def now_and_then(state: Any) -> None:
        nonlocal saved
        if save is not None and time.monotonic() - saved > seconds:
            save(state)
            saved = time.monotonic()

    return now_and_then


@contextlib.contextmanager
def progress_bar(visible: bool | str, label: str, total: int, done: int) -> Iterator[Callable[[str], None]]:
    """A bar on stderr with the time left; what it yields moves it by one. A text for ``visible`` stands in front."""
    if not visible:
        yield lambda label: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    name = f"{visible}: " if isinstance(visible, str) else ""
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name + label, total=total, completed=done)
        yield lambda label: bar.update(task, advance=1, description=name + label)


def one_after_another(
    jobs: Sequence[tuple[str, str, Callable[[Path | None, bool | str], Any]]], folder: Path | None, progress: bool
) -> Iterator[tuple[Any, float]]:
    """Results of jobs ``(file name, label, work)``, with the seconds each took.

    ``work(checkpoint, progress)`` gives a result with ``complete``. An interrupt ends the jobs after the result of what
    there is, and is passed on where there is none.
    """
    for done, (name, label, work) in enumerate(jobs):
        started = time.perf_counter()
        try:
            result = work(None if folder is None else folder / name, label if progress else False)
        except KeyboardInterrupt:
            if done == 0:
                raise
            return
        yield result, time.perf_counter() - started
        if not result.complete:
            return


def on_cpu() -> bool:
    """Whether JAX computes on a CPU."""
    import jax

    return bool(jax.default_backend() == "cpu")


def compiler_options() -> dict[str, Any]:
    """Of a compiled function that is one lane of several: on a CPU it keeps to its own thread."""
    return {"xla_cpu_multi_thread_eigen": False} if on_cpu() else {}


@contextlib.contextmanager
def memory_errors(what: str, remedy: str) -> Iterator[None]:
    """Out of memory as Python says it, whatever the estimate was."""
    import jax

    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise MemoryError(f"{what} ran out of memory; {remedy}") from error


def one_blas_thread() -> contextlib.AbstractContextManager[Any]:
    """One BLAS thread, in all threads, for as long as the context lasts."""
    import scipy.linalg  # noqa: F401  the BLAS that jaxlib calls, loaded before its threads are limited
    from threadpoolctl import threadpool_limits

    limits: contextlib.AbstractContextManager[Any] = threadpool_limits(1, user_api="blas")
    return limits


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """Float64 in JAX (in this thread), and one BLAS thread, for as long as the context lasts."""
    import jax

    with one_blas_thread(), jax.enable_x64(True):
        yield


def refuse_numpy_only(network: Any) -> None:
    """An activation that JAX cannot differentiate is refused before anything is compiled."""
    import jax

    try:
        for function in network.jax_functions:
            jax.eval_shape(function, jax.ShapeDtypeStruct((2,), np.float32))
    except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError, TypeError) as error:
        raise InputError(
            f"activation {network.activation_names!r}, which does not take JAX arrays",
            "a function of operators and jax.numpy",
            "write it with jax.numpy, or name one of finitewidth's own",
        ) from error


def versions(*others: str) -> dict[str, str]:
    """Of this package, JAX, NumPy and ``others``, where installed: part of a run's fingerprint."""
    found = {name: _version(name) for name in (*_VERSIONED, *others)}
    return {name: version for name, version in found.items() if version is not None}


@cache
def _version(name: str) -> str | None:
    with contextlib.suppress(metadata.PackageNotFoundError):  # read from files: milliseconds each
        return metadata.version(name)
    return None


def network_fingerprint(network: Any) -> Sequence[Any]:
    """The description, and values of the activation: an own one has no more than a name."""
    values = [phi(np.linspace(-3.0, 3.0, 7)) for phi in network.activations]
    return [every_field(network), *map(float, np.concatenate(values))]


def every_field(value: Any) -> str:
    """A dataclass with all its fields as text, however it prints: the same as long as no field is added."""
    if isinstance(value, tuple) and any(map(dataclasses.is_dataclass, value)):
        return f"({', '.join(map(every_field, value))})"
    if not dataclasses.is_dataclass(value):
        return repr(value)
    fields = [f"{f.name}={every_field(getattr(value, f.name))}" for f in dataclasses.fields(value) if f.repr]
    return f"{type(value).__qualname__}({', '.join(fields)})"


def same_points(train: Any, test: Any) -> None:
    """InputError unless both are data sets whose points have one shape."""
    for name, part in (("train", train), ("test", test)):
        if not (hasattr(part, "x") and hasattr(part, "y")):
            raise InputError(f"{name} = {checks.shown(part)}", "a Dataset", "write fw.Dataset(x, y)")
    if train.x.shape[1:] != test.x.shape[1:]:
        raise InputError(
            f"training points of shape {train.x.shape[1:]}, test points of {test.x.shape[1:]}",
            "points of one shape",
            "prepare both sets in the same way",
        )


def same_targets(train: Any, test: Any) -> None:
    """InputError unless the targets of both data sets have as many outputs and were made alike."""
    train.encoding.targets(test, (len(test.y), *train.y.shape[1:]))
