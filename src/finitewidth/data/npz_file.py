"""npz files read without trusting them: sizes are compared before anything is read, and nothing is unpickled."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np

from finitewidth.checks import positive_integer
from finitewidth.checks.exceptions import InputError
from finitewidth.data.dataset import Dataset
from finitewidth.data.files import MAX_BYTES, PathLike, TrainTest, existing, located, refuse_above, standardised

_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what NumPy writes; others may ask for gigabytes at once
_LONGEST_HEADER = 2**16
_MOST_MEMBERS = 10_000
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


def read_archive(file: Path, max_bytes: float, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of those names, or all of them.

    Raises InputError for a file that is damaged, holds objects (pickles) or lacks a name, and MemoryCapError where the
    headers declare more than ``max_bytes`` in float64, before anything but the headers is read.
    """
    with located(f"file {str(file)!r}"):
        try:
            with zipfile.ZipFile(file) as archive:
                chosen = _members(archive, names)
                n_bytes = sum(_declared_bytes(archive, name) for name in chosen)
                refuse_above(n_bytes, max_bytes, f"file {str(file)!r}")
                return {name: _read_array(archive, name) for name in chosen}
        except InputError:
            raise
        except Exception as error:  # zipfile, zlib and NumPy raise whatever a damaged file makes them
            given = f"not an npz file, or damaged or truncated ({error})"
            raise InputError(given, "an npz file written by numpy.savez", "write or copy the file again") from error


def _members(archive: zipfile.ZipFile, names: Sequence[str] | None) -> list[str]:
    members = archive.namelist()
    found = [name.removesuffix(".npy") for name in members if name.endswith(".npy")]
    if not len(found) == len(members) == len(set(found)) <= _MOST_MEMBERS:
        raise ValueError(f"{len(members)} members, {len(set(found))} of them different arrays")
    if names is None:
        return found
    missing = sorted(set(names) - set(found), key=list(names).index)
    if missing:
        raise InputError(
            f"the arrays {', '.join(found[:10]) or 'none'}",
            "the arrays " + ", ".join(names),
            f"add {', '.join(missing)}",
        )
    return list(names)


def _declared_bytes(archive: zipfile.ZipFile, name: str) -> int:
    """What the array will take as float64, from its header alone."""
    member = archive.getinfo(f"{name}.npy")
    if member.compress_type not in _COMPRESSIONS:
        raise ValueError(f"{name} in a compression that NumPy does not write")
    with archive.open(member) as stream:
        header = io.BytesIO(stream.read(_LONGEST_HEADER))
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, _, dtype = read[np.lib.format.read_magic(header)](header)
    if dtype.hasobject:
        raise InputError(
            f"the object array {name} (a pickle, which could run code)",
            "plain arrays of numbers",
            f"save {name} as integers or floats",
        )
    count, held = prod(shape), member.file_size - header.tell()
    if min(shape, default=0) < 0 or count * dtype.itemsize != held:
        raise ValueError(f"{name} declares {count * dtype.itemsize} bytes and holds {held}")
    return count * max(dtype.itemsize, 8)


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(f"{name}.npy") as stream:
        array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
        stream.read(1)  # to the end, where the checksum is compared
    if array.dtype.kind == "U":
        characters = np.frombuffer(array.astype(array.dtype.newbyteorder("=")).tobytes(), np.uint32)
        if characters.max(initial=0) > sys.maxunicode:  # NumPy makes strings of any 32 bits, on which Python breaks
            raise ValueError(f"{name} holds text that is none")
    return array
