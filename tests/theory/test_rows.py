"""The line of a learning curve that a theory gives: its solution, no more and no less."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.inference.prediction import Errors, Prediction
from finitewidth.theory import rows as module
from finitewidth.theory.rows import TheoryRow, as_far_as_known, pending, row_of, without_validity
from finitewidth.theory.validity import Validity

ONE, DEEP = fw.FullyConnected(widths=(9,)), fw.FullyConnected(widths=(9, 9))


def solution_of(train, **parts):
    """A converged solution whose predictor says what it is told."""
    mean, variance, error = parts.pop("mean", 0.5), parts.pop("variance", 0.25), parts.pop("train_error", 0.125)
    predictor = SimpleNamespace(predict=lambda x: Prediction(np.full(len(x), mean), np.full(len(x), variance), error))
    solved = fw.solve(fw.theory_of(parts.pop("network", ONE), 0.1), train)
    return dataclasses.replace(solved, predictor=predictor, gradient=None, **parts)


def test_a_row_is_its_solution(train, test_set):
    solution = solution_of(train, message="note")
    row = row_of(solution, test_set, 1e6)
    bias = float(np.mean((test_set.y - 0.5) ** 2))
    assert (row.bias, row.variance, row.train_error) == (pytest.approx(bias), 0.25, 0.125)
    assert row.test_error == pytest.approx(bias + 0.25)
    assert (row.width, row.depth, row.temperature, row.n_train) == (9, 1, 0.1, 12)
    assert (row.method, row.closure, row.solver, row.message) == ("saddle", "product", "exact", "note")
    assert (row.solver_error, row.log_evidence_error, row.accuracy) == (None, None, None)
    assert row.order_parameters == solution.order_parameters.tolist()
    assert row.log_evidence == solution.log_evidence
    assert 1e6 < row.seconds < 1e6 + 60.0
    deep = solution_of(train, network=fw.FullyConnected(widths=(9, 4)))
    assert (row_of(deep, test_set, 0.0).width, row_of(deep, test_set, 0.0).depth) == ((9, 4), 2)
    assert row_of(solution_of(train, network=DEEP), test_set, 0.0).width == 9
    sized = dataclasses.replace(solution, solver_errors=SimpleNamespace(log_evidence=0.75))
    assert (row_of(sized, test_set, 0.0).log_evidence_error, row_of(sized, test_set, 0.0).solver) == (0.75, "krylov")


@pytest.mark.parametrize("bad", [{"mean": np.inf}, {"variance": np.nan}, {"train_error": np.inf}])
def test_errors_beyond_double_precision_are_no_result(bad, train, test_set):
    with np.errstate(invalid="ignore"):
        row = row_of(solution_of(train, **bad), test_set, 0.0)
    assert not row.converged
    assert "beyond double precision" in row.message
    assert np.isnan([row.test_error, row.train_error, row.bias, row.variance]).all()


def test_plain_data_of_a_row(train, test_set, unchangeable, monkeypatch):
    unchangeable(module)
    row = row_of(solution_of(train), test_set, 0.0)
    monkeypatch.setattr(module, "validity", lambda solution, test: Validity("good", 0.5, "words"))
    said = dataclasses.replace(row, assessed=(solution_of(train), test_set), order_parameters=[1.0, 2.0])
    plain = json.loads(json.dumps(said.to_dict()))
    assert plain["validity"] == {"answer": "good", "expected_relative_error": 0.5, "statement": "words"}
    assert plain["order_parameters"] == [1.0, 2.0]
    assert set(plain) == {f.name for f in dataclasses.fields(TheoryRow)} - {"assessed"} | {"validity"}
    assert without_validity(row).to_dict()["validity"] is None
    assert set(Errors.__dataclass_fields__) <= set(plain)


def test_a_test_error_off_by_more_than_the_accuracy_is_no_result(train, test_set, monkeypatch):
    from finitewidth.theory.krylov import KrylovPredictor

    for error, fine in ((0.01, True), (0.0101, False), (np.nan, False)):
        monkeypatch.setattr(KrylovPredictor, "estimated_error", lambda self, x, y, error=error: error)
        (row,) = fw.learning_curve(ONE, train, test_set, temperature=0.5, method=fw.Saddle(solver="krylov"))
        assert row.converged is fine
        assert row.solver_error is error
        assert np.isfinite(row.test_error) == fine
        assert ("test error off by up to" in row.message) is not fine


def test_a_validity_is_computed_when_it_is_read(train, test_set, monkeypatch):
    calls = []
    monkeypatch.setattr(
        module, "validity", lambda solution, test: calls.append(solution) or Validity("good", 0.5, "words")
    )
    row = row_of(fw.solve(ONE, train), test_set)
    assert (pending(row), as_far_as_known(row).validity, calls) == (True, None, [])
    assert (row.validity, row.validity, len(calls)) == (
        Validity("good", 0.5, "words"),
        Validity("good", 0.5, "words"),
        1,
    )
    assert (pending(row), as_far_as_known(row)) == (False, row)
    bare = without_validity(row)
    assert (bare.validity, pending(bare), len(calls)) == (None, False, 1)
    infinite = row_of(fw.solve(ONE, train, method="infinite"), test_set)
    assert (infinite.assessed, infinite.validity, pending(infinite)) == (None, None, False)
