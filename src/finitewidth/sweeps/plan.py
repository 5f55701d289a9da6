"""A plan: what is fixed, what is swept, and the points that follow; checked as the command line checks its options."""

from __future__ import annotations

import difflib
import itertools
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finitewidth import checks
from finitewidth.checks.exceptions import InputError
from finitewidth.data.files import located
from finitewidth.data.loaders import BUILT_IN, OPENML
from finitewidth.display import Displayed
from finitewidth.jobs.option_values import Kind
from finitewidth.jobs.options import command_of
from finitewidth.sweeps.document import Document, Place
from finitewidth.sweeps.plan_keys import KINDS, OF_THE_PLAN, used
from finitewidth.sweeps.point import DATA, KERNEL, Point

MOST_POINTS = 1_000_000
_CHECKED = 5000  # points of which one must be possible
_ORDER = (*DATA, *KERNEL, "widths", "method", "closure")  # swept slowly: their points share work
_CALLED = {"precision": ("weight_precision",), "width": ("channels",)}
_FASTEST = ("width", "temperature")

Grid = dict[str, list[Any]]


@dataclass(frozen=True)
class Plan(Displayed):
    """base: keys with one value. grids: keys with several; every grid is swept in full. folder: of relative paths."""

    document: Document
    base: dict[str, Any]
    grids: tuple[Grid, ...]
    keep_draws: bool
    folder: Path

    def _facts(self) -> dict[str, Any]:
        return {"base": self.base, "grids": self.grids, "size": self.size}

    @classmethod
    def of(cls, source: str | os.PathLike[str] | Mapping[str, Any]) -> Plan:
        """Read and check a YAML file, or the same keys in a mapping.

        Raises InputError that names the line: unknown keys and values, keys that contradict one another or that no
        point uses, an empty grid. MissingExtraError without the extra "sweep".
        """
        if isinstance(source, Mapping):
            try:
                text = json.dumps(source, default=_listed)
                document, folder = Document("plan", json.loads(text), text=text), Path()
            except (TypeError, ValueError, RecursionError) as error:
                raise InputError(
                    f"a plan with {error}", "keys with texts, numbers and lists", "see docs/sweeps.md"
                ) from error
        else:
            path = checks.path("plan", source)
            document, folder = Document.read(path), path.absolute().parent
        found = _validated(document)
        grids = found.pop("grid", [{}])
        keep = found.pop("keep_draws", True)
        plan = cls(document, found, tuple(_ordered(grid) for grid in grids), keep, folder)
        plan._refuse_without_data()
        plan._refuse_twice()
        plan._refuse_unused()
        plan._refuse_impossible()
        return plan

    @property
    def size(self) -> int:
        """Combinations; points may be fewer, where a key makes no difference to some."""
        return sum(math.prod(map(len, grid.values())) for grid in self.grids)

    def points(self) -> Iterator[Point]:
        """Every point once, those that share work one after another."""
        seen: set[str] = set()
        for grid in self.grids:
            for values in itertools.product(*grid.values()):
                point = Point.of(self.base | dict(zip(grid, values, strict=True)))
                if point.id not in seen:
                    seen.add(point.id)
                    yield point

    @property
    def swept(self) -> list[str]:
        """The keys of all grids."""
        return list(dict.fromkeys(key for grid in self.grids for key in grid))

    def place(self, key: str) -> Place:
        """Where the plan gives a key."""
        for number, grid in enumerate(self.grids):
            if key in grid:
                return ("grid", key) if isinstance(self.document.values.get("grid"), dict) else ("grid", number, key)
        return (key,)

    def find(self, source: str) -> str:
        """Where the data of a point are: relative to the plan's folder, or else to the current one."""
        if source in BUILT_IN or source.startswith(OPENML):
            return source
        path = checks.path("data", source)
        found = next((place for place in (self.folder / path, path) if place.exists()), None)
        return source if found is None else str(found.absolute())

    # --- what is refused ------------------------------------------------------------------------------------

    def _refuse_without_data(self) -> None:
        if "data" not in self.base and not all("data" in grid for grid in self.grids):
            self.document.refuse((), "no data", "digits, mnist, openml:NAME, a file or a folder", "add data: digits")

    def _refuse_twice(self) -> None:
        for key in self.swept:
            if key in self.base:
                given = f"{key} both in the grid and outside ({self.document.where((key,))})"
                self.document.refuse(self.place(key), given, "one of them", f"remove one {key}")

    def _refuse_unused(self) -> None:
        """A key that no point uses was meant for something else."""
        keys: set[str] = set()
        for grid in self.grids:
            methods = grid.get("method", [self.base.get("method", "saddle")])
            networks = grid.get("network", [self.base.get("network", "fc")])
            keys.update(*(used(m, n) for m in set(methods) for n in set(networks)))
        for key in (*self.base, *self.swept):
            if key not in keys:
                method = self.base.get("method", "the methods given" if "method" in self.swept else "saddle")
                network = self.base.get("network", "the networks given" if "network" in self.swept else "fc")
                given = f"{key} with method {method} and network {network}, which do not use it"
                self.document.refuse(self.place(key), given, "keys that matter to some point", f"leave {key} out")

    def _refuse_impossible(self) -> None:
        """A plan of which no point can be; what only some combinations cannot be is left to their points."""
        first: InputError | None = None
        for point in itertools.islice(self.points(), _CHECKED):
            try:
                command_of(point.values(self.find(point.config["data"])))
                return
            except InputError as error:
                first = first or error
        if first is not None and self.size <= _CHECKED:
            keys = sorted({*self.base, *self.swept}, key=lambda key: (key == "data", -len(key), key))
            key = next((key for key in keys if _mentions(first.given, key)), "")
            where = self.document.where(self.place(key))
            raise InputError(f"{where}: {first.given}", first.wanted, first.remedy)


def _validated(document: Document) -> dict[str, Any]:
    """The keys that the plan gives, each in its one form; raises InputError that names the line."""
    if not isinstance(document.values, dict):
        document.refuse((), "no keys", "a plan, for example 'data: digits'", "see docs/sweeps.md")
    found: dict[str, Any] = {}
    for key, value in document.values.items():
        if key == "grid":
            found[key] = _grids(document, value)
        else:
            kind = _known(document, (key,), KINDS | OF_THE_PLAN)
            found[key] = _read(document, (key,), kind, key, value)
    return found


def _grids(document: Document, value: Any) -> list[dict[str, list[Any]]]:
    if not isinstance(value, list):
        return [_grid(document, ("grid",), value)]
    if not value:
        document.refuse(("grid",), "an empty grid (grid has no values)", "at least one value", "give grid values")
    return [_grid(document, ("grid", number), grid) for number, grid in enumerate(value)]


def _grid(document: Document, place: Place, grid: Any) -> dict[str, list[Any]]:
    if not isinstance(grid, dict):
        given = f"grid: {checks.shown(grid)}"
        document.refuse(place, given, "keys with lists of values", "write width: [20, 40], say")
    if not grid:
        document.refuse(place, "an empty grid", "at least one key", "write width: [20, 40], say")
    found = {}
    for key, values in grid.items():
        kind = _known(document, (*place, key), KINDS)
        if not isinstance(values, list):
            given = f"{key}: {checks.shown(values)} in the grid"
            remedy = f"write {key}: [..], or move it out of the grid"
            document.refuse((*place, key), given, "a list of values", remedy)
        if not values:
            given = f"an empty grid ({key} has no values)"
            document.refuse((*place, key), given, "at least one value", f"give {key} values")
        found[key] = [_read(document, (*place, key, i), kind, key, value) for i, value in enumerate(values)]
    return found


def _known(document: Document, place: Place, kinds: dict[str, Kind]) -> Kind:
    key = str(place[-1])
    if key not in kinds:
        near = difflib.get_close_matches(key, (*kinds, "grid"), n=1, cutoff=0.5)
        remedy = f"did you mean {near[0]!r}?" if near else "see docs/sweeps.md"
        document.refuse(place, f"unknown key {checks.shown(key)}", "a key of the command line", remedy)
    return kinds[key]


def _read(document: Document, place: Place, kind: Kind, key: str, value: Any) -> Any:
    with located(document.where(place)):
        return kind.of_plan(key, value)


def _ordered(grid: Grid) -> Grid:
    """Keys whose points share no work first, width and temperature last: the latter needs no code compiled anew."""
    first = [key for key in _ORDER if key in grid]
    last = [key for key in _FASTEST if key in grid]
    middle = [key for key in grid if key not in (*first, *last)]
    return {key: grid[key] for key in (*first, *middle, *last)}


def _listed(values: Any) -> list[Any] | float | str:
    """A range, an array or a number of NumPy, as plain data."""
    return values.tolist() if hasattr(values, "tolist") else list(values)


def _mentions(text: str, key: str) -> bool:
    """Whether a message speaks of a key, as the command line or as Python calls it."""
    names = "|".join(name.replace("_", "[-_]") for name in (key, *_CALLED.get(key, ())))
    return re.search(rf"(?<![\w-])(--)?({names})(?![\w-])", text) is not None
