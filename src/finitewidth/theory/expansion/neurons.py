"""Prior neurons of one layer at infinite width: what is averaged over.

Drawn with the component of their weights along one direction, that of the labels, made larger, and weighted back: the
heavy tails of the averages lie along it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from finitewidth.linalg import Spectrum
from finitewidth.networks import Network
from finitewidth.theory.expansion.functionals import InfiniteWidth
from finitewidth.theory.neuron.design import Design

Array = np.ndarray
INFLATION = 1.8  # of the standard deviation along the direction of the labels


@dataclass(frozen=True)
class Neurons:
    """Neurons ``u = scale phi(rows theta)``, theta standard normal, with ``E[sum_i u_i u_i^T]`` the layer's covariance.

    rows: (G, J n, r), G populations of J preactivations of each of n points. scale: of phi. pooled: whether a neuron's
    feature is the mean over its J preactivations. direction: unit vector (r,) along which theta is inflated, one
    population only; None: nowhere.
    """

    network: Network
    rows: Array
    points: int
    scale: float
    pooled: bool
    direction: Array | None = None

    @classmethod
    def first_layer(cls, state: InfiniteWidth) -> Neurons:
        """Of the layer that sees the inputs."""
        design = Design.of(state.network, state.x)
        scale = design.feature_scale if state.network.depth == 1 else state.network.weight_precision[1] ** -0.5
        return cls(state.network, design.rows, len(state.x), scale, design.pooled)

    @classmethod
    def above(cls, network: Network, covariance: Array, layer: int) -> Neurons:
        """Of layer ``layer`` >= 2, whose preactivations have the covariance (n, n)."""
        spectrum = Spectrum.of(covariance)
        kept = spectrum.values > 0.0
        rows = spectrum.vectors[:, kept] * np.sqrt(spectrum.values[kept])
        last = layer == network.depth
        precision = network.readout_precision if last else network.weight_precision[layer]
        return cls(network, rows[None], len(covariance), precision**-0.5, False)

    @property
    def per_neuron(self) -> int:
        """Numbers that one neuron takes: its preactivations."""
        return self.rows.shape[0] * self.rows.shape[1]

    def draw(self, count: int, generator: np.random.Generator) -> tuple[Array, Array]:
        """Features (count, patches, n) and weights (count,) whose mean is one."""
        populations, _, rank = self.rows.shape
        theta = generator.standard_normal((populations, count, rank))
        weight = np.ones(count)
        if self.direction is not None:
            along = theta[0] @ self.direction
            theta[0] += (INFLATION - 1.0) * along[:, None] * self.direction
            weight = INFLATION * np.exp(-0.5 * (INFLATION**2 - 1.0) * along**2)
        h = (theta @ self.rows.swapaxes(1, 2)).reshape(populations, count, -1, self.points)
        u = self.scale * self.network.phi(h)
        u = u.swapaxes(0, 1).reshape(count, -1, self.points)
        return (u.mean(1, keepdims=True) if self.pooled else u), weight

    def towards(self, gradient: Array) -> Neurons:
        """The same, inflated along what the log evidence, of ``gradient`` (P, P) in their covariance, sees most."""
        populations, _, rank = self.rows.shape
        if populations > 1 or rank == 0:
            return self
        train = len(gradient)
        patches = self.rows[0].reshape(self.rows.shape[1] // self.points, self.points, rank)[:, :train]
        slope = self._slopes(patches)
        seen = slope[:, :, None] * patches
        if self.pooled:
            seen = seen.mean(0, keepdims=True)
        curvature = sum(part.T @ (gradient @ part) for part in seen)
        most = Spectrum.of(curvature + np.swapaxes(curvature, 0, 1)).vectors[:, -1]
        return Neurons(self.network, self.rows, self.points, self.scale, self.pooled, most)

    def _slopes(self, patches: Array) -> Array:
        """E[phi'] at every preactivation, (patches, P): by the Gaussian's own derivative, E[h phi(h)] / var."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(20)
        sd = np.sqrt(np.vecdot(patches, patches))[..., None]
        values = self.network.phi(sd * nodes) * nodes
        return np.divide(
            values @ weights / np.sqrt(2.0 * np.pi), sd[..., 0], out=np.zeros(sd.shape[:-1]), where=sd[..., 0] > 0.0
        )
