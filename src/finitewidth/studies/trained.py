"""Study ``trained``: networks trained by gradient descent and by Adam against their limits of infinite width.

At the standard scaling of the readout the limit of gradient descent is kernel regression with the NTK (Jacot et al.
2018; Lee et al. 2019), and the hidden kernel stays where it was; at the mean-field scaling it moves at any width (Mei,
Montanari and Nguyen 2018). Steps are short, a tenth of the largest curvature's inverse: with momentum, longer ones
oscillate, and leave the lazy regime at widths at which short ones are in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from finitewidth import features
from finitewidth.data import Dataset
from finitewidth.inference.prediction import Errors
from finitewidth.networks import Network
from finitewidth.report.findings import Bar, Cell, Claim, Findings, Panel, QMatrix, Series, Stop, Table
from finitewidth.studies.local_renormalisation import networks
from finitewidth.studies.study import FULL, Plan, Study, Work
from finitewidth.studies.theory_and_samples import Line, difference, measured, square, whole
from finitewidth.training import train
from finitewidth.training.ensemble import Ensemble, TrainedErrors, standard_error
from finitewidth.training.linearised import LazyTraining, lazy_training

SGD, ADAM, MEAN_FIELD = "SGD", "Adam", "SGD, mean-field"
RUNS = {SGD: "standard", ADAM: "standard", MEAN_FIELD: "mean-field"}  # scaling of the readout
MOMENTUM, STEP = 0.9, 0.1  # the step in units of the largest curvature's inverse
LAZY, STEADY = -0.5, -0.1  # exponents in the width: below the one a kernel stays where it was, above the other it moves
_SHORT = {"fully connected": "full", "convolutional": "conv."}


@dataclass(frozen=True)
class Trained(TrainedErrors):
    """An ensemble of one width: its errors, and what its hidden kernels did, each with its standard error.

    from_lazy: mean squared difference, on the test points, of every network from what lazy training makes of the very
    same initial network. distance: of the kernel from where it began. alignment: of the kernel with the labels.
    """

    from_lazy: float
    from_lazy_se: float
    distance: float
    distance_se: float
    angle: float
    angle_se: float
    alignment: float
    alignment_se: float
    order_parameters: tuple[float, ...]


@dataclass(frozen=True)
class Limits:
    """At infinite width: gradient flow (NTK) for as long as SGD trains, and to its end; the Bayesian posterior (NNGP).

    lazy, rate, time: the linearised networks, learning rate and time of SGD. alignment: of the hidden kernel with the
    labels.
    """

    lazy: LazyTraining
    rate: float
    time: float
    ntk: Errors
    end: Errors
    nngp: Errors
    alignment: float


@dataclass(frozen=True)
class Architecture:
    """One architecture trained in every way, over widths, and its limits."""

    name: str
    limits: Limits
    lines: dict[str, Line]


def compute(work: Work) -> Findings:
    """Both architectures, trained in every way over all widths."""
    plan, found = work.plan, []
    for name, network in networks(plan).items():
        if name in _SHORT:
            limits = _limits(work, network)
            found.append(Architecture(name, limits, {run: _line(work, name, network, run, limits) for run in RUNS}))
    lines = [line for one in found for line in one.lines.values()]
    lazy = [one.lines[run] for one in found for run in (SGD, ADAM)]  # lazy training is no limit of the mean field
    return Findings(
        claims=tuple(claim for one in found for claim in _claims(one)),
        tables=(_table(found, plan.temperature), _kernels(found)),
        panels=(
            *(_panel(one, plan) for one in found),
            _falling("From lazy training", "squared difference", lazy, "from_lazy"),
            _falling("Kernel distance travelled", "relative distance", lines, "distance"),
        ),
        slider=tuple(_stop(width, found) for width in plan.widths),
        notes=tuple(_remarks(lines)),
    )


def exponent(line: Line, quantity: str) -> tuple[float, float]:
    """Of a quantity in the width, between the two widest networks, and its standard error."""
    (narrow, one), (wide, two) = ((width, measured(row, quantity)) for width, row in [*line.sampled.items()][-2:])
    error = math.hypot(one[1] / one[0], two[1] / two[0])
    scale = math.log(wide / narrow)
    return math.log(two[0] / one[0]) / scale, error / scale


# --- training ---------------------------------------------------------------------------------------------------------


def _limits(work: Work, network: Network) -> Limits:
    plan, lazy = work.plan, lazy_training(network, work.train)
    prior = features.label_alignment(features.prior_hidden_kernel(network, work.train.x), work.train.y)
    rate = STEP / float(lazy.spectrum.values[-1])
    time = rate * plan.steps / (1.0 - MOMENTUM)
    ends = lazy.predict(work.test.x, time), lazy.predict(work.test.x), lazy.posterior(work.test.x, plan.temperature)
    ntk, end, nngp = (prediction.errors(work.test.y) for prediction in ends)
    return Limits(lazy, rate, time, ntk, end, nngp, prior)


def _line(work: Work, architecture: str, network: Network, run: str, limits: Limits) -> Line:
    plan = work.plan
    options: dict[str, Any] = {"optimiser": "sgd", "momentum": MOMENTUM, "learning_rate": limits.rate}
    if run == ADAM:
        options = {"optimiser": "adam"}
    line = Line(f"{_SHORT[architecture]}, {run}", {})
    for width in plan.widths:
        work.say(f"Training: {architecture}, {run}, width {width}")
        with work.jobs.one(width):
            ensemble = train(
                replace(network, readout=RUNS[run]).with_width(width),
                work.train,
                work.test,
                steps=plan.steps,
                seeds=range(plan.seed * plan.networks, (plan.seed + 1) * plan.networks),
                checkpoint=work.checkpoint(architecture, run, width),
                **options,
            )
        line.sampled[width] = _measured(whole(ensemble), limits.lazy, math.inf if run == ADAM else limits.time)
    return line


def _measured(ensemble: Ensemble, lazy: LazyTraining, time: float) -> Trained:
    aligned = np.array([features.label_alignment(kernel, ensemble.train.y) for kernel in ensemble.hidden_kernels()])
    away = distance_from_lazy(ensemble, lazy, time)
    return Trained(
        **vars(ensemble.errors()),
        from_lazy=float(np.mean(away)),
        from_lazy_se=standard_error(away),
        **vars(features.travelled(ensemble)),
        alignment=float(np.mean(aligned)),
        alignment_se=standard_error(aligned),
        order_parameters=tuple(map(float, np.ravel(ensemble.order_parameter))),
    )


def distance_from_lazy(ensemble: Ensemble, lazy: LazyTraining, time: float) -> np.ndarray:
    """Mean over test points of ``(f - f_lazy)^2`` for every network, (S,).

    ``f_lazy(x) = f_0(x) + Theta_xX Theta^-1 (1 - exp(-Theta t)) (y - f_0(X))`` with the network's own f_0 and the NTK
    of infinite width (Lee et al. 2019): what is left is the network's own kernel, and its motion.
    """
    data, test = ensemble.train, ensemble.test
    on, at = (ensemble.outputs(part.x, initial=True) for part in (data, test))
    left = Dataset(data.x, (data.y - on).T, classes=())  # one output a network: all are predicted at once
    moved = replace(lazy, train=left).predict(test.x, time).mean.reshape(len(test), -1).T
    difference: np.ndarray = ((ensemble.outputs(test.x) - at - moved) ** 2).mean(1)
    return difference


# --- claims -----------------------------------------------------------------------------------------------------------


def _claims(one: Architecture) -> Iterator[Claim]:
    yield from _claims_on_laziness(one.name, one.lines)
    yield from _claims_on_limits(one)
    yield from _claims_on_kernels(one.name, one.lines)
    yield from _claims_on_features(one)


def _claims_on_laziness(name: str, lines: dict[str, Line]) -> Iterator[Claim]:
    """Of the very same initial networks: does training them come near linearised training of them?"""
    widths = list(lines[SGD].sampled)
    first, last = widths[0], widths[-1]
    for run in (SGD, ADAM):
        rows = lines[run].sampled
        yield Claim.above(
            f"networks trained by {run} near lazy training of the same initial networks with width",
            f"{name}, widths {first} and {last}, mean squared difference, narrow - wide",
            *difference(rows[first], rows[last], "from_lazy"),
        )
    slope, error = exponent(lines[SGD], "from_lazy")
    yield Claim.equal(
        "the mean squared difference of SGD from lazy training falls as 1/N",
        f"{name}, widths {widths[-2]} to {last}, its exponent in N, + 1",
        slope + 1.0,
        error,
    )
    yield Claim.above(
        "the widest networks trained by Adam are farther from lazy training than those trained by SGD",
        f"{name}, width {last}, mean squared difference, Adam - SGD",
        *difference(lines[ADAM].sampled[last], lines[SGD].sampled[last], "from_lazy"),
    )


def _claims_on_limits(one: Architecture) -> Iterator[Claim]:
    """Have the widest networks the errors of infinitely wide ones? Adam trains to the end, SGD for its time."""
    for run, limit in ((SGD, one.limits.ntk), (ADAM, one.limits.end)):
        width, widest = [*one.lines[run].sampled.items()][-1]
        yield Claim.equal(
            f"the widest networks trained by {run} have the test error of the NTK limit",
            f"{one.name}, width {width}, trained - limit",
            *difference(widest, limit),
        )


def _claims_on_kernels(name: str, lines: dict[str, Line]) -> Iterator[Claim]:
    """How does the motion of the hidden kernel fall with width?"""
    for run in (SGD, ADAM):
        slope, error = exponent(lines[run], "distance")
        between = " to ".join(str(width) for width in [*lines[run].sampled][-2:])
        where = f"{name}, widths {between}, exponent of the kernel distance in N"
        yield Claim.below(
            f"trained by {run}, the hidden kernel moves less the wider the network is, faster than N^{LAZY:g}",
            *(where, slope, error, LAZY),
        )
        yield Claim.equal(f"trained by {run}, it moves as 1/N", f"{where}, + 1", slope + 1.0, error)
    yield Claim.above(
        f"at the mean-field scaling the hidden kernel moves at any width: falls slower than N^{STEADY:g}",
        f"{name}, SGD, exponent of the kernel distance in N",
        *(*exponent(lines[MEAN_FIELD], "distance"), STEADY),
    )


def _claims_on_features(one: Architecture) -> Iterator[Claim]:
    """What do the features that are learned at the mean-field scaling bring?"""
    width, wide = [*one.lines[SGD].sampled.items()][-1]
    field = one.lines[MEAN_FIELD].sampled[width]
    yield Claim.above(
        "features learned at the mean-field scaling are more aligned with the labels than those of the NTK regime",
        f"{one.name}, width {width}, alignment, mean-field - standard",
        *difference(field, wide, "alignment"),
    )
    yield Claim.above(
        "learning features pays: the test error at the mean-field scaling is below the NTK limit",
        f"{one.name}, width {width}, limit - trained",
        *difference(one.limits.end, field),
    )


# --- what is shown ----------------------------------------------------------------------------------------------------


def _table(found: list[Architecture], temperature: float) -> Table:
    names = ("test_error", "bias", "variance", "train_error")
    rows: list[tuple[Cell, ...]] = []
    for one in found:
        rows += _trained_rows(one, names)
        limits = {"NTK, as SGD": one.limits.ntk, "NTK, t = inf": one.limits.end}
        for what, errors in {**limits, f"NNGP, T = {temperature:g}": one.limits.nngp}.items():
            rows.append((_SHORT[one.name], what, None, *(getattr(errors, name) for name in names)))
    columns = ("network", "trained by", "N", "test error", "bias", "variance", "train error")
    return Table("Trained networks and their limits of infinite width", columns, tuple(rows))


def _trained_rows(one: Architecture, names: tuple[str, ...]) -> Iterator[tuple[Cell, ...]]:
    for run, line in one.lines.items():
        for width, row in line.sampled.items():
            yield (_SHORT[one.name], run, width, *(measured(row, name) for name in names))


def _kernels(found: list[Architecture]) -> Table:
    names = ("from_lazy", "distance", "angle", "alignment")
    rows = [row for one in found for row in _trained_rows(one, names)]
    rows += [(_SHORT[one.name], "prior", None, None, 0.0, 0.0, one.limits.alignment) for one in found]
    columns = ("network", "trained by", "N", "from lazy", "distance", "angle", "alignment")
    return Table(
        "Outputs: distance from lazy training; hidden kernels: distance from where they began, alignment with labels",
        *(columns, tuple(rows)),
    )


def _panel(one: Architecture, plan: Plan) -> Panel:
    series = [Series.of(run, "points", colour, line.sampled) for colour, (run, line) in enumerate(one.lines.items())]
    ends = plan.widths[0], plan.widths[-1]
    for colour, what, errors in ((6, "NTK limit", one.limits.ntk), (3, "NNGP limit", one.limits.nngp)):
        series.append(Series.of(what, "limit", colour, dict.fromkeys(ends, errors)))
    return Panel(one.name.capitalize(), "width N", "test error", tuple(series))


def _falling(title: str, y_label: str, lines: list[Line], quantity: str) -> Panel:
    """A quantity against width, and 1/N through the widest network of the first line."""
    series = [Series.of(line.name, "points", colour, line.sampled, quantity) for colour, line in enumerate(lines)]
    (*_, width), (*_, widest) = series[0].x, series[0].y
    if widest is not None:
        series.append(Series("1/N", "line", 6, series[0].x, tuple(widest * width / x for x in series[0].x)))
    return Panel(title, "width N", y_label, tuple(series), log_y=True)


def _stop(width: int, found: list[Architecture]) -> Stop:
    maps, bars = [], []
    for one in found:
        for run, line in one.lines.items():
            row, name = line.sampled[width], f"{one.name}, {run}"
            if math.isfinite(row.test_error):
                maps.append(QMatrix(name, square(row.order_parameters)))
                bars.append(Bar.of(name, row))
        bars.append(Bar.of(f"{one.name}, NTK limit", one.limits.ntk))
    return Stop(str(width), tuple(maps), tuple(bars))


def _remarks(lines: list[Line]) -> Iterator[str]:
    yield (
        "Trained on 1/2 sum (y - f)^2 without weight decay, from the prior. The NTK limit is gradient flow "
        "from initial networks alike, for the time that SGD takes (learning rate x steps / (1 - momentum)), or to its "
        "end. Adam is no gradient descent: nothing says that this limit is its own."
    )
    rows = [(line.name, width, row) for line in lines for width, row in line.sampled.items()]
    for name, width, row in rows:
        if not math.isfinite(row.test_error):
            yield f"NOT CONVERGED, no result: {name}, width {width}: {row.message}"
    if moving := sum(not row.converged for _, _, row in rows):
        yield (
            f"In {moving} of {len(rows)} runs the objective still moved by more than 1 per cent of its end in the "
            "second half; how little was left of it, the train errors in the table say."
        )


STUDY = Study(
    name="trained",
    question=(
        "Do networks trained by gradient descent and by Adam go to the NTK limit with growing width, how far do their "
        "hidden kernels move, and does moving them pay?"
    ),
    small=Plan(classes=(3, 8), temperatures=(0.01,), widths=(16, 64, 256), steps=300, networks=12),
    full=replace(
        FULL, temperatures=(0.01,), widths=(32, 128, 512, 2048), steps=2000, networks=16, patch=7, stride=7, side=28
    ),
    compute=compute,
    images=True,
    runs=lambda plan: 2 * len(RUNS) * sum(plan.widths),
)
