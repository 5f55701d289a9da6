"""Learning curves from the spectrum: limits that are known, Gaussian designs, real digits, bad input."""

from __future__ import annotations

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.theory.spectral import SpectralTheory

NETWORK = fw.FullyConnected(widths=(10,), activation="erf")


@pytest.fixture(scope="module")
def pool():
    return fw.data.digits(classes=(0, 1), n_train=359)[0]


def gaussian_design(theory, n_train, ridge, trials, noise=0.0, seed=1):
    """Kernel regression on Gaussian modes with that spectrum and target, its error over the distribution, exactly."""
    rng, errors = np.random.default_rng(seed), []
    root, target = np.sqrt(theory.eigenvalues), np.sqrt(theory.power)
    for _ in range(trials):
        z = rng.standard_normal((n_train, len(root)))
        features, y = z * root, z @ target + np.sqrt(noise) * rng.standard_normal(n_train)
        weights = features.T @ np.linalg.solve(features @ features.T + ridge * np.eye(n_train), y)
        errors.append(((root * weights - target) ** 2).sum())
    return np.mean(errors), np.std(errors, ddof=1) / np.sqrt(trials)


@pytest.mark.statistical
@pytest.mark.parametrize("n_train", [20, 50, 100, 300, 450])
def test_gaussian_designs_with_the_spectrum_of_real_data(pool, n_train):
    theory = SpectralTheory.of(fw.kernels.nngp(NETWORK, pool.x), pool.y)
    mean, se = gaussian_design(theory, n_train, 0.1, trials=200 if n_train < 100 else 40)
    predicted = theory.test_error(n_train, 0.1)
    assert se < 0.02 * mean
    assert predicted == pytest.approx(mean, rel=0.04)
    assert theory.test_error(0.8 * n_train, 0.1) != pytest.approx(mean, rel=0.04)  # negative control


@pytest.mark.statistical
def test_label_noise_on_a_gaussian_design(pool):
    theory = SpectralTheory.of(fw.kernels.nngp(NETWORK, pool.x), pool.y)
    mean, se = gaussian_design(theory, 100, 0.1, trials=40, noise=0.5)
    assert theory.test_error(100, 0.1, noise=0.5) == pytest.approx(mean, abs=max(3.0 * se, 0.04 * mean))
    assert theory.test_error(100, 0.1) < 0.8 * mean


def test_white_spectrum_by_hand():
    """R equal eigenvalues: k solves a quadratic equation (ridge regression on white Gaussian inputs)."""
    R, P, ridge = 40, 25, 0.3
    theory = SpectralTheory(np.ones(R), np.full(R, 1.0 / R))
    k = theory.effective_ridge(P, ridge)
    assert k == pytest.approx(0.5 * (ridge + R - P + np.sqrt((ridge + R - P) ** 2 + 4 * ridge * P)), rel=1e-12)
    assert theory.learnability(P, ridge).sum() == pytest.approx(R * P / (k + P))
    assert theory.test_error(P, 0.0) == pytest.approx(1.0 - P / R, rel=1e-9)  # projection on P random directions


def test_limits():
    theory = SpectralTheory(np.array([2.0, 0.5, 0.1]), np.array([1.0, 0.5, 0.2]))
    assert theory.test_error(1e-9, 0.1) == pytest.approx(1.7)
    assert theory.test_error(1e7, 0.1) < 1e-10
    assert theory.effective_ridge(1e-9, 0.1) == pytest.approx(2.7)
    np.testing.assert_allclose(theory.alignment, [1.0 / 1.7, 1.5 / 1.7, 1.0])


def test_effective_ridge_at_extremes():
    theory = SpectralTheory(np.geomspace(1.0, 1e-14, 300), np.ones(300))
    for P, ridge in ((10, 1e-12), (299, 1e-10), (250, 0.0), (1e6, 1e3)):
        k = theory.effective_ridge(P, ridge)
        assert k == pytest.approx(ridge + (k * theory.eigenvalues / (k + P * theory.eigenvalues)).sum(), rel=1e-9)


def test_curve_beside_random_subsets(pool):
    curve = fw.spectral_learning_curve(NETWORK, pool, [20, 60, 150], ridge=0.1, trials=10)
    assert "Gaussian" in curve.assumption
    assert curve.assumption in " ".join(str(curve).split())
    assert all(row["assumption"] == curve.assumption for row in curve.to_dicts())
    errors = [row.test_error for row in curve]
    assert errors == sorted(errors, reverse=True)
    for row in curve:
        assert row.deviation == pytest.approx(row.test_error / row.sampled_test_error - 1.0)
        assert abs(row.deviation) < 0.25
        assert 0.0 < row.modes_learned < row.n_train
        assert 0.8 < row.power_learned < 1.0
    again = fw.spectral_learning_curve(NETWORK, pool, [20, 60, 150], ridge=0.1, trials=10)
    assert again.rows == curve.rows


def test_sampled_error_is_kernel_regression(pool):
    K = fw.kernels.nngp(NETWORK, pool.x)
    row = fw.spectral_learning_curve(K, pool, [30], ridge=0.2, trials=1, seed=5)[0]
    chosen = np.random.default_rng(5).permutation(len(K))[:30]
    mean = K[:, chosen] @ np.linalg.solve(K[np.ix_(chosen, chosen)] + 0.2 * np.eye(30), pool.y[chosen])
    assert row.sampled_test_error == pytest.approx(np.mean((pool.y - mean) ** 2), rel=1e-10)


def test_any_kernel(pool):
    stack = fw.kernels.from_layers(["flatten", "dense", "erf", "dense"])
    curves = [
        fw.spectral_learning_curve(kernel, pool, [40], trials=0)
        for kernel in (NETWORK, stack.nngp, lambda x: fw.kernels.nngp(NETWORK, x), fw.kernels.nngp(NETWORK, pool.x))
    ]
    for curve in curves:
        assert curve[0].test_error == pytest.approx(curves[0][0].test_error, rel=1e-9)
        assert curve[0].sampled_test_error is None
    assert "assumes" in str(curves[0])


def test_bad_input(pool):
    with pytest.raises(fw.InputError, match="a pool of 359"):
        fw.spectral_learning_curve(NETWORK, pool, [20, 359])
    with pytest.raises(fw.InputError, match=r"shape \(359, 359\)"):
        fw.spectral_learning_curve(np.eye(5), pool, [20])
    with pytest.raises(fw.InputError, match="at least 0"):
        fw.spectral_learning_curve(NETWORK, pool, [20], ridge=-1.0)
    with pytest.raises(fw.MemoryCapError, match="the spectrum of 359 points"):
        fw.spectral_learning_curve(NETWORK, pool, [20], memory=1e3)
    linear = fw.FullyConnected(widths=(10,), activation="linear")
    with pytest.raises(fw.InputError, match="a ridge of 0 with 100 training points on a kernel of rank"):
        fw.spectral_learning_curve(linear, pool, [100], ridge=0.0)
    twice = fw.Dataset(np.concatenate([pool.x[:50]] * 2), np.concatenate([pool.y[:50]] * 2))
    with pytest.raises(fw.InputError, match="40 training points whose kernel is singular"):
        fw.spectral_learning_curve(NETWORK, twice, [40], ridge=0.0)
