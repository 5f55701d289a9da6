"""Averages over frozen layers from one resolvent: its derivatives in the ridge, of one point or all, are the errors."""

from __future__ import annotations

import numpy as np
import pytest

from finitewidth import Convolutional, FullyConnected, InputError, kernels
from finitewidth.data import Dataset
from finitewidth.theory import frozen as module
from finitewidth.theory.frozen import frozen, frozen_scale, refuse_others

T = 0.1


def resolvent(K, ridges, width):
    """Deterministic equivalent of E[(W + diag(ridges))^-1], W Wishart of mean K: ``Q = 1 / (1 + Tr(K G)/N)``."""
    q = 1.0
    for _ in range(500):
        G = np.linalg.inv(q * K + np.diag(ridges))
        q = 0.5 * q + 0.5 / (1.0 + np.vdot(K, G) / width)
    return G, q


def by_resolvents(K, y, width, count):
    """(Q, mean, variance) at the points behind the first ``count``, and the train error.

    -d/de y (W + T + e M)^-1 y = y G M G y. A test point is one more row of W with a ridge r -> infinity: there the
    resolvent is (1 - v/r)/r, v its posterior variance, and -r^2 d/dr (y, 0) G (y, 0) the square of its mean.
    """
    P, total = count, len(K)
    train = K[:P, :P]
    G, q = resolvent(train, np.full(P, T), width)
    h = 1e-4

    def fit(ridge):
        return y @ resolvent(train, np.full(P, ridge), width)[0] @ y

    squares = -(fit(T + h) - fit(T - h)) / (2 * h)  # E |A^-1 y|^2
    train_error = T**2 * squares / P + T * (1.0 - T * np.trace(G) / P)
    means, variances = [], []
    for point in range(P, total):
        keep = [*range(P), point]
        wide, at, r = K[np.ix_(keep, keep)], np.append(y, 0.0), 1e5

        def both(ridge, wide=wide, at=at):
            G = resolvent(wide, np.append(np.full(P, T), ridge), width)[0]
            return at @ G @ at, G[P, P], G[P] @ at

        own = r - r**2 * both(r)[1]
        second = -(r**2) * (both(1.01 * r)[0] - both(0.99 * r)[0]) / (0.02 * r)
        mean = -r * both(r)[2]
        means.append(mean)
        variances.append(own + second - mean**2)
    return q, np.array(means), np.array(variances), train_error


@pytest.mark.parametrize("activation", ["linear", "erf"])
@pytest.mark.parametrize("width", [4, 30])
def test_errors_are_derivatives_of_the_resolvent(make_data, activation, width):
    train, test = make_data(8, 5, 0, 0.3), make_data(4, 5, 1, 0.3)
    network = FullyConnected(widths=width, activation=activation, weight_precision=(1.0, 0.7))
    K = kernels.nngp(network, np.concatenate([train.x, test.x]))
    q, mean, variance, train_error = by_resolvents(K, train.y, width, 8)
    found = frozen(network, train, test, T)
    assert found.order_parameter == pytest.approx(q, rel=1e-8)
    assert found.errors.bias == pytest.approx(np.mean((test.y - mean) ** 2), rel=1e-3)
    assert found.errors.variance == pytest.approx(variance.mean(), rel=2e-3)
    assert found.errors.train_error == pytest.approx(train_error, rel=1e-5)
    assert found.errors.test_error == pytest.approx(found.errors.bias + found.errors.variance, rel=1e-12)
    assert found.errors.accuracy is None


@pytest.mark.parametrize("width", [1, 40])
@pytest.mark.parametrize("copies", [1, 60])
def test_the_scale_of_one_eigenvalue_is_a_quadratics_root(width, copies):
    """N (Q - 1) (Q k + T) + P Q k = 0, down to Q = 1e-9 and less; what rounding left below zero counts for none."""
    for T in (1e-9, 0.3, 1e6):
        k = 2.0
        a, b, c = width * k, width * T - width * k + copies * k, -width * T
        root = (-b + np.sqrt(b * b - 4 * a * c)) / (2 * a) if b < 0 else -2 * c / (b + np.sqrt(b * b - 4 * a * c))
        assert frozen_scale(np.append(np.full(copies, k), -1e-3), width, T) == pytest.approx(root, rel=1e-8)
    assert frozen_scale(np.array([-1e-3, 0.0]), width, 0.1) == 1.0


def test_others_are_refused(train, unchangeable):
    unchangeable(module)
    two = Dataset(train.x, np.stack([train.y, train.y], 1))
    for network, data, said in (
        (FullyConnected(widths=(5, 5)), train, "a frozen FullyConnected of depth 2, 1 outputs"),
        (Convolutional(channels=5, patch=2), train, "a frozen Convolutional of depth 1, 1 outputs"),
        (FullyConnected(widths=5), two, "of depth 1, 2 outputs"),
    ):
        with pytest.raises(InputError, match=said):
            refuse_others(network, data)
    refuse_others(FullyConnected(widths=5), train)
