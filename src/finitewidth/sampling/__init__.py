"""Draws from the posterior of the finite network itself, the truth that theory is held to."""

from finitewidth.sampling.draws import Draws, Observable, SampledErrors
from finitewidth.sampling.method import Sample, StepBias, sample, step_bias
from finitewidth.sampling.solution import Sampled, SampledRow

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
