"""The prior of the scale, one-dimensional quadrature, and integrated theories in their limits.

Exactness on linear and relu networks is tested in tests/exact/test_linear_oracle.py.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate as sci
from scipy import stats

import finitewidth as fw
from finitewidth.checks.exceptions import InputError
from finitewidth.theory.integrate import integrate_log_density, log_scale_density


class TestScaleDensity:
    @pytest.mark.parametrize("width", [1, 2, 7, 59, 61, 1000])
    def test_one_layer_is_a_chi_square(self, width):
        x = np.linspace(-8.0, 3.0, 23)
        exact = stats.chi2.logpdf(width * np.exp(x), width) + np.log(width) + x
        np.testing.assert_allclose(log_scale_density(x, (width,)), exact, rtol=1e-10, atol=1e-10)

    @pytest.mark.parametrize("widths", [(1, 1), (1, 5), (3, 8), (2, 300), (59, 61), (40, 40)])
    def test_two_layers_are_a_convolution(self, widths):
        """p(x) = int p_1(u) p_2(x - u) du by the trapezoid rule."""

        def one(n, x):
            return stats.chi2.logpdf(n * np.exp(x), n) + np.log(n) + x

        u = np.linspace(-80.0, 6.0, 86_001)
        first = one(widths[0], u)
        for x in [-12.0, -3.0, -0.4, 0.0, 0.3, 1.5, 3.0]:
            terms = first + one(widths[1], x - u)
            exact = terms.max() + np.log(np.exp(terms - terms.max()).sum() * (u[1] - u[0]))
            assert log_scale_density(np.array([x]), widths)[0] == pytest.approx(exact, rel=1e-8, abs=1e-8)

    @pytest.mark.parametrize("widths", [(1,), (5, 7), (1, 1, 1), (20, 3, 100), (1000, 2000), (10**6, 10**6)])
    def test_normalised_with_mean_scale_one(self, widths):
        """E[s] = 1 and E[s^2] = prod (1 + 2/N): moments of chi-squares."""
        spread = sum(2.0 / n for n in widths) ** 0.5
        low = -60.0 if min(widths) < 5 else -14.0  # narrow layers: exp(N x / 2) to the left
        x = np.linspace(low * spread, 9.0 * spread + 1.0 * (spread > 0.5), 1501)
        density = np.exp(log_scale_density(x, widths)) * (x[1] - x[0])
        assert density.sum() == pytest.approx(1.0, abs=1e-8)
        assert density @ np.exp(x) == pytest.approx(1.0, abs=1e-8)
        if max(widths) < 10**6:
            assert density @ np.exp(2 * x) == pytest.approx(np.prod(1.0 + 2.0 / np.array(widths)), rel=1e-6)

    @pytest.mark.parametrize("widths", [(10**12,), (10**12, 10**12), (10**12, 3)])
    def test_very_wide_layers(self, widths):
        """Wide layers drop out: a Gaussian of variance 2/N at the centre, or the narrow layer's density."""
        if min(widths) == 3:
            x = np.linspace(-3.0, 1.0, 9)
            np.testing.assert_allclose(log_scale_density(x, widths), log_scale_density(x, (3,)), atol=1e-7)
        else:
            sd = np.sqrt(sum(2.0 / n for n in widths))
            x = sd * np.linspace(-4.0, 4.0, 9)
            np.testing.assert_allclose(
                log_scale_density(x, widths), stats.norm.logpdf(x, 0.0, sd), atol=5e-5
            )  # skewness

    def test_far_tails_are_finite(self):
        for widths in [(1, 2), (5, 7, 9), (10**12, 10**12)]:
            assert np.isfinite(log_scale_density(np.array([-200.0, -30.0, 5.0, 20.0]), widths)).all()


class TestQuadrature:
    def test_a_gaussian(self):
        nodes = integrate_log_density(lambda x: -0.5 * ((x - 3.0) / 1e-3) ** 2, [(2.999, 1e-2)])
        assert nodes.settled
        assert nodes.log_integral == pytest.approx(0.5 * np.log(2 * np.pi) + np.log(1e-3), abs=1e-10)
        assert nodes.weights @ nodes.x == pytest.approx(3.0, abs=1e-10)
        assert nodes.weights @ (nodes.x - 3.0) ** 2 == pytest.approx(1e-6, rel=1e-8)

    def test_two_bumps(self):
        def log_density(x):
            return np.logaddexp(-0.5 * (x + 4.0) ** 2, np.log(3.0) - 2.0 * (x - 5.0) ** 2)

        nodes = integrate_log_density(log_density, [(-4.0, 1.0), (5.0, 0.5)])
        exact = sci.quad(lambda x: np.exp(log_density(x)), -20.0, 20.0, points=[-4.0, 5.0], epsabs=1e-13)[0]
        assert nodes.log_integral == pytest.approx(np.log(exact), abs=1e-9)

    def test_a_negligible_bump_is_left_out(self):
        nodes = integrate_log_density(
            lambda x: np.where(x < 10.0, -0.5 * (x / 1e-3) ** 2, -1e6), [(0.0, 1e-3), (20.0, 1.0)]
        )
        assert nodes.settled
        assert nodes.x.max() < 1.0


WIDE = 4000


class TestLimits:
    @pytest.mark.parametrize(
        "case",
        [dict(activation="erf"), dict(activation="relu"), dict(activation="gelu", weight_precision=(0.5, 2.0))],
        ids=str,
    )
    @pytest.mark.parametrize("readout", ["standard"])
    def test_wide_networks_agree_with_the_saddle(self, case, readout, train, test_set):
        network = fw.FullyConnected(widths=(WIDE,), readout=readout, **case)
        one, other = (fw.solve(fw.theory_of(network, 0.1, method=m), train) for m in ("integrate", "saddle"))
        a, b = (fw.predict(s, test_set.x).errors(test_set.y) for s in (one, other))
        assert one.converged
        assert a.test_error == pytest.approx(b.test_error, rel=10.0 / WIDE)
        assert a.train_error == pytest.approx(b.train_error, rel=10.0 / WIDE)
        assert one.log_evidence == pytest.approx(other.log_evidence, abs=20.0 / WIDE)
        assert one.order_parameters[0] == pytest.approx(other.order_parameters[0], rel=10.0 / WIDE)

    def test_deep_product(self, train, test_set):
        network = fw.FullyConnected(widths=(WIDE, 2 * WIDE, WIDE), activation="erf")
        one, other = (fw.solve(fw.theory_of(network, 0.1, "product", m), train) for m in ("integrate", "saddle"))
        np.testing.assert_allclose(one.order_parameters, other.order_parameters, rtol=10.0 / WIDE)
        assert one.log_evidence == pytest.approx(other.log_evidence, abs=20.0 / WIDE)

    def test_nested(self, train, test_set):
        network = fw.FullyConnected(widths=(WIDE, WIDE), activation="erf")
        one, other = (fw.solve(fw.theory_of(network, 0.1, method=m), train) for m in ("integrate", "saddle"))
        assert one.converged
        assert one.log_evidence == pytest.approx(other.log_evidence, abs=0.02)
        a, b = (fw.predict(s, test_set.x).errors(test_set.y).test_error for s in (one, other))
        assert a == pytest.approx(b, rel=0.01)

    @pytest.mark.parametrize("activation", ["erf", "relu", "linear"])
    def test_without_data_worth_the_name_the_prior_stays(self, activation, make_data, test_set):
        """T = 1e9: E[Q] = 1 and the variance is the prior's."""
        network = fw.FullyConnected(widths=(5,), activation=activation)
        solution = fw.solve(fw.theory_of(network, 1e9, method="integrate"), make_data(6))
        prediction = fw.predict(solution, test_set.x)
        assert solution.order_parameters[0] == pytest.approx(1.0, abs=1e-6)
        np.testing.assert_allclose(prediction.variance, fw.kernels.nngp_diagonal(network, test_set.x), rtol=1e-6)

    @pytest.mark.parametrize("activation", ["erf", "relu"])
    def test_training_points_as_test_points_give_the_train_error(self, activation, train):
        for widths in [(5,), (4, 7)]:
            network = fw.FullyConnected(widths=widths, activation=activation)
            solution = fw.solve(fw.theory_of(network, 0.1, method="integrate"), train)
            errors = fw.predict(solution, train.x).errors(train.y)
            assert errors.test_error == pytest.approx(errors.train_error, rel=1e-8)

    @pytest.mark.parametrize("activation", ["relu", "gelu", "quadratic"])
    @pytest.mark.parametrize("width", [1, 2, 10**12])
    def test_activations_with_a_mean(self, activation, width, train, test_set):
        network = fw.FullyConnected(widths=(width,), activation=activation)
        solution = fw.solve(fw.theory_of(network, 0.1, method="integrate"), train)
        errors = fw.predict(solution, test_set.x).errors(test_set.y)
        assert solution.converged
        assert np.isfinite([errors.test_error, errors.train_error, solution.log_evidence]).all()
        if width == 10**12:
            infinite = fw.solve(fw.theory_of(network, 0.1, method="infinite"), train)
            assert solution.log_evidence == pytest.approx(infinite.log_evidence, abs=1e-7)
            other = fw.predict(infinite, test_set.x).errors(test_set.y)
            assert errors.test_error == pytest.approx(other.test_error, rel=1e-7)

    def test_mean_field_readout_of_relu(self, train):
        mean_field = fw.FullyConnected(widths=(9,), activation="relu", readout="mean-field")
        standard = fw.FullyConnected(widths=(9,), activation="relu", weight_precision=(1.0, 9.0))
        one, other = (fw.solve(fw.theory_of(n, 0.1, method="integrate"), train) for n in (mean_field, standard))
        assert one.log_evidence == pytest.approx(other.log_evidence, rel=1e-12)
        np.testing.assert_allclose(one.order_parameters, other.order_parameters, rtol=1e-12)

    def test_evidence_gradient_is_refused(self, train):
        solution = fw.solve(fw.theory_of(fw.FullyConnected(widths=(9,)), 0.1, method="integrate"), train)
        with pytest.raises(InputError, match="method='saddle'"):
            solution.evidence_gradient()

    def test_repeatable_and_nothing_mutated(self, train, test_set):
        before = train.fingerprint()
        for widths, activation in [((5,), "relu"), ((5, 7), "erf")]:
            theory = fw.theory_of(fw.FullyConnected(widths=widths, activation=activation), 0.1, method="integrate")
            one, other = fw.solve(theory, train), fw.solve(theory, train)
            assert one.log_evidence == other.log_evidence
            assert (fw.predict(one, test_set.x).mean == fw.predict(other, test_set.x).mean).all()
        assert train.fingerprint() == before
