"""Draws from the posterior of the finite network itself, the truth that theory is held to."""

from finitewidth.sampling.draws import Draws, SampledErrors
from finitewidth.sampling.run import sample

__all__ = ["Draws", "SampledErrors", "sample"]
