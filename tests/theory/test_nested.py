"""The nested closure: gradient, minima against brute force, equality with the product closure where it must hold."""

from __future__ import annotations

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.checks.exceptions import MemoryCapError
from finitewidth.inference.likelihoods import Gaussian
from finitewidth.theory.general import Nested
from finitewidth.theory.scaled import ScaledKernel

CASES = [
    dict(widths=(20, 20), activation="erf"),
    dict(widths=(5, 40), activation="tanh", weight_precision=(0.7, 1.6, 0.9)),
    dict(widths=(12, 6, 30), activation="erf", weight_precision=(0.7, 1.6, 0.9, 1.2), offset_precision=3.0),
    dict(widths=(8, 15), activation="relu", weight_precision=(1.0, 0.5, 2.0), offset_precision=2.0),
    dict(widths=(8, 15), activation="erf", readout="mean-field"),
    dict(widths=(9, 9), activation="gelu"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_stationary_in_every_layer(case, dense, make_data):
    network, train = fw.FullyConnected(**case), make_data(9)
    solution = fw.solve(Nested(network, Gaussian(0.1)), train)
    assert solution.converged
    assert np.abs(dense.slope(network, train, 0.1, solution.order_parameters, "nested")).max() < 2.7e-5
    exact = dense.action(network, train, 0.1, solution.order_parameters, "nested")
    assert solution.action == pytest.approx(exact, rel=1e-9, abs=1e-9)
    assert solution.log_evidence == -solution.action


@pytest.mark.parametrize("case", CASES, ids=str)
def test_predictions_are_gaussian_conditioning(case, dense, train, test_set):
    network = fw.FullyConnected(**case)
    solution = fw.solve(Nested(network, Gaussian(0.1)), train)
    joint = dense.kernel(network, np.concatenate([train.x, test_set.x]), solution.order_parameters)
    P = len(train)
    A = np.linalg.inv(joint[:P, :P] + 0.1 * np.eye(P))
    prediction = fw.predict(solution, test_set.x)
    np.testing.assert_allclose(prediction.mean, joint[P:, :P] @ A @ train.y, rtol=1e-8, atol=1e-10)
    exact = np.diag(joint[P:, P:] - joint[P:, :P] @ A @ joint[:P, P:])
    np.testing.assert_allclose(prediction.variance, exact, rtol=1e-8)


@pytest.mark.parametrize("activation", ["relu", "linear", "leaky_relu"])
@pytest.mark.parametrize("widths", [(20,), (5, 40), (12, 6, 30)])
@pytest.mark.parametrize("temperature", [0.05, 2.0])
def test_equals_the_product_for_homogeneous_activations(activation, widths, temperature, train, test_set):
    """Other code path: BFGS over layers and Cholesky, against one scalar equation and eigenvalues."""
    precision = tuple(1.0 + 0.2 * k for k in range(len(widths) + 1))
    network = fw.FullyConnected(widths=widths, activation=activation, weight_precision=precision)
    nested, product = (
        Nested(network, Gaussian(temperature)).solve(train),
        ScaledKernel(network, temperature).solve(train),
    )
    assert nested.log_evidence == pytest.approx(product.log_evidence, abs=1e-8)
    np.testing.assert_allclose(nested.order_parameters, product.order_parameters, rtol=1e-5)
    one, other = fw.predict(nested, test_set.x), fw.predict(product, test_set.x)
    np.testing.assert_allclose(one.mean, other.mean, atol=1e-5)
    np.testing.assert_allclose(one.variance, other.variance, atol=1e-5)
    a, b = nested.evidence_gradient(), product.evidence_gradient()
    for key in a:
        np.testing.assert_allclose(a[key], b[key], rtol=1e-4, atol=1e-6)


def test_one_layer_equals_the_product(train):
    network = fw.FullyConnected(widths=(9,), activation="erf")
    nested, product = Nested(network, Gaussian(0.1)).solve(train), ScaledKernel(network, 0.1).solve(train)
    assert nested.log_evidence == pytest.approx(product.log_evidence, abs=1e-9)
    assert isinstance(fw.theory_of(network, 0.1), ScaledKernel)


def test_it_is_the_default_of_deep_networks_only(train):
    deep = fw.FullyConnected(widths=(9, 9), activation="erf")
    assert isinstance(fw.theory_of(deep, 0.1), Nested)
    assert isinstance(fw.theory_of(deep, 0.1, "product"), ScaledKernel)
    relu = fw.FullyConnected(widths=(9, 9), activation="relu")
    assert isinstance(fw.theory_of(relu, 0.1), ScaledKernel)
    with_offsets = fw.FullyConnected(widths=(9, 9), activation="relu", offset_precision=1.0)
    assert isinstance(fw.theory_of(with_offsets, 0.1), Nested)


@pytest.mark.parametrize("activation", ["erf", "quadratic"])
@pytest.mark.parametrize(
    ("widths", "scale", "temperature"), [((3, 4), 1.0, 0.05), ((2, 2), 6.0, 0.01), ((40, 3), 3.0, 1.0)]
)
def test_the_best_minimum_against_a_grid(activation, widths, scale, temperature, dense, make_data):
    """F on a grid over (log Q_1, log Q_2), P = 5."""
    data = make_data(5)
    train = fw.Dataset(data.x, scale * np.array(data.y), classes=())
    network = fw.FullyConnected(widths=widths, activation=activation)
    solution = fw.solve(Nested(network, Gaussian(temperature)), train)
    axis = np.linspace(-4.0, 5.0, 41)
    F = np.array([[dense.action(network, train, temperature, np.exp([a, b]), "nested") for b in axis] for a in axis])
    k = np.unravel_index(F.argmin(), F.shape)
    assert solution.action <= F.min() + 1e-9
    np.testing.assert_allclose(np.log(solution.order_parameters), [axis[k[0]], axis[k[1]]], atol=0.5)
    inner = F[1:-1, 1:-1]
    around = [F[1 + a : 40 + a, 1 + b : 40 + b] for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0)]
    assert len(solution.minima) == int((inner < np.min(around, axis=0)).sum())


def test_mean_field_is_a_precision_of_n_times_lambda(train):
    mean_field = fw.FullyConnected(widths=(9, 30), weight_precision=(1.0, 2.0, 0.7), readout="mean-field")
    standard = fw.FullyConnected(widths=(9, 30), weight_precision=(1.0, 2.0, 21.0))
    one, other = fw.solve(Nested(mean_field, Gaussian(0.1)), train), fw.solve(Nested(standard, Gaussian(0.1)), train)
    np.testing.assert_allclose(one.order_parameters, other.order_parameters, rtol=1e-5)
    assert one.log_evidence == pytest.approx(other.log_evidence, abs=1e-8)


@pytest.mark.parametrize("temperature", [1e-6, 0.1, 1e6])
@pytest.mark.parametrize(
    "name", ["one_point", "duplicates", "zero_inputs", "zero_targets", "tiny_targets", "large_targets"]
)
@pytest.mark.parametrize("widths", [(3, 5), (10**12, 10**12)])
def test_edges_converge_to_finite_numbers(name, temperature, widths, make_data, test_set):
    data = make_data(1 if name == "one_point" else 6)
    x, y = np.array(data.x), np.array(data.y)
    if name == "duplicates":
        x[3:] = x[:3]
        y[3:] = y[:3]
    x *= name != "zero_inputs"
    y *= {"zero_targets": 0.0, "tiny_targets": 1e-100, "large_targets": 30.0}.get(name, 1.0)
    solution = fw.solve(Nested(fw.FullyConnected(widths=widths), Gaussian(temperature)), fw.Dataset(x, y, classes=()))
    assert solution.converged, solution.message
    errors = fw.predict(solution, test_set.x).errors(test_set.y)
    assert np.isfinite([errors.test_error, errors.train_error, solution.log_evidence]).all()


def test_contradictory_targets_at_zero_temperature_never_look_converged_when_they_are_not(make_data, dense):
    half = make_data(3)
    train = fw.Dataset(np.tile(half.x, (2, 1)), np.concatenate([half.y, half.y + 0.3]), classes=())
    network = fw.FullyConnected(widths=(7, 30))
    solution = fw.solve(Nested(network, Gaussian(1e-12)), train)
    assert not solution.converged or solution.order_parameters.max() < 100.0
    if not solution.converged:
        assert "tolerance" in solution.message


def test_memory_cap(train):
    with pytest.raises(MemoryCapError, match="nested closure on 12 points"):
        fw.solve(Nested(fw.FullyConnected(widths=(9, 9)), Gaussian(0.1)), train, memory=1000.0)


def test_nothing_is_mutated(train, test_set):
    before = train.fingerprint(), test_set.fingerprint()
    solution = fw.solve(Nested(fw.FullyConnected(widths=(9, 9)), Gaussian(0.1)), train)
    fw.predict(solution, test_set.x)
    solution.evidence_gradient()
    assert (train.fingerprint(), test_set.fingerprint()) == before
