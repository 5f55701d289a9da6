"""Methods side by side: the same errors of the same network on the same data, by roads that share nothing above
``methods``."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from finitewidth import checks
from finitewidth.checks.exceptions import InputError
from finitewidth.data import Dataset
from finitewidth.display import Displayed, Rows, shortened
from finitewidth.inference.methods import Method, Noise, Row
from finitewidth.inference.prediction import DEVIATIONS
from finitewidth.jobs.job import Job, method_of
from finitewidth.networks import Network

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class Difference(Displayed):
    """One method minus another: in standard errors of both, and in per cent of the other.

    None where either side has no result, and in_se where neither has an error bar.
    """

    in_se: float | None
    percent: float | None

    @classmethod
    def of(cls, one: Row, other: Row, quantity: str) -> Difference:
        """Of "test_error", "train_error", "bias" or "variance"."""
        if not (one.converged and other.converged):
            return cls(None, None)
        truth = getattr(other, quantity)
        gap = getattr(one, quantity) - truth
        error = math.hypot(*(_standard_error(row, quantity) for row in (one, other)))
        return cls(gap / error if error > 0.0 else None, 100.0 * gap / truth if truth else None)


def _standard_error(row: Row, quantity: str) -> float:
    """Of a mean over draws or networks, or from the 90 % interval of method "curve"; 0 where there is none."""
    if hasattr(row, f"{quantity}_low"):
        width: float = getattr(row, f"{quantity}_high") - getattr(row, f"{quantity}_low")
        return width / (2.0 * DEVIATIONS)
    found: float = getattr(row, f"{quantity}_se", 0.0)
    return found


@dataclass(frozen=True)
class ComparedRow(Displayed):
    """One network: the row of every method, by name; the last one is what the others are compared with."""

    rows: dict[str, Row]

    @property
    def others(self) -> dict[str, Row]:
        """All but the last one."""
        return dict([*self.rows.items()][:-1])

    @property
    def theory(self) -> Row:
        """The first of two."""
        return next(iter(self.rows.values()))

    @property
    def sample(self) -> Row:
        """The last one, with which the others are compared."""
        return [*self.rows.values()][-1]

    @property
    def width(self) -> int | tuple[int, ...]:
        """Neurons of every hidden layer, or one width a layer."""
        return self.sample.width

    @property
    def temperature(self) -> float:
        """T."""
        return self.sample.temperature

    @property
    def converged(self) -> bool:
        """All have a result."""
        return all(row.converged for row in self.rows.values())

    def _facts(self) -> dict[str, Any]:
        errors = {f"{name}_test_error": row.test_error for name, row in self.rows.items()}
        percent = {f"{name}_off_by_percent": self.difference_of("test_error", name).percent for name in self.others}
        return {"width": self.width, "temperature": self.temperature} | errors | percent | {"converged": self.converged}

    @property
    def difference(self) -> Difference:
        """Of the test error of the first method."""
        return self.difference_of("test_error")

    def difference_of(self, quantity: str, name: str | None = None) -> Difference:
        """Of "test_error", "train_error", "bias" or "variance", of a method (default: the first) from the last."""
        return Difference.of(self.theory if name is None else self.rows[name], self.sample, quantity)

    def to_dict(self, plain: Callable[[Row], dict[str, Any]] = lambda row: row.to_dict()) -> dict[str, Any]:
        """Plain data: ``{"width", "theory", "sample", "difference", "train_difference", "validity"}`` of two methods.

        Of more, ``{"width", "temperature", "methods": {name: row}, "differences": {name: {"in_se", "percent"}}}``.
        """
        validity = getattr(self.theory, "validity", None)
        if len(self.rows) == 2:
            return {
                "width": self.width,
                "theory": plain(self.theory),
                "sample": plain(self.sample),
                "difference": asdict(self.difference),
                "train_difference": asdict(self.difference_of("train_error")),
                "validity": None if validity is None else asdict(validity),
            }
        return {
            "width": self.width,
            "temperature": self.temperature,
            "methods": {name: plain(row) for name, row in self.rows.items()},
            "differences": {name: asdict(self.difference_of("test_error", name)) for name in self.others},
        }


@dataclass(frozen=True)
class Comparison(Rows[ComparedRow]):
    """Rows in order: temperatures, then widths. complete: False where a run was interrupted."""

    rows: tuple[ComparedRow, ...]
    complete: bool

    def _parts(self, quick: bool) -> Iterator[RenderableType]:
        from finitewidth.display import tables

        if not self.rows:
            yield "A comparison without rows."
            return
        rows, left_out = shortened(self.rows)
        yield tables.comparison(rows, " beside ".join(self.rows[0].rows))
        yield from tables.notes([side for row in rows for side in row.rows.values()])
        yield from left_out
        if not self.complete:
            yield "Interrupted: rows are missing, or the last one has fewer draws."

    @property
    def largest_difference(self) -> float:
        """The largest difference of the test error in standard errors, sign apart; NaN where no row has a result."""
        differences = [row.difference_of("test_error", name).in_se for row in self.rows for name in row.others]
        return max((abs(d) for d in differences if d is not None), default=math.nan)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Plain data, one dictionary a row."""
        return [row.to_dict() for row in self.rows]


def compare(
    network: Network,
    train: Dataset,
    test: Dataset,
    widths: Sequence[int] | None = None,
    temperature: Noise | Sequence[Noise] = 0.05,
    methods: Sequence[str | Method] = ("saddle", "sample"),
    *,
    memory: str | float | None = None,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Comparison:
    """Every width and temperature by several methods; the last one is what the others are compared with.

    methods: names, or methods with their settings: ``("saddle", fw.Sample(draws=200))``. All else as for
    ``fw.learning_curve``. Interrupted (Ctrl-C), it returns the rows that have draws, with ``complete=False``.

    Raises InputError for what a method does not serve, before anything is solved.
    """
    if len(checks.sequence("methods", methods)) < 2:
        raise InputError(f"methods = {checks.shown(methods)}", "two of them at least", "add 'sample'")
    chosen = [method_of(method) for method in methods]
    job = Job.of(network, temperature, chosen[0], widths, memory=memory, progress=progress, checkpoint=checkpoint)
    return compared([job.by(method) for method in chosen], train, test)


def compared(jobs: Sequence[Job], train: Dataset, test: Dataset) -> Comparison:
    """The same problems by the methods of several jobs."""
    names = [job.method.name for job in jobs]
    names = [name if names.count(name) == 1 else repr(job.method) for name, job in zip(names, jobs, strict=True)]
    columns = [job.rows(train, test) for job in jobs]  # refuses what does not fit, before anything is solved
    rows = [list(column) for column in columns]
    for row in rows[0]:
        getattr(row, "validity", None)  # now: beside a sample its second is nothing
    found = [ComparedRow(dict(zip(names, group, strict=True))) for group in zip(*rows, strict=False)]
    whole = len(found) == len(jobs[0].problems) and all(row.complete for column in rows for row in column)
    return Comparison(tuple(found), whole)
