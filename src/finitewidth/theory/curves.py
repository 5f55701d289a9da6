"""Learning curves: the predicted errors over widths, temperatures and training-set sizes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from finitewidth import checks
from finitewidth.data import Dataset
from finitewidth.exceptions import InputError
from finitewidth.linalg import blas_for, memory_cap
from finitewidth.networks import Network
from finitewidth.prediction import Errors
from finitewidth.theory import rehearsal
from finitewidth.theory.choose import for_outputs, theory_of
from finitewidth.theory.krylov import KrylovPredictor, missed
from finitewidth.theory.neuron import NeuronOptions
from finitewidth.theory.solution import Solution, conditioned
from finitewidth.theory.solver import Solver
from finitewidth.theory.validity import Validity, applies, validity


@dataclass(frozen=True)
class Row:
    """One prediction of a learning curve; what did not converge has NaN errors and ``converged=False``.

    width: neurons of every hidden layer, or a tuple with one width a layer. seconds: wall time of this row, the work
    that rows share being counted in the first one. validity: what to expect of a prediction of the action, where asked
    for (``theory/validity.py``). solver: "exact" or "krylov"; with the latter, solver_error is the estimated relative
    error of the test error that it causes, and log_evidence_error that of the log evidence in nats (99 % intervals).
    """

    width: int | tuple[int, ...]
    depth: int
    temperature: float
    n_train: int
    method: str
    closure: str
    train_error: float
    test_error: float
    bias: float
    variance: float
    accuracy: float | None
    order_parameters: list[float]
    log_evidence: float
    converged: bool
    message: str
    seconds: float
    validity: Validity | None = None
    solver: str = "exact"
    solver_error: float | None = None
    log_evidence_error: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        validity = None if self.validity is None else asdict(self.validity)
        return vars(self) | {"order_parameters": list(self.order_parameters), "validity": validity}


@dataclass(frozen=True)
class LearningCurve:
    """Rows in the order asked for: training-set sizes, then temperatures, then widths."""

    rows: tuple[Row, ...]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        return self.rows[index]

    def column(self, name: str) -> np.ndarray:
        """One field of every row, for example ``curve.column("test_error")``."""
        checks.choice("column", name, Row.__dataclass_fields__)
        return np.array([getattr(row, name) for row in self.rows])

    def to_dicts(self) -> list[dict[str, Any]]:
        """Plain data: ``pandas.DataFrame(curve.to_dicts())``."""
        return [row.to_dict() for row in self.rows]


def learning_curve(
    network: Network,
    train: Dataset,
    test: Dataset,
    widths: Sequence[int] | None = None,
    temperature: float | Sequence[float] = 0.05,
    n_train: Sequence[int] | None = None,
    closure: str | None = None,
    method: str = "saddle",
    memory: str | float | None = None,
    neuron: NeuronOptions | None = None,
    assess: bool = False,
    solver: str | Solver = "auto",
) -> LearningCurve:
    """Predicted errors for every width (hidden layers all that wide), temperature and training-set size.

    ``widths=None`` keeps the network's own, ``n_train=None`` the whole training set; a size takes the first points.
    One factorisation serves all widths and temperatures of a size (in the nested closure of deep networks, the scan
    does); with method "neuron", whose options ``neuron`` holds, each solution starts where the last one ended.
    ``assess`` adds to every row the expected relative error of the action, a second or two each.
    ``solver`` chooses between an eigendecomposition and a Krylov space for many points (``Solver``).
    Raises InputError for widths, temperatures or sizes that cannot be, MemoryCapError above ``memory``, which
    is a number of bytes or a text such as "8GB", and TimeCapError above ``fw.time_limit``.
    """
    checks.instance("network", network, Network, "write fw.FullyConnected(widths=100), for example")
    for name, part in (("train", train), ("test", test)):
        checks.instance(name, part, Dataset, "write fw.Dataset(x, y)")
    cap = memory_cap(memory)
    temperatures = [checks.positive("temperature", t) for t in checks.one_or_more("temperature", temperature)]
    networks = [network] if widths is None else [network.with_width(w) for w in checks.sequence("widths", widths)]
    theories = [
        for_outputs(theory_of(net, t, closure, method, neuron, solver), train.n_outputs)
        for t in temperatures
        for net in networks
    ]
    sizes = None if n_train is None else _sizes(train, n_train)
    rows = []
    with rehearsal.watched(theories, train, test, sizes, cap, assess) as solving:
        for part in [train] if sizes is None else (train.subset(np.arange(size)) for size in sizes):
            shared = None
            for theory in theories:
                with solving():
                    row, shared = solved_row(theory, part, test, shared, cap, assess)
                rows.append(row)
    return LearningCurve(tuple(rows))


def solved_row(
    theory: Any, train: Dataset, test: Dataset, shared: Any = None, memory: float | None = None, assess: bool = False
) -> tuple[Row, Any]:
    """The row of one theory that serves the outputs, and what its solution shares with the next.

    ``shared``: from a theory of the same kind, data and kernel, whatever its width and temperature.
    """
    started = time.perf_counter()
    with blas_for(train.n_points):
        shared = shared or theory.factorise(train, memory)
        solution = theory.solve(train, shared, memory)
    row = row_of(solution, test, started)
    return (replace(row, validity=validity(solution)) if assess and applies(solution) else row), shared


def row_of(solution: Solution, test: Dataset, started: float) -> Row:
    """The row of one solution; ``started`` is the perf_counter value at which its work began."""
    network = solution.theory.network
    nan = float("nan")
    errors = Errors(nan, nan, nan, None, nan)
    converged, message, solver_error = solution.converged, solution.message, None
    if solution.converged:
        found = conditioned(solution, test.x).errors(test.y)
        if not math.isfinite(found.test_error + found.train_error):
            converged, message = False, "errors beyond double precision; rescale inputs and targets"
        elif isinstance(solution.predictor, KrylovPredictor):
            solver_error = solution.predictor.estimated_error(test.x, test.y)
            target = solution.predictor.shared.solver.target
            if not solver_error <= target:
                converged, message = False, missed(solver_error, target)
    if converged:
        errors = Errors(*(getattr(found, name) for name in Errors.__dataclass_fields__))
    return Row(
        width=network.common_width,
        depth=network.depth,
        temperature=solution.theory.temperature,
        n_train=solution.train.n_points,
        method=solution.theory.method,
        closure=solution.theory.closure,
        order_parameters=[float(q) for q in np.ravel(solution.order_parameters)],
        log_evidence=float(solution.log_evidence),
        converged=converged,
        message=message,
        seconds=time.perf_counter() - started,
        solver=solution.solver,
        solver_error=solver_error,
        log_evidence_error=None if solution.errors is None else solution.errors.log_evidence,
        **asdict(errors),
    )


def _sizes(train: Dataset, sizes: Sequence[int]) -> list[int]:
    checked = [checks.positive_integer("n_train", size) for size in checks.sequence("n_train", sizes)]
    for size in checked:
        if size > train.n_points:
            raise InputError(f"n_train = {size}", f"at most {train.n_points} points", "give more data or smaller sizes")
    return checked
