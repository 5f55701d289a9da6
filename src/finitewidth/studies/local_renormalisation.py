"""Study ``local-renormalisation``: fully connected, locally connected and convolutional networks on the same data.

Q is a scalar, one number a patch, or a matrix over pairs of patches (Aiudi et al. 2025). A control: a fixed permutation
of the pixels takes from convolutional networks what makes a patch a patch; fully connected ones cannot notice it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from finitewidth.data import Dataset
from finitewidth.networks import Convolutional, FullyConnected, LocallyConnected, Network
from finitewidth.report.findings import Claim, Findings
from finitewidth.studies.study import FULL, Plan, Study, Work
from finitewidth.studies.theory_and_samples import (
    Line,
    agreement,
    difference,
    entries_panel,
    error_panel,
    error_table,
    measured,
    over_widths,
    remarks,
)

SHUFFLED = "convolutional, pixels shuffled"


def networks(plan: Plan) -> dict[str, Network]:
    """The three architectures by name, same activation and priors."""
    local: dict[str, Any] = {"patch": plan.patch, "stride": plan.stride, "activation": plan.activation}
    return {
        "fully connected": FullyConnected(widths=plan.widths[0], activation=plan.activation),
        "locally connected": LocallyConnected(channels=plan.widths[0], **local),
        "convolutional": Convolutional(channels=plan.widths[0], **local),
    }


def compute(work: Work) -> Findings:
    """All three, and the control, theory beside samples: errors and order parameters."""
    plan = work.plan
    found = {name: over_widths(work, name, network, plan.temperature) for name, network in networks(plan).items()}
    order = np.random.default_rng(plan.seed).permutation(work.train.n_inputs)
    shuffled = replace(work, train=permuted(work.train, order), test=permuted(work.test, order))
    found[SHUFFLED] = over_widths(shuffled, SHUFFLED, networks(plan)["convolutional"], plan.temperature)
    lines = list(found.values())
    local = (found["locally connected"], found["convolutional"])
    return Findings(
        claims=(
            *(agreement(one, width) for one in local for width in one.sampled),
            *_learned(found),
            *_without_neighbours(found),
        ),
        tables=(error_table(lines, "The same data, three architectures: theory beside samples"),),
        panels=(error_panel(lines, "test_error"), error_panel(lines, "bias"), entries_panel(lines[:3])),
        notes=tuple(remarks(lines)),
    )


def permuted(dataset: Dataset, order: np.ndarray) -> Dataset:
    """The same points with their pixels (channels included) in another order."""
    return dataset.with_inputs(dataset.flat[:, order].reshape(dataset.x.shape))


def _learned(found: dict[str, Line]) -> Iterator[Claim]:
    """What each architecture learns, at the narrowest sampled width."""
    convolutional = found["convolutional"]
    width = convolutional.narrowest
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


def _gain(one: Line, quantity: str) -> tuple[float, float]:
    """(limit - sample) / limit and its standard error; positive: finite width is better."""
    value, error = measured(one.sampled[one.narrowest], quantity)
    limit = getattr(one.limit[one.narrowest], quantity)
    return 1.0 - value / limit, error / limit


def _without_neighbours(found: dict[str, Line]) -> Iterator[Claim]:
    """What shuffling takes from the convolutional network; the fully connected one is as good after as before."""
    for width, before in found["convolutional"].sampled.items():
        after, other = found[SHUFFLED].sampled[width], found["fully connected"].sampled[width]
        yield Claim.above(
            "shuffling the pixels raises the test error of the convolutional network",
            f"width {width}, sampled, after - before",
            *difference(after, before),
        )
        yield Claim.above(
            "the convolutional network is better than the fully connected one",
            f"width {width}, sampled, fully connected - convolutional",
            *difference(other, before),
        )
        yield Claim.below(
            "after shuffling it is not better",
            f"width {width}, sampled, fully connected - shuffled convolutional",
            *difference(other, after),
        )


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
)
