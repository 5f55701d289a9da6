"""Data sets of openml.org by name."""

from __future__ import annotations

import socket
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

import numpy as np

from finitewidth.checks import one_or_more
from finitewidth.checks.exceptions import InputError, needed
from finitewidth.data.encoding import Label
from finitewidth.data.files import MAX_BYTES, TrainTest, located, refuse_above
from finitewidth.data.table import TEXT, Selection, Table, option, some, targets

if TYPE_CHECKING:
    import pandas
    from sklearn.utils import Bunch

_TIMEOUT = 10.0  # seconds for each answer of the server


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
    ``drop``, ``encode`` (categorical columns are its texts) and ``impute`` as for ``csv``.
    Raises InputError for an unknown name, without network, and, unless they are encoded and filled, for categorical
    columns and missing values; MissingExtraError without pandas (extra ``table``).
    """
    with located(f"OpenML data set {name!r}"):
        selection = Selection.of(None, columns, drop, encode, impute)
        wanted = [] if target is None else one_or_more("target", target)
        bunch = _fetch(name, version, wanted)
        shape = bunch.data.shape
        refuse_above(8.0 * shape[0] * shape[1], max_bytes, f"inputs of shape {shape}")
        inputs = _inputs(bunch.data, selection)
        if bunch.target is None or bunch.target.ndim != (2 if len(wanted) > 1 else 1):
            raise InputError("no single target column", "one target column", "name it with target=")
        answers = bunch.target.to_frame() if bunch.target.ndim == 1 else bunch.target
        if task == "auto":
            numeric = all(dtype.kind in "iuf" for dtype in answers.dtypes)
            task = "regression" if numeric or answers.shape[1] > 1 else "classification"
        cells = [_cells(answers.iloc[:, d]) for d in range(answers.shape[1])]
        y = targets(cells, task, lambda d, row: f"target {d + 1}, row {row + 1}")
        table = Table(inputs, y, impute, max_bytes)
        return table.parts(task, classes, n_train, n_test, seed, standardise, standardise_target)


def _fetch(name: str, version: int | str, targets: list[str]) -> Bunch:
    with needed("pandas", "table", "a data set of OpenML"):
        import pandas  # noqa: F401  which scikit-learn makes tables of
    from sklearn.datasets import fetch_openml

    options: dict[str, Any] = {}
    if targets:
        options["target_column"] = targets[0] if len(targets) == 1 else targets
    try:
        with _socket_timeout(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a retry, and of several versions
            return fetch_openml(name, version=version, as_frame=True, n_retries=1, delay=0.1, **options)
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
def _socket_timeout() -> Iterator[None]:
    # scikit-learn passes no timeout on; without one a silent server would hold the caller for ever.
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _inputs(frame: pandas.DataFrame, selection: Selection) -> dict[str, np.ndarray]:
    names = selection.inputs(list(frame.columns))
    texts = [name for name in names if frame[name].dtype == "category"]
    unread = [name for name in texts if name not in selection.encode and TEXT not in selection.encode]
    if unread:
        remedy = f"add {option('encode', TEXT)}, or leave them out (--drop)"
        raise InputError(f"categorical columns {some(unread)}", "numeric columns", remedy)
    chosen = replace(selection, encode=[*selection.encode, *texts])
    return {name: _input(frame[name], chosen) for name in names}


def _input(column: pandas.Series, selection: Selection) -> np.ndarray:
    name = str(column.name)
    if column.dtype.kind in "iuf" and name not in selection.encode and np.isfinite(column).all():
        return column.to_numpy(dtype=np.float64)
    return selection.column(name, _cells(column), lambda row: f"row {row + 1}")


def _cells(column: pandas.Series) -> list[str]:
    """The text of every value, empty where it is missing."""
    return [str(value) for value in column.astype(object).where(column.notna(), "")]
