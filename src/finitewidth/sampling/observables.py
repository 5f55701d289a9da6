"""What is recorded of every draw, and what is only summed up over draws."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import Array

from finitewidth.runs.jax_runs import Tree
from finitewidth.sampling.posterior import (
    Arrays,
    Conditional,
    Target,
    condition,
    predict,
    readout_gram,
    train_error,
)

SUMMED = ("order_parameter", "hidden_kernel", "weight_covariance")
Record = dict[str, Array]


def observe(
    target: Target, theta: Array, key: Array, arrays: Arrays, names: tuple[str, ...], conditional: bool
) -> tuple[Record, Record]:
    """The record of one draw (mean (P*, D), variance (P*,), train_error), and the terms of the sums
    ``names``.

    conditional: exact expectations over the readouts given the hidden weights; else theta holds the
    readouts too and
    the record is of that one network: its outputs, with variance zero.
    """
    hidden = target.hidden(theta[: arrays.scale.size], arrays)
    phi = target.features(hidden, arrays.train)
    at = target.features(target.extended(hidden, key), arrays.test)
    given: Conditional | Array
    if conditional:
        given = condition(phi, arrays.y, arrays.temperature)
        mean, variance = predict(given, phi, at, arrays.temperature)
        error = train_error(given, phi, arrays.temperature)
    else:
        given = theta[arrays.scale.size :].reshape(phi.shape[1], -1)
        mean, variance = at @ given, jnp.zeros(len(at))
        error = ((arrays.y - phi @ given) ** 2).mean()
    terms = {name: _SUMMED[name](target, hidden, phi, given, arrays) for name in names}
    return {"mean": mean, "variance": variance, "train_error": error}, terms


def _order_parameter(target: Target, hidden: Tree, phi: Array, given: Conditional | Array, arrays: Arrays) -> Array:
    width = target.network.widths[-1]
    if isinstance(given, Conditional):
        return readout_gram(given, phi, arrays.temperature, width)
    z = given.reshape(-1, width, given.shape[1])
    size = z.shape[0] * z.shape[2]
    return jnp.einsum("iad,jae->idje", z, z).reshape(size, size) / width


def _hidden_kernel(target: Target, hidden: Tree, phi: Array, given: Conditional | Array, arrays: Arrays) -> Array:
    """phi phi^T / N of the training points (P, P); with patches, their mean (or, pooled, of the pooled features)."""
    scale = target.readout_scale / math.sqrt(target.network.widths[-1] if target.network.readout == "mean-field" else 1)
    return phi @ phi.T / scale**2


def _weight_covariance(target: Target, hidden: Tree, phi: Array, given: Conditional | Array, arrays: Arrays) -> Array:
    """``lambda_0 w w^T`` averaged over the first layer's neurons, (inputs, inputs); one matrix a patch if unshared."""
    weights = target.network.first_weights(hidden)
    gram = jnp.swapaxes(weights, -1, -2) @ weights
    return target.network.weight_precision[0] * gram / weights.shape[-2]


_SUMMED = dict(zip(SUMMED, (_order_parameter, _hidden_kernel, _weight_covariance), strict=True))
