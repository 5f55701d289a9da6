"""Study ``fc-width``: one hidden layer, fully connected, against width and temperature (Pacelli et al. 2023)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from finitewidth.networks import FullyConnected
from finitewidth.report.findings import Claim, Findings, Panel, Stop
from finitewidth.studies.study import FULL, Plan, Study, Work
from finitewidth.studies.theory_and_samples import Pair, bars, curves, error_table, pair, q_matrix, remarks

TOLERANCE = 0.1  # relative error up to which a prediction counts as right


def compute(work: Work) -> Findings:
    """Theory, samples and the infinite-width limit at every temperature."""
    plan = work.plan
    network = FullyConnected(widths=plan.widths[0], activation=plan.activation)
    found = [pair(work, f"T = {t:g}", network, t) for t in plan.temperatures]
    return Findings(
        claims=tuple(claim for one in found for claim in _claims(one)),
        tables=(error_table(found, "Fully connected, one hidden layer: theory beside samples"),),
        panels=tuple(
            Panel(f"{what.capitalize()} error", "width N", f"{what} error", curves(found, f"{what}_error"))
            for what in ("test", "train")
        ),
        slider=stops(found),
        notes=remarks(work, found),
    )


def stops(found: Iterable[Pair]) -> tuple[Stop, ...]:
    """One stop a width: Q of every network, and the bars of all of them."""
    found = list(found)
    return tuple(
        Stop(str(w), tuple(q_matrix(one, w) for one in found), tuple(bar for one in found for bar in bars(one, w)))
        for w in found[0].widths
        if all(one.at(w).converged for one in found)
    )


def _claims(one: Pair) -> Iterable[Claim]:
    """Of the narrowest sampled network, and how far the theory is off at every sampled width."""
    first, limit, width = one.narrowest.row, one.limit, one.narrowest.width
    place = f"{one.name}, width {width}"
    change = abs(first.variance - limit.variance) - abs(first.bias - limit.bias)
    yield Claim.above(
        "finite width changes the variance of a fully connected network more than its bias",
        f"{place}, |change of variance| - |change of bias|",
        change,
        first.variance_se + first.bias_se,  # their covariance is not known: the largest that it can be
    )
    theory = one.at(width)
    nearer = abs(limit.test_error - first.test_error) - abs(theory.test_error - first.test_error)
    yield Claim.above(
        "the theory is nearer to the sampled network than the infinite-width limit is",
        f"{place}, distance of the limit - distance of the theory",
        nearer,
        2.0 * first.test_error_se,  # the largest slope of that difference in the sampled error
    )
    for sampled in one.sampled:
        row, predicted = sampled.row, one.at(sampled.width).test_error
        ratio = predicted / row.test_error
        yield Claim.below(
            f"the theory predicts the test error at width {sampled.width} within {100 * TOLERANCE:.0f} %",
            f"{one.name}, |theory / sample - 1|",
            abs(ratio - 1.0),
            ratio * row.test_error_se / row.test_error,
            TOLERANCE,
        )


STUDY = Study(
    name="fc-width",
    question=(
        "How do the train and test error of a fully connected network with one hidden layer depend on its width and on "
        "the temperature, and does one order parameter say so?"
    ),
    small=Plan(activation="relu", temperatures=(0.01, 0.1), n_train=100),
    full=replace(
        FULL,
        temperatures=(0.01, 0.1),
        widths=(50, 100, 200, 400, 800, 1600, 3200),
        sampled=(100, 400, 1600),
    ),
    compute=compute,
    runs=lambda plan: len(plan.temperatures) * len(plan.sampled),
)
