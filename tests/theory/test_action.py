"""The action over scales of a kernel: SciPy's multivariate normal, differences, and sums written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from finitewidth.linalg import Spectrum
from finitewidth.linalg.krylov import TraceQuadrature
from finitewidth.theory import action as module
from finitewidth.theory.action import (
    QuadratureEnergy,
    ScaleEnergy,
    SpectralEnergy,
    action,
    scalar_rate,
)

T = 0.3


def gram_and_targets(outputs, count=5, seed=0):
    r = np.random.default_rng(seed)
    half = r.standard_normal((count, count + 2))
    y = r.standard_normal(count) if outputs == 0 else r.standard_normal((count, outputs))
    return half @ half.T, y


def nats(K, y, scale=1.0, temperature=T):
    """-log N(y; 0, sK + T), output by output, by SciPy."""
    law = multivariate_normal(cov=scale * K + temperature * np.eye(len(K)))
    return -sum(float(law.logpdf(column)) for column in y.reshape(len(K), -1).T)


def test_the_action_of_one_neuron_and_one_point():
    """exp(-F) is the integrand, as N log of chi-square's exponent and the normal density: Q = 2, N = 3, k = 1."""
    F = action(scalar_rate(3.0, 1.0), nats(np.ones((1, 1)), np.array([0.7]), 2.0))
    density = 2.0**1.5 * math.exp(-1.5 * (2.0 - 1.0)) * math.exp(-0.49 / (2 * 2.3)) / math.sqrt(2 * math.pi * 2.3)
    assert pytest.approx(-math.log(density), rel=1e-12) == F


@pytest.mark.parametrize("outputs", [0, 1, 3])
@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_spectral_energy_at_scales_of_any_shape(outputs, shape):
    K, y = gram_and_targets(outputs)
    energy = SpectralEnergy.of(Spectrum.of(K.copy()), y)
    scales = np.exp(np.random.default_rng(2).uniform(-3.0, 3.0, shape))

    def mapped(function):
        return np.vectorize(function)(scales)

    columns = y.reshape(len(y), -1)

    def train_error(s):
        A = np.linalg.inv(s * K + T * np.eye(len(K)))
        residual, posterior = columns - s * K @ A @ columns, s * K - s * K @ A @ (s * K)
        return (residual**2).mean() + np.trace(posterior) / len(K)

    h = 1e-5
    found = (energy.energy(scales, T), energy.change(scales, 0.7, T), energy.data_term(scales, T))
    for values in (*found, energy.train_error(scales, T)):
        assert np.shape(values) == shape
    np.testing.assert_allclose(found[0], mapped(lambda s: nats(K, y, s)), rtol=1e-11)
    np.testing.assert_allclose(found[1], mapped(lambda s: nats(K, y, s) - nats(K, y, 0.7)), rtol=1e-9)
    slope = mapped(lambda s: -(nats(K, y, s * math.exp(h)) - nats(K, y, s * math.exp(-h))) / h)
    np.testing.assert_allclose(found[2], slope, rtol=1e-7)
    np.testing.assert_allclose(energy.train_error(scales, T), mapped(train_error), rtol=1e-10)
    for s in np.ravel(scales):
        numeric = (energy.data_term(s * math.exp(h), T) - energy.data_term(s * math.exp(-h), T)) / (2 * h)
        assert energy.data_term_slope(s, T) == pytest.approx(float(numeric), rel=1e-6, abs=1e-8)
    assert (energy.size, energy.outputs, energy.count) == (5, max(outputs, 1), y.size)
    assert energy.trace == pytest.approx(np.trace(K), rel=1e-12)
    assert energy.power.sum() == pytest.approx((y**2).sum(), rel=1e-12)


def test_many_scales_are_the_single_ones():
    """More than fit into one portion, whose size depends on the number of eigenvalues."""
    r = np.random.default_rng(0)
    for count, scales in ((3, 70_000), (150_000, 3)):
        values = np.sort(r.uniform(0.0, 2.0, count))
        power = r.uniform(0.0, 1.0, count)
        energy = ScaleEnergy(values, power, 1.0, count, 1, float(values.sum()))
        s = np.linspace(0.5, 2.0, scales)
        found = energy.energy(s, T)
        for k in (0, 1, scales // 2, scales - 1):
            shifted = s[k] * values + T
            exact = 0.5 * (np.log(shifted).sum() + (power / shifted).sum() + count * math.log(2 * math.pi))
            assert found[k] == pytest.approx(exact, rel=1e-12)


def test_changes_beside_huge_energies_keep_their_digits(unchangeable):
    """One direction that the kernel cannot fit costs y^2/2T = 5e15 nats; the change is that of the other one alone."""
    unchangeable(module)
    spectrum = Spectrum(np.array([0.0, 2.0]), np.eye(2))
    both, one = (
        SpectralEnergy.of(spectrum, np.array([100.0, 1e-6])),
        SpectralEnergy.of(Spectrum(spectrum.values[1:], np.eye(1)), np.array([1e-6])),
    )
    T = 1e-12
    assert both.change(1.5, 0.7, T) == pytest.approx(float(one.energy(1.5, T) - one.energy(0.7, T)), rel=1e-12)


def test_a_quadrature_of_every_eigenvalue_is_the_spectrum():
    """Copies of an eigenvalue as one node with a multiplicity, averaged over probes."""
    values, copies = np.array([0.1, 1.0, 3.0]), np.array([4.0, 2.0, 1.0])
    power = np.array([0.5, 2.0, 7.0])
    spread = np.array([[1.0, -1.0], [-0.5, 0.5], [0.25, -0.25]])
    traces = TraceQuadrature(values, copies[:, None] + spread, 0)
    found = QuadratureEnergy.of(traces, power, 7, float(copies @ values))
    many = np.repeat(values, copies.astype(int))
    once = np.sqrt(np.concatenate([np.eye(int(c))[0] * p for c, p in zip(copies, power, strict=True)]))
    exact = SpectralEnergy.of(Spectrum(many, np.eye(7)), once)
    s = np.array([0.2, 1.0, 5.0])
    for name in ("energy", "data_term", "train_error"):
        np.testing.assert_allclose(getattr(found, name)(s, T), getattr(exact, name)(s, T), rtol=1e-12)
    np.testing.assert_allclose(found.change(s, 0.4, T), exact.change(s, 0.4, T), rtol=1e-12)
    assert found.data_term_slope(0.8, T) == pytest.approx(exact.data_term_slope(0.8, T), rel=1e-12)
    assert (found.count, found.outputs) == (exact.count, 1)
