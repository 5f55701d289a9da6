"""``train``: steps by hand, minima by a second route, reproducibility, checkpoints, bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import brentq

import finitewidth as fw
from finitewidth.training import Train, engine
from finitewidth.training.method import TrainingRun

pytest.importorskip("jax")
pytest.importorskip("optax")

LINEAR = fw.FullyConnected(widths=(4,), activation="linear", weight_precision=(2.0, 0.5))
SHORT = {"optimiser": "sgd", "learning_rate": 0.02, "steps": 20, "seeds": 3}


def data(n=6, seed=0, inputs=3, outputs=None, classes=()):
    rng = np.random.default_rng(seed)
    y = rng.standard_normal(n if outputs is None else (n, outputs))
    return fw.Dataset(rng.standard_normal((n, inputs)), y, classes=classes)


TRAIN, TEST = data(), data(4, 1)


@pytest.fixture(scope="module")
def short():
    return fw.train(LINEAR, TRAIN, TEST, **SHORT)


def leaves(ensemble):
    return [*ensemble.parameters["hidden"]["weights"], ensemble.parameters["readout"]]


def same(a, b):
    equal = [np.array_equal(p, q) for p, q in zip(leaves(a), leaves(b), strict=True)]
    names = ("step", "objective", "train_error", "test_error")
    return all(equal) and all(
        np.array_equal(getattr(a.history, n), getattr(b.history, n), equal_nan=True) for n in names
    )


# --- steps and minima by a second route ----------------------------------------------------------------------


def gradient(W, v, temperature):
    """Of 1/2 sum (y - f)^2 + T/2 sum lambda |theta|^2 for the linear network, by hand."""
    x, scale = TRAIN.x, np.sqrt(12.0)
    miss = x @ W.T @ v / scale - TRAIN.y
    return (
        np.outer(v, miss @ x) / scale + temperature * 2.0 * W,
        miss @ (x @ W.T) / scale + temperature * 0.5 * v,
    )


def by_hand(start, rule, steps=20, temperature=0.3):
    weights, memory = [np.array(w) for w in start], [(0.0, 0.0), (0.0, 0.0)]
    for step in range(1, steps + 1):
        for i, g in enumerate(gradient(*weights, temperature)):
            move, memory[i] = rule(g, memory[i], step)
            weights[i] = weights[i] - 0.02 * move
    return weights


def heavy_ball(g, memory, step):
    velocity = g + 0.6 * memory[0]
    return velocity, (velocity, 0.0)


def adam(g, memory, step):
    first, second = 0.9 * memory[0] + 0.1 * g, 0.999 * memory[1] + 0.001 * g**2
    return first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8), (first, second)


@pytest.mark.parametrize(
    ("options", "rule"), [({"optimiser": "sgd", "momentum": 0.6}, heavy_ball), ({"optimiser": "adam"}, adam)]
)
def test_steps_by_hand(options, rule):
    ensemble = fw.train(LINEAR, TRAIN, TEST, 0.3, **{**SHORT, **options})
    for s in range(3):
        start = ensemble.initial["hidden"]["weights"][0][s], ensemble.initial["readout"][s, 0]
        W, v = by_hand(start, rule)
        np.testing.assert_allclose(ensemble.first_layer[s], W, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(ensemble.readouts[s, 0], v, rtol=1e-9, atol=1e-12)
        f = TEST.x @ W.T @ v / np.sqrt(12.0)
        np.testing.assert_allclose(ensemble.outputs(TEST.x)[s], f, rtol=1e-9, atol=1e-12)
        assert ensemble.history.test_error[s, -1] == pytest.approx(np.mean((TEST.y - f) ** 2), rel=1e-9)
        miss = TRAIN.y - TRAIN.x @ W.T @ v / np.sqrt(12.0)
        decay = 0.15 * (2.0 * (W**2).sum() + 0.5 * (v**2).sum())
        assert ensemble.history.objective[s, -1] == pytest.approx(0.5 * (miss**2).sum() + decay, rel=1e-9)


def test_the_minimum_with_weight_decay():
    """Two linear layers: the decay of W and v is T sqrt(lambda_0 lambda_1 N0 N) |beta| of f = beta.x at its least,
    so beta is the ridge solution at the ridge that this divided by |beta| is."""
    T, x, y = 0.05, TRAIN.x, TRAIN.y
    ensemble = fw.train(LINEAR, TRAIN, TEST, T, optimiser="sgd", momentum=0.9, learning_rate=0.05, steps=3000, seeds=3)
    slope = T * np.sqrt(2.0 * 0.5 * 3 * 4)

    def solution(ridge):
        return np.linalg.solve(x.T @ x + ridge * np.eye(3), x.T @ y)

    ridge = brentq(lambda r: r * np.linalg.norm(solution(r)) - slope, 1e-6, 1e3)
    expected = np.broadcast_to(TEST.x @ solution(ridge), (3, 4))
    np.testing.assert_allclose(ensemble.outputs(TEST.x), expected, rtol=1e-6, atol=1e-8)
    errors = ensemble.errors()
    assert errors.converged
    assert not errors.message
    assert errors.variance == pytest.approx(0.0, abs=1e-12)
    assert np.abs(TEST.x @ solution(slope) - expected[0]).max() > 1e-2  # negative control: another ridge


@pytest.mark.statistical
def test_wide_networks_are_lazy():
    """Network by network against its linearisation at infinite width: 16 times the width, a 16th of the mean square."""
    step, steps, squares = 0.05, 40, []
    x = np.concatenate([TRAIN.x, TEST.x])
    kernel = fw.kernels.ntk(fw.FullyConnected(widths=(1,)), x)
    theta = kernel[:6, :6]
    gain = np.linalg.solve(theta, np.eye(6) - np.linalg.matrix_power(np.eye(6) - step * theta, steps))
    for width in (24, 384):
        network = fw.FullyConnected(widths=(width,))
        ensemble = fw.train(network, TRAIN, TEST, optimiser="sgd", learning_rate=step, steps=steps, seeds=160)
        start = replace(ensemble, parameters=ensemble.initial).outputs(x)
        linear = start + (TRAIN.y - start[:, :6]) @ gain.T @ kernel[:6]
        each = ((ensemble.outputs(x) - linear) ** 2).mean(1)
        squares.append((each.mean(), each.std(ddof=1) / np.sqrt(len(each))))
    (wide, wide_se), (wider, wider_se) = squares
    ratio = wide / wider
    ratio_se = ratio * np.hypot(wide_se / wide, wider_se / wider)
    assert abs(ratio - 16.0) < 3.0 * ratio_se
    assert abs(ratio - 4.0) > 3.0 * ratio_se


# --- batches --------------------------------------------------------------------------------------


def test_an_epoch_meets_every_point_once():
    import jax

    from finitewidth.training.engine import Program

    program = Program(LINEAR, "sgd", 3, (3,), 1)
    batches = np.array([program._batch(jax.random.key(0), step, 7) for step in range(40)]).reshape(20, 2, 3)
    for epoch in batches:
        assert len(set(epoch.ravel())) == 6
    assert set(batches.ravel()) == set(range(7))  # the one left out changes
    assert len({tuple(epoch.ravel()) for epoch in batches}) > 10


def test_the_batches_of_an_epoch_add_up_to_the_full_gradient():
    import jax

    from finitewidth.training.engine import Arrays, Program, State

    y = TRAIN.y[:, None]
    arrays = Arrays(TRAIN.x, y, TEST.x, TEST.y[:, None], 0.1, 0.0, 0.2)
    start = {"hidden": {"weights": [np.full((4, 3), 0.3)], "offsets": []}, "readout": np.full((1, 4), 0.7)}

    def moves(batch, steps):
        program = Program(LINEAR, "sgd", batch, (3,), 1)
        state = State(start, program._rule(0.0).init(start))
        moved = jax.jit(lambda step, data: program._step(state, jax.random.key(3), step, data).parameters)
        return [np.asarray(moved(step, arrays)["hidden"]["weights"][0]) - 0.3 for step in range(steps)]

    with jax.enable_x64(True):
        parts, (whole,) = moves(2, 3), moves(0, 1)
    np.testing.assert_allclose(np.mean(parts, 0), whole, rtol=1e-10)
    assert np.abs(parts[0] - whole).max() > 1e-3 * np.abs(whole).max()


# --- the same bits ------------------------------------------------------------------------------------------------


def test_same_call_same_bits(short):
    assert same(short, fw.train(LINEAR, TRAIN, TEST, **SHORT, batch=6))  # all points are no batch
    again = fw.train(LINEAR, TRAIN, TEST, **SHORT)
    assert same(short, again)
    assert short.errors() == again.errors()
    one = fw.train(LINEAR, TRAIN, TEST, **{**SHORT, "seeds": [2, 7]})
    np.testing.assert_array_equal(one.readouts[0], short.readouts[2])  # whoever else is in the ensemble
    assert not np.array_equal(one.readouts[1], short.readouts[1])
    assert all(part in repr(short) for part in ("networks=3", "optimiser='sgd'", "steps=20", "complete=True"))


def interrupt_after(steps, monkeypatch):
    original = engine.Engine.run

    def stopping(self, done):
        for state in original(self, done):
            yield state
            if state.steps >= steps:
                raise KeyboardInterrupt

    monkeypatch.setattr(engine.Engine, "run", stopping)


def test_resume_gives_the_uninterrupted_result(tmp_path, monkeypatch):
    options = {**SHORT, "batch": 4, "momentum": 0.5}
    whole = fw.train(LINEAR, TRAIN, TEST, **options)
    path = tmp_path / "run.npz"
    with monkeypatch.context() as context:
        interrupt_after(7, context)
        part = fw.train(LINEAR, TRAIN, TEST, **options, checkpoint=path)
    assert (part.steps, part.complete) == (7, False)
    assert part.errors().message == "interrupted after 7 of 20 steps"
    assert not part.errors().converged
    resumed = fw.train(LINEAR, TRAIN, TEST, **options, checkpoint=path)
    assert resumed.complete
    assert same(whole, resumed)
    assert same(whole, fw.train(LINEAR, TRAIN, TEST, **options, checkpoint=path))  # nothing left to do
    with pytest.raises(fw.InputError, match=r"of another run \(learning_rate differ\)"):
        fw.train(LINEAR, TRAIN, TEST, **{**options, "learning_rate": 0.03}, checkpoint=path)


def test_an_interrupt_before_the_first_step_is_passed_on(monkeypatch):
    def stop(self, done):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(engine.Engine, "run", stop)
    with pytest.raises(KeyboardInterrupt):
        fw.train(LINEAR, TRAIN, TEST, **SHORT)


def test_refused_where_its_first_step_shows_that_it_takes_too_long(monkeypatch):
    monkeypatch.setattr(engine.Engine, "step_seconds", lambda engine, at: 1e4)
    with pytest.raises(fw.TimeCapError, match="training 3 networks"):
        fw.train(LINEAR, TRAIN, TEST, **SHORT)


def test_the_first_step_comes_to_nothing(short):
    run = TrainingRun(settings=Train(**SHORT), network=LINEAR, train=TRAIN, test=TEST)
    start = run.engine.start()
    assert run.engine.step_seconds(start) > 0.0
    assert start.steps == 0


def test_progress_bar(capsys):
    fw.train(LINEAR, TRAIN, TEST, **SHORT, progress="width 4")
    err = capsys.readouterr().err
    assert "width 4: sgd" in err
    assert "20/20" in err


# --- what goes wrong ----------------------------------------------------------------------------------------------


def test_divergence_is_never_a_number():
    train = fw.Dataset(TRAIN.x, np.sign(TRAIN.y))
    test = fw.Dataset(TEST.x, np.sign(TEST.y), classes=train.classes)
    ensemble = fw.train(LINEAR, train, test, **{**SHORT, "learning_rate": 5.0, "steps": 300})
    errors = ensemble.errors()
    assert ensemble.diverged.all()
    assert not errors.converged
    assert errors.message == "3 of 3 networks diverged; take a smaller learning_rate"
    values = [
        errors.test_error,
        errors.bias,
        errors.variance,
        errors.accuracy,
        errors.train_error,
        errors.test_error_se,
    ]
    assert np.isnan(values).all()
    assert np.isnan(ensemble.predict(test).mean).all()
    with pytest.raises(fw.InputError, match="diverged"):
        fw.features.information(ensemble)
    row = ensemble.row(test, 0.0)
    assert np.isnan(row.test_error)
    assert not row.converged


def test_what_still_moves_has_not_converged(short):
    errors = short.errors()
    assert not errors.converged
    assert "train for more steps" in errors.message


def test_an_activation_without_jax():
    network = fw.FullyConnected(widths=(4,), activation=lambda h: np.asarray(h) ** 2)
    with pytest.raises(fw.InputError, match="does not take JAX arrays"):
        fw.train(network, TRAIN, TEST, **SHORT)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimiser": "adma"}, "did you mean 'adam'"),
        ({"temperature": -1.0}, "temperature = -1.0"),
        ({"learning_rate": 0.0}, "learning_rate = 0.0"),
        ({"learning_rate": np.nan}, "learning_rate = nan"),
        ({"steps": 0}, "steps = 0"),
        ({"seeds": 0}, "seeds = 0"),
        ({"seeds": []}, "at least one value"),
        ({"seeds": [1, 1]}, "different whole numbers"),
        ({"momentum": 1.0}, "a number below 1"),
        ({"optimiser": "adam", "momentum": 0.5}, "a setting of sgd"),
        ({"batch": 7}, "at most all points"),
        ({"memory": "1kB"}, "training 3 networks on 6 points"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(fw.InputError, match=message):
        fw.train(LINEAR, TRAIN, TEST, **{**SHORT, **options})


def test_data_that_do_not_fit():
    with pytest.raises(fw.InputError, match="points of one shape"):
        fw.train(LINEAR, TRAIN, data(inputs=2), **SHORT)
    with pytest.raises(fw.InputError, match="as the training targets were"):
        fw.train(LINEAR, TRAIN, data(outputs=2), **SHORT)
