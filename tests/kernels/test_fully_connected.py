"""The NNGP kernel against a naive recursion, differences, and sampled wide networks."""

from __future__ import annotations

import numpy as np
import pytest

import finitewidth as fw
from finitewidth import kernels
from finitewidth.activations import Activation, activation_of, names

USER = Activation.from_function(lambda x: x / (1.0 + abs(x)), "user")
ALL = [*names(), USER]


def naive_kernel(network, x1, x2):
    """K_0 = C, K_{l+1} = kappa[K_l] / lambda_{l+1} (docs/theory.md section 1), entry by entry from the dual."""
    kappa = network.phi.kappa
    both = np.concatenate([x1, x2])
    K = both @ both.T / (network.weight_precision[0] * both.shape[1]) + network.offset_variance
    for layer in range(network.depth):
        variance = np.diag(K)
        offset = network.offset_variance if layer < network.depth - 1 else 0.0
        K = kappa(variance[:, None], K, variance) / network.weight_precision[layer + 1] + offset
    return K[: len(x1), len(x1) :] / (network.widths[-1] if network.readout == "mean-field" else 1.0)


@pytest.mark.parametrize("activation", ALL, ids=str)
def test_equals_the_naive_recursion(activation, rng):
    depth = 3
    x1, x2 = rng.standard_normal((4, 3)), rng.standard_normal((5, 3))
    precision = tuple(1.0 + 0.3 * k for k in range(depth + 1))
    network = fw.FullyConnected(widths=(9,) * depth, activation=activation, weight_precision=precision)
    np.testing.assert_allclose(kernels.nngp(network, x1, x2), naive_kernel(network, x1, x2), rtol=1e-11)
    np.testing.assert_allclose(kernels.nngp(network, x1), naive_kernel(network, x1, x1), rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("activation", ["erf", "relu", "linear", "tanh", "quadratic", "leaky_relu"])
@pytest.mark.parametrize(("offset", "readout"), [(2.5, "standard"), (None, "mean-field"), (0.4, "mean-field")])
def test_offsets_and_readouts(activation, offset, readout, rng):
    x1, x2 = rng.standard_normal((4, 3)), rng.standard_normal((5, 3))
    network = fw.FullyConnected(
        widths=(7, 11),
        activation=activation,
        weight_precision=(0.7, 1.3, 2.0),
        offset_precision=offset,
        readout=readout,
    )
    np.testing.assert_allclose(kernels.nngp(network, x1, x2), naive_kernel(network, x1, x2), rtol=1e-11)


def test_two_layers_of_erf_written_out(rng):
    """No part of the package: Williams' formula twice."""
    x = rng.standard_normal((3, 4))
    K = x @ x.T / 4.0
    for _ in range(2):
        s = 1.0 + 2.0 * np.diag(K)
        K = 2.0 / np.pi * np.arcsin(2.0 * K / np.sqrt(np.outer(s, s)))
    np.testing.assert_allclose(kernels.nngp(fw.FullyConnected(widths=(5, 5)), x), K, rtol=1e-14)


@pytest.mark.parametrize("activation", ALL, ids=str)
@pytest.mark.parametrize("depth", [1, 3])
def test_positive_semidefinite_with_duplicates_zeros_and_constants(activation, depth, rng):
    x = rng.standard_normal((12, 4))
    x[6:9] = x[:3]
    x[9] = 0.0
    x[10] = 2.0 * x[0]
    x[:, 3] = 1.0
    x[9, 3] = 0.0
    x[11] = -x[0]
    gram = kernels.nngp(fw.FullyConnected(widths=(5,) * depth, activation=activation), x)
    assert np.isfinite(gram).all()
    assert (gram == gram.T).all()
    values = np.linalg.eigvalsh(gram)
    assert values[0] > -1e-13 * values[-1]


@pytest.mark.parametrize("activation", ALL, ids=str)
def test_all_points_zero(activation):
    gram = kernels.nngp(fw.FullyConnected(widths=(5, 5), activation=activation), np.zeros((3, 2)))
    inner = float(activation_of(activation)(0.0)) ** 2
    expected = activation_of(activation).dual.diagonal(np.array([inner]))[0]
    np.testing.assert_allclose(gram, np.full((3, 3), expected[0]), atol=1e-15)


@pytest.mark.parametrize("activation", ALL, ids=str)
def test_a_single_point(activation):
    network = fw.FullyConnected(widths=(5,), activation=activation)
    x = np.array([[0.3, -1.2]])
    assert kernels.nngp(network, x) == pytest.approx(naive_kernel(network, x, x))


def test_images_are_flattened(rng):
    images, network = rng.standard_normal((4, 3, 2, 2)), fw.FullyConnected(widths=(5,))
    assert (kernels.nngp(network, images) == kernels.nngp(network, images.reshape(4, -1))).all()


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8])
def test_other_number_types_are_computed_in_double(dtype, rng):
    x = (10 * np.abs(rng.standard_normal((5, 3)))).astype(dtype)
    before, network = x.copy(), fw.FullyConnected(widths=(5,), activation="relu")
    gram = kernels.nngp(network, x)
    assert gram.dtype == np.float64
    assert (gram == kernels.nngp(network, x.astype(float))).all()
    assert (x == before).all()


@pytest.mark.parametrize("order", ["C", "F"])
def test_inputs_are_not_changed(order, rng):
    x = np.array(rng.standard_normal((5, 3)), order=order)
    before = x.copy()
    network = fw.FullyConnected(widths=(5,))
    kernels.nngp(network, x)
    kernels.nngp(network, x, x)
    kernels.nngp_pullback(network, x, np.eye(5))
    assert (x == before).all()


@pytest.mark.parametrize("activation", ALL, ids=str)
def test_pullback_against_differences(activation, rng):
    depth = 3
    x, G = rng.standard_normal((6, 3)), rng.standard_normal((6, 6))
    G = G + G.T
    x[4] = 2.0 * x[0]

    def network(log_precision):
        precisions = tuple(np.exp(log_precision))
        return fw.FullyConnected((5,) * depth, activation=activation, weight_precision=precisions, offset_precision=1.5)

    def contracted(log_precision):
        return np.vdot(G, kernels.nngp(network(log_precision), x))

    at, step = 0.1 * np.arange(depth + 1), 1e-5
    numerical = [(contracted(at + d) - contracted(at - d)) / (2 * step) for d in step * np.eye(depth + 1)]
    np.testing.assert_allclose(kernels.nngp_pullback(network(at), x, G), numerical, rtol=3e-6, atol=1e-7)


# --- the finite network itself ---------------------------------------------------------------------------------------


def sampled_deviations(network, x, wrong=1.0, networks=4000, width=20):
    """(sampled second moments - kernel) in standard errors over networks drawn from the prior.

    With one hidden layer the second moment is the kernel at any width.
    """
    jax = pytest.importorskip("jax")
    wide = network.with_width(width)
    with jax.enable_x64(True):
        draw = jax.jit(jax.vmap(lambda key: wide.apply(wide.init(key, x.shape[1:]), x)[:, 0]))
        f = np.asarray(draw(jax.random.split(jax.random.key(0), networks)))
    assert f.dtype == np.float64
    products = f[:, :, None] * f[:, None, :]
    expected = kernels.nngp(network.with_precision(tuple(wrong * p for p in network.weight_precision)), x)
    return (products.mean(0) - expected) / (products.std(0) / np.sqrt(networks))


@pytest.mark.statistical
@pytest.mark.parametrize("activation", ["erf", "gelu"])
def test_sampled_networks(activation):
    x = np.random.default_rng(3).standard_normal((3, 4))
    network = fw.FullyConnected(widths=(1,), activation=activation, weight_precision=(0.8, 1.25), offset_precision=2.0)
    assert np.abs(sampled_deviations(network, x)).max() < 4.0


@pytest.mark.statistical
def test_sampled_deep_networks():
    """Depth 3; the second moment of linear and relu outputs is nearly that of infinite width at width 60."""
    x = np.random.default_rng(4).standard_normal((3, 4))
    network = fw.FullyConnected(widths=(1, 1, 1), activation="relu", weight_precision=(0.8, 0.5, 0.6, 1.25))
    assert np.abs(sampled_deviations(network, x, networks=1000, width=60)).max() < 4.0


@pytest.mark.statistical
@pytest.mark.control
def test_negative_control_wrong_precision():
    """Precisions 10 % off in each of two layers must be noticed."""
    x = np.random.default_rng(3).standard_normal((3, 4))
    network = fw.FullyConnected(widths=(1,), activation="relu", weight_precision=(0.8, 1.25))
    assert np.abs(sampled_deviations(network, x, wrong=1.1)).max() > 4.0
