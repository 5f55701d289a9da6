"""What studies share: theory and samples of one network over widths, and the rows, curves and stops made of them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finitewidth import sampling
from finitewidth.curves import learning_curve
from finitewidth.inference.likelihoods import Gaussian
from finitewidth.inference.methods import Row, as_in_theory
from finitewidth.jobs import solve, theory_of
from finitewidth.networks import Network
from finitewidth.report.findings import Bar, Cell, QMatrix, Series, Table
from finitewidth.sampling import Draws, SampledRow, sample
from finitewidth.studies.study import Work
from finitewidth.theory.validated import applies
from finitewidth.theory.validity import validity

Array = np.ndarray


@dataclass(frozen=True)
class Sampled:
    """One sampled network: its errors, and its order parameter with standard errors, both flat."""

    row: SampledRow
    q: Array
    q_se: Array
    draws: Draws

    @property
    def width(self) -> int:
        """Neurons, or channels, of every hidden layer."""
        return _width(self.row)


@dataclass(frozen=True)
class Pair:
    """A network at one temperature: theory over the plan's widths, its infinite limit, samples at some widths."""

    name: str
    network: Network
    temperature: float
    theory: tuple[Row, ...]
    limit: Row
    sampled: tuple[Sampled, ...]

    @property
    def widths(self) -> tuple[int, ...]:
        """Where the theory is solved."""
        return tuple(map(_width, self.theory))

    @property
    def narrowest(self) -> Sampled:
        """The narrowest sampled network, farthest from the limit."""
        return min(self.sampled, key=lambda s: s.width)

    def at(self, width: int) -> Row:
        """The theory's row of a width."""
        return next(row for row in self.theory if row.width == width)


def _width(row: Row | SampledRow) -> int:
    return row.width if isinstance(row.width, int) else row.width[0]


def pair(work: Work, name: str, network: Network, temperature: float, sampling: bool = True) -> Pair:
    """Solve a network at every planned width, and sample it at the planned ones."""
    plan = work.plan
    widths = sorted({*plan.widths, *plan.sampled})
    work.say(f"Solving: {name}, T = {temperature:g}")
    theory = learning_curve(network, work.train, work.test, widths, temperature)
    limit = learning_curve(network, work.train, work.test, None, temperature, method="infinite")[0]
    draws = tuple(draw(work, name, network.with_width(w), temperature) for w in plan.sampled) if sampling else ()
    return Pair(name, network, temperature, theory.rows, limit, draws)


def draw(work: Work, name: str, network: Network, temperature: float, data: tuple[Any, Any] | None = None) -> Sampled:
    """Sample one network; its checkpoint is named after all three, so that an interrupted study goes on."""
    plan = work.plan
    train, test = data or (work.train, work.test)
    place = f"{name}-{'-'.join(map(str, network.widths))}-T{temperature:g}".replace(" ", "-")
    work.checkpoints.mkdir(exist_ok=True)
    work.say(f"Sampling: {name}, width {network.widths[0]}, T = {temperature:g}")
    started = time.perf_counter()
    with work.jobs.one():
        draws = sample(
            network,
            train,
            test,
            temperature,
            chains=plan.chains,
            draws=plan.draws,
            warmup=plan.warmup,
            seed=plan.seed,
            checkpoint=work.checkpoints / f"{place}.npz",
        )
    if not draws.complete:  # the checkpoint is written: the same command goes on
        raise KeyboardInterrupt
    solution = sampling.Sampled(network, Gaussian(temperature), train, draws, test.x)
    row = solution.row(test, time.perf_counter() - started)
    error = as_in_theory(draws.observable("order_parameter").standard_error, network, train)
    return Sampled(row, solution.order_parameters, error, draws)


# --- numbers ----------------------------------------------------------------------------------------------------------


def correlation(theory: Array, sampled: Array, error: Array, seed: int = 0) -> tuple[float, float]:
    """Pearson's correlation of two sets of entries, and its standard error from the errors of the sampled ones.

    The error is the spread over 500 sets redrawn within their errors; it says how well the samples know the
    correlation, not how it would vary over data. NaN for fewer than three entries.
    """
    if len(theory) < 3 or np.ptp(theory) == 0.0 or np.ptp(sampled) == 0.0:
        return math.nan, math.nan
    rng = np.random.default_rng(seed)
    redrawn = sampled + error * rng.standard_normal((500, len(sampled)))
    spread = np.std([np.corrcoef(theory, values)[0, 1] for values in redrawn], ddof=1)
    return float(np.corrcoef(theory, sampled)[0, 1]), float(spread)


def upper(matrix: Array) -> Array:
    """Entries i <= j of a flat square matrix: those that a symmetric one is free to choose."""
    size = math.isqrt(len(matrix))
    return matrix.reshape(size, size)[np.triu_indices(size)]


def square(q: Sequence[float], diagonal: bool = False) -> tuple[tuple[float, ...], ...]:
    """Flat order parameters as a matrix; ``diagonal``: one number a patch."""
    flat = np.asarray(q, dtype=float)
    size = math.isqrt(len(flat))
    matrix = np.diag(flat) if diagonal or size * size != len(flat) else flat.reshape(size, size)
    return tuple(tuple(map(float, row)) for row in matrix)


# --- what is shown ----------------------------------------------------------------------------------------------------


def curves(found: Iterable[Pair], quantity: str) -> tuple[Series, ...]:
    """Theory, limit and samples of each pair against width."""
    series: list[Series] = []
    for colour, one in enumerate(found):
        x = tuple(map(float, one.widths))
        series.append(Series(f"{one.name}, theory", "line", colour, x, tuple(_value(r, quantity) for r in one.theory)))
        limit = getattr(one.limit, quantity)
        series.append(Series(f"{one.name}, infinite width", "limit", colour, (x[0], x[-1]), (limit, limit)))
        if one.sampled:
            rows = [s.row for s in one.sampled]
            series.append(
                Series(
                    f"{one.name}, sampled",
                    "points",
                    colour,
                    tuple(float(s.width) for s in one.sampled),
                    tuple(getattr(row, quantity) for row in rows),
                    tuple(getattr(row, f"{quantity}_se") for row in rows),
                )
            )
    return tuple(series)


def _value(row: Row, quantity: str) -> float | None:
    value: float | None = getattr(row, quantity) if row.converged else None
    return value


COLUMNS = (
    *("network", "width", "test theory", "test sampled", "infinite width", "bias sampled", "variance sampled"),
    *("train theory", "train sampled", "R-hat"),
)


def error_table(found: Iterable[Pair], title: str) -> Table:
    """One line a sampled network: theory, sample and limit."""
    rows: list[tuple[Cell, ...]] = []
    for one in found:
        for sampled in one.sampled:
            s, t = sampled.row, one.at(sampled.width)
            rows.append(
                (
                    *(one.name, sampled.width, _value(t, "test_error"), (s.test_error, s.test_error_se)),
                    *(one.limit.test_error, (s.bias, s.bias_se), (s.variance, s.variance_se)),
                    *(_value(t, "train_error"), (s.train_error, s.train_error_se), s.r_hat),
                )
            )
    return Table(title, COLUMNS, tuple(rows))


def bars(one: Pair, width: int) -> tuple[Bar, ...]:
    """Infinite width, theory, and the sample where there is one."""
    theory = one.at(width)
    found = [Bar(f"{one.name}, infinite width", one.limit.bias, one.limit.variance)]
    found.append(Bar(f"{one.name}, theory", _value(theory, "bias"), _value(theory, "variance")))
    for s in one.sampled:
        if s.width == width:
            found.append(Bar(f"{one.name}, sampled", s.row.bias, s.row.variance, s.row.test_error_se))
    return tuple(found)


def q_matrix(one: Pair, width: int) -> QMatrix:
    """The theory's Q at a width."""
    return QMatrix(one.name, square(one.at(width).order_parameters, not one.network.shares_weights))


def remarks(work: Work, found: Iterable[Pair]) -> tuple[str, ...]:
    """Samples that did not converge, theory without a result, and the validity of the theory where it is sampled."""
    lines = []
    for one in found:
        for who, rows in (("theory", one.theory), ("samples", [s.row for s in one.sampled])):
            lines += [
                f"NOT CONVERGED, what rests on it is not certain: {one.name}, width {row.width}, {who}: {row.message}"
                for row in rows
                if not row.converged
            ]
        for width in [s.width for s in one.sampled]:
            solution = solve(theory_of(one.network.with_width(width), one.temperature), work.train)
            if applies(solution):
                lines.append(f"Validity of the theory, {one.name}, width {width}: {validity(solution).statement}")
    return tuple(lines)
