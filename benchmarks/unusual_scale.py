"""Where a prediction is useless: data of another size than the prior expects, and order parameters beyond calibration.

``python benchmarks/unusual_scale.py`` prints the two tables of docs/validity.md (3 and 10 minutes of one processor).
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator

import numpy as np
from cases import gaussian
from sklearn.datasets import load_diabetes

import finitewidth as fw
from finitewidth.theory import validated, validity

SIZES = (1e-3, 0.01, 0.03, 0.1, 0.3, 3.0, 10.0, 30.0, 100.0, 1e3)
Parts = tuple[fw.Dataset, fw.Dataset]


def diabetes(n_train: int, n_test: int) -> Parts:
    raw = fw.Dataset(*load_diabetes(return_X_y=True, scaled=False), classes=())
    train, test, _ = fw.data.standardise(
        *fw.data.standardise_target(*fw.data.split(raw, n_train, n_test, 0)), "feature"
    )
    return train, test


def scaled(parts: Parts, inputs: float = 1.0, targets: float = 1.0) -> Parts:
    """With mean squares so many times as large; errors in units of the new targets."""
    first, second = (fw.Dataset(np.sqrt(inputs) * p.x, np.sqrt(targets) * p.y, classes=()) for p in parts)
    return first, second


def relative_error(parts: Parts, activation: str, temperature: float) -> float:
    """Test error in units of the mean square of the training targets."""
    network = fw.FullyConnected(widths=(100,), activation=activation)
    row = fw.learning_curve(network, *parts, temperature=temperature)[0]
    return float(row.test_error / np.mean(parts[0].y ** 2))


def sizes() -> None:
    sets = {
        "digits 3/8": fw.data.digits(classes=(3, 8), n_train=200, n_test=150),
        "digits": fw.data.digits(n_train=200, n_test=300),
        "diabetes": diabetes(200, 242),
        "teacher": fw.data.one_hidden_layer_teacher(200, 300, 20, 50, noise=0.2, seed=1),
    }
    print("| mean square | " + " | ".join(f"{size:g}" for size in SIZES) + " |")
    settings = list(itertools.product(map(scaled, sets.values()), ("erf", "relu"), (0.05, 0.3)))
    usual = np.array([relative_error(*setting) for setting in settings])
    for what in ("inputs", "targets"):
        cells = []
        for size in SIZES:
            found = [relative_error(scaled(parts, **{what: size}), *how) for parts, *how in settings]
            cells.append(f"{min(found / usual):.1f}–{max(found / usual):.1f}")
        print(f"| {what} | " + " | ".join(cells) + " |", flush=True)


def large_q() -> Iterator[tuple[str, Parts, int, float, str]]:
    ours, digits = diabetes(100, 100), fw.data.digits(classes=(3, 8), n_train=100, n_test=100)
    noise = gaussian(100, 100, 20, random_labels=True, seed=3)
    yield "diabetes", scaled(ours), 40, 0.05, "erf"
    yield "diabetes, y times 3", scaled(ours, targets=9.0), 40, 0.3, "relu"
    yield "digits 3/8, y times 3", scaled(digits, targets=9.0), 40, 0.05, "erf"
    yield "noise", noise, 20, 0.05, "erf"
    yield "digits 3/8, y times 5", scaled(digits, targets=25.0), 40, 0.05, "erf"
    yield "diabetes", scaled(ours), 10, 0.05, "erf"
    yield "noise", noise, 10, 0.01, "erf"


def order_parameters() -> None:
    validated._MOST_Q = np.inf  # what the estimate would say
    print("| case | N | T | Q | predicted | sampled | off by | expected |")
    for name, (train, test), width, temperature, activation in large_q():
        network = fw.FullyConnected(widths=(width,), activation=activation)
        solution = fw.solve(fw.theory_of(network, temperature), train)
        predicted = fw.predict(solution, test.x).errors(test.y).test_error
        draws = fw.sample(network, train, test, temperature, chains=2, draws=400, warmup=300, seed=1)
        sampled, expected = draws.errors(test.y), validity.validity(solution).expected_relative_error
        print(
            f"| {name}, {activation} | {width} | {temperature} | {solution.order_parameters[0]:.1f} | {predicted:.3f} "
            f"| {sampled.test_error:.3f} ± {sampled.test_error_se:.3f} "
            f"| {100 * (predicted / sampled.test_error - 1):+.0f} % | {100 * expected:.0f} % |",
            flush=True,
        )


if __name__ == "__main__":
    warnings.simplefilter("ignore", fw.ScaleWarning)
    sizes()
    order_parameters()
