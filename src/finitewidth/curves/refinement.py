"""What is known of the errors of one network over widths, and the next sample that would add most to it, a second."""

from __future__ import annotations

import contextlib
import itertools
import math
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from finitewidth.checks.exceptions import MemoryCapError
from finitewidth.curves.interpolation import Anchor, Mixture, log_errors
from finitewidth.curves.theory_of_widths import MISCLASSIFIED, TheoryOfWidths, values_of
from finitewidth.data import Dataset
from finitewidth.inference.methods import Control
from finitewidth.inference.prediction import DEVIATIONS, ERRORS, Errors
from finitewidth.linalg import require_memory
from finitewidth.networks import Network
from finitewidth.runs import durations
from finitewidth.runs.checkpoints import RunFile, folder_of
from finitewidth.runs.long_runs import carry_out
from finitewidth.sampling import Draws, Sample, SampledErrors
from finitewidth.sampling.method import SamplingRun
from finitewidth.theory.expansion.slopes import family
from finitewidth.theory.validity import sampling_seconds

if TYPE_CHECKING:
    from finitewidth.curves.on_demand import Curve

Array = np.ndarray
_TAIL = 0.05  # probability on either side of a 90 % interval
_SHARE = 3.0  # the first sample at a width is drawn to this part of the accuracy asked for, each next one to half
_MOST = 3  # samples at a width, each going on from the last
_TAKEN = 0.75  # of the samples that are planned at first, as measured on the cases of docs/accuracy.md
_ANY = 0.99  # a relative standard error that any sample has


@dataclass(frozen=True)
class Estimate:
    """Errors at a width with 90 % intervals by name. off_by: of the test error, relative, by the interval."""

    errors: Errors
    low: dict[str, float]
    high: dict[str, float]

    @property
    def off_by(self) -> float:
        """How far the test error may be off, relative, at 90 %."""
        value = self.errors.test_error
        if value == 0.0:
            return 0.0
        return max(self.high["test_error"] / value - 1.0, 1.0 - self.low["test_error"] / value)


class Refinement:
    """The errors of networks that differ in width only, refined by samples until they are as accurate as asked for.

    samples: errors of sampled widths whose chains have converged. failed: why others are not used. complete: whether it
    was refined, False after an interrupt.
    """

    def __init__(
        self,
        method: Curve,
        networks: Sequence[Network],
        temperature: float,
        train: Dataset,
        test: Dataset,
        control: Control,
    ) -> None:
        self.method, self.accuracy = method, method.accuracy
        self.train, self.test, self.temperature, self.control = train, test, temperature, control
        self._folder = None if control.checkpoints is None else folder_of(control.checkpoints)
        self.asked = sorted({network.widths[0] for network in networks})
        stored = self._of_earlier_calls(networks[0])
        self._networks = {network.widths[0]: network for network in networks} | stored
        theory = [self._networks[width] for width in sorted(self._networks)]
        self.theory = TheoryOfWidths(theory, temperature, train, test, method.seed, control)
        self.samples: dict[int, SampledErrors] = {}
        self.failed: dict[int, str] = {}
        self.complete = False
        self._ends = math.inf  # by time.perf_counter
        self._samples_taken: Counter[int] = Counter()
        self._states: dict[int, Any] = {}  # of sampled widths, from which the next samples there go on
        self._measured = self._expected = 0.0  # seconds of the samples that were taken
        self._slowness = durations.slowness()
        self._known: dict[str, tuple[Mixture, list[Array]]] = {}  # of errors, with the samples that there are
        for width in stored:
            self._read(width)
        for width in self.asked:
            self._refuse_beyond_memory(width)

    # --- the answer -----------------------------------------------------------------------------------------------

    @property
    def rests_on(self) -> str:
        if self.samples:
            return f"samples at {', '.join(map(str, sorted(self.samples)))}"
        return "theory" if self.theory.slopes is None else "first order"

    def estimate(self, width: int) -> Estimate:
        """Errors at a width; the two parts of the test error add up to it."""
        k = self.asked.index(width)
        names = values_of(self.theory.infinite)
        found = {name: self._quantiles(name) for name in names}
        middle, low, high = ({name: float(ends[p][k]) for name, ends in found.items()} for p in range(3))
        parts = middle["bias"] + middle["variance"]
        share = middle["test_error"] / parts if parts else 1.0
        for part in ("bias", "variance"):
            for values in (middle, low, high):
                values[part] *= share
        accuracy = 1.0 - min(1.0, middle[MISCLASSIFIED]) if MISCLASSIFIED in middle else None
        errors = Errors(**{name: middle[name] for name in ERRORS}, accuracy=accuracy)
        return Estimate(errors, low, high)

    def message(self, width: int) -> str:
        """What was reached where that is not what was asked for, and why."""
        off_by = self.estimate(width).off_by
        if off_by <= self.accuracy:
            return ""
        why = "more samples would take too long" if self.complete else "interrupted"
        if self.complete and self.method.seconds is None:
            why = f"after {_MOST} samples, each better than the last"
        if width in self.failed:
            why = f"its sample is not used: {self.failed[width]}"
        return f"known within {100 * off_by:.2g} %, not {100 * self.accuracy:.2g} %: {why}"

    def _quantiles(self, name: str) -> list[Array]:
        """Median and both ends of the 90 % interval of an error at the widths asked for."""
        if values_of(self.theory.infinite)[name] == 0.0:  # at every width then: targets or predictions are zero
            return [np.zeros(len(self.asked))] * 3
        return self._of_error(name)[1]

    def _of_error(self, name: str) -> tuple[Mixture, list[Array]]:
        """The mixture for its logarithm, and its quantiles."""
        if name not in self._known:
            anchors = list(_anchors(self.samples, name))
            widths = sorted({*self.asked, *(anchor.width for anchor in anchors)})
            found = log_errors(self.theory.bases(name, widths), anchors, self.asked, self.train.n_points)
            self._known[name] = found, [np.exp(found.quantile(p)) for p in (0.5, _TAIL, 1.0 - _TAIL)]
        return self._known[name]

    # --- refining -------------------------------------------------------------------------------------------------

    def refine(self, seconds: float) -> None:
        """Sample one width after another until the accuracy is reached, or the time is over."""
        self._ends = time.perf_counter() + seconds
        plan = self.plan()
        with durations.settled():
            for done in itertools.count(1):
                if not plan:
                    break
                self._sample(plan[0], f"{done} of about {done + len(plan) - 1}")
                plan = self.plan()
        self.complete = True

    def expected_seconds(self, plan: Sequence[int]) -> float:
        """Of samples at these widths; they usually say more than was expected, so that fewer are taken."""
        return _TAKEN * sum(map(self._seconds, plan))

    def _sample(self, width: int, place: str) -> None:
        """A width, better than before where it was sampled already; KeyboardInterrupt where that is cut short."""
        run = self._run(width)
        self._samples_taken[width] += 1
        expected, started = sampling_seconds(run.network, self.train), time.perf_counter()
        label = f"width {width}, sample {place}" if self.control.progress else False
        file = None if self._folder is None else self._folder / self._file(run.network)
        self._states[width] = carry_out(run, file, label, self._states.get(width))
        draws = run.collect(self._states[width])
        errors = self._errors(draws)
        self._known.clear()
        if errors.converged:
            self.samples[width] = errors
        else:
            self.samples.pop(width, None)  # shorter chains agreed by chance
            self.failed[width] = errors.message
        if not draws.complete:
            raise KeyboardInterrupt
        self._measured += time.perf_counter() - started
        self._expected += expected

    def _errors(self, draws: Draws) -> SampledErrors:
        """However accurate and however many, if only the chains agree."""
        return replace(draws, wanted=_ANY, complete=True).errors(self.test)

    def plan(self) -> list[int]:
        """The widths to sample next, in order, were all to come out as expected."""
        if self.theory.infinite.test_error == 0.0:
            return []
        mixture, (middle, low, high) = self._of_error("test_error")
        reach = np.maximum(np.log(high / middle), np.log(middle / low)) / DEVIATIONS
        scale = reach / np.sqrt(np.diag(mixture.covariance))  # the tails of a mixture are not those of a Gaussian
        errors = [
            [] if width in self.failed else [self._error(n) for n in range(self._samples_taken[width], _MOST)]
            for width in self.asked
        ]
        seconds = [self._seconds(width) for width in self.asked]
        wanted = np.log1p(self.accuracy) / DEVIATIONS
        plan = planned(mixture.covariance * np.outer(scale, scale), wanted, errors, seconds, self._time_left)
        return [self.asked[k] for k in plan]

    def _error(self, taken: int) -> float:
        """Relative standard error of a sample at a width where so many were taken before."""
        return self.accuracy / (_SHARE * 2.0**taken)

    @property
    def _time_left(self) -> float:
        return self._ends - time.perf_counter()

    def _seconds(self, width: int) -> float:
        """Expected of a sample at a width, by those that were taken in this call."""
        pace = self._measured / self._expected if self._expected else self._slowness
        return pace * sampling_seconds(self._networks[width], self.train)

    def _run(self, width: int) -> SamplingRun:
        left = max(1.0, self._time_left) if math.isfinite(self._ends) else None
        error = self._error(min(self._samples_taken[width], _MOST - 1))
        return SamplingRun(
            settings=Sample(accuracy=error, seconds=left, seed=self.method.seed, observables=()),
            network=self._networks[width],
            train=self.train,
            test=self.test,
            temperature=self.temperature,
        )

    # --- samples of earlier calls ---------------------------------------------------------------------------------

    def _read(self, width: int) -> None:
        """The sample of an earlier call, as it is; one that is too short is gone on with where that is planned."""
        run = self._run(width)
        assert self._folder is not None
        file = RunFile(self._folder / self._file(run.network), run.fingerprint())
        saved = file.read()
        if saved is None:
            return
        state = run.engine.from_file(file, *saved)
        if run.usable(state):
            errors = self._errors(run.collect(state))
            if errors.converged:
                self.samples[width] = errors
                known = errors.test_error_se / errors.test_error
                self._samples_taken[width] = sum(known <= self._error(n) for n in range(_MOST))

    def _refuse_beyond_memory(self, width: int) -> None:
        """Widths are not sampled where that takes more memory than there is."""
        run = self._run(width)
        try:
            require_memory(run.bytes(), str(run), "allow for more memory", self.control.memory)
        except MemoryCapError as error:
            self.failed[width] = str(error)

    def _file(self, network: Network) -> str:
        widths = "-".join(map(str, network.widths))
        return f"curve-width-{widths}-temperature-{self.temperature}-n-train-{self.train.n_points}.npz"

    def _of_earlier_calls(self, network: Network) -> dict[int, Network]:
        """Networks of this family that earlier calls sampled, by the width of their first layer."""
        files = () if self._folder is None else self._folder.glob("curve-width-*.npz")
        found = {}
        for name in sorted(path.name for path in files):
            widths = [int(width) for width in re.findall(r"\d{1,9}", name.partition("-temperature-")[0])]
            if len(widths) == network.depth and all(widths):
                one = network.with_widths(widths)
                if name == self._file(one) and family(one) == family(network):
                    found[widths[0]] = one
        return found


def refine(curves: Sequence[Refinement], started: float) -> None:
    """All curves of a call, one after another; an interrupt leaves those that are not done incomplete.

    started: when the call began, by time.perf_counter; what is left of its time is shared by the curves that are left.
    Raises TimeCapError before anything is sampled.
    """
    limit = math.inf if curves[0].method.seconds is None else curves[0].method.seconds
    plans = [curve.plan() for curve in curves]
    if any(plans):
        widths = sorted({width for plan in plans for width in plan})
        what = f"samples at up to {len(widths)} widths" + (f", {len(curves)} curves" if len(curves) > 1 else "")
        expected = sum(curve.expected_seconds(plan) for curve, plan in zip(curves, plans, strict=True))
        durations.require_time(min(expected, limit), what, "ask for less accuracy (within)")
    with contextlib.suppress(KeyboardInterrupt):
        for done, curve in enumerate(curves):
            left = limit - (time.perf_counter() - started)
            curve.refine(left / (len(curves) - done))


def _anchors(samples: dict[int, SampledErrors], name: str) -> Iterator[Anchor]:
    """Of one error, where it was sampled well enough to have a logarithm."""
    for width, errors in samples.items():
        value = values_of(errors)[name]
        error = getattr(errors, "accuracy_se" if name == MISCLASSIFIED else f"{name}_se")
        if value > 2.0 * error:
            yield Anchor(width, math.log(value), error / value)


# --- which widths to sample: those that add most to the accuracy of all, a second -------------------------------------


def planned(
    covariance: Array, wanted: float, errors: Sequence[Sequence[float]], seconds: Sequence[float], left: float
) -> list[int]:
    """Widths to sample, in order, were all to come out as expected; a width may come again, to be known better.

    covariance: of the logarithms of the errors at n widths, (n, n). wanted: standard deviation that is good enough.
    errors: of each width, the standard errors of the samples that may be taken there, one after another. seconds: what
    one takes. left: seconds that there are.

    What cannot be sampled, and would not be known well enough with all samples of the others, is given up.
    """
    taken, plan = [0] * len(errors), []
    finest = covariance
    for k, own in enumerate(errors):
        for error in own:
            finest = _after(finest, k, error)
    counted = np.array([len(own) > 0 for own in errors]) | (np.diag(finest) <= wanted**2)
    while (np.diag(covariance)[counted] > wanted**2).any():
        possible = [k for k, own in enumerate(errors) if taken[k] < len(own) and seconds[k] <= left]
        gains = {k: _gain(covariance, counted, wanted, k, errors[k][taken[k]]) for k in possible}
        if not any(gain > 0.0 for gain in gains.values()):
            break
        best = max(gains, key=lambda k: gains[k] / seconds[k])
        covariance = _after(covariance, best, errors[best][taken[best]])
        left -= seconds[best]
        taken[best] += 1
        plan.append(best)
    return plan


def _after(covariance: Array, k: int, error: float) -> Array:
    """The covariance after a sample of this standard error at the k-th width."""
    seen = covariance[:, k]
    return np.asarray(covariance - np.outer(seen, seen) / (seen[k] + error**2))


def _gain(covariance: Array, counted: Array, wanted: float, k: int, error: float) -> float:
    """By how much a sample at the k-th width brings deviations nearer to that wanted, in logarithms.

    counted: (n,) of bool, whose deviations.
    """
    before, after = (np.maximum(np.diag(c)[counted], wanted**2) for c in (covariance, _after(covariance, k, error)))
    return float(0.5 * np.log(before / after).sum())
