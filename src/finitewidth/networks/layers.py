"""Layers that a ``Stack`` is made of: what each does to the shape of a point, and the finite layer itself.

All parameters are *whitened*: standard normal at initialisation, variances and 1/sqrt(fan-in) outside (the
"NTK parameterisation" of Jacot et al. 2018). A point is (*space, channels): no space for vectors, (tokens,) for
sequences and signals, (height, width) for images. Their covariances are in ``kernels.rules``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from finitewidth import checks
from finitewidth.activations import Activation, activation_of, name_or_self
from finitewidth.display import Settings
from finitewidth.exceptions import InputError
from finitewidth.networks.patches import sizes_of, times, window

Space = tuple[int, ...]
PADDINGS = ("valid", "same")
MECHANISMS = ("softmax", "identity")
SCALINGS = ("linear", "sqrt")


class Layer(Settings):
    """One layer; fields are its settings. Subclasses override what differs."""

    has_weights = False

    def output_space(self, space: Space) -> Space:
        """The space of the output; InputError where the layer cannot follow such an input."""
        return space

    def gaussian_after(self, gaussian: bool) -> bool:
        """Whether the outputs are Gaussian, channel by channel independently, when the inputs are (or are not)."""
        return gaussian

    def init(self, key: Any, space: Space, channels: int, width: int) -> tuple[Any, int]:
        """Parameters, standard normal, and the channels of the output: ``width`` of them if the layer has weights."""
        return (), channels

    def apply(self, params: Any, x: Any) -> Any:
        """The layer on JAX arrays (points, *space, channels)."""
        raise NotImplementedError


@dataclass(frozen=True)
class Weighted(Layer):
    """``sqrt(weight_variance / fan-in) W x + sqrt(bias_variance) b``."""

    weight_variance: float = 1.0
    bias_variance: float = 0.0

    has_weights = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight_variance", checks.positive("weight_variance", self.weight_variance))
        object.__setattr__(self, "bias_variance", checks.not_negative("bias_variance", self.bias_variance))

    def gaussian_after(self, gaussian: bool) -> bool:
        return True

    def _shapes(self, space: Space, channels: int, width: int) -> tuple[Space, Space]:
        """Shapes of W and of b."""
        raise NotImplementedError

    def _product(self, weights: Any, x: Any) -> tuple[Any, int]:
        """W x and the fan-in."""
        raise NotImplementedError

    def init(self, key: Any, space: Space, channels: int, width: int) -> tuple[Any, int]:
        import jax

        weights, biases = self._shapes(space, channels, width)
        one, two = jax.random.split(key)
        params = [jax.random.normal(one, weights)]
        if self.bias_variance:
            params.append(jax.random.normal(two, biases))
        return params, width

    def apply(self, params: Any, x: Any) -> Any:
        product, fan_in = self._product(params[0], x)
        out = math.sqrt(self.weight_variance / fan_in) * product
        return out + math.sqrt(self.bias_variance) * params[1] if self.bias_variance else out


@dataclass(frozen=True)
class Dense(Weighted):
    """Fully connected, on vectors; with ``per_token`` the same weights at every position."""

    per_token: bool = False

    def output_space(self, space: Space) -> Space:
        if self.per_token and not space:
            raise _no_sequence("dense_per_token")
        if space and not self.per_token:
            raise InputError(
                f"dense on an input of {times(space)} positions",
                "a vector for every point",
                'put "flatten" or "global_average_pool" before it, or use "dense_per_token"',
            )
        return space

    def _shapes(self, space: Space, channels: int, width: int) -> tuple[Space, Space]:
        return (channels, width), (width,)

    def _product(self, weights: Any, x: Any) -> tuple[Any, int]:
        return x @ weights, len(weights)


@dataclass(frozen=True, kw_only=True)
class Windowed(Layer):
    """Windows of an image or signal: shape, strides, padding "valid" or "same" (zeros, as XLA pads).

    A number serves every direction.
    """

    size: Any
    strides: Any = 1
    padding: str = "valid"

    def __post_init__(self) -> None:
        for name in ("size", "strides"):
            value = getattr(self, name)
            object.__setattr__(self, name, sizes_of(name, list(value) if isinstance(value, tuple) else value))
        object.__setattr__(self, "padding", checks.choice("padding", str(self.padding).lower(), PADDINGS))

    def geometry(self, space: Space) -> list[tuple[int, int, int, int]]:
        """(positions out, zeros in front, size, stride) of every direction of the space."""
        sizes, steps = self._per_direction("size", space), self._per_direction("strides", space)
        padded = self.padding == "same"
        if not padded and any(size > full for size, full in zip(sizes, space, strict=True)):
            raise InputError(
                f"a window of {times(sizes)} on an input of {times(space)}",
                f"a window of at most {times(space)}",
                'make it smaller, or write padding "same"',
            )
        triples = zip(space, sizes, steps, strict=True)
        return [(*window(full, size, step, padded), size, step) for full, size, step in triples]

    def _per_direction(self, name: str, space: Space) -> Space:
        value = getattr(self, name)
        value = (value,) * len(space) if isinstance(value, int) else value
        if len(value) != len(space) or not space:
            raise InputError(
                f"windows of {name} {value} on points with {len(space)} directions",
                "images (points, height, width [, channels]), or signals (points, length, channels)",
                "give one number a direction, and input_shape if the points are flat",
            )
        return tuple(value)

    def output_space(self, space: Space) -> Space:
        return tuple(count for count, *_ in self.geometry(space))


@dataclass(frozen=True, kw_only=True)
class Conv(Windowed, Weighted):
    """Convolution, divided by sqrt(filter size x channels), at the border too; ``shared=False``: locally connected.

    Biases belong to channels; without shared weights, to channels and positions.
    """

    shared: bool = True

    def __post_init__(self) -> None:
        Windowed.__post_init__(self)
        Weighted.__post_init__(self)

    def _shapes(self, space: Space, channels: int, width: int) -> tuple[Space, Space]:
        size = self._per_direction("size", space)
        if self.shared:
            return (*size, channels, width), (width,)
        out = self.output_space(space)
        return (*out, channels * math.prod(size), width), (*out, width)

    def _product(self, weights: Any, x: Any) -> tuple[Any, int]:
        from jax import lax

        space = x.shape[1:-1]
        size, letters = self._per_direction("size", space), "HW"[: len(space)]
        numbers = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
        steps, padding = self._per_direction("strides", space), self.padding.upper()
        if self.shared:
            product = lax.conv_general_dilated(x, weights, steps, padding, dimension_numbers=numbers)
        else:
            product = lax.conv_general_dilated_local(x, weights, steps, padding, size, dimension_numbers=numbers)
        return product, math.prod(size) * x.shape[-1]


@dataclass(frozen=True, kw_only=True)
class AveragePool(Windowed):
    """Mean over windows, the zeros of "same" padding counted."""

    def apply(self, params: Any, x: Any) -> Any:
        from jax import lax

        space = x.shape[1:-1]
        size, steps = self._per_direction("size", space), self._per_direction("strides", space)
        sums = lax.reduce_window(x, 0.0, lax.add, (1, *size, 1), (1, *steps, 1), self.padding.upper())
        return sums / math.prod(size)


@dataclass(frozen=True)
class Nonlinearity(Layer):
    """An activation, element by element. Its input must be Gaussian: the output of a layer with weights."""

    activation: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "activation", activation_of(self.activation))

    def _facts(self) -> dict[str, Any]:
        return {"activation": name_or_self(self.phi)}

    @property
    def phi(self) -> Activation:
        """The activation, resolved."""
        assert isinstance(self.activation, Activation)
        return self.activation

    def gaussian_after(self, gaussian: bool) -> bool:
        if not gaussian:
            raise InputError(
                f"activation {self.phi.name!r} on the inputs, on another activation, or on flattened layers",
                "an activation behind dense, conv, self_attention, a residual block, or pooling of these",
                "put a layer with weights before it, and flatten after it",
            )
        return False

    def apply(self, params: Any, x: Any) -> Any:
        return self.phi.jax_function(x)


@dataclass(frozen=True)
class Flatten(Layer):
    """All positions and channels as one vector."""

    def output_space(self, space: Space) -> Space:
        return ()

    def gaussian_after(self, gaussian: bool) -> bool:
        return False  # positions have unequal variances

    def init(self, key: Any, space: Space, channels: int, width: int) -> tuple[Any, int]:
        return (), math.prod(space) * channels

    def apply(self, params: Any, x: Any) -> Any:
        return x.reshape(len(x), -1)


@dataclass(frozen=True)
class GlobalAveragePool(Layer):
    """Mean over all positions, channel by channel."""

    def output_space(self, space: Space) -> Space:
        if not space:
            raise _no_sequence("global_average_pool")
        return ()

    def apply(self, params: Any, x: Any) -> Any:
        return x.mean(axis=tuple(range(1, x.ndim - 1)))


@dataclass(frozen=True)
class LayerNorm(Layer):
    """``(x - mean) / sqrt(epsilon + variance)`` over the channels of every position, without parameters."""

    epsilon: float = 1e-12

    def __post_init__(self) -> None:
        object.__setattr__(self, "epsilon", checks.not_negative("epsilon", self.epsilon))

    def gaussian_after(self, gaussian: bool) -> bool:
        if not gaussian:
            raise InputError(
                "layer_norm on the inputs, behind an activation or behind flatten",
                "layer_norm directly behind a layer with weights, where channels have mean zero",
                "put it between the layer with weights and the activation",
            )
        return True

    def apply(self, params: Any, x: Any) -> Any:
        import jax.numpy as jnp

        centred = x - x.mean(axis=-1, keepdims=True)
        return centred / jnp.sqrt(self.epsilon + (centred**2).mean(axis=-1, keepdims=True))


@dataclass(frozen=True)
class SelfAttention(Layer):
    """Self-attention over all positions, heads concatenated and mapped by W_out (Hron et al. 2020).

    mechanism: "softmax" or "identity", what the products of queries and keys go through.
    scaling: "linear": products are divided by the key dimension, and queries and keys share their weights (else
        the products would vanish at infinite width); "sqrt": by its root, independent weights; only "identity" has
        a closed form then, and uses it unless told otherwise; "softmax" is always "linear".
    query_variance, key_variance, value_variance, out_variance: of the four weight matrices; only the products
        query x key and value x out matter. bias_variance: of the output's bias.
    """

    mechanism: str = "softmax"
    scaling: str | None = None
    query_variance: float = 1.0
    key_variance: float = 1.0
    value_variance: float = 1.0
    out_variance: float = 1.0
    bias_variance: float = 0.0

    has_weights = True

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        mechanism: Any = self.mechanism
        named = mechanism.lower() if isinstance(mechanism, str) else mechanism
        set_field(self, "mechanism", checks.choice("mechanism", named, MECHANISMS))
        default = "linear" if self.mechanism == "softmax" else "sqrt"
        scaling = default if self.scaling is None else self.scaling
        set_field(self, "scaling", checks.choice("scaling", scaling, SCALINGS))
        if self.mechanism == "softmax" and self.scaling == "sqrt":
            raise InputError(
                'softmax attention with scaling "sqrt"',
                'scaling "linear": the other has no closed form at infinite width (Hron et al. 2020)',
                'leave scaling out, or use mechanism "identity"',
            )
        for name in ("query_variance", "key_variance", "value_variance", "out_variance"):
            set_field(self, name, checks.positive(name, getattr(self, name)))
        set_field(self, "bias_variance", checks.not_negative("bias_variance", self.bias_variance))

    @property
    def s_qk(self) -> float:
        """Product of the standard deviations of queries and keys."""
        return math.sqrt(self.query_variance * self.key_variance)

    @property
    def s_ov(self) -> float:
        """Product of the standard deviations of values and outputs."""
        return math.sqrt(self.value_variance * self.out_variance)

    def output_space(self, space: Space) -> Space:
        if not space:
            raise _no_sequence("self_attention")
        return space

    def gaussian_after(self, gaussian: bool) -> bool:
        return True

    def init(self, key: Any, space: Space, channels: int, width: int) -> tuple[Any, int]:
        """``width`` heads with keys of ``width`` and values of one dimension."""
        import jax

        keys = jax.random.split(key, 5)
        into = (width, channels, width)
        shapes = {"key": into, "value": (width, channels, 1), "out": (width, width), "bias": (width,), "query": into}
        params = {name: jax.random.normal(k, shape) for k, (name, shape) in zip(keys, shapes.items(), strict=True)}
        if not self.bias_variance:
            del params["bias"]
        if self.scaling == "linear":
            del params["query"]
        return params, width

    def apply(self, params: Any, x: Any) -> Any:
        import jax
        import jax.numpy as jnp

        space, channels = x.shape[1:-1], x.shape[-1]
        tokens = x.reshape(len(x), -1, channels)
        keys = jnp.einsum("ptc,hck->phtk", tokens, params["key"])
        queries = jnp.einsum("ptc,hck->phtk", tokens, params["query"]) if "query" in params else keys
        size = keys.shape[-1] if self.scaling == "linear" else math.sqrt(keys.shape[-1])
        weights = (self.s_qk / (channels * size)) * jnp.einsum("phqk,phtk->phqt", queries, keys)
        if self.mechanism == "softmax":
            weights = jax.nn.softmax(weights, axis=-1)
        heads = jnp.einsum("phqt,ptc,hcv->pqhv", weights, tokens, params["value"], optimize=True)
        heads = heads.reshape(*heads.shape[:2], -1)
        out = (self.s_ov / math.sqrt(channels * heads.shape[-1])) * (heads @ params["out"])
        if "bias" in params:
            out = out + math.sqrt(self.bias_variance) * params["bias"]
        return out.reshape(len(x), *space, -1)


@dataclass(frozen=True)
class Residual(Layer):
    """``shortcut(x) + branch(x)``: layers side by side, the shortcut being the identity where it is empty."""

    branch: tuple[Layer, ...]
    shortcut: tuple[Layer, ...] = ()

    has_weights = True

    def output_space(self, space: Space) -> Space:
        ends = [walk(layers, space)[-1] for layers in (self.branch, self.shortcut)]
        if ends[0] != ends[1]:
            raise InputError(
                f"a residual branch that ends in {times(ends[0]) or 'a vector'} beside {times(ends[1]) or 'a vector'}",
                "the same positions at the end of branch and shortcut",
                'pad with "same" and strides of 1, or give the shortcut the same strides',
            )
        return ends[0]

    def gaussian_after(self, gaussian: bool) -> bool:
        both = [gaussian_at_end(layers, gaussian) for layers in (self.branch, self.shortcut)]
        if not (all(both) and any(layer.has_weights for layer in self.branch)):
            raise InputError(
                "a residual block whose branch or shortcut is not Gaussian and of mean zero",
                "both behind a layer with weights, the branch ending in one",
                "end the branch with dense, conv or dense_per_token, and start the block behind such a layer",
            )
        return True

    def init(self, key: Any, space: Space, channels: int, width: int) -> tuple[Any, int]:
        import jax

        keys = jax.random.split(key)
        (branch, out), (shortcut, beside) = (
            init_layers(layers, k, space, channels, width)
            for layers, k in zip((self.branch, self.shortcut), keys, strict=True)
        )
        assert out == beside, "all layers with weights have the same width"
        return [branch, shortcut], out

    def apply(self, params: Any, x: Any) -> Any:
        return apply_layers(self.branch, params[0], x) + apply_layers(self.shortcut, params[1], x)


def walk(layers: tuple[Layer, ...], space: Space) -> list[Space]:
    """The space in front of every layer, and behind the last one."""
    spaces = [space]
    for layer in layers:
        spaces.append(layer.output_space(spaces[-1]))
    return spaces


def gaussian_at_end(layers: tuple[Layer, ...], gaussian: bool) -> bool:
    """Whether the outputs of the last layer are Gaussian; InputError where the order of layers has no kernel."""
    for layer in layers:
        gaussian = layer.gaussian_after(gaussian)
    return gaussian


def init_layers(layers: tuple[Layer, ...], key: Any, space: Space, channels: int, width: int) -> tuple[list[Any], int]:
    """Parameters of every layer, and the channels at the end."""
    import jax

    params = []
    for layer, k in zip(layers, jax.random.split(key, max(len(layers), 1)), strict=False):
        own, channels = layer.init(k, space, channels, width)
        params.append(own)
        space = layer.output_space(space)
    return params, channels


def apply_layers(layers: tuple[Layer, ...], params: list[Any], x: Any) -> Any:
    """One layer after another."""
    for layer, own in zip(layers, params, strict=True):
        x = layer.apply(own, x)
    return x


def _no_sequence(name: str) -> InputError:
    return InputError(
        f"{name} on points without positions",
        "a sequence (points, tokens, features) or images (points, height, width, channels)",
        "reshape the points, or give input_shape; put it before flatten and pooling",
    )
