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
from finitewidth.report.findings import Cell, Claim, Findings, Panel, Series, Table
from finitewidth.studies.fc_width import stops
from finitewidth.studies.study import FULL, Plan, Study, Work
from finitewidth.studies.theory_and_samples import Pair, Sampled, correlation, curves, error_table, pair, remarks, upper

AGREEMENT = 0.95  # correlation of the entries of Q above which theory and samples agree


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
    found = {name: pair(work, name, network, work.plan.temperature) for name, network in networks(work.plan).items()}
    pairs = list(found.values())
    return Findings(
        claims=(*_agreement(found["locally connected"]), *_agreement(found["convolutional"]), *_learned(found)),
        tables=(
            error_table(pairs, "The same data, three architectures: theory beside samples"),
            _gains(pairs),
            _order_parameters(pairs),
        ),
        panels=(
            Panel("Test error", "width N", "test error", curves(pairs, "test_error")),
            Panel("Bias", "width N", "bias", curves(pairs, "bias")),
            _scatter(pairs),
        ),
        slider=stops(pairs),
        notes=remarks(work, pairs),
    )


def entries(one: Pair, sampled: Sampled) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Q - 1 of the theory, of the samples, and the errors of the latter: the entries that are free.

    Infinite width is taken off: beside its ones and zeros any two matrices would look alike.
    """
    q, s, se = np.array(one.at(sampled.width).order_parameters), sampled.q, sampled.q_se
    if not (one.network.patched and one.network.shares_weights):
        return q - 1.0, s - 1.0, se
    identity = np.eye(math.isqrt(len(q))).ravel()
    return upper(q - identity), upper(s - identity), upper(se)


def _agreement(one: Pair) -> Iterator[Claim]:
    for sampled in one.sampled:
        value, error = correlation(*entries(one, sampled))
        yield Claim.above(
            f"Q of the theory and of the samples agree, correlation of the entries of Q - 1 above {AGREEMENT:g}",
            f"{one.name}, width {sampled.width}, correlation",
            value,
            error,
            AGREEMENT,
        )


def _learned(found: dict[str, Pair]) -> Iterator[Claim]:
    """What each architecture learns, at the narrowest sampled width."""
    convolutional = found["convolutional"]
    sampled = convolutional.narrowest
    width = sampled.width
    yield Claim.above(
        "the convolutional network correlates patches, along the pattern that the theory predicts",
        f"width {width}, sampled Q between patches along the predicted one",
        *_between(convolutional, sampled),
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


def _gain(one: Pair, quantity: str, sampled: Sampled | None = None) -> tuple[float, float]:
    """(limit - sample) / limit and its standard error; positive: finite width is better."""
    row, limit = (sampled or one.narrowest).row, getattr(one.limit, quantity)
    return 1.0 - getattr(row, quantity) / limit, getattr(row, f"{quantity}_se") / limit


def _between(one: Pair, sampled: Sampled) -> tuple[float, float]:
    """Sampled Q_ij, i != j, projected on the direction of the predicted ones, and its standard error."""
    predicted = np.array(one.at(sampled.width).order_parameters)
    size = math.isqrt(len(predicted))
    above = np.triu_indices(size, 1)
    t, s, se = (a.reshape(size, size)[above] for a in (predicted, sampled.q, sampled.q_se))
    norm = float(np.linalg.norm(t))
    if norm == 0.0:
        return math.nan, math.nan
    return float(t @ s) / norm, float(np.linalg.norm(t * se)) / norm


def _gains(found: list[Pair]) -> Table:
    quantities = ("test_error", "bias", "variance")
    rows: list[tuple[Cell, ...]] = [
        (one.name, sampled.width, *(_gain(one, q, sampled) for q in quantities))
        for one in found
        for sampled in one.sampled
    ]
    columns = ("network", "width", "gain in test error", "gain in bias", "gain in variance")
    return Table("Gain of the sampled network over infinite width, (limit - sample) / limit", columns, tuple(rows))


def _order_parameters(found: list[Pair]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for one in found:
        for sampled in one.sampled:
            t, s, se = entries(one, sampled)
            named = (one.name, sampled.width, len(t))
            mean = (float(s.mean()), float(np.linalg.norm(se)) / len(se))
            rows.append((*named, float(t.mean()), mean, correlation(t, s, se)))
    columns = ("network", "width", "entries of Q", "mean Q - 1 theory", "mean Q - 1 sampled", "correlation")
    return Table("Order parameters: theory beside samples", columns, tuple(rows))


def _scatter(found: list[Pair]) -> Panel:
    series = []
    for colour, one in enumerate(found):
        parts = [entries(one, sampled) for sampled in one.sampled]
        x, y, se = (tuple(map(float, np.concatenate([p[k] for p in parts]))) for k in range(3))
        series.append(Series(one.name, "points", colour, x, y, se))
    return Panel("Entries of Q - 1", "Q - 1, theory", "Q - 1, sampled", tuple(series), log_x=False, diagonal=True)


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
