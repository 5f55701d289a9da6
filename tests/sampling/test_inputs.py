"""Inputs rotated into the training span keep the network's law."""

from __future__ import annotations

import numpy as np
import pytest

from finitewidth.networks import Convolutional, FullyConnected
from finitewidth.sampling.inputs import Inputs

NETWORK = FullyConnected(widths=(3,))


def inner(x: np.ndarray, other: np.ndarray) -> np.ndarray:
    """What a layer sees: x . x' / inputs."""
    return x @ other.T / x.shape[1]


@pytest.mark.parametrize(("n_inputs", "rank"), [(30, 5), (8, 5), (12, 3)])
def test_rotation_keeps_inner_products(n_inputs, rank, rng):
    train = rng.standard_normal((5, rank)) @ rng.standard_normal((rank, n_inputs))
    test = rng.standard_normal((4, n_inputs))
    inputs = Inputs.of(NETWORK, train)
    at, n_extra = inputs.at(test)
    assert inputs.train.shape == (5, rank)
    assert at.shape == (4, rank + n_extra)
    assert n_extra == min(4, n_inputs - rank)
    np.testing.assert_allclose(inner(inputs.train, inputs.train), inner(train, train), atol=1e-12)
    np.testing.assert_allclose(inner(at, at), inner(test, test), atol=1e-12)
    padded = np.pad(inputs.train, ((0, 0), (0, n_extra))) * np.sqrt(at.shape[1] / inputs.train.shape[1])
    np.testing.assert_allclose(inner(padded, at), inner(train, test), atol=1e-12)


def test_leading_directions_come_first(rng):
    train, test = rng.standard_normal((9, 4)), rng.standard_normal((3, 4))
    inputs = Inputs.of(NETWORK, train)
    at, n_extra = inputs.at(test)
    assert n_extra == 0
    np.testing.assert_allclose(at @ inputs.train.T, test @ train.T, atol=1e-12)
    np.testing.assert_allclose(inputs.train.T @ inputs.train, np.diag(np.linalg.svd(train)[1] ** 2), atol=1e-12)


def test_nothing_to_rotate(rng):
    images = rng.standard_normal((2, 6, 6))
    assert Inputs.of(Convolutional(channels=2, patch=3), images).train is images


def test_test_points_within_the_span(rng):
    train = rng.standard_normal((4, 10))
    inputs = Inputs.of(NETWORK, train)
    at, n_extra = inputs.at(train[:2])
    assert n_extra == 0
    np.testing.assert_allclose(at, inputs.train[:2], atol=1e-12)


def test_weight_covariance_returns_to_the_original_inputs(rng):
    train = rng.standard_normal((3, 7))
    inputs = Inputs.of(NETWORK, train)
    np.testing.assert_allclose(inputs.original(np.eye(3), 7), np.eye(7), atol=1e-12)
    gram = inputs.original(2.0 * np.eye(3), 7)
    np.testing.assert_allclose(np.linalg.eigvalsh(gram), [1, 1, 1, 1, 2, 2, 2], atol=1e-12)
    assert inputs.original_error(np.ones((3, 3))).shape == (7, 7)
