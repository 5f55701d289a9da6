"""Both networks in one chain, learned together."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from finitewidth.data import Dataset
from finitewidth.networks.coupled import Joint
from finitewidth.runs.fingerprints import every_field
from finitewidth.runs.long_runs import carry_out
from finitewidth.sampling.draws import Draws
from finitewidth.sampling.method import Sample
from finitewidth.sampling.run import SamplingRun, require_jax
from finitewidth.sampling.transfer.points import Points

if TYPE_CHECKING:
    from finitewidth.sampling.checkpoint import Progress
    from finitewidth.sampling.engine import Engine


def sample_joint(
    coupled: Joint,
    source: Dataset,
    target: Dataset,
    test: Dataset,
    temperature: float,
    *,
    chains: int = 4,
    draws: int = 500,
    warmup: int | None = None,
    seed: int = 0,
    progress: bool | str = False,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Draws:
    """Draw from the posterior of both networks, learned together; ``test`` is of the target task.

    The result is the target network's; its observable "order_parameter" is the matrix (2, 2) of overlaps of readouts,
    source first. Options as for ``fw.sample``. Raises InputError for several outputs and points of different sizes,
    MissingExtraError without JAX.
    """
    coupled.check(source, target, test)
    require_jax(coupled.network)
    run = JointRun(
        settings=Sample(chains=chains, draws=draws, warmup=warmup, seed=seed),
        network=coupled.network,
        train=target,
        test=test,
        temperature=temperature,
        coupled=coupled,
        source=source,
    )
    return run.collect(carry_out(run, None if checkpoint is None else Path(checkpoint), progress))


@dataclass(frozen=True, kw_only=True)
class JointRun(SamplingRun):
    """A run of both networks; ``train`` and ``test`` are of the target task."""

    coupled: Joint
    source: Dataset

    def fingerprint(self) -> str:
        own = {"coupled": every_field(self.coupled), "source": self.source.fingerprint()}
        return json.dumps(json.loads(super().fingerprint()) | own)

    @cached_property
    def engine(self) -> Engine:
        from finitewidth.sampling.coupled import JointArrays, JointTarget, Tasks

        points = Points.of(self.coupled, self.source, self.train, self.test)
        width, rank = self.coupled.width, points.source.shape[1]
        prior = self.coupled.covariance
        at = np.concatenate([points.test, points.padded(points.target)])  # the target's own points: its train error
        arrays = JointArrays(
            train=Tasks(points.source, points.target),
            y=np.concatenate([self.source.y, self.train.y])[:, None],
            test=at,
            scale=np.ones(2 * width * rank),
            temperature=np.array(self.temperature),
            mixing=np.linalg.cholesky(prior),
            outside=np.array(math.sqrt(prior[1, 1])),
        )
        network = self.coupled.network
        target = JointTarget(network, (rank,), points.n_extra, network.jax_functions)
        return self.engine_of(target, arrays)

    def collect(self, state: Progress) -> Draws:
        draws, count = super().collect(state), len(self.test)
        own = (self.train.y - draws.mean[..., count:]) ** 2 + draws.variance[..., count:]
        return replace(
            draws, mean=draws.mean[..., :count], variance=draws.variance[..., :count], train_error=own.mean(-1)
        )
