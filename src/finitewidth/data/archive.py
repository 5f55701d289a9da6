"""npz archives read without trusting them: sizes are compared before anything is read, and nothing is unpickled."""

from __future__ import annotations

import io
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from finitewidth.checks.exceptions import InputError
from finitewidth.data.files import refuse_above

_DAMAGE = (
    ValueError,
    TypeError,
    EOFError,
    OSError,
    RuntimeError,  # an encrypted member
    NotImplementedError,  # an unknown zip feature
    MemoryError,
    OverflowError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what NumPy writes; others may ask for gigabytes at once
_LONGEST_HEADER = 2**16
_MOST_MEMBERS = 10_000


def read_archive(
    file: Path, max_bytes: float, names: Sequence[str] | None = None, wanted: str = "an npz file written by numpy.savez"
) -> dict[str, np.ndarray]:
    """The arrays of those names, or all of them.

    Raises InputError for a file that is damaged, holds objects (pickles) or lacks a name, and MemoryCapError where the
    headers declare more than ``max_bytes`` in float64, before anything but the headers is read.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            chosen = _members(file, archive, names)
            sizes = [_declared_bytes(file, archive, name) for name in chosen]
            refuse_above(sum(sizes), max_bytes, f"file {str(file)!r}")
            return {name: _read_array(archive, name) for name in chosen}
    except InputError:
        raise
    except _DAMAGE as error:
        raise InputError(
            f"file {str(file)!r}, which is not an npz file or is damaged or truncated ({error})",
            wanted,
            "write or copy the file again",
        ) from error


def _members(file: Path, archive: zipfile.ZipFile, names: Sequence[str] | None) -> list[str]:
    members = archive.namelist()
    found = [name.removesuffix(".npy") for name in members if name.endswith(".npy")]
    if not len(found) == len(members) == len(set(found)) <= _MOST_MEMBERS:
        raise ValueError(f"{len(members)} members, {len(set(found))} of them different arrays")
    if names is None:
        return found
    missing = sorted(set(names) - set(found), key=list(names).index)
    if missing:
        raise InputError(
            f"file {str(file)!r} with the arrays {', '.join(found[:10]) or 'none'}",
            "the arrays " + ", ".join(names),
            f"add {', '.join(missing)}",
        )
    return list(names)


def _declared_bytes(file: Path, archive: zipfile.ZipFile, name: str) -> int:
    """What the array will take as float64, from its header alone."""
    member = archive.getinfo(f"{name}.npy")
    if member.compress_type not in _COMPRESSIONS:
        raise ValueError(f"{name} in a compression that NumPy does not write")
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
    """Shape and type; NumPy reads the header, when it is known to be short."""
    version = np.lib.format.read_magic(stream)
    lengths = {(1, 0): "<H", (2, 0): "<I"}
    if version not in lengths:
        raise ValueError(f"npy version {version}, used for structured arrays only")
    packed = stream.read(struct.calcsize(lengths[version]))
    (length,) = struct.unpack(lengths[version], packed)
    if length > _LONGEST_HEADER:
        raise ValueError(f"a header of {length} bytes")
    read: dict[tuple[int, int], Callable[..., Any]] = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    header = io.BytesIO(packed + stream.read(length))
    try:
        shape, _, dtype = read[version](header)
    except Exception as error:  # of NumPy's parsers, among them one for Python 2's numbers
        raise ValueError(f"a header that cannot be read ({type(error).__name__})") from error
    return shape, dtype


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(f"{name}.npy") as stream:
        array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
        stream.read(1)  # to the end, where the checksum is compared
    if array.dtype.kind == "U":
        _check_text(name, array)
    return array


def _check_text(name: str, array: np.ndarray) -> None:
    """NumPy makes strings of any 32 bits; Python's own functions break on such that are no characters."""
    native = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="), copy=False))
    characters = np.frombuffer(native.tobytes(), np.uint32)
    if characters.size and int(characters.max()) > sys.maxunicode:
        raise ValueError(f"{name} holds text that is none")
