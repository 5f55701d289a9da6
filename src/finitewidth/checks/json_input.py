"""JSON from outside: plain data, of bounded depth."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

_DEEPEST = 64  # lists and objects within one another


def parse_json(text: object, finite: bool = True) -> object:
    """Plain data of JSON from outside, at most 64 deep; ValueError for anything else, NaN and infinity included."""
    if not isinstance(text, (str, bytes)):
        raise ValueError(f"{type(text).__name__} in place of JSON")
    try:
        plain = json.loads(text, parse_constant=_no_constant, parse_float=_finite) if finite else json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    level = [plain]
    for _ in range(_DEEPEST):
        level = [item for held in level if isinstance(held, (dict, list)) for item in _items(held)]
        if not level:
            return plain
    raise ValueError("nested too deeply")


def _items(held: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return held.values() if isinstance(held, dict) else held


def _no_constant(name: str) -> float:
    raise ValueError(f"{name}, which JSON has not")


def _finite(text: str) -> float:
    value = float(text)
    if value - value != 0.0:
        raise ValueError(f"{text[:20]}, beyond double precision")
    return value
