"""Rounds, options and the theory around the particles, which are replaced by numbers that the test chooses."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.checks.exceptions import InputError, MemoryCapError, MissingExtraError
from finitewidth.inference import methods
from finitewidth.inference.methods import Control
from finitewidth.runs import durations
from finitewidth.runs.jax_runs import single_thread
from finitewidth.theory.neuron import rounds, single
from finitewidth.theory.neuron.design import Design
from finitewidth.theory.neuron.rounds import NotConvergedError, Problem, Result, Run
from finitewidth.theory.neuron.single import NeuronTheory, SingleNeuron, starting_field
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


def run_of(problem, tell=lambda left: None, seed=3):
    rng, size = np.random.default_rng(1), len(problem.y)
    root, theta = rng.standard_normal((size, size)) / math.sqrt(size), rng.standard_normal((1, 5, 3))
    theta[0, 0, 0] = 0.0  # counts the rounds below
    return Run(problem, theta, rng.standard_normal(size), root @ root.T, seed, tell)


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
        rng.uniform(0.0, 0.55),
    )


class Particles:
    """In place of the compiled particles: theta counts the rounds, and every call is recorded."""

    def __init__(self, monkeypatch, problem, moments=None):
        self.calls, self.problem = [], problem
        self.moments = moments or (lambda call, index: moments_of(problem, index, call.potential))
        monkeypatch.setattr(rounds.compiled, "compiled", self.compiled)

    def compiled(self, function, model):
        assert function is rounds.compiled.advance
        assert model == self.problem.model
        return self.advance

    def advance(self, theta, potential, data, field, directions, key, step):
        numbers = tuple(np.asarray(jax.random.key_data(key)).tolist())
        call = SimpleNamespace(theta=theta, potential=potential, data=data, s=field.s.copy(), R=field.R.copy())
        call.directions, call.key, call.step = directions, numbers, step
        self.calls.append(call)
        moments = self.moments(call, round(theta[0, 0, 0]))
        return theta + 1.0, np.nan_to_num(potential) + 0.5, moments


class ByHand:
    """The same rounds from the page: one line a step, matrices inverted outright."""

    def __init__(self, problem, run):
        self.problem, self.size = problem, len(problem.y)
        self.s, self.K, self.S, self.step = run.s, run.kernel, run.kernel, 0.3
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
        return order, residual, np.linalg.norm(kernel - self.K) / np.linalg.norm(self.K)


def close(got, want, **tolerance):
    np.testing.assert_allclose(np.asarray(got), want, **({"rtol": 1e-9, "atol": 1e-12} | tolerance))


@pytest.mark.parametrize("outputs", [1, 2])
def test_all_rounds_by_hand(outputs, monkeypatch):
    """2 of approach, then 4 averaged and 2 measured, 8 and 4, 16 and 8: the last is near enough."""
    monkeypatch.setattr(rounds, "SNAPSHOTS", 3)
    monkeypatch.setattr(rounds, "HOPELESS", math.inf)
    monkeypatch.setattr(rounds, "IMPROVEMENT", math.inf)
    problem, left, seen = problem_of(outputs), [], []
    particles, run = Particles(monkeypatch, problem), run_of(problem, left.append)
    hand, theta = ByHand(problem, run), run.theta
    for _ in range(2):
        hand.follow(0.05, False)
    for count in (4, 8, 16):
        hand.average(count)
        order, *missing = hand.measure(count // 2)
        seen.append(missing)
    monkeypatch.setattr(rounds, "RESIDUAL_BOUND", seen[-1][0] + 1e-6)
    monkeypatch.setattr(rounds, "KERNEL_BOUND", seen[-1][1] + 1e-6)
    assert all(a > seen[-1][0] + 1e-3 or b > seen[-1][1] + 1e-3 for a, b in seen[:2])
    found = run.solve(2, 4)
    assert len(particles.calls) == len(hand.told) == found.rounds == 44
    assert left == [*range(7, -1, -1), *range(11, -1, -1), *range(23, -1, -1)]
    for call, (s, R, step) in zip(particles.calls, hand.told, strict=True):
        close(call.s, s.reshape(outputs, P))
        close(call.R, R.reshape(outputs, P, outputs, P))
        assert float(call.step) == pytest.approx(step)
    close(found.order, order)
    close(found.s, hand.s)
    close(found.kernel, hand.K)
    # 3 wanted of 8 rounds: every second one, so four
    assert found.theta.dtype == np.float32
    close(found.theta, theta + np.array([38, 40, 42, 44.0])[:, None, None, None], rtol=1e-6)
    # every round has a key of its own; the directions are looked at every 20 rounds
    assert len({call.key for call in particles.calls}) == 44
    with single_thread():
        want = [rounds.compiled.key_of(3, k) for k in (0, 43)]
    assert [particles.calls[k].key for k in (0, 43)] == [tuple(jax.random.key_data(one).tolist()) for one in want]
    for k, call in enumerate(particles.calls):
        for got, want in zip(call.directions, rounds.leading(particles.calls[20 * (k // 20)].theta), strict=True):
            np.testing.assert_array_equal(got, want)
    data = particles.calls[0].data
    x = data_set(outputs).x
    close(data.rows[0] @ data.rows[0].T, x @ x.T / (1.3 * 3))
    assert (float(data.scale), float(data.width)) == (pytest.approx(1 / math.sqrt(0.7)), 6.0)


def at_the_field(problem, shares):
    """Moments that are those of the field itself: converged; with a share of f they are not. shares: by rounds."""

    def moments(call, index):
        s, size = call.s.ravel(), len(problem.y)
        K = np.linalg.inv(call.R.reshape(size, size)) - T * np.eye(size)
        f = shares(index) * (problem.y - T * s).reshape(call.s.shape)
        return rounds.Moments(f, K.reshape(call.R.shape), K.reshape(call.R.shape), np.ones((1, 1, 1)), 0.85, 0.0)

    return moments


@pytest.mark.parametrize(("count", "expected"), [(4, 3 + 4 + 2), (1, 3 + 1 + 1), (5, 3 + 5 + 2)])
def test_it_stops_where_it_has_converged(count, expected, monkeypatch):
    problem = problem_of()
    particles = Particles(monkeypatch, problem, at_the_field(problem, lambda index: 1.0))
    assert run_of(problem).solve(3, count).rounds == len(particles.calls) == expected


@pytest.mark.parametrize(
    ("residuals", "expected"),
    [
        ((0.3, 0.3, 0.3), 9),  # hopeless
        ((0.15, 0.15, 0.15), 21),  # stalls
        ((0.15, 0.09, 0.08), 45),  # was still falling
        ((0.15, 0.09, 0.01), None),
        ((0.03, 0.03, 0.01), None),  # near it noise decides
        ((math.nan, 0.01, 0.01), 9),
    ],
)
def test_it_stops_where_it_will_not_converge(residuals, expected, monkeypatch):
    """The field stands still; what it leaves is chosen: in rounds 7 and 8, 17 to 20, 37 to 44."""
    problem = problem_of()

    def moments(call, index):
        found = at_the_field(problem, lambda _: 1.0)(call, index)
        attempt = 0 if index < 9 else 1 if index < 21 else 2
        scale = math.sqrt(np.mean(problem.y**2))
        measured = index in (7, 8) or 17 <= index < 21 or index >= 37
        return found._replace(f=found.f + (residuals[attempt] * scale if measured else 0.0))

    particles, run = Particles(monkeypatch, problem, moments), run_of(problem)
    if expected is None:
        assert run.solve(3, 4).rounds == 45
        return
    with pytest.raises(NotConvergedError, match=rf"after {expected} rounds: residual .* \(bound 0.02\), kernel change"):
        run.solve(3, 4)
    assert len(particles.calls) == expected


# --- the theory around it --------------------------------------------------------------------------------------------


def theory(network=NETWORK, control=None, **options):
    chosen = SingleNeuron(**({"particles": 200, "rounds": (5, 3)} | options))
    return chosen.theory(methods.Problem(network, fw.Gaussian(T)), control)


def answering(monkeypatch, order=1.7, seconds=0.0, refusal=None):
    """In place of the rounds: each takes so many seconds of a clock that the test owns."""
    runs, clock = [], SimpleNamespace(now=0.0)
    monkeypatch.setattr(single.time, "perf_counter", lambda: clock.now)

    def solve(run, approach, averaging):
        runs.append((run, approach, averaging))
        total = approach + averaging + averaging // 2
        for k in range(total):
            clock.now += seconds
            run.tell(total - k - 1)
        if refusal:
            raise NotConvergedError(refusal)
        outputs = run.problem.outputs
        return Result(run.problem, run.s, run.kernel, run.theta[None], order * np.eye(outputs)[None], total)

    monkeypatch.setattr(Run, "solve", solve)
    monkeypatch.setattr(rounds.compiled, "compiled", lambda *_: None)
    return runs


def test_a_solution(monkeypatch):
    runs, train = answering(monkeypatch), data_set(2)
    found = theory(seed=4).solve(train)
    ((run, approach, averaging),) = runs
    assert (approach, averaging, run.seed) == (5, 3, 4)
    assert (found.message, found.converged, math.isnan(found.log_evidence), found.minima) == (
        "9 rounds",
        True,
        True,
        (),
    )
    np.testing.assert_array_equal(found.order_parameters, [1.7, 0.0, 0.0, 1.7])
    s, kernel = starting_field(NETWORK, train, T)
    close(run.s, 0.4 * s)
    close(run.kernel, kernel)
    assert run.theta.shape == (1, 200, 3)
    assert (run.problem.outputs, run.problem.temperature, run.problem.width) == (2, T, N)
    np.testing.assert_array_equal(run.problem.y, train.y.T.ravel())
    theory(seed=5).solve(train)
    assert np.abs(runs[1][0].theta - run.theta).max() > 0.1


def test_no_number_without_convergence(monkeypatch):
    answering(monkeypatch, refusal="residual 3")
    found = theory().solve(data_set())
    assert (found.converged, found.order_parameters.size) == (False, 0)
    assert found.message.startswith("residual 3; samples serve, in about ")
    assert "--method sample --accuracy 5%" in found.message
    with pytest.raises(InputError, match=r"not converged \(residual 3\)"):
        fw.predict(found, data_set().x)
    wide = theory(NETWORK.with_width(33)).solve(data_set())
    assert (
        wide.message == "residual 3; so wide a network hardly differs from the action: --method saddle, or first-order"
    )
    row = found.row(data_set())
    assert (row.converged, math.isnan(row.test_error), row.order_parameters) == (False, True, [])


@pytest.mark.parametrize(
    ("seconds", "allowed", "told"),
    [
        (1.0, 60.0, None),
        (4.0, 60.0, None),  # 36 s
        (9.0, 60.0, "two minutes"),  # 81 s are less than one and a half times that: until it is over
        (20.0, 60.0, "take about 3 minutes, beyond seconds = 60"),
        (20.0, 200.0, None),
    ],
)
def test_the_time_that_it_may_take(seconds, allowed, told, monkeypatch):
    runs = answering(monkeypatch, seconds=seconds)
    found = theory(seconds=allowed).solve(data_set())
    assert found.converged is (told is None)
    assert len(runs) == 1
    if told and "about" in told:
        assert told in found.message


def test_the_time_is_told_beforehand(monkeypatch):
    said = []
    answering(monkeypatch, seconds=4.0)
    monkeypatch.setattr(durations.time, "perf_counter", single.time.perf_counter)
    with durations.announced(said.append):
        theory(rounds=(50, 50), seconds=1e4).solve(data_set())
    assert said == ["expected: about 8.1 minutes (200 particles on 4 training points)"]


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize(("architecture", "populations", "m"), [(fw.LocallyConnected, 4, 1), (fw.Convolutional, 1, 4)])
def test_memory_is_required_beforehand(architecture, populations, m, outputs, monkeypatch):
    """Words of 8 bytes: features and their slopes, weights and snapshots, moments of readouts; squares."""
    train = data_set(outputs, shape=(4, 4))
    asked, one = [], theory(architecture(channels=N, patch=2, activation="tanh"))
    monkeypatch.setattr(single, "require_memory", lambda *given: asked.append(given))
    one._require_memory(Design.of(one.network, train.x), train, 200, 1e9)
    ((need, what, remedy, cap),) = asked
    features = {1: 8, 3: 24}[outputs] * m * P
    words = populations * 200 * (features + 20 * 4 + 6 * (m * outputs) ** 2) + 12 * (P * outputs) ** 2
    assert need == 8 * words + 3e8
    assert what == f"200 particles with {P * outputs} training values and 4 weights a neuron"
    assert "sample" in remedy
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
    assert (found.control, found.evaluations) == (Control(), None)
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


def test_every_width_of_a_curve_has_its_own_readout():
    """With the mean-field readout the features depend on the width."""
    train, field = data_set(), replace(NETWORK, readout="mean-field")
    for network in (field, field.with_width(24)):
        one = theory(network)
        assert one.sharing is None
        assert one.factorise(train).feature_scale == pytest.approx(1.0 / math.sqrt(0.7 * network.widths[0]))


def test_the_bar_counts_all_rounds(monkeypatch, capsys):
    answering(monkeypatch)
    theory(control=Control(progress=True), rounds=(5, 7)).solve(data_set())
    out, err = capsys.readouterr()
    assert "single neuron" in err
    assert "15/15" in err
    assert out == ""
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
    found = SingleNeuron(particles=300.0, rounds=[2.0, 3], seed=0, seconds=5)
    assert (found.particles, found.rounds, found.seconds) == (300, (2, 3), 5.0)
    assert all(type(one) is int for one in (found.particles, *found.rounds, found.seed))
    assert SingleNeuron(seed=7).seed == 7
    for name, value in (
        *(("particles", 0), ("rounds", (0, 1)), ("rounds", (1, 0)), ("seed", -1), ("seconds", 0)),
        *(("seconds", math.nan), ("rounds", 5), ("rounds", (5,)), ("rounds", (5, 5, 5))),
    ):
        with pytest.raises(InputError, match=f"{name} = "):
            SingleNeuron(**{name: value})
