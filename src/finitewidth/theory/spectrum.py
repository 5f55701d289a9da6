"""The spectrum of one training set's kernel, which serves every width, temperature and readout precision."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from finitewidth import kernels
from finitewidth.data import Dataset
from finitewidth.inference.prediction import Prediction
from finitewidth.linalg import Spectrum, left_over, require_memory
from finitewidth.networks import Network
from finitewidth.theory.action import SpectralEnergy
from finitewidth.theory.solution import EvidenceGradient, Theory, gradient_of
from finitewidth.theory.solver import AUTO, Solver, exact_bytes

Array = np.ndarray
AnyNetwork = TypeVar("AnyNetwork", bound=Network)


def unit_network(network: AnyNetwork) -> AnyNetwork:
    """The network whose kernel carries no readout scale: precision 1, standard readout."""
    return replace(network.with_precision((*network.weight_precision[:-1], 1.0)), readout="standard")


def sharing(network: Network, solver: Solver = AUTO) -> Hashable:
    """Of theories that need the spectrum of one kernel."""
    return "spectrum", unit_network(network).with_width(1), solver


class KernelSpectrum:
    """One training set under one kernel of unit readout precision: Gram matrix, spectrum, rotated targets.

    Also keeps what test points need, so that a learning curve computes their kernel once.
    """

    def __init__(self, network: Network, train: Dataset, spectrum: Spectrum) -> None:
        self.network, self.train, self.spectrum = network, train, spectrum
        self.energy = SpectralEnergy.of(spectrum, train.y)
        self._points: tuple[Array, TestPoints] | None = None

    @classmethod
    def of(cls, network: Network, train: Dataset, memory: float | None = None) -> KernelSpectrum:
        """Assemble and factorise; at most four P x P arrays are alive. Raises MemoryCapError beforehand."""
        require_exact(train, memory)
        unit = unit_network(network)
        return cls(unit, train, Spectrum.of(kernels.nngp(unit, train.x), overwrite=True))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_points": None}  # copies and pickles leave the cache behind

    def points(self, x: Array) -> TestPoints:
        """Kernel between test points and the eigenvectors of the training set; kept for the last read-only ``x``."""
        known = self._points
        if known is not None and known[0] is x:
            return known[1]
        cross = self.spectrum.project(kernels.nngp(self.network, x, self.train.x))
        points = TestPoints(cross, kernels.nngp_diagonal(self.network, x))
        if not x.flags.writeable:  # one that can be written to may come again with other contents
            self._points = (x, points)
        return points


def require_exact(train: Dataset, memory: float | None) -> None:
    """Raises MemoryCapError where the factors of a Gram matrix do not fit."""
    require_memory(
        exact_bytes(train),
        f"the factorisation of a {train.n_points} x {train.n_points} Gram matrix",
        "use fewer training points, raise the memory cap, or solver='krylov' (fully connected, one output)",
        memory,
    )


class OneSpectrum(Theory[Any]):
    """A theory that one spectrum serves at every width, temperature and readout precision."""

    work = "an eigendecomposition"
    remedy = "use fewer training points (n_train), or solver='krylov' (fully connected, one output)"
    evaluations = 0
    solver: Solver = AUTO

    def factorise(self, train: Dataset, memory: float | None = None) -> Any:
        return KernelSpectrum.of(self.network, train, memory)

    @property
    def sharing(self) -> Hashable:
        """One spectrum serves every width, temperature and readout precision, with one output or several."""
        return sharing(self.network, self.solver)


def evidence_gradient(theory: OneSpectrum, shared: KernelSpectrum, scales: Array, rotated: Array) -> EvidenceGradient:
    """See ``TheorySolution.evidence_gradient``; d/d lambda_l through the kernel recursion.

    scales (D,): of the unit kernel, of D independent outputs. rotated (P, D): their targets in its eigenbasis.
    """
    shifted = scales * shared.spectrum.values[:, None] + theory.temperature
    a = rotated / shifted
    by_temperature = 0.5 * float((a**2 - 1.0 / shifted).sum())
    data_term = float((scales * shared.spectrum.values[:, None] * (a**2 - 1.0 / shifted)).sum())
    within = shared.spectrum.values > 0.0  # where K is zero, so are its derivatives, but for rounding
    basis = shared.spectrum.vectors[:, within]
    a = basis @ a[within]
    cotangent = (basis * (scales / shifted[within]).sum(1)) @ basis.T
    cotangent -= (a * scales) @ a.T
    cotangent *= 0.5  # d energy / d K of the unit kernel
    by_log_precision = -kernels.nngp_pullback(shared.network, shared.train.x, cotangent)
    by_log_precision[-1] = -0.5 * data_term
    return gradient_of(theory.network, by_temperature, by_log_precision)


@dataclass(frozen=True)
class TestPoints:
    """cross: k(x, X) U, (P*, P). prior: k(x, x), (P*,)."""

    __test__ = False  # not a pytest class
    cross: Array
    prior: Array

    @cached_property
    def power(self) -> Array:
        return self.cross**2


@dataclass(frozen=True)
class ScalePredictor:
    """The predictive distribution under a weighted set of scales: one at a saddle, many when Q is integrated.

    ``mean = E_s[m_s]``, ``variance = E_s[v_s] + Var_s[m_s]``.
    """

    shared: KernelSpectrum
    scales: Array
    weights: Array
    temperature: float

    def predict(self, x: Array) -> Prediction:
        points, energy = self.shared.points(x), self.shared.energy
        shifted = self.scales * energy.spectrum.values[:, None] + self.temperature  # (P, nodes)
        variances = left_over(self.scales * points.prior[:, None], points.power @ (self.scales**2 / shifted))
        variance = variances @ self.weights
        rotated = energy.rotated.reshape(energy.spectrum.size, -1)
        columns = [points.cross @ (self.scales * column[:, None] / shifted) for column in rotated.T]
        mean = np.stack([m @ self.weights for m in columns], axis=-1)
        spread = np.stack([(m - c[:, None]) ** 2 @ self.weights for m, c in zip(columns, mean.T, strict=True)], axis=-1)
        total = variance[:, None] + spread
        error = float(energy.train_error(self.scales, self.temperature) @ self.weights)
        if energy.rotated.ndim == 1:
            return Prediction(mean[:, 0], total[:, 0], error)
        return Prediction(mean, total, error)
