"""Theories say how long they will take before they begin; small ones are not even looked at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.data import Dataset
from finitewidth.inference.methods import Control, Problem
from finitewidth.linalg import Spectrum
from finitewidth.runs import durations
from finitewidth.theory import solving
from finitewidth.theory.scaled import KernelSpectrum

RNG = np.random.default_rng(0)
ONE, TWO = fw.FullyConnected(widths=(50,)), fw.FullyConnected(widths=(50, 50))
CONVOLUTIONAL = fw.Convolutional(channels=20, patch=2)


def points(count: int, shape: tuple[int, ...] = (3,)) -> Dataset:
    x = RNG.standard_normal((count, *shape))
    return fw.Dataset(x, x.reshape(count, -1)[:, 0])


@pytest.fixture
def rehearsals(monkeypatch):
    """Points of the jobs that were rehearsed."""
    counts: list[int] = []
    rehearsed = durations.rehearsed
    monkeypatch.setattr(durations, "rehearsed", lambda work, count: (counts.append(count), rehearsed(work, count))[1])
    return counts


@pytest.fixture
def measured(monkeypatch):
    """A clock by which every piece takes a second."""

    def timed(work):
        work()
        return 1.0

    monkeypatch.setattr(durations, "timed", timed)


def long_work(monkeypatch):
    monkeypatch.setattr(solving, "_operations", lambda *_: np.inf)


@pytest.mark.parametrize("network", [ONE, TWO])
def test_small_jobs_are_not_rehearsed(network, rehearsals, measured):
    train, test = points(120), points(40)
    with fw.time_limit("1s"):
        fw.learning_curve(network, train, test, widths=[20, 50])
        fw.solve(fw.theory_of(network, 0.05), train)
    assert rehearsals == []


@pytest.mark.parametrize(
    ("network", "method", "shape", "count", "words"),
    [
        (ONE, "saddle", (3,), 1500, "an eigendecomposition on 1,500 training points"),
        (ONE, "integrate", (3,), 1500, "an eigendecomposition"),
        (TWO, "saddle", (3,), 600, "the nested closure on 600 training points, 2 rows"),
        (CONVOLUTIONAL, "saddle", (6, 6), 600, "an order parameter for pairs of patches"),
        (ONE, fw.Saddle(solver="krylov"), (3,), 300, "a Krylov space on 300 training points"),
    ],
)
def test_large_jobs_are_refused_before_they_begin(network, method, shape, count, words, measured):
    train, test = points(count, shape), points(20, shape)
    with fw.time_limit(0.5), pytest.raises(fw.TimeCapError, match=words) as refused:
        fw.learning_curve(network, train, test, widths=[20, 50], method=method)
    assert "fewer training points" in refused.value.remedy
    assert "--time" in refused.value.remedy


def test_solve_asks_too(measured):
    with fw.time_limit(0.5), pytest.raises(fw.TimeCapError, match="eigendecomposition"):
        fw.solve(fw.theory_of(ONE, 0.05), points(1500))
    with fw.time_limit(0.5), pytest.raises(fw.TimeCapError, match="eigendecomposition"):
        fw.solve(ONE, points(1500))


@dataclass(frozen=True)
class Own(fw.Network):
    widths: object = 100

    def covariance(self, order_parameters, x1, x2):
        return np.prod(order_parameters) * np.tensordot(x1, x2, [(1, 2), (1, 2)])


@pytest.mark.parametrize(
    ("network", "method", "outputs"),
    [
        (ONE, "saddle", 3),
        (ONE, "infinite", 1),
        (ONE, "integrate", 1),
        (TWO, "saddle", 1),
        (CONVOLUTIONAL, "saddle", 3),
        (Own(), "saddle", 1),
        (Own(), "infinite", 3),
    ],
)
def test_every_theory_can_be_rehearsed(network, method, outputs, monkeypatch):
    """More points and rows never are less work."""
    monkeypatch.setattr(durations, "timed", lambda work: (work(), 1.0)[1])
    x, y = RNG.standard_normal((100, 4, 4)), RNG.standard_normal((100, outputs))
    train = fw.Dataset(x, y, classes=())
    theory = fw.theory_of(network, 0.1, method=method).for_outputs(outputs)
    few, more = (solving._operations(theory, rows, train, None) for rows in (1, 2))
    assert 0.0 < few <= more
    assert few < solving._operations(theory, 1, train, train)
    long_work(monkeypatch)
    one, two = (solving._seconds(theory, rows, train, train.subset([0, 1]), [100]) for rows in (1, 2))
    assert one == pytest.approx(1.0)
    assert two == pytest.approx(2.0 if theory.evaluations else 1.0)


def test_without_limit_and_listener_nothing_is_rehearsed(rehearsals):
    with fw.time_limit(None):
        fw.learning_curve(TWO, points(500), points(20), widths=[50], method=fw.Saddle(closure="product"))
    assert rehearsals == []


def test_all_sizes_and_rows_are_counted(monkeypatch):
    said: list[str] = []
    asked: list[float] = []
    long_work(monkeypatch)
    monkeypatch.setattr(durations, "rehearsed", lambda work, count: lambda n: 0.1 * n * work(20)[0].times)
    monkeypatch.setattr(durations, "require_time", lambda seconds, *_: asked.append(seconds))
    with durations.announced(said.append):
        fw.learning_curve(TWO, points(60), points(10), widths=[20, 50], n_train=[20, 30])
    assert asked == [pytest.approx(0.1 * 50 * 2)]


def test_a_job_that_cannot_be_rehearsed_says_itself_what_is_wrong(monkeypatch):
    def broken(*_):
        raise np.linalg.LinAlgError("not in a rehearsal")

    long_work(monkeypatch)
    monkeypatch.setattr(durations, "rehearsed", broken)
    assert fw.learning_curve(ONE, points(30), points(10))[0].converged


def test_an_interrupt_passes_through_a_rehearsal(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    long_work(monkeypatch)
    monkeypatch.setattr(durations, "rehearsed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fw.learning_curve(ONE, points(30), points(10))


def test_estimates_leave_the_numbers_alone(monkeypatch):
    train, test = points(80), points(20)
    before = fw.learning_curve(TWO, train, test)[0]
    long_work(monkeypatch)
    after = fw.learning_curve(TWO, train, test)[0]
    assert after.test_error == before.test_error
    assert after.log_evidence == before.log_evidence


# --- work that solutions share ----------------------------------------------------------------------------------------


@pytest.fixture
def factorised(monkeypatch):
    """Sizes of the matrices that were diagonalised."""
    sizes, original = [], Spectrum.of.__func__

    def count(cls, gram, **options):
        sizes.append(len(gram))
        return original(cls, gram, **options)

    monkeypatch.setattr(Spectrum, "of", classmethod(count))
    return sizes


def problems(*networks, temperatures=(0.05, 0.5)):
    return [Problem(network, fw.Gaussian(t)) for t in temperatures for network in networks]


@pytest.mark.parametrize("method", [fw.Saddle("product"), fw.Saddle("nested"), fw.Integrate("product"), fw.Infinite()])
def test_several_problems_share_one_factorisation(method, factorised):
    """Of widths, temperatures and readout precisions; each gives what it gives alone."""
    train = points(20)
    several = problems(TWO, TWO.with_width(7), TWO.with_precision((1.0, 1.0, 2.0)))
    found = list(method.solutions(several, train))
    assert factorised == [20]
    for problem, solution in zip(several, found, strict=True):
        assert (solution.network, solution.likelihood) == tuple(problem)
        assert solution.log_evidence == pytest.approx(method.solve(problem, train).log_evidence, rel=1e-9)


def test_other_kernels_have_a_factorisation_each(factorised):
    train = points(20)
    several = problems(ONE, fw.FullyConnected((50,), activation="relu"), ONE.with_precision((2.0, 1.0)))
    list(fw.Saddle().solutions(several, train))
    assert factorised == [20] * 3


def test_outputs_share_it_too(factorised):
    train = fw.Dataset(points(20).x, RNG.standard_normal((20, 3)), classes=())
    list(fw.Saddle().solutions(problems(ONE, ONE.with_width(7)), train))
    assert factorised == [20]


def test_every_size_is_factorised_once(factorised):
    found = list(fw.Saddle().solutions(problems(ONE, ONE.with_width(7)), points(20), sizes=[5, 20]))
    assert factorised == [5, 20]
    assert [s.train.n_points for s in found] == [5] * 4 + [20] * 4


def test_methods_share_it_through_their_control(factorised):
    """The same control and data: one factorisation for saddle, integral and infinite width; not for other data."""
    control, train = Control(), points(20)
    for method in (fw.Saddle(), fw.Infinite(), fw.Saddle()):
        list(method.solutions(problems(ONE), train, control=control))
    assert factorised == [20]
    list(fw.Saddle().solutions(problems(ONE), points(20), control=control))
    list(fw.Saddle().solutions(problems(ONE), train))  # a control of its own
    assert factorised == [20] * 3


def test_a_space_that_grows_is_not_handed_on():
    """What a Krylov space gives depends on what was solved before: the same call gives the same bits."""
    control, train, method = Control(), points(60), fw.Saddle(solver="krylov:0.05")
    first, again = (next(iter(method.solutions(problems(ONE), train, control=control))) for _ in range(2))
    assert first.log_evidence == again.log_evidence
    assert control.shared == {}
    list(fw.Saddle().solutions(problems(ONE), train, control=control))
    ((kept_for, shared),) = control.shared.values()
    assert kept_for is train
    assert isinstance(shared, KernelSpectrum)


def test_solutions_come_one_by_one(factorised):
    """The first is there before the second is begun."""
    two = problems(ONE, fw.FullyConnected((50,), activation="relu"), temperatures=[0.1])
    solutions = fw.Saddle().solutions(two, points(20))
    assert factorised == []
    next(solutions)
    assert factorised == [20]
    solutions.close()
    assert factorised == [20]
