"""Local kernel renormalisation: one hidden layer on patches, one number for each pair of patches.

``K_R(Q) = (1/(lambda_1 n)) sum_ij Q_ij K_ij``. In convolutional networks all patches share their neurons and Q is a
full n x n matrix (n D x n D with D outputs): there their features show. Without weight sharing the neurons of different
patches are independent and Q is one number a patch (one D x D matrix a patch). Source: Aiudi et al. 2025.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from finitewidth.data import Dataset
from finitewidth.inference.likelihoods import Gaussian, GaussianPosterior
from finitewidth.inference.prediction import Prediction
from finitewidth.kernels.local import LocalGram, local_cross, local_diagonal, local_kernels
from finitewidth.linalg import require_memory, x_minus_log1p
from finitewidth.networks import LocalNetwork, Network
from finitewidth.theory.action import action
from finitewidth.theory.saddle import (
    LogCholesky,
    Minimum,
    matrix_minima,
    matrix_rate,
    single_scale_minima,
    squarable,
)
from finitewidth.theory.solution import EvidenceGradient, Theory, TheorySolution, at_saddle, gradient_of
from finitewidth.theory.spectrum import unit_network

Array = np.ndarray


@dataclass(frozen=True)
class LocalRenormalisation(Theory["PatchGram"]):
    """Networks on patches with a readout over all of them.

    Inside, Q is an array of independent blocks (B, d, d): one block of n D for convolutional networks, n blocks of D
    for locally connected ones. A locally connected activation with a mean has Q_ij = O(1/N) between patches: the n
    blocks on second moments are enough.
    """

    network: LocalNetwork
    temperature: float
    method = "saddle"
    work = "an order parameter for pairs of patches"
    remedy = f"{Theory.remedy}, larger patches or strides, or average pooling"
    evaluations = 60

    @property
    def shared_weights(self) -> bool:
        """Whether Q couples patches."""
        return self.network.shares_weights

    def rate(self, order_parameters: Array) -> float:
        """``N (tr Q - log det Q - dim)``; Q is (n, n), or (n,) without weight sharing (one output)."""
        return rate_on_patches(self.network, order_parameters)

    def covariance(self, order_parameters: Array, x1: Array, x2: Array | None = None) -> Array:
        """K_R of one output, (points1, points2)."""
        q = np.asarray(order_parameters, dtype=float)
        q = q.reshape(math.isqrt(q.size), -1) if self.shared_weights else q
        return local_cross(self.network, x1, x1 if x2 is None else x2, q)

    def factorise(self, train: Dataset, memory: float | None = None) -> PatchGram:
        """The local kernels of all pairs of patches: the work that all widths and temperatures share.

        Raises MemoryCapError if they do not fit even when streamed.
        """
        unit: LocalNetwork = unit_network(self.network)
        return SymmetricPairs(unit, train, memory) if train.n_outputs == 1 else FullPairs(unit, train, memory)

    def solve(self, train: Dataset, shared: PatchGram | None = None, memory: float | None = None) -> TheorySolution:
        """Minimise the action over positive definite Q from several starts."""
        problem = LocalProblem(self, train, shared or self.factorise(train, memory))
        minima = problem.minima()
        blocks = minima[0].order_parameters if minima else problem.identity
        shown = [replace(minimum, order_parameters=problem.flat(minimum.order_parameters)) for minimum in minima]
        gradient = partial(problem.evidence_gradient, blocks)
        return at_saddle(self, train, shown, problem.flat(blocks), LocalPredictor(problem, blocks), gradient)

    @property
    def sharing(self) -> Hashable:
        """The local kernels serve every number of channels, temperature and readout precision."""
        return "patches", unit_network(self.network).with_width(1)


def rate_on_patches(network: Network, order_parameters: Array) -> float:
    """``N (tr Q - log det Q - dim)``, N the neurons that share Q; without weight sharing the sum over patches."""
    q, width = np.asarray(order_parameters, dtype=float), network.widths[0]
    if network.shares_weights:
        return matrix_rate(width, q.reshape(math.isqrt(q.size), -1))[0]
    return float(width * x_minus_log1p(q - 1.0).sum())


# --- kernels of the patches, contracted with Q -----------------------------------------------------------------------


class SymmetricPairs:
    """All local kernels of a training set at unit readout precision, packed, or streamed where they do not fit.

    ``contract(Q)`` is K_R of all training values, (P D, P D), outputs running fastest; ``project(W)`` its adjoint.
    """

    def __init__(self, unit: LocalNetwork, train: Dataset, memory: float | None) -> None:
        self.shared_weights = unit.shares_weights
        self.gram = LocalGram.of(unit, train.x, cap=memory)

    @property
    def n_patches(self) -> int:
        return self.gram.points.grid.n_patches

    def contract(self, blocks: Array) -> Array:
        return self.gram.contract(blocks[0] if self.shared_weights else blocks[:, 0, 0])

    def project(self, cotangent: Array) -> Array:
        projected = self.gram.project(cotangent)
        return projected[None] if self.shared_weights else projected[:, None, None]


class FullPairs:
    """The same in full: between different outputs Q_(id),(je) need not be symmetric in i and j."""

    def __init__(self, unit: LocalNetwork, train: Dataset, memory: float | None) -> None:
        self.shared_weights, self.outputs = unit.shares_weights, train.n_outputs
        self.n_patches, self._count = unit.grid(train.x).n_patches, train.n_points
        require_memory(
            8.0 * (2 * self.n_patches**2 * self._count**2 + 6 * (self._count * self.outputs) ** 2),
            f"{self._count} points of {self.n_patches} patches with {self.outputs} outputs",
            "use fewer points, larger patches or strides, or average pooling",
            memory,
        )
        self._kernels = pair_kernels(unit, train.x, train.x)

    def contract(self, blocks: Array) -> Array:
        return mix_outputs(self._kernels, blocks, (self._count, self._count))

    def project(self, cotangent: Array) -> Array:
        n, dim, count = self.n_patches, self.outputs, self._count
        by_outputs = cotangent.reshape(count, dim, count, dim).transpose(1, 3, 0, 2).reshape(dim**2, -1)
        pairs = by_outputs @ self._kernels.T  # (D D, pairs)
        if self.shared_weights:
            full = pairs.reshape(dim, dim, n, n).transpose(2, 0, 3, 1).reshape(1, n * dim, n * dim)
        else:
            full = pairs.reshape(dim, dim, n).transpose(2, 0, 1)
        return 0.5 * (full + full.swapaxes(1, 2))


PatchGram = SymmetricPairs | FullPairs


def pair_kernels(network: LocalNetwork, x1: Array, x2: Array) -> Array:
    """``K_ij / (lambda_1 n)`` of all pairs, or of i = j without weight sharing: (pairs, points1 points2)."""
    K = local_kernels(network, x1, x2)
    n = len(K)
    K = K.reshape(n * n, -1) if network.shares_weights else K[np.arange(n), np.arange(n)].reshape(n, -1)
    return K / (network.readout_precision * n)


def mix_outputs(pairs: Array, blocks: Array, points: tuple[int, int]) -> Array:
    """``sum_ij Q_(id),(je) K_ij`` between two sets, (points1 D, points2 D), outputs running fastest."""
    if len(blocks) == 1:
        n = math.isqrt(len(pairs))
        dim = blocks.shape[1] // n
        q = blocks.reshape(n, dim, n, dim).transpose(1, 3, 0, 2)
    else:
        dim = blocks.shape[1]
        q = blocks.transpose(1, 2, 0)
    mixed = (q.reshape(dim * dim, -1) @ pairs).reshape(dim, dim, *points)
    return mixed.transpose(2, 0, 3, 1).reshape(points[0] * dim, points[1] * dim)


# --- the action and its minima ---------------------------------------------------------------------------------------


class LocalProblem:
    """The action of one network on one training set, as a function of coordinates of Q."""

    def __init__(self, theory: LocalRenormalisation, train: Dataset, gram: PatchGram) -> None:
        self.theory, self.train, self.gram = theory, train, gram
        self.y = train.y.reshape(-1)
        self.scale = 1.0 / theory.network.readout_precision
        self.channels = theory.network.channels
        n, dim = gram.n_patches, train.n_outputs
        self.shape = (1, n * dim, n * dim) if theory.shared_weights else (n, dim, dim)

    @property
    def identity(self) -> Array:
        """Q at infinite width."""
        return np.broadcast_to(np.eye(self.shape[1]), self.shape)

    def minima(self) -> list[Minimum]:
        scales = self._scales()
        coordinates = LogCholesky(scales[0] * np.eye(self.shape[1]), math.sqrt(2.0 * self.channels))
        starts = [scale * self.identity for scale in scales] + [self._aligned(scales[0])]
        return matrix_minima(self.action, coordinates, starts, self.y.size)

    def _scales(self) -> list[float]:
        """Every minimum among the multiples of the identity, the best first: one eigendecomposition, O(P) a step."""
        together = self.channels * self.shape[0] * self.shape[1]  # so many widths share one scalar
        minima = single_scale_minima(
            self.gram.contract(self.identity), self.y, self.theory.temperature, together, math.log(self.scale)
        )
        scales = [float(m.order_parameters[0]) for m in minima]
        return list(filter(squarable, scales)) or [1.0]

    def _aligned(self, scale: float) -> Array:
        """A start far from the identity: Q stretched to where the labels pull most, a direction or single patches."""
        a = self.posterior(scale * self.identity).gram.solve_range(self.y)
        pull = self.gram.project(np.outer(a, a))
        if not (np.isfinite(pull).all() and pull.max() > 0.0):  # squares of targets that overflow, or no pull
            return scale * np.array(self.identity)
        dim = self.shape[1]
        if dim == 1:
            share = np.maximum(pull, 0.0) / pull.max()
            return 0.5 * scale * (self.identity + len(pull) * share / share.sum())
        leading = np.linalg.eigh(pull)[1][:, :, -1]
        return 0.5 * scale * (self.identity + dim * leading[:, :, None] * leading[:, None, :])

    def posterior(self, blocks: Array) -> GaussianPosterior:
        """Of all training values under K_R(Q)."""
        return Gaussian(self.theory.temperature).posterior(self.scale * self.gram.contract(blocks), self.y)

    def action(self, blocks: Array) -> tuple[float, Array]:
        """F and dF/dQ, of the shape of Q."""
        rates = [matrix_rate(self.channels, q) for q in blocks]
        rate, slope = sum(rate for rate, _ in rates), np.stack([slope for _, slope in rates])
        if not math.isfinite(rate):
            return math.inf, slope
        posterior = self.posterior(blocks)
        by_q = self.scale * self.gram.project(posterior.cotangent())
        return float(action(rate, posterior.energy)), 0.5 * slope + by_q

    def evidence_gradient(self, blocks: Array) -> EvidenceGradient:
        """See ``TheorySolution.evidence_gradient``; lambda_0 by a central difference of the energy at fixed Q."""
        network, step = self.theory.network, 1e-4
        posterior = self.posterior(blocks)
        inner, readout = network.weight_precision
        energies = []
        for sign in (1.0, -1.0):
            moved = replace(self.theory, network=network.with_precision((inner * math.exp(sign * step), readout)))
            problem = LocalProblem(moved, self.train, moved.factorise(self.train))
            energies.append(problem.posterior(blocks).energy)
        by_readout = float(np.vdot(posterior.cotangent(), self.scale * self.gram.contract(blocks)))
        by_log_precision = np.array([-(energies[0] - energies[1]) / (2.0 * step), by_readout])
        return gradient_of(network, -posterior.by_temperature(), by_log_precision)

    def flat(self, blocks: Array) -> Array:
        """Q as the public face shows it: (n D, n D), (n, D, D), or (n,) for one output without weight sharing."""
        if self.theory.shared_weights:
            return blocks[0]
        return blocks[:, 0, 0] if self.shape[1] == 1 else blocks


# --- prediction ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LocalPredictor:
    """Gaussian conditioning under K_R(Q)."""

    problem: LocalProblem
    blocks: Array

    @cached_property
    def posterior(self) -> GaussianPosterior:
        """Of all training values: one factorisation, however often it is predicted with."""
        return self.problem.posterior(self.blocks)

    def predict(self, x: Array) -> Prediction:
        network, train = self.problem.theory.network, self.problem.train
        if train.n_outputs > 1:
            return self._predict_outputs(x)
        q = self.problem.flat(self.blocks)
        cross = local_cross(network, x, train.x, q)
        mean, variance = self.posterior.predict(cross, local_diagonal(network, x, q))
        return Prediction(mean, variance, self.posterior.train_error)

    def _predict_outputs(self, x: Array) -> Prediction:
        network, train = self.problem.theory.network, self.problem.train
        dim, means, covariances = train.n_outputs, [], []

        def mixed(x1: Array, x2: Array) -> Array:
            return mix_outputs(pair_kernels(network, x1, x2), self.blocks, (len(x1), len(x2)))

        for part in np.array_split(np.asarray(x), math.ceil(len(x) / 32)):
            own = mixed(part, part).reshape(len(part), dim, len(part), dim)
            prior = own[np.arange(len(part)), :, np.arange(len(part))]
            mean, covariance = self.posterior.predict_coupled(mixed(part, train.x), prior)
            means.append(mean)
            covariances.append(covariance)
        covariance = np.concatenate(covariances)
        variance = np.maximum(np.einsum("paa->pa", covariance), 0.0)
        return Prediction(np.concatenate(means), variance, self.posterior.train_error, covariance)
