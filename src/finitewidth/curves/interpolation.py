"""One error over widths, with honest intervals: a theory, its exact first order in 1/N, and a few samples.

A theory misses ``L(N) = log error(N) - log theory(N)``: zero at N -> infinity, there of known slope in 1/N, and sampled
at some widths. In between, L is a Gaussian process (Rasmussen and Williams 2006, chapters 2 and 5), the sum of two:

- ``s g(s)`` with ``s = log(1 + w / N)`` and g smooth: linear in 1/N for wide networks, slow in log N for narrow ones;
- a step ``b / (1 + (N / c)^p)``, for narrow networks may specialise, and wide ones of the same data do not.

Whatever is not known of them is averaged over on a grid, each point weighed by its marginal likelihood: w, length and
size of g, the step's place c, sharpness p and size b, or that there is none, and which theory is corrected.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp, ndtr

Array = np.ndarray
_TURNS = (1 / 8, 1.0)  # w, in training points
_LENGTHS = (0.7, 2.0, 6.0)  # of g, in s
_SIZES = (0.03, 0.1, 0.3, 1.0)  # of g
_PLACES = tuple(2.0**k for k in range(-4, 4))  # c, in training points
_SHARPNESS = (2.0, 8.0)  # p: above 1, so that the slope at infinite width is that of g
_STEPS = (0.1, 0.3)  # standard deviation of b
_NO_STEP = 0.5  # its probability
_JITTER = 1e-12
_HALVINGS = 50


class Base(NamedTuple):
    """A theory that is exact at infinite width.

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
    parts = [_corrected(base, anchors, widths, n_train, turn) for base, turn in itertools.product(bases, _TURNS)]
    evidence, means, covariances = (np.concatenate(column) for column in zip(*parts, strict=True))
    weights = np.exp(evidence - logsumexp(evidence))
    counted = weights > 1e-6 / len(weights)
    return Mixture(weights[counted] / weights[counted].sum(), means[counted], covariances[counted])


def _corrected(
    base: Base, anchors: Sequence[Anchor], widths: Sequence[int], n_train: int, turn: float
) -> tuple[Array, Array, Array]:
    """Log of weight times marginal likelihood, mean and covariance at the widths, at every point of the grid."""
    seen, at = np.array([anchor.width for anchor in anchors], dtype=float), np.array(widths, dtype=float)
    values = [anchor.log_error - base.log_errors[anchor.width] for anchor in anchors]
    errors = [anchor.standard_error for anchor in anchors]
    sloped = base.slope is not None
    if base.slope is not None:
        values, errors = [*values, base.slope[0]], [*errors, base.slope[1]]
    observed, predicted = (
        _Places.of(at, n_train, turn, with_slope) for at, with_slope in ((seen, sloped), (at, False))
    )
    own = _covariance(observed, observed) + np.diag(np.square(errors)) + _JITTER * np.eye(len(values))
    across, there = _covariance(predicted, observed), _covariance(predicted, predicted)
    root = np.linalg.cholesky(own)
    white = np.linalg.solve(root, np.broadcast_to(np.array(values)[:, None], (len(root), len(values), 1)))[..., 0]
    whitened = np.linalg.solve(root, across.swapaxes(1, 2))
    evidence = -0.5 * (white**2).sum(1) - np.log(np.diagonal(root, axis1=1, axis2=2)).sum(1)
    mean = np.einsum("kin,ki->kn", whitened, white)
    covariance = there - np.einsum("kin,kim->knm", whitened, whitened)
    logs = np.array([base.log_errors[width] for width in widths])
    return math.log(base.odds) + np.tile(_LOG_ODDS, len(_SMOOTH)) + evidence, logs + mean, covariance


_SMOOTH = tuple(itertools.product(_LENGTHS, _SIZES))
_STEPPED = tuple(itertools.product(_PLACES, _SHARPNESS, _STEPS))
_LOG_ODDS = np.log([_NO_STEP, *[(1.0 - _NO_STEP) / len(_STEPPED)] * len(_STEPPED)])


class _Places(NamedTuple):
    """Where L is looked at: s, the factor of g there, and what each step (steps, n) is there.

    The slope at infinite width is one more place, with the factor d s / d (1/N) = w, at s = 0.
    """

    s: Array
    factor: Array
    steps: Array

    @classmethod
    def of(cls, widths: Array, n_train: int, turn: float, with_slope: bool) -> _Places:
        w = turn * n_train
        s = np.log1p(w / widths)
        steps = [np.zeros(len(s)), *(b / (1.0 + (widths / (c * n_train)) ** p) for c, p, b in _STEPPED)]
        if not with_slope:
            return cls(s, s, np.array(steps))
        return cls(np.append(s, 0.0), np.append(s, w), np.array([np.append(step, 0.0) for step in steps]))


def _covariance(one: _Places, other: _Places) -> Array:
    """Of L at every point of the grid, (k, n, m): a Matérn function of order 5/2, and the step."""
    factor, apart = np.outer(one.factor, other.factor), np.abs(one.s[:, None] - other.s)
    steps = one.steps[:, :, None] * other.steps[:, None, :]
    found = []
    for length, size in _SMOOTH:
        d = math.sqrt(5.0) * apart / length
        found.append(size**2 * factor * (1.0 + d + d**2 / 3.0) * np.exp(-d) + steps)
    return np.concatenate(found)
