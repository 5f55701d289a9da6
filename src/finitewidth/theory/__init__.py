"""Theories: order parameters that renormalise a kernel, solved on your data."""

from finitewidth.theory.choose import CLOSURES, METHODS, solve, theory_of
from finitewidth.theory.curves import LearningCurve, Row, learning_curve
from finitewidth.theory.learned import LearnedFeatures
from finitewidth.theory.neuron import NeuronOptions
from finitewidth.theory.selection import Selection, select
from finitewidth.theory.solution import Solution, predict
from finitewidth.theory.solver import Solver
from finitewidth.theory.spectral import SpectralCurve, SpectralRow, SpectralTheory, spectral_learning_curve

__all__ = [
    "CLOSURES",
    "METHODS",
    "LearnedFeatures",
    "LearningCurve",
    "NeuronOptions",
    "Row",
    "Selection",
    "Solution",
    "Solver",
    "SpectralCurve",
    "SpectralRow",
    "SpectralTheory",
    "learning_curve",
    "predict",
    "select",
    "solve",
    "spectral_learning_curve",
    "theory_of",
]
