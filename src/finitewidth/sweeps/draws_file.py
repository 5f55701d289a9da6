"""Draws on disk: arrays of an xarray.DataTree as an npz file, their dimensions and attributes as JSON in it."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finitewidth.checks.exceptions import InputError, needed
from finitewidth.checks.json_input import parse_json
from finitewidth.data.npz_file import read_archive
from finitewidth.linalg import available_memory
from finitewidth.runs.checkpoints import save_arrays, write_whole

if TYPE_CHECKING:
    import xarray


def write_draws(path: Path, tree: xarray.DataTree) -> None:
    """Whole, or not at all."""
    arrays = {
        f"{group}/{name}".strip("/"): variable
        for group, dataset in tree.to_dict().items()
        for name, variable in dataset.variables.items()
    }
    meta = {"dims": {name: variable.dims for name, variable in arrays.items()}, "attrs": tree.attrs}
    values = {name: variable.values for name, variable in arrays.items()}

    def write(draft: Path) -> None:
        with open(draft, "xb") as file:
            save_arrays(file, meta=np.array(json.dumps(meta)), **values)

    write_whole(path, write)


def read_draws(path: Path, max_bytes: float | None = None) -> xarray.DataTree:
    """The draws of a point, an xarray.DataTree in memory.

    Raises InputError for a file that a sweep did not write, MemoryCapError above ``max_bytes`` (half of what is free).
    """
    with needed("xarray", "sample", "draws"):
        import xarray
    arrays = read_archive(path, available_memory() / 2.0 if max_bytes is None else max_bytes)
    try:
        meta: Any = parse_json(str(arrays.pop("meta")), finite=False)
        groups: dict[str, dict[str, Any]] = defaultdict(dict)
        for place, array in arrays.items():
            group, _, name = place.rpartition("/")
            groups[group][name] = (meta["dims"][place], array)
        tree = xarray.DataTree.from_dict({group: xarray.Dataset(found) for group, found in groups.items()})
        tree.attrs = dict(meta["attrs"])
    except Exception as error:  # xarray raises whatever odd names and dimensions make it
        raise InputError(
            f"draws {str(path)!r}, which are not of a sweep ({type(error).__name__}: {error})",
            "draws as a sweep writes them",
            "remove them and their point, and run the sweep again",
        ) from error
    return tree
