"""Networks trained by gradient descent: finite ones as they are, infinitely wide ones linearised."""

from finitewidth.inference.likelihoods import LeastSquares
from finitewidth.training.ensemble import Ensemble, History, TrainedErrors, TrainedRow
from finitewidth.training.linearised import LazyCurve, LazyRow, LazyTraining, lazy_training
from finitewidth.training.method import Train, train

__all__ = [
    "Ensemble",
    "History",
    "LazyCurve",
    "LazyRow",
    "LazyTraining",
    "LeastSquares",
    "Train",
    "TrainedErrors",
    "TrainedRow",
    "lazy_training",
    "train",
]
