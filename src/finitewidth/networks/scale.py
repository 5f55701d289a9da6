"""Whether data have the size that a prior expects: far from it predictions are useless, and were never checked.

The bounds were measured (docs/validity.md): beyond them the test error, relative to the targets, is up to five times
that of standardised inputs, and hundreds of times that of standardised targets.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from finitewidth.checks.exceptions import ScaleWarning
from finitewidth.data import Dataset
from finitewidth.networks.base import Network

_PACKAGE = str(Path(__file__).parents[1])
LEAST, MOST = 0.03, 30.0  # mean square of inputs and of targets
_INPUTS = "standardise the inputs (--standardise feature or global, fw.data.standardise, scikit-learn's StandardScaler)"
_TARGETS = "standardise the targets (--standardise-target, fw.data.standardise_target)"
_SEVERAL = "predict outputs of so different sizes one by one"


class Departure(NamedTuple):
    """What is outside the range in which predictions were checked, and what to do."""

    what: str
    remedy: str

    def warn(self) -> None:
        """As a ScaleWarning of one line, where the user called this package."""
        warnings.warn(f"{self.what}; {self.remedy}", ScaleWarning, _levels_within())


def unusual_scale(network: Network, train: Dataset) -> Departure | None:
    """Inputs or targets whose mean square is far from one, and from what the network's precisions expect.

    Encoded classes are as they should be; of an architecture of the user's own nothing is known.
    """
    if network.own:
        return None
    first, last = network.weight_precision[0], network.weight_precision[-1]
    with np.errstate(over="ignore"):
        x, y = np.vdot(train.x, train.x) / train.x.size, np.mean(np.square(train.y), axis=0)
    targets = [] if train.is_classification else np.atleast_1d(y).tolist()
    found = [
        *_departures("inputs", [float(x)], first, _INPUTS),
        *_departures("targets", targets, 1.0 / last, _TARGETS if train.target_scaling is None else _SEVERAL),
    ]
    return Departure(" and ".join(d.what for d in found), ", ".join(d.remedy for d in found)) if found else None


def _levels_within() -> int:
    """How many calls up the first one is that is not this package's."""
    level, frame = 0, inspect.currentframe()
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    return level


def warn_of_scale(network: Network, train: Dataset) -> None:
    """One ScaleWarning where the data are far from what the prior expects."""
    departure = unusual_scale(network, train)
    if departure is not None:
        departure.warn()


def _departures(name: str, sizes: Iterable[float], expected: float, remedy: str) -> Iterator[Departure]:
    """A size far from one is as it should be where the prior was chosen for it; of zero nothing can be learned."""
    for size in sizes:
        if size and not (LEAST <= size <= MOST or LEAST <= size / expected <= MOST):
            yield Departure(f"{name} of mean square {size:.3g} (the prior expects about {expected:.3g})", remedy)
            return
