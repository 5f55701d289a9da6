"""A short, small run of the single-neuron theory in NumPy: no more than what a validity statement needs.

The same equations as ``neuron/`` (docs/neuron.md), response (1), one output, a few hundred particles and a hundred
rounds; Metropolis' rule makes the trajectories exact, so that slopes of the activation by differences are good enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from finitewidth.linalg import RegularisedGram

Array = np.ndarray
_STEPS = 3  # leapfrog steps of a trajectory
_FLOOR = 0.2  # as in neuron/particles.py
_EPSILON = {"float64": 1e-6, "float32": 1e-3}  # of the differences that give slopes
_RESOLVED = 1e4  # tr K / (T N) up to which single precision holds what a neuron adds to A


@dataclass(frozen=True)
class OneLayer:
    """One hidden layer as its neurons see it.

    rows: (G, J P, r), whitened inputs (neuron/design.py). y: (P,). width: N. scale: what multiplies phi.
    pooled: whether psi is the mean over the J patches.
    """

    phi: Callable[[Array], Array]
    rows: Array
    y: Array
    temperature: float
    width: int
    scale: float
    pooled: bool

    @property
    def patches(self) -> int:
        """J times G."""
        return self.rows.shape[0] * self.rows.shape[1] // len(self.y)

    def slopes(self, theta: Array) -> tuple[Array, Callable[[Array], Array]]:
        """psi, and the map from d/d psi to d/d theta."""
        h = self._preactivations(theta)
        value = self.scale * self.phi(h)
        psi = self._pool(value)
        step = _EPSILON[h.dtype.name]
        slope = (self.scale * self.phi(h + step) - value) / step

        def pull(by_psi: Array) -> Array:
            spread = by_psi / h.shape[2] if self.pooled else by_psi
            return (slope * spread).reshape(*theta.shape[:2], -1) @ self.rows

        return psi, pull

    def _preactivations(self, theta: Array) -> Array:
        return (theta @ self.rows.swapaxes(1, 2)).reshape(*theta.shape[:2], -1, len(self.y))

    def _pool(self, phi: Array) -> Array:
        return phi.mean(2, keepdims=True) if self.pooled else phi


@dataclass(frozen=True)
class Outcome:
    """s (P,) and K_R (P, P) that the short run ended with, and Q's mean diagonal lambda_1 E[v^2]."""

    s: Array
    kernel: Array
    strength: float


def short_run(problem: OneLayer, s: Array, kernel: Array, particles: int, rounds: int, seed: int = 0) -> Outcome:
    """Half of the rounds approach the self-consistent field from (s, K_R), half average it."""
    generator = np.random.default_rng(seed)
    single = float(np.trace(kernel)) <= _RESOLVED * problem.temperature * problem.width
    dtype = np.float32 if single else np.float64  # of particles; the field is double
    problem = replace(problem, rows=problem.rows.astype(dtype))
    theta = generator.standard_normal((len(problem.rows), particles, problem.rows.shape[2])).astype(dtype)
    s, kernel, T = 0.4 * s, kernel.copy(), problem.temperature
    frozen, step = kernel.copy(), 0.3
    s_mean, f_mean, kernel_mean, strength = np.zeros_like(s), np.zeros_like(s), np.zeros_like(kernel), 0.0
    kept = rounds - rounds // 2
    for k in range(rounds):
        R = RegularisedGram(kernel, T).inverse()
        theta, moments, acceptance = _round(problem, theta, s.astype(dtype), R.astype(dtype), step, generator)
        step = float(np.clip(step * np.exp(0.3 * (acceptance - 0.8)), 0.02, 1.0))
        f, second, still, size = moments
        averaging = k >= rounds - kept
        if averaging:
            for mean, value in ((s_mean, s), (f_mean, f), (kernel_mean, second)):
                mean += value / kept
            strength += size / kept
        gain = 0.05 if averaging else 0.1
        kernel = kernel + gain * (second - kernel)
        frozen = frozen + gain * (still - frozen)
        s = s - gain * RegularisedGram(frozen, T).solve(T * s + f - problem.y)
    kernel_mean = 0.5 * (kernel_mean + kernel_mean.T)
    residual = T * s_mean + f_mean - problem.y
    return Outcome(s_mean - RegularisedGram(kernel_mean, T).solve(residual), kernel_mean, strength)


def _round(
    problem: OneLayer, theta: Array, s: Array, R: Array, step: float, generator: np.random.Generator
) -> tuple[Array, tuple[Array, Array, Array, float], float]:
    """Moments (f, K_R, response at frozen weights, strength) and one trajectory of every particle."""
    potential, gradient, moments = _evaluate(problem, theta, s, R)
    size = (step * np.exp(generator.uniform(-1.2, 0.4, (*theta.shape[:2], 1)))).astype(theta.dtype)
    momentum = generator.standard_normal(theta.shape).astype(theta.dtype)
    start = potential + 0.5 * ((theta**2).sum(-1) + (momentum**2).sum(-1))
    cosine, sine = np.cos(size), np.sin(size)
    moved, slope = theta, gradient
    for _ in range(_STEPS):
        momentum = momentum - 0.5 * size * slope
        moved, momentum = cosine * moved + sine * momentum, cosine * momentum - sine * moved
        end, slope, _ = _evaluate(problem, moved, s, R, moments=False)
        momentum = momentum - 0.5 * size * slope
    change = end + 0.5 * ((moved**2).sum(-1) + (momentum**2).sum(-1)) - start
    chance = np.exp(np.minimum(0.0, -np.where(np.isfinite(change), change, np.inf)))
    accepted = generator.uniform(size=chance.shape) < chance
    return np.where(accepted[..., None], moved, theta), moments, float(chance.mean())


def _times(matrix: Array, other: Array) -> Array:
    """Their product, (..., m, m) and (..., m, k); many tiny ones go faster as numbers."""
    return matrix * other if matrix.shape[-1] == 1 else matrix @ other


def _outer(one: Array, other: Array) -> Array:
    """``one other^T`` of (..., m, P)."""
    return np.vecdot(one, other)[..., None] if one.shape[-2] == 1 else one @ other.swapaxes(-1, -2)


def _evaluate(
    problem: OneLayer, theta: Array, s: Array, R: Array, moments: bool = True
) -> tuple[Array, Array, tuple[Array, Array, Array, float]]:
    """Potential (G, M), its gradient, and moments; see neuron/particles.py for the algebra."""
    psi, pull = problem.slopes(theta)
    N, m = problem.width, psi.shape[2]
    response = (psi.reshape(-1, len(R)) @ R).reshape(psi.shape)
    matrix = np.eye(m, dtype=psi.dtype) + _outer(psi, response) / N
    matrix = 0.5 * (matrix + matrix.swapaxes(-1, -2))
    if m == 1:
        covariance, log_det = 1.0 / matrix, np.log(matrix[..., 0, 0])
    else:
        covariance, log_det = np.linalg.solve(matrix, np.eye(m, dtype=psi.dtype)), np.linalg.slogdet(matrix)[1]
    b = psi @ s / math.sqrt(N)
    mean = _times(covariance, b[..., None])[..., 0]
    second = covariance + mean[..., :, None] * mean[..., None, :]
    strength = np.trace(second, axis1=-2, axis2=-1) / m
    tilted = _FLOOR + strength
    further = _times(covariance, mean[..., None])[..., 0]
    cross = further[..., :, None] * mean[..., None, :]
    share = 2.0 / (m * tilted)
    by_matrix = second + share[..., None, None] * (_times(covariance, covariance) + cross + cross.swapaxes(-1, -2))
    by_mean = mean + share[..., None] * further
    slope = _times(by_matrix / N, response) - by_mean[..., None] * s / math.sqrt(N)
    potential = 0.5 * log_det - 0.5 * (b * mean).sum(-1) - np.log(tilted)
    if not moments:
        return potential, pull(slope), (s, R, R, 0.0)
    weight = 1.0 / tilted
    weight /= weight.sum(1, keepdims=True)
    weighted = weight[..., None, None] * psi
    f = math.sqrt(N) * np.einsum("gki,gkip->gp", mean, weighted)
    points = psi.shape[-1]
    kernel = weighted.reshape(-1, points).T @ (second @ psi).reshape(-1, points) - f.T @ f / N
    frozen = weighted.reshape(-1, points).T @ (covariance @ psi).reshape(-1, points)
    averages = (f.sum(0), 0.5 * (kernel + kernel.T), frozen, float((weight * strength).sum() / len(weight)))
    return potential, pull(slope), averages
