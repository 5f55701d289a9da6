"""Block Krylov spaces: what one symmetric operator does to a few vectors, for every shift and scale at once.

``span{S, K S, K^2 S, ...}`` is the same for K, for s K + T and for every s and T. With an orthonormal basis V of it and
``H = V^T K V = W diag(theta) W^T`` (the Ritz values theta), ``(s K + T)^-1 y`` is ``V W (s theta + T)^-1 W^T V^T y``
for a start vector y, and quadratic forms are Gauss quadratures on the nodes theta (Golub and Meurant 2010). Traces come
from random start vectors, stochastic Lanczos quadrature (Ubaru, Chen and Saad 2017), after the leading Ritz pairs have
been taken exactly (docs/theory.md section 8).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from finitewidth.linalg import Spectrum

Array = np.ndarray
_DROPPED = 1e-11  # share of the norm of K (of a start) below which a direction counts as already spanned
_FAINT = 1e-5  # share below which a direction is orthogonalised once more
CONVERGED = 1e-3  # residual of a Ritz pair over its value, from which it is taken for an eigenpair


class KrylovSpace:
    """Orthonormal basis of ``span{S, K S, ..., K^(m-1) S}``, fully reorthogonalised, block by block.

    multiply: K times a block (P, b). start: S (P, b), of any rank. capacity: most basis vectors. base: another space,
    which this one extends: its basis is counted first, and S is taken orthogonally to it.
    Directions that a block adds nothing to are dropped, so that the space ends by itself where it is invariant.
    """

    def __init__(
        self, multiply: Callable[[Array], Array], start: Array, capacity: int, base: KrylovSpace | None = None
    ) -> None:
        self._multiply = multiply
        self._before = [] if base is None else base.bases()
        self._offset = 0 if base is None else base.size
        self.capacity = max(min(capacity, len(start)), start.shape[1])
        self._own = np.empty((len(start), self.capacity + start.shape[1]), order="F")
        self._size, self._pending, self._last, self._norm = 0, 0, 0, 0.0
        self._projected = np.zeros((0, 0)) if base is None else base.projected
        parts = self._append(start, float(np.linalg.norm(start, axis=0).max(initial=0.0)))
        self.start = np.concatenate(parts)  # S in the basis
        self.residual = np.zeros((0, 0))  # how K leads the last block out of the space

    @property
    def size(self) -> int:
        """Basis vectors, those of the base included."""
        return self._offset + self._size

    @property
    def projected(self) -> Array:
        """H = V^T K V, (size, size)."""
        return self._projected

    @property
    def invariant(self) -> bool:
        """Whether K leads out of the space no more: results in it are exact."""
        return self._pending == 0

    @property
    def full(self) -> bool:
        """Whether no block can be added."""
        return self.invariant or self._size + self._pending > self.capacity

    def bases(self) -> list[Array]:
        """The basis, the base's columns first: arrays (P, k)."""
        return [*self._before, self._own[:, : self._size]]

    def advance(self, steps: int) -> None:
        """Multiply ``steps`` more blocks, one pass over K each; ends early where the space is full."""
        for _ in range(steps):
            if self.full:
                return
            block = self._own[:, self._size : self._size + self._pending]
            product = self._multiply(block)
            self._norm = max(self._norm, float(np.linalg.norm(product, axis=0).max()))  # of K, from below
            self._size, self._last, self._pending = self._size + self._pending, self._pending, 0
            column, self.residual = self._append(product, self._norm)
            self._widen(column)

    def end(self) -> slice:
        """Rows of H that belong to the last block: only from there does K lead out of the space."""
        return slice(self.size - self._last, self.size)

    def _append(self, block: Array, scale: float) -> tuple[Array, Array]:
        """Orthonormalise a block against the basis and keep it as the next one.

        Gives its components in the basis, and what is left as ``next @ rest``. Twice is enough (Parlett 1980).
        """
        components = np.zeros((self.size, block.shape[1]))
        rest = np.array(block, order="F")
        for _ in range(2):
            first = 0
            for basis in self.bases():
                inner = basis.T @ rest
                rest -= basis @ inner
                components[first : first + basis.shape[1]] += inner
                first += basis.shape[1]
        q, r = np.linalg.qr(rest)
        left, values, right = np.linalg.svd(r)
        kept = values > _DROPPED * max(scale, np.finfo(float).tiny)
        room = min(int(kept.sum()), len(block) - self.size)  # no more than P directions exist
        turned = q @ left[:, :room]
        weights = values[:room, None] * right[:room]
        if room and values[room - 1] < _FAINT * scale:  # rounding that was small beside the block is not beside these
            for basis in self.bases():
                turned -= basis @ (basis.T @ turned)
            turned, correction = np.linalg.qr(turned)
            weights = correction @ weights
        self._pending = room
        self._own[:, self._size : self._size + room] = turned
        return components, weights

    def _widen(self, column: Array) -> None:
        """Add a block column, and by symmetry its row, to H."""
        old, new = len(self._projected), self.size
        wider = np.zeros((new, new))
        wider[:old, :old] = self._projected
        wider[:, old:] = column
        wider[old:, :old] = column[:old].T
        wider[old:, old:] = 0.5 * (wider[old:, old:] + wider[old:, old:].T)
        self._projected = wider

    def ritz(self) -> Ritz:
        """Eigendecomposition of H; O(size^3)."""
        spectrum = Spectrum.of(self.projected)
        out = self.residual @ spectrum.vectors[self.end()]
        return Ritz(spectrum.values, spectrum.vectors, out)


@dataclass(frozen=True)
class Ritz:
    """Ritz values (ascending, >= 0), vectors in the basis (d, d), and how K leads each out of the space, (b, d)."""

    values: Array
    vectors: Array
    outward: Array

    @property
    def residuals(self) -> Array:
        """|K u - theta u| of every pair."""
        return np.linalg.norm(self.outward, axis=0)

    def coordinates(self, components: Array) -> Array:
        """Components (k, columns) in the first k basis vectors -> components in the Ritz vectors."""
        return self.vectors[: len(components)].T @ components

    def project(self, cross: Array) -> Array:
        """k(x, X) V (P*, d) in the Ritz vectors, exactly zero where K is: see ``Spectrum.project``."""
        return (cross @ self.vectors) * (self.values > 0.0)


# --- traces ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TraceQuadrature:
    """``Tr f(K) = sum_i multiplicity_i f(nodes_i)``, one estimate a probe: multiplicities (nodes, probes).

    Every column sums to P, and to the trace of K against the nodes. exact: how many leading nodes are eigenvalues.
    """

    nodes: Array
    multiplicities: Array
    exact: int

    @property
    def multiplicity(self) -> Array:
        return self.multiplicities.mean(1)

    def standard_error(self, values: Array) -> Array:
        """Standard error of ``sum_i multiplicity_i values_i``; values (..., nodes)."""
        count = self.multiplicities.shape[1]
        if count < 2:
            return np.full(np.shape(values)[:-1], np.nan)
        return np.std(values @ self.multiplicities, axis=-1, ddof=1) / np.sqrt(count)


_OFF = 6.0  # standard errors by which the known trace may be missed


def trace_quadrature(ritz: Ritz, probes: Array, size: int, trace: float) -> TraceQuadrature:
    """Quadrature for traces of functions of K (size, size), from Gaussian probes that started the space.

    probes: their coordinates in the Ritz vectors, (d, k). trace: of K, known from its diagonal.
    The leading pairs that have converged count once each. What they leave of a probe is uniform on the sphere of their
    complement, of dimension P - r, and weighs the remaining nodes; its mean eigenvalue, known from the trace, is a
    control variate, which takes the linear part of every function exactly.
    Where eigenvalues come in more copies than a block has vectors, deflation would hide copies: the known trace then is
    missed by far, and plain quadrature is used.
    """
    power = probes**2
    converged = (ritz.residuals <= CONVERGED * ritz.values) & (ritz.values > 0.0)
    leading = len(converged) if converged.all() else int(np.argmin(converged[::-1]))
    if leading == size:
        return TraceQuadrature(ritz.values, np.ones_like(power), size)
    rest = power[: len(power) - leading].sum(0)
    if not (rest > 1e-10 * power.sum(0)).all():
        leading = 0
    quadrature, off = _deflated(ritz.values, power, leading, size, trace)
    if leading and not off <= _OFF:
        quadrature, _ = _deflated(ritz.values, power, 0, size, trace)
    return quadrature


def _deflated(nodes: Array, power: Array, leading: int, size: int, trace: float) -> tuple[TraceQuadrature, float]:
    """The quadrature with so many exact pairs, and by how many standard errors it misses the trace uncalibrated."""
    inner = len(nodes) - leading
    weights = np.zeros_like(power)
    weights[:inner] = power[:inner] / power[:inner].sum(0)
    below = np.append(nodes[:inner], np.zeros(leading))
    target = (trace - float(nodes[inner:].sum())) / (size - leading)
    means, mean_weight = below @ weights, weights.mean(1)
    mean = float(below @ mean_weight)
    spread = float((below - mean) ** 2 @ mean_weight)
    error = float(np.std(means, ddof=1)) / np.sqrt(len(means)) if len(means) > 1 else np.inf
    off = abs(mean - target) / (error + 1e-10 * (trace / size) + np.finfo(float).tiny)
    if spread > (1e-9 * mean) ** 2:
        weights += np.outer(mean_weight * (below - mean) / spread, target - means)
    multiplicities = (size - leading) * weights
    multiplicities[inner:] = 1.0
    return TraceQuadrature(nodes, multiplicities, leading), float(off)
