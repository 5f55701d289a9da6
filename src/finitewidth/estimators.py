"""scikit-learn's skin: finite-width Bayesian networks as a regressor and a classifier.

X is used as given, as everywhere in scikit-learn: put a ``StandardScaler`` in front with a Pipeline. ``fit`` warns
(``fw.ScaleWarning``) where the mean square of X is far from one. The regressor standardises y by default.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, overload

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from finitewidth import checks
from finitewidth.activations import Activation
from finitewidth.checks.exceptions import ConvergenceWarning, InputError
from finitewidth.checks.keywords import CheckedKeywords
from finitewidth.data import Dataset, Standardiser
from finitewidth.inference.likelihoods import Likelihood
from finitewidth.inference.methods import Method, Solution
from finitewidth.inference.prediction import Prediction, class_probabilities
from finitewidth.jobs.job import Job
from finitewidth.networks import Network
from finitewidth.networks.build import network_of

Array = np.ndarray
_PRIOR = ("activation", "offset_precision", "readout")
_PATCHES = ("patch", "stride", "padding", "pool", "input_shape")
_ARCHITECTURE = ("widths", "weight_precision", *_PRIOR, *_PATCHES)


@dataclass(eq=False, repr=False)
class _FiniteWidth(CheckedKeywords, BaseEstimator):
    """What regressor and classifier share: parameters, the solution, the prediction."""

    widths: int | Sequence[int] = (100,)
    activation: str | Activation | Callable[[Any], Any] = "erf"
    weight_precision: float | Sequence[float] = 1.0
    offset_precision: float | None = None
    readout: str = "standard"
    temperature: float | Likelihood = 0.05
    method: str | Method = "saddle"
    network: str | Network = "fc"
    input_shape: Sequence[int] | None = None
    patch: int | Sequence[int] | None = None
    stride: int | Sequence[int] | None = None
    padding: str | None = None
    pool: str | None = None

    def _solve(self, train: Dataset) -> Self:
        self.n_outputs_ = train.n_outputs
        job = Job.of(_network_of(self), self.temperature, self.method)
        self.solution_: Solution = job.solve(train)
        self.usable_ = self.solution_.converged or job.method.averages
        self.order_parameters_ = self.solution_.order_parameters
        self.log_evidence_ = float(self.solution_.log_evidence) if self.solution_.converged else math.nan
        if not self.solution_.converged:
            warnings.warn(f"not converged: {self.solution_.message}", ConvergenceWarning, stacklevel=3)
        return self

    def _predict(self, X: Any) -> Prediction:
        check_is_fitted(self)
        x = _validated(self, X, dtype=np.float64, reset=False)
        if not self.usable_:
            raise InputError(
                f"a {type(self).__name__} whose fit did not converge ({self.solution_.message})",
                "a converged solution",
                "fit again with rescaled data, another temperature or method='infinite'",
            )
        return self.solution_.predict(x.view())  # a view: the caller may write into X and come again


@dataclass(eq=False, repr=False)
class FiniteWidthRegressor(MultiOutputMixin, RegressorMixin, _FiniteWidth):
    """Bayesian network of finite width, solved instead of sampled, as a scikit-learn regressor.

    X is used as given. y is centred and scaled to variance 1, each output for itself, unless
    ``standardise_target=False``; predictions are in the units of y. The default differs from that of
    ``GaussianProcessRegressor(normalize_y=False)``, whose kernel may carry an amplitude that is fitted: here the prior
    has mean 0 and a variance of about 1, and nothing else fits it to the units of y.

    Parameters
    ----------
    widths: neurons of each hidden layer; a number is one layer. Channels of networks on patches.
    activation: name, ``fw.Activation``, or any element-wise function (of a module, if it is to be pickled).
    weight_precision: prior precision of the weights, one number or one a layer (lambda_0 .. lambda_L).
    offset_precision: prior precision of offsets, None for none. readout: "standard" or "mean-field".
    temperature: variance of the Gaussian likelihood (or a likelihood), of standardised y: .05 says that a twentieth of
        the variance of y is noise. With ``standardise_target=False`` in units of y squared.
    method: "saddle", "integrate", "infinite", "neuron", "sample", "train", or a method with its settings, such as
        ``fw.Saddle(closure="product")`` or ``fw.Sample(draws=200)``.
    network: "fc", "cnn", "lcn"; or a ready network (``fw.FullyConnected(...)``), beside which all parameters
        of the architecture stay at their defaults.
    input_shape: (height, width, channels) of the images that the rows of X hold; with "cnn" and "lcn" only.
    patch, stride, padding, pool: see ``fw.Convolutional``; with "cnn" and "lcn" only.
    standardise_target: whether y is standardised; of the regressor only.

    Attributes
    ----------
    solution_: the ``fw.Solution``, of standardised y. order_parameters_: its Q, flat.
    log_evidence_: in nats, of standardised y; NaN if not converged.
    target_mean_, target_scale_: of y, one an output, (outputs,); 0 and 1 where it was not standardised.
    n_features_in_, n_outputs_; feature_names_in_ where X has names.

    ``fit`` warns with ScaleWarning where X (or y, not standardised) is far from what the prior expects. It raises
    InputError for what cannot be used, MemoryCapError for what does not fit into memory. Where
    the solver did not converge it warns with ConvergenceWarning; ``solution_.converged`` is False then, and
    predicting raises InputError.
    """

    standardise_target: bool = True

    def fit(self, X: Any, y: Any) -> Self:
        """Solve on X (points, inputs) and y, (points,) or (points, outputs)."""
        x, targets = _validated(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        table = checks.real_array("y", targets, (1, 2)).reshape(len(x), -1)
        kind = "feature" if checks.flag("standardise_target", self.standardise_target) else "none"
        fitted = Standardiser.fit(table, kind)
        self.target_mean_, self.target_scale_ = fitted.mean, np.broadcast_to(fitted.scale, fitted.mean.shape)
        return self._solve(Dataset(x, fitted.transform(table), classes=()))

    @overload
    def predict(self, X: Any, return_std: Literal[False] = False) -> Array: ...

    @overload
    def predict(self, X: Any, return_std: Literal[True]) -> tuple[Array, Array]: ...

    def predict(self, X: Any, return_std: bool = False) -> Array | tuple[Array, Array]:
        """Predictive mean of f at X, with ``return_std`` also its standard deviation.

        Both are (points,) or (points, outputs). As in ``GaussianProcessRegressor`` the deviation is that of f
        and does not contain the noise: that of a new observation is
        ``sqrt(std**2 + temperature * target_scale_**2)``.
        """
        result = self._predict(X)
        mean, scale = self.target_mean_, self.target_scale_
        if result.mean.ndim == 1:
            mean, scale = mean[0], scale[0]
        return (result.mean * scale + mean, result.std * scale) if return_std else result.mean * scale + mean


class FiniteWidthClassifier(ClassifierMixin, _FiniteWidth):
    """Bayesian network of finite width as a scikit-learn classifier: regression on encoded labels.

    Labels are numbers or text. Two classes are targets -1, +1 in the order of ``classes_``, more are centred
    one-hot. The likelihood is Gaussian with variance ``temperature`` around the encoded label; X is used as
    given.

    Parameters and attributes are those of ``FiniteWidthRegressor``, and ``classes_``. ``score`` is the share
    of right predictions; the accuracy that the theory itself expects is the mean over points of
    ``predict_proba`` at the right label.
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Solve on X (points, inputs) and labels y (points,)."""
        x, labels = _validated(self, X, y, dtype=np.float64)
        check_classification_targets(labels)
        self.classes_, index = np.unique(labels, return_inverse=True)
        if len(self.classes_) == 1:
            raise InputError("y with one class only", "at least two classes", "add points of another class")
        return self._solve(Dataset(x, index, classes=tuple(range(len(self.classes_)))))

    def decision_function(self, X: Any) -> Array:
        """Two classes: mean output over its standard deviation, (points,), above 0 for ``classes_[1]``.

        Divided by the deviation, so that it orders points as ``predict_proba`` does. More classes: the mean
        outputs, (points, classes).
        """
        result = self._predict(X)
        return _standardised(result) if result.mean.ndim == 1 else result.mean

    def predict(self, X: Any) -> Array:
        """The label at X, (points,): the sign of the mean output, or the class of the largest one."""
        mean = self._predict(X).mean
        return self.classes_[(mean > 0.0).astype(int) if mean.ndim == 1 else mean.argmax(axis=1)]

    def predict_proba(self, X: Any) -> Array:
        """Probability of each class under the predictive Gaussian of f, (points, classes).

        Two classes: P(f < 0), P(f > 0). More: that the output of the class is the largest.
        """
        return class_probabilities(self._predict(X))


def _validated(estimator: _FiniteWidth, /, *given: Any, **options: Any) -> Any:
    """scikit-learn's own validation, with its texts; what it does not expect is said in ours."""
    try:
        return validate_data(estimator, *given, **options)
    except (ArithmeticError, LookupError, AttributeError, RecursionError) as error:
        raise InputError(f"X or y that are no arrays ({error})", "arrays of numbers", "convert them first") from error


def _network_of(estimator: _FiniteWidth) -> Network:
    """The network that the parameters describe; a ready one stands for itself."""
    if isinstance(estimator.network, Network):
        _refuse_a_second_architecture(estimator)
        return estimator.network
    widths = tuple(checks.one_or_more("widths", estimator.widths))
    options = {name: getattr(estimator, name) for name in (*_PRIOR, *_PATCHES)}
    return network_of(estimator.network, widths, precision=estimator.weight_precision, **options)


def _refuse_a_second_architecture(estimator: _FiniteWidth) -> None:
    # Else a grid search over widths with a ready network would quietly compare equals.
    for name in _ARCHITECTURE:
        value, default = getattr(estimator, name), getattr(_FiniteWidth, name)
        if value is not default and not np.array_equal(value, default):
            raise InputError(
                f"{name} = {checks.shown(value)} beside a ready network",
                "the architecture in one place",
                f"set {name} in the network, or give network='fc'",
            )


def _standardised(result: Prediction) -> Array:
    """mean / sd, the argument of the sign probability; finite where the variance is zero."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.nan_to_num(result.mean / result.std, nan=0.0)
