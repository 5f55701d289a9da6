"""``Train``: one ensemble a problem and size, resumable, checked before the first run."""

from __future__ import annotations

import json

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.inference.likelihoods import Gaussian
from finitewidth.inference.methods import Control, Problem, Row, Solution
from finitewidth.runs import long_runs
from finitewidth.training import LeastSquares, Train

pytest.importorskip("jax")
pytest.importorskip("optax")

NETWORK = fw.FullyConnected(widths=(4,), activation="linear")
SHORT = {"optimiser": "sgd", "learning_rate": 0.02, "steps": 20, "seeds": 3}
METHOD = Train(**SHORT)


def problems(*widths, temperature=0.1):
    likelihood = Gaussian(temperature) if temperature else LeastSquares()
    return [Problem(NETWORK.with_width(width), likelihood) for width in widths]


def data(seed):
    rng = np.random.default_rng(seed)
    return fw.Dataset(rng.standard_normal((6, 3)), rng.choice([-1.0, 1.0], 6), classes=(-1.0, 1.0))


TRAIN, TEST = data(0), data(1)


def test_a_solution_is_the_ensemble_of_its_width(tmp_path):
    control = Control(checkpoints=tmp_path / "runs")
    solutions = list(METHOD.solutions(problems(4, 5), TRAIN, TEST, control=control))
    row, other = (solution.row(TEST, 1.0) for solution in solutions)
    ensemble = fw.train(NETWORK, TRAIN, TEST, 0.1, **SHORT)
    assert row == ensemble.row(TEST, 1.0)
    errors = ensemble.errors()
    assert solutions[0].errors(TEST) == errors
    assert (row.test_error, row.test_error_se, row.accuracy) == (
        errors.test_error,
        errors.test_error_se,
        errors.accuracy,
    )
    assert row.test_error == pytest.approx(row.bias + row.variance, rel=1e-12)
    assert (row.width, other.width, row.depth, row.n_train, row.method) == (4, 5, 1, 6, "sgd")
    assert (row.networks, row.steps, row.learning_rate, row.temperature) == (3, 20, 0.02, 0.1)
    assert json.loads(json.dumps(row.to_dict()))["order_parameters"] == row.order_parameters
    again = METHOD.solutions(problems(4, 5), TRAIN, TEST, control=control)
    assert [solution.row(TEST, 1.0) for solution in again] == [row, other]
    assert sorted(path.stem for path in (tmp_path / "runs").glob("*.npz")) == [
        "width-4-temperature-0.1",
        "width-5-temperature-0.1",
    ]


def test_what_a_solution_says():
    solution = METHOD.solve(problems(4)[0], TRAIN)
    ensemble = fw.train(NETWORK, TRAIN, TEST, 0.1, **SHORT)
    assert isinstance(solution, Solution)
    assert set(Row.__annotations__) <= set(solution.row(TEST, 0.0).to_dict())
    assert (solution.network, solution.likelihood, solution.train) == (NETWORK, Gaussian(0.1), TRAIN)
    assert (solution.converged, solution.message) == (ensemble.converged, ensemble.message)
    assert solution.complete
    assert np.isnan(solution.log_evidence)
    assert solution.order_parameters == pytest.approx(ensemble.order_parameter.ravel())
    # without a test set it predicts, and errs, anywhere
    np.testing.assert_array_equal(solution.predict(TEST).mean, ensemble.predict(TEST).mean)
    np.testing.assert_array_equal(solution.predict(TEST.x).variance, ensemble.predict(TEST).variance)
    assert solution.errors(TEST) == ensemble.errors()


def test_without_weight_decay():
    """Temperature 0 is least squares: no weight decay, and no other method's likelihood."""
    (solution,) = METHOD.solutions(problems(4, temperature=0.0), TRAIN, TEST)
    ensemble = fw.train(NETWORK, TRAIN, TEST, 0.0, **SHORT)
    assert solution.likelihood == LeastSquares()
    assert solution.row(TEST, 0.0) == ensemble.row(TEST, 0.0)
    assert solution.row(TEST, 0.0).temperature == 0.0
    assert solution.errors(TEST) != fw.train(NETWORK, TRAIN, TEST, 0.1, **SHORT).errors()
    assert (METHOD.likelihood(0), METHOD.likelihood(0.1)) == (LeastSquares(), Gaussian(0.1))
    with pytest.raises(fw.InputError, match="a positive temperature"):
        LeastSquares().posterior(np.eye(2), np.ones(2))
    with pytest.raises(fw.InputError, match="a Gaussian likelihood"):
        fw.Sample().serves(*problems(4, temperature=0.0))


def test_errors_by_hand():
    ensemble = fw.train(NETWORK, TRAIN, TEST, **SHORT)
    f, y = ensemble.outputs(TEST.x), TEST.y
    errors, prediction = ensemble.errors(), ensemble.predict(TEST)
    own = ((y - f) ** 2).mean(1)
    assert errors.test_error == pytest.approx(own.mean(), rel=1e-12)
    assert errors.test_error_se == pytest.approx(own.std(ddof=1) / np.sqrt(3), rel=1e-12)
    assert errors.variance == pytest.approx(f.var(0, ddof=1).mean(), rel=1e-12)
    assert errors.bias == pytest.approx(((y - f.mean(0)) ** 2).mean() - f.var(0, ddof=1).mean() / 3, rel=1e-12)
    assert errors.accuracy == pytest.approx(np.mean(f * y > 0), rel=1e-12)
    np.testing.assert_allclose(prediction.mean, f.mean(0), rtol=1e-12)
    np.testing.assert_allclose(prediction.variance, f.var(0, ddof=1), rtol=1e-12)
    assert prediction.train_error == errors.train_error == pytest.approx(ensemble.history.train_error[:, -1].mean())
    assert ensemble.history.step[-1] == 20
    assert ensemble.history.test_error[:, -1].mean() == pytest.approx(errors.test_error, rel=1e-9)
    with pytest.raises(fw.InputError, match=r"targets of shape \(5,\)"):
        ensemble.errors(np.zeros(5))
    with pytest.raises(fw.InputError, match=r"x of shape \(2,\)"):
        ensemble.outputs(np.zeros((5, 2)))


def test_one_network_has_no_standard_error():
    errors = fw.train(NETWORK, TRAIN, TEST, **{**SHORT, "seeds": [3]}).errors()
    assert errors.variance == 0.0
    assert errors.bias == errors.test_error
    assert np.isnan(errors.test_error_se)


def test_everything_is_checked_before_the_first_run(monkeypatch):
    monkeypatch.setattr(long_runs, "carry_out", lambda *_, **__: pytest.fail("ran"))
    with pytest.raises(fw.InputError, match="FullyConnected"):
        METHOD.solutions([*problems(4), Problem("fc", Gaussian(0.1))], TRAIN, TEST)
    with pytest.raises(fw.InputError, match="at most all points"):
        Train(batch=5).solutions(problems(4), TRAIN, TEST, sizes=[6, 4])
    with pytest.raises(fw.MemoryCapError, match="training 3 networks"):
        METHOD.solutions(problems(4), TRAIN, TEST, control=Control(memory=1e3))


def test_default_rates_do_not_diverge():
    """Full-batch descent with either readout: the objective falls in every step."""
    for readout in ("standard", "mean-field"):
        network = fw.FullyConnected(widths=(4,), activation="linear", readout=readout)
        ensemble = fw.train(network, TRAIN, TEST, optimiser="sgd", steps=50, seeds=2)
        assert (np.diff(ensemble.history.objective) < 0.0).all()
