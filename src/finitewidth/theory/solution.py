"""What solving a theory on a data set gives: order parameters, evidence, and a way to predict."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, Self, TypedDict, TypeVar

import numpy as np

from finitewidth import kernels
from finitewidth.checks.exceptions import InputError
from finitewidth.data import Dataset
from finitewidth.data.dataset import points_like
from finitewidth.display import Displayed, chosen
from finitewidth.inference.likelihoods import Gaussian, GaussianPosterior, Likelihood, Posterior
from finitewidth.inference.prediction import Errors, Prediction
from finitewidth.linalg import arithmetic
from finitewidth.networks import Network
from finitewidth.theory.learned import LearnedFeatures, leading
from finitewidth.theory.saddle import GRADIENT_TOLERANCE, Minimum

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from finitewidth.inference.methods import Row
    from finitewidth.theory.krylov import KrylovErrors
    from finitewidth.theory.validity import Validity

Array = np.ndarray
Shared = TypeVar("Shared")


class Theory(Displayed, abc.ABC, Generic[Shared]):
    """Order parameters, what they cost and how they renormalise the kernel; solved on a training set.

    method: as rows call it. infinite: whether there are no order parameters. work, remedy: what is said of what takes
    too long. evaluations: factors of a covariance that one solution takes beside what is shared, roughly, and rather
    more; None where solving says beforehand how long it takes.
    ``Shared`` is what solutions on one training set have in common, whatever their widths and temperatures.
    """

    work: ClassVar[str] = "the action"
    remedy: ClassVar[str] = "use fewer training points (n_train)"
    evaluations: ClassVar[int | None] = 16
    infinite: bool = False

    if TYPE_CHECKING:  # fields in most theories, derived in others

        @property
        def method(self) -> str: ...

        @property
        def network(self) -> Network: ...

        @property
        def temperature(self) -> float: ...

    @property
    def closure(self) -> str:
        """Of deep networks."""
        return "product"

    @property
    def likelihood(self) -> Likelihood:
        """Of the targets."""
        return Gaussian(self.temperature)

    @property
    def widths(self) -> tuple[int, ...]:
        """Width behind each order parameter; none at infinite width."""
        return () if self.infinite else self.network.widths

    @property
    def on_patches(self) -> bool:
        """Whether order parameters belong to patches."""
        return self.network.patched and not self.network.own and not self.infinite

    @abc.abstractmethod
    def rate(self, order_parameters: Array) -> float:
        """Twice what Q costs, nats."""

    def covariance(self, order_parameters: Array, x1: Array, x2: Array | None = None) -> Array:
        """K_R at Q, (points1, points2). Raises InputError where Q alone does not decide it."""
        raise _no_one_value("the kernel")

    @abc.abstractmethod
    def factorise(self, train: Dataset, memory: float | None = None) -> Shared:
        """The work that all widths and temperatures share. Raises MemoryCapError beforehand."""

    @abc.abstractmethod
    def solve(self, train: Dataset, shared: Shared | None = None, memory: float | None = None) -> TheorySolution:
        """Find the order parameters; ``shared`` is an earlier ``factorise`` on the same data and kernel."""

    def with_network(self, network: Network) -> Self:
        """The same theory of another network."""
        return replace(self, network=network)  # type: ignore[type-var]  # a dataclass

    def for_outputs(self, n_outputs: int) -> Theory[Any]:
        """The theory of as many outputs. Raises InputError where there is none."""
        return self

    @property
    def sharing(self) -> Hashable | None:
        """Equal for theories that share what ``factorise`` gives; None where nothing is worth sharing."""
        return None

    def reusable(self, shared: Shared) -> bool:
        """Whether later calls may start from it too: not where solutions change it."""
        return True

    def _facts(self) -> dict[str, Any]:
        place = {name: getattr(self, name) for name in ("method", "closure", "network", "temperature")}
        return place | {name: value for name, value in chosen(self).items() if name in ("solver", "options")}


def _no_one_value(of: str) -> InputError:
    return InputError(
        f"{of} of integrated order parameters, or of those measured on neurons", "a saddle", "use method='saddle'"
    )


class ScalarTheory(Theory[Shared]):
    """One number a layer, which rescales the kernel unless a subclass knows better; none at infinite width."""

    @property
    def method(self) -> str:
        return "infinite" if self.infinite else "saddle"

    def rate(self, order_parameters: Array) -> float:
        """``sum_l N_l (Q_l - log Q_l - 1)``."""
        return 0.0 if self.infinite else float(self.network.rate(order_parameters))

    def covariance(self, order_parameters: Array, x1: Array, x2: Array | None = None) -> Array:
        return float(np.prod(order_parameters)) * kernels.nngp(self.network, x1, x2)

    def prior_variance(self, order_parameters: Array, x: Array) -> Array:
        """K_R of every point with itself, (points,)."""
        return float(np.prod(order_parameters)) * kernels.nngp_diagonal(self.network, x)

    def posterior(self, train: Dataset, order_parameters: Array) -> Posterior:
        """Of the training targets under K_R."""
        return self.likelihood.posterior(self.covariance(order_parameters, train.x), train.y)

    def pull_precisions(self, train: Dataset, q: Array, cotangent: Array) -> Array:
        """``<cotangent, d K_R / d log lambda_l>`` at fixed Q, l = 0 .. L."""
        return float(np.prod(q)) * kernels.nngp_pullback(self.network, train.x, cotangent)

    def gradient(self, at: CovariancePredictor) -> EvidenceGradient:
        """See ``TheorySolution.evidence_gradient``; in T of other noise than Gaussian it is not known (NaN)."""
        posterior = at.posterior
        by_temperature = -posterior.by_temperature() if isinstance(posterior, GaussianPosterior) else math.nan
        by_log_precision = -self.pull_precisions(at.train, at.order_parameters, posterior.cotangent())
        return gradient_of(self.network, by_temperature, by_log_precision)


class Predictor(Protocol):
    """The posterior of the function, ready to be conditioned at new points."""

    def predict(self, x: Array) -> Prediction: ...


@dataclass(frozen=True)
class NoPredictor:
    """Of a solution that cannot predict: what is said instead of numbers."""

    why: InputError

    def predict(self, x: Array) -> Prediction:
        raise self.why

    @property
    def features(self) -> LearnedFeatures:
        raise self.why


@dataclass(frozen=True)
class CovariancePredictor:
    """Conditioning under the covariance at one Q."""

    theory: ScalarTheory[Any]
    train: Dataset
    order_parameters: Array

    @cached_property
    def posterior(self) -> Posterior:
        """Of the training targets: one factorisation, however often it is predicted with."""
        return self.theory.posterior(self.train, self.order_parameters)

    def predict(self, x: Array) -> Prediction:
        q, theory = self.order_parameters, self.theory
        cross, prior = theory.covariance(q, x, self.train.x), theory.prior_variance(q, x)
        mean, variance = self.posterior.predict(cross, prior)
        return Prediction(mean, variance, self.posterior.train_error)


class EvidenceGradient(TypedDict):
    """Derivatives of the log evidence, nats per unit of each; weight_precision: (L + 1,)."""

    temperature: float
    weight_precision: Array


def gradient_of(network: Network, by_temperature: float, by_log_precision: Array) -> EvidenceGradient:
    """From derivatives in the logarithms of the precisions."""
    return {
        "temperature": by_temperature,
        "weight_precision": by_log_precision / np.asarray(network.weight_precision),
    }


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
        return leading(self.square, count, self.grid_shape)


@dataclass(frozen=True)
class TheorySolution(Displayed):
    """The order parameters that a theory takes on a data set; a ``methods.Solution``.

    order_parameters: Q, flat: one number a layer (fully connected), n x n row-major (convolutional), n (locally
        connected), one (pooled), D x D row-major (several outputs); empty at infinite width. With ``integrate`` their
        posterior mean.
    log_evidence: in nats; -F at a saddle, the log of the integral with ``integrate``; NaN in the single-neuron theory.
    minima: every local minimum of the action that was found, the best first; more than one is metastability.
    converged, message: whether the stated tolerance was reached, and what to know or do.
    solver_errors: of a solution from a Krylov space, estimated; None with exact linear algebra.
    """

    theory: Theory[Any]
    train: Dataset
    order_parameters: Array
    log_evidence: float
    converged: bool
    message: str
    minima: tuple[Minimum, ...]
    predictor: Predictor = field(repr=False)
    gradient: Callable[[], EvidenceGradient] | None = field(default=None, repr=False)
    solver_errors: KrylovErrors | None = None
    complete: ClassVar[bool] = True

    def _facts(self) -> dict[str, Any]:
        place = {name: getattr(self.theory, name) for name in ("method", "network", "temperature")}
        minima = {"minima": len(self.minima) if len(self.minima) > 1 else None}
        own = ("train", "order_parameters", "log_evidence", "converged", "message")
        return place | {name: getattr(self, name) for name in own} | minima | {"solver_errors": self.solver_errors}

    @property
    def network(self) -> Network:
        """What was solved."""
        return self.theory.network

    @property
    def likelihood(self) -> Likelihood:
        """Of the targets."""
        return self.theory.likelihood

    @property
    def solver(self) -> str:
        """ "exact" or "krylov": the linear algebra behind the solution."""
        return "exact" if self.solver_errors is None else "krylov"

    def predict(self, x: ArrayLike | Dataset) -> Prediction:
        """Predictive mean and variance of the outputs f at points ``x``: (points, inputs), images, or a Dataset.

        Raises InputError if ``x`` does not have the shape of the training data, or is not finite, and where double
        precision cannot hold the prediction.
        """
        found = self.conditioned(x)
        numbers = (found.mean, found.variance, found.train_error)
        if not all(bool(np.isfinite(part).all()) for part in numbers):
            what = "" if self.converged else ", of a solution that did not converge"
            raise InputError(
                f"a prediction that is NaN or infinite{what}",
                "inputs, targets and a temperature whose squares and ratios double precision holds",
                "rescale inputs and targets (standardise them), or raise the temperature",
            )
        return found

    def conditioned(self, x: Any) -> Prediction:
        """``predict`` as it comes out, finite or not."""
        x = points_like(x, self.train)
        with arithmetic(max(len(x), self.train.n_points)):
            return self.predictor.predict(x).trained_on(self.train)

    def errors(self, test: Dataset) -> Errors:
        """On a test set, see ``Prediction.errors``."""
        return self.predict(test).errors(test)

    def row(self, test: Dataset, seconds: float = 0.0) -> Row:
        """The line of a learning curve; ``seconds``: what finding the solution took."""
        from finitewidth.theory.rows import row_of

        return row_of(self, test, seconds)

    @property
    def validity(self) -> Validity:
        """How far the test error may be off (docs/validity.md): a second or two. Raises InputError where unknown."""
        from finitewidth.theory.validity import validity

        return validity(self)

    def bare(self) -> Self:
        """The same without its matrices: what ``validity`` needs."""
        why = InputError("a solution without its matrices", "one that was just solved", "solve again")
        return replace(self, predictor=NoPredictor(why), gradient=None)

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
        if self.on_patches:
            q = self.q_map().diagonal
        elif outputs > 1:
            q = np.diagonal(q.reshape(outputs, outputs))
        return float(np.mean(q))

    def q_map(self) -> QMap:
        """Q labelled with the positions of the patches; with several outputs, averaged over them.

        Raises InputError for an architecture without patches, or at infinite width.
        """
        if not self.on_patches:
            raise InputError(
                f"the map of {type(self.theory).__name__}, whose order parameters belong to no patches",
                "a convolutional or locally connected network with a readout over all patches",
                "look at solution.order_parameters instead",
            )
        network, dim = self.theory.network, self.train.n_outputs
        grid = network.grid(self.train.x)  # type: ignore[attr-defined]  # it has patches
        n, q = grid.n_patches, np.asarray(self.order_parameters, dtype=float)
        if network.shares_weights:
            matrix = np.einsum("idjd->ij", q.reshape(n, dim, n, dim)) / dim
        else:
            matrix = np.einsum("idd->i", q.reshape(n, dim, dim)) / dim
        return QMap(matrix, grid.positions, grid.patch, grid.input_shape, grid.grid_shape)

    @property
    def on_patches(self) -> bool:
        """Whether order parameters belong to patches: whether there is a ``q_map``."""
        return self.theory.on_patches

    @property
    def information(self) -> float:
        """``N I(Q) = rate/2`` in nats, see ``fw.features.information``; InputError for integrated order parameters."""
        if self.theory.method == "integrate":
            raise _no_one_value("the information")
        return 0.5 * float(self.theory.rate(self.order_parameters))

    def kernel(self, x: Array) -> Array:
        """K_R(Q) between points ``x``, (points, points); of D coupled outputs (points D, points D).

        Raises InputError for integrated order parameters, and for those measured on neurons.
        """
        if self.theory.method == "integrate":
            raise _no_one_value("the kernel")
        return self.theory.covariance(self.order_parameters, x)

    @property
    def features(self) -> LearnedFeatures:
        """What the neurons learned: weight covariance, hidden kernel, law of the readouts (single-neuron theory).

        Raises InputError for other theories, whose neurons are Gaussian.
        """
        found: LearnedFeatures | None = getattr(self.predictor, "features", None)
        if found is None:
            raise InputError(
                f"the learned features of {type(self.theory).__name__}, which takes them for Gaussian",
                "the single-neuron theory",
                "use method='neuron', or the measures of fw.features",
            )
        return found

    def evidence_gradient(self) -> EvidenceGradient:
        """Derivatives of the log evidence at the saddle: by the envelope theorem only the explicit ones count.

        ``{"temperature": float, "weight_precision": (L + 1,)}``, nats per unit of each.
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


def check_convergence(minima: Sequence[Minimum], values: int) -> tuple[bool, str]:
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


def at_saddle(
    theory: Theory[Any],
    train: Dataset,
    minima: Sequence[Minimum],
    q: Array,
    predictor: Predictor,
    gradient: Callable[[], EvidenceGradient] | None,
) -> TheorySolution:
    """The solution at the best minimum. Without any it did not converge, and is NaN in the shape of ``q``."""
    if not minima:
        message = "no finite minimum of the action; rescale inputs and targets (standardise them)"
        return TheorySolution(theory, train, np.full(q.size, math.nan), math.nan, False, message, (), predictor)
    converged, message = check_convergence(minima, train.y.size)
    evidence = -minima[0].action
    return TheorySolution(theory, train, q.ravel(), evidence, converged, message, tuple(minima), predictor, gradient)


def at_infinite_width(
    theory: Theory[Any],
    train: Dataset,
    evidence: float,
    predictor: Predictor,
    gradient: Callable[[], EvidenceGradient] | None,
) -> TheorySolution:
    """The solution without order parameters; it has converged where its log evidence is finite."""
    finite = math.isfinite(evidence)
    return TheorySolution(theory, train, np.empty(0), evidence, finite, "", (), predictor, gradient)


def infinite_by_conditioning(at: CovariancePredictor) -> TheorySolution:
    """Infinite width without a spectrum, from the one factor that predicts."""
    return at_infinite_width(at.theory, at.train, -at.posterior.energy, at, partial(at.theory.gradient, at))
