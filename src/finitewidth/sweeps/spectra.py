"""Eigendecompositions by content, kept for the next points of a worker."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict

import numpy as np

from finitewidth.linalg import Spectrum, available_memory
from finitewidth.networks import Network
from finitewidth.runs.fingerprints import network_fingerprint
from finitewidth.theory.spectrum import Compute

_MOST_BYTES, _MEMORY_PART = 2e9, 8  # and no more than an eighth of what is free


class Spectra:
    """Keeps what is computed (``theory.spectrum``), the latest in so much of ``memory`` (bytes)."""

    def __init__(self, memory: float | None = None) -> None:
        self._most = min(_MOST_BYTES, (available_memory() if memory is None else memory) / _MEMORY_PART)
        self._held: OrderedDict[str, Spectrum] = OrderedDict()

    def __call__(self, unit: Network, x: np.ndarray, compute: Compute) -> Spectrum:
        key = content_key(unit, x)
        if key not in self._held:
            self._held[key] = compute(x)
        self._held.move_to_end(key)
        while len(self._held) > 1 and sum(map(_bytes, self._held.values())) > self._most:
            self._held.popitem(last=False)
        return self._held[key]


def content_key(unit: Network, x: np.ndarray) -> str:
    """Hash of all that decides a spectrum: kernel and inputs."""
    digest = hashlib.sha256(json.dumps([*network_fingerprint(unit.with_width(1)), x.shape]).encode())
    digest.update(np.ascontiguousarray(x, dtype="<f8").data)
    return digest.hexdigest()


def _bytes(spectrum: Spectrum) -> int:
    return spectrum.vectors.nbytes + spectrum.values.nbytes
