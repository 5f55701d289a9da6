"""The one action of every theory: ``F(Q) = 1/2 [ rate(Q) + log det A(Q) + y^T A(Q)^-1 y + P D log 2 pi ]`` in nats.

``A = K_R(Q) + T`` is the renormalised Gram matrix of the training points with the temperature on its diagonal, the rate
is the large-deviation cost of Q under its Wishart prior, and ``-log evidence = min F`` to leading order when P and the
widths grow together (docs/theory.md section 2; Pacelli et al. 2023; Aiudi et al. 2025).
A theory is a rate and a covariance; here is what all of them share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from finitewidth.inference.likelihoods import LOG_2PI
from finitewidth.linalg import Spectrum, x_minus_log1p
from finitewidth.linalg.krylov import TraceQuadrature

Array = np.ndarray


def action(rate: Array | float, energy: Array | float) -> Array | float:
    """F = rate/2 + energy, ``energy`` being -log N(y; 0, A)."""
    return 0.5 * rate + energy


def scalar_rate(width: Array | float, shift: Array | float) -> Array | float:
    """``N (Q - log Q - 1)`` of one scalar order parameter Q = 1 + shift, without cancellation at large N."""
    return width * x_minus_log1p(shift)


@dataclass(frozen=True)
class ScaleEnergy:
    """The energy of ``A = s K + T`` for every scale s and temperature T, from a spectral measure of K.

    values: nodes, the eigenvalues of K or quadrature nodes for them. power: squared targets at the nodes, summed over
    outputs. multiplicity: how many eigenvalues each node stands for. size: P. outputs: D. trace: of K.
    """

    values: Array
    power: Array
    multiplicity: Array | float
    size: int
    outputs: int
    trace: float

    @property
    def count(self) -> int:
        return self.outputs * self.size

    @property
    def _copies(self) -> Array | float:
        return self.outputs * self.multiplicity

    def energy(self, scale: Array | float, temperature: float) -> Array:
        """-log N(y; 0, sK + T) for scales of any shape."""

        def term(shifted: Array, _: Array) -> Array:
            return 0.5 * (self._copies * np.log(shifted) + self.power / shifted)

        return self._sum(scale, temperature, term) + 0.5 * (self.count * LOG_2PI)

    def change(self, scale: Array | float, reference: float, temperature: float) -> Array:
        """``energy(scale) - energy(reference)`` without cancellation.

        At T -> 0 the directions that the kernel cannot fit cost y^2/T nats, in which the rest would drown.
        """
        signal0 = reference * self.values
        shifted0 = signal0 + temperature

        def term(shifted: Array, signal: Array) -> Array:
            step = (signal - signal0) / shifted0
            return 0.5 * (self._copies * np.log1p(step) - self.power / shifted * step)

        return self._sum(scale, temperature, term)

    def data_term(self, scale: Array | float, temperature: float) -> Array:
        """``y^T A^-1 K_R A^-1 y - D Tr(A^-1 K_R) = -2 d energy / d log s``: what pushes the scale up."""

        def term(shifted: Array, signal: Array) -> Array:
            return signal / shifted * (self.power / shifted - self._copies)

        return self._sum(scale, temperature, term)

    def data_term_slope(self, scale: float, temperature: float) -> float:
        signal = scale * self.values
        shifted = signal + temperature
        filtered = signal / shifted
        change = self.power / shifted * (1.0 - 2.0 * filtered) - self._copies * (1.0 - filtered)
        return float(np.sum(filtered * change))

    def train_error(self, scale: Array | float, temperature: float) -> Array:
        """Posterior mean of (1/PD) sum (y - f)^2."""

        def term(shifted: Array, signal: Array) -> Array:
            return (temperature / shifted) ** 2 * self.power + self._copies * temperature * signal / shifted

        return self._sum(scale, temperature, term) / self.count

    def _sum(self, scale: Array | float, temperature: float, term: Callable[[Array, Array], Array]) -> Array:
        """Sum of a term over eigenvalues for every scale, a few scales at a time."""
        scales = np.atleast_1d(np.asarray(scale, dtype=float))
        out = np.empty(scales.size)
        step = max(1, 200_000 // len(self.values))
        for start in range(0, scales.size, step):
            signal = scales.ravel()[start : start + step, None] * self.values
            out[start : start + step] = term(signal + temperature, signal).sum(1)
        return out.reshape(np.shape(scale))


@dataclass(frozen=True)
class SpectralEnergy(ScaleEnergy):
    """The energy from the eigendecomposition of K, O(P) each: every node is an eigenvalue.

    spectrum: of K. rotated: targets in its eigenbasis, (P,) or (P, D).
    """

    spectrum: Spectrum
    rotated: Array

    @classmethod
    def of(cls, spectrum: Spectrum, y: Array) -> SpectralEnergy:
        rotated, values = spectrum.rotate(y), spectrum.values
        columns = rotated.reshape(len(rotated), -1)
        power = (columns**2).sum(1)
        return cls(values, power, 1.0, spectrum.size, columns.shape[1], float(values.sum()), spectrum, rotated)


@dataclass(frozen=True)
class QuadratureEnergy(ScaleEnergy):
    """The energy from a Krylov space, O(its dimension) each: nodes are Ritz values (one output).

    traces: multiplicities of the nodes, one estimate a probe.
    """

    traces: TraceQuadrature

    @classmethod
    def of(cls, traces: TraceQuadrature, power: Array, size: int, trace: float) -> QuadratureEnergy:
        """power: squared components of the targets. size: P. trace: of K."""
        return cls(traces.nodes, power, traces.multiplicity, size, 1, trace, traces)
