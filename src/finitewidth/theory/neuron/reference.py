"""What the single-neuron theory takes from the scalar action: where it starts, and the response of case (2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from finitewidth import kernels
from finitewidth.data import Dataset
from finitewidth.linalg import RegularisedGram, Spectrum
from finitewidth.networks import Network
from finitewidth.theory.action import SpectralEnergy
from finitewidth.theory.saddle import scale_minima

if TYPE_CHECKING:
    from finitewidth.theory.neuron.particles import Reference

Array = np.ndarray


@dataclass(frozen=True)
class ScalarAction:
    """``K_R = q K``, one q for all: kernel K of the network's own precisions (P, P), its saddle q.

    weight: N, times the patches that have readouts of their own and share q; what q costs for each output.
    """

    kernel: Array
    q: float
    weight: int

    @classmethod
    def of(cls, network: Network, train: Dataset, temperature: float) -> ScalarAction:
        """Solve it."""
        kernel = kernels.nngp(network, train.x)
        weight = network.widths[0] * (network.n_patches(train.x.shape[1:]) if network.patched else 1)
        spectrum = Spectrum.of(kernel.copy(), overwrite=True)
        minima = scale_minima(SpectralEnergy.of(spectrum, train.y), temperature, (weight,), 0.0)
        return cls(kernel, float(minima[0].order_parameters[0]) if minima else 1.0, weight)

    def field(self, y: Array, temperature: float) -> tuple[Array, Array]:
        """s = A^-1 y (P D,) and K_R (P D, P D), outputs one after another; y is (P,) or (P, D)."""
        targets = y.reshape(len(y), -1)
        s = RegularisedGram(self.q * self.kernel, temperature).solve(targets)
        return s.T.ravel(), np.kron(np.eye(targets.shape[1]), self.q * self.kernel)

    def reference(self, y: Array, temperature: float) -> Reference:
        """Slope and curvature of ``G_a`` at y (P,), and all that evaluates it elsewhere (docs/neuron.md)."""
        from finitewidth.theory.neuron.particles import Reference

        spectrum = Spectrum.of(self.kernel.copy(), overwrite=True)
        gram = RegularisedGram(self.q * self.kernel, temperature)
        s = gram.solve(y)
        pull = self.kernel @ gram.solve_range(y)
        b = gram.solve_range(pull)
        solved = gram.solve_range(self.kernel)
        stiffness = 0.5 * self.weight / self.q**2 - 0.5 * float(np.sum(solved * solved.T)) + float(b @ pull)
        R = gram.inverse() - np.outer(b, b) / stiffness
        weight, log_q, T = (np.float64(number) for number in (self.weight, np.log(self.q), temperature))
        return Reference(y, spectrum.vectors, spectrum.values, weight, log_q, s, R, T)
