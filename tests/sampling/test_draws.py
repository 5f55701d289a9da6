"""Errors of draws: what they average, their standard errors, and what they admit."""

from __future__ import annotations

import math

import numpy as np
import pytest

from finitewidth.checks.exceptions import InputError
from finitewidth.inference.prediction import Errors, Prediction
from finitewidth.sampling.draws import Draws, Observable


def draws_of(mean: np.ndarray, variance: np.ndarray | float = 0.2, **changes) -> Draws:
    shape = mean.shape[:2]
    rng = np.random.default_rng(9)
    fields = {
        "mean": mean,
        "variance": np.broadcast_to(variance, mean.shape),
        "train_error": rng.standard_normal(shape) ** 2,
        "energy": rng.standard_normal(shape),
        "acceptance": np.full(shape, 0.8),
        "steps": np.full(shape, 7),
        "diverged": np.zeros(shape, bool),
        "observables": {"order_parameter": Observable(np.eye(1), np.zeros((1, 1)))},
        "settings": {"step_size": 0.1},
        "complete": True,
    }
    return Draws(**(fields | changes))


@pytest.fixture
def mean(rng) -> np.ndarray:
    return 0.3 + 0.5 * rng.standard_normal((4, 400, 6))


def test_errors_of_independent_draws(mean, rng):
    y = rng.standard_normal(6)
    errors = draws_of(mean).errors(y)
    assert isinstance(errors, Errors)
    assert errors.test_error == pytest.approx(np.mean((y - mean) ** 2 + 0.2))
    assert errors.test_error == pytest.approx(errors.bias + errors.variance)
    assert errors.accuracy is errors.accuracy_se is None
    naive = np.mean((y - mean) ** 2 + 0.2, axis=-1).std() / 40.0
    assert errors.test_error_se == pytest.approx(naive, rel=0.15)
    assert errors.converged, errors.message
    assert 0.99 < errors.r_hat < 1.01
    assert 1000 < errors.ess < 2600
    assert errors.divergences == 0


def test_bias_and_variance_are_unbiased_with_honest_errors():
    """Few draws of a known law: bias (0.3 - y)^2, variance 0.25 + 0.2; the naive bias would be 0.0125 high."""
    y = np.zeros(50)
    found = []
    for seed in range(60):
        mean = 0.3 + 0.5 * np.random.default_rng(seed).standard_normal((4, 5, 50))
        found.append(draws_of(mean).errors(y))
    bias = np.array([e.bias for e in found])
    assert abs(bias.mean() - 0.09) < 4 * bias.std() / math.sqrt(len(bias))
    longer = [
        draws_of(0.3 + 0.5 * np.random.default_rng(seed).standard_normal((4, 100, 50))).errors(y) for seed in range(25)
    ]
    for value, error, truth in (("bias", "bias_se", 0.09), ("variance", "variance_se", 0.45)):
        z = np.array([(getattr(e, value) - truth) / getattr(e, error) for e in longer])
        assert 0.7 < z.std() < 1.4
        assert abs(z.mean()) < 0.7


def test_prediction_has_the_total_variance(mean):
    prediction = draws_of(mean).prediction()
    assert isinstance(prediction, Prediction)
    np.testing.assert_allclose(prediction.mean, mean.mean((0, 1)))
    np.testing.assert_allclose(prediction.variance, 0.2 + mean.var((0, 1)))
    y = np.ones(6)
    assert prediction.errors(y).test_error == pytest.approx(draws_of(mean).errors(y).test_error)


def test_accuracy_of_labels(mean):
    y = np.array([1.0, -1, 1, 1, -1, 1])
    normal = np.random.default_rng(0).standard_normal((400, 1, 1, 1))
    drawn = np.mean(y * (mean[:, :50] + math.sqrt(0.2) * normal) > 0)
    errors = draws_of(mean[:, :50]).errors(y)
    assert errors.accuracy == pytest.approx(drawn, abs=0.01)
    assert 0 < errors.accuracy_se < 0.05
    certain = draws_of(mean, 0.0).errors(y)
    assert certain.accuracy == pytest.approx(np.mean(y * mean > 0))


def test_accuracy_of_several_outputs(rng):
    mean = rng.standard_normal((2, 30, 5, 3))
    y = np.eye(3)[[0, 1, 2, 2, 0]] - 1 / 3
    noise = math.sqrt(0.2) * rng.standard_normal((2000, *mean.shape[1:]))
    right = (mean[0] + noise).argmax(-1) == y.argmax(-1)
    assert draws_of(mean[:1]).errors(y).accuracy == pytest.approx(right.mean(), abs=0.005)
    hits = (mean.argmax(-1) == y.argmax(-1)).mean()
    assert draws_of(mean, 0.0).errors(y).accuracy == pytest.approx(hits)


def test_one_chain_says_so(mean):
    errors = draws_of(mean[:1]).errors(np.zeros(6))
    assert math.isnan(errors.r_hat)
    assert not errors.converged
    assert "one chain" in errors.message
    assert errors.test_error_se > 0


def test_chains_apart_say_so(mean):
    apart = mean + np.arange(4)[:, None, None]
    errors = draws_of(apart).errors(np.zeros(6))
    assert errors.r_hat > 1.1
    assert not errors.converged
    assert "R-hat" in errors.message


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"complete": False}, "interrupted"),
        ({"diverged": np.ones((4, 400), bool)}, "1600 divergent"),
        ({"energy": np.zeros((4, 400))}, "did not move"),
    ],
)
def test_what_else_is_admitted(mean, changes, word):
    errors = draws_of(mean, **changes).errors(np.zeros(6))
    assert not errors.converged
    assert word in errors.message


def test_too_few_draws(mean):
    errors = draws_of(mean[:, :2]).errors(np.zeros(6))
    assert math.isnan(errors.test_error_se)
    assert not errors.converged


def test_other_targets_are_refused(mean):
    with pytest.raises(InputError, match=r"shape \(5,\)"):
        draws_of(mean).errors(np.zeros(5))


def test_unrecorded_observable(mean):
    with pytest.raises(InputError, match="order_parameter, which was not recorded"):
        _ = draws_of(mean, observables={}).order_parameter


def test_datatree_is_read_by_arviz(mean):
    arviz = pytest.importorskip("arviz")
    tree = draws_of(mean, attrs={"network": "N"}, observed={"y_train": np.ones(3)}).to_datatree()
    assert {"posterior", "sample_stats", "observed_data", "observables"} <= set(tree.children)
    assert tree.posterior["mean"].dims == ("chain", "draw", "point")
    assert tree.attrs["network"] == "N"
    data = arviz.InferenceData(posterior=tree["posterior"].to_dataset())
    assert float(arviz.rhat(data, var_names=["train_error"])["train_error"]) < 1.02
