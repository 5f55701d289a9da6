"""Kernels of stacks: by hand, in any blocks, bad input; against a slow second implementation: ``test_rules``."""

from __future__ import annotations

import math

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.kernels import stack as implementation
from finitewidth.kernels.stack import StackKernel
from finitewidth.networks import LayeredNetwork
from finitewidth.networks.stack import layers_of

KEYS = ("nngp", "ntk")


def conv(size=3, stride=1, padding="same", w=1.0, b=0.0, name="conv"):
    settings = {"patch": [size, size], "stride": [stride, stride], "padding": padding}
    return {name: {**settings, "weight_precision": 1.0 / w, "offset_precision": 1.0 / b if b else None}}


def images(count, *shape, seed=0):
    return np.random.default_rng(seed).standard_normal((count, *shape))


def close(a, b, tolerance=1e-10):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_ntk_of_whitened_and_of_raw_weights_by_hand():
    x, l0, l1 = images(4, 6), 2.0, 0.5
    network = fw.FullyConnected(widths=3, weight_precision=(l0, l1), activation="erf")
    C = x @ x.T / 6.0
    own = np.diagonal(C) / l0
    kappa, _, slope, _ = network.phi.kappa_gradient(own[:, None], C / l0, own)
    close(fw.kernels.ntk(network, x), kappa + C * slope / l1)
    close(fw.kernels.ntk(network, x, parameters="whitened"), kappa / l1 + C / l0 * slope / l1)
    stack = fw.kernels.from_layers([{"dense": {"weight_precision": l0}}, "erf", {"dense": {"weight_precision": l1}}])
    close(stack.ntk(x), fw.kernels.ntk(network, x, parameters="whitened"))


def test_ntk_is_the_nngp_plus_its_derivative_in_the_log_variances():
    """Each whitened layer adds dK / d log(variance of its weights and biases together), at fixed K of the others.

    For a deep linear network every layer contributes the same: Theta = (L + 1) K.
    """
    x = images(5, 4)
    kernels = fw.kernels.from_layers(["dense", "linear", "dense", "linear", "dense"]).both(x)
    close(kernels.ntk, 3.0 * kernels.nngp)


def test_relu_ntk_on_the_diagonal_has_no_rounding_of_roots():
    x = images(6, 500)
    kernels = fw.kernels.from_layers(["dense", "relu", "dense"]).both(x, x.copy())
    own = np.einsum("pi,pi->p", x, x) / 500.0
    close(np.diagonal(kernels.ntk), own, 1e-13)  # kappa = c/2, kappa' = 1/2


# --- blocks, symmetry, shapes ----------------------------------------------------------------------------------------

DEEP = {
    "dense": ([{"dense": {"offset_precision": 10.0}}, "erf", "dense", "relu", "dense"], (7,)),
    "flat": ([conv(b=0.1), "relu", conv(stride=2), "erf", "flatten", "dense"], (5, 4, 2)),
    "pooled": ([conv(b=0.1), "relu", conv(stride=2), "erf", "global_average_pool", "dense"], (5, 4, 2)),
    "attention": (["dense_per_token", "relu", "self_attention", "gelu", "global_average_pool", "dense"], (4, 3)),
    "residual": (
        [
            conv(),
            {"residual": ["layer_norm", "relu", conv(b=0.2)]},
            "relu",
            {"average_pool": {"patch": 2}},
            conv(),
            "tanh",
            "flatten",
            "dense",
        ],
        (4, 4, 1),
    ),
    "local": ([conv(name="locally_connected"), "relu", conv(), "relu", "global_average_pool", "dense"], (4, 4, 1)),
    "signal": ([{"conv": {"patch": [3], "padding": "same"}}, "relu", "global_average_pool", "dense"], (6, 2)),
}


@pytest.mark.parametrize("name", DEEP)
def test_any_blocks_give_the_same(name, monkeypatch):
    layers, shape = DEEP[name]
    x, kernel = images(9, *shape), fw.kernels.from_layers(layers)
    whole, cross = kernel.both(x), kernel.both(x[:4], x[4:])
    monkeypatch.setattr(implementation, "_WORK", {False: 40, True: 600})
    monkeypatch.setattr(implementation, "_BLOCK", (2, 3))
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    small = kernel.both(x)
    for key in KEYS:
        full = getattr(whole, key)
        assert (full == full.T).all()
        close(getattr(small, key), full, 1e-12)
        close(getattr(cross, key), full[:4, 4:], 1e-12)
        close(getattr(kernel.diagonal(x), key), np.diagonal(full), 1e-12)
        assert np.linalg.eigvalsh(full).min() > -1e-12 * np.abs(full).max()
    close(kernel.nngp(x), whole.nngp, 1e-12)


def test_points_flat_or_without_channels():
    layers = [conv(), "relu", "flatten", "dense"]
    x = images(3, 4, 4)
    expected = fw.kernels.from_layers(layers).ntk(x[..., None])
    close(fw.kernels.from_layers(layers).ntk(x), expected)
    close(fw.kernels.from_layers(layers, (4, 4, 1)).ntk(x.reshape(3, -1)), expected)


def test_pooling_and_flattening_the_inputs_is_exact():
    x = images(4, 6, 3)
    close(fw.kernels.from_layers(["global_average_pool", "dense"]).nngp(x), x.mean(1) @ x.mean(1).T / 3.0)
    close(fw.kernels.from_layers(["flatten", "dense"]).nngp(x), x.reshape(4, -1) @ x.reshape(4, -1).T / 18.0)


@pytest.mark.parametrize("padding", ["same", "none"])
def test_a_window_may_be_larger_than_a_padded_image_only(padding):
    kernel = fw.kernels.from_layers([conv(5, 1, padding), "relu", "flatten", "dense"])
    if padding == "none":
        with pytest.raises(fw.InputError, match="patch of at most 2 x 2"):
            kernel.nngp(images(2, 2, 2, 1))
    else:
        close(kernel.nngp(images(1, 2, 2, 1))[0, 0], (images(1, 2, 2, 1) ** 2).sum() / 50.0)


def test_finite_network_of_a_kernel():
    jax = pytest.importorskip("jax")
    network = LayeredNetwork(DEEP["residual"][0]).with_width(8)
    x = images(3, 4, 4, 1)
    params = network.init(jax.random.key(0), x.shape[1:], 2)
    assert network.apply(params, x).shape == (3, 2)
    assert isinstance(fw.kernels.from_layers(network), StackKernel)


def test_stack_of_a_network_keeps_the_shape():
    assert layers_of(fw.Convolutional(channels=4, patch=2, input_shape=(4, 4, 1))).input_shape == (4, 4, 1)


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "a list of layers"),
        ("erf", "a list of layers"),
        (["erf", "dense"], "put a layer with weights before it"),
        (["dense", "erf", "relu"], "put a layer with weights before it"),
        ([conv(), "flatten", "erf"], "flatten after it"),
        (["dens"], "did you mean 'dense'"),
        ([{"dense": {"weight_precison": 1.0}}], "did you mean weight_precision"),
        ([{"dense": {"weight_precision": -1.0}}], "above 0"),
        ([{"dense": {"offset_precision": -1.0}}], "above 0"),
        ([{"dense": {"weight_variance": 2.0}}], "did you mean weight_precision, one over"),
        ([{"dense": {"bias_variance": 0.0}}], "did you mean offset_precision"),
        ([{"conv": {"filter": 3}}], "did you mean patch"),
        ([{"conv": {"patch": 3, "strides": 2}}], "did you mean stride"),
        ([{"conv": {"patch": 3, "padding": "valid"}}], "one of 'none', 'same'"),
        ([{"dense": 3}], "a mapping"),
        ([{"conv": {}}], "Conv without a patch"),
        ([{"conv": {"patch": [3, 0]}}], "at least 1"),
        ([{"conv": {"patch": [3, 3], "padding": "circular"}}], "'none', 'same'"),
        ([{"dense": {}, "conv": {}}], "one name with its settings"),
        ([3], "one name with its settings"),
        ([{"self_attention": {"mechanism": "relu"}}], "'softmax', 'identity'"),
        (["dense", "relu", {"residual": ["dense"]}], "residual block"),
        (["dense", {"residual": ["erf"]}], "residual block"),
        (["dense", {"residual": {"brench": []}}], "did you mean 'branch'"),
        (["layer_norm", "dense"], "where channels have mean zero"),
    ],
)
def test_layers_that_cannot_be(layers, message):
    with pytest.raises(fw.InputError, match=message):
        fw.kernels.from_layers(layers)


@pytest.mark.parametrize(
    ("layers", "shape", "message"),
    [
        (["self_attention", "flatten"], (5,), "self_attention on points without positions"),
        (["dense_per_token", "relu", "flatten"], (5,), "a sequence"),
        ([conv(), "relu", "dense"], (4, 4, 1), 'put "flatten" or "global_average_pool" before it'),
        ([conv(), "relu"], (4, 4, 1), "layers that end in 4 x 4 positions"),
        ([conv(), "relu", "flatten"], (5,), "points with 0 directions"),
        ([{"conv": {"patch": [3]}}, "relu", "flatten"], (4, 4, 1), "points with 2 directions"),
        ([conv(5, padding="none"), "relu", "flatten"], (4, 4, 1), "a patch of 5 x 5 in an input of 4 x 4"),
        ([conv(), {"residual": ["relu", conv(stride=2)]}, "flatten"], (4, 4, 1), "ends in 2 x 2 beside 4 x 4"),
    ],
)
def test_points_that_do_not_fit(layers, shape, message):
    with pytest.raises(fw.InputError, match=message):
        fw.kernels.from_layers(layers).nngp(images(2, *shape))


def test_sets_and_shapes_that_do_not_fit():
    kernel = fw.kernels.from_layers([conv(), "relu", "flatten"], (4, 4, 1))
    with pytest.raises(fw.InputError, match="leave input_shape out"):
        kernel.nngp(images(2, 15))
    with pytest.raises(fw.InputError, match="the same shape in both sets"):
        fw.kernels.from_layers(["dense"]).nngp(images(2, 4), images(2, 5))
    with pytest.raises(fw.InputError, match="NaN"):
        fw.kernels.from_layers(["dense"]).nngp(np.full((2, 3), math.nan))
    with pytest.raises(fw.InputError, match="whitened"):
        fw.kernels.from_layers(["dense"]).ntk(images(2, 4), parameters="raw")
