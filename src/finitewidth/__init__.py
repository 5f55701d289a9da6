"""Predict the train and test error of finite-width Bayesian networks on your own data, and see what they learn.

Bring your data and an architecture; finitewidth predicts the train and test error of the finite-width Bayesian network
over any range of widths, in seconds and without averaging over the data.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from finitewidth import data, features, kernels, sweeps
    from finitewidth.activations import Activation
    from finitewidth.comparison import Comparison, compare
    from finitewidth.curves import LearningCurve, learning_curve
    from finitewidth.data import Dataset
    from finitewidth.durations import time_limit
    from finitewidth.estimators import FiniteWidthClassifier, FiniteWidthRegressor
    from finitewidth.exceptions import (
        ConvergenceWarning,
        InputError,
        MemoryCapError,
        MissingExtraError,
        ScaleWarning,
        TimeCapError,
    )
    from finitewidth.jobs import predict, solve, theory_of
    from finitewidth.likelihoods import Gaussian, Likelihood
    from finitewidth.methods import Method, Solution
    from finitewidth.networks import Convolutional, FullyConnected, LocallyConnected, Network
    from finitewidth.prediction import Errors, Prediction
    from finitewidth.sampling import Draws, Sample, sample, step_bias
    from finitewidth.selection import Selection, select
    from finitewidth.theory import (
        Infinite,
        Integrate,
        LearnedFeatures,
        Saddle,
        SingleNeuron,
        Solver,
        spectral_learning_curve,
    )
    from finitewidth.training import Ensemble, Train, lazy_training, train

# public name -> module; loaded on first use, so that `import finitewidth` is quick
_PUBLIC = {
    "Activation": "activations",
    "Comparison": "comparison",
    "ConvergenceWarning": "exceptions",
    "Convolutional": "networks",
    "Dataset": "data",
    "Draws": "sampling",
    "Ensemble": "training",
    "Errors": "prediction",
    "FiniteWidthClassifier": "estimators",
    "FiniteWidthRegressor": "estimators",
    "FullyConnected": "networks",
    "Gaussian": "likelihoods",
    "Infinite": "theory",
    "InputError": "exceptions",
    "Integrate": "theory",
    "LearnedFeatures": "theory",
    "LearningCurve": "curves",
    "Likelihood": "likelihoods",
    "LocallyConnected": "networks",
    "MemoryCapError": "exceptions",
    "Method": "methods",
    "MissingExtraError": "exceptions",
    "Network": "networks",
    "Prediction": "prediction",
    "Saddle": "theory",
    "Sample": "sampling",
    "ScaleWarning": "exceptions",
    "Selection": "selection",
    "SingleNeuron": "theory",
    "Solution": "methods",
    "Solver": "theory",
    "TimeCapError": "exceptions",
    "Train": "training",
    "compare": "comparison",
    "lazy_training": "training",
    "learning_curve": "curves",
    "predict": "jobs",
    "sample": "sampling",
    "select": "selection",
    "solve": "jobs",
    "spectral_learning_curve": "theory",
    "step_bias": "sampling",
    "theory_of": "jobs",
    "time_limit": "durations",
    "train": "training",
}
_MODULES = ("data", "features", "kernels", "sweeps")

__all__ = [
    "Activation",
    "Comparison",
    "ConvergenceWarning",
    "Convolutional",
    "Dataset",
    "Draws",
    "Ensemble",
    "Errors",
    "FiniteWidthClassifier",
    "FiniteWidthRegressor",
    "FullyConnected",
    "Gaussian",
    "Infinite",
    "InputError",
    "Integrate",
    "LearnedFeatures",
    "LearningCurve",
    "Likelihood",
    "LocallyConnected",
    "MemoryCapError",
    "Method",
    "MissingExtraError",
    "Network",
    "Prediction",
    "Saddle",
    "Sample",
    "ScaleWarning",
    "Selection",
    "SingleNeuron",
    "Solution",
    "Solver",
    "TimeCapError",
    "Train",
    "__version__",
    "compare",
    "data",
    "features",
    "kernels",
    "lazy_training",
    "learning_curve",
    "predict",
    "sample",
    "select",
    "solve",
    "spectral_learning_curve",
    "step_bias",
    "sweeps",
    "theory_of",
    "time_limit",
    "train",
]


if not TYPE_CHECKING:  # to a type checker, a module with this function has every name, misspelt ones too

    def __getattr__(name: str) -> object:
        if name in _PUBLIC:
            return getattr(importlib.import_module(f"finitewidth.{_PUBLIC[name]}"), name)
        if name in _MODULES:
            return importlib.import_module(f"finitewidth.{name}")
        raise AttributeError(f"module 'finitewidth' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
