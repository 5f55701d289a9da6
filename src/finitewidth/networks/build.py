"""A network from plain options, as the command line and sweep plans give them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finitewidth import checks
from finitewidth.checks.exceptions import InputError
from finitewidth.networks.base import Network
from finitewidth.networks.fully_connected import FullyConnected
from finitewidth.networks.local import Convolutional, LocallyConnected

KINDS = ("fc", "cnn", "lcn")


def network_of(
    kind: str | type[Network],
    widths: Sequence[int],
    *,
    activation: Any = "erf",
    precision: float | Sequence[float] = 1.0,
    offset_precision: float | None = None,
    readout: str = "standard",
    patch: Any = None,
    stride: Any = None,
    padding: Any = None,
    pool: str | None = None,
    input_shape: Sequence[int] | None = None,
) -> Network:
    """The network of a kind: "fc", "cnn" or "lcn", or a class of the user's own.

    widths: one a hidden layer; local networks have one layer, as wide as they have channels.
    precision: of every layer's weights, or lambda_0..lambda_L.
    patch .. input_shape: options of local networks; None: not given.
    Raises InputError for an unknown kind, an option that the kind does not take, and values that cannot be.
    """
    prior = {
        "activation": activation,
        "weight_precision": precision,
        "offset_precision": offset_precision,
        "readout": readout,
    }
    local = {"patch": patch, "stride": stride, "padding": padding, "pool": pool, "input_shape": input_shape}
    given = {name: value for name, value in local.items() if value is not None}
    if isinstance(kind, type):
        _refuse(given, kind.__name__)
        return kind(widths=tuple(widths), **prior)  # type: ignore[call-arg]  # every subclass has them
    checks.choice("network", kind, KINDS)
    if kind == "fc":
        _refuse(given, kind)
        return FullyConnected(widths=tuple(widths), **prior)
    if len(widths) != 1:
        raise InputError(
            f"{len(widths)} hidden layers for network {kind!r}",
            "one hidden layer",
            "leave depth out, or use network 'fc'",
        )
    if patch is None:
        raise InputError(f"network {kind!r} without a patch", "the size of a patch", "add patch 8, for example")
    local_class = Convolutional if kind == "cnn" else LocallyConnected
    return local_class(channels=widths[0], **given, **prior)


def _refuse(given: dict[str, Any], kind: str) -> None:
    for name in given:
        raise InputError(
            f"the option {name} for network {kind!r}",
            "an option of fully connected networks, which have no patches",
            f"leave {name} out, or use network 'cnn' or 'lcn'",
        )
