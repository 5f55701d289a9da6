"""Which solver serves what: defaults, thresholds at their edges, memory as numbers."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.checks.exceptions import InputError
from finitewidth.kernels import operator
from finitewidth.theory import solver as solver_module
from finitewidth.theory.solver import AUTO, Solver, exact_bytes, krylov_bytes

NETWORK = fw.FullyConnected(widths=(50,))


def points(count, inputs=3, outputs=1):
    """As much of a data set as the choice looks at."""
    return SimpleNamespace(n_points=count, n_outputs=outputs, flat=np.empty((count, inputs)))


@pytest.mark.parametrize("count", [100, 5000])
def test_memory_of_a_krylov_space(count):
    """Arrays counted: the space, that of the test points, ten blocks, a sum a part of the product, inputs twice."""
    solver = Solver("krylov", probes=9, test_probes=5, most_dimensions=300)
    columns = min(300, count) + 5 * 48 + 10 * 10
    parts = min(16, len(range(0, count, operator.TILE[0])))
    arrays = np.empty((columns, count)).nbytes + parts * np.empty((count, 10)).nbytes
    assert krylov_bytes(points(count, 7), solver) == arrays + 2 * np.empty((count, 7)).nbytes


@pytest.mark.parametrize(
    ("given", "count", "memory", "krylov"),
    [
        ("auto", 7000, "exact", False),
        ("auto", 7000, "less", True),
        ("auto:0.01", 6000, "exact", False),
        ("auto:0.01", 6001, "exact", True),
        ("auto:0.01", 6000, "less", True),
        ("auto:0.0001", 6001, "exact", True),
        ("auto:0.000099", 6001, "exact", False),
        ("auto:0.000099", 6001, "less", False),
        ("auto", 7000, "krylov", True),
        ("auto", 7000, "not even that", False),
        ("exact", 7000, "less", False),
        ("krylov", 10, "exact", True),
    ],
)
def test_by_memory_points_and_accuracy(given, count, memory, krylov):
    solver, train = Solver.of(given), points(count)
    caps = {"exact": exact_bytes(train), "less": exact_bytes(train) - 1.0}
    caps |= {"krylov": krylov_bytes(train, solver), "not even that": krylov_bytes(train, solver) - 1.0}
    assert solver.uses_krylov(NETWORK, train, caps[memory]) is krylov


def test_without_a_cap_what_is_free_decides(monkeypatch):
    train = points(7000)
    for free, krylov in ((exact_bytes(train), False), (exact_bytes(train) - 1.0, True)):
        monkeypatch.setattr(solver_module, "available_memory", lambda free=free: free)
        assert AUTO.uses_krylov(NETWORK, train, None) is krylov


def test_what_has_no_krylov_way():
    """auto falls back silently, and where it was asked for it is refused."""
    pooled = fw.Convolutional(channels=5, patch=2, pool="average")
    for network, train, said in (
        (pooled, points(7000), "solver 'krylov' with a Convolutional network; wanted: a fully connected one"),
        (NETWORK, points(7000, outputs=2), "solver 'krylov' with 2 outputs; wanted: one output"),
    ):
        assert not Solver("auto", 0.01).uses_krylov(network, train, 1e12)
        assert not AUTO.uses_krylov(network, train, exact_bytes(train) - 1.0)
        assert not Solver("exact").uses_krylov(network, train, 1.0)
        with pytest.raises(InputError, match=said):
            Solver("krylov").uses_krylov(network, train, None)


def test_precision_of_tiles():
    for precision, count, dtype in (
        *(("auto", 8000, np.float64), ("auto", 8001, np.float32)),
        *(("single", 3, np.float32), ("double", 10**6, np.float64)),
    ):
        assert Solver(precision=precision).dtype(count) is dtype


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "cholesky"}, "solver"),
        ({"accuracy": 1.0}, "accuracy = 1.0; wanted: a relative error below 1"),
        ({"accuracy": 0.0}, "accuracy"),
        ({"probes": 3}, "probes = 3; wanted: at least 4"),
        ({"test_probes": 3}, "test_probes = 3; wanted: at least 4"),
        ({"most_dimensions": 0}, "most_dimensions"),
        ({"seed": 0.5}, "seed = 0.5"),
        ({"seed": -1}, "seed"),
        ({"precision": "half"}, "precision"),
    ],
)
def test_values_that_cannot_be(options, said):
    with pytest.raises(InputError, match=said):
        Solver(**options)
    Solver(accuracy=0.999, probes=4, test_probes=4, most_dimensions=1, seed=3)


@pytest.mark.parametrize(
    ("given", "said"),
    [("krylov:", "krylov:0.01"), ("auto:x", "auto:0.01"), ("auto:2", "below 1"), (3, "a str or a Solver")],
)
def test_names_that_cannot_be(given, said):
    with pytest.raises(InputError, match=said):
        Solver.of(given)
