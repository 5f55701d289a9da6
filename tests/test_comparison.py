"""Theory beside sample, through the public face."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.curves.comparison import ComparedRow, Difference
from finitewidth.display.documents import json_ready
from finitewidth.runs import long_runs

pytest.importorskip("jax")

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
    return fw.compare(
        LINEAR, *both_parts(), widths=[5, 12], temperature=0.1, methods=("integrate", fw.Sample(draws=500))
    )


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
    off = [
        ComparedRow({"integrate": theory, "sample": row.sample}) for theory, row in zip(wrong, comparison, strict=True)
    ]
    assert min(abs(row.difference_of("train_error").in_se) for row in off) > 10


def test_difference_is_theory_minus_sample(comparison):
    row = comparison[0]
    gap = row.theory.test_error - row.sample.test_error
    assert row.difference == Difference(gap / row.sample.test_error_se, 100.0 * gap / row.sample.test_error)


@pytest.mark.parametrize("side", ["integrate", "sample"])
def test_no_difference_without_convergence(comparison, side):
    row = comparison[0]
    broken = ComparedRow(row.rows | {side: replace(row.rows[side], converged=False)})
    assert broken.difference == Difference(None, None)
    assert math.isnan(fw.Comparison((broken,), True).largest_difference)


def test_plain_data(comparison):
    plain = json.loads(json.dumps(json_ready(comparison.to_dicts())))
    assert set(plain[0]) >= {"width", "theory", "sample", "difference"}
    assert set(plain[0]["difference"]) == {"in_se", "percent"}
    assert plain[1]["width"] == 12


@pytest.fixture
def runs(monkeypatch):
    """Networks that are sampled, in their order; what is in ``stop`` is interrupted instead."""
    seen, carry_out = [], long_runs.carry_out

    def watched(run, *given):
        if len(seen) in watched.stop:
            raise KeyboardInterrupt
        seen.append(run.network.widths)
        return carry_out(run, *given)

    watched.stop = ()
    watched.seen = seen
    monkeypatch.setattr(long_runs, "carry_out", watched)
    return watched


QUICK = fw.Sample(draws=20, warmup=20, chains=2)


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        (("sadle", "sample"), "did you mean 'saddle'"),
        (("neuron", QUICK), "method = 'neuron'"),
        ((fw.Saddle(closure="nested", solver="krylov"), QUICK), "solver 'krylov' for the nested closure"),
        ((QUICK, "integrate", "neuron"), "method = 'neuron'"),
        (("saddle",), r"methods = \('saddle',\); wanted: two of them at least; add 'sample'"),
        ("saddle", "methods = 'saddle'; wanted: a list"),
        ((), "methods"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_sampling(methods, said, data, runs):
    with pytest.raises(fw.InputError, match=said):
        fw.compare(fw.FullyConnected(widths=(5, 5)), *data, methods=methods)
    assert runs.seen == []


def test_what_does_not_fit_is_refused_before_sampling(data, runs):
    with pytest.raises(fw.MemoryCapError):
        fw.compare(LINEAR, *data, memory="1KB")
    with pytest.raises(fw.InputError, match="targets"):
        fw.compare(LINEAR, data[0], fw.Dataset(data[1].x, np.stack([data[1].y] * 2, 1), classes=()))
    assert runs.seen == []


def test_an_interrupted_comparison_is_incomplete(data, runs):
    """The second width is not sampled: one row is left, and says so."""
    runs.stop = (1,)
    found = fw.compare(LINEAR, *data, widths=[3, 4], temperature=0.1, methods=("saddle", QUICK))
    assert (len(found), found.complete) == (1, False)
    assert runs.seen == [(3,)]
    runs.stop = ()
    whole = fw.compare(LINEAR, *data, widths=[3], temperature=0.1, methods=("saddle", QUICK))
    assert (len(whole), whole.complete) == (1, True)
    assert whole[0].sample.test_error == found[0].sample.test_error


def test_each_row_is_that_of_its_method_alone(data):
    """Of any methods and as many: rows by name, the last one being what the others are compared with."""
    methods = (QUICK, "infinite", fw.Integrate())
    found = fw.compare(LINEAR, *data, [3, 4], [0.1, 0.2], methods)
    assert [(row.temperature, row.width) for row in found] == [(t, n) for t in (0.1, 0.2) for n in (3, 4)]
    for name, method in zip(("sample", "infinite", "integrate"), methods, strict=True):
        curve = fw.learning_curve(LINEAR, *data, [3, 4], [0.1, 0.2], method=method)
        assert [row.rows[name].test_error for row in found] == curve.column("test_error").tolist()
    row = found[0]
    assert (row.theory, row.sample) == (row.rows["sample"], row.rows["integrate"])
    assert list(row.others) == ["sample", "infinite"]
    assert not row.converged  # so few draws: no difference from them
    assert row.difference == row.difference_of("test_error", "sample") == Difference(None, None)
    off = 100.0 * (row.rows["infinite"].test_error / row.rows["integrate"].test_error - 1.0)
    assert row.difference_of("test_error", "infinite") == Difference(None, pytest.approx(off))
    plain = row.to_dict()
    assert list(plain["methods"]) == ["sample", "infinite", "integrate"]
    assert plain["differences"]["sample"] == {"in_se": None, "percent": None}
    assert plain["differences"]["infinite"]["percent"] == pytest.approx(off)


def test_two_methods_of_one_name_are_told_apart(data):
    """By their settings; neither has an error bar, so that there is no difference in standard errors."""
    deep = fw.FullyConnected(widths=(5, 5))
    (row,) = fw.compare(deep, *data, methods=(fw.Saddle("product"), fw.Saddle("nested")))
    assert list(row.rows) == ["Saddle(closure='product')", "Saddle(closure='nested')"]
    gap = row.theory.test_error / row.sample.test_error - 1.0
    assert row.difference.in_se is None
    assert row.difference.percent == pytest.approx(100.0 * gap)
    assert math.isnan(fw.Comparison((row,), True).largest_difference)
