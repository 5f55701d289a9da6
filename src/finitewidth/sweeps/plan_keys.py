"""The keys of a plan: those of the command line. What each may hold, how it is written, and which points use it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from finitewidth import checks
from finitewidth.checks.exceptions import InputError
from finitewidth.jobs import METHODS, method_class, options
from finitewidth.jobs import option_values as values
from finitewidth.networks.build import KINDS as NETWORKS
from finitewidth.theory.solver import Solver

_NOT_OF_A_POINT = {"json", "memory", "time", "likelihood"}  # decide no number, or are code, which a plan cannot name
_OF_PATCHES = {"patch", "stride", "padding", "pool", "input_shape"}

Read = Callable[[str, Any], Any]


@dataclass(frozen=True)
class Kind:
    """What a key holds: ``read(key, value)`` gives its one form or raises InputError; ``schema`` is JSON schema.

    plain: a number that contradicts no other key.
    """

    read: Read
    schema: dict[str, Any]
    plain: bool = False
    separator: str = ","

    def text(self, value: Any) -> str | bool:
        """As the command line takes it."""
        if isinstance(value, bool):
            return value
        return self.separator.join(map(str, value)) if isinstance(value, list) else str(value)


def _scalar(key: str, value: Any) -> str:
    """The text of one YAML scalar, as it would be typed."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        kind = "nothing" if value is None else type(value).__name__
        raise InputError(
            f"{key}: {checks.shown(value)} ({kind})", "one text or number", "write it as on the command line"
        )
    return str(value)


def _joined(key: str, value: Any, separator: str) -> str:
    return separator.join(_scalar(key, v) for v in value) if isinstance(value, list) else _scalar(key, value)


def _whole(key: str, value: Any) -> int:
    return values.whole(key, _scalar(key, value))


def _from_zero(key: str, value: Any) -> int:
    return values.whole_from_zero(key, _scalar(key, value))


def _number(key: str, value: Any) -> float:
    return checks.positive(key, values.one(values.numbers, key, _scalar(key, value)))


def _number_from_zero(key: str, value: Any) -> float:
    return checks.not_negative(key, values.one(values.numbers, key, _scalar(key, value)))


def _wholes(key: str, value: Any) -> list[int]:
    return values.whole_numbers(key, _joined(key, value, ","))


def _numbers(key: str, value: Any) -> float | list[float]:
    found = [checks.positive(key, x) for x in values.numbers(key, _joined(key, value, ","))]
    return found[0] if len(found) == 1 else found


def _sizes(key: str, value: Any) -> list[int]:
    return list(values.sizes(key, _joined(key, value, "x")))


def _names(key: str, value: Any) -> list[str]:
    return list(values.names(key, _joined(key, value, ",")))


def _columns(key: str, value: Any) -> str:
    # Their one form is the text of the command line, so that a single name stands for itself.
    text = values.joined(_scalar(key, name) for name in value) if isinstance(value, list) else _scalar(key, value)
    return values.joined(values.columns(key, text))


def _flag(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"{key}: {checks.shown(value)}", "true or false", f"write {key}: true")
    return value


def _method(key: str, value: Any) -> str:
    return checks.choice(key, value, tuple(METHODS))


def _network(key: str, value: Any) -> str:
    return checks.choice(key, value, NETWORKS)


_ITEM = {"type": ["integer", "string"]}
WHOLE = Kind(_whole, {"type": "integer", "minimum": 1}, plain=True)
FROM_ZERO = Kind(_from_zero, {"type": "integer", "minimum": 0}, plain=True)
NUMBER = Kind(_number, {"type": "number", "exclusiveMinimum": 0}, plain=True)
NUMBER_FROM_ZERO = Kind(_number_from_zero, {"type": "number", "minimum": 0})  # 0 fits some methods only
SHAPING = Kind(_whole, {"type": "integer", "minimum": 1})  # has to fit other keys
WHOLES = Kind(_wholes, {"type": "array", "items": {"type": "integer", "minimum": 1}})
NUMBERS = Kind(
    _numbers,
    {
        "anyOf": [
            {"type": "number", "exclusiveMinimum": 0},
            {"type": "array", "items": {"type": "number", "exclusiveMinimum": 0}},
        ]
    },
)
SIZES = Kind(_sizes, {"type": ["integer", "string", "array"], "items": {"type": "integer"}}, separator="x")
NAMES = Kind(_names, {"type": ["array", "string"], "items": _ITEM})
COLUMNS = Kind(_columns, {"type": ["array", "string"], "items": _ITEM})
TEXT = Kind(_scalar, {"type": "string"})
FLAG = Kind(_flag, {"type": "boolean"}, plain=True)
METHOD = Kind(_method, {"type": "string", "enum": list(METHODS)})

KINDS: dict[str, Kind] = {
    **dict.fromkeys(("n_train", "n_test", "width", "chains", "draws", "steps", "seeds", "batch", "patience"), WHOLE),
    **dict.fromkeys(("seed", "warmup"), FROM_ZERO),
    **dict.fromkeys(("offset_precision", "step_size", "learning_rate"), NUMBER),
    **dict.fromkeys(("temperature", "momentum", "hold_out"), NUMBER_FROM_ZERO),
    **dict.fromkeys(("depth", "particles"), SHAPING),
    **dict.fromkeys(("patch", "stride", "input_shape"), SIZES),
    **dict.fromkeys(("target", "columns", "drop", "encode"), COLUMNS),
    **dict.fromkeys(("data", "delimiter", "impute", "task", "standardise", "activation", "readout"), TEXT),
    **dict.fromkeys(("padding", "pool", "closure", "response", "sampler", "optimiser", "solver"), TEXT),
    "standardise_target": FLAG,
    "widths": WHOLES,
    "precision": NUMBERS,
    "classes": NAMES,
    "method": METHOD,
    "network": Kind(_network, {"type": "string", "enum": list(NETWORKS)}),
}


@lru_cache(maxsize=64)
def used(method: str, network: str) -> frozenset[str]:
    """The keys that decide a point of this method and network."""
    settings = {field.name for field in dataclasses.fields(method_class(method))}
    if network == "fc":
        settings -= _OF_PATCHES
    else:  # one hidden layer, and one solver
        settings -= {"closure", "solver"}
    job = {field.name for field in dataclasses.fields(options.JobOptions)} - _NOT_OF_A_POINT
    job -= _OF_PATCHES if network == "fc" else set()
    return frozenset((job | settings) & KINDS.keys() | {"method"})


@lru_cache(maxsize=8)
def defaults(method: str) -> dict[str, Any]:
    """What a key that is not given stands for, where that does not depend on the data."""
    found = {field.name: field.default for field in dataclasses.fields(options.JobOptions)}
    found |= {name: _plain(value) for name, value in vars(method_class(method)()).items()}
    found |= {"method": method, "seed": "0"}
    return {name: KINDS[name].read(name, value) for name, value in found.items() if name in KINDS and _given(value)}


def _plain(value: object) -> object:
    """A setting as a plan writes it."""
    return value.kind if isinstance(value, Solver) else value


def _given(value: object) -> bool:
    return value is not None and value is not False


@lru_cache(maxsize=1)
def meanings() -> dict[str, str]:
    """What every key means, in the words of the command line's help; a plan names no code."""
    return {
        field.name: field.metadata["help"].replace("--", "").replace(", or module:Class", "")
        for field in dataclasses.fields(options.PredictOptions)
        if field.name in KINDS
    }
