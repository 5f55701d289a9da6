"""``first_order``: exact slopes in 1/N at infinite width of errors and evidence, on given data."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from finitewidth import checks
from finitewidth.data import Dataset
from finitewidth.display import Displayed
from finitewidth.inference.prediction import Errors
from finitewidth.linalg import arithmetic, require_memory
from finitewidth.networks import Network
from finitewidth.runs.progress import progress_bar
from finitewidth.theory.expansion.evidence import EvidenceSlope, Slope
from finitewidth.theory.expansion.functionals import (
    Functional,
    InfiniteWidth,
    dense,
    evidence_of,
    functionals,
)
from finitewidth.theory.expansion.layers import EVIDENCE, LastLayer, Layer, LowerLayer
from finitewidth.theory.expansion.neurons import Neurons
from finitewidth.theory.expansion.recursion import covariances, derivatives_from_top

if TYPE_CHECKING:
    from finitewidth.theory.solution import Theory

Array = np.ndarray
_ENTRIES = 300_000  # preactivations of a batch
_FEWEST = 16  # batches of a layer before its standard error is believed


@dataclass(frozen=True)
class FirstOrderSlopes(Displayed):
    """What ``fw.first_order`` returns: every error is ``infinite + slope / N`` for wide networks, on these data.

    N is the width of the first hidden layer; the others keep their proportion to it. accuracy: None where targets are
    no labels. by_layer: of the test error, what each layer adds, its own N the unit. action, action_evidence: slopes of
    the errors and the log evidence of the action's saddle, which are not exact. neurons: drawn, a layer. met: whether
    the standard error wanted was reached.
    """

    network: Network
    temperature: float
    n_train: int
    test_error: Slope
    bias: Slope
    variance: Slope
    train_error: Slope
    accuracy: Slope | None
    evidence_slope: EvidenceSlope
    by_layer: tuple[Slope, ...]
    action: Errors = field(repr=False)
    action_evidence: float = field(repr=False)
    neurons: tuple[int, ...]
    met: bool

    def missed(self, name: str, width: float) -> float:
        """What an error of the action misses at a width, to first order, in the unit of that error."""
        return float(getattr(self, name).slope - getattr(self.action, name)) / width

    def action_error(self, width: int | None = None) -> float:
        """Leading relative error of the action's test error at a width, ``(action - exact) / exact``, to first order.

        width: N of the first hidden layer, None: the network's own.
        """
        width = self.network.widths[0] if width is None else checks.positive_integer("width", width)
        return -self.missed("test_error", width) / self.test_error.infinite


class Effort(NamedTuple):
    """What slopes may cost: see ``first_order``; memory in bytes."""

    tolerance: float
    neurons: int
    seed: int = 0
    memory: float | None = None
    progress: bool = False


def slopes_of(theory: Theory[Any], train: Dataset, test: Dataset, effort: Effort) -> FirstOrderSlopes:
    """The exact slopes and those of a theory of the action, for its network and temperature; see ``first_order``."""
    network = theory.network
    what = f"the first order on {train.n_points} and {test.n_points} points"
    require_memory(memory_estimate(network, train, test), what, "use fewer points, or a larger cap", effort.memory)
    with arithmetic(train.n_points):
        state = InfiniteWidth.of(network, theory.temperature, train, test)
        pieces = functionals(state)
        batches, drawn, met = averages(state, effort, pieces)
        action, action_evidence = action_slopes(theory, state)

    def slope(*names: str, layers: Sequence[Array] = batches) -> Slope:
        chosen = [f.name in names for f in pieces]
        unit = 1.0 if "accuracy" in names else train.encoding.unit**2  # errors are in the user's own units
        infinite = unit * sum(f.value for f in pieces if f.name in names)
        parts = [unit * layer[:, chosen].sum(1) for layer in layers]
        return Slope(infinite, sum(float(p.mean()) for p in parts), math.hypot(*(_standard_error(p) for p in parts)))

    return FirstOrderSlopes(
        network,
        state.temperature,
        state.n_train,
        test_error=slope("bias", "variance"),
        bias=slope("bias"),
        variance=slope("variance"),
        train_error=slope("train_bias", "train_variance"),
        accuracy=slope("accuracy") if any(f.name == "accuracy" for f in pieces) else None,
        evidence_slope=_evidence_slope(state, pieces, batches),
        by_layer=tuple(slope("bias", "variance", layers=[batch]) for batch in _own(state, batches)),
        action=action,
        action_evidence=action_evidence,
        neurons=tuple(drawn),
        met=met,
    )


_KEPT = 16  # the latest; each is a few hundred numbers
_recent: dict[Hashable, FirstOrderSlopes] = {}


def recent_slopes(
    theory: Theory[Any], train: Dataset, test: Dataset, effort: Effort, network: Network | None = None
) -> FirstOrderSlopes:
    """What ``slopes_of`` gives, with the standard readout; computed once for a curve, its validity and its figure.

    network: another one than the theory's, on the same data.
    """
    network = standard_readout(theory.network if network is None else network)
    data = tuple((part.fingerprint(), part.encoding.unit) for part in (train, test))
    key = (type(theory), theory.closure, family(network), theory.temperature, data, effort[:3])
    found = _recent.pop(key, None)
    if found is None:
        found = slopes_of(theory.with_network(network), train, test, effort)
    _recent[key] = found
    while len(_recent) > _KEPT:
        _recent.pop(next(iter(_recent)), None)
    return replace(found, network=network)


def family(network: Network) -> Hashable:
    """Equal for networks whose slopes are the same: that differ in width, the layers keeping their proportions."""
    return network.with_width(1), proportions(network.widths)


def proportions(widths: Sequence[int]) -> tuple[float, ...]:
    """Of every layer to the first."""
    return tuple(width / widths[0] for width in widths)


def standard_readout(network: Network) -> Network:
    """The same prior with the standard readout: of a mean-field one, lambda_L is N lambda_L at its width."""
    if network.readout == "standard":
        return network
    precision = (*network.weight_precision[:-1], network.readout_precision)
    return replace(network, readout="standard", weight_precision=precision)


def memory_estimate(network: Network, train: Dataset, test: Dataset) -> float:
    """Bytes: derivatives of pairs of points in lower layers, gradients, and a batch of neurons."""
    points, P = train.n_points + test.n_points, train.n_points
    pairs = 40 if network.depth > 1 else 10
    return 8.0 * (pairs * points * P + (4 + network.depth) * points**2 + 12 * _ENTRIES)


_FAR = 1e4  # widths at which the action's slope is read off: order parameters differ from 1 by 1e-4


def action_slopes(theory: Theory[Any], state: InfiniteWidth) -> tuple[Errors, float]:
    """N (F(N) - F) of a theory of the action at N -> infinity: of its errors, and of its log evidence in nats.

    Extrapolated from two widths at which order parameters differ from 1 by 1e-4 and less.
    """
    train, test, gram = state.train, state.test, state.kernel[: state.n_train]
    # how far N (Q - 1) is from zero at infinite width, a layer: y A^-1 K A^-1 y - tr(A^-1 K)
    shift = float(np.vdot(state.a, gram @ state.a)) - float(np.trace(state.gram.solve_range(gram)))
    fitting = theory.for_outputs(train.n_outputs)
    network = fitting.network
    scale = max(1, round(_FAR * max(1.0, abs(shift) * network.depth) / network.widths[0]))
    wide = [
        fitting.with_network(network.with_widths([times * width for width in network.widths]))
        for times in (scale, 2 * scale)
    ]
    shared = wide[0].factorise(train) if wide[0].sharing is not None else None
    limit = _numbers(state.prediction.errors(test.y), state.log_evidence)
    found = []
    for one in wide:
        solution = one.solve(train, shared)
        value = _numbers(solution.predict(test.x).errors(test.y), solution.log_evidence)
        found.append(one.network.widths[0] * (value - limit))
    test_error, bias, variance, accuracy, train_error, evidence = map(float, 2.0 * found[1] - found[0])
    return Errors(test_error, bias, variance, None if math.isnan(accuracy) else accuracy, train_error), evidence


def _numbers(errors: Errors, log_evidence: float) -> Array:
    return np.array([math.nan if value is None else value for value in (*asdict(errors).values(), log_evidence)])


def _own(state: InfiniteWidth, batches: Sequence[Array]) -> list[Array]:
    """Batches of every layer, in the unit of its own width instead of the first layer's."""
    widths = state.network.widths
    return [batch * (width / widths[0]) for batch, width in zip(batches, widths, strict=True)]


def _evidence_slope(state: InfiniteWidth, pieces: Sequence[Functional], batches: Sequence[Array]) -> EvidenceSlope:
    column = [f.name for f in pieces].index(EVIDENCE)
    shares = [batch[:, column] for batch in batches]
    alone = [batch[:, column] for batch in _own(state, batches)]
    return EvidenceSlope(
        state.log_evidence,
        sum(float(share.mean()) for share in shares),
        math.hypot(*map(_standard_error, shares)),
        tuple(float(share.mean()) for share in alone),
        tuple(map(_standard_error, alone)),
    )


def evidence_slope(
    network: Network, train: Dataset, temperature: float, neurons: int | None = None, seed: int = 0
) -> EvidenceSlope:
    """The slope of the log evidence alone, which asks for no test points; for the networks of ``first_order``.

    neurons: drawn, a layer; None: 20,000, of more than 300 points so many fewer that it stays a matter of seconds.
    Raises InputError where the Gaussian process is not finite, MemoryCapError beforehand.
    """
    one, P = train.subset([0]), train.n_points  # stands in for test points
    require_memory(memory_estimate(network, train, one), f"the evidence slope on {P} points", "use fewer points")
    most = max(4_000, int(20_000 * min(1.0, (300 / P) ** 2))) if neurons is None else neurons
    with arithmetic(P):
        state = InfiniteWidth.of(standard_readout(network), temperature, train, one)
        pieces = [evidence_of(state)]
        batches, _, _ = averages(state, Effort(0.0, most, seed), pieces)
    return _evidence_slope(state, pieces, batches)


def _standard_error(batch_means: Array) -> float:
    return float(np.std(batch_means, ddof=1)) / math.sqrt(len(batch_means))


def averages(state: InfiniteWidth, effort: Effort, pieces: Sequence[Functional]) -> tuple[list[Array], list[int], bool]:
    """Batches of the slopes of every layer, (batches, F) each, until the test error's is known to the tolerance.

    pieces: what is expanded; where no test error is among them, as many neurons are drawn as may be.
    """
    layers, most = layers_of(state, pieces), effort.neurons
    generators = np.random.default_rng(effort.seed).spawn(len(layers))
    shares = [state.network.widths[0] / width for width in state.network.widths]
    error = np.array([f.name in ("bias", "variance") for f in pieces], dtype=float)
    size = sum(f.value for f in pieces if f.name in ("bias", "variance"))
    goal = effort.tolerance * size * state.n_train
    batches: list[list[Array]] = [[] for _ in layers]
    drawn = [0] * len(layers)
    spread = [math.inf] * len(layers)
    counts = [max(16, min(most // _FEWEST, _ENTRIES // math.prod(layer.neurons.rows.shape[:2]))) for layer in layers]
    with progress_bar(effort.progress, "layer 1", sum(most // count for count in counts), 0) as advance:
        while True:
            open_layers = [k for k, count in enumerate(drawn) if count + counts[k] <= most]
            fresh = [k for k in open_layers if len(batches[k]) < _FEWEST]
            met = math.hypot(*spread) <= goal
            if not fresh and (met or not open_layers):
                break
            k = fresh[0] if fresh else max(open_layers, key=lambda k: spread[k] ** 2 / (drawn[k] * layers[k].cost))
            batches[k].append(shares[k] * layers[k].average(counts[k], generators[k]))
            drawn[k] += counts[k]
            advance(f"layer {k + 1}")
            if len(batches[k]) >= 2:
                spread[k] = float(np.std([b @ error for b in batches[k]], ddof=1)) / math.sqrt(len(batches[k]))
    return [np.array(b) for b in batches], drawn, met


def layers_of(state: InfiniteWidth, pieces: Sequence[Functional]) -> list[Layer]:
    """Hidden layers 1 .. L."""
    network, evidence = state.network, next(f for f in pieces if f.name == EVIDENCE)
    gradient, _ = dense(evidence.first, state.n_train, state.n_train)
    if network.depth == 1:
        neurons = Neurons.first_layer(state).towards(gradient)
        return [LastLayer(state, neurons, pieces)]
    found = covariances(network, state.x)
    layers: list[Layer] = []
    for layer, above in derivatives_from_top(network, found, state.n_train):
        neurons = Neurons.first_layer(state) if layer == 1 else Neurons.above(network, found[layer - 1], layer)
        neurons = neurons.towards(above.pulled_back(gradient))
        if layer == network.depth:
            layers.append(LastLayer(state, neurons, pieces))
        else:
            own = found[layer] - network.offset_variance
            layers.append(LowerLayer(state, neurons, pieces, above, own))
    return layers[::-1]
