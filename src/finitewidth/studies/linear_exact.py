"""Study ``linear-exact``: deep linear networks, whose posterior is an integral over one scale (Bassetti et al. 2025):
the saddle against it, and the law 1/N of their difference."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from finitewidth.curves import learning_curve
from finitewidth.networks import FullyConnected
from finitewidth.report.findings import Claim, Findings, Panel, Series
from finitewidth.studies.study import Plan, Study, Work
from finitewidth.studies.theory_and_samples import Line, difference, draw, error_table, off, remarks, stops

TOLERANCE = 0.1  # of the exponent
FAR = 32  # N / P from which the law is looked for: nearer to P the difference may still change its sign


def compute(work: Work) -> Findings:
    """The saddle and the exact integral at every depth and width; samples at one width."""
    found = [_line(work, depth) for depth in work.plan.depths]
    gaps = [[off(line.theory[n], line.limit[n])[0] for n in work.plan.widths] for line in found]
    x = tuple(map(float, work.plan.widths))
    curves = tuple(
        Series(line.name, "line", colour, x, tuple(gap))
        for colour, (line, gap) in enumerate(zip(found, gaps, strict=True))
    )
    return Findings(
        claims=tuple(c for line, gap in zip(found, gaps, strict=True) for c in _claims(line, x, gap, len(work.train))),
        tables=(error_table(found, "The saddle (theory), samples, the exact integral"),),
        panels=(Panel("Error of the saddle", "width N", "|saddle / exact - 1| of the test error", curves, log_y=True),),
        slider=stops(found),
        notes=remarks(found),
    )


def _line(work: Work, depth: int) -> Line:
    plan = work.plan
    work.say(f"Integrating: {depth} hidden layers")
    network = FullyConnected(widths=(plan.widths[0],) * depth, activation="linear")
    widths = sorted({*plan.widths, *plan.sampled})
    exact, saddle = (
        dict(
            zip(widths, learning_curve(network, work.train, work.test, widths, plan.temperature, method=m), strict=True)
        )
        for m in ("integrate", "saddle")
    )
    line = Line(f"L = {depth}", saddle, {}, exact, diagonal=True, limit_name="exact")
    for width in plan.sampled:
        line.sampled[width] = draw(work, f"linear L={depth}", network.with_width(width), plan.temperature)
    return line


def _claims(line: Line, x: tuple[float, ...], gaps: list[float], points: int) -> Iterator[Claim]:
    """That the saddle's error falls as 1/N, and that samples follow the exact integral."""
    slope, error = exponent(x, gaps, points)
    yield Claim.below(
        f"the error of the saddle falls as 1/N for {line.name}, up to {TOLERANCE:g} in the exponent",
        f"|exponent + 1| from N = 32P on, exponent {slope:.3f}",
        abs(slope + 1.0),
        error,
        TOLERANCE,
    )
    for width, sampled in line.sampled.items():
        yield Claim.equal(
            f"sampled networks follow the exact integral for {line.name}, N = {width}",
            "sampled - exact test error",
            *difference(sampled, line.limit[width]),
        )


def exponent(widths: tuple[float, ...], gaps: list[float], points: int) -> tuple[float, float]:
    """Slope of log gap in log N where N >= 32P, and its standard error; NaN for fewer than three widths there."""
    chosen = [(math.log(n), math.log(g)) for n, g in zip(widths, gaps, strict=True) if n >= FAR * points and g > 0.0]
    if len(chosen) < 3:
        return math.nan, math.nan
    x, y = np.array(chosen).T
    (slope, _), covariance = np.polyfit(x, y, 1, cov=True)
    return float(slope), float(math.sqrt(covariance[0, 0]))


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
