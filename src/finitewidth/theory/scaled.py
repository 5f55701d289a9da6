"""Theories whose order parameters only rescale a fixed kernel: ``K_R = s K``.

One hidden layer (s = Q), deep networks in the product closure (s = prod_l Q_l), average-pooled convolutions (s = Q),
and, without any order parameter, infinite width (s = 1). One eigendecomposition of K serves every width, temperature
and precision of the readout; where it does not fit, one Krylov space (``krylov.py``).
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
from finitewidth.linalg import x_minus_log1p
from finitewidth.networks import Network
from finitewidth.theory.krylov import KrylovKernel
from finitewidth.theory.outputs import SeveralOutputs
from finitewidth.theory.saddle import scale_minima
from finitewidth.theory.solution import EvidenceGradient, Theory, TheorySolution, at_saddle
from finitewidth.theory.solver import AUTO, Solver
from finitewidth.theory.spectrum import KernelSpectrum, OneSpectrum, evidence_gradient, unit_network

Array = np.ndarray
SharedKernel = KernelSpectrum | KrylovKernel


@dataclass(frozen=True)
class ScaledKernel(OneSpectrum):
    """``K_R = (prod_l Q_l) K_L``, one scalar a layer; with ``infinite`` no order parameter at all.

    Sources: Pacelli et al. 2023 (product closure); Aiudi et al. 2025 (pooled convolutions); Lee et al. 2018 (infinite).
    """

    network: Network
    temperature: float
    infinite: bool = False
    solver: Solver = AUTO

    @property
    def method(self) -> str:
        return "infinite" if self.infinite else "saddle"

    @property
    def widths(self) -> tuple[int, ...]:
        """Width behind each order parameter; none at infinite width."""
        return () if self.infinite else self.network.widths

    @property
    def log_prior_scale(self) -> float:
        """log of what multiplies the unit kernel (readout precision 1) at Q = 1."""
        return -math.log(self.network.readout_precision)

    def rate(self, order_parameters: Array) -> float:
        """``sum_l N_l (Q_l - log Q_l - 1)``."""
        return float(sum(n * x_minus_log1p(q - 1.0) for n, q in zip(self.widths, order_parameters, strict=True)))

    def covariance(self, order_parameters: Array, x1: Array, x2: Array | None = None) -> Array:
        """K_R, (points1, points2)."""
        return float(np.prod(order_parameters)) * kernels.nngp(self.network, x1, x2)

    def factorise(self, train: Dataset, memory: float | None = None) -> SharedKernel:
        """The work that all widths, temperatures and readout precisions share."""
        if self.solver.uses_krylov(self.network, train, memory):
            return KrylovKernel.of(unit_network(self.network), train, self.solver, memory)
        return KernelSpectrum.of(self.network, train, memory)

    def solve(self, train: Dataset, shared: SharedKernel | None = None, memory: float | None = None) -> TheorySolution:
        """Minimise the action; ``shared`` is an earlier ``factorise`` on the same data and kernel.

        A Krylov space grows until it is accurate enough at the scale found, or can grow no more.
        """
        shared = shared or self.factorise(train, memory)
        solution = self._solution(train, shared)
        if isinstance(shared, KernelSpectrum):
            return solution
        while not shared.settled(solution):
            solution = self._solution(train, shared)
        return shared.stated(solution)

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
        predictor = shared.predictor(scale, self.temperature, self.widths, self.log_prior_scale)
        gradient = partial(self._gradient, shared, q, scale) if isinstance(shared, KernelSpectrum) else None
        if not self.infinite:
            return at_saddle(self, train, minima, q, predictor, gradient)
        evidence = -float(shared.energy.energy(scale, self.temperature))
        return TheorySolution(self, train, q, evidence, math.isfinite(evidence), "", (), predictor, gradient)

    def _gradient(self, shared: KernelSpectrum, q: Array, scale: float) -> EvidenceGradient:
        energy = shared.energy
        rotated = energy.rotated.reshape(energy.size, -1)
        return evidence_gradient(self, shared, np.full(energy.outputs, scale), rotated, -0.5 * x_minus_log1p(q - 1.0))
