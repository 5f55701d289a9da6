"""The nested closure of deep networks: ``K_l = Q_l kappa[K_{l-1}] / lambda_l``.

Each order parameter renormalises its layer before the next activation acts, so it is the NNGP recursion with precisions
``lambda_l / Q_l``: the kernel and its derivatives come from there unchanged.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from finitewidth import kernels
from finitewidth.checks.exceptions import InputError
from finitewidth.data import Dataset
from finitewidth.inference.likelihoods import Gaussian, GaussianPosterior
from finitewidth.linalg import require_memory, x_minus_log1p
from finitewidth.networks import FullyConnected
from finitewidth.runs.durations import Piece
from finitewidth.theory.general import General
from finitewidth.theory.outputs import SeveralOutputs
from finitewidth.theory.scaled import ScaledKernel
from finitewidth.theory.solution import EvidenceGradient, Theory, gradient_of
from finitewidth.theory.spectrum import KernelSpectrum, sharing

Array = np.ndarray
_SCAN = np.linspace(-2.0, 2.0, 9)  # log Q, all layers alike, around the product closure's best scale


@dataclass(frozen=True)
class Nested(General):
    """One scalar a layer, each inside the next activation; equal to the product closure for homogeneous phi."""

    by_default: bool = False  # not chosen by name: several outputs may then take the product closure
    closure = "nested"

    def renormalised(self, order_parameters: Array) -> FullyConnected:
        """The network whose NNGP kernel is K_R(Q)."""
        precisions = np.asarray(self.network.weight_precision)
        values = precisions[0], *(precisions[1:] / np.asarray(order_parameters))
        return replace(self.network, weight_precision=values)  # type: ignore[return-value]

    def covariance(self, order_parameters: Array, x1: Array, x2: Array | None = None) -> Array:
        """K_R, (points1, points2)."""
        return kernels.nngp(self.renormalised(order_parameters), x1, x2)

    def prior_variance(self, order_parameters: Array, x: Array) -> Array:
        """K_R of every point with itself, (points,)."""
        return kernels.nngp_diagonal(self.renormalised(order_parameters), x)

    def posterior(self, train: Dataset, order_parameters: Array) -> GaussianPosterior:
        """Of the training targets under K_R."""
        return Gaussian(self.temperature).posterior(self.covariance(order_parameters, train.x), train.y)

    def cost(self, log_q: Array) -> tuple[float, Array]:
        """Half the rate, and its derivative in log Q."""
        shift, widths = np.expm1(log_q), np.asarray(self.widths)
        return 0.5 * float((widths * x_minus_log1p(shift)).sum()), 0.5 * widths * shift

    def pull(self, train: Dataset, order_parameters: Array, cotangent: Array) -> Array:
        """Through the kernel recursion."""
        return -kernels.nngp_pullback(self.renormalised(order_parameters), train.x, cotangent)[1:]

    @property
    def sharing(self) -> Hashable:
        """The spectrum of the product closure, whose minima are starts, serves every width and temperature."""
        return sharing(self.network)

    def factorise(self, train: Dataset, memory: float | None = None) -> KernelSpectrum:
        """The spectrum of the product closure, whose minima are starts. Raises MemoryCapError beforehand."""
        require_memory(
            8.0 * 5 * train.n_points**2 + 3 * train.flat.nbytes,
            f"the nested closure on {train.n_points} points",
            "use fewer training points, closure='product', or raise the memory cap",
            memory,
        )
        return KernelSpectrum.of(self.network, train, memory)

    def for_outputs(self, n_outputs: int) -> Theory[Any]:
        """The product closure's matrix, unless the nested closure was chosen by name: InputError then."""
        if n_outputs == 1:
            return self
        if not self.by_default:
            raise InputError(
                f"closure = 'nested' with {n_outputs} outputs",
                "the product closure, whose Q is a matrix",
                "leave closure out",
            )
        return SeveralOutputs(self.network, self.temperature)

    def starts(self, train: Dataset, shared: KernelSpectrum) -> list[Array]:
        """log Q of the product closure's minima, and of the dips of the action where all layers have the same Q."""
        product = ScaledKernel(self.network, self.temperature).solve(train, shared)
        starts = [np.log(minimum.order_parameters) for minimum in product.minima]
        return starts + [x for x in self.dips(train, _SCAN) if all(np.abs(x - s).max() > 0.3 for s in starts)]

    def gradient(self, train: Dataset, q: Array) -> EvidenceGradient:
        """See ``TheorySolution.evidence_gradient``."""
        posterior = self.posterior(train, q)
        by_log_precision = -kernels.nngp_pullback(self.renormalised(q), train.x, posterior.cotangent())
        by_width = -0.5 * x_minus_log1p(q - 1.0)
        return gradient_of(self.network, -posterior.by_temperature(), by_log_precision, by_width)

    # --- how long it takes ----------------------------------------------------------------------------------------

    def pieces(self, rows: int, train: Dataset, at: Array) -> list[Piece]:
        zero = np.zeros(self.network.depth)
        return [
            Piece(lambda: KernelSpectrum.of(self.network, train), 1),
            Piece(lambda: self.action(train, zero), 4 + 8 * rows),
            Piece(lambda: self.predictor(train, np.exp(zero)).predict(at), rows),
        ]

    def work(self, rows: int, train: Dataset) -> tuple[str, str]:
        what, remedy = super().work(rows, train)
        return what.replace("action", "nested closure"), f"{remedy}, fewer widths or closure='product'"
