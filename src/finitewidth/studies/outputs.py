"""Study ``outputs``: correlations between the outputs of a network of several classes (Baglioni et al. 2025)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from finitewidth.jobs import predict, solve, theory_of
from finitewidth.networks import FullyConnected
from finitewidth.report.findings import Cell, Claim, Findings, Panel, Series, Table
from finitewidth.studies.fc_width import stops
from finitewidth.studies.study import FULL, Plan, Study, Work
from finitewidth.studies.theory_and_samples import Pair, Sampled, correlation, curves, error_table, pair, remarks, upper

Array = np.ndarray
AGREEMENT = 0.95
_BLOCKS = 20  # blocks of draws of a chain, for standard errors


def compute(work: Work) -> Findings:
    """Q between outputs, and the covariance of the outputs at test points: predicted and sampled."""
    network = FullyConnected(widths=work.plan.widths[0], activation=work.plan.activation)
    found = pair(work, "fully connected", network, work.plan.temperature)
    covariances = [(s, predicted_covariance(work, found, s), sampled_covariance(s)) for s in found.sampled]
    return Findings(
        claims=tuple(_claims(found, covariances)),
        tables=(error_table([found], "Several outputs: theory beside samples"), _table(found, covariances)),
        panels=(
            Panel("Test error", "width N", "test error", curves([found], "test_error")),
            Panel(
                *("Entries of Q - 1", "Q - 1, theory", "Q - 1, sampled"),
                tuple(
                    Series(f"width {s.width}", "points", k, *_scatter(found, s)) for k, s in enumerate(found.sampled)
                ),
                log_x=False,
                diagonal=True,
            ),
            Panel(
                *("Covariance of outputs", "mean covariance, theory", "mean covariance, sampled"),
                tuple(
                    Series(f"width {s.width}", "points", k, _floats(upper(t)), *map(_floats, map(upper, sampled)))
                    for k, (s, t, sampled) in enumerate(covariances)
                ),
                log_x=False,
                diagonal=True,
            ),
        ),
        slider=stops([found]),
        notes=remarks(work, [found]),
    )


def predicted_covariance(work: Work, found: Pair, sampled: Sampled) -> Array:
    """Covariance between outputs, averaged over the test points, flat (D D,)."""
    network = found.network.with_width(sampled.width)
    covariance = predict(solve(theory_of(network, found.temperature), work.train), work.test.x).covariance
    assert covariance is not None  # several outputs
    return covariance.mean(0).ravel()


def sampled_covariance(sampled: Sampled) -> tuple[Array, Array]:
    """The same of the samples, and its standard error from blocks of the chains; flat (D D,).

    Given the hidden weights outputs are independent: the conditional variance is on the diagonal, the covariance of
    the conditional means is everywhere.
    """
    mean, variance = sampled.draws.mean, sampled.draws.variance
    outputs = mean.shape[-1]
    centred = mean - mean.mean((0, 1))
    each = np.einsum("cdpa,cdpb->cdab", centred, centred) / mean.shape[2]
    each[..., np.arange(outputs), np.arange(outputs)] += variance.mean(2)
    blocks = [part.mean(0).ravel() for chain in each for part in np.array_split(chain, min(_BLOCKS, len(chain)))]
    error = np.std(blocks, axis=0, ddof=1) / math.sqrt(len(blocks))
    return each.mean((0, 1)).ravel(), error


def _between(values: Array) -> Array:
    """Entries i < j of a flat square matrix."""
    size = math.isqrt(len(values))
    return values.reshape(size, size)[np.triu_indices(size, 1)]


def _claims(found: Pair, covariances: list[tuple[Sampled, Array, tuple[Array, Array]]]) -> Iterator[Claim]:
    for sampled, predicted, (mean, error) in covariances:
        width = sampled.width
        q = found.at(width).order_parameters
        for what, parts in (
            ("Q between outputs", (np.array(q), sampled.q, sampled.q_se)),
            ("the covariance of outputs", (predicted, mean, error)),
        ):
            theory, truth, error_of = map(_between, parts)
            value, spread = correlation(theory, truth, error_of)
            yield Claim.above(
                f"theory and samples agree in {what}, correlation of the entries i < j above {AGREEMENT:g}",
                f"width {width}, correlation",
                value,
                spread,
                AGREEMENT,
            )
        t, s, se = map(_between, (predicted, mean, error))
        norm = float(np.linalg.norm(t))
        yield Claim.above(
            "the outputs of a finite network are correlated, as the theory predicts (independent at infinite width)",
            f"width {width}, sampled covariances i != j along the predicted ones",
            float(t @ s) / norm if norm else math.nan,
            float(np.linalg.norm(t * se)) / norm if norm else math.nan,
        )


def _scatter(found: Pair, sampled: Sampled) -> tuple[tuple[float, ...], ...]:
    q = np.array(found.at(sampled.width).order_parameters)
    identity = np.eye(math.isqrt(len(q))).ravel()
    return tuple(_floats(upper(values)) for values in (q - identity, sampled.q - identity, sampled.q_se))


def _floats(values: Array) -> tuple[float, ...]:
    return tuple(map(float, values))


def _table(found: Pair, covariances: list[tuple[Sampled, Array, tuple[Array, Array]]]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for sampled, predicted, (mean, error) in covariances:
        q = np.array(found.at(sampled.width).order_parameters)
        size = math.isqrt(len(q))
        for i, j in zip(*np.triu_indices(size), strict=True):
            k = i * size + j
            pairs = ((float(sampled.q[k]), float(sampled.q_se[k])), (float(mean[k]), float(error[k])))
            named = (str(sampled.width), f"{i + 1}, {j + 1}")
            rows.append((*named, float(q[k]), pairs[0], float(predicted[k]), pairs[1]))
    columns = ("width", "outputs", "Q theory", "Q sampled", "covariance theory", "covariance sampled")
    return Table("Between outputs (covariance: mean over the test points)", columns, tuple(rows))


STUDY = Study(
    name="outputs",
    question="How are the outputs of a finite network of several classes correlated, and does the theory predict it?",
    small=Plan(classes=(3, 5, 8, 9), temperatures=(0.1,), sampled=(20, 80)),
    full=replace(FULL, classes=(0, 1, 2), n_train=300, temperatures=(0.05,)),
    compute=compute,
    outputs="several",
    runs=lambda plan: len(plan.sampled),
)
