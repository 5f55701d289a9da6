"""One engine for long runs: begin or go on from a file, state by state, saved, shown, timed, and stopped whole."""

from __future__ import annotations

import abc
import contextlib
import json
import math
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np

from finitewidth.checks import instance
from finitewidth.checks.exceptions import InputError
from finitewidth.data import Dataset
from finitewidth.data.dataset import same_points
from finitewidth.inference.methods import Control, Method, Problem, Solution, gaussian_temperature, parts
from finitewidth.linalg import memory_cap, require_memory
from finitewidth.networks import Network
from finitewidth.networks.scale import warn_of_scale
from finitewidth.runs import checkpoints, durations
from finitewidth.runs.checkpoints import RunFile, folder_of
from finitewidth.runs.fingerprints import network_fingerprint, versions
from finitewidth.runs.jax_runs import memory_errors
from finitewidth.runs.progress import progress_bar

State = TypeVar("State")
_OF_WEIGHTS = ("init_hidden", "features", "hidden_log_prior")


class Engine(Protocol[State]):
    """What does the work of a run. Its states are whole, and stay as they are."""

    def start(self) -> State:
        """The first state."""

    def run(self, state: State, /) -> Iterator[State]:
        """Do what is left, one state after another."""

    def where(self, state: State, /) -> tuple[str, int, int]:
        """What it is doing, how many states it has been through, and through how many it goes, as far as is known."""

    def effort(self, state: State, /) -> tuple[float, float] | None:
        """Work that led to this state from the last one, and that is left, in one unit; None where nobody knows."""

    def least_seconds(self, state: State, /) -> float:
        """A lower bound on the time that is left, from a small measured piece."""

    def to_file(self, state: State, /) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Plain data and arrays that are the state."""

    def from_file(self, file: RunFile, meta: dict[str, Any], arrays: dict[str, np.ndarray], /) -> State:
        """The state that these are; InputError (``file.misfit``) where they fit no state of this run."""


class LongRun(abc.ABC, Generic[State]):
    """Settings, a network and data, whose text says what is done with them; an engine carries it out.

    verb: what it does to networks. remedy: what would make it smaller. paced: states that show its pace. libraries:
    whose versions may decide numbers. test: of the points where predictions are wanted.
    """

    verb: ClassVar[str]
    remedy: ClassVar[str]
    paced: ClassVar[int] = 1
    libraries: ClassVar[tuple[str, ...]] = ()
    network: Network
    train: Dataset
    test: Dataset
    temperature: float

    def __post_init__(self) -> None:
        instance("network", self.network, Network, "write fw.FullyConnected(widths=100), for example")
        same_points(self.train, self.test)

    @abc.abstractmethod
    def bytes(self) -> float:
        """Memory that it takes at most, roughly."""

    @property
    def most_seconds(self) -> float:
        """After which it ends by itself."""
        return math.inf

    @property
    @abc.abstractmethod
    def cost(self) -> float:
        """Its work beside that of other runs on the same data, in any unit."""

    @property
    @abc.abstractmethod
    def decided_by(self) -> dict[str, Any]:
        """What decides the numbers beside the network, the data and the temperature; plain data."""

    def fingerprint(self) -> str:
        """All that decides the numbers, as JSON."""
        parts = {
            "network": network_fingerprint(self.network),
            "train": self.train.fingerprint(),
            "test": self.test.fingerprint(),
            "temperature": self.temperature,
            "versions": versions(*self.libraries),
        }
        return json.dumps(parts | self.decided_by)

    @property
    @abc.abstractmethod
    def engine(self) -> Engine[State]:
        """What carries it out, nothing done yet."""

    @abc.abstractmethod
    def usable(self, state: State) -> bool:
        """Whether there is a solution where an interrupt leaves it in this state."""

    @abc.abstractmethod
    def solution(self, state: State, /) -> Solution:
        """Of a run in its last state, or in one that is usable."""


def carry_out_alone(
    run: LongRun[State],
    checkpoint: str | os.PathLike[str] | None,
    progress: bool | str,
    memory: str | float | None,
) -> State:
    """``carry_out`` of one run by itself: warns of data of another scale, and requires its memory before."""
    need = run.bytes()
    warn_of_scale(run.network, run.train)
    require_memory(need, str(run), run.remedy, memory_cap(memory))
    return carry_out(run, checkpoint, progress)


def carry_out(
    run: LongRun[State],
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool | str = False,
    start: State | None = None,
) -> State:
    """Its last state, or the one that an interrupt (Ctrl-C) left it in; that is passed on where none is usable.

    checkpoint: a file that it is saved to every 15 seconds and at the end, and goes on from. progress: a bar on stderr;
    a text stands in front of it. start: a state of the same run to go on from, where there is no file yet.
    Raises TimeCapError, MemoryError, InputError for a file of another run.
    """
    file = None if checkpoint is None else RunFile(Path(checkpoint), run.fingerprint())
    saved = None if file is None else file.read()
    engine = run.engine

    def save(state: State) -> None:
        if file is not None:
            file.write(*engine.to_file(state))

    with memory_errors(str(run), run.remedy):
        if file is not None and saved is not None:
            start = engine.from_file(file, *saved)
        start = state = engine.start() if start is None else start
        if durations.wanted():
            durations.refuse_beyond(min(engine.least_seconds(start), run.most_seconds), str(run), run.remedy)
        try:
            for state in _states(run, start, save, progress):  # noqa: B007  the last one counts
                pass
        except KeyboardInterrupt:
            if not run.usable(state):
                save(state)
                raise
        save(state)
    return state


def _states(run: LongRun[State], start: State, save: Callable[[State], None], progress: bool | str) -> Iterator[State]:
    """What it goes through after ``start``: moves the bar, saves now and then, and requires the time of the rest."""
    label, done, total = run.engine.where(start)
    pace, saved = durations.Pace(str(run), run.remedy, run.paced, run.most_seconds), time.monotonic()
    with reporting(pace, progress, label, total, done) as report:
        for state in run.engine.run(start):
            yield state  # first: whatever ends the run below, it is not lost
            label, _, total = run.engine.where(state)
            report(label, run.engine.effort(state), total)
            if time.monotonic() - saved > checkpoints.SAVE_EVERY:
                save(state)
                saved = time.monotonic()


@contextlib.contextmanager
def reporting(
    pace: durations.Pace, progress: bool | str, label: str, total: int, done: int = 0
) -> Iterator[Callable[..., None]]:
    """Called with a label, ``Engine.effort`` and, where it has changed, the total, after every step: moves the bar, and
    paces the rest."""
    work = 0.0
    with progress_bar(progress, label, total, done) as advance:

        def report(label: str, effort: tuple[float, float] | None, total: int | None = None) -> None:
            nonlocal work
            advance(label, total)
            if effort is not None:
                work += effort[0]
                pace(work, effort[1])

        yield report


def _one_by_one(runs: Sequence[LongRun[Any]], folder: Path | None, progress: bool) -> Iterator[Solution]:
    points = max((run.train.n_points for run in runs), default=0)
    what = f"{runs[0].verb} {len(runs)} networks on {points} training points" if len(runs) > 1 else ""
    jobs = durations.Jobs(sum(run.cost for run in runs), what)
    waiting, solved = deque(zip(runs, _names(runs), strict=True)), False
    del runs  # an engine holds data of its own: none outlives its run
    while waiting:
        run, name = waiting.popleft()
        warn_of_scale(run.network, run.train)
        file = None if folder is None else folder / f"{name}.npz"
        try:
            with jobs.one(run.cost):
                solution = run.solution(carry_out(run, file, name.replace("-", " ") if progress else False))
        except KeyboardInterrupt:
            if not solved:
                raise
            return
        solved = True
        yield solution
        if not solution.complete:
            return


def _names(runs: Sequence[LongRun[Any]]) -> list[str]:
    """What tells the runs apart, as names of files."""
    names = [f"width-{'-'.join(map(str, run.network.widths))}-temperature-{run.temperature:g}" for run in runs]
    if len({run.train.n_points for run in runs}) > 1:
        names = [f"{name}-n-train-{run.train.n_points}" for name, run in zip(names, runs, strict=True)]
    seen: Counter[str] = Counter()
    for k, name in enumerate(names):
        seen[name] += 1
        names[k] = name if seen[name] == 1 else f"{name}-{seen[name]}"
    return names


@dataclass(frozen=True)
class MethodOfRuns(Method):
    """A method that takes one long run a problem, for every size of the training set."""

    without_noise: ClassVar[bool] = False  # whether it takes least squares too

    @abc.abstractmethod
    def _run(self, network: Network, train: Dataset, test: Dataset | None, temperature: float) -> LongRun[Any]:
        """One run. test: where predictions are wanted; None: not known yet."""

    def serves(self, problem: Problem, n_outputs: int = 1) -> None:
        """Raise InputError for a likelihood that is not Gaussian, and for a network without weights."""
        gaussian_temperature(problem, self, self.without_noise)
        _refuse_without_weights(problem.network, self.name)

    def solutions(
        self,
        problems: Sequence[Problem],
        train: Dataset,
        test: Dataset | None = None,
        sizes: Sequence[int] | None = None,
        control: Control | None = None,
    ) -> Iterator[Solution]:
        """See ``Method``; all is checked, and its memory required, before the first begins."""
        for problem in problems:
            self.serves(problem, train.n_outputs)
        runs = [
            self._run(network, part, test, likelihood.temperature)
            for part in parts(train, sizes)
            for network, likelihood in problems
        ]
        control = control or Control()
        for run in runs:
            require_memory(run.bytes(), str(run), run.remedy, control.memory)
        folder = None if control.checkpoints is None else folder_of(control.checkpoints)
        return _one_by_one(runs, folder, control.progress)


def _refuse_without_weights(network: Any, method: str) -> None:
    """InputError for what is no network, or one of the user's own that only states its covariance."""
    instance("network", network, Network, "write fw.FullyConnected(widths=100), for example")
    missing = [name for name in _OF_WEIGHTS if getattr(type(network), name) is getattr(Network, name)]
    if missing:
        raise InputError(
            f"method {method!r} with {type(network).__name__}, which has no {', '.join(missing)}",
            "a network that can draw its weights and compute with them",
            "write these methods too (see fw.Network), or use a method of theory",
        )
