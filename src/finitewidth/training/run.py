"""``train``: from a network and a data set to an ensemble of trained networks.

On a CPU the networks are trained in at most 16 lanes, each vmapped and on one thread, so that the numbers do not depend
on how many cores there are; on other devices all seeds are one batch. Random numbers depend on the network's seed and
the step only: a run that was interrupted and resumed equals one that was not, bit for bit.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finitewidth import checks, durations, kernels, linalg
from finitewidth.data import Dataset
from finitewidth.data.dataset import split
from finitewidth.exceptions import InputError, MissingExtraError
from finitewidth.linalg import Spectrum
from finitewidth.networks import Network
from finitewidth.networks.scale import warn_of_scale
from finitewidth.prediction import in_own_units
from finitewidth.runs import (
    RunFile,
    every,
    memory_errors,
    network_fingerprint,
    one_blas_thread,
    progress_bar,
    refuse_numpy_only,
    same_points,
    same_targets,
    single_thread,
    versions,
)
from finitewidth.training.ensemble import Ensemble, History

if TYPE_CHECKING:
    from finitewidth.training.program import Arrays, Program, Settings, State

OPTIMISERS = ("sgd", "adam", "langevin")
_RECORDS = 100  # of a run: looks at the errors, for the history, early stopping and checkpoints
_LANES = 16
_MOST_SEEDS = 10**6
_Work = Callable[[slice, np.ndarray], Any]  # on the networks of a slice, with their seeds
_SAVE_EVERY = 15.0  # seconds between checkpoints
_ADAM_RATE = 0.01
_SAFETY = {
    "sgd": 0.5,
    "langevin": 0.05,
}  # step times the largest curvature; 2 diverges, Langevin's bias is linear in it
_REMEDY = "use fewer seeds or points, or smaller widths"


def train(
    network: Network,
    train: Dataset,
    test: Dataset,
    temperature: float = 0.0,
    *,
    optimiser: str = "adam",
    learning_rate: float | None = None,
    momentum: float | None = None,
    batch: int | None = None,
    steps: int = 2000,
    seeds: int | Sequence[int] = 8,
    hold_out: float | None = None,
    patience: int | None = None,
    progress: bool | str = False,
    checkpoint: str | os.PathLike[str] | None = None,
    memory: str | float | None = None,
) -> Ensemble:
    """Train the finite network from several seeds at once, on ``1/2 sum (y - f)^2 + T/2 sum lambda |theta|^2``.

    Parameters
    ----------
    network: any architecture, with its own ``readout`` (standard or mean-field). It starts from its prior,
        ``network.init(jax.random.key(seed), ...)``. train, test: data sets; nothing is learned from ``test``.
    temperature: T, which sets the weight decay T lambda of every weight. 0: none (sgd, adam).
    optimiser: "sgd": gradient descent, with ``momentum`` (default 0) and mini-batches of ``batch`` points (default: all
        points, which is full-batch descent). "adam": Optax's, on all points or mini-batches. "langevin":
        ``theta <- theta - eta grad loss + sqrt(2 eta T) xi`` on all points, whose law tends, for small eta, to the
        posterior of ``fw.sample`` at that temperature (docs/theory.md section 7).
    learning_rate: eta. With the mean-field readout, sgd steps N_L eta, so that one eta serves all widths (Mei,
        Montanari and Nguyen 2018). Default: 0.01 (adam), or the largest curvature's inverse at infinite width times 0.5
        (sgd) or 0.05 (langevin).
    steps: of training. seeds: how many networks (seeds 0, 1, ...), or the seeds themselves. The same call gives the
        same bits on one machine.
    hold_out: part of the training points kept out (drawn from the first seed) for early stopping: every network ends at
        its smallest held-out error, and stops after ``patience`` steps (default: a tenth) without a smaller one.
    progress: a bar on stderr with the time left; a text stands in front of it.
    checkpoint: a file that the run is saved to, and resumed from to the same result. An interrupt (Ctrl-C) gives the
        networks as they are with ``complete=False``.
    memory: cap such as "8GB"; what would need more is refused before it starts.

    Warns (ScaleWarning) of data far from the size that the prior expects.
    Raises InputError for inputs that cannot be and for a checkpoint of another run, MemoryCapError above the cap,
    TimeCapError where its first steps show that it takes longer than ``fw.time_limit``, MissingExtraError without the
    extra "sample".
    """
    request = Request(
        network=network,
        data=train,
        test=test,
        temperature=temperature,
        optimiser=optimiser,
        learning_rate=learning_rate,
        momentum=momentum,
        batch=batch,
        steps=steps,
        seeds=seeds,
        hold_out=hold_out,
        patience=patience,
    )
    try:
        from finitewidth.training import program  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("jax and optax", "sample", "training") from error

    refuse_numpy_only(network)
    warn_of_scale(network, request.data)
    linalg.require_memory(request.bytes(), str(request), _REMEDY, linalg.memory_cap(memory))
    return _run(request, progress, checkpoint)


@dataclass(frozen=True, kw_only=True)
class Request:
    """The arguments of ``train``, checked. See there; ``data`` is all of the training set."""

    network: Network
    data: Any
    test: Any
    temperature: float = 0.0
    optimiser: str = "adam"
    learning_rate: float | None = None
    momentum: float | None = None
    batch: int | None = None
    steps: int = 2000
    seeds: Any = 8
    hold_out: float | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        put = partial(object.__setattr__, self)
        checks.instance("network", self.network, Network, "write fw.FullyConnected(widths=100), for example")
        checks.choice("optimiser", self.optimiser, OPTIMISERS)
        same_points(self.data, self.test)
        same_targets(self.data, self.test)
        check = checks.positive if self.optimiser == "langevin" else checks.not_negative
        put("temperature", check("temperature", self.temperature))
        if self.learning_rate is not None:
            put("learning_rate", checks.positive("learning_rate", self.learning_rate))
        put("steps", checks.positive_integer("steps", self.steps))
        put("seeds", _seeds(self.seeds))
        self._check_momentum(put)
        self._check_hold_out(put)
        if self.batch is not None:
            self._refuse_with("batch", "langevin", "its noise would not be that of the temperature")
            put("batch", checks.positive_integer("batch", self.batch))
            if self.batch > len(self.parts[0]):
                raise InputError(
                    f"batch = {self.batch} with {len(self.parts[0])} training points",
                    "a batch of at most all points",
                    "leave batch out to use all points in every step",
                )

    def _check_momentum(self, put: Callable[[str, Any], None]) -> None:
        if self.momentum is not None:
            for other in ("adam", "langevin"):
                self._refuse_with("momentum", other, "it is a setting of sgd")
            put("momentum", checks.not_negative("momentum", self.momentum))
            if self.momentum >= 1.0:
                raise InputError(f"momentum = {self.momentum}", "a number below 1", "write momentum=0.9, for example")

    def _check_hold_out(self, put: Callable[[str, Any], None]) -> None:
        if self.hold_out is None:
            if self.patience is not None:
                raise InputError(
                    "patience without held-out points", "hold_out and patience together", "write hold_out=0.2 as well"
                )
            return
        self._refuse_with("hold_out", "langevin", "its law has no best moment")
        put("hold_out", checks.positive("hold_out", self.hold_out))
        count = round(self.hold_out * len(self.data))
        if not 1 <= count < len(self.data):
            raise InputError(
                f"hold_out = {self.hold_out} of {len(self.data)} points",
                "a part that leaves at least one point on either side",
                "write hold_out=0.2, for example",
            )
        put("patience", checks.positive_integer("patience", self.patience or max(1, self.steps // 10)))

    def _refuse_with(self, name: str, optimiser: str, why: str) -> None:
        if self.optimiser == optimiser:
            raise InputError(f"{name} with optimiser {optimiser!r}, but {why}", f"no {name}", f"leave {name} out")

    def __str__(self) -> str:
        return f"training {len(self.seeds)} networks on {len(self.data)} points"

    # --- what follows from the arguments ----------------------------------------------------------------------

    @cached_property
    def parts(self) -> tuple[Dataset, Dataset | None]:
        """The points trained on, and those held out."""
        if self.hold_out is None:
            return self.data, None
        count = round(self.hold_out * len(self.data))
        return split(self.data, len(self.data) - count, count, self.seeds[0])

    @property
    def every(self) -> int:
        """Steps between two records."""
        return -(-self.steps // _RECORDS)

    @cached_property
    def rate(self) -> float:
        """The learning rate, chosen if it was not given."""
        if self.learning_rate is not None:
            return self.learning_rate
        if self.optimiser == "adam":
            return _ADAM_RATE
        return _SAFETY[self.optimiser] / (self._curvature() * self._width_factor)

    def _curvature(self) -> float:
        """The largest of the loss at infinite width: that of the NTK, and of the weight decay."""
        precisions = [*self.network.weight_precision, self.network.offset_precision or 0.0]
        largest = Spectrum.of(kernels.ntk(self.network, self.parts[0].x)).values[-1]
        return float(largest) + self.temperature * max(precisions)

    @property
    def _width_factor(self) -> int:
        """N_L where gradients are 1/N_L of those of the standard readout."""
        mean_field = self.network.readout == "mean-field" and self.optimiser == "sgd"
        return self.network.widths[-1] if mean_field else 1

    def bytes(self) -> float:
        """An estimate of the memory a run takes at most."""
        import jax

        program, arrays = self.program(), self.arrays()
        with single_thread():
            one = sum(leaf.size for leaf in jax.tree.leaves(program.structure(arrays)))
        hidden = self.network.n_features(arrays.train.shape[1:]) * self.network.depth
        points = sum(len(x) for x in (arrays.train, arrays.held_out, arrays.test))
        inputs = arrays.train[0].size
        patches = self.network.n_features(arrays.train.shape[1:]) // self.network.widths[-1]
        # states before and after a step, here and in JAX, with gradients; activations forward and backward
        return 8.0 * len(self.seeds) * (5.0 * one + points * (6.0 * hidden + 2.0 * inputs * patches)) + 2e8

    def program(self) -> Program:
        """What is compiled."""
        from finitewidth.training.program import Program

        points = len(self.parts[0])
        batch = 0 if self.batch is None or self.batch == points else self.batch
        early = self.hold_out is not None
        return Program(self.network, self.network.jax_functions, self.optimiser, batch, early)

    def arrays(self) -> Arrays:
        """What it reads."""
        from finitewidth.training.program import Arrays

        kept, held_out = self.parts
        empty = kept.x[:0], kept.y[:0]
        sets = [(kept.x, kept.y), empty if held_out is None else (held_out.x, held_out.y), (self.test.x, self.test.y)]
        outputs = self.data.n_outputs
        return Arrays(*(part for x, y in sets for part in (x, y.reshape(len(y), outputs))))

    def settings(self) -> Settings:
        """The numbers of a run."""
        from finitewidth.training.program import Settings

        patience = -(-(self.patience or 0) // self.every)
        rate = self.rate * self._width_factor
        return Settings(rate, self.momentum or 0.0, self.temperature, patience)

    def fingerprint(self) -> str:
        """All that decides the numbers, as JSON."""
        parts = {
            "network": network_fingerprint(self.network),
            "train": self.data.fingerprint(),
            "test": self.test.fingerprint(),
            "learning_rate": self.rate,
            "seeds": self.seeds.tolist(),
            "versions": versions("optax"),
        }
        names = ("temperature", "optimiser", "momentum", "batch", "steps", "hold_out", "patience")
        return json.dumps(parts | {name: getattr(self, name) for name in names})

    def collect(self, done: Progress, initial: Any) -> Ensemble:
        """The ensemble of a run, whole or interrupted."""
        state = done.states
        early = self.hold_out is not None
        recorded = {k: np.where(np.isfinite(v), v, np.nan) for k, v in done.records.items()}
        steps = np.minimum(np.arange(recorded["objective"].shape[1]) * self.every, self.steps)
        return Ensemble(
            network=self.network,
            train=self.parts[0],
            test=self.test,
            seeds=self.seeds,
            parameters=state.best if early else state.parameters,
            initial=initial,
            history=in_own_units(History(step=steps, **recorded), self.data.encoding),
            stopped=state.stopped,
            settings={
                "optimiser": self.optimiser,
                "temperature": self.temperature,
                "learning_rate": self.rate,
                "momentum": self.momentum or 0.0,
                "batch": self.batch,
                "steps": self.steps,
                "hold_out": self.hold_out,
                "patience": self.patience,
            },
            complete=done.steps >= self.steps or bool(state.stopped.all()),
        )


@dataclass(frozen=True)
class Progress:
    """Everything a run is: all that a checkpoint holds. records: by name, (networks, 1 + records so far)."""

    steps: int
    states: State
    records: dict[str, np.ndarray]


def _run(request: Request, visible: bool | str, path: str | os.PathLike[str] | None) -> Ensemble:
    """Do or resume the run."""
    engine = Engine(request)
    file = None if path is None else RunFile(Path(path), request.fingerprint())
    done = None if file is None else _load(file, engine)
    with memory_errors(str(request), _REMEDY):
        start = engine.start()
        done = done or start
        if durations.wanted():  # half of a step with a look at the errors, which only every hundredth has
            durations.refuse_beyond(
                0.5 * (request.steps - done.steps) * engine.step_seconds(done), str(request), _REMEDY
            )
        pace, first = durations.Pace(str(request), _REMEDY), done.steps
        save = every(_SAVE_EVERY, None if file is None else lambda state: _save(file, state))
        total, before = -(-request.steps // request.every), -(-done.steps // request.every)
        try:
            with progress_bar(visible, request.optimiser, total, before) as advance:
                for whole in engine.run(done):
                    done = whole
                    advance(request.optimiser)
                    save(done)
                    pace(done.steps - first, request.steps - done.steps)
        except KeyboardInterrupt:
            if done.steps == 0:
                raise
        if file is not None:
            _save(file, done)
    return request.collect(done, start.states.parameters)


class Engine:
    """One request on one data set: lanes of networks beside one another, resumable after every record."""

    def __init__(self, request: Request) -> None:
        self.request, self.program = request, request.program()
        self.arrays, self.settings = request.arrays(), request.settings()

    @cached_property
    def shapes(self) -> tuple[State, dict[str, Any]]:
        """State and record of one network, without making any: pytrees of shapes."""
        with single_thread():
            return self.program.shapes(self.settings, self.arrays)

    def start(self) -> Progress:
        """Networks from the prior, and their errors; on one thread, or each would compile what all of them share."""
        with self._lanes(1) as lanes:
            states = lanes(lambda part, seeds: self.program.start(seeds, self.arrays))
            return self._advanced(Progress(0, states, {}), 0, lanes)

    def step_seconds(self, at: Progress) -> float:
        """Of one step and a look at the errors, which come to nothing."""
        with self._lanes(linalg.n_threads()) as lanes:
            return durations.timed(lambda: self._advanced(at, 1, lanes))

    def run(self, done: Progress) -> Iterator[Progress]:
        """Do what is left, record by record; every state yielded is whole and stays as it is."""
        with self._lanes(linalg.n_threads()) as lanes:
            while done.steps < self.request.steps and not done.states.stopped.all():
                done = self._advanced(done, min(self.request.every, self.request.steps - done.steps), lanes)
                yield done

    def _advanced(self, done: Progress, count: int, lanes: Callable[[_Work], Any]) -> Progress:
        import jax

        def work(part: slice, seeds: np.ndarray) -> Any:
            states = jax.tree.map(lambda leaf: leaf[part], done.states)
            return self.program.advance(states, seeds, done.steps, count, self.settings, self.arrays)

        states, record = lanes(work)
        columns = {name: value[:, None] for name, value in record.items()}
        if done.records:
            columns = {name: np.concatenate([done.records[name], value], axis=1) for name, value in columns.items()}
        return Progress(done.steps + count, states, columns)

    @contextlib.contextmanager
    def _lanes(self, threads: int) -> Iterator[Callable[[_Work], Any]]:
        """Does work on every lane and puts the pytrees that come back one behind the other, networks first."""
        import jax

        from finitewidth.runs import on_cpu

        seeds = self.request.seeds
        size = -(-len(seeds) // _LANES) if on_cpu() else len(seeds)
        parts = [slice(first, first + size) for first in range(0, len(seeds), size)]

        def lane(work: _Work, part: slice) -> Any:
            with jax.enable_x64(True):  # a setting of the thread
                return jax.device_get(work(part, seeds[part]))

        def lanes(work: _Work) -> Any:
            done = list(pool.map(partial(lane, work), parts))
            return jax.tree.map(lambda *leaves: np.concatenate(leaves), *done)

        with one_blas_thread(), ThreadPoolExecutor(min(threads, len(parts))) as pool:
            yield lanes


def _save(file: RunFile, done: Progress) -> None:
    import jax

    leaves = {f"state/{i}": leaf for i, leaf in enumerate(jax.tree.leaves(done.states))}
    file.write({"steps": done.steps}, leaves | {f"record/{name}": value for name, value in done.records.items()})


def _load(file: RunFile, engine: Engine) -> Progress | None:
    import jax

    found = file.read()
    if found is None:
        return None
    meta, arrays = found
    request, networks = engine.request, len(engine.request.seeds)
    steps = file.whole(meta, "steps", request.steps)
    if steps % request.every and steps != request.steps:
        raise file.misfit("steps")
    states, records = engine.shapes
    leaves, structure = jax.tree.flatten(states)
    wanted = {f"state/{i}": jax.ShapeDtypeStruct((networks, *leaf.shape), leaf.dtype) for i, leaf in enumerate(leaves)}
    count = 1 - (-steps // request.every)
    wanted |= {f"record/{name}": jax.ShapeDtypeStruct((networks, count), of.dtype) for name, of in records.items()}
    fitting = file.fitting(arrays, wanted)
    return Progress(
        steps,
        jax.tree.unflatten(structure, [fitting[f"state/{i}"] for i in range(len(leaves))]),
        {name: fitting[f"record/{name}"] for name in records},
    )


def _seeds(value: Any) -> np.ndarray:
    """Different whole numbers of at least 0, (S,)."""
    if checks.scalar(value):
        count = checks.positive_integer("seeds", value)
        if count > _MOST_SEEDS:
            raise InputError(f"seeds = {count}", f"at most {_MOST_SEEDS}", "train them in several calls")
        return np.arange(count, dtype=np.int64)
    seeds = [checks.seed(f"seeds[{i}]", s) for i, s in enumerate(checks.sequence("seeds", value))]
    if len(set(seeds)) < len(seeds):
        given = f"seeds = {checks.shown(value)}"
        raise InputError(given, "different whole numbers from 0", "write seeds=range(8), for example")
    return np.array(seeds, dtype=np.int64)
