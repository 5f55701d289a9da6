"""The npz file that DESIGN.md fixes, read without trusting it."""

from __future__ import annotations

import numpy as np

from finitewidth.checks import positive_integer
from finitewidth.checks.exceptions import InputError
from finitewidth.data.archive import read_archive
from finitewidth.data.dataset import Dataset
from finitewidth.data.files import MAX_BYTES, PathLike, TrainTest, existing, located, standardised

ARRAYS = ("x_train", "y_train", "x_test", "y_test")


def npz(
    path: PathLike,
    n_train: int | None = None,
    n_test: int | None = None,
    max_bytes: float = MAX_BYTES,
    standardise: str | None = None,
    standardise_target: bool = False,
) -> TrainTest:
    """Training and test part of an npz file, used exactly as given: no reordering, and no rescaling by default.

    ``n_train`` and ``n_test`` take the first points of each part; None takes them all. ``standardise`` ("global" or
    "feature") and ``standardise_target`` are fitted on the training points that are left.

    The arrays ``x_train, y_train, x_test, y_test`` are as in ``Dataset``; the test part is encoded with the
    classes of the training part. Object arrays and pickles are refused, and so are files whose declared size
    is above ``max_bytes`` (MemoryCapError) or is not that of their contents: the headers are compared before
    anything is read.
    """
    file = existing(path)
    arrays = read_archive(file, max_bytes, ARRAYS)
    with located(f"file {str(path)!r}, training part"):
        train = Dataset(arrays["x_train"], arrays["y_train"])
    with located(f"file {str(path)!r}, test part"):
        test = train.like(arrays["x_test"], arrays["y_test"])
    chosen = _first(train, "n_train", n_train), _first(test, "n_test", n_test)
    with located(f"file {str(path)!r}"):
        return standardised(*chosen, standardise, standardise_target)


def _first(part: Dataset, name: str, count: int | None) -> Dataset:
    if count is None:
        return part
    if positive_integer(name, count) > part.n_points:
        raise InputError(f"{name} = {count}", f"at most the {part.n_points} points of the file", "ask for fewer")
    return part.subset(np.arange(count))
