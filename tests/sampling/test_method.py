"""``Sample``: one solution a problem and size, checked before the first run, resumable, honest about interrupts; and
predictions at any points where weights are kept."""

from __future__ import annotations

import copy
import math
import pickle
from dataclasses import dataclass

import numpy as np
import pytest

pytest.importorskip("jax")


from finitewidth.checks.exceptions import InputError, MemoryCapError
from finitewidth.data import Dataset
from finitewidth.inference.likelihoods import Gaussian, Likelihood
from finitewidth.inference.methods import Control, Method, Problem, Row, Solution
from finitewidth.networks import Convolutional, FullyConnected, Network
from finitewidth.runs import long_runs
from finitewidth.sampling import Sample, sample
from finitewidth.sampling.engine import Engine
from finitewidth.sampling.method import SamplingRun

SHORT = {"chains": 2, "draws": 20, "warmup": 30}
METHOD = Sample(**SHORT)
NETWORK = FullyConnected(widths=(4,))
PROBLEM = Problem(NETWORK, Gaussian(0.2))


def problems(*widths: int, temperature: float = 0.2) -> list[Problem]:
    return [Problem(NETWORK.with_width(width), Gaussian(temperature)) for width in widths]


@pytest.fixture(scope="module")
def data() -> tuple[Dataset, Dataset]:
    x = np.random.default_rng(0).standard_normal((20, 4))
    y = np.where(x[:, 0] > 0, 1.0, -1.0)
    return Dataset(x[:12], y[:12]), Dataset(x[12:], y[12:])


def few(seed: int = 0) -> tuple[Dataset, Dataset]:
    """More inputs than training points."""
    rng = np.random.default_rng(seed)
    train, test = rng.standard_normal((6, 9)), rng.standard_normal((5, 9))
    return Dataset(train, train[:, 0], classes=()), Dataset(test, test[:, 0], classes=())


# --- settings ---------------------------------------------------------------------------------------------------------


def test_settings_say_what_they_are():
    assert repr(Sample(draws=100)) == "Sample(draws=100)"
    assert Sample(observables="hidden_kernel").observables == ("hidden_kernel",)
    assert isinstance(METHOD, Method)
    with pytest.raises(InputError, match="did you mean draws"):
        Sample(darws=5)


@dataclass(frozen=True)
class Other(Likelihood):
    temperature: float = 0.1

    def posterior(self, covariance, y):
        raise NotImplementedError


def test_what_it_serves():
    METHOD.serves(PROBLEM)
    with pytest.raises(InputError, match="a Gaussian likelihood"):
        METHOD.serves(Problem(NETWORK, Other()))

    @dataclass(frozen=True)
    class OnlyCovariance(Network):
        widths: object = 100

        pass

    with pytest.raises(InputError, match="has no init_hidden, features, hidden_log_prior"):
        METHOD.serves(Problem(OnlyCovariance(), Gaussian(0.1)))
    with pytest.raises(InputError, match="FullyConnected"):
        METHOD.serves(Problem("fc", Gaussian(0.1)))


# --- solutions --------------------------------------------------------------------------------------------------------


def test_a_solution_is_a_run_of_sample(data):
    (solution,) = Sample(seed=3, **SHORT).solutions([PROBLEM], *data)
    draws = sample(NETWORK, *data, temperature=0.2, seed=3, **SHORT)
    errors, row = draws.errors(data[1].y), solution.row(data[1], 1.5)
    assert solution.errors(data[1]) == errors
    for name in ("test_error", "test_error_se", "train_error", "bias", "variance", "accuracy", "r_hat", "ess"):
        assert getattr(row, name) == getattr(errors, name)
    assert row.order_parameters == [draws.order_parameter.item()] == list(solution.order_parameters)
    assert row.acceptance == draws.acceptance.mean()
    assert (row.width, row.depth, row.temperature, row.n_train, row.method) == (4, 1, 0.2, 12, "collapsed")
    assert (row.log_evidence, row.complete, row.seconds) == (None, True, 1.5)
    assert set(row.to_dict()) == set(type(row).__dataclass_fields__)
    assert isinstance(solution, Solution)
    assert set(Row.__annotations__) <= set(row.to_dict())
    assert (solution.network, solution.likelihood, solution.train) == (*PROBLEM, data[0])
    assert math.isnan(solution.log_evidence)
    assert solution.complete
    assert not solution.converged  # 40 draws
    assert "effective sample size" in solution.message


def test_problems_and_sizes_in_their_order(data):
    planned = [*problems(4, 5), *problems(4, temperature=0.5)]
    found = [(s.likelihood.temperature, s.network.widths) for s in METHOD.solutions(planned, *data)]
    assert found == [(0.2, (4,)), (0.2, (5,)), (0.5, (4,))]
    sizes = [solution.row(data[1], 0.0).n_train for solution in METHOD.solutions([PROBLEM], *data, sizes=[6, 12])]
    assert sizes == [6, 12]


def test_everything_is_checked_before_the_first_run(data, monkeypatch):
    monkeypatch.setattr(long_runs, "carry_out", lambda *_, **__: pytest.fail("ran"))
    with pytest.raises(InputError, match="a Gaussian likelihood"):
        METHOD.solutions([PROBLEM, Problem(NETWORK, Other())], *data)
    with pytest.raises(MemoryCapError, match="2 chains of 20 draws"):
        METHOD.solutions([PROBLEM], *data, control=Control(memory=1e6))


def test_resumes_where_it_was(data, tmp_path):
    whole = [s.errors(data[1]) for s in METHOD.solutions(problems(4, 5), *data)]
    control = Control(checkpoints=tmp_path / "runs")
    unfinished = METHOD.solutions(problems(4, 5), *data, control=control)
    next(unfinished)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["width-4-temperature-0.2.npz"]
    assert [s.errors(data[1]) for s in METHOD.solutions(problems(4, 5), *data, control=control)] == whole
    both = METHOD.solutions([PROBLEM, PROBLEM._replace(network=FullyConnected(4, activation="relu"))], *data, [6, 12])
    names = long_runs._names([solution.weights.run for solution in METHOD.solutions([PROBLEM], data[0], None, [6, 12])])
    assert names == ["width-4-temperature-0.2-n-train-6", "width-4-temperature-0.2-n-train-12"]
    both.close()


def test_a_checkpoint_folder_that_cannot_be(data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="a folder"):
        METHOD.solutions([PROBLEM], *data, control=Control(checkpoints=tmp_path / "file" / "runs"))


def interrupted_at(run: int, monkeypatch):
    calls, carry_out = [], long_runs.carry_out

    def stopping(*arguments):
        calls.append(1)
        if len(calls) == run:
            raise KeyboardInterrupt
        return carry_out(*arguments)

    monkeypatch.setattr(long_runs, "carry_out", stopping)


def test_an_interrupt_keeps_what_is_done(data, monkeypatch):
    interrupted_at(2, monkeypatch)
    assert [s.network.widths for s in METHOD.solutions(problems(4, 5, 6), *data)] == [(4,)]


def test_an_interrupt_of_the_first_run_is_passed_on(data, monkeypatch):
    interrupted_at(1, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        list(METHOD.solutions(problems(4, 5), *data))


def test_an_interrupt_while_drawing_ends_with_an_incomplete_solution(data, monkeypatch):
    whole = Engine.run

    def run(self, progress):
        for state in whole(self, progress):
            yield state
            if len(state.records) == 1 and state.stage == len(self.stages) - 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "run", run)
    (solution,) = METHOD.solutions(problems(4, 5), *data)
    assert (solution.complete, solution.draws.n_draws) == (False, 10)
    assert "interrupted after 10 draws" in solution.message
    assert not solution.row(data[1], 0.0).complete


# --- predictions at any points ----------------------------------------------------------------------------------------

FIXED = {"step_size": 0.2, "trajectory": 1.0}  # so that the chains do not depend on the test points
CASES = {
    "collapsed": (FIXED, FullyConnected(widths=(4, 3))),
    "langevin": ({"sampler": "langevin", "step_size": 1e-3, "trajectory": 5}, NETWORK),
    "images": (FIXED, Convolutional(channels=3, patch=(3, 1))),
}


@pytest.mark.parametrize(("case", "outputs"), [("collapsed", 2), ("langevin", 2), ("images", None)])
def test_both_routes_to_a_prediction_agree(case, outputs):
    """From records at the test points, and from weights of every tenth draw; drawn afresh outside the training span."""
    settings, network = CASES[case]
    train, test = few()
    if outputs:
        train, test = (Dataset(part.x, np.stack([part.y, part.y**2], 1), classes=()) for part in (train, test))
    if case == "images":
        train, test = (Dataset(part.x.reshape(-1, 9, 1), part.y, classes=()) for part in (train, test))
    method, problem = Sample(**SHORT, **settings), Problem(network, Gaussian(0.2))
    recorded = next(method.solutions([problem], train, test)).draws
    solution = method.solve(problem, train)
    np.testing.assert_array_equal(solution.draws.energy, recorded.energy)
    kept = solution.at(test)
    np.testing.assert_allclose(kept.mean, recorded.mean[:, 9::10], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(kept.variance, recorded.variance[:, 9::10], rtol=1e-9, atol=1e-12)
    # at the training points there are records of all draws
    np.testing.assert_array_equal(solution.predict(train).mean, solution.draws.mean.mean((0, 1)))
    again = solution.weights.outputs(train.x)[0]
    np.testing.assert_allclose(again, solution.draws.mean[:, 9::10], rtol=1e-9, atol=1e-12)


def test_weights_outside_the_training_span_have_their_prior():
    """A negative control of the test above: without them the variance is that of inputs cut to the span."""
    train, test = few()
    solution = Sample(**SHORT, **FIXED).solve(PROBLEM, train)
    x = test.x - test.x @ np.linalg.pinv(train.x) @ train.x  # nothing of the training span in it
    outside = solution.predict(x)
    inside = solution.predict(0.0 * x)
    assert np.abs(outside.variance - inside.variance).min() > 1e-3


def test_errors_and_rows_at_points_that_were_not_known(data):
    solution = METHOD.solve(PROBLEM, data[0])
    known = next(METHOD.solutions([PROBLEM], *data))
    errors, expected = solution.errors(data[1]), known.errors(data[1])
    assert errors.train_error == pytest.approx(expected.train_error, rel=0.3)
    assert errors.test_error == pytest.approx(expected.test_error, rel=0.5)
    assert solution.row(data[1], 0.0).test_error == errors.test_error
    with pytest.raises(InputError, match=r"\(4,\) in training; wanted: points of one shape"):
        solution.predict(np.ones((3, 5)))
    with pytest.raises(InputError, match="sample without one, which keeps weights"):
        known.predict(data[0])
    copied = pickle.loads(pickle.dumps(solution))
    np.testing.assert_array_equal(copied.predict(data[1]).mean, solution.predict(data[1]).mean)
    assert copy.deepcopy(solution).order_parameters == solution.order_parameters


def test_weights_are_counted_and_few(data, monkeypatch):
    wide = Problem(NETWORK.with_width(3000), Gaussian(0.2))
    need = [
        SamplingRun(**arguments, stored=stored).bytes()
        for stored in (0, 100)
        for arguments in [
            {"settings": Sample(), "network": wide.network, "train": data[0], "test": data[0], "temperature": 0.2}
        ]
    ]
    weights = 3000 * 4 + 3000
    assert need[1] - need[0] == 8.0 * 4 * 2 * 51 * weights
    solution = METHOD.solve(PROBLEM, data[0])
    assert solution.weights.positions.shape == (2, 2, 16)
    monkeypatch.setattr("finitewidth.sampling.method._MOST_WEIGHTS", 1)
    assert METHOD.solve(PROBLEM, data[0]).weights.positions.shape == (2, 1, 16)


@pytest.mark.parametrize("sampler", ["collapsed", "langevin"])
def test_resumed_weights_are_those_of_a_run_that_was_not_interrupted(data, tmp_path, monkeypatch, sampler):
    method = Sample(**SHORT, sampler=sampler)
    whole = method.solve(PROBLEM, data[0])
    monkeypatch.setattr("finitewidth.runs.checkpoints.SAVE_EVERY", -1.0)
    with monkeypatch.context() as context:
        original = Engine.run

        def run(self, progress):
            for state in original(self, progress):
                yield state
                if state.positions:
                    raise MemoryError  # stands for a killed process

        context.setattr(Engine, "run", run)
        with pytest.raises(MemoryError):
            method.solve(PROBLEM, data[0], Control(checkpoints=tmp_path))
    resumed = method.solve(PROBLEM, data[0], Control(checkpoints=tmp_path))
    np.testing.assert_array_equal(resumed.weights.positions, whole.weights.positions)
    np.testing.assert_array_equal(resumed.draws.mean, whole.draws.mean)
