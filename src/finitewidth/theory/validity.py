"""How far a prediction of the action may be off, by the exact first order in 1/N, without a sampled network.

Slopes in 1/N of the exact errors and of the action's are known (``first_order``); their difference over N is the
leading error of the action. They are taken at the kernel of the action's saddle and at that of infinite width. Where
the expansion is not small, or the two disagree, nothing is known without a sample. Calibrated and judged:
docs/validity.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from finitewidth.checks.exceptions import InputError
from finitewidth.data import Dataset
from finitewidth.display import Displayed
from finitewidth.networks import Network
from finitewidth.theory.expansion.slopes import Effort, FirstOrderSlopes, recent_slopes, standard_readout
from finitewidth.theory.validated import applies, outside_validated

if TYPE_CHECKING:
    from finitewidth.theory.solution import TheorySolution

_POINTS = 200  # training and test points that are looked at, at most
TOLERANCE = 0.002  # of the slopes, if so many neurons a layer reach it:
NEURONS = (5_000, 20_000)  # at first, and where that leaves more than half the noise allowed
_NOISE = 0.03  # standard error of the error's change up to which a small one is known to be small
# Chosen on the forty cases of docs/validity.md, before the fresh ones there were looked at:
GOOD = 0.07  # change of the logarithm of the test error, and share of bias and variance in it, of a good prediction
LARGEST = 0.7  # up to which a first order says how far
_SAME = 0.05  # sum over layers of |log Q| below which the kernel of the saddle is taken for that of infinite width
APART = math.log(1.5)  # between the changes at both kernels, beyond which it says nothing
NATS = (5.0, 100.0, 15.0)  # of log evidence that the action misses: always little, little for a change of 1, too much


@dataclass(frozen=True)
class Validity(Displayed):
    """What to expect of a prediction of the action.

    answer: "good", "off by about" or "unknown". expected_relative_error: estimate of |predicted / true - 1| of the test
    error; NaN where unknown. statement: one sentence.
    """

    answer: str
    expected_relative_error: float
    statement: str


def validity(solution: TheorySolution, test: Dataset | None = None) -> Validity:
    """What to expect of a prediction of the action, at the cost of a second.

    test: where it predicts; None: the last fifth of the training points, predicted from the others. At most 200 points
    of either are looked at, at a width that keeps P / N. Unknown outside the range in which it was calibrated: data of
    unusual size, or a large Q. Raises InputError for solutions that are not the action's, and for one that did not
    converge.
    """
    theory = solution.theory
    if not applies(solution):
        state = "" if solution.converged else " that did not converge"
        raise InputError(
            f"the validity of a solution of {type(theory.network).__name__} by method {theory.method!r} with the "
            f"likelihood {theory.likelihood!r}{state}",
            "a converged prediction of the action (method 'saddle' or 'integrate') with Gaussian noise, for one of the "
            "package's networks",
            "solve it with method='saddle'",
        )
    outside = outside_validated(solution)
    if outside is not None:
        return _unknown(outside.what, solution)
    train, held_out = _looked_at(solution.train, test)
    width = theory.network.widths[0] * train.n_points / solution.train.n_points
    try:
        network, given = renormalised(solution), (theory, train, held_out)
        for neurons in NEURONS:
            found = Judgement.of(recent_slopes(*given, Effort(TOLERANCE, neurons), network), width)
            if network is not None:
                found = found.beside(recent_slopes(*given, Effort(TOLERANCE, NEURONS[0])), width)
            if found.noise <= 0.5 * found.noise_allowed or not found.holds:
                break
    except (InputError, np.linalg.LinAlgError):
        return _unknown("the Gaussian process of infinite width is not finite in double precision", solution)
    return found.statement(solution)


def renormalised(solution: TheorySolution) -> Network | None:
    """The network whose kernel at infinite width is that of the action's saddle: there the action is expanded best.

    None, which stands for the solution's own network, where Q is more than one number a layer, and where the two
    kernels are almost the same: wide networks share one expansion. Both are exact to first order in 1/N.
    """
    network, q = standard_readout(solution.network), np.asarray(solution.order_parameters, dtype=float)
    one_a_layer = not network.patched and solution.train.n_outputs == 1 and q.size == network.depth
    if not one_a_layer or np.abs(np.log(q)).sum() < _SAME:
        return None
    precision = list(network.weight_precision)
    for layer, scale in enumerate(q):
        precision[layer + 1] /= float(scale)
    return network.with_precision(tuple(precision))


def _looked_at(train: Dataset, test: Dataset | None) -> tuple[Dataset, Dataset]:
    """Some of the training points, and points to predict."""
    if test is None:
        count = min(train.n_points, _POINTS)
        cut = max(1, count - max(1, count // 5))
        return train.subset(np.arange(cut)), train.subset(np.arange(min(cut, count - 1), count))
    return tuple(part.subset(np.arange(min(part.n_points, _POINTS))) for part in (train, test))  # type: ignore[return-value]


@dataclass(frozen=True)
class Judgement:
    """What the action misses at a width, to first order.

    change: of the logarithm of the test error; parts: what bias and variance have in it; noise: its standard error.
    nats: of log evidence. Where that is much, the posterior is another one, whatever the first order of the error.
    apart: between the changes at the kernels of the saddle and of infinite width.
    """

    change: float
    parts: tuple[float, float]
    noise: float
    nats: float
    apart: float = 0.0

    @classmethod
    def of(cls, slopes: FirstOrderSlopes, width: float) -> Judgement:
        """width: of the first hidden layer."""
        whole = slopes.test_error.infinite
        change, bias, variance = (slopes.missed(name, width) / whole for name in ("test_error", "bias", "variance"))
        nats = (slopes.evidence_slope.total - slopes.action_evidence) / width
        return cls(change, (bias, variance), slopes.test_error.slope_se / (width * whole), nats)

    def beside(self, slopes: FirstOrderSlopes, width: float) -> Judgement:
        """The same, with how far the change is from that of other slopes."""
        return replace(self, apart=abs(self.change - Judgement.of(slopes, width).change))

    @property
    def largest(self) -> float:
        """Of the error and its parts, which may cancel."""
        return max(abs(self.change), *map(abs, self.parts))

    @property
    def known(self) -> bool:
        """Whether the noise leaves a statement."""
        return self.noise <= self.noise_allowed

    @property
    def noise_allowed(self) -> float:
        return max(_NOISE, 0.2 * self.largest)

    @property
    def holds(self) -> bool:
        """Whether the expansion does."""
        little, per_change, much = NATS
        enough = abs(self.nats) <= max(little, min(per_change * self.largest, much))
        return enough and self.largest <= LARGEST and self.apart <= APART

    @property
    def too_much(self) -> str:
        """Why not, in words."""
        if self.apart > APART:
            where = "the first orders at infinite width and at the action's kernel"
            return f"{where} are more than a factor of {math.exp(APART):g} apart"
        change = f"the first order in 1/N changes the test error by {100 * self.largest:.0f} %"
        return f"{change} and the log evidence by {abs(self.nats):.0f}, too much to stop there"

    @property
    def relative(self) -> float:
        """Expected |action / exact - 1|."""
        return abs(math.expm1(-self.change))

    @property
    def answer(self) -> str:
        if not (self.known and self.holds):
            return "unknown"
        return "good" if self.largest <= GOOD else "off by about"

    def statement(self, solution: TheorySolution) -> Validity:
        if not self.known and self.holds:
            why = f"what the action misses to first order in 1/N is only known to {100 * self.noise:.0f} %"
            return _unknown(why, solution)
        if not self.holds:
            return _unknown(self.too_much, solution)
        if self.answer == "good":
            bound = max(1, math.ceil(100 * self.largest))
            return Validity("good", self.relative, f"good: expect the test error to hold within {bound} %")
        side = "too large" if self.change < 0.0 else "too small"
        text = f"off by about {100 * self.relative:.0f} %: the test error is {side}"
        if abs(self.change) < 0.5 * self.largest:
            text += ", and more than that of bias and variance cancels in it"
        return Validity("off by about", self.relative, text)


def _unknown(why: str, solution: TheorySolution) -> Validity:
    seconds = sampling_seconds(solution.network, solution.train)
    text = f"unknown: {why}; samples would tell, in about {seconds:.0f} s (--within 5%)"
    return Validity("unknown", math.nan, text)


def sampling_seconds(network: Network, train: Dataset) -> float:
    """Of a sample as good as for ``--within 5%``, compilation included: as on the cases of docs/accuracy.md."""
    return 2.5 + 0.1e-6 * network.gradient_operations(train.n_points, train.x.shape[1:])
