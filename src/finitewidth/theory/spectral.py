"""Learning curves of kernel regression from the spectrum of the kernel, averaged over training sets.

Bordelon, Canatar, Pehlevan 2020; Canatar, Bordelon, Pehlevan 2021 (docs/theory.md section 6). With eigenvalues eta_r
of the kernel and power c_r^2 of the target in its modes, P training points, ridge T and label noise s^2:

    k   = T + sum_r k eta_r / (k + P eta_r)                     the effective ridge
    g   = P sum_r eta_r^2 / (k + P eta_r)^2
    E_g = [ sum_r k^2 c_r^2 / (k + P eta_r)^2 + s^2 g ] / (1 - g)

It assumes that the modes of the inputs are Gaussian and independent. The rest of the package averages over networks
on the data given; this averages over the data as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import brentq

from finitewidth import checks, kernels
from finitewidth.checks.exceptions import InputError
from finitewidth.data import Dataset
from finitewidth.display import Displayed, Rows, shortened
from finitewidth.inference.prediction import in_own_units
from finitewidth.linalg import RegularisedGram, Spectrum, arithmetic, memory_cap, require_memory
from finitewidth.networks import Network

if TYPE_CHECKING:
    from rich.console import RenderableType

Array = np.ndarray
ASSUMPTION = (
    "The prediction averages over training sets and assumes that the kernel's modes of the inputs are Gaussian and "
    "independent. On real data it can be off: on MNIST 0/1 up to 13 % low at ridge 0.1, more at smaller ridges. "
    "Compare it with the regression on random subsets."
)


@dataclass(frozen=True)
class SpectralTheory(Displayed):
    """Eigenvalues eta_r (descending) and target power c_r^2 of a kernel, both (modes,); of the pool's distribution."""

    eigenvalues: Array
    power: Array

    @classmethod
    def of(cls, gram: Array, y: Array) -> SpectralTheory:
        """From a pool of M points: eta = eig(K)/M, c_r^2 = (u_r . y)^2/M, averaged over outputs; y (M,) or (M, D)."""
        spectrum, count = Spectrum.of(gram), len(gram)
        rotated = spectrum.rotate(y).reshape(count, -1)
        return cls(spectrum.values[::-1] / count, (rotated[::-1] ** 2).mean(1) / count)

    @property
    def alignment(self) -> Array:
        """Share of the target's power in the leading r + 1 modes (cumulative power), (modes,)."""
        return np.cumsum(self.power) / self.power.sum()

    def effective_ridge(self, n_train: float, ridge: float) -> float:
        """k above. InputError for a ridge of 0 with as many points as modes: the kernel is singular there."""
        eta, P = self.eigenvalues, n_train
        if ridge == 0.0 and np.count_nonzero(eta) <= P:
            raise InputError(
                f"a ridge of 0 with {n_train:g} training points on a kernel of rank {np.count_nonzero(eta)}",
                "a ridge above 0, or fewer points than modes",
                "write ridge=1e-3, for example",
            )
        total = float(eta.sum())

        def imbalance(log_k: float) -> float:  # divided by k: decreasing in k
            k = math.exp(log_k)
            return ridge / k + float((eta / (k + P * eta)).sum()) - 1.0

        high = math.log(ridge + total) + 1e-12
        low = high - 1.0
        while imbalance(low) < 0.0:
            low -= 2.0
        return math.exp(brentq(imbalance, low, high, xtol=1e-14, rtol=1e-14))

    def test_error(self, n_train: float, ridge: float, noise: float = 0.0) -> float:
        """E_g: mean squared error over the distribution, of noiseless targets."""
        k = self.effective_ridge(n_train, ridge)
        shifted = k + n_train * self.eigenvalues
        g = n_train * float(((self.eigenvalues / shifted) ** 2).sum())
        return float(((k / shifted) ** 2 @ self.power + noise * g) / (1.0 - g))

    def learnability(self, n_train: float, ridge: float) -> Array:
        """``P eta_r / (k + P eta_r)``: the share of each mode that P points teach, (modes,)."""
        k = self.effective_ridge(n_train, ridge)
        return n_train * self.eigenvalues / (k + n_train * self.eigenvalues)


@dataclass(frozen=True)
class SpectralRow(Displayed):
    """One training-set size.

    test_error: predicted, averaged over training sets. modes_learned: sum of the learnabilities, the effective number
    of modes. power_learned: share of the target's power in them. sampled_test_error, its standard error
    and deviation (predicted over sampled, less one): kernel regression on random subsets; None without trials.
    """

    n_train: int
    test_error: float
    effective_ridge: float
    modes_learned: float
    power_learned: float
    sampled_test_error: float | None = None
    sampled_test_error_se: float | None = None
    deviation: float | None = None


@dataclass(frozen=True)
class SpectralCurve(Rows[SpectralRow]):
    """Rows in the order of the sizes; ``assumption`` says what the prediction takes for granted."""

    rows: tuple[SpectralRow, ...]
    theory: SpectralTheory
    ridge: float
    noise: float = 0.0
    assumption: str = ASSUMPTION

    def _parts(self, quick: bool) -> Iterator[RenderableType]:
        from finitewidth.display.tables import filled

        columns = ("P", "predicted", "sampled (se)", "deviation", "modes learned")
        rows, left_out = shortened(self.rows)
        cells = []
        for row in rows:
            sampled = ["", ""]
            if row.sampled_test_error is not None and row.deviation is not None:
                error = f"{row.sampled_test_error:.5f} ({row.sampled_test_error_se:.5f})"
                sampled = [error, f"{100 * row.deviation:+.1f} %"]
            cells.append([str(row.n_train), f"{row.test_error:.5f}", *sampled, f"{row.modes_learned:.1f}"])
        yield filled(f"Test error of kernel regression, ridge {self.ridge:g}", columns, cells)
        yield from left_out
        yield self.assumption

    def to_dicts(self) -> list[dict[str, Any]]:
        """Plain data, one mapping a row, each with the assumption."""
        return [asdict(row) | {"ridge": self.ridge, "assumption": self.assumption} for row in self.rows]


def spectral_learning_curve(
    kernel: Network | Callable[[Any], Array] | Array,
    pool: Dataset,
    sizes: Sequence[int],
    ridge: float = 0.1,
    trials: int = 20,
    noise: float = 0.0,
    seed: int = 0,
    memory: str | float | None = None,
) -> SpectralCurve:
    """Predicted test error of kernel regression against the number of training points, beside the regression itself.

    kernel: a network (its NNGP), a function ``kernel(x)`` -> (M, M), or the Gram matrix of the pool, which
        gives any other, ``fw.kernels.ntk(network, pool.x)`` for one. pool: M points that stand for the distribution.
    sizes: training points P < M. ridge: T of the estimator ``k(x) (K + T)^-1 y``.
    trials: random subsets a size on which it is computed, errors being averaged over the whole pool; 0 for none.
    noise: variance of label noise, added to the training labels of the subsets too.

    Source: Bordelon, Canatar, Pehlevan 2020. Raises InputError for sizes that do not fit, for a kernel of another
    shape, and for a ridge of 0 on a singular kernel; MemoryCapError above ``memory`` (bytes, or "8GB").
    """
    checks.instance("pool", pool, Dataset, "write fw.Dataset(x, y)")
    count = pool.n_points
    sizes = [checks.positive_integer("sizes", size) for size in checks.sequence("sizes", sizes)]
    if max(sizes) >= count:
        raise InputError(
            f"{max(sizes)} training points of a pool of {count}", f"fewer than {count}", "give a larger pool"
        )
    ridge, noise = checks.not_negative("ridge", ridge), checks.not_negative("noise", noise)
    if not (checks.scalar(trials) and trials == 0):
        trials = checks.positive_integer("trials", trials)
    require_memory(8.0 * 5 * count**2, f"the spectrum of {count} points", "give a smaller pool", memory_cap(memory))
    gram = _gram(kernel, pool.x, count)
    theory = SpectralTheory.of(gram, pool.y)
    rng = np.random.default_rng(checks.seed("seed", seed))

    def row(size: int) -> SpectralRow:
        predicted, learned = theory.test_error(size, ridge, noise), theory.learnability(size, ridge)
        errors = [_error(gram, pool.y, size, ridge, noise, rng) for _ in range(trials)]
        sampled, se, deviation = None, None, None
        if errors:
            sampled = float(np.mean(errors))
            se = float(np.std(errors, ddof=1) / math.sqrt(trials)) if trials > 1 else math.nan
            deviation = predicted / sampled - 1.0 if sampled > 0.0 else math.nan
        known = float(learned @ theory.power / theory.power.sum())
        effective = theory.effective_ridge(size, ridge)
        found = SpectralRow(size, predicted, effective, float(learned.sum()), known, sampled, se, deviation)
        return in_own_units(found, pool.encoding)

    with arithmetic(count):
        return SpectralCurve(tuple(row(size) for size in sizes), theory, ridge, noise)


def _gram(kernel: Any, x: Array, count: int) -> Array:
    if isinstance(kernel, Network):
        gram = kernels.nngp(kernel, x)
    else:
        gram = checks.real_array("kernel", kernel(x) if callable(kernel) else kernel, (2,))
    if gram.shape != (count, count):
        raise InputError(
            f"a kernel of shape {gram.shape} for a pool of {count} points",
            f"shape {(count, count)}",
            "give the Gram matrix of the pool",
        )
    return gram


def _error(gram: Array, y: Array, size: int, ridge: float, noise: float, rng: np.random.Generator) -> float:
    """Test error over the pool of kernel regression on a random subset."""
    chosen = rng.permutation(len(gram))[:size]
    own = gram[np.ix_(chosen, chosen)]
    if ridge == 0.0 and Spectrum.of(own.copy()).values[0] == 0.0:
        raise InputError(
            f"a ridge of 0 on {size} training points whose kernel is singular",
            "a ridge above 0",
            "write ridge=1e-3, for example, or drop repeated points",
        )
    labels = y[chosen] + math.sqrt(noise) * rng.standard_normal(y[chosen].shape)
    mean = gram[:, chosen] @ RegularisedGram(own, ridge).solve_range(labels)
    return float(np.mean((y - mean) ** 2))
