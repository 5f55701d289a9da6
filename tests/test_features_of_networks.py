"""Measures of draws and trained networks: against matrices by hand, the prior, and each other."""

from __future__ import annotations

import math

import numpy as np
import pytest

import finitewidth as fw
from finitewidth import features
from finitewidth.sampling import Observable
from finitewidth.training import History

pytest.importorskip("jax")
pytest.importorskip("optax")

FC = fw.FullyConnected(widths=(40,), weight_precision=(2.0, 0.5))
CNN = fw.Convolutional(channels=6, patch=2, weight_precision=(2.0, 0.5))
LCN = fw.LocallyConnected(channels=6, patch=2, weight_precision=(2.0, 0.5))


def toy(count=10, outputs=0, seed=0):
    r = np.random.default_rng(seed)
    x = r.standard_normal((count, 4, 4))
    y = np.tanh(x[:, :2, :2].reshape(count, 4) @ r.standard_normal((4, max(1, outputs))))
    return fw.Dataset(x, y if outputs else y[:, 0], classes=())


def made_up(network, shape, features, data=None, count=4, learned=1.3):
    """An ensemble of weights from the prior, the trained ones ``learned`` times those; nothing is compiled."""
    data, r = toy() if data is None else data, np.random.default_rng(1)
    deviations = np.sqrt(1.0 / np.array(network.weight_precision))
    w = deviations[0] * r.standard_normal((count, *shape))
    v = deviations[1] * r.standard_normal((count, data.n_outputs, features))
    ends = [{"hidden": {"weights": [scale * w], "offsets": []}, "readout": scale * v} for scale in (learned, 1.0)]
    history = History(np.arange(2), *[np.ones((count, 2))] * 3)
    settings = {"optimiser": "sgd", "temperature": 0.0, "learning_rate": 0.1}
    return fw.Ensemble(network, data, data, np.arange(count), *ends, history, settings, True)


@pytest.fixture(scope="module")
def fully_connected():
    return made_up(FC, (40, 16), 40)


@pytest.fixture(scope="module")
def convolutional():
    return made_up(CNN, (6, 4), 24, toy(outputs=2), 12)


@pytest.fixture(scope="module")
def locally_connected():
    return made_up(LCN, (4, 6, 4), 24, count=3)


def prior_hidden_kernel(network, x):
    return network.readout_precision * fw.kernels.nngp(network, x)


# --- the order parameter ------------------------------------------------------------------------------------


def information_of(q, width):
    q = np.atleast_2d(q)
    return 0.5 * width * (np.trace(q) - np.linalg.slogdet(q)[1] - len(q))


def test_the_order_parameter_of_readouts(convolutional):
    """Q_(id),(je) = lambda_L <v_id.v_je> / N, entry by entry; features run over patches, then channels."""
    v = convolutional.readouts.reshape(12, 2, 4, 6)
    for i, d, j, e in ((0, 0, 0, 0), (1, 0, 3, 1), (2, 1, 2, 0)):
        expected = 0.5 * np.mean([v[s, d, i] @ v[s, e, j] / 6 for s in range(12)])
        assert convolutional.order_parameter[2 * i + d, 2 * j + e] == pytest.approx(expected, rel=1e-12)
    assert features.information(convolutional) == pytest.approx(
        information_of(convolutional.order_parameter, 6), rel=1e-9
    )


def test_without_shared_weights_patches_do_not_mix(locally_connected):
    diagonal = np.diagonal(locally_connected.order_parameter)
    expected = sum(information_of(q, 6) for q in diagonal)
    assert features.information(locally_connected) == pytest.approx(expected, rel=1e-12)
    assert features.information(locally_connected) < information_of(locally_connected.order_parameter, 6)
    np.testing.assert_array_equal(locally_connected.order_parameters, diagonal)


# --- kernels ------------------------------------------------------------------------------------------------


def test_distance():
    K, L = np.eye(3), np.diag([1.0, 1.0, 0.0])
    assert features.kernel_distance(K, 3.0 * K) == pytest.approx(2.0)
    assert features.kernel_distance(K, L) == pytest.approx(1 / math.sqrt(3))
    assert features.kernel_distance(np.stack([K, L]), np.stack([L, L])).shape == (2,)
    with pytest.raises(fw.InputError, match="two square ones"):
        features.kernel_distance(K, np.eye(2))


def test_hidden_kernels_by_hand(fully_connected):
    x = toy().x.reshape(10, 16)
    for initial, weights in ((True, fully_connected.initial["hidden"]["weights"][0]), (False, None)):
        w = fully_connected.first_layer if weights is None else weights
        phi = np.stack([FC.phi(x @ part.T / 4.0) for part in w])
        expected = phi @ phi.swapaxes(1, 2) / 40
        np.testing.assert_allclose(fully_connected.hidden_kernels(initial=initial), expected, rtol=1e-9)
    np.testing.assert_allclose(features.hidden_kernel(fully_connected), expected.mean(0), rtol=1e-9)


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("network", "shape", "features_"),
    [(fw.FullyConnected(widths=(3,), readout="mean-field"), (3, 16), 3), (CNN, (6, 4), 24)],
    ids=["fc", "cnn"],
)
def test_untrained_hidden_kernels_average_to_the_prior(network, shape, features_):
    ensemble = made_up(network, shape, features_, count=400)
    kernels = ensemble.hidden_kernels(initial=True)
    z = (kernels.mean(0) - prior_hidden_kernel(network, toy().x)) / (kernels.std(0, ddof=1) / 20)
    assert np.abs(z).max() < 4.5
    other = prior_hidden_kernel(network.with_precision(network.weight_precision[0] * 1.5), toy().x)
    wrong = (kernels.mean(0) - other) / (kernels.std(0, ddof=1) / 20)  # negative control
    assert np.abs(wrong).max() > 6.0


@pytest.mark.slow
@pytest.mark.statistical
def test_the_readout_decides_whether_features_move_at_large_width():
    """16 times the width: kernels of the standard readout move 4 times less, those of the mean-field as far.

    The labels depend on one direction of the input, where the leading field of the mean-field network then points.
    """
    x, ratios = np.random.default_rng(0).standard_normal((40, 6)), {}
    data = fw.Dataset(x, np.sign(x[:, 2]).astype(float), classes=())
    for readout in ("standard", "mean-field"):
        widths = [fw.FullyConnected(widths=(width,), readout=readout) for width in (16, 256)]
        ensembles = [fw.train(network, data, data, optimiser="sgd", steps=100, seeds=6) for network in widths]
        moved = [features.kernel_distance(e.hidden_kernels(initial=True), e.hidden_kernels()) for e in ensembles]
        ratio = moved[0].mean() / moved[1].mean()
        ratios[readout] = ratio, ratio * math.hypot(*(m.std(ddof=1) / math.sqrt(6) / m.mean() for m in moved))
    ratio, se = ratios["standard"]
    assert ratio > 2.0 + 3.0 * se
    ratio, se = ratios["mean-field"]
    assert ratio < 2.0 - 3.0 * se
    values, fields = features.learned(ensembles[1]).receptive_fields()
    assert np.abs(fields[0, 2]) > 0.95
    assert values[0] > 1.5 * values[1]


def test_draws_and_trained_networks_are_measured_alike(fully_connected):
    train = toy()
    recorded = {
        "order_parameter": np.array([[1.2]]),
        "hidden_kernel": prior_hidden_kernel(FC, train.x) + 0.1 * np.outer(train.y, train.y),
        "weight_covariance": np.eye(16),
    }
    observables = {name: Observable(mean, np.zeros_like(mean)) for name, mean in recorded.items()}
    draws = fw.Draws(*[np.zeros((1, 1))] * 7, observables=observables, settings={}, complete=True)
    np.testing.assert_array_equal(features.hidden_kernel(draws), recorded["hidden_kernel"])
    assert features.information(draws, FC) == pytest.approx(20 * (0.2 - math.log(1.2)), rel=1e-12)
    prior = prior_hidden_kernel(FC, train.x)
    for source in (draws, fully_connected, fw.solve(fw.theory_of(FC, 0.05), train)):
        assert 0.0 < features.kernel_distance(prior, features.hidden_kernel(source)) < 1.0
        assert features.alignment(prior, features.hidden_kernel(source)) > 0.8
    assert features.label_alignment(features.hidden_kernel(draws), train.y) > features.label_alignment(prior, train.y)
    assert features.weight_covariance(draws).shape == features.weight_covariance(fully_connected).shape == (16, 16)
    for call in (features.information, features.learned, lambda d: features.learned(d, FC)):
        with pytest.raises(fw.InputError, match="draws without"):
            call(draws)
    with pytest.raises(fw.InputError, match="hidden_kernel, which was not recorded"):
        features.hidden_kernel(fw.Draws(*[np.zeros((1, 1))] * 7, observables={}, settings={}, complete=True))


# --- the first layer ----------------------------------------------------------------------------------------


def test_weight_covariance_by_hand(fully_connected, locally_connected):
    w = fully_connected.first_layer.reshape(-1, 16)
    np.testing.assert_allclose(features.weight_covariance(fully_connected), 2.0 * w.T @ w / 160, rtol=1e-12)
    w = locally_connected.first_layer  # (S, n, N, M)
    expected = 2.0 * np.mean([w[s, 1].T @ w[s, 1] / 6 for s in range(3)], axis=0)
    np.testing.assert_allclose(features.weight_covariance(locally_connected)[1], expected, rtol=1e-12)


def test_learned_features_of_trained_networks(convolutional):
    """The type of the single-neuron theory: the same receptive fields, readouts neuron by neuron."""
    found = features.learned(convolutional)
    np.testing.assert_array_equal(found.weight_covariance, features.weight_covariance(convolutional))
    assert found.receptive_fields(2)[1].shape == (2, 2, 2, 1)
    v = convolutional.readouts.reshape(12, 2, 4, 6)
    assert found.readouts.shape == (72, 8)
    np.testing.assert_allclose(found.readouts[6 + 5, 2 * 3 + 1], math.sqrt(0.5) * v[1, 1, 3, 5], rtol=1e-12)
    assert 0.0 <= found.specialised < 0.02
