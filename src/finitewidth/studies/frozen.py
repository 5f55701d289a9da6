"""Study ``frozen``, a control: the hidden layer frozen at its prior, where finite width acts without learning."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from finitewidth.networks import FullyConnected
from finitewidth.report.findings import Bar, Cell, Claim, Findings, Panel, QMatrix, Series, Stop, Table
from finitewidth.sampling.frozen import FrozenErrors, sample_frozen
from finitewidth.studies.study import FULL, Plan, Study, Work
from finitewidth.studies.theory_and_samples import Pair, bars, curves, pair, q_matrix, remarks
from finitewidth.theory.frozen import FrozenSolution, frozen

TOLERANCE = 0.1  # relative error up to which a prediction counts as right


def compute(work: Work) -> Findings:
    """Learned and frozen networks over the same widths: theory and samples of both."""
    plan, t = work.plan, work.plan.temperature
    network = FullyConnected(widths=plan.widths[0], activation=plan.activation)
    learned = pair(work, "learned", network, t)
    data = (work.train, work.test, t)
    theory = {width: frozen(network.with_width(width), *data) for width in learned.widths}
    sampled = {}
    for width in plan.sampled:
        work.say(f"Drawing: {plan.networks} frozen networks, width {width}")
        sampled[width] = sample_frozen(network.with_width(width), *data, plan.networks, plan.seed)
    return Findings(
        claims=tuple(
            claim for width in plan.sampled for claim in _claims(learned, width, theory[width], sampled[width])
        ),
        tables=(_table(learned, theory, sampled),),
        panels=(
            Panel(
                *("Test error", "width N", "test error"),
                (*curves([learned], "test_error"), *_curves(theory, sampled, "test_error")),
            ),
            Panel("Order parameter", "width N", "Q", _q_curves(learned, theory, sampled)),
        ),
        slider=tuple(_stop(learned, width, theory[width], sampled.get(width)) for width in theory),
        notes=remarks(work, [learned]),
    )


def _claims(learned: Pair, width: int, theory: FrozenSolution, drawn: FrozenErrors) -> Iterator[Claim]:
    mine = next(s.row for s in learned.sampled if s.width == width)
    for what, predicted, truth, error in (
        ("order parameter", theory.order_parameter, drawn.order_parameter, drawn.order_parameter_se),
        ("test error", theory.errors.test_error, drawn.test_error, drawn.test_error_se),
    ):
        ratio = predicted / truth
        yield Claim.below(
            f"the action without the label term gives the {what} of frozen networks within {100 * TOLERANCE:.0f} %",
            f"width {width}, |theory / sample - 1|",
            abs(ratio - 1.0),
            ratio * error / truth,
            TOLERANCE,
        )
    yield Claim.above(
        "finite width without learning raises the test error above that of infinite width",
        f"width {width}, frozen sampled - infinite",
        drawn.test_error - learned.limit.test_error,
        drawn.test_error_se,
    )
    yield Claim.above(
        "learning the hidden layer lowers the test error of a network of that width",
        f"width {width}, frozen sampled - learned sampled",
        drawn.test_error - mine.test_error,
        math.hypot(drawn.test_error_se, mine.test_error_se),
    )


def _table(learned: Pair, theory: dict[int, FrozenSolution], sampled: dict[int, FrozenErrors]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for width, drawn in sampled.items():
        mine = next(s for s in learned.sampled if s.width == width)
        predicted, found = learned.at(width), theory[width]
        rows += [
            (
                *("learned", width, predicted.order_parameters[0], (float(mine.q[0]), float(mine.q_se[0]))),
                *(predicted.test_error, (mine.row.test_error, mine.row.test_error_se)),
                *(predicted.train_error, (mine.row.train_error, mine.row.train_error_se)),
            ),
            (
                *("frozen", width, found.order_parameter, (drawn.order_parameter, drawn.order_parameter_se)),
                *(found.errors.test_error, (drawn.test_error, drawn.test_error_se)),
                *(found.errors.train_error, (drawn.train_error, drawn.train_error_se)),
            ),
        ]
    rows.append(("infinite width", None, 1.0, None, learned.limit.test_error, None, learned.limit.train_error, None))
    columns = ("hidden layer", "width", "Q theory", "Q sampled", "test theory", "test sampled")
    return Table(
        "Hidden layer learned, and frozen at its prior", (*columns, "train theory", "train sampled"), tuple(rows)
    )


def _curves(theory: dict[int, FrozenSolution], sampled: dict[int, FrozenErrors], quantity: str) -> tuple[Series, ...]:
    line = tuple(getattr(found.errors, quantity) for found in theory.values())
    return (
        Series("frozen, theory", "line", 1, tuple(map(float, theory)), line),
        Series("frozen, sampled", "points", 1, *_points(sampled, quantity)),
    )


def _q_curves(learned: Pair, theory: dict[int, FrozenSolution], sampled: dict[int, FrozenErrors]) -> tuple[Series, ...]:
    q = tuple(row.order_parameters[0] if row.converged else None for row in learned.theory)
    own = learned.sampled
    x = tuple(map(float, theory))
    return (
        Series("learned, theory", "line", 0, x, q),
        Series("learned, sampled", "points", 0, *_columns([(s.width, s.q[0], s.q_se[0]) for s in own])),
        Series("frozen, theory", "line", 1, x, tuple(found.order_parameter for found in theory.values())),
        Series("frozen, sampled", "points", 1, *_points(sampled, "order_parameter")),
    )


def _points(sampled: dict[int, FrozenErrors], quantity: str) -> tuple[tuple[float, ...], ...]:
    return _columns([(w, getattr(f, quantity), getattr(f, f"{quantity}_se")) for w, f in sampled.items()])


def _columns(rows: Sequence[Sequence[Any]]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(value) for value in column) for column in zip(*rows, strict=True))


def _stop(learned: Pair, width: int, theory: FrozenSolution, drawn: FrozenErrors | None) -> Stop:
    maps = (q_matrix(learned, width), QMatrix("frozen", ((theory.order_parameter,),)))
    found = [*bars(learned, width), Bar("frozen, theory", theory.errors.bias, theory.errors.variance)]
    if drawn is not None:
        found.append(Bar("frozen, sampled", drawn.bias, drawn.variance, drawn.test_error_se))
    return Stop(str(width), maps, tuple(found))


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
