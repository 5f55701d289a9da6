"""Study ``trained``: networks trained by gradient descent and by Adam against their limits of infinite width.

At the standard scaling of the readout the limit of gradient descent is kernel regression with the NTK (Jacot et al.
2018; Lee et al. 2019), and the hidden kernel stays where it was; at the mean-field scaling it moves at any width (Mei,
Montanari and Nguyen 2018). Steps are short, a tenth of the largest curvature's inverse: with momentum, longer ones
oscillate, and leave the lazy regime at widths at which short ones are in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from finitewidth import features
from finitewidth.data import Dataset
from finitewidth.networks import Network
from finitewidth.report.findings import Claim, Findings, Panel, Series
from finitewidth.studies.local_renormalisation import networks
from finitewidth.studies.study import FULL, Plan, Study, Work
from finitewidth.studies.theory_and_samples import Line, difference, error_panel, error_table, measured, remarks, whole
from finitewidth.training import train
from finitewidth.training.ensemble import Ensemble, TrainedErrors, standard_error
from finitewidth.training.linearised import LazyTraining, lazy_training

SGD, ADAM, MEAN_FIELD = "SGD", "Adam", "SGD, mean-field"
RUNS = {SGD: "standard", ADAM: "standard", MEAN_FIELD: "mean-field"}  # scaling of the readout
MOMENTUM, STEP = 0.9, 0.1  # the step in units of the largest curvature's inverse
LAZY, STEADY = -0.5, -0.1  # exponents in the width: below the one a kernel stays where it was, above the other it moves
SHORT = {"fully connected": "full", "convolutional": "conv."}
MOTION = ("from_lazy", "distance", "alignment")
_TRAINING = (
    "Trained on 1/2 sum (y - f)^2 without weight decay, from the prior. Infinite width is gradient flow with the NTK "
    "from initial networks alike, for the time that SGD takes (learning rate x steps / (1 - momentum)), or to its end. "
    "Adam is no gradient descent: nothing says that this limit is its own."
)


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
    alignment: float
    alignment_se: float


def compute(work: Work) -> Findings:
    """Both architectures, trained in every way over all widths."""
    found = {name: _lines(work, name, networks(work.plan)[name]) for name in SHORT}
    lines = [line for of_network in found.values() for line in of_network.values()]
    lazy = [of_network[run] for of_network in found.values() for run in (SGD, ADAM)]
    return Findings(
        claims=tuple(claim for name, of_network in found.items() for claim in _claims(name, of_network)),
        tables=(
            error_table(lines, "Trained networks, and their limits of infinite width"),
            error_table(lines, "Distance from lazy training; motion of the hidden kernels", *MOTION),
        ),
        panels=(
            *(
                error_panel(one.values(), "test_error", title=name.capitalize(), colours=_colours(lines, one.values()))
                for name, one in found.items()
            ),
            _falling("From lazy training", lazy, "from_lazy", lines),  # which is no limit of the mean field
            _falling("Kernel distance travelled", lines, "distance", lines),
        ),
        notes=(_TRAINING, *remarks(lines)),
    )


def exponent(line: Line, quantity: str) -> tuple[float, float]:
    """Of a quantity in the width, between the two widest networks, and its standard error."""
    (narrow, one), (wide, two) = ((width, measured(row, quantity)) for width, row in [*line.sampled.items()][-2:])
    error = math.hypot(one[1] / one[0], two[1] / two[0])
    scale = math.log(wide / narrow)
    return math.log(two[0] / one[0]) / scale, error / scale


# --- training ---------------------------------------------------------------------------------------------------------


def _lines(work: Work, architecture: str, network: Network) -> dict[str, Line]:
    """Every run, beside the limit of its training, if it has one."""
    plan, lazy = work.plan, lazy_training(network, work.train)
    rate = STEP / float(lazy.spectrum.values[-1])
    time = rate * plan.steps / (1.0 - MOMENTUM)
    limits = {
        SGD: lazy.predict(work.test.x, time),
        ADAM: lazy.predict(work.test.x),  # which trains to the end
        MEAN_FIELD: None,
    }
    lines = {}
    for run, limit in limits.items():
        lines[run] = Line(f"{SHORT[architecture]}, {run}", points="trained")
        if limit is not None:
            lines[run].limit.update(dict.fromkeys(plan.widths, limit.errors(work.test.y)))
        for width in plan.widths:
            work.say(f"Training: {architecture}, {run}, width {width}")
            ensemble = _train(work, architecture, replace(network, readout=RUNS[run]).with_width(width), run, rate)
            lines[run].sampled[width] = _measured(ensemble, lazy, math.inf if run == ADAM else time)
    return lines


def _train(work: Work, architecture: str, network: Network, run: str, rate: float) -> Ensemble:
    plan = work.plan
    options: dict[str, Any] = {"optimiser": "sgd", "momentum": MOMENTUM, "learning_rate": rate}
    ensemble: Ensemble = whole(
        train(
            network,
            work.train,
            work.test,
            steps=plan.steps,
            seeds=range(plan.seed * plan.networks, (plan.seed + 1) * plan.networks),
            checkpoint=work.checkpoint(architecture, run, network.widths[0]),
            **({"optimiser": "adam"} if run == ADAM else options),
        )
    )
    return ensemble


def _measured(ensemble: Ensemble, lazy: LazyTraining, time: float) -> Trained:
    aligned = np.array([features.label_alignment(kernel, ensemble.train.y) for kernel in ensemble.hidden_kernels()])
    away, travelled = distance_from_lazy(ensemble, lazy, time), features.travelled(ensemble)
    return Trained(
        **vars(ensemble.errors()),
        from_lazy=float(np.mean(away)),
        from_lazy_se=standard_error(away),
        distance=travelled.distance,
        distance_se=travelled.distance_se,
        alignment=float(np.mean(aligned)),
        alignment_se=standard_error(aligned),
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


def _claims(name: str, lines: dict[str, Line]) -> Iterator[Claim]:
    for run in (SGD, ADAM):
        yield from _of_lazy_training(name, run, lines[run])
    widths = list(lines[SGD].sampled)
    sgd, adam, field = (lines[run].sampled[widths[-1]] for run in RUNS)
    at, between = f"{name}, width {widths[-1]}", f"{name}, widths {widths[-2]} to {widths[-1]}"
    slope, error = exponent(lines[SGD], "from_lazy")
    yield Claim.equal(
        "the mean squared difference of SGD from lazy training falls as 1/N",
        f"{between}, its exponent in N, + 1",
        slope + 1.0,
        error,
    )
    yield Claim.above(
        "the widest networks trained by Adam are farther from lazy training than those trained by SGD",
        f"{at}, mean squared difference, Adam - SGD",
        *difference(adam, sgd, "from_lazy"),
    )
    yield Claim.above(
        f"at the mean-field scaling the hidden kernel moves at any width: falls slower than N^{STEADY:g}",
        f"{name}, SGD, exponent of the kernel distance in N",
        *(*exponent(lines[MEAN_FIELD], "distance"), STEADY),
    )
    yield Claim.above(
        "features learned at the mean-field scaling are more aligned with the labels than those of the NTK regime",
        f"{at}, alignment, mean-field - standard",
        *difference(field, sgd, "alignment"),
    )
    yield Claim.above(
        "learning features pays: the test error at the mean-field scaling is below the NTK limit",
        f"{at}, limit - trained",
        *difference(lines[ADAM].limit[widths[-1]], field),
    )


def _of_lazy_training(name: str, run: str, line: Line) -> Iterator[Claim]:
    """Do networks come near their limit, the more the wider they are, and do their kernels stay where they were?"""
    widths = list(line.sampled)
    narrow, wide = line.sampled[widths[0]], line.sampled[widths[-1]]
    yield Claim.above(
        f"networks trained by {run} near lazy training of the same initial networks with width",
        f"{name}, widths {widths[0]} and {widths[-1]}, mean squared difference, narrow - wide",
        *difference(narrow, wide, "from_lazy"),
    )
    yield Claim.equal(
        f"the widest networks trained by {run} have the test error of the NTK limit",
        f"{name}, width {widths[-1]}, trained - limit",
        *difference(wide, line.limit[widths[-1]]),
    )
    slope, error = exponent(line, "distance")
    where = f"{name}, widths {widths[-2]} to {widths[-1]}, exponent of the kernel distance in N"
    yield Claim.below(
        f"trained by {run}, the hidden kernel moves less the wider the network is, faster than N^{LAZY:g}",
        *(where, slope, error, LAZY),
    )
    yield Claim.equal(f"trained by {run}, it moves as 1/N", f"{where}, + 1", slope + 1.0, error)


def _colours(lines: list[Line], shown: Iterable[Line]) -> list[int]:
    """A line has one colour in all panels."""
    places = {line.name: k for k, line in enumerate(lines)}
    return [places[line.name] for line in shown]


def _falling(title: str, lines: list[Line], quantity: str, every: list[Line]) -> Panel:
    """A quantity against width, and 1/N through the widest network of the first line."""
    (*_, (width, widest)) = ((n, getattr(row, quantity)) for n, row in lines[0].sampled.items())
    places = tuple(map(float, lines[0].sampled))
    series = [Series("1/N", "line", 6, places, tuple(widest * width / n for n in places))]
    return error_panel(lines, quantity, *series, title=title, log_y=True, colours=_colours(every, lines))


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
