"""Learning curves: errors over widths, temperatures and training-set sizes, by any method."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from finitewidth import checks
from finitewidth.data import Dataset
from finitewidth.display import Rows, shortened
from finitewidth.inference.methods import Method, Noise, Row
from finitewidth.jobs.job import Job
from finitewidth.networks import Network
from finitewidth.theory.rows import as_far_as_known, pending, without_validity

if TYPE_CHECKING:
    from rich.console import RenderableType

_ASSESSED = 12  # rows up to which each has a validity


@dataclass(frozen=True)
class LearningCurve(Rows[Row]):
    """Rows in their order: training-set sizes, then temperatures, then widths.

    complete: False where an interrupt cut the work short.
    """

    rows: tuple[Row, ...]
    complete: bool = True

    def column(self, name: str) -> np.ndarray:
        """One field of every row, for example ``curve.column("test_error")``."""
        known = [{*row.to_dict(), *(["validity"] if hasattr(type(row), "validity") else [])} for row in self.rows]
        checks.choice("column", name, sorted(set.intersection(*known)) if known else [name])
        return np.array([getattr(row, name) for row in self.rows])

    def to_dicts(self) -> list[dict[str, Any]]:
        """Plain data: ``pandas.json_normalize(curve.to_dicts())`` is a data frame, one line a row."""
        return [row.to_dict() for row in self.rows]

    def _parts(self, quick: bool) -> Iterator[RenderableType]:
        from finitewidth.display import tables

        if not self.rows:
            yield "A learning curve without rows."
            return
        rows, left_out = shortened(as_far_as_known(row) if quick else row for row in self.rows)
        yield tables.curve(rows, self._heading)
        yield from tables.notes(rows)
        yield from left_out
        if quick and any(map(pending, self.rows)):
            yield "Validity: not yet computed for all rows; print(curve) does, a second or so a row."

    @property
    def _heading(self) -> str:
        first, *_ = self.rows
        layers = f"{first.depth} hidden layer" + ("s" if first.depth > 1 else "")
        sizes = ", ".join(map(str, dict.fromkeys(row.n_train for row in self.rows)))
        heat = ", ".join(f"{t:g}" for t in dict.fromkeys(row.temperature for row in self.rows))
        return f"Predicted errors, method {first.method}\n{layers}, {sizes} training points, T = {heat}"


def learning_curve(
    network: Network,
    train: Dataset,
    test: Dataset,
    widths: Sequence[int] | None = None,
    temperature: Noise | Sequence[Noise] = 0.05,
    n_train: Sequence[int] | None = None,
    method: str | Method = "saddle",
    *,
    memory: str | float | None = None,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
) -> LearningCurve:
    """Errors for every width (hidden layers all that wide), temperature and training-set size.

    ``widths=None`` keeps the network's own, ``n_train=None`` the whole training set; a size takes the first points.
    method: a name ("saddle", "integrate", "infinite", "neuron", "sample", "train") or a method with its settings, such
    as ``fw.Saddle(closure="product")`` or ``fw.Sample(draws=200)``. What rows have in common is computed once: one
    factorisation serves all widths and temperatures of a theory (in the nested closure of deep networks, the scan).
    memory: cap, bytes or "8GB". progress: a bar on stderr. checkpoint: a folder where long runs are saved, and from
    which the same call goes on. Interrupted (Ctrl-C), sampling and training give the rows so far, ``complete=False``.
    Rows of theories have a ``validity`` where there are at most 12 of them: a second or so each, when first read.

    Raises InputError for widths, temperatures or sizes that cannot be, MemoryCapError above ``memory``, and
    TimeCapError above ``fw.time_limit``.
    """
    job = Job.of(network, temperature, method, widths, n_train, memory=memory, progress=progress, checkpoint=checkpoint)
    return curve_of(job, train, test)


def curve_of(job: Job, train: Dataset, test: Dataset) -> LearningCurve:
    rows = list(job.rows(train, test))
    planned = len(job.problems) * len(job.sizes or [0])
    if planned > _ASSESSED:
        rows = [without_validity(row) for row in rows]
    return LearningCurve(tuple(rows), len(rows) == planned and all(row.complete for row in rows))
