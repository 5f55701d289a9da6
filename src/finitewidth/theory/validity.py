"""How far a prediction of the action may be off, without sampling a posterior.

The action takes features for Gaussian. A short run of the single-neuron theory (``short_run``), which does not, is put
beside it: both give a leave-one-out error from the training set alone, and their ratio is the estimate. Deep networks:
the neurons of the last hidden layer, whose inputs are taken for Gaussian with the covariance that the action gives.
Calibrated on sampled posteriors: docs/validity.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from finitewidth import kernels
from finitewidth.checks.exceptions import InputError
from finitewidth.data import Dataset
from finitewidth.display import Displayed
from finitewidth.linalg import RegularisedGram, Spectrum, arithmetic
from finitewidth.networks import Network
from finitewidth.theory.action import SpectralEnergy
from finitewidth.theory.neuron.design import Design
from finitewidth.theory.saddle import DataTermTable, scale_minima
from finitewidth.theory.short_run import OneLayer, short_run
from finitewidth.theory.validated import applies, outside_validated

if TYPE_CHECKING:
    from finitewidth.theory.solution import Theory, TheorySolution

Array = np.ndarray
_POINTS = 150  # training points that the short run looks at, at most
_PARTICLES, _ROUNDS = 400, 100
UNRELIABLE, DOUBTFUL = 0.10, 0.03
# Fitted to the sampled cases of docs/validity.md. Above a Q of about two the quadratic response exaggerates:
_STRONG, _POWER = 1.9, 6
_FARTHEST = 1.7  # and nothing is known beyond so many times that
_RUNAWAY = 2.0  # the largest ratio of strength to Q in those cases is 1.3
_DEEP = 2.0  # the layers below the last one add about as much as it does


@dataclass(frozen=True)
class Validity(Displayed):
    """What to expect of a prediction.

    expected_relative_error: estimate of |predicted / true - 1| of the test error. statement: one sentence.
    """

    expected_relative_error: float
    statement: str


def validity(solution: TheorySolution) -> Validity:
    """The expected relative error of a prediction of the action, at the cost of a second or two.

    Of several outputs the one with the largest spread is looked at; of more than 150 training points the first 150,
    at a width that keeps P / N. Not known (NaN) outside the range in which it was calibrated: data of unusual size, or
    a large Q. Raises InputError for a solution of the single-neuron theory or at infinite width,
    which are not the action's, and for one that did not converge.
    """
    theory = solution.theory
    if not applies(solution):
        state = "" if solution.converged else " that did not converge"
        raise InputError(
            f"the validity of a solution of {type(theory.network).__name__} by method {theory.method!r}{state}",
            "a converged prediction of the action (method 'saddle' or 'integrate') for one of the package's networks",
            "solve it with method='saddle'",
        )
    outside = outside_validated(solution)
    if outside is not None:
        return Validity(math.nan, f"not known: {outside.what}")
    try:
        with arithmetic(min(solution.train.n_points, _POINTS)):
            found = estimate(theory.network, solution.train, theory.temperature, solution.order_parameters)
    except (InputError, np.linalg.LinAlgError):  # the short run left the range of floating point
        return Validity(math.nan, "not known: the short run that estimates it did not stay finite")
    return statement_of(found, theory)


@dataclass(frozen=True)
class Estimate:
    """Leave-one-out errors of one effective hidden layer: in the action, and in the short run of the neuron theory.

    strength: lambda_1 E[v^2] in the latter. q: of the action. depth: of the network.
    """

    action: float
    neuron: float
    q: float
    strength: float
    depth: int

    @property
    def relative(self) -> float:
        """``|action / neuron - 1|``, less where the response is not quadratic, more for deep networks.

        At least 1 where the short run ran away from the action: it is not known where it would settle, only that it
        is far.
        """
        raw = abs(self.action / self.neuron - 1.0)
        strong = min(self.q / _STRONG, _FARTHEST)
        error = raw * (_DEEP if self.depth > 1 else 1.0) / (1.0 + strong**_POWER)
        return max(error, 1.0) if self.strength > _RUNAWAY * max(self.q, 1.0) else error


def estimate(network: Network, train: Dataset, temperature: float, order_parameters: Array, seed: int = 0) -> Estimate:
    """The two leave-one-out errors on (part of) the training set."""
    count = min(train.n_points, _POINTS)
    part = train.subset(np.arange(count))
    y = part.y.reshape(count, -1)
    y = y[:, np.argmax(y.var(0))] if y.shape[1] > 1 else y[:, 0]
    width = max(1, round(network.widths[-1] * count / train.n_points))
    problem, kernel, together = _effective(network, part, y, temperature, width, order_parameters)
    table = DataTermTable(SpectralEnergy.of(Spectrum.of(kernel.copy(), overwrite=True), y), temperature)
    minima = scale_minima(table, (together,), 0.0)
    q = float(minima[0].order_parameters[0]) if minima else 1.0
    s = RegularisedGram(q * kernel, temperature).solve(y)
    particles = max(120, _PARTICLES // problem.patches)
    found = short_run(problem, s, q * kernel, particles, _ROUNDS, seed)
    action_error = leave_one_out(q * kernel, s, temperature)
    neuron_error = leave_one_out(found.kernel, found.s, temperature)
    return Estimate(action_error, neuron_error, q, found.strength, network.depth)


def leave_one_out(kernel: Array, s: Array, temperature: float) -> float:
    """Mean squared error of f at a point that is left out, from s = (y - f) / T and K_R (P, P) of the training points.

    Leaving a point out moves the rest linearly, with R = ds/dy: ``(s_i / R_ii)^2 + 1 / R_ii - T``, exact for Gaussian
    processes (Rasmussen and Williams 2006, section 5.4.2).
    """
    diagonal = np.diagonal(RegularisedGram(kernel, temperature).inverse())
    return float(np.mean((s / diagonal) ** 2 + 1.0 / diagonal) - temperature)


def _effective(
    network: Network, train: Dataset, y: Array, temperature: float, width: int, order_parameters: Array
) -> tuple[OneLayer, Array, int]:
    """One hidden layer, its kernel (P, P), and the number of scalars times neurons that share q in its action."""
    if network.depth == 1:
        design = Design.of(network, train.x)
        kernel = kernels.nngp(network, train.x)
        unpooled = network.patched
        together = width * (design.n_preactivations * design.n_populations if unpooled else 1)
        rows, scale, pooled = design.rows, design.feature_scale, design.pooled
    else:
        covariance = last_covariance(network, train.x, order_parameters)
        spectrum = Spectrum.of(covariance.copy(), overwrite=True)
        kept = spectrum.values > 1e-10 * spectrum.values[-1]
        rows = (spectrum.vectors[:, kept] * np.sqrt(spectrum.values[kept]))[None]
        variance = np.diagonal(covariance)
        kernel = network.phi.kappa(variance[:, None], covariance, variance[None, :]) / network.readout_precision
        together, scale, pooled = width, 1.0 / np.sqrt(network.readout_precision), False
    return OneLayer(network.phi.function, rows, y, temperature, width, float(scale), pooled), kernel, together


def last_covariance(network: Network, x: Array, order_parameters: Array) -> Array:
    """Covariance (P, P) of the preactivations of the last hidden layer, each layer below scaled by its Q."""
    below = len(network.widths) - 1
    q = np.asarray(order_parameters, dtype=float)
    q = q[:below] if q.size == below + 1 else np.ones(below)
    precisions = list(network.weight_precision[:-1])
    for layer in range(below):
        precisions[layer + 1] /= q[layer]
    lower = replace(network, widths=network.widths[:-1], weight_precision=precisions, readout="standard")  # type: ignore[call-arg]
    return kernels.nngp(lower, x) + network.offset_variance


def statement_of(found: Estimate, theory: Theory[Any]) -> Validity:
    """Words for an estimate; the bounds are those that docs/validity.md calibrates."""
    depth = theory.network.depth
    error = found.relative
    if not math.isfinite(error):
        return Validity(math.nan, "not known: the short run that estimates it did not stay finite")
    share = f"about {100 * error:.0f} %" if error <= 1.0 else "a factor of two or more"
    if error > UNRELIABLE:
        text = f"features are far from Gaussian: the test error may be off by {share}; "
        text += "use method neuron, or compare with samples" if depth == 1 else "compare with samples"
    elif error > DOUBTFUL:
        text = f"features are not quite Gaussian: expect the test error to be off by {share}"
    else:
        text = "features are close to Gaussian: expect the test error to hold within a few per cent"
    if depth > 1:
        text += f" (estimated for the last of {depth} hidden layers)"
    return Validity(error, text)
