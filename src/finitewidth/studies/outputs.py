"""Study ``outputs``: correlations between the outputs of a network of several classes (Baglioni et al. 2025)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from finitewidth.jobs.job import predict, solve, theory_of
from finitewidth.networks import FullyConnected
from finitewidth.report.findings import Cell, Claim, Findings, Table
from finitewidth.studies.study import FULL, Plan, Study, Work
from finitewidth.studies.theory_and_samples import (
    AGREEMENT,
    Line,
    Sampled,
    along,
    correlation,
    entries_panel,
    error_panel,
    error_table,
    free_entries,
    marks,
    over_widths,
    remarks,
    stops,
    upper,
)

Array = np.ndarray
Covariance = tuple[Array, Array, Array]  # predicted, sampled and its standard error, each flat (D D,)
_BLOCKS = 20  # blocks of draws of a chain, for standard errors


def compute(work: Work) -> Findings:
    """Q between outputs, and the covariance of the outputs at test points: predicted and sampled."""
    network = FullyConnected(widths=work.plan.widths[0], activation=work.plan.activation)
    found = over_widths(work, "fully connected", network, work.plan.temperature)
    covariances = {
        width: (predicted_covariance(work, network.with_width(width)), *sampled_covariance(sampled))
        for width, sampled in found.sampled.items()
    }
    q = (marks(f"width {width}", k, *free_entries(found, width)) for k, width in enumerate(found.sampled))
    together = (marks(f"width {w}", k, *map(upper, c)) for k, (w, c) in enumerate(covariances.items()))
    return Findings(
        claims=tuple(_claims(found, covariances)),
        tables=(error_table([found], "Several outputs: theory beside samples"), _table(found, covariances)),
        panels=(
            error_panel([found], "test_error"),
            entries_panel(q),
            entries_panel(together, "mean covariance", "Covariance of outputs"),
        ),
        slider=stops([found]),
        notes=remarks([found]),
    )


def predicted_covariance(work: Work, network: FullyConnected) -> Array:
    """Between outputs, of the theory, averaged over the test points."""
    covariance = predict(solve(theory_of(network, work.plan.temperature), work.train), work.test.x).covariance
    assert covariance is not None  # several outputs
    return covariance.mean(0).ravel()


def sampled_covariance(sampled: Sampled) -> tuple[Array, Array]:
    """The same of the samples, and its standard error from blocks of the chains.

    Given the hidden weights outputs are independent: the conditional variance is on the diagonal, the covariance of
    the conditional means is everywhere.
    """
    mean, variance = sampled.run.mean, sampled.run.variance
    outputs = mean.shape[-1]
    centred = mean - mean.mean((0, 1))
    each = np.einsum("cdpa,cdpb->cdab", centred, centred) / mean.shape[2]
    each[..., np.arange(outputs), np.arange(outputs)] += variance.mean(2)
    blocks = [part.mean(0).ravel() for chain in each for part in np.array_split(chain, min(_BLOCKS, len(chain)))]
    error = np.std(blocks, axis=0, ddof=1) / math.sqrt(len(blocks))
    return each.mean((0, 1)).ravel(), error


def _claims(found: Line, covariances: dict[int, Covariance]) -> Iterator[Claim]:
    for width, theory, sampled in found.both():
        q = np.array(theory.order_parameters), sampled.q, sampled.q_se
        for what, parts in (("Q between outputs", q), ("the covariance of outputs", covariances[width])):
            yield Claim.above(
                f"theory and samples agree in {what}, correlation of the entries i < j above {AGREEMENT:g}",
                f"width {width}, correlation",
                *correlation(*(upper(part, 1) for part in parts)),
                AGREEMENT,
            )
        yield Claim.above(
            "the outputs of a finite network are correlated, as the theory predicts (independent at infinite width)",
            f"width {width}, sampled covariances i != j along the predicted ones",
            *along(*(upper(part, 1) for part in covariances[width])),
        )


def _table(found: Line, covariances: dict[int, Covariance]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for width, theory, sampled in found.both():
        columns = (np.array(theory.order_parameters), sampled.q, sampled.q_se, *covariances[width])
        size = math.isqrt(len(sampled.q))
        for i, j in zip(*np.triu_indices(size), strict=True):
            q, q_sampled, q_se, predicted, mean, error = (float(part[i * size + j]) for part in columns)
            rows.append((str(width), f"{i + 1}, {j + 1}", q, (q_sampled, q_se), predicted, (mean, error)))
    names = ("width", "outputs", "Q theory", "Q sampled", "covariance theory", "covariance sampled")
    return Table("Between outputs (covariance: mean over the test points)", names, tuple(rows))


STUDY = Study(
    name="outputs",
    question="How are the outputs of a finite network of several classes correlated, and does the theory predict it?",
    small=Plan(classes=(3, 5, 8, 9), temperatures=(0.1,), sampled=(20, 80)),
    full=replace(FULL, classes=(0, 1, 2), n_train=300, temperatures=(0.05,)),
    compute=compute,
    outputs="several",
    runs=lambda plan: len(plan.sampled),
)
