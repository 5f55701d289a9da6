"""Scalar saddles: every minimum against brute force, closed forms, and the layers' common surplus."""

from __future__ import annotations

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.linalg import Spectrum
from finitewidth.theory.action import SpectralEnergy
from finitewidth.theory.saddle import local_minima, scale_minima


def energy_of(values, power):
    order = np.argsort(values)
    values, power = np.asarray(values, float)[order], np.asarray(power, float)[order]
    return SpectralEnergy.of(Spectrum(values, np.eye(len(values))), np.sqrt(power))


def minima_of(energy, temperature, widths, shift=0.0):
    return scale_minima(energy, temperature, widths, shift)


def action_on_grid(energy, temperature, widths, shift, log_scales):
    """F along the line of best Q at each scale, written out; the split among layers by bisection."""
    lam, p = energy.spectrum.values, energy.power
    n = np.asarray(widths, float)
    low, high = np.full(len(log_scales), -60.0), np.full(len(log_scales), 40.0)  # log of the narrowest N + c
    for _ in range(70):
        middle = 0.5 * (low + high)
        q = (n - n.min() + np.exp(middle)[:, None]) / n
        above = np.log(q).sum(1) > log_scales
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    rate = (n * (q - 1.0 - np.log(q))).sum(1)
    shifted = np.exp(log_scales + shift)[:, None] * lam + temperature
    return 0.5 * (rate + np.log(shifted).sum(1) + (p / shifted).sum(1) + len(lam) * np.log(2 * np.pi))


def random_case(seed):
    rng = np.random.default_rng(seed)
    count = int(10 ** rng.uniform(0, 2))
    values, power = 10 ** rng.uniform(-5, 2, count), 10 ** rng.uniform(-4, 4, count)
    if seed % 2:  # a flat bulk without signal, and one weak direction that carries much: often two minima
        values = np.append(np.ones(count), 10 ** rng.uniform(-4, 0))
        power = np.append(np.full(count, 10 ** rng.uniform(-3, 0)), 10 ** rng.uniform(1, 5))
    widths = [int(n) for n in 10 ** rng.uniform(0, 2.5, rng.integers(1, 4))]
    return energy_of(values, power), 10 ** rng.uniform(-4, 2), widths, rng.uniform(-2, 2)


@pytest.mark.parametrize("seed", range(60))
def test_every_minimum_is_found(seed):
    """Brute force over log s, and no gradient left; four of these cases have more than one minimum."""
    energy, temperature, widths, shift = random_case(seed)
    found = minima_of(energy, temperature, widths, shift)
    x = np.linspace(-20.0, 25.0, 2251)
    F = action_on_grid(energy, temperature, widths, shift, x)
    dips = np.flatnonzero((F[1:-1] < F[:-2]) & (F[1:-1] < F[2:])) + 1
    places = sorted(float(np.log(m.order_parameters).sum()) for m in found)
    np.testing.assert_allclose(places, x[dips], atol=0.021)
    assert min(m.action for m in found) <= F.min() + 1e-8
    assert max(m.gradient_norm for m in found) < 1e-9 * energy.count
    assert [m.action for m in found] == sorted(m.action for m in found)


def metastable_data():
    """A linear kernel with 50 eigenvalues 1 without signal and one of 0.01 that carries |y|^2 = 1000."""
    values = np.append(np.ones(50), 0.01)
    y = np.append(np.zeros(50), np.sqrt(1000.0))
    return fw.Dataset(np.diag(np.sqrt(51.0 * values)), y, classes=())


class TestMetastability:
    def test_both_minima_through_the_public_face(self, dense):
        """One neuron, 51 points: a network that gives up (Q = 0.02) and one that fits (Q ~ 70)."""
        train, network = metastable_data(), fw.FullyConnected(widths=(1,), activation="linear")
        solution = fw.solve(fw.theory_of(network, 1.0), train)
        grid = np.exp(np.arange(-6.0, 7.0, 0.002))
        F = np.array([dense.action(network, train, 1.0, [q], "product") for q in grid[::50]])
        fine = action_on_grid(
            energy_of(np.append(np.ones(50), 0.01), np.append(np.zeros(50), 1000.0)), 1.0, [1], 0.0, np.log(grid)
        )
        np.testing.assert_allclose(fine[::50], F, rtol=1e-10)
        dips = np.flatnonzero((fine[1:-1] < fine[:-2]) & (fine[1:-1] < fine[2:])) + 1
        assert len(solution.minima) == len(dips) == 2
        found = sorted(solution.minima, key=lambda m: m.order_parameters[0])
        np.testing.assert_allclose([m.order_parameters[0] for m in found], grid[dips], rtol=0.002)
        np.testing.assert_allclose([m.action for m in found], fine[dips], rtol=1e-6)
        assert solution.action == min(m.action for m in solution.minima)
        assert solution.converged
        assert "2 minima" in solution.message
        assert "metastability" in solution.message

    def test_the_integral_counts_both(self):
        """log of the sum over a plain grid in log s, both bumps inside."""
        train, network = metastable_data(), fw.FullyConnected(widths=(1,), activation="linear")
        energy = energy_of(np.append(np.ones(50), 0.01), np.append(np.zeros(50), 1000.0))
        x = np.linspace(-40.0, 12.0, 200_001)
        log_prior = 0.5 * x - 0.5 * np.exp(x) - 0.5 * np.log(2.0 * np.pi)  # s ~ chi2_1
        values = log_prior - np.concatenate([energy.energy(np.exp(part), 1.0) for part in np.array_split(x, 50)])
        exact = values.max() + np.log(np.exp(values - values.max()).sum() * (x[1] - x[0]))
        solution = fw.solve(fw.theory_of(network, 1.0, method="integrate"), train)
        assert solution.converged
        assert solution.log_evidence == pytest.approx(exact, rel=1e-10)

    def test_minima_a_million_nats_apart_do_not_spoil_the_integral(self):
        """The grid once spanned both and could not settle."""
        train, network = metastable_data(), fw.FullyConnected(widths=(7, 30), activation="relu")
        large = fw.Dataset(train.x, 1e5 * (train.y + 1.0), classes=())
        solution = fw.solve(fw.theory_of(network, 1e6, method="integrate"), large)
        assert solution.converged
        assert solution.log_evidence == pytest.approx(-solution.action, abs=20.0)


@pytest.mark.parametrize("alpha", [0.2, 0.9, 1.5, 4.0])
@pytest.mark.parametrize("r", [0.1, 1.0, 10.0])
def test_zero_temperature_closed_form(alpha, r):
    """T -> 0, one layer: Q = [(1-a) + sqrt((1-a)^2 + 4 a r)] / 2, a = P/N, r = y^T K^-1 y / P (THEORY.md section 2)."""
    count, width = 36, round(36 / alpha)
    alpha = count / width
    rng = np.random.default_rng(1)
    values = 10 ** rng.uniform(-1, 1, count)
    power = rng.random(count)
    power *= r * count / (power / values).sum()
    (minimum,) = minima_of(energy_of(values, power), 1e-11, [width])
    exact = ((1 - alpha) + np.sqrt((1 - alpha) ** 2 + 4 * alpha * r)) / 2
    assert minimum.order_parameters[0] == pytest.approx(exact, rel=1e-8)


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("temperature", [1e-6, 1e-12, 1e-15])
def test_zero_targets_and_more_points_than_neurons(width, temperature):
    """Q -> T N / ((P - N) lambda) from the stationarity at one flat eigenvalue; Q = 1e-16 keeps all its digits."""
    (minimum,) = minima_of(energy_of(np.full(6, 2.0), np.zeros(6)), temperature, [width])
    q, n, P = minimum.order_parameters[0], width, 6
    # N (Q - 1) = -P Q lambda / (Q lambda + T): a quadratic equation in Q
    b, c = (n * temperature - n * 2.0 + P * 2.0) / (2.0 * n), -temperature / 2.0
    exact = -2.0 * c / (b + np.sqrt(b * b - 4.0 * c))
    assert q == pytest.approx(exact, rel=1e-10)
    assert minimum.gradient_norm < 1e-9


@pytest.mark.parametrize("width", [10**6, 10**12])
def test_wide_layers_keep_the_digits_of_the_surplus(width):
    """To first order in 1/N the surplus c = N (Q - 1) is the drive at scale 1."""
    energy = energy_of([0.1, 1.0, 3.0], [2.0, 0.5, 7.0])
    (minimum,) = minima_of(energy, 0.1, [width])
    assert minimum.action == pytest.approx(float(energy.energy(1.0, 0.1)), rel=10.0 / width)
    assert minimum.order_parameters[0] == pytest.approx(
        1.0 + float(energy.data_term(1.0, 0.1)) / width, abs=1e-16 + 100 / width**2
    )


class TestSeveralParameters:
    def test_double_well(self):
        def objective(v):
            x, y = v
            return (x * x - 4.0) ** 2 / 16.0 + 0.2 * x + y * y, np.array([x * (x * x - 4.0) / 4.0 + 0.2, 2.0 * y])

        starts = [np.array(s) for s in [(3.0, 1.0), (-3.0, 1.0), (2.1, 0.0), (-1.0, -1.0)]]
        found = local_minima(objective, starts, 1e-9)
        assert len(found) == 2
        assert found[0][0][0] < 0.0 < found[1][0][0]
        assert all(left < 1e-8 for *_, left in found)

    def test_a_wall_of_infinity_is_no_minimum(self):
        def objective(v):
            return (np.inf if v[0] > 5.0 else float(v @ v)), 2.0 * v

        assert len(local_minima(objective, [np.array([4.9]), np.array([-1.0])], 1e-9)) == 1
