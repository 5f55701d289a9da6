"""What the targets of a data set stand for, and whether those of other points stand for the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from finitewidth.checks import real_array, shown
from finitewidth.checks.exceptions import InputError
from finitewidth.data.encoding import Label, as_targets, class_index, one_hot

_REMEDY = "encode them as the training targets were: train.like(x, y), or fw.Dataset(x, y, classes=train.classes)"


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
            mean = np.where((table == table[0]).all(axis=0), table[0], table.mean(axis=0))
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


@dataclass(frozen=True)
class TargetEncoding:
    """How targets were made: from labels of ``classes``, or from numbers (None), which ``scaling`` standardised."""

    classes: tuple[Label, ...] | None = None
    scaling: TargetScaling | None = None

    @property
    def unit(self) -> float:
        """What a difference of one between targets is in the user's own units."""
        return 1.0 if self.scaling is None else self.scaling.scale

    def targets(self, y: Any, shape: tuple[int, ...]) -> np.ndarray:
        """The targets ``y`` of other points, float64, which must have this encoding and shape.

        ``y``: an array, or the ``Dataset`` of these points, which says how its targets were made.
        Raises InputError for another shape, for anything but encoded labels where these are classes (0 and 1 in place
        of -1 and +1, say), for other classes or another order of them, and for another scaling.
        """
        other = getattr(y, "encoding", None)
        if isinstance(other, TargetEncoding):
            self.refuse_other(other)
            y = y.y
        if self.classes is not None and as_targets(y).dtype.kind == "U":
            raise self._not_encoded(as_targets(y))
        values = real_array("y", y, None)
        if values.shape != shape:
            raise InputError(f"targets of shape {values.shape}", f"targets of shape {shape}, as predicted", _REMEDY)
        if self.classes is not None and not _encodes(values, len(self.classes)):
            raise self._not_encoded(values)
        if self.scaling is not None and other is None and self.scaling.fits_better_raw(values):
            size = np.abs(values).mean()
            raise InputError(
                f"targets of mean size {size:.3g}, which look like those before they were standardised",
                "targets standardised as in training",
                "give the test set itself, errors(test), or standardise them: train.like(x, y)",
            )
        return values

    def refuse_other(self, other: TargetEncoding) -> None:
        """Raise InputError for other classes, another order of them, or another scaling."""
        # Targets -1, +1 stand for themselves: whether they were given as labels or as numbers makes no difference.
        plain = other.classes in (None, (-1, 1)) and self.classes != (1, -1)
        if other.classes != self.classes and not plain:
            raise InputError(
                f"targets of {_named(other.classes)} where those in training were of {_named(self.classes)}",
                "the same classes in the same order",
                _REMEDY,
            )
        if other.scaling != self.scaling:
            raise InputError(
                "training and test targets that were not standardised alike",
                "both standardised by the mean and deviation of the training part, or neither",
                "use fw.data.standardise_target(train, test), or train.like(x, y)",
            )

    def _not_encoded(self, y: np.ndarray) -> InputError:
        assert self.classes is not None
        codes = "-1, +1" if len(self.classes) == 2 else "centred one-hot rows"
        some = np.unique(y)[:3].tolist()
        return InputError(
            f"targets such as {', '.join(map(shown, some))}",
            f"{codes}, which encode {_named(self.classes)}",
            _REMEDY,
        )


NUMBERS = TargetEncoding()  # as they are


def _table(y: Any) -> np.ndarray:
    values = real_array("y", y, (1, 2))
    return values.reshape(len(values), -1)


def _encodes(y: np.ndarray, n_classes: int) -> bool:
    """Whether every target is that of a class: -1 or +1, or a centred one-hot row."""
    return bool(np.allclose(y, one_hot(class_index(y), n_classes), rtol=0.0, atol=1e-6))


def _named(classes: tuple[Label, ...] | None) -> str:
    return "numbers" if classes is None else f"the classes {shown(classes)}"
