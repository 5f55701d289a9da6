"""``sample`` as a user meets it: shapes, reproducibility, bad input, interrupts, checkpoints."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

jax = pytest.importorskip("jax")

from finitewidth.checks.exceptions import InputError, MemoryCapError, TimeCapError  # noqa: E402
from finitewidth.data import Dataset  # noqa: E402
from finitewidth.inference.likelihoods import Gaussian  # noqa: E402
from finitewidth.networks import Convolutional, FullyConnected, LocallyConnected  # noqa: E402
from finitewidth.runs import durations  # noqa: E402
from finitewidth.sampling import Draws, Sample, Sampled, sample, step_bias  # noqa: E402
from finitewidth.sampling.engine import Engine  # noqa: E402
from finitewidth.sampling.method import SamplingRun  # noqa: E402

NETWORK = FullyConnected(widths=(4,), activation="erf")
SHORT = {"temperature": 0.2, "chains": 2, "draws": 15, "warmup": 30}
LONGER = SHORT | {"warmup": 100}
EVERYTHING = ("order_parameter", "hidden_kernel", "weight_covariance")


@pytest.fixture(scope="module")
def train(request) -> Dataset:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((10, 5))
    return Dataset(x, x[:, 0] + 0.1 * rng.standard_normal(10), classes=())


@pytest.fixture(scope="module")
def test_set() -> Dataset:
    x = np.random.default_rng(1).standard_normal((7, 5))
    return Dataset(x, x[:, 0], classes=())


@pytest.fixture(scope="module")
def draws(train, test_set) -> Draws:
    return sample(NETWORK, train, test_set, **SHORT, observables=EVERYTHING)


def same(a: Draws, b: Draws) -> bool:
    arrays = ("mean", "variance", "train_error", "energy", "acceptance", "steps")
    sums = all(np.array_equal(a.observables[k].mean, b.observables[k].mean) for k in a.observables)
    return sums and all(np.array_equal(getattr(a, name), getattr(b, name)) for name in arrays)


def test_shapes(draws, test_set):
    assert draws.mean.shape == draws.variance.shape == (2, 15, 7)
    for name in ("train_error", "energy", "acceptance", "steps", "diverged"):
        assert getattr(draws, name).shape == (2, 15)
    assert draws.mean.dtype == np.float64
    assert draws.order_parameter.shape == (1, 1)
    assert draws.observables["hidden_kernel"].mean.shape == (10, 10)
    assert draws.observables["weight_covariance"].mean.shape == (5, 5)
    assert draws.complete
    assert (draws.variance > 0).all()
    assert draws.settings["step_size"] > 0
    errors = draws.errors(test_set.y)
    assert errors.test_error > 0
    assert "erf" in draws.attrs["network"]
    assert draws.attrs["jax_version"] == jax.__version__


def test_same_seed_same_bits(draws, train, test_set):
    assert same(draws, sample(NETWORK, train, test_set, **SHORT, observables=EVERYTHING))
    assert not same(draws, sample(NETWORK, train, test_set, **SHORT, observables=EVERYTHING, seed=1))


def test_jax_settings_are_left_alone(draws):
    assert not jax.config.jax_enable_x64
    assert jax.numpy.ones(2).dtype == np.float32


@pytest.mark.statistical
@pytest.mark.parametrize("sampler", ["langevin", "nuts"])  # without the Metropolis test: test_step_bias
def test_other_samplers(sampler, train, test_set):
    if sampler == "nuts":
        pytest.importorskip("blackjax")
    draws = sample(NETWORK, train, test_set, **LONGER, sampler=sampler)
    assert draws.mean.shape == (2, 15, 7)
    assert (draws.variance == 0).all()
    assert np.isfinite(draws.energy).all()
    assert draws.acceptance.mean() > 0.3
    assert draws.order_parameter[0, 0] > 0
    assert same(draws, sample(NETWORK, train, test_set, **LONGER, sampler=sampler))


def test_several_outputs(train, test_set):
    outputs = np.stack([train.y, -train.y, train.y**2], axis=1)
    wide = Dataset(train.x, outputs, classes=())
    draws = sample(NETWORK, wide, test_set, **SHORT)
    assert draws.mean.shape == draws.variance.shape == (2, 15, 7, 3)
    assert draws.order_parameter.shape == (3, 3)
    assert draws.errors(np.zeros((7, 3))).accuracy is None


@pytest.mark.parametrize(
    ("network", "patches", "entries", "inputs"),
    [
        (Convolutional(channels=3, patch=2), 4, 16, (4, 4)),
        (LocallyConnected(channels=3, patch=2), 4, 4, (4, 4, 4)),
        (Convolutional(channels=3, patch=2, pool="average"), 1, 1, (4, 4)),
    ],
)
def test_local_networks(network, patches, entries, inputs):
    """Order parameters of a solution are laid out as the theory's: without shared weights, the diagonal."""
    rng = np.random.default_rng(0)
    data = Dataset(rng.standard_normal((8, 4, 4)), rng.standard_normal(8), classes=())
    draws = sample(network, data, data, **SHORT, observables=EVERYTHING)
    assert draws.order_parameter.shape == (patches, patches)
    assert draws.observables["weight_covariance"].mean.shape == inputs
    assert draws.observables["hidden_kernel"].mean.shape == (8, 8)
    assert Sampled(network, Gaussian(0.2), data, draws, data.x).order_parameters.shape == (entries,)


def test_rotated_inputs_give_the_weight_covariance_of_the_original(test_set):
    x = np.random.default_rng(2).standard_normal((3, 5))
    few = Dataset(x, x[:, 0], classes=())
    draws = sample(NETWORK, few, test_set, **SHORT, observables=("weight_covariance",))
    covariance = draws.observables["weight_covariance"].mean
    assert covariance.shape == (5, 5)
    assert np.sum(np.isclose(np.linalg.eigvalsh(covariance), 1.0)) >= 2  # the prior's, outside the span


# --- what is said of runs that did not work -----------------------------------------------------------------


def test_a_step_size_that_diverges(train, test_set):
    """Steps of 1000 without a Metropolis test leave the numbers; corrected, every step is refused."""
    with np.errstate(all="ignore"):
        wild = sample(NETWORK, train, test_set, **SHORT, sampler="langevin-unadjusted", step_size=1e3).errors(
            test_set.y
        )
        stuck = sample(NETWORK, train, test_set, **SHORT, sampler="langevin", step_size=1e3).errors(test_set.y)
    assert wild.divergences == 30
    assert not wild.converged
    assert "step size" in wild.message
    assert not stuck.converged
    assert "did not move" in stuck.message
    assert math.isnan(stuck.test_error_se)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"draws": 0}, "draws = 0"),
        ({"chains": 0}, "chains = 0"),
        ({"warmup": -1}, "warmup = -1"),
        ({"temperature": 0.0}, "temperature"),
        ({"seed": -1}, "seed"),
        ({"step_size": -0.1}, "step_size"),
        ({"sampler": "nut"}, "did you mean 'nuts'"),
        ({"darws": 5}, "did you mean draws"),
        ({"accuracy": 0.0}, "accuracy"),
        ({"accuracy": 1.0}, "a relative error below 1"),
        ({"accuracy": 0.1, "chains": 1}, "an accuracy of one chain"),
        ({"seconds": -1.0}, "seconds"),
        ({"observables": ("kernel",)}, "did you mean 'hidden_kernel'"),
    ],
)
def test_bad_input(changes, match, train, test_set):
    with pytest.raises(InputError, match=match):
        sample(NETWORK, train, test_set, **(SHORT | changes))


def test_an_activation_of_numpy_alone(train, test_set):
    with pytest.raises(InputError, match="does not take JAX arrays"):
        sample(FullyConnected(widths=(3,), activation=np.tanh), train, test_set, **SHORT)


def test_functions_of_one_name_do_not_share_code(train, test_set):
    """Two lambdas look alike to a comparison of networks."""
    one = FullyConnected(widths=(4,), activation=lambda x: x)
    two = FullyConnected(widths=(4,), activation=lambda x: 0.1 * x)
    assert not same(*(sample(network, train, test_set, **SHORT) for network in (one, two)))


def test_inputs_of_another_shape(train):
    with pytest.raises(InputError, match="points of one shape"):
        sample(NETWORK, train, Dataset(np.ones((3, 4)), np.ones(3), classes=()), **SHORT)


def test_memory_cap(train, test_set):
    with pytest.raises(MemoryCapError, match="needs about"):
        sample(NETWORK, train, test_set, **SHORT, memory="1MB")
    with pytest.raises(MemoryCapError):
        sample(replace(NETWORK, widths=(10**9,)), train, test_set, **SHORT)


def test_out_of_memory_on_the_device(train, test_set, monkeypatch):
    def exhausted(self, progress):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes")

    monkeypatch.setattr(Engine, "run", exhausted)
    with pytest.raises(MemoryError, match="use fewer draws"):
        sample(NETWORK, train, test_set, **SHORT)


def test_step_bias(train, test_set):
    bias = step_bias(NETWORK, train, test_set, step_size=0.01, **SHORT)
    assert bias.test_error == pytest.approx(2 * bias.fine.test_error - bias.coarse.test_error)
    assert bias.difference == pytest.approx(bias.coarse.test_error - bias.fine.test_error)
    assert bias.test_error_se > bias.difference_se > 0


# --- checkpoints --------------------------------------------------------------------------------------------


class Stop(Exception):
    """Stands for a killed process."""


@pytest.fixture
def interrupted(monkeypatch):
    """``interrupted(after, error)``: the engine raises ``error`` after so many chunks."""
    whole = Engine.run

    def set_up(after: int, error: type[BaseException]) -> None:
        def run(self, progress):
            for count, state in enumerate(whole(self, progress)):
                if count == after:
                    raise error
                yield state

        monkeypatch.setattr(Engine, "run", run)

    return set_up


def test_interrupt_keeps_what_is_done(interrupted, draws, train, test_set):
    interrupted(7, KeyboardInterrupt)  # six chunks of warmup, one of draws
    kept = sample(NETWORK, train, test_set, **SHORT, observables=EVERYTHING)
    assert not kept.complete
    assert kept.n_draws == 10
    np.testing.assert_array_equal(kept.mean, draws.mean[:, :10])
    errors = kept.errors(test_set.y)
    assert not errors.converged
    assert "interrupted after 10 draws" in errors.message


def test_interrupt_without_draws_is_passed_on(interrupted, train, test_set):
    interrupted(1, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        sample(NETWORK, train, test_set, **SHORT)


@pytest.mark.parametrize("after", [1, 6])
def test_resume_gives_the_uninterrupted_result(after, draws, train, test_set, tmp_path, monkeypatch, interrupted):
    monkeypatch.setattr("finitewidth.runs.checkpoints.SAVE_EVERY", 0.0)
    path = tmp_path / "a run.npz"
    with monkeypatch.context() as context:
        whole = Engine.run

        def run(self, progress):
            for count, state in enumerate(whole(self, progress)):
                yield state
                if count == after:
                    raise Stop

        context.setattr(Engine, "run", run)
        with pytest.raises(Stop):
            sample(NETWORK, train, test_set, **SHORT, observables=EVERYTHING, checkpoint=path)
    resumed = sample(NETWORK, train, test_set, **SHORT, observables=EVERYTHING, checkpoint=path)
    assert same(draws, resumed)
    assert same(draws, sample(NETWORK, train, test_set, **SHORT, observables=EVERYTHING, checkpoint=path))


@pytest.fixture(scope="module")
def checkpoint(train, test_set, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoints") / "run.npz"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("finitewidth.runs.checkpoints.SAVE_EVERY", 0.0)
        sample(NETWORK, train, test_set, **SHORT, observables=EVERYTHING, checkpoint=path)
    return path


def test_no_whole_checkpoint(train, test_set, tmp_path):
    path = tmp_path / "run.npz"
    path.write_bytes(b"PK nothing")
    with pytest.raises(InputError, match="cannot be read"):
        sample(NETWORK, train, test_set, **SHORT, checkpoint=path)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"temperature": 0.21}, "temperature"),
        ({"seed": 5}, "seed"),
        ({"network": replace(NETWORK, widths=(5,))}, "network"),
        ({"network": replace(NETWORK, activation=lambda x: x / (1 + x * x))}, "network"),
        ({"warmup": 31}, "warmup"),
        ({"sampler": "langevin"}, "sampler"),
    ],
)
def test_checkpoint_of_another_run_is_refused(changes, word, checkpoint, train, test_set):
    arguments = {"network": NETWORK, **SHORT, "observables": EVERYTHING} | changes
    with pytest.raises(InputError, match=f"another run .*{word}"):
        sample(train=train, test=test_set, checkpoint=checkpoint, **arguments)


def test_checkpoint_of_other_data_is_refused(checkpoint, train, test_set):
    with pytest.raises(InputError, match=r"another run .*train"):
        sample(NETWORK, test_set, test_set, **SHORT, observables=EVERYTHING, checkpoint=checkpoint)


def test_checkpoint_without_a_folder(train, test_set, tmp_path):
    for path in (tmp_path, tmp_path / "missing" / "run.npz"):
        with pytest.raises(InputError, match="cannot be written"):
            sample(NETWORK, train, test_set, **SHORT, checkpoint=path)


def test_progress_is_on_stderr_only(train, test_set, capsys):
    sample(NETWORK, train, test_set, **SHORT, progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "draws" in captured.err


# --- how long it will take --------------------------------------------------------------------------------------------


def test_refused_where_a_gradient_shows_that_it_takes_too_long(train, test_set, monkeypatch):
    monkeypatch.setattr(Engine, "least_seconds", lambda engine, state: 1e4)
    with pytest.raises(TimeCapError, match="2 chains of 15 draws with 10 training points") as refused:
        sample(NETWORK, train, test_set, **SHORT)
    assert "--time" in refused.value.remedy


def test_refused_where_the_first_chunks_do(train, test_set, monkeypatch, tmp_path):
    clock = itertools.count(0.0, 30.0)
    monkeypatch.setattr(Engine, "least_seconds", lambda engine, state: 0.0)
    monkeypatch.setattr(durations, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    with durations.time_limit("1s"), pytest.raises(TimeCapError):
        sample(NETWORK, train, test_set, **SHORT, checkpoint=tmp_path / "run.npz")
    assert list(tmp_path.iterdir()) == []


def test_announced_once_and_the_draws_are_the_same(train, test_set, draws, monkeypatch):
    clock, said = itertools.count(0.0, 1000.0), []
    monkeypatch.setattr(Engine, "least_seconds", lambda engine, state: 0.0)
    monkeypatch.setattr(durations, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    with durations.time_limit(None), durations.announced(said.append):
        again = sample(NETWORK, train, test_set, **SHORT, observables=EVERYTHING)
    assert same(draws, again)
    assert len(said) == 1
    assert "(2 chains of 15 draws with 10 training points)" in said[0]


@pytest.mark.parametrize("sampler", ["collapsed", "langevin"])
def test_what_is_left_is_counted_in_gradients(sampler, train, test_set):
    """With a fixed step and trajectory the count is known: so many steps a draw, and the look at it."""
    fixed = {"step_size": 0.25, "trajectory": 1.0} if sampler == "collapsed" else {"step_size": 1e-3, "trajectory": 7}
    short = {name: value for name, value in SHORT.items() if name != "temperature"}
    settings = Sample(sampler=sampler, **short | fixed)
    run = SamplingRun(settings=settings, network=NETWORK, train=train, test=test_set, temperature=0.2)
    engine = run.engine
    state = next(engine.run(engine.start()))
    last, left = engine.effort(state)
    steps = 7 if sampler == "langevin" else 1.0 / 0.25
    assert last == pytest.approx(10 * (1 + steps), rel=0.25)  # jittered
    assert left == pytest.approx(10 * (engine.where(state)[2] - 1) * (1 + steps), rel=0.15)
