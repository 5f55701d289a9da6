"""The keys of a plan: the options of ``finitewidth predict``, of which a point has one value each."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import Any

from finitewidth.jobs import options
from finitewidth.jobs.job import METHODS, method_class
from finitewidth.jobs.option_values import FLAG, NUMBER_FROM_ZERO, WHOLE, Kind, named
from finitewidth.networks.build import KINDS as NETWORKS
from finitewidth.networks.build import OF_PATCHES
from finitewidth.theory.solver import Solver

# decide no number, or are code, or mean other numbers on every machine
_NO_KEYS = {"json", "figure", "checkpoint", "memory", "time", "likelihood", "seconds"}
_FIELDS = {field.name: field for field in dataclasses.fields(options.PredictOptions) if field.name not in _NO_KEYS}

KINDS: dict[str, Kind] = {name: field.metadata["kind"] for name, field in _FIELDS.items()} | {
    "width": WHOLE,
    "temperature": NUMBER_FROM_ZERO,
    "method": named(tuple(METHODS)),  # a plan names no code
    "network": named(NETWORKS),
}
OF_THE_PLAN = {"keep_draws": FLAG}  # keys that are no setting of a point


@lru_cache(maxsize=64)
def used(method: str, network: str) -> frozenset[str]:
    """The keys that decide a point of this method and network."""
    settings = {field.name for field in dataclasses.fields(method_class(method))}
    job = {field.name for field in dataclasses.fields(options.JobOptions)}
    keys = (job | settings | {"method"}) & KINDS.keys()
    # networks on patches have one hidden layer, and one solver
    return frozenset(keys - (set(OF_PATCHES) if network == "fc" else {"closure", "solver"}))


@lru_cache(maxsize=8)
def defaults(method: str) -> dict[str, Any]:
    """What a key that is not given stands for, where that does not depend on the data."""
    found = {field.name: field.default for field in dataclasses.fields(options.JobOptions)}
    found |= {name: _plain(value) for name, value in vars(method_class(method)()).items()}
    found |= {"method": method, "seed": "0"}
    given = [name for name in KINDS.keys() & found if found[name] is not None and found[name] is not False]
    return {name: KINDS[name].of_plan(name, found[name]) for name in given}


def _plain(value: object) -> object:
    """A setting as a plan writes it."""
    return value.kind if isinstance(value, Solver) else value
