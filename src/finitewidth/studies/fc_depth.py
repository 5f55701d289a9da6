"""Study ``fc-depth``: one to four hidden layers, both closures of the theory beside samples."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from finitewidth.curves import learning_curve
from finitewidth.networks import FullyConnected
from finitewidth.report.findings import Claim, Findings
from finitewidth.studies.study import Plan, Study, Work
from finitewidth.studies.theory_and_samples import Line, draw, error_panel, error_table, measured, off, remarks, stops
from finitewidth.theory import Saddle

CLOSURES = ("nested", "product")


def compute(work: Work) -> Findings:
    """Every depth at the first sampled width."""
    plan = work.plan
    width, t = plan.sampled[0], plan.temperature
    nested, product = (Line(closure, {}, diagonal=True) for closure in CLOSURES)
    methods: tuple[str | Saddle, ...] = (*map(Saddle, CLOSURES), "infinite")
    for depth in plan.depths:
        work.say(f"Solving: {depth} hidden layers")
        network = FullyConnected(widths=(width,) * depth, activation=plan.activation)
        nested.theory[depth], product.theory[depth], nested.limit[depth] = (
            learning_curve(network, work.train, work.test, None, t, method=method)[0] for method in methods
        )
        nested.sampled[depth] = draw(work, f"fully connected L={depth}", network, t)
    x = "hidden layers"
    shown = (replace(nested, sampled={}, limit={}), product, replace(nested, name="", theory={}))
    both = (nested, replace(product, sampled=nested.sampled, limit=nested.limit))
    return Findings(
        claims=tuple(_claims(nested, product)),
        tables=(error_table(both, f"Every hidden layer {width} wide: both closures beside samples", x=x),),
        panels=tuple(
            error_panel(shown, quantity, x=f"{x} L", log_x=False) for quantity in ("test_error", "train_error")
        ),
        slider=stops(shown),
        slider_label=x,
        notes=remarks(shown, x),
    )


def _farther(one: float, other: float, sampled: float, error: float) -> tuple[float, float]:
    """|one / sampled - 1| - |other / sampled - 1| and its standard error: both hang on the same sample."""
    gap = abs(one / sampled - 1.0) - abs(other / sampled - 1.0)
    slope = (math.copysign(one, one - sampled) - math.copysign(other, other - sampled)) / sampled**2
    return gap, abs(slope) * error


def _claims(nested: Line, product: Line) -> Iterator[Claim]:
    for depth, theory, sampled in nested.both():
        if depth == 1:
            continue
        yield Claim.above(
            f"the nested closure is nearer to the sampled network than the product closure at L = {depth}",
            "relative distance of product - that of nested",
            *_farther(product.theory[depth].test_error, theory.test_error, *measured(sampled, "test_error")),
        )
    first, last = min(nested.theory), max(nested.theory)
    if first != last:
        shallow, deep = (off(nested.theory[depth], nested.sampled[depth]) for depth in (first, last))
        yield Claim.above(
            f"the theory departs from the samples with depth (nested, L = {last} against L = {first})",
            "difference of the relative distances",
            deep[0] - shallow[0],
            math.hypot(shallow[1], deep[1]),
        )


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
