"""Network kernels in scikit-learn: parameters, gradients, and every estimator that takes a kernel."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import WhiteKernel
from sklearn.kernel_ridge import KernelRidge
from sklearn.svm import SVC, SVR

import finitewidth as fw

NetworkKernel = fw.kernels.NetworkKernel
X = np.random.default_rng(0).standard_normal((12, 16))
Y = np.sin(X[:, 0]) + 0.3 * X[:, 1]
CONV = [{"conv": {"patch": [2, 2]}}, {"residual": ["relu", {"conv": {"patch": [1, 1]}}]}, "relu", "flatten", "dense"]
KERNELS = {
    "dense": NetworkKernel(depth=2, weight_precision=1 / 1.3, offset_precision=5.0),
    "ntk": NetworkKernel(depth=1, activation="relu", kind="ntk"),
    "no bias": NetworkKernel(offset_precision=None),
    "conv": NetworkKernel(CONV, input_shape=(4, 4, 1)),
}


def test_the_kernel_is_that_of_the_network():
    network = fw.FullyConnected(widths=(1, 1), weight_precision=1 / 1.3, offset_precision=5.0)
    K = KERNELS["dense"](X)
    # the readout of a FullyConnected network has no offset; that of the layers has one
    np.testing.assert_allclose(K, fw.kernels.nngp(network, X) + 0.2, rtol=1e-12)


@pytest.mark.parametrize("name", KERNELS)
def test_diagonal_cross_and_clone(name):
    kernel = KERNELS[name]
    K = kernel(X)
    np.testing.assert_allclose(kernel.diag(X), np.diagonal(K), rtol=1e-12)
    np.testing.assert_allclose(kernel(X[:3], X), K[:3], rtol=1e-12)
    for other in (clone(kernel), pickle.loads(pickle.dumps(kernel)), kernel.clone_with_theta(kernel.theta)):
        np.testing.assert_allclose(other(X), K, rtol=1e-12)
    assert not kernel.is_stationary()


@pytest.mark.parametrize("name", KERNELS)
def test_gradient(name):
    kernel = KERNELS[name]
    K, gradient = kernel(X, eval_gradient=True)
    assert gradient.shape == (*K.shape, len(kernel.theta))
    for i in range(len(kernel.theta)):
        shift = 1e-3 * np.eye(len(kernel.theta))[i]
        at = [kernel.clone_with_theta(kernel.theta + c * shift)(X) for c in (2.0, 1.0, -1.0, -2.0)]
        fine = (-at[0] + 8 * at[1] - 8 * at[2] + at[3]) / 12e-3  # of fourth order
        np.testing.assert_allclose(gradient[..., i], fine, rtol=1e-6, atol=1e-8)


def test_fixed_hyperparameters():
    assert len(KERNELS["dense"].theta) == 2
    assert len(KERNELS["no bias"].theta) == 1
    fixed = NetworkKernel(weight_precision_bounds="fixed", offset_precision_bounds="fixed")
    assert fixed(X, eval_gradient=True)[1].shape == (12, 12, 0)


def test_gaussian_process_fits_the_evidence():
    train, test = fw.data.digits(classes=(0, 1), n_train=60, n_test=5)
    start = NetworkKernel() + WhiteKernel(0.05, "fixed")
    process = GaussianProcessRegressor(kernel=start).fit(train.flat, train.y)
    assert process.log_marginal_likelihood_value_ > process.log_marginal_likelihood(start.theta) + 1.0
    mean, std = process.predict(test.flat, return_std=True)
    assert mean.shape == std.shape == (5,)
    _, gradient = process.log_marginal_likelihood(start.theta, eval_gradient=True)
    more, less = (process.log_marginal_likelihood(start.theta + sign * np.array([0.0, 1e-4])) for sign in (1, -1))
    assert gradient[1] == pytest.approx((more - less) / 2e-4, rel=1e-5)


def test_gaussian_process_equals_infinite_width():
    kernel = NetworkKernel([{"dense": {"offset_precision": None}}, "erf", {"dense": {"offset_precision": None}}])
    process = GaussianProcessRegressor(kernel=kernel, alpha=0.05, optimizer=None).fit(X, Y)
    train = fw.Dataset(X, Y, classes=())
    solution = fw.solve(fw.theory_of(fw.FullyConnected(widths=(9,)), 0.05, method="infinite"), train)
    new = np.random.default_rng(1).standard_normal((4, 16))
    mean, std = process.predict(new, return_std=True)
    expected = fw.predict(solution, new)
    np.testing.assert_allclose(mean, expected.mean, rtol=1e-8)
    np.testing.assert_allclose(std, expected.std, rtol=1e-7)
    assert process.log_marginal_likelihood_value_ == pytest.approx(solution.log_evidence, rel=1e-9)


@pytest.mark.parametrize("name", ["dense", "conv"])
def test_callable_and_precomputed(name):
    kernel, labels = KERNELS[name], np.sign(Y)
    K = kernel(X)
    for estimator, target in ((SVC, labels), (SVR, Y)):
        called = estimator(kernel=kernel).fit(X, target)
        given = estimator(kernel="precomputed").fit(K, target)
        np.testing.assert_allclose(called.predict(X), given.predict(K), rtol=1e-9)
    ridge = KernelRidge(kernel=kernel, alpha=0.1).fit(X, Y)
    np.testing.assert_allclose(ridge.predict(X), K @ np.linalg.solve(K + 0.1 * np.eye(12), Y), rtol=1e-9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "ntkk"}, "did you mean 'ntk'"),
        ({"depth": 0}, "depth = 0"),
        ({"activation": "er"}, "did you mean 'erf'"),
        ({"input_shape": (3, 3, 1)}, "points of shape"),
    ],
)
def test_bad_input(settings, message):
    with pytest.raises(fw.InputError, match=message):
        NetworkKernel(**settings)(X)


# --- layers with hyperparameters filled in ---------------------------------------------------------------------------

V = {"weight_precision": 0.6, "offset_precision": 2.5}
TOKENS = np.random.default_rng(2).standard_normal((5, 12))


def full(name, **settings):
    return {name: {**V, **settings}}


@pytest.mark.parametrize(
    ("open_layers", "filled"),
    [
        (["dense", "erf", "dense"], [full("dense"), "erf", full("dense")]),
        (
            [{"dense": {"offset_precision": 10.0}}, "erf", {"dense": {"weight_precision": 3.3}}],
            [full("dense", offset_precision=10.0), "erf", full("dense", weight_precision=3.3)],
        ),
        (
            ["dense_per_token", {"layer_norm": {"epsilon": 0.2}}, "relu", "flatten", {"dense": {}}],
            [full("dense_per_token"), {"layer_norm": {"epsilon": 0.2}}, "relu", "flatten", full("dense")],
        ),
        (
            ["dense_per_token", {"activation": "relu"}, {"locally_connected": {"patch": [2]}}, "flatten"],
            [full("dense_per_token"), "relu", full("locally_connected", patch=[2]), "flatten"],
        ),
        (
            [{"conv": {"patch": [2]}}, {"average_pool": {"patch": [2]}}, "relu", "global_average_pool", "dense"],
            [full("conv", patch=[2]), {"average_pool": {"patch": [2]}}, "relu", "global_average_pool", full("dense")],
        ),
        (
            ["dense_per_token", {"residual": ["relu", "dense_per_token"]}, "flatten"],
            [full("dense_per_token"), {"residual": ["relu", full("dense_per_token")]}, "flatten"],
        ),
        (
            [
                "dense_per_token",
                {"residual": {"branch": ["relu", "dense_per_token"], "shortcut": ["dense_per_token"]}},
                "flatten",
            ],
            [
                full("dense_per_token"),
                {"residual": {"branch": ["relu", full("dense_per_token")], "shortcut": [full("dense_per_token")]}},
                "flatten",
            ],
        ),
        (["self_attention", "flatten"], [full("self_attention"), "flatten"]),
        (
            [{"self_attention": {"mechanism": "identity", "offset_precision": 5.0}}, "flatten"],
            [full("self_attention", mechanism="identity", offset_precision=5.0), "flatten"],
        ),
    ],
)
@pytest.mark.parametrize("kind", ["nngp", "ntk"])
def test_layers_take_what_they_leave_open(open_layers, filled, kind):
    shape = None if isinstance(filled[1], str) and filled[1] == "erf" else (4, 3)
    kernel = NetworkKernel(open_layers, kind=kind, input_shape=shape, **V)
    plain = getattr(fw.kernels.from_layers(filled, shape), kind)
    np.testing.assert_allclose(kernel(TOKENS), plain(TOKENS), rtol=1e-13)
    np.testing.assert_allclose(kernel(TOKENS[:2], TOKENS), plain(TOKENS[:2], TOKENS), rtol=1e-13)
    np.testing.assert_allclose(kernel.diag(TOKENS), np.diagonal(plain(TOKENS)), rtol=1e-12)


def test_layers_that_cannot_be_are_refused_as_ever():
    """Filling in leaves alone what it does not know, for the parser to say what is wrong."""
    for layers, message in (
        (["dense", 3], "the layer 3"),
        ([{"dense": 3}], "a mapping"),
        ([{"dense": {}, "conv": {}}], "one name with its settings"),
        ([{"dense": {"wieght_precision": 1.0}}], "weight_precision"),
        ([{}], "one name with its settings"),
    ):
        with pytest.raises(fw.InputError, match=message):
            NetworkKernel(layers)(X)


def test_what_is_meant_when_nothing_is_said():
    """One hidden layer of erf, weights of precision 1, offsets of 10, NNGP; three decades either way."""
    layers = [
        {"dense": {"weight_precision": 1.0, "offset_precision": 10.0}},
        "erf",
        {"dense": {"weight_precision": 1.0, "offset_precision": 10.0}},
    ]
    kernel = NetworkKernel()
    np.testing.assert_allclose(kernel(X), fw.kernels.from_layers(layers).nngp(X), rtol=1e-14)
    bounds = {h.name: 10.0 ** np.array([-3.0, 3.0]) for h in kernel.hyperparameters}
    bounds["offset_precision"][1] = 1e4
    assert list(bounds) == ["offset_precision", "weight_precision"]  # scikit-learn sorts
    np.testing.assert_allclose(kernel.bounds, np.log(list(bounds.values())), rtol=1e-12)
    np.testing.assert_allclose(kernel.theta, np.log([10.0, 1.0]), atol=1e-15)
    deep = NetworkKernel(depth=3)
    hidden = layers[:2] * 3
    np.testing.assert_allclose(deep(X), fw.kernels.from_layers([*hidden, layers[-1]]).nngp(X), rtol=1e-14)
    given = NetworkKernel(layers, depth=7, activation="relu")  # unused where layers are given
    np.testing.assert_allclose(given(X), kernel(X), rtol=1e-14)


def test_bounds_are_those_given():
    for name in ("weight_precision", "offset_precision"):
        kernel = NetworkKernel(**{f"{name}_bounds": (0.02, 30.0)})
        place = [h.name for h in kernel.hyperparameters].index(name)
        np.testing.assert_allclose(np.exp(kernel.bounds[place]), (0.02, 30.0))
        assert all(h.value_type == "numeric" for h in kernel.hyperparameters)
        assert len(NetworkKernel(**{f"{name}_bounds": "fixed"}).theta) == 1


def test_the_call_without_a_gradient_returns_the_kernel_alone():
    kernel = NetworkKernel()
    assert isinstance(kernel(X), np.ndarray)
    np.testing.assert_array_equal(kernel(X, None, True)[0], kernel(X))
    with pytest.raises(fw.InputError, match="one set; leave Y out"):
        kernel(X, X, True)
    with pytest.raises(fw.InputError, match="kind = 'nngpp'"):
        NetworkKernel(kind="nngpp").diag(X)
