"""Theory beside sample, through the public face."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.comparison import ComparedRow, Difference
from finitewidth.documents import json_ready
from finitewidth.long_runs import carry_out

pytest.importorskip("jax")
pytest.importorskip("arviz")

LINEAR = fw.FullyConnected(widths=(5,), activation="linear")


@cache
def both_parts():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 6))
    y = x @ rng.standard_normal(6) / 2.0 + 0.4 * rng.standard_normal(40)
    return fw.Dataset(x[:12], y[:12], classes=()), fw.Dataset(x[12:], y[12:], classes=())


@pytest.fixture
def data():
    return both_parts()


@cache
def compared():
    return fw.compare(LINEAR, *both_parts(), widths=[5, 12], temperature=0.1, method="integrate", draws=500)


@pytest.fixture
def comparison():
    return compared()


@pytest.mark.statistical
def test_exact_theory_is_within_the_error_bars():
    comparison = compared()
    assert comparison.complete
    assert [row.width for row in comparison] == [5, 12]
    for row in comparison:
        assert row.converged
        for name in ("test_error", "train_error", "bias", "variance"):
            assert abs(row.difference_of(name).in_se) < 3.5, name
    assert comparison.largest_difference == max(abs(row.difference.in_se) for row in comparison)


@pytest.mark.statistical
@pytest.mark.control
def test_a_wrong_theory_is_not(data, comparison):
    """The negative control: the theory at half the temperature."""
    wrong = fw.learning_curve(LINEAR, *data, widths=[5, 12], temperature=0.05, method="integrate")
    off = [ComparedRow(theory, row.sample) for theory, row in zip(wrong, comparison, strict=True)]
    assert min(abs(row.difference_of("train_error").in_se) for row in off) > 10


def test_difference_is_theory_minus_sample(comparison):
    row = comparison[0]
    gap = row.theory.test_error - row.sample.test_error
    assert row.difference == Difference(gap / row.sample.test_error_se, 100.0 * gap / row.sample.test_error)


@pytest.mark.parametrize("side", ["theory", "sample"])
def test_no_difference_without_convergence(comparison, side):
    row = comparison[0]
    broken = replace(row, **{side: replace(getattr(row, side), converged=False)})
    assert broken.difference == Difference(None, None)
    assert math.isnan(fw.Comparison((broken,), True).largest_difference)


def test_plain_data(comparison):
    plain = json.loads(json.dumps(json_ready(comparison.to_dicts())))
    assert set(plain[0]) >= {"width", "theory", "sample", "difference"}
    assert set(plain[0]["difference"]) == {"in_se", "percent"}
    assert plain[1]["width"] == 12


def test_what_cannot_be_predicted_is_refused_before_sampling(data, monkeypatch):
    monkeypatch.setattr("finitewidth.long_runs.carry_out", lambda *_, **__: pytest.fail("sampled"))
    with pytest.raises(fw.InputError, match="closure"):
        fw.compare(LINEAR, *data, closure="nest")
    with pytest.raises(fw.MemoryCapError):
        fw.compare(LINEAR, *data, memory="1KB")


def test_an_interrupted_comparison_is_incomplete(data, monkeypatch):
    done = []

    def stopping(*arguments):
        if done:
            raise KeyboardInterrupt
        done.append(1)
        return carry_out(*arguments)

    monkeypatch.setattr("finitewidth.long_runs.carry_out", stopping)
    found = fw.compare(LINEAR, *data, widths=[3, 4], temperature=0.1, draws=20, warmup=20)
    assert (len(found), found.complete) == (1, False)
