"""Long runs on disk: the last whole state of one, to resume from; arrays and JSON only, never pickles."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from finitewidth import checks
from finitewidth.checks.exceptions import InputError
from finitewidth.checks.json_input import parse_json
from finitewidth.data.npz_file import read_archive
from finitewidth.linalg import available_memory

SAVE_EVERY = 15.0  # seconds between two states that are saved


@dataclass(frozen=True)
class RunFile:
    """The last whole state of a run at ``path``; arrays and JSON only.

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

    def write(self, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Whenever this is cut short, the last whole state is left."""
        text = np.array(json.dumps({"fingerprint": self.fingerprint, **meta}))

        def write(draft: Path) -> None:
            with open(draft, "xb") as file:
                save_arrays(file, meta=text, **arrays)
                file.flush()
                os.fsync(file.fileno())

        write_whole(self.path, write)

    def read(self) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
        """The last whole state, or None where there is none; InputError for a file of anything else."""
        if not self.path.exists():
            return None
        arrays = read_arrays(self.path)
        meta = None if arrays is None else _meta(arrays)
        if arrays is None or meta is None:
            raise self._unusable("which cannot be read")
        self._refuse_other(meta)
        return meta, arrays

    def misfit(self, what: str) -> InputError:
        """Of a file whose fingerprint is right and whose contents are not those of this run."""
        return self._unusable(f"of which {what} does not fit this run")

    def _unusable(self, what: str) -> InputError:
        remedy = "delete it, or give another path"
        return InputError(f"checkpoint {self.path}, {what}", "a checkpoint written by finitewidth", remedy)

    def fitting(self, arrays: dict[str, np.ndarray], wanted: Any) -> Any:
        """The pytree of ``arrays_of``, whose arrays have the shapes and types of those in ``wanted``; InputError."""
        import jax

        named = arrays_of(wanted)
        for name, like in named.items():
            found = arrays.get(name)
            if found is None or found.shape != tuple(like.shape) or found.dtype != like.dtype:
                raise self.misfit(f"array {name!r}")
        return jax.tree.unflatten(jax.tree.structure(wanted), [arrays[name] for name in named])

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

    def _refuse_other(self, meta: dict[str, Any]) -> None:
        ours: Any = json.loads(self.fingerprint)
        theirs: Any = parse_json(meta["fingerprint"])
        differ = sorted(key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key))
        if differ:
            raise InputError(
                f"checkpoint {self.path} of another run ({', '.join(differ)} differ)",
                "a checkpoint of this very run",
                "give another path, or delete the checkpoint to start afresh",
            )


def _meta(arrays: dict[str, np.ndarray]) -> dict[str, Any] | None:
    """The JSON of a checkpoint, taken out of its arrays; None where it is none of ours."""
    text = arrays.pop("meta", None)
    if text is None or text.ndim or text.dtype.kind != "U":
        return None
    try:
        meta: Any = parse_json(str(text), finite=False)  # R-hat of one chain is NaN
        theirs = parse_json(meta["fingerprint"])
    except (ValueError, KeyError, TypeError):
        return None
    return meta if isinstance(theirs, dict) else None


def arrays_of(tree: Any) -> dict[str, Any]:
    """The arrays of a pytree of mappings, tuples and lists, by their places in it, such as "records/energy"."""
    import jax

    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def save_arrays(file: IO[bytes], **arrays: np.ndarray) -> None:
    """Numbers and text as an npz file; objects, which NumPy before 2.2 would pickle unasked, are a defect of ours."""
    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise TypeError(f"array {name} holds objects")
    np.savez(file, **arrays)  # type: ignore[arg-type]


def read_arrays(path: Path) -> dict[str, np.ndarray] | None:
    """All arrays of an npz file, each checked against its checksum.

    None if the file is missing, cut short or of another kind, or would take more than half of the memory that is free:
    nothing is read then.
    """
    if not path.is_file():  # a pipe would never end
        return None
    try:
        return read_archive(path, available_memory() / 2.0)
    except InputError:
        return None


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


def write_whole(path: Path, write: Callable[[Path], Any]) -> Path:
    """Let ``write`` fill a draft beside ``path``, then rename it: the file is whole or not there at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        draft.unlink(missing_ok=True)  # a link there would lead elsewhere
        write(draft)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return path
