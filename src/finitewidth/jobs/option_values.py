"""The values that texts of the command line stand for; a bad one is answered with what is wanted and what to write.

Imports are within the functions, so that ``--help`` is quick.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
_DIGITS = 18  # of a whole number: below 2^63


def numbers(option: str, text: str) -> list[float]:
    """Numbers separated by commas."""
    return [_number(option, item, text) for item in text.split(",")]


def whole_numbers(option: str, text: str) -> list[int]:
    """Whole numbers of at least one, separated by commas; 1e12 is one of them."""
    from finitewidth import checks

    return [checks.positive_integer(option, _number(option, item, text)) for item in text.split(",")]


def sizes(option: str, text: str) -> tuple[int, ...]:
    """Whole numbers separated by x: 16x16x1."""
    from finitewidth import checks
    from finitewidth.checks.exceptions import InputError

    items = text.lower().split("x")
    if not all(item.strip().isdecimal() and len(item) <= _DIGITS for item in items):
        example = "16x16x1" if option == "--input-shape" else "8 or 8x8"
        raise InputError(f"{option} {text!r}", "whole numbers separated by x", f"write {option} {example}")
    return tuple(checks.positive_integer(option, int(item)) for item in items)


def _number(option: str, item: str, text: str) -> float:
    from finitewidth.checks.exceptions import InputError

    for kind in (int, float):
        try:
            return kind(item)
        except ValueError:
            continue
    raise InputError(f"{option} {text!r}", "a number, or numbers separated by commas", f"write {option} in digits")


def one(read: Callable[[str, str], list[T]], option: str, text: str) -> T:
    from finitewidth.checks.exceptions import InputError

    values = read(option, text)
    if len(values) != 1:
        raise InputError(f"{option} {text!r}", "a single number", f"write {option} {values[0]}")
    return values[0]


def optional(read: Callable[[str, str], T], option: str, text: str | None) -> T | None:
    return None if text is None else read(option, text)


def whole(option: str, text: str) -> int:
    return one(whole_numbers, option, text)


def whole_from_zero(option: str, text: str) -> int:
    from finitewidth.checks.exceptions import InputError

    if not text.strip().isdecimal() or len(text) > _DIGITS:
        raise InputError(f"{option} {text!r}", "a whole number of at least 0", f"write {option} 0, for example")
    return int(text)


def names(option: str, text: str) -> tuple[str, ...]:
    from finitewidth.checks.exceptions import InputError

    names = tuple(item.strip() for item in text.split(","))
    if "" in names or len(set(names)) < len(names) or len(names) < 2:
        raise InputError(
            f"{option} {text!r}", "at least two different classes, separated by commas", f"write {option} 0,1"
        )
    return names


def columns(option: str, text: str) -> tuple[str, ...]:
    """Names of columns separated by commas; one that holds a comma stands in double quotes, as in a csv file."""
    import csv

    from finitewidth.checks.exceptions import InputError

    try:
        row = next(csv.reader([text], skipinitialspace=True, strict=True), [])
    except csv.Error:
        row = []
    names = tuple(name.strip() for name in row)
    if "" in names or len(set(names)) < len(names) or not names:
        raise InputError(f"{option} {text!r}", "different names of columns, separated by commas", f"write {option} a,b")
    return names


def joined(names: Iterable[str]) -> str:
    """What ``columns`` reads."""
    import csv
    import io

    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(names)
    return line.getvalue()


def size(option: str, text: str | None) -> int | tuple[int, ...] | None:
    if text is None:
        return None
    values = sizes(option, text)
    return values[0] if len(values) == 1 else values


def positive(option: str, text: str) -> float:
    """A single number above 0."""
    from finitewidth import checks

    return checks.positive(option, one(numbers, option, text))


def from_zero(option: str, text: str) -> float:
    """A single number of at least 0."""
    from finitewidth import checks

    return checks.not_negative(option, one(numbers, option, text))


def is_import_path(text: str) -> bool:
    """Whether a text names a class of the user's own: module:Class."""
    return ":" in text


def imported(option: str, text: str, base: type[T]) -> type[T]:
    """The class that module:Class names, found as Python finds modules, and in the current folder.

    Only for the user's own command line: what plans, data and saved runs hold is never imported.
    Raises InputError where there is none, or where it is no subclass of ``base``.
    """
    import importlib
    import sys

    from finitewidth.checks.exceptions import InputError

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
