"""Lazy training: against the formulas with matrix exponentials, and against gradient descent on wide networks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.linalg import expm, inv

import finitewidth as fw

NETWORK = fw.FullyConnected(widths=(30,), activation="erf", weight_precision=(0.5, 2.0), offset_precision=4.0)
STACK = fw.Network([{"conv": {"patch": [2, 2]}}, "relu", "flatten", "dense"])


def data(n=7, seed=0, shape=(4,), outputs=None):
    rng = np.random.default_rng(seed)
    y = rng.standard_normal(n if outputs is None else (n, outputs))
    return fw.Dataset(rng.standard_normal((n, *shape)), y, classes=())


@pytest.mark.parametrize("time", [0.0, 0.3, 20.0, math.inf])
@pytest.mark.parametrize(("kernel", "shape"), [(NETWORK, (4,)), (STACK, (3, 3, 1))])
def test_mean_variance_and_train_error_by_the_formulas(kernel, shape, time):
    train, test = data(shape=shape), data(5, 1, shape)
    joint = fw.kernels.from_layers(kernel).both(np.concatenate([train.x, test.x]), parameters="weights")
    K, theta, n = joint.nngp, joint.ntk, train.n_points
    decay = np.zeros((n, n)) if math.isinf(time) else expm(-time * theta[:n, :n])
    A = inv(theta[:n, :n]) @ (np.eye(n) - decay)
    through = theta[n:, :n] @ A
    variance = K[n:, n:] + through @ K[:n, :n] @ through.T - through @ K[:n, n:] - (through @ K[:n, n:]).T

    lazy = fw.lazy_training(kernel, train)
    got = lazy.predict(test.x, time)
    np.testing.assert_allclose(lazy.covariance(test.x, time), variance, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(got.mean, through @ train.y, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(got.variance, np.diagonal(variance), rtol=1e-7, atol=1e-9)
    residual = ((decay @ train.y) ** 2).mean() + np.trace(decay @ K[:n, :n] @ decay) / n
    assert got.train_error == pytest.approx(residual, rel=1e-8, abs=1e-12)


def test_several_outputs_are_independent():
    train, test = data(outputs=3), data(5, 1, outputs=3)
    lazy = fw.lazy_training(NETWORK, train)
    whole = lazy.predict(test.x, 2.0)
    for c in range(3):
        alone = fw.lazy_training(NETWORK, fw.Dataset(train.x, train.y[:, c], classes=())).predict(test.x, 2.0)
        np.testing.assert_allclose(whole.mean[:, c], alone.mean, rtol=1e-10)
        np.testing.assert_allclose(whole.variance[:, c], alone.variance, rtol=1e-10)
    assert np.isfinite(whole.errors(test.y).test_error)


def test_what_cannot_be_learned_stays():
    """Two equal points with different targets: training ends at their mean, and half their difference is left."""
    x = np.array([[1.0, 2.0], [1.0, 2.0], [0.5, -1.0]])
    lazy = fw.lazy_training(NETWORK, fw.Dataset(x, np.array([1.0, 3.0, 0.0]), classes=()))
    end = lazy.predict(x)
    np.testing.assert_allclose(end.mean, [2.0, 2.0, 0.0], atol=1e-6)
    assert end.train_error == pytest.approx(2.0 / 3.0, rel=1e-6)


def test_curve():
    train, test = data(), data(5, 1)
    lazy = fw.lazy_training(NETWORK, train)
    curve = lazy.curve(test)
    assert len(curve) == 25
    assert curve[0].train_error > 20 * curve[-1].train_error
    assert curve[-1].test_error == pytest.approx(curve.limit.test_error, rel=1e-3)
    row = lazy.curve(test, times=[0.5])[0]
    assert row.test_error == lazy.predict(test.x, 0.5).errors(test.y).test_error
    assert set(curve.to_dicts()[0]) >= {"time", "train_error", "test_error"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda lazy, x: lazy.predict(x, -1.0), "time = -1.0"),
        (lambda lazy, x: lazy.predict(x, math.nan), "time = nan"),
        (lambda lazy, x: lazy.predict(x[:, :2], 1.0), "same"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(fw.InputError, match=message):
        call(fw.lazy_training(NETWORK, data()), data(5, 1).x)


def test_memory():
    with pytest.raises(fw.MemoryCapError, match="lazy training on 7 points"):
        fw.lazy_training(NETWORK, data(), memory=100.0)


# --- gradient descent on finite networks -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.statistical
def test_gradient_descent_at_width_2048():
    pytest.importorskip("optax")
    train, test, rate, steps = data(6, 2, (3,)), data(4, 3, (3,)), 0.05, 60
    network = fw.FullyConnected(widths=(2048,), activation="erf")
    options = {"optimiser": "sgd", "learning_rate": rate, "steps": steps, "seeds": 32}
    after, lazy = fw.train(network, train, test, **options).outputs(test.x), fw.lazy_training(network, train)
    predicted = lazy.predict(test.x, rate * steps)
    se = after.std(0, ddof=1) / np.sqrt(len(after))
    assert np.abs((after.mean(0) - predicted.mean) / se).max() < 3.0
    variance = after.var(0, ddof=1)
    assert np.abs((variance / predicted.variance - 1.0) / np.sqrt(2.0 / (len(after) - 1))).max() < 3.0
    # negative control: the untrained ensemble, and one trained for a third of the time, are seen to differ
    for time in (0.0, rate * steps / 3.0):
        assert np.abs((after.mean(0) - lazy.predict(test.x, time).mean) / se).max() > 5.0
