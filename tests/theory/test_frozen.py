"""Frozen networks: against random Wishart matrices, drawn networks, and the limit of infinite width."""

from __future__ import annotations

import numpy as np
import pytest

from finitewidth import FullyConnected, InputError, kernels, learning_curve
from finitewidth.data import Dataset
from finitewidth.theory.frozen import frozen, frozen_scale

T = 0.1


def wishart_errors(network, train, test, draws=400, seed=0):
    """Test and train error, bias, and 1 - Tr(A^-1 K_W)/N of networks with Gaussian features, averaged with errors."""
    x = np.concatenate([train.x, test.x])
    root = np.linalg.cholesky(kernels.nngp(network, x) + 1e-12 * np.eye(len(x)))
    generator, width, count = np.random.default_rng(seed), network.widths[0], len(train)
    rows = []
    for _ in range(draws):
        features = root @ generator.standard_normal((len(x), width)) / np.sqrt(width)
        phi, at = features[:count], features[count:]
        inverse = np.linalg.inv(phi.T @ phi + T * np.eye(width))
        mean, residual = at @ inverse @ phi.T @ train.y, train.y - phi @ inverse @ phi.T @ train.y
        variance = T * np.einsum("if,fg,ig->i", at, inverse, at)
        train_error = np.mean(residual**2) + T * np.trace(phi @ inverse @ phi.T) / count
        rows.append((np.mean((test.y - mean) ** 2 + variance), train_error, T * np.trace(inverse) / width))
    return np.mean(rows, 0), np.std(rows, 0, ddof=1) / np.sqrt(draws)


@pytest.mark.statistical
@pytest.mark.parametrize("activation", ["erf", "linear"])
def test_against_random_matrices(make_data, activation):
    """Corrections are O(1/N); the negative controls are infinite width, and Q of the learned network."""
    train, test = make_data(40, 60, 0, 0.3), make_data(30, 60, 1, 0.3)
    network = FullyConnected(widths=80, activation=activation)
    found = frozen(network, train, test, T)
    mean, error = wishart_errors(network, train, test)
    predicted = np.array([found.errors.test_error, found.errors.train_error, found.order_parameter])
    np.testing.assert_array_less(np.abs(predicted - mean), 4 * error + 0.01 * mean)
    limit = learning_curve(network, train, test, temperature=T, method="infinite")[0]
    learned = learning_curve(network, train, test, temperature=T)[0]
    assert abs(limit.test_error - mean[0]) > 4 * error[0] + 0.01 * mean[0]
    assert abs(learned.order_parameters[0] - mean[2]) > 4 * error[2] + 0.01 * mean[2]


def test_infinite_width_is_the_limit(train, test_set):
    network = FullyConnected(widths=10**9, activation="relu")
    found = frozen(network, train, test_set, T)
    limit = learning_curve(network, train, test_set, temperature=T, method="infinite")[0]
    assert found.order_parameter == pytest.approx(1.0, abs=1e-7)
    for name in ("test_error", "train_error", "bias", "variance"):
        assert getattr(found.errors, name) == pytest.approx(getattr(limit, name), rel=1e-6)


@pytest.mark.parametrize("width", [1, 7, 1000])
def test_scale_is_the_minimum_of_the_action_without_labels(width):
    k = np.array([0.0, 1e-3, 0.4, 2.0, 30.0])
    q = frozen_scale(k, width, T)

    def action(scale):
        return width * (scale - np.log(scale)) + np.sum(np.log(scale * k + T))

    assert 0.0 < q < 1.0
    assert all(action(q) < action(q * factor) for factor in (0.999, 1.001))
    assert frozen_scale(np.zeros(3), width, T) == 1.0


def test_bad_input(train, test_set):
    for network in (FullyConnected(widths=(5, 5)),):
        with pytest.raises(InputError, match="one hidden layer"):
            frozen(network, train, test_set, T)
    several = Dataset(train.x, np.stack([train.y, train.y], 1))
    with pytest.raises(InputError, match="2 outputs"):
        frozen(FullyConnected(widths=5), several, test_set, T)
    with pytest.raises(InputError, match="temperature"):
        frozen(FullyConnected(widths=5), train, test_set, 0.0)
