"""Theory beside sample: the same errors of the same network on the same data, by two roads that share nothing above
``prediction``."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from finitewidth import checks
from finitewidth.data import Dataset
from finitewidth.display import Displayed, Tabulated, shortened
from finitewidth.likelihoods import Gaussian
from finitewidth.linalg import memory_cap
from finitewidth.methods import Control, Problem
from finitewidth.networks import Network
from finitewidth.sampling import Sample, SampledRow
from finitewidth.theory import NeuronOptions, Solver, learning_curve
from finitewidth.theory.curves import Row


@dataclass(frozen=True)
class Difference(Displayed):
    """Theory minus sample: in standard errors of the sample, and in per cent of the sample.

    None where either side has no result, and in_se where the sample has no error bar.
    """

    in_se: float | None
    percent: float | None


@dataclass(frozen=True)
class ComparedRow(Displayed):
    """One network: the row of the theory and that of the sample."""

    theory: Row
    sample: SampledRow

    @property
    def width(self) -> int | tuple[int, ...]:
        """Neurons of every hidden layer, or one width a layer."""
        return self.theory.width

    @property
    def temperature(self) -> float:
        """T."""
        return self.theory.temperature

    @property
    def converged(self) -> bool:
        """Both sides have a result."""
        return self.theory.converged and self.sample.converged

    def _facts(self) -> dict[str, Any]:
        return {
            "width": self.width,
            "temperature": self.temperature,
            "theory_test_error": self.theory.test_error,
            "sample_test_error": self.sample.test_error,
            "sample_test_error_se": self.sample.test_error_se,
            "in_se": self.difference.in_se,
            "percent": self.difference.percent,
            "converged": self.converged,
        }

    @property
    def difference(self) -> Difference:
        """Of the test error."""
        return self.difference_of("test_error")

    def difference_of(self, quantity: str) -> Difference:
        """Of "test_error", "train_error", "bias" or "variance"."""
        if not self.converged:
            return Difference(None, None)
        truth, error = getattr(self.sample, quantity), getattr(self.sample, f"{quantity}_se")
        gap = getattr(self.theory, quantity) - truth
        return Difference(gap / error if error > 0.0 else None, 100.0 * gap / truth if truth else None)

    def to_dict(self) -> dict[str, Any]:
        """Plain data: ``{"width", "theory", "sample", "difference", "train_difference", "validity"}``."""
        return {
            "width": self.width,
            "theory": self.theory.to_dict(),
            "sample": self.sample.to_dict(),
            "difference": asdict(self.difference),
            "train_difference": asdict(self.difference_of("train_error")),
            "validity": None if self.theory.validity is None else asdict(self.theory.validity),
        }


@dataclass(frozen=True)
class Comparison(Tabulated):
    """Rows in the order asked for: temperatures, then widths. complete: False where sampling was interrupted."""

    rows: tuple[ComparedRow, ...]
    complete: bool

    def __iter__(self) -> Iterator[ComparedRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> ComparedRow:
        return self.rows[index]

    def _parts(self, quick: bool) -> Iterator[Any]:
        from finitewidth import tables

        if not self.rows:
            yield "A comparison without rows."
            return
        rows, left_out = shortened(self.rows)
        yield tables.comparison(rows, "Theory beside sample")
        yield from tables.notes([side for row in rows for side in (row.theory, row.sample)])
        yield from left_out
        if not self.complete:
            yield "Interrupted: rows are missing, or the last one has fewer draws."

    @property
    def largest_difference(self) -> float:
        """The largest difference of the test error in standard errors, sign apart; NaN where no row has a result."""
        found = [abs(row.difference.in_se) for row in self.rows if row.difference.in_se is not None]
        return max(found, default=math.nan)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Plain data, one dictionary a row."""
        return [row.to_dict() for row in self.rows]


def compare(
    network: Network,
    train: Dataset,
    test: Dataset,
    widths: Sequence[int] | None = None,
    temperature: float | Sequence[float] = 0.05,
    *,
    closure: str | None = None,
    method: str = "saddle",
    neuron: NeuronOptions | None = None,
    solver: str | Solver = "auto",
    memory: str | float | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    **sampling: Any,
) -> Comparison:
    """Predict and sample every width and temperature.

    widths .. solver: as for ``fw.learning_curve``. ``sampling``: chains, draws, warmup, seed,
    sampler, progress and the rest, as for ``fw.sample``. checkpoint: a folder with one checkpoint a run. memory: cap in
    bytes on either side. Interrupted (Ctrl-C), it returns the rows that have draws, with ``complete=False``.

    Raises InputError for what cannot be predicted or sampled, before anything is sampled.
    """
    cap = memory_cap(memory)
    folder = None if checkpoint is None else checks.path("checkpoint", checkpoint)
    control = Control(cap, bool(sampling.pop("progress", False)), folder)
    sampled = sampled_rows(network, train, test, widths, temperature, Sample(**sampling), control)
    theory: dict[str, Any] = {"closure": closure, "method": method, "neuron": neuron, "solver": solver, "assess": True}
    curve = learning_curve(network, train, test, widths, temperature, memory=cap, **theory)
    for row in curve:
        row.validity  # noqa: B018  now, for beside the sampling its second is nothing
    return Comparison(*beside(curve.rows, sampled))


def sampled_rows(
    network: Network,
    train: Dataset,
    test: Dataset,
    widths: Sequence[int] | None,
    temperature: float | Sequence[float],
    method: Sample,
    control: Control,
) -> Iterator[SampledRow]:
    """Sample every temperature and width, in the order of ``fw.learning_curve``."""
    networks = [network] if widths is None else [network.with_width(w) for w in checks.sequence("widths", widths)]
    noise = [Gaussian(t) for t in checks.one_or_more("temperature", temperature)]
    solutions = method.solutions([Problem(net, t) for t in noise for net in networks], train, test, control=control)

    def rows() -> Iterator[Any]:
        started = time.perf_counter()
        for solution in solutions:
            yield solution.row(test, time.perf_counter() - started)
            started = time.perf_counter()

    return rows()


def beside(curve: Collection[Row], sampled: Iterator[SampledRow]) -> tuple[tuple[ComparedRow, ...], bool]:
    """Rows of both, paired as far as sampling comes, and whether it came to the end."""
    rows = [ComparedRow(theory, sample) for theory, sample in zip(curve, sampled, strict=False)]
    return tuple(rows), len(rows) == len(curve) and rows[-1].sample.complete
