"""The cells of a table as numbers, row by row: decimal signs, texts, missing values, row numbers."""

from __future__ import annotations

import math
import re
from array import array
from collections import Counter
from collections.abc import Sequence

import numpy as np

from finitewidth.checks.exceptions import InputError
from finitewidth.data.columns import Columns, Selection, sorted_texts
from finitewidth.data.files import refuse_above
from finitewidth.data.tables import bad_cell, is_missing, is_separated, number_of, option

BYTES_A_TEXT = 200.0  # of one more text that a column may hold, about
_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")  # 1,5
_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}")  # 1.234: its sign may separate thousands


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


class InputCells:
    """Collects the input columns; raises InputError with column and line for a cell that cannot be used."""

    def __init__(self, names: Sequence[str], selection: Selection, decimals: Decimals, max_bytes: float) -> None:
        self.names, self.selection, self.decimals, self.max_bytes = list(names), selection, decimals, max_bytes
        self.values = array("d")
        self.as_text = {i for i, name in enumerate(names) if selection.is_named_text(name)}
        self.places: dict[int, dict[str, int]] = {}  # column: its texts, each with its place
        self.lines: dict[int, int] = {}  # column: the line of its first text
        self.counts: Counter[int] = Counter()  # column: its cells that hold texts

    def take(self, cells: Sequence[str], line: int) -> None:
        """One row."""
        for column, cell in enumerate(cells):
            number = None if column in self.as_text else self.decimals.number(cell, line)
            if number is None or not math.isfinite(number):
                number = self._other(column, cell.strip(), number, line)
            self.values.append(number)

    def columns(self) -> Columns:
        """All rows."""
        x = np.frombuffer(self.values).reshape(-1, len(self.names))
        texts = {}
        for column, places in self.places.items():
            self._refuse_mixed(column, int(np.isfinite(x[:, column]).sum()))
            x[:, column], texts[column] = sorted_texts(x[:, column], list(places))
        return Columns(self.names, x, texts, self.selection.impute)

    def _other(self, column: int, cell: str, number: float | None, line: int) -> float:
        """What stands for a cell that holds no finite number."""
        name = self.names[column]
        if is_missing(cell) and self.selection.impute is not None:
            return math.nan
        is_text = number is None and not is_missing(cell)
        if not (is_text and self.selection.is_encoded(name)) or (column not in self.as_text and is_separated(cell)):
            raise bad_cell(cell, f"column {name!r}, line {line}", is_input=True)
        self.counts[column] += 1
        self.lines.setdefault(column, line)
        places = self.places.setdefault(column, {})
        if cell not in places:
            places[cell] = len(places)
            texts = sum(map(len, self.places.values())) if len(places) % 100 == 0 else 0
            what = f"the column {name!r} with more than {len(places)} different texts"
            refuse_above(BYTES_A_TEXT * texts, self.max_bytes, what, f"leave it out with {option('drop', name)}")
        return places[cell]

    def _refuse_mixed(self, column: int, n_values: int) -> None:
        if column not in self.as_text and self.counts[column] < n_values:
            name, text = self.names[column], next(iter(self.places[column]))
            raise InputError(
                f"column {name!r} with text ({text!r}, line {self.lines[column]}) and with numbers",
                "one of them",
                f"mend the cells, leave the column out (--drop), or add {option('encode', name)} to take all as text",
            )


class RowNumbers:
    """A column without a name: nothing, or the numbers of the rows from 0 or 1 on; raises InputError for all else."""

    def __init__(self, name: str) -> None:
        self.name, self.count = name, 0
        self.start: int | None = None

    def take(self, cell: str, line: int) -> None:
        """The cell of the next row."""
        if self.count == 0:
            self.start = {"0": 0, "1": 1}.get(cell)
        if cell != ("" if self.start is None else str(self.start + self.count)):
            raise InputError(
                f"a column without a name ({self.name!r}, which holds {cell!r} in line {line})",
                "a name for every input",
                f"name it in the first line, or leave it out with {option('drop', self.name)}",
            )
        self.count += 1
