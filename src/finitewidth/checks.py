"""Checks at the public boundary: each returns the value in its canonical form or raises InputError."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from finitewidth.exceptions import InputError


def positive(name: str, value: Any) -> float:
    """A finite number above zero, as a float."""
    number = _real(name, value, "a finite number above 0")
    if not (math.isfinite(number) and number > 0.0):
        raise InputError(f"{name} = {value!r}", "a finite number above 0", f"give {name} a positive value")
    return number


def not_negative(name: str, value: Any) -> float:
    """A finite number of at least zero, as a float."""
    number = _real(name, value, "a finite number of at least 0")
    if not (math.isfinite(number) and number >= 0.0):
        raise InputError(
            f"{name} = {value!r}", "a finite number of at least 0", f"give {name} a value that is not below 0"
        )
    return number


def positive_integer(name: str, value: Any) -> int:
    """A whole number of at least one, as an int; 50.0 and 1e12 are whole, 50.5 and True are not."""
    number = _real(name, value, "a whole number of at least 1")
    if not (math.isfinite(number) and number >= 1 and number == int(number)):
        raise InputError(f"{name} = {value!r}", "a whole number of at least 1", f"give {name} as 1, 2, 3, ...")
    return int(number)


def positive_sequence(name: str, value: Any, length: int) -> tuple[float, ...]:
    """One positive number for all of ``length`` places, or exactly ``length`` of them."""
    if isinstance(value, numbers.Real) or np.ndim(value) == 0:
        return (positive(name, value),) * length
    items = tuple(positive(f"{name}[{i}]", item) for i, item in enumerate(value))
    if len(items) != length:
        raise InputError(
            f"{name} with {len(items)} values",
            f"1 value or {length} of them",
            f"give one {name} for each layer",
        )
    return items


def choice(name: str, value: Any, known: Iterable[str]) -> str:
    """One of the known names; the error names the nearest one."""
    names = list(known)
    if isinstance(value, str) and value in names:
        return value
    near = difflib.get_close_matches(str(value).lower(), names, n=1, cutoff=0.4)
    remedy = f"did you mean {near[0]!r}?" if near else f"choose {names[0]!r}, for example"
    raise InputError(f"{name} = {value!r}", "one of " + ", ".join(map(repr, names)), remedy)


def real_array(name: str, value: Any, ndims: Sequence[int]) -> np.ndarray:
    """A finite float64 array of one of the allowed dimensions; integers and float32 are converted.

    Raises InputError for object, string and complex arrays, NaN, infinity, empty arrays and other dimensions.
    """
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(
            f"{name} of uneven rows", "a rectangular array of numbers", "make all rows equally long"
        ) from error
    if array.dtype.kind not in "biuf":
        raise InputError(
            f"{name} of type {array.dtype}",
            "real numbers (integer or floating point)",
            f"convert {name} to numbers first",
        )
    if array.ndim not in ndims:
        raise InputError(
            f"{name} of shape {array.shape}",
            "an array of " + " or ".join(map(str, ndims)) + " dimensions",
            f"reshape {name}; the first dimension runs over points",
        )
    if array.size == 0:
        raise InputError(f"{name} of shape {array.shape}", "at least one point and one value a point", "give more data")
    array = np.ascontiguousarray(array, dtype=np.float64)
    if not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(array))[0]
        raise InputError(
            f"{name} with NaN or infinity, first at index {tuple(int(i) for i in bad)}",
            "finite numbers",
            "remove or impute these points first",
        )
    return array


def _real(name: str, value: Any, wanted: str) -> float:
    scalar_array = isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "iuf"
    if not scalar_array and (isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real)):
        raise InputError(f"{name} = {value!r}", wanted, f"give {name} as a number")
    return float(value)
