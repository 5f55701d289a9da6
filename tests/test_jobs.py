"""Jobs: methods by name and as objects, what is checked before anything is solved, ``fw.solve`` and ``fw.predict``."""

from __future__ import annotations

import warnings
from dataclasses import FrozenInstanceError, dataclass, replace

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.checks.exceptions import InputError
from finitewidth.inference.methods import Control, Method, Problem
from finitewidth.jobs.job import METHODS, Job, method_class, method_of
from finitewidth.linalg import Spectrum

ONE, DEEP = fw.FullyConnected(widths=(9,)), fw.FullyConnected(widths=(9, 9))
QUICK = {
    "neuron": fw.SingleNeuron(particles=600, rounds=(60, 80), seconds=600.0),
    "sample": fw.Sample(draws=10, warmup=10, chains=2),
    "train": fw.Train(steps=20, seeds=2),
}


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_a_name_is_the_method_with_its_defaults(name):
    kind = method_class(name)
    assert issubclass(kind, Method)
    assert (kind.name, method_of(name), kind.averages) == (name, kind(), name in ("sample", "train"))
    given = QUICK.get(name, kind())
    assert method_of(given) is given
    assert getattr(fw, kind.__name__) is kind


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("sadle", "method = 'sadle'; .*did you mean 'saddle'"),
        (3, "method = 3; wanted: .*write method='saddle'"),
        (None, "method = None"),
        (fw.Saddle, "method = .*write method='saddle' or method=fw.Saddle"),
    ],
)
def test_what_is_no_method(given, said):
    with pytest.raises(InputError, match=said):
        method_of(given)


def same_bits(one, other, x):
    assert type(one) is type(other)
    np.testing.assert_array_equal(one.order_parameters, other.order_parameters)
    a, b = one.predict(x), other.predict(x)
    for part in ("mean", "variance", "train_error"):
        np.testing.assert_array_equal(getattr(a, part), getattr(b, part))


@pytest.mark.parametrize(
    ("network", "name", "method"),
    [
        (ONE, "saddle", fw.Saddle()),
        (DEEP, "saddle", fw.Saddle()),
        (ONE, "integrate", fw.Integrate()),
        (ONE, "infinite", fw.Infinite()),
    ],
)
def test_a_method_by_name_and_as_an_object_gives_the_same_bits(network, name, method, train, test_set):
    solutions = [
        fw.solve(network, train, 0.1, name),
        fw.solve(network, train, fw.Gaussian(0.1), method),
        fw.solve(fw.theory_of(network, 0.1, method=name), train),
        method.solve(Problem(network, fw.Gaussian(0.1)), train),
    ]
    for solution in solutions[1:]:
        same_bits(solutions[0], solution, test_set)
        assert solution.log_evidence == solutions[0].log_evidence
    rows = [fw.learning_curve(network, train, test_set, temperature=0.1, method=m)[0] for m in (name, method)]
    assert replace(rows[0], seconds=0.0) == replace(rows[1], seconds=0.0)
    assert rows[0].log_evidence == solutions[0].log_evidence


# --- solve and predict ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in METHODS if name != "curve"])  # which needs a test set
def test_every_method_solves_to_a_solution(name, train, test_set):
    """Twice to the same bits; of another seed to others."""
    if name in QUICK:
        pytest.importorskip("jax")
    method = QUICK.get(name, name)
    solution = fw.solve(ONE, train, 0.3, method)
    assert isinstance(solution, fw.Solution)
    assert (solution.network, solution.likelihood, solution.complete) == (ONE, fw.Gaussian(0.3), True)
    np.testing.assert_array_equal(solution.train.x, train.x)
    prediction = fw.predict(solution, test_set)
    assert (prediction.mean.shape, prediction.variance.shape) == ((9,), (9,))
    np.testing.assert_array_equal(fw.predict(ONE, test_set.x, train, 0.3, method).mean, prediction.mean)
    if name in QUICK:
        other = replace(method, **({"seeds": (7, 8)} if name == "train" else {"seed": 7}))
        assert np.abs(fw.predict(ONE, test_set.x, train, 0.3, other).mean - prediction.mean).max() > 0.0
    row = solution.row(test_set, 2.0)
    if name == "neuron":
        assert np.isnan(row.log_evidence)
        assert row.validity is None
    assert (row.width, row.depth, row.n_train, row.temperature) == (9, 1, 12, 0.3)
    assert row.seconds >= 2.0
    if solution.converged:
        assert row.test_error == pytest.approx(solution.errors(test_set).test_error, rel=1e-12)


def test_predictions_of_a_network_by_dense_algebra(train, test_set):
    """A second route to ``fw.predict(network, x, train, T, method)``: the Gaussian process of the NNGP kernel."""
    found = fw.predict(ONE, test_set.x, train, 0.2, "infinite")
    gram = fw.kernels.nngp(ONE, train.x) + 0.2 * np.eye(12)
    cross = fw.kernels.nngp(ONE, test_set.x, train.x)
    np.testing.assert_allclose(found.mean, cross @ np.linalg.solve(gram, train.y), rtol=1e-9, atol=1e-12)
    assert np.abs(fw.predict(ONE, test_set.x, train, 0.2).mean - found.mean).max() > 1e-3  # the saddle is another


def test_solve_and_predict_have_defaults(train, test_set):
    default, spelt = fw.solve(ONE, train), fw.solve(ONE, train, 0.05, "saddle")
    same_bits(default, spelt, test_set)
    np.testing.assert_array_equal(fw.predict(ONE, test_set, train).mean, default.predict(test_set).mean)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda train: fw.solve("erf", train), r"what to solve = 'erf'; wanted: .*write fw.solve\(fw.FullyConnected"),
        (lambda train: fw.solve(ONE, None), "train = None; wanted: a Dataset; write fw.Dataset"),
        (lambda train: fw.solve(fw.theory_of(ONE), [1, 2]), r"train = \[1, 2\]; wanted: a Dataset; write fw.Dataset"),
        (lambda train: fw.solve(ONE, train, -1.0), "temperature = -1.0"),
        (lambda train: fw.solve(ONE, train, method="sadle"), "did you mean 'saddle'"),
        (lambda train: fw.predict(ONE, train.x), "a network without training data; .*write fw.predict"),
        (lambda train: fw.predict(fw.theory_of(ONE), train.x), r"what to predict with = .*fw.predict\(fw.solve"),
        (lambda train: fw.predict(3, train.x, train), "what to predict with = 3"),
        (lambda train: fw.solve(DEEP, train, method="neuron"), "method = 'neuron'.*2 hidden layers"),
        (lambda train: fw.solve(ONE, train, 0.0, "sample"), "temperature"),
    ],
)
def test_refusals(call, said, train):
    with pytest.raises(InputError, match=said):
        call(train)


def test_a_memory_cap_is_kept_to(train, test_set):
    for call in (
        lambda: fw.solve(ONE, train, memory="1kB"),
        lambda: fw.predict(ONE, test_set, train, memory=1000.0),
        lambda: fw.learning_curve(ONE, train, test_set, memory="1kB"),
    ):
        with pytest.raises(fw.MemoryCapError, match="1 kB"):
            call()
    assert fw.solve(ONE, train, memory="1GB").converged


def test_who_solves_is_warned_of_unusual_data(train, test_set):
    """Once where something is solved; not again where it is predicted with."""
    large = fw.Dataset(100.0 * train.x, train.y, classes=())
    for call in (
        lambda: fw.solve(ONE, large),
        lambda: fw.solve(fw.theory_of(ONE), large),
        lambda: fw.learning_curve(ONE, large, test_set),
        lambda: fw.predict(ONE, test_set, large),
    ):
        with pytest.warns(fw.ScaleWarning) as caught:
            call()
        assert len(caught) == 1
    with pytest.warns(fw.ScaleWarning):
        solution = fw.solve(ONE, large)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solution.predict(test_set)
        fw.solve(ONE, train)


# --- jobs -------------------------------------------------------------------------------------------------------------


def test_problems_are_temperatures_then_widths():
    job = Job.of(ONE, [0.1, 0.2], "saddle", [5, 7])
    assert [(p.likelihood.temperature, p.network.widths) for p in job.problems] == [
        (t, (n,)) for t in (0.1, 0.2) for n in (5, 7)
    ]
    assert (job.method, job.sizes, job.control) == (fw.Saddle(), None, Control())
    assert Job.of(fw.FullyConnected((9, 4))).problems == (Problem(fw.FullyConnected((9, 4)), fw.Gaussian(0.05)),)
    assert Job.of(ONE, fw.Gaussian(0.3)).problems == (Problem(ONE, fw.Gaussian(0.3)),)
    assert Job.of(ONE, [fw.Gaussian(0.3), 0.2]).problems[0].likelihood == fw.Gaussian(0.3)
    with pytest.raises(FrozenInstanceError):
        job.sizes = (3,)


def test_parts_of_a_job():
    job = Job.of(ONE, [0.1, 0.2], "saddle", [50, 7, 9], [3, 4])
    assert [(p.likelihood.temperature, p.network.widths) for p in job.one_width().problems] == [
        (0.1, (50,)),
        (0.2, (50,)),
    ]
    narrowest = job.narrowest()
    assert [(p.likelihood.temperature, p.network.widths) for p in narrowest.problems] == [(0.1, (7,))]
    assert (job.sizes, narrowest.sizes) == ((3, 4), None)
    other = job.by("integrate")
    assert (other.problems, other.method, other.sizes) == (job.problems, fw.Integrate(), job.sizes)
    assert other.control is job.control
    with pytest.raises(InputError, match="method = 'neuron'"):
        Job.of(DEEP).by("neuron")


def test_control_reaches_the_method(tmp_path, train):
    seen = []

    @dataclass(frozen=True)
    class Watching(Method):
        name = "watching"

        def serves(self, problem, n_outputs=1):
            seen.append(n_outputs)

        def solutions(self, problems, train, test=None, sizes=None, control=None):
            seen.append((problems, sizes, control.memory, control.progress, control.checkpoints))
            return iter(["the solution"])

    folder = tmp_path / "runs"
    assert fw.solve(ONE, train, 0.1, Watching(), memory="2kB", progress=True, checkpoint=folder) == "the solution"
    problems = (Problem(ONE, fw.Gaussian(0.1)),)
    assert seen == [1, 1, (problems, None, 2000.0, True, folder)]


def test_nothing_is_solved_before_all_is_checked(train, test_set, monkeypatch):
    """Data that do not fit, sizes, and what the method does not serve: before the first factorisation."""
    monkeypatch.setattr(Spectrum, "of", lambda *_, **__: pytest.fail("solved"))
    two = fw.Dataset(test_set.x, np.stack([test_set.y] * 2, 1), classes=())
    both = fw.Dataset(train.x, np.stack([train.y] * 2, 1), classes=())
    labels = fw.Dataset(test_set.x, np.arange(9) % 2, classes=(0, 1))
    for arguments, options, said in (
        ((ONE, train, test_set), {"n_train": [5, 13]}, "n_train = 13; wanted: at most 12 points"),
        ((ONE, train, two), {}, r"targets of shape \(9, 2\); wanted: targets of shape \(9,\)"),
        ((ONE, train, labels), {}, "classes"),
        ((ONE, both, two), {"method": "integrate"}, "method = 'integrate' with 2 outputs"),
        ((DEEP, both, two), {"method": fw.Saddle("nested")}, "closure = 'nested' with 2 outputs"),
        ((ONE, train, test_set), {"temperature": [0.1, 0.0]}, "temperature"),
        ((ONE, train, test_set), {"checkpoint": 3}, "checkpoint"),
    ):
        with pytest.raises(InputError, match=said):
            fw.learning_curve(*arguments, **options)


def test_seconds_are_of_every_row(train, test_set):
    rows = list(Job.of(ONE, widths=[5, 7]).rows(train, test_set))
    assert [row.width for row in rows] == [5, 7]
    assert all(0.0 < row.seconds < 60.0 for row in rows)


def test_what_is_left_of_a_curve_is_not_solved(train, test_set):
    """Rows that nobody reads are not computed, and the method is told."""
    closed = []

    @dataclass(frozen=True)
    class Endless(fw.Saddle):
        def solutions(self, *given, **named):
            try:
                yield from super().solutions(*given, **named)
            finally:
                closed.append(True)

    rows = Job.of(ONE, widths=[5, 7], method=Endless()).rows(train, test_set)
    assert next(rows).width == 5
    rows.close()
    assert closed == [True]
