"""Rounds, options and the theory around the particles, which are replaced by numbers that the test chooses."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import finitewidth as fw
from finitewidth import kernels
from finitewidth.checks.exceptions import InputError, MemoryCapError, MissingExtraError
from finitewidth.inference import methods
from finitewidth.inference.methods import Control
from finitewidth.runs.checkpoints import RunFile
from finitewidth.runs.jax_runs import single_thread
from finitewidth.theory.neuron import rounds, single
from finitewidth.theory.neuron.design import Design
from finitewidth.theory.neuron.reference import ScalarAction
from finitewidth.theory.neuron.rounds import Averages, Position, Problem, Result
from finitewidth.theory.neuron.single import NeuronTheory, SingleNeuron
from finitewidth.theory.solution import TheorySolution

jax = pytest.importorskip("jax")
P, T, N = 4, 0.3, 6
NETWORK = fw.FullyConnected(widths=(N,), activation="tanh", weight_precision=(1.3, 0.7))


def data_set(outputs=1, points=P, seed=0, shape=(3,)):
    rng = np.random.default_rng(seed)
    y = rng.standard_normal((points, outputs))
    return fw.Dataset(rng.standard_normal((points, *shape)), y[:, 0] if outputs == 1 else y, classes=())


def problem_of(outputs=1, network=NETWORK):
    train = data_set(outputs)
    y = np.concatenate([train.y.reshape(P, -1)[:, d] for d in range(outputs)])
    return Problem(Design.of(network, train.x), y, outputs, T, N)


def position_of(problem, particles=5, seed=1, round=7):
    rng, size = np.random.default_rng(seed), len(problem.y)
    roots = rng.standard_normal((2, size, size)) / math.sqrt(size)
    theta = rng.standard_normal((1, particles, 3))
    theta[0, 0, 0] = 0.0  # counts the rounds below
    state = rounds.State(theta, rng.standard_normal((1, particles, problem.outputs)))
    return Position(state, rng.standard_normal(size), roots[0] @ roots[0].T, roots[1] @ roots[1].T, 0.4, round)


def moments_of(problem, index, potential):
    """Of a round: any numbers, which depend on the particles and on what is known of their potentials."""
    rng, size = np.random.default_rng(index), len(problem.y)
    shape = (problem.outputs, P)
    root, frozen = rng.standard_normal((2, size, size)) / math.sqrt(size)
    kernel = root @ root.T + 0.1 * rng.standard_normal((size, size))  # symmetric but for noise
    f = rng.standard_normal(size) + 0.1 * np.nan_to_num(potential)[0, 0]
    return rounds.Moments(
        f.reshape(shape),
        kernel.reshape(*shape, *shape),
        (frozen @ frozen.T).reshape(*shape, *shape),
        rng.standard_normal((1, problem.outputs, problem.outputs)),
        rng.uniform(0.0, 1.0),
        0.1,
        rng.uniform(0.0, 0.55),
    )


class Particles:
    """In place of the compiled particles: theta and z count the rounds, and every call is kept."""

    def __init__(self, monkeypatch, problem, moments=None, stop=()):
        self.calls, self.problem, self.stop = [], problem, list(stop)
        self.moments = moments or (lambda call, index: moments_of(problem, index, call.potential))
        monkeypatch.setattr(rounds.compiled, "compiled", self.compiled)

    def compiled(self, function, model):
        assert function is rounds.compiled.advance
        self.model = model
        return self.advance

    def advance(self, state, potential, data, field, reference, directions, key, step):
        if len(self.calls) in self.stop:
            self.stop.remove(len(self.calls))
            raise KeyboardInterrupt
        numbers = tuple(np.asarray(jax.random.key_data(key)).tolist())
        call = SimpleNamespace(
            theta=state.theta, potential=potential, data=data, s=field.s.copy(), R=field.R.copy(), reference=reference
        )
        call.directions, call.key, call.step = directions, numbers, step
        self.calls.append(call)
        index = round(state.theta[0, 0, 0])
        moments = self.moments(call, index)
        return rounds.State(state.theta + 1.0, state.z - 1.0), np.nan_to_num(potential) + 0.5, moments


class ByHand:
    """The same rounds from the page: one line a step, matrices inverted outright."""

    def __init__(self, problem, at):
        self.problem, self.size = problem, len(problem.y)
        self.s, self.K, self.S, self.step = at.s, at.kernel, at.frozen, at.step
        self.index, self.potential, self.pace, self.told = 0, np.full((1, 5), np.nan), 1.0, []

    def inverse(self, matrix):
        return np.linalg.inv(matrix + T * np.eye(self.size))

    def move(self, K):
        self.told.append((self.s, self.inverse(K), self.step))
        found = moments_of(self.problem, self.index, self.potential)
        self.index, self.potential = self.index + 1, np.nan_to_num(self.potential) + 0.5
        self.pace = 0.7 * self.pace if found.shift > 0.3 else min(1.0, 1.1 * self.pace)
        self.step = min(max(self.step * math.exp((found.acceptance - 0.85) / 5), 1e-4), 1.0)
        matrix = (self.size, self.size)
        return found.f.ravel(), found.kernel.reshape(matrix), found.frozen.reshape(matrix), found.order

    def follow(self, gain, near):
        f, kernel, frozen, _ = self.move(self.K)
        g = gain * self.pace
        self.K = (1 - g) * self.K + g * (kernel + kernel.T) / 2
        self.S = (1 - g) * self.S + g * frozen
        slope = self.K if near and self.pace > 0.9 else self.S
        self.s = self.s - g * self.inverse(slope) @ (T * self.s + f - self.problem.y)

    def average(self, count):
        fields = []
        for k in range(count):
            self.follow(0.05 / (1 + 4 * k / count), True)
            fields.append((self.s, self.K, self.S))
        self.s, self.K, self.S = (np.mean(parts, axis=0) for parts in zip(*fields, strict=True))

    def measure(self, count):
        found = [self.move(self.K) for _ in range(count)]
        f, kernel, _, order = (np.mean(parts, axis=0) for parts in zip(*found, strict=True))
        left = T * self.s + f - self.problem.y
        residual = math.sqrt(left @ left / (self.problem.y @ self.problem.y))
        return f, kernel, order, residual, np.linalg.norm(kernel - self.K) / np.linalg.norm(self.K)


def close(got, want, **tolerance):
    np.testing.assert_allclose(np.asarray(got), want, **({"rtol": 1e-9, "atol": 1e-12} | tolerance))


@pytest.mark.parametrize("outputs", [1, 2])
def test_all_rounds_by_hand(outputs, monkeypatch):
    """2 of approach, then 4 averaged and 2 measured, 8 and 4, 16 and 8: nothing converges."""
    monkeypatch.setattr(rounds, "SNAPSHOTS", 3)
    problem = problem_of(outputs)
    at, told = position_of(problem), []
    before = [part.copy() for part in (*at.state, at.s, at.kernel, at.frozen)]
    particles = Particles(monkeypatch, problem)
    found = problem.solve(at, (2, 4), 3, "reference", lambda: told.append(1))
    hand = ByHand(problem, at)
    for _ in range(2):
        hand.follow(0.05, False)
    for count in (4, 8, 16):
        hand.average(count)
        f, kernel, order, residual, change = hand.measure(count // 2)
    assert len(particles.calls) == len(told) == len(hand.told) == 44
    for call, (s, R, step) in zip(particles.calls, hand.told, strict=True):
        close(call.s, s.reshape(outputs, P))
        close(call.R, R.reshape(outputs, P, outputs, P))
        assert float(call.step) == pytest.approx(step)
        assert call.reference == "reference"
    close(found.averages.f, f)
    close(found.averages.kernel, kernel)
    close(found.averages.order, order)
    assert (found.residual, found.change) == (pytest.approx(residual), pytest.approx(change))
    position = found.position
    for got, want in ((position.s, hand.s), (position.kernel, hand.K), (position.frozen, hand.S)):
        close(got, want)
    assert (position.step, position.round) == (pytest.approx(hand.step), 7 + 44)
    close(position.state.theta, at.state.theta + 44.0)
    # 3 wanted of 8 rounds: every second one, so four
    assert found.snapshots.theta.dtype == found.snapshots.z.dtype == np.float32
    close(found.snapshots.theta, at.state.theta + np.array([38, 40, 42, 44.0])[:, None, None, None], rtol=1e-6)
    close(found.snapshots.z, at.state.z - np.array([38, 40, 42, 44.0])[:, None, None, None], rtol=1e-6)
    assert found.model == particles.model == problem.model(True)
    assert found.reference == "reference"
    for part, kept in zip((*at.state, at.s, at.kernel, at.frozen), before, strict=True):
        np.testing.assert_array_equal(part, kept)  # where it started is left as it was
    # every round has a key of its own; the directions are looked at where the round is 1 after a multiple of 20
    assert len({call.key for call in particles.calls}) == 44
    with single_thread():
        want = [rounds.compiled.key_of(3, 7 + k) for k in (0, 43)]
    assert [particles.calls[k].key for k in (0, 43)] == [tuple(jax.random.key_data(one).tolist()) for one in want]
    looked = [0, *(k for k in range(44) if (7 + k) % 20 == 1)]
    assert looked == [0, 14, 34]
    for k, call in enumerate(particles.calls):
        last = max(place for place in looked if place <= k)
        for got, want in zip(call.directions, rounds.leading(particles.calls[last].theta), strict=True):
            np.testing.assert_array_equal(got, want)
    data = particles.calls[0].data
    x = data_set(outputs).x
    close(data.rows[0] @ data.rows[0].T, x @ x.T / (1.3 * 3))
    assert (float(data.scale), float(data.width)) == (pytest.approx(1 / math.sqrt(0.7)), 6.0)


def at_the_field(problem, order, share=1.0):
    """Moments that are those of the field itself: converged; with a share of f they are not."""

    def moments(call, index):
        s, size = call.s.ravel(), len(problem.y)
        K = np.linalg.inv(call.R.reshape(size, size)) - T * np.eye(size)
        f = share * (problem.y - T * s).reshape(call.s.shape)
        return rounds.Moments(f, K.reshape(call.R.shape), K.reshape(call.R.shape), order, 0.85, 0.0, 0.0)

    return moments


@pytest.mark.parametrize(
    ("count", "share", "order", "may_change", "expected"),
    [
        (4, 1.0, 1.0, False, 3 + 4 + 2),  # converged
        (1, 1.0, 1.0, False, 3 + 1 + 1),  # at least one measures
        (5, 1.0, 1.0, False, 3 + 5 + 2),
        (4, 0.0, 1.0, False, 3 + 4 + 2 + 8 + 4 + 16 + 8),
        (4, 0.0, 9.0, True, 3 + 4 + 2),  # strong: another response is wanted
        (4, 0.0, 9.0, False, 3 + 4 + 2 + 8 + 4 + 16 + 8),
        (4, 1.0, 9.0, True, 3 + 4 + 2),
    ],
)
def test_when_it_stops(count, share, order, may_change, expected, monkeypatch):
    problem = problem_of()
    particles = Particles(monkeypatch, problem, at_the_field(problem, np.full((1, 1, 1), order), share))
    found = problem.solve(position_of(problem), (3, count), 0, may_change=may_change)
    assert len(particles.calls) == expected
    assert found.converged == (share == 1.0)
    assert particles.model == problem.model(False)
    if share == 1.0:
        assert found.residual < 1e-6
        assert found.change < 1e-6


def test_targets_of_zero(monkeypatch):
    """The residual is not relative then."""
    problem = replace(problem_of(), y=np.zeros(P))

    def moments(call, index):
        return moments_of(problem, index, call.potential)._replace(f=np.array([[0.0, 0.0, 3.0, 4.0]]) - T * call.s)

    Particles(monkeypatch, problem, moments)
    assert problem.solve(position_of(problem), (1, 1), 0).residual == pytest.approx(2.5)


@pytest.mark.parametrize("stop", [0, 1, 3, 5, 7, 8, 9, 25, 43])
def test_a_run_cut_anywhere_goes_on(stop, monkeypatch, tmp_path):
    monkeypatch.setattr("finitewidth.runs.checkpoints.SAVE_EVERY", 0.0)
    problem = problem_of(2)
    at, told = position_of(problem), []
    Particles(monkeypatch, problem)
    expected = problem.solve(at, (2, 4), 3)
    particles, file = Particles(monkeypatch, problem, stop=[stop]), RunFile(tmp_path / "run.npz", json.dumps({"a": 1}))
    with pytest.raises(KeyboardInterrupt):
        problem.solve(at, (2, 4), 3, file=file)
    found = [problem.solve(at, (2, 4), 3, None, lambda: told.append(1), file=file) for _ in range(2)]
    assert len(particles.calls) == 44
    assert len(told) == 2 * 44  # what was done before is told as well
    for one in found:
        assert one.position.digest() == expected.position.digest()
        assert (one.residual, one.change) == (expected.residual, expected.change)
        for got, want in zip((*one.snapshots, one.averages.order), (*expected.snapshots, expected.averages.order)):  # noqa: B905
            np.testing.assert_array_equal(got, want)


def test_what_is_saved(monkeypatch, tmp_path):
    problem, file = problem_of(), RunFile(tmp_path / "run.npz", "{}")
    at, writes, write = position_of(problem), [], RunFile.write
    Particles(monkeypatch, problem)
    monkeypatch.setattr(RunFile, "write", lambda *given: (writes.append(1), write(*given)))
    found = problem.solve(at, (2, 4), 3, file=file)
    assert len(writes) == 1  # at the end; not at every round
    meta, arrays = file.read()
    assert (meta["stage"], meta["done"], meta["round"]) == (6, 8, 51)
    assert (meta["step"], 0.0 < meta["pace"] <= 1.0) == (found.position.step, True)
    for name, want in (
        ("s", found.position.s),
        ("kernel", found.position.kernel),
        ("theta", found.position.state.theta),
    ):
        np.testing.assert_array_equal(arrays[name], want)
    np.testing.assert_array_equal(arrays["potential"], np.full((1, 5), 22.0))
    np.testing.assert_array_equal(arrays["kept_theta"], found.snapshots.theta)
    np.testing.assert_array_equal(arrays["sum_f"], found.averages.f)
    monkeypatch.setattr("finitewidth.runs.checkpoints.SAVE_EVERY", 0.0)
    writes.clear()
    problem.solve(at, (2, 4), 3, file=RunFile(tmp_path / "other.npz", "{}"))
    assert len(writes) == 44 + 1
    problem.solve(at, (2, 4), 3)
    assert len(writes) == 44 + 1


# --- positions, results, problems ------------------------------------------------------------------------------------


def result_of(residual=0.01, change=0.01, order=1.0, at=None, seed=0):
    problem = problem_of()
    at = at or position_of(problem, seed=seed)
    order = np.full((1, 1, 1), order)
    f = np.random.default_rng(seed).standard_normal(P)
    return Result(at, Averages(f, at.kernel, order), at.state, problem.model(False), residual, change)


# --- the theory around them ------------------------------------------------------------------------------------------


class Solver:
    """In place of ``Problem.solve``: results that the test gives, and what was asked for."""

    def __init__(self, monkeypatch, *results):
        self.calls, self.left = [], list(results)
        monkeypatch.setattr(
            rounds.Problem, "solve", lambda problem, *given, **named: self.solve(problem, *given, **named)
        )

    def solve(self, problem, start, rounds, seed, reference=None, tell=None, may_change=False, file=None):
        self.calls.append(
            SimpleNamespace(problem=problem, start=start, rounds=rounds, seed=seed, reference=reference, file=file)
        )
        self.calls[-1].may_change = may_change
        tell()
        position = replace(start, round=start.round + 10)
        return replace(self.left.pop(0), position=position, snapshots=start.state)


def options(**given):
    return SingleNeuron(**({"particles": 200, "rounds": (5, 3)} | given))


def theory(network=NETWORK, control=None, **given):
    return options(**given).theory(methods.Problem(network, fw.Gaussian(T)), control)


def test_the_quadratic_response_first(monkeypatch):
    solver, train = Solver(monkeypatch, result_of(order=1.7)), data_set()
    found = theory(seed=4).solve(train)
    (call,) = solver.calls
    assert (found.message, found.converged, math.isnan(found.log_evidence), found.minima) == (
        *("quadratic response", True, True),
        (),
    )
    close(found.order_parameters, [1.7])
    assert (call.rounds, call.seed, call.reference, call.may_change, call.file) == ((5, 3), 4, None, True, None)
    # from .4 of the action's s
    K = kernels.nngp(NETWORK, train.x) * fw.solve(fw.theory_of(NETWORK, T), train).order_parameters[0]
    close(call.start.kernel, K, rtol=1e-5)
    close(call.start.s, 0.4 * np.linalg.solve(K + T * np.eye(P), train.y), rtol=1e-5)
    assert call.start.state.theta.shape == (1, 200, 3)
    assert (call.problem.outputs, call.problem.temperature, call.problem.width) == (1, T, N)
    np.testing.assert_array_equal(call.problem.y, train.y)
    assert found.predictor.results[0].averages.order[0, 0, 0] == 1.7
    with pytest.raises(InputError, match="belong to no patches"):
        found.q_map()


@pytest.mark.parametrize(
    ("response", "first", "calls", "message"),
    [
        ("auto", {"order": 2.0, "residual": 0.01}, 1, "quadratic response"),
        ("auto", {"order": 3.0, "residual": 0.01}, 2, "nonlinear response (the quadratic one gives TOLD)"),
        ("auto", {"order": 2.0, "residual": 0.4}, 2, "nonlinear response (the quadratic one gives TOLD)"),
        ("quadratic", {"order": 3.0, "residual": 0.01}, 1, "quadratic response"),
        ("nonlinear", {"order": 1.0, "residual": 0.01}, 1, "nonlinear response"),
    ],
)
def test_which_response(response, first, calls, message, monkeypatch):
    solver, train = Solver(monkeypatch, result_of(**first), result_of()), data_set()
    found = theory(response=response, seed=3).solve(train)
    told = f"lambda_1 E[v^2] = {first['order']:.2f}, residual {first['residual']:.2f}"
    assert found.message == message.replace("TOLD", told)
    assert len(solver.calls) == calls
    one, last = solver.calls[0], solver.calls[-1]
    assert one.may_change is (response == "auto")
    assert (last.reference is not None) == message.startswith("nonlinear")
    if last.reference is None:
        return
    assert (last.rounds, last.seed, last.may_change) == ((5, 3), 3, False)
    assert last.start.state.theta.shape == (1, 400, 3)
    action = ScalarAction.of(NETWORK, train, T)
    for got, want in zip(last.reference, action.reference(train.y, T), strict=True):
        close(got, want)
    # from where the quadratic one ended, but where that found nothing: from the prior, at round 1
    assert last.start.round == (12 if calls == 2 and first["residual"] < 0.02 else 2)


def test_several_outputs_have_one_response(monkeypatch):
    train, strong = data_set(2), result_of(0.25, order=3.0)
    strong = replace(strong, averages=Averages(np.zeros(8), np.eye(8), 3.0 * np.eye(2)[None]))
    for response in ("auto", "nonlinear", "quadratic"):
        solver = Solver(monkeypatch, strong)
        found = theory(response=response).solve(train)
        told = (
            " (lambda_1 E[v^2] = 3.00, residual 0.25; no other for several outputs)" if response != "quadratic" else ""
        )
        assert f", quadratic response{told};" in found.message
        assert [call.may_change for call in solver.calls] == [False]
        np.testing.assert_array_equal(solver.calls[0].problem.y, train.y.T.ravel())
        np.testing.assert_array_equal(found.order_parameters, [3.0, 0.0, 0.0, 3.0])


def test_a_curve_goes_on_where_it_ended(monkeypatch):
    """Half the rounds of approach, the particles that there were; only from what has converged, one seed each."""
    train, good, bad = data_set(), result_of(), result_of(residual=0.5, order=1.0)
    solver, one = Solver(monkeypatch, good, good, bad, good, good), theory(response="quadratic", seeds=2)
    shared = one.factorise(train)
    assert not one.solve(train, shared).predictor.results[0].residual > 0.02
    kept = dict(shared.positions)
    assert sorted(kept) == [(0, 200), (1, 200)]
    assert not one.solve(train, shared).converged
    first, second = solver.calls[2:4]
    assert [call.rounds for call in solver.calls] == [(5, 3), (5, 3), (2, 3), (2, 3)]
    assert first.start is kept[0, 200]
    assert second.start is kept[1, 200]
    assert sorted(shared.positions) == [(1, 200)]  # the other has not converged
    again = theory(rounds=(1, 3), seed=1)
    again.solve(train, shared)
    assert solver.calls[-1].rounds == (1, 3)


def test_a_nonlinear_curve_keeps_as_many_particles(monkeypatch):
    train, one = data_set(), theory(response="nonlinear")
    solver, shared = Solver(monkeypatch, result_of(), result_of()), one.factorise(train)
    one.solve(train, shared)
    one.solve(train, shared)
    first, second = solver.calls
    assert [call.rounds for call in solver.calls] == [(5, 3), (5, 3)]
    kept = first.start.state.theta[:, :200]
    np.testing.assert_array_equal(second.start.state.theta, np.concatenate([kept, kept], axis=1))
    assert second.start.round == first.start.round + 10 + 1


def test_seeds_and_the_worst_of_them(monkeypatch):
    train = data_set()
    solver = Solver(monkeypatch, result_of(order=1.0), result_of(order=2.0), result_of(order=1.5))
    found = theory(seed=5, seeds=3).solve(train)
    assert [call.seed for call in solver.calls] == [5, 6, 7]
    assert found.message == "quadratic response, 3 seeds"
    close(found.order_parameters, [1.5])
    # .05 of .03 is worse than .03 of .02
    solver = Solver(monkeypatch, result_of(0.03, 0.0), result_of(0.0, 0.05), result_of(0.01, 0.01))
    found = theory(seeds=3).solve(train)
    assert not found.converged
    assert found.message.startswith(
        "residual 0.000 (bound 0.02), kernel change 0.050 (bound 0.03), quadratic response, 3 seeds; "
    )
    assert "more particles or rounds" in found.message
    Solver(monkeypatch, result_of(0.04, 0.0), result_of(0.0, 0.05))
    assert theory(seeds=2).solve(train).message.startswith("residual 0.040 (bound 0.02), kernel change 0.000")


def test_a_run_is_saved_under_all_that_decides_it(monkeypatch, tmp_path):
    train, folder = data_set(), tmp_path / "runs"
    saved = Control(checkpoints=folder)
    at = position_of(problem_of())

    def name(one=None, train=train, at=at, rounds=(5, 3), seed=0, response="quadratic", may_change=False):
        one = one or theory(control=saved)
        file = one._file(train, at, rounds, seed, response, may_change)
        assert file.path.parent == folder
        return file.path.name

    names = [
        name(),
        name(theory(NETWORK.with_width(7), saved)),
        name(replace(theory(control=saved), temperature=0.31)),
        name(train=data_set(seed=1)),
        name(at=replace(at, round=8)),
        name(rounds=(5, 4)),
        name(seed=1),
        name(response="nonlinear"),
        name(may_change=True),
    ]
    assert len(set(names)) == len(names)
    assert name() == name(theory(control=Control(checkpoints=folder, progress=True), seeds=3)) == names[0]
    assert names[0].startswith("neuron-")
    assert len(names[0]) == len("neuron-.npz") + 16
    assert theory()._file(train, at, (5, 3), 0, "quadratic") is None
    solver = Solver(monkeypatch, result_of(order=3.0), result_of())
    theory(control=saved).solve(train)
    told = [json.loads(call.file.fingerprint) for call in solver.calls]
    assert [one["response"] for one in told] == [["quadratic", True], ["nonlinear", False]]
    assert [one["start"] for one in told] == [call.start.digest() for call in solver.calls]
    assert told[0]["rounds"] == [5, 3]
    assert "jax" in told[0]["versions"]


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize(("architecture", "populations", "m"), [(fw.LocallyConnected, 4, 1), (fw.Convolutional, 1, 4)])
def test_memory_is_told_beforehand(architecture, populations, m, outputs, monkeypatch):
    """Words of 8 bytes: features and their slopes, weights, moments of readouts; snapshots in half words; squares."""
    train = data_set(outputs, shape=(4, 4))
    asked, one = [], theory(architecture(channels=N, patch=2, activation="tanh"), seeds=2)
    monkeypatch.setattr(single, "require_memory", lambda *given: asked.append(given))
    one._require_memory(Design.of(one.network, train.x), train, 200, 1e9)
    ((need, what, remedy, cap),) = asked
    features = {1: 8, 3: 24}[outputs] * m * P
    kept = 12 * 200 * (4 + m * outputs) * 2
    words = populations * (200 * (features + 8 * 4 + 6 * (m * outputs) ** 2) + kept) + 12 * (P * outputs) ** 2
    assert need == 8 * words + 3e8
    assert what == f"200 particles with {P * outputs} training values and 4 weights a neuron"
    assert "fewer particles" in remedy
    assert cap == 1e9
    monkeypatch.undo()
    for cap in (3e8, 8 * words + 3e8 - 1):
        with pytest.raises(MemoryCapError):
            one.solve(train, memory=cap)


def test_rates():
    """N (tr Q - log det Q - dim), and none at Q = 1."""
    one, rng = theory(), np.random.default_rng(0)
    root = rng.standard_normal((3, 3))
    Q = root @ root.T + np.eye(3)
    assert one.rate(np.array([2.0])) == pytest.approx(N * (2.0 - math.log(2.0) - 1.0))
    assert one.rate(Q.ravel()) == pytest.approx(N * (np.trace(Q) - np.linalg.slogdet(Q)[1] - 3.0))
    assert one.rate(np.eye(3).ravel()) == pytest.approx(0.0, abs=1e-12)
    shared = theory(fw.Convolutional(channels=N, patch=2))
    assert shared.rate(Q.ravel()) == pytest.approx(one.rate(Q.ravel()))
    apart = theory(fw.LocallyConnected(channels=N, patch=2))
    assert apart.rate([2.0, 0.5]) == pytest.approx(one.rate([2.0]) + one.rate([0.5]))


def test_which_networks():
    for network in (NETWORK, fw.Convolutional(channels=N, patch=2, pool="average")):
        assert type(theory(network)) is NeuronTheory
    found = NeuronTheory(NETWORK, T)
    assert (found.options, found.widths, found.closure, found.method) == (SingleNeuron(), (N,), "product", "neuron")
    assert (found.control, found.estimates_itself) == (Control(), True)
    for network, shared in (
        (fw.Convolutional(channels=N, patch=2), True),
        (fw.LocallyConnected(channels=N, patch=2), False),
    ):
        matrix = np.arange(16.0 if shared else 4.0)
        mapped = TheorySolution(theory(network), data_set(shape=(4, 4)), matrix, 0.0, True, "", (), None).q_map()
        np.testing.assert_array_equal(mapped.matrix, matrix.reshape(4, 4) if shared else matrix)
        assert mapped.grid_shape == (2, 2)
    with pytest.raises(InputError, match="2 hidden layers"):
        theory(fw.FullyConnected(widths=(N, N)))


def test_another_width_changes_the_readout_of_mean_field_networks():
    x, field = data_set().x, replace(NETWORK, readout="mean-field")
    for network, other in ((NETWORK, NETWORK.with_width(24)), (field, field.with_width(24))):
        found = single.replace_network(Design.of(network, x), other)
        assert found.feature_scale == pytest.approx(Design.of(other, x).feature_scale)
        assert found.network == other


def test_the_bar_counts_all_rounds(monkeypatch, capsys):
    Solver(monkeypatch, result_of(), result_of())
    theory(control=Control(progress=True), rounds=(5, 7), seeds=2).solve(data_set())
    out, err = capsys.readouterr()
    assert "single neuron" in err
    assert "2/30" in err
    assert out == ""
    Solver(monkeypatch, result_of())
    theory().solve(data_set())
    assert capsys.readouterr() == ("", "")


def test_without_jax(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(MissingExtraError, match=r"method = 'neuron' needs jax.*'sample'"):
        theory().solve(data_set())


# --- options ---------------------------------------------------------------------------------------------------------


def test_too_few_particles():
    assert SingleNeuron(particles=200).particles_for(100) == 200
    assert SingleNeuron(particles=500).particles_for(100) == 500
    assert SingleNeuron(particles=202).particles_for(101) == 202
    for particles, values, least in ((199, 10, 200), (201, 101, 202)):
        with pytest.raises(
            InputError, match=f"particles = {particles} for {values} training values; .* least {least} "
        ):
            SingleNeuron(particles=particles).particles_for(values)


def test_options_are_checked():
    found = SingleNeuron(particles=300.0, rounds=[2.0, 3], seed=0, seeds=2.0)
    assert (found.particles, found.rounds, found.seeds) == (300, (2, 3), 2)
    assert all(type(one) is int for one in (found.particles, *found.rounds, found.seed, found.seeds))
    assert SingleNeuron(seed=7).seed == 7
    for name, value in (
        *(("particles", 0), ("rounds", (0, 1)), ("rounds", (1, 0)), ("seed", -1), ("seeds", 0)),
        *(("response", "none"), ("response", "linear"), ("rounds", 5), ("rounds", (5,)), ("rounds", (5, 5, 5))),
    ):
        with pytest.raises(InputError, match=f"{name} = "):
            SingleNeuron(**{name: value})
    for response in ("auto", "quadratic", "nonlinear"):
        assert SingleNeuron(response=response).response == response
