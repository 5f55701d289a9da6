"""Convolutional networks of one hidden layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from finitewidth.networks.local import LocalNetwork
from finitewidth.networks.patches import PatchGrid

if TYPE_CHECKING:
    from jax import Array as JaxArray


@dataclass(frozen=True)
class Convolutional(LocalNetwork):
    """``h_i^a = w^a.x_i / sqrt(M)``, ``f = (1/sqrt(N n)) sum_{i,a} v_i^a phi(h_i^a)``: shared weights.

    With ``pool="average"``: ``f = (1/sqrt(N)) sum_a v^a (1/n) sum_i phi(h_i^a)`` (docs/theory.md section 0;
    Aiudi et al. 2025). Offsets, if any, belong to channels, so all patches share them too.
    Hidden weights are (N, M), offsets (N,). See ``LocalNetwork`` for the fields.
    """

    def _weight_shape(self, grid: PatchGrid) -> tuple[int, ...]:
        return (self.channels, grid.patch_size)

    def _preactivations(self, weights: JaxArray, patches: JaxArray) -> JaxArray:
        return patches @ weights.T
