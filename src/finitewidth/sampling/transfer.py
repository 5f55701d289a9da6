"""Draws from two finite networks with coupled first layers (docs/theory.md, Transfer), readouts integrated exactly.

Together: one chain holds both first layers. Source first: the source's own posterior is drawn from, and each first
layer W_s that comes out is kept while chains of the target's W_t run under the prior N(c W_s, s^2). All are runs as
those of ``fw.sample``, with a target distribution of their own (coupled.py).
"""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from finitewidth import checks
from finitewidth.checks.exceptions import InputError
from finitewidth.data import Dataset
from finitewidth.networks import Network
from finitewidth.networks.coupled import Coupled, Joint, SourceFirst
from finitewidth.runs.checkpoints import folder_of
from finitewidth.runs.durations import Jobs
from finitewidth.runs.fingerprints import every_field
from finitewidth.runs.jax_runs import require_jax, single_thread
from finitewidth.runs.long_runs import carry_out
from finitewidth.sampling.convergence import diagnose
from finitewidth.sampling.draws import Draws
from finitewidth.sampling.following import CHAINS, FollowingDraws
from finitewidth.sampling.inputs import Inputs
from finitewidth.sampling.method import Sample
from finitewidth.sampling.run import SamplingRun

if TYPE_CHECKING:
    from finitewidth.sampling.engine import Engine, Progress

Array = np.ndarray
_SPACING = 50  # iterations of a source chain between two layers that are stored


@dataclass(frozen=True)
class Points:
    """The points of both tasks in a basis of the span of both training sets; ``test`` has ``n_extra`` more columns."""

    source: Array
    target: Array
    test: Array
    n_extra: int

    @classmethod
    def of(cls, network: Network, source: Dataset, target: Dataset, test: Dataset) -> Points:
        both = np.concatenate([source.flat, target.flat])
        inputs, first = Inputs.of(network, both), len(source)
        return cls(inputs.train[:first], inputs.train[first:], *inputs.at(test.flat))

    def padded(self, x: Array) -> Array:
        """Training points as test points: a longer row, whose root the network divides by."""
        full, rank = self.test.shape[1], x.shape[1]
        return np.pad(x * math.sqrt(full / rank), ((0, 0), (0, full - rank)))


@dataclass(frozen=True, kw_only=True)
class CoupledRun(SamplingRun):
    """A run for coupled networks. source: the points of the source task."""

    coupled: Coupled
    source: Dataset

    @property
    def decided_by(self) -> dict[str, Any]:
        return super().decided_by | {"coupled": every_field(self.coupled), "source": self.source.fingerprint()}


# --- both networks in one chain, learned together ---------------------------------------------------------------------


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
    checkpoint: str | os.PathLike[str] | None = None,
) -> Draws:
    """Draw from the posterior of both networks, learned together; ``test`` is of the target task.

    The result is the target network's; its observable "order_parameter" is the matrix (2, 2) of overlaps of readouts,
    source first. Options as for ``fw.sample``. Raises InputError for several outputs and points of different sizes,
    MissingExtraError without JAX.
    """
    coupled.check(source, target, test)
    run = JointRun(
        settings=Sample(chains=chains, draws=draws, warmup=warmup, seed=seed),
        network=coupled.network,
        train=target,
        test=test,
        temperature=temperature,
        coupled=coupled,
        source=source,
    )
    return run.collect(carry_out(run, checkpoint))


@dataclass(frozen=True, kw_only=True)
class JointRun(CoupledRun):
    """A run of both networks; ``train`` and ``test`` are of the target task."""

    @cached_property
    def engine(self) -> Engine:
        require_jax(self.network, "sampling")
        from finitewidth.sampling.coupled import Coupling, JointTarget, Tasks
        from finitewidth.sampling.posterior import Arrays

        points = Points.of(self.network, self.source, self.train, self.test)
        prior, rank = self.coupled.covariance, points.source.shape[1]
        arrays = Arrays(
            train=Tasks(points.source, points.target),
            y=np.concatenate([self.source.y, self.train.y])[:, None],
            # the target's own points as well: its train error
            test=np.concatenate([points.test, points.padded(points.target)]),
            scale=np.ones(2 * self.coupled.width * rank),
            temperature=np.array(self.temperature),
            coupling=Coupling(np.linalg.cholesky(prior), np.array(math.sqrt(prior[1, 1]))),
        )
        return self.engine_of(JointTarget(self.network, (rank,), points.n_extra, self.network.jax_functions), arrays)

    def collect(self, state: Progress) -> Draws:
        draws, count = super().collect(state), len(self.test)
        own = (self.train.y - draws.mean[..., count:]) ** 2 + draws.variance[..., count:]
        return replace(
            draws, mean=draws.mean[..., :count], variance=draws.variance[..., :count], train_error=own.mean(-1)
        )


# --- source first: layers of the source -------------------------------------------------------------------------------


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
    sources: layers kept, ``chains`` at a time, every 50 iterations after ``warmup``. checkpoint: as for ``fw.sample``.
    Raises InputError for several outputs, points of different sizes, and fewer than two layers, and MissingExtraError
    without JAX.
    """
    coupled = SourceFirst(network, 0.0)
    coupled.check(source, target, test)
    if checks.positive_integer("sources", sources) < 2:
        raise InputError(f"sources = {sources}", "at least two layers", "give more, for a standard error")
    run = SourceRun(
        settings=Sample(
            chains=chains, draws=_SPACING * -(-sources // chains), warmup=warmup, seed=seed, observables=()
        ),
        network=network,
        train=source,
        test=target,
        temperature=temperature,
        at=test,
    )
    return run.layers(carry_out(run, checkpoint), sources)


@dataclass(frozen=True, kw_only=True)
class SourceRun(SamplingRun):
    """A run for source layers; ``test`` holds the target's points, ``at`` those it will be tested on."""

    at: Dataset

    def refuse_other_targets(self) -> None:
        """The source is another task: its classes may be others."""

    def usable(self, state: Progress) -> bool:
        """Only the whole: an interrupt is passed on."""
        return False

    @property
    def decided_by(self) -> dict[str, Any]:
        return super().decided_by | {"at": self.at.fingerprint()}

    @cached_property
    def engine(self) -> Engine:
        require_jax(self.network, "sampling")
        from finitewidth.sampling.posterior import Arrays, Target
        from finitewidth.sampling.program import CHUNK

        points = Points.of(self.network, self.train, self.test, self.at)
        target = Target.of(self.network, points.source, 0)
        with single_thread():
            scale, temperature = target.prior_deviation(), np.array(self.temperature)
        arrays = Arrays(points.source, self.y, points.target, scale, temperature)
        return replace(self.engine_of(target, arrays), spacing=_SPACING // CHUNK, stored=self.settings.most_draws)

    def layers(self, state: Progress, count: int) -> SourceLayers:
        """The first ``count`` of the stored layers."""
        from finitewidth.sampling.coupled import overlaps

        engine, theta = self.engine, np.concatenate(state.positions)[:count]
        with single_thread():
            readouts, own = overlaps(engine.sampler.target, theta, engine.arrays)
        records = self.records(state)
        series = [records["energy"], records["train_error"], (records["mean"] ** 2).mean((-1, -2))]
        found = [diagnose(one) for one in series]
        return SourceLayers(
            network=self.network,
            source=self.train,
            target=self.test,
            test=self.at,
            temperature=self.temperature,
            layers=theta * np.asarray(engine.arrays.scale),
            readouts=readouts,
            order_parameter=own,
            r_hat=max(one.r_hat for one in found),
            ess=min(one.ess for one in found),
        )


# --- source first: targets that follow a layer ------------------------------------------------------------------------


def sample_following(
    coupled: SourceFirst,
    layers: SourceLayers,
    *,
    draws: int = 60,
    warmup: int = 200,
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
) -> FollowingDraws:
    """Draw target networks that follow the layers of ``sample_source``, two chains of ``draws`` after each layer.

    warmup: of the first layer's chains, which choose step size and trajectory; the others forget their start in a
    quarter of it. checkpoint: a folder, of a file a layer, from which the same call goes on.
    Raises InputError where the layers are of another network.
    """
    if coupled.network != layers.network:
        raise InputError(f"layers of {layers.network!r}", f"layers of {coupled.network!r}", "draw them again")
    folder = None if checkpoint is None else folder_of(checkpoint)
    points = Points.of(layers.network, layers.source, layers.target, layers.test)
    found: list[dict[str, Any]] = []
    tuned: dict[str, Any] = {}
    jobs = Jobs(len(layers), f"{len(layers)} target networks that follow a source")
    for index, layer in enumerate(layers.layers):
        run = FollowingRun(
            settings=Sample(
                chains=CHAINS,
                draws=draws,
                warmup=warmup // 4 if tuned else warmup,
                seed=int(np.random.SeedSequence((seed, index)).generate_state(1)[0]),
                **tuned,
            ),
            network=layers.network,
            train=layers.target,
            test=layers.test,
            temperature=layers.temperature,
            coupled=coupled,
            source=layers.source,
            points=points,
            layer=layer,
        )
        with jobs.one():
            state = carry_out(run, None if folder is None else folder / f"layer-{index}.npz")
        found.append(run.found(state))
        tuned = {name: float(state.settings[name]) for name in ("step_size", "trajectory")}
    arrays = {name: np.stack([one[name] for one in found]) for name in found[0]}
    z, width = arrays.pop("readout"), coupled.width
    overlap = {
        "source": layers.order_parameter,
        "cross": np.einsum("sn,scn->s", layers.readouts, z) / (CHAINS * width),
        "target": arrays.pop("order_parameter"),
        "replica": np.einsum("sn,sn->s", z[:, 0], z[:, 1]) / width,  # independent given the layer
    }
    return FollowingDraws(
        **arrays,
        order_parameters=overlap,
        source_r_hat=layers.r_hat,
        source_ess=layers.ess,
        encoding=layers.target.encoding,
    )


@dataclass(frozen=True, kw_only=True)
class FollowingRun(CoupledRun):
    """The target task after one layer (N rank,) of the source."""

    points: Points
    layer: Array

    def usable(self, state: Progress) -> bool:
        """Only the whole: an interrupt is passed on."""
        return False

    @property
    def decided_by(self) -> dict[str, Any]:
        return super().decided_by | {"layer": hashlib.sha256(self.layer.tobytes()).hexdigest()}

    @cached_property
    def engine(self) -> Engine:
        from finitewidth.sampling.coupled import FollowingTarget, Prior
        from finitewidth.sampling.posterior import Arrays

        points, coupled = self.points, self.coupled
        assert isinstance(coupled, SourceFirst)
        arrays = Arrays(
            train=points.target,
            y=self.y,
            test=points.test,
            scale=np.full(len(self.layer), math.sqrt(coupled.spread)),
            temperature=np.array(self.temperature),
            coupling=Prior(coupled.shift * self.layer, np.array(math.sqrt(coupled.covariance[1, 1]))),
        )
        rank = points.target.shape[1]
        target = FollowingTarget(self.network, (rank,), points.n_extra, self.network.jax_functions)
        return self.engine_of(target, arrays, "readout")

    def found(self, state: Progress) -> dict[str, Any]:
        """The draws that follow this layer, (2, n, ...), and the means of what was summed."""
        records = self.records(state)
        sums = {name: state.sums[name].sum(1) / state.counts.sum() for name in ("readout", "order_parameter")}
        return {
            "mean": records["mean"][..., 0],
            **{name: records[name] for name in ("variance", "train_error", "energy", "diverged")},
            "readout": sums["readout"][..., 0],
            "order_parameter": sums["order_parameter"].mean(),
        }
