"""Monte Carlo kernels: blocks, several outputs, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import finitewidth as fw

jax = pytest.importorskip("jax")
jnp = jax.numpy

X = np.random.default_rng(0).standard_normal((5, 3))


def init(key):
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
def test_blocks_change_nothing(block):
    whole = fw.kernels.empirical(init, apply, X, n_samples=3)
    parts = fw.kernels.empirical(init, apply, X, n_samples=3, block=block)
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
    with pytest.raises(fw.InputError, match="an init with 3 arguments"):
        fw.kernels.empirical(lambda a, b, c: a, apply, X)
    with pytest.raises(fw.InputError, match="block"):
        fw.kernels.empirical(init, apply, X, block=0)
