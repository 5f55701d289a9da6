"""What the readers of files and the built-in data sets share."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from finitewidth.checks import choice, flag, shown
from finitewidth.checks import path as path_of
from finitewidth.checks.exceptions import InputError, MemoryCapError
from finitewidth.data.dataset import Dataset, split, standardise, standardise_target
from finitewidth.data.encoding import Label, checked_classes, refuse_odd_counts

MAX_BYTES = 8 * 2**30
TrainTest = tuple[Dataset, Dataset]
PathLike = str | os.PathLike[str]


def existing(path: PathLike, folder: bool = False) -> Path:
    """The path of a file (or folder) that is there; a pipe or a device, which may never end, is no file."""
    kind = "folder" if folder else "file"
    found = path_of(kind, path)
    try:
        mode = found.stat().st_mode
    except FileNotFoundError as error:
        given = f"{kind} {shown(str(path))}, which does not exist"
        raise InputError(given, f"the path of a {kind}", "check the path") from error
    except OSError as error:
        raise InputError(
            f"{kind} {shown(str(path))} ({error.strerror})", f"a {kind} you may read", "check the path"
        ) from error
    if not (stat.S_ISDIR(mode) if folder else stat.S_ISREG(mode)):
        raise InputError(f"{shown(str(path))}, which is not a {kind}", f"the path of a {kind}", "check the path")
    return found


@contextmanager
def located(where: str) -> Iterator[None]:
    """Put the place in front of what an InputError says was given."""
    try:
        yield
    except MemoryCapError:
        raise
    except InputError as error:
        raise InputError(f"{where}: {error.given}", error.wanted, error.remedy) from error


def refuse_above(
    n_bytes: float, max_bytes: float, what: str, remedy: str = "use fewer points or smaller inputs"
) -> None:
    """Raise MemoryCapError before anything of that size is allocated."""
    if n_bytes > max_bytes:
        raise MemoryCapError(
            f"{what}, which needs {n_bytes / 2**30:.3g} GiB",
            f"at most {max_bytes / 2**30:.3g} GiB",
            f"{remedy}, or raise max_bytes",
        )


def of_classes(x: Any, labels: np.ndarray, classes: Sequence[Label] | None) -> Dataset:
    """The points of the wanted classes, in the order of the file; None wants all classes, sorted.

    The classes are encoded in the order given. A label may be written as text: "3" finds the class 3.
    """
    known = {str(label): label for label in np.unique(labels).tolist()}
    refuse_odd_counts(len(known), len(labels))
    wanted = tuple(known.values()) if classes is None else _labels_of(classes, known)
    kept = np.isin(labels, np.array(wanted))
    return Dataset(x if kept.all() else x[kept], labels[kept], classes=wanted)


def parts(dataset: Dataset, n_train: int, n_test: int | None, seed: int, kind: str) -> TrainTest:
    """Split by the recipe, then standardise by the training part."""
    train, test, _ = standardise(*split(dataset, n_train, n_test, seed), kind)
    return train, test


def standardised(train: Dataset, test: Dataset, kind: str | None, targets: bool) -> TrainTest:
    """Both parts as wanted, by the training part; ``kind=None`` leaves the inputs exactly as they are."""
    if kind is not None:
        train, test, _ = standardise(train, test, kind)
    return standardise_target(train, test) if flag("standardise_target", targets) else (train, test)


def _labels_of(classes: Sequence[Label], known: dict[str, Label]) -> tuple[Label, ...]:
    wanted = checked_classes(classes)
    if not wanted:
        raise InputError("classes = ()", "at least two classes", "leave classes out to keep all of them")
    return tuple(known[choice("class", str(label), known)] for label in wanted)
