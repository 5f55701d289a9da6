"""Study ``transfer``: two tasks with coupled first layers, learned together or the source first (Ingrosso et al. 2025).

The target task has a few of the training points, the source task all others. Beside this source of the same task stand
one of related classes, where the data have more, and a control: the same points with their labels shuffled. Coupling
changes the prior of the target's weights too, so that the control is what a source is held to, not only no source.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from finitewidth.checks.exceptions import InputError
from finitewidth.curves import learning_curve
from finitewidth.data import Dataset, load
from finitewidth.data.loaders import BUILT_IN
from finitewidth.inference.prediction import Errors
from finitewidth.networks import FullyConnected, Network
from finitewidth.networks.coupled import Coupled, Joint, SourceFirst
from finitewidth.report.findings import Bar, Cell, Claim, Findings, Panel, QMatrix, Series, Stop, Table
from finitewidth.sampling.draws import SampledErrors
from finitewidth.sampling.transfer import sample_following, sample_joint, sample_source
from finitewidth.studies.study import FULL, Plan, Study, Work
from finitewidth.studies.theory_and_samples import draw
from finitewidth.theory.transfer import TransferSolution, transfer

TOLERANCE = 0.1  # relative error up to which a prediction counts as right
SAME, SHUFFLED = "same task", "shuffled labels"
WIDTHS = (10, 20, 40, 80, 160, 320)  # of the table of gains


@dataclass(frozen=True)
class Protocol:
    """How two tasks are learned. of: the coupled networks of a prior correlation."""

    name: str
    title: str
    of: Callable[[Network, float], Coupled]


def _at_fixed_variance(network: Network, correlation: float) -> Joint:
    """Learned together, at a precision that keeps the prior variance of the weights what it is without coupling."""
    inner, readout = network.weight_precision
    return Joint.of_correlation(network.with_precision((inner / (1.0 - correlation**2), readout)), correlation)


TOGETHER = Protocol("together", "Learned together", Joint.of_correlation)
FIXED_VARIANCE = Protocol("variance kept", "Together, prior variance kept", _at_fixed_variance)
FIRST = Protocol("source first", "Source first", SourceFirst.of_correlation)
PROTOCOLS = (TOGETHER, FIXED_VARIANCE, FIRST)


@dataclass(frozen=True)
class Point:
    """Sampled target networks: errors, and the overlap of readouts between the tasks with its standard error."""

    errors: SampledErrors
    cross: tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """One protocol with one source: theory over correlations, samples at some of them."""

    protocol: Protocol
    source: str
    theory: dict[float, tuple[TransferSolution, Errors]]
    sampled: dict[float, Point]


def compute(work: Work) -> Findings:
    """All protocols with all sources, at the first sampled width."""
    plan = work.plan
    network = FullyConnected(widths=plan.sampled[0], activation=plan.activation)
    target, sources = tasks(work)
    more = replace(plan, draws=2 * plan.draws)  # few points, and what every claim is held to
    alone = draw(replace(work, train=target, plan=more), "target alone", network, plan.temperature)
    limits = {p: tuple(_limit(work, p.of(network, rho), target) for rho in _grid(plan)) for p in PROTOCOLS}
    found = [_curve(work, p, network, sources, name, target) for p in PROTOCOLS for name in sources]
    zero = alone.row
    return Findings(
        claims=tuple(_claims(found, zero, limits)),
        tables=(_errors(found, zero), _inside(found), _gains(work, network, sources, target)),
        panels=(
            *(_panel(p, [c for c in found if c.protocol is p], zero, limits[p]) for p in PROTOCOLS),
            _overlaps([c for c in found if c.protocol is FIRST]),
        ),
        slider=tuple(_stops(found, _grid(plan))),
        slider_label="prior correlation of the first layers",
        notes=(*_remarks(found, zero), _design(work, target, sources)),
    )


def _grid(plan: Plan) -> tuple[float, ...]:
    """Correlations at which the theory is solved."""
    return tuple(sorted({*plan.correlations, *plan.sampled_correlations}))


# --- tasks ------------------------------------------------------------------------------------------------------------


def tasks(work: Work) -> tuple[Dataset, dict[str, Dataset]]:
    """The target's training points, and every source by name.

    Raises InputError where the training points do not leave a source, or the target has a single label.
    """
    plan, train = work.plan, work.train
    if len(train) <= plan.n_target:
        raise InputError(
            f"{len(train)} training points, of which {plan.n_target} are the target's",
            f"more than {plan.n_target}, the others are the source's",
            "give more training points (--n-train)",
        )
    target, same = train[: plan.n_target], train[plan.n_target :]
    if np.ptp(target.y) == 0.0:
        raise InputError(
            f"{plan.n_target} points of the target task with one label", "points of both classes", "give another --seed"
        )
    sources = {SAME: same}
    if work.source in BUILT_IN and train.classes is not None:
        other = next(pair for pair in (plan.related, (3, 8)) if set(pair) != set(plan.classes))
        related, _ = load(work.source, classes=other, n_train=len(same), n_test=1, seed=plan.seed)
        sources[f"related ({other[0]}, {other[1]})"] = related
    shuffled = np.random.default_rng(plan.seed).permutation(same.y)
    return target, sources | {SHUFFLED: Dataset(same.x, shuffled, classes=())}


def _design(work: Work, target: Dataset, sources: dict[str, Dataset]) -> str:
    counts = ", ".join(f"{name}: {len(source)} points" for name, source in sources.items())
    return (
        f"Target: the first {len(target)} training points. Sources: {counts}; the same task has the other training "
        "points. Together: fixed precision, so that the coupling also raises the prior variance of the weights, by "
        "1/(1 - correlation^2); variance kept: together, at a precision that undoes this. At infinite width no source "
        "has an effect: that line shows what the coupling does to the prior alone."
    )


# --- theory and samples -----------------------------------------------------------------------------------------------


def _limit(work: Work, coupled: Coupled, target: Dataset) -> float:
    """Test error at infinite width: the Gaussian process of the target's own prior."""
    precision = (1.0 / float(coupled.covariance[1, 1]), coupled.network.weight_precision[1])
    network = coupled.network.with_precision(precision)
    return learning_curve(network, target, work.test, None, work.plan.temperature, method="infinite")[0].test_error


def _curve(
    work: Work, protocol: Protocol, network: Network, sources: dict[str, Dataset], name: str, target: Dataset
) -> Curve:
    plan, t = work.plan, work.plan.temperature
    work.say(f"Solving: {protocol.name}, source {name}")
    theory = {}
    for rho in _grid(plan):
        solution = transfer(protocol.of(network, rho), sources[name], target, t)
        theory[rho] = solution, solution.predict(work.test.x).errors(work.test.y)
    draws = _follow if protocol is FIRST else _together
    return Curve(protocol, name, theory, draws(work, protocol, network, sources[name], name, target))


def _place(work: Work, *words: str) -> Path:
    work.checkpoints.mkdir(exist_ok=True)
    return (
        work.checkpoints / f"{'-'.join(words).replace(' ', '-').replace(',', '').replace('(', '').replace(')', '')}.npz"
    )


def _together(
    work: Work, protocol: Protocol, network: Network, source: Dataset, name: str, target: Dataset
) -> dict[float, Point]:
    plan, found = work.plan, {}
    for rho in plan.sampled_correlations:
        work.say(f"Sampling: {protocol.name}, source {name}, correlation {rho:g}")
        coupled = protocol.of(network, rho)
        assert isinstance(coupled, Joint)
        draws = sample_joint(
            *(coupled, source, target, work.test, plan.temperature),
            chains=plan.chains,
            draws=plan.draws,
            warmup=plan.warmup,
            seed=plan.seed,
            checkpoint=_place(work, protocol.name, name, f"{rho:g}"),
        )
        if not draws.complete:  # the checkpoint is written: the same command goes on
            raise KeyboardInterrupt
        q = draws.observable("order_parameter")
        found[rho] = Point(draws.errors(work.test.y), (float(q.mean[0, 1]), float(q.standard_error[0, 1])))
    return found


def _follow(
    work: Work, protocol: Protocol, network: Network, source: Dataset, name: str, target: Dataset
) -> dict[float, Point]:
    plan = work.plan
    work.say(f"Sampling: source {name} alone")
    layers = sample_source(
        *(network, source, target, work.test, plan.temperature),
        sources=plan.networks,
        chains=plan.chains,
        warmup=plan.warmup,
        seed=plan.seed,
        checkpoint=_place(work, "layers", name),
    )
    found = {}
    for rho in plan.sampled_correlations:
        work.say(f"Sampling: targets that follow source {name}, correlation {rho:g}")
        coupled = protocol.of(network, rho)
        assert isinstance(coupled, SourceFirst)
        draws = sample_following(
            coupled,
            layers,
            warmup=plan.warmup,
            seed=plan.seed,
            checkpoint=_place(work, protocol.name, name, f"{rho:g}").with_suffix(""),
        )
        found[rho] = Point(draws.errors(work.test.y), draws.order_parameter("cross"))
    return found


# --- claims -----------------------------------------------------------------------------------------------------------


def _claims(found: list[Curve], zero: Any, limits: dict[Protocol, tuple[float, ...]]) -> Iterator[Claim]:
    for protocol in PROTOCOLS:
        curves = {curve.source: curve for curve in found if curve.protocol is protocol}
        strongest = max(curves[SAME].sampled)
        control = curves[SHUFFLED].sampled[strongest].errors
        for name, curve in curves.items():
            for rho, point in curve.sampled.items():
                mine = point.errors
                gain = zero.test_error - mine.test_error, math.hypot(zero.test_error_se, mine.test_error_se)
                where = f"{protocol.name}, correlation {rho:g}, test error sampled, without - with the source"
                if name == SHUFFLED and rho == strongest:
                    yield Claim.below("a source with shuffled labels does not help", where, *gain)
                elif name != SHUFFLED:
                    yield Claim.above(f"a source helps: {name}", where, *gain)
                if name != SHUFFLED and rho == strongest:
                    yield Claim.above(
                        f"the labels of the source help, not the change of the prior alone: {name}",
                        f"{protocol.name}, correlation {rho:g}, sampled, shuffled labels - its own",
                        control.test_error - mine.test_error,
                        math.hypot(control.test_error_se, mine.test_error_se),
                    )
        sample, (_, predicted) = curves[SAME].sampled[strongest].errors, curves[SAME].theory[strongest]
        limit = limits[protocol][list(curves[SAME].theory).index(strongest)]
        yield Claim.above(
            "the theory is nearer to the sampled network than infinite width is, where no source has an effect",
            f"{protocol.name}, {SAME}, correlation {strongest:g}, distance of the limit - distance of the theory",
            abs(limit - sample.test_error) - abs(predicted.test_error - sample.test_error),
            2.0 * sample.test_error_se,  # the largest slope of that difference in the sampled error
        )
        worst = max((_off(curve, rho) for curve in curves.values() for rho in curve.sampled), key=lambda part: part[1])
        yield Claim.below(
            f"the theory gives the test error within {100 * TOLERANCE:.0f} %",
            f"{protocol.name}, farthest: {worst[0]}, |theory / sample - 1|",
            worst[1],
            worst[2],
            TOLERANCE,
        )


def _off(curve: Curve, rho: float) -> tuple[str, float, float]:
    """Name, relative error of the theory, and its standard error from the samples."""
    sample = curve.sampled[rho].errors
    ratio = curve.theory[rho][1].test_error / sample.test_error
    return f"{curve.source}, correlation {rho:g}", abs(ratio - 1.0), ratio * sample.test_error_se / sample.test_error


# --- what is shown ----------------------------------------------------------------------------------------------------


def _errors(found: list[Curve], zero: Any) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            "alone",
            "none",
            "0",
            "0",
            found[0].theory[0.0][1].test_error,
            (zero.test_error, zero.test_error_se),
            zero.r_hat,
        )
    ]
    for curve in found:
        for rho, point in curve.sampled.items():
            (solution, errors), s = curve.theory[rho], point.errors
            named = (curve.protocol.name, curve.source, f"{rho:g}", f"{solution.coupled.coupling:.3g}")
            rows.append((*named, errors.test_error, (s.test_error, s.test_error_se), s.r_hat))
    columns = ("learned", "source", "corr.", "g", "theory", "sampled", "R-hat")
    return Table("Test error of the target: theory beside samples", columns, tuple(rows))


def _inside(found: list[Curve]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for curve in found:
        for rho, point in curve.sampled.items():
            (solution, errors), s = curve.theory[rho], point.errors
            train = (errors.train_error, (s.train_error, s.train_error_se))
            rows.append(
                (curve.protocol.name, curve.source, f"{rho:g}", *train, solution.order_parameters["cross"], point.cross)
            )
    columns = ("learned", "source", "corr.", "train theory", "train sampled", "overlap theory", "overlap sampled")
    return Table("Train error of the target, and overlap of the readouts of both tasks", columns, tuple(rows))


def _gains(work: Work, network: Network, sources: dict[str, Dataset], target: Dataset) -> Table:
    """What the theory says of the labels of the source, at every width and the strongest sampled coupling."""
    t, rho = work.plan.temperature, max(work.plan.sampled_correlations)

    def error(protocol: Protocol, width: int, name: str) -> float | None:
        solution = transfer(protocol.of(network.with_width(width), rho), sources[name], target, t)
        return solution.predict(work.test.x).errors(work.test.y).test_error if solution.converged else None

    rows: list[tuple[Cell, ...]] = []
    for width in WIDTHS:
        gains: list[Cell] = []
        for protocol in PROTOCOLS:
            pair = error(protocol, width, SHUFFLED), error(protocol, width, SAME)
            gains.append(None if pair[0] is None or pair[1] is None else pair[0] - pair[1])
        rows.append((width, *gains))
    title = f"Test error that the labels of the {SAME} take away, theory, correlation {rho:g}"
    return Table(title, ("width", *(p.name for p in PROTOCOLS)), tuple(rows))


def _panel(protocol: Protocol, found: list[Curve], zero: Any, limit: tuple[float, ...]) -> Panel:
    series = []
    for colour, curve in enumerate(found):
        series += [_line(curve, colour, lambda s, e: e.test_error), _points(curve, colour, zero)]
    series.append(Series("infinite width", "limit", len(found), tuple(found[0].theory), limit))
    return Panel(protocol.title, "prior correlation", "test error of the target", tuple(series), log_x=False)


def _line(curve: Curve, colour: int, value: Callable[[TransferSolution, Errors], float]) -> Series:
    y = tuple(value(s, e) if s.converged else None for s, e in curve.theory.values())
    return Series(f"{curve.source}, theory", "line", colour, tuple(curve.theory), y)


def _points(curve: Curve, colour: int, zero: Any) -> Series:
    rows = [(0.0, zero.test_error, zero.test_error_se)]
    rows += [(rho, p.errors.test_error, p.errors.test_error_se) for rho, p in curve.sampled.items()]
    x, y, se = zip(*rows, strict=True)
    return Series(f"{curve.source}, sampled", "points", colour, x, y, se)


def _overlaps(found: list[Curve]) -> Panel:
    series = []
    for colour, curve in enumerate(found):
        series.append(_line(curve, colour, lambda s, e: s.order_parameters["cross"]))
        x, y, se = zip(*((rho, *point.cross) for rho, point in curve.sampled.items()), strict=True)
        series.append(Series(f"{curve.source}, sampled", "points", colour, x, y, se))
    return Panel("Source first: overlap r", "prior correlation", "overlap of readouts", tuple(series), log_x=False)


def _stops(found: list[Curve], grid: tuple[float, ...]) -> Iterator[Stop]:
    for rho in grid:
        maps, bars = [], []
        for curve in found:
            solution, errors = curve.theory[rho]
            if not solution.converged:
                continue
            name = f"{curve.protocol.name}, {curve.source}"
            q = solution.order_parameters
            if curve.source != SHUFFLED:
                maps.append(QMatrix(name, ((q["source"], q["cross"]), (q["cross"], q["target"]))))
            bars.append(Bar(f"{name}, theory", errors.bias, errors.variance))
            if rho in curve.sampled:
                s = curve.sampled[rho].errors
                bars.append(Bar(f"{name}, sampled", s.bias, s.variance, s.test_error_se))
        yield Stop(f"{rho:g}", tuple(maps), tuple(bars))


def _remarks(found: list[Curve], zero: Any) -> Iterator[str]:
    warning = "NOT CONVERGED, what rests on it is not certain"
    if not zero.converged:
        yield f"{warning}: the target alone, samples: {zero.message}"
    for curve in found:
        where = f"{curve.protocol.name}, source {curve.source}"
        for rho, (solution, _) in curve.theory.items():
            if not solution.converged:
                yield f"{warning}: {where}, correlation {rho:g}, theory: {solution.message}"
        for rho, point in curve.sampled.items():
            if not point.errors.converged:
                yield f"{warning}: {where}, correlation {rho:g}, samples: {point.errors.message}"


STUDY = Study(
    name="transfer",
    question=(
        "When does a source task help a target task with few points whose first layer is coupled to the source's, "
        "learned together or the source first, against the strength of the coupling?"
    ),
    small=Plan(temperatures=(0.1,), n_train=100, sampled=(20,), draws=400, networks=48),
    full=replace(FULL, temperatures=(0.05,), n_target=50, sampled=(50,), networks=200),
    compute=compute,
    runs=lambda plan: 1.0,  # the target alone; what is coupled estimates itself, run by run
)
