"""A network as a list of layers, written as plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import singledispatch
from typing import TYPE_CHECKING, Any, Self

from finitewidth import checks
from finitewidth.activations import Activation, activation_of, names
from finitewidth.checks.exceptions import InputError
from finitewidth.display import chosen
from finitewidth.networks import layers as L
from finitewidth.networks.base import READOUTS, Making, Network
from finitewidth.networks.fully_connected import FullyConnected
from finitewidth.networks.local import Convolutional, LocallyConnected, LocalNetwork
from finitewidth.networks.patches import Points, unflattened

if TYPE_CHECKING:
    from jax import Array as JaxArray

    from finitewidth.runs.jax_runs import Tree

_LAYERS: dict[str, type[L.Layer]] = {
    "dense": L.Dense,
    "dense_per_token": L.DensePerToken,
    "conv": L.Conv,
    "locally_connected": L.LocallyConnected,
    "average_pool": L.AveragePool,
    "self_attention": L.SelfAttention,
    "layer_norm": L.LayerNorm,
    "flatten": L.Flatten,
    "global_average_pool": L.GlobalAveragePool,
}


@dataclass(frozen=True)
class LayeredNetwork(Network):
    """Layers one behind the other, ``fw.Network([...])``.

    layers: plain data, or layers of ``networks.layers``. A layer is a name ("flatten", "global_average_pool",
        "layer_norm", an activation), an Activation or a function, or a mapping of one name to its settings:

        - ``{"dense": {"width": 40, "weight_precision": 1.0, "offset_precision": 10.0}}``; or dense_per_token
        - ``{"conv": {"channels": 40, "patch": [3, 3], "stride": [1, 1], "padding": "none"|"same"|1,
          "weight_precision": 1.0}}``; ``{"locally_connected": {...}}``: the same without shared weights
        - ``{"average_pool": {"patch": [2, 2], "stride": [2, 2]}}``
        - ``{"self_attention": {"width": 20, "mechanism": "softmax"|"identity", "weight_precision": 1.0}}``
        - ``{"layer_norm": {"epsilon": 1e-12}}``, ``{"activation": "erf"}``
        - ``{"residual": [layers]}``, or ``{"residual": {"branch": [layers], "shortcut": [layers]}}``

        Settings may be left out: precisions are 1, without offset_precision there is no offset, strides are 1; widths
        and channels where kernels alone are wanted; ``patch`` never. The last layer, ``{"dense": {}}``, is the readout.
    input_shape: of one point, for flat points: (height, width, channels), (tokens, features).
    readout: see ``Network``.

    A hidden layer is one with weights: widths, precisions and order parameters are one each, those of residual blocks
    branch before shortcut. Raises InputError for unknown layers and settings, and for orders that have no kernel at
    infinite width; and, where a readout is needed, for layers that do not end in one.
    """

    own = False

    layers: Any
    input_shape: Any = None
    activation: Any = field(init=False, repr=False, compare=False)
    weight_precision: Any = field(init=False, repr=False, compare=False)
    offset_precision: float | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "layers", layers := _parse_all(self.layers, least=1))
        checks.choice("readout", self.readout, READOUTS)
        L.gaussian_at_end(layers, False)
        phis, offsets = L.nonlinearities(layers), [layer.offset_precision for layer in self._hidden]
        put(self, "activation", phis[0] if phis else activation_of("linear"))
        put(self, "weight_precision", tuple(layer.weight_precision for layer in L.weighted(layers)))
        put(self, "offset_precision", max((o for o in offsets if o is not None), default=None))
        if self.input_shape is not None:
            shape = tuple(checks.positive_integer("input_shape", size) for size in self.input_shape)
            put(self, "input_shape", shape)
            L.walk(layers, self.point_shape(shape)[:-1])

    def _facts(self) -> dict[str, Any]:
        return chosen(self)

    def most_specific(self) -> Network:
        """The same network as ``FullyConnected``, ``Convolutional`` or ``LocallyConnected`` where it is one of them."""
        first, prior = self.layers[0], ("activation", "weight_precision", "offset_precision", "readout")
        options: dict[str, Any] = {name: getattr(self, name) for name in prior}
        if not (self._hidden and _is_readout(self.layers[-1]) and all(layer.units for layer in self._hidden)):
            return self
        made: Network = self
        if isinstance(first, L.Conv) and self.depth == 1:
            kind = Convolutional if first.shared else LocallyConnected
            pooled = first.shared and L.GlobalAveragePool() in self.layers
            options |= {name: getattr(first, name) for name in ("channels", "patch", "stride", "padding")}
            shape = None if self.input_shape is None else self.point_shape(self.input_shape)
            made = kind(**options, pool="average" if pooled else "none", input_shape=shape)
        elif self.input_shape is None:
            made = FullyConnected([layer.units for layer in self._hidden], **options)
        layers = layers_of(made).layers
        return made if self.layers in (layers, layers[1:]) else self  # flatten in front may be left out

    # --- points -----------------------------------------------------------------------------------------------------

    def point_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(*space, channels) of points of the given shape, flat or without channels; InputError if they do not fit."""
        if self.input_shape is not None:
            shape = unflattened(shape, self.input_shape)
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
        return isinstance(first, L.Windowed) and (isinstance(first.patch, int) or len(first.patch) == 2)

    def points(self, x: Points) -> Points:
        """Points (P, *space, channels) of an array of NumPy or JAX."""
        return x.reshape(x.shape[0], *self.point_shape(tuple(int(n) for n in x.shape[1:])))

    # --- the description --------------------------------------------------------------------------------------------

    @property
    def _hidden(self) -> tuple[L.Weighted, ...]:
        """Layers with weights but for the readout."""
        return L.weighted(self.layers)[:-1]

    @property
    def _before_readout(self) -> tuple[L.Layer, ...]:
        """All layers but the readout. Raises InputError where there is none."""
        last = self.layers[-1]
        if not (_is_readout(last) and self._hidden):
            raise InputError(
                f"layers that end in {checks.shown(last)}",
                "layers with weights, and behind them a readout: dense without a width (outputs follow from the "
                "targets) and without an offset",
                'end the list with {"dense": {}}',
            )
        return self.layers[:-1]

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths or channels of the hidden layers. Raises InputError where one of them is left out."""
        before = self._before_readout
        return tuple(layer.output_channels((), 1) for layer in L.weighted(before))

    @property
    def depth(self) -> int:
        return len(self._hidden)

    @property
    def phi(self) -> Activation:
        if len(self.activations) > 1:
            raise InputError(f"layers of activations {self.activation_names}", "one activation", "use it in all layers")
        return super().phi

    @property
    def activations(self) -> tuple[Activation, ...]:
        return L.nonlinearities(self.layers) or (super().phi,)

    def with_widths(self, widths: Sequence[int]) -> Self:
        rest = iter(widths)
        return self._changed(lambda layer: layer.with_units(next(rest)), hidden=True)

    def with_precision(self, weight_precision: Any) -> Self:
        values = iter(checks.positive_sequence("weight_precision", weight_precision, self.depth + 1))
        return self._changed(lambda layer: layer.with_precision(next(values)))

    def _changed(self, change: Any, hidden: bool = False) -> Self:
        layers = self._before_readout if hidden else self.layers
        changed = [layer.changed(change) for layer in layers]
        return replace(self, layers=(*changed, *self.layers[len(layers) :]))

    def field_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        *space, channels = self.point_shape(tuple(input_shape))
        first = self.layers[0]
        return (*first.grid(tuple(space)).patch, channels) if isinstance(first, L.Conv) else tuple(input_shape)

    # --- the finite network: JAX arrays in and out ------------------------------------------------------------------

    def init_hidden(self, key: JaxArray, input_shape: tuple[int, ...]) -> list[Tree]:
        """What each layer before the readout has: [weights] or [weights, offsets] where it has any."""
        *space, channels = self.point_shape(tuple(input_shape))
        return L.init_layers(self._before_readout, key, tuple(space), channels)

    def features(self, hidden: list[Tree], x: JaxArray) -> JaxArray:
        """What the readout reads, over the root of its size; mean-field: over sqrt(N_L) once more."""
        out = L.apply_layers(self._before_readout, hidden, self.points(x))
        scale = math.sqrt(out.shape[1])
        return out / (scale * math.sqrt(self.widths[-1]) if self.readout == "mean-field" else scale)

    def hidden_log_prior(self, hidden: list[Tree]) -> JaxArray | float:
        return L.log_prior(self._before_readout, hidden)

    def first_weights(self, hidden: list[Tree]) -> JaxArray:
        place = next(i for i, layer in enumerate(self.layers) if layer.weighted)
        return self.layers[place].neurons(hidden[place])

    def n_features(self, input_shape: tuple[int, ...]) -> int:
        *space, channels = self.point_shape(tuple(input_shape))
        before = self._before_readout
        L.walk(self.layers, tuple(space))  # refuses a readout of several positions
        return L.channels_behind(before, tuple(space), channels)


Making.layered = LayeredNetwork

# --- plain data ------------------------------------------------------------------------------------------------------


def _parse_all(items: Any, least: int = 0) -> tuple[L.Layer, ...]:
    if isinstance(items, (str, Mapping)) or not isinstance(items, Sequence) or len(items) < least:
        raise InputError(
            f"layers = {checks.shown(items)}",
            "a list of layers",
            'write [{"dense": {"width": 40}}, "erf", {"dense": {}}], for example',
        )
    return tuple(_parse(item) for item in items)


def _parse(item: Any) -> L.Layer:
    if isinstance(item, L.Layer):
        return item
    if callable(item) or (isinstance(item, str) and item in names()):
        return L.Nonlinearity(item)
    if isinstance(item, str):
        return _LAYERS[checks.choice("layer", item, [*_LAYERS, *names()])]()
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
    made = _LAYERS[checks.choice("layer", name, [*_LAYERS, "residual", "activation"])]
    if not isinstance(settings, Mapping):
        raise InputError(
            f"the settings {checks.shown(settings)} of {name}", "a mapping", f'write {{"{name}": {{...}}}}'
        )
    return made(**{str(key): value for key, value in settings.items()})


def _residual(settings: Any) -> L.Residual:
    if isinstance(settings, Mapping):
        for key in settings:
            checks.choice("the setting of residual", key, ["branch", "shortcut"])
        return L.Residual(_parse_all(settings.get("branch", ())), _parse_all(settings.get("shortcut", ())))
    return L.Residual(_parse_all(settings))


def _is_readout(layer: L.Layer) -> bool:
    return type(layer) is L.Dense and layer.units is None and layer.offset_precision is None


# --- the other way round ---------------------------------------------------------------------------------------------


@singledispatch
def layers_of(network: Any) -> LayeredNetwork:
    """A network as a list of layers. Raises InputError where these are not known."""
    raise InputError(
        f"a {type(network).__name__}, whose layers are not known here",
        "FullyConnected, Convolutional, LocallyConnected, or a list of layers",
        "use fw.kernels.empirical, which takes any network",
    )


@layers_of.register
def _(network: LayeredNetwork) -> LayeredNetwork:
    return network


@layers_of.register
def _(network: FullyConnected) -> LayeredNetwork:
    *inner, last = network.weight_precision
    layers: list[L.Layer] = [L.Flatten()]
    for width, precision in zip(network.widths, inner, strict=True):
        dense = L.Dense(width=width, weight_precision=precision, offset_precision=network.offset_precision)
        layers += [dense, L.Nonlinearity(network.phi)]
    return LayeredNetwork([*layers, L.Dense(weight_precision=last)], readout=network.readout)


@layers_of.register
def _(network: LocalNetwork) -> LayeredNetwork:
    first, last = network.weight_precision
    where = {"patch": network.patch, "stride": network.stride, "padding": network.padding}
    prior = {"weight_precision": first, "offset_precision": network.offset_precision}
    kind = L.Conv if network.shares_weights else L.LocallyConnected
    conv = kind(channels=network.channels, **where, **prior)
    end = L.GlobalAveragePool() if network.pool == "average" else L.Flatten()
    layers = [conv, L.Nonlinearity(network.phi), end, L.Dense(weight_precision=last)]
    return LayeredNetwork(layers, network.input_shape, readout=network.readout)
