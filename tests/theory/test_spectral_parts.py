"""Rows of spectral learning curves by sums and fixed points written out; tables, edges of the checks."""

from __future__ import annotations

import math

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.theory import spectral as module
from finitewidth.theory.spectral import SpectralCurve, SpectralRow, SpectralTheory

NETWORK = fw.FullyConnected(widths=(10,), activation="erf")


@pytest.fixture(scope="module")
def pool():
    r = np.random.default_rng(0)
    x = r.standard_normal((40, 6))
    return fw.Dataset(x, np.tanh(x[:, 0]) + 0.3 * x[:, 1], classes=())


def fixed_point(eta, P, ridge):
    """k = T + sum k eta / (k + P eta), by iteration."""
    k = ridge + eta.sum()
    for _ in range(20_000):
        k = ridge + (k * eta / (k + P * eta)).sum()
    return k


def test_spectrum_of_a_pool():
    r = np.random.default_rng(1)
    half, y = r.standard_normal((7, 9)), r.standard_normal((7, 2))
    K = half @ half.T
    values, vectors = np.linalg.eigh(K)
    for targets in (y, y[:, 0]):
        theory = SpectralTheory.of(K.copy(), targets)
        np.testing.assert_allclose(theory.eigenvalues, values[::-1] / 7, rtol=1e-10)
        power = ((vectors[:, ::-1].T @ targets.reshape(7, -1)) ** 2).mean(1) / 7
        np.testing.assert_allclose(theory.power, power, rtol=1e-9)
        assert theory.power.sum() == pytest.approx((targets**2).mean(), rel=1e-10)
        np.testing.assert_allclose(theory.alignment, np.cumsum(power) / power.sum(), rtol=1e-9)


@pytest.mark.parametrize("P", [1, 5, 30])
@pytest.mark.parametrize("ridge", [1e-2, 0.5])
@pytest.mark.parametrize("noise", [0.0, 0.4])
def test_the_error_is_a_derivative_of_the_ridge(P, ridge, noise):
    """1/(1 - g) = dk/dT, and k^2 sum c^2/(k + P eta)^2 = d/dT of k-weighted fits; here both by differences of k."""
    theory = SpectralTheory(np.array([2.0, 0.7, 0.2, 0.05]), np.array([1.0, 0.3, 0.5, 0.2]))
    k, h = fixed_point(theory.eigenvalues, P, ridge), 1e-6
    assert theory.effective_ridge(P, ridge) == pytest.approx(k, rel=1e-8)
    rise = (theory.effective_ridge(P, ridge + h) - theory.effective_ridge(P, ridge - h)) / (2 * h)

    def lost(ridge):  # sum c^2 k / (k + P eta): its derivative in T is dk/dT sum c^2 P eta / (k + P eta)^2
        k = theory.effective_ridge(P, ridge)
        return (theory.power * k / (k + P * theory.eigenvalues)).sum()

    error = lost(ridge) - k * (lost(ridge + h) - lost(ridge - h)) / (2 * h) / rise  # sum c^2 k^2 / (k + P eta)^2
    expected = rise * error + noise * (rise - 1.0)
    assert theory.test_error(P, ridge, noise) == pytest.approx(expected, rel=1e-6)
    learned = P * theory.eigenvalues / (k + P * theory.eigenvalues)
    np.testing.assert_allclose(theory.learnability(P, ridge), learned, rtol=1e-7)


def test_a_ridge_of_zero_needs_fewer_points_than_modes():
    theory = SpectralTheory(np.array([1.0, 0.5, 0.2, 0.0, 0.0]), np.ones(5))
    assert theory.effective_ridge(2, 0.0) == pytest.approx(fixed_point(theory.eigenvalues, 2, 0.0), rel=1e-8)
    for P in (3, 4):
        with pytest.raises(fw.InputError, match=f"a ridge of 0 with {P} training points on a kernel of rank 3"):
            theory.effective_ridge(P, 0.0)
    assert theory.effective_ridge(4, 1e-6) > 0.0


def test_every_field_of_a_row(pool):
    K = fw.kernels.nngp(NETWORK, pool.x)
    curve = fw.spectral_learning_curve(NETWORK, pool, [5, 9], ridge=0.2, trials=3, noise=0.1, seed=4)
    theory, r = SpectralTheory.of(K, pool.y), np.random.default_rng(4)
    assert (curve.ridge, curve.noise, len(curve), curve[1].n_train) == (0.2, 0.1, 2, 9)
    np.testing.assert_allclose(curve.theory.eigenvalues, theory.eigenvalues, rtol=1e-9)
    for row in curve:
        errors = []
        for _ in range(3):
            chosen = r.permutation(40)[: row.n_train]
            labels = pool.y[chosen] + math.sqrt(0.1) * r.standard_normal(row.n_train)
            A = K[np.ix_(chosen, chosen)] + 0.2 * np.eye(row.n_train)
            errors.append(np.mean((pool.y - K[:, chosen] @ np.linalg.solve(A, labels)) ** 2))
        assert row.sampled_test_error == pytest.approx(np.mean(errors), rel=1e-9)
        assert row.sampled_test_error_se == pytest.approx(np.std(errors, ddof=1) / math.sqrt(3), rel=1e-7)
        assert row.test_error == pytest.approx(theory.test_error(row.n_train, 0.2, 0.1), rel=1e-9)
        assert row.deviation == pytest.approx(row.test_error / np.mean(errors) - 1.0, rel=1e-7)
        k = fixed_point(theory.eigenvalues, row.n_train, 0.2)
        assert row.effective_ridge == pytest.approx(k, rel=1e-8)
        share = row.n_train * theory.eigenvalues / (k + row.n_train * theory.eigenvalues)
        assert row.modes_learned == pytest.approx(share.sum(), rel=1e-7)
        assert row.power_learned == pytest.approx((share * theory.power).sum() / theory.power.sum(), rel=1e-7)
    assert curve.to_dicts()[0]["ridge"] == 0.2
    assert curve.to_dicts()[1]["n_train"] == 9


def test_one_trial_has_no_error_bar_and_none_has_nothing(pool):
    (one,) = fw.spectral_learning_curve(NETWORK, pool, [8], trials=1)
    assert math.isnan(one.sampled_test_error_se)
    assert math.isfinite(one.deviation)
    (none,) = fw.spectral_learning_curve(NETWORK, pool, [8], trials=0)
    assert (none.sampled_test_error, none.sampled_test_error_se, none.deviation) == (None, None, None)
    silent = fw.Dataset(pool.x, 0.0 * pool.y, classes=())
    with np.errstate(invalid="ignore"):
        (row,) = fw.spectral_learning_curve(NETWORK, silent, [8], trials=2)
    assert (row.sampled_test_error, math.isnan(row.deviation)) == (0.0, True)
    for trials in (-1, 1.5):
        with pytest.raises(fw.InputError, match="trials"):
            fw.spectral_learning_curve(NETWORK, pool, [8], trials=trials)


def test_the_table_says_the_numbers(unchangeable):
    unchangeable(module)
    rows = (SpectralRow(20, 0.25, 0.1, 12.34, 0.9, 0.2, 0.0125, 0.25), SpectralRow(150, 0.125, 0.1, 30.0, 0.9))
    lines = str(SpectralCurve(rows, None, 0.1)).splitlines()
    head, _, first, second, _, last = lines[3:9]
    assert head.split() == ["P", "predicted", "(se)", "deviation", "learned"]
    assert first.split() == ["20", "0.25000", "0.20000", "(0.01250)", "+25.0", "%", "12.3"]
    assert second.split() == ["150", "0.12500", "30.0"]
    assert len(first) == len(second)
    assert last.startswith("The prediction averages over training sets")


def test_limits_of_what_is_accepted(pool):
    assert len(fw.spectral_learning_curve(NETWORK, pool, [39], trials=0)) == 1
    with pytest.raises(fw.InputError, match="40 training points of a pool of 40; wanted: fewer than 40"):
        fw.spectral_learning_curve(NETWORK, pool, [3, 40], trials=0)
    need = 8.0 * 5 * 40**2  # five arrays of pairs
    fw.spectral_learning_curve(NETWORK, pool, [8], trials=0, memory=need)
    with pytest.raises(fw.MemoryCapError, match="the spectrum of 40 points"):
        fw.spectral_learning_curve(NETWORK, pool, [8], trials=0, memory=need - 1.0)
    with pytest.raises(fw.InputError, match=r"a kernel of shape \(40, 39\) for a pool of 40 points"):
        fw.spectral_learning_curve(np.ones((40, 39)), pool, [8], trials=0)
    theory = fw.spectral_learning_curve(NETWORK, pool, [8], ridge=0.0, trials=2)
    assert math.isfinite(theory[0].sampled_test_error)
