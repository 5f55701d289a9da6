"""Study ``fc-width``: one hidden layer, fully connected, against width and temperature (Pacelli et al. 2023)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from finitewidth.networks import FullyConnected
from finitewidth.report.findings import Claim, Findings
from finitewidth.studies.study import FULL, Plan, Study, Work
from finitewidth.studies.theory_and_samples import (
    Line,
    error_panel,
    error_table,
    nearer,
    over_widths,
    remarks,
    right,
    stops,
)


def compute(work: Work) -> Findings:
    """Theory, samples and the infinite-width limit at every temperature."""
    plan = work.plan
    network = FullyConnected(widths=plan.widths[0], activation=plan.activation)
    found = [over_widths(work, f"T = {t:g}", network, t) for t in plan.temperatures]
    return Findings(
        claims=tuple(claim for one in found for claim in _claims(one)),
        tables=(error_table(found, "Fully connected, one hidden layer: theory beside samples"),),
        panels=tuple(error_panel(found, quantity) for quantity in ("test_error", "train_error")),
        slider=stops(found),
        notes=remarks(found),
    )


def _claims(one: Line) -> Iterator[Claim]:
    """Of the narrowest sampled network, and how far the theory is off at every sampled width."""
    width = one.narrowest
    first, limit = one.sampled[width], one.limit[width]
    place = f"{one.name}, width {width}"
    yield Claim.above(
        "finite width changes the variance of a fully connected network more than its bias",
        f"{place}, |change of variance| - |change of bias|",
        abs(first.variance - limit.variance) - abs(first.bias - limit.bias),
        first.variance_se + first.bias_se,  # their covariance is not known: the largest that it can be
    )
    yield Claim.above(
        "the theory is nearer to the sampled network than the infinite-width limit is",
        f"{place}, distance of the limit - distance of the theory",
        *nearer(one.theory[width], limit, first),
    )
    for width, theory, sampled in one.both():
        yield right(f"the theory predicts the test error at width {width}", one.name, theory, sampled)


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
