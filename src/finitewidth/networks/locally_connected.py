"""Locally connected networks of one hidden layer: convolutional ones without weight sharing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from finitewidth.checks.exceptions import InputError
from finitewidth.networks.local import LocalNetwork
from finitewidth.networks.patches import PatchGrid

if TYPE_CHECKING:
    from jax import Array as JaxArray


@dataclass(frozen=True)
class LocallyConnected(LocalNetwork):
    """``h_i^a = w_i^a.x_i / sqrt(M)``, ``f = (1/sqrt(N n)) sum_{i,a} v_i^a phi(h_i^a)``: own weights a patch.

    docs/theory.md section 0. Offsets, if any, belong to one patch and channel each. Hidden weights are (n, N, M),
    offsets (n, N). See ``LocalNetwork`` for the fields; ``pool`` must be "none": without shared weights the
    average over patches has no theory here, InputError.
    """

    shares_weights = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pool != "none":
            raise InputError(
                f"LocallyConnected with pool = {self.pool!r}",
                'pool="none": the average-pooled readout is defined for shared weights',
                "leave pool out, or take Convolutional",
            )

    def _weight_shape(self, grid: PatchGrid) -> tuple[int, ...]:
        return (grid.n_patches, self.channels, grid.patch_size)

    def _preactivations(self, weights: JaxArray, patches: JaxArray) -> JaxArray:
        by_patch = patches.swapaxes(0, 1) @ weights.swapaxes(1, 2)  # (n, P, N)
        return by_patch.swapaxes(0, 1)
