"""The nested closure of deep networks: ``K_l = Q_l kappa[K_{l-1}] / lambda_l``.

Each order parameter renormalises its layer before the next activation acts, so it is the NNGP recursion with precisions
``lambda_l / Q_l``: the kernel and its derivatives come from there unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from finitewidth import kernels
from finitewidth.checks.exceptions import InputError
from finitewidth.data import Dataset
from finitewidth.inference.likelihoods import Gaussian, GaussianPosterior
from finitewidth.linalg import require_memory, x_minus_log1p
from finitewidth.networks import FullyConnected
from finitewidth.runs.durations import Piece
from finitewidth.theory.action import scalar_rate
from finitewidth.theory.general import CovarianceSaddle, dips
from finitewidth.theory.outputs import SeveralOutputs
from finitewidth.theory.scaled import ScaledKernel
from finitewidth.theory.solution import EvidenceGradient, Theory
from finitewidth.theory.spectrum import KernelSpectrum

Array = np.ndarray
_SCAN = np.linspace(-2.0, 2.0, 9)  # log Q, all layers alike, around the product closure's best scale
_EVALUATIONS = 16  # of an action, until it is minimised: measured on digits


@dataclass(frozen=True)
class Nested(CovarianceSaddle["NestedScan"]):
    """One scalar a layer, each inside the next activation; equal to the product closure for homogeneous phi."""

    network: FullyConnected
    temperature: float
    by_default: bool = False  # not chosen by name: several outputs may then take the product closure
    closure = "nested"
    method = "saddle"

    def renormalised(self, order_parameters: Array) -> FullyConnected:
        """The network whose NNGP kernel is K_R(Q)."""
        precisions = np.asarray(self.network.weight_precision)
        return replace(self.network, weight_precision=(precisions[0], *(precisions[1:] / np.asarray(order_parameters))))

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
        shift = np.expm1(log_q)
        rate = sum(float(scalar_rate(n, s)) for n, s in zip(self.widths, shift, strict=True))
        return 0.5 * rate, 0.5 * np.asarray(self.widths) * shift

    def pull(self, train: Dataset, order_parameters: Array, cotangent: Array) -> Array:
        """Through the kernel recursion."""
        return -kernels.nngp_pullback(self.renormalised(order_parameters), train.x, cotangent)[1:]

    def factorise(self, train: Dataset, memory: float | None = None) -> NestedScan:
        """The work that all widths share."""
        return NestedScan(self.network, train, memory)

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

    def starts(self, train: Dataset, shared: NestedScan) -> list[Array]:
        """The scan's local minima and those of the product closure."""
        return shared.starts(self)

    def gradient(self, train: Dataset, order_parameters: Array) -> Callable[[], EvidenceGradient]:
        """See ``TheorySolution.evidence_gradient``."""
        return partial(evidence_gradient, self, train, order_parameters)

    # --- how long it takes ----------------------------------------------------------------------------------------

    def pieces(self, rows: int, train: Dataset, at: Array) -> list[Piece]:
        zero = np.zeros(self.network.depth)
        return [
            Piece(lambda: KernelSpectrum.of(self.network, train), 1),
            Piece(lambda: self.action(train, zero), 4 + 8 * rows),
            Piece(lambda: self.predictor(train, np.exp(zero)).predict(at), rows),
        ]

    def operations(self, rows: int, train: Dataset, covariances: float) -> float:
        each = 3.0 * train.y.size**3 + covariances
        return _EVALUATIONS * rows * each

    def work(self, rows: int, train: Dataset) -> tuple[str, str]:
        more = f", {rows} rows" if rows > 1 else ""
        what = f"the nested closure on {train.n_points:,} training points{more}"
        return what, "use fewer training points (n_train), fewer widths or closure='product'"


class NestedScan:
    """Energies on a line through log Q, stored: they are the same for every width, only the rate differs."""

    def __init__(self, network: FullyConnected, train: Dataset, memory: float | None = None) -> None:
        require_memory(
            8.0 * 5 * train.n_points**2 + 3 * train.flat.nbytes,
            f"the nested closure on {train.n_points} points",
            "use fewer training points, closure='product', or raise the memory cap",
            memory,
        )
        self.train = train
        self._spectrum: KernelSpectrum | None = None
        self._energies: dict[tuple[Any, ...], float] = {}

    def starts(self, theory: Nested) -> list[Array]:
        """log Q of the product closure's minima, and of the local minima of the action on the scanned line."""
        product = ScaledKernel(theory.network, theory.temperature)
        if self._spectrum is None:
            self._spectrum = KernelSpectrum.of(theory.network, self.train)
        solved = product.solve(self.train, self._spectrum)
        starts = [np.log(m.order_parameters) for m in solved.minima]
        line = [x * np.ones(theory.network.depth) for x in _SCAN]
        actions = np.array([theory.rate(np.exp(x)) / 2 + self._energy(theory, x) for x in line])
        return starts + [line[k] for k in dips(actions) if all(np.abs(line[k] - s).max() > 0.3 for s in starts)]

    def _energy(self, theory: Nested, log_q: Array) -> float:
        key = (theory.network.weight_precision, theory.network.readout_precision, theory.temperature, *log_q)
        if key not in self._energies:
            self._energies[key] = theory.energy(self.train, np.exp(log_q))
        return self._energies[key]


def evidence_gradient(theory: Nested, train: Dataset, q: Array) -> EvidenceGradient:
    """See ``TheorySolution.evidence_gradient``."""
    network, posterior = theory.renormalised(q), theory.posterior(train, q)
    by_log_precision = -kernels.nngp_pullback(network, train.x, posterior.cotangent())
    by_width = -0.5 * x_minus_log1p(q - 1.0)
    if network.readout == "mean-field":
        by_width[-1] += by_log_precision[-1] / network.widths[-1]
    return {
        "temperature": -posterior.by_temperature(),
        "weight_precision": by_log_precision / np.asarray(theory.network.weight_precision),
        "width": by_width,
    }
