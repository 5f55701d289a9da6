"""Reading the results of a sweep: a pandas DataFrame, plain rows, or the draws of a point."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finitewidth import checks
from finitewidth.checks import shown
from finitewidth.checks.exceptions import InputError, needed
from finitewidth.checks.json_input import parse_json
from finitewidth.data.files import existing
from finitewidth.runs.checkpoints import refuse_links
from finitewidth.sweeps.draws_file import read_draws
from finitewidth.sweeps.store import DATABASE, DRAWS, damaged, reading

if TYPE_CHECKING:
    import pandas
    import xarray

_ID = re.compile(r"[0-9a-f]{24}")
_NUMBERS: dict[str, Any] = {
    **dict.fromkeys(("converged", "seed", "peak_memory", "run"), int),
    "seconds": (int, float),
}
_JSON = ("config", "result", "versions")


def rows(folder: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """The points of a folder in the order they were finished: the columns of the table ``points``, JSON read."""
    with reading(checks.path("folder", folder)) as db:
        for row in db.execute("SELECT * FROM points ORDER BY finished_at, point_id"):
            try:
                plain = _plain(row)
            except ValueError as error:
                raise damaged(Path(folder) / DATABASE, error) from error
            yield plain


def _plain(row: sqlite3.Row) -> dict[str, Any]:
    """SQLite takes any type in any column: what is not of the column's is damage."""
    plain = dict(row)
    for name, value in plain.items():
        wanted = _NUMBERS.get(name, str)
        if value is not None and not isinstance(value, wanted):
            raise ValueError(f"{name} of type {type(value).__name__}")
    for name in _JSON:
        plain[name] = None if plain[name] is None else parse_json(plain[name])
        if not isinstance(plain[name], dict) and (name == "config" or plain[name] is not None):
            raise ValueError(f"{name} that is no JSON object")
    plain["converged"] = None if plain["converged"] is None else bool(plain["converged"])
    return plain


def read(folder: str | os.PathLike[str]) -> pandas.DataFrame:
    """All points of a folder as a pandas DataFrame, one a row: configuration, result, and how it came about.

    Keys of the configuration and of the result are columns; where both have one (width, say), the result's is taken,
    and the method of the plan is ``config_method``. Raises InputError where there is no sweep, MissingExtraError
    without pandas.
    """
    with needed("pandas", "table", "a table of results"):
        import pandas
    return pandas.DataFrame([_flat(row) for row in rows(folder)])


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    config, result = row.pop("config"), row.pop("result") or {}
    return row | config | result | {"config_method": config.get("method"), "seconds": row["seconds"]}


def plan_text(folder: str | os.PathLike[str]) -> str:
    """The plan of the latest run in a folder, as it was given."""
    with reading(checks.path("folder", folder)) as db:
        found = db.execute("SELECT plan FROM runs ORDER BY run DESC LIMIT 1").fetchone()
    return found[0] if found is not None and isinstance(found[0], str) else ""


def draws(folder: str | os.PathLike[str], point_id: str) -> xarray.DataTree:
    """The draws of a sampled point, an xarray.DataTree (``Draws.to_datatree``), read whole.

    Raises InputError for a point without draws and for draws that are damaged or not as a sweep writes them,
    MemoryCapError where they declare more than half of the memory that is free.
    """
    place = checks.path("folder", folder)
    with reading(place) as db:
        found = db.execute("SELECT draws_path FROM points WHERE point_id = ?", (point_id,)).fetchone()
    if found is None or found[0] is None:
        raise InputError(f"point {point_id!r}, which has no draws", "a sampled point of this folder", "see its table")
    name = f"{DRAWS}/{point_id}.npz"
    if found[0] != name or not _ID.fullmatch(point_id):  # a path from a file leads nowhere else
        raise damaged(place / DATABASE, f"draws at {shown(found[0])} in place of {shown(name)}")
    refuse_links(place, (DRAWS, name))
    return read_draws(existing(place / name))
