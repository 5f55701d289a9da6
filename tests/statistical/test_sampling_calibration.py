"""Simulation-based calibration of every sampler's step, and a negative control.

Weights are drawn from the prior, targets from the likelihood; the rank of any quantity of the true weights
among its posterior draws is then uniform (Talts et al. 2018; quantities may depend on the data, Modrák et
al. 2023). Many small data sets run side by side; every chain starts from the prior, forgets it, and is
thinned.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from scipy import stats

jax = pytest.importorskip("jax")

from finitewidth.networks import FullyConnected  # noqa: E402
from finitewidth.sampling.posterior import Arrays, Target, draw_readouts  # noqa: E402
from finitewidth.sampling.program import van_der_corput  # noqa: E402

pytestmark = [pytest.mark.statistical, pytest.mark.slow]

T = 0.3
RUNS, DRAWS, BINS = 160, 15, 16


class Problem(NamedTuple):
    """Inputs and a network. In the wide one the prior exceeds the noise, so the residual tells the temperature."""

    x: np.ndarray
    network: FullyConnected


X = np.random.default_rng(5).standard_normal((20, 4))
SMALL = Problem(X[:10], FullyConnected(widths=(4,), activation="erf", offset_precision=2.0))
WIDE = Problem(X, FullyConnected(widths=(24,), weight_precision=(0.5, 0.1), offset_precision=2.0))
QUANTITIES = ("residual", "output", "readouts", "weights")


def quantities(target: Target, theta, arrays: Arrays):
    """Of all weights: squared residual, f at the first point, norms of readouts and of hidden weights."""
    dim = arrays.scale.size
    phi = target.features(target.hidden(theta[:dim], arrays), arrays.train)
    z = theta[dim:].reshape(-1, 1)
    f = phi @ z
    return jax.numpy.stack([((arrays.y - f) ** 2).sum(), f[0, 0], (z**2).sum(), (theta[:dim] ** 2).sum()])


def one_run(sampler, x, scale, temperature, settings, burn_in: int, thin: int, key):
    """Ranks of the true weights' quantities among DRAWS thinned draws."""
    keys, truth = jax.random.split(key, 6), sampler.target
    theta = jax.random.normal(keys[0], (scale.size + truth.n_features,))
    blank = Arrays(x, np.zeros((len(x), 1)), x, scale, temperature)
    phi = truth.features(truth.hidden(theta[: scale.size], blank), x)
    noise = jax.random.normal(keys[1], (len(x), 1))
    arrays = blank._replace(y=phi @ theta[scale.size :, None] + np.sqrt(T) * noise)
    true = quantities(truth, theta, arrays)

    def iterate(state, index):
        key, jitter = jax.random.fold_in(keys[2], index), van_der_corput(index)
        return sampler.step(state, key, jitter, settings, arrays)[0], None

    def draw(state, index):
        state = jax.lax.scan(iterate, state, burn_in + index * thin + np.arange(thin))[0]
        position = sampler.position(state)
        if sampler.conditional:
            features = sampler.target.features(sampler.target.hidden(position, arrays), x)
            z = draw_readouts(jax.random.fold_in(keys[3], index), features, arrays.y, arrays.temperature)
            position = jax.numpy.concatenate([position, z.ravel()])
        return state, quantities(sampler.target, position, arrays)

    state = jax.lax.scan(iterate, sampler.init(keys[4], arrays), np.arange(burn_in))[0]
    drawn = jax.lax.scan(draw, state, np.arange(DRAWS))[1]
    return (drawn < true).sum(0)


def p_values(problem, make, settings, burn_in: int, thin: int, temperature: float = T) -> dict[str, float]:
    """Of a chi2 test of uniform ranks, for each quantity."""
    with jax.enable_x64(True):
        truth = Target(problem.network, problem.x.shape[1:])
        scale = truth.prior_deviation()
        sampler = make(truth)
        keys = jax.random.split(jax.random.key(1), RUNS)

        def run(key, temperature):
            return one_run(sampler, problem.x, scale, temperature, settings, burn_in, thin, key)

        ranks = np.asarray(jax.jit(jax.vmap(run, (0, None)))(keys, temperature))
    counts = [np.bincount(rank * BINS // (DRAWS + 1), minlength=BINS) for rank in ranks.T]
    return {name: float(stats.chisquare(c).pvalue) for name, c in zip(QUANTITIES, counts, strict=True)}


def collapsed(temperature: float = T) -> dict[str, float]:
    from finitewidth.sampling.collapsed import Collapsed

    settings = {"step_size": 0.25, "trajectory": 1.6, "max_steps": 50.0}
    return p_values(WIDE, Collapsed, settings, 10, 1, temperature)


def test_collapsed():
    assert min(collapsed().values()) > 0.003


@pytest.mark.parametrize("of_velocity", [1.0, pytest.param(1.5, marks=pytest.mark.control)])
def test_masses_leave_the_posterior(monkeypatch, of_velocity):
    """Masses from .3 to 3; the negative control draws velocities of a wrong size."""
    from finitewidth.sampling import collapsed as module

    class Unequal(module.Collapsed):
        def init(self, key, arrays):
            state = super().init(key, arrays)
            mass = 10.0 ** jax.numpy.linspace(-0.5, 0.5, len(state.theta))
            return state._replace(metric=state.metric._replace(mass=mass))

    monkeypatch.setattr(module, "erf_inv", lambda drawn: of_velocity * jax.lax.erf_inv(drawn))
    found = min(p_values(WIDE, Unequal, {"step_size": 0.2, "trajectory": 1.6, "max_steps": 50.0}, 15, 2).values())
    assert found > 0.003 if of_velocity == 1.0 else found < 1e-4


def test_langevin():
    from finitewidth.sampling.langevin import Langevin

    settings = {"step_size": 0.04, "trajectory": np.float64(20)}
    assert min(p_values(SMALL, Langevin, settings, 15, 3).values()) > 0.003


def test_nuts():
    pytest.importorskip("blackjax")
    from finitewidth.sampling.nuts import Nuts

    assert min(p_values(SMALL, lambda target: Nuts(target, 0, 0.25), {}, 10, 1).values()) > 0.003


@pytest.mark.control
def test_a_wrong_temperature_is_noticed():
    """The negative control: sampling at a temperature a quarter too high fails far beyond the bound of the tests."""
    assert collapsed(1.25 * T)["residual"] < 1e-4


@pytest.mark.control
def test_a_biased_step_is_noticed():
    """Langevin without its Metropolis test, at a step that is far too long."""
    from finitewidth.sampling.langevin import Langevin

    settings = {"step_size": 0.12, "trajectory": np.float64(10)}
    found = p_values(SMALL, lambda target: Langevin(target, corrected=False), settings, 15, 3)
    assert found["residual"] < 1e-4
