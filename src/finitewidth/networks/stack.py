"""A network as a stack of layers, written as plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from finitewidth import checks
from finitewidth.activations import Activation, names
from finitewidth.display import Settings
from finitewidth.exceptions import InputError
from finitewidth.networks import layers as L
from finitewidth.networks.base import Network
from finitewidth.networks.convolutional import Convolutional
from finitewidth.networks.fully_connected import FullyConnected
from finitewidth.networks.local import LocalNetwork
from finitewidth.networks.patches import times


@dataclass(frozen=True)
class _Spec:
    """A layer in plain data: its class, fields that the name settles, and what else a setting may be called."""

    layer: type[Any]
    settled: dict[str, Any] = field(default_factory=dict)
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    needs: str = ""

    def build(self, name: str, settings: Any) -> L.Layer:
        if not isinstance(settings, Mapping):
            raise InputError(
                f"the settings {checks.shown(settings)} of {name}", "a mapping", f'write {{"{name}": {{...}}}}'
            )
        renamed = {field for (field, *more) in self.names.values() if not more and self.needs}
        own = [f.name for f in fields(self.layer) if f.name not in {*self.settled, *renamed, "shared", "per_token"}]
        values: dict[str, Any] = {}
        for key, value in settings.items():
            known = checks.choice(f"the setting of {name}", key, [*self.names, *own])
            for target in self.names.get(known, (known,)):
                if target in values:
                    raise InputError(f"{target} of {name} given twice", "one value", f"leave {key} out")
                values[target] = value
        if self.needs and self.needs not in settings:
            raise InputError(
                f"{name} without a {self.needs}",
                f"its {self.needs}, one number a direction",
                f'write {{"{name}": {{"{self.needs}": [3, 3]}}}}, for example',
            )
        return self.layer(**values, **self.settled)


_ATTENTION = {f"{name}_weight_variance": (f"{name}_variance",) for name in ("query", "key", "value", "out")} | {
    "weight_variance": ("query_variance", "key_variance", "value_variance", "out_variance"),
    "s_qk": ("query_variance", "key_variance"),  # the product of two deviations is s where both variances are
    "s_ov": ("value_variance", "out_variance"),
}
_SPECS = {
    "dense": _Spec(L.Dense),
    "dense_per_token": _Spec(L.Dense, {"per_token": True}),
    "conv": _Spec(L.Conv, names={"filter": ("size",)}, needs="filter"),
    "locally_connected": _Spec(L.Conv, {"shared": False}, {"filter": ("size",)}, "filter"),
    "average_pool": _Spec(L.AveragePool, names={"window": ("size",)}, needs="window"),
    "self_attention": _Spec(L.SelfAttention, names=_ATTENTION),
    "layer_norm": _Spec(L.LayerNorm),
    "flatten": _Spec(L.Flatten),
    "global_average_pool": _Spec(L.GlobalAveragePool),
}


@dataclass(frozen=True)
class Stack(Settings):
    """Layers one behind the other; the finite network with whitened parameters, and the description of its kernels.

    layers: plain data, or layers of ``networks.layers``. A layer is a name ("flatten", "global_average_pool",
        "layer_norm", an activation), an Activation or a function, or a mapping of one name to its settings:

        - ``{"dense": {"weight_variance": 1.0, "bias_variance": 0.0}}``, ``{"dense_per_token": {...}}``
        - ``{"conv": {"filter": [3, 3], "strides": [1, 1], "padding": "valid"|"same", "weight_variance": 1.0,
          "bias_variance": 0.0}}``, ``{"locally_connected": {...}}``: the same without shared weights
        - ``{"average_pool": {"window": [2, 2], "strides": [2, 2], "padding": "valid"|"same"}}``
        - ``{"self_attention": {"mechanism": "softmax"|"identity", "query_variance": 1.0, "key_variance": 1.0,
          "value_variance": 1.0, "out_variance": 1.0, "bias_variance": 0.0, "scaling": "linear"|"sqrt"}}``
        - ``{"layer_norm": {"epsilon": 1e-12}}``, ``{"activation": "erf"}``
        - ``{"residual": [layers]}``, or ``{"residual": {"branch": [layers], "shortcut": [layers]}}``

        Settings may be left out where they are as shown (``filter`` and ``window`` may not).
    input_shape: of one point, for flat points: (height, width, channels), (tokens, features).

    Raises InputError for unknown layers and settings, and for orders that have no kernel at infinite width.
    """

    layers: Any
    input_shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.layers, (str, Mapping)) or not isinstance(self.layers, Sequence) or not self.layers:
            raise InputError(
                f"layers = {checks.shown(self.layers)}",
                "a list of at least one layer",
                'write [{"dense": {}}, "erf", {"dense": {}}], for example',
            )
        layers = _parse_all(self.layers)
        object.__setattr__(self, "layers", layers)
        L.gaussian_at_end(layers, False)
        if self.input_shape is not None:
            shape = tuple(checks.positive_integer("input_shape", size) for size in self.input_shape)
            object.__setattr__(self, "input_shape", shape)
            L.walk(layers, self.point_shape(shape)[:-1])

    def point_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(*space, channels) of points of the given shape, flat or without channels; InputError if they do not fit."""
        if self.input_shape is not None and shape != self.input_shape:
            if math.prod(shape) != math.prod(self.input_shape):
                raise InputError(
                    f"points of shape {shape} for input_shape={self.input_shape}",
                    f"{times(self.input_shape)} = {math.prod(self.input_shape)} inputs a point",
                    "leave input_shape out to read it off the data",
                )
            shape = self.input_shape
        if len(shape) == 2 and self._reads_images():
            shape = (*shape, 1)
        if not 1 <= len(shape) <= 3:
            raise InputError(
                f"points of shape {shape}",
                "vectors, sequences (tokens, features) or images (height, width [, channels])",
                "reshape the points; their first dimension runs over points",
            )
        return shape

    def _reads_images(self) -> bool:
        """Whether points of two sizes are images without channels: as everywhere, unless windows are 1-tuples."""
        first = next((layer for layer in self.layers if isinstance(layer, (L.Windowed, L.SelfAttention))), None)
        return isinstance(first, L.Windowed) and (isinstance(first.size, int) or len(first.size) == 2)

    def points(self, x: Any) -> Any:
        """Points (P, *space, channels) of an array of NumPy or JAX."""
        return x.reshape(x.shape[0], *self.point_shape(tuple(int(n) for n in x.shape[1:])))

    # --- the finite network: JAX arrays in and out ------------------------------------------------------------------

    def init(self, key: Any, input_shape: tuple[int, ...], width: int, n_outputs: int = 1) -> list[Any]:
        """Parameters, all standard normal, with ``width`` channels (and heads) in every layer.

        ``input_shape`` is that of one point. Where the last layer with weights is dense or conv, it has ``n_outputs``.
        """
        import jax

        width = checks.positive_integer("width", width)
        *space, channels = self.point_shape(tuple(input_shape))
        last = max((i for i, layer in enumerate(self.layers) if layer.has_weights), default=-1)
        cut = last if last >= 0 and isinstance(self.layers[last], L.Weighted) else len(self.layers)
        one, two = jax.random.split(key)
        params, channels = L.init_layers(self.layers[:cut], one, tuple(space), channels, width)
        behind = L.walk(self.layers[:cut], tuple(space))[-1]
        return params + L.init_layers(self.layers[cut:], two, behind, channels, n_outputs)[0]

    def apply(self, params: list[Any], x: Any) -> Any:
        """Outputs (points, [*space,] channels) at points (points, ...)."""
        return L.apply_layers(self.layers, params, self.points(x))


def _parse_all(items: Any) -> tuple[L.Layer, ...]:
    if isinstance(items, (str, Mapping)) or not isinstance(items, Sequence):
        raise InputError(f"{checks.shown(items)} as layers", "a list of layers", "put them in brackets")
    return tuple(_parse(item) for item in items)


def _parse(item: Any) -> L.Layer:
    if isinstance(item, L.Layer):
        return item
    if isinstance(item, Activation) or callable(item):
        return L.Nonlinearity(item)
    if isinstance(item, str) and item in names():
        return L.Nonlinearity(item)
    if isinstance(item, str):
        return _SPECS[checks.choice("layer", item, [*_SPECS, *names()])].build(item, {})
    if not (isinstance(item, Mapping) and len(item) == 1):
        raise InputError(
            f"the layer {checks.shown(item)}",
            "a name, or one name with its settings",
            'write {"dense": {}}, for example',
        )
    name, settings = next(iter(item.items()))
    if name == "residual":
        return _residual(settings)
    if name == "activation":
        return L.Nonlinearity(settings)
    return _SPECS[checks.choice("layer", name, [*_SPECS, "residual", "activation"])].build(name, settings)


def _residual(settings: Any) -> L.Residual:
    if isinstance(settings, Mapping):
        for key in settings:
            checks.choice("the setting of residual", key, ["branch", "shortcut"])
        return L.Residual(_parse_all(settings.get("branch", ())), _parse_all(settings.get("shortcut", ())))
    return L.Residual(_parse_all(settings))


def stack_of(network: Network, point_shape: tuple[int, ...]) -> Stack:
    """The layers of a ``FullyConnected`` or local network on points of the given shape, with the standard readout."""
    weights = [1.0 / precision for precision in network.weight_precision]
    readout = L.Dense(weights[-1])
    if isinstance(network, FullyConnected):
        layers: list[L.Layer] = [L.Flatten()]
        for variance in weights[:-1]:
            layers += [L.Dense(variance, network.offset_variance), L.Nonlinearity(network.phi)]
        return Stack([*layers, readout])
    assert isinstance(network, LocalNetwork)
    grid = network.grid(point_shape)
    conv = L.Conv(
        size=grid.patch,
        strides=grid.stride,
        padding="same" if grid.padding == "zero" else "valid",
        weight_variance=weights[0],
        bias_variance=network.offset_variance,
        shared=isinstance(network, Convolutional),
    )
    end = L.GlobalAveragePool() if network.pool == "average" else L.Flatten()
    return Stack([conv, L.Nonlinearity(network.phi), end, readout], grid.input_shape)
