"""``Sample``: draws from the posterior of the finite network itself, as a method; and ``sample``, one run of it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from finitewidth import checks
from finitewidth.checks.exceptions import InputError
from finitewidth.data import Dataset
from finitewidth.inference.likelihoods import Gaussian
from finitewidth.networks import Network
from finitewidth.runs.fingerprints import versions
from finitewidth.runs.jax_runs import require_jax, single_thread
from finitewidth.runs.long_runs import LongRun, MethodOfRuns, carry_out_alone
from finitewidth.sampling.convergence import Aim
from finitewidth.sampling.draws import Draws, Observable, SampledErrors
from finitewidth.sampling.inputs import Inputs
from finitewidth.sampling.solution import Sampled, Weights

if TYPE_CHECKING:
    from finitewidth.sampling.engine import Engine, Progress
    from finitewidth.sampling.posterior import Target
    from finitewidth.sampling.program import Sampler

SAMPLERS = ("collapsed", "langevin", "langevin-unadjusted", "nuts")
OBSERVABLES = ("order_parameter", "hidden_kernel", "weight_covariance")
_WARMUP = {"collapsed": None, "langevin": 500, "langevin-unadjusted": 500, "nuts": 300}  # None: until it has adapted
_MOST_WEIGHTS = 100  # draws of a chain whose weights are stored
_DRAWS, _MOST_DRAWS = 500, 5000  # a chain: without an accuracy, and at most with one


@dataclass(frozen=True)
class Sample(MethodOfRuns):
    """Draw from the posterior of the finite network itself (docs/theory.md section 7).

    chains: at least two, where they are to be compared.
    draws: recorded of each chain, 500; with ``accuracy`` or ``seconds`` the most of them, 5000.
    accuracy: relative standard error wanted of the test error on the test set that is given (of the train error where
        none is): 0.01 is 1 %. The run ends as soon as that is reached and the chains agree.
    seconds: the run ends after so long, compilation included, with the draws that it has (20 a chain at least); how
        many these are depends on the machine.
    warmup: iterations of adaptation before the draws. Default: until the sampler has adapted, 80 to 350 iterations
        (collapsed), 300 (nuts) or 500.
    seed: decides every random number. The same call gives the same bits on one machine.
    sampler: "collapsed": readouts integrated exactly, Hamiltonian Monte Carlo on the hidden weights.
        "langevin", "langevin-unadjusted": Langevin on all weights, with or without a Metropolis test; see
        ``step_bias`` for what the latter costs. "nuts": BlackJAX on all weights.
    step_size, trajectory: fixed instead of adapted. The trajectory is in radians of the prior's rotation
        (collapsed), or the steps between two draws (langevin).
    observables: averaged over draws: "order_parameter", "hidden_kernel", "weight_covariance".

    Without a test set, weights of at most a hundred draws a chain are kept, evenly spaced and ten iterations apart at
    least, from which predictions at any points follow. Raises InputError for settings that cannot be.
    """

    name = "sample"
    averages = True
    chains: int = 4
    draws: int | None = None
    accuracy: float | None = None
    seconds: float | None = None
    warmup: int | None = None
    seed: int = 0
    sampler: str = "collapsed"
    step_size: float | None = None
    trajectory: float | None = None
    observables: Sequence[str] = ("order_parameter",)

    def __post_init__(self) -> None:
        checks.choice("sampler", self.sampler, SAMPLERS)
        given = self.observables
        names = (given,) if isinstance(given, str) else checks.sequence("observables", given, empty=True)
        observables = tuple(dict.fromkeys(checks.choice("observables", name, OBSERVABLES) for name in names))
        object.__setattr__(self, "observables", observables)
        number = checks.optional(checks.positive)
        checks.put(self, chains=checks.positive_integer, draws=checks.optional(checks.positive_integer))
        checks.put(self, seed=checks.seed, warmup=checks.optional(checks.seed))
        checks.put(self, step_size=number, trajectory=number, accuracy=number, seconds=number)
        self._refuse_vain_accuracy()

    def _refuse_vain_accuracy(self) -> None:
        """InputError for an accuracy that is none, or that nothing could tell was reached."""
        if self.accuracy is None:
            return
        if self.accuracy >= 1.0:
            raise InputError(f"accuracy = {self.accuracy:g}", "a relative error below 1", "write accuracy=0.01 for 1 %")
        if self.chains < 2:
            wanted = "at least two, whose agreement shows that they have converged"
            raise InputError("an accuracy of one chain", wanted, "write chains=4, for example")

    @property
    def most_draws(self) -> int:
        """Draws of a chain: as many as that, or, with an accuracy or a time, at most."""
        open_end = self.accuracy is not None or self.seconds is not None
        return self.draws or (_MOST_DRAWS if open_end else _DRAWS)

    @property
    def iterations_before(self) -> int | None:
        """Iterations of adaptation; None: until the sampler has adapted."""
        return _WARMUP[self.sampler] if self.warmup is None else self.warmup

    def _run(self, network: Network, train: Dataset, test: Dataset | None, temperature: float) -> SamplingRun:
        """Keeps weights where no test set is known."""
        return SamplingRun(
            settings=self,
            network=network,
            train=train,
            test=train if test is None else test,
            temperature=temperature,
            stored=_MOST_WEIGHTS if test is None else 0,
        )


def sample(
    network: Network,
    train: Dataset,
    test: Dataset,
    temperature: float,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool | str = False,
    memory: str | float | None = None,
    **settings: Any,
) -> Draws:
    """Draw from the posterior of the finite network itself, with predictions at the test points.

    Parameters
    ----------
    network: any architecture. train, test: data sets; what is drawn depends on the inputs of ``test`` only, how long,
        with an ``accuracy``, on its targets too.
    temperature: T, the variance of the Gaussian likelihood.
    checkpoint: a file that the run is saved to, and resumed from to the same result. A finished run goes on from it
        where more draws or a higher accuracy are wanted, as if they had been wanted at once; more draws than wanted
        stay. An interrupt (Ctrl-C) gives the draws so far with ``complete=False``, or is passed on without any.
    progress: a bar on stderr with the time left; a text stands in front of it.
    memory: cap such as "8GB"; what would need more is refused before it starts.
    settings: chains, draws, accuracy, seed and the others of ``fw.Sample``.

    Warns (ScaleWarning) of data far from the size that the prior expects.
    Raises InputError for inputs that cannot be and for a checkpoint of another run, MemoryCapError above
    the cap, TimeCapError where its first iterations show that it takes longer than ``fw.time_limit``,
    MissingExtraError without the extra "sample".
    """
    run = SamplingRun(settings=Sample(**settings), network=network, train=train, test=test, temperature=temperature)
    return run.collect(carry_out_alone(run, checkpoint, progress, memory))


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
        """Products of the sizes of layers that follow one another, added up: as many as hidden weights, or more."""
        inputs = min(len(self.train), self.train.n_inputs) if self.network.rotates_inputs else self.train.n_inputs
        sizes = (inputs, *self.network.widths)
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
            weights = self._layers + self.network.n_features(self.train.x.shape[1:]) * outputs
            stored += 2.0 * min(self.stored, settings.most_draws // 10 + 1) * weights
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
    def cost(self) -> float:
        return self.network.gradient_operations(len(self.train), self.train.x.shape[1:])

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

        test, n_extra = self.inputs.at(self.test.x)
        target = Target(self.network, self.inputs.train.shape[1:], n_extra)
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
            seconds=self.most_seconds,
        )

    @property
    def most_seconds(self) -> float:
        """See ``LongRun``."""
        return math.inf if self.settings.seconds is None else self.settings.seconds

    @property
    def _aim(self) -> Aim | None:
        """What ends the run; without a test set, the train error has to do."""
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


# --- what a step size does to unadjusted Langevin dynamics -------------------------------------------------------


@dataclass(frozen=True)
class StepBias:
    """What a step size does to unadjusted Langevin dynamics: errors at the step (coarse) and at half of it
    (fine).

    The bias is linear in a small step, so ``test_error`` extrapolates to step 0 (Richardson): 2 fine -
    coarse.
    """

    step_size: float
    coarse: SampledErrors
    fine: SampledErrors

    @property
    def difference(self) -> float:
        """Test error at the step minus that at half the step."""
        return self.coarse.test_error - self.fine.test_error

    @property
    def difference_se(self) -> float:
        """Standard error of the difference."""
        return math.hypot(self.coarse.test_error_se, self.fine.test_error_se)

    @property
    def test_error(self) -> float:
        """Extrapolated to step 0."""
        return 2.0 * self.fine.test_error - self.coarse.test_error

    @property
    def test_error_se(self) -> float:
        """Standard error of the extrapolation."""
        return math.hypot(2.0 * self.fine.test_error_se, self.coarse.test_error_se)


def step_bias(
    network: Network,
    train: Dataset,
    test: Dataset,
    temperature: float,
    *,
    step_size: float,
    trajectory: float = 50,
    **options: Any,
) -> StepBias:
    """Unadjusted Langevin at ``step_size`` and at half of it, over the same stretch of time (twice the
    steps).

    ``options``: as for ``sample``. Step sizes are those of whitened weights, lambda eta T in the notation of
    docs/theory.md section 7.
    """
    step_size = checks.positive("step_size", step_size)
    errors = [
        sample(
            network,
            train,
            test,
            temperature,
            **options,
            sampler="langevin-unadjusted",
            step_size=step_size / parts,
            trajectory=trajectory * parts,
        ).errors(test.y)
        for parts in (1, 2)
    ]
    return StepBias(step_size, *errors)
