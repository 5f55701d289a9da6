"""Theories that rescale a kernel: stationarity, evidence, gradients and predictions against dense formulas."""

from __future__ import annotations

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.checks.exceptions import InputError, MemoryCapError
from finitewidth.theory.scaled import KernelSpectrum, ScaledKernel

CASES = [
    dict(widths=(20,), activation="erf"),
    dict(widths=(5,), activation="tanh", weight_precision=(0.7, 1.6), offset_precision=3.0),
    dict(widths=(7, 40), activation="relu", weight_precision=(0.7, 1.6, 2.0)),
    dict(widths=(30, 4, 9), activation="linear", weight_precision=(0.5, 1.5, 0.8, 1.1)),
    dict(widths=(8, 15), activation="gelu", readout="mean-field"),
]


def network_of(case):
    return fw.FullyConnected(**case)


def saddle(network, train, temperature=0.1):
    return fw.solve(fw.theory_of(network, temperature, closure="product"), train)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("temperature", [0.02, 0.5])
@pytest.mark.parametrize("n_points", [3, 15])
def test_stationary_in_every_layer(case, temperature, n_points, dense, make_data):
    network, train = network_of(case), make_data(n_points)
    solution = saddle(network, train, temperature)
    assert solution.converged
    slope = dense.slope(network, train, temperature, solution.order_parameters, "product")
    assert np.abs(slope).max() < 1e-6
    assert -solution.log_evidence == pytest.approx(
        dense.action(network, train, temperature, solution.order_parameters, "product"), rel=1e-10
    )
    surplus = np.array(network.widths) * (solution.order_parameters - 1.0)
    np.testing.assert_allclose(surplus, surplus[0], rtol=1e-9)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_predictions_are_gaussian_conditioning(case, dense, train, test_set):
    """Second route: joint dense kernel of training and test points, times prod Q, and an explicit inverse."""
    network = network_of(case)
    solution = saddle(network, train)
    joint = np.prod(solution.order_parameters) * dense.kernel(network, np.concatenate([train.x, test_set.x]))
    P = len(train)
    A = np.linalg.inv(joint[:P, :P] + 0.1 * np.eye(P))
    mean, covariance = joint[P:, :P] @ A @ train.y, joint[P:, P:] - joint[P:, :P] @ A @ joint[:P, P:]
    prediction = fw.predict(solution, test_set.x)
    np.testing.assert_allclose(prediction.mean, mean, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(prediction.variance, np.diag(covariance), rtol=1e-8)
    residual = train.y - joint[:P, :P] @ A @ train.y
    posterior = joint[:P, :P] - joint[:P, :P] @ A @ joint[:P, :P]
    assert prediction.train_error == pytest.approx(np.mean(residual**2) + np.trace(posterior) / P, rel=1e-9)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("method", [fw.Saddle("product"), fw.Infinite()], ids=str)
def test_evidence_gradients(case, method, train):
    """Differences of the solved evidence (the saddle moves too: envelope theorem)."""
    network, step = network_of(case), 1e-5

    def log_evidence(network=network, temperature=0.1):
        return fw.solve(fw.theory_of(network, temperature, method=method), train).log_evidence

    def slope(at, value):
        return (at(value * (1 + step)) - at(value * (1 - step))) / (2 * step * value)

    gradient = fw.solve(fw.theory_of(network, 0.1, method=method), train).evidence_gradient()
    assert gradient["temperature"] == pytest.approx(slope(lambda t: log_evidence(temperature=t), 0.1), rel=1e-6)
    for k, precision in enumerate(network.weight_precision):

        def with_precision(value, k=k):
            values = list(network.weight_precision)
            values[k] = value
            return log_evidence(network.with_precision(tuple(values)))

        assert gradient["weight_precision"][k] == pytest.approx(slope(with_precision, precision), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_mean_field_is_a_precision_of_n_times_lambda(activation, train, test_set):
    mean_field = fw.FullyConnected(
        widths=(9, 30), activation=activation, weight_precision=(1.0, 2.0, 0.7), readout="mean-field"
    )
    standard = fw.FullyConnected(widths=(9, 30), activation=activation, weight_precision=(1.0, 2.0, 21.0))
    one, other = saddle(mean_field, train), saddle(standard, train)
    np.testing.assert_allclose(one.order_parameters, other.order_parameters, rtol=1e-12)
    assert one.log_evidence == pytest.approx(other.log_evidence, rel=1e-13)
    np.testing.assert_allclose(fw.predict(one, test_set.x).mean, fw.predict(other, test_set.x).mean, rtol=1e-10)


@pytest.mark.parametrize("closure", ["product", "nested"])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("method", ["saddle", "integrate"])
def test_width_1e12_is_infinite_width(closure, depth, method, train, test_set):
    network = fw.FullyConnected(widths=(10**12,) * depth, activation="erf", weight_precision=1.3)
    wide = fw.solve(fw.theory_of(network, 0.1, closure, method), train)
    infinite = fw.solve(fw.theory_of(network, 0.1, method="infinite"), train)
    assert wide.converged
    assert infinite.converged
    assert infinite.order_parameters.size == 0
    a, b = fw.predict(wide, test_set.x), fw.predict(infinite, test_set.x)
    tolerance = 1e-8 if not (method == "integrate" and closure == "nested" and depth == 2) else 1e-5
    np.testing.assert_allclose(a.mean, b.mean, atol=tolerance)
    np.testing.assert_allclose(a.std, b.std, atol=tolerance)
    assert a.train_error == pytest.approx(b.train_error, abs=tolerance)
    if tolerance == 1e-8:
        assert wide.log_evidence == pytest.approx(infinite.log_evidence, abs=1e-8)


def test_infinite_width_is_scikit_learn(train, test_set):
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import DotProduct

    network = fw.FullyConnected(widths=(10**12,), activation="linear", weight_precision=(1.0 / 5.0, 1.0))
    solution = fw.solve(fw.theory_of(network, 0.1), train)
    other = GaussianProcessRegressor(DotProduct(sigma_0=0.0, sigma_0_bounds="fixed"), alpha=0.1, optimizer=None)
    mean, std = other.fit(train.x, train.y).predict(test_set.x, return_std=True)
    prediction = fw.predict(solution, test_set.x)
    np.testing.assert_allclose(prediction.mean, mean, atol=1e-8)
    np.testing.assert_allclose(prediction.std, std, atol=1e-8)
    assert solution.log_evidence == pytest.approx(other.log_marginal_likelihood_value_, abs=1e-8)


@pytest.mark.parametrize("temperature", [1e-9, 0.05, 10.0])
@pytest.mark.parametrize("outputs", [1, 3])
def test_infinite_width_by_cholesky_and_by_eigenvectors(outputs, temperature, train, test_set):
    network = fw.FullyConnected(widths=(20, 30), weight_precision=(1.0, 2.0, 0.5), offset_precision=3.0)
    targets = train.y if outputs == 1 else np.stack([train.y, train.y**2, -train.y], axis=1)
    data = fw.Dataset(train.x, targets, classes=())
    theory = fw.theory_of(network, temperature, method="infinite")
    one, many = theory.solve(data), theory.solve(data, theory.factorise(data))
    a, b = one.predict(test_set.x), many.predict(test_set.x)
    np.testing.assert_allclose(a.mean, b.mean, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(a.variance, b.variance, rtol=1e-9, atol=1e-11)
    assert a.train_error == pytest.approx(b.train_error, rel=1e-9)
    assert one.log_evidence == pytest.approx(many.log_evidence, rel=1e-11)
    for name, value in one.evidence_gradient().items():
        np.testing.assert_allclose(value, many.evidence_gradient()[name], rtol=1e-8)


class TestEdges:
    @pytest.mark.parametrize("activation", ["erf", "relu"])
    @pytest.mark.parametrize("temperature", [1e-12, 1e6])
    @pytest.mark.parametrize(
        "name",
        ["one_point", "duplicates", "zero_inputs", "zero_targets", "tiny_inputs", "tiny_targets", "large_targets"],
    )
    @pytest.mark.parametrize("width", [1, 20])
    def test_converges_to_finite_numbers(self, name, temperature, activation, width, make_data, test_set):
        data = make_data(1 if name == "one_point" else 8)
        x, y = np.array(data.x), np.array(data.y)
        if name == "duplicates":
            x[4:] = x[:4]
        x *= {"zero_inputs": 0.0, "tiny_inputs": 1e-100}.get(name, 1.0)
        y *= {"zero_targets": 0.0, "tiny_targets": 1e-100, "large_targets": 1e4}.get(name, 1.0)
        train = fw.Dataset(x, y, classes=())
        for method in ("saddle", "integrate"):
            network = fw.FullyConnected(widths=(width,), activation=activation)
            solution = fw.solve(fw.theory_of(network, temperature, method=method), train)
            assert solution.converged, solution.message
            errors = fw.predict(solution, test_set.x).errors(test_set.y)
            assert np.isfinite([errors.test_error, errors.train_error, solution.log_evidence]).all()
            assert (solution.order_parameters >= 0.0).all()

    def test_contradictory_targets_at_low_temperature(self, make_data):
        """Rounding in null directions of K once passed for signal: Q = 1e7 at T = 1e-12, called converged.

        Second route: with each pair merged to its mean, at temperature T/2, Q is the same (sufficient statistics).
        """
        half = make_data(5)
        gap = np.linspace(0.1, 0.5, 5)
        train = fw.Dataset(np.tile(half.x, (2, 1)), np.concatenate([half.y + gap, half.y - gap]), classes=())
        network = fw.FullyConnected(widths=(20,))
        doubled = fw.solve(fw.theory_of(network, 2e-12), train)
        merged = fw.solve(fw.theory_of(network, 1e-12), half)
        np.testing.assert_allclose(doubled.order_parameters, merged.order_parameters, rtol=1e-6)

    @pytest.mark.parametrize("activation", ["linear", "relu"])
    def test_low_rank_kernel_at_low_temperature(self, activation, make_data):
        """P > N0 for a linear kernel, T = 1e-12: training points as test points must give the train error."""
        data = make_data(12, 4)
        train = fw.Dataset(data.x, 1e3 * data.y, classes=())
        solution = fw.solve(fw.theory_of(fw.FullyConnected(widths=(20,), activation=activation), 1e-12), train)
        errors = fw.predict(solution, train.x).errors(train.y)
        assert errors.test_error == pytest.approx(errors.train_error, rel=1e-6, abs=1e-8)

    @pytest.mark.parametrize("activation", ["relu", "linear"])
    def test_inputs_too_large_for_squares_are_refused(self, activation, make_data):
        data = make_data(6)
        train = fw.Dataset(1e100 * np.array(data.x), data.y, classes=())
        with pytest.raises(InputError, match="rescale the inputs"):
            fw.solve(fw.theory_of(fw.FullyConnected(widths=(5,), activation=activation), 0.1), train)

    def test_huge_inputs_of_a_bounded_activation(self, make_data):
        data = make_data(6)
        train = fw.Dataset(1e100 * np.array(data.x), data.y, classes=())
        solution = fw.solve(fw.theory_of(fw.FullyConnected(widths=(5,)), 0.1), train)
        assert solution.converged
        assert np.isfinite(solution.log_evidence)

    @pytest.mark.parametrize("scale", [1e30, 1e100])
    def test_huge_targets_say_so(self, scale, make_data):
        data = make_data(6)
        for widths in [(5,), (5, 30)]:
            solution = fw.solve(
                fw.theory_of(fw.FullyConnected(widths=widths), 0.1, "product"),
                fw.Dataset(data.x, scale * np.array(data.y), classes=()),
            )
            assert solution.converged or "rescale the data" in solution.message

    def test_scaling_of_targets_temperature_and_readout(self, train):
        """y -> a y, T -> a^2 T, lambda_L -> lambda_L / a^2 leaves Q alone and shifts the evidence by -P log a."""
        a = 1e3
        scaled = fw.Dataset(train.x, a * np.array(train.y), classes=())
        one = fw.solve(fw.theory_of(fw.FullyConnected(widths=(9,)), 0.1), train)
        network = fw.FullyConnected(widths=(9,), weight_precision=(1.0, 1.0 / a**2))
        other = fw.solve(fw.theory_of(network, 0.1 * a**2), scaled)
        np.testing.assert_allclose(one.order_parameters, other.order_parameters, rtol=1e-10)
        assert other.log_evidence == pytest.approx(one.log_evidence - 12 * np.log(a), rel=1e-10)


class TestSharing:
    def test_memory_cap(self, train):
        with pytest.raises(MemoryCapError, match="12 x 12 Gram matrix"):
            fw.solve(fw.theory_of(fw.FullyConnected(widths=(9,)), 0.1), train, memory=1000.0)

    def test_spectrum_serves_other_widths_temperatures_and_readouts(self, train):
        network = fw.FullyConnected(widths=(9,), weight_precision=(1.0, 2.0))
        shared = KernelSpectrum.of(network, train)
        for width, temperature, readout in [(9, 0.1, 2.0), (50, 0.1, 1.0), (9, 0.7, 0.3)]:
            other = fw.FullyConnected(widths=(width,), weight_precision=(1.0, readout))
            theory = ScaledKernel(other, temperature)
            assert theory.solve(train, shared).log_evidence == pytest.approx(
                theory.solve(train).log_evidence, rel=1e-13
            )

    def test_nothing_is_mutated(self, train, test_set):
        before = train.fingerprint(), test_set.fingerprint()
        network = fw.FullyConnected(widths=(9,))
        solution = saddle(network, train)
        first = fw.predict(solution, test_set.x).mean.copy()
        solution.evidence_gradient()
        np.testing.assert_array_equal(fw.predict(solution, test_set.x).mean, first)
        assert (train.fingerprint(), test_set.fingerprint()) == before

    def test_the_cache_of_test_points_notices_other_points(self, train, test_set):
        solution = saddle(fw.FullyConnected(widths=(9,)), train)
        x = np.array(test_set.x)
        first = fw.predict(solution, x).mean
        x *= 2.0
        np.testing.assert_allclose(fw.predict(solution, x).mean, fw.predict(solution, x.copy()).mean)
        assert not np.allclose(first, fw.predict(solution, x).mean)


@pytest.mark.parametrize("widths", [(30,), (30, 50)])
def test_the_covariance_is_the_scaled_kernel(widths, rng):
    network = fw.FullyConnected(widths=widths, weight_precision=2.0)
    theory, x, other = (
        fw.theory_of(network, 0.1, closure="product" if widths[1:] else None),
        *rng.standard_normal((2, 4, 3)),
    )
    q = np.linspace(0.5, 0.8, len(widths))
    kernel = theory.covariance(q, x, other)
    np.testing.assert_allclose(kernel, q.prod() * fw.kernels.nngp(network, x, other), rtol=1e-12)
    np.testing.assert_allclose(theory.covariance(q, x), q.prod() * fw.kernels.nngp(network, x), rtol=1e-12)
