"""The features that neurons have learned: as the single-neuron theory predicts them, or as samples show them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from finitewidth.checks.exceptions import InputError
from finitewidth.display import Displayed

Array = np.ndarray
_BEYOND = 3.0  # robust standard deviations beyond which a readout is one of a specialised neuron


def leading(matrix: Array, count: int, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Leading eigenvalues (..., count) and eigenvectors (..., count, *shape) of symmetric matrices (..., dim, dim).

    The sign is such that the entries sum to something positive.
    """
    values, vectors = np.linalg.eigh(matrix)
    vectors = np.swapaxes(vectors, -1, -2)[..., ::-1, :][..., :count, :]
    vectors = vectors * np.where(vectors.sum(-1, keepdims=True) < 0.0, -1.0, 1.0)
    return values[..., ::-1][..., :count], vectors.reshape(*vectors.shape[:-1], *shape)


@dataclass(frozen=True)
class LearnedFeatures(Displayed):
    """Features of one hidden layer on the training points.

    weight_covariance: ``lambda_0 <w w^T>`` (N0, N0), of a filter (M, M), or one matrix a patch (n, M, M); the identity
        under the prior. With offsets the theory's has one more row, the last.
    hidden_kernel: ``<phi phi^T> / N`` (P, P); with patches their mean.
    readouts: ``sqrt(lambda_1) v`` of equally likely neurons, (samples, readouts of a neuron); None where not recorded.
    input_shape: of what one neuron looks at.
    """

    weight_covariance: Array
    hidden_kernel: Array
    readouts: Array | None
    input_shape: tuple[int, ...]

    def receptive_fields(self, count: int = 3) -> tuple[Array, Array]:
        """Leading eigenvalues (count,) of the weight covariance and eigenvectors, (count, *input_shape).

        With one matrix a patch, of their mean. The sign is such that the entries sum to something positive.
        """
        matrix = self.weight_covariance
        matrix = matrix.mean(0) if matrix.ndim == 3 else matrix
        size = math.prod(self.input_shape)
        return leading(matrix[:size, :size], count, self.input_shape)

    @property
    def specialised(self) -> float:
        """Fraction of readouts beyond three robust standard deviations (median |v| / 0.6745); Gaussian: 0.0027.

        Raises InputError where readouts were not recorded.
        """
        if self.readouts is None:
            raise InputError(
                "features without readouts", "the law of v", "take solution.features of the single-neuron theory"
            )
        deviation = np.median(np.abs(self.readouts), axis=0) / 0.6745
        return float(np.mean(np.abs(self.readouts) > _BEYOND * deviation))
