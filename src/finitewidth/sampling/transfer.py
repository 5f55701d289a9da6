"""Draws from two finite networks with coupled first layers (docs/theory.md, Transfer), readouts integrated exactly.

Together: one chain holds both first layers. Source first: the source's own posterior is drawn from, and each first
layer W_s that comes out is kept while chains of the target's W_t run under the prior N(c W_s, s^2). Both are targets of
the collapsed sampler and run in the same engine as ``fw.sample``.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finitewidth import checks
from finitewidth.data import Dataset
from finitewidth.exceptions import InputError, MissingExtraError
from finitewidth.networks import Network
from finitewidth.networks.coupled import Coupled, Joint, SourceFirst
from finitewidth.prediction import Prediction
from finitewidth.runs import RunFile, every, refuse_numpy_only, single_thread
from finitewidth.sampling.convergence import Diagnosis, diagnose, verdict
from finitewidth.sampling.draws import Draws, SampledErrors
from finitewidth.sampling.frozen import squared_bias
from finitewidth.sampling.inputs import Inputs
from finitewidth.sampling.run import _SAVE_EVERY, Request, _run

if TYPE_CHECKING:
    from finitewidth.sampling.engine import Engine, Progress

Array = np.ndarray


def _require_jax(network: Network) -> None:
    try:
        import jax  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("jax", "sample", "sampling") from error
    refuse_numpy_only(network)


# --- both tasks together ----------------------------------------------------------------------------------------------


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
    _require_jax(coupled.network)
    request = JointRequest(
        network=coupled.network,
        train=target,
        test=test,
        temperature=temperature,
        chains=chains,
        draws=draws,
        warmup=warmup,
        seed=seed,
        coupled=coupled,
        source=source,
    )
    return request.collect(*_run(request.engine(), request, progress, checkpoint))


@dataclass(frozen=True, kw_only=True)
class JointRequest(Request):
    """A request for both networks; ``train`` and ``test`` are of the target task."""

    coupled: Joint
    source: Dataset

    def fingerprint(self) -> str:
        own = {"coupled": repr(self.coupled), "source": self.source.fingerprint()}
        return json.dumps(json.loads(super().fingerprint()) | own)

    def engine(self) -> Engine:
        from finitewidth.sampling.coupled import JointArrays, JointTarget, Tasks
        from finitewidth.sampling.engine import Engine
        from finitewidth.sampling.program import Program

        points = _Points.of(self.coupled, self.source, self.train, self.test)
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
        target = JointTarget(network, (rank,), points.n_extra, network.phi.jax_function)
        sampler = self._sampler(target)
        stages = tuple(sampler.stages(self.warmup, self.draws))
        program = Program(sampler, self.observables)
        return Engine(program, arrays, self.chains, self.seed, stages)  # type: ignore[arg-type]

    def collect(self, state: Progress, complete: bool) -> Draws:
        draws, count = super().collect(state, complete), len(self.test)
        own = (self.train.y - draws.mean[..., count:]) ** 2 + draws.variance[..., count:]
        return replace(
            draws, mean=draws.mean[..., :count], variance=draws.variance[..., :count], train_error=own.mean(-1)
        )


@dataclass(frozen=True)
class _Points:
    """All points in a basis of the span of both training sets; ``test`` has ``n_extra`` more columns."""

    source: Array
    target: Array
    test: Array
    n_extra: int

    @classmethod
    def of(cls, coupled: Coupled, source: Dataset, target: Dataset, test: Dataset) -> _Points:
        both = np.concatenate([source.flat, target.flat])
        inputs = Inputs.of(coupled.network, both, test.flat)
        first = len(source)
        return cls(inputs.train[:first], inputs.train[first:], inputs.test, inputs.n_extra)

    def padded(self, x: Array) -> Array:
        """Training points as test points: a longer row, whose root the network divides by."""
        full, rank = self.test.shape[1], x.shape[1]
        return np.pad(x * math.sqrt(full / rank), ((0, 0), (0, full - rank)))


# --- source first, target later ---------------------------------------------------------------------------------------

_CHAINS = 2  # of every target: as many as R-hat and the overlap of replicas need
_TUNED = ("step_size", "trajectory")
_SPACING = 50  # iterations of a source chain between two layers that are kept


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


@dataclass(frozen=True, eq=False)
class FollowingDraws:
    """Target networks that follow draws of the source: S source layers, two chains of n draws after each.

    mean, variance: of f at the test points given a draw of the target's hidden weights, (S, 2, n, P*).
    train_error, energy, diverged: (S, 2, n). source_r_hat, source_ess: of the source's chains.
    order_parameters: of every source layer, (S,): "source", "cross", "target", "replica", as a ``TransferSolution``'s.
    """

    mean: Array
    variance: Array
    train_error: Array
    energy: Array
    diverged: Array
    order_parameters: dict[str, Array]
    source_r_hat: float
    source_ess: float

    @property
    def n_sources(self) -> int:
        """S."""
        return len(self.mean)

    @cached_property
    def effective(self) -> float:
        """Independent source layers among the S."""
        return min(float(self.n_sources), self.source_ess)

    def prediction(self) -> Prediction:
        """Of the target's f over sources, chains and draws."""
        mean = self.mean.mean((0, 1, 2))
        variance = self.variance.mean((0, 1, 2)) + self.mean.var((0, 1, 2))
        return Prediction(mean, variance, float(self.train_error.mean()))

    def errors(self, y: Any) -> SampledErrors:
        """Errors of the target against ``y`` (P*,); standard errors are over source layers, R-hat over the chains that
        follow one layer (all layers together) and over the source's.

        Raises InputError for targets of another shape.
        """
        y = np.asarray(y, dtype=float)
        if y.shape != self.mean.shape[3:]:
            raise InputError(f"targets of shape {y.shape}", f"shape {self.mean.shape[3:]}", "give the test targets")
        series = ((y - self.mean) ** 2 + self.variance).mean(-1)
        each = series.mean((1, 2))
        test, (bias, bias_se) = self.average(each), self._bias(self.mean.mean((1, 2)), y)
        train = self.average(self.train_error.mean((1, 2)))
        watched = {
            "test error": _within(series),
            "train error": _within(self.train_error),
            "energy": _within(self.energy),
            "source": Diagnosis(self.source_r_hat, self.source_ess, 0.0),
        }
        divergences = int(self.diverged.sum())
        converged, message = verdict(watched, divergences, self.mean.shape[2])
        return SampledErrors(
            test_error=test[0],
            bias=bias,
            variance=test[0] - bias,
            accuracy=None,
            train_error=train[0],
            test_error_se=test[1],
            train_error_se=train[1],
            bias_se=bias_se,
            variance_se=test[1] + bias_se,  # the largest that it can be
            accuracy_se=None,
            r_hat=max(one.r_hat for one in watched.values()),
            ess=self.effective,
            divergences=divergences,
            converged=converged,
            message=message,
        )

    def average(self, values: Array) -> tuple[float, float]:
        """Mean over source layers, (S,), and its standard error."""
        return float(values.mean()), float(values.std(ddof=1) / math.sqrt(self.effective))

    def order_parameter(self, name: str) -> tuple[float, float]:
        """ "source", "cross", "target" or "replica", with its standard error over source layers."""
        return self.average(self.order_parameters[checks.choice("name", name, self.order_parameters)])

    def _bias(self, means: Array, y: Array) -> tuple[float, float]:
        """Of the mean over all sources, without the noise of finitely many, from the means of each (S, P*)."""
        value, error = squared_bias(means, y)
        return value, error * math.sqrt(self.n_sources / self.effective)


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
    _require_jax(network)
    if checks.positive_integer("sources", sources) < 2:
        raise InputError(f"sources = {sources}", "at least two layers", "give more, for a standard error")
    request = SourceRequest(
        network=network,
        train=source,
        test=target,
        temperature=temperature,
        chains=chains,
        draws=_SPACING * -(-sources // chains),
        warmup=warmup,
        seed=seed,
        sources=sources,
        at=test,
    )
    file = None if checkpoint is None else RunFile(Path(checkpoint), request.fingerprint())
    found = None if file is None else file.read()
    if file is not None and found is not None:
        found = request.fitting(file, *found)
    if found is None:
        found = request.draw()
        if file is not None:
            file.write(*found)
    meta, arrays = found
    return SourceLayers(
        network=network,
        source=source,
        target=target,
        test=test,
        temperature=request.temperature,
        layers=arrays["layers"],
        readouts=arrays["readouts"],
        order_parameter=arrays["order_parameter"],
        r_hat=meta["r_hat"],
        ess=meta["ess"],
    )


@dataclass(frozen=True, kw_only=True)
class SourceRequest(Request):
    """A request for source layers; ``test`` holds the target's points, ``at`` those it will be tested on."""

    sources: int
    at: Dataset

    def fingerprint(self) -> str:
        own = {"sources": self.sources, "at": self.at.fingerprint()}
        return json.dumps(json.loads(super().fingerprint()) | own)

    def engine(self) -> Engine:
        from finitewidth.sampling.engine import Engine
        from finitewidth.sampling.posterior import Arrays, Target
        from finitewidth.sampling.program import Program

        points = _Points.of(SourceFirst(self.network, 0.0), self.train, self.test, self.at)
        target = Target.of(self.network, points.source, 0)
        with single_thread():
            scale, temperature = target.prior_deviation(), np.array(self.temperature)
            arrays = Arrays(points.source, self.y, points.target, scale, temperature)
        sampler = self._sampler(target)
        return Engine(
            Program(sampler, ()), arrays, self.chains, self.seed, tuple(sampler.stages(self.warmup, self.draws))
        )

    def fitting(
        self, file: RunFile, meta: dict[str, Any], arrays: dict[str, Array]
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """What was read, held to the shapes that ``draw`` gives; raises InputError."""
        count, width = self.sources, self.network.widths[-1]
        rank = _Points.of(SourceFirst(self.network, 0.0), self.train, self.test, self.at).source.shape[1]
        shapes = {"layers": (count, width * rank), "readouts": (count, width), "order_parameter": (count,)}
        wanted = {name: np.empty(shape) for name, shape in shapes.items()}
        numbers = {"numbers": {name: meta.get(name) for name in ("r_hat", "ess")}}
        return file.numbers(numbers, "numbers"), file.fitting(arrays, wanted)

    def draw(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """The numbers and arrays of ``SourceLayers``."""
        from finitewidth.sampling.coupled import overlaps
        from finitewidth.sampling.engine import joined
        from finitewidth.sampling.program import CHUNK

        engine, kept = self.engine(), []
        state, last = engine.start(), len(engine.stages) - 1
        for whole in engine.run(state):
            state = whole
            done = state.chunk * CHUNK if state.stage == last else self.draws * (state.stage > last)
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
    quarter of it. checkpoint: a file of the layers done so far, from which the same call goes on.
    Raises InputError where the layers are of another network.
    """
    if coupled.network != layers.network:
        raise InputError(f"layers of {layers.network!r}", f"layers of {coupled.network!r}", "draw them again")
    run = _Following(coupled, layers, checks.positive_integer("draws", draws), warmup, seed)
    file = None if checkpoint is None else RunFile(Path(checkpoint), run.fingerprint())
    found = None if file is None else file.read()
    settings, arrays = ({}, {}) if file is None or found is None else run.fitting(file, *found)
    save = every(_SAVE_EVERY, None if file is None else lambda state: file.write(*state))
    for index in range(len(arrays["energy"]) if arrays else 0, len(layers)):
        one, settings = run.follow(index, settings)
        arrays = {name: np.concatenate([arrays[name], value]) for name, value in one.items()} if arrays else one
        save((settings, arrays))
    if file is not None:
        file.write(settings, arrays)
    z, mean = arrays.pop("readout"), layers.readouts
    width = coupled.width
    overlap = {
        "source": layers.order_parameter,
        "cross": np.einsum("sn,scn->s", mean, z) / (len(z[0]) * width),
        "target": arrays.pop("order_parameter"),
        "replica": np.einsum("sn,sn->s", z[:, 0], z[:, 1]) / width,  # independent given the layer
    }
    return FollowingDraws(**arrays, order_parameters=overlap, source_r_hat=layers.r_hat, source_ess=layers.ess)


@dataclass(frozen=True)
class _Following:
    coupled: SourceFirst
    layers: SourceLayers
    draws: int
    warmup: int
    seed: int

    def request(self, seed: int, settings: dict[str, float]) -> Request:
        """The target task, with a seed of its own for every layer, and the settings that the first one chose."""
        given = self.layers
        return Request(
            network=given.network,
            train=given.target,
            test=given.test,
            temperature=given.temperature,
            chains=_CHAINS,
            draws=self.draws,
            warmup=self.warmup // 4 if settings else self.warmup,
            seed=seed,
            step_size=settings.get("step_size"),
            trajectory=settings.get("trajectory"),
        )

    def fingerprint(self) -> str:
        given = self.layers
        own = {
            "coupled": repr(self.coupled),
            "source": given.source.fingerprint(),
            "layers": hashlib.sha256(given.layers.tobytes()).hexdigest(),
        }
        return json.dumps(json.loads(self.request(self.seed, {}).fingerprint()) | own)

    def fitting(
        self, file: RunFile, meta: dict[str, Any], arrays: dict[str, Array]
    ) -> tuple[dict[str, float], dict[str, Array]]:
        """What was read, held to the shapes that ``follow`` gives; raises InputError."""
        if not arrays:
            return {}, {}
        first = next(iter(arrays.values()))
        count = len(first) if first.ndim and len(first) <= len(self.layers) else 0
        series = (count, _CHAINS, self.draws)
        shapes = {
            **dict.fromkeys(("mean", "variance"), (*series, len(self.layers.test))),
            **dict.fromkeys(("train_error", "energy", "diverged"), series),
            "readout": (count, _CHAINS, self.layers.readouts.shape[1]),
            "order_parameter": (count,),
        }
        wanted = {name: np.empty(shape, bool if name == "diverged" else float) for name, shape in shapes.items()}
        settings = file.numbers({"settings": {name: meta.get(name) for name in _TUNED}}, "settings")
        if not count or not all(0.0 < value < math.inf for value in settings.values()):
            raise file.misfit("settings")
        return settings, file.fitting(arrays, wanted)

    @cached_property
    def points(self) -> _Points:
        given = self.layers
        return _Points.of(self.coupled, given.source, given.target, given.test)

    def follow(self, index: int, settings: dict[str, float]) -> tuple[dict[str, Array], dict[str, float]]:
        """The draws that follow one layer, (1, 2, n, ...), and the settings that they were made with."""
        from finitewidth.sampling.coupled import FollowingArrays, FollowingTarget, WithReadouts
        from finitewidth.sampling.engine import Engine, joined

        seed = int(np.random.SeedSequence((self.seed, index)).generate_state(1)[0])
        request, points, network = self.request(seed, settings), self.points, self.coupled.network
        rank = points.target.shape[1]
        arrays = FollowingArrays(
            train=points.target,
            y=request.y,
            test=points.test,
            scale=np.full(self.layers.layers.shape[1], math.sqrt(self.coupled.spread)),
            temperature=np.array(request.temperature),
            centre=self.coupled.shift * self.layers.layers[index],
            outside=np.array(math.sqrt(self.coupled.covariance[1, 1])),
        )
        target = FollowingTarget(network, (rank,), points.n_extra, network.phi.jax_function)
        sampler = request._sampler(target)
        program = WithReadouts(sampler, ("order_parameter",))
        stages = tuple(sampler.stages(request.warmup, request.draws))
        engine = Engine(program, arrays, _CHAINS, seed, stages)  # type: ignore[arg-type]
        *_, state = engine.run(engine.start())
        records = joined(state.records)
        sums = {name: state.sums[name].sum(1) / request.draws for name in ("readout", "order_parameter")}
        found = {
            "mean": records["mean"][..., 0],
            **{name: records[name] for name in ("variance", "train_error", "energy", "diverged")},
            "readout": sums["readout"],
            "order_parameter": sums["order_parameter"].mean(),
        }
        tuned = {name: float(state.settings[name]) for name in _TUNED}
        return {name: np.asarray(value)[None] for name, value in found.items()}, tuned


def _within(series: Array) -> Diagnosis:
    """Of the short chains (S, 2, n) that follow the layers, without what layers differ by.

    First and second halves of either chain, each put together over all layers (nested R-hat, Margossian et al. 2024):
    alone, chains so short would differ by their own noise.
    """
    centred = series - series.mean((1, 2), keepdims=True)
    half = series.shape[2] // 2
    parts = [centred[:, c, part] for c in range(_CHAINS) for part in (slice(half), slice(half, 2 * half))]
    return diagnose(np.stack([part.ravel() for part in parts]))
