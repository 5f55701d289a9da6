"""Transfer between two tasks whose first layers are coupled, one hidden layer (docs/theory.md, Transfer).

Given the readouts the outputs of both networks are one Gaussian process, whose covariance holds the overlaps of the
readouts: source with source, source with target, and target with target. Learned together, they are a matrix Q of 2 x 2
with a Wishart prior. Source first, the source does not see the target: the average of the target's log evidence over
the source's posterior is taken with n -> 0 replicas of the target, and leaves three numbers q, p and r.
Source: Ingrosso, Pacelli, Rotondo and Gerace 2025; both held to samples in the tests.

A feature's prior mean m (relu) belongs to each network alone: between different networks the kernel is kappa - m m^T.
Without that, two tasks would be correlated at coupling 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize

from finitewidth import checks
from finitewidth.data import Dataset
from finitewidth.data.dataset import points_like
from finitewidth.display import Displayed
from finitewidth.inference.likelihoods import GaussianPosterior
from finitewidth.inference.prediction import Prediction
from finitewidth.linalg import RegularisedGram
from finitewidth.networks.coupled import Coupled, Joint, SourceFirst
from finitewidth.theory.action import action
from finitewidth.theory.saddle import (
    GRADIENT_TOLERANCE,
    LogCholesky,
    Minimum,
    matrix_minima,
    matrix_rate,
    single_scale_minima,
)
from finitewidth.theory.solution import check_convergence

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Array = np.ndarray


@dataclass(frozen=True)
class TransferSolution(Displayed):
    """Order parameters of two coupled networks on their training sets, and the target's predictions.

    order_parameters: by name, overlaps ``lambda_1 v.v' / N`` of readouts: "source", "cross" and "target"; source first
        also "replica", that of two targets which follow the same source.
    action: F in nats; source first, that of the target alone, averaged over the source's posterior.
    converged, message: whether the stated tolerance was reached, and what to know.
    """

    coupled: Coupled
    source: Dataset
    target: Dataset
    temperature: float
    order_parameters: dict[str, float]
    action: float
    converged: bool
    message: str
    predictor: Callable[[Array], Prediction] = field(repr=False)

    def predict(self, x: ArrayLike | Dataset) -> Prediction:
        """Mean and variance of the target network's output at points ``x``; the train error is that of the target.

        Raises InputError for points of other inputs.
        """
        x = points_like(x, self.target)
        return self.predictor(x.reshape(len(x), -1)).trained_on(self.target)


def transfer(coupled: Coupled, source: Dataset, target: Dataset, temperature: float) -> TransferSolution:
    """Solve for two coupled networks, ``Joint`` or ``SourceFirst``, both tasks at ``temperature``.

    Raises InputError for several outputs, points of different sizes, and a temperature that is not positive.
    """
    temperature = checks.positive("temperature", temperature)
    coupled.check(source, target)
    solve = _joint if isinstance(coupled, Joint) else _source_first
    return solve(coupled, source, target, temperature)


# --- kernels ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Side:
    """Points as one network sees them: x (P, N0), and the prior variance of a weight there."""

    coupled: Coupled
    x: Array
    weight_variance: float

    @property
    def variance(self) -> Array:
        """Of the preactivations, (P,)."""
        return self.weight_variance * np.vecdot(self.x, self.x) / self.x.shape[1]

    @property
    def scale(self) -> float:
        return 1.0 / self.coupled.network.readout_precision

    def own(self, other: _Side | None = None) -> Array:
        """Kernel between points of one network."""
        other = other or self
        return self._kernel(other, self.weight_variance)

    def across(self, other: _Side, weight_covariance: float) -> Array:
        """Kernel between different networks whose weights have that covariance: without the features' means."""
        mean = self.coupled.network.phi.mean
        return self._kernel(other, weight_covariance) - self.scale * np.outer(mean(self.variance), mean(other.variance))

    @property
    def prior(self) -> Array:
        """Kernel of each point with itself, (P,)."""
        phi = self.coupled.network.phi
        return self.scale * phi.kappa(self.variance, self.variance, self.variance)

    def _kernel(self, other: _Side, weight_covariance: float) -> Array:
        c = weight_covariance * (self.x @ other.x.T) / self.x.shape[1]
        return self.scale * self.coupled.network.phi.kappa(self.variance[:, None], c, other.variance)


def _sides(coupled: Coupled, source: Dataset, target: Dataset) -> tuple[_Side, _Side]:
    own = coupled.covariance
    return _Side(coupled, source.flat, own[0, 0]), _Side(coupled, target.flat, own[1, 1])


# --- both tasks together ----------------------------------------------------------------------------------------------


def _joint(coupled: Coupled, source: Dataset, target: Dataset, temperature: float) -> TransferSolution:
    s, t = _sides(coupled, source, target)
    problem = _JointProblem(coupled, s, t, np.concatenate([source.y, target.y]), temperature)
    minima = problem.minima()
    q = minima[0].order_parameters
    converged, message = check_convergence(minima, len(problem.y))
    named = {"source": float(q[0, 0]), "cross": float(q[0, 1]), "target": float(q[1, 1])}
    return TransferSolution(
        coupled, source, target, temperature, named, minima[0].action, converged, message, partial(problem.predict, q)
    )


class _JointProblem:
    """The action of both networks, K_R in blocks ``Q_ab K_ab``."""

    def __init__(self, coupled: Coupled, source: _Side, target: _Side, y: Array, temperature: float) -> None:
        self.coupled, self.source, self.target = coupled, source, target
        self.y, self.temperature, self.first = y, temperature, len(source.x)
        cross = source.across(target, coupled.covariance[0, 1])
        self.kernel = np.block([[source.own(), cross], [cross.T, target.own()]])

    def gram(self, q: Array) -> RegularisedGram:
        return RegularisedGram(np.repeat(np.repeat(q, self.counts, 0), self.counts, 1) * self.kernel, self.temperature)

    @property
    def counts(self) -> tuple[int, int]:
        """Training points of source and target."""
        return self.first, len(self.y) - self.first

    def minima(self) -> list[Minimum]:
        """Every minimum found, from starts without correlation of the readouts and with either sign of it."""
        width, first = self.coupled.width, self.first
        alone = [
            single_scale_minima(self.kernel[part, part], self.y[part], self.temperature, width)
            for part in (slice(first), slice(first, None))
        ]
        pairs = [(a.order_parameters[0], b.order_parameters[0]) for a in alone[0] for b in alone[1]] or [(1.0, 1.0)]
        coordinates = LogCholesky(np.diag(pairs[0]), math.sqrt(2.0 * width))
        starts = [np.diag(pair) for pair in pairs]
        root = math.sqrt(pairs[0][0] * pairs[0][1])
        starts += [starts[0] + sign * root * (np.ones((2, 2)) - np.eye(2)) for sign in (0.5, -0.5)]
        return matrix_minima(self.action, coordinates, starts, len(self.y))

    def action(self, q: Array) -> tuple[float, Array]:
        """F and dF/dQ, (2, 2)."""
        rate, slope = matrix_rate(self.coupled.width, q)
        if not math.isfinite(rate):
            return math.inf, slope
        posterior = GaussianPosterior(self.gram(q), self.y)
        weighted = posterior.cotangent() * self.kernel
        edges = (0, self.first)
        by_q = np.add.reduceat(np.add.reduceat(weighted, edges, axis=0), edges, axis=1)
        return float(action(rate, posterior.energy)), 0.5 * slope + by_q

    def predict(self, q: Array, x: Array) -> Prediction:
        """Of the target at points x (P*, N0)."""
        at, own = _Side(self.coupled, x, self.target.weight_variance), slice(self.first, None)
        across = at.across(self.source, self.coupled.covariance[0, 1])
        cross = np.concatenate([q[1, 0] * across, q[1, 1] * at.own(self.target)], axis=1)
        gram, t = self.gram(q), self.temperature
        mean, variance = GaussianPosterior(gram, self.y).predict(cross, q[1, 1] * at.prior)
        # the target's part of (1/P) [T^2 |A^-1 y|^2 + T Tr(1 - T A^-1)]
        a, left = gram.solve(self.y)[own], np.diagonal(gram.inverse())[own]
        return Prediction(mean, variance, float(np.mean(t**2 * a**2 + t - t**2 * left)))


# --- source first, target later ---------------------------------------------------------------------------------------

_SHRINK = 0.7  # from one width to the next, on the way down from infinite width
_WIDEST = 1e4  # in units of points: there q = 1, p = r = 0 is as good as exact
_RETRIES = 4


def _source_first(coupled: Coupled, source: Dataset, target: Dataset, temperature: float) -> TransferSolution:
    assert isinstance(coupled, SourceFirst)
    s, t = _sides(coupled, source, target)
    own = s.own()
    alone = single_scale_minima(own, source.y, temperature, coupled.width)
    q_source = float(alone[0].order_parameters[0]) if alone else 1.0
    problem = _SourceFirstProblem(
        coupled, s, t, source.y, target.y, temperature, RegularisedGram(q_source * own, temperature)
    )
    root, left = problem.stationary(q_source)
    converged = bool(alone) and left <= GRADIENT_TOLERANCE * len(target.y)
    message = "" if converged else f"gradient {left:.1e} nats is left; rescale the data or raise the temperature"
    if len(alone) > 1:
        message = f"{len(alone)} minima of the source task, the best was taken; {message}".rstrip("; ")
    q, p, r = map(float, root)
    named = {"source": q_source, "cross": r, "target": q, "replica": p}
    return TransferSolution(
        *(coupled, source, target, temperature, named, problem.action(root, q_source), converged, message),
        partial(problem.predict, root),
    )


class _SourceFirstProblem:
    """The target's action in (q, p, r), averaged over the source's posterior; THEORY: D, E and z below."""

    def __init__(
        self,
        coupled: SourceFirst,
        source: _Side,
        target: _Side,
        y_source: Array,
        y: Array,
        temperature: float,
        gram: RegularisedGram,
    ) -> None:
        self.coupled, self.source, self.target, self.gram = coupled, source, target, gram
        self.y, self.temperature = y, temperature
        self.own = target.own()
        self.replica = target.across(target, coupled.between_replicas)
        self.cross = target.across(source, coupled.covariance[0, 1])
        self.solved = gram.solve_range(y_source)
        half = gram.whiten(self.cross.T)
        self.seen = half.T @ half  # k_ts A_s^-1 k_st
        self.from_source = self.cross @ self.solved  # k_ts A_s^-1 y_s

    def parts(self, root: Array) -> tuple[RegularisedGram, Array, Array]:
        """D (with the temperature on its diagonal), E and z."""
        q, p, r = root
        gram = RegularisedGram(q * self.own - p * self.replica, self.temperature)
        return gram, p * self.replica - r**2 * self.seen, self.y - r * self.from_source

    def action(self, root: Array, q_source: float) -> float:
        q, p, r = root
        gram, between, z = self.parts(root)
        rate = self.coupled.width * (q - math.log(q - p) - (p - r**2 / q_source) / (q - p) - 1.0)
        energy = gram.log_det + float(np.trace(gram.solve_range(between))) + float(z @ gram.solve(z))
        return 0.5 * (rate + energy + len(z) * math.log(2.0 * math.pi))

    def slope(self, root: Array, q_source: float, width: float) -> Array:
        q, p, r = root
        gram, between, z = self.parts(root)
        inverse, a = gram.inverse_range(), gram.solve_range(z)
        weighted = inverse @ between @ inverse + np.outer(a, a)
        free, held = q - p, p - r**2 / q_source
        by_q = width * (1.0 - 1.0 / free + held / free**2) + np.vdot(inverse - weighted, self.own)
        by_p = -width * held / free**2 + np.vdot(weighted, self.replica)
        by_r = 2.0 * (width * r / (q_source * free) - r * np.vdot(inverse, self.seen) - self.from_source @ a)
        return 0.5 * np.array([by_q, by_p, by_r])

    def stationary(self, q_source: float) -> tuple[Array, float]:
        """(q, p, r) on the branch that begins at infinite width, and the gradient left, nats a prior deviation.

        F is no minimum in p and r, where n -> 0 turns signs; the branch is followed down in width instead.
        """
        width = float(self.coupled.width)
        at = widest = max(width, _WIDEST * len(self.y))
        root, shrink, tries = np.array([1.0, 0.0, 0.0]), _SHRINK, 0
        while True:
            moved, left = self._root(root, q_source, at)
            if left <= GRADIENT_TOLERANCE * len(self.y):
                if at == width:
                    return moved, left
                root, widest = moved, at
            elif tries == _RETRIES:  # the branch ends, or turns, before this width
                return root, self._left(root, q_source, width)
            else:
                shrink, tries = math.sqrt(shrink), tries + 1
            at = max(width, shrink * widest)

    def _root(self, start: Array, q_source: float, width: float) -> tuple[Array, float]:
        """Newton's method (MINPACK) from a start, in log(q - p) and deviations of the prior."""

        def unfold(v: Array) -> Array:
            free = math.exp(min(v[0], 50.0))
            return np.array([free + v[1], v[1], v[2]])

        def slope(v: Array) -> Array:
            by_q, by_p, by_r = self.slope(unfold(v), q_source, width)
            return np.array([by_q * math.exp(min(v[0], 50.0)), by_q + by_p, by_r]) / width

        first = np.array([math.log(start[0] - start[1]), start[1], start[2]])
        found = optimize.root(slope, first, method="hybr", options={"xtol": 1e-12})
        root = unfold(found.x)
        return root, self._left(root, q_source, width)

    def _left(self, root: Array, q_source: float, width: float) -> float:
        if not np.isfinite(root).all() or root[0] <= root[1]:
            return math.inf
        return float(np.abs(self.slope(root, q_source, width)).max()) * math.sqrt(2.0 / width)

    def predict(self, root: Array, x: Array) -> Prediction:
        """Of one target at points x (P*, N0), averaged over its own posterior and over the sources that it follows."""
        coupled, (q, overlap, r) = self.coupled, root
        at = _Side(coupled, x, self.target.weight_variance)
        gram, between, z = self.parts(root)
        replica = overlap * at.across(self.target, coupled.between_replicas)
        cross = r * at.across(self.source, coupled.covariance[0, 1])
        half = self.gram.whiten(cross.T)
        own = q * at.own(self.target) - replica
        shared = replica - half.T @ (r * self.gram.whiten(self.cross.T))
        mean = cross @ self.solved + own @ gram.solve_range(z)
        through = gram.solve_range(own.T).T
        variance = q * at.prior - np.einsum("kp,kp->p", half, half)
        variance -= np.einsum("pi,pi->p", through, own + 2.0 * shared - through @ between)
        t, solved = self.temperature, gram.inverse_range()
        residual, left = t * gram.solve(z), np.diagonal(gram.inverse()) - np.diagonal(solved @ between @ solved)
        train = np.mean(residual**2) + t - t**2 * np.mean(left)
        return Prediction(mean, np.maximum(variance, 0.0), float(train))
