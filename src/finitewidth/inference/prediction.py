"""Predictive distributions and their errors: Prediction -> Errors.

Theory, samplers and training all end in these two types, so that they are compared like with like.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self, TypeVar

import numpy as np
from scipy import special

from finitewidth.data import Dataset, TargetEncoding
from finitewidth.data.encoding import NUMBERS
from finitewidth.display import Displayed

Array = np.ndarray


@dataclass(frozen=True)
class Errors(Displayed):
    """Errors, averaged over points and outputs; ``test_error = bias + variance``.

    bias: mean squared difference of target and mean prediction. variance: mean predictive variance of f (without the
    noise T). accuracy: expected accuracy of the sign (two classes) or the largest output (several), None for
    regression. train_error: posterior mean of (1/P) sum (y - f)^2 on the training set. Squared errors are in the
    unit of the targets; of targets that were standardised, in the user's own.
    """

    test_error: float
    bias: float
    variance: float
    accuracy: float | None
    train_error: float


NO_ERRORS = Errors(math.nan, math.nan, math.nan, None, math.nan)  # of what did not converge
ERRORS = ("test_error", "bias", "variance", "train_error")
DEVIATIONS = 1.645  # standard deviations from the middle of a Gaussian to either end of its 90 % interval
_SQUARED = (*ERRORS, "sampled_test_error")
_Errors = TypeVar("_Errors", bound=Any)


def in_own_units(errors: _Errors, encoding: TargetEncoding) -> _Errors:
    """A data class of errors, with the squared ones and their standard errors in the user's own units."""
    squared = {f.name: getattr(errors, f.name) for f in fields(errors) if f.name.removesuffix("_se") in _SQUARED}
    scaled = {name: value * encoding.unit**2 for name, value in squared.items() if value is not None}
    in_units: _Errors = replace(errors, **scaled)
    return in_units


@dataclass(frozen=True)
class Prediction(Displayed):
    """Predictive distribution of the network's outputs f at test points.

    mean, variance: (points,) or (points, outputs), the variance without the noise T. train_error: see ``Errors``.
    covariance: between the outputs of one point, (points, outputs, outputs); None where the outputs are independent.
    encoding: of the targets trained on, in whose terms (and, where they were standardised, units) all this is.
    """

    mean: Array
    variance: Array
    train_error: float
    covariance: Array | None = None
    encoding: TargetEncoding = field(default=NUMBERS, kw_only=True, repr=False)

    def trained_on(self, train: Dataset) -> Self:
        """The same, of a network that learned the targets of ``train``."""
        return replace(self, encoding=train.encoding)

    @property
    def std(self) -> Array:
        """Predictive standard deviation of f."""
        return np.sqrt(self.variance)

    def errors(self, y: Any) -> Errors:
        """Errors against targets ``y`` of the mean's shape, averaged over points, outputs (docs/theory.md section 4).

        ``y``: targets made as those of the training set were, an array or the test ``Dataset``. Squared errors are in
        the user's own units (see ``fw.data.standardise_target``).
        Raises InputError for another shape, and for labels that are not encoded as in training.
        """
        y = self.encoding.targets(y, self.mean.shape)
        bias = float(np.mean((y - self.mean) ** 2))
        variance = float(np.mean(self.variance))
        errors = Errors(bias + variance, bias, variance, self.accuracy(y), self.train_error)
        return in_own_units(errors, self.encoding)

    def accuracy(self, y: Array) -> float | None:
        """Expected accuracy under the predictive Gaussian.

        Mean of Phi(y mean / sd) for labels -1, +1; for centred one-hot targets, of the probability that the true
        class has the largest output. None for other targets.
        """
        if y.ndim == 1 and np.isin(y, (-1.0, 1.0)).all():
            return float(np.mean(sign_probability(y * self.mean, self.variance)))
        if y.ndim == 2 and _is_one_hot(y):
            return float(np.mean(class_probabilities(self)[np.arange(len(y)), y.argmax(1)]))
        return None


def sign_probability(mean: Array, variance: Array) -> Array:
    """P(f > 0) for Gaussian f; one half where the mean and the variance are both zero."""
    sd = np.sqrt(variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(sd > 0.0, mean / sd, np.sign(mean) * np.inf)
    return special.ndtr(np.where(mean == 0.0, 0.0, ratio))


def _is_one_hot(y: Array) -> bool:
    """Centred one-hot rows of at least two classes: e_c - 1/D."""
    if y.shape[1] < 2:
        return False
    return bool(np.allclose(y + 1.0 / y.shape[1], np.eye(y.shape[1])[y.argmax(1)], rtol=0.0, atol=1e-6))


_QUASI_DRAWS = 512  # of the orthant integrals below: their error is about 1e-4


def class_probabilities(prediction: Prediction) -> Array:
    """P(output c is the largest) under the joint Gaussian of the outputs of each point, (points, D); rows sum to one.

    Two labels -1, +1 (one output): (points, 2). For D outputs the D - 1 differences from output c are Gaussian: two of
    them have their orthant probability in closed form, more are integrated one direction after another on quasi-random
    points (Genz 1992), with an error of about 1e-4.
    """
    mean = prediction.mean
    if mean.ndim == 1:
        positive = sign_probability(mean, prediction.variance)
        return np.stack([1.0 - positive, positive], axis=1)
    points, outputs = mean.shape
    covariance = prediction.covariance
    if covariance is None:
        covariance = prediction.variance[:, :, None] * np.eye(outputs)
    out = np.empty((points, outputs))
    for c in range(outputs):
        contrast = -np.delete(np.eye(outputs), c, axis=0)
        contrast[:, c] = 1.0  # f_c - f_j
        spread = contrast @ covariance @ contrast.T
        orthant = _quadrant_probability if outputs == 3 else _orthant_probability
        out[:, c] = orthant(mean @ contrast.T, spread)
    return out / out.sum(1, keepdims=True)


def _quadrant_probability(mean: Array, covariance: Array) -> Array:
    """P(both components > 0) of Gaussians by Owen's T (Owen 1956): mean (points, 2), covariance (points, 2, 2)."""
    sd = np.sqrt(np.maximum(np.einsum("pkk->pk", covariance), 1e-300))
    h, k = np.where(mean == 0.0, 1e-300, mean / sd).T
    rho = np.clip(covariance[:, 0, 1] / (sd[:, 0] * sd[:, 1]), -1.0, 1.0)
    root = np.sqrt(np.maximum(1.0 - rho**2, 1e-24))
    with np.errstate(over="ignore"):
        parts = special.owens_t(h, (k - rho * h) / (h * root)) + special.owens_t(k, (h - rho * k) / (k * root))
    opposite = np.where((h > 0.0) == (k > 0.0), 0.0, 0.5)
    return np.clip(0.5 * (special.ndtr(h) + special.ndtr(k)) - parts - opposite, 0.0, 1.0)


def _orthant_probability(mean: Array, covariance: Array) -> Array:
    """P(all components > 0) of Gaussians: mean (points, k), covariance (points, k, k), possibly singular."""
    points, dim = mean.shape
    trace = np.einsum("pkk->p", covariance)
    floor = np.maximum(1e-12 * trace, 1e-300)
    root = np.linalg.cholesky(covariance + floor[:, None, None] * np.eye(dim))
    from scipy.stats import qmc  # slow to import, and seldom needed

    draws = qmc.Sobol(dim, seed=np.random.default_rng(0)).random(_QUASI_DRAWS)
    total = np.ones((points, _QUASI_DRAWS))
    z = np.zeros((points, _QUASI_DRAWS, dim))
    for k in range(dim):
        bound = -(mean[:, k, None] + np.einsum("psj,pj->ps", z[:, :, :k], root[:, k, :k])) / root[:, k, k, None]
        inside = special.ndtr(-bound)  # P(z_k > bound)
        total *= inside
        z[:, :, k] = -special.ndtri(np.clip(draws[:, k] * inside, 1e-300, 1.0))
    return total.mean(1)
