"""Monte Carlo kernels: blocks, several outputs, and what is refused."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest

import finitewidth as fw

empirical = importlib.import_module("finitewidth.kernels.empirical")  # the name in the package is the function

jax = pytest.importorskip("jax")
jnp = jax.numpy

X = np.random.default_rng(0).standard_normal((5, 3))


def init(key, input_shape=(3,)):
    return {"w": jax.random.normal(key, (3, 2))}


def apply(params, x):
    return jnp.tanh(x @ params["w"])


def test_one_sample_is_the_definition():
    """Two samples by hand: f f' and J J' averaged over both outputs, and their standard error."""
    result = fw.kernels.empirical(init, apply, X, X[:2], n_samples=2, seed=4)
    nngp, ntk = [], []
    with jax.enable_x64(True):
        for key in jax.random.split(jax.random.key(4), 2):
            w = np.asarray(init(key)["w"])
            f = np.tanh(X @ w)
            slope = 1.0 - f**2
            nngp.append(f @ f[:2].T / 2.0)
            ntk.append((slope @ slope[:2].T) * (X @ X[:2].T) / 2.0)
    for mean, se, samples in ((result.nngp, result.nngp_se, nngp), (result.ntk, result.ntk_se, ntk)):
        np.testing.assert_allclose(mean, np.mean(samples, 0), rtol=1e-12)
        np.testing.assert_allclose(se, np.std(samples, 0, ddof=1) / np.sqrt(2.0), rtol=1e-9)


@pytest.mark.parametrize("block", [1, 2, 5])
def test_blocks_change_nothing(block, monkeypatch):
    whole = fw.kernels.empirical(init, apply, X, X[:2], n_samples=3)
    monkeypatch.setattr(empirical.linalg, "available_memory", lambda: 4.0 * block * 4 * 8 * 6)  # of 6 parameters
    parts = fw.kernels.empirical(init, apply, X, X[:2], n_samples=3)
    np.testing.assert_allclose(parts.ntk, whole.ntk, rtol=1e-12)
    assert (parts.nngp == whole.nngp).all()


def test_seed_and_scalar_outputs():
    def scalar(params, x):
        return apply(params, x)[:, 0]

    first, again, other = (fw.kernels.empirical(init, scalar, X, n_samples=2, seed=s) for s in (0, 0, 1))
    assert (first.ntk == again.ntk).all()
    assert (first.ntk != other.ntk).any()


def test_settings_of_jax_stay():
    before = jax.config.jax_enable_x64
    fw.kernels.empirical(init, apply, X, n_samples=2)
    assert jax.config.jax_enable_x64 == before


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda p, x: jnp.tanh(x @ p["w"]).sum(), r"returns shape \(\) for 3 points"),
        (lambda p, x: jnp.tanh(p["w"].T @ x), "wrap it in jax.vmap"),
        (lambda p, x: (x @ p["w"])[:1], "returns shape"),
        (lambda p, x: (x @ p["w"])[:, :, None], "returns shape"),
        (lambda p, x: x @ p["w"] - (x @ p["w"]).mean(0), "changes with the other points"),
        (lambda p, x: x @ p["w"] / 0.0, "NaN or infinite"),
        (lambda p, x: jnp.sqrt(0.0 * (x @ p["w"])), "NaN or infinite"),
    ],
)
def test_functions_that_cannot_be_used(function, message):
    with pytest.raises(fw.InputError, match=message):
        fw.kernels.empirical(init, function, X[:, :3], n_samples=2)


def test_other_bad_input():
    with pytest.raises(fw.InputError, match="at least 2"):
        fw.kernels.empirical(init, apply, X, n_samples=1)
    with pytest.raises(fw.InputError, match="the same shape"):
        fw.kernels.empirical(init, apply, X, X[:, :2])
    with pytest.raises(fw.InputError, match=r"positional argument.*wanted: init\(key, input_shape\)"):
        fw.kernels.empirical(lambda key: key, apply, X)


def test_points_of_one_to_five_dimensions():
    """Those of one dimension are numbers; others are flattened here."""

    def scalar(params, x):
        return x.reshape(len(x), -1).sum(1) * params["w"][0, 0]

    for shape in ((4,), (4, 2), (4, 2, 3), (4, 2, 1, 2), (4, 2, 1, 2, 1)):
        x = np.random.default_rng(1).standard_normal(shape)
        found, total = fw.kernels.empirical(init, scalar, x, x[:3], n_samples=2), x.reshape(4, -1).sum(1)
        np.testing.assert_allclose(found.ntk, np.outer(total, total[:3]), rtol=1e-12)
    for x, name in ((np.ones((2, 1, 1, 1, 1, 1)), "x1"), (np.array(1.0), "x1")):
        with pytest.raises(fw.InputError, match=f"{name} of shape .* 1 or 2 or 3 or 4 or 5 dim"):
            fw.kernels.empirical(init, scalar, x)
    with pytest.raises(fw.InputError, match="x2 of shape"):
        fw.kernels.empirical(init, apply, X, X[0])
    with pytest.raises(fw.InputError, match=r"points of shapes \(3,\) and \(2,\)"):
        fw.kernels.empirical(init, apply, X, X[:, :2])


def test_one_point_alone():
    found = fw.kernels.empirical(init, apply, X[:1], n_samples=2)
    assert found.nngp.shape == found.ntk_se.shape == (1, 1)
    with pytest.raises(fw.InputError, match=r"returns shape \(2, 2, 1\) for 2 points"):
        fw.kernels.empirical(init, lambda p, x: (x @ p["w"])[:, :, None], X[:1])
    with pytest.raises(fw.InputError, match="changes with the other points"):
        fw.kernels.empirical(init, lambda p, x: (x @ p["w"]) / len(x), X[:1])


@pytest.mark.parametrize("error", [TypeError, ValueError, IndexError, AttributeError])
def test_functions_that_fail_on_a_batch(error):
    def failing(params, x):
        raise error("no batch")

    message = (
        rf"fail on points of shape \(3, 3\) \({error.__name__}: no batch\); wanted: .*a batched function: .*jax.vmap"
    )
    with pytest.raises(fw.InputError, match=message) as caught:
        fw.kernels.empirical(init, failing, X)
    assert isinstance(caught.value.__cause__, error)


def test_other_failures_pass_through():
    def refusing(params, x):
        raise fw.InputError("given", "wanted", "remedy")

    def broken(params, x):
        raise ZeroDivisionError

    with pytest.raises(fw.InputError, match=r"^given; wanted: wanted; remedy$"):
        fw.kernels.empirical(init, refusing, X)
    with pytest.raises(ZeroDivisionError):
        fw.kernels.empirical(init, broken, X)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
@pytest.mark.parametrize(("mixing", "refused"), [(1e-2, True), (1e-6, False)])
def test_a_mixing_of_points_above_rounding_is_refused(mixing, refused, scale):
    """Single-precision functions of a batch may differ by their rounding from those of one point, not by more.

    Compared with the largest output, whatever the units: an output that should be zero is then rounding too.
    """

    def mixed(params, x):
        f = x @ params["w"]
        return scale * jnp.stack([f[:, 0], mixing * (f[:, 1].mean() - f[0, 1]) * jnp.ones(len(x))], axis=1)


def test_without_jax_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(fw.MissingExtraError, match=r"Monte Carlo kernels needs jax.*finitewidth\[sample\]"):
        fw.kernels.empirical(init, apply, X)
