"""Draws from the posterior of the finite network itself, the truth that theory is held to."""

from finitewidth.sampling.curves import SampledRow, sampled_curve
from finitewidth.sampling.draws import Draws, Observable, SampledErrors
from finitewidth.sampling.run import StepBias, sample, step_bias

__all__ = ["Draws", "Observable", "SampledErrors", "SampledRow", "StepBias", "sample", "sampled_curve", "step_bias"]
