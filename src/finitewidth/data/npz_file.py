"""The npz file that DESIGN.md fixes, read without trusting it."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from math import prod
from pathlib import Path
from typing import IO

import numpy as np

from finitewidth.checks import positive_integer
from finitewidth.data.dataset import Dataset
from finitewidth.data.files import MAX_BYTES, PathLike, TrainTest, existing, located, refuse_above
from finitewidth.exceptions import InputError

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
_DAMAGE = (
    ValueError,
    TypeError,
    EOFError,
    OSError,
    RuntimeError,  # an encrypted member
    NotImplementedError,  # an unknown compression
    MemoryError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
)


def npz(
    path: PathLike, n_train: int | None = None, n_test: int | None = None, max_bytes: float = MAX_BYTES
) -> TrainTest:
    """Training and test part of an npz file, used exactly as given: no rescaling, no reordering.

    ``n_train`` and ``n_test`` take the first points of each part; None takes them all.

    The arrays ``x_train, y_train, x_test, y_test`` are as in ``Dataset``; the test part is encoded with the
    classes of the training part. Object arrays and pickles are refused, and so are files whose declared size
    is above ``max_bytes`` (MemoryCapError) or is not that of their contents: the headers are compared before
    anything is read.
    """
    file = existing(path)
    arrays = _read_arrays(file, max_bytes)
    with located(f"file {str(path)!r}, training part"):
        train = Dataset(arrays["x_train"], arrays["y_train"])
    with located(f"file {str(path)!r}, test part"):
        test = train.like(arrays["x_test"], arrays["y_test"])
    return _first(train, "n_train", n_train), _first(test, "n_test", n_test)


def _first(part: Dataset, name: str, count: int | None) -> Dataset:
    if count is None:
        return part
    if positive_integer(name, count) > part.n_points:
        raise InputError(f"{name} = {count}", f"at most the {part.n_points} points of the file", "ask for fewer")
    return part.subset(np.arange(count))


def _read_arrays(file: Path, max_bytes: float) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(file) as archive:
            _refuse_missing(file, archive)
            sizes = [_declared_bytes(file, archive, name) for name in ARRAYS]
            refuse_above(sum(sizes), max_bytes, f"file {str(file)!r}")
            return {name: _read_array(archive, name) for name in ARRAYS}
    except InputError:
        raise
    except _DAMAGE as error:
        raise InputError(
            f"file {str(file)!r}, which is not an npz file or is damaged or truncated ({error})",
            "an npz file written by numpy.savez",
            "write or copy the file again",
        ) from error


def _refuse_missing(file: Path, archive: zipfile.ZipFile) -> None:
    found = [name.removesuffix(".npy") for name in archive.namelist()]
    missing = [name for name in ARRAYS if name not in found]
    if missing:
        raise InputError(
            f"file {str(file)!r} with the arrays {', '.join(found[:10]) or 'none'}",
            "the arrays " + ", ".join(ARRAYS),
            f"add {', '.join(missing)}",
        )


def _declared_bytes(file: Path, archive: zipfile.ZipFile, name: str) -> int:
    """What the array will take as float64, from its header alone."""
    member = archive.getinfo(f"{name}.npy")
    with archive.open(member) as stream:
        shape, dtype = _header(stream)
        held = member.file_size - stream.tell()
    if dtype.hasobject:
        raise InputError(
            f"file {str(file)!r} with the object array {name} (a pickle, which could run code)",
            "plain arrays of numbers",
            f"save {name} as integers or floats",
        )
    count = prod(shape)
    if min(shape, default=0) < 0 or count * dtype.itemsize != held:
        raise ValueError(f"{name} declares {count * dtype.itemsize} bytes and holds {held}")
    return count * max(dtype.itemsize, 8)


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(stream)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read:
        raise ValueError(f"npy version {version}, used for structured arrays only")
    shape, _, dtype = read[version](stream)
    return shape, dtype


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(f"{name}.npy") as stream:
        array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
        stream.read(1)  # to the end, where the checksum is compared
    return array
