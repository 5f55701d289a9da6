"""Tables with one target column: what a cell means, and when targets are classes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from finitewidth.checks import choice, shown
from finitewidth.checks.exceptions import InputError
from finitewidth.data.dataset import Dataset
from finitewidth.data.encoding import Label
from finitewidth.data.files import of_classes

TASKS = ("auto", "regression", "classification")
LONGEST_NAME = 1000  # characters of a class; NumPy gives every row as much room as the longest
FEW_VALUES = 20  # whole numbers with more different values than this may be counts: the user has to say
TEXT = "text"  # encode="text": every column of texts
_MISSING = ("", "na", "n/a", "null", "?", "<na>")
_SEPARATED = re.compile(r"[+-]?\d[\d.,'\s]*")
_WHOLE = re.compile(r"[+-]?\d{1,18}")


def several_targets(columns: list[list[str]], task: str, place: Callable[[int, int], str]) -> np.ndarray:
    """One column as ``targets``; several are real outputs, shape (P, D)."""
    if len(columns) == 1:
        return targets(columns[0], task, partial(place, 0))
    if choice("task", task, TASKS) == "classification":
        raise InputError(f"task = {task!r} with {len(columns)} targets", "one target", "name one column as target")
    outputs = [targets(cells, "regression", partial(place, d)) for d, cells in enumerate(columns)]
    return np.stack(outputs, axis=1)


def targets(cells: list[str], task: str, place: Callable[[int], str]) -> np.ndarray:
    """Cells as names (text), class labels (int64) or numbers (float64), shape (P,)."""
    choice("task", task, TASKS)
    numbers = [number_of(cell) for cell in cells]
    for row, (cell, number) in enumerate(zip(cells, numbers, strict=True)):
        if is_missing(cell) or (number is not None and not math.isfinite(number)):
            raise bad_cell(cell, place(row))
    whole = all(_WHOLE.fullmatch(cell) for cell in cells)
    if task == "classification":
        return class_labels(cells, numbers)
    if task == "auto" and all(number is None for number in numbers) and not any(map(is_separated, cells)):
        return _names(cells)
    for row, number in enumerate(numbers):
        if number is None or not math.isfinite(number):
            error = bad_cell(cells[row], place(row))
            more = "; class names need task='classification'" if task == "auto" else ""
            raise InputError(error.given, error.wanted, error.remedy + more)
    if task == "regression" or not whole:
        return np.array(numbers, dtype=np.float64)
    return _few_whole_numbers(np.array([int(cell) for cell in cells]))


def class_labels(cells: list[str], numbers: list[float | None]) -> np.ndarray:
    # 1 and 1.0 are the class 1 where every label is a whole number; otherwise labels are names.
    if all(number is not None and number.is_integer() and abs(number) < 2**53 for number in numbers):
        return np.array(numbers, dtype=np.int64)
    return _names(cells)


def _names(cells: list[str]) -> np.ndarray:
    longest = max(map(len, cells))
    if longest > LONGEST_NAME:
        raise InputError(
            f"a class name of {longest} characters", f"at most {LONGEST_NAME}", "check the target column and the quotes"
        )
    return np.array(cells)


def table_dataset(x: np.ndarray, y: np.ndarray, task: str, classes: Sequence[Label] | None) -> Dataset:
    if y.dtype.kind != "f":
        return of_classes(x, y, classes)
    dataset = Dataset(x, y, classes=() if task == "regression" else None)
    if classes is None:
        return dataset
    if dataset.labels is None:
        raise InputError(
            f"classes = {shown(tuple(classes))} for a target of real numbers",
            "a target of class labels",
            "leave classes out, or say task='classification'",
        )
    return of_classes(x, dataset.labels, classes)


def number_of(cell: str) -> float | None:
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
    elif is_separated(cell):
        given, remedy = f"{shown(cell)}, a number with separators", "write it without separators of thousands"
    else:
        ways = f"add {option('encode', TEXT)}, or leave the column out (--drop)" if is_input else "or leave the row out"
        given, remedy = f"text ({shown(cell)}) in a number's place", f"mend the cell, {ways}"
    return InputError(f"{given} in {place}", "finite numbers", remedy)


def is_separated(cell: str) -> bool:
    """Whether a cell that is no number holds only digits and what separates them: 1.234,5 and 1 234."""
    return _SEPARATED.fullmatch(cell.strip()) is not None


def option(name: str, value: str) -> str:
    """How to give an option, in Python and on the command line."""
    return f"{name}={shown(value)} (--{name})"


def some(names: Sequence[str]) -> str:
    """The first ten."""
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


def _few_whole_numbers(labels: np.ndarray) -> np.ndarray:
    distinct = len(np.unique(labels))
    if distinct > FEW_VALUES:
        raise InputError(
            f"a target of whole numbers with {distinct} different values, classes or counts",
            "the task",
            "say task='regression' or task='classification'",
        )
    return labels
