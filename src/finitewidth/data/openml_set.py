"""Data sets of openml.org by name."""

from __future__ import annotations

import math
import socket
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from finitewidth.checks import one_or_more
from finitewidth.checks.exceptions import InputError
from finitewidth.data.cells import TEXT, InputColumn, number_of, option
from finitewidth.data.columns import Selection, Table, some
from finitewidth.data.encoding import Label
from finitewidth.data.files import MAX_BYTES, TrainTest, located, parts, refuse_above

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
        cells, task = _targets(bunch.target, task, several=wanted is not None and len(wanted) > 1)
        table = Table(inputs, cells, lambda d, row: f"target {d + 1}, row {row + 1}", impute, max_bytes)
        rows = table.rows(task, classes)
        return parts(rows, n_train, n_test, seed, standardise, standardise_target, table.prepare)


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


def _inputs(bunch: Any, selection: Selection, max_bytes: float) -> list[InputColumn]:
    refuse_above(8.0 * math.prod(bunch.data.shape), max_bytes, f"inputs of shape {bunch.data.shape}")
    dense = bunch.data.toarray() if hasattr(bunch.data, "toarray") else np.asarray(bunch.data)
    all_names = list(bunch.feature_names)
    names, categories = selection.inputs(all_names), bunch.get("categories") or {}
    known: dict[str, str] = {}
    columns = [selection.column(name, known, max_bytes, all_text=name in categories) for name in names]
    texts = [column.name for column in columns if column.all_text and not column.encoded]
    if texts:
        remedy = f"add {option('encode', TEXT)}, or leave them out (--drop)"
        raise InputError(f"categorical columns {some(texts)}", "numeric columns", remedy)
    for column in columns:
        values = dense[:, all_names.index(column.name)]
        if values.dtype.kind in "iuf" and not column.all_text and np.isfinite(values).all():
            column.numbers.frombytes(values.astype(np.float64).tobytes())
            continue
        for row, value in enumerate(values.tolist()):
            cell = _cell(value, categories.get(column.name))
            column.take(cell, None if column.all_text else number_of(cell), f"row {row + 1}")
    return columns


def _cell(value: Any, categories: Sequence[str] | None = None) -> str:
    """The text of a value, empty where it is missing; of a category OpenML may give the place."""
    if value is None or value != value or str(value) in ("nan", "<NA>"):
        return ""
    return str(categories[int(value)] if categories and isinstance(value, float) else value)


def _targets(target: Any, task: str, several: bool) -> tuple[list[list[str]], str]:
    """The cells of every target, and the task: OpenML writes class labels as text even where they are digits."""
    found = np.asarray(target)
    if target is None or found.ndim != (2 if several else 1):
        raise InputError("no single target column", "one target column", "name it with target=")
    cells = [[_cell(value) for value in column] for column in np.atleast_2d(found.T).tolist()]
    if task == "auto":
        task = "regression" if several or found.dtype.kind in "iuf" else "classification"
    return cells, task
