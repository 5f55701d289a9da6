"""Checks what a plan holds, key by key."""

from __future__ import annotations

import difflib
from typing import Any

from finitewidth import checks
from finitewidth.checks.exceptions import InputError
from finitewidth.jobs.option_values import Kind
from finitewidth.sweeps.document import Document, Place
from finitewidth.sweeps.plan_keys import KINDS, OF_THE_PLAN


def validated(document: Document) -> dict[str, Any]:
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
    try:
        return kind.of_plan(key, value)
    except InputError as error:
        document.refuse(place, error.given, error.wanted, error.remedy)
