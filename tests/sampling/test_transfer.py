"""Coupled networks as sampled: against their definition, the theory, and themselves resumed."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

jax = pytest.importorskip("jax")

from finitewidth import FullyConnected, InputError  # noqa: E402
from finitewidth.data import Dataset  # noqa: E402
from finitewidth.networks.coupled import Joint, SourceFirst  # noqa: E402
from finitewidth.runs.jax_runs import single_thread  # noqa: E402
from finitewidth.sampling import Sample  # noqa: E402
from finitewidth.sampling import transfer as sampled_transfer  # noqa: E402
from finitewidth.sampling.engine import Engine  # noqa: E402
from finitewidth.sampling.transfer import (  # noqa: E402
    JointRun,
    Points,
    sample_following,
    sample_joint,
    sample_source,
)
from finitewidth.theory.transfer import transfer  # noqa: E402

T = 0.1
NETWORK = FullyConnected(widths=20, activation="linear")


@cache
def three_tasks():
    """(source, target, test) of one linear teacher; more inputs than training points."""
    generator = np.random.default_rng(0)
    teacher = generator.standard_normal(40)

    def data(count: int) -> Dataset:
        x = generator.standard_normal((count, 40))
        return Dataset(x, 2.0 * x @ teacher / math.sqrt(40) + 0.1 * generator.standard_normal(count), classes=())

    return data(25), data(6), data(40)


@cache
def source_layers():
    return sample_source(NETWORK, *three_tasks(), T, sources=24, warmup=100)


@pytest.fixture
def tasks():
    return three_tasks()


@pytest.fixture
def layers():
    return source_layers()


def away(found, value, error):
    """In standard errors."""
    return abs(found - value) / error


@pytest.mark.statistical
def test_joint_near_the_theory():
    """Linear features are Gaussian: 2 % covers O(1/N). The negative controls are no coupling, and no correlation."""
    source, target, test = tasks = three_tasks()
    coupled = Joint(NETWORK, 1.5)
    draws = sample_joint(coupled, *tasks, T, draws=250, warmup=100)
    found, errors = draws.errors(test.y), transfer(coupled, source, target, T).predict(test.x).errors(test.y)
    for name in ("test_error", "bias", "train_error"):
        value, error = getattr(found, name), getattr(found, f"{name}_se")
        assert abs(value - getattr(errors, name)) < 4 * error + 0.02 * value
    q, order = draws.observable("order_parameter"), transfer(coupled, source, target, T).order_parameters
    expected = np.array([[order["source"], order["cross"]], [order["cross"], order["target"]]])
    assert (np.abs(q.mean - expected) < 4 * q.standard_error + 0.02).all()
    alone = transfer(Joint(NETWORK, 0.0), source, target, T).predict(test.x).errors(test.y)
    assert away(alone.test_error, found.test_error, found.test_error_se) > 6
    assert q.mean[0, 1] > 6 * q.standard_error[0, 1] + 0.02


@pytest.mark.statistical
def test_source_first_near_the_theory():
    """As above; and R-hat is that of chains that follow one layer, which different layers do not spoil."""
    source, target, test = three_tasks()
    coupled = SourceFirst(NETWORK, 10.0)
    draws = sample_following(coupled, source_layers(), draws=30, warmup=100)
    solution = transfer(coupled, source, target, T)
    found, errors = draws.errors(test.y), solution.predict(test.x).errors(test.y)
    for name in ("test_error", "bias", "train_error"):
        value, error = getattr(found, name), getattr(found, f"{name}_se")
        assert abs(value - getattr(errors, name)) < 4 * error + 0.02 * value
    for name, value in solution.order_parameters.items():
        mean, error = draws.order_parameter(name)
        assert abs(mean - value) < 4 * error + 0.02
    alone = transfer(SourceFirst(NETWORK, 0.0), source, target, T).predict(test.x).errors(test.y)
    assert away(alone.test_error, found.test_error, found.test_error_se) > 6
    assert found.r_hat < 1.1


def test_energy_and_prior_of_both_layers(tasks):
    """The joint potential is that of two collapsed networks, and whitened draws have the coupled prior."""
    source, target, test = tasks
    coupled = Joint(NETWORK, 1.5)
    run = JointRun(
        settings=Sample(), network=NETWORK, train=target, test=test, temperature=T, coupled=coupled, source=source
    )
    engine = run.engine
    joint, arrays = engine.sampler.target, engine.arrays
    with single_thread():
        theta = np.random.default_rng(0).standard_normal(arrays.scale.shape)
        layers = [np.asarray(w) for w in joint.hidden(theta, arrays)["layers"]]
        value = float(joint.potential(theta, arrays))
        phi = np.asarray(joint.features(joint.hidden(theta, arrays), arrays.train))
    rank = layers[0].shape[1]
    assert rank == 31  # the span of all training points, of 40 inputs
    moments = np.array([[np.mean(a * b) for b in layers] for a in layers])
    np.testing.assert_allclose(moments, coupled.covariance, atol=0.5)
    assert abs(moments[0, 1] - coupled.covariance[0, 1]) < 0.3
    expected = 0.0
    for x, y, w in zip(arrays.train, (source.y, target.y), layers, strict=True):
        features = x @ w.T / math.sqrt(rank * 20)
        A = features @ features.T + T * np.eye(len(y))
        expected += 0.5 * (np.linalg.slogdet(A)[1] + y @ np.linalg.solve(A, y))
    assert value == pytest.approx(expected, rel=1e-10)
    assert phi.shape == (31, 40)
    assert np.abs(phi[:25, 20:]).max() == np.abs(phi[25:, :20]).max() == 0.0


def test_points_keep_their_products(tasks):
    """Rotated, and padded as test points, the target's points give the same preactivations."""
    points = Points.of(NETWORK, *tasks)
    padded, full = points.padded(points.target), points.test.shape[1]
    np.testing.assert_allclose(padded @ points.test.T / full, tasks[1].x @ tasks[2].x.T / 40, atol=1e-12)
    np.testing.assert_allclose(points.source @ points.target.T / 31, tasks[0].x @ tasks[1].x.T / 40, atol=1e-12)


def test_interrupted_and_resumed(tasks, layers, tmp_path, monkeypatch):
    """After an interrupt the layers that are done are not followed again, and the numbers are the same."""
    few = replace(layers, layers=layers.layers[:3], readouts=layers.readouts[:3], order_parameter=np.ones(3))
    coupled, options = SourceFirst(NETWORK, 1.0), {"draws": 10, "warmup": 20}
    whole = sample_following(coupled, few, **options)
    carry_out, done = sampled_transfer.carry_out, []

    def cut(run, checkpoint):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(checkpoint)
        return carry_out(run, checkpoint)

    with monkeypatch.context() as context:
        context.setattr(sampled_transfer, "carry_out", cut)
        with pytest.raises(KeyboardInterrupt):
            sample_following(coupled, few, checkpoint=tmp_path, **options)
    resumed = sample_following(coupled, few, checkpoint=tmp_path, **options)
    assert len(list(tmp_path.glob("*.npz"))) == 3
    np.testing.assert_array_equal(resumed.mean, whole.mean)
    with pytest.raises(InputError, match="another run"):
        sample_following(SourceFirst(NETWORK, 2.0), few, checkpoint=tmp_path, **options)
    other = sample_following(coupled, few, seed=1, **options)
    assert not np.array_equal(other.mean, whole.mean)


def test_layers_of_the_source_are_resumed(tasks, tmp_path, monkeypatch):
    """An interrupted run leaves no layers, and goes on to those of one that was not."""
    options = {"sources": 4, "chains": 2, "warmup": 20}
    whole = sample_source(NETWORK, *tasks, T, **options)
    with monkeypatch.context() as context:
        original = Engine.run

        def cut(self, progress):
            for state in original(self, progress):
                yield state
                if state.positions:
                    raise KeyboardInterrupt

        context.setattr(Engine, "run", cut)
        with pytest.raises(KeyboardInterrupt):
            sample_source(NETWORK, *tasks, T, checkpoint=tmp_path / "run.npz", **options)
    resumed = sample_source(NETWORK, *tasks, T, checkpoint=tmp_path / "run.npz", **options)
    np.testing.assert_array_equal(resumed.layers, whole.layers)
    np.testing.assert_array_equal(resumed.readouts, whole.readouts)


def test_bad_input(tasks, layers):
    source, target, test = tasks
    with pytest.raises(InputError, match="at least two layers"):
        sample_source(NETWORK, *tasks, T, sources=1)
    with pytest.raises(InputError, match="layers of"):
        sample_following(SourceFirst(FullyConnected(widths=3), 1.0), layers)
    narrow = Dataset(test.x[:, :5], test.y, classes=())
    with pytest.raises(InputError, match="test points of 5 inputs"):
        sample_joint(Joint(NETWORK, 1.0), source, target, narrow, T)
