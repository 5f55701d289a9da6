"""What a step size does to unadjusted Langevin dynamics."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from finitewidth import checks
from finitewidth.data import Dataset
from finitewidth.networks import Network
from finitewidth.sampling.draws import SampledErrors
from finitewidth.sampling.method import sample


@dataclass(frozen=True)
class StepBias:
    """What a step size does to unadjusted Langevin dynamics: errors at the step (coarse) and at half of it
    (fine).

    The bias is linear in a small step, so ``test_error`` extrapolates to step 0 (Richardson): 2 fine -
    coarse.
    """

    step_size: float
    coarse: SampledErrors
    fine: SampledErrors

    @property
    def difference(self) -> float:
        """Test error at the step minus that at half the step."""
        return self.coarse.test_error - self.fine.test_error

    @property
    def difference_se(self) -> float:
        """Standard error of the difference."""
        return math.hypot(self.coarse.test_error_se, self.fine.test_error_se)

    @property
    def test_error(self) -> float:
        """Extrapolated to step 0."""
        return 2.0 * self.fine.test_error - self.coarse.test_error

    @property
    def test_error_se(self) -> float:
        """Standard error of the extrapolation."""
        return math.hypot(2.0 * self.fine.test_error_se, self.coarse.test_error_se)


def step_bias(
    network: Network,
    train: Dataset,
    test: Dataset,
    temperature: float,
    *,
    step_size: float,
    trajectory: float = 50,
    **options: Any,
) -> StepBias:
    """Unadjusted Langevin at ``step_size`` and at half of it, over the same stretch of time (twice the
    steps).

    ``options``: as for ``sample``. Step sizes are those of whitened weights, lambda eta T in the notation of
    docs/theory.md section 7.
    """
    step_size = checks.positive("step_size", step_size)
    errors = [
        sample(
            network,
            train,
            test,
            temperature,
            **options,
            sampler="langevin-unadjusted",
            step_size=step_size / parts,
            trajectory=trajectory * parts,
        ).errors(test.y)
        for parts in (1, 2)
    ]
    return StepBias(step_size, *errors)
