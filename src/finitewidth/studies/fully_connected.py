"""Study ``fully-connected``: error against width, temperature and depth (Pacelli et al. 2023), and a control: networks
whose hidden layer is frozen at its prior, where finite width acts without learning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from finitewidth.networks import FullyConnected
from finitewidth.report.findings import Claim, Findings
from finitewidth.sampling.frozen import sample_frozen
from finitewidth.studies.study import FULL, Plan, Study, Work
from finitewidth.studies.theory_and_samples import (
    Line,
    difference,
    error_panel,
    error_table,
    nearer,
    over_widths,
    remarks,
    right,
)
from finitewidth.theory.frozen import FrozenSolution, frozen


def compute(work: Work) -> Findings:
    """One hidden layer at every temperature; more layers at the last, the narrowest sampled; there the control too."""
    plan = work.plan
    narrow, hot = replace(work, plan=replace(plan, sampled=plan.sampled[:1])), plan.temperatures[-1]
    found = [_learned(work, 1, t) for t in plan.temperatures]
    learned = found[-1]
    found += [_learned(narrow, depth, hot) for depth in plan.depths if depth > 1]
    control, solutions = _control(work, learned, hot)
    every = (*found, control)
    return Findings(
        claims=(*(claim for one in found for claim in _claims(one)), *_of_control(learned, control, solutions)),
        tables=(error_table(every, "Fully connected networks: theory beside samples"),),
        panels=tuple(error_panel(every, quantity) for quantity in ("test_error", "train_error")),
        notes=tuple(remarks(every)),
    )


def _learned(work: Work, depth: int, temperature: float) -> Line:
    network = FullyConnected(widths=(work.plan.widths[0],) * depth, activation=work.plan.activation)
    return over_widths(work, f"L = {depth}, T = {temperature:g}", network, temperature)


def _control(work: Work, learned: Line, temperature: float) -> tuple[Line, dict[int, FrozenSolution]]:
    """Frozen networks, and their theory, at the widths of the others."""
    plan, data = work.plan, (work.train, work.test)
    network = FullyConnected(widths=plan.widths[0], activation=plan.activation)
    solutions = {width: frozen(network.with_width(width), *data, temperature) for width in learned.theory}
    errors = {width: one.errors for width, one in solutions.items()}
    line = Line(f"frozen, T = {temperature:g}", errors, limit=learned.limit)
    for width in plan.sampled:
        work.say(f"Drawing: {plan.networks} frozen networks, width {width}")
        drawn = sample_frozen(network.with_width(width), *data, temperature, plan.networks, plan.seed)
        line.sampled[width] = drawn
    return line, solutions


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


def _of_control(learned: Line, control: Line, solutions: dict[int, FrozenSolution]) -> Iterator[Claim]:
    for width, theory, drawn in control.both():
        what = "the action without the label term gives the {} of frozen networks"
        yield right(what.format("order parameter"), f"width {width}", solutions[width], drawn, "order_parameter")
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
    name="fully-connected",
    question=(
        "How do the train and test error of a fully connected network depend on its width, depth and temperature, does "
        "the theory say so, and what does learning the hidden layer add to mere finite width?"
    ),
    small=Plan(activation="relu", temperatures=(0.01, 0.1), depths=(1, 3), n_train=100),
    full=replace(FULL, temperatures=(0.01, 0.1), depths=(1, 3)),
    compute=compute,
)
