"""Prior neurons of one layer at infinite width: what is averaged over.

Drawn with the components of their weights along one or two directions, to which the log evidence is most sensitive,
made larger, and weighted back: the heavy tails of the averages lie along these, the labels' first of all.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from finitewidth.linalg import Spectrum
from finitewidth.networks import Network
from finitewidth.theory.expansion.functionals import InfiniteWidth
from finitewidth.theory.neuron.design import Design

Array = np.ndarray
INFLATION = 1.8  # of the standard deviation along the first direction, and less along the second
_DIRECTIONS = 2


@dataclass(frozen=True)
class Neurons:
    """Neurons ``u = scale phi(rows theta)``, theta standard normal, with ``E[sum_i u_i u_i^T]`` the layer's covariance.

    rows: (G, J n, r), G populations of J preactivations of each of n points. scale: of phi. pooled: whether a neuron's
    feature is the mean over its J preactivations. directions: orthonormal (k, r), along which theta is inflated by
    inflation (k,); none with several populations.
    """

    network: Network
    rows: Array
    points: int
    scale: float
    pooled: bool
    directions: Array = field(default_factory=lambda: np.empty((0, 0)))
    inflation: Array = field(default_factory=lambda: np.empty(0))

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

    def draw(self, count: int, generator: np.random.Generator) -> tuple[Array, Array]:
        """Features (count, patches, n) and weights (count,) whose mean is one."""
        populations, _, rank = self.rows.shape
        theta = generator.standard_normal((populations, count, rank))
        weight = np.ones(count)
        if self.inflation.size:
            along = theta[0] @ self.directions.T
            theta[0] += ((self.inflation - 1.0) * along) @ self.directions
            weight = self.inflation.prod() * np.exp(-0.5 * along**2 @ (self.inflation**2 - 1.0))
        h = (theta @ self.rows.swapaxes(1, 2)).reshape(populations, count, -1, self.points)
        u = self.scale * self.network.phi(h)
        u = u.swapaxes(0, 1).reshape(count, -1, self.points)
        return (u.mean(1, keepdims=True) if self.pooled else u), weight

    def towards(self, gradient: Array) -> Neurons:
        """The same, inflated along what the log evidence, of ``gradient`` (P, P) in their covariance, sees most.

        The leading eigenvectors of its second derivative in theta, by the square root of their eigenvalues.
        """
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
        curvature += np.swapaxes(curvature, 0, 1)
        leading = Spectrum.of(curvature).vectors[:, : -_DIRECTIONS - 1 : -1].T
        values = np.maximum(np.vecdot(leading @ curvature, leading), 0.0)
        inflation = 1.0 + (INFLATION - 1.0) * np.sqrt(values / max(values[0], np.finfo(float).tiny))
        return replace(self, directions=leading, inflation=inflation)

    def _slopes(self, patches: Array) -> Array:
        """E[phi'] at every preactivation, (patches, P): by the Gaussian's own derivative, E[h phi(h)] / var."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(20)
        sd = np.sqrt(np.vecdot(patches, patches))[..., None]
        values = self.network.phi(sd * nodes) * nodes
        return np.divide(
            values @ weights / np.sqrt(2.0 * np.pi), sd[..., 0], out=np.zeros(sd.shape[:-1]), where=sd[..., 0] > 0.0
        )
