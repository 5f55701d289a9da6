"""Theories: order parameters that renormalise a kernel, solved on your data."""

from finitewidth.theory.expansion import FirstOrder, FirstOrderSlopes, first_order
from finitewidth.theory.learned import LearnedFeatures
from finitewidth.theory.methods import CLOSURES, Infinite, Integrate, Saddle
from finitewidth.theory.neuron import SingleNeuron
from finitewidth.theory.rows import TheoryRow
from finitewidth.theory.solution import Theory, TheorySolution
from finitewidth.theory.solver import Solver
from finitewidth.theory.spectral import SpectralCurve, SpectralRow, SpectralTheory, spectral_learning_curve

__all__ = [
    "CLOSURES",
    "FirstOrder",
    "FirstOrderSlopes",
    "Infinite",
    "Integrate",
    "LearnedFeatures",
    "Saddle",
    "SingleNeuron",
    "Solver",
    "SpectralCurve",
    "SpectralRow",
    "SpectralTheory",
    "Theory",
    "TheoryRow",
    "TheorySolution",
    "first_order",
    "spectral_learning_curve",
]
