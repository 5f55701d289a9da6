"""The posterior of a finite network as pure functions of its weights, for every architecture (docs/theory.md
section 7).

Weights are whitened: ``theta`` (dim,) has the prior N(0, 1), the network's own weights are ``scale *
theta``. With the features ``Phi`` (P, F) of the last hidden layer, all scalings included and divided by
sqrt(lambda_L), whitened readouts ``z`` (F, D) have the prior N(0, 1) too and ``f = Phi z``. Given Phi the
readouts are Gaussian, so they are
integrated exactly: what remains is the collapsed posterior of the hidden weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.scipy.linalg import cho_solve, solve_triangular

from finitewidth.networks import Network
from finitewidth.runs.jax_runs import Leaf, Tree


class Arrays(NamedTuple):
    """What the compiled functions read.

    train: inputs of the dynamics (P, ...). y: (P, D). test: (P*, ...), with ``n_extra`` more inputs than
    ``train`` where the inputs were rotated (see inputs.py). scale: prior standard deviation of every
    weight, (dim,). temperature: T; here, so that all temperatures share compiled code. centre: prior mean of every
    weight, (dim,), of every chain outside the compiled functions, (chains, dim); () where it is zero.
    """

    train: Leaf
    y: Leaf
    test: Leaf
    scale: Leaf
    temperature: Leaf
    centre: Leaf = ()


class Conditional(NamedTuple):
    """The readouts given the features: z ~ N(mean, covariance) independently for every output.

    factor: lower Cholesky factor of ``Phi^T Phi + T`` (F, F) if F < P, else of ``Phi Phi^T + T`` (P, P).
    mean: (F, D). residual: ``A^-1 y`` (P, D), which is ``(y - Phi mean) / T``.
    """

    factor: Leaf
    mean: Leaf
    residual: Leaf


@dataclass(frozen=True)
class Target:
    """The posterior of one network: shapes and settings, no data; equal targets share compiled code.

    input_shape: of a training point as the dynamics sees it. n_extra: inputs of the test points outside the
    training span.
    """

    network: Network
    input_shape: tuple[int, ...]
    n_extra: int = 0

    @property
    def n_features(self) -> int:
        """F."""
        return self.network.n_features(self.input_shape)

    @property
    def readout_scale(self) -> float:
        """Prior standard deviation of the network's own readout weights."""
        return 1.0 / math.sqrt(self.network.weight_precision[-1])

    def hidden(self, theta: Array, arrays: Arrays) -> Tree:
        """The network's hidden weights of a whitened vector (dim,)."""
        weights = theta * arrays.scale
        return self._unravel(weights if isinstance(arrays.centre, tuple) else arrays.centre + weights)

    def features(self, hidden: Tree, x: Array) -> Array:
        """Phi: features divided by sqrt(lambda_L), (points, F)."""
        return self.network.features(hidden, x) * self.readout_scale

    def potential(self, theta: Array, arrays: Arrays) -> Array:
        """- log likelihood of the hidden weights with the readouts integrated; U is this plus ``|theta|^2 / 2``."""
        phi = self.features(self.hidden(theta, arrays), arrays.train)
        return collapsed_energy(phi, arrays.y, arrays.temperature)

    def full_energy(self, theta: Array, arrays: Arrays) -> Array:
        """U of hidden weights and readouts, ``theta`` (dim + F D,): minus the log posterior, without constants."""
        dim = arrays.scale.size
        phi = self.features(self.hidden(theta[:dim], arrays), arrays.train)
        residual = arrays.y - phi @ theta[dim:].reshape(self.n_features, -1)
        return 0.5 * (residual**2).sum() / arrays.temperature + 0.5 * (theta**2).sum()

    def prior_deviation(self) -> np.ndarray:
        """Prior standard deviation of every hidden weight, (dim,)."""

        def deviation() -> Array:  # the prior is Gaussian: its log density has the slope -precision at 1
            slope = jax.grad(lambda weights: 1.0 * self.network.hidden_log_prior(weights))(self._ones())
            return ravel_pytree(jax.tree.map(lambda s: 1.0 / jnp.sqrt(-s), slope))[0]

        return np.asarray(jax.jit(deviation)())

    @cached_property
    def weight_shapes(self) -> list[tuple[int, ...]]:
        """Of the arrays of hidden weights that theta holds one after another."""
        return [leaf.shape for leaf in jax.tree.leaves(self._weights)]

    @property
    def _weights(self) -> Tree:
        """The hidden weights as shapes."""
        return jax.eval_shape(lambda key: self.network.init_hidden(key, self.input_shape), jax.random.key(0))

    def _ones(self) -> Tree:
        return jax.tree.map(lambda leaf: jnp.ones(leaf.shape), self._weights)

    def _unravel(self, theta: Array) -> Tree:
        """(dim,) -> pytree of hidden weights."""
        return ravel_pytree(self._ones())[1](theta)

    def extended(self, hidden: Tree, key: Array) -> Tree:
        """The first layer's weights for inputs outside the training span: these still have their prior."""
        if self.n_extra == 0:
            return hidden
        first, *others = hidden["weights"]
        shape = (*first.shape[:-1], self.n_extra)
        fresh = jax.random.normal(key, shape) / math.sqrt(self.network.weight_precision[0])
        return {**hidden, "weights": [jnp.concatenate([first, fresh], axis=-1), *others]}


def draw_all(target: Target, key: Array, arrays: Arrays) -> Array:
    """All whitened weights (dim + F D,): hidden ones from the prior, readouts from their posterior given these."""
    hidden_key, readout_key = jax.random.split(key)
    theta = jax.random.normal(hidden_key, arrays.scale.shape)
    phi = target.features(target.hidden(theta, arrays), arrays.train)
    return jnp.concatenate([theta, draw_readouts(readout_key, phi, arrays.y, arrays.temperature).ravel()])


# --- the collapsed energy -----------------------------------------------------------------------------------


def condition(phi: Array, y: Array, temperature: Array) -> Conditional:
    """Posterior of whitened readouts given features Phi (P, F), on the smaller side of Woodbury's identity."""
    points, features = phi.shape
    if features < points:
        factor = jnp.linalg.cholesky(phi.T @ phi + temperature * jnp.eye(features))
        mean = cho_solve((factor, True), phi.T @ y)
        return Conditional(factor, mean, (y - phi @ mean) / temperature)
    factor = jnp.linalg.cholesky(phi @ phi.T + temperature * jnp.eye(points))
    residual = cho_solve((factor, True), y)
    return Conditional(factor, phi.T @ residual, residual)


@jax.custom_vjp
def collapsed_energy(phi: Array, y: Array, temperature: Array) -> Array:
    """``D/2 log det A + 1/2 tr y^T A^-1 y`` with ``A = Phi Phi^T + T``; differentiable in ``phi`` only.

    The gradient is ``D A^-1 Phi - A^-1 y mean^T``: one more solve with the factor of the value.
    """
    return _energy(phi, y, temperature, condition(phi, y, temperature))


def _energy(phi: Array, y: Array, temperature: Array, given: Conditional) -> Array:
    points, features = phi.shape
    log_det = 2.0 * jnp.log(jnp.diagonal(given.factor)).sum()
    log_det += max(points - features, 0) * jnp.log(temperature)
    return 0.5 * y.shape[1] * log_det + 0.5 * (y * given.residual).sum()


def _forward(phi: Array, y: Array, temperature: Array) -> tuple[Array, tuple[Array, Conditional]]:
    given = condition(phi, y, temperature)
    return _energy(phi, y, temperature, given), (phi, given)


def _backward(saved: tuple[Array, Conditional], slope: Array) -> tuple[Array, Array, Array]:
    phi, given = saved
    points, features = phi.shape
    n_outputs = given.mean.shape[1]
    right = phi.T if features < points else phi
    solved = cho_solve((given.factor, True), right)
    solved = solved.T if features < points else solved
    gradient = n_outputs * solved - given.residual @ given.mean.T
    return slope * gradient, jnp.zeros_like(given.residual), jnp.zeros(())


collapsed_energy.defvjp(_forward, _backward)


def draw_readouts(key: Array, phi: Array, y: Array, temperature: Array) -> Array:
    """Whitened readouts (F, D) from their posterior given features Phi (P, F), by Matheron's rule."""
    prior_key, noise_key = jax.random.split(key)
    prior = jax.random.normal(prior_key, (phi.shape[1], y.shape[1]))
    noise = jnp.sqrt(temperature) * jax.random.normal(noise_key, y.shape)
    return prior + condition(phi, y - phi @ prior - noise, temperature).mean


# --- exact conditional expectations -------------------------------------------------------------------------


def predict(given: Conditional, phi: Array, at: Array, temperature: Array) -> tuple[Array, Array]:
    """Mean (points, D) and variance (points,), the same for every output, of f where the features are ``at``."""
    points, features = phi.shape
    if features < points:
        variance = temperature * (solve_triangular(given.factor, at.T, lower=True) ** 2).sum(0)
    else:
        whitened = solve_triangular(given.factor, phi @ at.T, lower=True)
        variance = jnp.maximum((at**2).sum(1) - (whitened**2).sum(0), 0.0)
    return at @ given.mean, variance


def train_error(given: Conditional, phi: Array, temperature: Array) -> Array:
    """E[(1/PD) sum (y - f)^2 | Phi] = T^2 |A^-1 y|^2 / (P D) + T Tr(K A^-1) / P (docs/theory.md section 4)."""
    size = len(given.factor)
    inverse = solve_triangular(given.factor, jnp.eye(size), lower=True)
    used = size - temperature * (inverse**2).sum()  # Tr(K A^-1), the effective number of features
    return temperature**2 * (given.residual**2).mean() + temperature * used / len(phi)


def readout_gram(given: Conditional, phi: Array, temperature: Array, width: int) -> Array:
    """Q = E[z z^T | Phi] / N between patches and outputs, (n D, n D) with index i D + d for patch i, output
    d.

    z are whitened readouts, so this is ``lambda_L <v v^T> / N`` of docs/theory.md section 2. Features are
    ordered patch by patch, i N + a; without patches n = 1 and Q is (D, D).
    """
    points, features = phi.shape
    n_outputs = given.mean.shape[1]
    patches = features // width
    means = given.mean.reshape(patches, width, n_outputs)
    if features < points:
        root = solve_triangular(given.factor, jnp.eye(features), lower=True).reshape(-1, patches, width)
        covariance = temperature * jnp.einsum("kia,kja->ij", root, root)
    else:
        root = solve_triangular(given.factor, phi, lower=True).reshape(-1, patches, width)
        covariance = width * jnp.eye(patches) - jnp.einsum("kia,kja->ij", root, root)
    total = jnp.einsum("iad,jae->idje", means, means)
    total += jnp.einsum("ij,de->idje", covariance, jnp.eye(n_outputs))
    return total.reshape(patches * n_outputs, -1) / width
