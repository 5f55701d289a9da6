"""Constructors that know what was meant by a keyword that they do not have."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Self

from finitewidth import checks
from finitewidth.checks.exceptions import KeywordError

# what other libraries call it
_ALSO_CALLED = {
    "width": ("channels", "units", "neurons", "out_features", "hidden_size", "heads"),
    "widths": ("width", "hidden", "hidden_size", "hidden_sizes", "hidden_layer_sizes", "n_hidden", "units", "neurons"),
    "channels": ("width", "widths", "filters", "n_channels", "out_channels", "hidden", "units", "neurons"),
    "patch": ("kernel_size", "kernel", "filter", "filter_size", "window", "patch_size"),
    "stride": ("strides",),
    "pool": ("pooling",),
    "activation": ("nonlinearity", "activation_function", "phi", "activations"),
    "weight_precision": ("weight_variance", "precision", "precisions", "prior_precision", "weight_decay", "alpha"),
    "offset_precision": ("bias_variance", "bias_precision", "offset_variance", "bias", "offset"),
    **{
        f"{name}_precision": (f"{name}_variance", f"{name}_weight_variance")
        for name in ("query", "key", "value", "out")
    },
    "temperature": ("T",),
    "x": ("X", "inputs", "data"),
    "y": ("Y", "targets", "target", "labels"),
}
_BRIEF = 40  # characters of a value in the message
_DEPTH = ("depth", "n_layers", "num_layers", "layers", "n_hidden_layers")


class CheckedKeywords:
    """A base class whose subclasses refuse an unknown keyword with a suggestion (``KeywordError``)."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        known = _parameters(cls.__init__)
        if known is not None and not kwargs.keys() <= set(known):
            raise _refusal(cls.__name__, known, args, kwargs)
        return super().__new__(cls)


@lru_cache(maxsize=256)
def _parameters(init: Callable[..., None]) -> list[str] | None:
    """The parameters of a constructor; None where it takes any keyword."""
    parameters = list(inspect.signature(init).parameters.values())[1:]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return [p.name for p in parameters if p.kind is not p.VAR_POSITIONAL]


def _refusal(name: str, known: list[str], args: tuple[Any, ...], kwargs: dict[str, Any]) -> KeywordError:
    given = [*map(_brief, args), *(f"{key}={_brief(value)}" for key, value in kwargs.items())]
    wanted = f"keywords among {', '.join(known)}"
    meant = _meant(known, dict(zip(known, args, strict=False)) | kwargs)
    remedy = f"did you mean {meant}?" if meant else f"see help({name})"
    return KeywordError(f"{name}({', '.join(given)})", wanted, remedy)


def _meant(known: list[str], given: dict[str, Any]) -> str | None:
    unknown = next(key for key in given if key not in known)
    if "widths" in known and any(key in _DEPTH for key in given if key not in known):
        return f"widths={_layers(given)}"
    name = next((name for name in known if unknown in _ALSO_CALLED.get(name, ())), None)
    if name == "widths":
        return f"widths={_layers(given)}"
    name = name or checks.nearest(unknown, known)
    return name and f"{name}={_brief(_as_precision(unknown, given[unknown]))}"


def _as_precision(name: str, value: object) -> object:
    """What stands for a value in a precision: a variance is one over it."""
    if not name.endswith("variance") or not isinstance(value, (int, float)):
        return value
    return 1.0 / value if value else None


def _brief(value: Any) -> str:
    text = " ".join(checks.shown(value).split())
    return "..." if isinstance(value, bool) or len(text) > _BRIEF else text


def _layers(given: dict[str, Any]) -> str:
    """Widths as the keywords for width and depth say, in Python."""
    width = next((given[key] for key in ("widths", *_ALSO_CALLED["widths"]) if key in given), 100)
    depth = next((given[key] for key in _DEPTH if key in given), 1)
    if not checks.scalar(width):
        return checks.shown(width)
    few = isinstance(depth, int) and depth <= 4
    return repr((width,) * depth) if few else f"({checks.shown(width)},) * {checks.shown(depth)}"
