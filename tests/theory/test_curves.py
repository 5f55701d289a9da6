"""Learning curves are what separate solve calls give, with the shared work done once."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.exceptions import InputError, MemoryCapError
from finitewidth.linalg import Spectrum


@pytest.mark.parametrize(
    ("widths", "closure", "method"),
    [
        ((9,), None, "saddle"),
        ((9,), None, "infinite"),
        ((9,), None, "integrate"),
        ((9, 9), "product", "saddle"),
        ((9, 9), "nested", "saddle"),
    ],
)
@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_rows_equal_separate_solutions(widths, closure, method, activation, train, test_set):
    network = fw.FullyConnected(widths=widths, activation=activation, weight_precision=1.2)
    curve = fw.learning_curve(network, train, test_set, widths=[4, 30], temperature=[0.05, 0.5], n_train=[5, 12])
    assert len(curve) == 8
    assert [(r.n_train, r.temperature, r.width) for r in curve][:3] == [(5, 0.05, 4), (5, 0.05, 30), (5, 0.5, 4)]
    for row in curve:
        part = train.subset(np.arange(row.n_train))
        solution = fw.solve(fw.theory_of(network.with_width(row.width), row.temperature, closure, method), part)
        errors = fw.predict(solution, test_set.x).errors(test_set.y)
        assert (row.method, row.depth, row.converged) == (method, len(widths), True)
        got = (row.test_error, row.train_error, row.bias, row.variance, row.log_evidence)
        want = (errors.test_error, errors.train_error, errors.bias, errors.variance, solution.log_evidence)
        np.testing.assert_allclose(got, want, rtol=1e-7)
        np.testing.assert_allclose(row.order_parameters, solution.order_parameters, rtol=1e-6)
        assert row.test_error == pytest.approx(row.bias + row.variance)
        assert row.seconds > 0.0


def counted(monkeypatch):
    calls, original = [], Spectrum.of.__func__

    def count(cls, *args, **kwargs):
        calls.append(len(args[0]))
        return original(cls, *args, **kwargs)

    monkeypatch.setattr(Spectrum, "of", classmethod(count))
    return calls


@pytest.mark.parametrize(
    ("widths", "closure", "method"),
    [((9,), None, "saddle"), ((9, 9), "product", "saddle"), ((9, 9), "nested", "saddle")],
)
def test_one_factorisation_a_training_size(widths, closure, method, train, test_set, monkeypatch):
    calls = counted(monkeypatch)
    fw.learning_curve(fw.FullyConnected(widths=widths), train, test_set, [5, 20, 300], [0.05, 0.5], [6, 12])
    assert calls == [6, 12]


def test_widths_default_to_the_networks_own(train, test_set):
    (row,) = fw.learning_curve(fw.FullyConnected(widths=(9, 4)), train, test_set)
    assert (row.width, row.n_train, row.temperature) == ((9, 4), 12, 0.05)


def test_labels_have_an_accuracy(test_set):
    train, test = fw.data.digits(classes=(0, 1), n_train=30, n_test=20)
    curve = fw.learning_curve(fw.FullyConnected(widths=(9,)), train, test, widths=[5, 10**12])
    assert ((curve.column("accuracy") > 0.9) & (curve.column("accuracy") <= 1.0)).all()


def test_columns_and_plain_data(train, test_set):
    curve = fw.learning_curve(fw.FullyConnected(widths=(9,)), train, test_set, widths=[5, 20])
    assert curve.column("width").tolist() == [5, 20]
    assert curve[1].to_dict() == curve.to_dicts()[1]
    json.dumps(curve.to_dicts(), allow_nan=False)
    with pytest.raises(InputError, match="did you mean 'test_error'"):
        curve.column("test_eror")


def test_what_did_not_converge_shows_no_numbers(train, test_set, monkeypatch):
    from finitewidth.theory.scaled import ScaledKernel

    solve = ScaledKernel.solve
    monkeypatch.setattr(
        ScaledKernel, "solve", lambda *a, **k: dataclasses.replace(solve(*a, **k), converged=False, message="why")
    )
    (row,) = fw.learning_curve(fw.FullyConnected(widths=(9,)), train, test_set)
    assert (row.converged, row.message, row.accuracy) == (False, "why", None)
    assert np.isnan([row.test_error, row.train_error, row.bias, row.variance]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widths": [0]}, "whole number"),
        ({"temperature": [0.1, -1.0]}, "above 0"),
        ({"temperature": float("nan")}, "above 0"),
        ({"n_train": [13]}, "at most 12 points"),
        ({"n_train": [0]}, "whole number"),
        ({"method": "sadle"}, "did you mean 'saddle'"),
        ({"closure": "nest"}, "did you mean 'nested'"),
    ],
)
def test_bad_arguments(arguments, message, train, test_set):
    with pytest.raises(InputError, match=message):
        fw.learning_curve(fw.FullyConnected(widths=(9,)), train, test_set, **arguments)


def test_memory_cap(train, test_set):
    for widths in [(9,), (9, 9)]:
        with pytest.raises(MemoryCapError):
            fw.learning_curve(fw.FullyConnected(widths=widths), train, test_set, memory=100.0)


def test_test_points_of_another_size(train, make_data):
    with pytest.raises(InputError, match="5, as in training"):
        fw.learning_curve(fw.FullyConnected(widths=(9,)), train, make_data(5, 4))


def test_nothing_is_mutated(train, test_set):
    before = train.fingerprint(), test_set.fingerprint()
    fw.learning_curve(fw.FullyConnected(widths=(9, 9)), train, test_set, widths=[5], n_train=[5, 12])
    assert (train.fingerprint(), test_set.fingerprint()) == before
