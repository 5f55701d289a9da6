"""What studies share: lines of theory and samples, and the claims, curves, tables and slider made of them.

A row is anything with errors, of theory (then it may say that it did not converge) or of samples (then every number has
its standard error beside it, ``_se``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from finitewidth import sampling
from finitewidth.curves import learning_curve
from finitewidth.inference.likelihoods import Gaussian
from finitewidth.inference.methods import as_in_theory
from finitewidth.inference.prediction import Errors
from finitewidth.jobs.job import solve, theory_of
from finitewidth.networks import Network
from finitewidth.report.findings import Bar, Cell, Claim, Panel, QMatrix, Series, Stop, Table
from finitewidth.sampling import Draws, SampledRow, sample
from finitewidth.studies.study import Work
from finitewidth.theory.validated import applies
from finitewidth.theory.validity import validity

Array = np.ndarray
TOLERANCE = 0.1  # relative error up to which a prediction counts as right
AGREEMENT = 0.95  # correlation of entries above which theory and samples agree


@dataclass(frozen=True)
class Predicted(Errors):
    """A row of theory; order_parameters: flat."""

    order_parameters: list[float]
    converged: bool = True
    message: str = ""

    @property
    def mean_order_parameter(self) -> float:
        """Of all of them."""
        return float(np.mean(self.order_parameters))


@dataclass(frozen=True)
class Sampled(SampledRow):
    """One sampled network: its row, the standard errors of its order parameters (flat), and all draws."""

    q_se: Array
    run: Draws

    @property
    def q(self) -> Array:
        """Order parameters, flat."""
        return np.array(self.order_parameters)

    @property
    def mean_order_parameter(self) -> float:
        """Of all of them."""
        return float(self.q.mean())

    @property
    def mean_order_parameter_se(self) -> float:
        """Of independent ones."""
        return float(np.linalg.norm(self.q_se)) / len(self.q_se)


@dataclass(frozen=True)
class Line:
    """Rows by their place along x, mostly the width: theory, samples where there are some, the limit of infinite width.

    diagonal: whether order parameters are the diagonal of Q, one a patch or layer. validity: of the theory.
    """

    name: str
    theory: dict[Any, Any]
    sampled: dict[Any, Any] = field(default_factory=dict)
    limit: dict[Any, Any] = field(default_factory=dict)
    diagonal: bool = False
    limit_name: str = "infinite width"
    validity: tuple[str, ...] = ()

    @property
    def narrowest(self) -> int:
        """The smallest sampled width, farthest from the limit."""
        return min(self.sampled)

    def called(self, what: str) -> str:
        """The name of one of its parts."""
        return f"{self.name}, {what}" if self.name else what

    def parts(self) -> Iterator[tuple[str, str, dict[Any, Any]]]:
        """Name, kind (as of a ``Series``) and rows of each."""
        yield self.limit_name, "limit", self.limit
        yield "theory", "line", self.theory
        yield "sampled", "points", self.sampled

    def both(self) -> Iterator[tuple[Any, Any, Any]]:
        """Place, theory and sample where there are both."""
        for x, sampled in self.sampled.items():
            yield x, self.theory[x], sampled


def over_widths(work: Work, name: str, network: Network, temperature: float, sampling: bool = True) -> Line:
    """Solve a network at every planned width, and sample it at the planned ones."""
    plan = work.plan
    widths = sorted({*plan.widths, *plan.sampled})
    work.say(f"Solving: {name}, T = {temperature:g}")
    theory = learning_curve(network, work.train, work.test, widths, temperature)
    limit = learning_curve(network, work.train, work.test, None, temperature, method="infinite")[0]
    networks = {width: network.with_width(width) for width in plan.sampled} if sampling else {}
    return Line(
        name,
        dict(zip(widths, theory, strict=True)),
        {width: draw(work, name, one, temperature) for width, one in networks.items()},
        dict.fromkeys(widths, limit),
        not network.shares_weights,
        validity=tuple(line for width, one in networks.items() for line in _validity(work, name, one, temperature)),
    )


def _validity(work: Work, name: str, network: Network, temperature: float) -> Iterator[str]:
    solution = solve(theory_of(network, temperature), work.train)
    if applies(solution):
        yield f"Validity of the theory, {name}, width {network.widths[0]}: {validity(solution, work.test).statement}"


def draw(work: Work, name: str, network: Network, temperature: float) -> Sampled:
    """Sample one network; its checkpoint is named after all three, so that an interrupted study goes on."""
    plan, train, test = work.plan, work.train, work.test
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
            checkpoint=work.checkpoint(name, "-".join(map(str, network.widths)), f"T{temperature:g}"),
        )
    solution = sampling.Sampled(network, Gaussian(temperature), train, whole(draws), test.x)
    row = solution.row(test, time.perf_counter() - started)
    error = as_in_theory(draws.observable("order_parameter").standard_error, network, train)
    return Sampled(**vars(row), q_se=np.ravel(error), run=draws)


def whole(run: Any) -> Any:
    """What was sampled or trained; KeyboardInterrupt where it was cut short: the same command goes on."""
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


def along(predicted: Array, sampled: Array, error: Array) -> tuple[float, float]:
    """Sampled entries projected on the direction of the predicted ones; NaN where those are zero."""
    norm = float(np.linalg.norm(predicted))
    if norm == 0.0:
        return math.nan, math.nan
    return float(predicted @ sampled) / norm, float(np.linalg.norm(predicted * error)) / norm


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


def upper(matrix: Array, above: int = 0) -> Array:
    """Entries i <= j of a flat square matrix, those that a symmetric one is free to choose; above=1: those i < j."""
    size = math.isqrt(len(matrix))
    return matrix.reshape(size, size)[np.triu_indices(size, above)]


def free_entries(one: Line, width: int) -> tuple[Array, Array, Array]:
    """Q - 1 of the theory, of the samples, and the errors of the latter: the entries that are free.

    Infinite width is taken off: beside its ones and zeros any two matrices would look alike.
    """
    sampled = one.sampled[width]
    q, s, se = np.array(one.theory[width].order_parameters), sampled.q, sampled.q_se
    if len(q) == 1 or one.diagonal:
        return q - 1.0, s - 1.0, se
    identity = np.eye(math.isqrt(len(q))).ravel()
    return upper(q - identity), upper(s - identity), upper(se)


# --- what is shown ----------------------------------------------------------------------------------------------------


def right(what: str, where: str, theory: Any, sampled: Any, quantity: str = "test_error") -> Claim:
    """The claim that the theory gives a quantity within the tolerance."""
    return Claim.below(
        f"{what} within {100 * TOLERANCE:.0f} %",
        f"{where}, |theory / sample - 1|",
        *off(theory, sampled, quantity),
        TOLERANCE,
    )


def error_panel(
    found: Iterable[Line], quantity: str, *more: Series, title: str = "", x: str = "width N", log_x: bool = True
) -> Panel:
    """A quantity along x: theory, limit and samples of each line, and more curves."""
    series: list[Series] = []
    for colour, one in enumerate(found):
        for what, kind, rows in one.parts():
            series.append(Series.of(one.called(what), kind, colour, rows, quantity))
    shown = (curve for curve in (*series, *more) if any(y is not None for y in curve.y))
    words = quantity.replace("_", " ")
    return Panel(title or words.capitalize(), x, words, tuple(shown), log_x=log_x)


def entries_panel(series: Iterable[Series], what: str = "Q - 1", title: str = "Entries of Q - 1") -> Panel:
    """Sampled entries against predicted ones."""
    return Panel(title, f"{what}, theory", f"{what}, sampled", tuple(series), log_x=False, diagonal=True)


def marks(name: str, colour: int, *parts: Iterable[float]) -> Series:
    """Sampled numbers: places along x, values, standard errors."""
    x, y, se = (tuple(map(float, part)) for part in parts)
    return Series(name, "points", colour, x, y, se)


def error_table(found: Iterable[Line], title: str, *more: str, x: str = "width") -> Table:
    """One row a sample: theory, sample and limit. more: further quantities, of theory and sample."""
    rows: list[tuple[Cell, ...]] = []
    quantities = ("test_error", "train_error", *more)
    found = list(found)
    for one in found:
        for place, t, s in one.both():
            theory = {name: getattr(t, name) if t.converged else None for name in quantities}
            pairs = [cell for name in quantities for cell in (theory[name], measured(s, name))]
            limit = one.limit[place].test_error if one.limit else None
            parts = limit, measured(s, "bias"), measured(s, "variance"), getattr(s, "r_hat", None)
            rows.append((one.name, place, *pairs, *parts))
    names = [name.removesuffix("_error").replace("_", " ") for name in quantities]
    columns = [f"{name} {side}" for name in names for side in ("theory", "sampled")]
    return Table(
        title,
        ("network", x, *columns, found[0].limit_name, "bias sampled", "variance sampled", "R-hat"),
        tuple(rows),
    )


def stops(found: Iterable[Line]) -> tuple[Stop, ...]:
    """One stop a place along x: Q and the bars of every line of which the theory converged there."""
    found = list(found)
    shown = {x: [one for one in found if x not in one.theory or one.theory[x].converged] for x in found[0].theory}
    return tuple(
        Stop(
            f"{x:g}",
            tuple(QMatrix(o.name, square(o.theory[x].order_parameters, o.diagonal)) for o in lines if o.theory),
            tuple(bar for one in lines for bar in bars(one, x)),
        )
        for x, lines in shown.items()
        if any(one.theory for one in lines)
    )


def bars(one: Line, x: Any) -> Iterator[Bar]:
    """Infinite width, theory, and the sample, as far as there are any."""
    for what, _, rows in one.parts():
        if x in rows:
            yield Bar.of(one.called(what), rows[x])


def square(q: Sequence[float], diagonal: bool = False) -> tuple[tuple[float, ...], ...]:
    """Flat order parameters as a matrix; ``diagonal``: one number a patch."""
    flat = np.asarray(q, dtype=float)
    size = math.isqrt(len(flat))
    matrix = np.diag(flat) if diagonal or size * size != len(flat) else flat.reshape(size, size)
    return tuple(tuple(map(float, row)) for row in matrix)


def not_converged(where: str, row: Any) -> Iterator[str]:
    """What to know of a row that did not converge."""
    if not getattr(row, "converged", True):
        yield f"NOT CONVERGED, what rests on it is not certain: {where}: {row.message}"


def remarks(found: Iterable[Line], x: str = "width") -> tuple[str, ...]:
    """What did not converge, and the validity of the theory."""
    lines: list[str] = []
    for one in found:
        for who, rows in (("theory", one.theory), ("samples", one.sampled)):
            for place, row in rows.items():
                lines += not_converged(f"{one.name}, {x} {place}, {who}", row)
        lines += one.validity
    return tuple(lines)
