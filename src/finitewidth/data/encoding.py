"""Targets: class labels become -1, +1 or centred one-hot, numbers stay numbers; and whether others were made alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finitewidth.checks import real_array, scalar, shown
from finitewidth.checks.exceptions import InputError
from finitewidth.data.scaling import TargetScaling

Label = int | float | str
_REMEDY = "encode them as the training targets were: train.like(x, y), or fw.Dataset(x, y, classes=train.classes)"
MANY_CLASSES = 50  # more classes than this, and than half the points, are taken for numbers by mistake


def as_targets(y: Any) -> np.ndarray:
    """``y`` as an array (P,) or (P, D) of numbers, booleans or text; a single column becomes a vector."""
    try:
        values = np.asarray(y)
    except ValueError as error:
        raise InputError("y of uneven rows", "a vector or a rectangular array", "make all rows equal") from error
    if values.dtype == object and values.size and all(isinstance(value, str) for value in values.flat):
        values = values.astype(str)  # what pandas gives for a column of names
    if values.dtype.kind not in "biufU":
        raise InputError(
            f"y of type {values.dtype}",
            "numbers, labels -1 and +1, or class indices",
            "convert y to one of them",
        )
    if values.ndim not in (1, 2):
        raise InputError(
            f"y of shape {values.shape}", "shape (points,) or (points, outputs)", "reshape y, one row a point"
        )
    if values.ndim == 2 and values.shape[1] == 1:
        return values[:, 0]
    return values


def encode(values: np.ndarray, classes: Sequence[Label] | None) -> tuple[np.ndarray, tuple[Label, ...] | None]:
    """Targets as float64 and the classes behind them (None where the targets are numbers).

    ``classes`` fixes the encoding; () says that the values are numbers of any type; None reads it off.
    """
    wanted = None if classes is None else checked_classes(classes)
    if values.ndim == 2 and wanted:
        raise InputError(
            f"y of shape {values.shape} together with {len(wanted)} classes",
            "one class label a point",
            "give labels of shape (points,), or leave classes out",
        )
    if values.dtype.kind == "f":
        real_array("y", values, None)
    if wanted is None and values.ndim == 1:
        wanted = _classes_of(values)
    if not wanted:
        return real_array("y", values, None), None
    return one_hot(_indices(values, wanted), len(wanted)), wanted


def one_hot(index: np.ndarray, n_classes: int) -> np.ndarray:
    """Two classes: -1, +1, shape (P,); more: e_c - 1/D, shape (P, D)."""
    if n_classes == 2:
        return 2.0 * index - 1.0
    targets = np.full((len(index), n_classes), -1.0 / n_classes)
    targets[np.arange(len(index)), index] += 1.0
    return targets


def class_index(targets: np.ndarray) -> np.ndarray:
    """The inverse of one_hot: the place of each point's class, shape (P,)."""
    return (targets > 0.0).astype(np.intp) if targets.ndim == 1 else targets.argmax(axis=1)


def checked_classes(classes: Any) -> tuple[Label, ...]:
    """Class labels as plain Python values: none of them (numbers), or at least two, all different."""
    if isinstance(classes, (str, bytes)) or not isinstance(classes, Iterable) or scalar(classes):
        raise InputError(f"classes = {shown(classes)}", "a tuple of class labels", "write classes=(0, 1), for example")
    labels = tuple(c.item() if isinstance(c, np.generic) else c for c in classes)
    if not (all(isinstance(c, str) for c in labels) or all(isinstance(c, (int, float)) for c in labels)):
        raise InputError(f"classes = {shown(labels)}", "only numbers or only names", "write all classes in one way")
    if len(labels) == 1 or len(set(labels)) < len(labels):
        raise InputError(f"classes = {shown(labels)}", "at least two classes, all different", "name each class once")
    return labels


def refuse_odd_counts(n_classes: int, n_points: int) -> None:
    """Raise InputError for one class, and for so many that the labels must be numbers."""
    if n_classes == 1:
        raise InputError(
            "y with one class only",
            "at least two classes",
            "add points of another class, name them with classes=, or say that y holds numbers with classes=()",
        )
    if n_classes > max(MANY_CLASSES, n_points / 2):
        raise InputError(
            f"y with {n_classes} different classes in {n_points} points",
            "class labels that repeat, or real numbers",
            "give numbers as floats (y.astype(float)) if this is regression",
        )


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


def _classes_of(values: np.ndarray) -> tuple[Label, ...]:
    if values.dtype.kind == "U":
        names = ", ".join(repr(str(name)) for name in np.unique(values)[:3])
        raise InputError(
            f"y of text ({names}, ...)",
            "numbers, labels -1 and +1, or class indices",
            "pass classes=tuple(sorted(set(y))) to encode the names",
        )
    signs = values.dtype.kind != "b" and bool(np.isin(values, (-1, 1)).all())
    if signs and len(values) == 1:
        return (-1, 1)  # one point cannot show two classes, and the encoding of a sign is known
    if values.dtype.kind == "f" and not signs:
        return ()
    found = np.unique(values)
    refuse_odd_counts(len(found), len(values))
    return tuple((found.astype(int) if signs else found).tolist())


def _indices(values: np.ndarray, classes: tuple[Label, ...]) -> np.ndarray:
    distinct, place = np.unique(values, return_inverse=True)
    column = {label: index for index, label in enumerate(classes)}
    unseen = [label for label in distinct.tolist() if label not in column]
    if unseen:
        known = ", ".join(map(repr, classes[:10])) + (", ..." if len(classes) > 10 else "")
        raise InputError(
            f"y with class {shown(unseen[0])}, unseen in training",
            f"only the classes {known}",
            "leave these points out, or name every class in classes=",
        )
    return np.array([column[label] for label in distinct.tolist()], dtype=np.intp)[place]


def _encodes(y: np.ndarray, n_classes: int) -> bool:
    """Whether every target is that of a class: -1 or +1, or a centred one-hot row."""
    return bool(np.allclose(y, one_hot(class_index(y), n_classes), rtol=0.0, atol=1e-6))


def _named(classes: tuple[Label, ...] | None) -> str:
    return "numbers" if classes is None else f"the classes {shown(classes)}"
