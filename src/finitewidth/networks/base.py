"""What every network description has in common."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from finitewidth import checks
from finitewidth.activations import Activation, activation_of, name_or_self
from finitewidth.checks.exceptions import InputError
from finitewidth.checks.keywords import CheckedKeywords
from finitewidth.display import Settings, chosen
from finitewidth.linalg import x_minus_log1p

if TYPE_CHECKING:
    from jax import Array as JaxArray

    from finitewidth.runs.jax_runs import Tree

Array = np.ndarray
READOUTS = ("standard", "mean-field")


class Making(type):
    """``Network([...])`` is the most specific description of its layers; subclasses are made as ever.

    layered: the class that reads lists, set where it is defined, for it knows all others.
    """

    layered: Any

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs) if cls is not Network else cls.layered(*args, **kwargs).most_specific()

    @property
    def __signature__(cls) -> inspect.Signature:
        made: Any = cls.layered if cls is Network else cls
        own = inspect.signature(made.__init__)
        return own.replace(parameters=list(own.parameters.values())[1:])


@dataclass(frozen=True, kw_only=True, init=False)
class Network(CheckedKeywords, Settings, metaclass=Making):
    """A description of an architecture and of its Gaussian prior; it holds no weights and no data.

    ``Network([...])`` is a list of layers (``LayeredNetwork`` says what they are); where one of the classes describes
    the same network it is of that class, ``FullyConnected`` for example.

    Subclass it for an architecture of your own, as a frozen dataclass with a field ``widths``. For theory write
    ``covariance``, and ``rate`` where you know better; for sampling and training ``init_hidden``, ``features`` and
    ``hidden_log_prior``, and ``n_features`` where it is not N_L. Both sides are yours, so hold one to the other:
    ``fw.kernels.empirical`` estimates the covariance of the finite network (docs/recipes.md does it).

    Fields shared by all architectures
    ----------------------------------
    activation: name, Activation, or any element-wise function.
    weight_precision: prior precision lambda_l of the weights of layer l = 0..L; one number serves all layers.
    offset_precision: precision lambda_b of an offset added to every preactivation (None: no offsets). It adds
        1/lambda_b to the covariance of the preactivation.
    readout: "standard" (f ~ 1/sqrt(N)) or "mean-field" (f ~ 1/N, that is lambda_L -> N lambda_L).

    What methods ask of an architecture
    -----------------------------------
    own: whether it is an architecture of the user's own, of whose layers nothing is known.
    kernel_recursion: whether the kernel of each layer follows from that of the layer before, point pair by point pair.
    known_neurons: whether ``neuron_inputs`` says what the neurons of the first layer read.
    rotates_inputs: whether the first weights (..., N, inputs) see inputs only through a product with them.
    patched: whether order parameters belong to patches, the readout having weights of its own for each.
    shares_weights: whether one neuron looks at all patches.
    """

    own: ClassVar[bool] = True
    kernel_recursion: ClassVar[bool] = False
    known_neurons: ClassVar[bool] = False
    rotates_inputs: ClassVar[bool] = False
    shares_weights: ClassVar[bool] = True

    activation: str | Activation | Callable[[Any], Any] = "erf"
    weight_precision: Any = 1.0
    offset_precision: float | None = None
    readout: str = "standard"

    if TYPE_CHECKING:

        def __init__(
            self, layers: Sequence[Any], input_shape: tuple[int, ...] | None = None, *, readout: str = "standard"
        ) -> None: ...

        @property  # a field in some architectures, derived in others
        def widths(self) -> tuple[int, ...]:
            """N_1 .. N_L: neurons, or channels of a convolutional layer."""

    def __post_init__(self) -> None:
        if any(field.name == "widths" for field in fields(self)):
            object.__setattr__(self, "widths", _checked_widths(self.widths))
        object.__setattr__(self, "activation", activation_of(self.activation))
        precisions = checks.positive_sequence("weight_precision", self.weight_precision, self.depth + 1)
        object.__setattr__(self, "weight_precision", precisions)
        checks.put(self, offset_precision=checks.optional(checks.positive))
        checks.choice("readout", self.readout, READOUTS)

    def _facts(self) -> dict[str, Any]:
        """The activation always, by its name where that says which it is."""
        return chosen(self) | {"activation": name_or_self(self.phi)}

    @property
    def depth(self) -> int:
        """Number of hidden layers L."""
        return len(self.widths)

    @property
    def common_width(self) -> int | tuple[int, ...]:
        """N where all hidden layers are equally wide, else N_1 .. N_L: as the width of a row is stated."""
        return self.widths[0] if len(set(self.widths)) == 1 else tuple(self.widths)

    def with_width(self, width: int) -> Self:
        """The same network with every hidden layer ``width`` wide."""
        return self.with_widths((width,) * self.depth)

    def with_widths(self, widths: Sequence[int]) -> Self:
        """The same network with hidden layers of other widths, one each."""
        return replace(self, widths=tuple(widths))  # type: ignore[call-arg]

    def with_precision(self, weight_precision: Any) -> Self:
        """The same network with other prior precisions."""
        return replace(self, weight_precision=weight_precision)

    # --- what methods ask of it -------------------------------------------------------------------------------------

    @property
    def states_covariance(self) -> bool:
        """Whether it is an architecture of the user's own that says what its covariance is."""
        return type(self).covariance is not Network.covariance

    @property
    def patched(self) -> bool:
        """Whether order parameters belong to patches."""
        return False

    def n_patches(self, input_shape: tuple[int, ...]) -> int:
        """Patches of one point that a neuron of the first layer looks at."""
        return 1

    def field_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of what a neuron of the first layer looks at in a point: all of it, or a patch."""
        return tuple(input_shape)

    def neuron_inputs(self, x: Array) -> Array:
        """What the neurons of the first layer read of points ``x`` (P, ...): (patches, P, inputs)."""
        raise InputError(f"the neurons of a {type(self).__name__}", "a network whose neurons are known", "use another")

    def covariance(self, order_parameters: Array, x1: Array, x2: Array) -> Array:
        """K_R(Q), (points1, points2), readout precision included; Q = 1 in every layer is infinite width.

        Of an architecture of one's own: theory is the saddle of the action with one scalar order parameter a hidden
        layer and Gaussian features (docs/theory.md section 2), for one output.
        order_parameters: Q, (L,). x1, x2: points as the data hold them.
        """
        name = type(self).__name__
        raise InputError(
            f"{name} without a covariance", "what K_R is at given Q", f"write {name}.covariance(Q, x1, x2)"
        )

    def rate(self, order_parameters: Array) -> float:
        """What Q costs, twice nats: ``sum_l N_l (Q_l - log Q_l - 1)``, unless you know better."""
        return float(sum(n * x_minus_log1p(q - 1.0) for n, q in zip(self.widths, order_parameters, strict=True)))

    # --- the finite network itself: JAX arrays in and out; the readout is the same for every architecture ----------

    def init_hidden(self, key: JaxArray, input_shape: tuple[int, ...]) -> Tree:
        """Hidden weights and offsets drawn from the prior, a pytree; ``input_shape`` is that of one point."""
        raise NotImplementedError

    def features(self, hidden: Tree, x: JaxArray) -> JaxArray:
        """Last hidden layer with all scalings, (points, features): ``f = features @ readout.T``."""
        raise NotImplementedError

    def hidden_log_prior(self, hidden: Tree) -> JaxArray | float:
        """Log density of the hidden weights and offsets under the prior, without the constant."""
        raise NotImplementedError

    def first_weights(self, hidden: Tree) -> JaxArray:
        """Weights of the first layer, (..., N, inputs); (..., n, N, inputs of a patch) where patches share none."""
        return hidden["weights"][0]

    def n_features(self, input_shape: tuple[int, ...]) -> int:
        """Readout weights of one output: N_L, unless there are several a neuron."""
        return self.widths[-1]

    def gradient_operations(self, n_points: int, input_shape: tuple[int, ...]) -> float:
        """Of a gradient with the readout integrated, roughly: through the layers, and of the features' Gram matrix."""
        inputs, features = math.prod(input_shape), self.n_features(input_shape)
        sizes = (min(n_points, inputs) if self.rotates_inputs else inputs, *self.widths)
        products = sum(a * b for a, b in itertools.pairwise(sizes)) * max(1, features // self.widths[-1])
        return n_points * (6.0 * products + 4.0 * features * min(features, n_points))

    def init(self, key: JaxArray, input_shape: tuple[int, ...], n_outputs: int = 1) -> dict[str, Tree]:
        """``{"hidden": pytree, "readout": (n_outputs, features)}`` drawn from the prior."""
        import jax

        hidden_key, readout_key = jax.random.split(key)
        readout = jax.random.normal(readout_key, (n_outputs, self.n_features(input_shape)))
        return {
            "hidden": self.init_hidden(hidden_key, input_shape),
            "readout": readout / math.sqrt(self.weight_precision[-1]),
        }

    def apply(self, params: dict[str, Tree], x: JaxArray) -> JaxArray:
        """Outputs f(x), shape (points, n_outputs)."""
        return self.features(params["hidden"], x) @ params["readout"].T

    def log_prior(self, params: dict[str, Tree]) -> JaxArray | float:
        """Log density of all weights under the prior, without the constant."""
        readout = -0.5 * self.weight_precision[-1] * (params["readout"] ** 2).sum()
        return readout + self.hidden_log_prior(params["hidden"])

    @property
    def phi(self) -> Activation:
        """The activation, resolved. Raises InputError where layers have several."""
        assert isinstance(self.activation, Activation)
        return self.activation

    @property
    def activations(self) -> tuple[Activation, ...]:
        """The different activations of its layers."""
        return (self.phi,)

    @property
    def activation_names(self) -> str:
        """Of all of them, as a table states them."""
        return ", ".join(phi.name for phi in self.activations)

    @property
    def readout_precision(self) -> float:
        """Precision of the readout weights in the scaling f = v.phi / sqrt(N): lambda_L, or N_L lambda_L."""
        last: float = self.weight_precision[-1]
        return last * self.widths[-1] if self.readout == "mean-field" else last

    @property
    def offset_variance(self) -> float:
        """1 / lambda_b, or 0 without offsets."""
        return 0.0 if self.offset_precision is None else 1.0 / self.offset_precision


@dataclass(frozen=True, kw_only=True, init=False)
class ListedWeights(Network):
    """Hidden parameters are ``{"weights": [one array a layer], "offsets": [the same] or []}``."""

    own = False
    known_neurons = True

    def _weight_shapes(self, input_shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Shapes of the hidden weights, inputs of a neuron last; without these they are those of the offsets."""
        raise NotImplementedError

    def init_hidden(self, key: JaxArray, input_shape: tuple[int, ...]) -> dict[str, list[JaxArray]]:
        """Weights and offsets drawn from the prior; their shapes are in the description of the class."""
        import jax

        shapes = self._weight_shapes(tuple(input_shape))
        keys = jax.random.split(key, 2 * len(shapes))
        precisions = self.weight_precision[: len(shapes)]
        drawn = [jax.random.normal(k, shape) for k, shape in zip(keys[::2], shapes, strict=True)]
        weights = [weight / math.sqrt(precision) for weight, precision in zip(drawn, precisions, strict=True)]
        if self.offset_precision is None:
            return {"weights": weights, "offsets": []}
        scale = math.sqrt(self.offset_variance)
        offsets = [scale * jax.random.normal(k, shape[:-1]) for k, shape in zip(keys[1::2], shapes, strict=True)]
        return {"weights": weights, "offsets": offsets}

    def hidden_log_prior(self, hidden: dict[str, list[JaxArray]]) -> JaxArray | float:
        total: JaxArray | float = 0.0
        for precision, weight in zip(self.weight_precision, hidden["weights"], strict=False):
            total = total - 0.5 * precision * (weight**2).sum()
        for offset in hidden["offsets"]:
            total = total - 0.5 * (offset**2).sum() / self.offset_variance
        return total


def _checked_widths(given: Any) -> tuple[int, ...]:
    widths = (given,) if checks.scalar(given) else tuple(given)
    if not widths:
        raise InputError("widths = ()", "at least one hidden layer", "give widths=(100,), for example")
    return tuple(checks.positive_integer(f"widths[{i}]", w) for i, w in enumerate(widths))
