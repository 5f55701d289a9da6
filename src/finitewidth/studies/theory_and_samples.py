"""What studies share: lines of theory and samples, and the claims, curves, tables and notes made of them.

A row is anything with errors, of theory (then it may say that it did not converge) or of samples (then every number has
its standard error beside it, ``_se``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from finitewidth.curves import learning_curve
from finitewidth.inference.methods import as_in_theory
from finitewidth.jobs.job import Job
from finitewidth.networks import Network
from finitewidth.report.findings import Cell, Claim, Panel, Series, Table
from finitewidth.sampling import Sample, SampledRow
from finitewidth.studies.study import Work

Array = np.ndarray
TOLERANCE = 0.1  # relative error up to which a prediction counts as right
AGREEMENT = 0.95  # correlation of entries above which theory and samples agree


@dataclass(frozen=True)
class Sampled(SampledRow):
    """One sampled network: its row, and the standard errors of its order parameters, flat."""

    q_se: Array


@dataclass(frozen=True)
class Line:
    """Rows by their place along x, mostly the width: theory, samples, the limit of infinite width, as far as known.

    diagonal: whether order parameters are the diagonal of Q, one a patch or layer.
    """

    name: str
    theory: dict[Any, Any]
    sampled: dict[Any, Any] = field(default_factory=dict)
    limit: dict[Any, Any] = field(default_factory=dict)
    diagonal: bool = False

    @property
    def narrowest(self) -> int:
        """The smallest sampled width, farthest from the limit."""
        return min(self.sampled)

    def both(self) -> Iterator[tuple[Any, Any, Any]]:
        """Place, theory and sample where there are both."""
        for x, sampled in self.sampled.items():
            yield x, self.theory[x], sampled


def over_widths(work: Work, name: str, network: Network, temperature: float) -> Line:
    """Solve a network at every planned width, and sample it at the planned ones."""
    plan, data = work.plan, (work.train, work.test)
    widths = sorted({*plan.widths, *plan.sampled})
    work.say(f"Solving: {name}")
    theory = learning_curve(network, *data, widths, temperature)
    limit = learning_curve(network, *data, None, temperature, method="infinite")[0]
    work.say(f"Sampling: {name}")
    method = Sample(chains=plan.chains, draws=plan.draws, warmup=plan.warmup, seed=plan.seed)
    job = Job.of(network, temperature, method, plan.sampled, checkpoint=work.checkpoint(name))
    return Line(
        name,
        dict(zip(widths, theory, strict=True)),
        dict(zip(plan.sampled, _sampled(work, job), strict=True)),
        dict.fromkeys(widths, limit),
        not network.shares_weights,
    )


def _sampled(work: Work, job: Job) -> Iterator[Sampled]:
    for solution in job.solutions(work.train, work.test):
        draws = whole(solution).draws
        error = as_in_theory(draws.observable("order_parameter").standard_error, solution.network, work.train)
        yield Sampled(**vars(solution.row(work.test, 0.0)), q_se=np.ravel(error))


def whole(run: Any) -> Any:
    """What was sampled; KeyboardInterrupt where it was cut short: the same command goes on."""
    if not run.complete:
        raise KeyboardInterrupt
    return run


# --- numbers with their standard errors -------------------------------------------------------------------------------


def measured(row: Any, quantity: str) -> tuple[float, float]:
    """A number of a row and its standard error, 0 for theory."""
    return getattr(row, quantity), getattr(row, f"{quantity}_se", 0.0)


def difference(one: Any, other: Any, quantity: str = "test_error") -> tuple[float, float]:
    """One row minus another that is independent of it."""
    (a, a_error), (b, b_error) = measured(one, quantity), measured(other, quantity)
    return a - b, math.hypot(a_error, b_error)


def off(theory: Any, sampled: Any, quantity: str = "test_error") -> tuple[float, float]:
    """|theory / sample - 1|, its error from the sample's."""
    value, error = measured(sampled, quantity)
    ratio = getattr(theory, quantity) / value
    return abs(ratio - 1.0), ratio * error / value


def nearer(theory: Any, limit: Any, sampled: Any) -> tuple[float, float]:
    """Distance of the limit from the sampled test error, minus that of the theory."""
    distances = [abs(row.test_error - sampled.test_error) for row in (limit, theory)]
    return distances[0] - distances[1], 2.0 * sampled.test_error_se  # the largest slope in the sampled error


def correlation(theory: Array, sampled: Array, error: Array) -> tuple[float, float]:
    """Pearson's correlation of two sets of entries, and its standard error from the errors of the sampled ones.

    The error is the spread over 500 sets redrawn within their errors; it says how well the samples know the
    correlation, not how it would vary over data. NaN for fewer than three entries.
    """
    if len(theory) < 3 or np.ptp(theory) == 0.0 or np.ptp(sampled) == 0.0:
        return math.nan, math.nan
    rng = np.random.default_rng(0)
    redrawn = sampled + error * rng.standard_normal((500, len(sampled)))
    spread = np.std([np.corrcoef(theory, values)[0, 1] for values in redrawn], ddof=1)
    return float(np.corrcoef(theory, sampled)[0, 1]), float(spread)


def entries(one: Line, width: int) -> tuple[Array, Array, Array]:
    """Q - 1 of the theory, of the samples, and the errors of the latter: the entries that are free.

    Infinite width is taken off: beside its ones and zeros any two matrices would look alike.
    """
    row, sampled = one.theory[width], one.sampled[width]
    q, s, se = (np.array(part, dtype=float) for part in (row.order_parameters, sampled.order_parameters, sampled.q_se))
    if len(q) == 1 or one.diagonal:
        return q - 1.0, s - 1.0, se
    size = math.isqrt(len(q))
    free, identity = np.triu_indices(size), np.eye(size)
    q, s, se = (part.reshape(size, size) for part in (q, s, se))
    return (q - identity)[free], (s - identity)[free], se[free]


# --- what is shown ----------------------------------------------------------------------------------------------------


def right(what: str, where: str, theory: Any, sampled: Any, quantity: str = "test_error") -> Claim:
    """The claim that the theory gives a quantity within the tolerance."""
    return Claim.below(
        f"{what} within {100 * TOLERANCE:.0f} %",
        f"{where}, |theory / sample - 1|",
        *off(theory, sampled, quantity),
        TOLERANCE,
    )


def agreement(one: Line, width: int) -> Claim:
    """The claim that theory and samples agree in Q."""
    return Claim.above(
        f"Q of the theory and of the samples agree, correlation of the entries of Q - 1 above {AGREEMENT:g}",
        f"{one.name}, width {width}, correlation",
        *correlation(*entries(one, width)),
        AGREEMENT,
    )


def error_panel(
    found: Iterable[Line],
    quantity: str,
    *more: Series,
    title: str = "",
    x: str = "width N",
    log_x: bool = True,
) -> Panel:
    """A quantity along x: theory, limit and samples of each line, and more curves."""
    series: list[Series] = []
    for colour, one in enumerate(found):
        parts = (("infinite width", "limit", one.limit), ("theory", "line", one.theory))
        for what, kind, rows in (*parts, ("sampled", "points", one.sampled)):
            series.append(Series.of(f"{one.name}, {what}", kind, colour, rows, quantity))
    shown = (curve for curve in (*series, *more) if any(y is not None for y in curve.y))
    words = quantity.replace("_", " ")
    return Panel(title or words.capitalize(), x, words, tuple(shown), log_x)


def entries_panel(found: Iterable[Line]) -> Panel:
    """Sampled entries of Q - 1 against predicted ones, of all sampled widths."""
    series = []
    for colour, one in enumerate(found):
        of_widths = zip(*(entries(one, width) for width in one.sampled), strict=True)
        x, y, se = (tuple(map(float, np.concatenate(part))) for part in of_widths)
        series.append(Series(f"{one.name}, sampled", "points", colour, x, y, se))
    return Panel("Entries of Q - 1", "Q - 1, theory", "Q - 1, sampled", tuple(series), log_x=False, diagonal=True)


def error_table(found: Iterable[Line], title: str, *more: str, x: str = "width") -> Table:
    """One row a sample: theory, sample and limit. more: further quantities, of theory and sample."""
    rows, quantities = [], ("test_error", "train_error", *more)
    for one in found:
        for place, sampled in one.sampled.items():
            theory = one.theory.get(place)
            known = theory if getattr(theory, "converged", True) else None
            cells: list[Cell] = [one.name, place]
            for name in quantities:
                cells += [getattr(known, name, None), measured(sampled, name)]
            rows.append((*cells, one.limit[place].test_error if one.limit else None))
    names = [name.removesuffix("_error").replace("_", " ") for name in quantities]
    columns = [f"{name} {side}" for name in names for side in ("theory", "sampled")]
    return Table(title, ("network", x, *columns, "infinite width"), tuple(rows))


def remarks(found: Iterable[Line], x: str = "width") -> Iterator[str]:
    """What did not converge, and the validity of the theory where it is held to samples."""
    for one in found:
        for who, rows in (("theory", one.theory), ("sampled", one.sampled)):
            for place, row in rows.items():
                if not getattr(row, "converged", True):
                    where = f"{one.name}, {x} {place}, {who}"
                    yield f"NOT CONVERGED, what rests on it is not certain: {where}: {row.message}"
        for place in one.sampled:
            validity = getattr(one.theory.get(place), "validity", None)
            if validity is not None:
                yield f"Validity of the theory, {one.name}, {x} {place}: {validity.statement}"
