"""Data sets of openml.org by name."""

from __future__ import annotations

import math
import socket
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.client import HTTPException
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from finitewidth.checks import one_or_more
from finitewidth.checks.exceptions import InputError
from finitewidth.data.columns import Columns, Selection, sorted_texts
from finitewidth.data.encoding import Label
from finitewidth.data.files import MAX_BYTES, TrainTest, located, parts, refuse_above
from finitewidth.data.tables import TEXT, class_labels, option, several_targets, some, table_dataset, targets

if TYPE_CHECKING:
    from sklearn.utils import Bunch


def openml(
    name: str,
    n_train: int = 200,
    n_test: int | None = None,
    seed: int = 0,
    standardise: str = "feature",
    task: str = "auto",
    classes: Sequence[Label] | None = None,
    target: str | Sequence[str] | None = None,
    version: int | str = "active",
    timeout: float = 10.0,
    max_bytes: float = MAX_BYTES,
    standardise_target: bool = False,
    columns: str | Sequence[str] | None = None,
    drop: str | Sequence[str] | None = None,
    encode: str | Sequence[str] | None = None,
    impute: str | None = None,
) -> TrainTest:
    """A data set of openml.org by name, through scikit-learn, which keeps a copy on disk; x (P, columns).

    ``target``: the target column or columns, None for what OpenML names. ``task`` as for ``csv``, except that
    "auto" trusts OpenML: nominal targets are classes, numeric ones are numbers. ``standardise_target``, ``columns``,
    ``drop``, ``encode`` (categorical columns are its texts) and ``impute`` as for ``csv``. ``timeout``: seconds for
    each answer of the server.
    Raises InputError for an unknown name, without network, and, unless they are encoded and filled, for categorical
    columns and missing values.
    """
    with located(f"OpenML data set {name!r}"):
        selection = Selection.of(None, columns, drop, encode, impute)
        wanted = None if target is None else one_or_more("target", target)
        bunch = _fetch(name, version, wanted, timeout)
        inputs = _inputs(bunch, selection, max_bytes)
        y = _openml_targets(bunch.target, task, several=wanted is not None and len(wanted) > 1)
        rows = table_dataset(inputs.rows(), y, task, classes)
        prepare = partial(inputs.prepare, max_bytes=max_bytes)
        return parts(rows, n_train, n_test, seed, standardise, standardise_target, prepare)


def _fetch(name: str, version: int | str, targets: list[str] | None, timeout: float) -> Bunch:
    from sklearn.datasets import fetch_openml

    options: dict[str, Any] = {}
    if targets is not None:
        options["target_column"] = targets[0] if len(targets) == 1 else targets
    # pandas' parser is many times faster; scikit-learn's own needs nothing installed.
    parser = "auto" if find_spec("pandas") else "liac-arff"
    try:
        with _socket_timeout(timeout), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a retry, and of several versions
            return fetch_openml(name, version=version, as_frame=False, parser=parser, n_retries=1, delay=0.1, **options)
    except (OSError, HTTPException) as error:  # URLError and TimeoutError are OSErrors
        raise InputError(
            f"no answer from openml.org ({error})",
            "a network connection",
            "connect, or bring the data as a csv or npz file",
        ) from error
    except (ValueError, KeyError) as error:
        raise InputError(
            f"refused by OpenML ({error})",
            "the exact name of a data set on openml.org, and one of its columns as target",
            "look it up at https://www.openml.org/search?type=data",
        ) from error


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    # scikit-learn passes no timeout on; without one a silent server would hold the caller for minutes.
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _inputs(bunch: Any, selection: Selection, max_bytes: float) -> Columns:
    refuse_above(8.0 * math.prod(bunch.data.shape), max_bytes, f"inputs of shape {bunch.data.shape}")
    dense = bunch.data.toarray() if hasattr(bunch.data, "toarray") else np.asarray(bunch.data)
    known = list(bunch.feature_names)
    names = selection.inputs(known)
    categories = bunch.get("categories") or {}
    x, texts = np.empty((len(dense), len(names))), {}
    for place, name in enumerate(names):
        column = dense[:, known.index(name)]
        if name in categories or selection.is_named_text(name) or not _is_numeric(column):
            x[:, place], texts[place] = _text_column(column, categories.get(name))
        else:
            x[:, place] = column
    _refuse_columns(names, x, texts, selection)
    return Columns(names, x, texts, selection.impute)


def _text_column(column: np.ndarray, categories: Sequence[str] | None) -> tuple[np.ndarray, list[str]]:
    """Places among the texts, NaN where there is none; OpenML may give the places already, as numbers."""
    if categories is not None and _is_numeric(column):
        return sorted_texts(column.astype(np.float64), [str(text) for text in categories])
    cells = [None if value is None or value != value else str(value) for value in column.tolist()]
    places = {text: place for place, text in enumerate(dict.fromkeys(cell for cell in cells if cell is not None))}
    return sorted_texts(np.array([math.nan if cell is None else places[cell] for cell in cells]), list(places))


def _refuse_columns(names: list[str], x: np.ndarray, texts: dict[int, list[str]], selection: Selection) -> None:
    bad = [names[place] for place in texts if not selection.is_encoded(names[place])]
    if bad:
        remedy = f"add {option('encode', TEXT)}, or leave them out (--drop)"
        raise InputError(f"categorical columns {some(bad)}", "numeric columns", remedy)
    gaps = [name for name, column in zip(names, x.T, strict=True) if not np.isfinite(column).all()]
    if gaps and (selection.impute is None or np.isinf(x).any()):
        remedy = f"add {option('impute', 'mean')}, or leave them out (--drop)"
        raise InputError(f"missing or infinite values in the columns {some(gaps)}", "complete columns", remedy)


def _is_numeric(column: np.ndarray) -> bool:
    try:
        column.astype(np.float64)
    except (ValueError, TypeError):
        return False
    return True


def _openml_targets(target: Any, task: str, several: bool) -> np.ndarray:
    shape = np.shape(target)
    if several and len(shape) == 2:
        columns = [list(map(_cell, column)) for column in np.asarray(target).T.tolist()]
        return several_targets(columns, task, lambda column, row: f"target {column + 1}, row {row + 1}")
    if target is None or len(shape) != 1:
        raise InputError("no single target column", "one target column", "name it with target=")
    target = np.asarray(target)
    if target.dtype.kind in "iuf":
        numbers = target.astype(np.float64)
        if task != "classification":
            return numbers
        return class_labels(list(map(str, target.tolist())), numbers.tolist())
    # Nominal: OpenML writes class labels as text even where they are digits.
    nominal = task if task == "regression" else "classification"
    return targets(list(map(_cell, target.tolist())), nominal, lambda row: f"the target, row {row + 1}")


def _cell(value: Any) -> str:
    """The text of a value, empty where it is missing."""
    text = "" if value is None else str(value)
    return "" if text in ("nan", "<NA>") else text
