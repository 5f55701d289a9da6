"""Shift and scale of inputs and targets: a visible, invertible choice, fitted on the training part only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from finitewidth.checks import as_in_training, choice, real_array
from finitewidth.checks.exceptions import InputError
from finitewidth.display import Displayed


@dataclass(frozen=True, eq=False)
class Standardiser(Displayed):
    """z = (x - mean) / scale.

    ``mean`` has the shape of one input. ``scale`` has it too for "feature", and is a number (shape ())
    otherwise.
    """

    kind: str
    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, x: Any, kind: str = "global") -> Standardiser:
        """Fit on training inputs (P, inputs) or (P, height, width[, channels]).

        * "global": subtract the mean of each input, divide all by the root-mean-square of what is left (the
          recipe of docs/theory.md section 9);
        * "feature": each input to mean 0 and variance 1; an input that is constant is centred, with scale 1;
        * "none": mean 0, scale 1.

        Raises InputError for "global" where every input is constant: no scale can be told.
        """
        choice("standardise", kind, ("global", "feature", "none"))
        array = real_array("x", x, (2, 3, 4))
        if kind == "none":
            return cls(kind, np.zeros(array.shape[1:]), np.ones(()))
        mean = _mean(array)
        scale = _root_mean_square(array - mean, None if kind == "global" else 0)
        if not (np.isfinite(mean).all() and np.isfinite(scale).all()):
            raise InputError("x with values too large to average", "values below 1e300", "rescale x first")
        if kind == "feature":
            scale = np.where(scale == 0.0, 1.0, scale)
        elif scale == 0.0:
            raise InputError(
                "x whose every input is constant over the training part",
                "inputs that differ between points",
                "add training points, or use standardise='none'",
            )
        return cls(kind, mean, scale)

    def transform(self, x: Any) -> np.ndarray:
        """Raw inputs to standardised ones, same shape."""
        return (self._checked(x) - self.mean) / self.scale

    def inverse(self, z: Any) -> np.ndarray:
        """Standardised inputs back to raw ones, exact up to rounding."""
        return self._checked(z) * self.scale + self.mean

    def _checked(self, x: Any) -> np.ndarray:
        array = real_array("x", x, (self.mean.ndim + 1,))
        as_in_training("x", array.shape[1:], self.mean.shape)
        return array


@dataclass(frozen=True)
class TargetScaling:
    """z = (y - mean) / scale of numbers y.

    ``mean``: one number an output. ``scale``: one for all outputs, so that errors averaged over them have a unit.
    """

    mean: tuple[float, ...]
    scale: float

    @classmethod
    def fit(cls, y: Any) -> TargetScaling:
        """Mean and standard deviation of training targets (P,) or (P, D).

        With several outputs each is centred, and the scale is the root-mean-square of what is left over all of them.
        Raises InputError where no scale can be told: constant targets, or a variance beyond double precision.
        """
        table = _table(y)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = _mean(table)
            scale = float(np.sqrt(np.mean((table - mean) ** 2)))
        if not 0.0 < scale < np.inf:
            raise InputError(
                f"targets with a standard deviation of {scale:g}",
                "targets that differ between points, of a size that double precision holds",
                "add training points, rescale the targets, or leave them as they are",
            )
        return cls(tuple(mean.tolist()), scale)

    def transform(self, y: Any) -> np.ndarray:
        """Targets in the user's units, (P,) or (P, D), to standardised ones."""
        return ((_table(y) - self.mean) / self.scale).reshape(np.shape(y))

    def fits_better_raw(self, y: np.ndarray) -> bool:
        """Whether most numbers are far likelier in the user's units than standardised, for Gaussian targets."""
        raw = -0.5 * self.transform(y) ** 2 - np.log(self.scale)
        return bool(np.median(raw + 0.5 * y**2) > 1.0)

    def inverse(self, z: Any) -> np.ndarray:
        """Standardised targets or mean predictions back to the user's units."""
        return (_table(z) * self.scale + self.mean).reshape(np.shape(z))


def _mean(x: np.ndarray) -> np.ndarray:
    # A constant input is its own mean exactly; the rounding of a sum would be blown up to variance 1.
    with np.errstate(over="ignore", invalid="ignore"):
        return np.where((x == x[0]).all(axis=0), x[0], x.mean(axis=0))


def _root_mean_square(centred: np.ndarray, axis: int | None) -> np.ndarray:
    # Relative to the peak, so that the squares of tiny or huge values neither vanish nor overflow.
    with np.errstate(over="ignore", invalid="ignore"):
        peak = np.asarray(np.abs(centred).max(axis=axis))
        unit = np.where(peak == 0.0, 1.0, peak)
        return np.asarray(peak * np.sqrt(np.mean((centred / unit) ** 2, axis=axis)))


def _table(y: Any) -> np.ndarray:
    values = real_array("y", y, (1, 2))
    return values.reshape(len(values), -1)
