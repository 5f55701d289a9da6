"""Kernels of stacks: against slow direct sums, against the networks they describe, in any blocks, bad input."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.activations import activation_of
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


# --- direct sums -----------------------------------------------------------------------------------------------------


def plain_deep_convolution(x, y, activation, geometry, w, b, end):
    """K and Theta of one pair of images by the definition: position by position, offset by offset."""
    phi = activation_of(activation)

    def input_covariance(a, c):
        return {
            (p, q): float(a[p] @ c[q]) / a.shape[-1]
            for p in itertools.product(*map(range, a.shape[:2]))
            for q in itertools.product(*map(range, c.shape[:2]))
        }

    pairs = [(x, x), (x, y), (y, y)]
    covariances, theta = [input_covariance(*pair) for pair in pairs], None
    size = x.shape[:2]
    for layer, (f, s, padding) in enumerate(geometry):
        if layer:
            kappa, slope = {}, {}
            xx, xy, yy = covariances
            for p, q in xy:
                kappa[p, q], _, slope[p, q], _ = (float(v) for v in phi.kappa_gradient(xx[p, p], xy[p, q], yy[q, q]))
            own = [{(p, q): float(phi.kappa(K[p, p], K[p, q], K[q, q])) for p, q in K} for K in (covariances[0], yy)]
            theta = {pair: theta[pair] * slope[pair] for pair in theta}
            covariances = [own[0], kappa, own[1]]
        out = [-(-n // s) if padding == "same" else (n - f) // s + 1 for n in size]
        before = [max(0, (o - 1) * s + f - n) // 2 if padding == "same" else 0 for o, n in zip(out, size, strict=True)]

        def contract(K, out=out, before=before, f=f, s=s):
            result = {}
            for p in itertools.product(*map(range, out)):
                for q in itertools.product(*map(range, out)):
                    total = 0.0
                    for d in itertools.product(range(f), range(f)):
                        pp = tuple(p[k] * s + d[k] - before[k] for k in range(2))
                        qq = tuple(q[k] * s + d[k] - before[k] for k in range(2))
                        total += K.get((pp, qq), 0.0)
                    result[p, q] = total / f**2
            return result

        covariances = [{k: w * v + b for k, v in contract(K).items()} for K in covariances]
        share = contract(theta) if theta is not None else dict.fromkeys(covariances[1], 0.0)
        theta = {k: covariances[1][k] + w * share[k] for k in share}
        size = out
    xx, xy, yy = covariances
    result = []
    for p, q in xy:
        value, _, slope, _ = phi.kappa_gradient(xx[p, p], xy[p, q], yy[q, q])
        result.append((p == q, float(value), theta[p, q] * float(slope)))
    kept = [(v, t) for same, v, t in result if same or end == "global_average_pool"]
    K, tangent = np.mean(kept, axis=0)
    return K, K + tangent  # a readout of variance 1


@pytest.mark.parametrize("end", ["flatten", "global_average_pool"])
@pytest.mark.parametrize(
    ("activation", "geometry"),
    [
        ("erf", [(3, 1, "same"), (3, 1, "same")]),
        ("relu", [(3, 1, "same"), (2, 2, "same"), (3, 2, "same")]),
        ("relu", [(2, 1, "none"), (3, 2, "same")]),
        ("quadratic", [(4, 1, "same"), (2, 2, "none")]),
    ],
)
def test_deep_convolutions_against_direct_sums(activation, geometry, end):
    x, w, b = images(3, 5, 4, 2), 1.3, 0.2
    layers = [part for f, s, padding in geometry for part in (conv(f, s, padding, w, b), activation)]
    kernels = fw.kernels.from_layers([*layers, end, "dense"]).both(x[:2], x[2:])
    for i in range(2):
        plain = plain_deep_convolution(x[i], x[2], activation, geometry, w, b, end)
        close((kernels.nngp[i, 0], kernels.ntk[i, 0]), plain)


@pytest.mark.parametrize("mechanism", ["softmax", "identity"])
def test_attention_against_direct_sums(mechanism):
    x, s_qk, s_ov, b = images(2, 4, 3), 1.3, 0.7, 0.2
    C = np.einsum("atc,buc->abtu", x, x) / 3.0

    def weights(K):
        e = np.exp(s_qk * K)
        return e / e.sum(1, keepdims=True)

    if mechanism == "softmax":
        z = [weights(C[a, a]) for a in range(2)]
        K = s_ov**2 * z[0] @ C[0, 1] @ z[1].T
    else:
        K = (s_qk * s_ov) ** 2 * C[0, 1] * (C[0, 1] ** 2).sum()
    precisions = {"query_precision": 1.0 / s_qk**2, "value_precision": 1.0 / s_ov**2, "offset_precision": 1.0 / b}
    settings = {"mechanism": mechanism, **precisions}
    for end, value in (("flatten", np.trace(K) / 4), ("global_average_pool", K.mean())):
        kernels = fw.kernels.from_layers([{"self_attention": settings}, end]).both(x)
        close(kernels.nngp[0, 1], value + b)
        factor = 2.0 if mechanism == "softmax" else 4.0
        close(kernels.ntk[0, 1], factor * value + b)


# --- the networks that they describe ---------------------------------------------------------------------------------

LOCAL = {"weight_precision": (2.0, 0.5), "offset_precision": 3.0, "activation": "relu"}


@pytest.mark.parametrize(
    "network",
    [
        fw.FullyConnected(widths=(5, 6, 7), weight_precision=(2.0, 0.5, 1.5, 3.0), offset_precision=2.0),
        fw.FullyConnected(widths=(5,), activation="tanh", readout="mean-field"),
        fw.Convolutional(channels=5, patch=3, stride=2, padding="same", **LOCAL),
        fw.Convolutional(channels=5, patch=(2, 3), stride=1, pool="average", **LOCAL),
        fw.LocallyConnected(channels=5, patch=2, stride=2, **LOCAL),
    ],
)
def test_nngp_of_the_layers_of_a_network(network):
    x = images(7, 6, 5)
    kernel = fw.kernels.from_layers(network)
    close(kernel.nngp(x, x[:3]), fw.kernels.nngp(network, x, x[:3]), 1e-12)
    close(kernel.both(x).nngp, fw.kernels.nngp(network, x), 1e-12)
    own = kernel.diagonal(x, "weights")
    close(own.nngp, fw.kernels.nngp_diagonal(network, x), 1e-12)
    close(own.ntk, np.diagonal(fw.kernels.ntk(network, x)), 1e-12)


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
        ([{"conv": {"patch": 3, "padding": "valid"}}], "did you mean 'none'"),
        ([{"self_attention": {"key_variance": 2.0}}], "did you mean key_precision"),
        ([{"dense": 3}], "a mapping"),
        ([{"conv": {}}], "Conv without a patch"),
        ([{"conv": {"patch": [3, 0]}}], "at least 1"),
        ([{"conv": {"patch": [3, 3], "padding": "circular"}}], "'none', 'same'"),
        ([{"dense": {}, "conv": {}}], "one name with its settings"),
        ([3], "one name with its settings"),
        ([{"self_attention": {"mechanism": "relu"}}], "'softmax', 'identity'"),
        ([{"self_attention": {"scaling": "sqrt"}}], "no closed form"),
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
