"""``sample``: from a network and a data set to draws from the posterior."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finitewidth import checks, durations, linalg
from finitewidth.exceptions import InputError, MissingExtraError
from finitewidth.networks import Network
from finitewidth.networks.scale import warn_of_scale
from finitewidth.runs import (
    every,
    memory_errors,
    network_fingerprint,
    progress_bar,
    refuse_numpy_only,
    same_points,
    single_thread,
    versions,
)
from finitewidth.sampling.draws import Draws, Observable, SampledErrors
from finitewidth.sampling.inputs import Inputs

if TYPE_CHECKING:
    from finitewidth.data import Dataset
    from finitewidth.sampling.checkpoint import Checkpoint
    from finitewidth.sampling.engine import Engine, Progress

SAMPLERS = ("collapsed", "langevin", "langevin-unadjusted", "nuts")
OBSERVABLES = ("order_parameter", "hidden_kernel", "weight_covariance")
_REMEDY = "use fewer draws, chains or points"
_PACED = 4  # chunks that show the pace: the step size has nearly adapted
_SAVE_EVERY = 15.0  # seconds between checkpoints
_WARMUP = {"collapsed": 300, "langevin": 500, "langevin-unadjusted": 500, "nuts": 300}


def sample(
    network: Network,
    train: Dataset,
    test: Dataset,
    temperature: float,
    *,
    chains: int = 4,
    draws: int = 500,
    warmup: int | None = None,
    seed: int = 0,
    sampler: str = "collapsed",
    step_size: float | None = None,
    trajectory: float | None = None,
    observables: Sequence[str] = ("order_parameter",),
    progress: bool | str = False,
    checkpoint: str | os.PathLike[str] | None = None,
    memory: str | float | None = None,
) -> Draws:
    """Draw from the posterior of the finite network itself (docs/theory.md section 7).

    Parameters
    ----------
    network: any architecture. train, test: data sets; of ``test`` only the inputs are used.
    temperature: T, the variance of the Gaussian likelihood.
    chains, draws, warmup: ``draws`` are kept a chain, after ``warmup`` iterations of adaptation.
    seed: decides every random number. The same call gives the same bits on one machine.
    sampler: "collapsed": readouts integrated exactly, Hamiltonian Monte Carlo on the hidden weights.
        "langevin", "langevin-unadjusted": Langevin on all weights, with or without a Metropolis test; see
        ``step_bias`` for what the latter costs. "nuts": BlackJAX on all weights.
    step_size, trajectory: fixed instead of adapted. The trajectory is in radians of the prior's rotation
        (collapsed), or the steps between two draws (langevin).
    observables: averaged over draws: "order_parameter", "hidden_kernel", "weight_covariance".
    progress: a bar on stderr with the time left; a text stands in front of it.
    checkpoint: a file that the run is saved to, and resumed from to the same result. An interrupt (Ctrl-C)
        gives the draws so far with ``complete=False``, or is passed on where there are none.
    memory: cap such as "8GB"; what would need more is refused before it starts.

    Warns (ScaleWarning) of data far from the size that the prior expects.
    Raises InputError for inputs that cannot be and for a checkpoint of another run, MemoryCapError above
    the cap, TimeCapError where its first iterations show that it takes longer than ``fw.time_limit``,
    MissingExtraError without the extra "sample".
    """
    request = Request(
        network=network,
        train=train,
        test=test,
        temperature=temperature,
        chains=chains,
        draws=draws,
        warmup=warmup,
        seed=seed,
        sampler=sampler,
        step_size=step_size,
        trajectory=trajectory,
        observables=observables,
    )
    warn_of_scale(network, train)
    cap = linalg.memory_cap(memory)
    linalg.require_memory(request.bytes(), str(request), _REMEDY, cap)
    return request.collect(*_run(request.engine(), request, progress, checkpoint))


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


@dataclass(frozen=True, kw_only=True)
class Request:
    """The arguments of ``sample``, checked. See there."""

    network: Network
    train: Any
    test: Any
    temperature: float
    chains: int = 4
    draws: int = 500
    warmup: Any = None
    seed: int = 0
    sampler: str = "collapsed"
    step_size: float | None = None
    trajectory: float | None = None
    observables: Any = ("order_parameter",)

    def __post_init__(self) -> None:
        put = partial(object.__setattr__, self)
        checks.instance("network", self.network, Network, "write fw.FullyConnected(widths=100), for example")
        checks.choice("sampler", self.sampler, SAMPLERS)
        same_points(self.train, self.test)
        self.refuse_other_targets()
        put("temperature", checks.positive("temperature", self.temperature))
        for name in ("chains", "draws"):
            put(name, checks.positive_integer(name, getattr(self, name)))
        put("warmup", _WARMUP[self.sampler] if self.warmup is None else _whole("warmup", self.warmup))
        put("seed", _whole("seed", self.seed))
        for name in ("step_size", "trajectory"):
            if getattr(self, name) is not None:
                put(name, checks.positive(name, getattr(self, name)))
        names = (self.observables,) if isinstance(self.observables, str) else self.observables
        names = tuple(checks.choice("observables", name, OBSERVABLES) for name in names)
        put("observables", tuple(dict.fromkeys(names)))
        readouts, width = self.network.n_features(self.train.x.shape[1:]), self.network.widths[-1]
        if "order_parameter" in self.observables and readouts % width:
            raise InputError(
                f"observable 'order_parameter' of a network with {readouts} readout weights and width {width}",
                "a whole number of readout weights a neuron",
                "leave it out: observables=()",
            )

    def refuse_other_targets(self) -> None:
        """InputError where training and test targets were not made alike."""
        self.train.encoding.refuse_other(self.test.encoding)

    def __str__(self) -> str:
        return f"{self.chains} chains of {self.draws} draws with {len(self.train.x)} training points"

    @property
    def y(self) -> np.ndarray:
        """Targets (P, D)."""
        return self.train.y.reshape(len(self.train.y), -1)

    def bytes(self) -> float:
        """An estimate of the memory a run takes at most."""
        points, at, outputs = len(self.train.x), len(self.test.x), self.y.shape[1]
        inputs = self.train.flat.shape[1]
        features = self.network.n_features(self.train.x.shape[1:])
        patches = features // self.network.widths[-1]
        layers = sum(a * b for a, b in zip((inputs, *self.network.widths), self.network.widths, strict=False))
        hidden = sum(self.network.widths) * patches
        square = {
            "order_parameter": (patches * outputs) ** 2,
            "hidden_kernel": points**2,
            "weight_covariance": min(inputs, points) ** 2,
        }
        stored = 2.0 * self.draws * at * (outputs + 1) + 12.0 * sum(square[name] for name in self.observables)
        # weights and momenta, activations forward and backward, patches, a factor and its inverse
        patched = patches * inputs if patches > 1 else inputs
        working = 8.0 * layers + (points + at) * (6.0 * hidden + 2.0 * patched) + 4.0 * min(features, points) ** 2
        return 8.0 * self.chains * (stored + working) + 2e8

    @property
    def operations(self) -> float:
        """Of a gradient, roughly: through the layers, and of the features' Gram matrix."""
        features = self.network.n_features(self.train.x.shape[1:])
        sizes = (self.train.flat.shape[1], *self.network.widths)
        layers = sum(a * b for a, b in zip(sizes, self.network.widths, strict=False)) * (
            features // self.network.widths[-1]
        )
        return len(self.train.x) * (6.0 * layers + 4.0 * features * min(features, len(self.train.x)))

    def fingerprint(self) -> str:
        """All that decides the numbers, as JSON."""
        parts = {
            "network": network_fingerprint(self.network),
            "train": self.train.fingerprint(),
            "test": self.test.fingerprint(),
            "temperature": self.temperature,
            "sampler": self.sampler,
            "versions": versions("blackjax"),
        }
        names = ("chains", "draws", "warmup", "seed", "step_size", "trajectory", "observables")
        return json.dumps(parts | {name: getattr(self, name) for name in names})

    def inputs(self) -> Inputs:
        return Inputs.of(self.network, self.train.x, self.test.x)

    def engine(self) -> Engine:
        """The sampler on this data, nothing compiled yet."""
        try:
            from finitewidth.sampling.engine import Engine
            from finitewidth.sampling.posterior import Arrays, Target
            from finitewidth.sampling.program import Program
        except ImportError as error:
            raise MissingExtraError("jax", "sample", "sampling") from error

        refuse_numpy_only(self.network)
        inputs = self.inputs()
        target = Target.of(self.network, inputs.train, inputs.n_extra)
        with single_thread():
            scale, temperature = target.prior_deviation(), np.array(self.temperature)
            arrays = Arrays(inputs.train, self.y, inputs.test, scale, temperature)
        sampler = self._sampler(target)
        stages = tuple(sampler.stages(self.warmup, self.draws))
        return Engine(Program(sampler, self.observables), arrays, self.chains, self.seed, stages)

    def _sampler(self, target: Any) -> Any:
        if self.sampler == "collapsed":
            from finitewidth.sampling.collapsed import Collapsed

            return Collapsed(target, self.step_size, self.trajectory)
        if self.sampler == "nuts":
            from finitewidth.sampling.nuts import Nuts

            return Nuts(target, self.warmup, self.step_size)
        from finitewidth.sampling.langevin import Langevin

        return Langevin(target, self.step_size, self.trajectory, self.sampler == "langevin")

    def collect(self, state: Progress, complete: bool) -> Draws:
        """Draws of a run, whole or interrupted."""
        from finitewidth.sampling.engine import joined

        records = joined(state.records)
        if self.train.y.ndim == 1:
            mean, variance = records["mean"][..., 0], records["variance"]
        else:
            mean = records["mean"]
            variance = np.broadcast_to(records["variance"][..., None], mean.shape)
        return Draws(
            mean=mean,
            variance=variance,
            **{name: records[name] for name in ("train_error", "energy", "acceptance", "steps", "diverged")},
            observables={name: self._observable(name, state) for name in self.observables},
            settings={name: float(value) for name, value in state.settings.items()},
            complete=complete,
            observed={"y_train": np.asarray(self.train.y)},
            attrs=self._attrs(),
            encoding=self.train.encoding,
        )

    def _observable(self, name: str, state: Progress) -> Observable:
        """Mean over all draws, and its standard error from blocks of every chain."""
        used = state.counts > 0
        counts = state.counts[used].reshape(-1, *(1,) * (state.sums[name].ndim - 2))
        blocks = state.sums[name][:, used] / counts
        mean = (blocks * counts).sum((0, 1)) / (counts.sum() * len(blocks))
        flat = blocks.reshape(-1, *blocks.shape[2:])
        error = flat.std(0, ddof=1) / np.sqrt(len(flat)) if len(flat) > 1 else np.full(mean.shape, np.nan)
        if name == "weight_covariance":
            inputs = self.inputs()
            mean = inputs.original(mean, self.train.flat.shape[1])
            error = inputs.original_error(error)
        return Observable(mean, error)

    def _attrs(self) -> dict[str, Any]:
        return {
            "network": repr(self.network),
            "temperature": self.temperature,
            "sampler": self.sampler,
            "seed": self.seed,
            "warmup": self.warmup,
            "train": self.train.fingerprint(),
            "test": self.test.fingerprint(),
            **{f"{name}_version": version for name, version in versions("blackjax").items()},
        }


def _run(
    engine: Engine, request: Request, progress: bool | str, path: str | os.PathLike[str] | None
) -> tuple[Progress, bool]:
    """Do or resume the run; the state it ended in, and whether it is complete."""
    from finitewidth.sampling.checkpoint import Checkpoint

    checkpoint = None if path is None else Checkpoint(Path(path), request.fingerprint())
    state = None if checkpoint is None else checkpoint.load(engine)
    state = state or _start(engine, request)
    try:
        with memory_errors(str(request), _REMEDY), _reporter(engine, request, state, progress, checkpoint) as report:
            for whole in engine.run(state):
                state = whole
                report(state)
    except KeyboardInterrupt:
        if checkpoint is not None:
            checkpoint.save(state)
        if state.stage < len(engine.stages) - 1 or not state.records:
            raise
    complete = state.stage == len(engine.stages)
    if complete and checkpoint is not None:
        checkpoint.save(state)
    return state, complete


def _start(engine: Engine, request: Request) -> Progress:
    """The first states; refused where every iteration at its shortest, two gradients, would take too long."""
    state = engine.start()
    if durations.wanted() and request.sampler != "nuts":
        iterations = sum(stage.iterations for stage in engine.stages)
        durations.refuse_beyond(2.0 * iterations * engine.rounds * engine.first_seconds(), str(request), _REMEDY)
    return state


@contextlib.contextmanager
def _reporter(
    engine: Engine, request: Request, state: Progress, visible: bool | str, checkpoint: Checkpoint | None
) -> Iterator[Callable[[Progress], None]]:
    """Called after every chunk: moves the bar, saves now and then, and requires the time of the rest."""
    from finitewidth.sampling.program import CHUNK

    save = every(_SAVE_EVERY, None if checkpoint is None else checkpoint.save)
    pace, done = durations.Pace(str(request), _REMEDY, _PACED), 0.0
    with progress_bar(visible, _label(engine, state), engine.chunks, state.iterations // CHUNK) as advance:

        def report(state: Progress) -> None:
            nonlocal done
            advance(_label(engine, state))
            save(state)
            if state.records and state.stage < len(engine.stages):
                last, left = engine.effort(state)
                done += last
                pace(done, left)

        yield report


def _label(engine: Engine, state: Any) -> str:
    return engine.stages[min(state.stage, len(engine.stages) - 1)].name


def _whole(name: str, value: Any) -> int:
    """A whole number of at least 0, as an int."""
    number = checks.not_negative(name, value)
    if not (number == int(number) and number < 2**63):
        raise InputError(f"{name} = {checks.shown(value)}", "a whole number from 0", f"write {name}=0, for example")
    return int(value)
