"""Selection by evidence: stationary, never below its start, the best of an exhaustive table."""

from __future__ import annotations

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.checks.exceptions import InputError


@pytest.fixture
def train(make_data):
    return make_data(25, 3)


@pytest.mark.parametrize("widths", [(20,), (20, 10)])
@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_the_gradient_vanishes_at_the_choice(widths, activation, train):
    network = fw.FullyConnected(widths=widths, activation=activation, weight_precision=1.3)
    chosen = fw.select(network, train, temperature=0.2)
    start = fw.solve(fw.theory_of(network, 0.2), train)
    assert chosen.solution.log_evidence > start.log_evidence
    gradient = chosen.solution.evidence_gradient()
    slope = [
        gradient["temperature"] * chosen.temperature,
        *(gradient["weight_precision"] * chosen.network.weight_precision),
    ]
    assert np.abs(slope).max() < 0.02 or "10^4" in chosen.table[0].message
    again = fw.solve(fw.theory_of(chosen.network, chosen.temperature), train)
    assert again.log_evidence == pytest.approx(chosen.solution.log_evidence, abs=1e-6)


def test_the_temperature_of_known_noise(make_data):
    """Linear teacher with noise of variance 0.09 on 400 points: the evidence finds it within a fifth."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 3))
    data = fw.Dataset(x, x @ [1.0, -0.5, 0.2] + 0.3 * rng.standard_normal(400), classes=())
    chosen = fw.select(fw.FullyConnected(widths=(50,), activation="linear"), data, temperature=1.0)
    assert chosen.temperature == pytest.approx(0.09, rel=0.2)


def test_only_what_is_named_moves(train):
    network = fw.FullyConnected(widths=(20,), weight_precision=(0.7, 1.6))
    only_temperature = fw.select(network, train, 0.2, optimise=["temperature"])
    assert only_temperature.network.weight_precision == (0.7, 1.6)
    assert only_temperature.temperature != 0.2
    nothing = fw.select(network, train, 0.2, optimise=[])
    assert nothing.temperature == pytest.approx(0.2, rel=1e-12)
    assert nothing.solution.log_evidence == pytest.approx(fw.solve(fw.theory_of(network, 0.2), train).log_evidence)


def test_a_grid_of_temperatures_is_not_better(train):
    network = fw.FullyConnected(widths=(20,))
    chosen = fw.select(network, train, 0.2, optimise=["temperature"])
    grid = [fw.solve(fw.theory_of(network, t), train).log_evidence for t in np.geomspace(1e-3, 10.0, 41)]
    assert chosen.solution.log_evidence >= max(grid) - 1e-6


def test_lists_are_tried_one_by_one(train):
    network = fw.FullyConnected(widths=(20,))
    chosen = fw.select(
        network, train, 0.2, widths=[5, 50], activations=["erf", "relu"], depths=[1, 2], optimise=["temperature"]
    )
    assert {(c.activation, c.depth, c.width) for c in chosen.table} == {
        (a, d, w) for a in ("erf", "relu") for d in (1, 2) for w in (5, 50)
    }
    evidence = [c.log_evidence for c in chosen.table]
    assert evidence == sorted(evidence, reverse=True)
    best = chosen.table[0]
    assert (best.activation, best.depth, best.temperature) == (
        chosen.network.phi.name,
        chosen.network.depth,
        chosen.temperature,
    )
    for candidate in chosen.table[::3]:
        other = fw.FullyConnected(widths=(candidate.width,) * candidate.depth, activation=candidate.activation)
        evidence = fw.solve(fw.theory_of(other, candidate.temperature), train).log_evidence
        assert candidate.log_evidence == pytest.approx(evidence, abs=1e-6)
    lines = [line.split() for line in repr(chosen).splitlines()]
    assert [line[0] for line in lines[-8:]] == [candidate.activation for candidate in chosen.table]
    assert best.to_dict()["depth"] == best.depth


def test_infinite_width_can_be_selected(train):
    chosen = fw.select(fw.FullyConnected(widths=(20,)), train, 0.2, method="infinite")
    gradient = chosen.solution.evidence_gradient()
    assert abs(gradient["temperature"] * chosen.temperature) < 0.02


def test_a_bound_that_is_reached_is_reported(make_data):
    """Constant zero targets: the less noise the better, down to the bound."""
    data = make_data(8)
    zero = fw.Dataset(data.x, np.zeros(8), classes=())
    chosen = fw.select(fw.FullyConnected(widths=(20,)), zero, 0.2, optimise=["temperature"])
    assert "stopped at 10^4" in chosen.table[0].message
    assert chosen.temperature == pytest.approx(0.2e-4, rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widths": []}, "at least one value"),
        ({"activations": ["rellu"]}, "did you mean 'relu'"),
        ({"depths": [0]}, "whole number"),
        ({"optimise": ["width"]}, "optimise"),
        ({"method": "integrate"}, "evidence gradient"),
        ({"temperature": -1.0}, "above 0"),
        ({"method": "sadle"}, "did you mean 'saddle'"),
    ],
)
def test_bad_arguments(arguments, message, train):
    with pytest.raises(InputError, match=message):
        fw.select(fw.FullyConnected(widths=(20,)), train, **arguments)


def test_nothing_is_mutated(train):
    before = train.fingerprint()
    fw.select(fw.FullyConnected(widths=(20,)), train, optimise=["temperature"])
    assert train.fingerprint() == before
