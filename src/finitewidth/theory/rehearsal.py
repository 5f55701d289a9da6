"""How long a theory will take: the same theory, rehearsed on a few of the points (``durations.rehearsed``)."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from finitewidth import durations
from finitewidth.data import Dataset
from finitewidth.durations import Piece
from finitewidth.kernels.operator import GramOperator
from finitewidth.theory.integrate import Integrated
from finitewidth.theory.krylov import KrylovKernel
from finitewidth.theory.local import LocalPredictor, LocalProblem, LocalRenormalisation
from finitewidth.theory.nested import GramPredictor, Nested
from finitewidth.theory.neuron import SingleNeuron
from finitewidth.theory.outputs import SeveralOutputs
from finitewidth.theory.own import OwnPredictor, OwnTheory
from finitewidth.theory.scaled import KernelSpectrum, ScaledKernel, unit_network
from finitewidth.theory.solver import obstacle_to_krylov

Array = np.ndarray
_RATE = 4e9  # operations a second that any machine does; most do several times as many
_BRIEF = 4.0  # seconds of a job that is not worth a rehearsal
_HEAVY = 0.05  # seconds of one evaluation that is too long for one
_DRAWN = 256  # order parameters in an integral over those of the nested closure
_KRYLOV_POINTS = 2048  # that the product with a kernel is measured on
# Passes over the kernel, measured on 2000 to 10000 points: 16 to 24 for the targets, 6 to 12 for the test points.
_PASSES, _TEST_PASSES = 24, 12
_BESIDE = 1.4  # what orthogonalising and the Ritz pairs add to the products


@contextlib.contextmanager
def watched(
    theories: Sequence[Any],
    train: Dataset,
    test: Dataset | None = None,
    sizes: Sequence[int] | None = None,
    memory: float | None = None,
) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Around the solutions of theories that differ in width and temperature, at every size: their time is required.

    Raises TimeCapError above the limit (``durations.time_limit``), and shows progress where somebody waits. Each
    solution is to be found within what this yields: the single-neuron theory estimates itself, in its first one.
    """
    sizes = [train.n_points] if sizes is None else sizes
    if isinstance(theories[0], SingleNeuron):
        yield durations.Jobs(len(theories) * len(sizes)).one
        return
    krylov = _uses_krylov(theories[0], train, memory)
    seconds = _seconds(theories, train, test, sizes, memory, krylov) if durations.wanted() else 0.0
    durations.require_time(seconds, *_words(theories, train, krylov))
    frozen = _factorises_once(theories[0]) and not krylov  # a bar would stand still
    with durations.settled(), durations.shown(0.0 if frozen else seconds, str(theories[0].method)):
        yield contextlib.nullcontext


def _seconds(
    theories: Sequence[Any],
    train: Dataset,
    test: Dataset | None,
    sizes: Sequence[int],
    memory: float | None,
    krylov: bool,
) -> float:
    """0 where it is not worth a rehearsal, or cannot be known."""
    if krylov:
        return sum(_krylov_seconds(theories[0], train, test, size, memory) for size in sizes)
    operations = len(sizes) * _operations(theories, train, test)
    if operations < _BRIEF * _RATE:
        return 0.0
    if 10.0 * (_patches(theories[0], train) * durations.first_size(train.n_points)) ** 2 > _HEAVY * _RATE:
        return operations / (4.0 * _RATE)  # one evaluation on the fewest points takes long: no rehearsal
    try:
        with np.errstate(all="ignore"):
            seconds = _rehearsed(theories[0], len(theories), train, test)
    except (ArithmeticError, ValueError, np.linalg.LinAlgError):  # the job itself will say what is wrong with it
        return 0.0
    return sum(map(seconds, sizes))


def _inner(theory: Any) -> Any:
    return theory.theory if isinstance(theory, Integrated) else theory


def _factorises_once(theory: Any) -> bool:
    """Whether one eigendecomposition is nearly all of the work."""
    return isinstance(_inner(theory), (ScaledKernel, SeveralOutputs))


def _uses_krylov(theory: Any, train: Dataset, memory: float | None) -> bool:
    return isinstance(theory, ScaledKernel) and theory.solver.uses_krylov(theory.network, train, memory)


def _operations(theories: Sequence[Any], train: Dataset, test: Dataset | None) -> float:
    """Roughly, and rather more."""
    theory = theories[0]
    count, patches = train.n_points, _patches(theory, train)
    entry = 1000.0 if isinstance(theory, OwnTheory) else 10.0 * patches**2 + 50.0 * theory.network.depth
    entries = entry * count * (count + (0 if test is None else len(test)))
    if _factorises_once(theory):
        return 8.0 * count**3 + entries
    evaluations = 2 * _DRAWN if isinstance(theory, Integrated) else _evaluations(patches)
    return evaluations * len(theories) * (3.0 * train.y.size**3 + entries)


def _patches(theory: Any, train: Dataset) -> int:
    return theory.network.n_patches(train.x.shape[1:])


def _evaluations(patches: int) -> int:
    """Of an action, until it is minimised: measured on digits, from one to 16 patches."""
    return 16 if patches < 16 else 60


def _pieces(theory: Any, rows: int, part: Dataset, at: Array) -> list[Piece]:
    """The pieces of a curve of so many rows on some training and test points; counts are those of sampled jobs."""
    inner = _inner(theory)
    if _factorises_once(theory):
        twice = isinstance(theory, Integrated) and theory.network.depth == 1 and not theory.network.phi.odd
        return [Piece(lambda: KernelSpectrum.of(inner.network, part).points(at), 2 if twice else 1)]
    if isinstance(inner, Nested):
        unit = np.ones(inner.network.depth)
        draws = _DRAWN if isinstance(theory, Integrated) else 0
        predictor: Any = GramPredictor(inner.network, part, inner.temperature)
        return [
            Piece(lambda: KernelSpectrum.of(inner.network, part), 1),
            Piece(lambda: inner._action(part, 0.0 * unit, unit), 4 + rows * (8 + draws // 2)),
            Piece(lambda: predictor.predict(at), rows * max(1, draws)),
        ]
    if isinstance(inner, LocalRenormalisation):
        gram = inner.factorise(part)
        problem = LocalProblem(inner, part, gram)
        predictor = LocalPredictor(inner, part, problem.identity, gram.contract(problem.identity))
        return [
            Piece(lambda: inner.factorise(part), 1),
            Piece(lambda: problem.energy(problem.identity), rows * _evaluations(gram.n_patches)),
            Piece(lambda: predictor.predict(at), rows),
        ]
    q = np.ones(inner.network.depth)
    energies = 1 if inner.infinite else 13 + 16 * (1 + 2 * len(q))
    return [
        Piece(lambda: inner.energy(part, q), rows * energies),
        Piece(lambda: OwnPredictor(inner, part, q).predict(at), rows),
    ]


def _rehearsed(theory: Any, rows: int, train: Dataset, test: Dataset | None) -> Callable[[int], float]:
    """Seconds of a curve as a function of the number of training points."""

    def work(count: int) -> list[Piece]:
        at = train.x[:1] if test is None else _some(test, math.ceil(count * test.n_points / train.n_points)).x
        return _pieces(theory, rows, _some(train, count), at)

    return durations.rehearsed(work, train.n_points)


def _some(data: Dataset, count: int) -> Dataset:
    """Points from all over the set, which may be sorted."""
    return data.subset(np.unique(np.linspace(0, data.n_points - 1, min(count, data.n_points)).astype(int)))


def _krylov_seconds(theory: Any, train: Dataset, test: Dataset | None, size: int, memory: float | None) -> float:
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


def _words(theories: Sequence[Any], train: Dataset, krylov: bool) -> tuple[str, str]:
    """What is done, and what to do where it takes too long."""
    theory, rows = theories[0], len(theories)
    inner = _inner(theory)
    points, fewer = f"{train.n_points:,} training points", "use fewer training points (n_train)"
    rows_said = f", {rows} rows" if rows > 1 else ""
    if krylov:
        return f"a Krylov space on {points}", fewer
    if _factorises_once(theory):
        other = (
            ", or solver='krylov'"
            if isinstance(theory, ScaledKernel) and not obstacle_to_krylov(theory.network, train)
            else ""
        )
        return f"an eigendecomposition on {points}, whose progress cannot be shown", fewer + other
    if isinstance(inner, Nested):
        return f"the nested closure on {points}{rows_said}", f"{fewer}, fewer widths or closure='product'"
    if isinstance(inner, LocalRenormalisation):
        patches = f"an order parameter for pairs of patches on {points}{rows_said}"
        return patches, f"{fewer}, larger patches or strides, or average pooling"
    return f"the action on {points}{rows_said}", fewer
