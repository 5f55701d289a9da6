"""A sampler's run on disk: how its state becomes plain arrays and JSON (see ``finitewidth.runs``)."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from finitewidth.runs import RunFile
from finitewidth.sampling.engine import Progress, joined
from finitewidth.sampling.program import DualAveraging


class Checkpoint(RunFile):
    """The file of a sampler's run."""

    def save(self, progress: Progress) -> None:
        """A whole state."""
        self.write(*_to_arrays(progress))

    def load(self, structure: Any) -> Progress | None:
        """The last whole state, or None where there is none. ``structure``: pytree definition of the states."""
        found = self.read()
        return None if found is None else _from_arrays(*found, structure)


def _to_arrays(progress: Progress) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    meta = {
        "stage": progress.stage,
        "chunk": progress.chunk,
        "iterations": progress.iterations,
        "settings": progress.settings,
        "scores": progress.scores,
    }
    arrays = {"counts": progress.counts}
    arrays |= {f"state/{i}": leaf for i, leaf in enumerate(jax.tree.leaves(progress.states))}
    arrays |= {f"tuner/{name}": value for name, value in progress.tuners._asdict().items()}
    arrays |= {f"record/{name}": value for name, value in joined(progress.records).items()}
    return meta, arrays | {f"sum/{name}": value for name, value in progress.sums.items()}


def _from_arrays(meta: dict[str, Any], arrays: dict[str, np.ndarray], structure: Any) -> Progress:
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
