"""Shift and scale of inputs and targets: a visible, invertible choice, fitted on the training part only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from finitewidth.checks import choice, real_array
from finitewidth.checks.exceptions import InputError
from finitewidth.data.dataset import Dataset
from finitewidth.data.targets import TargetScaling
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
        fit = _FITS[choice("standardise", kind, _FITS)]
        mean, scale = fit(real_array("x", x, (2, 3, 4)))
        if not (np.isfinite(mean).all() and np.isfinite(scale).all()):
            raise InputError("x with values too large to average", "values below 1e300", "rescale x first")
        return cls(kind, mean, scale)

    def transform(self, x: Any) -> np.ndarray:
        """Raw inputs to standardised ones, same shape."""
        return (self._checked(x) - self.mean) / self.scale

    def inverse(self, z: Any) -> np.ndarray:
        """Standardised inputs back to raw ones, exact up to rounding."""
        return self._checked(z) * self.scale + self.mean

    def _checked(self, x: Any) -> np.ndarray:
        array = real_array("x", x, (self.mean.ndim + 1,))
        if array.shape[1:] != self.mean.shape:
            raise InputError(
                f"x of shape {array.shape} beside training inputs of shape {self.mean.shape}",
                "equal shapes but for the number of points",
                "give inputs in the form of the training part",
            )
        return array


def standardise(train: Dataset, test: Dataset, kind: str = "global") -> tuple[Dataset, Dataset, Standardiser]:
    """Both parts, transformed by what was fitted on the training part, and that Standardiser.

    Raises InputError for data standardised before: only the last step would be remembered.
    """
    for part in (train, test):
        if part.standardiser is not None and part.standardiser.kind != "none":
            raise InputError(
                f"data standardised before ({part.standardiser.kind!r})",
                "raw inputs",
                "load them with standardise='none', or undo it with .standardiser.inverse(x)",
            )
    fitted = Standardiser.fit(train.x, kind)
    first, second = (part.with_inputs(fitted.transform(part.x), fitted) for part in (train, test))
    return first, second, fitted


def standardise_target(train: Dataset, test: Dataset) -> tuple[Dataset, Dataset]:
    """Both parts, their targets centred and scaled to variance 1 by the training part's mean and standard deviation.

    Both remember the ``target_scaling``: errors of predictions, samples and trained networks are stated in the user's
    own units (squared); predictions themselves and the temperature, the variance of the noise, in standardised ones.
    Raises InputError for class labels, and for targets that are constant or were standardised before.
    """
    scaling = TargetScaling.fit(train.y)
    return train.with_scaled_targets(scaling), test.with_scaled_targets(scaling)


def _fit_none(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(x.shape[1:]), np.ones(())


def _fit_global(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = _mean(x)
    scale = _root_mean_square(x - mean, None)
    if scale == 0.0:
        raise InputError(
            "x whose every input is constant over the training part",
            "inputs that differ between points",
            "add training points, or use standardise='none'",
        )
    return mean, scale


def _fit_feature(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = _mean(x)
    scale = _root_mean_square(x - mean, 0)
    return mean, np.where(scale == 0.0, 1.0, scale)


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


_FITS: dict[str, Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    "global": _fit_global,
    "feature": _fit_feature,
    "none": _fit_none,
}
