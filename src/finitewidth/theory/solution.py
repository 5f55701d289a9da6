"""What solving a theory on a data set gives: order parameters, evidence, and a way to predict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from finitewidth import checks
from finitewidth.data import Dataset
from finitewidth.display import Displayed, chosen
from finitewidth.exceptions import InputError
from finitewidth.linalg import arithmetic
from finitewidth.networks.scale import Departure, unusual_scale
from finitewidth.prediction import Prediction
from finitewidth.theory.learned import LearnedFeatures
from finitewidth.theory.saddle import GRADIENT_TOLERANCE, Minimum

Array = np.ndarray


class Theory(Displayed):
    """What theories have in common: method, closure, network, temperature."""

    def _facts(self) -> dict[str, Any]:
        theory: Any = self
        place = {name: getattr(theory, name) for name in ("method", "closure", "network", "temperature")}
        return place | {name: value for name, value in chosen(self).items() if name in ("solver", "options")}


class Predictor(Protocol):
    """The posterior of the function, ready to be conditioned at new points."""

    def predict(self, x: Array) -> Prediction: ...


class EvidenceGradient(Protocol):
    def __call__(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class QMap(Displayed):
    """Order parameters of a network on patches, with the places they belong to.

    matrix: Q, (n, n), or (n,) without weight sharing. positions: first pixel of every patch, (n, directions).
    patch: its sizes. input_shape: of one image, channels last. grid_shape: patches in each direction.
    """

    matrix: Array
    positions: Array
    patch: tuple[int, ...]
    input_shape: tuple[int, ...]
    grid_shape: tuple[int, ...]

    @property
    def square(self) -> Array:
        """Q as a matrix (n, n), diagonal without weight sharing."""
        return self.matrix if self.matrix.ndim == 2 else np.diag(self.matrix)

    @property
    def diagonal(self) -> Array:
        """Q_ii laid out as the patches are, ``grid_shape``."""
        return np.diagonal(self.square).reshape(self.grid_shape)

    def eigenvectors(self, count: int = 3) -> tuple[Array, Array]:
        """Leading eigenvalues (count,) and eigenvectors laid out as the patches are, (count, *grid_shape)."""
        values, vectors = np.linalg.eigh(self.square)
        count = min(count, len(values))
        leading = vectors[:, ::-1][:, :count].T
        leading = leading * np.where(leading.sum(1, keepdims=True) < 0.0, -1.0, 1.0)
        return values[::-1][:count], leading.reshape(count, *self.grid_shape)


@dataclass(frozen=True)
class KrylovErrors(Displayed):
    """Estimated errors of a solution from a Krylov space, 99 % intervals or bounds.

    log_det: of log det A, nats. quadratic_form: of y^T A^-1 y. log_scale: of log prod Q. residual: sqrt(r^T A^-1 r),
    and noise, of the precision of K: a mean prediction is off by at most so many of its standard deviations.
    dimensions: of the space. passes: over K so far. stored: whether the kernel was kept in memory. single_precision:
    whether its tiles are float32.
    """

    log_det: float
    quadratic_form: float
    log_scale: float
    residual: float
    noise: float
    dimensions: int
    passes: int
    stored: bool
    single_precision: bool

    @property
    def log_evidence(self) -> float:
        """Nats."""
        return 0.5 * (self.log_det + self.quadratic_form)


@dataclass(frozen=True)
class Solution(Displayed):
    """The order parameters that a theory takes on a data set.

    order_parameters: Q, flat: one number a layer (fully connected), n x n row-major (convolutional), n (locally
        connected), one (pooled), D x D row-major (several outputs); empty at infinite width. With ``integrate`` their
        posterior mean.
    log_evidence: in nats; -F at a saddle, the log of the integral with ``integrate``; NaN in the single-neuron theory.
    minima: every local minimum of the action that was found, the best first; more than one is metastability.
    converged, message: whether the stated tolerance was reached, and what to know or do.
    errors: of a solution from a Krylov space, estimated; None with exact linear algebra.
    """

    theory: Any
    train: Dataset
    order_parameters: Array
    log_evidence: float
    converged: bool
    message: str
    minima: tuple[Minimum, ...]
    predictor: Predictor = field(repr=False)
    gradient: EvidenceGradient | None = field(default=None, repr=False)
    errors: KrylovErrors | None = None

    def _facts(self) -> dict[str, Any]:
        place = {name: getattr(self.theory, name, None) for name in ("method", "network", "temperature")}
        minima = {"minima": len(self.minima) if len(self.minima) > 1 else None}
        own = ("train", "order_parameters", "log_evidence", "converged", "message")
        return place | {name: getattr(self, name) for name in own} | minima | {"errors": self.errors}

    @property
    def solver(self) -> str:
        """ "exact" or "krylov": the linear algebra behind the solution."""
        return "exact" if self.errors is None else "krylov"

    @property
    def action(self) -> float:
        """F of the best minimum, nats; without order parameters, -log evidence."""
        return self.minima[0].action if self.minima else -self.log_evidence

    @property
    def gradient_norm(self) -> float:
        """Largest |dF/d log Q| left at the best minimum, nats: the certificate of convergence."""
        return self.minima[0].gradient_norm if self.minima else 0.0

    @property
    def mean_order_parameter(self) -> float:
        """Mean of Q over layers, or of its diagonal over patches and outputs; NaN without order parameters."""
        q, outputs = self.order_parameters, self.train.n_outputs
        if not (q.size and np.isfinite(q).all()):
            return math.nan
        if hasattr(self.theory, "q_map"):
            q = self.q_map().diagonal
        elif outputs > 1:
            q = np.diagonal(q.reshape(outputs, outputs))
        return float(np.mean(q))

    def q_map(self) -> QMap:
        """Q labelled with the positions of the patches.

        Raises InputError for an architecture without patches, or at infinite width.
        """
        if not hasattr(self.theory, "q_map"):
            raise InputError(
                f"the map of {type(self.theory).__name__}, whose order parameters belong to no patches",
                "a convolutional or locally connected network with a readout over all patches",
                "look at solution.order_parameters instead",
            )
        mapped: QMap = self.theory.q_map(self.order_parameters, self.train)
        return mapped

    @property
    def features(self) -> LearnedFeatures:
        """What the neurons learned: weight covariance, hidden kernel, law of the readouts (single-neuron theory).

        Raises InputError for other theories, whose neurons are Gaussian.
        """
        if not hasattr(self.predictor, "features"):
            raise InputError(
                f"the learned features of {type(self.theory).__name__}, which takes them for Gaussian",
                "the single-neuron theory",
                "use method='neuron', or the measures of fw.features",
            )
        found: LearnedFeatures = self.predictor.features
        return found

    def evidence_gradient(self) -> dict[str, Any]:
        """Derivatives of the log evidence at the saddle: by the envelope theorem only the explicit ones count.

        ``{"temperature": float, "weight_precision": (L + 1,), "width": (L,)}``, nats per unit of each.
        Raises InputError where the theory has none (integrated order parameters).
        """
        if self.gradient is None:
            raise InputError(
                "the evidence gradient of an integrated solution, or of one from a Krylov space",
                "a saddle or infinite width, solved exactly",
                "use method='saddle' and solver='exact'",
            )
        with arithmetic(self.train.n_points):
            return self.gradient()


_ROUNDING = 1e-13  # of F: what float64 leaves of a gradient when the targets are huge


def certify(minima: Sequence[Minimum], values: int) -> tuple[bool, str]:
    """(converged, message) of the minima found for a number of training values, the best first."""
    best = minima[0]
    if not math.isfinite(best.action):
        return False, "the action is not finite where it should be least; rescale the data or raise the temperature"
    tolerance = max(GRADIENT_TOLERANCE * max(1, values), _ROUNDING * abs(best.action))
    if not best.gradient_norm <= tolerance:
        left = f"gradient {best.gradient_norm:.1e} nats is above the tolerance {tolerance:.1e}"
        return False, f"{left}; rescale the data or raise the temperature"
    if len(minima) > 1:
        gap = minima[1].action - best.action
        return True, f"{len(minima)} minima; the next is {gap:.3g} nats above the best (metastability)"
    return True, ""


def unsolved(theory: Any, train: Dataset, parameters: int, predictor: Predictor) -> Solution:
    """What a theory gives whose action has no finite minimum."""
    message = "no finite minimum of the action; rescale inputs and targets (standardise them)"
    return Solution(theory, train, np.full(parameters, math.nan), math.nan, False, message, (), predictor)


def predict(solution: Solution, x: Any) -> Prediction:
    """Predictive mean and variance of the outputs f at points ``x``: (points, inputs), images, or a Dataset of them.

    Warns (ScaleWarning) where data or Q are outside the range in which theories were checked (docs/validity.md).
    Raises InputError if ``x`` does not have the inputs of the training data, or is not finite, and where double
    precision cannot hold the prediction.
    """
    checks.instance("solution", solution, Solution, "write fw.predict(fw.solve(theory, train), x)")
    warn_outside_validated(solution)
    return finite(solution, x)


def finite(solution: Solution, x: Any) -> Prediction:
    """``predict`` without a warning."""
    found = conditioned(solution, x)
    numbers = (found.mean, found.variance, found.train_error)
    if not all(bool(np.isfinite(part).all()) for part in numbers):
        what = "" if solution.converged else ", of a solution that did not converge"
        raise InputError(
            f"a prediction that is NaN or infinite{what}",
            "inputs, targets and a temperature whose squares and ratios double precision holds",
            "rescale inputs and targets (standardise them), or raise the temperature",
        )
    return found


def conditioned(solution: Solution, x: Any) -> Prediction:
    """``predict`` as it comes out, finite or not."""
    x = checks.real_array("x", x.x if isinstance(x, Dataset) else x, (2, 3, 4))
    inputs = int(np.prod(x.shape[1:]))
    if inputs != solution.train.n_inputs:
        raise InputError(
            f"x with {inputs} inputs a point",
            f"{solution.train.n_inputs}, as in training",
            "prepare test points as the training points were prepared",
        )
    with arithmetic(max(len(x), solution.train.n_points)):
        return solution.predictor.predict(x).trained_on(solution.train)


# --- what was checked against samples ---------------------------------------------------------------------------------

_MOST_Q = 4.5  # the largest of the cases of docs/validity.md is 4.34; from 4.9 on statements were off twofold and more


def applies(solution: Solution) -> bool:
    """Whether ``validity`` has something to say: a converged prediction of the action, of a network whose neurons it
    knows."""
    known = solution.theory.network.known_neurons
    return known and solution.converged and solution.theory.method in ("saddle", "integrate")


def outside_validated(solution: Solution) -> Departure | None:
    """What takes a solution out of the range in which theories were held to samples: its data, or its Q."""
    unusual = unusual_scale(solution.theory.network, solution.train)
    if unusual is not None or not applies(solution) or np.max(solution.order_parameters, initial=0.0) <= _MOST_Q:
        return unusual
    return Departure(f"an order parameter Q above {_MOST_Q:g}, beyond what was held to samples", "compare with samples")


def warn_outside_validated(solution: Solution, stacklevel: int = 2) -> None:
    """One ScaleWarning for such a solution."""
    outside = outside_validated(solution)
    if outside is not None:
        outside.warn(stacklevel + 1)
