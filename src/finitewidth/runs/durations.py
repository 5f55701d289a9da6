"""How long work will take: measured on a small piece of it, refused above a limit, said where somebody waits.

The limit belongs to the context (``time_limit``), not to a machine or an argument of every function. Whoever knows the
whole of a job estimates it; what the job calls does not ask again (``settled``, ``Jobs``).
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from finitewidth import checks
from finitewidth.checks.exceptions import TimeCapError

LIMIT = 3600.0  # seconds, where nobody says otherwise
SHORT = 5.0  # seconds that need no announcement
_UNITS = {"": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_NAMES = (("day", 86400.0), ("hour", 3600.0), ("minute", 60.0))


@dataclass(frozen=True)
class _Watch:
    """limit: seconds, None for none. say: prints a line. jobs, weight: this is one of several jobs."""

    limit: float | None = LIMIT
    say: Callable[[str], Any] | None = None
    jobs: Jobs | None = None
    weight: float = 1.0

    def whole(self, seconds: float, what: str) -> tuple[float, str]:
        """Of all jobs that are left, from those of this one; and what they are."""
        if self.jobs is None:
            return seconds, what
        return seconds * max(1.0, self.jobs.left / self.weight), self.jobs.what or what


_BY_DEFAULT = _Watch()
_watch: ContextVar[_Watch] = ContextVar("watch", default=_BY_DEFAULT)


@contextlib.contextmanager
def _watching(watch: _Watch) -> Iterator[None]:
    token = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(token)


def time_limit(limit: str | float | None) -> contextlib.AbstractContextManager[None]:
    """Refuse what would take longer (``with fw.time_limit("8h"):``); one hour without it.

    limit: "90s", "10min", "2h", "1d", or seconds; None for no limit. Work of more than a few seconds is estimated from
    a small measured piece of it, usually within a factor of two; above the limit TimeCapError is raised beforehand.
    Raises InputError for what is no duration.
    """
    return _watching(replace(_watch.get(), limit=None if limit is None else parse_time(limit)))


def announced(say: Callable[[str], Any]) -> contextlib.AbstractContextManager[None]:
    """Tell ``say`` how long work of more than a few seconds will take."""
    return _watching(replace(_watch.get(), say=say))


def settled() -> contextlib.AbstractContextManager[None]:
    """Nothing is estimated in here: the caller has estimated the whole."""
    return _watching(_Watch(limit=None))


def parse_time(text: str | float) -> float:
    """Seconds of "90s", "10min", "2h", "1d" or a number; raises InputError for anything else."""
    if not isinstance(text, str):
        return checks.positive("time", text)
    return checks.with_unit("time", text, _UNITS, "a duration such as 90s, 10min, 2h or 1d")


def format_time(seconds: float) -> str:
    """About how long, in words: 20 seconds, 3 minutes, 2.5 hours."""
    for name, unit in _NAMES:
        if seconds >= unit:
            number = f"{seconds / unit:.2g}" if seconds < 10.0 * unit else f"{seconds / unit:,.0f}"
            return f"{number} {name}" + ("" if number == "1" else "s")
    return f"{math.ceil(seconds)} second" + ("" if seconds <= 1.0 else "s")


# --- what an estimate leads to ---------------------------------------------------------------------------------------


def wanted() -> bool:
    """Whether an estimate would lead to anything: there is a limit, or somebody who reads it."""
    watch = _watch.get()
    estimated = watch.jobs is not None and watch.jobs.estimated
    return not estimated and (watch.limit is not None or watch.say is not None)


def require_time(seconds: float, what: str, remedy: str) -> None:
    """Refuse what would take longer than the limit; otherwise say how long, if that is more than a few seconds.

    seconds: of this job; those that are still to come of several (``Jobs``) are added.
    """
    if not wanted():
        return
    watch = _watch.get()
    refuse_beyond(seconds, what, remedy)
    whole, name = watch.whole(seconds, what)
    if watch.jobs is not None:
        watch.jobs.estimated = True
    if watch.say is not None and whole > SHORT:
        watch.say(f"expected: about {format_time(whole)} ({name})")


def refuse_beyond(seconds: float, what: str, remedy: str) -> None:
    """Refuse what takes at least so long, where that is beyond the limit, and say nothing otherwise."""
    watch = _watch.get()
    whole, name = watch.whole(seconds, what)
    if watch.limit is not None and whole > watch.limit and wanted():
        raise TimeCapError(
            f"{name}, which would take about {format_time(whole)}",
            f"at most {format_time(watch.limit)}",
            f"{remedy}; or allow more: --time {_generous(whole)}, fw.time_limit({_generous(whole)!r})",
        )


def _generous(seconds: float) -> str:
    """A limit that allows for an estimate that is too low by a factor of two."""
    unit = next((unit for unit in ("d", "h", "min") if seconds >= _UNITS[unit]), "s")
    return f"{math.ceil(2.0 * seconds / _UNITS[unit])}{unit}"


class Jobs:
    """Several jobs of one kind, estimated together as soon as the first shows its pace.

    total: what they cost, in the unit of the weights of ``one``. what: the words for all of them.
    """

    def __init__(self, total: float, what: str = "") -> None:
        self.left, self.what, self.estimated = total, what, False

    @contextlib.contextmanager
    def one(self, weight: float = 1.0) -> Iterator[None]:
        """The next of them."""
        with _watching(replace(_watch.get(), jobs=self, weight=weight)):
            yield
        self.left -= weight


# --- measured pieces -------------------------------------------------------------------------------------------------


class Pace:
    """A loop that estimates itself: ``pace(done, left)`` after every step, both in one unit of work.

    The first step may compile and is not counted; the time of what is left is required after ``steps`` more, or sooner
    where these take long. most: seconds after which it ends by itself.
    """

    def __init__(self, what: str, remedy: str, steps: int = 1, most: float = math.inf) -> None:
        self.what, self.remedy, self.steps, self.most = what, remedy, steps, most
        self._first: tuple[float, float] | None = None  # when the first step ended, and what was done then
        self._count, self._over = 0, not wanted()

    def __call__(self, done: float, left: float) -> None:
        if self._over:
            return
        now = time.perf_counter()
        if self._first is None:
            self._first = (now, done)
            return
        since, before = self._first
        self._count += 1
        if self._count >= self.steps or now - since > _SLOW:
            self._over = True
            seconds = left * (now - since) / max(done - before, 1e-9)
            require_time(min(seconds, self.most), self.what, self.remedy)


_SLOW = 20.0  # seconds after which an estimate is due


def rehearsed(work: Callable[[int], Sequence[Piece]], count: int) -> Callable[[int], float]:
    """Seconds of a job on n points as a function of n, from its pieces on ever more points.

    work: gives the pieces on so many points, half of ``count`` at most. The last of them take about two per cent
    of the job, or .3 seconds.
    """
    sizes: list[int] = []
    seconds: list[list[float]] = []
    size = first_size(count)
    while True:
        pieces = work(size)
        seconds.append([timed(piece.work) for piece in pieces])
        sizes.append(size)
        laws = [_growth(sizes[-3:], column) for column in zip(*seconds[-3:], strict=True)]
        times = [piece.times for piece in pieces]
        affordable = max(0.3, min(0.02 * _sum(times, laws, count), 3.0))
        size *= 2
        if len(sizes) > 2 and (size > count // 2 or 8.0 * sum(seconds[-1]) > affordable):
            return lambda n: _sum(times, laws, n)


@dataclass(frozen=True)
class Piece:
    """A piece of a job, and how often it is done."""

    work: Callable[[], Any]
    times: float


_PYTHON = 0.0060  # seconds of ``slowness`` there
_LEAST, _FIRST = 32, 256  # points of the first of them


def first_size(count: int) -> int:
    """Points of the first rehearsal of a job on ``count`` of them."""
    return min(max(_LEAST, count // 8), _FIRST)


def _sum(times: Sequence[float], laws: Sequence[Callable[[float], float]], count: int) -> float:
    return sum(n * law(count) for n, law in zip(times, laws, strict=True))


def timed(work: Callable[[], Any]) -> float:
    """Seconds of a piece of work; the least of a few where it is quick, for others use the machine too."""
    found: list[float] = []
    while len(found) < 5 and sum(found) < 0.03:
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return min(found)


def slowness() -> float:
    """How slow plain Python is here and now, beside the quiet machine on which seconds were written down elsewhere."""
    return timed(lambda: sum(i * i for i in range(100_000))) / _PYTHON


def _growth(sizes: Sequence[int], seconds: Sequence[float]) -> Callable[[float], float]:
    """``a + b n^2 + c n^3``, none negative, nearest to what was measured; relative errors count."""
    import numpy as np
    from scipy.optimize import nnls

    powers = np.array([0.0, 2.0, 3.0])
    terms = (np.array(sizes)[:, None] / sizes[-1]) ** powers
    found, _ = nnls(terms / np.array(seconds)[:, None], np.ones(len(sizes)))
    return lambda n: float(found @ (n / sizes[-1]) ** powers)


def now() -> str:
    """The time, UTC, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
