"""What is expanded: errors and log evidence of a Gaussian process as functions of its kernel, with two derivatives.

Along a change K + t K' of the kernel (docs/first_order.md), with a = A^-1 y, A = K_XX + T, and for every point of
evaluation the vector w with ``mean' = w^T K' a``, ``variance' = w^T K' w`` (w = e_* - A^-1 k_X* at a test point,
T A^-1 e at a training point), one factorisation serves all of it:

    mean''     = -2 w^T K' A^-1 K' a,      variance'' = -2 w^T K' A^-1 K' w,
    ell'  = (a^T K' a - D tr A^-1 K') / 2,     ell'' = D tr(A^-1 K' A^-1 K') / 2 - a^T K' A^-1 K' a.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy import special

from finitewidth import kernels
from finitewidth.checks.exceptions import InputError
from finitewidth.data import Dataset
from finitewidth.inference.prediction import Prediction, sign_probability
from finitewidth.linalg import RegularisedGram, left_over
from finitewidth.networks import Network

Array = np.ndarray
_NODES = 40  # of Gauss-Hermite quadrature over the output of the right class
_STEP = 1e-3  # of second differences, in predictive standard deviations


@dataclass(frozen=True)
class InfiniteWidth:
    """The Gaussian process of a network of infinite width on its training and test points, training points first.

    x: all points (n, ...). kernel: K between all points and the training points, (n, P). own: K of every point with
    itself, (n,). y, y_test: targets (P, D), (P*, D), encoded as in training. gram: A = K_XX + T. a: A^-1 y, (P, D).
    cross: A^-1 k_X*, (P, P*). residual: y - mean at the test points, (P*, D). variance: there, (P*,). test_vectors: w
    of every test point, (n, P*).
    """

    network: Network
    temperature: float
    train: Dataset
    test: Dataset
    x: Array
    kernel: Array
    own: Array
    y: Array
    y_test: Array
    gram: RegularisedGram
    a: Array
    cross: Array
    residual: Array
    variance: Array
    test_vectors: Array

    @classmethod
    def of(cls, network: Network, temperature: float, train: Dataset, test: Dataset) -> InfiniteWidth:
        """Raises InputError where double precision cannot hold it: T too small for a singular kernel, for example."""
        x = np.concatenate([train.x, test.x.reshape(-1, *train.x.shape[1:])])
        P, count = train.n_points, test.n_points
        kernel, own = kernels.nngp(network, x, train.x), kernels.nngp_diagonal(network, x)
        kernel[:P] = kernels.nngp(network, train.x)
        y = train.y.reshape(P, -1)
        y_test = train.encoding.targets(test, (count, *train.y.shape[1:])).reshape(count, -1)
        gram = RegularisedGram(kernel[:P], temperature)
        a, cross = gram.solve(y), gram.solve_range(np.ascontiguousarray(kernel[P:].T))
        residual, variance = y_test - kernel[P:] @ a, left_over(own[P:], np.vecdot(kernel[P:], cross.T))
        if not all(bool(np.isfinite(part).all()) for part in (a, residual, variance, np.vdot(y, a) + gram.log_det)):
            raise InputError(
                f"a kernel whose prediction at infinite width is not finite at temperature {temperature:g}",
                "inputs, targets and a temperature whose squares and ratios double precision holds",
                "rescale inputs and targets (standardise them), or raise the temperature",
            )
        vectors = np.concatenate([-cross, np.eye(count)])
        return cls(
            *(network, temperature, train, test, x, kernel, own, y, y_test),
            *(gram, a, cross, residual, variance, vectors),
        )

    @property
    def n_train(self) -> int:
        return self.train.n_points

    @property
    def n_outputs(self) -> int:
        return self.train.n_outputs

    @cached_property
    def train_vectors(self) -> Array:
        """w of every training point, (P, P): zero at the test points."""
        return self.temperature * self.gram.inverse()

    @cached_property
    def half(self) -> Array:
        """H with H H^T = A^-1, but for directions in which K is zero, (P, rank)."""
        return self.gram.whiten(np.eye(self.n_train)).T

    @cached_property
    def log_evidence(self) -> float:
        quadratic = float(np.vdot(self.y, self.a))
        constant = self.n_train * math.log(2.0 * math.pi)
        return -0.5 * (quadratic + self.n_outputs * (self.gram.log_det + constant))

    @cached_property
    def prediction(self) -> Prediction:
        """At the test points, with the train error."""
        residual = self.temperature * self.a
        spread = self.temperature * (1.0 - self.temperature * self.gram.inverse_trace / self.n_train)
        mean = (self.y_test - self.residual).reshape(self.test.n_points, *self.train.y.shape[1:])
        variance = np.broadcast_to(self.variance[:, None], self.y_test.shape).reshape(mean.shape)
        found = Prediction(mean, np.array(variance), float(np.mean(residual**2)) + max(spread, 0.0))
        return found.trained_on(self.train)


class Form(NamedTuple):
    """Columns L_k, R_k with weights w_k; left, right: (n, k), or (P, k) of the training points alone.

    Of a first derivative it is ``sum_k w_k L_k^T K' R_k``, of half a second one
    ``- sum_k w_k (K' L_k)_X . A^-1 (K' R_k)_X``.
    """

    left: Array
    right: Array
    weight: Array


def dense(forms: Sequence[Form], train: int, points: int) -> tuple[Array, Array]:
    """G (n, P), or (P, P) of the training points alone, and g (n,): first derivatives are ``<G, K'> + g . diag K'``.

    No two test points stand in one column of a form.
    """
    gradient = np.zeros((max(len(form.left) for form in forms), train))
    own = np.zeros(points)
    for form in forms:
        left, right = form.left * form.weight, form.right
        gradient[: len(left)] += left @ right[:train].T
        if len(right) > train:
            gradient[train:] += right[train:] @ left[:train].T
            own[train:] += np.vecdot(left[train:], right[train:])
    return gradient, own


@dataclass(frozen=True)
class Functional:
    """F(K) with its derivatives at the kernel of infinite width.

    value: F(K). first: F' along K'. The rest is F''/2: forms; test_mean, train_mean: what multiplies the sum of mean'^2
    over test or training points and outputs; second: (P*, D + 1, D + 1), the quadratic form of (mean', variance') at
    every test point.
    """

    name: str
    value: float
    first: tuple[Form, ...]
    forms: tuple[Form, ...]
    test_mean: float = 0.0
    train_mean: float = 0.0
    second: Array | None = None


def functionals(state: InfiniteWidth) -> list[Functional]:
    """Bias, variance and train error's two parts, log evidence, and accuracy where targets are labels."""
    found = [_bias(state), _variance(state), *_train(state), evidence_of(state)]
    accuracy = _accuracy(state)
    return found if accuracy is None else [*found, accuracy]


def _of_means(state: InfiniteWidth, vectors: Array, by_mean: Array) -> Form:
    """Of F as a function of the means of points with vectors (n or P, q), with derivatives by_mean (q, D)."""
    return Form(vectors @ by_mean, state.a, np.ones(state.n_outputs))


def _bias(state: InfiniteWidth) -> Functional:
    r = state.residual
    form = _of_means(state, state.test_vectors, -2.0 * r / r.size)
    return Functional("bias", float(np.mean(r**2)), (form,), (form,))


def _variance(state: InfiniteWidth) -> Functional:
    vectors, count = state.test_vectors, state.test.n_points
    form = Form(vectors, vectors, np.full(count, 1.0 / count))
    spread = 1.0 / state.residual.size  # of the mean, as the kernel fluctuates: variance, not bias
    return Functional("variance", float(np.mean(state.variance)), (form,), (form,), test_mean=spread)


def _train(state: InfiniteWidth) -> list[Functional]:
    vectors, residual, count = state.train_vectors, state.temperature * state.a, state.n_train
    by_mean = _of_means(state, vectors, -2.0 * residual / residual.size)
    by_variance = Form(vectors, vectors, np.full(count, 1.0 / count))
    value = state.prediction.train_error
    bias = float(np.mean(residual**2))
    return [
        Functional("train_bias", bias, (by_mean,), (by_mean,), train_mean=1.0 / residual.size),
        Functional("train_variance", value - bias, (by_variance,), (by_variance,)),
    ]


def evidence_of(state: InfiniteWidth) -> Functional:
    """The log evidence, which takes no test points."""
    D, half = state.n_outputs, state.half
    quadratic, trace = Form(state.a, state.a, np.full(D, 0.5)), np.full(half.shape[1], -0.5 * D)
    first, second = ((quadratic, Form(half, half, weight)) for weight in (trace, 0.5 * trace))
    return Functional("log_evidence", state.log_evidence, first, second)


# --- accuracy --------------------------------------------------------------------------------------------------------


def _accuracy(state: InfiniteWidth) -> Functional | None:
    value = state.prediction.accuracy(state.y_test.reshape(state.test.n_points, *state.train.y.shape[1:]))
    if value is None or not (state.variance > 0.0).all():
        return None
    mean = state.y_test - state.residual
    by_mean, by_variance, second = _right_derivatives(mean, state.variance, state.y_test)
    count, vectors = len(mean), state.test_vectors
    forms = (_of_means(state, vectors, by_mean / count), Form(vectors, vectors, by_variance / count))
    return Functional("accuracy", value, forms, forms, second=0.5 * second / count)


def _right_derivatives(mean: Array, variance: Array, y: Array) -> tuple[Array, Array, Array]:
    """Derivatives of the probability to be right of every point: in the means (q, D), in the variance (q,), second."""
    sd = np.sqrt(variance)
    D = mean.shape[1]
    unit = np.concatenate([np.repeat(sd[:, None], D, axis=1), variance[:, None]], axis=1)  # of a step

    def right(step: Array) -> Array:
        moved = step * unit
        return _right(mean + moved[:, :D], variance + moved[:, D], y)

    steps = _STEP * np.eye(D + 1)
    first = np.stack([(right(e) - right(-e)) / (2.0 * _STEP) for e in steps], axis=1) / unit
    second = np.empty((len(mean), D + 1, D + 1))
    for i, e in enumerate(steps):
        for j, f in enumerate(steps[: i + 1]):
            mixed = right(e + f) - right(e - f) - right(f - e) + right(-e - f)
            second[:, i, j] = second[:, j, i] = mixed / (4.0 * _STEP**2)
    return first[:, :D], first[:, D], second / unit[:, :, None] / unit[:, None, :]


def _right(mean: Array, variance: Array, y: Array) -> Array:
    """Probability that the sign is right (D = 1), or that the right one of D independent outputs is the largest."""
    if mean.shape[1] == 1:
        return sign_probability(y[:, 0] * mean[:, 0], variance)
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    right = y.argmax(1)
    rows = np.arange(len(mean))
    gap = (mean[rows, right, None] - mean) / np.sqrt(variance)[:, None]
    below = special.ndtr(gap[:, :, None] + nodes)
    below[rows, right] = 1.0
    return below.prod(1) @ weights / math.sqrt(2.0 * math.pi)
