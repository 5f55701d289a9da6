"""Slopes computed lately: the rows of a curve, their validity and their figure have them in common."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from finitewidth.data import Dataset
from finitewidth.networks import Network
from finitewidth.theory.expansion.slopes import FirstOrderSlopes, family, slopes_of, standard_readout

if TYPE_CHECKING:
    from finitewidth.theory.solution import Theory

_KEPT = 16  # the latest; each is a few hundred numbers
_recent: dict[Hashable, FirstOrderSlopes] = {}


def recent_slopes(
    theory: Theory[Any],
    train: Dataset,
    test: Dataset,
    tolerance: float,
    neurons: int,
    seed: int = 0,
    memory: float | None = None,
    progress: bool = False,
    network: Network | None = None,
) -> FirstOrderSlopes:
    """What ``slopes_of`` gives, which all widths of one proportion share, with the standard readout.

    network: another one than the theory's, on the same data.
    """
    network = standard_readout(theory.network if network is None else network)
    data = tuple((part.fingerprint(), part.encoding.unit) for part in (train, test))
    key = (type(theory), theory.closure, family(network), theory.temperature, data, tolerance, neurons, seed)
    found = _recent.pop(key, None)
    if found is None:
        found = slopes_of(theory.with_network(network), train, test, tolerance, neurons, seed, memory, progress)
    _recent[key] = found
    while len(_recent) > _KEPT:
        _recent.pop(next(iter(_recent)), None)
    return replace(found, network=network)
