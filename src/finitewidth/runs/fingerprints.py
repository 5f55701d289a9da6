"""What decides the numbers of a run, as text: versions of libraries, a network, any dataclass."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from typing import Any

import numpy as np

_VERSIONED = ("finitewidth", "jax", "jaxlib", "numpy")


def versions(*others: str) -> dict[str, str]:
    """Of this package, JAX, NumPy and ``others``, where installed: part of a run's fingerprint."""
    found = {name: _version(name) for name in (*_VERSIONED, *others)}
    return {name: version for name, version in found.items() if version is not None}


@cache
def _version(name: str) -> str | None:
    with contextlib.suppress(metadata.PackageNotFoundError):  # read from files: milliseconds each
        return metadata.version(name)
    return None


def network_fingerprint(network: Any) -> Sequence[Any]:
    """The description, and values of the activation: an own one has no more than a name."""
    values = [phi(np.linspace(-3.0, 3.0, 7)) for phi in network.activations]
    return [every_field(network), *map(float, np.concatenate(values))]


def every_field(value: Any) -> str:
    """A dataclass with all its fields as text, however it prints: the same as long as no field is added."""
    if isinstance(value, tuple) and any(map(dataclasses.is_dataclass, value)):
        return f"({', '.join(map(every_field, value))})"
    if not dataclasses.is_dataclass(value):
        return repr(value)
    fields = [f"{f.name}={every_field(getattr(value, f.name))}" for f in dataclasses.fields(value) if f.repr]
    return f"{type(value).__qualname__}({', '.join(fields)})"
