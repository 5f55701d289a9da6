"""What every network description has in common."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from finitewidth import checks
from finitewidth.activations import Activation, activation_of, name_or_self
from finitewidth.display import Settings, chosen
from finitewidth.exceptions import InputError
from finitewidth.keywords import CheckedKeywords

READOUTS = ("standard", "mean-field")


@dataclass(frozen=True, kw_only=True)
class Network(CheckedKeywords, Settings):
    """A description of an architecture and of its Gaussian prior; it holds no weights and no data.

    Fields shared by all architectures
    ----------------------------------
    activation: name, Activation, or any element-wise function.
    weight_precision: prior precision lambda_l of the weights of layer l = 0..L; one number serves all layers.
    offset_precision: precision lambda_b of an offset added to every preactivation (None: no offsets). It adds
        1/lambda_b to the covariance of the preactivation.
    readout: "standard" (f ~ 1/sqrt(N)) or "mean-field" (f ~ 1/N, that is lambda_L -> N lambda_L).
    """

    activation: str | Activation | Callable[[Any], Any] = "erf"
    weight_precision: Any = 1.0
    offset_precision: float | None = None
    readout: str = "standard"

    def __post_init__(self) -> None:
        object.__setattr__(self, "activation", activation_of(self.activation))
        precisions = checks.positive_sequence("weight_precision", self.weight_precision, self.depth + 1)
        object.__setattr__(self, "weight_precision", precisions)
        if self.offset_precision is not None:
            object.__setattr__(self, "offset_precision", checks.positive("offset_precision", self.offset_precision))
        checks.choice("readout", self.readout, READOUTS)

    def _facts(self) -> dict[str, Any]:
        """The activation always, by its name where that says which it is."""
        return chosen(self) | {"activation": name_or_self(self.phi)}

    @property
    def depth(self) -> int:
        """Number of hidden layers L."""
        raise NotImplementedError

    if TYPE_CHECKING:  # a field in some architectures, derived in others

        @property
        def widths(self) -> tuple[int, ...]:
            """N_1 .. N_L: neurons, or channels of a convolutional layer."""

    @property
    def common_width(self) -> int | tuple[int, ...]:
        """N where all hidden layers are equally wide, else N_1 .. N_L: as the width of a row is stated."""
        return self.widths[0] if len(set(self.widths)) == 1 else tuple(self.widths)

    def with_width(self, width: int) -> Self:
        """The same network with every hidden layer ``width`` wide."""
        raise NotImplementedError

    def with_precision(self, weight_precision: Any) -> Self:
        """The same network with other prior precisions."""
        return replace(self, weight_precision=weight_precision)

    # --- the finite network itself: JAX arrays in and out; the readout is the same for every architecture ----------

    def init_hidden(self, key: Any, input_shape: tuple[int, ...]) -> Any:
        """Hidden weights and offsets drawn from the prior, a pytree; ``input_shape`` is that of one point."""
        raise NotImplementedError

    def features(self, hidden: Any, x: Any) -> Any:
        """Last hidden layer with all scalings, (points, features): ``f = features @ readout.T``."""
        raise NotImplementedError

    def hidden_log_prior(self, hidden: Any) -> Any:
        """Log density of the hidden weights and offsets under the prior, without the constant."""
        raise NotImplementedError

    def n_features(self, input_shape: tuple[int, ...]) -> int:
        """Readout weights of one output."""
        raise NotImplementedError

    def init(self, key: Any, input_shape: tuple[int, ...], n_outputs: int = 1) -> dict[str, Any]:
        """``{"hidden": pytree, "readout": (n_outputs, features)}`` drawn from the prior."""
        import jax

        hidden_key, readout_key = jax.random.split(key)
        readout = jax.random.normal(readout_key, (n_outputs, self.n_features(input_shape)))
        return {
            "hidden": self.init_hidden(hidden_key, input_shape),
            "readout": readout / math.sqrt(self.weight_precision[-1]),
        }

    def apply(self, params: dict[str, Any], x: Any) -> Any:
        """Outputs f(x), shape (points, n_outputs)."""
        return self.features(params["hidden"], x) @ params["readout"].T

    def log_prior(self, params: dict[str, Any]) -> Any:
        """Log density of all weights under the prior, without the constant."""
        readout = -0.5 * self.weight_precision[-1] * (params["readout"] ** 2).sum()
        return readout + self.hidden_log_prior(params["hidden"])

    @property
    def phi(self) -> Activation:
        """The activation, resolved."""
        assert isinstance(self.activation, Activation)
        return self.activation

    @property
    def readout_precision(self) -> float:
        """Precision of the readout weights in the scaling f = v.phi / sqrt(N): lambda_L, or N_L lambda_L."""
        last: float = self.weight_precision[-1]
        return last * self.widths[-1] if self.readout == "mean-field" else last

    @property
    def offset_variance(self) -> float:
        """1 / lambda_b, or 0 without offsets."""
        return 0.0 if self.offset_precision is None else 1.0 / self.offset_precision


class OfLayers(Network):
    """A network that is told the width of every hidden layer; its ``widths`` is a field, a number or several."""

    def __post_init__(self) -> None:
        given: Any = self.widths
        widths = (given,) if checks.scalar(given) else tuple(given)
        if not widths:
            raise InputError("widths = ()", "at least one hidden layer", "give widths=(100,), for example")
        widths = tuple(checks.positive_integer(f"widths[{i}]", w) for i, w in enumerate(widths))
        object.__setattr__(self, "widths", widths)
        super().__post_init__()

    @property
    def depth(self) -> int:
        return len(self.widths)

    def with_width(self, width: int) -> Self:
        return replace(self, widths=(width,) * self.depth)  # type: ignore[call-arg]

    def n_features(self, input_shape: tuple[int, ...]) -> int:
        """Readout weights of one output: N_L."""
        return self.widths[-1]
