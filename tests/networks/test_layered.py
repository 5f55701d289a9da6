"""Lists of layers are networks: which class they are, their finite networks, kernels, theory, samples and training."""

from __future__ import annotations

import math

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.networks import LayeredNetwork
from finitewidth.networks.stack import layers_of

TWO = [{"dense": {"width": 40}}, "relu", {"dense": {"width": 40}}, "relu", {"dense": {}}]
CONV = {"conv": {"channels": 6, "patch": [2, 2], "padding": "same", "weight_precision": 0.7}}
PADDED = {"conv": {"channels": 5, "patch": 3, "stride": 2, "padding": 1, "offset_precision": 4.0}}
FOUR = {"dense": {"weight_precision": 4.0}}
DEEP = [CONV, "erf", PADDED, "relu", "global_average_pool", {"dense": {"weight_precision": 0.5}}]


def data(count, *shape, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, *shape))
    return fw.Dataset(x, np.tanh(2.0 * x.reshape(count, -1)[:, 0]), classes=())


TRAIN, TEST = data(12, 4, 4), data(5, 4, 4, seed=1)


# --- which network a list is -----------------------------------------------------------------------------------------


def test_a_list_of_layers_is_a_network_like_any_other():
    """The sentence of issue 18: equal, of one class, and so the same in every method, whichever way it is written."""
    jax = pytest.importorskip("jax")
    network, written = fw.FullyConnected(widths=(40, 40), activation="relu"), fw.Network(TWO)
    assert (type(written), written) == (fw.FullyConnected, network)
    x = TRAIN.flat
    np.testing.assert_array_equal(fw.kernels.nngp(written, x), fw.kernels.nngp(network, x))
    np.testing.assert_allclose(fw.kernels.from_layers(TWO).nngp(x), fw.kernels.nngp(network, x), rtol=1e-12)
    for one, other in zip(
        *(n.init(jax.random.key(0), (16,))["hidden"]["weights"] for n in (network, written)), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    train, test = fw.Dataset(x, TRAIN.y, classes=()), fw.Dataset(TEST.flat, TEST.y, classes=())
    one, other = (fw.predict(fw.solve(fw.theory_of(n, 0.1), train), test.x).mean for n in (written, network))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("layers", "network"),
    [
        (["flatten", *TWO], fw.FullyConnected((40, 40), activation="relu")),
        (
            [{"dense": {"width": 3, "offset_precision": 2.0, "weight_precision": 0.5}}, "erf", FOUR],
            fw.FullyConnected(3, weight_precision=(0.5, 4.0), offset_precision=2.0),
        ),
        (
            [{"conv": {"channels": 7, "patch": 3, "stride": 2, "padding": "same"}}, "erf", "flatten", "dense"],
            fw.Convolutional(7, patch=3, stride=2, padding="same"),
        ),
        (
            [{"conv": {"channels": 7, "patch": [2, 2]}}, "relu", "global_average_pool", "dense"],
            fw.Convolutional(7, patch=(2, 2), stride=1, pool="average", activation="relu"),
        ),
        (
            [{"locally_connected": {"channels": 7, "patch": 2, "stride": 2}}, "erf", "flatten", "dense"],
            fw.LocallyConnected(7, patch=2),
        ),
    ],
)  # fmt: skip
def test_what_a_list_is(layers, network):
    assert fw.Network(layers) == network
    x = TRAIN.x
    np.testing.assert_allclose(fw.kernels.from_layers(network).nngp(x), fw.kernels.nngp(network, x), rtol=1e-12)


@pytest.mark.parametrize(
    "layers",
    [
        DEEP,
        [{"dense": {}}, "relu", "dense"],  # no width
        [{"dense": {"width": 3}}, "relu", {"dense": {"width": 3}}, "erf", "dense"],
        [{"dense": {"width": 3}}, "relu", {"dense": {"width": 3, "offset_precision": 1.0}}, "relu", "dense"],
        [{"dense": {"width": 3}}, "relu", {"dense": {"offset_precision": 1.0}}],
        [{"locally_connected": {"channels": 7, "patch": 2}}, "erf", "global_average_pool", "dense"],
    ],
)
def test_anything_else_is_layers(layers):
    assert type(fw.Network(layers)) is LayeredNetwork


# --- the same network, described both ways ---------------------------------------------------------------------------

SETTINGS = {"weight_precision": (0.7, 1.4, 2.0), "offset_precision": 3.0, "activation": "relu"}
BOTH_WAYS = {
    "dense": fw.FullyConnected((6, 6), **SETTINGS),
    "mean field": fw.FullyConnected((6, 6), **SETTINGS, readout="mean-field"),
    "conv": fw.Convolutional(5, patch=2, stride=1, padding=1, activation="relu", weight_precision=(0.7, 2.0)),
    "pooled": fw.Convolutional(5, patch=2, pool="average", activation="relu", offset_precision=2.0),
    "local": fw.LocallyConnected(5, patch=2, weight_precision=(0.7, 2.0), readout="mean-field"),
}


@pytest.mark.parametrize("name", BOTH_WAYS)
def test_layers_describe_the_same_network(name):
    network, layers, x = BOTH_WAYS[name], layers_of(BOTH_WAYS[name]), TRAIN.x
    close = {"rtol": 1e-9, "atol": 1e-12}
    calls = (fw.kernels.nngp, fw.kernels.nngp_diagonal, fw.kernels.feature_mean, fw.kernels.ntk)
    for call in calls:
        np.testing.assert_allclose(call(layers, x), call(network, x), **close)
    G = np.random.default_rng(2).standard_normal((12, 12))
    pulled = (fw.kernels.nngp_pullback(n, x, G + G.T) for n in (layers, network))
    np.testing.assert_allclose(*pulled, rtol=1e-6)
    for one, other in ((layers.widths, network.widths), (layers.weight_precision, network.weight_precision)):
        assert one == other
    assert layers.n_features((4, 4)) == network.n_features((4, 4))
    assert layers_of(layers.with_width(9)) == layers_of(network.with_width(9))
    assert layers_of(layers.with_precision(2.0)) == layers_of(network.with_precision(2.0))


@pytest.mark.parametrize("name", ["dense", "mean field", "pooled"])
def test_the_saddle_of_layers_is_that_of_the_product_closure(name):
    network = BOTH_WAYS[name]
    closure = "product" if network.depth > 1 else None
    one, other = (fw.solve(fw.theory_of(n, 0.1, closure), TRAIN) for n in (layers_of(network), network))
    assert one.converged
    np.testing.assert_allclose(one.order_parameters, other.order_parameters, rtol=1e-6)
    assert one.log_evidence == pytest.approx(other.log_evidence, rel=1e-9)
    for key, value in other.evidence_gradient().items():
        np.testing.assert_allclose(one.evidence_gradient()[key], value, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["dense", "conv", "local"])
def test_the_prior_of_the_finite_layers(name):
    """Weights have the deviations that ``hidden_log_prior`` states: its slope at them is minus precision times them."""
    jax = pytest.importorskip("jax")
    network = layers_of(BOTH_WAYS[name])
    params = network.init(jax.random.key(1), (4, 4))
    slope = jax.grad(network.log_prior)(params)
    for layer, own, change in zip(network.layers, params["hidden"], slope["hidden"], strict=False):
        for precision, w, s in zip(_precisions(layer), own, change, strict=False):
            np.testing.assert_allclose(s, -precision * w, rtol=1e-5)
    np.testing.assert_allclose(slope["readout"], -network.weight_precision[-1] * params["readout"], rtol=1e-5)


def _precisions(layer):
    return [p for p in (getattr(layer, "weight_precision", None), getattr(layer, "offset_precision", None)) if p]


@pytest.mark.parametrize("kind", [fw.Convolutional, fw.LocallyConnected])
def test_first_weights_are_those_of_the_neurons(kind):
    """In the order of the patches that they look at: with them, the classes' own finite network has these features."""
    jax = pytest.importorskip("jax")
    network = kind(3, patch=(2, 3), stride=(1, 2), padding="same", activation="relu", offset_precision=2.0)
    layers, x = layers_of(network), np.random.default_rng(3).standard_normal((5, 4, 5, 2))
    hidden = layers.init_hidden(jax.random.key(2), (4, 5, 2))
    weights, offsets = layers.first_weights(hidden), hidden[0][1]
    offsets = offsets if network.shares_weights else offsets.reshape(-1, 3)
    own = {"weights": [weights], "offsets": [offsets]}
    assert weights.shape[-2:] == (3, math.prod(layers.field_shape((4, 5, 2))))
    np.testing.assert_allclose(layers.features(hidden, x), network.features(own, x), rtol=1e-4, atol=1e-6)
    assert network.hidden_log_prior(own) == pytest.approx(float(layers.hidden_log_prior(hidden)), rel=1e-5)


# --- a deep convolutional network ------------------------------------------------------------------------------------


def test_a_deep_convolutional_list_in_every_method():
    jax = pytest.importorskip("jax")
    network = fw.Network(DEEP)
    assert (network.depth, network.widths, network.weight_precision) == (2, (6, 5), (0.7, 1.0, 0.5))
    params = network.init(jax.random.key(0), (4, 4), 2)
    assert network.apply(params, TRAIN.x).shape == (12, 2)
    draws = fw.sample(network, TRAIN, TEST, 0.1, chains=1, draws=3, warmup=3)
    assert np.isfinite(draws.mean).all()
    trained = fw.train(network, TRAIN, TEST, steps=40, seeds=1)
    assert trained.first_layer.shape == (1, 6, 4)
    before, *_, after = trained.history.train_error[0]
    assert after < before
    solution = fw.solve(fw.theory_of(network, 0.1), TRAIN)
    assert solution.converged
    assert solution.theory.closure == "product"
    assert solution.order_parameters.shape == (2,)
    wide = fw.solve(fw.theory_of(network.with_width(10**6), 0.1), TRAIN)
    infinite = fw.solve(fw.theory_of(network, 0.1, method="infinite"), TRAIN)
    np.testing.assert_allclose(fw.predict(wide, TEST.x).mean, fw.predict(infinite, TEST.x).mean, atol=1e-4)


def test_zeros_given_as_a_number_are_those_of_same():
    """Around a patch of three places, one on either side is what "same" means."""
    one, same = ([{"conv": {"patch": 3, "padding": p}}, "erf", "flatten", "dense"] for p in (1, "same"))
    np.testing.assert_array_equal(fw.kernels.from_layers(one).ntk(TRAIN.x), fw.kernels.from_layers(same).ntk(TRAIN.x))


# --- what cannot be --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([{"dense": {"width": 3}}, "relu", {"dense": {"width": 2}}], 'end the list with {"dense": {}}'),
        ([{"dense": {"width": 3}}, "relu", {"dense": {"offset_precision": 1.0}}], "without an offset"),
        ([{"dense": {"width": 3}}, "relu"], 'end the list with {"dense": {}}'),
        (["dense", "relu", "dense"], "Dense without width; wanted: its width, where the finite network is wanted"),
        ([{"conv": {"patch": 2}}, "relu", {"conv": {"patch": 2}}, "relu", "flatten", "dense"], "Conv without channels"),
        (
            [{"dense": {"width": 3}}, "relu", {"residual": [{"dense": {"width": 4}}]}, "relu", "dense"],
            "not Gaussian",
        ),
        (
            [{"dense": {"width": 3}}, {"residual": ["relu", {"dense": {"width": 4}}]}, "relu", "dense"],
            "4 channels beside 3",
        ),
    ],
)
def test_finite_networks_that_cannot_be(layers, message):
    jax = pytest.importorskip("jax")
    with pytest.raises(fw.InputError, match=message):
        fw.Network(layers).init(jax.random.key(0), (5,) if "conv" not in str(layers) else (4, 4))


def test_methods_that_need_more_than_layers():
    network = fw.Network(DEEP)
    with pytest.raises(fw.InputError, match="closure = 'nested' with LayeredNetwork"):
        fw.theory_of(network, 0.1, closure="nested")
    with pytest.raises(fw.InputError, match="method = 'neuron' for LayeredNetwork with 2"):
        fw.theory_of(network, 0.1, method="neuron")
    with pytest.raises(fw.InputError, match="layers of activations erf, relu"):
        network.phi  # noqa: B018
    with pytest.raises(fw.InputError, match="keywords among"):
        fw.Network(widths=(3,))


def test_every_activation_has_to_take_jax_arrays():
    pytest.importorskip("jax")
    layers = [{"dense": {"width": 3}}, "erf", {"dense": {"width": 3}}, lambda x: np.asarray(x) * math.pi, "dense"]
    with pytest.raises(fw.InputError, match="does not take JAX arrays"):
        fw.sample(fw.Network(["flatten", *layers]), TRAIN, TEST, 0.1, chains=1, draws=1, warmup=1, sampler="langevin")
