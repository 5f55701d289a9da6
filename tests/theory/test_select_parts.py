"""What a selection tries, in which order it ranks, what it says."""

from __future__ import annotations

import math

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.checks.exceptions import InputError
from finitewidth.curves import selection as module
from finitewidth.curves.selection import Candidate, Selection, _candidates, _with_depth
from finitewidth.theory.solution import TheorySolution


def test_candidates_are_all_combinations_in_order():
    network = fw.FullyConnected(widths=(20,), weight_precision=(0.7, 1.6), activation="relu")
    found = _candidates(network, [5, 8], ["erf", "tanh"], [1, 2])
    assert [(n.depth, n.phi.name, n.widths[0]) for n in found] == [
        (d, a, w) for d in (1, 2) for a in ("erf", "tanh") for w in (5, 8)
    ]
    (same,) = _candidates(network, None, None, None)
    assert (same.widths, same.phi.name, same.weight_precision) == ((20,), "relu", (0.7, 1.6))


def test_layers_are_repeated(unchangeable):
    """The first width and the inner precision: of one layer, the readout's; both ends stay."""
    unchangeable(module)
    one = fw.FullyConnected(widths=(20,), weight_precision=(0.7, 1.6))
    deep = fw.FullyConnected(widths=(20, 30), weight_precision=(0.7, 0.9, 1.6))
    assert _with_depth(one, 3).weight_precision == (0.7, 1.6, 1.6, 1.6)
    assert _with_depth(deep, 4).weight_precision == (0.7, 0.9, 0.9, 0.9, 1.6)
    assert _with_depth(deep, 1).weight_precision == (0.7, 1.6)
    assert _with_depth(deep, 3).widths == (20, 20, 20)
    assert _with_depth(deep, 2) is deep
    assert _with_depth(one, 1000).depth == 1000
    with pytest.raises(InputError, match="depth = 1001; wanted: at most 1000"):
        _with_depth(one, 1001)
    with pytest.raises(InputError, match="depth 1 for this architecture"):
        _with_depth(fw.Convolutional(channels=5, patch=2), 2)


@pytest.fixture
def outcomes(monkeypatch):
    """Candidates solve to what is listed: (log evidence, converged), in the order in which they are tried."""
    listed = []

    def climb(network, train, temperature, names, method):
        evidence, converged = listed.pop(0)
        solution = TheorySolution(None, train, np.ones(1), evidence, converged, "", (), None)
        return solution, Candidate(network, temperature, evidence, converged, "")

    monkeypatch.setattr(module, "_climb", climb)
    return listed


def test_what_converged_is_ranked_by_evidence_and_comes_first(outcomes, train):
    outcomes += [(-5.0, True), (9.0, False), (-2.0, True), (math.nan, False), (-3.0, True)]
    chosen = fw.select(fw.FullyConnected(widths=(3,)), train, 0.3, widths=[1, 2, 3, 4, 5])
    assert [c.width for c in chosen.table] == [3, 5, 1, 2, 4]
    assert (chosen.network.widths, chosen.temperature, chosen.solution.log_evidence) == ((3,), 0.3, -2.0)
    outcomes += [(1.0, False)]
    with pytest.raises(InputError, match="none converged"):
        fw.select(fw.FullyConnected(widths=(3,)), train)


def test_the_table_as_text():
    lines = (
        Candidate(fw.FullyConnected((50, 50), weight_precision=(0.5, 1.2345, 2.0)), 0.0123456, -12.3456, True, ""),
        Candidate(fw.FullyConnected((7,), activation="relu"), 0.5, -99.0, False, "why"),
    )
    *_, above, head, _, first, second = repr(Selection(None, 0.1, None, lines)).splitlines()
    assert above.split() == ["log"]
    assert head.split() == ["activation", "depth", "width", "T", "evidence", "precisions", "converged"]
    assert first.split() == ["erf", "2", "50", "0.0123", "-12.35", "0.5", "1.23", "2", "yes"]
    assert second.split() == ["relu", "1", "7", "0.5", "-99.00", "1", "1", "no"]
    assert head.index("evidence") + len("evidence") == first.index("-12.35") + len("-12.35")


@pytest.mark.parametrize(("end", "said"), [(-1, True), (1, True), (0.9999, False), (-0.9999, False)])
def test_a_value_at_either_bound_is_reported(end, said, make_data, monkeypatch):
    def minimise(objective, start, bounds, **options):
        x = np.asarray(start, float).copy()
        x[1] += end * math.log(1e4)
        return module.optimize.OptimizeResult(x=x)

    monkeypatch.setattr(module.optimize, "minimize", minimise)
    chosen = fw.select(fw.FullyConnected(widths=(8, 8)), make_data(5), 0.3, method=fw.Saddle(closure="product"))
    assert ("10^4" in chosen.table[0].message) is said
    assert chosen.table[0].width == 8
    mixed = fw.select(
        fw.FullyConnected(widths=(8, 9)), make_data(5), 0.3, optimise=[], method=fw.Saddle(closure="product")
    )
    assert mixed.table[0].width == (8, 9)
