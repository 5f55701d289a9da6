"""Measures of feature learning: invariances, limits, and the hidden kernel of docs/theory.md section 5."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import finitewidth as fw
from finitewidth import features
from finitewidth.checks.exceptions import InputError
from finitewidth.data.files import of_classes, parts
from finitewidth.data.images import block_average
from finitewidth.kernels.local import local_kernels

CIFAR = Path(__file__).parents[2] / "shared" / "data" / "cifar10_subset.npz"
T = 0.05


def toy(outputs=0, count=20, seed=0):
    r = np.random.default_rng(seed)
    x = r.standard_normal((count, 4, 4))
    y = np.tanh(x[:, :2, :2].reshape(count, 4) @ r.standard_normal((4, max(1, outputs))))
    return fw.Dataset(x, y if outputs else y[:, 0], classes=())


def solved(network, train=None, **more):
    return fw.solve(fw.theory_of(network, T, **more), toy() if train is None else train)


CNN, LCN = fw.Convolutional(channels=10, patch=2), fw.LocallyConnected(channels=10, patch=2)
FC = fw.FullyConnected(widths=(10,))


def random_kernel(seed, count=15):
    half = np.random.default_rng(seed).standard_normal((count, 6))
    return half @ half.T


def test_alignment_is_invariant_to_scale_rotation_and_offset():
    K, L = random_kernel(0), random_kernel(1)
    value = features.alignment(K, L)
    assert value == pytest.approx(features.alignment(L, K), rel=1e-12)
    assert features.alignment(3.0 * K, 0.1 * L) == pytest.approx(value, rel=1e-12)
    rotation = np.linalg.qr(np.random.default_rng(2).standard_normal((15, 15)))[0]
    turned = [rotation @ k @ rotation.T for k in (K, L)]
    plain = features.alignment(K, L, centred=False)
    assert features.alignment(*turned, centred=False) == pytest.approx(plain, rel=1e-12)
    order = np.random.default_rng(3).permutation(15)
    assert features.alignment(K[order][:, order], L[order][:, order]) == pytest.approx(value, rel=1e-12)
    shift = np.arange(15.0)[:, None]
    assert features.alignment(K + shift + shift.T + 7.0, L) == pytest.approx(value, rel=1e-12)
    assert features.alignment(K + 100.0, L, centred=False) != pytest.approx(plain, rel=1e-2)


def test_alignment_is_a_correlation():
    """Second route: the correlation of doubly centred entries."""
    K, L = random_kernel(0), random_kernel(1)
    H = np.eye(15) - 1 / 15
    a, b = (H @ K @ H).ravel(), (H @ L @ H).ravel()
    assert features.alignment(K, L) == pytest.approx(a @ b / np.sqrt(a @ a * (b @ b)), rel=1e-12)
    assert features.alignment(K, K) == pytest.approx(1.0, abs=1e-14)
    assert features.alignment(K, -K) == pytest.approx(-1.0, abs=1e-14)
    y = np.random.default_rng(4).standard_normal(15)
    assert features.label_alignment(np.outer(y, y), y) == pytest.approx(1.0, abs=1e-14)
    assert features.label_alignment(K, y) == pytest.approx(features.alignment(K, np.outer(y, y)), rel=1e-14)
    Y = np.random.default_rng(4).standard_normal((15, 3))
    assert features.label_alignment(K, Y) == pytest.approx(features.alignment(K, Y @ Y.T), rel=1e-14)


def test_alignment_of_what_cannot_be_aligned():
    K = random_kernel(0)
    for a, b in ((K, K[:5, :5]), (K[:, :5], K[:, :5]), (K[0], K[0]), (K, np.ones((15, 15)))):
        with pytest.raises(fw.InputError):
            features.alignment(a, b)


def test_information_is_half_the_rate():
    """Against the formula, and zero at infinite width."""
    solution = solved(CNN)
    Q = solution.q_map().square
    expected = 10 * 0.5 * (np.trace(Q) - np.linalg.slogdet(Q)[1] - 4)
    assert features.information(solution) == pytest.approx(expected, rel=1e-10)
    assert expected > 0.1
    deep = solved(fw.FullyConnected(widths=(10, 20)), closure="product")
    expected = sum(0.5 * n * (q - 1 - np.log(q)) for n, q in zip((10, 20), deep.order_parameters, strict=True))
    assert features.information(deep) == pytest.approx(expected, rel=1e-10)
    for network in (CNN, LCN, FC):
        assert features.information(solved(network, method="infinite")) == 0.0
        assert features.information(solved(network.with_width(10**12))) < 1e-8


def test_between_patches_is_the_share_of_the_trace():
    """Second route: all pair kernels written out."""
    solution = solved(CNN)
    Q, K = solution.q_map().square, local_kernels(CNN, toy().x)
    traces = np.einsum("ij,ijpp->ij", Q, K)
    share = 1.0 - np.trace(traces) / traces.sum()
    assert features.between_patches(solution) == pytest.approx(share, abs=1e-12)
    assert abs(share) > 1e-3


def test_between_patches_is_nothing_without_shared_weights_or_at_infinite_width():
    assert features.between_patches(solved(LCN)) == pytest.approx(0.0, abs=1e-14)
    assert features.between_patches(solved(CNN.with_width(10**12))) == pytest.approx(0.0, abs=1e-8)
    with pytest.raises(fw.InputError, match="patches"):
        features.between_patches(solved(FC))


def test_kernels_before_and_after():
    for network in (CNN, LCN, FC):
        solution = solved(network)
        before, after = features.prior_kernel(solution), features.renormalised_kernel(solution)
        np.testing.assert_allclose(after, after.T, atol=1e-12)
        assert np.abs(after - before).max() > 1e-3
        infinite = solved(network, method="infinite")
        np.testing.assert_allclose(features.renormalised_kernel(infinite), before, atol=1e-12)
    x = toy(seed=3).x
    assert features.prior_kernel(solved(CNN), x).shape == (20, 20)


@pytest.mark.parametrize("network", [CNN, LCN, FC], ids=["cnn", "lcn", "fc"])
def test_the_kernel_of_several_outputs_is_their_mean(network):
    train = toy(outputs=3)
    solution = solved(network, train)
    points = len(train)
    if network is FC:
        K = solution.theory.covariance(solution.order_parameters, train.x).reshape(points, 3, points, 3)
    else:
        gram = solution.predictor.posterior.gram
        K = (np.linalg.inv(gram.inverse()) - gram.ridge * np.eye(gram.size)).reshape(points, 3, points, 3)
    expected = np.einsum("pdqd->pq", K) / 3
    np.testing.assert_allclose(features.renormalised_kernel(solution), expected, atol=1e-10)


# --- the hidden kernel --------------------------------------------------------------------------------------


def test_the_hidden_kernel_is_the_derivative_of_the_energy():
    """``<phi phi^T>/N = lambda_1 (K - (2 Q / N) K dE/dK_R K)``, E = -log N(y; 0, K_R + T) by differences."""
    train, network = toy(count=8), fw.FullyConnected(widths=(10,), weight_precision=(1.0, 2.0))
    solution = solved(network, train)
    K, q = features.prior_kernel(solution), float(solution.order_parameters[0])

    def energy(change):
        A = q * K + change + T * np.eye(8)
        return 0.5 * (np.linalg.slogdet(A)[1] + train.y @ np.linalg.solve(A, train.y))

    expected = np.empty((8, 8))
    for a in range(8):
        for b in range(8):
            move = np.outer(K[a], K[b]) / 2 + np.outer(K[b], K[a]) / 2
            slope = (energy(1e-5 * move) - energy(-1e-5 * move)) / 2e-5
            expected[a, b] = 2.0 * (K[a, b] - 2.0 * q / 10 * slope)
    np.testing.assert_allclose(features.hidden_kernel(solution), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.statistical
def test_the_hidden_kernel_of_a_linear_network_is_that_of_its_posterior():
    """Hidden weights from their prior, weighted by the exact likelihood; first order in 1/N, so P = 3 and N = 400."""
    N, count = 400, 3
    r = np.random.default_rng(1)
    x = r.standard_normal((count, 5))
    y = np.array([1.5, -1.0, 0.5])
    network = fw.FullyConnected(widths=(N,), activation="linear")
    solution = solved(network, fw.Dataset(x, y, classes=()))
    h = r.standard_normal((20_000, N, 5)).astype(np.float32) @ x.T.astype(np.float32) / np.sqrt(5)
    H = h.swapaxes(1, 2).astype(float) @ h / N
    A = H + T * np.eye(count)
    log_w = -0.5 * (np.linalg.slogdet(A)[1] + np.einsum("p,spq,q->s", y, np.linalg.inv(A), y))
    w = np.exp(log_w - log_w.max())
    w /= w.sum()
    mean = np.tensordot(w, H, 1)
    along, prior = (y @ k @ y for k in (features.hidden_kernel(solution), features.prior_kernel(solution)))
    se = np.sqrt((w**2) @ (np.einsum("p,spq,q->s", y, H - mean, y) ** 2))
    assert abs(along - y @ mean @ y) < 4 * se + 3 * abs(along - prior) / np.sqrt(N)
    assert abs(prior - y @ mean @ y) > 10 * se  # negative control: nothing learned


def test_the_hidden_kernel_asks_for_one_hidden_layer():
    assert features.hidden_kernel(solved(FC, method="infinite")).shape == (20, 20)
    for network, train in ((CNN, toy()), (fw.FullyConnected(widths=(5, 5)), toy()), (FC, toy(outputs=2))):
        with pytest.raises(fw.InputError, match="hidden kernel"):
            features.hidden_kernel(solved(network, train))


@pytest.mark.skipif(not CIFAR.is_file(), reason="reference data of docs/theory.md are not here")
def test_the_hidden_kernel_along_the_labels_on_cifar():
    """docs/theory.md section 5: y^T <phi phi^T> y / (N P) = 2.02 (sampled 2.13), prior 1.36.

    CIFAR side 16, P = 100, N = 40, erf."""
    with np.load(CIFAR, allow_pickle=False) as file:
        images = np.concatenate([file["x_train"], file["x_test"]]).mean(-1) / 255.0
        labels = np.concatenate([file["y_train"], file["y_test"]])
    train, _ = parts(of_classes(block_average(images, 16), labels, (0, 1)), 100, 200, 0, "global")
    solution = solved(fw.FullyConnected(widths=(40,)), train)
    along = [train.y @ k @ train.y / 100 for k in (features.hidden_kernel(solution), features.prior_kernel(solution))]
    assert [round(float(value), 2) for value in along] == [2.02, 1.36]


@pytest.mark.statistical
def test_learned_features_of_samples_and_theory():
    pytest.importorskip("jax")
    train, test = fw.data.digits(classes=(6, 9), n_train=24, n_test=20)
    network = fw.FullyConnected(widths=(10,))
    names = ("weight_covariance", "hidden_kernel")
    draws = fw.sample(network, train, test, 0.05, chains=2, draws=100, warmup=60, observables=names)
    sampled = features.learned(draws, network, train)
    theory = fw.theory_of(network, 0.05, method=fw.SingleNeuron(particles=400, rounds=(60, 60), seconds=600.0))
    solution = fw.solve(theory, train)
    values, fields = sampled.receptive_fields(1)
    ours, other = solution.features.receptive_fields(1)
    assert ours[0] == pytest.approx(values[0], rel=0.15)
    assert abs(np.vdot(fields, other)) > 0.9
    kernel = features.hidden_kernel(solution)
    assert np.linalg.norm(kernel - sampled.hidden_kernel) < 0.1 * np.linalg.norm(kernel)
    response = features.renormalised_kernel(solution)
    fitted = solution.predictor.result.kernel
    assert np.linalg.norm(response - fitted) < 0.1 * np.linalg.norm(fitted)
    with pytest.raises(InputError, match="weight_covariance"):
        features.learned(replace(draws, observables={}), network, train)
    with pytest.raises(InputError, match="one hidden layer"):
        features.learned(draws, fw.FullyConnected(widths=(10, 10)), train)
