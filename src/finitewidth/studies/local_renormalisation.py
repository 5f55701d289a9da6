"""Study ``local-renormalisation``: fully connected, locally connected and convolutional networks on the same data.

Q is a scalar, one number a patch, or a matrix over pairs of patches (Aiudi et al. 2025).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from finitewidth.networks import Convolutional, FullyConnected, LocallyConnected, Network
from finitewidth.report.findings import Cell, Claim, Findings, Panel, Table
from finitewidth.studies.study import FULL, Plan, Study, Work
from finitewidth.studies.theory_and_samples import (
    AGREEMENT,
    Line,
    along,
    correlation,
    entries_panel,
    error_panel,
    error_table,
    free_entries,
    marks,
    measured,
    over_widths,
    remarks,
    stops,
    upper,
)


def networks(plan: Plan) -> dict[str, Network]:
    """The three architectures by name, same activation and priors."""
    local: dict[str, Any] = {"patch": plan.patch, "stride": plan.stride, "activation": plan.activation}
    return {
        "fully connected": FullyConnected(widths=plan.widths[0], activation=plan.activation),
        "locally connected": LocallyConnected(channels=plan.widths[0], **local),
        "convolutional": Convolutional(channels=plan.widths[0], **local),
    }


def compute(work: Work) -> Findings:
    """All three, theory beside samples: errors and order parameters."""
    found = {
        name: over_widths(work, name, network, work.plan.temperature) for name, network in networks(work.plan).items()
    }
    pairs = list(found.values())
    return Findings(
        claims=(*_agreement(found["locally connected"]), *_agreement(found["convolutional"]), *_learned(found)),
        tables=(
            error_table(pairs, "The same data, three architectures: theory beside samples"),
            _gains(pairs),
        ),
        panels=(
            error_panel(pairs, "test_error"),
            error_panel(pairs, "bias"),
            _scatter(pairs),
        ),
        slider=stops(pairs),
        notes=remarks(pairs),
    )


def _agreement(one: Line) -> Iterator[Claim]:
    for width in one.sampled:
        yield Claim.above(
            f"Q of the theory and of the samples agree, correlation of the entries of Q - 1 above {AGREEMENT:g}",
            f"{one.name}, width {width}, correlation",
            *correlation(*free_entries(one, width)),
            AGREEMENT,
        )


def _learned(found: dict[str, Line]) -> Iterator[Claim]:
    """What each architecture learns, at the narrowest sampled width."""
    convolutional = found["convolutional"]
    width = convolutional.narrowest
    theory, sampled = convolutional.theory[width], convolutional.sampled[width]
    between = (upper(part, 1) for part in (np.array(theory.order_parameters), sampled.q, sampled.q_se))
    yield Claim.above(
        "the convolutional network correlates patches, along the pattern that the theory predicts",
        f"width {width}, sampled Q between patches along the predicted one",
        *along(*between),
    )
    yield Claim.above(
        "finite width lowers the test error of the convolutional network below that of infinite width",
        f"width {width}, relative gain in test error",
        *_gain(convolutional, "test_error"),
    )
    for name in ("fully connected", "locally connected"):
        mine, other = (_gain(found[which], "test_error") for which in ("convolutional", name))
        yield Claim.above(
            f"finite width is more in favour of the convolutional network than of the {name} one",
            f"width {width}, relative gains in test error {mine[0]:.3g} and {other[0]:.3g}, difference",
            mine[0] - other[0],
            math.hypot(mine[1], other[1]),
        )
    yield Claim.above(
        "the convolutional network gains in bias over infinite width, not in variance alone",
        f"width {width}, relative gain in bias",
        *_gain(convolutional, "bias"),
    )
    yield Claim.below(
        "the fully connected network gains nothing in bias over infinite width",
        f"width {width}, relative gain in bias",
        *_gain(found["fully connected"], "bias"),
    )


def _gain(one: Line, quantity: str, width: int | None = None) -> tuple[float, float]:
    """(limit - sample) / limit and its standard error; positive: finite width is better."""
    width = width or one.narrowest
    value, error = measured(one.sampled[width], quantity)
    limit = getattr(one.limit[width], quantity)
    return 1.0 - value / limit, error / limit


def _gains(found: list[Line]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (one.name, width, *(_gain(one, quantity, width) for quantity in ("test_error", "bias", "variance")))
        for one in found
        for width in one.sampled
    ]
    columns = ("network", "width", "gain in test error", "gain in bias", "gain in variance")
    return Table("Gain of the sampled network over infinite width, (limit - sample) / limit", columns, tuple(rows))


def _scatter(found: list[Line]) -> Panel:
    series = []
    for colour, one in enumerate(found):
        parts = zip(*(free_entries(one, width) for width in one.sampled), strict=True)
        series.append(marks(one.name, colour, *map(np.concatenate, parts)))
    return entries_panel(series)


STUDY = Study(
    name="local-renormalisation",
    question=(
        "What do fully connected, locally connected and convolutional networks learn of the same data: a global scale, "
        "a scale for each patch, or a matrix over pairs of patches, and which of them gains over infinite width?"
    ),
    small=Plan(classes=(3, 8), temperatures=(0.1,), sampled=(10, 40), stride=2),
    full=replace(FULL, patch=7, stride=7, side=28),
    compute=compute,
    images=True,
    runs=lambda plan: 3 * len(plan.sampled),
)
