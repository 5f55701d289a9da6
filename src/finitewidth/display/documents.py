"""JSON documents: plain data, NaN as null, and nothing that looks like a result where there is none."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from finitewidth import __version__
from finitewidth.data import Dataset

if TYPE_CHECKING:
    from finitewidth.curves.comparison import ComparedRow
    from finitewidth.inference.methods import Row

RESULTS = (
    *("train_error", "test_error", "bias", "variance", "accuracy", "log_evidence"),
    *("order_parameters", "mean_order_parameter"),
)


def rows_document(
    rows: Iterable[Row | ComparedRow], source: str, train: Dataset, test: Dataset, layer_widths: list[int] | None = None
) -> dict[str, Any]:
    """``{"rows", "data", "version"}`` of predict, sample and compare; ``layer_widths`` replaces every row's width.

    At infinite width a row has no width: null.
    """
    infinite = {"width": None}
    return {
        "rows": [
            row_document(row, layer_widths) | (infinite if getattr(row, "method", None) == "infinite" else {})
            for row in rows
        ],
        "data": data_document(source, train, test),
        "version": __version__,
    }


def data_document(source: str, train: Dataset, test: Dataset) -> dict[str, Any]:
    """Where the data come from, and what each part is."""
    return {"source": source, "train": train.summary(), "test": test.summary()}


def row_document(row: Any, layer_widths: list[int] | None = None) -> dict[str, Any]:
    """One row: where a theory did not converge, every result is null; what was sampled or trained keeps them."""
    if hasattr(row, "rows"):
        plain: dict[str, Any] = row.to_dict(lambda one: row_document(one, layer_widths))
    else:
        plain = row.to_dict()
        if not (row.converged or hasattr(row, "test_error_se")):
            plain |= dict.fromkeys(RESULTS)
    if layer_widths is not None:
        plain["width"] = layer_widths
    return json_ready(plain)


def json_ready(value: Any) -> Any:
    """The same value with NaN and infinity as None and tuples as lists."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_ready(item) for item in value]
    return value
