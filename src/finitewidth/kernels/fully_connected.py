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

from finitewidth import checks, linalg
from finitewidth.kernels.blocks import rectangle, triangle
from finitewidth.networks.base import Network

Array = np.ndarray
_BLOCK = (128, 256)  # doubles of a block: 262 kB, inside a second-level cache


@dataclass(frozen=True)
class Recursion:
    """What every layer needs to know of each point by itself: its variance there, and the dual's preparation."""

    network: Network
    x: Array
    layers: list[tuple[float, float]]  # (scale, offset) of K_0 = scale x.x' + offset, K_l = scale kappa + offset
    diagonals: list[Array]  # K_0 .. K_L of every point with itself
    prepared: list[Array]  # layer l < L: dual.prepare(K_l)

    @classmethod
    def of(cls, network: Network, x: Any) -> Recursion:
        x = np.ascontiguousarray(x, dtype=np.float64)
        x = x.reshape(len(x), -1)
        first, *inner, _ = network.weight_precision
        scales = [1.0 / precision for precision in (first * x.shape[1], *inner, network.readout_precision)]
        layers = list(zip(scales, [network.offset_variance] * network.depth + [0.0], strict=True))
        diagonals: list[Array] = []
        prepared: list[Array] = []
        values = np.vecdot(x, x)
        for scale, offset in layers:
            if diagonals:
                prepared.append(network.phi.dual.prepare(diagonals[-1]))
                values = network.phi.dual.diagonal(diagonals[-1])[0]
            diagonals.append(values * scale + offset)
        return cls(network, x, layers, diagonals, prepared)

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
        checks.same_shape(self.x.shape[1:], other.x.shape[1:])
        out = self.x @ other.x.T

        def work(i: slice, j: slice) -> None:
            self.through_layers(out[i, j], other, i, j)

        linalg.run_blocks(work, rectangle(len(out), out.shape[1], _BLOCK))
        return out

    def through_layers(self, block: Array, other: Recursion, i: slice, j: slice) -> None:
        """Turn a block of x.x' into one of K_L, in place."""
        for layer, (scale, offset) in enumerate(self.layers):
            if layer:
                p1, p2 = self.prepared[layer - 1][:, i, None], other.prepared[layer - 1][:, None, j]
                self.network.phi.dual.kappa(p1, p2, block, out=block)
            if scale != 1.0:
                block *= scale
            if offset:
                block += offset

    def pullback(self, cotangent: Array) -> Array:
        """``d <G, K_L> / d log lambda_l`` for l = 0..L, shape (L + 1,), G = ``cotangent`` symmetric (P, P).

        Reverse mode through the recursion; nothing of size P x P is stored, each block is done forward and back.
        With lambda_l -> lambda_l / Q_l these are also the derivatives in the order parameters of the nested closure.
        """
        dual, count, depth = self.network.phi.dual, len(self.x), self.network.depth
        total = np.zeros(depth + 1)
        diagonal_cotangent = [np.zeros(count) for _ in range(depth)] + [np.array(np.diagonal(cotangent))]
        lock = Lock()

        def work(i: slice, j: slice) -> None:
            (scale, offset), *behind = self.layers
            values, gradients = [self.x[i] @ self.x[j].T * scale + offset], []
            for prepared, (scale, offset) in zip(self.prepared, behind, strict=True):
                gradients.append(dual.gradient(prepared[:, i, None], prepared[:, None, j], values[-1]))
                values.append(gradients[-1][0] * scale + offset)
            # strictly upper triangle, twice: the diagonal goes its own way below
            g = 2.0 * cotangent[i, j] * (np.arange(j.start, j.stop) > np.arange(i.start, i.stop)[:, None])
            for layer in range(depth, -1, -1):
                scale, offset = self.layers[layer]
                own = np.vdot(g, values[layer] - offset)
                if layer:
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
            d, (scale, offset) = diagonal_cotangent[layer], self.layers[layer]
            total[layer] -= d @ (self.diagonals[layer] - offset)
            if layer:
                slope = dual.diagonal(self.diagonals[layer - 1])[1]
                diagonal_cotangent[layer - 1] += scale * slope * d
        return total
