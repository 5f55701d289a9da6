"""One run of a sampler: a network, data and settings that fit one another, and what becomes of the last state."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from finitewidth import checks
from finitewidth.checks.exceptions import InputError
from finitewidth.data import Dataset
from finitewidth.inference.likelihoods import Gaussian
from finitewidth.networks import FullyConnected, Network
from finitewidth.runs.fingerprints import versions
from finitewidth.runs.jax_runs import require_jax, single_thread
from finitewidth.runs.long_runs import LongRun
from finitewidth.sampling.draws import Draws, Observable
from finitewidth.sampling.inputs import Inputs
from finitewidth.sampling.solution import Sampled, Weights

if TYPE_CHECKING:
    from finitewidth.sampling.aim import Aim
    from finitewidth.sampling.engine import Engine, Progress
    from finitewidth.sampling.method import Sample
    from finitewidth.sampling.posterior import Target
    from finitewidth.sampling.program import Sampler


@dataclass(frozen=True, kw_only=True)
class SamplingRun(LongRun["Progress"]):
    """Settings, network and data, checked against one another. What is drawn depends on the inputs of ``test`` only.

    stored: draws of a chain whose weights are kept at most, for predictions at other points.
    """

    verb: ClassVar[str] = "sampling"
    remedy: ClassVar[str] = "use fewer draws, chains or points"
    paced: ClassVar[int] = 4  # chunks: the step size has nearly adapted
    libraries: ClassVar[tuple[str, ...]] = ("blackjax",)
    settings: Sample
    network: Network
    train: Dataset
    test: Dataset
    temperature: float
    stored: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.refuse_other_targets()
        object.__setattr__(self, "temperature", checks.positive("temperature", self.temperature))
        readouts, width = self.network.n_features(self.train.x.shape[1:]), self.network.widths[-1]
        if "order_parameter" in self.settings.observables and readouts % width:
            raise InputError(
                f"observable 'order_parameter' of a network with {readouts} readout weights and width {width}",
                "a whole number of readout weights a neuron",
                "leave it out: observables=()",
            )

    def refuse_other_targets(self) -> None:
        """InputError where training and test targets were not made alike."""
        self.train.encoding.refuse_other(self.test.encoding)

    def __str__(self) -> str:
        settings = self.settings
        return f"{settings.chains} chains of {settings.most_draws} draws with {len(self.train.x)} training points"

    @property
    def y(self) -> np.ndarray:
        """Targets (P, D)."""
        return self.train.y.reshape(len(self.train.y), -1)

    @cached_property
    def inputs(self) -> Inputs:
        """The training points as the sampler sees them."""
        return Inputs.of(self.network, self.train.x)

    def __getstate__(self) -> dict[str, Any]:
        """Without what is compiled, which cannot be pickled; with the inputs, in whose basis weights are."""
        return {name: value for name, value in vars(self).items() if name != "engine"}

    # --- what it takes --------------------------------------------------------------------------------------------

    @property
    def _patches(self) -> int:
        """Readout weights of a neuron."""
        return max(1, self.network.n_features(self.train.x.shape[1:]) // self.network.widths[-1])

    @property
    def _layers(self) -> int:
        """Products of the sizes of layers that follow one another, added up."""
        sizes = (self.train.n_inputs, *self.network.widths)
        return sum(a * b for a, b in zip(sizes, self.network.widths, strict=False))

    def bytes(self) -> float:
        settings, points, outputs = self.settings, len(self.train), self.y.shape[1]
        square = {
            "order_parameter": (self._patches * outputs) ** 2,
            "hidden_kernel": points**2,
            "weight_covariance": min(self.train.n_inputs, points) ** 2,
        }
        stored = 2.0 * settings.most_draws * len(self.test) * (outputs + 1)
        stored += 12.0 * sum(square[name] for name in settings.observables)
        if self.stored:
            stored += 2.0 * min(self.stored, settings.most_draws // 10 + 1) * self._weights
        return 8.0 * settings.chains * (stored + self.working(len(self.test))) + 2e8

    def working(self, at: int) -> float:
        """Numbers that one chain works with for ``at`` points beside those of training."""
        points = len(self.train) + at
        features = self.network.n_features(self.train.x.shape[1:])
        hidden = sum(self.network.widths) * self._patches
        patched = self.train.n_inputs * self._patches
        # weights and momenta, activations forward and backward, patches, a factor and its inverse
        return 8.0 * self._layers + points * (6.0 * hidden + 2.0 * patched) + 4.0 * min(features, len(self.train)) ** 2

    @property
    def _weights(self) -> int:
        """Weights of the network where its inputs are rotated into the training span, readouts included."""
        require_jax(self.network, "sampling")
        import jax

        shape = self.train.x.shape[1:]
        if isinstance(self.network, FullyConnected):
            shape = (min(len(self.train), self.train.n_inputs),)
        hidden = jax.eval_shape(lambda key: self.network.init_hidden(key, shape), jax.random.key(0))
        return sum(leaf.size for leaf in jax.tree.leaves(hidden)) + self.network.n_features(shape) * self.y.shape[1]

    @property
    def cost(self) -> float:
        """Operations of a gradient, roughly: through the layers, and of the features' Gram matrix."""
        points, features = len(self.train), self.network.n_features(self.train.x.shape[1:])
        return points * (6.0 * self._layers * self._patches + 4.0 * features * min(features, points))

    @property
    def decided_by(self) -> dict[str, Any]:
        settings = self.settings
        names = ("sampler", "chains", "seed", "step_size", "trajectory", "observables")  # draws can be added
        kept = {"stored": self.stored} if self.stored else {}
        return {name: getattr(settings, name) for name in names} | {"warmup": settings.iterations_before} | kept

    # --- as a long run --------------------------------------------------------------------------------------------

    @cached_property
    def engine(self) -> Engine:
        """The sampler on this data, nothing compiled yet."""
        require_jax(self.network, "sampling")
        from finitewidth.sampling.engine import Engine
        from finitewidth.sampling.posterior import Arrays, Target
        from finitewidth.sampling.program import Program

        target = Target.of(self.network, self.inputs.train, 0)
        test, n_extra = self.inputs.at(self.test.x)
        target = replace(target, n_extra=n_extra)
        with single_thread():
            scale, temperature = target.prior_deviation(), np.array(self.temperature)
            arrays = Arrays(self.inputs.train, self.y, test, scale, temperature)
        settings, sampler = self.settings, self._sampler(target)
        return Engine(
            program=Program(sampler, tuple(settings.observables)),
            arrays=arrays,
            chains=settings.chains,
            seed=settings.seed,
            stages=tuple(sampler.stages(settings.iterations_before, settings.most_draws)),
            stored=self.stored,
            aim=self._aim,
            seconds=math.inf if settings.seconds is None else settings.seconds,
        )

    @property
    def _aim(self) -> Aim | None:
        """What ends the run; without a test set, the train error has to do."""
        from finitewidth.sampling.aim import Aim

        accuracy, test = self.settings.accuracy, self.test
        y = None if self.stored else test.y.reshape(len(test.y), -1)
        return None if accuracy is None else Aim(accuracy, y)

    def _sampler(self, target: Target) -> Sampler:
        settings = self.settings
        if settings.sampler == "collapsed":
            from finitewidth.sampling.collapsed import Collapsed

            return Collapsed(target, settings.step_size, settings.trajectory)
        if settings.sampler == "nuts":
            from finitewidth.sampling.nuts import Nuts

            return Nuts(target, settings.iterations_before or 0, settings.step_size)
        from finitewidth.sampling.langevin import Langevin

        return Langevin(target, settings.step_size, settings.trajectory, settings.sampler == "langevin")

    def usable(self, state: Progress) -> bool:
        """Whether there are draws, and weights where these are wanted."""
        drawn = self.engine.drawing(state) and bool(state.records)
        return drawn and (not self.stored or bool(state.positions))

    def solution(self, state: Progress) -> Sampled:
        weights = None
        if self.stored:
            weights = Weights(self, np.stack(state.positions, axis=1), tuple(self.engine.when_stored(state)))
        likelihood = Gaussian(self.temperature)
        return Sampled(self.network, likelihood, self.train, self.collect(state), self.test.x, weights)

    def collect(self, state: Progress) -> Draws:
        """Draws of a run, whole or interrupted."""
        records = self.records(state)
        mean, variance = self.outputs(records["mean"], records["variance"])
        return Draws(
            mean=mean,
            variance=variance,
            **{name: records[name] for name in ("train_error", "energy", "acceptance", "steps", "diverged")},
            observables={name: self._observable(name, state) for name in self.settings.observables},
            settings={name: float(value) for name, value in state.settings.items()},
            complete=self.engine.complete(state),
            wanted=self.settings.accuracy,
            observed={"y_train": np.asarray(self.train.y)},
            attrs=self._attrs(state),
            encoding=self.train.encoding,
        )

    def records(self, state: Progress) -> dict[str, np.ndarray]:
        """Of the draws, (chains, draws, ...) each: chunks are whole, the last draws may be more than were wanted."""
        from finitewidth.sampling.engine import joined

        most = self.settings.most_draws if state.chunk == self.engine.stages[-1].chunks else None
        return {name: value[:, :most] for name, value in joined(state.records).items()}

    def outputs(self, mean: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (..., P*, D) and variance (..., P*) of f, both as the targets are: without D, or with."""
        if self.train.y.ndim == 1:
            return mean[..., 0], variance
        return mean, np.broadcast_to(variance[..., None], mean.shape)

    def _observable(self, name: str, state: Progress) -> Observable:
        """Mean over all draws, and its standard error from blocks of every chain."""
        used = state.counts > 0
        counts = state.counts[used].reshape(-1, *(1,) * (state.sums[name].ndim - 2))
        blocks = state.sums[name][:, used] / counts
        mean = (blocks * counts).sum((0, 1)) / (counts.sum() * len(blocks))
        flat = blocks.reshape(-1, *blocks.shape[2:])
        error = flat.std(0, ddof=1) / np.sqrt(len(flat)) if len(flat) > 1 else np.full(mean.shape, np.nan)
        if name == "weight_covariance":
            mean = self.inputs.original(mean, self.train.n_inputs)
            error = self.inputs.original_error(error)
        return Observable(mean, error)

    def _attrs(self, state: Progress) -> dict[str, Any]:
        return {
            "network": repr(self.network),
            "temperature": self.temperature,
            "sampler": self.settings.sampler,
            "seed": self.settings.seed,
            "warmup": state.before,
            "train": self.train.fingerprint(),
            "test": self.test.fingerprint(),
            **{f"{name}_version": version for name, version in versions(*self.libraries).items()},
        }
