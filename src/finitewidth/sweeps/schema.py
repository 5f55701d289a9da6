"""The pydantic model of a plan, made from the options of the command line, and its JSON schema."""

from __future__ import annotations

import difflib
import operator
from functools import lru_cache, partial
from types import GenericAlias, ModuleType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

from finitewidth import checks
from finitewidth.checks.exceptions import InputError, MissingExtraError
from finitewidth.linalg import parse_memory
from finitewidth.sweeps.document import Document
from finitewidth.sweeps.plan_keys import KINDS, Kind, meanings

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

TITLE = "Plan of a finitewidth sweep"
_TAGS = ("one", "several")  # of the union of one grid and a list of them, not part of a place


def json_schema() -> dict[str, Any]:
    """JSON schema of a plan."""
    schema = _model().model_json_schema()
    for part in (schema, *schema["$defs"].values()):
        for key in part["properties"].values():
            for place in (key, key.get("items", {})):  # pydantic 2.7 says it of the values of a list too
                if place.get("default", ...) is None:  # not given is not null
                    del place["default"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema


def validated(document: Document) -> dict[str, Any]:
    """The keys that the plan gives, each in its one form; raises InputError that names the line."""
    if not isinstance(document.values, dict):
        document.refuse((), "no keys", "a plan, for example 'data: digits'", "see docs/sweeps.md")
    model = _model()
    try:
        plan = model.model_validate(document.values)
    except _pydantic().ValidationError as error:
        _refuse(document, error.errors(include_url=False))
    found: dict[str, Any] = plan.model_dump(exclude_unset=True)
    if isinstance(found.get("grid"), dict):
        found["grid"] = [found["grid"]]
    return found


def _pydantic() -> ModuleType:
    try:
        import pydantic
    except ImportError as error:
        raise MissingExtraError("pydantic", "sweep", "a plan") from error
    return pydantic


@lru_cache(maxsize=1)
def _model() -> type[BaseModel]:
    p = _pydantic()
    strict = p.ConfigDict(extra="forbid", title=TITLE)
    values = {name: _value(p, name, kind) for name, kind in KINDS.items()}
    swept = {name: _key(p, name, _several(p, value)) for name, value in values.items()}
    grid = p.create_model("Grid", __config__=strict | {"json_schema_extra": {"minProperties": 1}}, **swept)
    single = {name: _key(p, name, value) for name, value in values.items()}
    return p.create_model("Plan", __config__=strict, **single, **_of_the_whole(p, grid))


def _of_the_whole(p: ModuleType, grid: object) -> dict[str, Any]:
    """The keys that are no setting of a point."""
    one, several = (_annotated(kind, p.Tag(tag)) for kind, tag in zip((grid, _several(p, grid)), _TAGS, strict=True))
    grids = _annotated(one | several, p.Discriminator(lambda value: _TAGS[isinstance(value, list)]))
    memory = _annotated(Any, p.BeforeValidator(_memory), p.WithJsonSchema({"type": ["string", "number"]}))
    keep = "Whether the draws of sampled points are kept, as zarr. Default: true."
    return {
        "grid": (grids, p.Field(None, description="Keys that are swept, each with its values; or a list of grids.")),
        "memory": (memory, p.Field(None, description="Refuse points that would need more, for example 8GB.")),
        "keep_draws": (_annotated(bool, p.Strict()), p.Field(True, description=keep)),
    }


def _key(p: ModuleType, name: str, kind: object) -> tuple[object, FieldInfo]:
    """A key that may be left out."""
    return kind, p.Field(None, description=meanings()[name])


def _value(p: ModuleType, name: str, kind: Kind) -> object:
    return _annotated(Any, p.BeforeValidator(partial(kind.read, name)), p.WithJsonSchema(kind.schema))


def _several(p: ModuleType, kind: object) -> object:
    return _annotated(GenericAlias(list, (kind,)), p.Field(min_length=1))


def _annotated(kind: Any, *more: Any) -> Any:
    """``Annotated``, of types that are made here."""
    return operator.getitem(Annotated, (kind, *more))


def _memory(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise InputError(f"memory: {checks.shown(value)}", "a size such as 8GB", "give a number and a unit")
    return parse_memory(str(value))


def _refuse(document: Document, errors: list[dict[str, Any]]) -> NoReturn:
    """The first mistake of the file, as InputError."""
    places = [tuple(part for part in error["loc"] if part not in _TAGS) for error in errors]
    first = min(range(len(errors)), key=lambda i: document.lines.get(places[i], 0))
    error, place = errors[first], places[first]
    key = next((part for part in reversed(place) if isinstance(part, str)), "plan")
    if error["type"] == "extra_forbidden":
        known = [*KINDS, *(() if place[0] == "grid" else ("grid", "memory", "keep_draws"))]
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        remedy = f"did you mean {near[0]!r}?" if near else "see docs/sweeps.md, or finitewidth sweep --schema"
        document.refuse(place, f"unknown key {checks.shown(key)}", "a key of the command line", remedy)
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, InputError):
        document.refuse(place, cause.given, cause.wanted, cause.remedy)
    if error["type"] == "too_short":
        document.refuse(place, f"an empty grid ({key} has no values)", "at least one value", f"give {key} values")
    if error["type"] == "list_type":
        given = f"{key}: {checks.shown(error['input'])} in the grid"
        document.refuse(place, given, "a list of values", f"write {key}: [..], or move it out of the grid")
    if error["type"] in ("model_type", "model_attributes_type"):
        document.refuse(
            place, f"{key}: {checks.shown(error['input'])}", "keys with lists of values", "write width: [20, 40], say"
        )
    document.refuse(place, f"{key}: {checks.shown(error['input'])}", error["msg"].lower(), "see docs/sweeps.md")
