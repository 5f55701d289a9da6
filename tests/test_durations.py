"""How long work will take: limits, announcements, and estimates by a clock that the tests move."""

from __future__ import annotations

import types

import pytest

import finitewidth as fw
from finitewidth.runs import durations
from finitewidth.runs.durations import Jobs, Pace, Piece, format_time, parse_time, require_time


class Clock:
    """Stands still but for ``work``."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def work(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(durations, "time", types.SimpleNamespace(perf_counter=clock.perf_counter))
    return clock


@pytest.fixture
def said():
    lines: list[str] = []
    with durations.announced(lines.append):
        yield lines


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90.0), ("90s", 90.0), ("10min", 600.0), ("2h", 7200.0), (" 1.5 H ", 5400.0), ("1d", 86400.0), (7, 7.0)],
)
def test_durations_are_read(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "2 weeks", "-1h", "nan", "inf", "1e999h", "2h30", 0, -1.0])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(fw.InputError, match="time"):
        parse_time(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 second"),
        (19.2, "20 seconds"),
        (60.0, "1 minute"),
        (200.0, "3.3 minutes"),
        (3000.0, "50 minutes"),
        (9000.0, "2.5 hours"),
        (8.64e8, "10,000 days"),
    ],
)
def test_durations_in_words(seconds, text):
    assert format_time(seconds) == text


def test_refused_above_the_limit(said):
    with pytest.raises(fw.TimeCapError) as refused:
        require_time(7200.0, "a long job", "do less")
    assert str(refused.value) == (
        "a long job, which would take about 2 hours; wanted: at most 1 hour; "
        "do less; or allow more: --time 4h, fw.time_limit('4h')"
    )
    assert isinstance(refused.value, fw.InputError)
    assert said == []


def test_announced_between_and_silent_below(said):
    require_time(durations.SHORT, "a short job", "do less")
    assert said == []
    require_time(200.0, "a job", "do less")
    assert said == ["expected: about 3.3 minutes (a job)"]


def test_the_limit_is_that_of_the_context(said):
    with fw.time_limit("10s"), pytest.raises(fw.TimeCapError):
        require_time(11.0, "a job", "do less")
    with fw.time_limit("3h"):
        require_time(7200.0, "a job", "do less")
    with fw.time_limit(None):
        require_time(1e9, "a job", "do less")
    with pytest.raises(fw.TimeCapError):
        require_time(7200.0, "a job", "do less")
    assert len(said) == 2


def test_what_is_settled_is_not_asked_again(said):
    with durations.settled():
        assert not durations.wanted()
        require_time(1e9, "a job", "do less")
    with fw.time_limit(None):
        assert durations.wanted()  # somebody is told
    assert said == []


def test_nobody_wants_an_estimate_without_a_limit_and_a_listener():
    assert durations.wanted()
    with fw.time_limit(None):
        assert not durations.wanted()


def test_several_jobs_are_estimated_by_the_first(said):
    jobs = Jobs(6.0, "three jobs")
    with jobs.one(1.0):
        require_time(10.0, "the first", "do less")
    with jobs.one(2.0):
        require_time(1e9, "the second", "do less")  # no longer asked
    assert said == ["expected: about 1 minute (three jobs)"]


def test_a_job_that_shows_no_pace_leaves_the_estimate_to_the_next(said):
    jobs = Jobs(6.0)
    with jobs.one(1.0):
        pass  # resumed from a file that held all of it
    with jobs.one(2.0):
        require_time(10.0, "the second", "do less")
    assert said == ["expected: about 25 seconds (the second)"]


def test_several_jobs_are_refused_together():
    with fw.time_limit("50s"), pytest.raises(fw.TimeCapError, match="1 minute"), Jobs(6.0).one():
        require_time(10.0, "the first", "do less")


def loop(clock: Clock, seconds: list[float], total: int, **options) -> None:
    pace = Pace("a loop", "do less", **options)
    for done, taken in enumerate(seconds, 1):
        clock.work(taken)
        pace(done, total - done)


def test_pace_does_not_count_the_first_step(clock, said):
    loop(clock, [30.0, 1.0, 1.0], 101)
    assert said == ["expected: about 1.6 minutes (a loop)"]


def test_pace_waits_for_as_many_steps_as_it_takes(clock, said):
    loop(clock, [1.0, 2.0, 2.0], 101, steps=3)
    assert said == []
    loop(clock, [1.0, 2.0, 2.0, 2.0], 101, steps=3)
    assert said == ["expected: about 3.2 minutes (a loop)"]


def test_pace_does_not_wait_long(clock):
    with pytest.raises(fw.TimeCapError):
        loop(clock, [1.0, 100.0], 101, steps=3)


def test_pace_of_a_loop_that_ends_by_itself(clock, said):
    loop(clock, [1.0, 100.0], 101, most=40.0)
    assert said == ["expected: about 40 seconds (a loop)"]


def test_pace_of_a_quick_loop_is_silent(clock, said):
    loop(clock, [1.0, 0.01, 0.01], 101)
    assert said == []


@pytest.mark.parametrize(
    "law", [lambda n: 2e-6 * n**2, lambda n: 1e-8 * n**3, lambda n: 0.01 + 1e-6 * n**2 + 1e-8 * n**3]
)
def test_rehearsals_find_how_work_grows(clock, law):
    """Exact where work grows as assumed, at a few per cent of it."""
    count, rehearsed = 3000, []

    def work(size: int) -> list[Piece]:
        rehearsed.append(size)
        return [Piece(lambda: clock.work(law(size)), 3.0), Piece(lambda: clock.work(0.001), 1.0)]

    seconds = durations.rehearsed(work, count)
    whole = 3.0 * law(count) + 0.001
    assert seconds(count) == pytest.approx(whole, rel=0.02)
    assert seconds(1000) == pytest.approx(3.0 * law(1000) + 0.001, rel=0.05)
    assert clock.now < 0.1 * whole
    assert max(rehearsed) <= count // 2


def test_quick_work_is_timed_several_times(clock):
    taken = iter([0.02, 0.001, 0.02, 9.0])
    assert durations.timed(lambda: clock.work(next(taken))) == pytest.approx(0.001)
    assert next(taken) == 9.0  # .03 seconds are enough
