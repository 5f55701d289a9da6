"""An architecture of one's own: a subclass that states its covariance, and its finite network where that is sampled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from finitewidth.linalg import excess
from finitewidth.networks.base import OfLayers

Array = np.ndarray


@dataclass(frozen=True, kw_only=True)
class OwnArchitecture(OfLayers):
    """Subclass this, and theory, sampling and training take the network as they take the package's own.

    For theory write ``covariance``; it is the saddle of the action with one scalar order parameter a hidden layer and
    Gaussian features (docs/theory.md section 2), for one output. For sampling and training write ``init_hidden``,
    ``features`` and ``hidden_log_prior`` (see ``Network``), and ``n_features`` where it is not N_L. Both sides are
    yours, so hold one to the other: ``fw.kernels.empirical`` estimates the covariance of the finite network
    (docs/recipes.md does it).

    widths: N_1 .. N_L; a single number is one hidden layer. See ``Network`` for the other fields.
    """

    widths: Any = 100

    def covariance(self, order_parameters: Array, x1: Array, x2: Array) -> Array:
        """K_R(Q), (points1, points2), readout precision included; Q = 1 in every layer is infinite width.

        order_parameters: Q, (L,). x1, x2: points as the data hold them.
        """
        raise NotImplementedError

    def rate(self, order_parameters: Array) -> float:
        """What Q costs, twice nats: ``sum_l N_l (Q_l - log Q_l - 1)``, unless you know better."""
        return float(sum(n * excess(q - 1.0) for n, q in zip(self.widths, order_parameters, strict=True)))
