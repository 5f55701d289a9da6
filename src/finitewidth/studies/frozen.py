"""Study ``frozen``, a control: the hidden layer frozen at its prior, where finite width acts without learning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from finitewidth.networks import FullyConnected
from finitewidth.report.findings import Claim, Findings
from finitewidth.sampling.frozen import FrozenErrors, sample_frozen
from finitewidth.studies.study import FULL, Plan, Study, Work
from finitewidth.studies.theory_and_samples import (
    Line,
    Predicted,
    difference,
    error_panel,
    error_table,
    over_widths,
    remarks,
    right,
    stops,
)
from finitewidth.theory.frozen import frozen

Q = "mean_order_parameter"


@dataclass(frozen=True)
class Frozen(FrozenErrors):
    """Errors of drawn networks, their one order parameter under the name that it has in other rows."""

    mean_order_parameter: float
    mean_order_parameter_se: float


def compute(work: Work) -> Findings:
    """Learned and frozen networks over the same widths: theory and samples of both."""
    plan, t = work.plan, work.plan.temperature
    network = FullyConnected(widths=plan.widths[0], activation=plan.activation)
    learned = over_widths(work, "learned", network, t)
    data = (work.train, work.test, t)
    control = Line("frozen", {})
    for width in learned.theory:
        solution = frozen(network.with_width(width), *data)
        control.theory[width] = Predicted(**vars(solution.errors), order_parameters=[solution.order_parameter])
    for width in plan.sampled:
        work.say(f"Drawing: {plan.networks} frozen networks, width {width}")
        drawn = sample_frozen(network.with_width(width), *data, plan.networks, plan.seed)
        control.sampled[width] = Frozen(
            **vars(drawn), **{Q: drawn.order_parameter, f"{Q}_se": drawn.order_parameter_se}
        )
    found = (learned, control)
    return Findings(
        claims=tuple(_claims(*found)),
        tables=(error_table(found, "Hidden layer learned, and frozen at its prior", Q),),
        panels=(error_panel(found, "test_error"), error_panel(found, Q, title="Order parameter")),
        slider=stops(found),
        notes=remarks(found),
    )


def _claims(learned: Line, control: Line) -> Iterator[Claim]:
    for width, theory, drawn in control.both():
        what = "the action without the label term gives the {} of frozen networks"
        yield right(what.format("order parameter"), f"width {width}", theory, drawn, Q)
        yield right(what.format("test error"), f"width {width}", theory, drawn)
        yield Claim.above(
            "finite width without learning raises the test error above that of infinite width",
            f"width {width}, frozen sampled - infinite",
            *difference(drawn, learned.limit[width]),
        )
        yield Claim.above(
            "learning the hidden layer lowers the test error of a network of that width",
            f"width {width}, frozen sampled - learned sampled",
            *difference(drawn, learned.sampled[width]),
        )


STUDY = Study(
    name="frozen",
    question=(
        "What does learning the hidden layer add, apart from what mere finite width does to networks whose hidden "
        "layer stays at its prior?"
    ),
    small=Plan(activation="relu", temperatures=(0.1,), n_train=100),
    full=replace(FULL, temperatures=(0.05,)),
    compute=compute,
    runs=lambda plan: len(plan.sampled),
)
