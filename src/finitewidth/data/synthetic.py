"""A teacher: data whose law is known, from an explicit seed."""

from __future__ import annotations

import math

import numpy as np

from finitewidth.checks import not_negative, positive_integer
from finitewidth.data.dataset import Dataset, generator
from finitewidth.data.files import MAX_BYTES, TrainTest, refuse_above

CALIBRATION_POINTS = 10_000


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
    and variance 1 (to about one per cent) without noise. ``activation``: one of ``fw.activations.names()``; a
    "linear" teacher is linear. Teacher, training part and test part have random streams of their own: the teacher and
    the test set stay the same when ``n_train`` changes, and a smaller training set is the beginning of a larger one.

    Raises InputError for values that cannot be, MemoryCapError where there are too many numbers to draw.
    """
    from finitewidth.activations import activation_of  # SciPy doubles the time of the import

    counts = positive_integer("n_train", n_train), positive_integer("n_test", n_test)
    hidden, inputs = positive_integer("width", width), positive_integer("n_inputs", n_inputs)
    points = max(1000, *counts)
    refuse_above(8.0 * points * inputs, MAX_BYTES, f"{points:.3g} points of {inputs:.3g} inputs")
    refuse_above(8.0 * hidden * (inputs + 1000), MAX_BYTES, f"a teacher of width {hidden:.3g}")
    phi, level = activation_of(activation), not_negative("noise", noise)
    rng, *streams = generator(seed).spawn(5)
    first, last = rng.standard_normal((hidden, inputs)), rng.standard_normal(hidden)

    def network(x: np.ndarray) -> np.ndarray:
        return phi(x @ first.T / math.sqrt(inputs)) @ last / math.sqrt(hidden)

    blocks = [network(rng.standard_normal((1000, inputs))) for _ in range(CALIBRATION_POINTS // 1000)]
    mean, scale = np.mean(blocks), np.std(blocks)

    def part(count: int, at: np.random.Generator, noises: np.random.Generator) -> Dataset:
        x = at.standard_normal((count, inputs))
        return Dataset(x, (network(x) - mean) / scale + level * noises.standard_normal(count), classes=())

    return part(counts[0], *streams[:2]), part(counts[1], *streams[2:])
