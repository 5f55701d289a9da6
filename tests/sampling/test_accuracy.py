"""Draws until an accuracy is met, warmup until it has adapted, finished runs that go on."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("jax")

from finitewidth.data import Dataset
from finitewidth.inference.likelihoods import Gaussian
from finitewidth.inference.methods import Problem
from finitewidth.networks import FullyConnected
from finitewidth.runs.long_runs import carry_out
from finitewidth.sampling import Draws, Sample, sample
from finitewidth.sampling.convergence import Aim, Standing
from finitewidth.sampling.engine import BLOCKS, Engine, joined
from finitewidth.sampling.method import SamplingRun

NETWORK = FullyConnected(widths=(4,), activation="erf")
EVERYTHING = ("order_parameter", "hidden_kernel")


def points(count: int, seed: int) -> Dataset:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, 5))
    return Dataset(x, x[:, 0] + 0.1 * rng.standard_normal(count), classes=())


TRAIN, TEST = points(10, 0), points(7, 1)


def run_of(**settings) -> SamplingRun:
    chosen = Sample(**{"chains": 2, "observables": EVERYTHING} | settings)
    return SamplingRun(settings=chosen, network=NETWORK, train=TRAIN, test=TEST, temperature=0.2)


def same(a, b) -> bool:
    """To the bit."""
    arrays = ("mean", "variance", "train_error", "energy", "acceptance", "steps")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in arrays) and all(
        np.array_equal(a.observables[name].mean, b.observables[name].mean)
        and np.array_equal(a.observables[name].standard_error, b.observables[name].standard_error)
        for name in EVERYTHING
    )


def test_ends_when_the_accuracy_is_met():
    run = run_of(accuracy=0.03)
    draws = run.collect(carry_out(run))
    errors = draws.errors(TEST.y)
    assert errors.converged
    assert errors.message == "converged"
    assert errors.test_error_se <= 0.03 * errors.test_error
    assert errors.ess >= 50
    assert draws.n_draws < 1000
    assert draws.complete
    assert draws.wanted == 0.03
    assert 80 <= draws.attrs["warmup"] <= 350
    coarser = run_of(accuracy=0.06)
    fewer = coarser.collect(carry_out(coarser))
    assert fewer.n_draws < draws.n_draws
    np.testing.assert_array_equal(fewer.mean, draws.mean[:, : fewer.n_draws])


def test_the_most_draws_are_not_exceeded_and_it_is_said_what_is_missing():
    run = run_of(accuracy=1e-4, draws=35)
    errors = run.collect(carry_out(run)).errors(TEST.y)
    assert not errors.converged
    assert "0.01 % asked for: sample longer" in errors.message


def test_chains_that_disagree_go_on(monkeypatch):
    """A negative control: one chain in another state, however well its own mean is known."""
    rng = np.random.default_rng(0)
    y = np.zeros((3, 1))
    records = {
        "mean": 1.0 + 0.01 * rng.standard_normal((4, 200, 3, 1)),
        "variance": np.zeros((4, 200, 3)),
        "train_error": 1.0 + 0.01 * rng.standard_normal((4, 200)),
        "energy": rng.standard_normal((4, 200)),
    }
    aim = Aim(0.01, y)
    assert aim.reached(aim.standing(20, records))
    for name in ("energy", "train_error", "mean"):
        apart = {key: value.copy() for key, value in records.items()}
        apart[name][0] += 3.0 * records[name].std()
        assert not aim.reached(aim.standing(20, apart)), name
    assert aim.needed(Standing(20, 0.02, True)) == 80
    assert aim.needed(Standing(20, 0.001, False)) == 30


def test_looks_come_ever_more_seldom():
    aim = Aim(0.1, None)
    looks = [chunk for chunk in range(500) if aim.looks(chunk)]
    assert looks[:4] == [5, 6, 7, 8]
    assert max(np.diff(looks) / looks[:-1]) <= 0.5
    assert len(looks) < 60


# --- going on ---------------------------------------------------------------------------------------------------------


@functools.cache
def at_once(**settings) -> Draws:
    run = run_of(**settings)
    return run.collect(carry_out(run))


@pytest.mark.parametrize(
    ("where", "first", "then"),
    [
        ("file", {"accuracy": 0.06}, {"accuracy": 0.03}),
        ("memory", {"draws": 15}, {"draws": 260}),
        ("file", {"draws": 120}, {"draws": 260}),
        ("memory", {"draws": 20}, {"accuracy": 0.03}),
    ],
)
def test_a_finished_run_goes_on_as_if_it_had_been_asked_for_at_once(where, first, then, tmp_path):
    one, other = run_of(**first), run_of(**then)
    file = tmp_path / "run.npz" if where == "file" else None
    state = carry_out(one, file)
    assert one.collect(state).n_draws == first.get("draws", one.collect(state).n_draws)
    longer = carry_out(other, file, start=None if file else state)
    assert longer.chunk > state.chunk
    assert same(other.collect(longer), at_once(**then))


def test_more_draws_than_wanted_stay(tmp_path):
    many, few = run_of(draws=40), run_of(draws=20)
    whole = many.collect(carry_out(many, tmp_path / "run.npz"))
    assert same(few.collect(carry_out(few, tmp_path / "run.npz")), whole)


def test_weights_of_a_run_that_went_on(monkeypatch):
    monkeypatch.setattr("finitewidth.sampling.method._MOST_WEIGHTS", 4)
    problem = Problem(NETWORK, Gaussian(0.2))

    def solution(start=None, **settings):
        run = Sample(chains=2, warmup=30, **settings)._run(*problem[:1], TRAIN, None, 0.2)
        state = carry_out(run, start=start)
        return run.solution(state), state

    first, state = solution(draws=60)
    assert first.weights.positions.shape[:2] == (2, 3)  # after 20, 40 and 60 draws
    went_on, whole = solution(state, draws=130)[0], solution(draws=130)[0]
    assert went_on.weights.positions.shape[:2] == (2, 3)  # after 40, 80 and 120
    np.testing.assert_array_equal(went_on.weights.positions, whole.weights.positions)
    np.testing.assert_allclose(whole.weights.outputs(TRAIN.x)[0], whole.draws.mean[:, 39:130:40], rtol=1e-9)


def test_blocks_hold_all_draws():
    run = run_of(draws=470, warmup=0, step_size=0.2, trajectory=1.0)
    for state in run.engine.run(run.engine.start()):
        assert state.counts.sum() == 10 * state.chunk
        assert (state.counts > 0).sum() >= min(state.chunk, BLOCKS // 2 + 1)
    assert list(state.counts[:6]) == [80, 80, 80, 80, 80, 70]


# --- warmup and time --------------------------------------------------------------------------------------------------


def test_warmup_ends_only_when_the_energy_has_settled():
    sampler, (burn_in, *_) = run_of().engine.sampler, run_of().engine.stages
    rng = np.random.default_rng(0)
    energy, acceptance = rng.standard_normal((4, 60)), np.full((4, 60), 0.65)
    assert sampler.settled(burn_in, {"energy": energy, "acceptance": acceptance})
    assert not sampler.settled(burn_in, {"energy": energy[:, :20], "acceptance": acceptance[:, :20]})
    drifting = energy - 0.1 * np.arange(60)
    assert not sampler.settled(burn_in, {"energy": drifting, "acceptance": acceptance})
    assert not sampler.settled(burn_in, {"energy": energy, "acceptance": acceptance - 0.3})


def test_a_length_of_warmup_that_is_given_is_kept():
    run = run_of(draws=10, warmup=70)
    assert carry_out(run).before == 90  # in whole chunks: 35, three of 5, and 20


def test_seconds_end_a_run_with_what_it_has(monkeypatch):
    ticks = iter(range(10**6))
    monkeypatch.setattr("finitewidth.sampling.engine.time.monotonic", lambda: float(next(ticks)))
    run = run_of(accuracy=1e-4, seconds=1.0)
    draws = run.collect(carry_out(run))
    assert draws.n_draws == 20
    assert draws.complete
    assert not draws.errors(TEST.y).converged
    assert draws.attrs["warmup"] < 80


def test_the_bar_knows_what_is_left():
    engine = run_of(accuracy=0.03).engine
    totals = [engine.where(state)[1:] for state in engine.run(engine.start())]
    assert all(done < total for done, total in totals[:-1])
    assert totals[-1][0] == totals[-1][1]


def test_sample_of_a_method_takes_train_errors_without_a_test_set():
    solution = Sample(accuracy=0.05, chains=2).solve(Problem(NETWORK, Gaussian(0.2)), TRAIN)
    assert solution.converged
    assert isinstance(solution.weights.run.engine, Engine)
    assert sample(NETWORK, TRAIN, TEST, 0.2, chains=2, draws=20).wanted is None
    assert joined([]) == {}
    assert replace(Sample(), accuracy=0.01).most_draws == 5000
