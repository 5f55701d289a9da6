"""Study ``transfer``: two tasks with coupled first layers, learned together or the source first (Ingrosso et al. 2025).

The target task has a few of the training points, the source task all others. Beside this source of the same task stand
one of related classes, where the data have more, and a control: the same points with their labels shuffled. Coupling
changes the prior of the target's weights too, so that the control is what a source is held to, not only no source.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from finitewidth.checks.exceptions import InputError
from finitewidth.curves import learning_curve
from finitewidth.data import Dataset, load
from finitewidth.data.loaders import BUILT_IN
from finitewidth.inference.methods import Row
from finitewidth.inference.prediction import Errors
from finitewidth.jobs.job import Job
from finitewidth.networks import FullyConnected, Network
from finitewidth.networks.coupled import Coupled, Joint, SourceFirst
from finitewidth.report.findings import Claim, Findings, Panel, Series
from finitewidth.sampling import Sample
from finitewidth.sampling.draws import SampledErrors
from finitewidth.sampling.transfer import sample_following, sample_joint, sample_source
from finitewidth.studies.study import FULL, Plan, Study, Work
from finitewidth.studies.theory_and_samples import (
    Line,
    difference,
    error_panel,
    error_table,
    nearer,
    off,
    remarks,
    right,
    whole,
)
from finitewidth.theory.transfer import transfer

SAME, SHUFFLED = "same task", "shuffled labels"
TOGETHER, FIRST = "together", "source first"
PROTOCOLS: dict[str, type[Joint] | type[SourceFirst]] = {TOGETHER: Joint, FIRST: SourceFirst}


@dataclass(frozen=True)
class Target(Errors):
    """Theory of the target network. overlap: of the readouts between the tasks."""

    overlap: float
    converged: bool
    message: str


@dataclass(frozen=True)
class SampledTarget(SampledErrors):
    """Samples of the target network; overlap of the readouts between the tasks, unknown without a source."""

    overlap: float = math.nan
    overlap_se: float = math.nan


def compute(work: Work) -> Findings:
    """All protocols with all sources, at the first sampled width."""
    plan = work.plan
    network = FullyConnected(widths=plan.sampled[0], activation=plan.activation)
    target, sources = tasks(work)
    alone = _alone(work, network, target)
    found = {p: {name: _line(work, p, network, sources, name, target) for name in sources} for p in PROTOCOLS}
    lines = [replace(line, name=f"{p}, {name}") for p in PROTOCOLS for name, line in found[p].items()]
    without = Line("alone", {0.0: lines[0].theory[0.0]}, {0.0: alone})
    x = "prior correlation"
    return Findings(
        claims=tuple(claim for p in PROTOCOLS for claim in _claims(p, found[p], alone)),
        tables=(error_table((without, *lines), "Target: theory beside samples", "overlap", x="correlation"),),
        panels=(
            *(_panel(p, found[p], alone, x) for p in PROTOCOLS),
            error_panel(found[FIRST].values(), "overlap", title="Source first: overlap r", x=x, log_x=False),
        ),
        notes=(*remarks((without, *lines), x), _design(target, sources)),
    )


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


def _design(target: Dataset, sources: dict[str, Dataset]) -> str:
    counts = ", ".join(f"{name}: {len(source)} points" for name, source in sources.items())
    return (
        f"Target: the first {len(target)} training points. Sources: {counts}; the same task has the other training "
        "points. The precision is fixed, so that the coupling of tasks learned together also raises the prior variance "
        "of the weights, by 1/(1 - correlation^2). At infinite width no source has an effect: that line shows what the "
        "coupling does to the prior alone."
    )


# --- theory and samples -----------------------------------------------------------------------------------------------


def _alone(work: Work, network: Network, target: Dataset) -> SampledTarget:
    """The target without a source: twice the draws, for it has few points, and every claim is held to it."""
    plan = work.plan
    work.say("Sampling: target alone")
    method = Sample(chains=plan.chains, draws=2 * plan.draws, warmup=plan.warmup, seed=plan.seed)
    job = Job.of(network, plan.temperature, method, checkpoint=work.checkpoint("target alone"))
    (solution,) = job.solutions(target, work.test)
    return SampledTarget(**vars(whole(solution).errors(work.test)))


def _limit(work: Work, coupled: Coupled, target: Dataset) -> Row:
    """At infinite width: the Gaussian process of the target's own prior."""
    precision = (1.0 / float(coupled.covariance[1, 1]), coupled.network.weight_precision[1])
    network = coupled.network.with_precision(precision)
    return learning_curve(network, target, work.test, None, work.plan.temperature, method="infinite")[0]


def _line(work: Work, protocol: str, network: Network, sources: dict[str, Dataset], name: str, target: Dataset) -> Line:
    plan = work.plan
    work.say(f"Solving: {protocol}, source {name}")
    line = Line(name, {})
    for rho in sorted({*plan.correlations, *plan.sampled_correlations}):
        coupled = PROTOCOLS[protocol].of_correlation(network, rho)
        line.theory[rho] = _theory(work, coupled, sources[name], target)
        line.limit[rho] = _limit(work, coupled, target)
    line.sampled.update(_samples(work, protocol, network, sources[name], name, target))
    return line


def _theory(work: Work, coupled: Coupled, source: Dataset, target: Dataset) -> Target:
    solution = transfer(coupled, source, target, work.plan.temperature)
    errors = solution.predict(work.test.x).errors(work.test.y)
    overlap = float(solution.order_parameters["cross"])
    return Target(**vars(errors), overlap=overlap, converged=solution.converged, message=solution.message)


def _samples(
    work: Work, protocol: str, network: Network, source: Dataset, name: str, target: Dataset
) -> dict[float, SampledTarget]:
    """Target networks at the sampled correlations: learned with the source, or following layers that it has learned."""
    plan, found = work.plan, {}
    data: tuple[Any, ...] = (source, target, work.test, plan.temperature)
    options: dict[str, Any] = {"warmup": plan.warmup, "seed": plan.seed}
    if protocol == FIRST:
        work.say(f"Sampling: source {name} alone")
        place = work.checkpoint("layers", name)
        layers = sample_source(network, *data, sources=plan.networks, chains=plan.chains, checkpoint=place, **options)
    for rho in plan.sampled_correlations:
        work.say(f"Sampling: {protocol}, source {name}, correlation {rho:g}")
        coupled = PROTOCOLS[protocol].of_correlation(network, rho)
        place = work.checkpoint(protocol, name, f"{rho:g}")
        if isinstance(coupled, SourceFirst):
            following = sample_following(coupled, layers, seed=plan.seed, checkpoint=place)
            overlap, error = following.order_parameter("cross")
            found[rho] = SampledTarget(**vars(following.errors(work.test.y)), overlap=overlap, overlap_se=error)
            continue
        joint = sample_joint(coupled, *data, chains=plan.chains, draws=plan.draws, checkpoint=place, **options)
        q = whole(joint).observable("order_parameter")
        overlap, error = float(q.mean[0, 1]), float(q.standard_error[0, 1])
        found[rho] = SampledTarget(**vars(joint.errors(work.test.y)), overlap=overlap, overlap_se=error)
    return found


# --- claims -----------------------------------------------------------------------------------------------------------


def _claims(protocol: str, lines: dict[str, Line], alone: SampledTarget) -> Iterator[Claim]:
    strongest = max(lines[SAME].sampled)
    control = lines[SHUFFLED].sampled[strongest]
    for name, line in lines.items():
        for rho, sampled in line.sampled.items():
            gain = difference(alone, sampled)
            where = f"{protocol}, correlation {rho:g}, test error sampled, without - with the source"
            if name == SHUFFLED and rho == strongest:
                yield Claim.below("a source with shuffled labels does not help", where, *gain)
            elif name != SHUFFLED:
                yield Claim.above(f"a source helps: {name}", where, *gain)
            if name != SHUFFLED and rho == strongest:
                yield Claim.above(
                    f"the labels of the source help, not the change of the prior alone: {name}",
                    f"{protocol}, correlation {rho:g}, sampled, shuffled labels - its own",
                    *difference(control, sampled),
                )
    same = lines[SAME]
    yield Claim.above(
        "the theory is nearer to the sampled network than infinite width is, where no source has an effect",
        f"{protocol}, {SAME}, correlation {strongest:g}, distance of the limit - distance of the theory",
        *nearer(same.theory[strongest], same.limit[strongest], same.sampled[strongest]),
    )
    every = [(name, *both) for name, line in lines.items() for both in line.both()]
    name, rho, theory, sampled = max(every, key=lambda part: off(part[2], part[3])[0])
    where = f"{protocol}, farthest: {name}, correlation {rho:g}"
    yield right("the theory gives the test error", where, theory, sampled)


# --- what is shown ----------------------------------------------------------------------------------------------------


def _panel(protocol: str, lines: dict[str, Line], alone: SampledTarget, x: str) -> Panel:
    """One limit for all sources, which have no effect on it."""
    shown = [replace(line, sampled={0.0: alone, **line.sampled}, limit={}) for line in lines.values()]
    limit = Series.of("infinite width", "limit", len(lines), lines[SAME].limit)
    return error_panel(shown, "test_error", limit, title=f"Learned {protocol}", x=x, log_x=False)


STUDY = Study(
    name="transfer",
    question=(
        "When does a source task help a target task with few points whose first layer is coupled to the source's, "
        "learned together or the source first, against the strength of the coupling?"
    ),
    small=Plan(temperatures=(0.1,), n_train=100, sampled=(20,), draws=400, networks=48),
    full=replace(FULL, temperatures=(0.05,), n_target=50, sampled=(50,), networks=200),
    compute=compute,
)
