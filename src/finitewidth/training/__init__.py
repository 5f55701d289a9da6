"""Networks trained by gradient descent: finite ones as they are, infinitely wide ones linearised."""

from finitewidth.training.ensemble import Ensemble, History, TrainedErrors
from finitewidth.training.least_squares import LeastSquares
from finitewidth.training.linearised import LazyCurve, LazyRow, LazyTraining, lazy_training
from finitewidth.training.method import Train, train
from finitewidth.training.rows import TrainedRow
from finitewidth.training.solution import Trained

__all__ = [
    "Ensemble",
    "History",
    "LazyCurve",
    "LazyRow",
    "LazyTraining",
    "LeastSquares",
    "Train",
    "Trained",
    "TrainedErrors",
    "TrainedRow",
    "lazy_training",
    "train",
]
