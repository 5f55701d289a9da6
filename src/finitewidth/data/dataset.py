"""A data set that checks itself: inputs, targets, and how the targets were made from class labels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from finitewidth import checks
from finitewidth.checks import positive_integer, real_array
from finitewidth.checks.exceptions import InputError
from finitewidth.checks.keywords import CheckedKeywords
from finitewidth.data.encoding import NUMBERS, Label, TargetEncoding, as_targets, class_index, encode
from finitewidth.data.scaling import Standardiser, TargetScaling
from finitewidth.display import Displayed


@dataclass(frozen=True, eq=False)
class Dataset(CheckedKeywords, Displayed):
    """Inputs and targets of P points, checked, float64, C-contiguous and read-only.

    ``x``: (P, inputs), or images (P, height, width) or (P, height, width, channels).
    ``y``: one of

    * class labels (P,): whole numbers or booleans; names (text) only together with ``classes``;
    * labels -1 and +1 (P,), whole or floating-point: kept as they are, with the classes (-1, 1);
    * any other floating-point numbers (P,): regression;
    * real outputs (P, D): regression with D outputs; a single column (P, 1) counts as (P,).

    Two classes become -1, +1 (the smaller label -1), D > 2 classes centred one-hot e_c - 1/D, a column a
    class in sorted order. ``classes`` fixes labels and order instead, so that a test set is encoded as its
    training set; ``classes=()`` says that y holds numbers whatever its type. Afterwards ``y`` holds the
    targets, (P,) or (P, D), and ``classes`` the labels in the order of the encoding, or None for regression.
    ``standardiser`` is what made ``x`` from the raw inputs, None where x is as given; ``target_scaling`` what made
    ``y`` from numbers in the user's own units, in which errors are then stated (see ``standardise_target``).
    ``input_names`` are the names of the inputs, one each, None where they have none.

    Raises InputError for what cannot be used: wrong shapes, NaN, no points, one class only, an unseen class.
    """

    x: np.ndarray
    y: np.ndarray
    classes: tuple[Label, ...] | None = None
    standardiser: Standardiser | None = None
    target_scaling: TargetScaling | None = None
    input_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        x = real_array("x", self.x, (2, 3, 4))
        values = as_targets(self.y)
        _same_length(x, values)
        y, classes = encode(values, self.classes)
        if classes is not None and self.target_scaling is not None:
            raise InputError(f"classes {classes} and target_scaling", "one of them", "labels are encoded, not scaled")
        names = _names(self.input_names, x)
        self._set(x=x.copy(), y=y.copy(), classes=classes, input_names=names)

    @property
    def n_points(self) -> int:
        """P."""
        return len(self.x)

    @property
    def n_inputs(self) -> int:
        """Inputs of one point, height x width x channels for images."""
        return int(np.prod(self.x.shape[1:]))

    @property
    def n_outputs(self) -> int:
        """D; 1 for a vector of targets."""
        return 1 if self.y.ndim == 1 else self.y.shape[1]

    @property
    def input_shape(self) -> tuple[int, int, int] | None:
        """(height, width, channels) of images, None otherwise."""
        if self.x.ndim == 2:
            return None
        height, width, *channels = self.x.shape[1:]
        return (height, width, channels[0] if channels else 1)

    @property
    def is_classification(self) -> bool:
        """Whether the targets encode classes."""
        return self.classes is not None

    @property
    def encoding(self) -> TargetEncoding:
        """What the targets stand for, which predictions remember."""
        return TargetEncoding(self.classes, self.target_scaling)

    @property
    def labels(self) -> np.ndarray | None:
        """The class label of each point, shape (P,); None for regression."""
        return None if self.classes is None else np.array(self.classes)[class_index(self.y)]

    @property
    def flat(self) -> np.ndarray:
        """The inputs as (P, inputs), a view."""
        return self.x.reshape(self.n_points, -1)

    def __len__(self) -> int:
        return self.n_points

    def _facts(self) -> dict[str, Any]:
        targets = {"targets": "numbers"} if self.classes is None else {"classes": self.classes}
        return {"x": self.x.shape, "y": self.y.shape, **targets, "standardise": _kind(self.standardiser)}

    def __getitem__(self, index: Any) -> Dataset:
        """The points at an index, a slice, an array of indices or a mask, always as a Dataset."""
        if isinstance(index, (int, np.integer, slice)):
            index = np.atleast_1d(np.arange(len(self))[index])
        return self.subset(index)

    def subset(self, indices: Any) -> Dataset:
        """The points at ``indices`` (whole numbers, or a mask of length P), encoded as here."""
        chosen = _indices(indices, len(self))
        return self._copy(x=self.x[chosen], y=self.y[chosen])

    def with_inputs(
        self, x: Any, standardiser: Standardiser | None = None, input_names: Sequence[str] | None = None
    ) -> Dataset:
        """The same points and targets with other inputs, for example reshaped or standardised.

        As many inputs as before keep their names, unless ``input_names`` gives others.
        """
        inputs = real_array("x", x, (2, 3, 4))
        _same_length(inputs, self.y)
        if input_names is None and inputs[0].size == self.n_inputs:
            input_names = self.input_names
        return self._copy(x=inputs.copy(), standardiser=standardiser, input_names=_names(input_names, inputs))

    def with_scaled_targets(self, scaling: TargetScaling) -> Dataset:
        """The same points with their targets, in the user's own units, standardised by ``scaling``.

        Raises InputError for classes, and for targets standardised before.
        """
        if self.encoding != NUMBERS:
            what = "class labels" if self.is_classification else "targets that were standardised before"
            raise InputError(
                f"{what}, to be standardised", "numbers in the user's own units", "leave standardise_target out"
            )
        return self._copy(y=scaling.transform(self.y), target_scaling=scaling)

    def like(self, x: Any, y: Any) -> Dataset:
        """New points encoded as these ones: their test set. Inputs and outputs must agree in shape.

        ``x``: prepared as the inputs of these were. ``y``: labels, or numbers in the user's own units.
        """
        other = Dataset(x, y, classes=self.classes or ())
        for name, ours, theirs in (("x", self.x, other.x), ("y", self.y, other.y)):
            checks.as_in_training(f"test {name}", theirs.shape[1:], ours.shape[1:])
        other = other.with_inputs(other.x, input_names=self.input_names)
        return other if self.target_scaling is None else other.with_scaled_targets(self.target_scaling)

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the inputs, the targets and the classes; the same on every machine."""
        digest = hashlib.sha256(json.dumps([self.x.shape, self.y.shape, self.classes]).encode())
        for array in (self.x, self.y):
            digest.update(np.ascontiguousarray(array, dtype="<f8").data)
        return digest.hexdigest()

    def summary(self) -> dict[str, Any]:
        """What this data set is, in values that JSON knows."""
        return {
            "points": self.n_points,
            "inputs": self.n_inputs,
            "input_names": None if self.input_names is None else list(self.input_names),
            "outputs": self.n_outputs,
            "classes": None if self.classes is None else list(self.classes),
            "shape": None if self.input_shape is None else list(self.input_shape),
            "standardise": _kind(self.standardiser),
            "target_scaling": None if self.target_scaling is None else asdict(self.target_scaling),
            "fingerprint": self.fingerprint(),
        }

    def _copy(self, **changes: Any) -> Dataset:
        # Not through __init__: the targets are encoded already, and -1, +1 must not be read as labels again.
        copy = object.__new__(Dataset)
        copy._set(**{field.name: getattr(self, field.name) for field in fields(self)} | changes)
        return copy

    def _set(self, **values: Any) -> None:
        values["x"].flags.writeable = values["y"].flags.writeable = False
        for name, value in values.items():
            object.__setattr__(self, name, value)


def split(dataset: Dataset, n_train: int, n_test: int | None, seed: int) -> tuple[Dataset, Dataset]:
    """Training and test part by the recipe of docs/theory.md section 9.

    ``r = numpy.random.default_rng(seed).permutation(count)``: the first ``n_train`` points are for training,
    the next ``n_test`` for test (None: all the rest). Raises InputError where there are too few points, or
    where a class has none in the training part.
    """
    count, n_train = len(dataset), positive_integer("n_train", n_train)
    n_test = max(count - n_train, 1) if n_test is None else positive_integer("n_test", n_test)
    if n_train + n_test > count:
        raise InputError(
            f"n_train = {n_train} and n_test = {n_test} with {count} points available",
            f"at most {count} points in all",
            "lower n_train or n_test",
        )
    order = generator(seed).permutation(count)
    train = dataset.subset(order[:n_train])
    _refuse_missing_class(train, seed)
    return train, dataset.subset(order[n_train : n_train + n_test])


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


def same_points(train: Any, test: Any) -> None:
    """InputError unless both are data sets whose points have one shape."""
    for name, part in (("train", train), ("test", test)):
        if not (hasattr(part, "x") and hasattr(part, "y")):
            raise InputError(f"{name} = {checks.shown(part)}", "a Dataset", "write fw.Dataset(x, y)")
    checks.as_in_training("test x", test.x.shape[1:], train.x.shape[1:])


def same_targets(train: Any, test: Any) -> None:
    """InputError unless the targets of both data sets have as many outputs and were made alike."""
    train.encoding.targets(test, (len(test.y), *train.y.shape[1:]))


def points_like(x: Any, train: Any) -> np.ndarray:
    """Points to predict at, an array or a data set, as an array; InputError for another shape than in training."""
    x = checks.real_array("x", getattr(x, "x", x), None)
    checks.as_in_training("x", x.shape[1:], train.x.shape[1:])
    return x


def generator(seed: int) -> np.random.Generator:
    """NumPy's generator of an explicit seed, a whole number from 0 to 2^63 - 1."""
    return np.random.default_rng(checks.seed("seed", seed))


def _refuse_missing_class(train: Dataset, seed: int) -> None:
    if train.classes is None:
        return
    missing = [c for i, c in enumerate(train.classes) if not (class_index(train.y) == i).any()]
    if missing:
        raise InputError(
            f"n_train = {len(train)} with seed = {seed}, which leaves no training point of class "
            + ", ".join(map(repr, missing)),
            "at least one training point of each class",
            "increase n_train or change the seed",
        )


def _same_length(x: np.ndarray, y: np.ndarray) -> None:
    if len(x) != len(y):
        raise InputError(
            f"x with {len(x)} points and y with {len(y)}",
            "one target a point",
            "check which rows belong together",
        )


def _names(names: Any, x: np.ndarray) -> tuple[str, ...] | None:
    """One name an input, or None."""
    if names is None:
        return None
    given = tuple(checks.sequence("input_names", names))
    if len(given) != x[0].size or not all(isinstance(name, str) for name in given):
        raise InputError(
            f"{len(given)} input_names for {x[0].size} inputs", "one text for every input", "leave input_names out"
        )
    return given


def _indices(indices: Any, count: int) -> np.ndarray:
    chosen = np.asarray(indices)
    if chosen.dtype == bool and chosen.shape == (count,):
        chosen = np.flatnonzero(chosen)
    if chosen.ndim != 1 or chosen.size == 0 or chosen.dtype.kind not in "iu":
        raise InputError(
            f"indices of type {chosen.dtype} and shape {chosen.shape}",
            f"whole numbers of shape (n,) with n >= 1, or a mask of length {count} that keeps a point",
            "choose at least one point",
        )
    if chosen.min() < -count or chosen.max() >= count:
        raise InputError(
            f"indices from {chosen.min()} to {chosen.max()}",
            f"below {count}, the number of points",
            "leave them out",
        )
    return chosen


def _kind(standardiser: Standardiser | None) -> str:
    return "none" if standardiser is None else standardiser.kind
