"""Saddles over one scalar a hidden layer, whose covariance has to be computed anew at each of them.

``F(Q) = 1/2 rate(Q) - log evidence of y under K_R(Q)`` (docs/theory.md section 2) for any likelihood. ``General`` needs
nothing but a rate and a covariance, for what is the user's own: how K_R changes with log Q is a central difference.
``Nested`` knows both in closed form.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from finitewidth import checks, kernels
from finitewidth.checks.exceptions import InputError
from finitewidth.data import Dataset
from finitewidth.inference.likelihoods import Likelihood
from finitewidth.linalg import require_memory, x_minus_log1p
from finitewidth.networks import FullyConnected, Network
from finitewidth.theory.saddle import DESCENT_TOLERANCE, Minimum, local_minima
from finitewidth.theory.scaled import ScaledKernel, SeveralOutputs
from finitewidth.theory.solution import (
    CovariancePredictor,
    ScalarTheory,
    Theory,
    TheorySolution,
    at_saddle,
    infinite_by_conditioning,
)
from finitewidth.theory.spectrum import KernelSpectrum, sharing

Array = np.ndarray
_SCAN = np.linspace(-3.0, 3.0, 13)  # log Q, all layers alike: where descents start from
_NEAR = np.linspace(-2.0, 2.0, 9)  # of the nested closure, around the product closure's best scale
_STEP = 1e-4  # of log Q in central differences: their error is of order 1e-8
_BLOCK = 256  # points whose covariance with one another is computed for the sake of its diagonal


@dataclass(frozen=True)
class General(ScalarTheory[Any]):
    """A network of the user's own, or any network whose kernel Q rescales, under any likelihood; one output.

    With ``infinite`` no order parameter at all.
    """

    network: Network
    noise: Likelihood
    infinite: bool = False

    @property
    def likelihood(self) -> Likelihood:
        return self.noise

    @property
    def closure(self) -> str:
        """ "own" where the network states its covariance."""
        return "own" if self.network.own else "product"

    @property
    def temperature(self) -> float:
        return self.noise.temperature

    def covariance(self, order_parameters: Array, x1: Array, x2: Array | None = None) -> Array:
        return covariance(self.network, order_parameters, x1, x1 if x2 is None else x2)

    def prior_variance(self, order_parameters: Array, x: Array) -> Array:
        blocks = [x[start : start + _BLOCK] for start in range(0, len(x), _BLOCK)]
        return np.concatenate([np.diagonal(self.covariance(order_parameters, part)) for part in blocks])

    def cost(self, log_q: Array) -> tuple[float, Array]:
        """Half the rate, nats, and its derivative in log Q."""
        q = np.exp(log_q)
        return 0.5 * self.rate(q), by_log(lambda at: np.array(0.5 * self.rate(at)), q, np.ones(()))

    def pull(self, train: Dataset, order_parameters: Array, cotangent: Array) -> Array:
        """``<cotangent, d K_R / d log Q_l>`` of the training points for every layer, by central differences."""
        return by_log(lambda at: self.covariance(at, train.x), order_parameters, cotangent)

    def factorise(self, train: Dataset, memory: float | None = None) -> Any:
        """Nothing is shared: the covariance may depend on the width in any way. Refuses what does not fit."""
        require_memory(
            8.0 * 6 * train.n_points**2 + 3 * train.flat.nbytes,
            f"the action on {train.n_points} points",
            "use fewer training points, or raise the memory cap",
            memory,
        )

    def for_outputs(self, n_outputs: int) -> Theory[Any]:
        """One output only, but at infinite width under Gaussian noise."""
        if n_outputs > 1 and not self.infinite:
            raise InputError(
                f"{n_outputs} outputs with {type(self.network).__name__}",
                "one output: the order parameters of an architecture or likelihood of your own are scalars",
                "predict one output at a time, or use method='infinite'",
            )
        return self

    def energy(self, train: Dataset, order_parameters: Array) -> float:
        """Minus the log evidence of the targets under K_R, nats."""
        return self.posterior(train, order_parameters).energy

    def action(self, train: Dataset, log_q: Array) -> tuple[float, Array]:
        """F and its derivative in log Q; a wild step is infinitely bad, not an error."""
        if np.abs(log_q).max() > 60.0:
            return np.inf, np.zeros_like(log_q)
        q = np.exp(log_q)
        posterior, (cost, slope) = self.posterior(train, q), self.cost(log_q)
        return float(cost + posterior.energy), slope + self.pull(train, q, posterior.cotangent())

    def minima(self, train: Dataset, shared: Any) -> tuple[Minimum, ...]:
        """Local minima of the action, the best first."""
        unit = np.sqrt(0.5 * np.asarray(self.widths, dtype=float))  # one prior deviation of each log Q

        def objective(v: Array) -> tuple[float, Array]:
            value, slope = self.action(train, v / unit)
            return value, slope / unit

        starts = [unit * start for start in self.starts(train, shared)]
        found = local_minima(objective, starts, DESCENT_TOLERANCE * train.y.size)
        return tuple(Minimum(np.exp(v / unit), value, left) for v, value, left in found)

    def solve(self, train: Dataset, shared: Any = None, memory: float | None = None) -> TheorySolution:
        """Minimise the action from every start."""
        shared = shared or self.factorise(train, memory)
        q = np.ones(self.network.depth)
        if self.infinite:
            return infinite_by_conditioning(CovariancePredictor(self, train, q))
        minima = self.minima(train, shared)
        q = minima[0].order_parameters if minima else q
        predictor = CovariancePredictor(self, train, q)
        return at_saddle(self, train, minima, q, predictor, partial(self.gradient, predictor))

    def starts(self, train: Dataset, shared: Any) -> list[Array]:
        """log Q from which to descend."""
        return self.dips(train, _SCAN)

    def dips(self, train: Dataset, scan: Array) -> list[Array]:
        """log Q where the action, all layers having the same of these log Q, is no larger than beside."""
        line = [x * np.ones(self.network.depth) for x in scan]
        actions = np.array([0.5 * self.rate(np.exp(x)) + self.energy(train, np.exp(x)) for x in line])
        padded = np.concatenate([[np.inf], actions, [np.inf]])
        found = (padded[1:-1] <= padded[:-2]) & (padded[1:-1] <= padded[2:])
        return [line[k] for k in np.flatnonzero(found)]

    def pull_precisions(self, train: Dataset, q: Array, cotangent: Array) -> Array:
        def at(values: Array) -> Array:
            return covariance(self.network.with_precision(tuple(values)), q, train.x, train.x)

        return by_log(at, np.asarray(self.network.weight_precision), cotangent)


def covariance(network: Network, order_parameters: Array, x1: Array, x2: Array) -> Array:
    """K_R(Q): the kernel, rescaled; or what a network of the user's own states, checked.

    That is a finite (points1, points2) array, symmetric where it has to be; InputError otherwise.
    """
    q = np.asarray(order_parameters, dtype=float)
    if not network.own:
        return float(np.prod(q)) * kernels.nngp(network, x1, None if x1 is x2 else x2)
    name = f"the covariance of {type(network).__name__}"
    found = checks.real_array(name, network.covariance(q, x1, x2), (2,))
    if found.shape != (len(x1), len(x2)):
        raise InputError(
            f"{name} of shape {found.shape}",
            f"shape ({len(x1)}, {len(x2)}), a row a point of x1 and a column a point of x2",
            "return K_R(Q) between all pairs of points",
        )
    if x1 is x2 and not np.allclose(found, found.T, rtol=1e-8, atol=1e-12 * np.abs(found).max()):
        raise InputError(f"{name}, which is not symmetric", "k(x, x') = k(x', x)", "correct covariance()")
    return found


def by_log(function: Callable[[Array], Array], at: Array, cotangent: Array) -> Array:
    """``<cotangent, d function / d log at_l>`` for every l, by central differences."""
    out = np.empty(len(at))
    for layer in range(len(at)):
        step = np.where(np.arange(len(at)) == layer, _STEP, 0.0)
        change = function(at * np.exp(step)) - function(at * np.exp(-step))
        out[layer] = float(np.vdot(cotangent, change)) / (2.0 * _STEP)
    return out


# --- the nested closure ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Nested(General):
    """The nested closure of deep networks: ``K_l = Q_l kappa[K_{l-1}] / lambda_l``.

    Each order parameter renormalises its layer before the next activation acts, so it is the NNGP recursion with
    precisions ``lambda_l / Q_l``, whose derivatives are known. Equal to the product closure for homogeneous phi.
    """

    by_default: bool = False  # not chosen by name: several outputs may then take the product closure
    closure = "nested"
    work = "the nested closure"
    remedy = f"{Theory.remedy}, fewer widths or closure='product'"

    def renormalised(self, order_parameters: Array) -> FullyConnected:
        """The network whose NNGP kernel is K_R(Q)."""
        precisions = np.asarray(self.network.weight_precision)
        values = precisions[0], *(precisions[1:] / np.asarray(order_parameters))
        return replace(self.network, weight_precision=values)  # type: ignore[return-value]

    def covariance(self, order_parameters: Array, x1: Array, x2: Array | None = None) -> Array:
        return kernels.nngp(self.renormalised(order_parameters), x1, x2)

    def prior_variance(self, order_parameters: Array, x: Array) -> Array:
        return kernels.nngp_diagonal(self.renormalised(order_parameters), x)

    def cost(self, log_q: Array) -> tuple[float, Array]:
        shift, widths = np.expm1(log_q), np.asarray(self.widths)
        return 0.5 * float((widths * x_minus_log1p(shift)).sum()), 0.5 * widths * shift

    def pull(self, train: Dataset, order_parameters: Array, cotangent: Array) -> Array:
        """Through the kernel recursion."""
        return -self.pull_precisions(train, order_parameters, cotangent)[1:]

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
        return starts + [x for x in self.dips(train, _NEAR) if all(np.abs(x - s).max() > 0.3 for s in starts)]

    def pull_precisions(self, train: Dataset, q: Array, cotangent: Array) -> Array:
        return kernels.nngp_pullback(self.renormalised(q), train.x, cotangent)
