"""A job: networks and likelihoods, a method and how it is to work, checked as a whole; it takes data to solutions.

Command line, sweeps and estimators are skins of it. Methods are called by name or given as objects.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, overload

from finitewidth import checks
from finitewidth.checks.exceptions import InputError
from finitewidth.data import Dataset
from finitewidth.data.dataset import same_targets
from finitewidth.inference.likelihoods import Likelihood
from finitewidth.inference.methods import Control, Method, Noise, Problem, Row, Solution
from finitewidth.inference.prediction import Prediction
from finitewidth.linalg import memory_cap
from finitewidth.networks import Network
from finitewidth.runs.checkpoints import folder_of
from finitewidth.theory.methods import Integrate, Saddle
from finitewidth.theory.solution import Theory, TheorySolution
from finitewidth.theory.solving import TheoryMethod
from finitewidth.theory.solving import solve as solve_theory
from finitewidth.theory.validated import warn_outside_validated

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

METHODS = {  # name -> where its class is
    "saddle": "theory:Saddle",
    "integrate": "theory:Integrate",
    "infinite": "theory:Infinite",
    "neuron": "theory:SingleNeuron",
    "first-order": "theory:FirstOrder",
    "sample": "sampling:Sample",
    "train": "training:Train",
    "curve": "curves.on_demand:Curve",
}


def method_class(name: str) -> type[Method]:
    """The class that a name stands for. Raises InputError for an unknown one."""
    module, _, attribute = METHODS[checks.choice("method", name, tuple(METHODS))].partition(":")
    found: type[Method] = getattr(importlib.import_module(f"finitewidth.{module}"), attribute)
    return found


def method_of(given: str | Method) -> Method:
    """A method as it is; a name is the method with its defaults."""
    if isinstance(given, Method):
        return given
    checks.instance("method", given, (str, Method), "write method='saddle' or method=fw.Saddle(), for example")
    return method_class(given)()


@dataclass(frozen=True)
class Job:
    """problems: in the order of the results: temperatures, then widths. sizes: of training sets; None: all points."""

    problems: tuple[Problem, ...]
    method: Method
    sizes: tuple[int, ...] | None = None
    control: Control = field(default_factory=Control)

    @classmethod
    def of(
        cls,
        network: Network,
        temperature: Noise | Sequence[Noise] = 0.05,
        method: str | Method = "saddle",
        widths: Sequence[int] | None = None,
        n_train: Sequence[int] | None = None,
        *,
        memory: str | float | None = None,
        progress: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> Job:
        """Check what needs no data. widths: hidden layers all that wide; None: the network's own.

        Raises InputError for what cannot be, with what can.
        """
        checks.instance("network", network, Network, "write fw.FullyConnected(widths=100), for example")
        chosen = method_of(method)
        given = [temperature] if isinstance(temperature, Likelihood) else checks.one_or_more("temperature", temperature)
        likelihoods = [chosen.likelihood(noise) for noise in given]
        networks = [network] if widths is None else [network.with_width(w) for w in checks.sequence("widths", widths)]
        sizes = None if n_train is None else checks.sequence("n_train", n_train)
        control = Control(memory_cap(memory), progress, None if checkpoint is None else folder_of(checkpoint))
        job = cls(
            tuple(Problem(net, likelihood) for likelihood in likelihoods for net in networks),
            chosen,
            None if sizes is None else tuple(checks.positive_integer("n_train", size) for size in sizes),
            control,
        )
        for problem in job.problems:
            chosen.serves(problem)
        return job

    def by(self, method: str | Method) -> Job:
        """The same problems by another method, sharing what can be. Raises InputError where it does not serve."""
        other = replace(self, method=method_of(method))
        for problem in other.problems:
            other.method.serves(problem)
        return other

    def one_width(self) -> Job:
        """The first network at every temperature."""
        first = {problem.likelihood: problem for problem in reversed(self.problems)}
        return replace(self, problems=tuple(reversed(first.values())))

    def narrowest(self) -> Job:
        """The narrowest network at the first temperature."""
        same = [problem for problem in self.problems if problem.likelihood == self.problems[0].likelihood]
        return replace(self, problems=(min(same, key=lambda problem: problem.network.widths),), sizes=None)

    def solutions(self, train: Dataset, test: Dataset | None = None) -> Iterator[Solution]:
        """Training-set sizes, then problems. Raises InputError for data that do not fit, before anything is solved."""
        checks.instance("train", train, Dataset, "write fw.Dataset(x, y)")
        if test is not None:
            checks.instance("test", test, Dataset, "write fw.Dataset(x, y)")
            same_targets(train, test)
        for size in self.sizes or ():
            if size > train.n_points:
                remedy = "give more data or smaller sizes"
                raise InputError(f"n_train = {size}", f"at most {train.n_points} points", remedy)
        for problem in self.problems:
            self.method.serves(problem, train.n_outputs)
        return self.method.solutions(self.problems, train, test, self.sizes, self.control)

    def rows(self, train: Dataset, test: Dataset) -> Iterator[Row]:
        """The lines of a learning curve, one by one."""
        solutions = self.solutions(train, test)
        return _timed(solutions, test)

    def solve(self, train: Dataset) -> Solution:
        """The solution of a job of one problem."""
        (solution,) = self.solutions(train)
        return solution


def _timed(solutions: Iterator[Solution], test: Dataset) -> Iterator[Row]:
    started = time.perf_counter()
    with contextlib.closing(solutions):  # type: ignore[type-var]  # a generator
        for solution in solutions:
            yield solution.row(test, time.perf_counter() - started)
            started = time.perf_counter()


# --- in Python --------------------------------------------------------------------------------------------------------


def theory_of(
    network: Network, temperature: Noise = 0.05, closure: str | None = None, method: str | Method = "saddle"
) -> Theory[Any]:
    """The theory of a network at a temperature (variance of the Gaussian likelihood), or under a likelihood.

    method: "saddle", "integrate", "infinite", "neuron", or a method of theory with its settings (``fw.Saddle(...)``).
    closure: of deep networks, with method "saddle" or "integrate": see ``fw.Saddle``.
    Raises InputError for anything else.
    """
    checks.instance("network", network, Network, "write fw.FullyConnected(widths=100), for example")
    chosen = method_of(method)
    if closure is not None:
        if not isinstance(chosen, (Saddle, Integrate)):
            given = f"closure = {checks.shown(closure)} with method {chosen.name!r}"
            raise InputError(given, "method 'saddle' or 'integrate'", "leave closure out")
        chosen = replace(chosen, closure=closure)
    if not isinstance(chosen, TheoryMethod):
        remedy = "write fw.solve(network, train, temperature, method) for any method"
        raise InputError(f"the theory of method {chosen.name!r}", "a method of theory", remedy)
    return chosen.theory(Problem(network, chosen.likelihood(temperature)))


@overload
def solve(what: Theory[Any], train: Dataset, *, memory: str | float | None = None) -> TheorySolution: ...


@overload
def solve(
    what: Network,
    train: Dataset,
    temperature: Noise = 0.05,
    method: str | Method = "saddle",
    *,
    memory: str | float | None = None,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Solution: ...


def solve(
    what: Network | Theory[Any],
    train: Dataset,
    temperature: Noise = 0.05,
    method: str | Method = "saddle",
    *,
    memory: str | float | None = None,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Solution:
    """Solve a network on a training set by any method, or a theory (``fw.theory_of``) that has both already.

    memory: cap (bytes, or "8GB") on what it may take; default: what is free. progress: a bar on stderr. checkpoint:
    a folder where long runs are saved, and from which they go on.
    Warns (ScaleWarning) where data or Q are outside the range in which methods were checked (docs/validity.md).
    Raises MemoryCapError above the cap, TimeCapError for what would take longer than ``fw.time_limit`` allows, and
    InputError for what cannot be.
    """
    checks.instance("what to solve", what, (Network, Theory), "write fw.solve(fw.FullyConnected(widths=100), train)")
    if isinstance(what, Network):
        return Job.of(what, temperature, method, memory=memory, progress=progress, checkpoint=checkpoint).solve(train)
    checks.instance("train", train, Dataset, "write fw.Dataset(x, y)")
    solution = solve_theory(what, train, memory_cap(memory))
    warn_outside_validated(solution)
    return solution


def predict(
    what: Solution | Network,
    x: ArrayLike | Dataset,
    train: Dataset | None = None,
    temperature: Noise = 0.05,
    method: str | Method = "saddle",
    *,
    memory: str | float | None = None,
    progress: bool = False,
) -> Prediction:
    """Predictive mean and variance of the outputs f at points ``x``: (points, inputs), images, or a Dataset of them.

    what: a solution, or a network that is solved first, on ``train``, see ``fw.solve``.
    Raises InputError if ``x`` does not have the inputs of the training data, or is not finite, and where double
    precision cannot hold the prediction.
    """
    if not isinstance(what, Network):
        if not hasattr(what, "predict"):  # asking for all that a Solution is would compute it
            wanted, remedy = "a Network or a Solution", "write fw.predict(fw.solve(theory, train), x)"
            raise InputError(f"what to predict with = {checks.shown(what)}", wanted, remedy)
        return what.predict(x)
    if train is None:
        raise InputError("a network without training data", "what it learned", "write fw.predict(network, x, train)")
    return solve(what, train, temperature, method, memory=memory, progress=progress).predict(x)
