"""The cells of a table: which are numbers, texts or missing, and what a column of them holds as input or target."""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from finitewidth.checks import choice, shown
from finitewidth.checks.exceptions import InputError
from finitewidth.data.files import refuse_above

TASKS = ("auto", "regression", "classification")
LONGEST_NAME = 1000  # characters of a class; NumPy gives every row as much room as the longest
FEW_VALUES = 20  # whole numbers with more different values than this may be counts: the user has to say
TEXT = "text"  # encode="text": every column of texts
BYTES_A_TEXT = 200.0  # of one more text that a table may hold, about
_MISSING = ("", "na", "n/a", "null", "?", "<na>")
_SEPARATED = re.compile(r"[+-]?\d[\d.,'\s]*")  # 1.234,5 and 1 234, where they are no numbers
_WHOLE = re.compile(r"[+-]?\d{1,18}")
_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")  # 1,5
_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}")  # 1.234: its sign may separate thousands


def number_of(cell: str) -> float | None:
    """The number of a cell with a decimal point, None where it is none."""
    try:
        return None if "_" in cell else float(cell)  # Python reads 1_000 as a number; a table means text
    except ValueError:
        return None


def is_missing(cell: str) -> bool:
    """Whether a cell says that there is no value."""
    number = number_of(cell)
    return cell.strip().lower() in _MISSING or (number is not None and math.isnan(number))


def bad_cell(cell: str, place: str, is_input: bool = False) -> InputError:
    """What is wrong with a cell that is no finite number; the remedies for inputs name the options."""
    if is_missing(cell) or number_of(cell) is not None:
        fill = f", or add {option('impute', 'mean')} to fill missing values" if is_input and is_missing(cell) else ""
        given, remedy = f"a missing or infinite value ({shown(cell)})", f"remove this row first{fill}"
    elif _is_separated(cell):
        given, remedy = f"{shown(cell)}, a number with separators", "write it without separators of thousands"
    else:
        given, remedy = f"text ({shown(cell)}) in a number's place", "mend the cell, "
        if is_input:
            remedy += f"add {option('encode', TEXT)}, or leave the column out (--drop)"
        else:
            remedy += "or leave the row out; class names need task='classification'"
    return InputError(f"{given} in {place}", "finite numbers", remedy)


def option(name: str, value: str) -> str:
    """How to give an option, in Python and on the command line."""
    return f"{name}={shown(value)} (--{name})"


def _is_separated(cell: str) -> bool:
    return _SEPARATED.fullmatch(cell.strip()) is not None


class Decimals:
    """Numbers with a decimal point or with a decimal comma, one of them throughout a table.

    Separators of thousands are never read: what may hold one is refused, unless other numbers prove the sign.
    """

    def __init__(self, delimiter: str) -> None:
        self.delimiter = delimiter
        self.first: dict[str, str] = {}  # sign: the first number that has it, and its line
        self.proven: set[str] = set()

    def number(self, cell: str, line: int) -> float | None:
        """The number of a cell, None where it is none."""
        number = number_of(cell)
        if number is not None:
            if "." in cell and "." not in self.proven:
                self._take(".", cell, line)
        elif "," in cell and _COMMA.fullmatch(cell.strip()):
            self._take(",", cell, line)
            number = float(cell.replace(",", "."))
        return number

    def with_point(self, cell: str, line: int) -> str:
        """A cell with a decimal point, where it is a number with a comma."""
        return cell.replace(",", ".") if self.number(cell, line) is not None else cell

    def _take(self, sign: str, cell: str, line: int) -> None:
        self.first.setdefault(sign, f"{cell.strip()!r} in line {line}")
        if not _GROUPED.fullmatch(cell.strip()):
            self.proven.add(sign)

    def refuse_doubt(self) -> None:
        """Raise InputError where the numbers that were read can be read in two ways."""
        if len(self.first) == 2:
            raise InputError(
                f"numbers with a point ({self.first['.']}) and with a comma ({self.first[',']})",
                "one decimal sign, and no separators of thousands",
                "save the table without separators of thousands",
            )
        for sign, place in self.first.items():
            # Where columns are separated by semicolons, the comma may be the decimal sign and the point the other.
            if sign not in self.proven and (sign == "," or self.delimiter == ";"):
                raise InputError(
                    f"{place}, whose {sign!r} may be a decimal sign or separate thousands, here as in all numbers",
                    "numbers that can be read in one way",
                    "write thousands without separator and fractions with another number of digits",
                )


class InputColumn:
    """An input column as its cells are read: numbers, or texts where these are to be encoded.

    ``all_text``: also cells that are numbers are texts. ``known``: the texts of all columns, each held once.
    """

    def __init__(
        self, name: str, encoded: bool, all_text: bool, filled: bool, known: dict[str, str], max_bytes: float
    ) -> None:
        self.name, self.encoded, self.all_text, self.filled = name, encoded, all_text, filled
        self.known, self.max_bytes = known, max_bytes
        self.numbers = array("d")  # NaN where one is missing
        self.cells: list[str] | None = [] if all_text else None  # of texts; empty where one is missing

    def take(self, cell: str, number: float | None, place: str) -> None:
        """The next cell, and the number that it is; raises InputError, with the place, where it can be neither."""
        if self.cells is None and number is not None and math.isfinite(number):
            self.numbers.append(number)
        elif self.filled and is_missing(cell):
            if self.cells is None:
                self.numbers.append(math.nan)
            else:
                self.cells.append("")
        else:
            self._take_text(cell, number, place)

    def values(self) -> tuple[np.ndarray, list[str] | None]:
        """Numbers (rows,) and None; or the places of the texts among the different ones, sorted, and these."""
        if self.cells is None:
            return np.frombuffer(self.numbers), None
        texts = sorted({*self.cells} - {""})
        places = {"": math.nan} | {text: float(place) for place, text in enumerate(texts)}
        return np.array([places[cell] for cell in self.cells]), texts

    def _take_text(self, cell: str, number: float | None, place: str) -> None:
        cell, where = cell.strip(), f"column {self.name!r}, {place}"
        unreadable = _is_separated(cell) if number is None else not math.isfinite(number)
        if is_missing(cell) or not self.encoded or (unreadable and not self.all_text):
            raise bad_cell(cell, where, is_input=True)
        if self.cells is None and all(map(math.isnan, self.numbers)):
            self.cells = [""] * len(self.numbers)
        if self.cells is None or number is not None:
            raise InputError(
                f"{shown(cell)} in {where}, which holds texts and numbers",
                "one of them",
                f"mend the cells, leave the column out (--drop), or add {option('encode', self.name)} "
                "to take all as text",
            )
        if cell not in self.known:
            self.known[cell] = cell
            what = f"the column {self.name!r}, with which there are {len(self.known)} different texts"
            remedy = f"leave it out with {option('drop', self.name)}"
            refuse_above(BYTES_A_TEXT * len(self.known), self.max_bytes, what, remedy)
        self.cells.append(self.known[cell])


def targets(columns: Sequence[list[str]], task: str, place: Callable[[int, int], str]) -> np.ndarray:
    """The cells of one target as class labels or numbers (P,), those of several as real outputs (P, D).

    ``place``: what stands for a column and a row in the message of InputError.
    """
    choice("task", task, TASKS)
    if len(columns) == 1:
        return _target(columns[0], task, partial(place, 0))
    if task == "classification":
        raise InputError(f"task = {task!r} with {len(columns)} targets", "one target", "name one column as target")
    return np.stack([_numbers(cells, partial(place, d)) for d, cells in enumerate(columns)], axis=1)


def _target(cells: list[str], task: str, place: Callable[[int], str]) -> np.ndarray:
    """Names (text), class labels (int64) or numbers (float64), shape (P,)."""
    numbers = [number_of(cell) for cell in cells]
    for row, (cell, number) in enumerate(zip(cells, numbers, strict=True)):
        if is_missing(cell) or (number is not None and not math.isfinite(number)):
            raise bad_cell(cell, place(row))
    if task == "classification":
        # 1 and 1.0 are the class 1 where every label is a whole number; otherwise labels are names.
        if all(number is not None and number.is_integer() and abs(number) < 2**53 for number in numbers):
            return np.array(numbers, dtype=np.int64)
        return _names(cells)
    if task == "auto" and all(number is None for number in numbers) and not any(map(_is_separated, cells)):
        return _names(cells)
    values = _numbers(cells, place)
    if task == "regression" or not all(_WHOLE.fullmatch(cell) for cell in cells):
        return values
    labels = np.array([int(cell) for cell in cells])
    distinct = len(np.unique(labels))
    if distinct > FEW_VALUES:
        raise InputError(
            f"a target of whole numbers with {distinct} different values, classes or counts",
            "the task",
            "say task='regression' or task='classification'",
        )
    return labels


def _numbers(cells: list[str], place: Callable[[int], str]) -> np.ndarray:
    numbers = np.empty(len(cells))
    for row, cell in enumerate(cells):
        number = number_of(cell)
        if number is None or not math.isfinite(number):
            raise bad_cell(cell, place(row))
        numbers[row] = number
    return numbers


def _names(cells: list[str]) -> np.ndarray:
    longest = max(map(len, cells))
    if longest > LONGEST_NAME:
        raise InputError(
            f"a class name of {longest} characters", f"at most {LONGEST_NAME}", "check the target column and the quotes"
        )
    return np.array(cells)
