"""The action written a second time, dense and from the formulas of THEORY.md section 2 alone."""

from __future__ import annotations

import dataclasses
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest


def dense_kernel(network, x, q_inside=None):
    """K_L of a network; with ``q_inside`` each layer is renormalised before the next activation (nested closure)."""
    q = np.ones(network.depth) if q_inside is None else np.asarray(q_inside)
    x = x.reshape(len(x), -1)
    K = x @ x.T / (network.weight_precision[0] * x.shape[1]) + network.offset_variance
    for layer in range(network.depth):
        variance = np.diag(K)
        K = network.phi.kappa(variance[:, None], K, variance) * q[layer] / network.weight_precision[layer + 1]
        if layer < network.depth - 1:
            K = K + network.offset_variance
    return K / (network.widths[-1] if network.readout == "mean-field" else 1.0)


def dense_action(network, train, temperature, q, closure):
    """F(Q) in nats."""
    q = np.asarray(q, dtype=float)
    K = dense_kernel(network, train.x, q if closure == "nested" else None)
    K = K * (np.prod(q) if closure == "product" else 1.0)
    A, y = K + temperature * np.eye(len(K)), train.y
    rate = np.dot(network.widths, q - 1.0 - np.log(q))
    return 0.5 * (rate + np.linalg.slogdet(A)[1] + y @ np.linalg.solve(A, y) + len(y) * np.log(2.0 * np.pi))


def dense_slope(network, train, temperature, q, closure, step=1e-4):
    """dF / d log Q by fourth-order differences."""
    shifts = np.eye(len(q))

    def at(k, h):
        return dense_action(network, train, temperature, q * np.exp(h * shifts[k]), closure)

    return np.array(
        [(8 * (at(k, step) - at(k, -step)) - at(k, 2 * step) + at(k, -2 * step)) / (12 * step) for k in range(len(q))]
    )


@pytest.fixture
def dense():
    return SimpleNamespace(kernel=dense_kernel, action=dense_action, slope=dense_slope)


@pytest.fixture
def unchangeable():
    """``unchangeable(module)``: its records are frozen, for they are shared, kept in caches and compared."""

    def check(module: ModuleType) -> None:
        own = [v for v in vars(module).values() if dataclasses.is_dataclass(v) and v.__module__ == module.__name__]
        assert own
        assert [record.__qualname__ for record in own if not record.__dataclass_params__.frozen] == []

    return check
