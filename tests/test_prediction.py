"""Gaussian conditioning and errors against dense formulas and sampled functions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from finitewidth.exceptions import InputError
from finitewidth.linalg import RegularisedGram
from finitewidth.prediction import Prediction, condition, sign_probability, train_error


@pytest.fixture
def joint(rng):
    """Joint covariance of 5 training and 3 test points, ridge, targets."""
    half = rng.standard_normal((8, 10))
    return half @ half.T / 10.0, 0.2, rng.standard_normal(5)


def posterior_of_train(K, ridge, y):
    """Mean and covariance of f at the training points."""
    A = np.linalg.inv(K + ridge * np.eye(len(K)))
    return K @ A @ y, K - K @ A @ K


class TestCondition:
    @pytest.mark.parametrize("outputs", [None, 1, 3])
    def test_equals_the_dense_inverse(self, outputs, joint, rng):
        K, ridge, y = joint
        y = y if outputs is None else rng.standard_normal((5, outputs))
        mean, variance = condition(RegularisedGram(K[:5, :5], ridge), y, K[5:, :5], np.diag(K)[5:])
        A = np.linalg.inv(K[:5, :5] + ridge * np.eye(5))
        np.testing.assert_allclose(mean, K[5:, :5] @ A @ y, rtol=1e-11)
        exact = np.diag(K[5:, 5:] - K[5:, :5] @ A @ K[:5, 5:])
        np.testing.assert_allclose(variance, exact if outputs is None else np.tile(exact[:, None], outputs), rtol=1e-11)
        assert mean.shape == variance.shape

    def test_rounding_never_makes_a_negative_variance(self):
        K = np.ones((4, 4))
        mean, variance = condition(RegularisedGram(K, 1e-15), np.ones(4), K[:2], np.ones(2))
        assert (variance >= 0.0).all()
        np.testing.assert_allclose(mean, 1.0, rtol=1e-6)


class TestTrainError:
    def test_is_the_posterior_mean_of_the_squared_residual(self, joint):
        K, ridge, y = joint
        mean, covariance = posterior_of_train(K[:5, :5], ridge, y)
        exact = np.mean((y - mean) ** 2) + np.trace(covariance) / 5
        assert train_error(RegularisedGram(K[:5, :5], ridge), y) == pytest.approx(exact, rel=1e-12)

    def test_several_outputs_are_averaged(self, joint, rng):
        K, ridge, _ = joint
        gram, y = RegularisedGram(K[:5, :5], ridge), rng.standard_normal((5, 3))
        assert train_error(gram, y) == pytest.approx(np.mean([train_error(gram, c) for c in y.T]), rel=1e-12)

    @pytest.mark.statistical
    @pytest.mark.parametrize(("factor", "agrees"), [(1.0, True), (1.2, False)])
    def test_against_draws_of_the_posterior(self, factor, agrees, joint, rng):
        """Second route: draws of f | y; a temperature 20 % off is the negative control."""
        K, ridge, y = joint
        mean, covariance = posterior_of_train(K[:5, :5], ridge, y)
        draws = rng.multivariate_normal(mean, covariance, 20000)
        errors = ((y - draws) ** 2).mean(1)
        theory = train_error(RegularisedGram(K[:5, :5], factor * ridge), y)
        assert (abs(errors.mean() - theory) < 4.0 * errors.std() / np.sqrt(len(errors))) == agrees


class TestErrors:
    def test_parts_add_up(self, rng):
        y, mean, variance = rng.standard_normal(6), rng.standard_normal(6), rng.random(6)
        errors = Prediction(mean, variance, 0.3).errors(y)
        assert errors.bias == pytest.approx(np.mean((y - mean) ** 2))
        assert errors.variance == pytest.approx(np.mean(variance))
        assert errors.test_error == errors.bias + errors.variance
        assert (errors.train_error, errors.accuracy) == (0.3, None)

    @pytest.mark.statistical
    def test_test_error_is_the_mean_squared_error_of_draws(self, rng):
        y, mean, variance = rng.standard_normal(4), rng.standard_normal(4), rng.random(4)
        draws = ((y - mean - np.sqrt(variance) * rng.standard_normal((20000, 4))) ** 2).mean(1)
        error = Prediction(mean, variance, 0.0).errors(y).test_error
        assert abs(draws.mean() - error) < 4.0 * draws.std() / np.sqrt(len(draws))

    def test_accuracy_of_labels(self, rng):
        y = np.array([1.0, -1.0, 1.0])
        mean, variance = rng.standard_normal(3), rng.random(3)
        accuracy = Prediction(mean, variance, 0.0).errors(y).accuracy
        assert accuracy == pytest.approx(np.mean(norm.cdf(y * mean / np.sqrt(variance))))

    def test_certain_and_undecided_predictions(self):
        assert sign_probability(np.array([1.0, -1.0, 0.0, 0.0]), np.array([0.0, 0.0, 0.0, 1.0])).tolist() == [
            1,
            0,
            0.5,
            0.5,
        ]

    def test_std(self):
        assert Prediction(np.zeros(2), np.array([4.0, 9.0]), 0.0).std.tolist() == [2.0, 3.0]

    @pytest.mark.parametrize("y", [np.zeros(3), np.zeros((2, 1)), 0.0])
    def test_targets_of_another_shape(self, y):
        with pytest.raises(InputError, match="targets of shape"):
            Prediction(np.zeros(2), np.ones(2), 0.0).errors(y)
