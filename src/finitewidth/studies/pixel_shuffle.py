"""Study ``pixel-shuffle``, a control: a fixed permutation of pixels leaves fully connected networks unchanged and takes
from convolutional ones what makes a patch a patch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from finitewidth.data import Dataset
from finitewidth.report.findings import Claim, Findings
from finitewidth.studies.local_renormalisation import networks
from finitewidth.studies.study import FULL, Plan, Study, Work
from finitewidth.studies.theory_and_samples import (
    Line,
    difference,
    error_panel,
    error_table,
    over_widths,
    remarks,
    stops,
)

EXACT = 1e-10


def compute(work: Work) -> Findings:
    """Fully connected and convolutional networks, before and after the permutation."""
    plan = work.plan
    order = np.random.default_rng(plan.seed).permutation(work.train.n_inputs)
    shuffled = replace(work, train=permuted(work.train, order), test=permuted(work.test, order))
    found = []
    for name in ("fully connected", "convolutional"):
        network = networks(plan)[name]
        sampling = name == "convolutional"  # the other one's posterior is the same by symmetry, as the theory shows
        found.append(over_widths(work, name, network, plan.temperature))
        found.append(over_widths(shuffled, f"{name}, shuffled", network, plan.temperature, sampling))
    return Findings(
        claims=tuple(_claims(found)),
        tables=(error_table(found, "Before and after the permutation: theory beside samples"),),
        panels=(error_panel(found, "test_error"), error_panel(found, "bias")),
        slider=stops(found),
        notes=remarks(found),
    )


def permuted(dataset: Dataset, order: np.ndarray) -> Dataset:
    """The same points with their pixels (channels included) in another order."""
    return dataset.with_inputs(dataset.flat[:, order].reshape(dataset.x.shape))


def largest_change(one: Line, other: Line) -> float:
    """Largest relative difference of errors and order parameters over all widths."""
    names = ("test_error", "train_error", "bias", "variance", "order_parameters")
    rows = [(row, other.theory[width]) for width, row in one.theory.items()]
    pairs = [(getattr(a, n), getattr(b, n)) for a, b in rows for n in names]
    return float(max(np.max(np.abs(np.divide(b, a) - 1.0)) for a, b in pairs))


def _claims(found: list[Line]) -> Iterator[Claim]:
    full, full_shuffled, local, local_shuffled = found
    yield Claim.below(
        "the permutation leaves the fully connected theory as it is",
        "largest relative difference of errors and Q",
        largest_change(full, full_shuffled),
        0.0,
        EXACT,
    )
    for width, before in local.sampled.items():
        after, own = local_shuffled.sampled[width], full.sampled[width]
        yield Claim.above(
            f"the permutation raises the test error of the convolutional network of width {width}",
            "sampled, after - before",
            *difference(after, before),
        )
        yield Claim.above(
            f"before it, the convolutional network of width {width} is better than the fully connected one",
            "sampled, fully connected - convolutional",
            *difference(own, before),
        )
        yield Claim.below(
            "after it, it is not better",
            f"width {width}, sampled, fully connected - shuffled convolutional",
            *difference(own, after),
        )


STUDY = Study(
    name="pixel-shuffle",
    question=(
        "Does a fixed permutation of the pixels, which a fully connected network cannot notice, take away what a "
        "convolutional network gains?"
    ),
    small=Plan(classes=(3, 8), temperatures=(0.1,), sampled=(20,), stride=2),
    full=replace(FULL, patch=7, stride=7, side=28),
    compute=compute,
    images=True,
    runs=lambda plan: 3 * len(plan.sampled),
)
