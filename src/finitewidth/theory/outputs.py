"""Several outputs: a D x D order parameter, ``K_R = Q (x) K``.

In the eigenbasis of Q the outputs are D independent Gaussian processes with scales q_d, and in that of K every data
mode stands alone: one eigendecomposition of K, then O(P D^2) a step.
Layers of different widths: ``q_d = prod_l x_dl``, ``x_dl = 1 + c_d / N_l``, rate ``sum_dl N_l (x_dl - log x_dl - 1)``,
which for equal widths is ``N (L tr Q^(1/L) - log det Q - L D)`` (docs/theory.md section 2; Baglioni et al. 2025).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from finitewidth import kernels
from finitewidth.data import Dataset
from finitewidth.inference.likelihoods import LOG_2PI
from finitewidth.inference.prediction import Prediction
from finitewidth.linalg import left_over, x_minus_log1p
from finitewidth.networks import Network
from finitewidth.theory.action import action
from finitewidth.theory.saddle import (
    LogCholesky,
    matrix_minima,
    scale_minima,
    shift_of_scale,
    squarable,
)
from finitewidth.theory.solution import EvidenceGradient, TheorySolution, at_saddle
from finitewidth.theory.spectrum import KernelSpectrum, OneSpectrum, evidence_gradient

Array = np.ndarray


@dataclass(frozen=True)
class SeveralOutputs(OneSpectrum):
    """Fully connected networks of any depth in the product closure, and average-pooled convolutions, with D outputs."""

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
        _, shift = self._rate(q)
        by_width = np.array([-0.5 * x_minus_log1p(shift / n).sum() for n in self.widths])
        scales, rotated = q / self.network.readout_precision, shared.energy.rotated @ vectors
        return evidence_gradient(self, shared, scales, rotated, by_width)

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
