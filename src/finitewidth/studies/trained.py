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
from finitewidth.networks import Convolutional, FullyConnected, Network
from finitewidth.report.findings import Bar, Cell, Claim, Findings, Panel, QMatrix, Series, Stop, Table
from finitewidth.studies.study import FULL, Plan, Study, Work
from finitewidth.studies.theory_and_samples import square
from finitewidth.training import train
from finitewidth.training.ensemble import Ensemble, TrainedErrors, standard_error
from finitewidth.training.linearised import LazyTraining, lazy_training

SGD, ADAM, MEAN_FIELD = "SGD", "Adam", "SGD, mean-field"
RUNS = {SGD: "standard", ADAM: "standard", MEAN_FIELD: "mean-field"}  # scaling of the readout
MOMENTUM, STEP = 0.9, 0.1  # the step in units of the largest curvature's inverse
LAZY, STEADY = -0.5, -0.1  # exponents in the width: below the one a kernel stays where it was, above the other it moves
_SHORT = {"fully connected": "full", "convolutional": "conv."}


@dataclass(frozen=True)
class Trained:
    """An ensemble of one width: its errors, and what its hidden kernels did, each with its standard error.

    from_lazy: mean squared difference, on the test points, of every network from what lazy training makes of the very
    same initial network.
    """

    width: int
    errors: TrainedErrors
    from_lazy: tuple[float, float]
    travel: features.Travel
    alignment: tuple[float, float]
    order_parameter: tuple[float, ...]


@dataclass(frozen=True)
class Line:
    """One architecture trained in one way, over widths, the narrowest first."""

    architecture: str
    run: str
    trained: tuple[Trained, ...]

    @property
    def name(self) -> str:
        return f"{self.architecture}, {self.run}"

    @property
    def exponent(self) -> tuple[float, float]:
        """Of the kernel distance in the width, between the two widest networks, and its standard error."""
        (a, one), (b, two) = ((t.width, (t.travel.distance, t.travel.distance_se)) for t in self.trained[-2:])
        return _exponent(b / a, one, two)


def _exponent(ratio: float, one: tuple[float, float], two: tuple[float, float]) -> tuple[float, float]:
    """``log(two / one) / log(ratio)`` of values with standard errors, and its own."""
    error = math.hypot(one[1] / one[0], two[1] / two[0])
    return math.log(two[0] / one[0]) / math.log(ratio), error / math.log(ratio)


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


def compute(work: Work) -> Findings:
    """Both architectures, trained in every way over all widths."""
    plan = work.plan
    networks: dict[str, Network] = {
        "fully connected": FullyConnected(widths=plan.widths[0], activation=plan.activation),
        "convolutional": Convolutional(
            channels=plan.widths[0], patch=plan.patch, stride=plan.stride, activation=plan.activation
        ),
    }
    limits = {name: _limits(work, network) for name, network in networks.items()}
    found = [_line(work, name, network, run, limits[name]) for name, network in networks.items() for run in RUNS]
    return Findings(
        claims=tuple(claim for name in networks for claim in _claims(name, found, limits[name])),
        tables=(_table(found, limits, plan.temperature), _kernels(found, limits)),
        panels=(
            *(_panel(name, found, limits[name], plan) for name in networks),
            _from_lazy(found),
            _travel(found),
        ),
        slider=tuple(_stop(index, found, limits) for index in range(len(plan.widths))),
        notes=tuple(_remarks(found)),
    )


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
    work.checkpoints.mkdir(exist_ok=True)
    trained = []
    for width in plan.widths:
        work.say(f"Training: {architecture}, {run}, width {width}")
        place = f"{architecture}-{run}-{width}".replace(" ", "-").replace(",", "")
        with work.jobs.one(width):
            ensemble = train(
                replace(network, readout=RUNS[run]).with_width(width),
                work.train,
                work.test,
                steps=plan.steps,
                seeds=range(plan.seed * plan.networks, (plan.seed + 1) * plan.networks),
                checkpoint=work.checkpoints / f"{place}.npz",
                **options,
            )
        if not ensemble.complete:  # the checkpoint is written: the same command goes on
            raise KeyboardInterrupt
        trained.append(_measured(ensemble, width, limits.lazy, math.inf if run == ADAM else limits.time))
    return Line(architecture, run, tuple(trained))


def _measured(ensemble: Ensemble, width: int, lazy: LazyTraining, time: float) -> Trained:
    aligned = [features.label_alignment(kernel, ensemble.train.y) for kernel in ensemble.hidden_kernels()]
    away = distance_from_lazy(ensemble, lazy, time)
    return Trained(
        width,
        ensemble.errors(),
        (float(np.mean(away)), standard_error(away)),
        features.travelled(ensemble),
        (float(np.mean(aligned)), standard_error(np.array(aligned))),
        tuple(map(float, np.ravel(ensemble.order_parameter))),
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


def _claims(name: str, found: list[Line], limits: Limits) -> Iterator[Claim]:
    lines = {line.run: line for line in found if line.architecture == name}
    yield from _claims_on_laziness(name, lines)
    yield from _claims_on_limits(name, lines, limits)
    yield from _claims_on_kernels(name, lines)
    yield from _claims_on_features(name, lines, limits)


def _claims_on_laziness(name: str, lines: dict[str, Line]) -> Iterator[Claim]:
    """Of the very same initial networks: does training them come near linearised training of them?"""
    for run in (SGD, ADAM):
        first, last = lines[run].trained[0], lines[run].trained[-1]
        yield Claim.above(
            f"networks trained by {run} near lazy training of the same initial networks with width",
            f"{name}, widths {first.width} and {last.width}, mean squared difference, narrow - wide",
            first.from_lazy[0] - last.from_lazy[0],
            math.hypot(first.from_lazy[1], last.from_lazy[1]),
        )
    before, wide = lines[SGD].trained[-2:]
    exponent, error = _exponent(wide.width / before.width, before.from_lazy, wide.from_lazy)
    yield Claim.equal(
        "the mean squared difference of SGD from lazy training falls as 1/N",
        f"{name}, widths {before.width} to {wide.width}, its exponent in N, + 1",
        exponent + 1.0,
        error,
    )
    adam = lines[ADAM].trained[-1].from_lazy
    yield Claim.above(
        "the widest networks trained by Adam are farther from lazy training than those trained by SGD",
        f"{name}, width {wide.width}, mean squared difference, Adam - SGD",
        adam[0] - wide.from_lazy[0],
        math.hypot(adam[1], wide.from_lazy[1]),
    )


def _claims_on_limits(name: str, lines: dict[str, Line], limits: Limits) -> Iterator[Claim]:
    """Have the widest networks the errors of infinitely wide ones? Adam trains to the end, SGD for its time."""
    for run, limit in ((SGD, limits.ntk), (ADAM, limits.end)):
        widest = lines[run].trained[-1]
        yield Claim.equal(
            f"the widest networks trained by {run} have the test error of the NTK limit",
            f"{name}, width {widest.width}, trained - limit",
            widest.errors.test_error - limit.test_error,
            widest.errors.test_error_se,
        )


def _claims_on_kernels(name: str, lines: dict[str, Line]) -> Iterator[Claim]:
    """How does the motion of the hidden kernel fall with width?"""
    for run in (SGD, ADAM):
        exponent, error = lines[run].exponent
        between = " to ".join(str(one.width) for one in lines[run].trained[-2:])
        where = f"{name}, widths {between}, exponent of the kernel distance in N"
        yield Claim.below(
            f"trained by {run}, the hidden kernel moves less the wider the network is, faster than N^{LAZY:g}",
            *(where, exponent, error, LAZY),
        )
        yield Claim.equal(f"trained by {run}, it moves as 1/N", f"{where}, + 1", exponent + 1.0, error)
    exponent, error = lines[MEAN_FIELD].exponent
    yield Claim.above(
        f"at the mean-field scaling the hidden kernel moves at any width: falls slower than N^{STEADY:g}",
        f"{name}, SGD, exponent of the kernel distance in N",
        *(exponent, error, STEADY),
    )


def _claims_on_features(name: str, lines: dict[str, Line], limits: Limits) -> Iterator[Claim]:
    """What do the features that are learned at the mean-field scaling bring?"""
    wide, field = lines[SGD].trained[-1], lines[MEAN_FIELD].trained[-1]
    yield Claim.above(
        "features learned at the mean-field scaling are more aligned with the labels than those of the NTK regime",
        f"{name}, width {wide.width}, alignment, mean-field - standard",
        field.alignment[0] - wide.alignment[0],
        math.hypot(field.alignment[1], wide.alignment[1]),
    )
    yield Claim.above(
        "learning features pays: the test error at the mean-field scaling is below the NTK limit",
        f"{name}, width {field.width}, limit - trained",
        limits.end.test_error - field.errors.test_error,
        field.errors.test_error_se,
    )


# --- what is shown ----------------------------------------------------------------------------------------------------


def _table(found: list[Line], limits: dict[str, Limits], temperature: float) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for name, limit in limits.items():
        for line in found:
            if line.architecture == name:
                rows += [_row(_SHORT[name], line.run, one) for one in line.trained]
        ends = (("NTK, as SGD", limit.ntk), ("NTK, t = inf", limit.end), (f"NNGP, T = {temperature:g}", limit.nngp))
        for what, errors in ends:
            rows.append((_SHORT[name], what, None, errors.test_error, errors.bias, errors.variance, errors.train_error))
    columns = ("network", "trained by", "N", "test error", "bias", "variance", "train error")
    return Table("Trained networks and their limits of infinite width", columns, tuple(rows))


def _row(name: str, run: str, one: Trained) -> tuple[Cell, ...]:
    e = one.errors
    pairs = ((e.test_error, e.test_error_se), (e.bias, e.bias_se), (e.variance, e.variance_se))
    return (name, run, one.width, *pairs, (e.train_error, e.train_error_se))


def _kernels(found: list[Line], limits: dict[str, Limits]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for line in found:
        for one in line.trained:
            moved = (one.travel.distance, one.travel.distance_se), (one.travel.angle, one.travel.angle_se)
            rows.append((_SHORT[line.architecture], line.run, one.width, one.from_lazy, *moved, one.alignment))
    rows += [(_SHORT[name], "prior", None, None, 0.0, 0.0, limit.alignment) for name, limit in limits.items()]
    columns = ("network", "trained by", "N", "from lazy", "distance", "angle", "alignment")
    return Table(
        "Outputs: distance from lazy training; hidden kernels: distance from where they began, alignment with labels",
        *(columns, tuple(rows)),
    )


def _panel(name: str, found: list[Line], limits: Limits, plan: Plan) -> Panel:
    series = []
    for colour, line in enumerate(line for line in found if line.architecture == name):
        rows = [(float(one.width), one.errors.test_error, one.errors.test_error_se) for one in line.trained]
        series.append(_points(line.run, colour, rows))
    ends = float(plan.widths[0]), float(plan.widths[-1])
    for colour, what, errors in ((6, "NTK limit", limits.ntk), (3, "NNGP limit", limits.nngp)):
        series.append(Series(what, "limit", colour, ends, (errors.test_error, errors.test_error)))
    return Panel(name.capitalize(), "width N", "test error", tuple(series))


def _points(name: str, colour: int, rows: list[tuple[float, float, float]]) -> Series:
    """A diverged network has no number."""
    x, y, se = zip(*rows, strict=True)
    kept = [value if math.isfinite(value) else None for value in y]
    return Series(name, "points", colour, x, tuple(kept), tuple(e if math.isfinite(e) else None for e in se))


def _short(line: Line) -> str:
    return f"{_SHORT[line.architecture]}, {line.run}"


def _from_lazy(found: list[Line]) -> Panel:
    series = []
    for colour, line in enumerate(found):
        if line.run != MEAN_FIELD:  # lazy training is not its limit
            series.append(_points(_short(line), colour, [(float(t.width), *t.from_lazy) for t in line.trained]))
    rows = [(t.width, t.from_lazy[0]) for t in found[0].trained]
    return Panel("From lazy training", "width N", "squared difference", (*series, *_guide(rows)), log_y=True)


def _travel(found: list[Line]) -> Panel:
    series = []
    for colour, line in enumerate(found):
        rows = [(float(t.width), t.travel.distance, t.travel.distance_se) for t in line.trained]
        series.append(_points(_short(line), colour, rows))
    first = [(t.width, t.travel.distance) for t in found[0].trained]
    return Panel("Kernel distance travelled", "width N", "relative distance", (*series, *_guide(first)), log_y=True)


def _guide(rows: list[tuple[int, float]]) -> list[Series]:
    """1/N through the widest network."""
    width, value = rows[-1]
    if not math.isfinite(value):
        return []
    return [Series("1/N", "line", 6, tuple(float(w) for w, _ in rows), tuple(value * width / w for w, _ in rows))]


def _stop(index: int, found: list[Line], limits: dict[str, Limits]) -> Stop:
    maps, bars = [], []
    for name, limit in limits.items():
        for line in found:
            if line.architecture != name:
                continue
            one = line.trained[index]
            if not math.isfinite(one.errors.test_error):
                continue
            maps.append(QMatrix(line.name, square(one.order_parameter)))
            bars.append(Bar(line.name, one.errors.bias, one.errors.variance, one.errors.test_error_se))
        bars.append(Bar(f"{name}, NTK limit", limit.ntk.bias, limit.ntk.variance))
    return Stop(str(found[0].trained[index].width), tuple(maps), tuple(bars))


def _remarks(found: list[Line]) -> Iterator[str]:
    yield (
        "Trained on 1/2 sum (y - f)^2 without weight decay, from the prior. The NTK limit is gradient flow "
        "from initial networks alike, for the time that SGD takes (learning rate x steps / (1 - momentum)), or to its "
        "end. Adam is no gradient descent: nothing says that this limit is its own."
    )
    moving = 0
    for line in found:
        for one in line.trained:
            if not math.isfinite(one.errors.test_error):
                yield f"NOT CONVERGED, no result: {line.name}, width {one.width}: {one.errors.message}"
            moving += not one.errors.converged
    if moving:
        yield (
            f"In {moving} of {sum(len(line.trained) for line in found)} runs the objective still moved by more than 1 "
            "per cent of its end in the second half; how little was left of it, the train errors in the table say."
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
