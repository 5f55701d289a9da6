"""Study ``outputs``: correlations between the outputs of a network of several classes (Baglioni et al. 2025)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from finitewidth.networks import FullyConnected
from finitewidth.report.findings import Claim, Findings
from finitewidth.studies.study import FULL, Plan, Study, Work
from finitewidth.studies.theory_and_samples import (
    Line,
    agreement,
    along,
    entries,
    entries_panel,
    error_panel,
    error_table,
    over_widths,
    remarks,
    right,
)


def compute(work: Work) -> Findings:
    """Errors, and Q between outputs, which is the identity at infinite width."""
    network = FullyConnected(widths=work.plan.widths[0], activation=work.plan.activation)
    found = over_widths(work, "fully connected", network, work.plan.temperature)
    return Findings(
        claims=tuple(_claims(found)),
        tables=(error_table([found], "Several outputs: theory beside samples"),),
        panels=(error_panel([found], "test_error"), entries_panel([found])),
        notes=tuple(remarks([found])),
    )


def _claims(found: Line) -> Iterator[Claim]:
    for width, theory, sampled in found.both():
        yield agreement(found, width)
        yield Claim.above(
            "the outputs of a finite network are correlated, as the theory predicts (independent at infinite width)",
            f"width {width}, sampled Q between outputs along the predicted one",
            *along(*entries(found, width, between=True)),
        )
        yield right("the theory predicts the test error", f"width {width}", theory, sampled)


STUDY = Study(
    name="outputs",
    question="How are the outputs of a finite network of several classes correlated, and does the theory predict it?",
    small=Plan(classes=(3, 5, 8, 9), temperatures=(0.1,), sampled=(20, 80)),
    full=replace(FULL, classes=(0, 1, 2), n_train=300, temperatures=(0.05,)),
    compute=compute,
    outputs="several",
)
