"""Lazy training: an ensemble of infinitely wide networks under gradient flow stays linear in its parameters.

With ``loss = 1/2 sum_mu (f(x_mu) - y_mu)^2`` and ``d theta / d t = - d loss / d theta``, the outputs at time t are
Gaussian (Jacot et al. 2018; Lee et al. 2019, equations 14-16): with ``A_t = Theta^-1 (1 - exp(-Theta t))``

    mean(x)    = Theta_xX A_t y
    cov(x, x') = K_xx' + Theta_xX A_t K A_t Theta_Xx' - (Theta_xX A_t K_Xx' + its transpose)

K is the NNGP, Theta the NTK of the trained parameters, and the spread is over initialisations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from finitewidth import checks
from finitewidth.checks.exceptions import InputError
from finitewidth.data import Dataset
from finitewidth.display import Displayed, Rows, shortened
from finitewidth.inference.prediction import Errors, Prediction
from finitewidth.kernels import Kernels, StackKernel, from_layers
from finitewidth.linalg import Spectrum, memory_cap, require_memory
from finitewidth.networks import Network

Array = np.ndarray


@dataclass(frozen=True)
class LazyRow(Errors):
    """Errors of the ensemble at one time (learning rate times steps)."""

    time: float


@dataclass(frozen=True)
class LazyCurve(Rows[LazyRow]):
    """Rows in the order of the given times. limit: errors at t -> infinity."""

    rows: tuple[LazyRow, ...]
    limit: Errors

    def _parts(self, quick: bool) -> Iterator[Any]:
        from finitewidth.display.tables import filled, number

        columns = ["time", "train error", "test error", "bias", "variance", "accuracy"]
        columns = columns if self.limit.accuracy is not None else columns[:-1]
        rows, left_out = shortened(self.rows)
        cells = [[number(getattr(row, name.replace(" ", "_"))) for name in columns] for row in rows]
        yield filled("Lazy training, errors against time (learning rate times steps)", columns, cells)
        yield from left_out
        yield f"At the end of training: {self.limit!r}"

    def to_dicts(self) -> list[dict[str, Any]]:
        """Plain data: ``pandas.DataFrame(curve.to_dicts())``."""
        return [asdict(row) for row in self.rows]


@dataclass(frozen=True)
class LazyTraining(Displayed):
    """An ensemble of linearised networks on one training set; one eigendecomposition of Theta serves all times.

    kernel: of the layers of the network whose weights are trained.
    """

    kernel: StackKernel
    train: Dataset
    gram: Kernels
    spectrum: Spectrum

    def _facts(self) -> dict[str, Any]:
        return {"kernel": self.kernel, "train": self.train, "eigenvalues": self.spectrum.values}

    def predict(self, x: Any, time: float = math.inf) -> Prediction:
        """Mean and variance over initialisations at points ``x`` (points, ...) after training for ``time``.

        time: learning rate times steps; 0 is initialisation, ``math.inf`` the end of training.
        ``train_error`` of the result is the ensemble's mean of (1/P) sum (y - f)^2.
        """
        return self._predict(self._points(x), _time(time))

    def covariance(self, x: Any, time: float = math.inf) -> Array:
        """Covariance over initialisations between the points ``x``, (points, points); its diagonal is the variance."""
        points, (gain, _) = self._points(x), self._gain(_time(time))
        through = points.ntk * gain
        mixed = through @ points.rotated_nngp.T
        return self.kernel.nngp(x) + through @ self._rotated_nngp @ through.T - mixed - mixed.T

    def curve(self, test: Dataset, times: Sequence[float] | None = None) -> LazyCurve:
        """Train and test errors against time, and the limit.

        ``times=None``: 25 of them, from before the fastest mode moves to after the slowest has come to rest, at most
        12 decades.
        """
        values = self.spectrum.values[self.spectrum.values > 0.0]
        usual = _usual_times(values) if len(values) else np.zeros(1)  # of a kernel that is zero nothing moves
        checks.instance("test", test, Dataset, "write fw.Dataset(x, y)")
        chosen = usual if times is None else [_time(time) for time in checks.one_or_more("times", times)]
        points = self._points(test.x)
        rows = [LazyRow(**vars(self._predict(points, time).errors(test)), time=float(time)) for time in chosen]
        return LazyCurve(tuple(rows), self._predict(points, math.inf).errors(test))

    def _points(self, x: Any) -> _Points:
        cross = self.kernel.both(x, self.train.x, "weights")
        prior = self.kernel.nngp_diagonal(x)
        return _Points(self.spectrum.project(cross.ntk), cross.nngp @ self.spectrum.vectors, prior)

    def _predict(self, points: _Points, time: float) -> Prediction:
        gain, decay = self._gain(time)
        through = points.ntk * gain  # Theta_xX A_t in the eigenbasis
        mean = through @ self.spectrum.rotate(self.train.y)
        variance = points.prior - 2.0 * np.einsum("pi,pi->p", through, points.rotated_nngp)
        variance += np.einsum("pi,pi->p", through @ self._rotated_nngp, through)
        variance = np.maximum(variance, 0.0)
        if mean.ndim == 2:
            variance = np.broadcast_to(variance[:, None], mean.shape).copy()
        return Prediction(mean, variance, self._train_error(decay), encoding=self.train.encoding)

    @cached_property
    def _rotated_nngp(self) -> Array:
        """U^T K U."""
        return self.spectrum.rotate(self.spectrum.rotate(self.gram.nngp).T)

    def _gain(self, time: float) -> tuple[Array, Array]:
        """``(1 - d) / theta`` and d of every mode, d = exp(-theta t) what is left of it."""
        theta = self.spectrum.values
        moves = theta > 0.0  # what the network cannot express stays as it was
        if math.isinf(time):
            return np.divide(1.0, theta, out=np.zeros_like(theta), where=moves), (~moves).astype(float)
        lost = -np.expm1(-theta * time)
        return np.divide(lost, theta, out=np.full_like(theta, time), where=moves), np.exp(-theta * time)

    def _train_error(self, decay: Array) -> float:
        residual = (self.spectrum.rotate(self.train.y).T * decay).T
        spread = float(decay**2 @ np.diagonal(self._rotated_nngp)) / len(decay)
        return float(np.mean(residual**2)) + spread


@dataclass(frozen=True)
class _Points:
    """Kernels between test and training points: Theta U and K U in the eigenbasis of Theta, and K(x, x)."""

    ntk: Array
    rotated_nngp: Array
    prior: Array


def _usual_times(values: Array) -> Array:
    slowest, fastest = float(values[0]), float(values[-1])
    first = 0.01 / fastest
    return np.geomspace(first, min(10.0 / slowest, 1e12 * first), 25)


def _time(time: Any) -> float:
    if isinstance(time, float) and time == math.inf:
        return time
    try:
        return checks.not_negative("time", time)
    except InputError as error:
        raise InputError(error.given, "a number of at least 0, or math.inf", "give learning rate times steps") from None


def lazy_training(network: Network, train: Dataset, memory: str | float | None = None) -> LazyTraining:
    """Gradient flow of infinitely wide networks on ``train``, from their initial distribution (Lee et al. 2019).

    Several outputs are independent. Raises MemoryCapError above ``memory`` (bytes, or "8GB").
    """
    checks.instance("network", network, Network, "write fw.FullyConnected(widths=100), for example")
    checks.instance("train", train, Dataset, "write fw.Dataset(x, y)")
    count = train.n_points
    require_memory(
        8.0 * 6 * count**2,
        f"lazy training on {count} points",
        "use fewer training points, or raise the memory",
        memory_cap(memory),
    )
    kernel = from_layers(network)
    gram = kernel.both(train.x, parameters="weights")
    return LazyTraining(kernel, train, gram, Spectrum.of(gram.ntk))
