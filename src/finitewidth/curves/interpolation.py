"""One error over widths, with honest intervals: a theory, its exact first order in 1/N, and a few samples.

A theory misses ``L(N) = log error(N) - log theory(N)``: zero at N -> infinity, there of known slope in 1/N, and sampled
at some widths. In between, ``L = s g(s)`` with ``s = log(1 + w/N)`` and a Gaussian process g (Rasmussen and Williams
2006, chapters 2 and 5): linear in 1/N for wide networks, slow in log N for narrow ones. Whatever is not known of it is
averaged over on a grid, each point weighed by its marginal likelihood: amplitude, length and roughness of g, the width
w where one regime becomes the other, and which theory it is that is corrected.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp, ndtr

Array = np.ndarray
_TURNS = (1 / 16, 1 / 4, 1.0)  # w, in training points
_LENGTHS = (0.35, 0.7, 1.4, 2.8, 5.6)  # in s
_AMPLITUDES = (0.02, 0.05, 0.12, 0.3, 0.7, 1.6)
_JITTER = 1e-12
_HALVINGS = 50


class Base(NamedTuple):
    """A theory that is right at infinite width.

    log_errors: by width N. slope: d L / d (1/N) at N -> infinity and its standard error; None: not known. odds: that
    it is this one that should be corrected, before anything was sampled.
    """

    log_errors: Mapping[int, float]
    slope: tuple[float, float] | None
    odds: float


class Anchor(NamedTuple):
    """A width that was sampled: logarithm of the error, and its standard error."""

    width: int
    log_error: float
    standard_error: float


@dataclass(frozen=True)
class Mixture:
    """Gaussians of several weights (k,) for the logarithm of the error at n widths: means (k, n), covariances."""

    weights: Array
    means: Array
    covariances: Array  # (k, n, n)

    @property
    def mean(self) -> Array:
        """(n,)"""
        return np.asarray(self.weights @ self.means)

    @property
    def covariance(self) -> Array:
        """(n, n), within and between the Gaussians."""
        apart = self.means - self.mean
        within = np.tensordot(self.weights, self.covariances, 1)
        return np.asarray(within + np.einsum("k,ki,kj->ij", self.weights, apart, apart))

    def quantile(self, probability: float) -> Array:
        """(n,), by halving: the distribution function is that of a mixture."""
        deviation = np.sqrt(np.diagonal(self.covariances, axis1=1, axis2=2)) + _JITTER
        low, high = (self.means - 8.0 * deviation).min(0), (self.means + 8.0 * deviation).max(0)
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            below = self.weights @ ndtr((middle - self.means) / deviation) < probability
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return np.asarray(0.5 * (low + high))


def log_errors(bases: Sequence[Base], anchors: Sequence[Anchor], widths: Sequence[int], n_train: int) -> Mixture:
    """What is known of the logarithm of an error at ``widths``."""
    parts = [_corrected(base, anchors, widths, turn * n_train) for base, turn in itertools.product(bases, _TURNS)]
    evidence, means, covariances = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Mixture(np.exp(evidence - logsumexp(evidence)), means, covariances)


def _corrected(base: Base, anchors: Sequence[Anchor], widths: Sequence[int], turn: float) -> tuple[Array, Array, Array]:
    """Log marginal likelihood, mean and covariance at the widths, for every covariance function of g."""
    seen = np.log1p(turn / np.array([anchor.width for anchor in anchors], dtype=float))
    at = np.log1p(turn / np.array(widths, dtype=float))
    values = np.array([anchor.log_error - base.log_errors[anchor.width] for anchor in anchors]) / seen
    noise = np.array([anchor.standard_error for anchor in anchors]) / seen
    units = np.log(seen).sum()  # of the densities of L, whatever w is
    if base.slope is not None:
        slope, error = base.slope
        seen, values, noise = (np.append(a, b) for a, b in ((seen, 0.0), (values, slope / turn), (noise, error / turn)))
        units += np.log(turn)
    own, across, there = (_covariances(a[:, None] - b) for a, b in ((seen, seen), (at, seen), (at, at)))
    own += np.diag(noise**2) + _JITTER * np.eye(len(seen))
    root = np.linalg.cholesky(own)
    white = np.linalg.solve(root, np.broadcast_to(values[:, None], (len(root), len(values), 1)))[..., 0]
    whitened = np.linalg.solve(root, across.swapaxes(1, 2))
    evidence = -0.5 * (white**2).sum(1) - np.log(np.diagonal(root, axis1=1, axis2=2)).sum(1)
    mean = np.einsum("kin,ki->kn", whitened, white)
    covariance = there - np.einsum("kin,kim->knm", whitened, whitened)
    logs = np.array([base.log_errors[width] for width in widths])
    return np.log(base.odds) + evidence - units, logs + at * mean, np.outer(at, at) * covariance


def _covariances(apart: Array) -> Array:
    """Of g at points so far apart, (k, n, m): Matérn functions of orders 1/2 and 3/2, of all lengths and amplitudes."""
    found = []
    for length, amplitude in itertools.product(_LENGTHS, _AMPLITUDES):
        d = np.abs(apart) / length
        found += [amplitude**2 * np.exp(-d), amplitude**2 * (1.0 + np.sqrt(3.0) * d) * np.exp(-np.sqrt(3.0) * d)]
    return np.array(found)
