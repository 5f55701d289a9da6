"""Sampled errors against width and temperature: one row a run of ``sample``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from finitewidth import checks
from finitewidth.data import Dataset
from finitewidth.display import Displayed
from finitewidth.durations import Jobs
from finitewidth.networks import Network
from finitewidth.runs import folder_of, one_after_another, same_targets
from finitewidth.sampling.draws import Draws, SampledErrors
from finitewidth.sampling.run import Request, sample

Array = np.ndarray


@dataclass(frozen=True)
class SampledRow(Displayed):
    """Errors of one sampled network; ``_se`` are Monte-Carlo standard errors.

    width, depth, temperature, n_train: as in a row of ``fw.learning_curve``. method: the sampler.
    order_parameters: Q of the last layer, from the readouts: one number (fully connected, pooled), n x n row-major
        (convolutional), n (locally connected), D x D or n D x n D (several outputs).
    log_evidence: None, for a sampler knows none; rows of predict and sample are alike.
    ess: effective draws of the test error. acceptance: mean of the Metropolis test.
    converged: False where chains disagree or are too short; the numbers stay, ``message`` says what is wrong.
    complete: False where the run was interrupted.
    """

    width: int | tuple[int, ...]
    depth: int
    temperature: float
    n_train: int
    method: str
    chains: int
    draws: int
    train_error: float
    test_error: float
    bias: float
    variance: float
    accuracy: float | None
    train_error_se: float
    test_error_se: float
    bias_se: float
    variance_se: float
    accuracy_se: float | None
    order_parameters: list[float]
    log_evidence: None
    r_hat: float
    ess: float
    acceptance: float
    divergences: int
    converged: bool
    complete: bool
    message: str
    seconds: float

    @classmethod
    def of(
        cls, network: Network, draws: Draws, temperature: float, n_train: int, y: Array, seconds: float
    ) -> SampledRow:
        """Of draws and the test targets ``y``."""
        errors = draws.errors(y)
        shared = {field.name for field in fields(cls)} & {field.name for field in fields(SampledErrors)}
        return cls(
            width=network.common_width,
            depth=network.depth,
            temperature=temperature,
            n_train=n_train,
            method=str(draws.attrs["sampler"]),
            chains=draws.n_chains,
            draws=draws.n_draws,
            order_parameters=[float(q) for q in np.ravel(_order_parameters(network, draws))],
            log_evidence=None,
            acceptance=float(draws.acceptance.mean()),
            complete=draws.complete,
            seconds=seconds,
            **{name: getattr(errors, name) for name in shared},
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return asdict(self)


def sampled_curve(
    network: Network,
    train: Dataset,
    test: Dataset,
    widths: Sequence[int] | None = None,
    temperature: float | Sequence[float] = 0.05,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Iterator[SampledRow]:
    """Sample every temperature and width (hidden layers all that wide), in the order of ``fw.learning_curve``.

    ``widths=None`` keeps the network's own. ``options``: as for ``sample``. checkpoint: a folder, made if need be, with
    one checkpoint a run, so that a curve that was cut short goes on where it was. Everything is checked before
    the first run; rows come one by one as they are done. An interrupt (Ctrl-C)
    ends the curve after the row of what there is, and is passed on where there is none.
    """
    temperatures = [checks.positive("temperature", t) for t in checks.one_or_more("temperature", temperature)]
    checks.instance("network", network, Network, "write fw.FullyConnected(widths=100), for example")
    networks = [network] if widths is None else [network.with_width(w) for w in checks.sequence("widths", widths)]
    folder = None if checkpoint is None else folder_of(checkpoint)
    planned = [(net, t) for t in temperatures for net in networks]
    same_targets(train, test)
    settings = {name: value for name, value in options.items() if name not in ("progress", "memory")}
    requests = [Request(network=net, train=train, test=test, temperature=t, **settings) for net, t in planned]
    return _rows(planned, train, test, folder, options, [request.operations for request in requests])


def _rows(
    planned: list[tuple[Network, float]],
    train: Dataset,
    test: Dataset,
    folder: Path | None,
    options: dict[str, Any],
    costs: list[float],
) -> Iterator[SampledRow]:
    jobs = Jobs(sum(costs), f"sampling {len(planned)} networks on {len(train)} training points" if costs[1:] else "")

    def job(
        network: Network, temperature: float, cost: float
    ) -> tuple[str, str, Callable[[Path | None, bool | str], Draws]]:
        def work(file: Path | None, progress: bool | str) -> Draws:
            with jobs.one(cost):
                return sample(network, train, test, temperature, checkpoint=file, **options | {"progress": progress})

        return f"{_name(network, temperature)}.npz", f"width {network.widths[0]}, T {temperature:g}", work

    works = [job(*place, cost) for place, cost in zip(planned, costs, strict=True)]
    runs = one_after_another(works, folder, bool(options.get("progress")))
    for (network, temperature), (draws, seconds) in zip(planned, runs, strict=False):
        yield SampledRow.of(network, draws, temperature, train.n_points, test.y, seconds)


def _order_parameters(network: Network, draws: Draws) -> Array:
    """Q as the theory lays it out: without weight sharing only its diagonal has a meaning."""
    if "order_parameter" not in draws.observables:
        return np.empty(0)
    q = draws.order_parameter
    diagonal = not network.shares_weights and draws.mean.ndim == 3
    return np.diagonal(q) if diagonal else q


def _name(network: Network, temperature: float) -> str:
    return f"width-{'-'.join(map(str, network.widths))}-temperature-{temperature:g}"
