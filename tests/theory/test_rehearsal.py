"""Theories say how long they will take before they begin; small ones are not even looked at."""

from __future__ import annotations

import numpy as np
import pytest

import finitewidth as fw
from finitewidth import durations
from finitewidth.data import Dataset
from finitewidth.theory import rehearsal

RNG = np.random.default_rng(0)
ONE, TWO = fw.FullyConnected(widths=(50,)), fw.FullyConnected(widths=(50, 50))
CONVOLUTIONAL = fw.Convolutional(channels=20, patch=2)


def points(count: int, shape: tuple[int, ...] = (3,)) -> Dataset:
    x = RNG.standard_normal((count, *shape))
    return fw.Dataset(x, x.reshape(count, -1)[:, 0])


@pytest.fixture
def rehearsals(monkeypatch):
    """Sizes at which pieces were made."""
    sizes: list[int] = []
    pieces = rehearsal._pieces

    def seen(theory, rows, part, at):
        sizes.append(len(part))
        return pieces(theory, rows, part, at)

    monkeypatch.setattr(rehearsal, "_pieces", seen)
    return sizes


@pytest.fixture
def measured(monkeypatch):
    """A clock by which every piece takes a second."""

    def timed(work):
        work()
        return 1.0

    monkeypatch.setattr(durations, "timed", timed)


@pytest.mark.parametrize("network", [ONE, TWO])
def test_small_jobs_are_not_rehearsed(network, rehearsals, measured):
    train, test = points(120), points(40)
    with fw.time_limit("1s"):
        fw.learning_curve(network, train, test, widths=[20, 50])
        fw.solve(fw.theory_of(network, 0.05), train)
    assert rehearsals == []


@pytest.mark.parametrize(
    ("network", "options", "shape", "count", "words"),
    [
        (ONE, {}, (3,), 1500, "an eigendecomposition on 1,500 training points"),
        (ONE, {"method": "integrate"}, (3,), 1500, "an eigendecomposition"),
        (TWO, {}, (3,), 600, "the nested closure on 600 training points, 2 rows"),
        (TWO, {"method": "integrate"}, (3,), 200, "the nested closure"),
        (CONVOLUTIONAL, {}, (6, 6), 600, "an order parameter for pairs of patches"),
        (ONE, {"solver": "krylov"}, (3,), 300, "a Krylov space on 300 training points"),
    ],
)
def test_large_jobs_are_refused_before_they_begin(network, options, shape, count, words, measured):
    train, test = points(count, shape), points(20, shape)
    with fw.time_limit(0.5), pytest.raises(fw.TimeCapError, match=words) as refused:
        fw.learning_curve(network, train, test, widths=[20, 50], **options)
    assert "fewer training points" in refused.value.remedy
    assert "--time" in refused.value.remedy


def test_solve_asks_too(measured):
    with fw.time_limit(0.5), pytest.raises(fw.TimeCapError, match="eigendecomposition"):
        fw.solve(fw.theory_of(ONE, 0.05), points(1500))


def test_several_outputs_and_user_covariances_have_pieces():
    """Every theory but the single neuron's can be rehearsed."""
    train = fw.Dataset(RNG.standard_normal((30, 4, 4)), RNG.integers(0, 3, 30))
    for theory in (
        fw.theory_of(fw.Convolutional(channels=5, patch=2), 0.1),
        fw.theory_of(fw.Convolutional(channels=5, patch=2, pool="average"), 0.1),
    ):
        for piece in rehearsal._pieces(theory.for_outputs(3), 2, train, train.x[:5]):
            piece.work()
            assert piece.times >= 1


def test_without_limit_and_listener_nothing_is_rehearsed(rehearsals):
    with fw.time_limit(None):
        fw.learning_curve(TWO, points(500), points(20), widths=[50], method=fw.Saddle(closure="product"))
    assert rehearsals == []


def test_all_sizes_and_rows_are_counted(monkeypatch):
    said: list[str] = []
    asked: list[float] = []
    monkeypatch.setattr(rehearsal, "_operations", lambda *_: np.inf)
    monkeypatch.setattr(rehearsal, "_rehearsed", lambda theory, rows, train, test: lambda n: 0.1 * n * rows)
    monkeypatch.setattr(durations, "require_time", lambda seconds, *_: asked.append(seconds))
    with durations.announced(said.append, bar=False):
        fw.learning_curve(TWO, points(60), points(10), widths=[20, 50], n_train=[20, 30])
    assert asked == [pytest.approx(0.1 * 50 * 2)]


def test_a_job_that_cannot_be_rehearsed_says_itself_what_is_wrong(monkeypatch):
    def broken(*_):
        raise np.linalg.LinAlgError("not in a rehearsal")

    monkeypatch.setattr(rehearsal, "_operations", lambda *_: np.inf)
    monkeypatch.setattr(rehearsal, "_rehearsed", broken)
    assert fw.learning_curve(ONE, points(30), points(10))[0].converged


def test_an_interrupt_passes_through_a_rehearsal(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(rehearsal, "_operations", lambda *_: np.inf)
    monkeypatch.setattr(rehearsal, "_rehearsed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fw.learning_curve(ONE, points(30), points(10))


def test_estimates_leave_the_numbers_alone(monkeypatch):
    train, test = points(80), points(20)
    before = fw.learning_curve(TWO, train, test)[0]
    monkeypatch.setattr(rehearsal, "_operations", lambda *_: np.inf)
    after = fw.learning_curve(TWO, train, test)[0]
    assert after.test_error == before.test_error
    assert after.log_evidence == before.log_evidence
