"""A few of the extreme cases of docs/testing.md, and that a wrong answer would be seen."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from decimal import Decimal

import numpy as np
import precise
import pytest
import robustness
from scipy import special

STEPS = {"temperatures": 6, "widths": 5, "conditions": 7, "scales": 9, "duplicates": 11, "activations": 13}
STEPS |= {"depths": 7, "locals_": 8, "outputs": 2}


def thinned() -> list[robustness.Case]:
    """Every few cases of each group."""
    return [
        case
        for group in robustness.GROUPS
        for case in itertools.islice(group(), 0, None, STEPS[group.__name__])
        if "L = 20" not in case.asked  # its 60 digits take seconds
    ]


@pytest.mark.parametrize("case", thinned(), ids=lambda case: f"{case.group}: {case.asked}, {case.method}")
def test_finite_and_right_or_refused(case):
    outcome = robustness.judged(case)
    assert outcome.verdict != robustness.MISS, (outcome.came, outcome.deviation)


def test_most_answers_are_right_and_not_refused():
    verdicts = [robustness.judged(case).verdict for case in robustness.widths()]
    assert verdicts.count(robustness.RIGHT) == len(verdicts)


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_wrong_answer_is_a_miss(part):
    case = next(robustness.widths())

    def wrong():
        answer, q = case.ask()
        return tuple(value * (1.0 + 1e-5 * (place == part)) for place, value in enumerate(answer)), q

    assert robustness.judged(replace(case, ask=wrong)).verdict == robustness.MISS


def test_what_is_not_finite_is_a_miss():
    case = next(robustness.widths())
    assert robustness.judged(replace(case, ask=lambda: ((math.nan, 0.0, 0.0), ""))).verdict == robustness.MISS


# --- the second route itself, where it is known otherwise -------------------------------------------------------------


def test_functions_in_60_digits():
    assert float(precise.PI) == math.pi
    for x in (-1.0, -0.3, 0.0, 1e-9, 0.7, 0.999999, 1.0):
        assert float(precise.arcsin(Decimal(x))) == pytest.approx(math.asin(x), rel=1e-15, abs=1e-300)
    for a in (0.5, 1.0, 3.5, 40.0, 1e6):
        assert float(precise.log_gamma(Decimal(a))) == pytest.approx(float(special.gammaln(a)), rel=1e-13, abs=1e-13)


@pytest.mark.parametrize("activation", sorted(precise.duals()))
def test_duals_against_sampling(activation):
    """Two Gaussians of given covariance, a million draws; five standard errors, and the covariance off by 0.1 fails."""
    from finitewidth.activations import activation_of

    rng = np.random.default_rng(0)
    root = np.linalg.cholesky(np.array([[1.2, 0.5], [0.5, 0.8]]))
    u, v = root @ rng.standard_normal((2, 1_000_000))
    products = activation_of(activation)(u) * activation_of(activation)(v)
    error = products.std() / 1e3
    exact, other = (float(precise.duals()[activation](*map(Decimal, ("1.2", c, "0.8")))) for c in ("0.5", "0.6"))
    assert abs(products.mean() - exact) < 5.0 * error
    assert abs(products.mean() - other) > 5.0 * error
