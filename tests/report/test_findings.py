"""Claims are decided at three standard errors."""

from __future__ import annotations

import math

import pytest

from finitewidth.report.findings import Claim, Findings, Panel, Series, Table

FINDINGS = Findings(
    claims=(Claim.above("wider is worse", "difference", 0.5, 0.1),),
    tables=(Table("errors", ("network", "width", "test error"), (("fc", 20, (0.1, 0.01)), ("fc", None, math.nan))),),
    panels=(
        Panel(
            "Test error",
            "width N",
            "test error",
            (
                Series("theory", "line", 0, (10.0, 20.0, 40.0), (0.3, None, 0.2)),
                Series("sampled", "points", 0, (20.0,), (0.25,), (0.01,)),
                Series("limit", "limit", 0, (10.0, 40.0), (0.1, 0.1)),
            ),
        ),
    ),
    notes=("a note",),
)


@pytest.mark.parametrize(
    ("value", "error", "bound", "verdict"),
    [
        (0.31, 0.1, 0.0, "supported"),
        (0.29, 0.1, 0.0, "undecided"),
        (-0.31, 0.1, 0.0, "contradicted"),
        (1.31, 0.1, 1.0, "supported"),
        (1e-12, 0.0, 0.0, "supported"),  # both sides exact
        (0.0, 0.0, 0.0, "undecided"),
        (math.nan, 0.1, 0.0, "undecided"),
        (1.0, math.nan, 0.0, "undecided"),
    ],
)
def test_three_standard_errors_decide(value, error, bound, verdict):
    assert Claim.above("s", "w", value, error, bound).verdict == verdict
    opposite = {"supported": "contradicted", "contradicted": "supported", "undecided": "undecided"}
    assert Claim.below("s", "w", value, error, bound).verdict == opposite[verdict]


def test_a_contradicted_claim_says_so_plainly():
    sentence = Claim.above("wider is better", "difference", -0.5, 0.1).sentence
    assert sentence.startswith("Contradicted on these data: wider is better (difference: -0.5 ± 0.1, 5.0 standard")
