"""What Python shows of a value: text of one to ten lines.

Three kinds: ``Displayed``, a result, by its name and its numbers in short; ``Settings``, which its constructor could
make anew; ``Tabulated``, which prints as the tables of the command line do.
"""

from __future__ import annotations

import dataclasses
import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from finitewidth import checks

if TYPE_CHECKING:
    from rich.console import RenderableType

Row = TypeVar("Row")
_WIDTH, _LINES = 88, 10  # of a text
_ITEMS, _LONGEST = 6, 200  # of a list, and characters of one value
_SCANNED = 10**6  # numbers of an array up to which the least and the greatest are looked up
_MOST_ROWS = 30  # of a table, which is shortened in the middle beyond


class Displayed:
    """A result. A dataclass shows its fields; another class, or one that has more to say, overrides ``_facts``."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__repr__" not in vars(cls):  # else a dataclass would write one of its own
            setattr(cls, "__repr__", cls.__repr__)  # noqa: B010

    def _facts(self) -> Mapping[str, Any]:
        """Name and value of what is shown."""
        fields = dataclasses.fields(type(self))  # type: ignore[arg-type]  # a dataclass, or it overrides this
        return {field.name: getattr(self, field.name) for field in fields if field.repr}

    def _items(self) -> dict[str, str]:
        """Name and text: without what is not there, standard errors behind their values."""
        facts = {name: value for name, value in self._facts().items() if not _nothing(value)}
        errors = {name: facts.pop(f"{name}_se") for name in list(facts) if f"{name}_se" in facts}
        return {name: plus_minus(v, errors[name]) if name in errors else short(v) for name, v in facts.items()}

    def __repr__(self) -> str:
        return _wrapped(type(self).__name__, self._items())


class Settings(Displayed):
    """A choice of the user: its text is one line, complete, and makes an equal value; what is the default is left out.

    ``eval`` reads it where all values are plain data.
    """

    def _facts(self) -> Mapping[str, Any]:
        return chosen(self)

    def _items(self) -> dict[str, str]:
        return {name: " ".join(repr(value).split()) for name, value in self._facts().items()}

    def __repr__(self) -> str:
        items = ", ".join(f"{name}={text}" for name, text in self._items().items())
        return f"{type(self).__name__}({items})"


class Tabulated(Displayed):
    """Rows: ``_parts`` are tables and lines of Rich. quick: without what would have to be computed first."""

    def _parts(self, quick: bool) -> Iterable[RenderableType]:
        raise NotImplementedError

    def __repr__(self) -> str:
        return _rendered(self._parts(True))

    def __str__(self) -> str:
        return _rendered(self._parts(False))


class Rows(Tabulated, Generic[Row]):
    """A table that is a sequence of its rows."""

    if TYPE_CHECKING:

        @property
        def rows(self) -> tuple[Row, ...]: ...

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        return self.rows[index]


def _nothing(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value)


def chosen(value: Any) -> dict[str, Any]:
    """The fields of a dataclass that make it: without any of them the constructor would make another value."""
    fields = sorted(filter(lambda field: field.init, dataclasses.fields(value)), key=_has_default)
    needed = {field.name: getattr(value, field.name) for field in fields}
    for name in list(needed):
        rest = {other: needed[other] for other in needed if other != name}
        if _makes(value, rest):
            needed = rest
    return needed


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _makes(value: Any, fields: dict[str, Any]) -> bool:
    try:
        return bool(type(value)(**fields) == value)
    except Exception:  # the field has no default, or not with these others; the text of a value must never raise
        return False


# --- text of one value ----------------------------------------------------------------------------------------------


def short(value: Any) -> str:
    """A value in at most 200 characters on one line: six digits, six items, of an array its shape and range."""
    text = _short(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 30]} ... {text[-20:]}"


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.ndim:
        return _short(value.tolist()) if value.ndim == 1 and value.size <= _ITEMS else _short_array(value)
    if isinstance(value, (np.generic, np.ndarray)):
        return _short(value.item())
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return _short_list(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_short(item)}" for name, item in value.items()) + "}"
    return " ".join((repr(value) if isinstance(value, Displayed) else checks.shown(value)).split())


def _short_list(value: list[Any] | tuple[Any, ...]) -> str:
    items = [_short(item) for item in value[:_ITEMS]]
    if len(value) > _ITEMS:
        items.append(f"... {len(value)} in all")
    inside = ", ".join(items)
    return f"[{inside}]" if isinstance(value, list) else f"({inside}{',' if len(value) == 1 else ''})"


def _short_array(value: np.ndarray) -> str:
    numbers = value.dtype.kind in "iuf" and 0 < value.size <= _SCANNED
    span = f", {value.min():.3g} to {value.max():.3g}" if numbers else ""
    return f"<array {value.shape}{span}>"


def plus_minus(value: Any, error: Any) -> str:
    """0.047 ± 0.017: two digits of the standard error."""
    if not (isinstance(error, float) and 0.0 < error < math.inf):
        return short(value) if error is None else f"{short(value)} ± {short(error)}"
    decimals = 1 - math.floor(math.log10(error))
    return f"{value:.{decimals}f} ± {error:.{decimals}f}" if 0 <= decimals <= 8 else f"{value:.4g} ± {error:.2g}"


# --- text of all ---------------------------------------------------------------------------------------------------


def _wrapped(name: str, items: dict[str, str]) -> str:
    """``Name(a=1, b=2)``, in as many lines as it needs."""
    text = ", ".join(f"{key}={text}" for key, text in items.items())
    return textwrap.fill(
        f"{name}({text})",
        _WIDTH,
        subsequent_indent=" " * (len(name) + 1),
        break_long_words=False,
        break_on_hyphens=False,
        max_lines=_LINES,
        placeholder=" ...)",
    )


def shortened(rows: Iterable[Any]) -> tuple[list[Any], list[str]]:
    """The rows of a table, of many only the first and the last; and a line that says so, if any are left out."""
    rows, half = list(rows), _MOST_ROWS // 2
    if len(rows) <= _MOST_ROWS:
        return rows, []
    return rows[:half] + rows[-half:], [f"The first {half} and the last {half} of {len(rows)} rows."]


def _rendered(parts: Iterable[Any]) -> str:
    """As a terminal of 80 columns without colours shows tables and lines."""
    import io

    from rich.console import Console

    console = Console(file=io.StringIO(), width=80, color_system=None, highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    return "\n".join(line.rstrip() for line in capture.get().strip("\n").splitlines())
