"""Convolutional and locally connected networks: features against loops, the prior against the kernel."""

import math

import numpy as np
import pytest

from finitewidth.checks.exceptions import InputError
from finitewidth.kernels import nngp
from finitewidth.networks.fully_connected import FullyConnected
from finitewidth.networks.local import Convolutional, LocallyConnected

CASES = [
    Convolutional(3, patch=(2, 3), activation="tanh"),
    Convolutional(3, patch=2, stride=1, padding="same", offset_precision=2.0, weight_precision=(0.5, 3.0)),
    Convolutional(3, patch=2, pool="average", activation="relu", offset_precision=0.7),
    Convolutional(3, patch=2, readout="mean-field"),
    Convolutional(3, patch=2, pool="average", readout="mean-field"),
    LocallyConnected(3, patch=(2, 3), activation="relu"),
    LocallyConnected(3, patch=2, stride=1, offset_precision=2.0, readout="mean-field"),
]


def by_loop(network, weights, offsets, x):
    """Features neuron by neuron, docs/theory.md section 0."""
    patches = network.grid(x).extract(x)
    P, n, M = patches.shape
    N, shared = network.channels, isinstance(network, Convolutional)
    phi = np.zeros((P, n, N))
    for i in range(n):
        for a in range(N):
            place = (a,) if shared else (i, a)
            h = patches[:, i] @ weights[place] / math.sqrt(M)
            phi[:, i, a] = network.phi(h + (offsets[place] if offsets is not None else 0.0))
    extra = math.sqrt(N) if network.readout == "mean-field" else 1.0
    if network.pool == "average":
        return phi.sum(1) / n / math.sqrt(N) / extra
    return np.stack([phi[:, k // N, k % N] for k in range(n * N)], axis=1) / math.sqrt(N * n) / extra


@pytest.mark.parametrize("network", CASES, ids=repr)
def test_features_equal_those_of_a_loop(network):
    jax = pytest.importorskip("jax")
    x = np.random.default_rng(0).standard_normal((5, 4, 6, 2))
    with jax.enable_x64(True):
        hidden = network.init_hidden(jax.random.key(0), x.shape[1:])
        features = np.asarray(jax.jit(network.features)(hidden, jax.numpy.asarray(x)))
        log_prior = float(network.hidden_log_prior(hidden))
    weights = np.asarray(hidden["weights"][0])
    offsets = np.asarray(hidden["offsets"][0]) if hidden["offsets"] else None
    np.testing.assert_allclose(features, by_loop(network, weights, offsets, x), rtol=1e-12, atol=1e-14)
    assert features.shape == (5, network.n_features(x.shape[1:]))
    expected = -0.5 * network.weight_precision[0] * np.sum(weights**2)
    if offsets is not None:
        expected -= 0.5 * network.offset_precision * np.sum(offsets**2)
    assert log_prior == pytest.approx(expected, rel=1e-12)


PRIOR_CASES = [
    Convolutional(4, patch=2, activation="erf", weight_precision=(0.5, 2.0)),
    Convolutional(4, patch=2, stride=1, padding="same", activation="relu", offset_precision=1.5),
    Convolutional(4, patch=2, stride=1, pool="average", activation="relu"),
    Convolutional(4, patch=2, stride=1, pool="average", offset_precision=0.5, readout="mean-field"),
    LocallyConnected(4, patch=2, stride=1, activation="relu", offset_precision=1.5),
    LocallyConnected(4, patch=2, stride=1, activation="tanh", readout="mean-field"),
]


def deviations(network, draws=4000):
    """Differences of <f f> over prior draws from the kernel, and their standard errors, for three points."""
    jax = pytest.importorskip("jax")
    x = np.random.default_rng(3).standard_normal((3, 3, 4, 1))
    with jax.enable_x64(True):
        points = jax.numpy.asarray(x)

        def output(key):
            return network.apply(network.init(key, x.shape[1:]), points)[:, 0]

        f = np.asarray(jax.jit(jax.vmap(output))(jax.random.split(jax.random.key(7), draws)))
    products = f[:, :, None] * f[:, None, :]
    kernel, upper = nngp(network, x), np.triu_indices(3)
    error = products.std(0, ddof=1) / math.sqrt(draws)
    return (products.mean(0) - kernel)[upper], error[upper], kernel[upper]


@pytest.mark.statistical
@pytest.mark.parametrize("network", PRIOR_CASES, ids=repr)
def test_prior_draws_have_the_covariance_of_the_kernel(network):
    difference, error, kernel = deviations(network)
    assert np.abs(difference / error).max() < 4.0
    # the control: a readout precision that is off by a fifth would be noticed
    assert np.abs((difference + kernel - kernel / 1.2) / error).max() > 4.0


# --- the description ---------------------------------------------------------------------------------------


def test_description():
    network = Convolutional(40, patch=8)
    assert (network.depth, network.widths) == (1, (40,))
    assert network.stride == 8
    assert network.with_width(10**12).channels == 10**12
    assert network.with_precision((1.0, 2.0)).weight_precision == (1.0, 2.0)
    assert LocallyConnected(40, patch=8, weight_precision=3.0).weight_precision == (3.0, 3.0)
    assert hash(network) == hash(Convolutional(40, patch=8))


def test_the_shape_is_read_off_images_and_given_for_flat_points():
    network = Convolutional(2, patch=2)
    assert network.grid(np.ones((5, 4, 6))).input_shape == (4, 6, 1)
    assert network.grid(np.ones((5, 4, 6, 3))).input_shape == (4, 6, 3)
    assert network.grid((4, 6, 3)).input_shape == (4, 6, 3)
    assert Convolutional(2, patch=(2,)).grid(np.ones((5, 12, 3))).input_shape == (12, 3)
    given = Convolutional(2, patch=2, input_shape=(4, 6, 1))
    for shape in ((5, 24), (5, 4, 6), (5, 4, 6, 1)):
        assert given.grid(np.ones(shape)).input_shape == (4, 6, 1)
    assert Convolutional(2, patch=2, input_shape=(12, 3)).grid(np.ones((5, 36))).n_patches == 6


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: Convolutional(0, patch=2), "channels"),
        (lambda: Convolutional(2, patch=0), "patch"),
        (lambda: Convolutional(2, patch=2, stride=0), "stride"),
        (lambda: Convolutional(2, patch=2, pool="max"), "average"),
        (lambda: Convolutional(2, patch=2, padding="valid"), "none"),
        (lambda: Convolutional(2, patch=9, input_shape=(8, 8, 1)), "patch=(8, 8)"),
        (lambda: Convolutional(2, patch=2, input_shape=(8, 8)), "(8, 8, 1)"),
        (lambda: Convolutional(2, patch=2, weight_precision=(1.0, 1.0, 1.0)), "weight_precision"),
        (lambda: LocallyConnected(2, patch=2, pool="average"), "Convolutional"),
        (lambda: Convolutional(2, patch=4).grid(np.ones((3, 64))), "input_shape=(8, 8, 1)"),
        (lambda: Convolutional(2, patch=4, input_shape=(8, 8, 1)).grid(np.ones((3, 192))), "(8, 8, 3)"),
        (lambda: Convolutional(2, patch=4, input_shape=(8, 8, 1)).grid(np.ones((3, 4, 16))), "(8, 8, 1)"),
        (lambda: Convolutional(2, patch=9).grid(np.ones((3, 8, 8))), "patch=(8, 8)"),
        (lambda: Convolutional(2, patch=(2,)).grid(np.ones((3, 8, 8, 1))), "patch"),
    ],
)
def test_what_cannot_be_is_refused(build, said):
    with pytest.raises(InputError) as caught:
        build()
    assert said in str(caught.value)


def test_one_patch_as_large_as_the_image_is_a_fully_connected_network():
    jax = pytest.importorskip("jax")
    x = np.random.default_rng(0).standard_normal((5, 4, 6, 2))
    with jax.enable_x64(True):
        for network in (Convolutional(7, patch=(4, 6)), LocallyConnected(7, patch=(4, 6))):
            hidden = network.init_hidden(jax.random.key(0), x.shape[1:])
            dense = {"weights": [hidden["weights"][0].reshape(7, 48)], "offsets": []}
            np.testing.assert_allclose(network.features(hidden, x), FullyConnected(7).features(dense, x), rtol=1e-12)
