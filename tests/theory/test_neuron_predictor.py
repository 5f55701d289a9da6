"""Inputs, starts and predictions of the single-neuron theory, held to NumPy on snapshots that the test chooses."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize_scalar

import finitewidth as fw
from finitewidth import kernels
from finitewidth.theory.neuron.design import Design, whitened
from finitewidth.theory.neuron.predictor import NeuronPredictor, draw_readouts
from finitewidth.theory.neuron.single import starting_field
from theory.linear_neuron import linear_neuron
from theory.one_particle import T, close, key, ran

jax = pytest.importorskip("jax")


# --- inputs ----------------------------------------------------------------------------------------------------------


def images(points, seed=0):
    return np.random.default_rng(seed).standard_normal((points, 4, 4))


def quarters(x):
    """The four patches of 2 x 2 of images 4 x 4."""
    return [x[:, i : i + 2, j : j + 2].reshape(len(x), -1) for i in (0, 2) for j in (0, 2)]


ARCHITECTURES = {
    "fully connected": (lambda **more: fw.FullyConnected(widths=(6,), **more), lambda x: [x.reshape(len(x), -1)]),
    "convolutional": (lambda **more: fw.Convolutional(channels=6, patch=2, **more), quarters),
    "pooled": (lambda **more: fw.Convolutional(channels=6, patch=2, pool="average", **more), quarters),
    "locally connected": (lambda **more: fw.LocallyConnected(channels=6, patch=2, **more), quarters),
}


@pytest.mark.parametrize("offset", [None, 3.0])
@pytest.mark.parametrize("points", [1, 3, 20])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_inputs_of_a_neuron(name, points, offset):
    """Preactivations of weights drawn in the network's own space, patch by patch, whether rotated or not."""
    make, patches_of = ARCHITECTURES[name]
    network = make(weight_precision=(1.3, 0.7), offset_precision=offset)
    train, test = images(points), images(2, seed=1)
    design, rng = Design.of(network, train), np.random.default_rng(2)
    parts, size = patches_of(train), patches_of(train)[0].shape[1]
    apart = name == "locally connected"
    assert design.n_populations == (4 if apart else 1)
    assert design.n_preactivations == (1 if apart else len(parts))
    assert design.n_readouts == (1 if apart or name == "pooled" else len(parts))
    assert design.n_points == points
    patches = 1 if name in ("pooled", "fully connected") else 4
    assert design.feature_scale == pytest.approx(1.0 / math.sqrt(0.7 * patches))
    assert (design.basis is not None) == (points * design.n_preactivations < size + (offset is not None))
    assert design.rank == min(points * design.n_preactivations, size + (offset is not None))
    gram = rng.standard_normal((design.n_populations, design.rank, design.rank))
    gram, found = gram @ gram.swapaxes(1, 2), []
    covariance = design.weight_covariance(gram)
    for g in range(design.n_populations):
        w = rng.standard_normal(size + (offset is not None))
        inside = np.eye(len(w)) if design.basis is None else design.basis[g]
        close(inside.T @ inside, np.eye(design.rank), atol=1e-12)
        wanted = []
        for x in (train, test):
            seen = [patches_of(x)[g]] if apart else patches_of(x)
            h = [
                part @ w[:size] / math.sqrt(1.3 * size) + (0.0 if offset is None else w[-1] / math.sqrt(3.0))
                for part in seen
            ]
            wanted.append(np.concatenate(h))
        close(design.rows[g] @ (inside.T @ w), wanted[0])
        found.append((w, wanted[1]))
        # the prior of what the data do not see is left
        close(covariance[g], inside @ gram[g] @ inside.T + np.eye(len(w)) - inside @ inside.T)
    # other points: covariances with the training points and among themselves are those of the weights
    own, at = whitened(network, test), design.at(test)
    assert at.shape[2] == design.rank + (0 if design.basis is None else min(own.shape[1], own.shape[2] - design.rank))
    close(at @ at.swapaxes(1, 2), own @ own.swapaxes(1, 2), atol=1e-12)
    close(
        at[..., : design.rank] @ design.rows.swapaxes(1, 2), own @ whitened(network, train).swapaxes(1, 2), atol=1e-12
    )
    close([row @ w for row, (w, _) in zip(own, found, strict=True)], [h for _, h in found])


def test_populations_that_see_unequally_much():
    """Patches of one, of two and of no direction, one of them seen by other points alone: equally many columns."""
    network, train, test = fw.LocallyConnected(channels=6, patch=2), images(2), images(3, seed=1)
    train[:, :2, :2] = np.ones((2, 2, 2))
    train[:, 2:, 2:] = 0.0
    test[:, :2, 2:] = train[:1, :2, 2:]
    design = Design.of(network, train)
    assert design.rank == 2
    close(design.basis.swapaxes(1, 2) @ design.basis, np.broadcast_to(np.eye(2), (4, 2, 2)), atol=1e-12)
    own, other, at = whitened(network, train), whitened(network, test), design.at(test)
    assert at.shape == (4, 3, 4)  # two more at most
    close(design.rows @ design.rows.swapaxes(1, 2), own @ own.swapaxes(1, 2), atol=1e-12)
    close(at @ at.swapaxes(1, 2), other @ other.swapaxes(1, 2), atol=1e-12)
    close(at[..., :2] @ design.rows.swapaxes(1, 2), other @ own.swapaxes(1, 2), atol=1e-12)
    close(at[1, :, 2:], 0.0, atol=1e-12)
    faint = np.repeat(images(1), 2, axis=0)
    faint[:, :2, :2] = 1e-13 * train[:, :2, 2:]  # rounding, next to the others
    assert Design.of(network, faint).rank == 1
    blank = Design.of(network, 0.0 * train)
    assert blank.basis is None
    assert blank.rows.shape == (4, 2, 4)


def test_mean_field_readouts_are_smaller():
    network = fw.FullyConnected(widths=(6,), weight_precision=(1.3, 0.7), readout="mean-field")
    assert Design.of(network, images(3)).feature_scale == pytest.approx(1.0 / math.sqrt(6 * 0.7))


# --- one linear neuron -----------------------------------------------------------------------------------------------


def test_a_linear_neuron_on_a_grid():
    """f = N E[u], K_R = N E[u u^T] - f f^T / N over readout and two weights, by the trapezoidal rule in all three."""
    network = fw.FullyConnected(widths=(5,), activation="linear", weight_precision=(1.3, 0.7))
    rng = np.random.default_rng(0)
    X, s, root = rng.standard_normal((3, 2)), 0.7 * rng.standard_normal(3), rng.standard_normal((3, 3))
    R = root @ root.T
    line = np.linspace(-9.0, 9.0, 91)
    v, w1, w2 = (axis.ravel() for axis in np.meshgrid(line, line, line, indexing="ij"))
    u = v[:, None] * np.stack([w1, w2], axis=1) @ X.T / math.sqrt(2 * 5)
    weight = np.exp(-0.35 * v**2 - 0.65 * (w1**2 + w2**2) + u @ s - 0.5 * ((u @ R) * u).sum(1))
    weight /= weight.sum()
    f = 5 * weight @ u
    got = linear_neuron(network, X, s, R)
    close(got[0], f, rtol=1e-5, atol=1e-7)
    close(got[1], 5 * (u * weight[:, None]).T @ u - np.outer(f, f) / 5, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("readout", [0.01, 100.0])
def test_a_linear_neuron_of_any_readout_precision(readout):
    """Readouts in units of their deviation: the field then is s / sqrt(lambda_1), R / lambda_1."""
    rng = np.random.default_rng(0)
    X, s, root = rng.standard_normal((3, 2)), rng.standard_normal(3), rng.standard_normal((3, 3))
    unit, other = (
        fw.FullyConnected(widths=(5,), activation="linear", weight_precision=(1.3, precision))
        for precision in (1.0, readout)
    )
    f, kernel = linear_neuron(unit, X, s, root @ root.T)
    got = linear_neuron(other, X, math.sqrt(readout) * s, readout * root @ root.T)
    close(got[0], f / math.sqrt(readout), rtol=1e-6)
    close(got[1], kernel / readout, rtol=1e-6)


# --- where it starts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize(("name", "shared"), [("fully connected", 1), ("pooled", 1), ("convolutional", 4)])
def test_the_field_to_start_from(name, shared, outputs):
    """One q for all: N (times patches) nats for each output, by minimisation over a line."""
    train, network = data_set(images(5), outputs), ARCHITECTURES[name][0](weight_precision=(0.8, 1.4))
    K, targets = kernels.nngp(network, train.x), train.y.reshape(5, -1)

    def action(log_q):
        q = math.exp(log_q)
        A = q * K + T * np.eye(5)
        rate = 6 * shared * (q - log_q)
        return outputs * (rate + np.linalg.slogdet(A)[1]) + np.trace(targets.T @ np.linalg.solve(A, targets))

    q = math.exp(minimize_scalar(action, bounds=(-4.0, 4.0), method="bounded", options={"xatol": 1e-9}).x)
    s, kernel = starting_field(network, train, T)
    close(s, np.linalg.solve(q * K + T * np.eye(5), targets).T.ravel(), rtol=1e-5)
    close(kernel, np.kron(np.eye(outputs), q * K), rtol=1e-5)


# --- predictions -----------------------------------------------------------------------------------------------------


def data_set(x, outputs=1, seed=3):
    y = np.random.default_rng(seed).standard_normal((len(x), outputs))
    return fw.Dataset(x, y[:, 0] if outputs == 1 else y, classes=())


def predictor_of(name="fully connected", outputs=1, points=8, particles=6, snapshots=2):
    """Of particles that nobody solved for."""
    from finitewidth.theory.neuron.rounds import Problem, Result

    network = ARCHITECTURES[name][0](activation="tanh", weight_precision=(1.3, 0.7))
    train = data_set(images(points), outputs)
    design, rng = Design.of(network, train.x), np.random.default_rng(0)
    problem = Problem(design, train.y.reshape(points, -1).T.ravel(), outputs, T, 6)
    k, size, groups = design.n_readouts * outputs, points * outputs, design.n_populations
    theta = rng.standard_normal((snapshots, groups, particles, design.rank)).astype(np.float32)
    root, order = rng.standard_normal((size, size)) / math.sqrt(size), rng.standard_normal((groups, k, k))
    s = 0.5 * rng.standard_normal(size)
    return NeuronPredictor(network, train, Result(problem, s, root @ root.T, theta, order @ order.swapaxes(1, 2), 9))


def snapshots_of(predictor, function, *rest):
    """A function of the particles at each snapshot, at the solved field."""
    result, problem = predictor.result, predictor.result.problem
    field = problem.field(result.s, result.kernel)
    for k, theta in enumerate(result.theta.astype(float)):
        yield theta, ran(function, problem.model, theta, problem.data, field, *rest, *((key(k, 3),) if rest else ()))


@pytest.mark.parametrize(("name", "outputs"), [("fully connected", 1), ("convolutional", 1), ("locally connected", 2)])
def test_predictions_from_the_snapshots(name, outputs):
    """f(x) and K_R averaged over them; the residual on the same particles taken out to first order."""
    from finitewidth.theory.neuron import particles as cp

    predictor, x = predictor_of(name, outputs), images(3, seed=5)
    problem, s = predictor.result.problem, predictor.result.s
    got, y, size = predictor.predict(x), problem.y, 8 * outputs
    found = [moments for _, moments in snapshots_of(predictor, cp.at_points, problem.design.at(x))]
    f, cross, own, f_train, K = (np.mean(each, axis=0) for each in zip(*found, strict=True))
    K, cross = K.reshape(size, size), cross.reshape(3 * outputs, size)
    R = np.linalg.inv(0.5 * (K + K.T) + T * np.eye(size))
    missing = y - T * s - f_train.ravel()
    mean = (f.ravel() + cross @ R @ missing).reshape(outputs, 3).T
    spread = np.array(
        [
            [[own[d, e, p] - cross[3 * d + p] @ R @ cross[3 * e + p] for e in range(outputs)] for d in range(outputs)]
            for p in range(3)
        ]
    )
    variance = np.maximum(np.einsum("pdd->pd", spread), 0.0)
    left = T * (s + R @ missing)
    close(got.mean, mean if outputs > 1 else mean[:, 0], rtol=1e-6)
    close(got.variance, variance if outputs > 1 else variance[:, 0], rtol=1e-6, atol=1e-8)
    assert got.train_error == pytest.approx(left @ left / size + T * np.trace(K @ R) / size, rel=1e-6)
    if outputs > 1:
        close(got.covariance, spread, rtol=1e-6, atol=1e-8)
    else:
        assert got.covariance is None


@pytest.mark.parametrize(("name", "outputs"), [("convolutional", 1), ("fully connected", 2)])
def test_the_kernel_of_other_points(name, outputs):
    from finitewidth.theory.neuron import particles as cp

    predictor, x = predictor_of(name, outputs), images(3, seed=5)
    rows = predictor.result.problem.design.at(x)
    want = [found for _, found in snapshots_of(predictor, cp.kernel_at, rows)]
    close(predictor.kernel_at(x), np.mean(want, axis=0))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_the_neurons_learned(name):
    """Weighted averages of theta theta^T and of phi phi^T, over patches and populations."""
    from finitewidth.theory.neuron import particles as cp

    predictor = predictor_of(name)
    design, found = predictor.result.problem.design, predictor.features
    G, r, J = design.n_populations, design.rank, design.n_preactivations
    gram, hidden = np.zeros((G, r, r)), np.zeros((8, 8))
    for theta, known in snapshots_of(predictor, cp.readouts):
        weight = 1.0 / known.strength
        for g, k in np.ndindex(G, 6):
            share = weight[g, k] / weight[g].sum() / 2
            phi = np.tanh(design.rows[g] @ theta[g, k]).reshape(J, 8)
            phi = phi.mean(0, keepdims=True) if name == "pooled" else phi
            gram[g] += share * np.outer(theta[g, k], theta[g, k])
            hidden += share * phi.T @ phi / (len(phi) * G)
    want = [design.weight_covariance(gram)[g] for g in range(G)]
    close(found.weight_covariance, want if name == "locally connected" else want[0], rtol=1e-6)
    close(found.hidden_kernel, hidden, rtol=1e-6)
    assert found.readouts.shape == (2 * G * 3, design.n_readouts)
    assert found.input_shape == ((4, 4) if name == "fully connected" else (2, 2, 1))


def test_readouts_of_equally_likely_neurons():
    """Chosen by weight, half as many; then Gaussian given their weights, one population after another."""
    rng = np.random.default_rng(0)
    root = rng.standard_normal((2, 2))
    wide = root @ root.T
    mean = np.zeros((2, 4000, 2))
    mean[0, :, 0], mean[1] = np.arange(4000) % 2 * 100.0, [7.0, -7.0]
    covariance = np.zeros((2, 4000, 2, 2))
    covariance[1] = wide
    weight = np.ones((2, 4000))
    weight[0, 1::2] = 3.0
    weight[1, 1000:] = 0.0
    mean[1, 1000:] = 1e9
    neuron = SimpleNamespace(mean=mean, covariance=covariance)
    drawn = draw_readouts(neuron, weight, np.random.default_rng(1))
    assert drawn.shape == (4000, 2)
    first, second = drawn[:2000], drawn[2000:]
    assert set(first[:, 0]) == {0.0, 100.0}
    assert first[:, 0].mean() == pytest.approx(75.0, abs=3.0)
    close(first[:, 1], 0.0)
    close(second.mean(0), [7.0, -7.0], atol=0.2)
    close(np.cov(second.T), wide, atol=0.15 * np.trace(wide))
    turned = np.linalg.solve(np.linalg.cholesky(wide), (second - [7.0, -7.0]).T)
    assert stats.kstest(turned.ravel(), "norm").pvalue > 1e-3
    below = np.broadcast_to(-1e-12 * np.eye(2), (2, 4000, 2, 2))
    neuron.covariance = below
    assert np.isfinite(draw_readouts(neuron, weight, np.random.default_rng(1))).all()


@pytest.mark.parametrize(
    ("name", "outputs", "shape"),
    [
        *(("fully connected", 1, (1, 1)), ("fully connected", 2, (2, 2)), ("convolutional", 1, (4, 4))),
        *(("locally connected", 1, (4,)), ("locally connected", 2, (4, 2, 2))),
    ],
)
def test_order_parameters(name, outputs, shape):
    predictor = predictor_of(name, outputs)
    assert predictor.order_parameters.shape == shape
    close(predictor.order_parameters, predictor.result.order.reshape(shape))
