"""What a training set and a test set must have in common."""

from __future__ import annotations

from typing import Any

import numpy as np

from finitewidth import checks
from finitewidth.checks.exceptions import InputError


def same_points(train: Any, test: Any) -> None:
    """InputError unless both are data sets whose points have one shape."""
    for name, part in (("train", train), ("test", test)):
        if not (hasattr(part, "x") and hasattr(part, "y")):
            raise InputError(f"{name} = {checks.shown(part)}", "a Dataset", "write fw.Dataset(x, y)")
    if train.x.shape[1:] != test.x.shape[1:]:
        raise InputError(
            f"training points of shape {train.x.shape[1:]}, test points of {test.x.shape[1:]}",
            "points of one shape",
            "prepare both sets in the same way",
        )


def same_targets(train: Any, test: Any) -> None:
    """InputError unless the targets of both data sets have as many outputs and were made alike."""
    train.encoding.targets(test, (len(test.y), *train.y.shape[1:]))


def points_like(x: Any, train: Any) -> np.ndarray:
    """Points to predict at, an array or a data set, as an array; InputError for another shape than in training."""
    x = checks.real_array("x", getattr(x, "x", x), None)
    if x.shape[1:] != train.x.shape[1:]:
        wanted = f"points of shape {train.x.shape[1:]}, as in training"
        raise InputError(f"points of shape {x.shape[1:]}", wanted, "prepare them as the training points were")
    return x
