"""Choose by evidence: temperature and precisions by gradient, width, depth and activation from lists."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy import optimize

from finitewidth import checks
from finitewidth.checks.exceptions import InputError
from finitewidth.data import Dataset
from finitewidth.display import Displayed, Tabulated, shortened
from finitewidth.inference.likelihoods import Gaussian
from finitewidth.inference.methods import Method, Problem
from finitewidth.jobs.job import method_of
from finitewidth.networks import Network
from finitewidth.networks.scale import warn_of_scale
from finitewidth.theory.expansion.evidence import EvidenceSlope, by_depth
from finitewidth.theory.expansion.method import serves_all_widths
from finitewidth.theory.expansion.slopes import evidence_slope
from finitewidth.theory.methods import Infinite, with_exact
from finitewidth.theory.solution import TheorySolution
from finitewidth.theory.solver import EXACT
from finitewidth.theory.solving import TheoryMethod, solve

CONTINUOUS = ("temperature", "precision")
_COLUMNS = ("activation", "depth", "width", "temperature", "weight_precision", "log_evidence", "converged", "message")
_MOST_LAYERS = 1000
_STATED = 1000  # training points up to which print(selection) computes evidence slopes
_REACH = np.log(1e4)  # how far, in log, a continuous quantity may move from its start


@dataclass(frozen=True)
class Candidate(Displayed):
    """One line of the table a selection chose from; log_evidence in nats, at the optimised values."""

    network: Network
    temperature: float
    log_evidence: float
    converged: bool
    message: str

    @property
    def activation(self) -> str:
        """Names, as the table states them."""
        return self.network.activation_names

    @property
    def depth(self) -> int:
        """Number of hidden layers."""
        return self.network.depth

    @property
    def width(self) -> int | tuple[int, ...]:
        """Of every hidden layer, or one a layer."""
        return self.network.common_width

    @property
    def weight_precision(self) -> tuple[float, ...]:
        """Optimised, (L + 1,)."""
        return self.network.weight_precision

    @property
    def _cells(self) -> list[str]:
        precisions = " ".join(f"{p:.3g}" for p in self.weight_precision)
        place = [self.activation, str(self.depth), str(self.width), f"{self.temperature:.3g}"]
        return [*place, f"{self.log_evidence:.2f}", precisions, "yes" if self.converged else "no"]

    def _facts(self) -> dict[str, Any]:
        return self.to_dict()

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _COLUMNS}


@dataclass(frozen=True)
class Selection(Tabulated):
    """The best network and temperature by evidence, and every candidate, the best first; what was optimised."""

    network: Network
    temperature: float
    solution: TheorySolution
    table: tuple[Candidate, ...]
    optimised: tuple[str, ...] = ()

    @cached_property
    def limits(self) -> dict[int, Candidate]:
        """The best candidate of every depth tried, optimised anew at infinite width, where that converges."""
        found = {}
        for depth in sorted({row.depth for row in self.table if row.converged}):
            rows = [row for row in self.table if row.depth == depth and row.converged]
            alike = [row for row in rows if row.network.activations == rows[0].network.activations]
            start = max(alike, key=lambda row: row.network.widths)
            infinite = Infinite(solver=EXACT)
            _, found[depth] = _climb(start.network, self.solution.train, start.temperature, self.optimised, infinite)
        return {depth: row for depth, row in found.items() if row.converged}

    @cached_property
    def evidence_slopes(self) -> dict[int, EvidenceSlope]:
        """How the greatest log evidence of every depth leaves infinite width, exactly to first order in 1/N.

        It is that of ``limits``, for at their maximum what is optimised does not matter to first order. A second or so
        a depth, when first read. Empty where ``fw.first_order`` does not serve one of the networks, and with a
        mean-field readout, whose limit is another one.
        """
        train, found = self.solution.train, {}
        if not all(serves_all_widths(row.network, row.temperature, train.n_outputs) for row in self.table):
            return {}
        for depth, row in self.limits.items():
            with contextlib.suppress(InputError, np.linalg.LinAlgError):  # not finite, or more than there is memory for
                found[depth] = evidence_slope(row.network, train, row.temperature)
        return found

    @property
    def evidence_slope(self) -> EvidenceSlope | None:
        """Of the chosen depth: whether these data favour narrower or wider layers. None where it is not known."""
        return self.evidence_slopes.get(self.network.depth)

    @property
    def statements(self) -> list[str]:
        """Wider or narrower, and, where several depths were tried, deeper or shallower: one line each."""
        own, width = self.evidence_slope, self.network.widths[0]
        if own is None:
            return []
        return [
            f"Evidence slope at infinite width: {own.statement}; {own.reach(width)}.",
            *by_depth(self.evidence_slopes, width),
        ]

    def _parts(self, quick: bool) -> Iterator[Any]:
        from finitewidth.display.tables import filled

        columns = ("activation", "depth", "width", "T", "log evidence", "precisions", "converged")
        rows, left_out = shortened(self.table)
        yield filled("Candidates by evidence, the best first", columns, [row._cells for row in rows])
        yield from left_out
        known = "evidence_slopes" in vars(self)
        if known or not (quick or self.solution.train.n_points > _STATED):
            yield from self.statements


def select(
    network: Network,
    train: Dataset,
    temperature: float = 0.05,
    widths: Sequence[int] | None = None,
    activations: Sequence[str | Callable[[Any], Any]] | None = None,
    depths: Sequence[int] | None = None,
    optimise: Sequence[str] = CONTINUOUS,
    method: str | Method = "saddle",
) -> Selection:
    """The temperature, precisions, width, activation and depth of greatest evidence on the training set.

    Lists are tried one by one; for each, the quantities named in ``optimise`` ("temperature", "precision") climb the
    evidence gradient in logarithms from the given temperature and the network's precisions, within a factor 10^4.
    method: "saddle" or "infinite", or one of them with settings. No test data are used. Raises InputError for empty
    lists, unknown names, and methods without an evidence gradient.
    """
    temperature = checks.positive("temperature", temperature)
    chosen = method_of(method)
    if not isinstance(chosen, TheoryMethod) or chosen.name not in ("saddle", "infinite"):
        given = f"method = {chosen.name!r}"
        raise InputError(given, "a method with an evidence gradient", "use 'saddle' or 'infinite'")
    checks.instance("network", network, Network, "write fw.FullyConnected(widths=100), for example")
    checks.instance("train", train, Dataset, "write fw.Dataset(x, y)")
    warn_of_scale(network, train)
    named = checks.sequence("optimise", optimise, empty=True)
    names = [checks.choice("optimise", name, CONTINUOUS) for name in named]
    found = []
    for candidate in _candidates(network, widths, activations, depths):
        found.append(_climb(candidate, train, temperature, names, with_exact(chosen)))
    ranked = sorted(found, key=lambda item: -item[1].log_evidence if item[1].converged else np.inf)
    solution, best = ranked[0]
    if not best.converged:
        raise InputError(
            "candidates of which none converged", "at least one that does", "start from another temperature"
        )
    return Selection(best.network, best.temperature, solution, tuple(row for _, row in ranked), tuple(names))


def _candidates(network: Network, widths: Any, activations: Any, depths: Any) -> list[Network]:
    for name, values in (("widths", widths), ("activations", activations), ("depths", depths)):
        if values is not None:
            checks.sequence(name, values)
    out = []
    for depth in depths if depths is not None else [network.depth]:
        deep = _with_depth(network, checks.positive_integer("depth", depth))
        for activation in activations if activations is not None else [network.activation]:
            active = replace(deep, activation=activation)
            out += [active] if widths is None else [active.with_width(w) for w in widths]
    return out


def _with_depth(network: Network, depth: int) -> Network:
    """More or fewer layers: the first width and the middle precision are repeated."""
    if depth == network.depth:
        return network
    if depth > _MOST_LAYERS:
        raise InputError(f"depth = {depth}", f"at most {_MOST_LAYERS} hidden layers", "give depths=[1, 2], for example")
    if not network.kernel_recursion:
        raise InputError(f"depth = {depth}", "depth 1 for this architecture", "use FullyConnected for deep networks")
    first, *_, last = network.weight_precision
    inner = network.weight_precision[1] if network.depth > 1 else last
    precision = (first, *[inner] * (depth - 1), last)
    deep = network.widths[:1] * depth
    return replace(network, widths=deep, weight_precision=precision)  # type: ignore[call-arg]


def _climb(
    network: Network, train: Dataset, temperature: float, names: Sequence[str], method: TheoryMethod
) -> tuple[TheorySolution, Candidate]:
    """Maximise the log evidence over the logarithms of temperature and precisions."""
    start = np.log([temperature, *network.weight_precision])
    free = np.array(["temperature" in names, *["precision" in names] * (network.depth + 1)])

    def at(log_values: np.ndarray) -> tuple[Network, float, TheorySolution]:
        values = np.exp(log_values)
        net = network.with_precision(tuple(values[1:]))
        solution = solve(method.theory(Problem(net, Gaussian(float(values[0])))), train)
        return net, float(values[0]), solution

    def objective(moved: np.ndarray) -> tuple[float, np.ndarray]:
        full = start.copy()
        full[free] = moved
        _, t, solution = at(full)
        if not solution.converged:
            return np.inf, np.zeros(int(free.sum()))
        gradient = solution.evidence_gradient()
        log_gradient = np.concatenate([[gradient["temperature"] * t], gradient["weight_precision"] * np.exp(full[1:])])
        return -solution.log_evidence / train.n_points, -log_gradient[free] / train.n_points

    full, message = start.copy(), ""
    if free.any():
        bounds = [(value - _REACH, value + _REACH) for value in start[free]]
        result = optimize.minimize(objective, start[free], jac=True, method="L-BFGS-B", bounds=bounds)
        full[free] = result.x
        at_edge = [abs(x - low) < 1e-6 or abs(x - high) < 1e-6 for x, (low, high) in zip(result.x, bounds, strict=True)]
        message = "a value stopped at 10^4 times or 10^-4 times its start" if any(at_edge) else ""
    net, t, solution = at(full)
    return solution, Candidate(net, t, solution.log_evidence, solution.converged, message or solution.message)
