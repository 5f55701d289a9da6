"""The cases that theory is held to: data sets, networks and temperatures, fixed before any of them was looked at.

The first ten are those of THEORY.md section 9. Cases named mnist or cifar need a folder with ``mnist_10k.npz`` and
``cifar10_subset.npz``; the others need nothing but scikit-learn.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import finitewidth as fw
from finitewidth.inference.methods import Problem
from finitewidth.networks import Network
from finitewidth.sampling import SampledRow


@dataclass(frozen=True)
class Case:
    """data: "mnist-7" (averaged to 7 x 7), "cifar-16", "digits", "teacher", "noise" or "diabetes".

    quoted: sampled test error of THEORY.md section 9 and its standard error.
    """

    data: str
    network: Network
    temperature: float = 0.05
    n_train: int = 100
    n_test: int = 200
    classes: tuple[int, ...] = (0, 1)
    method: str = "saddle"
    draws: int = field(default=500, compare=False)
    quoted: tuple[float, float] | None = field(default=None, compare=False)

    @property
    def closures(self) -> tuple[str | None, ...]:
        """What the theory can be asked for."""
        deep = self.network.depth > 1 and not self.network.phi.homogeneous and self.n_outputs == 1
        return ("nested", "product") if deep else (None,)

    @property
    def n_outputs(self) -> int:
        """D."""
        return len(self.classes) if len(self.classes) > 2 else 1

    @property
    def data_and_classes(self) -> str:
        """Data set and classes."""
        named = self.data.split("-")[0] in ("mnist", "cifar", "digits")
        return f"{self.data} {'/'.join(map(str, self.classes))}" if named else self.data

    @property
    def architecture(self) -> str:
        """FC 40-40 relu, CNN 8/4 40 erf, ..."""
        network = self.network
        widths = "-".join(map(str, network.widths))
        kind = "FC"
        if isinstance(network, (fw.Convolutional, fw.LocallyConnected)):
            kind = "CNN" if isinstance(network, fw.Convolutional) else "LCN"
            patch, stride = (size[0] if isinstance(size, tuple) else size for size in (network.patch, network.stride))
            kind += f" {patch}/{stride}" + (" pooled" if network.pool == "average" else "")
        precision = network.weight_precision
        told = "" if set(precision) == {1.0} else f", λ = {', '.join(f'{p:g}' for p in precision)}"
        return f"{kind} {widths} {network.phi.name}{told}"

    def __str__(self) -> str:
        return f"{self.data_and_classes}, P {self.n_train}, {self.architecture}, T {self.temperature:g}, {self.method}"


def fully(*widths: int, activation: str = "erf", precision: float | tuple[float, ...] = 1.0) -> fw.FullyConnected:
    return fw.FullyConnected(widths=widths, activation=activation, weight_precision=precision)


def convolutional(channels: int, patch: int, stride: int | None = None, **options: object) -> fw.Convolutional:
    return fw.Convolutional(channels=channels, patch=patch, stride=stride or patch, **options)


def locally(channels: int, patch: int, **options: object) -> fw.LocallyConnected:
    return fw.LocallyConnected(channels=channels, patch=patch, **options)


REFERENCE = (
    Case("mnist-7", fully(50, activation="linear"), method="integrate", quoted=(0.0950, 0.0003)),
    Case("cifar-16", fully(40), quoted=(1.301, 0.004)),
    Case("cifar-16", fully(40, 40), quoted=(1.198, 0.004)),
    Case("cifar-16", fully(40, 40, activation="relu"), quoted=(1.359, 0.012)),
    Case("cifar-16", fully(40, 40, 40), quoted=(1.188, 0.003)),
    Case("cifar-16", convolutional(40, 8), quoted=(1.213, 0.004)),
    Case("cifar-16", locally(40, 8), quoted=(1.210, 0.005)),
    Case("cifar-16", convolutional(40, 8, 4), quoted=(1.164, 0.003)),
    Case("mnist-14", convolutional(40, 7), quoted=(0.0797, 0.0002)),
    Case("mnist-7", fully(20), quoted=(0.0243, 0.0003)),
)
MORE = (
    Case("mnist-7", fully(100)),
    Case("mnist-7", fully(50, activation="relu")),
    Case("mnist-7", fully(50, activation="tanh"), temperature=0.2),
    Case("mnist-7", fully(40, 40)),
    Case("mnist-14", fully(40)),
    Case("mnist-14", fully(60, 60, activation="relu"), classes=(4, 9)),
    Case("mnist-14", fully(80), classes=(3, 8), n_train=200),
    Case("mnist-14", locally(40, 7)),
    Case("mnist-14", convolutional(40, 7, pool="average")),
    Case("mnist-14", convolutional(40, 7, activation="relu"), classes=(3, 8)),
    Case("cifar-8", fully(50), n_train=150),
    Case("cifar-16", fully(400)),
    Case("cifar-16", fully(40, activation="linear"), method="integrate"),
    Case("cifar-16", fully(40, activation="relu"), temperature=0.3),
    Case("cifar-16", fully(40, precision=(2.0, 0.5)), temperature=0.2),
    Case("cifar-16", fully(200, 200), temperature=0.01),
    Case("cifar-16", convolutional(20, 8, activation="relu")),
    Case("digits", fully(30), classes=(6, 9), temperature=0.01),
    Case("digits", fully(30, activation="relu"), classes=(6, 9), temperature=0.01),
    Case("digits", fully(200), classes=(6, 9), temperature=0.01),
    Case("digits", fully(50), classes=(3, 8), temperature=0.5),
    Case("digits", fully(50, 50), classes=(3, 8), temperature=0.1),
    Case("digits", fully(50, 50, 50, activation="relu"), classes=(3, 8), temperature=0.1),
    Case("digits", fully(60, activation="relu"), classes=(0, 1, 2), temperature=0.1),
    Case("digits", fully(60), classes=(0, 1, 2), temperature=0.1),
    Case("teacher", fully(50), n_train=150),
    Case("teacher", fully(50, 50), n_train=150),
    Case("noise", fully(50)),
    Case("diabetes", fully(40), temperature=0.3, n_train=150),
    Case("diabetes", fully(40, activation="tanh", precision=(0.5, 2.0)), temperature=0.3, n_train=60),
)
CASES = REFERENCE + MORE


LONGEST = 8  # times the draws of a case, before it is given up as not converged


def sampled(case: Case, train: fw.Dataset, test: fw.Dataset) -> SampledRow:
    """The network itself, with more draws until its chains have converged."""
    draws = case.draws
    while True:
        started = time.perf_counter()
        problem = Problem(case.network, fw.Gaussian(case.temperature))
        (solution,) = fw.Sample(draws=draws).solutions([problem], train, test)
        row = solution.row(test, time.perf_counter() - started)
        if row.converged or draws >= LONGEST * case.draws:
            return row
        draws *= 2


def load(case: Case, folder: Path) -> tuple[fw.Dataset, fw.Dataset]:
    """Training and test part of a case."""
    name, _, side = case.data.partition("-")
    if name == "digits":
        return fw.data.digits(classes=case.classes, n_train=case.n_train, n_test=case.n_test)
    if name == "teacher":
        return gaussian(case.n_train, case.n_test, 100)
    if name == "noise":
        return gaussian(case.n_train, case.n_test, 50, random_labels=True)
    if name == "diabetes":
        return diabetes(case.n_train, case.n_test)
    return recipe(folder, name, int(side), case.n_train, case.n_test, case.classes)


def gaussian(
    n_train: int, n_test: int, n_inputs: int, random_labels: bool = False, seed: int = 0
) -> tuple[fw.Dataset, fw.Dataset]:
    """Gaussian inputs; their product with a random direction as target, or random signs."""
    rng, *streams = np.random.default_rng(seed).spawn(5)
    direction = rng.standard_normal(n_inputs)
    direction /= np.linalg.norm(direction)

    def part(count: int, at: np.random.Generator, labels: np.random.Generator) -> fw.Dataset:
        x = at.standard_normal((count, n_inputs))
        return fw.Dataset(x, labels.choice((-1, 1), count)) if random_labels else fw.Dataset(x, x @ direction)

    return part(n_train, *streams[:2]), part(n_test, *streams[2:])


def recipe(
    folder: Path, name: str, side: int, n_train: int = 100, n_test: int = 200, classes: tuple[int, ...] = (0, 1)
) -> tuple[fw.Dataset, fw.Dataset]:
    """The split and the standardisation of docs/theory.md section 0, seed 0."""
    x, y = images_of(folder, name)
    kept = np.isin(y, classes)
    pool = fw.Dataset(fw.data.block_average(x[kept], side), y[kept].astype(int), classes=classes)
    train, test = fw.data.split(pool, n_train, n_test, seed=0)
    train, test, _ = fw.data.standardise(train, test, "global")
    return train, test


def images_of(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Grey images in [0, 1] and labels."""
    if name == "mnist":
        held = np.load(folder / "mnist_10k.npz", allow_pickle=False)
        return held["x"] / 255.0, held["y"]
    held = np.load(folder / "cifar10_subset.npz", allow_pickle=False)
    x = np.concatenate([held["x_train"], held["x_test"]]).mean(-1) / 255.0
    return x, np.concatenate([held["y_train"], held["y_test"]])


def diabetes(n_train: int, n_test: int) -> tuple[fw.Dataset, fw.Dataset]:
    """scikit-learn's diabetes study: ten inputs, disease progression scaled to mean 0 and variance 1."""
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    pool = fw.Dataset(x, (y - y.mean()) / y.std(), classes=())
    train, test = fw.data.split(pool, n_train, n_test, seed=0)
    train, test, _ = fw.data.standardise(train, test, "feature")
    return train, test
