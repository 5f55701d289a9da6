"""The points of both tasks, as their networks see them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from finitewidth.data import Dataset
from finitewidth.networks.coupled import Coupled
from finitewidth.sampling.inputs import Inputs

Array = np.ndarray


@dataclass(frozen=True)
class Points:
    """All points in a basis of the span of both training sets; ``test`` has ``n_extra`` more columns."""

    source: Array
    target: Array
    test: Array
    n_extra: int

    @classmethod
    def of(cls, coupled: Coupled, source: Dataset, target: Dataset, test: Dataset) -> Points:
        both = np.concatenate([source.flat, target.flat])
        inputs, first = Inputs.of(coupled.network, both), len(source)
        return cls(inputs.train[:first], inputs.train[first:], *inputs.at(test.flat))

    def padded(self, x: Array) -> Array:
        """Training points as test points: a longer row, whose root the network divides by."""
        full, rank = self.test.shape[1], x.shape[1]
        return np.pad(x * math.sqrt(full / rank), ((0, 0), (0, full - rank)))
