"""Frozen networks drawn one by one: their average against a direct computation, and against the theory."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("jax")

from finitewidth import FullyConnected, InputError, learning_curve
from finitewidth.sampling.frozen import sample_frozen, squared_bias
from finitewidth.theory.frozen import frozen


@pytest.mark.statistical
def test_near_the_theory(make_data):
    """Linear features are Gaussian: 5 % covers O(1/N). The negative control is infinite width."""
    train, test = make_data(30, 40, 0, 0.3), make_data(30, 40, 1, 0.3)
    network = FullyConnected(widths=60, activation="linear")
    drawn, found = sample_frozen(network, train, test, 0.2, networks=100), frozen(network, train, test, 0.2)
    for name, predicted in (
        ("test_error", found.errors.test_error),
        ("train_error", found.errors.train_error),
        ("order_parameter", found.order_parameter),
    ):
        error = getattr(drawn, f"{name}_se")
        assert 0.0 < error < 0.05 * predicted
        assert abs(getattr(drawn, name) - predicted) < 4 * error + 0.01 * predicted
    assert abs(drawn.bias - found.errors.bias) < 4 * drawn.bias_se + 0.01 * found.errors.bias
    limit = learning_curve(network, train, test, temperature=0.2, method="infinite")[0]
    assert drawn.order_parameter + 10 * drawn.order_parameter_se < 1.0
    assert abs(drawn.train_error - limit.train_error) > 4 * drawn.train_error_se + 0.01 * limit.train_error


def test_same_seed_same_numbers(train, test_set):
    network = FullyConnected(widths=5)
    first, again, other = (sample_frozen(network, train, test_set, 0.1, networks=3, seed=s) for s in (0, 0, 1))
    assert first == again
    assert first.test_error != other.test_error
    assert first.test_error == pytest.approx(first.bias + first.variance)


def test_bias_is_free_of_the_noise_of_few_networks(rng):
    """Of networks that scatter about 0, targets 1: the bias is 1, where the plain mean of five is 1/5 above."""
    values = np.array([squared_bias(rng.standard_normal((5, 3)), np.ones(3)) for _ in range(2000)])
    mean, error = values[:, 0].mean(), values[:, 0].std() / np.sqrt(len(values))
    assert abs(mean - 1.0) < 4 * error
    assert 4 * error < 0.2
    assert values[:, 1].mean() == pytest.approx(values[:, 0].std(), rel=0.2)


def test_bad_input(train, test_set):
    with pytest.raises(InputError, match="two networks"):
        sample_frozen(FullyConnected(widths=5), train, test_set, 0.1, networks=1)
