"""Eigendecompositions that somebody keeps, a sweep for its next points and its next run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from finitewidth.linalg import Spectrum
from finitewidth.networks import Network

Compute = Callable[[np.ndarray], Spectrum]
Keeper = Callable[[Network, np.ndarray, Compute], Spectrum]
_keeper: ContextVar[Keeper | None] = ContextVar("keeper", default=None)


@contextmanager
def keeping(keeper: Keeper) -> Iterator[None]:
    """Ask ``keeper(unit network, x, compute)`` for every spectrum, in this thread and for as long as this lasts."""
    token = _keeper.set(keeper)
    try:
        yield
    finally:
        _keeper.reset(token)


def in_use() -> bool:
    """Whether somebody keeps spectra here."""
    return _keeper.get() is not None


def spectrum(unit: Network, x: np.ndarray, compute: Compute) -> Spectrum:
    """``compute(x)``, the spectrum of the unit network's kernel on ``x``, or the same from the cache."""
    keeper = _keeper.get()
    return compute(x) if keeper is None else keeper(unit, x, compute)
