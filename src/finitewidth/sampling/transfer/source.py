"""First layers of the source network, drawn from its own posterior."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finitewidth import checks
from finitewidth.checks.exceptions import InputError
from finitewidth.data import Dataset
from finitewidth.networks import Network
from finitewidth.networks.coupled import SourceFirst
from finitewidth.runs.checkpoints import RunFile
from finitewidth.runs.jax_runs import single_thread
from finitewidth.sampling.convergence import diagnose
from finitewidth.sampling.method import Sample
from finitewidth.sampling.run import SamplingRun, require_jax
from finitewidth.sampling.transfer.points import Points

if TYPE_CHECKING:
    from finitewidth.sampling.engine import Engine

Array = np.ndarray
_SPACING = 50  # iterations of a source chain between two layers that are stored


@dataclass(frozen=True, eq=False)
class SourceLayers:
    """First layers drawn from the posterior of the source task alone, ``sample_source``.

    layers: W_s in the basis that the sampler uses, (S, N rank). readouts: E[v | W_s] sqrt(lambda_1), (S, N).
    order_parameter: lambda_1 E[v.v | W_s] / N, (S,). r_hat, ess: of the chains' energy and predictions, the worst.
    """

    network: Network
    source: Dataset
    target: Dataset
    test: Dataset
    temperature: float
    layers: Array
    readouts: Array
    order_parameter: Array
    r_hat: float
    ess: float

    def __len__(self) -> int:
        return len(self.layers)


def sample_source(
    network: Network,
    source: Dataset,
    target: Dataset,
    test: Dataset,
    temperature: float,
    *,
    sources: int = 48,
    chains: int = 4,
    warmup: int = 200,
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
) -> SourceLayers:
    """Draw first layers of the source network from its posterior, which no target has any part in.

    target, test: what the target networks will be trained and tested on; here only their inputs count.
    sources: layers kept, ``chains`` at a time, every 50 iterations after ``warmup``. checkpoint: a file.
    Raises InputError for several outputs, points of different sizes, and fewer than two layers, and MissingExtraError
    without JAX.
    """
    SourceFirst(network, 0.0).check(source, target, test)
    require_jax(network)
    if checks.positive_integer("sources", sources) < 2:
        raise InputError(f"sources = {sources}", "at least two layers", "give more, for a standard error")
    run = SourceRun(
        settings=Sample(chains=chains, draws=_SPACING * -(-sources // chains), warmup=warmup, seed=seed),
        network=network,
        train=source,
        test=target,
        temperature=temperature,
        sources=sources,
        at=test,
    )
    meta, arrays = run.done(None if checkpoint is None else Path(checkpoint))
    return SourceLayers(
        network=network,
        source=source,
        target=target,
        test=test,
        temperature=run.temperature,
        layers=arrays["layers"],
        readouts=arrays["readouts"],
        order_parameter=arrays["order_parameter"],
        r_hat=meta["r_hat"],
        ess=meta["ess"],
    )


@dataclass(frozen=True, kw_only=True)
class SourceRun(SamplingRun):
    """A run for source layers; ``test`` holds the target's points, ``at`` those it will be tested on."""

    sources: int
    at: Dataset

    def refuse_other_targets(self) -> None:
        """The source is another task: its classes may be others."""

    def fingerprint(self) -> str:
        own = {"sources": self.sources, "at": self.at.fingerprint()}
        return json.dumps(json.loads(super().fingerprint()) | own)

    @cached_property
    def engine(self) -> Engine:
        from finitewidth.sampling.posterior import Arrays, Target
        from finitewidth.sampling.program import Program

        points = Points.of(SourceFirst(self.network, 0.0), self.train, self.test, self.at)
        target = Target.of(self.network, points.source, 0)
        with single_thread():
            scale, temperature = target.prior_deviation(), np.array(self.temperature)
            arrays = Arrays(points.source, self.y, points.target, scale, temperature)
        return self.engine_of(target, arrays, lambda sampler, _: Program(sampler, ()))

    def done(self, checkpoint: Path | None) -> tuple[dict[str, Any], dict[str, Array]]:
        """What ``draw`` gives, read from the checkpoint where it is done, else drawn and written there."""
        if checkpoint is None:
            return self.draw()
        file = RunFile(checkpoint, self.fingerprint())
        before = file.read()
        if before is not None:
            return self.fitting(file, *before)
        found = self.draw()
        file.write(*found)
        return found

    def fitting(
        self, file: RunFile, meta: dict[str, Any], arrays: dict[str, Array]
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """What was read, held to the shapes that ``draw`` gives; raises InputError."""
        count, width = self.sources, self.network.widths[-1]
        rank = Points.of(SourceFirst(self.network, 0.0), self.train, self.test, self.at).source.shape[1]
        shapes = {"layers": (count, width * rank), "readouts": (count, width), "order_parameter": (count,)}
        wanted = {name: np.empty(shape) for name, shape in shapes.items()}
        numbers = {"numbers": {name: meta.get(name) for name in ("r_hat", "ess")}}
        return file.numbers(numbers, "numbers"), file.fitting(arrays, wanted)

    def draw(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """The numbers and arrays of ``SourceLayers``."""
        from finitewidth.sampling.checkpoint import joined
        from finitewidth.sampling.coupled import overlaps
        from finitewidth.sampling.program import CHUNK

        engine, kept = self.engine, []
        state, last = engine.start(), len(engine.stages) - 1
        for whole in engine.run(state):
            state = whole
            done = state.chunk * CHUNK if state.stage == last else self.settings.draws * (state.stage > last)
            if done and done % _SPACING == 0:
                kept.append(state.states.theta)
        theta = np.concatenate(kept)[: self.sources]
        with single_thread():
            readouts, own = overlaps(engine.sampler.target, theta, engine.arrays)
        records = joined(state.records)
        series = [records["energy"], records["train_error"], (records["mean"] ** 2).mean((-1, -2))]
        found = [diagnose(one) for one in series]
        meta = {"r_hat": max(one.r_hat for one in found), "ess": min(one.ess for one in found)}
        layers = theta * np.asarray(engine.arrays.scale)
        return meta, {"layers": layers, "readouts": readouts, "order_parameter": own}
