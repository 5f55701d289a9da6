"""The single-neuron theory: closed form for linear networks, the action where features are Gaussian, flags."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

import finitewidth as fw
from finitewidth import kernels
from finitewidth.checks.exceptions import InputError, MemoryCapError
from finitewidth.linalg import RegularisedGram
from theory.linear_neuron import linear_neuron

jax = pytest.importorskip("jax")

QUICK = fw.SingleNeuron(particles=1000, rounds=(60, 80), seconds=600.0)


def solved(network, train, temperature=0.1, options=QUICK, **control):
    return fw.solve(network, train, temperature, options, **control)


def by_quadrature(network, train, s, R):
    """``linear_neuron`` by matrices of each readout, written out."""
    X, N = train.flat, network.widths[0]
    size = X.shape[1]
    b = X.T @ s / np.sqrt(size)
    pull = X.T @ R @ X / (N * size)
    f, second, total = 0.0, 0.0, 0.0
    for value in np.linspace(-12.0, 12.0, 401):
        B = network.weight_precision[0] * np.eye(size) + value**2 * pull
        solution = np.linalg.solve(B, b)
        weight = np.exp(
            -0.5 * network.weight_precision[1] * value**2
            - 0.5 * np.linalg.slogdet(B)[1]
            + 0.5 * value**2 * (b @ solution) / N
        )
        features = X @ (np.linalg.inv(B) + value**2 * np.outer(solution, solution) / N) @ X.T / size
        f = f + weight * value**2 * (X @ solution) / np.sqrt(size)
        second = second + weight * value**2 * features
        total += weight
    return f / total, second / total - np.outer(f, f) / total**2 / N


@pytest.fixture(scope="module")
def digits():
    return fw.data.digits(classes=(6, 9), n_train=12, n_test=60)


LINEAR = fw.FullyConnected(widths=(15,), activation="linear", weight_precision=(1.3, 0.7))


@cache
def linear(seed=0):
    train, _ = fw.data.digits(classes=(6, 9), n_train=12, n_test=60)
    return solved(LINEAR, train, 0.1, replace(QUICK, seed=seed))


@pytest.mark.statistical
def test_linear_particles_against_the_closed_form(digits):
    network, solution = LINEAR, linear()
    result = solution.predictor.result
    R = RegularisedGram(result.kernel, 0.1).inverse()
    f, kernel = linear_neuron(network, digits[0].flat, result.s, R)
    assert np.sqrt(np.mean((digits[0].y - 0.1 * result.s - f) ** 2)) < 0.03
    assert np.linalg.norm(result.kernel - kernel) < 0.03 * np.linalg.norm(kernel)
    # the control: without its own readouts' share of the field, the neuron has another kernel
    _, wrong = linear_neuron(network, digits[0].flat, 0.8 * result.s, R)
    assert np.linalg.norm(wrong - kernel) > 0.05 * np.linalg.norm(kernel)


def test_the_closed_form_itself():
    train, _ = fw.data.digits(classes=(6, 9), n_train=12, n_test=2)
    network = fw.FullyConnected(widths=(15,), activation="linear", weight_precision=(1.3, 0.7))
    rng = np.random.default_rng(0)
    root, s = rng.standard_normal((12, 12)), rng.standard_normal(12)
    for got, want in zip(
        linear_neuron(network, train.flat, s, root @ root.T),
        by_quadrature(network, train, s, root @ root.T),
        strict=True,
    ):
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-9)


@pytest.mark.statistical
def test_linear_networks_have_gaussian_features(digits):
    network, solution = LINEAR, linear()
    exact = fw.predict(fw.solve(fw.theory_of(network, 0.1, method="integrate"), digits[0]), digits[1].x)
    got, want = fw.predict(solution, digits[1].x).errors(digits[1].y), exact.errors(digits[1].y)
    assert solution.converged
    assert got.test_error == pytest.approx(want.test_error, rel=0.02)
    assert got.train_error == pytest.approx(want.train_error, rel=0.02)


@pytest.mark.statistical
def test_wide_networks_are_those_of_the_action(digits):
    """Two outputs, rectified and with offsets."""
    train, test = (fw.Dataset(part.x, np.stack([part.y, part.x[:, 2, 4]], axis=1), classes=()) for part in digits)
    network = fw.FullyConnected(widths=(10**6,), activation="relu", offset_precision=3.0)
    solution = near_infinite_width(network, train, test, QUICK)
    np.testing.assert_allclose(solution.order_parameters.reshape(2, 2), np.eye(2), atol=0.05)


@pytest.mark.statistical
def test_wide_networks_with_a_population_for_each_patch(digits):
    network = fw.LocallyConnected(channels=10**6, patch=4, weight_precision=(0.8, 1.4))
    solution = near_infinite_width(network, digits[0][:6], digits[1], replace(QUICK, particles=600))
    np.testing.assert_allclose(solution.order_parameters, np.ones(4), atol=0.05)
    assert solution.q_map().grid_shape == (2, 2)


def near_infinite_width(network, train, test, options):
    solution = solved(network, train, 0.1, options)
    got = fw.predict(solution, test.x).errors(test.y)
    want = fw.predict(fw.solve(fw.theory_of(network, 0.1, method="infinite"), train), test.x).errors(test.y)
    assert got.test_error == pytest.approx(want.test_error, rel=0.02)
    assert got.variance == pytest.approx(want.variance, rel=0.03)
    return solution


@cache
def narrow():
    train, _ = fw.data.digits(classes=(6, 9), n_train=12, n_test=60)
    return solved(fw.FullyConnected(widths=(10,)), train, 0.02)


@pytest.mark.statistical
def test_narrow_networks_are_not(digits):
    """digits 6 / 9, erf, width 30, T = 0.01 (P 100 there): sampled test error .0171, the action's .0430."""
    train, test = digits
    action = fw.predict(fw.solve(fw.theory_of(narrow().theory.network, 0.02), train), test.x).errors(test.y)
    assert fw.predict(narrow(), test.x).errors(test.y).test_error < 0.8 * action.test_error


@pytest.mark.statistical
def test_seeds_decide_every_number(digits):
    _, test = digits
    first, other = (fw.predict(solution, test.x) for solution in (linear(), linear(seed=1)))
    assert 0.0 < np.abs(first.mean - other.mean).max() < 0.3


def test_what_did_not_converge_shows_no_number(digits):
    train, test = digits
    options = fw.SingleNeuron(particles=200, rounds=(1, 2))
    (row,) = fw.learning_curve(fw.FullyConnected(widths=(10,)), train, test, method=options)
    assert not row.converged
    assert np.isnan(row.test_error)
    assert np.isnan(row.train_error)
    assert "bound" in row.message
    assert "samples serve" in row.message


def test_a_row_of_a_curve_is_the_solution(digits):
    """The same seed gives the same numbers."""
    train, test = digits
    (row,) = fw.learning_curve(LINEAR, train, test, [15], 0.1, method=QUICK)
    assert row.converged
    assert row.test_error == pytest.approx(linear().errors(test).test_error)
    assert row.method == "neuron"


@pytest.mark.statistical
def test_learned_features(digits):
    features = narrow().features
    values, fields = features.receptive_fields(2)
    assert features.weight_covariance.shape == (64, 64)
    assert features.hidden_kernel.shape == (12, 12)
    assert fields.shape == (2, 8, 8)
    assert values[0] > 1.5
    assert np.linalg.eigvalsh(features.weight_covariance)[32] == pytest.approx(1.0, abs=0.2)
    assert 0.0 <= features.specialised < 0.5
    wide = fw.FullyConnected(widths=(10**6,))
    found = solved(wide, digits[0]).features
    assert found.specialised < 0.02
    np.testing.assert_allclose(found.hidden_kernel, kernels.nngp(wide, digits[0].x), atol=0.05)


def test_other_theories_have_no_learned_features(digits):
    solution = fw.solve(fw.theory_of(fw.FullyConnected(widths=(30,)), 0.1), digits[0])
    with pytest.raises(InputError, match="method='neuron'"):
        _ = solution.features


# --- bad input -------------------------------------------------------------------------------------------------------


def test_bad_input(digits):
    network = fw.FullyConnected(widths=(30,))
    with pytest.raises(InputError, match="one hidden layer"):
        fw.theory_of(fw.FullyConnected(widths=(30, 30)), 0.1, method="neuron")
    with pytest.raises(InputError, match="at least 200"):
        solved(network, digits[0], options=fw.SingleNeuron(particles=50))
    with pytest.raises(InputError, match="keywords among particles"):
        fw.SingleNeuron(closure="product")
    with pytest.raises(InputError, match="rounds"):
        fw.SingleNeuron(rounds=(0, 10))
    with pytest.raises(MemoryCapError, match="particles"):
        fw.solve(fw.theory_of(network, 0.1, method="neuron"), digits[0], memory=1e6)
