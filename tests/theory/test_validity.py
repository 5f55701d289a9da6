"""The validity statement: small where features are Gaussian, large where they are known not to be, never a crash."""

from __future__ import annotations

import numpy as np
import pytest

import finitewidth as fw
from finitewidth import kernels
from finitewidth.checks.exceptions import InputError
from finitewidth.linalg import RegularisedGram
from finitewidth.theory.validity import Estimate, estimate, last_covariance, leave_one_out, validity


def solved(network, train, temperature=0.1, **options):
    return fw.solve(fw.theory_of(network, temperature, **options), train)


@pytest.fixture(scope="module")
def digits():
    return fw.data.digits(classes=(6, 9), n_train=60, n_test=60)[0]


def test_leave_one_out_is_that_of_leaving_points_out(rng):
    x, y, T = rng.standard_normal((15, 4)), rng.standard_normal(15), 0.2
    K = kernels.nngp(fw.FullyConnected(widths=(5,)), x)
    wanted = []
    for i in range(15):
        rest = np.delete(np.arange(15), i)
        A = K[np.ix_(rest, rest)] + T * np.eye(14)
        solution = np.linalg.solve(A, np.stack([y[rest], K[rest, i]], axis=1))
        mean, share = K[i, rest] @ solution[:, 0], K[i, rest] @ solution[:, 1]
        wanted.append((y[i] - mean) ** 2 + K[i, i] - share)
    s = RegularisedGram(K, T).solve(y)
    assert leave_one_out(K, s, T) == pytest.approx(np.mean(wanted), rel=1e-9)
    assert leave_one_out(0.5 * K, s, T) != pytest.approx(np.mean(wanted), rel=1e-3)


@pytest.mark.parametrize(
    "network",
    [
        fw.FullyConnected(widths=(20,), activation="linear"),
        fw.FullyConnected(widths=(5000,)),
        fw.FullyConnected(widths=(5000, 5000), activation="relu"),
        fw.Convolutional(channels=5000, patch=4),
        fw.LocallyConnected(channels=5000, patch=4),
        fw.Convolutional(channels=5000, patch=4, pool="average"),
    ],
    ids=lambda network: f"{type(network).__name__} {network.phi.name} {network.depth}",
)
def test_gaussian_features_are_valid(network, digits):
    found = validity(solved(network, digits))
    assert found.expected_relative_error < 0.06
    assert "Gaussian" in found.statement


def test_features_far_from_gaussian_are_caught(digits):
    """Sampled (P 100, T 0.01, width 30): the action is 150 % off; here a smaller set at the same P / N."""
    narrow = validity(solved(fw.FullyConnected(widths=(18,)), digits, 0.01))
    wide = validity(solved(fw.FullyConnected(widths=(1800,)), digits, 0.01))
    assert narrow.expected_relative_error > 0.3 > 0.1 > wide.expected_relative_error
    assert "method neuron" in narrow.statement
    deep = validity(solved(fw.FullyConnected(widths=(18, 18)), digits, 0.01))
    assert deep.expected_relative_error > 0.1
    assert "last of 2 hidden layers" in deep.statement


def test_a_short_run_that_runs_away_is_loud(digits):
    """Its error estimate alone is close to zero by chance; the readouts' strength gives it away."""
    away = Estimate(action=0.0362, neuron=0.0376, q=0.44, strength=40.0, depth=1)
    settled = Estimate(action=0.0362, neuron=0.0376, q=0.44, strength=0.5, depth=1)
    assert away.relative == 1.0
    assert settled.relative < 0.05
    assert validity(solved(fw.FullyConnected(widths=(4,)), digits, 0.01)).expected_relative_error > 0.3


def test_the_seed_decides(digits):
    network = fw.FullyConnected(widths=(30,))
    q = solved(network, digits).order_parameters
    first, again, other = (estimate(network, digits, 0.1, q, seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_the_last_layer_sees_the_kernel_below(digits):
    network = fw.FullyConnected(widths=(9, 9), weight_precision=(1.2, 0.7, 2.0), offset_precision=2.0)
    below = last_covariance(network, digits.x, np.ones(2))
    variance = np.diagonal(below)
    kernel = network.phi.kappa(variance[:, None], below, variance[None]) / 2.0
    np.testing.assert_allclose(kernel, kernels.nngp(network, digits.x), rtol=1e-10)
    assert np.all(np.diagonal(last_covariance(network, digits.x, np.array([2.0, 1.0]))) > variance)


def test_several_outputs_and_many_points():
    train, _ = fw.data.digits(classes=(0, 1, 2), n_train=200, n_test=50)
    found = validity(solved(fw.FullyConnected(widths=(5000,)), train))
    assert found.expected_relative_error < 0.1


def test_rows_carry_it(digits):
    network = fw.FullyConnected(widths=(20,))
    rows = fw.learning_curve(network, digits, digits, [20, 40], 0.1)
    assert [row.validity is not None for row in rows] == [True, True]
    assert rows[0].to_dict()["validity"]["statement"]
    (infinite,) = fw.learning_curve(network, digits, digits, method="infinite")
    assert infinite.validity is None


def test_only_predictions_of_the_action(digits):
    with pytest.raises(InputError, match="method='saddle'"):
        validity(solved(fw.FullyConnected(widths=(20,)), digits, method="infinite"))
