"""What the functions of ``fw.kernels`` do when nothing is said, what they pass on, and what they refuse."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest

import finitewidth as fw
from finitewidth import kernels
from finitewidth.checks.exceptions import InputError
from finitewidth.kernels.local import (
    LocalGram,
    LocalPoints,
    local_cross,
    local_diagonal,
    local_kernels,
)


def points(count, *shape, seed=0):
    return np.random.default_rng(seed).standard_normal((count, *shape))


SETTINGS = {"activation": "relu", "weight_precision": (0.6, 1.7), "offset_precision": 2.0}
POOLED = fw.Convolutional(5, patch=2, stride=1, pool="average", **SETTINGS)
CONVOLUTIONAL = fw.Convolutional(5, patch=(2, 3), stride=(1, 2), **SETTINGS)
LOCAL = fw.LocallyConnected(5, patch=2, readout="mean-field", **SETTINGS)
DENSE = fw.FullyConnected((4, 3), activation="relu", weight_precision=(0.6, 1.2, 1.7), offset_precision=2.0)
MEAN_FIELD = fw.FullyConnected((4, 3), weight_precision=(0.6, 1.2, 1.7), readout="mean-field")
ALL = {"pooled": POOLED, "conv": CONVOLUTIONAL, "local": LOCAL, "dense": DENSE, "mean field": MEAN_FIELD}


# --- tangent kernels -------------------------------------------------------------------------------------------------


def tangent(network, x, whitened):
    """By derivatives of the NNGP in the precisions, of one hidden layer or linear in each: sum_l of what layer l adds.

    Of whitened parameters a layer adds w_l dK / d w_l at fixed duals behind it; here written out, patch by patch.
    """
    l0, l1 = network.weight_precision
    patches, b = network.grid(x).extract(x), network.offset_variance
    n, M = patches.shape[1:]
    C = np.einsum("aim,bjm->ijab", patches, patches) / M
    T = C / l0 + b if whitened else C + (b > 0.0)
    K = C / l0 + b
    own = np.einsum("iiaa->ia", K)
    kappa, _, slope, _ = network.phi.kappa_gradient(own[:, None, :, None], K, own[None, :, None, :])
    pairs = np.ones((n, n)) / n**2 if network.pool == "average" else np.eye(n) / n
    kappa, T = (np.einsum("ij,ijab->ab", pairs, A) for A in (kappa, T * slope))
    scale = 1.0 / network.widths[-1] if network.readout == "mean-field" else 1.0
    return kappa / l1 * scale, ((kappa / l1 if whitened else kappa) + T / l1) * scale


@pytest.mark.parametrize("name", ["pooled", "conv", "local"])
def test_kernels_of_local_networks_written_out(name):
    network, x = ALL[name], points(5, 4, 4, 1)
    for parameters in ("weights", "whitened"):
        K, T = tangent(network, x, parameters == "whitened")
        stack = kernels.from_layers(network)
        found = stack.both(x, parameters=parameters)
        close = {"rtol": 3e-8}  # relu at correlation one
        np.testing.assert_allclose(found.nngp, K, **close)
        np.testing.assert_allclose(found.ntk, T, **close)
        np.testing.assert_allclose(stack.both(x[:2], x[2:], parameters).ntk, T[:2, 2:], **close)
        np.testing.assert_allclose(kernels.ntk(network, x[:2], x[2:], parameters), T[:2, 2:], **close)
        own = stack.diagonal(x, parameters)
        np.testing.assert_allclose(own.nngp, np.diagonal(K), **close)
        np.testing.assert_allclose(own.ntk, np.diagonal(T), **close)
        if parameters == "weights":  # what is meant where nothing is said
            np.testing.assert_allclose(kernels.ntk(network, x), T, **close)
        np.testing.assert_allclose(kernels.nngp(network, x), K, **close)
        np.testing.assert_allclose(kernels.nngp(network, x[:2], x[2:]), K[:2, 2:], **close)
        np.testing.assert_allclose(kernels.nngp_diagonal(network, x), np.diagonal(K), rtol=1e-12)


def test_mean_field_divides_by_the_last_width():
    x = points(4, 3)
    standard = fw.FullyConnected((4, 3), weight_precision=(0.6, 1.2, 1.7))
    for name in ("both", "diagonal"):
        one, other = (getattr(kernels.from_layers(network), name)(x) for network in (standard, MEAN_FIELD))
        np.testing.assert_allclose(3.0 * other.nngp, one.nngp, rtol=1e-13)
        np.testing.assert_allclose(3.0 * other.ntk, one.ntk, rtol=1e-13)


@dataclass(frozen=True)
class Affine(fw.Network):
    """One whose covariance tells what it was given."""

    widths: object = 100

    def covariance(self, order_parameters, x1, x2):
        assert order_parameters.tolist() == [1.0] * self.depth
        return x1 @ x2.T * np.prod(order_parameters) + 2.0


def test_an_own_architecture_is_asked_for_its_covariance():
    network, x, y = Affine(widths=(5, 6)), points(4, 3), points(2, 3, seed=1)
    np.testing.assert_allclose(kernels.nngp(network, x, y), x @ y.T + 2.0)
    np.testing.assert_allclose(kernels.nngp(network, x), x @ x.T + 2.0)
    for call in (kernels.ntk, kernels.nngp_diagonal):
        with pytest.raises(InputError, match=r"a Affine.*FullyConnected, Convolutional, Locally.*kernels.empirical"):
            call(network, x)


# --- other functions of networks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_pullback_is_the_derivative_in_the_log_precisions(name):
    network, x, G = ALL[name], points(5, 4, 4, 1), points(5, 5, seed=1)
    G, step, found = G + G.T, 1e-3, []
    for layer in range(len(network.weight_precision)):
        at = []
        for c in (2.0, 1.0, -1.0, -2.0):
            precision = list(network.weight_precision)
            precision[layer] *= math.exp(c * step)
            at.append(np.vdot(G, kernels.nngp(network.with_precision(tuple(precision)), x)))
        found.append((-at[0] + 8.0 * at[1] - 8.0 * at[2] + at[3]) / (12.0 * step))  # of fourth order
    result = kernels.nngp_pullback(network, x, G)
    assert result.shape == (len(found),)
    np.testing.assert_allclose(result, found, rtol=1e-7, atol=1e-9)


def test_mean_features_by_quadrature():
    """E[relu] and E[x^2] of the last preactivation; of pooled networks the mean over patches."""
    x = points(5, 4, 4, 1)
    z, w = np.polynomial.hermite_e.hermegauss(60)
    w = w / w.sum()
    patches = POOLED.grid(x).extract(x)
    own = (patches**2).sum(2) / (4 * 0.6) + 0.5
    np.testing.assert_allclose(kernels.feature_mean(POOLED, x), np.sqrt(own / (2.0 * np.pi)).mean(1), rtol=1e-12)
    for widths in ((4,), (4, 3)):
        network = fw.FullyConnected(widths, activation="quadratic", weight_precision=0.6, offset_precision=2.0)
        own = (x.reshape(5, -1) ** 2).sum(1) / (16 * 0.6) + 0.5
        for _ in widths[1:]:
            own = np.einsum("z,pz->p", w, (np.sqrt(own)[:, None] * z) ** 4) / 0.6 + 0.5
        np.testing.assert_allclose(kernels.feature_mean(network, x), np.einsum("z,pz->p", w, own[:, None] * z**2))
    assert kernels.feature_mean(LOCAL, x).shape == (5,)


# --- what is refused -------------------------------------------------------------------------------------------------

CALLS = {
    "nngp": kernels.nngp,
    "diagonal": kernels.nngp_diagonal,
    "ntk": kernels.ntk,
    "mean": kernels.feature_mean,
}


@pytest.mark.parametrize("name", CALLS)
def test_points_of_two_to_four_dimensions_and_networks(name):
    call = CALLS[name]
    for x in (points(3, 16), points(3, 4, 4), points(3, 4, 4, 1)):
        assert len(call(DENSE, x)) == 3
    for x in (points(3), points(2, 2, 2, 2, 2), 1.0):
        with pytest.raises(InputError, match=r"^x1? of shape .* an array of 2 or 3 or 4 dimensions"):
            call(DENSE, x)
    if name == "mean":  # its activation is asked for first
        return
    with pytest.raises(InputError, match=r"network = 'dense'.*write fw.FullyConnected\(widths=100\)"):
        call("dense", points(3, 4))


def test_the_second_set_is_checked_too():
    with pytest.raises(InputError, match=r"^x2 of shape"):
        kernels.nngp(DENSE, points(3, 4), points(3))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_kernels_beyond_double_precision_are_refused(sign):
    """Infinity alone, minus infinity alone beside it, and NaN: none of them is handed back."""
    network = fw.FullyConnected(5, activation="linear", weight_precision=1.0)
    x = np.array([[1e200], [1e200 * sign]])
    with np.errstate(over="ignore", invalid="ignore"):
        for call in (kernels.nngp, kernels.ntk):
            with pytest.raises(InputError, match=r"NaN, infinity.*finite.*rescale the inputs"):
                call(network, x)


def test_every_name_is_there_and_no_other():
    assert all(hasattr(kernels, name) for name in kernels.__all__)
    with pytest.raises(AttributeError, match=r"module 'finitewidth.kernels' has no attribute 'nothing'"):
        _ = kernels.nothing


# --- local kernels ---------------------------------------------------------------------------------------------------


LOCAL_CALLS = {
    "points": lambda network, x: LocalPoints.of(network, x).patches,
    "gram": lambda network, x: LocalGram.of(network, x).contract(np.eye(4)),
    "cross": lambda network, x: local_cross(network, x, x, np.eye(4)),
    "diagonal": lambda network, x: local_diagonal(network, x, np.eye(4)),
    "kernels": local_kernels,
    "nngp": fw.kernels.nngp,
    "nngp cross": lambda network, x: fw.kernels.nngp(network, x, x),
    "any": kernels.nngp,
    "tangent": kernels.ntk,
    "stack": lambda network, x: kernels.from_layers(network).nngp(x),
}


@pytest.mark.parametrize("name", LOCAL_CALLS)
def test_points_flat_without_channels_and_with_them(name):
    call, x = LOCAL_CALLS[name], points(3, 4, 4, 1)
    network = fw.Convolutional(5, patch=2, input_shape=(4, 4, 1), **SETTINGS)
    expected = call(network, x)
    for same in (x.reshape(3, 16), x[..., 0]):
        np.testing.assert_array_equal(call(network, same), expected)
    for other in (points(16), points(2, 2, 2, 2, 1)):
        with pytest.raises(InputError, match=r"^x1? of shape .* an array of 2 or 3 or 4 dimensions"):
            call(network, other)


def test_what_does_not_fit_patches_is_named():
    x, network = points(3, 4, 6, 1), fw.Convolutional(5, patch=2)
    gram, diagonal = LocalGram.of(network, x), LocalGram.of(fw.LocallyConnected(5, patch=2), x)
    cases = [
        (lambda: gram.contract(np.ones(6)), r"shape \(6,\) for 6 patches; wanted: shape \(6, 6\); give"),
        (
            lambda: diagonal.contract(np.ones((6, 5))),
            r"shape \(6, 5\) for 6 patches; wanted: shape \(6,\); give",
        ),
        (lambda: gram.project(np.ones((3, 2))), r"a cotangent of shape \(3, 2\); wanted: shape \(3, 3\)"),
        (lambda: gram.project(np.ones((2, 2))), r"a cotangent of shape \(2, 2\); wanted: shape \(3, 3\)"),
        (
            lambda: local_cross(network, x, points(2, 4, 4, 1), np.ones(6)),
            r"points of shapes \(4, 6, 1\) and \(4, 4, 1\); wanted: the same shape",
        ),
        (
            lambda: local_cross(network, x, x, np.ones(5)),
            r"shape \(5,\) for 6 patches; wanted: shape \(6, 6\)",
        ),
        (lambda: LocalGram.of(network, points(4)), "x of shape"),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=message):
            call()
