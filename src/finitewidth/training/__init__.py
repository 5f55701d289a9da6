"""Networks trained by gradient descent: finite ones as they are, infinitely wide ones linearised."""

from finitewidth.training.curves import TrainedRow, trained_curve
from finitewidth.training.ensemble import Ensemble, History, TrainedErrors
from finitewidth.training.linearised import LazyCurve, LazyRow, LazyTraining, lazy_training
from finitewidth.training.run import train

__all__ = [
    "Ensemble",
    "History",
    "LazyCurve",
    "LazyRow",
    "LazyTraining",
    "TrainedErrors",
    "TrainedRow",
    "lazy_training",
    "train",
    "trained_curve",
]
