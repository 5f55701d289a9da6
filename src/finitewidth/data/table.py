"""A table of texts: which columns are inputs, and how their texts and missing values become numbers."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finitewidth.checks import choice, one_or_more, shown
from finitewidth.checks.exceptions import InputError
from finitewidth.data.dataset import Dataset, split
from finitewidth.data.encoding import Label
from finitewidth.data.files import TrainTest, of_classes, refuse_above, standardised

STRATEGIES = ("mean", "median", "most_frequent")
TASKS = ("auto", "regression", "classification")
TEXT = "text"  # encode="text": every column of texts
FEW_TEXTS = 10  # more different texts than this, and than half the rows, are names of single rows
FEW_VALUES = 20  # whole numbers with more different values than this may be counts: the user has to say
LONGEST_NAME = 1000  # characters of a class; NumPy gives every row as much room as the longest
_MISSING = ("", "na", "n/a", "null", "?", "<na>")
_SEPARATED = re.compile(r"[+-]?\d[\d.,'\s]*")  # 1.234,5 and 1 234, where they are no numbers
_WHOLE = re.compile(r"[+-]?\d{1,18}")


def number_of(cell: str) -> float | None:
    """The number of a cell with a decimal point: None where it is text, NaN where it says that there is no value."""
    try:
        return None if "_" in cell else float(cell)  # Python reads 1_000 as a number; a table means text
    except ValueError:
        return math.nan if cell.lower() in _MISSING else None


def option(name: str, value: str) -> str:
    """How to give an option, in Python and on the command line."""
    return f"{name}={shown(value)} (--{name})"


@dataclass(frozen=True)
class Selection:
    """What a user says about the columns: names of targets (none: those of the source), of inputs (none: all others),
    of columns that are neither, and of those to encode, or "text"; and one of STRATEGIES to impute, or None."""

    targets: list[str]
    columns: list[str]
    drop: list[str]
    encode: list[str]
    impute: str | None

    @classmethod
    def of(cls, target: Any, columns: Any, drop: Any, encode: Any, impute: Any) -> Selection:
        """From the arguments of a reader, each a name or several; raises InputError."""
        given = {"target": target, "columns": columns, "drop": drop, "encode": encode}
        names = [[] if value is None else one_or_more(argument, value) for argument, value in given.items()]
        if impute is not None:
            choice("impute", impute, STRATEGIES)
        return cls(names[0], names[1], names[2], names[3], impute)

    def inputs(self, known: Sequence[str]) -> list[str]:
        """The input columns among all columns of the table; raises InputError for names that it does not have."""
        for argument, names in (("target", self.targets), ("columns", self.columns), ("drop", self.drop)):
            for name in names:
                choice(argument, name, known)
        counts = Counter([*self.targets, *self.columns, *self.drop])
        for name, count in counts.items():
            if count > 1:
                raise InputError(
                    f"column {name!r} twice in target, columns and drop", "every column once", "name it once"
                )
        inputs = self.columns or [name for name in known if name not in counts]
        if not inputs:
            raise InputError(
                f"no input among the columns {some(known)}", "at least one", "name fewer targets, drop less"
            )
        for name in self.encode:
            choice("encode", name, [*inputs, TEXT])
        return inputs

    def column(self, name: str, cells: Sequence[str], place: Callable[[int], str]) -> np.ndarray:
        """An input: numbers (rows,), or texts of type object; NaN where one is missing.

        ``place``: what stands for a row in the message of InputError.
        """
        where = f"column {name!r}, "
        numbers = [number_of(cell) for cell in cells]
        there = [row for row, number in enumerate(numbers) if number is None or number == number]
        if self.impute is None and len(there) < len(cells):
            row = next(row for row, number in enumerate(numbers) if number is not None and number != number)
            raise bad_cell(cells[row], where + place(row), is_input=True)
        texts = [row for row in there if numbers[row] is None]
        encoded = name in self.encode or (TEXT in self.encode and texts and not _SEPARATED.fullmatch(cells[texts[0]]))
        if encoded and (name in self.encode or len(texts) == len(there)):
            found = np.full(len(cells), np.nan, dtype=object)
            found[there] = [cells[row] for row in there]
            return found
        if encoded:
            raise InputError(
                f"{shown(cells[texts[0]])} in {where}{place(texts[0])}, which holds texts and numbers",
                "one of them",
                f"mend the cells, leave the column out (--drop), or add {option('encode', name)} to take all as text",
            )
        for row in there:
            if numbers[row] is None or math.isinf(numbers[row]):  # type: ignore[arg-type]
                raise bad_cell(cells[row], where + place(row), is_input=True)
        return np.array(numbers, dtype=np.float64)


def bad_cell(cell: str, place: str, is_input: bool = False) -> InputError:
    """What is wrong with a cell that is no finite number; the remedies for inputs name the options."""
    number = number_of(cell)
    if number is not None:
        fill = f", or add {option('impute', 'mean')} to fill missing values" if is_input and number != number else ""
        given, remedy = f"a missing or infinite value ({shown(cell)})", f"remove this row first{fill}"
    elif _SEPARATED.fullmatch(cell):
        given, remedy = f"{shown(cell)}, a number with separators", "write it without separators of thousands"
    else:
        given = f"text ({shown(cell)}) in a number's place"
        remedy = (
            f"mend the cell, add {option('encode', TEXT)}, or leave the column out (--drop)"
            if is_input
            else "mend the cell, or leave the row out; class names need task='classification'"
        )
    return InputError(f"{given} in {place}", "finite numbers", remedy)


def targets(columns: Sequence[Sequence[str]], task: str, place: Callable[[int, int], str]) -> np.ndarray:
    """The cells of one target as names (text), class labels (int64) or numbers (float64), shape (P,); those of several
    as real outputs (P, D).

    ``place``: what stands for a target and a row in the message of InputError.
    """
    choice("task", task, TASKS)
    numbers = [[number_of(cell) for cell in cells] for cells in columns]
    for d, column in enumerate(numbers):
        for row, number in enumerate(column):
            if number is not None and not math.isfinite(number):
                raise bad_cell(columns[d][row], place(d, row))
    if len(columns) == 1 and task != "regression":
        labels = _labels(columns[0], numbers[0], task)
        if labels is not None:
            return labels
    if task == "classification":
        raise InputError(f"task = {task!r} with {len(columns)} targets", "one target", "name one column as target")
    for d, column in enumerate(numbers):
        if None in column:
            row = column.index(None)
            raise bad_cell(columns[d][row], place(d, row))
    values = np.array(numbers, dtype=np.float64)
    return values[0] if len(columns) == 1 else values.T


def _labels(cells: Sequence[str], numbers: Sequence[float | None], task: str) -> np.ndarray | None:
    """Class labels: names, or whole numbers; None where they are numbers."""
    texts = [cell for cell, number in zip(cells, numbers, strict=True) if number is None]
    if task == "classification":
        # 1 and 1.0 are the class 1 where every label is a whole number; otherwise labels are names.
        whole = not texts and all(number.is_integer() and abs(number) < 2**53 for number in numbers if number)
        return np.array(numbers, dtype=np.int64) if whole else _names(cells)
    if len(texts) == len(cells) and not any(map(_SEPARATED.fullmatch, cells)):
        return _names(cells)
    if not all(map(_WHOLE.fullmatch, cells)):
        return None
    labels = np.array([int(cell) for cell in cells])
    distinct = len(np.unique(labels))
    if distinct > FEW_VALUES:
        raise InputError(
            f"a target of whole numbers with {distinct} different values, classes or counts",
            "the task",
            "say task='regression' or task='classification'",
        )
    return labels


def _names(cells: Sequence[str]) -> np.ndarray:
    longest = max(map(len, cells))
    if longest > LONGEST_NAME:
        raise InputError(
            f"a class name of {longest} characters", f"at most {LONGEST_NAME}", "check the target column and the quotes"
        )
    return np.array(cells)


@dataclass(frozen=True)
class Table:
    """inputs: columns by name (see ``Selection.column``). y: names, labels or numbers, (P,) or (P, D)."""

    inputs: dict[str, np.ndarray]
    y: np.ndarray
    impute: str | None
    max_bytes: float

    def parts(
        self,
        task: str,
        classes: Sequence[Label] | None,
        n_train: int,
        n_test: int | None,
        seed: int,
        kind: str,
        standardise_target: bool,
    ) -> TrainTest:
        """Split by the recipe, then encoded, filled and standardised by the training part."""
        train, test = self.prepare(*split(self.rows(task, classes), n_train, n_test, seed))
        return standardised(train, test, kind, standardise_target)

    def rows(self, task: str, classes: Sequence[Label] | None) -> Dataset:
        """The targets, with row numbers (rows, 1) to stand for the inputs while the data set is split."""
        x = np.arange(len(self.y), dtype=np.float64)[:, None]
        if self.y.dtype.kind != "f":
            return of_classes(x, self.y, classes)
        dataset = Dataset(x, self.y, classes=() if task == "regression" else None)
        if classes is None:
            return dataset
        if dataset.labels is None:
            raise InputError(
                f"classes = {shown(tuple(classes))} for a target of real numbers",
                "a target of class labels",
                "leave classes out, or say task='classification'",
            )
        return of_classes(x, dataset.labels, classes)

    def prepare(self, train: Dataset, test: Dataset) -> TrainTest:
        """Two data sets of row numbers, with the inputs of these rows in their place.

        Missing values are filled and texts one-hot encoded by what scikit-learn's SimpleImputer and OneHotEncoder learn
        from the training part: a text that occurs in the test part alone is zero in every column of its encoding.
        Raises InputError for a column without any value in the training part, and for texts that name single rows.
        """
        first, second = (part.flat[:, 0].astype(np.intp) for part in (train, test))
        self._refuse_many_texts(first, len(self.y))
        names, blocks = list[str](), list[np.ndarray]()
        for name, column in self.inputs.items():
            more, block = self._numbers(name, column[:, None], first)
            names += more
            blocks.append(block)
        x = np.hstack(blocks)
        return train.with_inputs(x[first], input_names=names), test.with_inputs(x[second], input_names=names)

    def _numbers(self, name: str, column: np.ndarray, train: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Names and values (rows, inputs) of a column (rows, 1), by its rows ``train``."""
        missing = column != column
        if missing.any():
            from sklearn.impute import SimpleImputer  # scikit-learn takes a second to import

            if missing[train].all():
                given = f"a column without any value in the training part: {name}"
                raise InputError(given, "a value to learn from", f"leave it out with {option('drop', name)}")
            imputer = SimpleImputer(strategy=self.impute if column.dtype.kind == "f" else "most_frequent")
            with np.errstate(all="ignore"):  # of values too large to average: refused as infinite afterwards
                column = imputer.fit(column[train]).transform(column)
        if column.dtype.kind == "f":
            return [name], column
        from sklearn.preprocessing import OneHotEncoder

        encoder = OneHotEncoder(sparse_output=False, handle_unknown="ignore").fit(column[train])
        return [f"{name}={text}" for text in encoder.categories_[0]], encoder.transform(column)

    def _refuse_many_texts(self, train: np.ndarray, rows: int) -> None:
        counts = {name: len({*column[train]}) for name, column in self.inputs.items() if column.dtype.kind == "O"}
        if not counts:
            return
        most = max(counts, key=lambda name: counts[name])
        what = f"the column {most!r} with {counts[most]} different texts in {len(train)} training rows"
        remedy = f"leave it out with {option('drop', most)}"
        if counts[most] > max(FEW_TEXTS, len(train) / 2):
            raise InputError(what, "texts that repeat, to be one-hot encoded", remedy)
        n_bytes = 8.0 * rows * (len(self.inputs) + sum(counts.values()))
        refuse_above(n_bytes, self.max_bytes, f"one-hot encoding of {what}", remedy)


def some(names: Iterable[str]) -> str:
    """The first ten."""
    names = list(names)
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
