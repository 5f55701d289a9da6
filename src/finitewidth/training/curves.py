"""Errors of trained networks against width: one row a run of ``train``."""

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
from finitewidth.runs import folder_of, one_after_another
from finitewidth.training.ensemble import Ensemble, TrainedErrors
from finitewidth.training.run import Request, train


@dataclass(frozen=True)
class TrainedRow(Displayed):
    """Errors of networks of one width, trained; ``_se`` are standard errors over networks.

    width, depth, temperature, n_train: as in a row of ``fw.sampled_curve``; n_train without the held-out points.
    method: the optimiser. networks: seeds. steps: done. learning_rate: as given or chosen.
    order_parameters: Q of the last layer, from the readouts, laid out as there.
    log_evidence: None; rows of predict, sample and train are alike.
    converged: False where a network diverged (every error is NaN then) or still moved; ``message`` says which.
    complete: False where the run was interrupted.
    """

    width: int | tuple[int, ...]
    depth: int
    temperature: float
    n_train: int
    method: str
    networks: int
    steps: int
    learning_rate: float
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
    converged: bool
    complete: bool
    message: str
    seconds: float

    @classmethod
    def of(cls, ensemble: Ensemble, seconds: float) -> TrainedRow:
        """Of trained networks on their test set."""
        errors = ensemble.errors()
        shared = {field.name for field in fields(cls)} & {field.name for field in fields(TrainedErrors)}
        return cls(
            width=ensemble.network.common_width,
            depth=ensemble.network.depth,
            temperature=ensemble.settings["temperature"],
            n_train=len(ensemble.train),
            method=ensemble.settings["optimiser"],
            steps=ensemble.steps,
            learning_rate=ensemble.settings["learning_rate"],
            order_parameters=[float(q) for q in np.ravel(_order_parameters(ensemble))],
            log_evidence=None,
            complete=ensemble.complete,
            seconds=seconds,
            **{name: getattr(errors, name) for name in shared},
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON but for NaN."""
        return asdict(self)


def trained_curve(
    network: Network,
    train: Dataset,
    test: Dataset,
    widths: Sequence[int] | None = None,
    temperature: float = 0.0,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Iterator[TrainedRow]:
    """Train networks of every width (hidden layers all that wide), one after another; None: the network's own.

    ``options``: as for ``fw.train``. checkpoint: a folder, made if need be, with one checkpoint a run, so that a curve
    that was cut short goes on where it was. Everything is checked before the first run; rows come one by one. An
    interrupt (Ctrl-C) ends the curve after the row of what there is, and is passed on where there is none.
    """
    return (
        TrainedRow.of(ensemble, seconds)
        for ensemble, seconds in _ensembles(network, train, test, widths, temperature, checkpoint, options)
    )


def _ensembles(
    network: Network,
    data: Dataset,
    test: Dataset,
    widths: Sequence[int] | None,
    temperature: float,
    checkpoint: str | os.PathLike[str] | None,
    options: dict[str, Any],
) -> Iterator[tuple[Ensemble, float]]:
    checks.instance("network", network, Network, "write fw.FullyConnected(widths=100), for example")
    networks = [network] if widths is None else [network.with_width(w) for w in checks.sequence("widths", widths)]
    folder = None if checkpoint is None else folder_of(checkpoint)
    settings = {name: value for name, value in options.items() if name not in ("progress", "memory")}
    for net in networks:
        Request(network=net, data=data, test=test, temperature=temperature, **settings)
    return _trained(networks, data, test, temperature, folder, options)


def _trained(
    networks: list[Network],
    data: Dataset,
    test: Dataset,
    temperature: float,
    folder: Path | None,
    options: dict[str, Any],
) -> Iterator[tuple[Ensemble, float]]:
    costs = [sum(network.widths) for network in networks]
    jobs = Jobs(sum(costs), f"training networks of {len(networks)} widths on {len(data)} points" if costs[1:] else "")

    def job(network: Network, cost: float) -> tuple[str, str, Callable[[Path | None, bool | str], Ensemble]]:
        def work(file: Path | None, progress: bool | str) -> Ensemble:
            with jobs.one(cost):
                return train(network, data, test, temperature, checkpoint=file, **options | {"progress": progress})

        return f"width-{'-'.join(map(str, network.widths))}.npz", f"width {network.widths[0]}", work

    works = [job(*both) for both in zip(networks, costs, strict=True)]
    return one_after_another(works, folder, bool(options.get("progress")))


def _order_parameters(ensemble: Ensemble) -> np.ndarray:
    """Q as the theory lays it out: without weight sharing only its diagonal has a meaning."""
    q, network = ensemble.order_parameter, ensemble.network
    diagonal = not network.shares_weights and ensemble.readouts.shape[1] == 1
    return np.diagonal(q) if diagonal else q
