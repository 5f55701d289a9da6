"""The curve between infinite width and samples: pinned, of known slope, and with intervals that hold."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from finitewidth.curves.interpolation import Anchor, Base, log_errors

SAMPLED = json.loads(Path(__file__).with_name("sampled_curves.json").read_text())  # of docs/accuracy.md, by the sampler


def flat(slope: float, error: float = 0.01) -> Base:
    return Base(dict.fromkeys((10, 20, 40, 80, 160, 10**6), 0.0), (slope, error), 1.0)


def test_infinite_width_is_certain_and_has_the_slope():
    found = log_errors([flat(3.0)], [], [10**6], 100)
    assert found.mean[0] == pytest.approx(3e-6, rel=0.02)
    assert math.sqrt(found.covariance[0, 0]) < 1e-7


def test_goes_through_a_sample_and_is_at_least_as_certain_there():
    anchors = [Anchor(20, -0.3, 0.01)]
    found = log_errors([flat(-2.0, 5.0)], anchors, [20, 40], 100)
    deviation = np.sqrt(np.diag(found.covariance))
    assert found.mean[0] == pytest.approx(-0.3, abs=0.01)
    assert deviation[0] < 0.0101 < deviation[1]


def test_quantiles_of_a_mixture_enclose_its_mass():
    found = log_errors([flat(0.0, 1.0)], [Anchor(20, 0.1, 0.02)], [10, 40], 100)
    draws = np.random.default_rng(0)
    component = draws.choice(len(found.weights), 20_000, p=found.weights)
    deviation = np.sqrt(np.diagonal(found.covariances, axis1=1, axis2=2))
    drawn = found.means[component] + deviation[component] * draws.standard_normal((20_000, 2))
    for probability in (0.05, 0.5, 0.95):
        assert (drawn < found.quantile(probability)).mean(0) == pytest.approx(probability, abs=0.01)


def test_theory_that_explains_the_samples_is_the_one_that_is_corrected():
    right = Base({10: 1.0, 20: 0.6, 40: 0.3}, (0.0, 10.0), 0.1)
    wrong = Base(dict.fromkeys((10, 20, 40), 0.0), (0.0, 10.0), 0.9)
    found = log_errors([right, wrong], [Anchor(10, 1.0, 0.01), Anchor(40, 0.3, 0.01)], [20], 100)
    assert found.mean[0] == pytest.approx(0.6, abs=0.05)


def bases(case: dict, infinite: float = 1.0, slope: float = 1.0) -> list[Base]:
    """The action and the constant; infinite, slope: factors on what is known at infinite width."""
    limit, error = infinite * case["infinite"], case["slope_se"]
    exact, widths = slope * case["slope"], case["widths"]
    action = {width: math.log(infinite * value) for width, value in zip(widths, case["action"], strict=True)}
    constant = dict.fromkeys(widths, math.log(limit))
    missed = ((exact - case["action_slope"]) / limit, exact / limit)
    return [
        Base(values, (own, error / limit), odds)
        for values, own, odds in ((action, missed[0], 0.9), (constant, missed[1], 0.1))
    ]


def held(anchors: int, beyond: bool = False, **moved: float) -> list[bool]:
    """Whether 90 % intervals hold the sampled error, at all widths that are no anchors, for all choices of these.

    beyond: only at those that are wider than all anchors.
    """
    found = []
    for case in SAMPLED.values():
        places = range(len(case["widths"]))
        truth = np.log(case["sampled"])
        for chosen in itertools.combinations(places, anchors):
            given = [Anchor(case["widths"][k], truth[k], case["sampled_se"][k] / case["sampled"][k]) for k in chosen]
            left = [k for k in places if k not in chosen and not (beyond and k < max(chosen))]
            if left:
                mixture = log_errors(bases(case, **moved), given, [case["widths"][k] for k in left], case["n_train"])
                inside = (mixture.quantile(0.05) <= truth[left]) & (truth[left] <= mixture.quantile(0.95))
                found += inside.tolist()
    return found


@pytest.mark.parametrize("anchors", [1, 2, 3])
def test_intervals_hold_what_was_sampled(anchors):
    assert np.mean(held(anchors)) >= 0.85
    assert np.mean(held(anchors, beyond=True)) >= 0.85


@pytest.mark.parametrize("moved", [{"infinite": 0.75}, {"slope": -3.0}])
def test_intervals_break_with_a_wrong_limit_or_slope(moved):
    assert np.mean(held(3, beyond=True, **moved)) < 0.7
