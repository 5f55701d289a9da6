"""Kernels of infinite width against finite networks: every layer and activation, within three standard errors."""

from __future__ import annotations

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.activations import activation_of, names

jax = pytest.importorskip("jax")

pytestmark = pytest.mark.statistical

CONV = {"conv": {"patch": [3, 3], "padding": "same", "weight_precision": 0.7, "offset_precision": 5.0}}
STRIDED = {"conv": {"patch": [2, 2], "stride": [2, 2]}}
LOCAL = {"locally_connected": {"patch": [2, 2], "offset_precision": 5.0}}
TOKENS = {"dense_per_token": {"weight_precision": 0.7}}
STACKS = {
    "deep convolutional": ([CONV, "relu", STRIDED, "erf", "flatten", "dense"], (4, 4, 1)),
    "windows pooled": (
        [CONV, "relu", {"average_pool": {"patch": [2, 2]}}, STRIDED, "relu", "flatten", "dense"],
        (4, 4, 1),
    ),
    "locally connected": ([LOCAL, "relu", CONV, "relu", "global_average_pool", "dense"], (3, 3, 1)),
    "residual": ([CONV, "layer_norm", {"residual": ["relu", CONV]}, "relu", "flatten", "dense"], (3, 3, 2)),
    "softmax attention": (
        [
            TOKENS,
            "relu",
            {"self_attention": {"weight_precision": 0.7, "offset_precision": 10.0}},
            "relu",
            "flatten",
            "dense",
        ],
        (3, 4),
    ),
    "identity attention": (
        [
            {"self_attention": {"mechanism": "identity", "offset_precision": 10.0}},
            "relu",
            "global_average_pool",
            "dense",
        ],
        (3, 4),
    ),
}


def points(shape, count=3):
    return np.random.default_rng(7).standard_normal((count, *shape))


def standard_errors(difference, se):
    """Of the pairs of points, once each."""
    upper = np.triu_indices(len(se))
    return (difference / se)[upper]


@pytest.mark.slow
@pytest.mark.parametrize("name", STACKS)
def test_every_layer(name):
    layers, shape = STACKS[name]
    network, x = fw.Network(layers).with_width(40), points(shape)
    expected = fw.kernels.from_layers(network).both(x, parameters="weights")
    result = fw.kernels.empirical(lambda key, _: network.init(key, shape, 4), network.apply, x, n_samples=24)
    assert np.abs(standard_errors(result.nngp - expected.nngp, result.nngp_se)).max() < 3.0
    assert np.abs(standard_errors(result.ntk - expected.ntk, result.ntk_se)).max() < 3.0
    # negative control: 60 % more would be seen
    assert np.abs(standard_errors(result.nngp - 1.6 * expected.nngp, result.nngp_se)).max() > 3.0
    assert np.abs(standard_errors(result.ntk - 1.6 * expected.ntk, result.ntk_se)).max() > 3.0


@pytest.mark.parametrize("activation", names())
def test_every_activation_is_in_jax_what_it_is_in_numpy(activation):
    """With its slope, by differences; kernels are held to the function of NumPy in test_activations.py."""
    phi, x, step = activation_of(activation), np.linspace(-4.0, 4.0, 30), 1e-5
    with jax.enable_x64(True):
        value, slope = jax.vmap(jax.value_and_grad(phi.jax_function))(x)
    np.testing.assert_allclose(value, phi(x), rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(slope, (phi(x + step) - phi(x - step)) / (2.0 * step), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("activation", ["tanh", "gelu"])
def test_activations_of_finite_networks(activation):
    network = fw.Network([{"dense": {"width": 512, "offset_precision": 5.0}}, activation, "dense"])
    x = points((4,))
    result = fw.kernels.empirical(lambda key, _: network.init(key, (4,), 8), network.apply, x, n_samples=40)
    expected = fw.kernels.from_layers(network).both(x, parameters="weights")
    assert np.abs(standard_errors(result.nngp - expected.nngp, result.nngp_se)).max() < 3.0
    assert np.abs(standard_errors(result.ntk - expected.ntk, result.ntk_se)).max() < 3.0


@pytest.mark.slow
@pytest.mark.parametrize(
    "network",
    [
        fw.FullyConnected(widths=(128, 128), weight_precision=(2.0, 0.5, 1.5), offset_precision=3.0),
        fw.Convolutional(channels=128, patch=2, weight_precision=(2.0, 0.5), activation="relu"),
        fw.LocallyConnected(channels=128, patch=2, weight_precision=(2.0, 0.5), activation="relu"),
        fw.Convolutional(channels=128, patch=2, weight_precision=(2.0, 0.5), pool="average", readout="mean-field"),
    ],
)
def test_ntk_of_networks_against_their_gradients(network):
    x = points((4, 4))
    result = fw.kernels.empirical(network.init, network.apply, x, n_samples=40)
    assert np.abs(standard_errors(result.ntk - fw.kernels.ntk(network, x), result.ntk_se)).max() < 3.0
    whitened = fw.kernels.ntk(network, x, parameters="whitened")  # negative control
    assert np.abs(standard_errors(result.ntk - whitened, result.ntk_se)).max() > 5.0
