"""Slopes in 1/N: exact ones of linear networks, prior networks weighted by their likelihood, and what is refused."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.checks.exceptions import InputError, MemoryCapError

T = 0.1
P = 10


@functools.cache
def data(outputs=1):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((14, 5))
    y = np.sign(x[:, :outputs]) * 1.3
    y = y[:, 0] if outputs == 1 else y
    return fw.Dataset(x[:P], y[:P], classes=()), fw.Dataset(x[P:], y[P:], classes=())


def slopes(network, *sets, **options):
    return fw.first_order(network, *(sets or data()), T, **({"tolerance": 0.002, "neurons": 30_000} | options))


def within(value, truth, *errors, limit=3.0):
    assert abs(value - truth) < limit * float(np.hypot.reduce(errors)), f"{value} against {truth} ± {errors}"


# --- linear networks: the prior of the scale is known, so its expansion is ------------------------------------------


def of_scale(kernel, train, test):
    """Bias, variance, train error, log evidence and mean of the Gaussian process with this kernel."""
    y, y_test = train.y, test.y
    A = kernel[:P, :P] + T * np.eye(P)
    a = np.linalg.solve(A, y)
    mean = kernel[P:, :P] @ a
    variance = np.diag(kernel)[P:] - np.einsum("tp,pt->t", kernel[P:, :P], np.linalg.solve(A, kernel[:P, P:]))
    train_error = T**2 * np.mean(a**2) + T - T**2 * np.trace(np.linalg.inv(A)) / P
    evidence = -0.5 * (y @ a + np.linalg.slogdet(A)[1])
    return np.array([np.mean((y_test - mean) ** 2), variance.mean(), train_error, evidence]), mean


@pytest.mark.statistical
@pytest.mark.parametrize("widths", [(50,), (50, 25)])
def test_linear_networks_are_known_in_closed_form(widths):
    """s = prod_l chi2_{N_l} / N_l: N (<F> - F) = sum_l (N/N_l) (F'' + 2 F' ell'); ell'' + ell'^2 for the evidence."""
    train, test = data()
    network = fw.FullyConnected(widths, activation="linear")
    kernel = fw.kernels.nngp(network, np.concatenate([train.x, test.x]))
    h = 1e-3
    (up, mean_up), (mid, _), (down, mean_down) = (of_scale(s * kernel, train, test) for s in (1 + h, 1.0, 1 - h))
    first, second = (up - down) / (2 * h), (up - 2 * mid + down) / h**2
    times = sum(widths[0] / n for n in widths)
    exact = times * (second + 2 * first * first[3])
    spread = times * 2 * np.mean(((mean_up - mean_down) / (2 * h)) ** 2)
    found = slopes(network)
    within(found.bias.slope, exact[0] - spread, found.bias.slope_se)
    within(found.variance.slope, exact[1] + spread, found.variance.slope_se)
    within(found.train_error.slope, exact[2], found.train_error.slope_se)
    within(found.evidence_slope.total, times * (second[3] + first[3] ** 2), found.evidence_slope.total_se)
    for layer, se in zip(found.evidence_slope.by_layer, found.evidence_slope.by_layer_se, strict=True):
        within(layer, second[3] + first[3] ** 2, se)
    assert found.test_error.infinite == pytest.approx(mid[0] + mid[1])


# --- other networks: drawn from the prior, weighted by their likelihood ---------------------------------------------


def weighted(network, train, test, width, count, seed):
    """Test error, train error and log evidence of the finite network, with standard errors."""
    rng = np.random.default_rng(seed)
    x = np.concatenate([train.x, test.x]).reshape(14, -1)
    precision, offset = network.weight_precision, network.offset_variance
    c = x @ x.T / (precision[0] * x.shape[1]) + offset
    covariance = np.broadcast_to(c, (count, 14, 14))
    for layer in range(network.depth):
        root = np.linalg.cholesky(covariance + 1e-10 * np.eye(14))
        h = root @ rng.standard_normal((count, 14, width))
        features = network.phi(h)
        covariance = features @ features.swapaxes(1, 2) / (width * precision[layer + 1])
        if layer < network.depth - 1:
            covariance = covariance + offset
    return average(covariance, train, test)


def average(kernel, train, test):
    y, y_test = train.y.reshape(P, -1), test.y.reshape(4, -1)
    A = kernel[:, :P, :P] + T * np.eye(P)
    inverse = np.linalg.inv(A)
    a = inverse @ y
    mean = kernel[:, P:, :P] @ a
    variance = np.einsum("btt->bt", kernel[:, P:, P:] - kernel[:, P:, :P] @ inverse @ kernel[:, :P, P:])
    trace = np.einsum("bpp->b", inverse)
    errors = [
        ((y_test - mean) ** 2).mean((1, 2)) + variance.mean(1),
        T**2 * (a**2).mean((1, 2)) + T - T**2 * trace / P,
    ]
    log_weight = -0.5 * ((a * y).sum((1, 2)) + y.shape[1] * np.linalg.slogdet(A)[1])
    weight = np.exp(log_weight - log_weight.max())
    evidence = np.log(weight.mean()) + log_weight.max()
    weight /= weight.mean()
    found = np.stack(errors, axis=1)
    average = (weight[:, None] * found).mean(0)
    se = (weight[:, None] * (found - average)).std(0) / len(weight) ** 0.5
    return np.append(average, evidence), np.append(se, weight.std() / len(weight) ** 0.5)


def extrapolated(network, train, test, count, at=weighted):
    """N (<F> - F) for N -> infinity from two widths: their error of order 1/N cancels. Wider ones are noisier."""
    x = np.concatenate([train.x, test.x])
    limit, _ = average(fw.kernels.nngp(network, x)[None], train, test)
    parts = []
    for width, share in ((100, -0.5), (300, 1.5)):
        value, se = at(network, train, test, width, count, seed=width)
        parts.append((share * width * (value - limit), abs(share) * width * se))
    return parts[0][0] + parts[1][0], np.hypot(parts[0][1], parts[1][1])


NETWORKS = [
    fw.FullyConnected((50, 50), activation="erf", weight_precision=(1.0, 0.8, 1.3), offset_precision=2.0),
    fw.FullyConnected((50, 50, 50), activation="tanh"),
]


@functools.cache
def both(network, outputs):
    """Extrapolated from weighted prior networks, and the first order."""
    return extrapolated(network, *data(outputs), 2000), slopes(network, *data(outputs))


def compare(network, outputs=1, skip=None, at=weighted, sets=None):
    """Standard errors between the first order and the weighted prior networks, of two errors and the evidence."""
    if sets:
        (truth, se), found = extrapolated(network, *sets, 2000, at), slopes(network, *sets)
    else:
        (truth, se), found = both(network, outputs)
    evidence = [found.evidence_slope.total, found.evidence_slope.total_se]
    ours = np.array([found.test_error.slope, found.train_error.slope, evidence[0]])
    noise = np.array([found.test_error.slope_se, found.train_error.slope_se, evidence[1]])
    if skip is not None:
        ours -= [found.by_layer[skip].slope, 0.0, found.evidence_slope.by_layer[skip]]
    return np.abs(ours - truth) / np.hypot(se, noise)


@pytest.mark.slow
@pytest.mark.statistical
@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_prior_networks_weighted_by_their_likelihood(network):
    assert compare(network).max() < 3.0


@pytest.mark.slow
@pytest.mark.statistical
def test_two_outputs():
    assert compare(fw.FullyConnected((50, 50), activation="erf"), outputs=2).max() < 3.0


@pytest.mark.slow
@pytest.mark.statistical
@pytest.mark.control
def test_without_the_lower_layer_it_fails():
    assert compare(NETWORKS[0], skip=0).max() > 5.0


IMAGES = np.random.default_rng(4).standard_normal((14, 1, 6))


def patched(network, train, test, width, count, seed):
    """Prior networks of one layer on two patches of three inputs."""
    rng = np.random.default_rng(seed)
    patches = np.concatenate([train.x, test.x]).reshape(14, 2, 3) / np.sqrt(3.0)
    kernel = np.zeros((count, 14, 14))
    w = rng.standard_normal((count, width, 3))
    for j in range(2):
        if not network.shares_weights and j:
            w = rng.standard_normal((count, width, 3))
        f = network.phi(patches[:, j] @ w.swapaxes(1, 2))
        if network.pool == "average":
            total = f if j == 0 else total + f  # noqa: F821  # of the first patch
            continue
        kernel += f @ f.swapaxes(1, 2) / (2 * width)
    if network.pool == "average":
        kernel = total @ total.swapaxes(1, 2) / (4 * width)
    return average(kernel, train, test)


@pytest.mark.slow
@pytest.mark.statistical
@pytest.mark.parametrize("kind", ["convolutional", "pooled", "locally connected"])
def test_patches(kind):
    shape = dict(channels=50, patch=(1, 3), stride=(1, 3), activation="erf")
    network = {
        "convolutional": lambda: fw.Convolutional(**shape),
        "pooled": lambda: fw.Convolutional(**shape, pool="average"),
        "locally connected": lambda: fw.LocallyConnected(**shape),
    }[kind]()
    y = np.sign(IMAGES[:, 0, 0]) * 1.3
    sets = fw.Dataset(IMAGES[:P], y[:P], classes=()), fw.Dataset(IMAGES[P:], y[P:], classes=())
    assert compare(network, at=patched, sets=sets).max() < 3.0


# --- what it returns and refuses ------------------------------------------------------------------------------------


def test_same_seed_same_slopes():
    network = fw.FullyConnected((20, 10))
    one, two = (slopes(network, neurons=500, seed=4) for _ in range(2))
    assert one == two
    assert slopes(network, neurons=500, seed=5).test_error.slope != one.test_error.slope
    assert one.neurons == (496, 496)


def test_errors_are_in_the_users_own_units():
    train, test = data()
    scaled = [fw.Dataset(d.x, 5.0 * d.y + 2.0, classes=()) for d in (train, test)]
    train, test = fw.data.standardise_target(*scaled)[:2]
    found = fw.first_order(fw.FullyConnected(20), train, test, T, neurons=500)
    (infinite,) = fw.learning_curve(fw.FullyConnected(20), train, test, temperature=T, method="infinite")
    assert found.test_error.infinite == pytest.approx(infinite.test_error)


def test_the_action_is_exact_for_wide_linear_networks_but_for_its_fluctuation():
    """Its slope is that of the saddle: of N (Q - 1) alone."""
    train, test = data()
    network = fw.FullyConnected(50, activation="linear")
    found = slopes(network, neurons=500)
    kernel = fw.kernels.nngp(network, np.concatenate([train.x, test.x]))
    A = kernel[:P, :P] + T * np.eye(P)
    a = np.linalg.solve(A, train.y)
    shift = a @ kernel[:P, :P] @ a - np.trace(np.linalg.solve(A, kernel[:P, :P]))
    h = 1e-4
    up, down = (of_scale(s * kernel, train, test)[0] for s in (1 + h, 1 - h))
    slope = shift * (up - down) / (2 * h)
    assert found.action.test_error == pytest.approx(slope[0] + slope[1], rel=1e-4)
    assert found.action.train_error == pytest.approx(slope[2], rel=1e-4)
    expected = (found.action.test_error - found.test_error.slope) / (50 * found.test_error.infinite)
    assert found.action_error() == pytest.approx(expected)
    assert found.action_error(100) == pytest.approx(expected / 2)


LAYER_NORM = fw.Network([{"dense": {"width": 4}}, "relu", {"dense": {"width": 4}}, "layer_norm", "relu", {"dense": {}}])


@pytest.mark.parametrize(
    ("network", "options", "wanted"),
    [
        (
            fw.Network([{"dense": {"width": 4}}, "relu", {"dense": {"width": 4}}, "layer_norm", "relu", {"dense": {}}]),
            {},
            "fully connected network",
        ),
        (fw.FullyConnected(9), {"tolerance": 0.0}, "tolerance"),
        (fw.FullyConnected(9), {"neurons": 0}, "neurons"),
        ("fc", {}, "network"),
    ],
)
def test_refused(network, options, wanted):
    with pytest.raises(InputError, match=wanted):
        fw.first_order(network, *data(), T, **options)


def test_memory_is_refused_beforehand():
    with pytest.raises(MemoryCapError, match="first order on 10 and 4 points"):
        fw.first_order(fw.FullyConnected((9, 9)), *data(), T, memory="100kB")


@pytest.mark.parametrize("depth", [1, 2])
def test_duplicates_and_one_training_point(depth):
    train, test = data()
    network = fw.FullyConnected((20,) * depth, activation="relu")
    twice = fw.Dataset(np.repeat(train.x, 2, axis=0), np.repeat(train.y, 2), classes=())
    found = slopes(network, twice, test, neurons=500)
    assert np.isfinite([found.test_error.slope, found.train_error.slope, found.evidence_slope.total]).all()
    one = fw.Dataset(train.x[:1], train.y[:1], classes=())
    assert np.isfinite(slopes(network, one, test, neurons=500).test_error.slope)


def test_inputs_without_content_and_of_another_shape():
    train, test = data()
    network = fw.FullyConnected((20, 20), activation="relu")
    nothing = [fw.Dataset(0.0 * part.x, part.y, classes=()) for part in (train, test)]
    assert slopes(network, *nothing, neurons=500).test_error.slope == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(InputError, match="points of one shape"):
        slopes(network, train, fw.Dataset(test.x[:, :3], test.y, classes=()))


def test_mean_field_readout_is_taken_at_its_width():
    mean_field = fw.FullyConnected(20, readout="mean-field")
    standard = fw.FullyConnected(20, weight_precision=(1.0, 20.0))
    assert slopes(mean_field, neurons=500).test_error == slopes(standard, neurons=500).test_error
