"""Convolutional and locally connected networks: one hidden layer that looks at patches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from finitewidth import checks
from finitewidth.checks.exceptions import InputError
from finitewidth.networks.base import ListedWeights
from finitewidth.networks.patches import PatchGrid, example_shape, padding_of, sizes_of, unflattened

if TYPE_CHECKING:
    from jax import Array as JaxArray

POOLS = ("none", "average")


@dataclass(frozen=True)
class LocalNetwork(ListedWeights):
    """One hidden layer on patches i = 1..n of M inputs each, with N channels a (docs/theory.md section 0).

    Fields
    ------
    channels: N. Order parameters and errors depend on it as on the width of a fully connected layer.
    patch, stride: a number or one number a direction; without ``stride`` the patches tile (stride = patch).
    padding: "none", "same", or zeros on either side, see ``PatchGrid``.
    pool: "none": the readout sees every patch and channel; "average": the mean over patches of each channel.
    input_shape: (height, width, channels) or (length, channels); needed for flat points, else read off the
        data, where points of two sizes are images (height, width) unless ``patch`` is a 1-tuple.
    See ``Network`` for the other fields; ``weight_precision`` is (lambda_0, lambda_1).

    Raises InputError for sizes and names that cannot be.
    """

    channels: Any
    patch: Any
    stride: Any = None
    padding: Any = "none"
    pool: str = "none"
    input_shape: Any = None

    def __post_init__(self) -> None:
        if self.stride is None:
            object.__setattr__(self, "stride", self.patch)
        checks.put(self, channels=checks.positive_integer, patch=sizes_of, stride=sizes_of, padding=padding_of)
        checks.choice("pool", self.pool, POOLS)
        if self.input_shape is not None:
            grid = PatchGrid(self.input_shape, self.patch, self.stride, self.padding)  # refuses what does not fit
            object.__setattr__(self, "input_shape", grid.input_shape)
        super().__post_init__()

    @property
    def widths(self) -> tuple[int, ...]:
        return (self.channels,)

    def with_widths(self, widths: Sequence[int]) -> Self:
        (channels,) = widths
        return replace(self, channels=channels)

    @property
    def patched(self) -> bool:
        return self.pool == "none"

    def n_patches(self, input_shape: tuple[int, ...]) -> int:
        return self.grid(tuple(input_shape)).n_patches

    def field_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        grid = self.grid(tuple(input_shape))
        return (*grid.patch, grid.n_channels)

    def neuron_inputs(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self.grid(x).extract(x)).swapaxes(0, 1)

    # --- which patches ------------------------------------------------------------------------------------

    def grid(self, x_or_shape: Any) -> PatchGrid:
        """The patches of points ``x`` (P, ...), or of one point given by the tuple of its sizes.

        Raises InputError for flat points without ``input_shape`` and for points of another size.
        """
        shape = x_or_shape if isinstance(x_or_shape, (tuple, list)) else x_or_shape.shape[1:]
        point = tuple(int(size) for size in shape)
        if self.input_shape is not None:
            point = unflattened(point, self.input_shape)
        elif len(point) == 1:
            raise InputError(
                f"flat points of {point[0]} inputs for a network on patches",
                "images (points, height, width [, channels]), or input_shape",
                f"write input_shape={example_shape(point[0])}, for example",
            )
        elif len(point) == 2 and (isinstance(self.patch, int) or len(self.patch) == 2):
            point = (*point, 1)
        return PatchGrid(point, self.patch, self.stride, self.padding)

    # --- the finite network: JAX arrays in and out --------------------------------------------------------

    def _preactivations(self, weights: JaxArray, patches: JaxArray) -> JaxArray:
        """``w . x_i`` of patches (P, n, M), without scaling: (P, n, N)."""
        raise NotImplementedError

    def features(self, hidden: dict[str, list[JaxArray]], x: JaxArray) -> JaxArray:
        """``phi(h_i^a) / sqrt(N n)``, (points, n N), patch by patch: feature i N + a is channel a of patch i.

        Average-pooled: ``(1 / (sqrt(N) n)) sum_i phi(h_i^a)``, (points, N). The mean-field readout divides by
        sqrt(N) once more.
        """
        grid = self.grid(x)
        h = self._preactivations(hidden["weights"][0], grid.extract(x)) / math.sqrt(grid.patch_size)
        if hidden["offsets"]:
            h = h + hidden["offsets"][0]
        phi = self.phi.jax_function(h)
        scale = self.channels if self.readout == "mean-field" else math.sqrt(self.channels)
        if self.pool == "average":
            return phi.mean(axis=1) / scale
        return phi.reshape(len(x), -1) / (scale * math.sqrt(grid.n_patches))

    def n_features(self, input_shape: tuple[int, ...]) -> int:
        patches = 1 if self.pool == "average" else self.grid(tuple(input_shape)).n_patches
        return self.channels * patches


@dataclass(frozen=True)
class Convolutional(LocalNetwork):
    """``h_i^a = w^a.x_i / sqrt(M)``, ``f = (1/sqrt(N n)) sum_{i,a} v_i^a phi(h_i^a)``: shared weights.

    With ``pool="average"``: ``f = (1/sqrt(N)) sum_a v^a (1/n) sum_i phi(h_i^a)`` (docs/theory.md section 0;
    Aiudi et al. 2025). Offsets, if any, belong to channels, so all patches share them too.
    Hidden weights are (N, M), offsets (N,). See ``LocalNetwork`` for the fields.
    """

    def _weight_shapes(self, input_shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        return [(self.channels, self.grid(input_shape).patch_size)]

    def _preactivations(self, weights: JaxArray, patches: JaxArray) -> JaxArray:
        return patches @ weights.T


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

    def _weight_shapes(self, input_shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        grid = self.grid(input_shape)
        return [(grid.n_patches, self.channels, grid.patch_size)]

    def _preactivations(self, weights: JaxArray, patches: JaxArray) -> JaxArray:
        by_patch = patches.swapaxes(0, 1) @ weights.swapaxes(1, 2)  # (n, P, N)
        return by_patch.swapaxes(0, 1)
