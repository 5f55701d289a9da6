"""THEORY.md section 9: every predicted figure of a fully connected network, to the digits shown there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import finitewidth as fw

DATA = Path(__file__).parents[2].parent / "shared" / "data"
FILES = {"mnist": DATA / "mnist_10k.npz", "cifar": DATA / "cifar10_subset.npz"}

pytestmark = pytest.mark.skipif(not all(f.exists() for f in FILES.values()), reason="needs ../shared/data")


def by_the_recipe(name, side, n_train=100, n_test=200, classes=(0, 1), seed=0):
    """The recipe above the table, step by step, without the package's own loaders."""
    with np.load(FILES[name], allow_pickle=False) as file:
        if name == "mnist":
            x, y = file["x"] / 255.0, file["y"]
        else:
            x = np.concatenate([file["x_train"], file["x_test"]]).mean(-1) / 255.0
            y = np.concatenate([file["y_train"], file["y_test"]])
    block = x.shape[1] // side
    chosen = np.isin(y, classes)
    x, y = x[chosen], np.where(y[chosen] == classes[1], 1.0, -1.0)
    x = x.reshape(len(x), side, block, side, block).mean((2, 4)).reshape(len(x), -1)
    order = np.random.default_rng(seed).permutation(len(x))
    train, test = order[:n_train], order[n_train : n_train + n_test]
    mean = x[train].mean(0)
    scale = np.sqrt(np.mean((x[train] - mean) ** 2))
    return fw.Dataset((x[train] - mean) / scale, y[train]), fw.Dataset((x[test] - mean) / scale, y[test])


@pytest.mark.parametrize(
    ("data", "side", "activation", "widths", "closure", "method", "test_error", "train_error"),
    [
        ("mnist", 7, "linear", (50,), None, "integrate", ".0950", ".0477"),
        ("cifar", 16, "erf", (40,), None, "saddle", "1.3093", ".0640"),
        ("cifar", 16, "erf", (40, 40), "product", "saddle", "1.3456", ".0567"),
        ("cifar", 16, "erf", (40, 40), "nested", "saddle", "1.2473", ".0581"),
        ("cifar", 16, "relu", (40, 40), "product", "saddle", "1.298", ".0579"),
        ("cifar", 16, "erf", (40, 40, 40), "product", "saddle", "1.3711", ".0544"),
        ("cifar", 16, "erf", (40, 40, 40), "nested", "saddle", "1.2185", ".0565"),
        ("mnist", 7, "erf", (20,), None, "saddle", ".0474", ".0266"),
    ],
)
def test_predicted_figures(data, side, activation, widths, closure, method, test_error, train_error):
    train, test = by_the_recipe(data, side)
    network = fw.FullyConnected(widths=widths, activation=activation)
    solution = fw.solve(fw.theory_of(network, 0.05, closure, method), train)
    errors = fw.predict(solution, test.x).errors(test.y)
    assert solution.converged
    digits = len(test_error.split(".")[1])
    assert f"{errors.test_error:.{digits}f}".lstrip("0") == test_error
    assert f"{errors.train_error:.4f}".lstrip("0") == train_error


def test_the_recipe_reads_what_it_should():
    ours, _ = by_the_recipe("mnist", 7)
    with np.load(FILES["mnist"], allow_pickle=False) as file:
        x, y = file["x"], file["y"]
    assert x.dtype == np.uint8
    assert ours.x.shape == (100, 49)
    assert set(np.unique(y)) == set(range(10))
    assert np.mean(np.square(ours.x)) == pytest.approx(1.0)
