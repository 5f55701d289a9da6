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
from finitewidth.sampling.engine import Engine  # noqa: E402
from finitewidth.sampling.inputs import Inputs  # noqa: E402
from finitewidth.sampling.posterior import Arrays, Target  # noqa: E402
from finitewidth.sampling.transfer import (  # noqa: E402
    _like,
    _TwoReadouts,
    joint_points,
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
    """As one layer on longer points, the networks have the coupled prior, and the energy is that of both."""
    source, target, test = tasks
    coupled = Joint(NETWORK, 1.5)
    x, at = joint_points(coupled, source, target, test)
    rank = (x.shape[1] - 1) // 2
    assert rank == 40  # the span of all points
    products, tasks_of = x[:, :-1] @ x[:, :-1].T / (2 * rank), x[:, -1].astype(int)
    plain = np.concatenate([source.x, target.x])
    expected = coupled.covariance[np.ix_(tasks_of, tasks_of)] * (plain @ plain.T) / 40
    np.testing.assert_allclose(products, expected, atol=1e-12)
    across = at[:, :-1] @ x[:, :-1].T / (2 * rank)
    np.testing.assert_allclose(across, coupled.covariance[1][tasks_of] * (test.x @ plain.T) / 40, atol=1e-12)

    network = _like(NETWORK, _TwoReadouts, 1.0)
    with single_thread():
        target_of = Target(network, x.shape[1:])
        theta = np.random.default_rng(0).standard_normal(20 * 2 * rank)
        y = np.concatenate([source.y, target.y])
        arrays = Arrays(x, y[:, None], at, np.ones(len(theta)), np.array(T))
        value = float(target_of.potential(theta, arrays))
        phi = np.asarray(target_of.features(target_of.hidden(theta, arrays), x))
    assert phi.shape == (31, 40)
    assert np.abs(phi[:25, 20:]).max() == np.abs(phi[25:, :20]).max() == 0.0
    energy = 0.0
    for task in (0, 1):
        rows, own = tasks_of == task, phi[:, 20 * task : 20 * (task + 1)]
        A = own[rows] @ own[rows].T + T * np.eye(rows.sum())
        energy += 0.5 * (np.linalg.slogdet(A)[1] + y[rows] @ np.linalg.solve(A, y[rows]))
    assert value == pytest.approx(energy, rel=1e-10)


def test_readouts_given_a_layer(tasks, layers):
    """The mean and the overlap of the source's readouts, by the formulas of regression on its features."""
    source, _, test = tasks
    points = np.concatenate([source.x, tasks[1].x, test.x])
    assert layers.layers.shape == (24, 20, 40)
    own = Inputs.of(NETWORK, points).train[: len(source)]
    for layer, z, overlap in zip(layers.layers, layers.readouts, layers.order_parameter, strict=True):
        phi = own @ layer.T / math.sqrt(own.shape[1] * 20)
        precision = phi.T @ phi / T + np.eye(20)
        np.testing.assert_allclose(z, np.linalg.solve(precision, phi.T @ source.y / T), rtol=1e-8, atol=1e-10)
        assert overlap == pytest.approx((z @ z + np.trace(np.linalg.inv(precision))) / 20)


def test_interrupted_and_resumed(tasks, layers, tmp_path, monkeypatch):
    """An interrupted run goes on from its file to the same numbers; a file of another coupling is refused."""
    few = replace(layers, layers=layers.layers[:3], readouts=layers.readouts[:3], order_parameter=np.ones(3))
    coupled, options = SourceFirst(NETWORK, 1.0), {"draws": 10, "warmup": 20}
    file = tmp_path / "run.npz"
    whole = sample_following(coupled, few, **options)
    assert whole.mean.shape == (3, 2, 10, 40)
    with monkeypatch.context() as context:
        original = Engine.run

        def cut(self, progress):
            yield next(original(self, progress))
            raise KeyboardInterrupt

        context.setattr(Engine, "run", cut)
        with pytest.raises(KeyboardInterrupt):
            sample_following(coupled, few, checkpoint=file, **options)
    resumed = sample_following(coupled, few, checkpoint=file, **options)
    np.testing.assert_array_equal(resumed.mean, whole.mean)
    with pytest.raises(InputError, match="another run"):
        sample_following(SourceFirst(NETWORK, 2.0), few, checkpoint=file, **options)
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
