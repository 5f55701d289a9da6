"""Learning curves are what separate solve calls give, with the shared work done once."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.checks.exceptions import InputError, MemoryCapError
from finitewidth.linalg import Spectrum
from finitewidth.theory.validity import Validity


@pytest.mark.parametrize(
    ("widths", "method"),
    [
        ((9,), "saddle"),
        ((9,), "infinite"),
        ((9,), "integrate"),
        ((9, 9), fw.Saddle(closure="product")),
        ((9, 9), fw.Saddle(closure="nested")),
    ],
)
@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_rows_equal_separate_solutions(widths, method, activation, train, test_set):
    network = fw.FullyConnected(widths=widths, activation=activation, weight_precision=1.2)
    grid = {"widths": [4, 30], "temperature": [0.05, 0.5], "n_train": [5, 12]}
    curve = fw.learning_curve(network, train, test_set, **grid, method=method)
    assert curve.complete
    assert len(curve) == 8
    assert [(r.n_train, r.temperature, r.width) for r in curve][:3] == [(5, 0.05, 4), (5, 0.05, 30), (5, 0.5, 4)]
    for row in curve:
        part = train.subset(np.arange(row.n_train))
        solution = fw.solve(network.with_width(row.width), part, row.temperature, method)
        errors = fw.predict(solution, test_set.x).errors(test_set.y)
        name = method if isinstance(method, str) else method.name
        assert (row.method, row.depth, row.converged, row.complete) == (name, len(widths), True, True)
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
    ("widths", "method"),
    [
        ((9,), "saddle"),
        ((9,), "infinite"),
        ((9,), "integrate"),
        ((9, 9), fw.Saddle(closure="product")),
        ((9, 9), fw.Saddle(closure="nested")),
    ],
)
def test_one_factorisation_a_training_size(widths, method, train, test_set, monkeypatch):
    network = fw.FullyConnected(widths=widths)
    calls = counted(monkeypatch)
    fw.learning_curve(network, train, test_set, [5, 20, 300], [0.05, 0.5], [6, 12], method)
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


def test_a_curve_is_its_rows(train, test_set):
    network = fw.FullyConnected(widths=(9,))
    curve = fw.learning_curve(network, train, test_set, widths=[5, 20], temperature=0.3)
    assert (len(curve), [row.width for row in curve], curve[1].width, curve[-1].width) == (2, [5, 20], 20, 20)
    assert curve.column("temperature").tolist() == [0.3, 0.3]
    (row,) = fw.learning_curve(network, train, test_set)
    assert (row.temperature, row.method, row.n_train) == (0.05, "saddle", 12)
    whole = fw.learning_curve(network, train, test_set, n_train=[12, 3])
    assert whole.column("n_train").tolist() == [12, 3]
    for arguments, said in (
        (("erf", train, test_set), "network = 'erf'; wanted: a Network"),
        ((network, 3, test_set), "train = 3; wanted: a Dataset"),
        ((network, train, 4), "test = 4; wanted: a Dataset"),
    ):
        with pytest.raises(InputError, match=said):
            fw.learning_curve(*arguments)


def test_of_many_rows_none_has_a_validity(train, test_set, monkeypatch):
    """Up to twelve have one, computed when first read."""
    monkeypatch.setattr("finitewidth.theory.rows.validity", lambda solution, test: Validity("good", 0.5, "words"))
    network = fw.FullyConnected(widths=(9,))
    for count, wanted in ((12, Validity("good", 0.5, "words")), (13, None)):
        curve = fw.learning_curve(network, train, test_set, widths=range(5, 5 + count))
        assert [row.validity for row in curve] == [wanted] * count
    infinite = fw.learning_curve(network, train, test_set, method="infinite")
    assert infinite[0].validity is None


@pytest.mark.statistical
def test_a_curve_of_samples(train, test_set):
    """The same rows whatever the method; linear, so that the integral is exact: a width off is the control."""
    pytest.importorskip("jax")
    network = fw.FullyConnected(widths=(4,), activation="linear")
    (drawn,) = fw.learning_curve(network, train, test_set, temperature=0.3, method=fw.Sample(draws=800))
    exact, wrong = fw.learning_curve(network, train, test_set, [4, 400], 0.3, method="integrate")
    assert (drawn.width, drawn.depth, drawn.n_train, drawn.temperature) == (4, 1, 12, 0.3)
    assert (drawn.complete, drawn.test_error) == (True, pytest.approx(drawn.bias + drawn.variance))
    assert abs(drawn.test_error - exact.test_error) < 4.0 * drawn.test_error_se
    assert abs(drawn.test_error - wrong.test_error) > 4.0 * drawn.test_error_se


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
        ({"method": 3}, r"method = 3; wanted: .*write method='saddle'"),
        ({"method": fw.Saddle(closure="product"), "temperature": []}, "temperature"),
        ({"n_train": []}, "n_train"),
        ({"widths": []}, "widths"),
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
    with pytest.raises(InputError, match=r"\(5,\) in training"):
        fw.learning_curve(fw.FullyConnected(widths=(9,)), train, make_data(5, 4))


def test_nothing_is_mutated(train, test_set):
    before = train.fingerprint(), test_set.fingerprint()
    fw.learning_curve(fw.FullyConnected(widths=(9, 9)), train, test_set, widths=[5], n_train=[5, 12])
    assert (train.fingerprint(), test_set.fingerprint()) == before
