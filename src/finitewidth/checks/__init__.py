"""Checks at the public boundary: each returns the value in its canonical form or raises InputError."""

from __future__ import annotations

import difflib
import math
import numbers
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finitewidth.checks.exceptions import InputError

if TYPE_CHECKING:  # imported where arrays are looked at: --help needs none
    import numpy as np

_SHOWN = 200  # characters of a value in a message
_GUESSED, _MOST_COMPARED = 60, 1000  # characters of a name, and names, up to which the nearest known one is looked for


def shown(value: Any) -> str:
    """``repr`` of bounded length, of any value: that of a very long whole number would raise."""
    try:
        text = repr(value)
    except Exception:
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 50]} ... {text[-40:]}"


def nearest(name: Any, known: Sequence[str]) -> str | None:
    """The known name most like the one given, if one is alike; names of hostile length are not compared."""
    text = name if isinstance(name, str) else shown(name)
    close = [other for other in known[:_MOST_COMPARED] if len(other) <= _GUESSED]
    near = difflib.get_close_matches(text, close, n=1, cutoff=0.4) if len(text) <= _GUESSED else []
    return near[0] if near else None


def with_unit(name: str, text: str, units: Mapping[str, float], wanted: str) -> float:
    """A positive number with one of ``units`` (lower case, "" for none) behind it; raises InputError otherwise."""
    cleaned = text.strip().lower()
    number = cleaned.rstrip("".join(units) + " ")
    try:
        value = float(number) * units[cleaned[len(number) :].strip()]
    except (ValueError, KeyError):
        value = 0.0
    if not (math.isfinite(value) and value > 0.0):
        raise InputError(f"{name} = {text!r}", wanted, "give a number and a unit")
    return value


def path(name: str, value: Any) -> Path:
    """A path, ``~`` expanded; raises InputError for what can name no file."""
    try:
        found = Path(os.fspath(value)).expanduser()
        os.stat(found)
    except FileNotFoundError:
        pass
    except (TypeError, ValueError, RuntimeError) as error:  # no path, a NUL in it, an unknown user's home
        raise InputError(f"{name} {shown(value)} ({error})", "a path", "check the path") from error
    except OSError as error:
        if not isinstance(error, (NotADirectoryError, PermissionError)):
            given = f"{name} {shown(value)} ({error.strerror})"
            raise InputError(given, "a path that can be followed", "check the path") from error
    return found


def scalar(value: Any) -> bool:
    """Whether a value stands for itself, and is no list of values."""
    return isinstance(value, numbers.Real) or not hasattr(value, "__len__") or _array(value).ndim == 0


def _array(value: object) -> np.ndarray:
    import numpy as np

    try:
        return np.asarray(value)
    except (ValueError, TypeError, OverflowError, RecursionError):  # uneven rows, numbers of any length
        return np.empty(1)


def instance(name: str, value: Any, kinds: type | tuple[type, ...], remedy: str) -> None:
    """InputError unless a value is of one of the kinds."""
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    if not isinstance(value, kinds):
        wanted = "a " + " or a ".join(kind.__name__ for kind in kinds)
        raise InputError(f"{name} = {shown(value)}", wanted, remedy)


def sequence(name: str, value: Any, empty: bool = False) -> list[Any]:
    """The items of a list of values; InputError for what is none, or (unless ``empty``) an empty one."""
    if isinstance(value, (str, bytes)) or scalar(value):
        raise InputError(f"{name} = {shown(value)}", "a list of values", f"write {name}=[...]")
    found = list(value)
    if not found and not empty:
        raise InputError(f"{name} = {shown(value)}", "at least one value", f"give {name} a value, or leave it out")
    return found


def one_or_more(name: str, value: Any) -> list[Any]:
    """A value, or a list of them, as a list."""
    return [value] if isinstance(value, str) or scalar(value) else sequence(name, value)


def seed(name: str, value: Any) -> int:
    """A whole number from 0 to 2^63 - 1, as an int."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not (whole and 0 <= value < 2**63):
        raise InputError(
            f"{name} = {shown(value)}", "a whole number from 0 to 2^63 - 1", f"write {name}=0, for example"
        )
    return int(value)


def flag(name: str, value: Any) -> bool:
    """True or False."""
    import numpy as np

    instance(name, value, (bool, np.bool_), f"write {name}=True, for example")
    return bool(value)


def positive(name: str, value: Any) -> float:
    """A finite number above zero, as a float."""
    return _number(name, value, "a finite number above 0", lambda x: x > 0.0, f"give {name} a positive value")


def not_negative(name: str, value: Any) -> float:
    """A finite number of at least zero, as a float."""
    remedy = f"give {name} a value that is not below 0"
    return _number(name, value, "a finite number of at least 0", lambda x: x >= 0.0, remedy)


def positive_integer(name: str, value: Any) -> int:
    """A whole number of at least one, as an int; 50.0 and 1e12 are whole, 50.5 and True are not."""
    remedy = f"give {name} as 1, 2, 3, ..."
    return int(_number(name, value, "a whole number of at least 1", lambda x: x >= 1 and x == int(x), remedy))


def positive_sequence(name: str, value: Any, length: int) -> tuple[float, ...]:
    """One positive number for all of ``length`` places, or exactly ``length`` of them."""
    if scalar(value):
        return (positive(name, value),) * length
    items = tuple(positive(f"{name}[{i}]", item) for i, item in enumerate(sequence(name, value)))
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
    near = nearest(value.lower() if isinstance(value, str) else value, names)
    remedy = f"did you mean {near!r}?" if near else f"choose {names[0]!r}, for example"
    raise InputError(f"{name} = {shown(value)}", "one of " + ", ".join(map(repr, names)), remedy)


def real_array(name: str, value: Any, ndims: Sequence[int] | None) -> np.ndarray:
    """A finite float64 array of one of the allowed dimensions (None: any); integers and float32 are converted.

    Raises InputError for object, string and complex arrays, NaN, infinity, empty arrays and other dimensions.
    """
    import numpy as np

    if np.ma.is_masked(value):
        raise InputError(f"{name} with masked entries", "finite numbers", "remove or impute these points first")
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(
            f"{name} of uneven rows, or of numbers beyond float64",
            "a rectangular array of numbers",
            "make all rows equally long",
        ) from error
    if array.dtype.kind not in "biuf":
        raise InputError(
            f"{name} of type {array.dtype}",
            "real numbers (integer or floating point)",
            f"convert {name} to numbers first",
        )
    if ndims is not None and array.ndim not in ndims:
        raise InputError(
            f"{name} of shape {array.shape}",
            "an array of " + " or ".join(map(str, ndims)) + " dimensions",
            f"reshape {name}; the first dimension runs over points",
        )
    if array.size == 0:
        raise InputError(f"{name} of shape {array.shape}", "at least one point and one value a point", "give more data")
    with np.errstate(over="ignore"):  # what float64 cannot hold is refused below
        array = np.ascontiguousarray(array, dtype=np.float64)
    if not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(array))[0]
        raise InputError(
            f"{name} with NaN or infinity, first at index {tuple(int(i) for i in bad)}",
            "finite numbers",
            "remove or impute these points first",
        )
    return array


def same_shape(one: tuple[int, ...], two: tuple[int, ...]) -> None:
    """Raise InputError unless the points of two sets have one shape."""
    if one != two:
        raise InputError(
            f"points of shapes {one} and {two}", "the same shape in both sets", "prepare both in the same way"
        )


def put(instance: Any, **checks: Callable[[str, Any], Any]) -> None:
    """Put the checked values of fields of a frozen dataclass in their place."""
    for name, check in checks.items():
        object.__setattr__(instance, name, check(name, getattr(instance, name)))


def optional(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    """The same check of a value that may be None."""
    return lambda name, value: None if value is None else check(name, value)


def as_in_training(name: str, shape: tuple[int, ...], training: tuple[int, ...]) -> None:
    """InputError unless a point (or its targets) has the shape of those in training."""
    if shape != training:
        raise InputError(
            f"{name} of shape {shape} a point, {training} in training",
            "points of one shape",
            "prepare both parts in the same way",
        )


def _number(name: str, value: Any, wanted: str, allowed: Callable[[float], bool], remedy: str) -> float:
    import numpy as np

    zero_dimensional = isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "iuf"
    if not zero_dimensional and (isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real)):
        raise InputError(f"{name} = {shown(value)}", wanted, f"give {name} as a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not (math.isfinite(number) and allowed(number)):
        raise InputError(f"{name} = {shown(value)}", wanted, remedy)
    return number
