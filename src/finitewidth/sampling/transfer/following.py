"""Target networks that follow layers of the source, and what comes of all of them together."""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from finitewidth import checks
from finitewidth.checks.exceptions import InputError
from finitewidth.data import TargetEncoding
from finitewidth.data.encoding import NUMBERS
from finitewidth.inference.prediction import Prediction, in_own_units
from finitewidth.networks.coupled import SourceFirst
from finitewidth.runs.checkpoints import RunFile, now_and_then
from finitewidth.runs.fingerprints import every_field
from finitewidth.sampling.convergence import Diagnosis, diagnose, verdict
from finitewidth.sampling.draws import SampledErrors
from finitewidth.sampling.frozen import squared_bias
from finitewidth.sampling.method import Sample
from finitewidth.sampling.run import SamplingRun
from finitewidth.sampling.transfer.points import Points
from finitewidth.sampling.transfer.source import SourceLayers

Array = np.ndarray
_CHAINS = 2  # of every target: as many as R-hat and the overlap of replicas need
_TUNED = ("step_size", "trajectory")


@dataclass(frozen=True, eq=False)
class FollowingDraws:
    """Target networks that follow draws of the source: S source layers, two chains of n draws after each.

    mean, variance: of f at the test points given a draw of the target's hidden weights, (S, 2, n, P*).
    train_error, energy, diverged: (S, 2, n). source_r_hat, source_ess: of the source's chains.
    order_parameters: of every source layer, (S,): "source", "cross", "target", "replica", as a ``TransferSolution``'s.
    encoding: of the target's training set.
    """

    mean: Array
    variance: Array
    train_error: Array
    energy: Array
    diverged: Array
    order_parameters: dict[str, Array]
    source_r_hat: float
    source_ess: float
    encoding: TargetEncoding = NUMBERS

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
        return Prediction(mean, variance, float(self.train_error.mean()), encoding=self.encoding)

    def errors(self, y: Any) -> SampledErrors:
        """Errors of the target against ``y`` (P*,); standard errors are over source layers, R-hat over the chains that
        follow one layer (all layers together) and over the source's.

        ``y``: as for ``Prediction.errors``, and refused as there.
        """
        y = self.encoding.targets(y, self.mean.shape[3:])
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
        errors = SampledErrors(
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
        return in_own_units(errors, self.encoding)

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
    following = _Following(coupled, layers, checks.positive_integer("draws", draws), warmup, seed)
    file = None if checkpoint is None else RunFile(Path(checkpoint), following.fingerprint())
    found = None if file is None else file.read()
    settings, arrays = ({}, {}) if file is None or found is None else following.fitting(file, *found)
    save = now_and_then(lambda state: None if file is None else file.write(*state))
    for index in range(len(arrays["energy"]) if arrays else 0, len(layers)):
        one, settings = following.follow(index, settings)
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
    return FollowingDraws(
        **arrays,
        order_parameters=overlap,
        source_r_hat=layers.r_hat,
        source_ess=layers.ess,
        encoding=layers.target.encoding,
    )


@dataclass(frozen=True)
class _Following:
    coupled: SourceFirst
    layers: SourceLayers
    draws: int
    warmup: int
    seed: int

    def run(self, seed: int, settings: dict[str, float]) -> SamplingRun:
        """The target task, with a seed of its own for every layer, and the settings that the first one chose."""
        given = self.layers
        sample = Sample(
            chains=_CHAINS,
            draws=self.draws,
            warmup=self.warmup // 4 if settings else self.warmup,
            seed=seed,
            step_size=settings.get("step_size"),
            trajectory=settings.get("trajectory"),
        )
        return SamplingRun(
            settings=sample,
            network=given.network,
            train=given.target,
            test=given.test,
            temperature=given.temperature,
        )

    def fingerprint(self) -> str:
        given = self.layers
        own = {
            "coupled": every_field(self.coupled),
            "source": given.source.fingerprint(),
            "layers": hashlib.sha256(given.layers.tobytes()).hexdigest(),
        }
        return json.dumps(json.loads(self.run(self.seed, {}).fingerprint()) | own)

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
    def points(self) -> Points:
        given = self.layers
        return Points.of(self.coupled, given.source, given.target, given.test)

    def follow(self, index: int, settings: dict[str, float]) -> tuple[dict[str, Array], dict[str, float]]:
        """The draws that follow one layer, (1, 2, n, ...), and the settings that they were made with."""
        from finitewidth.sampling.checkpoint import joined
        from finitewidth.sampling.coupled import FollowingArrays, FollowingTarget, WithReadouts

        seed = int(np.random.SeedSequence((self.seed, index)).generate_state(1)[0])
        run, points, network = self.run(seed, settings), self.points, self.coupled.network
        rank = points.target.shape[1]
        arrays = FollowingArrays(
            train=points.target,
            y=run.y,
            test=points.test,
            scale=np.full(self.layers.layers.shape[1], math.sqrt(self.coupled.spread)),
            temperature=np.array(run.temperature),
            centre=self.coupled.shift * self.layers.layers[index],
            outside=np.array(math.sqrt(self.coupled.covariance[1, 1])),
        )
        target = FollowingTarget(network, (rank,), points.n_extra, network.jax_functions)
        engine = run.engine_of(target, arrays, WithReadouts)
        *_, state = engine.run(engine.start())
        records = joined(state.records)
        sums = {name: state.sums[name].sum(1) / self.draws for name in ("readout", "order_parameter")}
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
