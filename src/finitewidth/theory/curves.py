"""Learning curves: the predicted errors over widths, temperatures and training-set sizes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Self

import numpy as np

from finitewidth import checks
from finitewidth.data import Dataset
from finitewidth.data.pairs import same_targets
from finitewidth.display import Displayed, Tabulated, shortened
from finitewidth.exceptions import InputError, MissingExtraError
from finitewidth.linalg import arithmetic, memory_cap
from finitewidth.networks import Network
from finitewidth.prediction import Errors
from finitewidth.theory import rehearsal
from finitewidth.theory.choose import for_outputs, theory_of
from finitewidth.theory.krylov import KrylovPredictor, missed
from finitewidth.theory.neuron import NeuronOptions
from finitewidth.theory.solution import Solution, applies, conditioned, warn_outside_validated
from finitewidth.theory.solver import Solver
from finitewidth.theory.validity import Validity, validity

_ASSESSED = 12  # rows up to which each has a validity


@dataclass(frozen=True)
class Row(Displayed):
    """One prediction of a learning curve; what did not converge has NaN errors and ``converged=False``.

    width: neurons of every hidden layer, or a tuple with one width a layer; at infinite width those of the network
    given, which make no difference. seconds: wall time of this row, the work that rows share being counted in the first
    one. mean_order_parameter: see ``Solution``. assessed: the solution without its matrices, from which ``validity``
    is computed; None where it does not apply or was not wanted. solver: "exact" or "krylov"; with the latter,
    solver_error is the estimated relative error of the test error that it causes, and log_evidence_error that of the
    log evidence in nats (99 % intervals).
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
    mean_order_parameter: float = math.nan
    assessed: Solution | None = field(default=None, repr=False, compare=False)
    solver: str = "exact"
    solver_error: float | None = None
    log_evidence_error: float | None = None

    @cached_property
    def validity(self) -> Validity | None:
        """What to expect of a prediction of the action (``theory/validity.py``): a second or so, when first read."""
        return None if self.assessed is None else validity(self.assessed)

    def _as_far_as_known(self) -> Self:
        """The same row; without its validity, where that has not been computed."""
        return self if "validity" in vars(self) else replace(self, assessed=None)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        columns = {name: getattr(self, name) for name in _COLUMNS}
        expected = None if self.validity is None else asdict(self.validity)
        return columns | {"order_parameters": list(self.order_parameters), "validity": expected}


@dataclass(frozen=True)
class LearningCurve(Tabulated):
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
        checks.choice("column", name, [*_COLUMNS, "validity"])
        return np.array([getattr(row, name) for row in self.rows])

    def to_dicts(self) -> list[dict[str, Any]]:
        """Plain data: ``pandas.DataFrame(curve.to_dicts())``."""
        return [row.to_dict() for row in self.rows]

    def to_pandas(self) -> Any:
        """A pandas.DataFrame with one line a row; the validity is in ``expected_relative_error`` and ``validity``.

        Raises MissingExtraError without pandas.
        """
        try:
            import pandas
        except ImportError as error:
            raise MissingExtraError("pandas", "table", "a data frame") from error
        return pandas.DataFrame([_flat(row) for row in self.to_dicts()])

    def _parts(self, quick: bool) -> Iterator[Any]:
        from finitewidth import tables

        if not self.rows:
            yield "A learning curve without rows."
            return
        rows, left_out = shortened(row._as_far_as_known() if quick else row for row in self.rows)
        yield tables.predictions(rows, self._heading)
        yield from tables.notes(rows)
        yield from left_out
        if any(row.assessed is not None and row._as_far_as_known() is not row for row in self.rows):
            yield "Validity: not yet computed for all rows; print(curve) does, a second or so a row."

    @property
    def _heading(self) -> str:
        first, *_ = self.rows
        layers = f"{first.depth} hidden layer" + ("s" if first.depth > 1 else "")
        sizes = ", ".join(map(str, dict.fromkeys(row.n_train for row in self.rows)))
        heat = ", ".join(f"{t:g}" for t in dict.fromkeys(row.temperature for row in self.rows))
        return f"Predicted errors, method {first.method}\n{layers}, {sizes} training points, T = {heat}"


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    found = row["validity"] or {"expected_relative_error": None, "statement": None}
    return row | {"expected_relative_error": found["expected_relative_error"], "validity": found["statement"]}


_COLUMNS = [field.name for field in fields(Row) if field.repr]


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
    assess: bool | None = None,
    solver: str | Solver = "auto",
) -> LearningCurve:
    """Predicted errors for every width (hidden layers all that wide), temperature and training-set size.

    ``widths=None`` keeps the network's own, ``n_train=None`` the whole training set; a size takes the first points.
    One factorisation serves all widths and temperatures of a size (in the nested closure of deep networks, the scan
    does); with method "neuron", whose options ``neuron`` holds, each solution starts where the last one ended.
    ``assess``: whether rows have a ``validity``, the expected relative error of the action, which takes a second or
    two each when it is first read or printed; None: where the curve has at most 12 rows.
    ``solver`` chooses between an eigendecomposition and a Krylov space for many points (``Solver``).
    Raises InputError for widths, temperatures or sizes that cannot be, MemoryCapError above ``memory``, which
    is a number of bytes or a text such as "8GB", and TimeCapError above ``fw.time_limit``.
    """
    checks.instance("network", network, Network, "write fw.FullyConnected(widths=100), for example")
    for name, part in (("train", train), ("test", test)):
        checks.instance(name, part, Dataset, "write fw.Dataset(x, y)")
    same_targets(train, test)
    cap = memory_cap(memory)
    temperatures = [checks.positive("temperature", t) for t in checks.one_or_more("temperature", temperature)]
    networks = [network] if widths is None else [network.with_width(w) for w in checks.sequence("widths", widths)]
    theories = [
        for_outputs(theory_of(net, t, closure, method, neuron, solver), train.n_outputs)
        for t in temperatures
        for net in networks
    ]
    sizes = None if n_train is None else _sizes(train, n_train)
    assess = len(theories) * len(sizes or [0]) <= _ASSESSED if assess is None else assess
    rows = []
    with rehearsal.watched(theories, train, test, sizes, cap) as solving:
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
    with arithmetic(train.n_points):
        shared = shared or theory.factorise(train, memory)
        solution = theory.solve(train, shared, memory)
    warn_outside_validated(solution, stacklevel=3)
    row = row_of(solution, test, started)
    if assess and applies(solution):
        row = replace(row, assessed=replace(solution, predictor=None, gradient=None))
    return row, shared


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
        mean_order_parameter=solution.mean_order_parameter,
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
