"""Samples against the exact posterior of linear networks, in standard errors, with coverage and a negative control;
the steps of other samplers: test_sampling_calibration.py.

For phi(x) = x and one output, f given the scale q is a Gaussian process of covariance q K: with prior q ~
chi2_N / N for one hidden layer, every posterior mean is a ratio of one-dimensional integrals over q
(docs/theory.md section 3). Here they are done by quadrature in scipy; the package's own integral over q is
not used.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("jax")

from finitewidth.data import Dataset
from finitewidth.networks import FullyConnected
from finitewidth.sampling import sample

pytestmark = [pytest.mark.statistical, pytest.mark.slow]

POINTS, INPUTS, WIDTH, T = 12, 6, 5, 0.1
NETWORK = FullyConnected(widths=(WIDTH,), activation="linear", weight_precision=(1.5, 0.7))


@lru_cache
def data() -> tuple[Dataset, Dataset]:
    rng = np.random.default_rng(7)
    x = rng.standard_normal((POINTS + 15, INPUTS))
    y = x @ rng.standard_normal(INPUTS) / 2.0 + 0.4 * rng.standard_normal(len(x))
    return Dataset(x[:POINTS], y[:POINTS], classes=()), Dataset(x[POINTS:], y[POINTS:], classes=())


@lru_cache
def exact(temperature: float) -> dict[str, float]:
    """Posterior means over q of the errors of a Gaussian process of covariance q K."""
    train, test = data()
    scale = INPUTS * np.prod(NETWORK.weight_precision)
    log_q = np.linspace(-7.0, 3.5, 3001)
    log_weight, found = [], []
    for q in np.exp(log_q):
        gram = q * train.x @ train.x.T / scale + temperature * np.eye(POINTS)
        cross = q * test.x @ train.x.T / scale
        solved = np.linalg.solve(gram, np.column_stack([train.y, cross.T]))
        evidence = -0.5 * np.linalg.slogdet(gram)[1] - 0.5 * train.y @ solved[:, 0]
        log_weight.append(evidence + stats.chi2.logpdf(WIDTH * q, WIDTH) + np.log(q))
        mean = cross @ solved[:, 0]
        variance = q * (test.x**2).sum(1) / scale - np.einsum("ij,ji->i", cross, solved[:, 1:])
        trace = POINTS - temperature * np.trace(np.linalg.inv(gram))
        fit = temperature**2 * np.mean(solved[:, 0] ** 2) + temperature * trace / POINTS
        found.append((np.mean((test.y - mean) ** 2 + variance), fit, *mean))
    weight = np.exp(np.array(log_weight) - max(log_weight))
    test_error, train_error, *mean = weight @ np.array(found) / weight.sum()
    bias = float(np.mean((test.y - mean) ** 2))
    return {
        "test_error": test_error,
        "train_error": train_error,
        "bias": bias,
        "variance": test_error - bias,
    }


def misses(temperature: float, seeds: int) -> dict[str, np.ndarray]:
    """Distance from the exact posterior at T in standard errors, for each seed."""
    train, test = data()
    truth = exact(T)
    runs = [sample(NETWORK, train, test, temperature, seed=seed, draws=400).errors(test.y) for seed in range(seeds)]
    assert all(run.r_hat < 1.03 for run in runs)
    return {
        name: np.array([(getattr(run, name) - truth[name]) / getattr(run, f"{name}_se") for run in runs])
        for name in truth
    }


def check_coverage(z: np.ndarray) -> None:
    """Within 3 standard errors, neither too often nor too rarely within 1.96, and chi2 of the right size."""
    assert (np.abs(z) < 3.5).all()
    assert (np.abs(z) < 3.0).mean() >= 0.95
    inside = int((np.abs(z) < 1.96).sum())
    assert stats.binomtest(inside, len(z), 0.95).pvalue > 0.01
    assert 0.005 < stats.chi2.sf(np.sum(z**2), len(z)) < 0.995


@pytest.mark.parametrize("name", ["test_error", "train_error", "bias", "variance"])
def test_collapsed(name):
    check_coverage(collapsed()[name])


@lru_cache
def collapsed() -> dict[str, np.ndarray]:
    return misses(T, 12)


@pytest.mark.control
def test_a_wrong_temperature_is_noticed():
    """The negative control: 10 % too warm, same test, longer runs."""
    z = misses(1.1 * T, 4)
    with pytest.raises(AssertionError):
        check_coverage(z["train_error"])
