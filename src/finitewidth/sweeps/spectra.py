"""Eigendecompositions by content: in memory for the next points, in a folder for the next run."""

from __future__ import annotations

import hashlib
import json
import os
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from finitewidth.linalg import Spectrum, available_memory
from finitewidth.networks import Network
from finitewidth.runs.checkpoints import read_arrays, save_arrays
from finitewidth.runs.fingerprints import network_fingerprint, versions
from finitewidth.theory.spectrum_cache import Compute

DISK_BYTES = 4e9  # a folder takes no more, and no more than a tenth of what is free
_MEMORY_PART = 8  # an eighth of what is free


class Spectra:
    """Stores what is computed (``theory.spectrum_cache``), the latest in memory, all in ``folder`` as far as it may
    grow.

    Files hold arrays only, each with its checksum; what cannot be read is computed again, what cannot be written is
    left out. None for ``folder``: memory only.
    """

    def __init__(self, folder: Path | None, memory: float | None = None) -> None:
        self.folder = folder
        self.computed = 0
        self._most = min(2e9, (available_memory() if memory is None else memory) / _MEMORY_PART)
        self._held: OrderedDict[str, Spectrum] = OrderedDict()

    def __call__(self, unit: Network, x: np.ndarray, compute: Compute) -> Spectrum:
        key = content_key(unit, x)
        found = self._held.get(key) or self._read(key, len(x))
        if found is None:
            found = compute(x)
            self.computed += 1
            self._write(key, found)
        self._hold(key, found)
        return found

    def _hold(self, key: str, spectrum: Spectrum) -> None:
        self._held[key] = spectrum
        self._held.move_to_end(key)
        while len(self._held) > 1 and sum(map(_bytes, self._held.values())) > self._most:
            self._held.popitem(last=False)

    def _read(self, key: str, size: int) -> Spectrum | None:
        arrays = None if self.folder is None else read_arrays(self.folder / f"{key}.npz", 8.0 * size * (size + 1))
        if arrays is None or {name: a.shape for name, a in arrays.items()} != {
            "values": (size,),
            "vectors": (size, size),
        }:
            return None
        return Spectrum(arrays["values"], arrays["vectors"])

    def _write(self, key: str, spectrum: Spectrum) -> None:
        if self.folder is None or not self._fits(_bytes(spectrum)):
            return
        draft = self.folder / f".{key}.{os.getpid()}.part"
        try:
            with open(draft, "wb") as file:
                save_arrays(file, values=spectrum.values, vectors=spectrum.vectors)
            os.replace(draft, self.folder / f"{key}.npz")
        except OSError:  # a full disk is no reason to stop here: the sweep would notice
            with suppress(OSError):
                draft.unlink()

    def _fits(self, size: int) -> bool:
        try:
            space = os.statvfs(self.folder or ".")
            held = sum(entry.stat().st_size for entry in os.scandir(self.folder))
        except (OSError, AttributeError):
            return False
        return held + size <= min(DISK_BYTES, held + 0.1 * space.f_bavail * space.f_frsize)


def content_key(unit: Network, x: np.ndarray) -> str:
    """Hash of all that decides a spectrum: kernel, inputs, versions."""
    parts: list[Any] = [*network_fingerprint(unit.with_width(1)), x.shape, versions("scipy")]
    digest = hashlib.sha256(json.dumps(parts).encode())
    digest.update(np.ascontiguousarray(x, dtype="<f8").data)
    return digest.hexdigest()[:32]


def _bytes(spectrum: Spectrum) -> int:
    return spectrum.vectors.nbytes + spectrum.values.nbytes
