"""Covariances of networks at infinite width, for every architecture through the same few functions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from finitewidth import checks
from finitewidth.exceptions import InputError
from finitewidth.kernels import fully_connected as _dense
from finitewidth.kernels import local as _local
from finitewidth.kernels.empirical import EmpiricalKernels, empirical
from finitewidth.kernels.local import (
    LocalGram,
    LocalPoints,
    local_cross,
    local_diagonal,
    local_kernels,
    memory_estimate,
)
from finitewidth.kernels.stack import Kernels, StackKernel, from_layers
from finitewidth.networks import FullyConnected, LocalNetwork, Network, OwnArchitecture
from finitewidth.networks.stack import stack_of

if TYPE_CHECKING:
    from finitewidth.kernels.gaussian_process import NetworkKernel

Array = np.ndarray
_STEP = 1e-4  # of log lambda_0 in the central difference below: error of order 1e-8


def nngp(network: Network, x1: Any, x2: Any = None) -> Array:
    """Covariance of the outputs at infinite width, (points1, points2), readout precision included."""
    x1, x2 = _points("x1", x1), None if x2 is None else _points("x2", x2)
    if isinstance(network, LocalNetwork):
        return _finite(_local.local_nngp(network, x1, x2))
    if isinstance(network, OwnArchitecture):
        return _finite(network.covariance(np.ones(network.depth), x1, x1 if x2 is None else x2))
    return _finite(_dense.nngp(_fully_connected(network), x1, x2))


def nngp_diagonal(network: Network, x: Any) -> Array:
    """Prior variance of the output at every point, (points,)."""
    x = _points("x", x)
    if isinstance(network, LocalNetwork):
        return _local.local_nngp_diagonal(network, x)
    return _dense.nngp_diagonal(_fully_connected(network), x)


def ntk(network: Network, x1: Any, x2: Any = None, parameters: str = "weights") -> Array:
    """Neural tangent kernel of the output at infinite width, (points1, points2), readout precision included.

    parameters: "weights", what ``network.init`` draws and ``network.apply`` takes, with prior variance 1/lambda;
    "whitened": sqrt(lambda) times these (docs/theory.md section 1). Equal at precision 1, far apart otherwise.
    The mean-field readout divides by N once more: its kernel is that of the network's own width, over N.
    """
    return both(network, x1, x2, parameters).ntk


def both(network: Network | StackKernel, x1: Any, x2: Any = None, parameters: str | None = None) -> Kernels:
    """NNGP and NTK in one pass, of a network or of ``from_layers``.

    ``parameters=None``: those that the finite network takes, "weights" of a network, "whitened" of layers.
    """
    if isinstance(network, StackKernel):
        return network.both(x1, x2, "whitened" if parameters is None else parameters)
    x1 = _points("x1", x1)
    kernel = StackKernel(stack_of(_known(network), x1.shape[1:]))
    found = _over_width(network, kernel.both(x1, x2, "weights" if parameters is None else parameters))
    _finite(found.nngp)
    _finite(found.ntk)
    return found


def both_diagonal(network: Network | StackKernel, x: Any, parameters: str | None = None) -> Kernels:
    """``both`` of every point with itself, (points,) each."""
    if isinstance(network, StackKernel):
        return network.diagonal(x, "whitened" if parameters is None else parameters)
    x = _points("x", x)
    kernel = StackKernel(stack_of(_known(network), x.shape[1:]))
    return _over_width(network, kernel.diagonal(x, "weights" if parameters is None else parameters))


def _over_width(network: Network, kernels: Kernels) -> Kernels:
    if network.readout == "standard":
        return kernels
    return Kernels(kernels.nngp / network.widths[-1], kernels.ntk / network.widths[-1])


def nngp_pullback(network: Network, x: Any, cotangent: Array) -> Array:
    """``d <G, K> / d log lambda_l``, l = 0..L, for symmetric G (P, P).

    Analytic for fully connected networks; for local ones lambda_0 by a central difference.
    """
    if not isinstance(network, LocalNetwork):
        return _dense.Recursion.of(_fully_connected(network), x).pullback(cotangent)
    inner, readout = network.weight_precision
    more, less = (
        np.vdot(cotangent, nngp(replace(network, weight_precision=(inner * np.exp(sign * _STEP), readout)), x))
        for sign in (1.0, -1.0)
    )
    return np.array([(more - less) / (2.0 * _STEP), -np.vdot(cotangent, nngp(network, x))])


def feature_mean(network: Network, x: Any) -> Array:
    """Prior mean of a readout feature (times sqrt(N)) at every point, (points,).

    Fully connected: E[phi] of a neuron of the last hidden layer; average-pooled: its mean over patches.
    """
    x = _points("x", x)
    if isinstance(network, LocalNetwork):
        return network.phi.mean(LocalPoints.of(network, x).variance).mean(0)
    dense = _fully_connected(network)
    return dense.phi.mean(_dense.Recursion.of(dense, x).diagonals[-2])


def _known(network: Network) -> Network:
    return network if isinstance(network, LocalNetwork) else _fully_connected(network)


def _fully_connected(network: Network) -> FullyConnected:
    checks.instance("network", network, Network, "write fw.FullyConnected(widths=100), for example")
    if not isinstance(network, FullyConnected):
        raise InputError(
            f"a {type(network).__name__}, whose layers are not known here",
            "FullyConnected, Convolutional or LocallyConnected",
            "use fw.kernels.empirical, which takes any network",
        )
    return network


def _finite(kernel: Array) -> Array:
    """The kernel; InputError where double precision could not hold it."""
    if not (kernel.min() > -np.inf and kernel.max() < np.inf):  # False for NaN
        raise InputError(
            "inputs and precisions whose kernel is NaN or infinite",
            "inputs whose squares, times the prior variances, are finite",
            "rescale the inputs (standardise them) or raise the prior precisions",
        )
    return kernel


def _points(name: str, x: Any) -> Array:
    return checks.real_array(name, x, (2, 3, 4))


__all__ = [
    "EmpiricalKernels",
    "Kernels",
    "LocalGram",
    "LocalPoints",
    "NetworkKernel",
    "StackKernel",
    "both",
    "both_diagonal",
    "empirical",
    "feature_mean",
    "from_layers",
    "local_cross",
    "local_diagonal",
    "local_kernels",
    "memory_estimate",
    "nngp",
    "nngp_diagonal",
    "nngp_pullback",
    "ntk",
]


if not TYPE_CHECKING:  # see finitewidth/__init__.py

    def __getattr__(name: str) -> Any:
        if name == "NetworkKernel":  # scikit-learn's Gaussian processes take a second to import
            from finitewidth.kernels.gaussian_process import NetworkKernel

            return NetworkKernel
        raise AttributeError(f"module 'finitewidth.kernels' has no attribute {name!r}")
