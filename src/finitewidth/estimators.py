"""scikit-learn's skin: finite-width Bayesian networks as a regressor and a classifier.

Nothing is rescaled or centred behind your back: neither X nor y. Put a ``StandardScaler`` in front with a Pipeline, and
wrap the regressor in ``TransformedTargetRegressor`` where y is far from mean 0 and variance 1.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from finitewidth import checks, prediction
from finitewidth.data import Dataset
from finitewidth.exceptions import ConvergenceWarning, InputError
from finitewidth.networks import FullyConnected, Network
from finitewidth.prediction import Prediction
from finitewidth.theory import Solution, predict, solve, theory_of

Array = np.ndarray
NETWORKS = ("fc",)
_MULTI_CLASS = False  # the one line to change once theories with several outputs are there
_ARCHITECTURE = (
    "widths", "activation", "weight_precision", "offset_precision", "readout",
    "input_shape", "patch", "stride", "padding", "pool",
)  # fmt: skip


class _FiniteWidth(BaseEstimator):
    """What regressor and classifier share: parameters, the solution, the prediction."""

    def __init__(
        self,
        widths: int | Sequence[int] = (100,),
        activation: Any = "erf",
        weight_precision: float | Sequence[float] = 1.0,
        offset_precision: float | None = None,
        readout: str = "standard",
        temperature: float = 0.05,
        closure: str | None = None,
        method: str = "saddle",
        network: str | Network = "fc",
        input_shape: Sequence[int] | None = None,
        patch: int | Sequence[int] | None = None,
        stride: int | Sequence[int] | None = None,
        padding: str = "none",
        pool: str = "none",
    ) -> None:
        self.widths = widths
        self.activation = activation
        self.weight_precision = weight_precision
        self.offset_precision = offset_precision
        self.readout = readout
        self.temperature = temperature
        self.closure = closure
        self.method = method
        self.network = network
        self.input_shape = input_shape
        self.patch = patch
        self.stride = stride
        self.padding = padding
        self.pool = pool

    def _solve(self, train: Dataset) -> Self:
        theory = theory_of(_network_of(self), self.temperature, self.closure, self.method)
        self.n_outputs_ = train.n_outputs
        self.solution_: Solution = solve(theory, train)
        self.order_parameters_ = self.solution_.order_parameters
        self.log_evidence_ = float(self.solution_.log_evidence) if self.solution_.converged else math.nan
        if not self.solution_.converged:
            warnings.warn(f"not converged: {self.solution_.message}", ConvergenceWarning, stacklevel=3)
        return self

    def _predict(self, X: Any) -> Prediction:
        check_is_fitted(self)
        x = validate_data(self, X, dtype=np.float64, reset=False)
        if not self.solution_.converged:
            raise InputError(
                f"a {type(self).__name__} whose fit did not converge ({self.solution_.message})",
                "a converged solution",
                "fit again with rescaled data, another temperature or method='infinite'",
            )
        return predict(self.solution_, x.view())  # a view: the caller may write into X and come again


class FiniteWidthRegressor(MultiOutputMixin, RegressorMixin, _FiniteWidth):
    """Bayesian network of finite width, solved instead of sampled, as a scikit-learn regressor.

    The likelihood is Gaussian with variance ``temperature``. X and y are used as given: no scaling, no centring.

    Parameters
    ----------
    widths: neurons of each hidden layer; a number is one layer.
    activation: name, ``fw.Activation``, or any element-wise function (defined in a module if it is to be pickled).
    weight_precision: prior precision of the weights, one number or one a layer (lambda_0 .. lambda_L).
    offset_precision: prior precision of offsets, None for none. readout: "standard" or "mean-field".
    temperature: variance of the Gaussian likelihood.
    closure: of deep networks, "nested" (default) or "product". method: "saddle", "integrate" or "infinite".
    network: "fc", or a ready network (``fw.FullyConnected(...)``), with which ``widths`` ... ``pool`` stay at their defaults.
    input_shape, patch, stride, padding, pool: for networks on patches, whose images come as rows of X.

    Attributes
    ----------
    solution_: the ``fw.Solution``. order_parameters_: Q, flat. log_evidence_: nats; NaN if not converged.
    n_features_in_, n_outputs_; feature_names_in_ where X has names.

    ``fit`` raises InputError for what cannot be used, MemoryCapError for what does not fit into memory, and warns with
    ConvergenceWarning where the solver did not converge; ``solution_.converged`` is False then, and predicting raises
    InputError.
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Solve on X (points, inputs) and y, (points,) or (points, outputs)."""
        x, targets = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        return self._solve(Dataset(x, targets, classes=()))

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predictive mean of f at X, (points,) or (points, outputs); with ``return_std`` also its standard deviation.

        As in ``GaussianProcessRegressor`` the deviation is that of f and does not contain the noise: that of a new
        observation is ``sqrt(std**2 + temperature)``.
        """
        result = self._predict(X)
        return (result.mean, result.std) if return_std else result.mean


class FiniteWidthClassifier(ClassifierMixin, _FiniteWidth):
    """Bayesian network of finite width as a scikit-learn classifier: regression on encoded labels.

    Two classes are targets -1, +1, in the order of ``classes_``; labels are numbers or text. The likelihood is Gaussian
    with variance ``temperature`` around the encoded label; X is used as given.

    Parameters and attributes are those of ``FiniteWidthRegressor``, and ``classes_``. ``score`` is the share of right
    predictions; the theory's expected accuracy is ``fw.predict(solution_, X).errors(y).accuracy``.
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Solve on X (points, inputs) and labels y (points,)."""
        x, labels = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(labels)
        self.classes_, index = np.unique(labels, return_inverse=True)
        _check_class_count(len(self.classes_))
        return self._solve(Dataset(x, index, classes=tuple(range(len(self.classes_)))))

    def decision_function(self, X: Any) -> Array:
        """Two classes: mean output over its standard deviation, (points,), above 0 for ``classes_[1]``.

        Divided by the deviation, so that it orders points as ``predict_proba`` does. More classes: the mean outputs,
        (points, classes).
        """
        result = self._predict(X)
        return _standardised(result) if result.mean.ndim == 1 else result.mean

    def predict(self, X: Any) -> Array:
        """The likelier label at X, (points,)."""
        mean = self._predict(X).mean
        return self.classes_[(mean > 0.0).astype(int) if mean.ndim == 1 else mean.argmax(axis=1)]

    def predict_proba(self, X: Any) -> Array:
        """Probability of each class under the predictive Gaussian of f, (points, classes).

        Two classes: P(f < 0), P(f > 0). More: that the output of the class is the largest.
        """
        result = self._predict(X)
        if result.mean.ndim == 1:
            columns = [prediction.sign_probability(sign * result.mean, result.variance) for sign in (-1.0, 1.0)]
            return np.stack(columns, axis=1)
        return prediction.class_probabilities(result)  # type: ignore[attr-defined]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = _MULTI_CLASS
        return tags


def _network_of(estimator: _FiniteWidth) -> Network:
    """The network that the parameters describe; a ready one stands for itself."""
    if isinstance(estimator.network, Network):
        _refuse_a_second_architecture(estimator)
        return estimator.network
    checks.choice("network", estimator.network, NETWORKS)
    return FullyConnected(
        widths=estimator.widths,
        activation=estimator.activation,
        weight_precision=estimator.weight_precision,
        offset_precision=estimator.offset_precision,
        readout=estimator.readout,
    )


def _refuse_a_second_architecture(estimator: _FiniteWidth) -> None:
    # Else a grid search over widths with a ready network would quietly compare equals.
    defaults = inspect.signature(_FiniteWidth.__init__).parameters
    for name in _ARCHITECTURE:
        value = getattr(estimator, name)
        if value is not defaults[name].default and not np.array_equal(value, defaults[name].default):
            raise InputError(
                f"{name} = {value!r} beside a ready network",
                "the architecture in one place",
                f"set {name} in the network, or give network='fc'",
            )


def _check_class_count(count: int) -> None:
    if count == 1:
        raise InputError("y with one class only", "at least two classes", "add points of another class")
    if count > 2 and not _MULTI_CLASS:
        raise InputError(
            f"y with {count} classes. Only binary classification is supported. The type of the target is multiclass",
            "two classes",
            "keep the points of two classes",
        )


def _standardised(result: Prediction) -> Array:
    """mean / sd, the argument of the sign probability; finite where the variance is zero."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.nan_to_num(result.mean / result.std, nan=0.0)
