"""Layers that a list is made of: what each does to the shape of a point, and the finite layer itself.

Weights have prior variance ``1 / weight_precision``, and products with them are divided by sqrt(fan-in). A point is
(*space, channels): no space for vectors, (tokens,) for sequences and signals, (height, width) for images. Their
covariances are in ``kernels.rules``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from finitewidth import checks
from finitewidth.activations import Activation, activation_of, name_or_self
from finitewidth.checks.exceptions import InputError
from finitewidth.checks.keywords import CheckedKeywords
from finitewidth.display import Settings
from finitewidth.networks.patches import Padding, PatchGrid, padding_of, per_direction, sizes_of, times

if TYPE_CHECKING:
    from jax import Array as JaxArray

    from finitewidth.runs.jax_runs import Tree

Space = tuple[int, ...]
MECHANISMS = ("softmax", "identity")


class Layer(CheckedKeywords, Settings):
    """One layer; fields are its settings. Subclasses override what differs."""

    sequence_only: ClassVar[str | None] = None  # name of a layer that needs points of several positions

    def output_space(self, space: Space) -> Space:
        """The space of the output; InputError where the layer cannot follow such an input."""
        if self.sequence_only and not space:
            raise InputError(
                f"{self.sequence_only} on points without positions",
                "a sequence (points, tokens, features) or images (points, height, width, channels)",
                "reshape the points, or give input_shape; put it before flatten and pooling",
            )
        return space

    def output_channels(self, space: Space, channels: int) -> int:
        """Channels of the output; InputError where the layer does not say how many it has."""
        return channels

    def gaussian_after(self, gaussian: bool) -> bool:
        """Whether the outputs are Gaussian, channel by channel independently, when the inputs are (or are not)."""
        return gaussian

    @property
    def weighted(self) -> tuple[Weighted, ...]:
        """The layers with weights in it, itself or those of a block."""
        return ()

    @property
    def activations(self) -> tuple[Activation, ...]:
        """The activations in it."""
        return ()

    def changed(self, change: Callable[[Weighted], Layer]) -> Layer:
        """The same with another layer for each one that has weights."""
        return self

    def init(self, key: JaxArray, space: Space, channels: int) -> Tree:
        """Parameters drawn from the prior."""
        return ()

    def apply(self, params: Tree, x: Any) -> Any:
        """The layer on JAX arrays (points, *space, channels); flatten and global pooling on NumPy's as well."""
        raise NotImplementedError

    def log_prior(self, params: Tree) -> JaxArray | float:
        """Log density of its parameters under the prior, without the constant."""
        return 0.0

    def neurons(self, params: Tree) -> JaxArray:
        """W as (..., outputs, inputs of one neuron)."""
        raise InputError(
            f"weights of neurons in a first layer {type(self).__name__}",
            "dense, conv or locally_connected",
            "look at the parameters themselves",
        )


@dataclass(frozen=True, kw_only=True)
class Weighted(Layer):
    """``W x / sqrt(fan-in) + b``; precisions are those of W and b (None: no b)."""

    size_field: ClassVar[str] = "width"  # what says how many outputs it has

    weight_precision: float = 1.0
    offset_precision: float | None = None

    def __post_init__(self) -> None:
        checks.put(self, weight_precision=checks.positive, offset_precision=checks.optional(checks.positive))
        checks.put(self, **{self.size_field: checks.optional(checks.positive_integer)})

    @property
    def units(self) -> int | None:
        """Its width or channels; None where kernels alone are wanted."""
        units: int | None = getattr(self, self.size_field)
        return units

    @property
    def weight_variance(self) -> float:
        """1 / lambda."""
        return 1.0 / self.weight_precision

    @property
    def offset_variance(self) -> float:
        """1 / lambda_b, or 0 without an offset."""
        return 0.0 if self.offset_precision is None else 1.0 / self.offset_precision

    def with_units(self, units: int) -> Self:
        """The same layer with other width or channels."""
        return replace(self, **{self.size_field: units})

    def with_precision(self, precision: float) -> Self:
        """The same layer with another precision of its weights."""
        return replace(self, weight_precision=precision)

    @property
    def weighted(self) -> tuple[Weighted, ...]:
        return (self,)

    def changed(self, change: Callable[[Weighted], Layer]) -> Layer:
        return change(self)

    def gaussian_after(self, gaussian: bool) -> bool:
        return True

    def output_channels(self, space: Space, channels: int) -> int:
        if self.units is None:
            raise InputError(
                f"{type(self).__name__} without {self.size_field}",
                f"its {self.size_field}, where the finite network is wanted",
                f"write {self.size_field}=100, for example",
            )
        return self.units

    def _shapes(self, space: Space, channels: int) -> tuple[list[Space], Space]:
        """Shapes of its matrices of weights and of b."""
        raise NotImplementedError

    def _parts(self, params: Tree) -> tuple[list[JaxArray], list[JaxArray]]:
        """The matrices of weights, and [b] or []."""
        return (params, []) if self.offset_precision is None else (params[:-1], params[-1:])

    def _product(self, weights: JaxArray, x: JaxArray) -> tuple[JaxArray, int]:
        """W x and the fan-in."""
        raise NotImplementedError

    def init(self, key: JaxArray, space: Space, channels: int) -> Tree:
        import jax

        weights, offsets = self._shapes(space, channels)
        *keys, last = jax.random.split(key, len(weights) + 1)
        drawn = [jax.random.normal(k, shape) for k, shape in zip(keys, weights, strict=True)]
        params = [weight / math.sqrt(self.weight_precision) for weight in drawn]
        if self.offset_precision is not None:
            params.append(jax.random.normal(last, offsets) / math.sqrt(self.offset_precision))
        return params

    def apply(self, params: Tree, x: JaxArray) -> JaxArray:
        (weights,), offsets = self._parts(params)
        product, fan_in = self._product(weights, x)
        out = product / math.sqrt(fan_in)
        return out + offsets[0] if offsets else out

    def log_prior(self, params: Tree) -> JaxArray | float:
        weights, offsets = self._parts(params)
        total = -0.5 * self.weight_precision * sum((weight**2).sum() for weight in weights)
        return total - 0.5 * (offsets[0] ** 2).sum() / self.offset_variance if offsets else total


@dataclass(frozen=True, kw_only=True)
class Dense(Weighted):
    """Fully connected, on vectors. As the last layer it is the readout: width and offset stay out."""

    width: int | None = None

    def output_space(self, space: Space) -> Space:
        if space:
            raise InputError(
                f"dense on an input of {times(space)} positions",
                "a vector for every point",
                'put "flatten" or "global_average_pool" before it, or use "dense_per_token"',
            )
        return space

    def _shapes(self, space: Space, channels: int) -> tuple[list[Space], Space]:
        width = self.output_channels(space, channels)
        return [(width, channels)], (width,)

    def _product(self, weights: JaxArray, x: JaxArray) -> tuple[JaxArray, int]:
        return x @ weights.T, weights.shape[1]

    def neurons(self, params: Tree) -> JaxArray:
        return params[0]


@dataclass(frozen=True, kw_only=True)
class DensePerToken(Dense):
    """Fully connected at every position, with the same weights."""

    sequence_only = "dense_per_token"

    def output_space(self, space: Space) -> Space:
        return Layer.output_space(self, space)


@dataclass(frozen=True, kw_only=True)
class Windowed(Layer):
    """Windows of an image or signal: patch, stride, and padding "none", "same" (zeros, as XLA pads) or numbers.

    A number serves every direction.
    """

    patch: Any = None
    stride: Any = 1
    padding: Padding = "none"

    def __post_init__(self) -> None:
        if self.patch is None:
            raise InputError(
                f"{type(self).__name__} without a patch",
                "its patch, one number or one a direction",
                'write {"conv": {"patch": [3, 3]}}, for example',
            )
        checks.put(self, patch=sizes_of, stride=sizes_of, padding=padding_of)

    def grid(self, space: Space, channels: int = 1) -> PatchGrid:
        """The windows of inputs of that space; InputError where they do not fit."""
        return PatchGrid((*space, channels), per_direction("patch", self.patch, space), self.stride, self.padding)

    def output_space(self, space: Space) -> Space:
        return self.grid(space).grid_shape


@dataclass(frozen=True, kw_only=True)
class Conv(Windowed, Weighted):
    """Convolution, divided by sqrt(patch size x channels), at the border too. Offsets belong to channels."""

    size_field = "channels"
    shared: ClassVar[bool] = True

    channels: int | None = None

    def __post_init__(self) -> None:
        Windowed.__post_init__(self)
        Weighted.__post_init__(self)

    def _shapes(self, space: Space, channels: int) -> tuple[list[Space], Space]:
        out = self.output_channels(space, channels)
        return [(*self.grid(space).patch, channels, out)], (out,)

    def _product(self, weights: JaxArray, x: JaxArray) -> tuple[JaxArray, int]:
        from jax import lax

        grid, letters = self.grid(x.shape[1:-1], x.shape[-1]), "HW"[: x.ndim - 2]
        numbers = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
        product = lax.conv_general_dilated(x, weights, grid.stride, grid.margins, dimension_numbers=numbers)
        return product, grid.patch_size

    def neurons(self, params: Tree) -> JaxArray:
        return params[0].reshape(-1, params[0].shape[-1]).T


@dataclass(frozen=True, kw_only=True)
class LocallyConnected(Conv):
    """The same without shared weights; offsets belong to channels and positions."""

    shared = False

    def _shapes(self, space: Space, channels: int) -> tuple[list[Space], Space]:
        out, positions = self.output_channels(space, channels), self.output_space(space)
        return [(*positions, self.grid(space, channels).patch_size, out)], (*positions, out)

    def _product(self, weights: JaxArray, x: JaxArray) -> tuple[JaxArray, int]:
        grid = self.grid(x.shape[1:-1], x.shape[-1])
        product = grid.extract(x).swapaxes(0, 1) @ weights.reshape(-1, *weights.shape[-2:])
        return product.swapaxes(0, 1).reshape(len(x), *grid.grid_shape, -1), grid.patch_size

    def neurons(self, params: Tree) -> JaxArray:
        return params[0].reshape(-1, *params[0].shape[-2:]).swapaxes(1, 2)


@dataclass(frozen=True, kw_only=True)
class AveragePool(Windowed):
    """Mean over windows, the zeros of padding counted."""

    def apply(self, params: Tree, x: JaxArray) -> JaxArray:
        from jax import lax

        grid = self.grid(x.shape[1:-1])
        size, steps, padding = (1, *grid.patch, 1), (1, *grid.stride, 1), [(0, 0), *grid.margins, (0, 0)]
        return lax.reduce_window(x, 0.0, lax.add, size, steps, padding) / grid.patch_size


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

    @property
    def activations(self) -> tuple[Activation, ...]:
        return (self.phi,)

    def gaussian_after(self, gaussian: bool) -> bool:
        if not gaussian:
            raise InputError(
                f"activation {self.phi.name!r} on the inputs, on another activation, or on flattened layers",
                "an activation behind dense, conv, self_attention, a residual block, or pooling of these",
                "put a layer with weights before it, and flatten after it",
            )
        return False

    def apply(self, params: Tree, x: JaxArray) -> JaxArray:
        return self.phi.jax_function(x)


@dataclass(frozen=True)
class Flatten(Layer):
    """All positions and channels as one vector."""

    def output_space(self, space: Space) -> Space:
        return ()

    def output_channels(self, space: Space, channels: int) -> int:
        return math.prod(space) * channels

    def gaussian_after(self, gaussian: bool) -> bool:
        return False  # positions have unequal variances

    def apply(self, params: Tree, x: JaxArray) -> JaxArray:
        return x.reshape(len(x), -1)


@dataclass(frozen=True)
class GlobalAveragePool(Layer):
    """Mean over all positions, channel by channel."""

    sequence_only = "global_average_pool"

    def output_space(self, space: Space) -> Space:
        super().output_space(space)
        return ()

    def apply(self, params: Tree, x: JaxArray) -> JaxArray:
        return x.mean(axis=tuple(range(1, x.ndim - 1)))


@dataclass(frozen=True)
class LayerNorm(Layer):
    """``(x - mean) / sqrt(epsilon + variance)`` over the channels of every position, without parameters."""

    epsilon: float = 1e-12

    def __post_init__(self) -> None:
        checks.put(self, epsilon=checks.not_negative)

    def gaussian_after(self, gaussian: bool) -> bool:
        if not gaussian:
            raise InputError(
                "layer_norm on the inputs, behind an activation or behind flatten",
                "layer_norm directly behind a layer with weights, where channels have mean zero",
                "put it between the layer with weights and the activation",
            )
        return True

    def apply(self, params: Tree, x: JaxArray) -> JaxArray:
        import jax.numpy as jnp

        centred = x - x.mean(axis=-1, keepdims=True)
        return centred / jnp.sqrt(self.epsilon + (centred**2).mean(axis=-1, keepdims=True))


@dataclass(frozen=True, kw_only=True)
class SelfAttention(Weighted):
    """Self-attention over all positions, heads concatenated and mapped by W_out (Hron et al. 2020).

    width: heads, keys of a head, and outputs; values have one dimension.
    mechanism: what the products of queries and keys go through. "softmax": divided by the key dimension; queries and
        keys share their weights, else the products would vanish at infinite width. "identity": divided by its root,
        independent weights.
    weight_precision: of all weight matrices. offset_precision: of the output's offset.
    """

    sequence_only = "self_attention"

    width: int | None = None
    mechanism: str = "softmax"

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.choice("mechanism", self.mechanism, MECHANISMS)

    @property
    def softmax(self) -> bool:
        """Whether queries and keys share their weights."""
        return self.mechanism == "softmax"

    def _shapes(self, space: Space, channels: int) -> tuple[list[Space], Space]:
        """Of keys, values, outputs, and of queries where they have weights of their own."""
        width = self.output_channels(space, channels)
        into = (width, channels, width)
        return [into, (width, channels, 1), (width, width), *([] if self.softmax else [into])], (width,)

    def apply(self, params: Tree, x: JaxArray) -> JaxArray:
        import jax
        import jax.numpy as jnp

        space, channels = x.shape[1:-1], x.shape[-1]
        tokens = x.reshape(len(x), -1, channels)
        (key, value, out, *query), offsets = self._parts(params)
        keys = jnp.einsum("ptc,hck->phtk", tokens, key)
        queries = jnp.einsum("ptc,hck->phtk", tokens, query[0]) if query else keys
        size = keys.shape[-1] if self.softmax else math.sqrt(keys.shape[-1])
        weights = jnp.einsum("phqk,phtk->phqt", queries, keys) / (channels * size)
        if self.softmax:
            weights = jax.nn.softmax(weights, axis=-1)
        heads = jnp.einsum("phqt,ptc,hcv->pqhv", weights, tokens, value, optimize=True)
        heads = heads.reshape(*heads.shape[:2], -1)
        result = heads @ out / math.sqrt(channels * heads.shape[-1])
        result = result + offsets[0] if offsets else result
        return result.reshape(len(x), *space, -1)


@dataclass(frozen=True)
class Residual(Layer):
    """``shortcut(x) + branch(x)``: layers side by side, the shortcut being the identity where it is empty."""

    branch: tuple[Layer, ...]
    shortcut: tuple[Layer, ...] = ()

    @property
    def parts(self) -> tuple[tuple[Layer, ...], tuple[Layer, ...]]:
        """Both."""
        return self.branch, self.shortcut

    @property
    def weighted(self) -> tuple[Weighted, ...]:
        return weighted(self.branch) + weighted(self.shortcut)

    @property
    def activations(self) -> tuple[Activation, ...]:
        return nonlinearities(self.branch + self.shortcut)

    def changed(self, change: Callable[[Weighted], Layer]) -> Layer:
        return Residual(*(tuple(layer.changed(change) for layer in part) for part in self.parts))

    def output_space(self, space: Space) -> Space:
        ends = [walk(layers, space)[-1] for layers in self.parts]
        if ends[0] != ends[1]:
            raise InputError(
                f"a residual branch that ends in {times(ends[0]) or 'a vector'} beside {times(ends[1]) or 'a vector'}",
                "the same positions at the end of branch and shortcut",
                'pad with "same" and strides of 1, or give the shortcut the same strides',
            )
        return ends[0]

    def output_channels(self, space: Space, channels: int) -> int:
        branch, beside = (channels_behind(part, space, channels) for part in self.parts)
        if branch != beside:
            raise InputError(
                f"a residual branch that ends in {branch} channels beside {beside}",
                "the same channels at the end of branch and shortcut",
                "give their last layers the same width",
            )
        return branch

    def gaussian_after(self, gaussian: bool) -> bool:
        both = [gaussian_at_end(layers, gaussian) for layers in self.parts]
        if not (all(both) and weighted(self.branch)):
            raise InputError(
                "a residual block whose branch or shortcut is not Gaussian and of mean zero",
                "both behind a layer with weights, the branch ending in one",
                "end the branch with dense, conv or dense_per_token, and start the block behind such a layer",
            )
        return True

    def init(self, key: JaxArray, space: Space, channels: int) -> Tree:
        import jax

        keys = jax.random.split(key)
        return [init_layers(part, k, space, channels) for part, k in zip(self.parts, keys, strict=True)]

    def apply(self, params: Tree, x: JaxArray) -> JaxArray:
        return apply_layers(self.branch, params[0], x) + apply_layers(self.shortcut, params[1], x)

    def log_prior(self, params: Tree) -> JaxArray | float:
        return sum(log_prior(part, own) for part, own in zip(self.parts, params, strict=True))


def weighted(layers: Iterable[Layer]) -> tuple[Weighted, ...]:
    """Every layer with weights, those of blocks too, branch before shortcut."""
    return tuple(own for layer in layers for own in layer.weighted)


def nonlinearities(layers: Iterable[Layer]) -> tuple[Activation, ...]:
    """The different activations, in the order of the layers."""
    return tuple(dict.fromkeys(phi for layer in layers for phi in layer.activations))


def walk(layers: tuple[Layer, ...], space: Space) -> list[Space]:
    """The space in front of every layer, and behind the last one."""
    spaces = [space]
    for layer in layers:
        spaces.append(layer.output_space(spaces[-1]))
    return spaces


def channels_behind(layers: tuple[Layer, ...], space: Space, channels: int) -> int:
    """Channels behind the last layer."""
    for layer, before in zip(layers, walk(layers, space), strict=False):
        channels = layer.output_channels(before, channels)
    return channels


def gaussian_at_end(layers: tuple[Layer, ...], gaussian: bool) -> bool:
    """Whether the outputs of the last layer are Gaussian; InputError where the order of layers has no kernel."""
    for layer in layers:
        gaussian = layer.gaussian_after(gaussian)
    return gaussian


def init_layers(layers: tuple[Layer, ...], key: JaxArray, space: Space, channels: int) -> list[Tree]:
    """Parameters of every layer."""
    import jax

    params = []
    for layer, k in zip(layers, jax.random.split(key, max(len(layers), 1)), strict=False):
        params.append(layer.init(k, space, channels))
        space, channels = layer.output_space(space), layer.output_channels(space, channels)
    return params


def apply_layers(layers: tuple[Layer, ...], params: list[Tree], x: JaxArray) -> JaxArray:
    """One layer after another."""
    for layer, own in zip(layers, params, strict=True):
        x = layer.apply(own, x)
    return x


def log_prior(layers: tuple[Layer, ...], params: list[Tree]) -> JaxArray | float:
    """Log density of all parameters under the prior, without the constant."""
    return sum(layer.log_prior(own) for layer, own in zip(layers, params, strict=True))
