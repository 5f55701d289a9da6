"""First order as a method: the action's prediction, matched to the exact first order in 1/N."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from finitewidth import checks
from finitewidth.checks.exceptions import InputError
from finitewidth.data import Dataset
from finitewidth.data.dataset import same_points, same_targets
from finitewidth.inference.likelihoods import Likelihood
from finitewidth.inference.methods import Control, Method, Noise, Problem, Row, gaussian_temperature
from finitewidth.inference.prediction import DEVIATIONS, ERRORS, NO_ERRORS, Errors
from finitewidth.linalg import memory_cap
from finitewidth.networks import Network
from finitewidth.theory.expansion.evidence import EvidenceSlope
from finitewidth.theory.expansion.slopes import Effort, FirstOrderSlopes, recent_slopes, slopes_of, standard_readout
from finitewidth.theory.methods import Saddle
from finitewidth.theory.solution import TheorySolution
from finitewidth.theory.validity import Judgement, renormalised

Array = np.ndarray
_NOISE = 0.25  # standard error, relative to the test error, beyond which there is no number


def first_order(
    network: Network,
    train: Dataset,
    test: Dataset,
    temperature: Noise = 0.05,
    *,
    tolerance: float = 0.01,
    neurons: int = 200_000,
    seed: int = 0,
    memory: str | float | None = None,
    progress: bool = False,
) -> FirstOrderSlopes:
    """Errors and log evidence of wide networks, exact to first order in 1/N (docs/first_order.md).

    Serves fully connected networks of any depth, and all of the package's networks of one hidden layer. A mean-field
    readout is taken at the network's own width: its kernel shrinks as 1/N, so ``infinite`` is then a Gaussian process
    of that width.

    tolerance: wanted standard error of the test error at N = P, relative to it. neurons: the most that are drawn, a
    layer; what they reach is in ``slope_se`` and ``met``. seed: the same gives the same result. memory: cap, "2GB".
    progress: a bar on stderr.

    Raises InputError for other networks and likelihoods, and for data whose Gaussian process is not finite;
    MemoryCapError before more memory is taken than there is.
    """
    same_points(train, test)
    same_targets(train, test)
    chosen, problem = FirstOrder(tolerance, neurons, seed), Problem(network, Likelihood.of(temperature))
    chosen.serves(problem, train.n_outputs)
    theory = Saddle().theory(problem._replace(network=standard_readout(network)))
    return slopes_of(theory, train, test, chosen.effort(Control(memory_cap(memory), progress)))


@dataclass(frozen=True)
class FirstOrder(Method):
    """The action's errors, corrected so that they are exact to first order in 1/N (docs/first_order.md).

    tolerance: standard error wanted of the test error at N = P, relative to it. neurons: the most that are drawn, a
    layer. seed: of the neurons. Serves what ``fw.first_order`` serves. Where the correction is too large for a first
    order to hold, rows say so and hold no numbers.
    """

    tolerance: float = 0.01
    neurons: int = 200_000
    seed: int = 0
    name = "first-order"

    def __post_init__(self) -> None:
        checks.put(self, tolerance=checks.positive, neurons=checks.positive_integer, seed=checks.seed)

    def effort(self, control: Control) -> Effort:
        """What slopes may cost."""
        return Effort(self.tolerance, self.neurons, self.seed, control.memory, control.progress)

    def serves(self, problem: Problem, n_outputs: int = 1) -> None:
        """See ``Method``."""
        network = problem.network
        checks.instance("network", network, Network, "write fw.FullyConnected(widths=100), for example")
        gaussian_temperature(problem, self)
        if not network.known_neurons or (network.depth > 1 and not network.kernel_recursion):
            raise InputError(
                f"the first order of {type(network).__name__} with {network.depth} hidden layers",
                "a fully connected network, or one hidden layer of patches",
                "use method='sample'",
            )
        Saddle().serves(problem, n_outputs)

    def solutions(
        self,
        problems: Sequence[Problem],
        train: Dataset,
        test: Dataset | None = None,
        sizes: Sequence[int] | None = None,
        control: Control | None = None,
    ) -> Iterator[FirstOrderSolution]:
        """See ``Method``; networks whose widths are in one proportion share their slopes."""
        control = control or Control()
        for base in Saddle().solutions(problems, train, test, sizes, control):
            yield FirstOrderSolution(
                **{f.name: getattr(base, f.name) for f in fields(base)}, options=self, control=control
            )


def serves_all_widths(network: Network, noise: Noise, n_outputs: int = 1) -> bool:
    """Whether there is a first order that all widths share; with a mean-field readout each width has its own limit."""
    if network.readout != "standard":
        return False
    try:
        FirstOrder().serves(Problem(network, Likelihood.of(noise)), n_outputs)
    except InputError:
        return False
    return True


@dataclass(frozen=True)
class FirstOrderSolution(TheorySolution):
    """A solution of the action, whose errors on a test set are matched to the exact first order.

    Predictions at single points are the action's; errors are not computed from them.
    """

    options: FirstOrder = field(kw_only=True)
    control: Control = field(kw_only=True, repr=False)

    def _facts(self) -> dict[str, Any]:
        return super()._facts() | {"method": FirstOrder.name}

    def errors(self, test: Dataset) -> Errors:
        """Matched; InputError where the expansion does not hold."""
        found = self.matched(test)
        if found.refusal:
            raise InputError(found.refusal, "a wider network", "use method='sample'")
        return found.errors

    def row(self, test: Dataset, seconds: float = 0.0) -> FirstOrderRow:
        found, slopes, message, log_evidence = Matched(), None, self.message, None
        if self.converged:
            found, slopes = self.matched(test), self.slopes(test)
            message = found.refusal and f"{found.refusal}: use method curve"
            if not found.refusal:
                log_evidence = self.log_evidence + Judgement.of(slopes, self.network.widths[0]).nats
        return FirstOrderRow.of(
            *(self, found.errors, seconds, FirstOrder.name),
            **{f"{name}_se": value for name, value in vars(found.standard_errors).items()},
            test_error_low=found.low,
            test_error_high=found.high,
            log_evidence=log_evidence,
            evidence_slope=slopes.evidence_slope if slopes and self.network.readout == "standard" else None,
            converged=self.converged and not found.refusal,
            message=message,
        )

    def slopes(self, test: Dataset, network: Network | None = None) -> FirstOrderSlopes:
        """Of the network, or of another one on the same data."""
        return recent_slopes(self.theory, self.train, test, self.options.effort(self.control), network)

    def matched(self, test: Dataset) -> Matched:
        """Errors on a test set: ``action exp(d)``, d = (slope - slope of the action) / (N infinite).

        The expansion is at the kernel of the action's saddle where that is the kernel of a network, else at that of
        infinite width.
        """
        width = self.network.widths[0]
        slopes = self.slopes(test, renormalised(self))
        judged = Judgement.of(slopes, width).beside(self.slopes(test), width)
        refusal = _refusal(judged)
        if refusal:
            return Matched(refusal=refusal)
        errors = _corrected(super().errors(test), slopes, width)
        factor = math.exp(math.hypot(judged.change, judged.apart, DEVIATIONS * judged.noise))
        low, high = errors.test_error / factor, errors.test_error * factor
        return Matched(errors, _standard_errors(errors, slopes, width), low, high)


@dataclass(frozen=True)
class Matched:
    """Errors with the interval of the test error; ``refusal``: why there is nothing to say, else empty."""

    errors: Errors = NO_ERRORS
    standard_errors: Errors = NO_ERRORS
    low: float = math.nan
    high: float = math.nan
    refusal: str = ""


def _corrected(action: Errors, slopes: FirstOrderSlopes, width: int) -> Errors:
    """The action's errors times exp(d), each with its own d; bias and variance add up to the test error."""
    found = {
        name: getattr(action, name) * math.exp(slopes.missed(name, width) / getattr(slopes, name).infinite)
        for name in ERRORS
    }
    share = found["test_error"] / (found["bias"] + found["variance"])
    found |= {name: share * found[name] for name in ("bias", "variance")}
    accuracy = action.accuracy
    if accuracy is not None and slopes.accuracy is not None and slopes.action.accuracy is not None:
        accuracy = min(1.0, max(0.0, accuracy + slopes.missed("accuracy", width)))
    return Errors(**found, accuracy=accuracy)


def _standard_errors(errors: Errors, slopes: FirstOrderSlopes, width: int) -> Errors:
    noise = {
        name: getattr(slopes, name).slope_se / (width * getattr(slopes, name).infinite) * getattr(errors, name)
        for name in ERRORS
    }
    accuracy = None
    if errors.accuracy is not None and slopes.accuracy is not None:
        accuracy = slopes.accuracy.slope_se / width
    return Errors(**noise, accuracy=accuracy)


def _refusal(found: Judgement) -> str:
    if not found.holds:
        return found.too_much
    if not found.noise <= _NOISE:
        return f"the first order is known to {100 * found.noise:.0f} % of the test error only (more neurons would help)"
    return ""


@dataclass(frozen=True)
class FirstOrderRow(Row):
    """The line of a learning curve. test_error_low, test_error_high: the matched test error times exp(-+ m).

    m adds in squares the correction d itself, which stands for the orders left out, how far d at infinite width differs
    from it, and 1.645 standard errors.

    log_evidence: of the action, matched as the errors are: with what it misses to first order. evidence_slope: at
    infinite width; None where the action has no solution, and with a mean-field readout, whose limit is another one.
    converged: False where the expansion does not hold: errors are NaN then.
    """

    train_error_se: float
    test_error_se: float
    bias_se: float
    variance_se: float
    accuracy_se: float | None
    test_error_low: float
    test_error_high: float
    evidence_slope: EvidenceSlope | None
