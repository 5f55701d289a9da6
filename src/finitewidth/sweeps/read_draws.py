"""Draws on disk, zarr version 3 as a sweep writes them, read without trusting them.

zarr would follow links, decompress whatever a chunk holds and, in its version 2, unpickle; so metadata and the head of
every chunk are compared with what a sweep writes before zarr sees any of it.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finitewidth.checks.exceptions import InputError, MemoryCapError, MissingExtraError
from finitewidth.checks.json_input import parse_json
from finitewidth.linalg import available_memory, format_bytes

if TYPE_CHECKING:
    import xarray

META = "zarr.json"
_MOST_META, _MOST_CHUNKS, _MOST_NODES, _DEEPEST = 2**20, 100_000, 1000, 3
_SIZES = {"bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "float32": 4}
_SIZES |= dict.fromkeys(("int64", "uint64", "float64"), 8)
_ZSTD = 0xFD2FB528
_ATTRIBUTES = {"_FillValue"}  # of an array; others would ask xarray to decode


def read_draws(path: Path, max_bytes: float | None = None) -> xarray.DataTree:
    """The draws of a point, an xarray.DataTree in memory.

    Raises InputError for a folder that a sweep did not write, MemoryCapError above ``max_bytes`` (half of what is
    free), before anything is decompressed.
    """
    try:
        import xarray
    except ImportError as error:
        raise MissingExtraError("xarray", "sample", "draws") from error
    limit = available_memory() / 2.0 if max_bytes is None else max_bytes
    try:
        size = sum(_checked_bytes(path))
        if size > limit:
            raise MemoryCapError(
                f"draws {str(path)!r} of {format_bytes(size)}", f"at most {format_bytes(limit)}", "free some memory"
            )
        with xarray.open_datatree(path, engine="zarr", consolidated=False) as tree:
            return tree.load()
    except InputError:
        raise
    except Exception as error:  # zarr, its codecs and xarray raise whatever a damaged file makes them
        raise InputError(
            f"draws {str(path)!r}, which are damaged or not of a sweep ({type(error).__name__}: {error})",
            "draws as a sweep writes them",
            "remove them and their point, and run the sweep again",
        ) from error


def _checked_bytes(path: Path) -> Iterator[int]:
    """The size of every array below; ValueError for anything that a sweep does not write."""
    folders, seen = [(path, 0)], 0
    while folders:
        folder, depth = folders.pop()
        seen += 1
        if seen > _MOST_NODES or depth > _DEEPEST:
            raise ValueError("too many groups")
        meta = _meta(folder / META)
        entries = {entry.name: entry for entry in os.scandir(folder)}
        del entries[META]
        if meta["node_type"] == "array":
            yield _array_bytes(folder, meta, entries)
            continue
        if meta["node_type"] != "group" or meta.get("consolidated_metadata") is not None:
            raise ValueError(f"a node of another kind in {folder.name}")
        for entry in entries.values():
            if not entry.is_dir(follow_symlinks=False):
                raise ValueError(f"{entry.name}, which is no folder")
            folders.append((Path(entry.path), depth + 1))


def _meta(file: Path) -> dict[str, Any]:
    found = file.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_size > _MOST_META:
        raise ValueError(f"metadata of {found.st_size} bytes")
    meta = parse_json(file.read_bytes(), finite=False)
    if not isinstance(meta, dict) or meta["zarr_format"] != 3 or not isinstance(meta.get("attributes", {}), dict):
        raise ValueError("metadata of another format")
    return meta


def _array_bytes(folder: Path, meta: dict[str, Any], entries: dict[str, Any]) -> int:
    item = _SIZES[meta["data_type"]]
    shape, chunk = meta["shape"], meta["chunk_grid"]["configuration"]["chunk_shape"]
    whole = all(type(n) is int and n >= 0 for n in shape) and all(type(n) is int and n > 0 for n in chunk)
    if not whole or len(shape) != len(chunk) or not set(meta.get("attributes", {})) <= _ATTRIBUTES:
        raise ValueError(f"shape or attributes of {folder.name}")
    names = [codec["name"] for codec in meta["codecs"]]
    if names not in (["bytes"], ["bytes", "zstd"]) or meta.get("storage_transformers"):
        raise ValueError(f"codecs {names}")
    chunks = math.prod(-(-n // size) for n, size in zip(shape, chunk, strict=True))
    if chunks > _MOST_CHUNKS:
        raise ValueError(f"{chunks} chunks")
    length = item * math.prod(chunk)
    for file in _chunks(entries):
        _refuse_bomb(Path(file.path), length, compressed=len(names) == 2)
    return max(length, item * math.prod(shape))


def _chunks(entries: dict[str, Any]) -> Iterator[Any]:
    """The files of an array's folder "c", or "c" itself of an array without dimensions."""
    if set(entries) - {"c"}:
        raise ValueError(f"{sorted(entries)[0]} beside the chunks")
    left = list(entries.values())
    while left:
        entry = left.pop()
        if entry.is_dir(follow_symlinks=False):
            left += os.scandir(entry.path)
        elif entry.is_file(follow_symlinks=False):
            yield entry
        else:
            raise ValueError(f"{entry.name}, which is no file")


def _refuse_bomb(file: Path, length: int, compressed: bool) -> None:
    """ValueError unless a chunk is of the length that its array declares, or says that it decompresses to that."""
    if not compressed:
        declared = file.stat().st_size
    else:
        with open(file, "rb") as stream:
            declared = zstd_content_size(stream.read(18))
    if declared != length:
        raise ValueError(f"a chunk of {declared} bytes in place of {length}")


def zstd_content_size(head: bytes) -> int:
    """The size that the frame header of Zstandard data declares (RFC 8878, section 3.1.1.1); ValueError for none."""
    if len(head) < 6 or int.from_bytes(head[:4], "little") != _ZSTD:
        raise ValueError("no Zstandard frame")
    descriptor = head[4]
    single, flag = bool(descriptor & 0x20), descriptor >> 6
    start = 5 + (0 if single else 1) + (0, 1, 2, 4)[descriptor & 3]
    size = (1 if single else 0, 2, 4, 8)[flag]
    field = head[start : start + size]
    if size == 0 or len(field) < size:
        raise ValueError("a Zstandard frame of unknown size")
    return int.from_bytes(field, "little") + (256 if size == 2 else 0)
