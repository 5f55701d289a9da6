"""A run on disk: the last two whole states, plain arrays and JSON, never pickled."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from finitewidth.exceptions import InputError
from finitewidth.sampling.engine import Progress, joined
from finitewidth.sampling.program import DualAveraging

_FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """Saves a run at ``path`` and the state before it at ``path`` + ".previous".

    fingerprint: of network, data, temperature, sampler and all that decides the numbers; a checkpoint of
    another run is refused.
    """

    path: Path
    fingerprint: str

    def __post_init__(self) -> None:
        if self.path.is_dir() or not self.path.absolute().parent.is_dir():
            raise InputError(
                f"checkpoint {self.path}, which cannot be written",
                "a file in a folder that exists",
                "create the folder first, or give another path",
            )

    @property
    def previous(self) -> Path:
        """Where the state before the last is kept."""
        return self.path.with_name(self.path.name + ".previous")

    def save(self, progress: Progress) -> None:
        """Write beside, then rename: whenever this is cut short, one whole state is left."""
        draft = self.path.with_name(self.path.name + ".part")
        with open(draft, "wb") as file:
            np.savez(file, allow_pickle=False, **_to_arrays(progress, self.fingerprint))
            file.flush()
            os.fsync(file.fileno())
        if self.path.exists():
            os.replace(self.path, self.previous)
        os.replace(draft, self.path)

    def load(self, structure: Any) -> Progress | None:
        """The last whole state, or None where there is none. ``structure``: pytree definition of the states.

        Raises InputError for a checkpoint of another run, and where files exist and none can be read.
        """
        found = [path for path in (self.path, self.previous) if path.exists()]
        for path in found:
            arrays = _read(path)
            if arrays is not None:
                self._refuse_other(path, arrays)
                return _from_arrays(arrays, structure)
        if found:
            raise InputError(
                f"checkpoint {self.path}, which cannot be read",
                "a checkpoint written by finitewidth",
                "delete it, or give another path",
            )
        return None

    def _refuse_other(self, path: Path, arrays: dict[str, np.ndarray]) -> None:
        ours, theirs = (
            json.loads(self.fingerprint),
            json.loads(json.loads(str(arrays["meta"]))["fingerprint"]),
        )
        differ = sorted(key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key))
        if differ:
            raise InputError(
                f"checkpoint {path} of another run ({', '.join(differ)} differ)",
                "a checkpoint of this very run",
                "give another path, or delete the checkpoint to start afresh",
            )


def _to_arrays(progress: Progress, fingerprint: str) -> dict[str, np.ndarray]:
    meta = {
        "format": _FORMAT,
        "fingerprint": fingerprint,
        "stage": progress.stage,
        "chunk": progress.chunk,
        "iterations": progress.iterations,
        "settings": progress.settings,
        "scores": progress.scores,
    }
    arrays = {"meta": np.array(json.dumps(meta)), "counts": progress.counts}
    arrays |= {f"state/{i}": leaf for i, leaf in enumerate(jax.tree.leaves(progress.states))}
    arrays |= {f"tuner/{name}": value for name, value in progress.tuners._asdict().items()}
    arrays |= {f"record/{name}": value for name, value in joined(progress.records).items()}
    return arrays | {f"sum/{name}": value for name, value in progress.sums.items()}


def _from_arrays(arrays: dict[str, np.ndarray], structure: Any) -> Progress:
    meta: dict[str, Any] = json.loads(str(arrays["meta"]))
    leaves = [arrays[f"state/{i}"] for i in range(structure.num_leaves)]
    records = _under(arrays, "record/")
    return Progress(
        stage=meta["stage"],
        chunk=meta["chunk"],
        iterations=meta["iterations"],
        states=jax.tree.unflatten(structure, leaves),
        tuners=DualAveraging(**_under(arrays, "tuner/")),
        settings=meta["settings"],
        scores=meta["scores"],
        records=[records] if records else [],
        sums=_under(arrays, "sum/"),
        counts=arrays["counts"],
    )


def _under(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name[len(prefix) :]: value for name, value in arrays.items() if name.startswith(prefix)}


def _read(path: Path) -> dict[str, np.ndarray] | None:
    """All arrays, each checked against its checksum; None if the file is cut short or no checkpoint."""
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return arrays if "meta" in arrays else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
