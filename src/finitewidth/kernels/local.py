"""Local kernels of one hidden layer on patches, contracted over pairs of patches.

``K_ij(mu, nu) = kappa( C_ii(mu,mu), C_ij(mu,nu), C_jj(nu,nu) )`` with
``C_ij(mu, nu) = x_{mu,i}.x_{nu,j} / (lambda_0 M)``, plus 1/lambda_b where patches i and j share an offset.
Without weight sharing ``K_ij = m_i m_j^T`` for i != j, m the prior mean of phi (docs/theory.md section 1; Novak et
al. 2019; Aiudi et al. 2025). The outputs have covariance ``K_R(Q) = (1/(lambda_1 n)) sum_ij Q_ij K_ij`` for a
symmetric order parameter Q (docs/theory.md section 2).

For symmetric Q only ``S_ij = K_ij + K_ij^T`` (i < j) and ``K_ii`` matter, and of these one half: as
``K_ij(nu, mu) = K_ji(mu, nu)``, every dual is computed once. Points are cut into tiles, so that a few pairs
of patches on one tile stay in cache; tiles are shared among threads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from finitewidth import checks, linalg
from finitewidth.checks.exceptions import InputError
from finitewidth.kernels.blocks import slices
from finitewidth.networks.local import LocalNetwork
from finitewidth.networks.patches import PatchGrid

Array = np.ndarray
_TILE = 64  # points along the side of a tile: small products, which BLAS leaves on the calling thread
_BLOCK = 131_072  # duals in work at a time: 1 MB; smaller blocks lose more to the interpreter than they gain in cache
_SHARE = 0.7  # of the free memory that a cached Gram may take when no cap is given


@dataclass(frozen=True)
class LocalPoints:
    """What every patch of every point brings by itself.

    patches: (n, P, M), scaled so that C_ij = patches_i patches_j^T (+ offset).
    variance: C_ii(mu, mu), (n, P). prepared: the dual's preparation of it, (k, n, P).
    """

    network: LocalNetwork
    grid: PatchGrid
    patches: Array
    variance: Array
    prepared: Array

    @classmethod
    def of(cls, network: LocalNetwork, x: Any) -> LocalPoints:
        x = checks.real_array("x", x, (2, 3, 4))
        grid = network.grid(x)
        patches = np.ascontiguousarray(grid.extract(x).swapaxes(0, 1))
        patches /= math.sqrt(network.weight_precision[0] * grid.patch_size)
        variance = np.vecdot(patches, patches) + network.offset_variance
        return cls(network, grid, patches, variance, network.phi.dual.prepare(variance))

    @property
    def count(self) -> int:
        """P."""
        return self.patches.shape[1]

    @property
    def scale(self) -> float:
        """1 / (lambda_1 n)."""
        return 1.0 / (self.network.readout_precision * self.grid.n_patches)

    def order_parameter(self, given: Any) -> Array:
        """Q as an array, (n, n), or (n,) where patches share no weights; InputError for another shape."""
        Q, n = np.asarray(given, dtype=float), self.grid.n_patches
        wanted = (n, n) if self.network.shares_weights else (n,)
        if Q.shape != wanted:
            raise InputError(
                f"an order parameter of shape {Q.shape} for {n} patches",
                f"shape {wanted}",
                "give a matrix over pairs of patches, or one number a patch where they share no weights",
            )
        return Q

    def duals(self, i: Array, rows: slice, other: LocalPoints, j: Array, columns: slice) -> Array:
        """K_ij of the pairs (i[k], j[k]) between some points of both sets, (pairs, rows, columns)."""
        block = self.patches[i, rows] @ other.patches[j, columns].swapaxes(1, 2)
        if self.network.offset_variance:
            block += self.network.offset_variance
        p1, p2 = self.prepared[:, i, rows, None], other.prepared[:, j, None, columns]
        return self.network.phi.dual.kappa(p1, p2, block, out=block)


def memory_estimate(n_points: int, n_patches: int, cached: bool, patch_size: int = 1, shared: bool = True) -> float:
    """Bytes a ``LocalGram`` takes: patches, a (P, P) matrix in and one out, work space, the pairs if cached.

    ``shared``: whether patches share weights; without, K_ij of i != j are not computed.
    Activations without a closed-form dual take up to 8 kB a patch of every point on top.
    """
    P, n = float(n_points), float(n_patches)
    rows = n * (n + 1) / 2 if shared else n
    work = linalg.n_threads() * 4 * _BLOCK
    kept = rows * sum(_size(*tile) for tile in _tiles(n_points)) if cached else 0.0
    return 8.0 * (2 * P * n * patch_size + 3 * P**2 + 6 * rows + work + kept)


class LocalGram:
    """All local kernels of P training points, ready to be contracted with one order parameter after another.

    Attributes
    ----------
    storage: "cached": the symmetrised kernels are kept, half of the pairs of patches times half of the tiles of
        points, and a contraction is one matrix-vector product; "streamed": they are computed anew, tile by tile, at
        every call, with the same results.
    points: the patches, LocalPoints.

    Order parameters are (n, n), over pairs of patches, and (n,) without shared weights.
    """

    def __init__(self, points: LocalPoints) -> None:
        self.points, n = points, points.grid.n_patches
        i, j = np.triu_indices(n, 1) if points.network.shares_weights else (np.empty(0, int),) * 2
        self._first, self._second = np.append(np.arange(n), i), np.append(np.arange(n), j)
        strip = max(1, _BLOCK // (2 * _TILE**2))  # pairs of patches whose duals on a tile fill the cache
        self._strips = slices(0, n, strip) + slices(n, len(self._first), strip)
        self._tiles = _tiles(points.count)
        self._store: dict[int, Array] = {}  # of every tile, if they are kept: (pairs, entries)

    @classmethod
    def of(cls, network: LocalNetwork, x: Any, cap: float | None = None) -> LocalGram:
        """The local kernels of points ``x``: cached if that takes at most ``cap`` bytes, else streamed.

        Without a cap, 0.7 of the free memory. Raises MemoryCapError, before anything is computed, where even
        streaming takes more; InputError for points of another shape.
        """
        x = checks.real_array("x", x, (2, 3, 4))
        limit = _SHARE * linalg.available_memory() if cap is None else cap
        grid, shared = network.grid(x), network.shares_weights
        linalg.require_memory(
            memory_estimate(len(x), grid.n_patches, False, grid.patch_size, shared),
            f"{len(x)} points of {grid.n_patches} patches, even where their kernels are not kept",
            "raise the memory, take fewer points or a larger stride",
            limit,
        )
        gram = cls(LocalPoints.of(network, x))
        if memory_estimate(len(x), grid.n_patches, True, grid.patch_size, shared) <= limit:
            gram._keep()
        return gram

    @property
    def storage(self) -> str:
        return "cached" if self._store else "streamed"

    # --- the two contractions -----------------------------------------------------------------------------

    def contract(self, order_parameter: Any) -> Array:
        """``K_R(Q) = (1/(lambda_1 n)) sum_ij Q_ij K_ij``, (P, P), exactly symmetric.

        Q is symmetric (n, n), or (n,) without shared weights: InputError for another shape.
        """
        Q = self.points.order_parameter(order_parameter)
        out, weights = np.empty((self.points.count,) * 2), self._weights(Q)

        def work(t: int) -> None:
            rows, columns = self._tiles[t]
            flat: Array = sum(weights[pairs] @ kernels for pairs, kernels in self._kernels(t))
            kernel = flat.reshape(rows.stop - rows.start, -1)
            if rows == columns:  # rounding of a product need not be symmetric
                kernel = np.triu(kernel) + np.triu(kernel, 1).T
            out[rows, columns], out[columns, rows] = kernel, kernel.T

        linalg.run_blocks(work, [(t,) for t in range(len(self._tiles))])
        return out

    def project(self, cotangent: Array) -> Array:
        """``G_ij = (1/(lambda_1 n)) sum_{mu,nu} W_{mu nu} (K_ij + K_ij^T)(mu, nu) / 2``, W symmetric (P, P).

        (n, n), or (n,) without shared weights. It is the adjoint: ``<W, contract(Q)> = sum(Q * project(W))``.
        """
        W, count = np.asarray(cotangent, dtype=float), self.points.count
        if W.shape != (count, count):
            raise InputError(f"a cotangent of shape {W.shape}", f"shape {(count, count)}", "give one a kernel entry")
        doubled = W + W.T

        def work(t: int) -> Array:
            rows, columns = self._tiles[t]
            w = (0.5 if rows == columns else 1.0) * doubled[rows, columns].ravel()
            return np.concatenate([kernels @ w for _, kernels in self._kernels(t)])

        sums = np.sum(list(linalg.map_threads(work, range(len(self._tiles)), a_thread=4)), axis=0)
        sums *= self.points.scale
        n = self.points.grid.n_patches
        if not self.points.network.shares_weights:
            return sums
        G = np.diag(sums[:n])
        G[self._first[n:], self._second[n:]] = G[self._second[n:], self._first[n:]] = 0.5 * sums[n:]
        return G

    def _weights(self, Q: Array) -> Array:
        """What multiplies each stored kernel: K_ii, then K_ij + K_ij^T for i < j."""
        if Q.ndim == 1:
            return self.points.scale * Q
        return self.points.scale * 0.5 * (Q[self._first, self._second] + Q[self._second, self._first])

    # --- computing the kernels ----------------------------------------------------------------------------

    def _keep(self) -> None:
        store = {t: np.empty((len(self._first), _size(*tile))) for t, tile in enumerate(self._tiles)}

        def fill(t: int, pairs: slice) -> None:
            store[t][pairs] = self._made(t, pairs)

        linalg.run_blocks(fill, [(t, pairs) for t in store for pairs in self._strips])
        self._store = store

    def _kernels(self, tile: int) -> Iterator[tuple[slice, Array]]:
        """Pairs of patches, and their kernels on a tile (pairs, entries): all that are kept, or strip by strip."""
        if self._store:
            yield slice(None), self._store[tile]
            return
        for pairs in self._strips:
            yield pairs, self._made(tile, pairs)

    def _made(self, tile: int, pairs: slice) -> Array:
        """K_ii of some patches, or K_ij + K_ij^T of some pairs i < j, on one tile: (pairs, entries)."""
        points, (rows, columns) = self.points, self._tiles[tile]
        i, j = self._first[pairs], self._second[pairs]
        if i[0] == j[0]:
            kernels = points.duals(i, rows, points, j, columns)
        elif rows == columns:
            kernels = points.duals(i, rows, points, j, columns)
            kernels = kernels + kernels.swapaxes(1, 2)
        else:
            both = points.duals(np.append(i, j), rows, points, np.append(j, i), columns)
            kernels = both[: len(i)] + both[len(i) :]
        return kernels.reshape(len(i), -1)


# --- between two sets, and on the diagonal -----------------------------------------------------------------


def local_cross(network: LocalNetwork, x1: Any, x2: Any, order_parameter: Any) -> Array:
    """``(1/(lambda_1 n)) sum_ij Q_ij K_ij(mu, nu)`` between two sets of points, (P1, P2).

    Q is (n, n), or (n,) without shared weights. Nothing larger than P1 x P2 is stored.
    Raises InputError for points or Q of other shapes.
    """
    one, two = _both(network, x1, x2)
    Q = one.order_parameter(order_parameter)
    i, j = np.nonzero(Q if network.shares_weights else np.diag(Q))  # zeros of Q need no duals
    weights = one.scale * (Q[i, j] if network.shares_weights else Q[i])
    out = np.zeros((one.count, two.count))

    def work(rows: slice, columns: slice) -> None:
        for part in slices(0, len(i), max(1, _BLOCK // _size(rows, columns))):
            kernels = one.duals(i[part], rows, two, j[part], columns)
            out[rows, columns] += np.einsum("k,kab->ab", weights[part], kernels)

    linalg.run_blocks(work, [(r, c) for r in _even(one.count) for c in _even(two.count)])
    return out


def local_diagonal(network: LocalNetwork, x: Any, order_parameter: Any) -> Array:
    """``(1/(lambda_1 n)) sum_ij Q_ij K_ij(mu, mu)`` of every point, (P,); Q as of ``local_cross``."""
    points = LocalPoints.of(network, x)
    Q = points.order_parameter(order_parameter)
    on_patches = network.phi.dual.diagonal(points.variance)[0]
    if not network.shares_weights:
        return points.scale * (Q @ on_patches)
    own = np.diagonal(Q)
    return points.scale * (own @ on_patches) + _pairs_on_diagonal(points, points.scale * (Q - np.diag(own)))


def _pairs_on_diagonal(points: LocalPoints, weights: Array) -> Array:
    """sum_ij weights_ij K_ij(mu, mu), (P,)."""
    out = np.empty(points.count)

    def work(part: slice) -> None:
        patches, prepared = points.patches[:, part].swapaxes(0, 1), points.prepared[:, :, part].swapaxes(1, 2)
        block = patches @ patches.swapaxes(1, 2)
        block += points.network.offset_variance
        points.network.phi.dual.kappa(prepared[..., None], prepared[..., None, :], block, out=block)
        out[part] = np.einsum("pij,ij->p", block, weights)

    step = max(1, _BLOCK // points.grid.n_patches**2)
    linalg.run_blocks(work, [(part,) for part in slices(0, points.count, step)])
    return out


def local_kernels(network: LocalNetwork, x1: Any, x2: Any = None) -> Array:
    """K_ij(mu, nu) of all pairs of patches, (n, n, P1, P2): the definition, written down plainly.

    For looking at, and for tests; it stores n^2 P1 P2 numbers (MemoryCapError where these do not fit).
    """
    one, two = _both(network, x1, x1 if x2 is None else x2)
    n = one.grid.n_patches
    linalg.require_memory(
        8.0 * n**2 * one.count * two.count,
        f"all {n}^2 pairs of patches",
        "give fewer points, or use LocalGram",
    )
    K = np.empty((n, n, one.count, two.count))
    means = network.phi.mean(one.variance), network.phi.mean(two.variance)
    for i in range(n):
        for j in range(n):
            if i == j or network.shares_weights:
                c12 = one.patches[i] @ two.patches[j].T + network.offset_variance
                K[i, j] = network.phi.dual.kappa(one.prepared[:, i, :, None], two.prepared[:, j, None, :], c12)
            else:
                K[i, j] = np.outer(means[0][i], means[1][j])
    return K


def _both(network: LocalNetwork, x1: Any, x2: Any) -> tuple[LocalPoints, LocalPoints]:
    one, two = LocalPoints.of(network, x1), LocalPoints.of(network, x2)
    checks.same_shape(one.grid.input_shape, two.grid.input_shape)
    return one, two


# --- memory and blocks -----------------------------------------------------------------------------------


def _even(count: int) -> list[slice]:
    """Slices of equal length, at most ``_TILE``."""
    return slices(0, count, -(-count // max(1, -(-count // _TILE))))


def _tiles(count: int) -> list[tuple[slice, slice]]:
    """The upper triangle of (count, count), tile by tile: rows and columns."""
    parts = _even(count)
    return [(rows, columns) for a, rows in enumerate(parts) for columns in parts[a:]]


def _size(rows: slice, columns: slice) -> int:
    return (rows.stop - rows.start) * (columns.stop - columns.start)
