"""``trained_curve``: one row a width, resumable, checked before the first run."""

from __future__ import annotations

import json

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.training import TrainedRow, curves

pytest.importorskip("jax")
pytest.importorskip("optax")

NETWORK = fw.FullyConnected(widths=(4,), activation="linear")
SHORT = {"optimiser": "sgd", "learning_rate": 0.02, "steps": 20, "seeds": 3}


def data(seed):
    rng = np.random.default_rng(seed)
    return fw.Dataset(rng.standard_normal((6, 3)), rng.choice([-1.0, 1.0], 6), classes=(-1.0, 1.0))


TRAIN, TEST = data(0), data(1)


def without_time(row):
    return {name: value for name, value in row.to_dict().items() if name != "seconds"}


def test_a_row_is_the_ensemble_of_its_width(tmp_path):
    folder = tmp_path / "runs"
    row, other = fw.trained_curve(NETWORK, TRAIN, TEST, [4, 5], 0.1, checkpoint=folder, **SHORT)
    ensemble = fw.train(NETWORK, TRAIN, TEST, 0.1, **SHORT)
    assert without_time(row) == without_time(TrainedRow.of(ensemble, 0.0))
    errors = ensemble.errors()
    assert (row.test_error, row.test_error_se, row.accuracy) == (
        errors.test_error,
        errors.test_error_se,
        errors.accuracy,
    )
    assert row.test_error == pytest.approx(row.bias + row.variance, rel=1e-12)
    assert (row.width, other.width, row.depth, row.n_train, row.method) == (4, 5, 1, 6, "sgd")
    assert (row.networks, row.steps, row.learning_rate, row.temperature) == (3, 20, 0.02, 0.1)
    assert json.loads(json.dumps(row.to_dict()))["order_parameters"] == row.order_parameters
    again = list(fw.trained_curve(NETWORK, TRAIN, TEST, [4, 5], 0.1, checkpoint=folder, **SHORT))
    assert list(map(without_time, again)) == list(map(without_time, (row, other)))


def test_errors_by_hand():
    ensemble = fw.train(NETWORK, TRAIN, TEST, **SHORT)
    f, y = ensemble.outputs(TEST.x), TEST.y
    errors, prediction = ensemble.errors(), ensemble.prediction()
    own = ((y - f) ** 2).mean(1)
    assert errors.test_error == pytest.approx(own.mean(), rel=1e-12)
    assert errors.test_error_se == pytest.approx(own.std(ddof=1) / np.sqrt(3), rel=1e-12)
    assert errors.variance == pytest.approx(f.var(0, ddof=1).mean(), rel=1e-12)
    assert errors.bias == pytest.approx(((y - f.mean(0)) ** 2).mean() - f.var(0, ddof=1).mean() / 3, rel=1e-12)
    assert errors.accuracy == pytest.approx(np.mean(f * y > 0), rel=1e-12)
    np.testing.assert_allclose(prediction.mean, f.mean(0), rtol=1e-12)
    np.testing.assert_allclose(prediction.variance, f.var(0, ddof=1), rtol=1e-12)
    assert prediction.train_error == errors.train_error == pytest.approx(ensemble.history.train_error[:, -1].mean())
    last = ensemble.history.to_dicts()[-1]
    assert last["step"] == 20
    assert last["test_error"] == pytest.approx(errors.test_error, rel=1e-9)
    with pytest.raises(fw.InputError, match=r"targets of shape \(5,\)"):
        ensemble.errors(np.zeros(5))
    with pytest.raises(fw.InputError, match=r"points of shape \(2,\)"):
        ensemble.outputs(np.zeros((5, 2)))


def test_one_network_has_no_standard_error():
    errors = fw.train(NETWORK, TRAIN, TEST, **{**SHORT, "seeds": [3]}).errors()
    assert errors.variance == 0.0
    assert errors.bias == errors.test_error
    assert np.isnan(errors.test_error_se)


def test_everything_is_checked_before_the_first_run(monkeypatch):
    monkeypatch.setattr(curves, "train", lambda *_, **__: pytest.fail("ran"))
    for widths, options, message in (
        ([4, 0], SHORT, "wid"),
        ([4], {**SHORT, "momentum": 2.0}, "a number below 1"),
        (None, {**SHORT, "optimiser": "lbfgs"}, "optimiser = 'lbfgs'"),
    ):
        with pytest.raises(fw.InputError, match=message):
            fw.trained_curve(NETWORK, TRAIN, TEST, widths, **options)


def test_an_interrupt_keeps_what_is_done(monkeypatch):
    original, runs = curves.train, []

    def stopping(network, *arguments, **options):
        runs.append(network)
        if len(runs) == 2:
            raise KeyboardInterrupt
        return original(network, *arguments, **options)

    monkeypatch.setattr(curves, "train", stopping)
    rows = list(fw.trained_curve(NETWORK, TRAIN, TEST, [4, 5, 6], **SHORT))
    assert [row.width for row in rows] == [4]
    # an interrupt of the first run is passed on
    monkeypatch.setattr(curves, "train", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        next(fw.trained_curve(NETWORK, TRAIN, TEST, [4], **SHORT))


def test_default_rates_do_not_diverge():
    """Full-batch descent with either readout: the objective falls in every step."""
    for readout in ("standard", "mean-field"):
        network = fw.FullyConnected(widths=(4,), activation="linear", readout=readout)
        ensemble = fw.train(network, TRAIN, TEST, optimiser="sgd", steps=50, seeds=2)
        assert (np.diff(ensemble.history.objective) < 0.0).all()
