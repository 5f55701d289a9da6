"""Theories as methods: how the solutions of one training set share their work, and how long they will take."""

from __future__ import annotations

import abc
import contextlib
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from finitewidth.data import Dataset
from finitewidth.inference.methods import Control, Method, Problem, parts
from finitewidth.kernels.operator import GramOperator
from finitewidth.linalg import arithmetic
from finitewidth.runs import durations
from finitewidth.runs.durations import Piece
from finitewidth.theory.krylov import KrylovKernel
from finitewidth.theory.scaled import ScaledKernel
from finitewidth.theory.solution import Shared, Theory, TheorySolution
from finitewidth.theory.spectrum import unit_network
from finitewidth.theory.validated import warn_outside_validated

Array = np.ndarray
_RATE = 4e9  # operations a second that any machine does; most do several times as many
_BRIEF = 6.0  # seconds of a job that is not worth a rehearsal
_HEAVY = 0.05  # seconds of one evaluation that is too long for one
_KRYLOV_POINTS = 2048  # that the product with a kernel is measured on
# Passes over the kernel, measured on 2000 to 10000 points: 16 to 24 for the targets, 6 to 12 for the test points.
_PASSES, _TEST_PASSES = 24, 12
_BESIDE = 1.4  # what orthogonalising and the Ritz pairs add to the products


class TheoryMethod(Method):
    """A method that solves a ``Theory``."""

    @abc.abstractmethod
    def theory(self, problem: Problem, control: Control | None = None) -> Theory[Any]:
        """For one output. Raises InputError where this method does not serve the problem."""

    def serves(self, problem: Problem, n_outputs: int = 1) -> None:
        """See ``Method``."""
        self.theory(problem).for_outputs(n_outputs)

    def solutions(
        self,
        problems: Sequence[Problem],
        train: Dataset,
        test: Dataset | None = None,
        sizes: Sequence[int] | None = None,
        control: Control | None = None,
    ) -> Iterator[TheorySolution]:
        """See ``Method``; one factorisation serves problems that differ in width, temperature, readout precision."""
        control = control or Control()
        theories = [self.theory(problem, control).for_outputs(train.n_outputs) for problem in problems]
        alone = len(theories) == 1
        with watched(theories, train, test, sizes, control.memory) as solving:
            for part in parts(train, sizes):
                work: dict[Hashable, Any] = {}
                for theory in theories:
                    with solving(), arithmetic(part.n_points):
                        solution = theory.solve(part, _shared(theory, part, work, control, alone), control.memory)
                    warn_outside_validated(solution)
                    yield solution


def solve(theory: Theory[Any], train: Dataset, memory: float | None = None) -> TheorySolution:
    """The solution of one theory, its time required."""
    fitting = theory.for_outputs(train.n_outputs)
    with watched([fitting], train, memory=memory), arithmetic(train.n_points):
        return fitting.solve(train, memory=memory)


def _shared(
    theory: Theory[Shared], train: Dataset, work: dict[Hashable, Any], control: Control, alone: bool
) -> Shared | None:
    """What theories of one kernel share on a training set, within one call or, where it allows, between calls.

    None where a theory ``alone`` on it is quicker without: at infinite width there is no scale to find.
    """
    key = theory.sharing
    if key is None:
        return theory.factorise(train, control.memory)
    if key not in work:
        kept = control.shared.get((key, id(train)))
        if kept is None and alone and theory.infinite:
            return None
        found = theory.factorise(train, control.memory) if kept is None else kept[1]
        if theory.reusable(found):
            control.shared[key, id(train)] = (train, found)
        work[key] = found
    return work[key]


@contextlib.contextmanager
def watched(
    theories: Sequence[Theory[Any]],
    train: Dataset,
    test: Dataset | None = None,
    sizes: Sequence[int] | None = None,
    memory: float | None = None,
) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Around the solutions of theories that differ in width and temperature, at every size: their time is required.

    Raises TimeCapError above the limit (``durations.time_limit``). Each solution is to be solved within what this
    yields: some theories estimate themselves, in their first one.
    """
    sizes = [train.n_points] if sizes is None else sizes
    first, rows = theories[0], len(theories)
    if first.evaluations is None:
        yield durations.Jobs(rows * len(sizes)).one
        return
    work, seconds = first.work, 0.0
    if isinstance(first, ScaledKernel) and first.solver.uses_krylov(first.network, train, memory):
        work = "a Krylov space"
        if durations.wanted():
            seconds = sum(_krylov_seconds(first, train, test, size, memory) for size in sizes)
    elif durations.wanted():
        seconds = _seconds(first, rows, train, test, sizes)
    more = f", {rows} rows" if rows > 1 else ""
    durations.require_time(seconds, f"{work} on {train.n_points:,} training points{more}", first.remedy)
    with durations.settled():
        yield contextlib.nullcontext


def _operations(theory: Theory[Any], rows: int, train: Dataset, test: Dataset | None) -> float:
    """Of the solutions on a training set, roughly, and rather more."""
    factors = 1 + rows * (theory.evaluations or 0)
    values = train.y.size if theory.evaluations else train.n_points
    entries = train.n_points * (train.n_points + (0 if test is None else test.n_points))
    return factors * (8.0 * values**3 + _of_an_entry(theory, train) * entries)


def _of_an_entry(theory: Theory[Any], train: Dataset) -> float:
    """Operations of an entry of a covariance; of a network of the user's own, who knows."""
    network = theory.network
    return 1000.0 if network.own else 10.0 * network.n_patches(train.x.shape[1:]) ** 2 + 50.0 * network.depth


def _seconds(theory: Theory[Any], rows: int, train: Dataset, test: Dataset | None, sizes: Sequence[int]) -> float:
    """Of all solutions and their predictions, from one solved on ever more points; 0 where it is brief, or not known.

    Where solutions share the work that counts, that is done once; otherwise it is done for each.
    """
    operations = len(sizes) * _operations(theory, rows, train, test)
    if operations < _BRIEF * _RATE:
        return 0.0
    if _of_an_entry(theory, train) * durations.first_size(train.n_points) ** 2 > _HEAVY * _RATE:
        return operations / (8.0 * _RATE)  # even the fewest points take long

    def work(count: int) -> list[Piece]:
        part = _some(train, count)
        at = part.x[:1] if test is None else _some(test, math.ceil(count * test.n_points / train.n_points)).x

        def solution() -> None:
            theory.solve(part, _shared(theory, part, {}, Control(), rows == 1)).predictor.predict(at)

        return [Piece(solution, rows if theory.evaluations else 1)]

    try:
        with np.errstate(all="ignore"):
            return sum(map(durations.rehearsed(work, train.n_points), sizes))
    except (ArithmeticError, ValueError, np.linalg.LinAlgError):  # the job itself will say what is wrong with it
        return 0.0


def _some(data: Dataset, count: int) -> Dataset:
    """Points from all over the set, which may be sorted."""
    return data.subset(np.unique(np.linspace(0, data.n_points - 1, min(count, data.n_points)).astype(int)))


def _krylov_seconds(
    theory: ScaledKernel, train: Dataset, test: Dataset | None, size: int, memory: float | None
) -> float:
    """From the product of a part of the kernel with a block; 0 where other machines do it."""
    if theory.solver.client is not None:
        return 0.0
    solver, dtype = theory.solver, theory.solver.dtype(size)
    part = _some(train, min(size, _KRYLOV_POINTS))
    block = np.ones((part.n_points, 1 + solver.probes))
    keep = KrylovKernel.keeps(train, dtype, solver, memory)
    operator = GramOperator(unit_network(theory.network), part.x, keep, dtype)
    making = durations.timed(lambda: GramOperator(operator.network, part.x, keep, dtype))
    product = durations.timed(lambda: operator @ block)
    passes = _PASSES + (0 if test is None else _TEST_PASSES)
    return (size / part.n_points) ** 2 * (making + _BESIDE * passes * product)
