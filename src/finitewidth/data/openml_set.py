"""Data sets of openml.org by name."""

from __future__ import annotations

import math
import socket
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from importlib.util import find_spec
from typing import Any

import numpy as np

from finitewidth.data.encoding import Label
from finitewidth.data.files import MAX_BYTES, TrainTest, located, parts, refuse_above
from finitewidth.data.tables import class_labels, some, table_dataset, targets
from finitewidth.exceptions import InputError


def openml(
    name: str,
    n_train: int = 200,
    n_test: int | None = None,
    seed: int = 0,
    standardise: str = "feature",
    task: str = "auto",
    classes: Sequence[Label] | None = None,
    target: str | None = None,
    version: int | str = "active",
    timeout: float = 10.0,
    max_bytes: float = MAX_BYTES,
    standardise_target: bool = False,
) -> TrainTest:
    """A data set of openml.org by name, through scikit-learn, which keeps a copy on disk; x (P, columns).

    ``target``: the target column, None for the one that OpenML names. ``task`` as for ``csv``, except that
    "auto" trusts OpenML: nominal targets are classes, numeric ones are numbers. ``standardise_target`` as for ``csv``.
    ``timeout``: seconds for each answer of the server.
    Raises InputError for an unknown name, without network, for categorical columns and for missing values.
    """
    with located(f"OpenML data set {name!r}"):
        bunch = _fetch(name, version, target, timeout)
        x = _numeric_columns(bunch, max_bytes)
        if bunch.target is None or np.ndim(bunch.target) != 1:
            raise InputError("no single target column", "one target column", "name it with target=")
        y = _openml_targets(np.asarray(bunch.target), task)
        return parts(table_dataset(x, y, task, classes), n_train, n_test, seed, standardise, standardise_target)


def _fetch(name: str, version: int | str, target: str | None, timeout: float) -> Any:
    from sklearn.datasets import fetch_openml

    options: dict[str, Any] = {} if target is None else {"target_column": target}
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


def _numeric_columns(bunch: Any, max_bytes: float) -> np.ndarray:
    refuse_above(8.0 * math.prod(bunch.data.shape), max_bytes, f"inputs of shape {bunch.data.shape}")
    dense = bunch.data.toarray() if hasattr(bunch.data, "toarray") else np.asarray(bunch.data)
    nominal = set(bunch.get("categories") or ())
    bad = [name for i, name in enumerate(bunch.feature_names) if name in nominal or not _is_numeric(dense[:, i])]
    if bad:
        raise InputError(
            f"categorical columns {some(bad)}",
            "numeric columns",
            "encode them first, and bring the data as a csv file",
        )
    x = dense.astype(np.float64)
    gaps = [name for i, name in enumerate(bunch.feature_names) if not np.isfinite(x[:, i]).all()]
    if gaps:
        raise InputError(
            f"missing values in the columns {some(gaps)}",
            "complete columns",
            "impute them first, and bring the data as a csv file",
        )
    return x


def _is_numeric(column: np.ndarray) -> bool:
    try:
        column.astype(np.float64)
    except (ValueError, TypeError):
        return False
    return True


def _openml_targets(target: np.ndarray, task: str) -> np.ndarray:
    if target.dtype.kind in "iuf":
        numbers = target.astype(np.float64)
        if task != "classification":
            return numbers
        return class_labels(list(map(str, target.tolist())), numbers.tolist())
    # Nominal: OpenML writes class labels as text even where they are digits.
    nominal = task if task == "regression" else "classification"
    cells = ["" if value is None else str(value) for value in target.tolist()]
    cells = ["" if cell in ("nan", "<NA>") else cell for cell in cells]
    return targets(cells, nominal, lambda row: f"the target, row {row + 1}")
