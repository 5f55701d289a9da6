"""Errors and probabilities of predictions against dense formulas and sampled functions."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from finitewidth.checks.exceptions import InputError
from finitewidth.inference.prediction import (
    Prediction,
    _orthant_probability,
    class_probabilities,
    sign_probability,
)


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

    def test_targets_of_another_shape_are_named(self):
        prediction = Prediction(np.zeros((4, 3)), np.ones((4, 3)), 0.0)
        with pytest.raises(InputError, match=r"targets of shape \(4, 2\); wanted: targets of shape \(4, 3\), as pred"):
            prediction.errors(np.zeros((4, 2)))
        with pytest.raises(InputError, match="y with NaN"):
            prediction.errors(np.full((4, 3), np.nan))
        assert prediction.errors(np.zeros((4, 3)).tolist()).bias == 0.0  # lists will do

    def test_several_outputs_are_averaged(self, rng):
        y, mean, variance = rng.standard_normal((3, 6, 2))
        errors = Prediction(mean, variance**2, 0.3).errors(y)
        assert errors.bias == pytest.approx(sum((y - mean).ravel() ** 2) / 12)
        assert errors.variance == pytest.approx(sum((variance**2).ravel()) / 12)
        assert errors.test_error == pytest.approx(errors.bias + errors.variance)
        assert errors.accuracy is None

    def test_descriptions_do_not_change(self):
        prediction = Prediction(np.zeros(2), np.ones(2), 0.0)
        for thing in (prediction, prediction.errors(np.zeros(2))):
            with pytest.raises(FrozenInstanceError):
                thing.train_error = 1.0
        assert prediction.covariance is None


def one_hot(classes, outputs):
    """Centred: e_c - 1/D."""
    return np.array([[float(d == c) - 1.0 / outputs for d in range(outputs)] for c in classes])


class TestClasses:
    """Probabilities that an output is the largest, by routes of their own; the package's are good to about 1e-4."""

    def test_two_labels(self, rng):
        mean, variance = rng.standard_normal(4), rng.random(4)
        found = class_probabilities(Prediction(mean, variance, 0.0))
        positive = norm.cdf(mean, 0.0, np.sqrt(variance))
        np.testing.assert_allclose(found, np.array([1.0 - positive, positive]).T, rtol=1e-12)

    @pytest.mark.parametrize("outputs", [2, 3, 5])
    def test_independent_outputs_by_quadrature(self, outputs, rng):
        """The density of one output times the probability that all others are below it."""
        mean, variance = rng.standard_normal((4, outputs)), 0.1 + rng.random((4, outputs))
        found = class_probabilities(Prediction(mean, variance, 0.0))
        z = np.linspace(-9.0, 9.0, 4001)
        for p in range(4):
            sd = np.sqrt(variance[p])
            for c in range(outputs):
                f = mean[p, c] + sd[c] * z
                others = [norm.cdf(f, mean[p, d], sd[d]) for d in range(outputs) if d != c]
                exact = np.sum(norm.pdf(z) * np.prod(others, axis=0)) * (z[1] - z[0])
                assert found[p, c] == pytest.approx(exact, abs=1e-12 if outputs == 2 else 1e-3)
        np.testing.assert_allclose(found.sum(1), 1.0, rtol=1e-14)
        assert found.shape == (4, outputs)

    def test_coupled_outputs_by_their_differences(self, rng):
        """Two of them: one Gaussian. Three: the quadrant of a bivariate one, integrated by SciPy."""
        half = rng.standard_normal((4, 3, 5))
        covariance, mean = half @ half.swapaxes(1, 2) / 5.0, 0.5 * rng.standard_normal((4, 3))
        variance = np.einsum("pdd->pd", covariance)
        found = class_probabilities(Prediction(mean, variance, 0.0, covariance))
        independent = class_probabilities(Prediction(mean, variance, 0.0))
        assert np.abs(found - independent).max() > 0.02
        for p, c in np.ndindex(4, 3):
            D = np.array([[float(k == c) - float(k == d) for k in range(3)] for d in range(3) if d != c])
            exact = multivariate_normal(-D @ mean[p], D @ covariance[p] @ D.T).cdf([0.0, 0.0])
            assert found[p, c] == pytest.approx(exact, abs=1e-3)
        found = class_probabilities(Prediction(mean[:, :2], variance[:, :2], 0.0, covariance[:, :2, :2]))
        spread = variance[:, 0] + variance[:, 1] - 2.0 * covariance[:, 0, 1]
        first = norm.cdf((mean[:, 0] - mean[:, 1]) / np.sqrt(spread))
        np.testing.assert_allclose(found, np.array([first, 1.0 - first]).T, rtol=1e-9)

    def test_what_all_outputs_share_does_not_matter(self, rng):
        """A common shift, known or random; and with it the covariance of the differences alone may be singular."""
        half, mean = rng.standard_normal((3, 4, 6)), 0.5 * rng.standard_normal((3, 4))
        covariance = half @ half.swapaxes(1, 2) / 6.0
        found = class_probabilities(Prediction(mean, np.einsum("pdd->pd", covariance), 0.0, covariance))
        moved = class_probabilities(Prediction(mean + 7.0, np.ones((3, 4)), 0.0, covariance + 2.0))
        np.testing.assert_allclose(moved, found, atol=1e-9)
        order = [2, 0, 3, 1]
        permuted = class_probabilities(
            Prediction(mean[:, order], np.ones((3, 4)), 0.0, covariance[:, order][:, :, order])
        )
        np.testing.assert_allclose(permuted, found[:, order], atol=2e-3)
        scaled = class_probabilities(Prediction(1e-3 * mean, np.ones((3, 4)), 0.0, 1e-6 * covariance))
        np.testing.assert_allclose(scaled, found, atol=1e-9)

    def test_certain_outputs(self):
        mean = np.array([[0.3, 1.0, -2.0], [0.5, -0.1, 0.4]])
        for variance in (0.0, 1e-8):
            found = class_probabilities(Prediction(mean, np.full((2, 3), variance), 0.0))
            np.testing.assert_allclose(found, [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]], atol=1e-12)
        equal = class_probabilities(Prediction(np.zeros((1, 3)), np.ones((1, 3)), 0.0))
        np.testing.assert_allclose(equal, 1.0 / 3.0, atol=1e-3)

    def test_orthants_in_closed_form(self):
        """1/4 + arcsin(rho) / 2 pi of two, 1/8 + sum of arcsines / 4 pi of three (Sheppard 1899), 1/(k + 1) at 1/2."""
        for rho in (-0.4, 0.0, 0.7):
            covariance = np.array([[[4.0, 2.0 * rho], [2.0 * rho, 1.0]]])
            exact = 0.25 + np.arcsin(rho) / (2.0 * np.pi)
            assert _orthant_probability(np.zeros((1, 2)), covariance)[0] == pytest.approx(exact, abs=2e-4)
        rhos = 0.1, -0.3, 0.6
        covariance = np.array([[[1.0, rhos[0], rhos[1]], [rhos[0], 1.0, rhos[2]], [rhos[1], rhos[2], 1.0]]])
        exact = 0.125 + np.arcsin(rhos).sum() / (4.0 * np.pi)
        assert _orthant_probability(np.zeros((1, 3)), covariance)[0] == pytest.approx(exact, abs=3e-4)
        for k in (1, 2, 3, 6):
            covariance = 0.5 * (np.ones((k, k)) + np.eye(k))[None]
            assert _orthant_probability(np.zeros((1, k)), covariance)[0] == pytest.approx(1.0 / (k + 1), abs=5e-4)
        far = _orthant_probability(np.array([[-50.0, 1.0], [50.0, 50.0]]), np.tile(np.eye(2), (2, 1, 1)))
        np.testing.assert_allclose(far, [0.0, 1.0], atol=1e-12)
        singular = _orthant_probability(np.zeros((1, 2)), np.ones((1, 2, 2)))  # one variable, twice
        assert singular[0] == pytest.approx(0.5, abs=1e-3)

    def test_accuracy_is_the_probability_of_the_true_class(self, rng):
        mean, variance = rng.standard_normal((5, 3)), 0.1 + rng.random((5, 3))
        classes = [0, 2, 1, 1, 2]
        prediction = Prediction(mean, variance, 0.0)
        probability = class_probabilities(prediction)
        exact = np.mean([probability[p, c] for p, c in enumerate(classes)])
        for noise in (0.0, 1e-10):  # targets that went through single digits of rounding are still of classes
            assert prediction.errors(one_hot(classes, 3) + noise).accuracy == pytest.approx(exact, rel=1e-12)
        for y in (one_hot(classes, 3) + 1e-6, one_hot(classes, 3) + 1.0 / 3.0, -one_hot(classes, 3), mean):
            assert prediction.errors(y).accuracy is None

    def test_accuracy_of_labels_alone(self):
        """Labels -1 and +1 in one column of their own; of other numbers, or of several columns, there is none."""
        certain = Prediction(np.array([2.0, -1.0, 0.5]), np.zeros(3), 0.0)
        assert certain.errors(np.array([1.0, 1.0, 1.0])).accuracy == pytest.approx(2.0 / 3.0)
        assert certain.errors(np.array([-1.0, -1.0, 1.0])).accuracy == pytest.approx(2.0 / 3.0)
        assert certain.errors(np.array([1.0, -1.0, 0.5])).accuracy is None
        columns = Prediction(np.zeros((2, 2)), np.ones((2, 2)), 0.0)
        assert columns.errors(np.array([[1.0, -1.0], [-1.0, 1.0]])).accuracy is None
        assert columns.errors(np.array([[0.5, -0.5], [-0.5, 0.5]])).accuracy == pytest.approx(0.5)
