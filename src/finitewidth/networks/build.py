"""A network from plain options, as the command line and sweep plans give them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finitewidth import checks
from finitewidth.checks.exceptions import InputError
from finitewidth.networks.base import Network
from finitewidth.networks.fully_connected import FullyConnected
from finitewidth.networks.local import Convolutional, LocallyConnected, LocalNetwork

_LOCAL: dict[str, type[LocalNetwork]] = {"cnn": Convolutional, "lcn": LocallyConnected}
KINDS = ("fc", *_LOCAL)
OF_PATCHES = ("patch", "stride", "padding", "pool", "input_shape")


def network_of(
    kind: str | type[Network], widths: Sequence[int], *, precision: float | Sequence[float] = 1.0, **options: Any
) -> Network:
    """The network of a kind: "fc", "cnn" or "lcn", or a class of the user's own.

    widths: one a hidden layer; local networks have one layer, as wide as they have channels. precision: of every
    layer's weights, or lambda_0..lambda_L. options: activation, offset_precision, readout; of local networks patch,
    stride, padding, pool, input_shape; None for these: not given.
    Raises InputError for an unknown kind, an option that the kind does not take, and values that cannot be.
    """
    given = {name: value for name, value in options.items() if value is not None or name not in OF_PATCHES}
    local = None if isinstance(kind, type) else _LOCAL.get(checks.choice("network", kind, KINDS))
    if local is None:
        own = kind if isinstance(kind, type) else FullyConnected
        _refuse_patches(given, kind if isinstance(kind, str) else kind.__name__)
        return own(widths=tuple(widths), weight_precision=precision, **given)  # type: ignore[call-arg]  # all have them
    if len(widths) != 1:
        raise InputError(
            f"{len(widths)} hidden layers for network {kind!r}",
            "one hidden layer",
            "leave depth out, or use network 'fc'",
        )
    if "patch" not in given:
        raise InputError(f"network {kind!r} without a patch", "the size of a patch", "add patch 8, for example")
    return local(channels=widths[0], weight_precision=precision, **given)


def _refuse_patches(given: dict[str, Any], kind: str) -> None:
    for name in filter(given.__contains__, OF_PATCHES):
        raise InputError(
            f"the option {name} for network {kind!r}",
            "an option of fully connected networks, which have no patches",
            f"leave {name} out, or use network 'cnn' or 'lcn'",
        )
