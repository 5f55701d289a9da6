"""The state of a sampler's run, and how it becomes plain arrays and JSON (see ``finitewidth.runs.checkpoints``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from finitewidth.runs.checkpoints import RunFile
from finitewidth.sampling.program import CHUNK, DualAveraging, Records, Settings

if TYPE_CHECKING:
    from finitewidth.sampling.engine import Engine

BLOCKS = 10  # parts of a run that have sums of their own, so that they have error bars


@dataclass(frozen=True)
class Progress:
    """Everything a run is: all that a checkpoint holds.

    stage, chunk: what is done of which stage. states, tuners: one pytree of NumPy arrays, chains first.
    records: of the current stage. sums: (chains, BLOCKS, ...), with their ``counts`` (BLOCKS,).
    positions: weights of some draws, (chains, dim) each.
    """

    stage: int
    chunk: int
    iterations: int
    states: Any
    tuners: DualAveraging
    settings: Settings
    scores: dict[str, float] = field(default_factory=dict)
    records: list[Records] = field(default_factory=list)
    sums: dict[str, np.ndarray] = field(default_factory=dict)
    counts: np.ndarray = field(default_factory=lambda: np.zeros(BLOCKS))
    positions: tuple[np.ndarray, ...] = ()


def from_file(file: RunFile, meta: dict[str, Any], arrays: dict[str, np.ndarray], engine: Engine) -> Progress:
    """The state that was saved; InputError unless it is one of that engine.

    Everything is held to the shapes that the engine makes: what is compiled trusts them.
    """
    stage = file.whole(meta, "stage", len(engine.stages))
    chunks = [one.chunks for one in engine.stages]
    chunk = file.whole(meta, "chunk", 0 if stage == len(chunks) else chunks[stage] - 1)
    if meta.get("iterations") != CHUNK * (sum(chunks[:stage]) + chunk):
        raise file.misfit("iterations")
    states, tuners, records, sums = engine.shapes
    leaves, structure = jax.tree.flatten(states)
    current, chains = engine.stages[min(stage, len(chunks) - 1)], engine.chains
    done = current.iterations if stage == len(chunks) else CHUNK * chunk
    wanted: dict[str, Any] = {"counts": np.zeros(BLOCKS)}
    wanted |= {f"state/{i}": _like(leaf, chains) for i, leaf in enumerate(leaves)}
    wanted |= {f"tuner/{name}": _like(value, chains) for name, value in tuners._asdict().items()}
    if done:
        wanted |= {f"record/{name}": _like(value, chains, done, skip=1) for name, value in records.items()}
    if done and current.draws:
        wanted |= {f"sum/{name}": _like(value, chains, BLOCKS) for name, value in sums.items()}
    count = (chunk if stage < len(chunks) else chunks[-1]) // engine.spacing if engine.spacing and current.draws else 0
    if count:
        wanted["positions"] = _like(engine.sampler.position(states), count, chains)
    fitting = file.fitting(arrays, wanted)
    settings, scores = file.numbers(meta, "settings"), file.numbers(meta, "scores")
    chosen = engine.sampler.before(current, engine.sampler.settings(), scores) | {"step_size": 0.0}
    if settings | {"step_size": 0.0} != chosen or settings.get("step_size", 1.0) <= 0.0:
        raise file.misfit("settings")
    recorded = _under(fitting, "record/")
    return Progress(
        stage=stage,
        chunk=chunk,
        iterations=meta["iterations"],
        states=jax.tree.unflatten(structure, [fitting[f"state/{i}"] for i in range(len(leaves))]),
        tuners=DualAveraging(**_under(fitting, "tuner/")),
        settings=settings,
        scores=scores,
        records=[recorded] if recorded else [],
        sums=_under(fitting, "sum/"),
        counts=fitting["counts"],
        positions=tuple(fitting["positions"]) if count else (),
    )


def _like(leaf: Any, *sizes: int, skip: int = 0) -> jax.ShapeDtypeStruct:
    """Shape and type of a leaf of one chain, with those sizes in front in place of its first ``skip``."""
    return jax.ShapeDtypeStruct((*sizes, *leaf.shape[skip:]), leaf.dtype)


def to_file(progress: Progress) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What ``from_file`` reads."""
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
    if progress.positions:
        arrays["positions"] = np.stack(progress.positions)
    return meta, arrays | {f"sum/{name}": value for name, value in progress.sums.items()}


def _under(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name[len(prefix) :]: value for name, value in arrays.items() if name.startswith(prefix)}


def joined(records: list[Records]) -> Records:
    """Chunks after one another, (chains, iterations, ...)."""
    if not records:
        return {}
    return {name: np.concatenate([part[name] for part in records], axis=1) for name in records[0]}
