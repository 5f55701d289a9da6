"""What a sampler returns: draws, their errors with standard errors, and an ArviZ data tree."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from finitewidth.checks.exceptions import InputError, needed
from finitewidth.data import TargetEncoding
from finitewidth.data.encoding import NUMBERS
from finitewidth.display import Displayed
from finitewidth.inference.prediction import Errors, Prediction, in_own_units, sign_probability
from finitewidth.sampling.convergence import Diagnosis, diagnose, error_series, standard_error, verdict, watch

if TYPE_CHECKING:
    import xarray

Array = np.ndarray
_BATCHES = 20  # batches a run is cut into for the noise of the mean prediction
_NODES = 40  # Gauss-Hermite nodes for the largest of several outputs


@dataclass(frozen=True)
class SampledErrors(Errors):
    """Errors of a sampled posterior, with Monte-Carlo standard errors (``_se``) and diagnostics.

    r_hat: the largest of test error, train error and energy (NaN for one chain). ess: effective sample size
    of the test error. converged is False unless every R-hat is one that chains of this length have where they agree
    (docs/sampling.md), nothing diverged, and every effective sample size is at least 100, or, where an accuracy was
    asked for, the test error is that well known; ``message`` says what is wrong. ``bias`` is free of the noise of the
    mean prediction.
    """

    test_error_se: float
    train_error_se: float
    bias_se: float
    variance_se: float
    accuracy_se: float | None
    r_hat: float
    ess: float
    divergences: int
    converged: bool
    message: str


@dataclass(frozen=True)
class Observable(Displayed):
    """A quantity averaged over all draws: mean and standard error (from blocks of the run), entry by entry."""

    mean: Array
    standard_error: Array


@dataclass(frozen=True, eq=False)
class Draws(Displayed):
    """Draws from the posterior of a finite network.

    Attributes
    ----------
    mean: E[f(x) | draw] at the test points, (chains, draws, P*) or (chains, draws, P*, D).
    variance: Var[f(x) | draw] of each output, same shape. The collapsed sampler integrates the readouts, so
    a draw
        is one set of hidden weights; Langevin and NUTS draw whole networks, of variance zero.
    train_error: E[(1/P) sum (y - f)^2 | draw], (chains, draws).
    energy: U, (chains, draws), without constants. acceptance: of each step. steps: gradients of each draw.
    diverged: steps whose energy error exploded.
    observables: by name, averaged over all draws: "order_parameter" (Q = lambda_L <v v^T>/N, n D x n D),
        "hidden_kernel" (<phi phi^T>/N of the training points), "weight_covariance" (lambda_0 <w w^T>).
    complete: False where a run was interrupted: the draws so far. wanted: relative standard error asked for.
    settings: the adapted step size and trajectory. attrs: network, data, seed, versions, as text and numbers.
    encoding: of the targets sampled with, in whose terms (standardised, where they were) all numbers here are.
    """

    mean: Array
    variance: Array
    train_error: Array
    energy: Array
    acceptance: Array
    steps: Array
    diverged: Array
    observables: dict[str, Observable]
    settings: dict[str, float]
    complete: bool
    observed: dict[str, Array] = field(default_factory=dict)
    attrs: dict[str, Any] = field(default_factory=dict)
    encoding: TargetEncoding = NUMBERS
    wanted: float | None = None

    @property
    def n_chains(self) -> int:
        """Chains."""
        return self.mean.shape[0]

    @property
    def n_draws(self) -> int:
        """Draws of each chain."""
        return self.mean.shape[1]

    def _facts(self) -> dict[str, Any]:
        sizes = {"chains": self.n_chains, "draws": self.n_draws, "test_points": self.mean.shape[2]}
        run = {"acceptance": float(self.acceptance.mean()), "divergences": int(self.diverged.sum())}
        place = {name: self.attrs.get(name) for name in ("sampler", "temperature", "network")}
        return sizes | place | run | self.settings | {"observables": [*self.observables], "complete": self.complete}

    def prediction(self) -> Prediction:
        """The posterior predictive mean and variance of f: total expectation and total variance over draws."""
        mean = self.mean.mean((0, 1))
        variance = self.variance.mean((0, 1)) + self.mean.var((0, 1))
        return Prediction(mean, variance, float(self.train_error.mean()), encoding=self.encoding)

    def errors(self, y: Any) -> SampledErrors:
        """Errors against targets ``y`` (P*,) or (P*, D), averaged over points and outputs.

        The test error is the average over draws of ``mean_x [(y - mean)^2 + variance]``; bias is the error
        of the mean over all draws, variance the rest. ``y``: as for ``Prediction.errors``, and refused as there.
        """
        y = self.encoding.targets(y, self.mean.shape[2:])
        series = error_series(y, self.mean, self.variance)
        bias, bias_series = self._bias(y)
        test_error = float(series.mean())
        accuracy = self._accuracy_series(y)
        test = diagnose(series)
        watched = {"test error": test, **self._watched}
        converged, message = self._verdict(watched)
        errors = SampledErrors(
            test_error=test_error,
            bias=bias,
            variance=test_error - bias,
            accuracy=None if accuracy is None else float(accuracy.mean()),
            train_error=float(self.train_error.mean()),
            test_error_se=test.standard_error,
            train_error_se=watched["train error"].standard_error,
            bias_se=standard_error(bias_series),
            variance_se=standard_error(series - bias_series),
            accuracy_se=None if accuracy is None else standard_error(accuracy),
            r_hat=_worst([d.r_hat for d in watched.values()]),
            ess=test.ess,
            divergences=int(self.diverged.sum()),
            converged=converged,
            message=message,
        )
        return in_own_units(errors, self.encoding)

    def verdict(self) -> tuple[bool, str]:
        """Whether energy and train error converged, and if not, why and what to do."""
        return self._verdict(self._watched)

    def _verdict(self, watched: dict[str, Diagnosis]) -> tuple[bool, str]:
        draws = self.energy.shape[1]
        converged, message = verdict(watched, int(self.diverged.sum()), draws, self.wanted)
        return (converged, message) if self.complete else (False, f"interrupted after {draws} draws a chain; {message}")

    @property
    def order_parameter(self) -> Array:
        """Q = lambda_L <v v^T>/N, (n D, n D) with index i D + d for patch i and output d; (1, 1) without either."""
        return self.observable("order_parameter").mean

    def observable(self, name: str) -> Observable:
        """A quantity averaged over all draws, by name; InputError where it was not recorded."""
        if name not in self.observables:
            raise InputError(
                f"{name}, which was not recorded",
                "one of " + (", ".join(self.observables) or "none"),
                f"sample with observables=({name!r},)",
            )
        return self.observables[name]

    @cached_property
    def _watched(self) -> dict[str, Diagnosis]:
        return watch({}, {"train_error": self.train_error, "energy": self.energy})

    def _bias(self, y: Array) -> tuple[float, Array]:
        """Squared bias without the noise of the mean over draws, and the series whose mean errs as it does.

        The noise of the mean prediction adds its variance, estimated from batches of draws. To first order
        the bias errs as the mean of ``-2 (y - mean) (mean_t - mean)`` (delta method).
        """
        overall = self.mean.mean((0, 1))
        miss = y - overall
        series = _points_mean(-2.0 * miss * (self.mean - overall))
        return float((miss**2).mean() - self._mean_noise()), series

    def _mean_noise(self) -> float:
        """Variance of the mean prediction, averaged over test points, from batch means."""
        per_chain = max(1, min(_BATCHES // self.n_chains, self.n_draws // 2))
        parts = [part.mean(0) for chain in self.mean for part in np.array_split(chain, per_chain) if len(part) > 0]
        if len(parts) < 2:
            return 0.0
        return float(np.var(parts, axis=0, ddof=1).mean() / len(parts))

    def _accuracy_series(self, y: Array) -> Array | None:
        """Expected accuracy of each draw, (chains, draws); None for regression."""
        if y.ndim == 1:
            if not np.isin(y, (-1.0, 1.0)).all():
                return None
            return _points_mean(sign_probability(y * self.mean, self.variance))
        if not _one_hot(y):
            return None
        return _largest(self.mean, self.variance, y.argmax(1)).mean(-1)

    # --- for ArviZ ------------------------------------------------------------------------------------------

    def to_datatree(self) -> xarray.DataTree:
        """An xarray.DataTree with ArviZ's groups posterior, sample_stats, observed_data and observables."""
        with needed("xarray", "sample", "a data tree of draws"):
            import xarray
        axes = ("chain", "draw", "point", "output")[: self.mean.ndim]
        coords = {"chain": np.arange(self.n_chains), "draw": np.arange(self.n_draws)}
        posterior = {
            "mean": (axes, self.mean),
            "variance": (axes, self.variance),
            "train_error": (axes[:2], self.train_error),
        }
        stats = {
            "lp": (axes[:2], -self.energy),
            "acceptance_rate": (axes[:2], self.acceptance),
            "n_steps": (axes[:2], self.steps),
            "diverging": (axes[:2], self.diverged),
        }
        groups = {
            "posterior": xarray.Dataset(posterior, coords),
            "sample_stats": xarray.Dataset(stats, coords),
            "observed_data": xarray.Dataset({k: (_axes(k, v), v) for k, v in self.observed.items()}),
            "observables": xarray.Dataset(
                {
                    f"{name}{suffix}": (_axes(name, part), part)
                    for name, value in self.observables.items()
                    for suffix, part in (("", value.mean), ("_se", value.standard_error))
                }
            ),
        }
        tree = xarray.DataTree.from_dict(groups)
        tree.attrs = {**self.attrs, **self.settings, "complete": int(self.complete)}
        return tree


def _axes(name: str, values: Array) -> tuple[str, ...]:
    return tuple(f"{name}_dim_{i}" for i in range(values.ndim))


def _points_mean(values: Array) -> Array:
    """Mean over test points and outputs, (chains, draws)."""
    return values.reshape(*values.shape[:2], -1).mean(-1)


def _worst(values: list[float]) -> float:
    return max(values) if not any(map(math.isnan, values)) else math.nan


def _one_hot(y: Array) -> bool:
    """Whether the rows of y (P, D) are e_c - constant, up to scale."""
    levels = np.unique(np.round(y, 12))
    return len(levels) == 2 and bool(((y == y.max(1, keepdims=True)).sum(1) == 1).all())


def _largest(mean: Array, variance: Array, label: Array) -> Array:
    """P(output ``label`` is the largest), (..., P*), for independent Gaussian outputs (..., P*, D)."""
    chosen = np.broadcast_to(label[:, None], (*mean.shape[:-1], 1))
    centre = np.take_along_axis(mean, chosen, -1)
    others = np.arange(mean.shape[-1]) != label[:, None]
    deviation = np.sqrt(variance)
    node, weight = np.polynomial.hermite_e.hermegauss(_NODES)
    total = np.zeros(mean.shape[:-1])
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = (centre - mean) / deviation  # variance 0: plus or minus infinity, or NaN at a tie
    gap = np.where(np.isnan(gap), 0.0, gap)
    for z, w in zip(node, weight / weight.sum(), strict=True):
        total += w * np.where(others, special.ndtr(gap + z), 1.0).prod(-1)
    return total
