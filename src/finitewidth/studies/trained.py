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
from finitewidth.networks import Convolutional, FullyConnected, Network
from finitewidth.prediction import Errors
from finitewidth.report.findings import Bar, Cell, Claim, Findings, Panel, QMatrix, Series, Stop, Table
from finitewidth.studies.frame import FULL, Plan, Study, Work
from finitewidth.studies.parts import square
from finitewidth.training.ensemble import Ensemble, TrainedErrors, standard_error
from finitewidth.training.linearised import lazy_training
from finitewidth.training.run import train

SGD, ADAM, MEAN_FIELD = "SGD", "Adam", "SGD, mean-field"
RUNS = {SGD: "standard", ADAM: "standard", MEAN_FIELD: "mean-field"}  # scaling of the readout
MOMENTUM, STEP = 0.9, 0.1  # the step in units of the largest curvature's inverse
LAZY, STEADY = -0.5, -0.1  # exponents in the width: below the one a kernel stays where it was, above the other it moves
_SHORT = {"fully connected": "full", "convolutional": "conv."}


@dataclass(frozen=True)
class Trained:
    """An ensemble of one width: its errors, and what its hidden kernels did, each with its standard error."""

    width: int
    errors: TrainedErrors
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
        a, b = self.trained[-2:]
        step = math.log(b.width / a.width)
        one, two = a.travel, b.travel
        error = math.hypot(one.distance_se / one.distance, two.distance_se / two.distance)
        return math.log(two.distance / one.distance) / step, error / step


@dataclass(frozen=True)
class Limits:
    """At infinite width: gradient flow (NTK) for as long as SGD trains, and to its end; the Bayesian posterior (NNGP).

    rate: the learning rate of SGD. alignment: of the hidden kernel with the labels.
    """

    rate: float
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
    found = [_line(work, name, network, run, limits[name].rate) for name, network in networks.items() for run in RUNS]
    return Findings(
        claims=tuple(claim for name in networks for claim in _claims(name, found, limits[name])),
        tables=(_table(found, limits, plan.temperature), _kernels(found, limits)),
        panels=(
            *(_panel(name, found, limits[name], plan) for name in networks),
            _travel(found),
            _alignment(found, limits),
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
    return Limits(rate, ntk, end, nngp, prior)


def _line(work: Work, architecture: str, network: Network, run: str, rate: float) -> Line:
    plan = work.plan
    options: dict[str, Any] = {"optimiser": "sgd", "momentum": MOMENTUM, "learning_rate": rate}
    if run == ADAM:
        options = {"optimiser": "adam"}
    work.checkpoints.mkdir(exist_ok=True)
    trained = []
    for width in plan.widths:
        work.say(f"Training: {architecture}, {run}, width {width}")
        place = f"{architecture}-{run}-{width}".replace(" ", "-").replace(",", "")
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
        trained.append(_measured(ensemble, width))
    return Line(architecture, run, tuple(trained))


def _measured(ensemble: Ensemble, width: int) -> Trained:
    aligned = [features.label_alignment(kernel, ensemble.train.y) for kernel in ensemble.hidden_kernels()]
    return Trained(
        width,
        ensemble.errors(),
        features.travelled(ensemble),
        (float(np.mean(aligned)), standard_error(np.array(aligned))),
        tuple(map(float, np.ravel(ensemble.order_parameter))),
    )


# --- claims -----------------------------------------------------------------------------------------------------------


def _claims(name: str, found: list[Line], limits: Limits) -> Iterator[Claim]:
    lines = {line.run: line for line in found if line.architecture == name}
    limit, end = limits.ntk.test_error, limits.end.test_error
    narrow, wide = lines[SGD].trained[0], lines[SGD].trained[-1]
    yield Claim.above(
        "networks trained by SGD near the NTK limit with width",
        f"{name}, widths {narrow.width} and {wide.width}, |test error - limit|, narrow - wide",
        abs(narrow.errors.test_error - limit) - abs(wide.errors.test_error - limit),
        math.hypot(narrow.errors.test_error_se, wide.errors.test_error_se),
    )
    for run, target in ((SGD, limit), (ADAM, end)):
        widest = lines[run].trained[-1].errors
        yield Claim.equal(
            f"the widest networks trained by {run} have the test error of the NTK limit",
            f"{name}, width {wide.width}, trained - limit",
            widest.test_error - target,
            widest.test_error_se,
        )
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
    field = lines[MEAN_FIELD].trained[-1]
    yield Claim.above(
        "features learned at the mean-field scaling are more aligned with the labels than those of the NTK regime",
        f"{name}, width {wide.width}, alignment, mean-field - standard",
        field.alignment[0] - wide.alignment[0],
        math.hypot(field.alignment[1], wide.alignment[1]),
    )
    yield Claim.above(
        "learning features pays: the test error at the mean-field scaling is below the NTK limit",
        f"{name}, width {field.width}, limit - trained",
        end - field.errors.test_error,
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
            rows.append((_SHORT[line.architecture], line.run, one.width, *moved, one.alignment))
    rows += [(_SHORT[name], "prior", None, 0.0, 0.0, limit.alignment) for name, limit in limits.items()]
    columns = ("network", "trained by", "N", "distance", "angle", "alignment with labels")
    return Table("Hidden kernels: how far they moved in training, and where to", columns, tuple(rows))


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


def _travel(found: list[Line]) -> Panel:
    series = []
    for colour, line in enumerate(found):
        rows = [(float(one.width), one.travel.distance, one.travel.distance_se) for one in line.trained]
        series.append(_points(_short(line), colour, rows))
    first = found[0].trained  # through the widest network
    guide = tuple(first[-1].travel.distance * first[-1].width / one.width for one in first)
    if all(map(math.isfinite, guide)):
        series.append(Series("1/N", "line", 6, tuple(float(one.width) for one in first), guide))
    return Panel("Kernel distance travelled", "width N", "relative distance", tuple(series), log_y=True)


def _alignment(found: list[Line], limits: dict[str, Limits]) -> Panel:
    series = []
    for colour, line in enumerate(found):
        rows = [(float(one.width), *one.alignment) for one in line.trained]
        series.append(_points(_short(line), colour, rows))
    ends = float(found[0].trained[0].width), float(found[0].trained[-1].width)
    for colour, (name, limit) in zip((0, len(RUNS)), limits.items(), strict=True):
        series.append(
            Series(f"{_SHORT[name]}, infinite width", "limit", colour, ends, (limit.alignment, limit.alignment))
        )
    return Panel("Alignment with the labels", "width N", "alignment of the hidden kernel", tuple(series))


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
    moving = []
    for line in found:
        for one in line.trained:
            if not math.isfinite(one.errors.test_error):
                yield f"NOT CONVERGED, no result: {line.name}, width {one.width}: {one.errors.message}"
            elif not one.errors.converged:
                moving.append(f"{line.name}, width {one.width}")
    if moving:
        yield (
            "Not at rest: the objective moved by more than 1 % of its end in the second half of the run, small as it "
            f"was by then (train errors are in the table): {'; '.join(moving)}."
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
)
