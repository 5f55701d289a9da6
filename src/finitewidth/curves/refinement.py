"""What is known of the errors of one network over widths, and the next sample that would add most to it, a second."""

from __future__ import annotations

import math
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from finitewidth.checks.exceptions import InputError
from finitewidth.curves.interpolation import Anchor, Base, Mixture, log_errors
from finitewidth.data import Dataset
from finitewidth.inference.likelihoods import Gaussian
from finitewidth.inference.methods import Control, Problem
from finitewidth.inference.prediction import Errors
from finitewidth.networks import Network
from finitewidth.runs import durations
from finitewidth.runs.checkpoints import folder_of
from finitewidth.runs.long_runs import carry_out
from finitewidth.sampling import Sample, SampledErrors
from finitewidth.sampling.run import SamplingRun
from finitewidth.theory.expansion import FirstOrder, FirstOrderSlopes, first_order
from finitewidth.theory.expansion.slopes import family
from finitewidth.theory.methods import Infinite, Saddle
from finitewidth.theory.solution import TheorySolution

if TYPE_CHECKING:
    from finitewidth.curves.on_demand import Curve

Array = np.ndarray
ERRORS = ("test_error", "bias", "variance", "train_error")
_ODDS = (0.9, 0.1)  # that it is the action that is off by a smooth factor, or the constant of infinite width
_TAIL, _Z = 0.05, 1.645  # of a 90 % interval on either side, in probability and in standard deviations
_NEURONS = 20_000  # a layer, of the slopes
_SHARE = 3.0  # a sample is drawn to this part of the accuracy asked for, then to half of it, ...
_LEVELS = 3


def _values(errors: Errors) -> dict[str, float]:
    """What is interpolated: squared errors, and the share of points that are misclassified."""
    values = {name: float(getattr(errors, name)) for name in ERRORS}
    return values if errors.accuracy is None else values | {"misclassified": 1.0 - errors.accuracy}


class TheoryOfWidths:
    """The action, infinite width and the exact first order of networks that differ in width only.

    solutions, errors: of the action, by the width of the first layer, where it has a solution. infinite: errors at
    infinite width. slopes: None where there are none.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        temperature: float,
        train: Dataset,
        test: Dataset,
        seed: int,
        control: Control,
    ) -> None:
        noise = Gaussian(temperature)
        self.infinite = Infinite().solve(Problem(networks[0], noise), train, control).errors(test)
        self.solutions: dict[int, TheorySolution] = {}
        self.errors: dict[int, Errors] = {}
        problems = [Problem(network, noise) for network in networks]
        try:
            found = list(Saddle().solutions(problems, train, test, control=control))
        except InputError:  # an architecture whose action is not known
            found = []
        for solution in found:
            if solution.converged:
                self.solutions[solution.network.widths[0]] = solution
                self.errors[solution.network.widths[0]] = solution.errors(test)
        self.slopes = self._slopes(networks[0], temperature, train, test, seed, control)

    def _slopes(
        self, network: Network, temperature: float, train: Dataset, test: Dataset, seed: int, control: Control
    ) -> FirstOrderSlopes | None:
        try:
            FirstOrder().serves(Problem(network, Gaussian(temperature)), train.n_outputs)
            return first_order(network, train, test, temperature, neurons=_NEURONS, seed=seed, memory=control.memory)
        except (InputError, np.linalg.LinAlgError):
            return None

    def error_at(self, width: int) -> float:
        """Test error of the action; NaN where it has no solution."""
        return self.errors[width].test_error if width in self.errors else math.nan

    def bases(self, name: str, widths: Sequence[int]) -> list[Base]:
        """The action, where it is known at all of the widths, and the constant of infinite width."""
        limit = _values(self.infinite)[name]
        slope = action = error = math.nan
        if self.slopes is not None:
            slope, error, action = _slope(self.slopes, name)
        known = {width: _values(errors)[name] for width, errors in self.errors.items()}
        found = []
        if all(known.get(width, 0.0) > 0.0 for width in widths):
            found.append((known, slope - action, _ODDS[0]))
        found.append((dict.fromkeys(widths, limit), slope, _ODDS[1]))
        return [
            Base(
                {width: math.log(values[width]) for width in widths},
                (missed / limit, error / limit) if math.isfinite(missed) else None,
                odds,
            )
            for values, missed, odds in found
        ]


def _slope(slopes: FirstOrderSlopes, name: str) -> tuple[float, float, float]:
    """Exact slope of an error in 1/N, its standard error, and the slope of the action."""
    if name != "misclassified":
        found = getattr(slopes, name)
        return found.slope, found.slope_se, getattr(slopes.action, name)
    if slopes.accuracy is None or slopes.action.accuracy is None:
        return math.nan, math.nan, math.nan
    return -slopes.accuracy.slope, slopes.accuracy.slope_se, -slopes.action.accuracy


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
        return max(self.high["test_error"] / value - 1.0, 1.0 - self.low["test_error"] / value)


class Refinement:
    """The errors of networks that differ in width only, refined by samples until they are as accurate as asked for.

    samples: errors of sampled widths whose chains have converged. failed: why others are not used. complete: False
    after an interrupt.
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
        self._started = time.perf_counter()
        self.method, self.accuracy = method, method.accuracy
        self.train, self.test, self.temperature, self.control = train, test, temperature, control
        self.asked = sorted({network.widths[0] for network in networks})
        self._networks = {network.widths[0]: network for network in networks} | self._stored(networks[0])
        theory = [self._networks[width] for width in sorted(self._networks)]
        self.theory = TheoryOfWidths(theory, temperature, train, test, method.seed, control)
        self.samples: dict[int, SampledErrors] = {}
        self.failed: dict[int, str] = {}
        self.complete = True
        self._levels: dict[int, int] = {}
        self._pace = 1.0  # measured seconds of samples over expected ones
        self._measured = self._expected = 0.0

    # --- the answer -----------------------------------------------------------------------------------------------

    @property
    def rests_on(self) -> str:
        """In words."""
        if self.samples:
            return f"samples at {', '.join(map(str, sorted(self.samples)))}"
        return "theory" if self.theory.slopes is None else "first order"

    def estimate(self, width: int) -> Estimate:
        """Errors at a width; the two parts of the test error add up to it."""
        k = self.asked.index(width)
        names = _values(self.theory.infinite)
        middle, low, high = ({name: self._quantiles[name][p][k] for name in names} for p in range(3))
        share = middle["test_error"] / (middle["bias"] + middle["variance"])
        for part in ("bias", "variance"):
            for values in (middle, low, high):
                values[part] *= share
        accuracy = 1.0 - min(1.0, middle["misclassified"]) if "misclassified" in middle else None
        errors = Errors(**{name: middle[name] for name in ERRORS}, accuracy=accuracy)
        return Estimate(errors, low, high)

    def message(self, width: int) -> str:
        """What was reached where that is not what was asked for, and why."""
        off_by = self.estimate(width).off_by
        if off_by <= self.accuracy:
            return ""
        why = "interrupted" if not self.complete else "more samples would take too long"
        if width in self.failed:
            why = f"its sample is not used: {self.failed[width]}"
        return f"known within {100 * off_by:.2g} %, not {100 * self.accuracy:.2g} %: {why}"

    @property
    def _quantiles(self) -> dict[str, list[Array]]:
        """Median and both ends of the 90 % interval of every error at the widths asked for."""
        key = tuple((width, errors.test_error) for width, errors in self.samples.items())
        if getattr(self, "_latest", (None, None))[0] != key:
            found = {}
            for name in _values(self.theory.infinite):
                mixture = self._mixture(name)
                found[name] = [np.exp(mixture.quantile(p)) for p in (0.5, _TAIL, 1.0 - _TAIL)]
            self._latest = (key, found)
        return self._latest[1]

    def _mixture(self, name: str) -> Mixture:
        anchors = list(_anchors(self.samples, name))
        widths = sorted({*self.asked, *(anchor.width for anchor in anchors)})
        return log_errors(self.theory.bases(name, widths), anchors, self.asked, self.train.n_points)

    # --- refining -------------------------------------------------------------------------------------------------

    def refine(self) -> None:
        """Sample one width after another until the accuracy is reached, or the time is over."""
        self.complete = False
        with self._folder() as folder:
            for width in sorted(set(self._networks) - set(self.asked)):
                self._sample(width, folder, _SHARE, "stored")
            plan = self._plan()
            if plan:
                what = f"samples at {', '.join(map(str, dict.fromkeys(plan)))}"
                durations.require_time(sum(map(self._seconds, plan)), what, "ask for less accuracy (within)")
            with durations.settled():
                while plan:
                    share = _SHARE * 2.0 ** self._levels.get(plan[0], 0)
                    self._sample(
                        plan[0], folder, share, f"{len(self.samples) + 1} of about {len(plan) + len(self.samples)}"
                    )
                    self._levels[plan[0]] = self._levels.get(plan[0], 0) + 1
                    plan = self._plan()
        self.complete = True

    def _sample(self, width: int, folder: Path, share: float, place: str) -> None:
        """One width, to the accuracy asked for over ``share``."""
        run = self._run(width, share)
        file = folder / f"width-{'-'.join(map(str, run.network.widths))}-temperature-{self.temperature:g}.npz"
        expected, started = self._seconds(width), time.perf_counter()
        state = carry_out(run, file, f"width {width}, sample {place}" if self.control.progress else False)
        errors = run.collect(state).errors(self.test)
        if errors.converged:
            self.samples[width] = errors
        else:
            self.failed[width] = errors.message
        self._measured += time.perf_counter() - started
        self._expected += expected / self._pace
        self._pace = self._measured / self._expected

    def _plan(self) -> list[int]:
        """The widths to sample next, in order, were all to come out as expected."""
        mixture = self._mixture("test_error")
        middle, low, high = self._quantiles["test_error"]
        reach = np.maximum(np.log(high / middle), np.log(middle / low)) / _Z
        deviation = np.sqrt(np.diag(mixture.covariance))
        covariance = mixture.covariance * np.outer(reach / deviation, reach / deviation)
        wanted = np.log1p(self.accuracy) / _Z
        levels, left = dict(self._levels), self._time_left
        plan: list[int] = []
        while (np.sqrt(np.diag(covariance)) > wanted).any():
            best = max(
                (
                    (_gain(covariance, wanted, k, self._noise(levels.get(width, 0))) / self._seconds(width), width, k)
                    for k, width in enumerate(self.asked)
                    if levels.get(width, 0) < _LEVELS and width not in self.failed and self._seconds(width) <= left
                ),
                default=(0.0, 0, 0),
            )
            if best[0] <= 0.0:
                break
            plan.append(best[1])
            left -= self._seconds(best[1])
            covariance = _after(covariance, best[2], self._noise(levels.get(best[1], 0)))
            levels[best[1]] = levels.get(best[1], 0) + 1
        return plan

    def _noise(self, level: int) -> float:
        """Relative standard error of a sample."""
        return self.accuracy / (_SHARE * 2.0**level)

    @property
    def _time_left(self) -> float:
        limit = math.inf if self.method.seconds is None else self.method.seconds
        return limit - (time.perf_counter() - self._started)

    def _seconds(self, width: int) -> float:
        """Expected of a sample at a width."""
        return self._pace * (8.0 + 4 * 400 * 10 * self._run(width, _SHARE).cost / 1e10)

    def _run(self, width: int, share: float) -> SamplingRun:
        settings = Sample(accuracy=self.accuracy / share, seed=self.method.seed, observables=())
        return SamplingRun(
            settings=settings,
            network=self._networks[width],
            train=self.train,
            test=self.test,
            temperature=self.temperature,
        )

    # --- samples of earlier calls ---------------------------------------------------------------------------------

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        """Where samples are saved: the folder of checkpoints, or one that goes with the call."""
        if self.control.checkpoints is not None:
            yield folder_of(self.control.checkpoints)
            return
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)

    def _stored(self, network: Network) -> dict[int, Network]:
        """Networks of this family that earlier calls sampled, by the width of their first layer."""
        if self.control.checkpoints is None:
            return {}
        pattern = re.compile(rf"width-([0-9-]+)-temperature-{re.escape(f'{self.temperature:g}')}\.npz")
        names = map(pattern.fullmatch, (path.name for path in Path(self.control.checkpoints).glob("width-*.npz")))
        widths = [tuple(map(int, name[1].split("-"))) for name in names if name]
        found = [network.with_widths(w) for w in widths if len(w) == network.depth]
        return {one.widths[0]: one for one in found if family(one) == family(network)}


def _anchors(samples: dict[int, SampledErrors], name: str) -> Iterator[Anchor]:
    """Of one error, where it was sampled well enough to have a logarithm."""
    for width, errors in samples.items():
        value = _values(errors)[name]
        error = getattr(errors, "accuracy_se" if name == "misclassified" else f"{name}_se")
        if value > 2.0 * error:
            yield Anchor(width, math.log(value), error / value)


def _after(covariance: Array, k: int, noise: float) -> Array:
    """The covariance after a sample of this standard error at the k-th width."""
    seen = covariance[:, k]
    return np.asarray(covariance - np.outer(seen, seen) / (seen[k] + noise**2))


def _gain(covariance: Array, wanted: float, k: int, noise: float) -> float:
    """By how much a sample at the k-th width brings deviations nearer to those wanted, in logarithms."""
    before, after = (np.diag(c) for c in (covariance, _after(covariance, k, noise)))
    return float(0.5 * (np.log(np.maximum(before, wanted**2)) - np.log(np.maximum(after, wanted**2))).sum())
