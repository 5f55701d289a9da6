"""What every way from a network and data to a prediction has in common: ``Method`` -> ``Solution`` -> ``Prediction``.

Theory, sampling and training are methods alike; they share nothing above this interface, so that their agreement is
evidence. Names for methods are in ``jobs.py``, which knows them all.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np

from finitewidth.checks.exceptions import InputError
from finitewidth.checks.keywords import CheckedKeywords
from finitewidth.data import Dataset
from finitewidth.display import Displayed, Settings
from finitewidth.inference.likelihoods import Gaussian, LeastSquares, Likelihood
from finitewidth.inference.prediction import Errors, Prediction
from finitewidth.networks import Network

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Array = np.ndarray
Noise = float | Likelihood  # a number is the temperature of a Gaussian likelihood


class Problem(NamedTuple):
    """A network and the likelihood of its targets."""

    network: Network
    likelihood: Likelihood


@dataclass(frozen=True)
class Control:
    """How work is done, which decides no number.

    memory: cap in bytes; None: what is free. progress: a bar on stderr. checkpoints: a folder where long runs are
    saved, one file each, and from which they go on. shared: what solutions on one training set have in common, such as
    factorisations: give the same ``Control`` to share them between calls.
    """

    memory: float | None = None
    progress: bool = False
    checkpoints: Path | None = None
    shared: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True)
class Row(Displayed):
    """One line of a learning curve: plain numbers. What did not converge says so; a theory's errors are NaN then.

    width: neurons of every hidden layer, or a tuple with one width a layer. order_parameters: Q of the last layer, or
    of the theory. log_evidence: None where the method does not know it. complete: False where the run was interrupted.
    seconds: wall time of this row, the work that rows share being counted in the first one.
    """

    width: int | tuple[int, ...]
    depth: int
    temperature: float
    n_train: int
    method: str
    train_error: float
    test_error: float
    bias: float
    variance: float
    accuracy: float | None
    order_parameters: list[float]
    log_evidence: float | None
    converged: bool
    complete: bool
    message: str
    seconds: float

    @classmethod
    def of(cls, solution: Solution, errors: Errors, seconds: float, method: str, **others: Any) -> Self:
        """Of a solution and its errors on a test set. others: what this kind of row has besides."""
        says = {name: getattr(solution, name) for name in ("converged", "complete", "message")}
        place = {
            "width": solution.network.common_width,
            "depth": solution.network.depth,
            "temperature": solution.likelihood.temperature,
            "n_train": solution.train.n_points,
            "method": method,
            "order_parameters": [float(q) for q in np.ravel(solution.order_parameters)],
            "log_evidence": None if np.isnan(solution.log_evidence) else solution.log_evidence,
            "seconds": seconds,
        }
        known = says | place | vars(errors) | others
        return cls(**{field.name: known[field.name] for field in fields(cls)})

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON but for NaN."""
        return asdict(self)


@runtime_checkable
class Solution(Protocol):
    """What a method makes of a network, a likelihood and a training set."""

    @property
    def network(self) -> Network:
        """What was solved."""

    @property
    def likelihood(self) -> Likelihood:
        """Of the targets."""

    @property
    def train(self) -> Dataset:
        """The training set."""

    @property
    def order_parameters(self) -> Array:
        """Q, flat; empty where there are none."""

    @property
    def log_evidence(self) -> float:
        """Nats; NaN where it is not known."""

    @property
    def converged(self) -> bool:
        """Whether the method's own tolerance was reached."""

    @property
    def complete(self) -> bool:
        """False where an interrupt cut the run short."""

    @property
    def message(self) -> str:
        """What to know or do."""

    def predict(self, x: ArrayLike | Dataset) -> Prediction:
        """Predictive mean and variance of the outputs f at points ``x``, an array or a ``Dataset``."""

    def errors(self, test: Dataset) -> Errors:
        """On a test set; with standard errors where the method has any."""

    def row(self, test: Dataset, seconds: float) -> Row:
        """The line of a learning curve; ``seconds``: what finding the solution took."""


@dataclass(frozen=True)
class Method(CheckedKeywords, Settings, abc.ABC):
    """A way from a network, a likelihood and a training set to a solution; its fields are its settings.

    Subclass it for a method of your own (docs/methods.md). name: what rows call it. averages: whether results are
    averages over draws or networks, which stay, marked, where they have not converged; others are no numbers then.
    """

    name: ClassVar[str]
    averages: ClassVar[bool] = False

    def likelihood(self, noise: Noise) -> Likelihood:
        """What a temperature stands for; a likelihood stands for itself."""
        return Likelihood.of(noise)

    @abc.abstractmethod
    def serves(self, problem: Problem, n_outputs: int = 1) -> None:
        """Raise InputError, with what does serve, unless this method can take the network and the likelihood."""

    @abc.abstractmethod
    def solutions(
        self,
        problems: Sequence[Problem],
        train: Dataset,
        test: Dataset | None = None,
        sizes: Sequence[int] | None = None,
        control: Control | None = None,
    ) -> Iterator[Solution]:
        """Solve every problem on the first ``sizes`` training points (None: on all), one after another.

        What problems share is computed once. test: where predictions are wanted, if that is known beforehand. Memory
        and time are required before they are taken (MemoryCapError, TimeCapError). An interrupt (Ctrl-C) ends the
        solutions with an incomplete one, or is passed on where there is nothing yet.
        """

    def solve(self, problem: Problem, train: Dataset, control: Control | None = None) -> Solution:
        """The solution of one problem."""
        self.serves(problem, train.n_outputs)
        (solution,) = self.solutions([problem], train, control=control)
        return solution


def gaussian_temperature(problem: Problem, method: Method, least: bool = False) -> float:
    """T of a Gaussian likelihood (least: or of ``LeastSquares``); InputError for what the method does not take."""
    if not isinstance(problem.likelihood, (Gaussian, LeastSquares) if least else Gaussian):
        raise InputError(
            f"method {method.name!r} with the likelihood {problem.likelihood!r}",
            "a Gaussian likelihood, or method 'saddle' or 'infinite'",
            "write Gaussian(0.05), or method='saddle'",
        )
    return problem.likelihood.temperature


def parts(train: Dataset, sizes: Sequence[int] | None) -> list[Dataset]:
    """The first points of a training set, so many each; all of it without sizes."""
    return [train] if sizes is None else [train.subset(np.arange(size)) for size in sizes]


def as_in_theory(order_parameter: Array, network: Network, train: Dataset) -> Array:
    """Q (n D, n D) of readouts, flat as a theory has it: without weight sharing only the diagonal has a meaning."""
    diagonal = not network.shares_weights and train.n_outputs == 1
    return np.ravel(np.diagonal(order_parameter) if diagonal else order_parameter)


# --- methods of one's own -----------------------------------------------------------------------------------


class PlainSolution(abc.ABC):
    """A ``Solution`` of which a subclass writes ``predict``; its fields are network, likelihood and train.

    method: what rows call it.
    """

    method: ClassVar[str]
    network: Network
    likelihood: Likelihood
    train: Dataset
    order_parameters: Array = np.empty(0)
    log_evidence: float = np.nan
    converged: bool = True
    complete: bool = True
    message: str = ""

    @abc.abstractmethod
    def predict(self, x: ArrayLike | Dataset) -> Prediction:
        """Predictive mean and variance at points ``x``, an array or a ``Dataset``."""

    def errors(self, test: Dataset) -> Errors:
        """On a test set."""
        return self.predict(test).trained_on(self.train).errors(test)

    def row(self, test: Dataset, seconds: float) -> Row:
        """The line of a learning curve."""
        return Row.of(self, self.errors(test), seconds, self.method)
