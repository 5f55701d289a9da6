"""Theories whose order parameters only rescale a fixed kernel: ``K_R = s K``.

One hidden layer (s = Q), deep networks in the product closure (s = prod_l Q_l), average-pooled convolutions (s = Q),
and, without any order parameter, infinite width (s = 1). One eigendecomposition of K serves every width, temperature
and precision of the readout; where it does not fit, one Krylov space (``krylov.py``).

Several outputs have a D x D order parameter, ``K_R = Q (x) K``. In the eigenbasis of Q they are D independent Gaussian
processes with scales q_d, and in that of K every data mode stands alone: O(P D^2) a step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from finitewidth import kernels
from finitewidth.checks.exceptions import InputError
from finitewidth.data import Dataset
from finitewidth.inference.likelihoods import LOG_2PI
from finitewidth.inference.prediction import Prediction
from finitewidth.linalg import left_over, x_minus_log1p
from finitewidth.networks import Network
from finitewidth.theory.action import action
from finitewidth.theory.krylov import KrylovKernel, KrylovPredictor
from finitewidth.theory.saddle import LogCholesky, matrix_minima, scale_minima, shift_of_scale, squarable
from finitewidth.theory.solution import (
    CovariancePredictor,
    EvidenceGradient,
    Predictor,
    ScalarTheory,
    Theory,
    TheorySolution,
    at_infinite_width,
    at_saddle,
    infinite_by_conditioning,
)
from finitewidth.theory.solver import AUTO, Solver
from finitewidth.theory.spectrum import (
    KernelSpectrum,
    OneSpectrum,
    ScalePredictor,
    evidence_gradient,
    require_exact,
    unit_network,
)

Array = np.ndarray
SharedKernel = KernelSpectrum | KrylovKernel


@dataclass(frozen=True)
class ScaledKernel(OneSpectrum, ScalarTheory[Any]):
    """``K_R = (prod_l Q_l) K_L``, one scalar a layer; with ``infinite`` no order parameter at all.

    Sources: Pacelli et al. 2023 (product closure); Aiudi et al. 2025 (pooled convolutions); Lee et al. 2018 (infinite).
    """

    network: Network
    temperature: float
    infinite: bool = False
    solver: Solver = AUTO

    @property
    def log_prior_scale(self) -> float:
        """log of what multiplies the unit kernel (readout precision 1) at Q = 1."""
        return -math.log(self.network.readout_precision)

    def factorise(self, train: Dataset, memory: float | None = None) -> SharedKernel:
        if self.solver.uses_krylov(self.network, train, memory):
            return KrylovKernel.of(unit_network(self.network), train, self.solver, memory)
        return KernelSpectrum.of(self.network, train, memory)

    def solve(self, train: Dataset, shared: SharedKernel | None = None, memory: float | None = None) -> TheorySolution:
        """Minimise the action; ``shared`` is an earlier ``factorise`` on the same data and kernel.

        A Krylov space grows until it is accurate enough at the scale found, or can grow no more.
        """
        if shared is None and self.infinite and not self.solver.uses_krylov(self.network, train, memory):
            require_exact(train, memory)  # a Cholesky factor, a tenth of the work of a spectrum
            return infinite_by_conditioning(CovariancePredictor(self, train, np.empty(0)))
        shared = shared or self.factorise(train, memory)
        if isinstance(shared, KernelSpectrum):
            return self._solution(train, shared)
        return shared.settled(partial(self._solution, train, shared))

    def for_outputs(self, n_outputs: int) -> Theory[Any]:
        """A matrix for several outputs; at infinite width they are independent."""
        if n_outputs == 1 or self.infinite:
            return self
        if self.solver.kind == "krylov":
            raise InputError(f"solver 'krylov' with {n_outputs} outputs", "one output", "use solver='exact'")
        return SeveralOutputs(self.network, self.temperature)

    def reusable(self, shared: SharedKernel) -> bool:
        """A Krylov space grows: what it gives depends on what was solved before."""
        return isinstance(shared, KernelSpectrum)

    def _solution(self, train: Dataset, shared: SharedKernel) -> TheorySolution:
        minima = []
        q = np.empty(0)
        if not self.infinite:
            minima = scale_minima(shared.energy, self.temperature, self.widths, self.log_prior_scale)
            q = minima[0].order_parameters if minima else np.full(len(self.widths), math.nan)
        scale = float(np.exp(np.log1p(q - 1.0).sum() + self.log_prior_scale))
        predictor: Predictor
        if isinstance(shared, KernelSpectrum):
            gradient = partial(self._gradient, shared, scale)
            predictor = ScalePredictor(shared, np.array([scale]), np.ones(1), self.temperature)
        else:
            gradient = None
            predictor = KrylovPredictor(shared, scale, self.temperature, self.widths, self.log_prior_scale)
        if not self.infinite:
            return at_saddle(self, train, minima, q, predictor, gradient)
        evidence = -float(shared.energy.energy(scale, self.temperature))
        return at_infinite_width(self, train, evidence, predictor, gradient)

    def _gradient(self, shared: KernelSpectrum, scale: float) -> EvidenceGradient:
        energy = shared.energy
        return evidence_gradient(self, shared, np.full(energy.outputs, scale), energy.rotated.reshape(energy.size, -1))


# --- several outputs -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SeveralOutputs(OneSpectrum):
    """Fully connected networks of any depth in the product closure, and average-pooled convolutions, with D outputs.

    Layers of different widths: ``q_d = prod_l x_dl``, ``x_dl = 1 + c_d / N_l``, rate ``sum_dl N_l (x_dl - log x_dl -
    1)``, for equal widths ``N (L tr Q^(1/L) - log det Q - L D)`` (docs/theory.md section 2; Baglioni et al. 2025).
    """

    network: Network
    temperature: float
    method = "saddle"

    def rate(self, order_parameter: Array) -> float:
        """Twice the cost of Q (D, D) in nats."""
        return self._rate(np.linalg.eigvalsh(_square(order_parameter)))[0]

    def covariance(self, order_parameter: Array, x1: Array, x2: Array | None = None) -> Array:
        """K_R of all outputs, (points1 D, points2 D), outputs running fastest."""
        return np.kron(kernels.nngp(self.network, x1, x2), _square(order_parameter))

    def solve(
        self, train: Dataset, shared: KernelSpectrum | None = None, memory: float | None = None
    ) -> TheorySolution:
        """Minimise the action over positive definite Q from several starts."""
        shared = shared or self.factorise(train, memory)
        scale = self._common_scale(shared)
        coordinates = LogCholesky(scale * np.eye(train.n_outputs), math.sqrt(2.0 * min(self.widths)))
        minima = matrix_minima(partial(self.action, shared), coordinates, self._starts(shared, scale), train.y.size)
        q = minima[0].order_parameters if minima else np.eye(train.n_outputs)
        predictor = OutputsPredictor(shared, q, 1.0 / self.network.readout_precision, self.temperature)
        return at_saddle(self, train, minima, q, predictor, partial(self._gradient, shared, q))

    def _gradient(self, shared: KernelSpectrum, order_parameter: Array) -> EvidenceGradient:
        q, vectors = np.linalg.eigh(order_parameter)
        return evidence_gradient(self, shared, q / self.network.readout_precision, shared.energy.rotated @ vectors)

    def _common_scale(self, shared: KernelSpectrum) -> float:
        """prod_l Q_l of the best multiple of the identity."""
        shift = -math.log(self.network.readout_precision)
        minima = scale_minima(shared.energy, self.temperature, self.widths, shift)
        scale = float(np.prod(minima[0].order_parameters)) if minima else 1.0
        return scale if squarable(scale) else 1.0

    def _starts(self, shared: KernelSpectrum, scale: float) -> list[Array]:
        """The best multiple of the identity; the identity; the outputs' own covariance, which breaks their symmetry."""
        y = shared.train.y - shared.train.y.mean(0)
        spread, dim = y.T @ y, y.shape[1]
        spread = spread / max(float(np.trace(spread)) / dim, np.finfo(float).tiny)
        return [scale * np.eye(dim), np.eye(dim), scale * (0.3 * np.eye(dim) + 3.0 * spread)]

    def _rate(self, eigenvalues: Array) -> tuple[float, Array]:
        """Rate of the eigenvalues q_d, and its derivative in log q_d, which is c_d."""
        shift = shift_of_scale(np.log(eigenvalues), self.widths)
        return float(sum((n * x_minus_log1p(shift / n)).sum() for n in self.widths)), shift

    def action(self, shared: KernelSpectrum, order_parameter: Array) -> tuple[float, Array]:
        """F and dF/dQ, (D, D)."""
        if not np.isfinite(order_parameter).all():
            return math.inf, order_parameter
        q, vectors = np.linalg.eigh(order_parameter)
        if q[0] <= 1e-15 * q[-1]:
            return math.inf, order_parameter
        rate, shift = self._rate(q)
        energy, slope = self._energy(shared, q, shared.energy.rotated @ vectors)
        slope = slope + np.diag(0.5 * shift / q)
        return float(action(rate, energy)), vectors @ slope @ vectors.T

    def _energy(self, shared: KernelSpectrum, q: Array, rotated: Array) -> tuple[float, Array]:
        """-log N(y; 0, Q (x) K + T) and d/dQ, both in the eigenbasis of Q. rotated: targets, (P, D)."""
        values = shared.spectrum.values / self.network.readout_precision
        shifted = values[:, None] * q + self.temperature
        weighted = rotated / shifted
        energy = 0.5 * (np.log(shifted).sum() + np.vdot(weighted, rotated) + rotated.size * LOG_2PI)
        slope = -0.5 * (weighted.T * values) @ weighted
        slope[np.diag_indices(len(q))] += 0.5 * (values[:, None] / shifted).sum(0)
        return float(energy), slope


@dataclass(frozen=True)
class OutputsPredictor:
    """D independent processes in the eigenbasis of Q, turned back into the outputs."""

    shared: KernelSpectrum
    order_parameter: Array
    scale: float  # 1 / readout precision
    temperature: float

    def predict(self, x: Array) -> Prediction:
        points, energy = self.shared.points(x), self.shared.energy
        q, vectors = np.linalg.eigh(self.order_parameter)
        scales = self.scale * q
        shifted = scales * energy.spectrum.values[:, None] + self.temperature  # (P, D)
        rotated = energy.rotated @ vectors
        mean = points.cross @ (scales * rotated / shifted)
        own = left_over(scales * points.prior[:, None], points.power @ (scales**2 / shifted))
        covariance = np.einsum("ad,pd,bd->pab", vectors, own, vectors, optimize=True)
        residual = (self.temperature / shifted) ** 2 * rotated**2
        spread = self.temperature * (1.0 - self.temperature / shifted)
        variance = np.einsum("paa->pa", covariance).copy()
        return Prediction(mean @ vectors.T, variance, float(np.mean(residual + spread)), covariance)


def _square(order_parameter: Array) -> Array:
    flat = np.asarray(order_parameter, dtype=float)
    dim = math.isqrt(flat.size)
    return flat.reshape(dim, dim)
