"""What the evidence slope says, and that it is the same whichever way it is asked for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize

import finitewidth as fw
from finitewidth.checks.exceptions import InputError
from finitewidth.theory.expansion.evidence import FAR, EvidenceSlope, by_depth
from finitewidth.theory.expansion.slopes import evidence_slope

T = 0.1


def slope(total, se=1.0, by_layer=None, by_layer_se=None, infinite=-100.0):
    by_layer = (total,) if by_layer is None else by_layer
    return EvidenceSlope(infinite, total, se, by_layer, by_layer_se or (se,) * len(by_layer))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (slope(12.3, 0.4), "+12.30 ± 0.40 nats / N: these data favour narrower layers"),
        (slope(-12.3, 0.4), "-12.30 ± 0.40 nats / N: these data favour wider layers"),
        (slope(30.0, 1.0, (5.0, 25.0)), "+30.0 ± 1.0 nats / N: these data favour narrower layers (layer 2 most)"),
        (slope(30.0, 1.0, (15.0, 14.5)), "+30.0 ± 1.0 nats / N: these data favour narrower layers"),
        (slope(-9.0, 1.0, (-19.0, 10.0)), "-9.0 ± 1.0 nats / N: these data favour wider layers, but layer 2 narrower"),
    ],
)
def test_in_words(given, says):
    assert given.statement == says


def test_a_slope_within_its_noise_favours_nothing():
    assert slope(1.0, 0.4).favours == "narrower"
    assert slope(0.7, 0.4).favours == ""
    assert slope(-0.7, 0.4).statement.endswith("these data favour neither narrower nor wider layers")
    assert slope(0.0, 0.0).favours == ""


def test_the_line_is_read_off_where_a_first_order_may_be_believed():
    assert slope(10.0).reach(100) == "+0.100 ± 0.010 nats at N = 100"
    steep = slope(100.0 * FAR, 10.0)
    assert steep.narrowest == 100
    assert steep.reach(20).endswith("at N = 100")


def test_deeper_or_shallower():
    near, far = slope(10.0, infinite=-100.0), slope(10.0, infinite=-105.0)
    assert by_depth({1: near}, 50) == []
    (line,) = by_depth({1: near, 2: far}, 50)
    assert "favour shallower networks; 1 layer over 2 by +5.000 ± 0.028 nats, +5.00 at infinite width" in line
    (line,) = by_depth({1: far, 2: near, 3: far}, 50)
    assert "favour 2 layers; 2 layers over" in line
    (line,) = by_depth({1: far, 3: near}, 50)
    assert "favour deeper networks; 3 layers over 1" in line
    (line,) = by_depth({1: near, 2: slope(10.0, infinite=-100.5)}, 50)
    assert "do not tell" in line
    (line,) = by_depth({1: near, 2: slope(400.0, infinite=-105.0)}, 50)  # the slope turns it
    assert "favour deeper networks; 2 layers over 1 by +2.800 ± 0.028 nats, -5.00 at infinite width" in line


@pytest.mark.parametrize(
    "network",
    [fw.FullyConnected(widths=(60, 30)), fw.LocallyConnected(channels=40, patch=4)],
    ids=lambda network: type(network).__name__,
)
def test_alone_it_is_the_same(network):
    train, test = fw.data.digits(classes=(3, 8), n_train=30, n_test=20)
    whole = fw.first_order(network, train, test, T, neurons=20_000, seed=1).evidence_slope
    alone = evidence_slope(network, train, T)
    assert alone.infinite == pytest.approx(fw.solve(network, train, T, "infinite").log_evidence, rel=1e-10)
    assert abs(alone.total - whole.total) < 4.0 * math.hypot(alone.total_se, whole.total_se)
    for one, other, *errors in zip(alone.by_layer, whole.by_layer, alone.by_layer_se, whole.by_layer_se, strict=True):
        assert abs(one - other) < 4.0 * math.hypot(*errors)
    shares = [value / width for value, width in zip(alone.by_layer, network.widths, strict=True)]
    assert sum(shares) == pytest.approx(alone.total / network.widths[0])
    assert evidence_slope(network, train, T) == alone
    assert evidence_slope(network, train, T, seed=2) != alone


def test_a_selection_has_the_slope_of_the_optimised_evidence():
    """Linear networks, whose evidence the integral over Q has exactly: N (max over T at N - max at infinite width)."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 5))
    train = fw.Dataset(x, x @ rng.standard_normal(5) + 0.5 * rng.standard_normal(40), classes=())
    network = fw.FullyConnected(widths=(50,), activation="linear")
    chosen = fw.select(network, train, 0.3, widths=[30, 50], optimise=["temperature"])

    def greatest(width, method):
        def minus(log_t):
            return -fw.solve(network.with_width(width), train, math.exp(log_t), method).log_evidence

        return -optimize.minimize_scalar(minus, bounds=(-4.0, 2.0), method="bounded", options={"xatol": 1e-8}).fun

    limit = greatest(50, "infinite")
    assert chosen.evidence_slope.infinite == pytest.approx(limit, abs=1e-4)
    (row,) = chosen.limits.values()
    assert row.log_evidence == pytest.approx(limit, abs=1e-4)
    N = 10_000
    expected = 2.0 * N * (greatest(2 * N, "integrate") - limit) * 2.0 - N * (greatest(N, "integrate") - limit)
    assert abs(chosen.evidence_slope.total - expected) < 3.0 * chosen.evidence_slope.total_se + 0.02 * abs(expected)
    fixed = evidence_slope(chosen.limits[1].network, train, 3.0 * row.temperature)  # negative control: another T
    assert abs(fixed.total - expected) > 5.0 * fixed.total_se


def test_what_a_selection_prints(monkeypatch):
    """Lines at the end of its table; looked at in a hurry, without computing anything."""
    train, _ = fw.data.digits(classes=(3, 8), n_train=30, n_test=20)
    chosen = fw.select(fw.FullyConnected(widths=50), train, depths=[1, 2], optimise=["temperature"])
    with monkeypatch.context() as patch:
        patch.setattr("finitewidth.curves.selection.evidence_slope", lambda *given: pytest.fail("computed"))
        assert "slope" not in repr(chosen)
    text = " ".join(str(chosen).split())
    assert list(chosen.evidence_slopes) == [1, 2]
    assert all(line in text for line in chosen.statements)
    assert chosen.statements[0].startswith("Evidence slope at infinite width: ")
    assert chosen.statements[1].startswith("Depth, to first order at N = ")
    assert "Evidence slope" in repr(chosen)  # now that it is known
    assert chosen.evidence_slope == chosen.evidence_slopes[chosen.network.depth]


def test_a_limit_that_is_not_finite_is_left_out(monkeypatch):
    """Printing a selection never fails."""
    train, _ = fw.data.digits(classes=(3, 8), n_train=20, n_test=10)

    def refused(network, *given):
        if network.depth == 2:
            raise InputError("too little memory", "more", "use fewer points")
        return evidence_slope(network, *given)

    monkeypatch.setattr("finitewidth.curves.selection.evidence_slope", refused)
    chosen = fw.select(fw.FullyConnected(widths=50), train, depths=[1, 2], optimise=[])
    assert list(chosen.evidence_slopes) == [1]
    assert len(chosen.statements) == (chosen.network.depth == 1)
    assert "Candidates" in str(chosen)


def test_a_mean_field_readout_says_nothing_of_other_widths():
    train, test = fw.data.digits(classes=(3, 8), n_train=20, n_test=10)
    network = fw.FullyConnected(widths=50, readout="mean-field")
    assert fw.select(network, train, optimise=[]).statements == []
    (row,) = fw.learning_curve(network, train, test, method=fw.FirstOrder(neurons=2_000))
    assert row.evidence_slope is None
    assert "slope" not in str(fw.select(network, train, optimise=[]))


def test_several_outputs():
    train, _ = fw.data.digits(classes=(0, 1, 2), n_train=30, n_test=10)
    chosen = fw.select(fw.FullyConnected(widths=50), train, 0.1, optimise=["temperature"])
    (row,) = chosen.limits.values()
    gradient = fw.solve(row.network, train, row.temperature, "infinite").evidence_gradient()["temperature"]
    assert abs(gradient * row.temperature) < 0.02
    assert chosen.evidence_slope.infinite == pytest.approx(row.log_evidence, rel=1e-9)
