"""Covariances of networks at infinite width, for every architecture through the same three functions."""

from __future__ import annotations

from typing import Any

import numpy as np

from finitewidth.kernels import fully_connected as _dense
from finitewidth.networks import Network

Array = np.ndarray


def nngp(network: Network, x1: Any, x2: Any = None) -> Array:
    """Covariance of the outputs at infinite width, (points1, points2), readout precision included."""
    return _dense.nngp(network, x1, x2)  # type: ignore[arg-type]


def nngp_diagonal(network: Network, x: Any) -> Array:
    """Prior variance of the output at every point, (points,)."""
    return _dense.nngp_diagonal(network, x)  # type: ignore[arg-type]


def nngp_pullback(network: Network, x: Any, cotangent: Array) -> Array:
    """``d <G, K> / d log lambda_l``, l = 0..L, for symmetric G (P, P)."""
    return _dense.Recursion.of(network, x).pullback(cotangent)  # type: ignore[arg-type]


def feature_mean(network: Network, x: Any) -> Array:
    """``E[phi]`` of a neuron of the last hidden layer at every point, (points,)."""
    return network.phi.mean(_dense.Recursion.of(network, x).diagonals[-2])  # type: ignore[arg-type]


__all__ = ["feature_mean", "nngp", "nngp_diagonal", "nngp_pullback"]
