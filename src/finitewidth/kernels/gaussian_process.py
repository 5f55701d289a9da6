"""Kernels of infinitely wide networks as scikit-learn kernels.

For ``GaussianProcessRegressor``, which fits their hyperparameters; and, as a callable, for ``KernelRidge``, ``SVC`` and
``SVR`` (``kernel=NetworkKernel(...)``), or precomputed (``kernel="precomputed"``, ``fit(kernel(X), y)``).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from sklearn.gaussian_process.kernels import Hyperparameter, Kernel

from finitewidth import checks
from finitewidth.checks.exceptions import InputError
from finitewidth.checks.keywords import CheckedKeywords
from finitewidth.display import Settings
from finitewidth.kernels.stack import StackKernel, from_layers

Array = np.ndarray
KINDS = ("nngp", "ntk")
_HYPERPARAMETERS = ("weight_precision", "offset_precision")
_WEIGHTED = ("dense", "dense_per_token", "conv", "locally_connected", "self_attention")
_STEP = 1e-4  # of a log hyperparameter in the central difference below: error of order 1e-8


@dataclass(eq=False, repr=False)
class NetworkKernel(CheckedKeywords, Settings, Kernel):
    """NNGP or NTK of an infinitely wide network, with its prior precisions as hyperparameters.

    Parameters
    ----------
    layers: as of ``fw.kernels.from_layers``, in plain data. Weighted layers take the hyperparameters below wherever
        they do not set ``weight_precision`` or ``offset_precision`` themselves. None: fully connected of ``depth``.
    depth, activation: hidden layers of the fully connected network; unused where ``layers`` are given.
    weight_precision, offset_precision: prior precision of weights and offsets of all layers; without an
        offset_precision (None) there are no offsets, and it stays so.
    kind: "nngp", the covariance of Bayesian networks, or "ntk", that of networks trained by gradient descent
        (whitened parameters).
    input_shape: of one point, for the flat rows of scikit-learn: (height, width, channels) or (tokens, features).
    weight_precision_bounds, offset_precision_bounds: (low, high), or "fixed".

    scikit-learn's ``ConstantKernel() * NetworkKernel()`` has a variance of the output; in relu networks the weight
    precision is one already.

    Raises InputError when called with layers or values that cannot be.
    """

    layers: Any = None
    depth: int = 1
    activation: Any = "erf"
    weight_precision: float = 1.0
    offset_precision: float | None = 10.0
    kind: str = "nngp"
    input_shape: Any = None
    weight_precision_bounds: Any = (1e-3, 1e3)
    offset_precision_bounds: Any = (1e-3, 1e4)

    def _facts(self) -> dict[str, Any]:
        """Architecture, kind and variances always; the rest where it is not the default."""
        values = self.get_params()
        always = {"kind", *_HYPERPARAMETERS, *(("depth", "activation") if self.layers is None else ())}
        usual = {field.name: field.default for field in fields(self)}
        shown = {name: v for name, v in values.items() if name in always or repr(v) != repr(usual[name])}
        return {name: v.item() if isinstance(v, np.generic) else v for name, v in shown.items()}

    @property
    def hyperparameter_weight_precision(self) -> Hyperparameter:
        """Prior precision of the weights."""
        return Hyperparameter("weight_precision", "numeric", self.weight_precision_bounds)

    @property
    def hyperparameter_offset_precision(self) -> Hyperparameter:
        """Prior precision of the offsets."""
        bounds = "fixed" if self.offset_precision is None else self.offset_precision_bounds
        return Hyperparameter("offset_precision", "numeric", bounds)

    def __call__(self, X: Any, Y: Any = None, eval_gradient: bool = False) -> Any:
        """K (points1, points2); with ``eval_gradient`` also d K / d theta, (points1, points1, free hyperparameters).

        theta are logarithms, differentiated in by central differences.
        """
        K = self._kernel(X, Y)
        if not eval_gradient:
            return K
        if Y is not None:
            raise InputError("eval_gradient with two sets of points", "one set", "leave Y out")
        gradients = []
        for hyperparameter in self.hyperparameters:
            if hyperparameter.fixed:
                continue
            more, less = (self._scaled(hyperparameter.name, sign * _STEP)._kernel(X) for sign in (1.0, -1.0))
            gradients.append((more - less) / (2.0 * _STEP))
        return K, np.stack(gradients, axis=-1) if gradients else np.empty((*K.shape, 0))

    def diag(self, X: Any) -> Array:
        """K(x, x) of every point, (points,)."""
        own = self._stack().diagonal(X)
        return own.nngp if self._is_nngp else own.ntk

    def is_stationary(self) -> bool:
        """No: it depends on the length of the inputs."""
        return False

    @property
    def _is_nngp(self) -> bool:
        return checks.choice("kind", self.kind, KINDS) == "nngp"

    def _kernel(self, X: Any, Y: Any = None) -> Array:
        stack = self._stack()
        return stack.nngp(X, Y) if self._is_nngp else stack.ntk(X, Y)

    def _scaled(self, name: str, log_factor: float) -> NetworkKernel:
        values = self.get_params()
        return NetworkKernel(**{**values, name: values[name] * np.exp(log_factor)})

    def _stack(self) -> StackKernel:
        layers = self.layers
        if layers is None:
            hidden = ["dense", self.activation] * checks.positive_integer("depth", self.depth)
            layers = ["flatten", *hidden, "dense"]
        return from_layers([self._filled(layer) for layer in layers], self.input_shape)

    def _filled(self, layer: object) -> object:
        """The layer with the hyperparameters wherever it leaves them open."""
        if isinstance(layer, str) and layer in _WEIGHTED:
            layer = {layer: {}}
        if not isinstance(layer, dict) or len(layer) != 1:
            return layer
        name, settings = next(iter(layer.items()))
        if name == "residual":
            if isinstance(settings, dict):
                return {name: {key: [self._filled(inner) for inner in part] for key, part in settings.items()}}
            return {name: [self._filled(inner) for inner in settings]}
        if name not in _WEIGHTED or not isinstance(settings, dict):
            return layer
        open_precisions = {"weight_precision": self.weight_precision, "offset_precision": self.offset_precision}
        return {name: {**open_precisions, **settings}}
