"""One point of a sweep: a full configuration, named by its content."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from finitewidth.jobs.options import OF_DATA
from finitewidth.networks.build import OF_PATCHES
from finitewidth.sweeps.plan_keys import defaults, used

DATA = ("data", *OF_DATA)
KERNEL = ("network", "depth", "activation", "precision", "offset_precision", "readout", *OF_PATCHES)


@dataclass(frozen=True)
class Point:
    """id: hash of ``config``, which holds every key that decides the result, defaults included."""

    id: str
    config: dict[str, Any]
    text: str  # of the configuration, JSON

    @classmethod
    def of(cls, given: dict[str, Any]) -> Point:
        """From values in their one form (``Kind.of_plan``); keys that this point does not use are left out."""
        method, network = given.get("method", "saddle"), given.get("network", "fc")
        keys = used(method, network)
        chosen = (defaults(method) | given).items()
        config = {key: value for key, value in chosen if key in keys and value is not False}  # a flag that is not set
        if "widths" not in config:
            config = {"depth": 1, "width": 100} | config
        text = compact(config)
        return cls(hashlib.sha256(text.encode()).hexdigest()[:24], config, text)

    @cached_property
    def group(self) -> str:
        """The same for points that share the work that costs most: a factorisation, or code compiled for a width."""
        shared = [self.config.get(key) for key in (*DATA, *KERNEL)]
        method = self.config["method"]
        compiled = (method, self.config.get("width")) if method in ("sample", "train") else ()
        return compact([shared, len(self.config.get("widths", ())), *compiled])

    @cached_property
    def data_key(self) -> str:
        """The same for points on the same data."""
        return compact({key: self.config[key] for key in DATA if key in self.config})

    def values(self, data: str, memory: float | None = None) -> dict[str, Any]:
        """As the command line reads them; ``data``: where the source of the data is found."""
        found = {key: tuple(value) if isinstance(value, list) else value for key, value in self.config.items()}
        return found | {"data": data, "memory": memory}


def compact(value: Any) -> str:
    """JSON of one form: the same content is the same text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
