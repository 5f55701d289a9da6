"""A sampled network as the line of a learning curve."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from finitewidth.display import Displayed
from finitewidth.networks import Network
from finitewidth.sampling.draws import Draws, SampledErrors

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
    def of(cls, network: Network, draws: Draws, temperature: float, n_train: int, y: Any, seconds: float) -> SampledRow:
        """Of draws at test points and the targets ``y`` there, an array or the ``Dataset``."""
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
            order_parameters=[float(q) for q in np.ravel(order_parameters(network, draws))],
            log_evidence=None,
            acceptance=float(draws.acceptance.mean()),
            complete=draws.complete,
            seconds=seconds,
            **{name: getattr(errors, name) for name in shared},
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return asdict(self)


def order_parameters(network: Network, draws: Draws) -> Array:
    """Q as the theory lays it out: without weight sharing only its diagonal has a meaning."""
    if "order_parameter" not in draws.observables:
        return np.empty(0)
    q = draws.order_parameter
    diagonal = not network.shares_weights and draws.mean.ndim == 3
    return np.diagonal(q) if diagonal else q
