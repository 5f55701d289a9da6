"""Covariances of networks at infinite width, for every architecture through the same few functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from finitewidth import checks, linalg
from finitewidth.kernels.empirical import EmpiricalKernels, empirical
from finitewidth.kernels.fully_connected import Recursion
from finitewidth.kernels.stack import Kernels, StackKernel, from_layers
from finitewidth.networks import Network

if TYPE_CHECKING:
    from finitewidth.kernels.gaussian_process import NetworkKernel

Array = np.ndarray
_STEP = 1e-4  # of log lambda_0 in the central difference below: error of order 1e-8


def nngp(network: Network, x1: Any, x2: Any = None) -> Array:
    """Covariance of the outputs at infinite width, (points1, points2), readout precision included."""
    if not (_network(network).kernel_recursion or network.states_covariance):
        return from_layers(network).nngp(x1, x2)
    x1, x2 = _points("x1", x1), None if x2 is None else _points("x2", x2)
    if network.kernel_recursion:
        rows = Recursion.of(network, x1)
        kernel = rows.gram() if x2 is None else rows.cross(Recursion.of(network, x2))
    else:
        kernel = network.covariance(np.ones(network.depth), x1, x1 if x2 is None else x2)
    linalg.check_finite(kernel)
    return kernel


def nngp_diagonal(network: Network, x: Any) -> Array:
    """Prior variance of the output at every point, (points,)."""
    if _network(network).kernel_recursion:
        return Recursion.of(network, _points("x", x)).diagonals[-1]
    return from_layers(network).nngp_diagonal(x)


def ntk(network: Network, x1: Any, x2: Any = None, parameters: str = "weights") -> Array:
    """Neural tangent kernel of the output at infinite width, (points1, points2), readout precision included.

    parameters: "weights", what ``network.init`` draws and ``network.apply`` takes, with prior variance 1/lambda;
    "whitened": sqrt(lambda) times these (docs/theory.md section 1). Equal at precision 1, far apart otherwise.
    The mean-field readout divides by N once more: its kernel is that of the network's own width, over N.
    """
    return from_layers(_network(network)).ntk(x1, x2, parameters)


def nngp_pullback(network: Network, x: Any, cotangent: Array) -> Array:
    """``d <G, K> / d log lambda_l``, l = 0..L, for symmetric G (P, P).

    Analytic for fully connected networks; for others by central differences, but for the readout.
    """
    if network.kernel_recursion:
        return Recursion.of(network, x).pullback(cotangent)
    precisions = from_layers(network).network.weight_precision

    def along(layer: int, sign: float) -> float:
        moved = tuple(p * np.exp(sign * _STEP) if k == layer else p for k, p in enumerate(precisions))
        return float(np.vdot(cotangent, nngp(network.with_precision(moved), x)))

    inner = [(along(k, 1.0) - along(k, -1.0)) / (2.0 * _STEP) for k in range(len(precisions) - 1)]
    return np.array([*inner, -np.vdot(cotangent, nngp(network, x))])


def feature_mean(network: Network, x: Any) -> Array:
    """Prior mean of a readout feature (times sqrt(N)) at every point, (points,).

    Fully connected: E[phi] of a neuron of the last hidden layer; average-pooled: its mean over patches.
    """
    return from_layers(_network(network)).feature_mean(x)


def _network(network: Any) -> Network:
    checks.instance("network", network, Network, "write fw.FullyConnected(widths=100), for example")
    return network


def _points(name: str, x: Any) -> Array:
    return checks.real_array(name, x, (2, 3, 4))


__all__ = [
    "EmpiricalKernels",
    "Kernels",
    "NetworkKernel",
    "StackKernel",
    "empirical",
    "feature_mean",
    "from_layers",
    "nngp",
    "nngp_diagonal",
    "nngp_pullback",
    "ntk",
]


if not TYPE_CHECKING:  # see finitewidth/__init__.py

    def __getattr__(name: str) -> object:
        if name == "NetworkKernel":  # scikit-learn's Gaussian processes take a second to import
            from finitewidth.kernels.gaussian_process import NetworkKernel

            return NetworkKernel
        raise AttributeError(f"module 'finitewidth.kernels' has no attribute {name!r}")
