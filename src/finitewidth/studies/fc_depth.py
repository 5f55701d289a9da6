"""Study ``fc-depth``: one to four hidden layers, both closures of the theory beside samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from finitewidth.curves import learning_curve
from finitewidth.inference.methods import Row
from finitewidth.networks import FullyConnected
from finitewidth.report.findings import Bar, Cell, Claim, Findings, Panel, QMatrix, Series, Stop, Table
from finitewidth.sampling import SampledRow
from finitewidth.studies.study import Plan, Study, Work
from finitewidth.studies.theory_and_samples import draw
from finitewidth.theory import Saddle

CLOSURES = ("nested", "product")
Found = dict[int, tuple[dict[str, Row], Row, SampledRow]]  # by depth: closures, limit, sample


def compute(work: Work) -> Findings:
    """Every depth at the first sampled width."""
    plan, found = work.plan, Found()
    width, t = plan.sampled[0], plan.temperature
    for depth in plan.depths:
        work.say(f"Solving: {depth} hidden layers")
        network = FullyConnected(widths=(width,) * depth, activation=plan.activation)
        data = (network, work.train, work.test, None, t)
        closures = {closure: learning_curve(*data, method=Saddle(closure))[0] for closure in CLOSURES}
        limit = learning_curve(*data, method="infinite")[0]
        found[depth] = closures, limit, draw(work, f"fully connected L={depth}", network, t).row
    return Findings(
        claims=tuple(_claims(found)),
        tables=(_table(found, width),),
        panels=tuple(_panel(found, what) for what in ("test", "train")),
        slider=tuple(_stop(depth, *parts) for depth, parts in found.items()),
        slider_label="hidden layers",
        notes=tuple(_notes(found)),
    )


def _distance(row: Row, sampled: SampledRow) -> tuple[float, float]:
    """|theory / sample - 1| of the test error, and its standard error."""
    ratio = row.test_error / sampled.test_error
    return abs(ratio - 1.0), ratio * sampled.test_error_se / sampled.test_error


def _farther(one: float, other: float, sampled: float, error: float) -> tuple[float, float]:
    """|one / sampled - 1| - |other / sampled - 1| and its standard error: both hang on the same sample."""
    value = abs(one / sampled - 1.0) - abs(other / sampled - 1.0)
    slope = (math.copysign(one, one - sampled) - math.copysign(other, other - sampled)) / sampled**2
    return value, abs(slope) * error


def _claims(found: Found) -> Iterator[Claim]:
    for depth, (closures, _, sampled) in found.items():
        if depth == 1:
            continue
        nested, product = (closures[c].test_error for c in CLOSURES)
        yield Claim.above(
            f"the nested closure is nearer to the sampled network than the product closure at L = {depth}",
            "relative distance of product - that of nested",
            *_farther(product, nested, sampled.test_error, sampled.test_error_se),
        )
    first, last = min(found), max(found)
    if first != last:
        shallow, deep = (_distance(found[depth][0]["nested"], found[depth][2]) for depth in (first, last))
        yield Claim.above(
            f"the theory departs from the samples with depth (nested, L = {last} against L = {first})",
            "difference of the relative distances",
            deep[0] - shallow[0],
            math.hypot(shallow[1], deep[1]),
        )


def _table(found: Found, width: int) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for depth, (closures, limit, s) in found.items():
        theory = [closures[c].test_error if closures[c].converged else None for c in CLOSURES]
        train = [closures[c].train_error if closures[c].converged else None for c in CLOSURES]
        rows.append(
            (
                *(depth, *theory, (s.test_error, s.test_error_se), limit.test_error),
                *(*train, (s.train_error, s.train_error_se), s.r_hat),
            )
        )
    columns = ("hidden layers", "test nested", "test product", "test sampled", "infinite width")
    train_columns = ("train nested", "train product", "train sampled", "R-hat")
    return Table(
        f"Every hidden layer {width} wide: both closures beside samples", (*columns, *train_columns), tuple(rows)
    )


def _panel(found: Found, what: str) -> Panel:
    x, name = tuple(map(float, found)), f"{what}_error"

    def line(of: Callable[[tuple[dict[str, Row], Row, SampledRow]], Row]) -> tuple[float | None, ...]:
        rows = [of(parts) for parts in found.values()]
        return tuple(getattr(row, name) if row.converged else None for row in rows)

    sampled = [parts[2] for parts in found.values()]
    series = (
        Series("nested", "line", 0, x, line(lambda parts: parts[0]["nested"])),
        Series("product", "line", 1, x, line(lambda parts: parts[0]["product"])),
        Series("infinite width", "limit", 2, x, line(lambda parts: parts[1])),
        Series(
            *("sampled", "points", 6, x),
            tuple(getattr(row, name) for row in sampled),
            tuple(getattr(row, f"{name}_se") for row in sampled),
        ),
    )
    return Panel(f"{what.capitalize()} error", "hidden layers L", f"{what} error", series, log_x=False)


def _stop(depth: int, closures: dict[str, Row], limit: Row, sampled: SampledRow) -> Stop:
    maps = tuple(QMatrix(f"{c}, Q of each layer", (tuple(closures[c].order_parameters),)) for c in CLOSURES)
    theory = tuple(Bar(c, closures[c].bias, closures[c].variance) for c in CLOSURES)
    sample = Bar("sampled", sampled.bias, sampled.variance, sampled.test_error_se)
    return Stop(str(depth), maps, (Bar("infinite width", limit.bias, limit.variance), *theory, sample))


def _notes(found: Found) -> Iterator[str]:
    for depth, (closures, _, sampled) in found.items():
        rows: dict[str, Row | SampledRow] = {**closures, "the samples": sampled}
        for name, row in rows.items():
            if not row.converged:
                yield f"NOT CONVERGED, what rests on it is not certain: L = {depth}, {name}: {row.message}"


STUDY = Study(
    name="fc-depth",
    question=(
        "How does the error of a fully connected network change with its depth, and where does the theory depart from "
        "sampled networks?"
    ),
    small=Plan(n_train=60, temperatures=(0.1,), sampled=(40,), depths=(1, 2, 3, 4), draws=400),
    full=Plan(
        n_train=200, n_test=1000, temperatures=(0.05,), sampled=(200,), depths=(1, 2, 3, 4), draws=1000, warmup=500
    ),
    compute=compute,
    runs=lambda plan: len(plan.depths),
)
