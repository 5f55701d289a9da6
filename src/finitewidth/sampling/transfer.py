"""Draws from two finite networks with coupled first layers (docs/theory.md, Transfer), readouts integrated exactly.

Both are ordinary runs of the collapsed sampler, on points in a basis of the span of all points, where the first layers
are small. Together: with L the Cholesky factor of the covariance of a source weight and its target weight, the layers
are one layer z of prior N(0, 1) on inputs twice as long, ``(L_11 x, 0)`` of a source point and ``(L_21 x, L_22 x)`` of
a target point; only the readouts are two. Source first: layers W_s are drawn from the source's own posterior, and
chains of the target's W_t, two after each layer, run under the prior N(c W_s, s^2).
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
from finitewidth.data import Dataset, TargetEncoding
from finitewidth.inference.likelihoods import Gaussian
from finitewidth.inference.prediction import in_own_units
from finitewidth.networks import FullyConnected, Network
from finitewidth.networks.coupled import Joint, SourceFirst
from finitewidth.runs.jax_runs import single_thread
from finitewidth.runs.long_runs import carry_out
from finitewidth.sampling.convergence import Diagnosis, diagnose, verdict
from finitewidth.sampling.draws import Draws, SampledErrors
from finitewidth.sampling.frozen import squared_bias
from finitewidth.sampling.inputs import Inputs
from finitewidth.sampling.method import Sample, SamplingRun

if TYPE_CHECKING:
    from jax import Array as JaxArray

    from finitewidth.sampling.engine import Engine, Progress

Array = np.ndarray
_SPACING = 50  # iterations of a source chain between two layers
_CHAINS = 2  # of every target: as many as R-hat and the overlap of replicas need


@dataclass(frozen=True)
class _InBasis(FullyConnected):
    """On points that are in a basis of their span already."""

    rotates_inputs = False


@dataclass(frozen=True)
class _TwoReadouts(_InBasis):
    """Readouts of their own for two tasks: the last number of a point is 0 for the first of them, 1 for the second."""

    def _weight_shapes(self, input_shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        return super()._weight_shapes((input_shape[0] - 1,))

    def features(self, hidden: dict[str, list[JaxArray]], x: JaxArray) -> JaxArray:
        """(points, 2 N): zero where the readout is the other task's."""
        phi, second = super().features(hidden, x[:, :-1]), x[:, -1:]
        return x.__array_namespace__().concat([phi * (1.0 - second), phi * second], axis=1)

    def n_features(self, input_shape: tuple[int, ...]) -> int:
        return 2 * self.widths[0]


def _in_basis(network: Network, *sets: Dataset) -> list[Array]:
    """The points of every set in a basis of the span of them all."""
    inputs = Inputs.of(network, np.concatenate([one.flat for one in sets]))
    return np.split(inputs.train, np.cumsum([len(one) for one in sets])[:-1])


def _like(network: Network, kind: type[_InBasis], variance: float) -> _InBasis:
    """A network of that kind, its first weights of that prior variance."""
    precisions = (1.0 / variance, network.weight_precision[1])
    return kind(network.widths, activation=network.phi, weight_precision=precisions, readout=network.readout)


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
    target.encoding.refuse_other(test.encoding)
    both, at = joint_points(coupled, source, target, test)
    run = SamplingRun(
        settings=Sample(chains=chains, draws=draws, warmup=warmup, seed=seed),
        network=_like(coupled.network, _TwoReadouts, 1.0),
        train=Dataset(both, np.concatenate([source.y, target.y]), classes=()),
        # the target's own points as well: its train error
        test=Dataset(np.concatenate([at, both[len(source) :]]), np.concatenate([test.y, target.y]), classes=()),
        temperature=temperature,
    )
    found, count = run.collect(carry_out(run, checkpoint)), len(test)
    own = (target.y - found.mean[..., count:]) ** 2 + found.variance[..., count:]
    return replace(
        found,
        mean=found.mean[..., :count],
        variance=found.variance[..., :count],
        train_error=own.mean(-1),
        encoding=target.encoding,
    )


def joint_points(coupled: Joint, source: Dataset, target: Dataset, test: Dataset) -> tuple[Array, Array]:
    """The training points of both tasks and the test points as one first layer sees them; the task comes last."""
    factor = np.linalg.cholesky(coupled.covariance)
    first, *second = _in_basis(coupled.network, source, target, test)

    def seen(x: Array, task: int) -> Array:
        halves = [math.sqrt(2.0) * share * x for share in factor[task]]  # the root of twice as many inputs divides them
        return np.concatenate([*halves, np.full((len(x), 1), float(task))], axis=1)

    own, at = (seen(x, 1) for x in second)
    return np.concatenate([seen(first, 0), own]), at


# --- source first: layers of the source -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SourceLayers:
    """First layers drawn from the posterior of the source task alone, ``sample_source``.

    layers: W_s in a basis of the span of all points, (S, N, rank). readouts: E[v | W_s] sqrt(lambda_1), (S, N).
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
    SourceFirst(network, 0.0).check(source, target, test)
    if checks.positive_integer("sources", sources) < 2:
        raise InputError(f"sources = {sources}", "at least two layers", "give more, for a standard error")
    own, *_ = _in_basis(network, source, target, test)
    draws = _SPACING * -(-sources // chains)
    run = _WholeRun(
        settings=Sample(chains=chains, draws=draws, warmup=warmup, seed=seed, observables=()),
        network=_like(network, _InBasis, 1.0 / network.weight_precision[0]),
        train=Dataset(own, source.y, classes=()),
        test=Dataset(own, source.y, classes=()),
        temperature=temperature,
        stored=draws,
    )
    state = carry_out(run, checkpoint)
    every = -(-len(state.positions) * chains // sources)
    theta = np.concatenate(state.positions[every - 1 :: every])[:sources]
    layers = (theta * run.engine.arrays.scale).reshape(len(theta), network.widths[0], -1)
    readouts, overlaps = zip(*(_readouts(run, layer) for layer in layers), strict=True)
    records = run.records(state)
    series = [records["energy"], records["train_error"], (records["mean"] ** 2).mean((-1, -2))]
    found = [diagnose(one) for one in series]
    return SourceLayers(
        *(network, source, target, test, run.temperature, layers, np.array(readouts), np.array(overlaps)),
        r_hat=max(one.r_hat for one in found),
        ess=min(one.ess for one in found),
    )


def _readouts(run: SamplingRun, layer: Array) -> tuple[Array, float]:
    """Mean z (N,) of whitened readouts given the first layer, and E[z.z] / N."""
    import jax.numpy as jnp

    hidden: Any = {"weights": [layer], "offsets": []}
    with single_thread():
        phi = np.asarray(run.network.features(hidden, jnp.asarray(run.train.x)))
    phi = phi / math.sqrt(run.network.weight_precision[1])
    gram = Gaussian(run.temperature).posterior(phi @ phi.T, run.train.y).gram
    z = phi.T @ gram.solve(run.train.y)
    explained = float(np.vdot(phi, gram.solve(phi)))  # Tr(A^-1 K)
    return z, 1.0 + (float(z @ z) - explained) / len(z)


@dataclass(frozen=True, kw_only=True)
class _WholeRun(SamplingRun):
    """One that an interrupt leaves nothing of: it is passed on."""

    def usable(self, state: Progress) -> bool:
        return False


# --- source first: targets that follow a layer ------------------------------------------------------------------------


def sample_following(
    coupled: SourceFirst,
    layers: SourceLayers,
    *,
    draws: int = 60,
    warmup: int = 60,
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
) -> FollowingDraws:
    """Draw target networks that follow the layers of ``sample_source``, two chains of ``draws`` after each layer.

    warmup: short, for all chains choose the step size and the trajectory together. checkpoint: as for ``fw.sample``.
    Raises InputError where the layers are of another network.
    """
    if coupled.network != layers.network:
        raise InputError(f"layers of {layers.network!r}", f"layers of {coupled.network!r}", "draw them again")
    _, own, at = _in_basis(layers.network, layers.source, layers.target, layers.test)
    count, target, width = len(layers), layers.target, coupled.width
    run = _FollowingRun(
        settings=Sample(chains=_CHAINS * count, draws=draws, warmup=warmup, seed=seed),
        network=_like(layers.network, _InBasis, coupled.spread),
        train=Dataset(own, target.y, classes=()),
        test=Dataset(at, layers.test.y, classes=()),
        temperature=layers.temperature,
        centre=np.repeat(coupled.shift * layers.layers.reshape(count, -1), _CHAINS, axis=0),
    )
    state = carry_out(run, checkpoint)
    records = {name: value.reshape(count, _CHAINS, *value.shape[1:]) for name, value in run.records(state).items()}
    means = {name: value.sum(1) / state.counts.sum() for name, value in state.sums.items()}
    z = means["readout"].reshape(count, _CHAINS, width)
    return FollowingDraws(
        mean=records["mean"][..., 0],
        **{name: records[name] for name in ("variance", "train_error", "energy", "diverged")},
        order_parameters={
            "source": layers.order_parameter,
            "cross": np.einsum("sn,scn->s", layers.readouts, z) / (_CHAINS * width),
            "target": means["order_parameter"].reshape(count, _CHAINS).mean(1),
            "replica": np.einsum("sn,sn->s", z[:, 0], z[:, 1]) / width,  # independent given the layer
        },
        source_r_hat=layers.r_hat,
        source_ess=layers.ess,
        encoding=target.encoding,
    )


@dataclass(frozen=True, kw_only=True)
class _FollowingRun(_WholeRun):
    """Of the target task. centre: prior mean of the weights of every chain, (chains, dim)."""

    centre: Array

    @property
    def decided_by(self) -> dict[str, Any]:
        return super().decided_by | {"centre": hashlib.sha256(self.centre.tobytes()).hexdigest()}

    @cached_property
    def engine(self) -> Engine:
        engine = super().engine
        program = replace(engine.program, observables=("order_parameter", "readout"))
        return replace(engine, program=program, arrays=engine.arrays._replace(centre=self.centre))


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
    encoding: TargetEncoding

    @property
    def effective(self) -> float:
        """Independent source layers among the S."""
        return min(float(len(self.mean)), self.source_ess)

    def errors(self, y: Any) -> SampledErrors:
        """Errors of the target against ``y`` (P*,); standard errors are over source layers, R-hat over the chains that
        follow one layer (all layers together) and over the source's.

        ``y``: as for ``Prediction.errors``, and refused as there.
        """
        y = self.encoding.targets(y, self.mean.shape[3:])
        series = ((y - self.mean) ** 2 + self.variance).mean(-1)
        test_error, test_error_se = self.average(series.mean((1, 2)))
        bias, bias_se = squared_bias(self.mean.mean((1, 2)), y)
        bias_se *= math.sqrt(len(self.mean) / self.effective)
        train_error, train_error_se = self.average(self.train_error.mean((1, 2)))
        watched = {
            "test error": _within(series),
            "train error": _within(self.train_error),
            "energy": _within(self.energy),
            "source": Diagnosis(self.source_r_hat, self.source_ess, 0.0),
        }
        divergences = int(self.diverged.sum())
        converged, message = verdict(watched, divergences, self.mean.shape[2])
        errors = SampledErrors(
            test_error=test_error,
            bias=bias,
            variance=test_error - bias,
            accuracy=None,
            train_error=train_error,
            test_error_se=test_error_se,
            train_error_se=train_error_se,
            bias_se=bias_se,
            variance_se=test_error_se + bias_se,  # the largest that it can be
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


def _within(series: Array) -> Diagnosis:
    """Of the short chains (S, 2, n) that follow the layers, without what layers differ by.

    First and second halves of either chain, each put together over all layers (nested R-hat, Margossian et al. 2024):
    alone, chains so short would differ by their own noise.
    """
    centred = series - series.mean((1, 2), keepdims=True)
    half = series.shape[2] // 2
    parts = [centred[:, c, part] for c in range(_CHAINS) for part in (slice(half), slice(half, 2 * half))]
    return diagnose(np.stack([part.ravel() for part in parts]))
