"""Masses that warmup learns from slopes; that they leave the posterior as it is, test_sampling_calibration.py shows."""

from __future__ import annotations

import numpy as np
import pytest

import finitewidth as fw

jax = pytest.importorskip("jax")

from finitewidth.runs.long_runs import carry_out_alone  # noqa: E402
from finitewidth.sampling.method import Sample, SamplingRun  # noqa: E402
from finitewidth.sampling.metric import Metric  # noqa: E402


def slopes_of(curvature: np.ndarray, rng: np.random.Generator, count: int = 4000) -> np.ndarray:
    """Masses (5, 8) after so many slopes of a Gaussian of that curvature."""
    squares = (curvature * rng.standard_normal((count, curvature.size)) ** 2).sum(0)
    seen = Metric.of_prior(np.ones(curvature.size)).seen(squares, count, 1.0)
    return of_one_chain(seen)


def of_one_chain(metric: Metric) -> np.ndarray:
    """Masses (5, 8) that are learned."""
    return Metric(*(np.asarray(part)[None] for part in metric)).learned([(5, 8)]).mass[0].reshape(5, 8)


def test_one_steep_neuron_is_found(rng):
    curvature = np.ones((5, 8))
    curvature[2] += 400.0 * 0.5 ** np.arange(8)
    with jax.enable_x64(True):
        mass = slopes_of(curvature.ravel(), rng)
    np.testing.assert_allclose(mass**2, curvature, rtol=0.15)


def test_flatter_than_the_prior_stays_at_one(rng):
    with jax.enable_x64(True):
        np.testing.assert_array_equal(slopes_of(np.full(40, 0.5), rng), np.ones((5, 8)))


def test_what_is_never_accepted_teaches_nothing():
    with jax.enable_x64(True):
        metric = Metric.of_prior(np.ones(40)).seen(np.full(40, np.inf), 7.0, 0.0)
        np.testing.assert_array_equal(of_one_chain(metric), np.ones((5, 8)))


@pytest.mark.parametrize("step_size", [None, 0.1])
def test_a_specialised_neuron_is_heavy_unless_the_step_size_is_fixed(step_size):
    """Along one direction of the inputs a narrow network of low temperature lets one neuron do all."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((100, 2)) * np.array([[1.0, 0.1]])
    data = fw.Dataset(x, np.sign(x[:, 0]))
    settings = Sample(chains=2, draws=10, observables=(), warmup=120, step_size=step_size)
    run = SamplingRun(settings=settings, network=fw.FullyConnected(6), train=data, test=data, temperature=0.003)
    mass = np.asarray(carry_out_alone(run, None, False, None).states.metric.mass).reshape(2, 6, 2)
    if step_size is not None:
        assert (mass == 1.0).all()
        return
    assert mass.max() > 3.0 * np.median(mass)
