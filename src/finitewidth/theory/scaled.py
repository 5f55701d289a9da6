"""Theories whose order parameters only rescale a fixed kernel: ``K_R = s K``.

One hidden layer (s = Q), deep networks in the product closure (s = prod_l Q_l), average-pooled convolutions (s = Q),
and, without any order parameter, infinite width (s = 1). One eigendecomposition of K serves every width, temperature
and precision of the readout; where it does not fit, one Krylov space (``krylov.py``).
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from finitewidth import kernels
from finitewidth.checks.exceptions import InputError
from finitewidth.data import Dataset
from finitewidth.linalg import x_minus_log1p
from finitewidth.networks import Network
from finitewidth.runs.durations import Piece
from finitewidth.theory.krylov import KrylovKernel
from finitewidth.theory.outputs import SeveralOutputs
from finitewidth.theory.saddle import Minimum, scale_minima
from finitewidth.theory.solution import EvidenceGradient, Theory, TheorySolution, check_convergence
from finitewidth.theory.solver import AUTO, Solver, obstacle_to_krylov
from finitewidth.theory.spectrum import KernelSpectrum, in_one_go, sharing, unit_network

Array = np.ndarray
SharedKernel = KernelSpectrum | KrylovKernel


@dataclass(frozen=True)
class ScaledKernel(Theory["SharedKernel"]):
    """``K_R = (prod_l Q_l) K_L``, one scalar a layer; with ``infinite`` no order parameter at all.

    Sources: Pacelli et al. 2023 (product closure); Aiudi et al. 2025 (pooled convolutions); Lee et al. 2018 (infinite).
    """

    network: Network
    temperature: float
    infinite: bool = False
    solver: Solver = AUTO
    in_one_go = True

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
        if self.uses_krylov(train, memory):
            return KrylovKernel.of(unit_network(self.network), train, self.solver, memory)
        return KernelSpectrum.of(self.network, train, memory)

    def solve(self, train: Dataset, shared: SharedKernel | None = None, memory: float | None = None) -> TheorySolution:
        """Minimise the action; ``shared`` is an earlier ``factorise`` on the same data and kernel.

        A Krylov space grows until it is accurate enough at the scale found, or can grow no more.
        """
        shared = shared or self.factorise(train, memory)
        solution = self._minimise(train, shared)
        while not shared.settled(solution):
            solution = self._minimise(train, shared)
        return shared.stated(solution)

    def for_outputs(self, n_outputs: int) -> Theory[Any]:
        """A matrix for several outputs; at infinite width they are independent."""
        if n_outputs == 1 or self.infinite:
            return self
        if self.solver.kind == "krylov":
            raise InputError(f"solver 'krylov' with {n_outputs} outputs", "one output", "use solver='exact'")
        return SeveralOutputs(self.network, self.temperature)

    # --- how long it takes ----------------------------------------------------------------------------------------

    def reusable(self, shared: SharedKernel) -> bool:
        """A Krylov space grows: what it gives depends on what was solved before."""
        return isinstance(shared, KernelSpectrum)

    def uses_krylov(self, train: Dataset, memory: float | None) -> bool:
        return self.solver.uses_krylov(self.network, train, memory)

    @property
    def sharing(self) -> Hashable:
        """One spectrum serves every width, temperature and readout precision, with one output or several."""
        return sharing(self.network, self.solver)

    def pieces(self, rows: int, train: Dataset, at: Array) -> list[Piece]:
        return [Piece(lambda: KernelSpectrum.of(self.network, train).points(at), 1)]

    def operations(self, rows: int, train: Dataset, covariances: float) -> float:
        return 8.0 * train.n_points**3 + covariances

    def work(self, rows: int, train: Dataset) -> tuple[str, str]:
        other = "" if obstacle_to_krylov(self.network, train) else ", or solver='krylov'"
        return in_one_go(train), "use fewer training points (n_train)" + other

    def _minimise(self, train: Dataset, shared: SharedKernel) -> TheorySolution:
        if self.infinite:
            return self._solution(train, shared, np.empty(0), ())
        minima = tuple(scale_minima(shared.table(self.temperature), self.widths, self.log_prior_scale))
        if not minima:
            message = "no minimum of the action in the scanned range; check the scale of the targets"
            nothing = np.full(len(self.widths), math.nan)
            predictor = shared.predictor(math.nan, self.temperature, self.widths, self.log_prior_scale)
            return TheorySolution(self, train, nothing, math.nan, False, message, (), predictor)
        return self._solution(train, shared, minima[0].order_parameters, minima)

    def _solution(self, train: Dataset, shared: SharedKernel, q: Array, minima: tuple[Minimum, ...]) -> TheorySolution:
        scale = float(np.exp(np.log1p(q - 1.0).sum() + self.log_prior_scale))
        predictor = shared.predictor(scale, self.temperature, self.widths, self.log_prior_scale)
        gradient = partial(evidence_gradient, self, shared, q, scale) if isinstance(shared, KernelSpectrum) else None
        if minima:
            log_evidence, (converged, message) = -minima[0].action, check_convergence(minima, train.y.size)
        else:
            log_evidence = -float(shared.energy.energy(scale, self.temperature))
            converged, message = math.isfinite(log_evidence), ""
        return TheorySolution(self, train, q, log_evidence, converged, message, minima, predictor, gradient)


def evidence_gradient(theory: ScaledKernel, shared: KernelSpectrum, q: Array, scale: float) -> EvidenceGradient:
    """See ``TheorySolution.evidence_gradient``; d/d lambda_l through the kernel recursion, d/dN_l of the rate."""
    energy, temperature, network = shared.energy, theory.temperature, theory.network
    shifted = scale * energy.spectrum.values + temperature
    by_temperature = 0.5 * float((energy.power / shifted**2 - energy.outputs / shifted).sum())
    data_term = float(energy.data_term(scale, temperature))
    by_log_precision = np.zeros(network.depth + 1)
    by_log_precision[-1] = -0.5 * data_term
    within = energy.spectrum.values > 0.0  # where K is zero, so are its derivatives, but for rounding
    vectors, shifted = energy.spectrum.vectors[:, within], shifted[within]
    a = vectors @ (energy.rotated[within].T / shifted).T
    a = a.reshape(len(vectors), -1)
    cotangent = (vectors * (energy.outputs / shifted)) @ vectors.T
    cotangent -= a @ a.T
    cotangent *= 0.5 * scale  # d energy / d K of the unit kernel
    by_log_precision[:-1] = -kernels.nngp_pullback(shared.network, shared.train.x, cotangent)[:-1]
    by_width = -0.5 * x_minus_log1p(q - 1.0)
    if network.readout == "mean-field" and len(by_width):
        by_width[-1] += by_log_precision[-1] / network.widths[-1]
    return {
        "temperature": by_temperature,
        "weight_precision": by_log_precision / np.asarray(network.weight_precision),
        "width": by_width,
    }
