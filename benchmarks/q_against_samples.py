"""Order parameters of local networks beside those of sampled networks: ``Q_ij = lambda_1 <v_i . v_j> / N``.

``python benchmarks/q_against_samples.py FOLDER``, a folder with ``mnist_10k.npz`` and ``cifar10_subset.npz``; recipe of
docs/theory.md section 0, classes 0 and 1, 100 training and 200 test points, T = 0.05. Prints a table; takes minutes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import finitewidth as fw

CASES = (
    ("CIFAR side 16, CNN 8x8/8", "cifar", 16, fw.Convolutional(channels=40, patch=8)),
    ("CIFAR side 16, CNN 8x8/4", "cifar", 16, fw.Convolutional(channels=40, patch=8, stride=4)),
    ("CIFAR side 16, LCN 8x8/8", "cifar", 16, fw.LocallyConnected(channels=40, patch=8)),
    ("MNIST side 14, CNN 7x7/7", "mnist", 14, fw.Convolutional(channels=40, patch=7)),
)


def images_of(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Grey images in [0, 1] and labels."""
    if name == "mnist":
        held = np.load(folder / "mnist_10k.npz", allow_pickle=False)
        return held["x"] / 255.0, held["y"]
    held = np.load(folder / "cifar10_subset.npz", allow_pickle=False)
    x = np.concatenate([held["x_train"], held["x_test"]]).mean(-1) / 255.0
    return x, np.concatenate([held["y_train"], held["y_test"]])


def recipe(folder: Path, name: str, side: int) -> tuple[fw.Dataset, fw.Dataset]:
    """The split and the standardisation of the reference cases."""
    x, y = images_of(folder, name)
    kept = y < 2
    pool = fw.Dataset(fw.data.block_average(x[kept], side), y[kept].astype(int), classes=(0, 1))
    train, test = fw.data.split(pool, 100, 200, seed=0)
    train, test, _ = fw.data.standardise(train, test, "global")
    return train, test


def main(folder: Path) -> None:
    """One row a case."""
    print(
        "| case | test error, theory | sampled | R-hat | largest and mean difference of Q, share of its mean diagonal |"
    )
    print("|---|---|---|---|---|")
    for name, data, side, network in CASES:
        train, test = recipe(folder, data, side)
        solution = fw.solve(fw.theory_of(network, temperature=0.05), train)
        predicted = fw.predict(solution, test.x).errors(test.y)
        draws = fw.sample(network, train, test, temperature=0.05, chains=4, draws=800, seed=0)
        sampled, q = draws.errors(test.y), solution.q_map().square
        difference = np.abs(np.reshape(draws.order_parameter, q.shape) - q) / np.diag(q).mean()
        if isinstance(network, fw.LocallyConnected):
            difference = np.diag(difference)
        print(
            f"| {name} | {predicted.test_error:.4f} | {sampled.test_error:.4f} ± {sampled.test_error_se:.4f} "
            f"| {sampled.r_hat:.3f} | {difference.max():.3f}, {difference.mean():.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
