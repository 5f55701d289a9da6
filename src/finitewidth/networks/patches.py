"""How an image, or a one-dimensional signal, is cut into the patches that local networks look at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from finitewidth import checks
from finitewidth.checks.exceptions import InputError

if TYPE_CHECKING:
    from jax import Array as JaxArray

PADDINGS = ("none", "same")
Padding = str | int | tuple[int, ...]
Points = TypeVar("Points", np.ndarray, "JaxArray")


@dataclass(frozen=True)
class PatchGrid:
    """The n patches of an image (height, width, channels) or of a signal (length, channels).

    Attributes
    ----------
    input_shape: (height, width, channels) or (length, channels). Two entries are a signal, so ``patch`` must
        then be a number or a 1-tuple; (height, width) without channels is refused.
    patch, stride: a number for every direction, or one number a direction; patches may overlap
        (stride < patch) and may leave gaps (stride > patch).
    padding: "none": the whole patches inside the image, ``floor((size - patch) / stride) + 1`` a direction;
        what is left over at the end is not seen. "same": ``ceil(size / stride)`` patches a direction, over
        the image padded by ``max(0, (count - 1) stride + patch - size)`` zeros, half of them (rounded down)
        before it and the rest behind it. Numbers: so many zeros on either side, one number for every direction or
        one a direction. M counts the padded zeros: preactivations are divided by sqrt(M) at the border too.

    Patches are numbered row by row; the M inputs of a patch run over (rows, columns, channels), channels
    fastest. Raises InputError for patches that do not fit, strides of zero and missing channels.
    """

    input_shape: Any
    patch: Any
    stride: Any
    padding: Any = "none"

    def __post_init__(self) -> None:
        shape = shape_of_input(self.input_shape)
        _refuse_missing_channels(shape, sizes_of("patch", self.patch))
        object.__setattr__(self, "input_shape", shape)
        for name in ("patch", "stride"):
            object.__setattr__(self, name, per_direction(name, sizes_of(name, getattr(self, name)), shape[:-1]))
        checks.put(self, padding=padding_of)
        if min(self.grid_shape) < 1:
            raise InputError(
                f"a patch of {times(self.patch)} in an input of {times(self.space)}",
                f"a patch of at most {times(self.space)}, or padding",
                f"give patch={tuple(map(min, self.patch, self.space))}, for example",
            )

    # --- geometry -----------------------------------------------------------------------------------------

    @property
    def space(self) -> tuple[int, ...]:
        """The input's shape without its channels."""
        return self.input_shape[:-1]

    @property
    def n_channels(self) -> int:
        return self.input_shape[-1]

    @cached_property
    def windows(self) -> list[tuple[int, int, int, int]]:
        """(patches, zeros in front, size, step) in every direction; of "same" zeros as XLA pads."""
        found = []
        for axis, (full, size, step) in enumerate(zip(self.space, self.patch, self.stride, strict=True)):
            if self.padding == "same":
                count = -(-full // step)
                before = max(0, (count - 1) * step + size - full) // 2
            else:
                padding = 0 if self.padding == "none" else self.padding
                before = per_direction("padding", padding, self.space)[axis]
                count = (full + 2 * before - size) // step + 1
            found.append((count, before, size, step))
        return found

    @property
    def grid_shape(self) -> tuple[int, ...]:
        """Patches in every direction."""
        return tuple(count for count, *_ in self.windows)

    @property
    def margins(self) -> list[tuple[int, int]]:
        """Zeros before and behind the input in every direction; what no patch sees is left as it is."""
        return [
            (before, max(0, (count - 1) * step + size - full - before))
            for full, (count, before, size, step) in zip(self.space, self.windows, strict=True)
        ]

    @property
    def n_patches(self) -> int:
        """n."""
        return math.prod(self.grid_shape)

    @property
    def patch_size(self) -> int:
        """M: inputs in one patch, channels and padded zeros included."""
        return math.prod(self.patch) * self.n_channels

    @cached_property
    def positions(self) -> np.ndarray:
        """First corner of every patch in the input, (n, directions); negative where it is in the padding."""
        corners = [np.arange(count) * step - before for count, before, _, step in self.windows]
        return np.stack(np.meshgrid(*corners, indexing="ij"), axis=-1).reshape(self.n_patches, -1)

    @cached_property
    def indices(self) -> np.ndarray:
        """Where each patch finds its inputs in a flat point, (n, M); the point's size is a padded zero."""
        inside = np.stack(np.meshgrid(*map(np.arange, self.patch), indexing="ij"), axis=-1)
        places = self.positions[:, None] + inside.reshape(1, -1, len(self.space))  # (n, pixels, directions)
        padded = ((places < 0) | (places >= np.array(self.space))).any(-1)
        pixels = np.ravel_multi_index(tuple(np.moveaxis(places, -1, 0)), self.space, mode="clip")
        indices = pixels[..., None] * self.n_channels + np.arange(self.n_channels)
        indices[padded] = math.prod(self.input_shape)
        return indices.reshape(self.n_patches, self.patch_size)

    def extract(self, x: Points) -> Points:
        """Patches (P, n, M) of points (P, ...), flat or not; NumPy and JAX arrays alike, and inside ``jit``.

        Raises InputError if the points do not have the size of ``input_shape``.
        """
        unflattened(tuple(x.shape[1:]), self.input_shape)
        flat = x.reshape(x.shape[0], -1)
        if self.padding != "none":
            xp = x.__array_namespace__()
            flat = xp.concat([flat, xp.zeros((len(flat), 1), dtype=flat.dtype)], axis=1)
        return flat[:, self.indices]


def padding_of(name: str, value: Any) -> Padding:
    """Padding, checked: "none", "same", or zeros on either side, one number or one a direction."""
    return checks.choice(name, value, PADDINGS) if isinstance(value, str) else sizes_of(name, value, least=0)


def shape_of_input(value: Any) -> tuple[int, ...]:
    """(height, width, channels) or (length, channels) as a tuple, or InputError."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence) or len(value) not in (2, 3):
        raise InputError(
            f"input_shape = {checks.shown(value)}",
            "(height, width, channels) of an image or (length, channels) of a signal",
            "give input_shape=(28, 28, 1), for example",
        )
    return tuple(checks.positive_integer(f"input_shape[{i}]", size) for i, size in enumerate(value))


def times(sizes: Sequence[int]) -> str:
    """28 x 28."""
    return " x ".join(str(size) if size < 1e18 else f"{size:.3g}" for size in sizes)


def _refuse_missing_channels(shape: tuple[int, ...], patch: int | tuple[int, ...]) -> None:
    """Two sizes are a signal; a patch of two directions, or two equal sizes, say that an image was meant."""
    if len(shape) != 2:
        return
    number = isinstance(patch, int)
    if (number and shape[0] == shape[1] > 1) or (not isinstance(patch, int) and len(patch) == 2):
        remedy = f"write input_shape=({shape[0]}, {shape[1]}, 1) for an image without colours"
        if number:
            remedy += f", or patch=({patch},) for a signal of {shape[1]} channels"
        raise InputError(
            f"input_shape = {shape} with patch = {checks.shown(patch)}, without channels",
            "(height, width, channels)",
            remedy,
        )


def per_direction(name: str, value: Any, space: Sequence[int]) -> tuple[int, ...]:
    """Sizes for every direction of a space; one number serves all."""
    sizes = (value,) * len(space) if isinstance(value, int) else tuple(value)
    if len(sizes) != len(space) or not space:
        raise InputError(
            f"{name} = {checks.shown(value)} on points with {len(space)} directions",
            "points of 1 or 2 directions, and 1 number or one a direction: channels are no direction",
            f"give {name}={sizes[0] if sizes else value}, for example; and input_shape if the points are flat",
        )
    return sizes


def sizes_of(name: str, value: Any, least: int = 1) -> int | tuple[int, ...]:
    """A patch, stride or padding: one whole number of at least ``least``, or one a direction."""
    if isinstance(value, str) or not isinstance(value, (Sequence, np.ndarray)) or checks.scalar(value):
        return _whole(name, value, least)
    if len(value) not in (1, 2):
        raise InputError(
            f"{name} = {checks.shown(value)}", "1 or 2 whole numbers", f"give {name}=4 or {name}=(4, 4), for example"
        )
    return tuple(_whole(f"{name}[{i}]", size, least) for i, size in enumerate(value))


def _whole(name: str, value: Any, least: int) -> int:
    zero = checks.scalar(value) and not isinstance(value, bool) and value == 0
    return 0 if least == 0 and zero else checks.positive_integer(name, value)


def unflattened(shape: tuple[int, ...], input_shape: tuple[int, ...]) -> tuple[int, ...]:
    """``input_shape`` for points of the given shape, flat or without a lone channel; InputError for others."""
    sizes, wanted = ([size for size in one if size > 1] for one in (shape, input_shape))
    if math.prod(shape) != math.prod(input_shape) or (len(shape) > 1 and sizes != wanted):
        raise InputError(
            f"points of shape {shape} for input_shape={input_shape}",
            f"{times(input_shape)} = {math.prod(input_shape)} inputs a point, of that shape or flat",
            "leave input_shape out to read it off the data, or write "
            f"input_shape={example_shape(math.prod(shape))}, for example",
        )
    return input_shape


def example_shape(size: int) -> tuple[int, ...]:
    """A shape that flat points may have come from: a square image of one or three channels, else a signal."""
    for channels in (1, 3):
        side = math.isqrt(size // channels)
        if side * side * channels == size:
            return (side, side, channels)
    return (size, 1)
