"""Derivatives of the recursion and of the Gaussian process's errors, against differences of dense formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special

import finitewidth as fw
from finitewidth.theory.expansion.functionals import InfiniteWidth, dense, functionals
from finitewidth.theory.expansion.recursion import covariances, derivatives_from_top

T = 0.1
P = 7
STEP = 1e-4


def points(count=11, inputs=4):
    return np.random.default_rng(3).standard_normal((count, inputs))


def datasets(outputs=1, labels=True):
    rng = np.random.default_rng(5)
    x = points()
    if outputs > 1:
        y = np.eye(outputs)[np.arange(11) % outputs] - 1.0 / outputs
        return fw.Dataset(x[:P], y[:P], classes=()), fw.Dataset(x[P:], y[P:], classes=())
    y = np.where(np.arange(11) % 2, 1.0, -1.0) if labels else rng.standard_normal(11)
    options = dict(classes=(-1, 1)) if labels else {}
    return fw.Dataset(x[:P], y[:P], **options), fw.Dataset(x[P:], y[P:], **options)


def kernel_above(network, covariance, layer):
    """K from the covariance that layer ``layer`` makes, by the recursion itself."""
    for above in range(layer, network.depth):
        variance = np.diag(covariance)
        covariance = network.phi.kappa(variance[:, None], covariance, variance[None, :])
        np.fill_diagonal(covariance, network.phi.dual.diagonal(variance)[0])
        last = above == network.depth - 1
        precision = network.readout_precision if last else network.weight_precision[above + 1]
        covariance = covariance / precision + (0.0 if last else network.offset_variance)
    return covariance


@pytest.mark.parametrize("activation", ["erf", "relu", "tanh", "gelu", "linear"])
def test_kernel_follows_a_covariance_below(activation):
    network = fw.FullyConnected(
        (9, 9, 9), activation=activation, weight_precision=(0.7, 1.3, 0.8, 1.1), offset_precision=3.0
    )
    found = covariances(network, points())
    noise = np.random.default_rng(0).standard_normal((11, 3))
    delta = noise @ noise.T
    for layer, pairs in derivatives_from_top(network, found, P):
        if layer == network.depth:
            continue
        up, mid, down = (kernel_above(network, found[layer] + t * delta, layer) for t in (STEP, 0.0, -STEP))
        first = pairs.image(delta)
        np.testing.assert_allclose(first[0], ((up - down) / (2 * STEP))[:, :P], rtol=2e-5, atol=1e-7)
        np.testing.assert_allclose(first[1], np.diag(up - down) / (2 * STEP), rtol=2e-5, atol=1e-7)
        own, cross = np.diag(delta), delta[:, :P]
        a, b = own[:, None], own[None, :P]
        haa, hac, hab, hcc, hcb, hbb = pairs.second
        bent = haa * a * a + hbb * b * b + hcc * cross**2 + 2 * (hac * a * cross + hab * a * b + hcb * cross * b)
        curved = (up - 2 * mid + down) / STEP**2
        np.testing.assert_allclose(bent, curved[:, :P], rtol=1e-3, atol=1e-7 + 2e-5 * np.abs(curved).max())
        np.testing.assert_allclose(pairs.own_second * own**2, np.diag(curved), rtol=1e-3, atol=2e-5)


def errors_of(kernel, own, train, test):
    """Bias, variance, both parts of the train error, log evidence, accuracy: dense formulas."""
    y, y_test = train.y.reshape(P, -1), test.y.reshape(len(test), -1)
    D = y.shape[1]
    A = kernel[:P] + T * np.eye(P)
    a = np.linalg.solve(A, y)
    mean = kernel[P:] @ a
    variance = own[P:] - np.einsum("tp,pt->t", kernel[P:], np.linalg.solve(A, kernel[P:].T))
    evidence = -0.5 * (np.vdot(y, a) + D * (np.linalg.slogdet(A)[1] + P * math.log(2 * math.pi)))
    spread = T - T**2 * np.diag(np.linalg.inv(A))
    found = [np.mean((y_test - mean) ** 2), variance.mean(), np.mean((T * a) ** 2), spread.mean(), evidence]
    if D == 1:
        found.append(special.ndtr(y_test[:, 0] * mean[:, 0] / np.sqrt(variance)).mean())
    else:
        nodes, weights = np.polynomial.hermite_e.hermegauss(60)
        right = y_test.argmax(1)
        gap = (mean[np.arange(len(mean)), right, None] - mean) / np.sqrt(variance)[:, None]
        below = special.ndtr(gap[:, :, None] + nodes)
        below[np.arange(len(mean)), right] = 1.0
        found.append((below.prod(1) @ weights).mean() / math.sqrt(2 * math.pi))
    return np.array(found), mean


@pytest.mark.parametrize("outputs", [1, 3])
def test_errors_follow_the_kernel(outputs):
    train, test = datasets(outputs)
    network = fw.FullyConnected(9, activation="erf", offset_precision=2.0)
    state = InfiniteWidth.of(network, T, train, test)
    noise = np.random.default_rng(1).standard_normal((11, 2)) * 0.3
    change = noise @ noise.T - 0.1 * np.eye(11)
    kernel, own = state.kernel, state.own

    def at(t):
        return errors_of(kernel + t * change[:, :P], own + t * np.diag(change), train, test)

    (up, mean_up), (mid, _), (down, mean_down) = at(STEP), at(0.0), at(-STEP)
    slope, curvature = (up - down) / (2 * STEP), (up - 2 * mid + down) / STEP**2
    mean = (mean_up - mean_down) / (2 * STEP)
    # what the mean's fluctuation adds to the squared error is counted as variance (slopes are of the predictive)
    spread = 2.0 * np.mean(mean**2)
    curvature[0] -= spread
    curvature[1] += spread
    found = functionals(state)
    assert [f.name for f in found] == ["bias", "variance", "train_bias", "train_variance", "log_evidence", "accuracy"]
    for k, f in enumerate(found):
        assert f.value == pytest.approx(mid[k], rel=1e-8)
        gradient, weights = dense(f.first, P, len(own))
        first = np.vdot(gradient, change[: len(gradient), :P]) + weights @ np.diag(change)
        assert first == pytest.approx(slope[k], rel=1e-5, abs=1e-7), f.name
        half = 0.0
        inverse = np.linalg.inv(kernel[:P] + T * np.eye(P))
        for form in f.forms:
            left, right = (change[: len(v), :P].T @ v for v in (form.left, form.right))
            half -= np.einsum("pk,pq,qk,k->", left, inverse, right, form.weight)
        half += f.test_mean * np.sum(mean**2)
        residual = -T * inverse @ change[:P, :P] @ state.a  # of the mean at the training points, minus
        half += f.train_mean * np.sum(residual**2)
        if f.second is not None:
            vectors = state.test_vectors
            variance = np.einsum("nt,nm,mt->t", vectors, change, vectors)
            variance += 0.0 if np.allclose(change, change.T) else np.nan
            own_only = np.einsum("nt,n,nt->t", vectors[P:], np.diag(change)[P:], vectors[P:])
            cross = 2 * np.einsum("nt,np,pt->t", vectors[P:], change[P:, :P], vectors[:P])
            inside = np.einsum("pt,pq,qt->t", vectors[:P], change[:P, :P], vectors[:P])
            both = np.concatenate([mean, (own_only + cross + inside)[:, None]], axis=1)
            half += np.einsum("ti,tij,tj->", both, f.second, both)
        assert 2 * half == pytest.approx(curvature[k], rel=2e-3, abs=1e-5), f.name
