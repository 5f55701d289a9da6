"""Networks trained by gradient descent."""

from finitewidth.training.linearised import LazyCurve, LazyRow, LazyTraining, lazy_training

__all__ = ["LazyCurve", "LazyRow", "LazyTraining", "lazy_training"]
