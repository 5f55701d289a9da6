"""Draws from the posterior of the finite network itself, the truth that theory is held to."""

from finitewidth.sampling.draws import Draws, Observable, SampledErrors
from finitewidth.sampling.method import Sample, sample
from finitewidth.sampling.rows import SampledRow
from finitewidth.sampling.solution import Sampled
from finitewidth.sampling.unadjusted import StepBias, step_bias

__all__ = [
    "Draws",
    "Observable",
    "Sample",
    "Sampled",
    "SampledErrors",
    "SampledRow",
    "StepBias",
    "sample",
    "step_bias",
]
