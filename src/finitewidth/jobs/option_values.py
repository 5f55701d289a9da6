"""What options hold: how their texts are read, and how the same values stand in the plan of a sweep.

A bad one is answered with what is wanted and what to write.
"""

from __future__ import annotations

import csv
import importlib
import io
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from finitewidth import checks
from finitewidth.checks.exceptions import InputError

if TYPE_CHECKING:
    from finitewidth.inference.methods import Method

T = TypeVar("T")
_DIGITS = 18  # of a whole number: below 2^63


@dataclass(frozen=True)
class Kind:
    """What an option holds.

    read: ``read(option, text)`` is its value, or raises InputError. join: the text of several, where a plan may list
    them.
    """

    read: Callable[[str, Any], Any]
    join: Callable[[Iterable[str]], str] | None = None

    def of_plan(self, key: str, value: Any) -> Any:
        """The one form of a value of a plan, plain data; raises InputError."""
        if isinstance(value, list) and self.join is not None:
            text = self.join(_scalar(key, item) for item in value)
        else:
            text = _scalar(key, value)
        found = self.read(key, text)
        return list(found) if isinstance(found, tuple) else found


class _Switch(Kind):
    """True or false, which no text stands for."""

    def of_plan(self, key: str, value: Any) -> bool:
        if not isinstance(value, bool):
            raise InputError(f"{key}: {checks.shown(value)}", "true or false", f"write {key}: true")
        return value


def _scalar(key: str, value: Any) -> str:
    """The text of one YAML scalar, as it would be typed."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        kind = "nothing" if value is None else type(value).__name__
        raise InputError(
            f"{key}: {checks.shown(value)} ({kind})", "one text or number", "write it as on the command line"
        )
    return str(value)


# --- numbers ----------------------------------------------------------------------------------------------------------


def _number(option: str, item: str, text: str) -> float:
    for kind in (int, float):
        try:
            return kind(item)
        except ValueError:
            continue
    raise InputError(f"{option} {text!r}", "a number, or numbers separated by commas", f"write {option} in digits")


def _numbers(option: str, text: str) -> tuple[float, ...]:
    return tuple(_number(option, item, text) for item in text.split(","))


def _one(option: str, text: str) -> float:
    values = _numbers(option, text)
    if len(values) != 1:
        raise InputError(f"{option} {text!r}", "a single number", f"write {option} {values[0]}")
    return values[0]


def _share(option: str, text: str) -> float:
    """A number between 0 and 1, or per cent: 0.01 or 1%."""
    number = text.strip().removesuffix("%")
    value = checks.positive(option, _one(option, number)) / (1.0 if number == text.strip() else 100.0)
    if value >= 1.0:
        raise InputError(f"{option} {text}", "a share below 1, or per cent", f"write {option} 1%, for example")
    return value


def _precision(option: str, text: str) -> float | tuple[float, ...]:
    """One for all layers, or one a layer."""
    values = tuple(checks.positive(option, value) for value in _numbers(option, text))
    return values[0] if len(values) == 1 else values


def _wholes(option: str, text: str) -> tuple[int, ...]:
    """Whole numbers of at least one; 1e12 is one of them."""
    return tuple(checks.positive_integer(option, value) for value in _numbers(option, text))


def _whole_from_zero(option: str, text: str) -> int:
    if not text.strip().isdecimal() or len(text) > _DIGITS:
        raise InputError(f"{option} {text!r}", "a whole number of at least 0", f"write {option} 0, for example")
    return int(text)


def sizes(option: str, text: str) -> tuple[int, ...]:
    """Whole numbers separated by x: 16x16x1."""
    items = text.lower().split("x")
    if not all(item.strip().isdecimal() and len(item) <= _DIGITS for item in items):
        example = "16x16x1" if option == "--input-shape" else "8 or 8x8"
        raise InputError(f"{option} {text!r}", "whole numbers separated by x", f"write {option} {example}")
    return tuple(checks.positive_integer(option, int(item)) for item in items)


# --- names ------------------------------------------------------------------------------------------------------------


def _names(option: str, text: str, least: int, wanted: str, example: str) -> tuple[str, ...]:
    """Names separated by commas; one that holds a comma stands in double quotes, as in a csv file."""
    try:
        row = next(csv.reader([text], skipinitialspace=True, strict=True), [])
    except csv.Error:
        row = []
    names = tuple(name.strip() for name in row)
    if "" in names or len(set(names)) < len(names) or len(names) < least:
        raise InputError(f"{option} {text!r}", f"{wanted}, separated by commas", f"write {option} {example}")
    return names


def _classes(option: str, text: str) -> tuple[str, ...]:
    return _names(option, text, 2, "at least two different classes", "0,1")


def _columns(option: str, text: str) -> tuple[str, ...]:
    return _names(option, text, 1, "different names of columns", "a,b")


def _quoted(names: Iterable[str]) -> str:
    """What ``_names`` reads."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(names)
    return line.getvalue()


def named(known: Sequence[str]) -> Kind:
    """One of the known names."""
    return Kind(lambda option, text: checks.choice(option, text, known))


# --- classes of the user's own ----------------------------------------------------------------------------------------


def _imported(option: str, text: str, base: type[T]) -> type[T]:
    """The class that module:Class names, found as Python finds modules, and in the current folder.

    Only for the user's own command line: what plans, data and saved runs hold is never imported.
    Raises InputError where there is none, or where it is no subclass of ``base``.
    """
    module, _, name = text.partition(":")
    if "" not in sys.path:
        sys.path.append("")  # last: a file of this folder takes no library's place
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # whatever a module of the user's does when it is loaded
        remedy = "name a module that Python finds, or one in this folder"
        raise InputError(
            f"{option} {text} ({type(error).__name__}: {error})", "module:Class of a class that can be imported", remedy
        ) from error
    if not (isinstance(found, type) and issubclass(found, base)):
        wanted = f"a subclass of finitewidth.{base.__name__}"
        raise InputError(f"{option} {text}, which is none", wanted, f"derive it from {base.__name__}")
    return found


def _method(option: str, text: str) -> type[Method]:
    from finitewidth.inference.methods import Method
    from finitewidth.jobs.job import method_class

    return _imported(option, text, Method) if ":" in text else method_class(text)  # type: ignore[type-abstract]


def _methods(option: str, text: str) -> tuple[type[Method], ...]:
    names = [name.strip() for name in text.split(",")]
    if len(names) < 2:
        raise InputError(f"{option} {text!r}", "two of them at least", f"write {option} {names[0]},sample")
    return tuple(_method(option, name) for name in names)


def _network(option: str, text: str) -> Any:
    """A name, or a class of the user's own."""
    from finitewidth.networks import Network

    return _imported(option, text, Network) if ":" in text else text


def _likelihood(option: str, text: str) -> Any:
    from finitewidth.inference.likelihoods import Likelihood

    return _imported(option, text, Likelihood)


def _duration(_: str, text: str) -> float:
    """Seconds."""
    from finitewidth.runs.durations import parse_time

    return parse_time(text)


def _memory(_: str, text: str) -> float:
    from finitewidth.linalg import parse_memory

    return parse_memory(text)


# --- kinds ------------------------------------------------------------------------------------------------------------

TEXT = Kind(lambda _, text: text)
FLAG = _Switch(lambda _, value: value)
WHOLE = Kind(lambda option, text: checks.positive_integer(option, _one(option, text)))
WHOLE_FROM_ZERO = Kind(_whole_from_zero)
WHOLES = Kind(_wholes, ",".join)
NUMBER = Kind(lambda option, text: checks.positive(option, _one(option, text)))
NUMBER_FROM_ZERO = Kind(lambda option, text: checks.not_negative(option, _one(option, text)))
SHARE = Kind(_share)
NUMBERS = Kind(_numbers, ",".join)
PRECISION = Kind(_precision, ",".join)
SIZES = Kind(sizes, "x".join)
CLASSES = Kind(_classes, _quoted)
COLUMNS = Kind(_columns, _quoted)
DURATION = Kind(_duration)
MEMORY = Kind(_memory)
# of the command line alone: they may name code
NETWORK = Kind(_network)
METHOD = Kind(_method)
METHOD_LIST = Kind(_methods)
LIKELIHOOD = Kind(_likelihood)
