"""Study ``linear-exact``: deep linear networks, whose posterior is an integral over one scale (Bassetti et al. 2025):
the saddle against it, and the law 1/N of their difference."""

from __future__ import annotations

import math

import numpy as np

from finitewidth.curves import learning_curve
from finitewidth.inference.methods import Row
from finitewidth.networks import FullyConnected
from finitewidth.report.findings import Bar, Cell, Claim, Findings, Panel, QMatrix, Series, Stop, Table
from finitewidth.studies.study import Plan, Study, Work
from finitewidth.studies.theory_and_samples import draw

TOLERANCE = 0.1  # of the exponent
FAR = 32  # N / P from which the law is looked for: nearer to P the difference may still change its sign


Both = tuple[tuple[Row, ...], tuple[Row, ...]]  # the exact integral and the saddle, over widths


def compute(work: Work) -> Findings:
    """Both at every depth and width; samples beside the exact integral at one width."""
    plan = work.plan
    claims: list[Claim] = []
    series: list[Series] = []
    rows: list[tuple[Cell, ...]] = []
    both: dict[int, Both] = {}
    for colour, depth in enumerate(plan.depths):
        work.say(f"Integrating: {depth} hidden layers")
        network = FullyConnected(widths=(plan.widths[0],) * depth, activation="linear")
        both[depth] = _both(work, network, plan.widths)
        line, law = _law(work, depth, both[depth], colour)
        series.append(line)
        claims.append(law)
        for width in plan.sampled:
            row, agreement = _beside_samples(work, network.with_width(width))
            rows.append(row)
            claims.append(agreement)
    columns = ("hidden layers", "width", "exact", "saddle", "sampled", "R-hat")
    off = Panel("Error of the saddle", "width N", "|saddle / exact - 1| of the test error", tuple(series), log_y=True)
    return Findings(
        claims=tuple(claims),
        tables=(Table("Test error: exact integral, saddle, samples", columns, tuple(rows)), _gap_table(both)),
        panels=(off,),
        slider=tuple(_stop(both, k) for k in range(len(plan.widths))),
    )


def _both(work: Work, network: FullyConnected, widths: tuple[int, ...]) -> Both:
    exact, saddle = (
        learning_curve(network, work.train, work.test, widths, work.plan.temperature, method=method).rows
        for method in ("integrate", "saddle")
    )
    return exact, saddle


def _law(work: Work, depth: int, both: Both, colour: int) -> tuple[Series, Claim]:
    """How far the saddle is off against width, and that this falls as 1/N."""
    gaps = [abs(saddle.test_error / exact.test_error - 1.0) for exact, saddle in zip(*both, strict=True)]
    x = tuple(map(float, work.plan.widths))
    slope, error = exponent(x, gaps, work.train.n_points)
    law = Claim.below(
        f"the error of the saddle falls as 1/N for L = {depth}, up to {TOLERANCE:g} in the exponent",
        f"|exponent + 1| from N = 32P on, exponent {slope:.3f}",
        abs(slope + 1.0),
        error,
        TOLERANCE,
    )
    return Series(f"L = {depth}", "line", colour, x, tuple(gaps)), law


def _beside_samples(work: Work, network: FullyConnected) -> tuple[tuple[Cell, ...], Claim]:
    """Samples at one width: a row of the table, and that they follow the exact integral."""
    depth, width = network.depth, network.widths[0]
    row = draw(work, f"linear L={depth}", network, work.plan.temperature).row
    (exact,), (saddle,) = _both(work, network, (width,))
    agreement = Claim.equal(
        f"sampled networks follow the exact integral for L = {depth}, N = {width}",
        "sampled - exact test error",
        row.test_error - exact.test_error,
        row.test_error_se,
    )
    sampled = (row.test_error, row.test_error_se)
    return (depth, width, exact.test_error, saddle.test_error, sampled, row.r_hat), agreement


def exponent(widths: tuple[float, ...], gaps: list[float], points: int) -> tuple[float, float]:
    """Slope of log gap in log N where N >= 32P, and its standard error; NaN for fewer than three widths there."""
    chosen = [(math.log(n), math.log(g)) for n, g in zip(widths, gaps, strict=True) if n >= FAR * points and g > 0.0]
    if len(chosen) < 3:
        return math.nan, math.nan
    x, y = np.array(chosen).T
    (slope, _), covariance = np.polyfit(x, y, 1, cov=True)
    return float(slope), float(math.sqrt(covariance[0, 0]))


def _gap_table(both: dict[int, Both]) -> Table:
    rows = [
        (depth, a.width, a.test_error, b.test_error, 100.0 * (b.test_error / a.test_error - 1.0))
        for depth, (exact, saddle) in both.items()
        for a, b in zip(exact, saddle, strict=True)
    ]
    columns = ("hidden layers", "width", "exact", "saddle", "saddle off by %")
    return Table("Saddle against the exact integral", columns, tuple(rows))  # type: ignore[arg-type]


def _stop(both: dict[int, Both], k: int) -> Stop:
    maps, bars = [], []
    for depth, (exact, saddle) in both.items():
        scale = float(np.prod(saddle[k].order_parameters))
        maps.append(QMatrix(f"L = {depth}, product of Q", ((scale,),)))
        bars += [
            Bar(f"L = {depth}, {name}", r.bias, r.variance) for name, r in (("exact", exact[k]), ("saddle", saddle[k]))
        ]
    return Stop(str(exact[k].width), tuple(maps), tuple(bars))


STUDY = Study(
    name="linear-exact",
    question="How far is the saddle from the exact posterior of deep linear networks, and does that fall as 1/N?",
    small=Plan(
        n_train=30,
        temperatures=(0.2,),
        widths=(15, 30, 60, 120, 240, 480, 960, 1920, 3840, 7680),
        sampled=(20,),
        depths=(1, 2, 3),
        activation="linear",
    ),
    full=Plan(
        n_train=200,
        n_test=1000,
        temperatures=(0.2,),
        widths=(50, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600),
        sampled=(100,),
        depths=(1, 2, 3),
        draws=2000,
        warmup=500,
        activation="linear",
    ),
    compute=compute,
    runs=lambda plan: len(plan.depths) * len(plan.sampled),
)
