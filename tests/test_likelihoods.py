"""Posteriors under a likelihood: SciPy's multivariate normal, dense inverses, differences, and drawn functions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import multivariate_normal

import finitewidth as fw
from finitewidth.checks.exceptions import InputError
from finitewidth.inference.likelihoods import Gaussian, Likelihood

T = 0.3


def gram_and_targets(outputs, count=5, seed=0):
    r = np.random.default_rng(seed)
    half = r.standard_normal((count, count + 2))
    y = r.standard_normal(count) if outputs == 0 else r.standard_normal((count, outputs))
    return half @ half.T, y


def nats(K, y, temperature=T):
    """-log N(y; 0, K + T), output by output, by SciPy."""
    law = multivariate_normal(cov=K + temperature * np.eye(len(K)))
    return -sum(float(law.logpdf(column)) for column in y.reshape(len(K), -1).T)


@pytest.fixture
def joint(rng):
    """Joint covariance of 5 training and 3 test points, ridge, targets."""
    half = rng.standard_normal((8, 10))
    return half @ half.T / 10.0, 0.2, rng.standard_normal(5)


def posterior_of_train(K, ridge, y):
    """Mean and covariance of f at the training points."""
    A = np.linalg.inv(K + ridge * np.eye(len(K)))
    return K @ A @ y, K - K @ A @ K


class TestWhatIsALikelihood:
    def test_a_number_is_the_temperature_of_a_gaussian_one(self):
        assert Likelihood.of(0.2) == Gaussian(0.2) == fw.Gaussian(temperature=np.float64(0.2))
        assert type(Likelihood.of(1).temperature) is float
        given = Gaussian(0.2)
        assert Likelihood.of(given) is given

    @pytest.mark.parametrize("temperature", [0.0, -1.0, np.nan, np.inf, "warm", None, True])
    def test_a_temperature_that_cannot_be(self, temperature):
        for make in (Gaussian, Likelihood.of):
            with pytest.raises(InputError, match="temperature"):
                make(temperature)

    def test_a_wrong_keyword_gets_a_suggestion(self):
        with pytest.raises(InputError, match="did you mean temperature"):
            Gaussian(T=0.1)

    def test_they_can_be_compared_and_do_not_change(self):
        assert len({Gaussian(0.1), Gaussian(0.1), Gaussian(0.2)}) == 2
        assert repr(Gaussian(0.1)) == "Gaussian(temperature=0.1)"
        with pytest.raises(AttributeError):
            Gaussian(0.1).temperature = 1.0

    def test_one_of_the_users_own(self, train, test_set):
        """Gaussian noise under another name goes through the general saddle, to the numbers of the package."""

        @dataclass(frozen=True)
        class Own(Likelihood):
            temperature: float = 0.1

            def posterior(self, covariance, y):
                return Gaussian(self.temperature).posterior(covariance, y)

        network = fw.FullyConnected(widths=(9,))
        own, known = (fw.solve(network, train, noise) for noise in (Own(), 0.1))
        assert (own.likelihood, type(own.theory).__name__) == (Own(), "General")
        assert own.log_evidence == pytest.approx(known.log_evidence, rel=1e-9)
        np.testing.assert_allclose(own.predict(test_set).mean, known.predict(test_set).mean, rtol=1e-6, atol=1e-9)


class TestEnergy:
    @pytest.mark.parametrize("outputs", [0, 1, 3])
    def test_energy_and_cotangent(self, outputs):
        K, y = gram_and_targets(outputs)
        before = K.copy()
        posterior = Gaussian(T).posterior(K, y)
        np.testing.assert_array_equal(K, before)  # what is given is left as it was
        assert posterior.energy == pytest.approx(nats(K, y), rel=1e-12)
        move = np.random.default_rng(1).standard_normal(K.shape)
        move = 1e-5 * (move + move.T)
        numeric = nats(K + move, y) - nats(K - move, y)
        assert 2.0 * np.vdot(posterior.cotangent(), move) == pytest.approx(numeric, rel=1e-7)

    @pytest.mark.parametrize("outputs", [0, 1, 3])
    def test_by_temperature(self, outputs):
        K, y = gram_and_targets(outputs)
        numeric = nats(K, y, temperature=T + 1e-6) - nats(K, y, temperature=T - 1e-6)
        assert Gaussian(T).posterior(K, y).by_temperature() == pytest.approx(numeric / 2e-6, rel=1e-6)

    @pytest.mark.parametrize("temperature", [1e-18, 1e-12, 1e-6])
    def test_derivatives_on_a_singular_kernel(self, temperature):
        """Two equal points by hand: eigenvalues 2 and 0. K itself changes by rounding, which is not divided by T^2."""
        K, y = np.ones((2, 2)), np.array([0.3, -1.1])
        known, unknown = 0.5 * (y[0] + y[1]) ** 2, 0.5 * (y[0] - y[1]) ** 2
        posterior, rounding = Gaussian(temperature).posterior(K, y), 1e-16 * np.diag([1.0, 0.0])
        shifted = 2.0 + temperature
        by_scale = 0.5 * (2.0 / shifted - 2.0 * known / shifted**2)
        assert np.vdot(posterior.cotangent(), K + rounding) == pytest.approx(by_scale, rel=1e-3)
        by_temperature = 0.5 * (1.0 / shifted + 1.0 / temperature - known / shifted**2 - unknown / temperature**2)
        assert posterior.by_temperature() == pytest.approx(by_temperature, rel=1e-9)


class TestPredict:
    @pytest.mark.parametrize("outputs", [None, 1, 3])
    def test_equals_the_dense_inverse(self, outputs, joint, rng):
        K, ridge, y = joint
        y = y if outputs is None else rng.standard_normal((5, outputs))
        mean, variance = Gaussian(ridge).posterior(K[:5, :5], y).predict(K[5:, :5], np.diag(K)[5:])
        A = np.linalg.inv(K[:5, :5] + ridge * np.eye(5))
        np.testing.assert_allclose(mean, K[5:, :5] @ A @ y, rtol=1e-11)
        exact = np.diag(K[5:, 5:] - K[5:, :5] @ A @ K[:5, 5:])
        np.testing.assert_allclose(variance, exact if outputs is None else np.tile(exact[:, None], outputs), rtol=1e-11)
        assert mean.shape == variance.shape

    def test_rounding_never_makes_a_negative_variance(self):
        K = np.ones((4, 4))
        mean, variance = Gaussian(1e-15).posterior(K, np.ones(4)).predict(np.ones((2, 4)), np.ones(2))
        assert (variance >= 0.0).all()
        np.testing.assert_allclose(mean, 1.0, rtol=1e-6)

    def test_variances_of_several_outputs_are_their_own_arrays(self, joint):
        """Writing into one output's variance must not write into the others'."""
        K, ridge, y = joint
        posterior = Gaussian(ridge).posterior(K[:5, :5], np.tile(y[:, None], 2))
        _, variance = posterior.predict(K[5:, :5], np.diag(K)[5:])
        before = variance[0, 1]
        variance[0, 0] += 1.0
        assert variance[0, 1] == before


class TestTrainError:
    def test_is_the_posterior_mean_of_the_squared_residual(self, joint):
        K, ridge, y = joint
        mean, covariance = posterior_of_train(K[:5, :5], ridge, y)
        exact = np.mean((y - mean) ** 2) + np.trace(covariance) / 5
        assert Gaussian(ridge).posterior(K[:5, :5], y).train_error == pytest.approx(exact, rel=1e-12)

    def test_several_outputs_are_averaged(self, joint, rng):
        K, ridge, _ = joint
        y = rng.standard_normal((5, 3))
        whole, *columns = (Gaussian(ridge).posterior(K[:5, :5], part).train_error for part in (y, *y.T))
        assert whole == pytest.approx(np.mean(columns), rel=1e-12)

    @pytest.mark.statistical
    @pytest.mark.parametrize(("factor", "agrees"), [(1.0, True), pytest.param(1.2, False, marks=pytest.mark.control)])
    def test_against_draws_of_the_posterior(self, factor, agrees, joint, rng):
        """Second route: draws of f | y; a temperature 20 % off is the negative control."""
        K, ridge, y = joint
        mean, covariance = posterior_of_train(K[:5, :5], ridge, y)
        draws = rng.multivariate_normal(mean, covariance, 20000)
        errors = ((y - draws) ** 2).mean(1)
        theory = Gaussian(factor * ridge).posterior(K[:5, :5], y).train_error
        assert (abs(errors.mean() - theory) < 4.0 * errors.std() / np.sqrt(len(errors))) == agrees

    def test_interpolated_points_leave_no_negative_error(self):
        """K of rank zero and a ridge of rounding size: the trace that is left must not come out below zero."""
        for ridge in (1e-15, 1e-13, 1e-10, 1.0):
            error = Gaussian(ridge).posterior(np.zeros((4, 4)), np.array([1.0, -1.0, 1.0, 1.0])).train_error
            assert error == pytest.approx(1.0)  # f = 0: all of y^2 is left, and no variance


class TestCoupledOutputs:
    @pytest.mark.parametrize("outputs", [1, 2, 3])
    def test_equals_the_dense_inverse(self, outputs, rng):
        train, test, ridge = 4, 3, 0.2
        half = rng.standard_normal(((train + test) * outputs, 30))
        K, y = half @ half.T / 30.0, rng.standard_normal(train * outputs)
        n = train * outputs
        A = np.linalg.inv(K[:n, :n] + ridge * np.eye(n))
        blocks = np.array(
            [K[n + a : n + a + outputs, n + a : n + a + outputs] for a in range(0, test * outputs, outputs)]
        )
        mean, covariance = Gaussian(ridge).posterior(K[:n, :n], y).predict_coupled(K[n:, :n], blocks)
        whole = K[n:, n:] - K[n:, :n] @ A @ K[:n, n:]
        assert mean.shape == (test, outputs)
        np.testing.assert_allclose(mean.ravel(), K[n:, :n] @ A @ y, rtol=1e-10)
        for p in range(test):
            part = slice(p * outputs, (p + 1) * outputs)
            np.testing.assert_allclose(covariance[p], whole[part, part], rtol=1e-9, atol=1e-12)
