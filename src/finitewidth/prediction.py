"""Condition a Gaussian on data: covariance -> Prediction -> Errors.

Theory, samplers and training all end in these two types, so that they are compared like with like.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from finitewidth.exceptions import InputError
from finitewidth.linalg import RegularisedGram

Array = np.ndarray


@dataclass(frozen=True)
class Errors:
    """Errors, averaged over points and outputs; ``test_error = bias + variance``.

    bias: mean squared difference of target and mean prediction. variance: mean predictive variance of f (without the
    noise T). accuracy: expected accuracy of the sign (two classes) or the largest output (several), None for
    regression. train_error: posterior mean of (1/P) sum (y - f)^2 on the training set.
    """

    test_error: float
    bias: float
    variance: float
    accuracy: float | None
    train_error: float


@dataclass(frozen=True)
class Prediction:
    """Predictive distribution of the network's outputs f at test points.

    mean, variance: (points,) or (points, outputs), the variance without the noise T. train_error: see ``Errors``.
    """

    mean: Array
    variance: Array
    train_error: float

    @property
    def std(self) -> Array:
        """Predictive standard deviation of f."""
        return np.sqrt(self.variance)

    def errors(self, y: Any) -> Errors:
        """Errors against targets ``y`` of the mean's shape, averaged over points and outputs (THEORY.md section 4).

        Raises InputError for another shape.
        """
        y = np.asarray(y, dtype=float)
        if y.shape != self.mean.shape:
            raise InputError(
                f"targets of shape {y.shape}",
                f"targets of shape {self.mean.shape}, as predicted",
                "encode the test targets as the training targets were (fw.Dataset(x, y, classes=train.classes))",
            )
        bias = float(np.mean((y - self.mean) ** 2))
        variance = float(np.mean(self.variance))
        return Errors(bias + variance, bias, variance, self.accuracy(y), self.train_error)

    def accuracy(self, y: Array) -> float | None:
        """Expected accuracy under the predictive Gaussian: mean of Phi(y mean / sd) for labels -1, +1."""
        if y.ndim == 1 and np.isin(y, (-1.0, 1.0)).all():
            return float(np.mean(sign_probability(y * self.mean, self.variance)))
        return None


def sign_probability(mean: Array, variance: Array) -> Array:
    """P(f > 0) for Gaussian f; one half where the mean and the variance are both zero."""
    sd = np.sqrt(variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(sd > 0.0, mean / sd, np.sign(mean) * np.inf)
    return special.ndtr(np.where(mean == 0.0, 0.0, ratio))


def condition(gram: RegularisedGram, y: Array, cross: Array, prior_variance: Array) -> tuple[Array, Array]:
    """Mean ``k A^-1 y`` and variance ``K(x,x) - k A^-1 k`` of a Gaussian process.

    gram: A = K_R + T of the training points (P). y: (P,) or (P, D) with the same covariance for every output.
    cross: (P*, P). prior_variance: (P*,). Rounding below zero is put to zero.
    """
    mean = cross @ gram.solve(y)
    whitened = gram.whiten(cross.T)
    variance = np.maximum(prior_variance - np.einsum("pi,pi->i", whitened, whitened), 0.0)
    return mean, np.broadcast_to(variance[:, None], mean.shape).copy() if mean.ndim == 2 else variance


def train_error(gram: RegularisedGram, y: Array) -> float:
    """``(T^2/P) |A^-1 y|^2 + (T/P) Tr(K_R A^-1)``, the posterior mean of (1/P) sum (y - f)^2; P D with D outputs."""
    residual = gram.ridge * gram.solve(y)
    trace = gram.size - gram.ridge * float(np.trace(gram.inverse()))
    return float(np.mean(residual**2)) + gram.ridge * trace / gram.size
