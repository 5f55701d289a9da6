"""Activations and their duals: how a nonlinearity turns one covariance into the next.

The *dual* of an activation phi is ``kappa(c11, c12, c22) = E[phi(u) phi(v)]`` for ``(u, v)`` Gaussian with zero
mean and covariance ``[[c11, c12], [c12, c22]]``. It is all that an infinitely wide layer knows of phi.
Closed forms: erf (Williams 1997), relu and leaky relu (Cho and Saul 2009), gelu, linear, quadratic; tanh, sigmoid and
silu are sums of erf and gelu at fourteen scales (``mixtures``). All of them hold at every size of the inputs. Where a
Hermite series is short it is faster (``HermiteDual``); the user's own functions have nothing else, and are refused
where it ends. All keep Gram matrices positive semidefinite by construction.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeVar

import numpy as np
from scipy import special

from finitewidth import checks
from finitewidth.activations.duals import (
    Array,
    Dual,
    ErfDual,
    Gradient,
    LeakyReluDual,
    LinearDual,
    QuadraticDual,
)
from finitewidth.activations.hermite import HermiteDual
from finitewidth.activations.mixtures import ErfMixtureDual, GeluMixtureDual, logistic_scales
from finitewidth.checks.exceptions import InputError

if TYPE_CHECKING:
    from jax import Array as JaxArray

Values = TypeVar("Values", np.ndarray, "JaxArray")

__all__ = [
    "Activation",
    "Dual",
    "ErfDual",
    "HermiteDual",
    "LeakyReluDual",
    "LinearDual",
    "QuadraticDual",
    "activation_of",
    "name_or_self",
    "names",
]


@dataclass(frozen=True)
class Activation:
    """A nonlinearity, its dual, and what theory may use of it.

    Attributes
    ----------
    name: what tables and JSON call it.
    function: phi on NumPy arrays, element by element.
    dual: closed form where known, Hermite series otherwise.
    odd: phi(-x) = -phi(x), so that the features have no mean.
    homogeneous: phi(s x) = s phi(x) for s > 0 (linear, relu, leaky relu): layer scales then commute with phi.
    jax_function: phi on JAX arrays, for sampling and training; loaded on first use.
    """

    name: str
    function: Callable[[Array], Array] = field(repr=False)
    dual: Dual = field(repr=False)
    odd: bool = False
    homogeneous: bool = False
    jax_function: Callable[[JaxArray], JaxArray] = field(repr=False, default=lambda x: x)

    @classmethod
    def from_function(
        cls, function: Callable[[Any], Any], name: str | None = None, kinks: Sequence[float] = ()
    ) -> Activation:
        """Any element-wise function; ``kinks`` are the arguments where its slope jumps (0 is always taken care of).

        Sampling and training hand the function JAX arrays: write it with operators or ``jax.numpy`` for these.
        Raises InputError if it is not vectorised or not finite.
        """
        if not callable(function):
            raise InputError(f"activation = {checks.shown(function)}", "a function of one array", "pass a callable")
        label, dual = name or str(getattr(function, "__name__", "function")), HermiteDual(function, kinks)
        return cls(label, function, dual, odd=dual.odd, jax_function=function)

    def kappa(self, c11: Any, c12: Any, c22: Any) -> Array:
        """E[phi(u) phi(v)], element by element over the broadcast arguments."""
        prepared, shape = self._prepared(c11, c12, c22)
        return self.dual.kappa(*prepared).reshape(shape)

    def kappa_gradient(self, c11: Any, c12: Any, c22: Any) -> Gradient:
        """(kappa, d/dc11, d/dc12, d/dc22), element by element over the broadcast arguments."""
        prepared, shape = self._prepared(c11, c12, c22)
        value, d11, d12, d22 = (part.reshape(shape) for part in self.dual.gradient(*prepared))
        return value, d11, d12, d22

    def mean(self, c: Any) -> Array:
        """E[phi(u)] for u of variance c."""
        return self.dual.mean(np.asarray(c, dtype=float))

    def _prepared(self, c11: Any, c12: Any, c22: Any) -> tuple[tuple[Array, Array, Array], tuple[int, ...]]:
        """Variances are prepared before they are broadcast: those of n points serve n^2 pairs."""
        shape = np.broadcast_shapes(*map(np.shape, (c11, c12, c22)))
        whole = shape or (1,)
        c11, c22 = (np.array(c, dtype=float, ndmin=len(whole)) for c in (c11, c22))
        c12 = np.broadcast_to(np.asarray(c12, dtype=float), whole)
        return (self.dual.prepare(c11), self.dual.prepare(c22), c12), shape

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        """Known activations pickle by name: their functions are partly lambdas and closures."""
        if name_or_self(self) is not self:
            return activation_of, (self.name,)
        return super().__reduce_ex__(protocol)

    def __call__(self, x: Any) -> Array:
        return self.function(np.asarray(x, dtype=float))


def _centred_sigmoid(x: Array) -> Array:
    """sigmoid(x) - 1/2."""
    return 0.5 * np.tanh(0.5 * x)


def _gelu(x: Array) -> Array:
    return x * special.ndtr(x)


def _silu(x: Array) -> Array:
    return x * special.expit(x)


LEAKY_SLOPE = 0.01
_WEIGHTS, _SQUARES = logistic_scales()


def _leaky_relu(x: Values) -> Values:
    return LEAKY_SLOPE * x + (1.0 - LEAKY_SLOPE) * (abs(x) + x) / 2.0


def _jax(path: str) -> Callable[[JaxArray], JaxArray]:
    """A function of jax, imported when first called."""

    def call(x: JaxArray) -> JaxArray:
        module, name = path.rsplit(".", 1)
        return getattr(importlib.import_module(module), name)(x)

    return call


def _jax_gelu(x: JaxArray) -> JaxArray:
    import jax

    return jax.nn.gelu(x, approximate=False)


_KNOWN: dict[str, Activation] = {
    a.name: a
    for a in (
        Activation("erf", special.erf, ErfDual(), odd=True, jax_function=_jax("jax.scipy.special.erf")),
        Activation(
            "relu",
            lambda x: np.maximum(x, 0.0),
            LeakyReluDual(),
            homogeneous=True,
            jax_function=_jax("jax.nn.relu"),
        ),
        Activation("linear", np.positive, LinearDual(), odd=True, homogeneous=True),
        Activation("quadratic", np.square, QuadraticDual(), jax_function=_jax("jax.numpy.square")),
        Activation(
            "tanh",
            np.tanh,
            HermiteDual(np.tanh, beyond=ErfMixtureDual(_WEIGHTS, 0.25 * _SQUARES)),
            odd=True,
            jax_function=_jax("jax.numpy.tanh"),
        ),
        Activation("gelu", _gelu, GeluMixtureDual(np.ones(1), np.ones(1)), jax_function=_jax_gelu),
        Activation(
            "sigmoid",
            special.expit,
            HermiteDual(_centred_sigmoid, beyond=ErfMixtureDual(0.5 * _WEIGHTS, _SQUARES, 0.5), constant=0.5),
            jax_function=_jax("jax.nn.sigmoid"),
        ),
        Activation(
            "silu",
            _silu,
            HermiteDual(_silu, beyond=GeluMixtureDual(_WEIGHTS, _SQUARES)),
            jax_function=_jax("jax.nn.silu"),
        ),
        Activation("leaky_relu", _leaky_relu, LeakyReluDual(LEAKY_SLOPE), homogeneous=True, jax_function=_leaky_relu),
    )
}


def names() -> tuple[str, ...]:
    """The activations known by name."""
    return tuple(_KNOWN)


def name_or_self(activation: Activation) -> str | Activation:
    """The name of an activation that is known by it."""
    return activation.name if _KNOWN.get(activation.name) is activation else activation


def activation_of(value: str | Activation | Callable[[Any], Any]) -> Activation:
    """An Activation from its name, from itself, or from any element-wise function."""
    if isinstance(value, Activation):
        return value
    if callable(value):
        return Activation.from_function(value)
    return _KNOWN[checks.choice("activation", value, _KNOWN)]
