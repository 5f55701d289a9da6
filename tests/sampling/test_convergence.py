"""R-hat, effective sizes and standard errors beside ArviZ, and what is taken for agreement."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.signal import lfilter

from finitewidth.sampling.convergence import Aim, Diagnosis, diagnose, effective_size, standard_error, verdict


def chains(count: int, length: int, correlation: float, seed: int) -> np.ndarray:
    """Autoregressions of variance 1."""
    noise = np.random.default_rng(seed).standard_normal((count, length + 200)) * math.sqrt(1.0 - correlation**2)
    return lfilter([1.0], [1.0, -correlation], noise, axis=1)[:, 200:]


@pytest.mark.parametrize("seed", range(60))
def test_numbers_are_those_of_arviz(seed):
    arviz = pytest.importorskip("arviz")
    rng = np.random.default_rng(seed)
    count, length = rng.integers(1, 7), rng.integers(4, 200)
    series = 5.0 + 3.0 * chains(count, length, rng.uniform(-0.9, 0.99), seed)
    series += rng.choice([0.0, 1.0]) * rng.standard_normal((count, 1))
    if seed % 5 == 0:
        series = np.round(series, 1)  # ties
    found = diagnose(series)
    assert found.ess == pytest.approx(float(arviz.ess(series)), rel=1e-10)
    size = float(arviz.ess(series, method="mean"))
    assert found.standard_error == pytest.approx(float(arviz.mcse(series)) * math.sqrt(1.0 + 12.0 / size), rel=1e-10)
    assert found.standard_error == standard_error(series)
    if count > 1:
        assert found.r_hat == pytest.approx(float(arviz.rhat(series)), rel=1e-10)
    else:
        assert math.isnan(found.r_hat)
    assert found.relative_error == found.standard_error / abs(series.mean())


def test_independent_draws_count_in_full():
    assert effective_size(chains(4, 5000, 0.0, 0)) == pytest.approx(20000, rel=0.05)
    slow = effective_size(chains(4, 20000, 0.8, 1))
    assert slow == pytest.approx(80000 * (1.0 - 0.8) / (1.0 + 0.8), rel=0.1)


@pytest.mark.parametrize("correlation", [0.5, 0.75])
def test_chains_that_end_when_their_error_is_small_know_how_small_it_is(correlation):
    """Two hundred runs of four chains; without the factor errors are a tenth too small."""
    aim, deviation, found, plain = Aim(1 / 60, None), 0.12, [], []
    time = (1.0 + correlation) / (1.0 - correlation)
    for seed in range(200):
        series = 1.0 + deviation * chains(4, 2000, correlation, seed)
        for chunk in filter(aim.looks, itertools.count(1)):
            drawn = series[:, : 10 * chunk]
            end = diagnose(drawn)
            if end.r_hat <= end.limit and end.relative_error <= aim.accuracy:
                break
        true = deviation * math.sqrt(time / drawn.size)
        found.append(end.standard_error / true)
        halves = np.concatenate([drawn[:, : 5 * chunk], drawn[:, 5 * chunk :]])
        plain.append(drawn.std(ddof=1) / math.sqrt(effective_size(halves)) / true)
    assert 0.95 < np.median(found) < 1.05
    assert np.median(plain) < 0.95


def test_of_too_few_stuck_and_infinite_draws_nothing_is_said():
    good = chains(2, 30, 0.0, 0)
    stuck, broken = good.copy(), good.copy()
    stuck[0], broken[0, 0] = 1.0, np.inf
    for series in (good[:, :3], stuck, broken):
        assert math.isnan(diagnose(series).ess)
    assert math.isnan(standard_error(broken))
    assert standard_error(np.ones((2, 30))) == 0.0


LAWS = [(50, 0.0), (100, 0.3), (200, 0.5), (500, 0.5)]


@pytest.mark.parametrize(("length", "correlation"), LAWS)
def test_chains_that_agree_are_seldom_taken_for_others(length, correlation):
    found = [diagnose(chains(4, length, correlation, seed)) for seed in range(200)]
    assert np.mean([one.r_hat > one.limit for one in found]) <= 0.02
    # a control: the fixed limit of 1.01 refuses most short ones
    assert np.mean([one.r_hat > 1.01 for one in found]) >= (0.2 if length < 500 else 0.0)


@pytest.mark.parametrize(("length", "correlation"), LAWS)
def test_a_chain_in_another_state_is_noticed(length, correlation):
    def away(seed):
        series = chains(4, length, correlation, seed)
        series[0] += 2.0
        return series

    found = [diagnose(away(seed)) for seed in range(50)]
    assert np.mean([one.r_hat > one.limit for one in found]) >= 0.98


def test_a_limit_is_never_below_the_usual_one_nor_large():
    long, short = diagnose(chains(4, 20000, 0.0, 0)), diagnose(chains(4, 30, 0.95, 0))
    assert (long.limit, short.limit) == (1.01, 1.2)


GOOD = Diagnosis(1.02, 200.0, 0.01, 1.05, 2.0)


def test_verdicts():
    assert verdict({"test error": GOOD, "energy": GOOD}, 0, 50) == (True, "converged")
    cases = {
        "R-hat 1.060 of energy is above 1.050": (Diagnosis(1.06, 200.0, 0.01, 1.05, 2.0), None),
        "effective sample size 90 of energy is below 100": (Diagnosis(1.0, 90.0, 0.01, 1.05, 2.0), None),
        "did not move or was too short": (Diagnosis(math.nan, math.nan, math.nan), None),
        "at least two chains": (Diagnosis(math.nan, 200.0, 0.01), None),
    }
    for said, (energy, accuracy) in cases.items():
        converged, message = verdict({"test error": GOOD, "energy": energy}, 0, 50, accuracy)
        assert not converged
        assert said in message
    assert "3 divergent" in verdict({"energy": GOOD}, 3, 50)[1]


def test_verdicts_of_an_accuracy():
    few = Diagnosis(1.0, 60.0, 0.01, 1.05, 2.0)  # enough where its accuracy is what counts
    assert verdict({"test error": few, "energy": few}, 0, 50, 0.01)[0]
    assert verdict({"test error": few}, 0, 50, 0.004) == (
        False,
        "test error known to 0.5 %, 0.4 % asked for: sample longer",
    )
    fewer = Diagnosis(1.0, 40.0, 0.01, 1.05, 2.0)
    assert "below 50" in verdict({"test error": fewer, "energy": few}, 0, 50, 0.01)[1]
    assert verdict({"test error": few, "energy": fewer}, 0, 50, 0.01)[0]
