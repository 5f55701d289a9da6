"""The NNGP kernel of fully connected networks: covariance of the outputs at infinite width, and its derivatives.

``K_0 = x.x' / (lambda_0 N0) + 1/lambda_b``, ``K_{l+1} = kappa[K_l] / lambda_{l+1} (+ 1/lambda_b below the readout)``
(docs/theory.md section 1; Lee et al. 2018). Work goes in blocks that stay in cache: all layers of a block are
done before the next block is touched, the symmetric half only once, on all threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from finitewidth import linalg
from finitewidth.checks.exceptions import InputError
from finitewidth.kernels.blocks import rectangle, triangle
from finitewidth.networks.base import Network

Array = np.ndarray
_BLOCK = (128, 256)  # doubles of a block: 262 kB, inside a second-level cache


def nngp(network: Network, x1: Any, x2: Any = None) -> Array:
    """K_L of shape (points1, points2), float64, symmetric when ``x2`` is None.

    ``x1``, ``x2``: (points, inputs) or images (points, height, width [, channels]), flattened.
    The readout precision is included: this is the covariance of f. Raises InputError for unequal input sizes.
    """
    rows = Recursion.of(network, x1)
    if x2 is None:
        return rows.gram()
    columns = Recursion.of(network, x2)
    return rows.cross(columns)


def nngp_diagonal(network: Network, x: Any) -> Array:
    """K_L(x, x) for every point, shape (points,)."""
    return Recursion.of(network, x).diagonals[-1]


@dataclass(frozen=True)
class Recursion:
    """What every layer needs to know of each point by itself: its variance there, and the dual's preparation."""

    network: Network
    x: Array
    diagonals: list[Array]  # K_0 .. K_L of every point with itself
    prepared: list[Array]  # layer l: dual.prepare(K_l)

    @classmethod
    def of(cls, network: Network, x: Any) -> Recursion:
        x = np.ascontiguousarray(x, dtype=np.float64)
        x = x.reshape(len(x), -1)
        variance = np.vecdot(x, x) / (network.weight_precision[0] * x.shape[1])
        diagonals, prepared = [variance + network.offset_variance], []
        for layer in range(network.depth):
            prepared.append(network.phi.dual.prepare(diagonals[-1]))
            scale, offset = cls._affine(network, layer)
            diagonals.append(network.phi.dual.diagonal(diagonals[-1])[0] * scale + offset)
        return cls(network, x, diagonals, prepared)

    @staticmethod
    def _affine(network: Network, layer: int) -> tuple[float, float]:
        """(1/lambda, offset variance) that follow the dual of hidden layer ``layer`` + 1."""
        last = layer == network.depth - 1
        precision = network.readout_precision if last else network.weight_precision[layer + 1]
        return 1.0 / precision, 0.0 if last else network.offset_variance

    @property
    def _input_scale(self) -> float:
        return 1.0 / (self.network.weight_precision[0] * self.x.shape[1])

    def gram(self) -> Array:
        """K_L of all pairs, (P, P)."""
        count = len(self.x)
        gram = np.empty((count, count))

        def work(i: slice, j: slice) -> None:
            block, width = gram[i, j], i.stop - i.start
            np.matmul(self.x[i], self.x[j].T, out=block)
            self.through_layers(block, self, i, j)
            if j.start == i.start:  # rounding of a product need not be symmetric: the upper half is taken
                square = block[:, :width]
                square[:] = np.triu(square) + np.triu(square, 1).T
                gram[j.start + width : j.stop, i] = block[:, width:].T
            else:
                gram[j, i] = block.T

        linalg.run_blocks(work, triangle(count, _BLOCK))
        gram[np.diag_indices(count)] = self.diagonals[-1]
        return gram

    def cross(self, other: Recursion) -> Array:
        """K_L between the points of two sets, (P1, P2)."""
        if self.x.shape[1] != other.x.shape[1]:
            raise InputError(
                f"points with {self.x.shape[1]} and with {other.x.shape[1]} inputs",
                "the same number of inputs in both sets",
                "prepare both in the same way",
            )
        out = self.x @ other.x.T

        def work(i: slice, j: slice) -> None:
            self.through_layers(out[i, j], other, i, j)

        linalg.run_blocks(work, rectangle(len(out), out.shape[1], _BLOCK))
        return out

    def through_layers(self, block: Array, other: Recursion, i: slice, j: slice) -> None:
        """Turn a block of x.x' into one of K_L, in place."""
        scale, offset = self._input_scale, self.network.offset_variance
        for layer in range(self.network.depth):
            _scale_and_shift(block, scale, offset)
            p1, p2 = self.prepared[layer][:, i, None], other.prepared[layer][:, None, j]
            self.network.phi.dual.kappa(p1, p2, block, out=block)
            scale, offset = self._affine(self.network, layer)
        _scale_and_shift(block, scale, offset)

    def pullback(self, cotangent: Array) -> Array:
        """``d <G, K_L> / d log lambda_l`` for l = 0..L, shape (L + 1,), G = ``cotangent`` symmetric (P, P).

        Reverse mode through the recursion; nothing of size P x P is stored, each block is done forward and back.
        With lambda_l -> lambda_l / Q_l these are also the derivatives in the order parameters of the nested closure.
        """
        network, count, depth = self.network, len(self.x), self.network.depth
        offsets = [network.offset_variance] + [self._affine(network, layer)[1] for layer in range(depth)]
        total = np.zeros(depth + 1)
        diagonal_cotangent = [np.zeros(count) for _ in range(depth)] + [np.array(np.diagonal(cotangent))]
        lock = Lock()

        def work(i: slice, j: slice) -> None:
            values = [self.x[i] @ self.x[j].T * self._input_scale + offsets[0]]
            gradients = []
            for layer in range(depth):
                p1, p2 = self.prepared[layer][:, i, None], self.prepared[layer][:, None, j]
                gradients.append(network.phi.dual.gradient(p1, p2, values[-1]))
                scale, offset = self._affine(network, layer)
                values.append(gradients[-1][0] * scale + offset)
            # strictly upper triangle, twice: the diagonal goes its own way below
            g = 2.0 * cotangent[i, j] * (np.arange(j.start, j.stop) > np.arange(i.start, i.stop)[:, None])
            for layer in range(depth, -1, -1):
                own = np.vdot(g, values[layer] - offsets[layer])
                if layer:
                    scale = self._affine(network, layer - 1)[0]
                    _, d11, d12, d22 = gradients[layer - 1]
                    rows, columns = scale * (g * d11).sum(1), scale * (g * d22).sum(0)
                    g = scale * g * d12
                with lock:
                    total[layer] -= own
                    if layer:
                        diagonal_cotangent[layer - 1][i] += rows
                        diagonal_cotangent[layer - 1][j] += columns

        linalg.run_blocks(work, triangle(count, _BLOCK))
        for layer in range(depth, -1, -1):
            d = diagonal_cotangent[layer]
            total[layer] -= d @ (self.diagonals[layer] - offsets[layer])
            if layer:
                slope = network.phi.dual.diagonal(self.diagonals[layer - 1])[1]
                diagonal_cotangent[layer - 1] += self._affine(network, layer - 1)[0] * slope * d
        return total


def _scale_and_shift(block: Array, scale: float, offset: float) -> None:
    if scale != 1.0:
        block *= scale
    if offset:
        block += offset
