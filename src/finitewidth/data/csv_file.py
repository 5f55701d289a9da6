"""A csv file with a header and one target column."""

from __future__ import annotations

import csv as csv_format
import math
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finitewidth.checks import nearest
from finitewidth.data.encoding import Label
from finitewidth.data.files import MAX_BYTES, PathLike, TrainTest, existing, located, parts, refuse_above
from finitewidth.data.tables import bad_cell, number_of, some, table_dataset, targets
from finitewidth.exceptions import InputError


def csv(
    path: PathLike,
    target: str,
    n_train: int = 200,
    n_test: int | None = None,
    seed: int = 0,
    delimiter: str = ",",
    standardise: str = "feature",
    task: str = "auto",
    classes: Sequence[Label] | None = None,
    max_bytes: float = MAX_BYTES,
    standardise_target: bool = False,
) -> TrainTest:
    """A csv file (UTF-8, with a header): the column ``target`` is y, all others are inputs, x (P, columns).

    ``task``: "classification" takes the target as class labels (names, or whole numbers), "regression" as
    numbers. "auto" takes text and whole numbers of at most 20 different values as class labels, numbers with
    a decimal point as numbers (but -1 and +1 alone as labels), and asks in the case between.
    ``standardise_target``: numbers are centred and scaled to variance 1, errors stated in their own units.
    Raises InputError with line and column for text in a number's place and for missing or infinite values.
    """
    file = existing(path)
    # The densest table, "0,1,0,1", has two bytes a number, and float64 takes eight.
    refuse_above(4.0 * file.stat().st_size, max_bytes, f"file {str(path)!r}")
    with located(f"file {str(path)!r}"):
        table = _read(file, target, "\t" if delimiter in ("\\t", "tab") else delimiter)
        y = targets(table.targets, task, table.place_of_target)
        return parts(table_dataset(table.x, y, task, classes), n_train, n_test, seed, standardise, standardise_target)


@dataclass(frozen=True)
class _Table:
    """``x`` (rows, columns), the cells of the target column, and where they stand in the file."""

    x: np.ndarray
    targets: list[str]
    target: str
    lines: list[int]

    def place_of_target(self, row: int) -> str:
        return f"column {self.target!r}, line {self.lines[row]}"


def _read(file: Path, target: str, delimiter: str) -> _Table:
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise InputError(f"delimiter = {delimiter!r}", "one character, no quote", "write delimiter=';', for example")
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            return _parse(csv_format.reader(stream, delimiter=delimiter, strict=True), target)
    except OSError as error:
        raise InputError(f"unreadable ({error.strerror})", "a file you may read", "change its permissions") from error
    except (UnicodeDecodeError, csv_format.Error) as error:
        raise InputError(f"text that is no csv ({error})", "UTF-8 text in columns", "save it as csv again") from error


def _parse(reader: Any, target: str) -> _Table:
    names = _header(next(reader, []), target)
    place = names.index(target)
    columns = names[:place] + names[place + 1 :]
    values, answers, lines = array("d"), list[str](), list[int]()
    for row in reader:
        if not row:
            continue  # an empty line, as at the end of many files
        if len(row) != len(names):
            raise InputError(
                f"line {reader.line_num} of {len(row)} values",
                f"{len(names)} values, as in the header",
                "mend the line, or check the delimiter",
            )
        answers.append(row.pop(place).strip())
        lines.append(reader.line_num)
        values.extend(_numbers(row, columns, reader.line_num))
    if not lines:
        raise InputError("a header and nothing below it", "at least one row of numbers", "add data")
    return _Table(np.frombuffer(values).reshape(len(lines), len(columns)), answers, target, lines)


def _header(names: list[str], target: str) -> list[str]:
    names = [name.strip() for name in names]
    if not names or all(number_of(name) is not None for name in names):
        raise InputError("no header in line 1", "the names of the columns", "add a first line of names")
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise InputError(f"two columns named {twice!r}", "different names", "rename one of them")
    if target not in names:
        near = nearest(target, names)
        raise InputError(
            f"target = {target!r}",
            "one of the columns " + some(names),
            f"did you mean {near!r}?" if near else "check the name and the delimiter",
        )
    if len(names) == 1:
        raise InputError(f"the target column {target!r} alone", "at least one input column", "check the delimiter")
    return names


def _numbers(cells: list[str], columns: list[str], line: int) -> list[float]:
    numbers = [number_of(cell) for cell in cells]
    for cell, number, column in zip(cells, numbers, columns, strict=True):
        if number is None or not math.isfinite(number):
            raise bad_cell(cell, f"column {column!r}, line {line}")
    return numbers  # type: ignore[return-value]  # no None is left
