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
    from finitewidth.checks.exceptions import (
        ConvergenceWarning,
        InputError,
        MemoryCapError,
        MissingExtraError,
        ScaleWarning,
        TimeCapError,
    )
    from finitewidth.curves import LearningCurve, learning_curve
    from finitewidth.curves.comparison import Comparison, compare
    from finitewidth.curves.on_demand import Curve
    from finitewidth.curves.selection import Selection, select
    from finitewidth.data import Dataset
    from finitewidth.estimators import FiniteWidthClassifier, FiniteWidthRegressor
    from finitewidth.inference.likelihoods import Gaussian, Likelihood
    from finitewidth.inference.methods import Method, Solution
    from finitewidth.inference.prediction import Errors, Prediction
    from finitewidth.jobs.job import predict, solve, theory_of
    from finitewidth.networks import Convolutional, FullyConnected, LocallyConnected, Network
    from finitewidth.runs.durations import time_limit
    from finitewidth.sampling import Draws, Sample, sample, step_bias
    from finitewidth.theory import (
        FirstOrder,
        FirstOrderSlopes,
        Infinite,
        Integrate,
        LearnedFeatures,
        Saddle,
        SingleNeuron,
        Solver,
        first_order,
        spectral_learning_curve,
    )
    from finitewidth.theory.validity import validity
    from finitewidth.training import Ensemble, Train, lazy_training, train

# public name -> module; loaded on first use, so that `import finitewidth` is quick
_PUBLIC = {
    "Activation": "activations",
    "Comparison": "curves.comparison",
    "ConvergenceWarning": "checks.exceptions",
    "Convolutional": "networks",
    "Curve": "curves.on_demand",
    "Dataset": "data",
    "Draws": "sampling",
    "Ensemble": "training",
    "Errors": "inference.prediction",
    "FiniteWidthClassifier": "estimators",
    "FiniteWidthRegressor": "estimators",
    "FirstOrder": "theory",
    "FirstOrderSlopes": "theory",
    "FullyConnected": "networks",
    "Gaussian": "inference.likelihoods",
    "Infinite": "theory",
    "InputError": "checks.exceptions",
    "Integrate": "theory",
    "LearnedFeatures": "theory",
    "LearningCurve": "curves",
    "Likelihood": "inference.likelihoods",
    "LocallyConnected": "networks",
    "MemoryCapError": "checks.exceptions",
    "Method": "inference.methods",
    "MissingExtraError": "checks.exceptions",
    "Network": "networks",
    "Prediction": "inference.prediction",
    "Saddle": "theory",
    "Sample": "sampling",
    "ScaleWarning": "checks.exceptions",
    "Selection": "curves.selection",
    "SingleNeuron": "theory",
    "Solution": "inference.methods",
    "Solver": "theory",
    "TimeCapError": "checks.exceptions",
    "Train": "training",
    "compare": "curves.comparison",
    "first_order": "theory",
    "lazy_training": "training",
    "learning_curve": "curves",
    "predict": "jobs.job",
    "sample": "sampling",
    "select": "curves.selection",
    "solve": "jobs.job",
    "spectral_learning_curve": "theory",
    "step_bias": "sampling",
    "theory_of": "jobs.job",
    "time_limit": "runs.durations",
    "train": "training",
    "validity": "theory.validity",
}
_MODULES = ("data", "features", "kernels", "sweeps")

__all__ = [
    "Activation",
    "Comparison",
    "ConvergenceWarning",
    "Convolutional",
    "Curve",
    "Dataset",
    "Draws",
    "Ensemble",
    "Errors",
    "FiniteWidthClassifier",
    "FiniteWidthRegressor",
    "FirstOrder",
    "FirstOrderSlopes",
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
    "first_order",
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
    "validity",
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
