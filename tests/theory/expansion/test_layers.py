"""What is averaged over neurons, against the same from a dense K', and the neurons themselves."""

from __future__ import annotations

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.theory.expansion.functionals import InfiniteWidth, dense, functionals
from finitewidth.theory.expansion.slopes import layers_of

P = 12


@pytest.fixture(scope="module", params=["erf", "relu"])
def lower(request):
    train, test = fw.data.digits(classes=(3, 8), n_train=P, n_test=6)
    state = InfiniteWidth.of(fw.FullyConnected((9, 9), activation=request.param), 0.1, train, test)
    return layers_of(state, functionals(state))[0]


def kernel_change(layer, u):
    """K' of every neuron: (B, n, P) and its diagonal (B, n)."""
    parts = [layer.above.image(np.outer(one, one) - layer.covariance) for one in u]
    return tuple(np.array(part) for part in zip(*parts, strict=True))


def test_products_with_the_kernels_change(lower):
    u = lower.neurons.draw(5, np.random.default_rng(0))[0][:, 0]
    change, own = kernel_change(lower, u)
    one, each = np.random.default_rng(1).standard_normal(P), np.random.default_rng(2).standard_normal((5, 18))
    np.testing.assert_allclose(lower._times(u, one), change @ one, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(lower._times(u, each[:, :P]), np.einsum("bnp,bp->bn", change, each[:, :P]), atol=1e-12)
    np.testing.assert_allclose(lower._along(u, each), np.einsum("bnp,bn->bp", change, each), atol=1e-12)
    for t, w in enumerate(lower.state.test_vectors.T):
        inside = np.einsum("p,bpq,q->b", w[:P], change[:, :P], w[:P])
        whole = inside + 2.0 * change[:, P + t] @ w[:P] + own[:, P + t]
        np.testing.assert_allclose(lower._variance_change(u, t), whole, rtol=1e-9, atol=1e-12)


def test_first_derivatives_and_what_is_pulled_back(lower):
    u = lower.neurons.draw(5, np.random.default_rng(0))[0]
    change, own = kernel_change(lower, u[:, 0])
    linear = [change @ a for a in lower.state.a.T]
    for k, f in enumerate(lower.functionals):
        first = lower.first(k, u[:3, 0], linear)
        gradient, weights = dense(f.first, P, len(own[0]))
        expected = np.einsum("np,bnp->b", gradient, change[:, : len(gradient)]) + own @ weights
        np.testing.assert_allclose(first, expected[:3], rtol=1e-8, atol=1e-10)
    gradient = np.random.default_rng(3).standard_normal((P, P))
    pulled, few = lower.above.pulled_back(gradient), u[0, 0, :P]
    image = lower.above.image(np.outer(u[0, 0], u[0, 0]))[0][:P]
    assert few @ pulled @ few == pytest.approx(np.vdot(gradient, image))


@pytest.mark.statistical
def test_inflated_neurons_have_the_layers_covariance(lower):
    neurons = lower.neurons
    np.testing.assert_allclose(neurons.directions @ neurons.directions.T, np.eye(2), atol=1e-12)
    assert neurons.inflation[0] == 1.8
    assert 1.0 <= neurons.inflation[1] <= 1.8
    features, weight = neurons.draw(40_000, np.random.default_rng(4))
    u = features[:, 0]
    products = weight[:, None] * u * u[:, :1]
    off = products.mean(0) - lower.covariance[0]
    assert np.abs(off / (products.std(0) / 200.0)).max() < 4.0
    assert abs(weight.mean() - 1.0) < 4.0 * weight.std() / 200.0
    unweighted = (u * u[:, :1]).mean(0) - lower.covariance[0]
    assert np.abs(unweighted / ((u * u[:, :1]).std(0) / 200.0)).max() > 6.0  # the control
