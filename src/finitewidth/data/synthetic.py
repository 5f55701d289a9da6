"""Teachers: data whose law is known, each from an explicit seed.

Teacher, training part and test part have random streams of their own: the teacher and the test set stay the
same when ``n_train`` changes, and a smaller training set is the beginning of a larger one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from finitewidth.checks import not_negative, positive_integer
from finitewidth.data.dataset import Dataset, generator
from finitewidth.data.files import MAX_BYTES, TrainTest, refuse_above

Function = Callable[[np.ndarray], np.ndarray]
CALIBRATION_POINTS = 10_000


def linear_teacher(n_train: int, n_test: int, n_inputs: int, noise: float = 0.0, seed: int = 0) -> TrainTest:
    """y = w·x / |w| + noise · e with x, w, e standard normal: without noise, y is standard normal.

    ``noise`` is the standard deviation of the noise, in training and test targets alike.
    """
    weights = _streams(seed)[0].standard_normal(_inputs(n_inputs, n_train, n_test))
    weights /= np.linalg.norm(weights)
    return _regression(lambda x: x @ weights, n_train, n_test, n_inputs, noise, seed)


def one_hidden_layer_teacher(
    n_train: int,
    n_test: int,
    n_inputs: int,
    width: int,
    activation: str = "erf",
    noise: float = 0.0,
    seed: int = 0,
) -> TrainTest:
    """y = (g(x) - m) / s + noise · e with g(x) = sum_a v_a phi(w_a·x / sqrt(N0)) / sqrt(width); x, v, w, e
    standard normal.

    m and s are the mean and the standard deviation of g over 10,000 inputs of their own, so that y has mean 0
    and variance 1 (to about one per cent) without noise. ``activation``: one of ``fw.activations.names()``.
    """
    from finitewidth.activations import activation_of  # SciPy doubles the time of the import

    shape = (positive_integer("width", width), _inputs(n_inputs, n_train, n_test))
    refuse_above(8.0 * (shape[0] * shape[1] + 1000 * shape[0]), MAX_BYTES, f"a teacher of width {shape[0]:.3g}")
    phi = activation_of(activation)
    rng = _streams(seed)[0]
    first, last = rng.standard_normal(shape), rng.standard_normal(shape[0])

    def network(x: np.ndarray) -> np.ndarray:
        return phi(x @ first.T / math.sqrt(shape[1])) @ last / math.sqrt(shape[0])

    blocks = [network(rng.standard_normal((1000, shape[1]))) for _ in range(CALIBRATION_POINTS // 1000)]
    mean, scale = np.mean(blocks), np.std(blocks)
    return _regression(lambda x: (network(x) - mean) / scale, n_train, n_test, n_inputs, noise, seed)


def random_labels(n_train: int, n_test: int, n_inputs: int, seed: int = 0) -> TrainTest:
    """x standard normal, y = -1 or +1 with probability 1/2 each, independent of x: nothing can be learned."""

    def draw(rng: np.random.Generator, labels: np.random.Generator, count: int) -> Dataset:
        return Dataset(rng.standard_normal((count, size)), labels.choice((-1, 1), count), classes=(-1, 1))

    size = _inputs(n_inputs, n_train, n_test)
    return _both(draw, n_train, n_test, seed)


def _regression(f: Function, n_train: int, n_test: int, n_inputs: int, noise: float, seed: int) -> TrainTest:
    size, level = _inputs(n_inputs, n_train, n_test), not_negative("noise", noise)

    def draw(rng: np.random.Generator, noises: np.random.Generator, count: int) -> Dataset:
        x = rng.standard_normal((count, size))
        return Dataset(x, f(x) + level * noises.standard_normal(count), classes=())

    return _both(draw, n_train, n_test, seed)


def _both(draw: Callable[..., Dataset], n_train: int, n_test: int, seed: int) -> TrainTest:
    streams = _streams(seed)
    train = draw(*streams[1:3], positive_integer("n_train", n_train))
    return train, draw(*streams[3:5], positive_integer("n_test", n_test))


def _inputs(n_inputs: int, n_train: int, n_test: int) -> int:
    """Inputs of a point; raises MemoryCapError where there are too many numbers to draw."""
    size = positive_integer("n_inputs", n_inputs)
    points = max(1000, *(positive_integer(name, n) for name, n in (("n_train", n_train), ("n_test", n_test))))
    refuse_above(8.0 * points * size, MAX_BYTES, f"{points:.3g} points of {size:.3g} inputs")
    return size


def _streams(seed: int) -> list[np.random.Generator]:
    """Independent streams: the teacher, the training inputs and targets, the test inputs and targets."""
    return generator(seed).spawn(5)
