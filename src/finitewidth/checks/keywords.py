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
    "widths": (
        *("width", "hidden", "hidden_size", "hidden_sizes", "hidden_layer_sizes", "n_hidden", "units", "neurons"),
        *("depth", "n_layers", "num_layers", "layers", "n_hidden_layers"),
    ),
    "channels": ("width", "widths", "filters", "n_channels", "out_channels", "hidden", "units", "neurons"),
    "patch": ("kernel_size", "kernel", "filter", "filter_size", "window", "patch_size"),
    "stride": ("strides",),
    "pool": ("pooling",),
    "activation": ("nonlinearity", "activation_function", "phi", "activations"),
    "weight_precision": ("weight_variance", "precision", "precisions", "prior_precision", "weight_decay", "alpha"),
    "offset_precision": ("bias_variance", "bias_precision", "offset_variance", "bias", "offset"),
    "temperature": ("T",),
    "x": ("X", "inputs", "data"),
    "y": ("Y", "targets", "target", "labels"),
}
_MEANS = {  # beside the name, what its value is
    "widths": "widths=(100, 100), say, one a layer",
    "weight_precision": "weight_precision, one over the variance",
    "offset_precision": "offset_precision, one over the variance",
}


class CheckedKeywords:
    """A base class whose subclasses refuse an unknown keyword with a suggestion (``KeywordError``)."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        known = _parameters(cls.__init__)
        for name in kwargs:
            if known is not None and name not in known:
                meant = next((own for own in known if name in _ALSO_CALLED.get(own, ())), None)
                meant = meant or checks.nearest(name, known)
                remedy = f"did you mean {_MEANS.get(meant, meant)}?" if meant else f"see help({cls.__name__})"
                wanted = f"keywords among {', '.join(known)}"
                raise KeywordError(f"{cls.__name__}({name}={_brief(kwargs[name])})", wanted, remedy)
        return super().__new__(cls)


@lru_cache(maxsize=256)
def _parameters(init: Callable[..., None]) -> list[str] | None:
    """The parameters of a constructor; None where it takes any keyword."""
    parameters = list(inspect.signature(init).parameters.values())[1:]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return [p.name for p in parameters if p.kind is not p.VAR_POSITIONAL]


def _brief(value: Any) -> str:
    text = " ".join(checks.shown(value).split())
    return "..." if len(text) > 40 else text
