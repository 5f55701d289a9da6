"""Patches: against a loop over patches, in NumPy and JAX, and what is refused."""

import itertools
import math

import numpy as np
import pytest

from finitewidth.checks.exceptions import InputError
from finitewidth.networks.patches import PatchGrid

GRIDS = [
    PatchGrid((8, 8, 1), 4, 4),
    PatchGrid((6, 9, 2), (2, 3), (2, 3)),
    PatchGrid((6, 9, 2), (3, 4), (1, 2)),  # overlapping
    PatchGrid((7, 10, 1), 2, 3),  # gaps, and a remainder that is not seen
    PatchGrid((7, 10, 3), 3, 2, "same"),
    PatchGrid((5, 6, 1), (4, 5), (2, 5), "same"),
    PatchGrid((5, 5, 1), 1, 2, "same"),  # no padding needed
    PatchGrid((11, 2), (3,), (2,)),
    PatchGrid((11, 2), 4, 3, "same"),
    PatchGrid((7, 10, 3), 3, 2, 1),
    PatchGrid((3, 4, 1), (4, 3), 2, (2, 0)),
    PatchGrid((5, 4, 3), (5, 4), 1),  # one patch, the image
]


def by_loop(grid, x):
    """Patches one by one, from the definition of the padding."""
    image = x.reshape(len(x), *grid.input_shape)
    counts, widths = [], [(0, 0)]
    zeros = (0, 0) if isinstance(grid.padding, str) else np.broadcast_to(grid.padding, 2)
    for full, size, step, beside in zip(grid.space, grid.patch, grid.stride, zeros, strict=False):
        if beside or not isinstance(grid.padding, str):
            counts.append((full + 2 * beside - size) // step + 1)
            widths.append((beside, beside))
            continue
        counts.append(math.ceil(full / step) if grid.padding == "same" else (full - size) // step + 1)
        total = max(0, (counts[-1] - 1) * step + size - full) if grid.padding == "same" else 0
        widths.append((total // 2, total - total // 2))
    image = np.pad(image, [*widths, (0, 0)])
    patches = []
    for place in itertools.product(*map(range, counts)):
        window = tuple(slice(k * s, k * s + m) for k, s, m in zip(place, grid.stride, grid.patch, strict=True))
        patches.append(image[(slice(None), *window)].reshape(len(x), -1))
    return np.stack(patches, axis=1)


@pytest.mark.parametrize("grid", GRIDS, ids=repr)
def test_patches_equal_those_of_a_loop(grid):
    x = np.random.default_rng(0).standard_normal((3, *grid.input_shape))
    patches = grid.extract(x)
    assert patches.shape == (3, grid.n_patches, grid.patch_size)
    np.testing.assert_array_equal(patches, by_loop(grid, x))
    np.testing.assert_array_equal(patches, grid.extract(x.reshape(3, -1)))
    assert math.prod(grid.grid_shape) == grid.n_patches


@pytest.mark.parametrize("grid", GRIDS, ids=repr)
def test_jax_arrays_pass_through_and_under_jit(grid):
    jax = pytest.importorskip("jax")
    x = np.random.default_rng(1).standard_normal((3, *grid.input_shape)).astype(np.float32)
    patches = jax.jit(grid.extract)(jax.numpy.asarray(x))
    assert isinstance(patches, jax.Array)
    np.testing.assert_array_equal(patches, grid.extract(x))


def test_positions_are_first_corners_in_the_input():
    np.testing.assert_array_equal(PatchGrid((4, 6, 1), 2, (2, 4)).positions, [(0, 0), (0, 4), (2, 0), (2, 4)])
    # 3 patches of 3 at stride 2 on 6 pixels need 7: the odd zero goes behind
    np.testing.assert_array_equal(PatchGrid((6, 1), 3, 2, "same").positions[:, 0], [0, 2, 4])
    np.testing.assert_array_equal(PatchGrid((6, 1), 3, 1, "same").positions[:, 0], [-1, 0, 1, 2, 3, 4])


def test_every_pixel_is_seen_with_zero_padding():
    for size, patch in itertools.product(range(1, 12), range(1, 5)):
        for stride in range(1, patch + 1):
            if patch <= size:
                grid = PatchGrid((size, 1), patch, stride, "same")
                assert set(grid.indices.ravel()) >= set(range(size))
                assert grid.n_patches == math.ceil(size / stride)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (((8, 8, 1), 9, 1), "patch=(8, 8)"),
        (((8, 6, 1), (4, 7), 1), "patch=(4, 6)"),
        (((8, 8, 1), 4, 0), "stride"),
        (((8, 8, 1), 4, -1), "stride"),
        (((8, 8, 1), 2.5, 1), "patch"),
        (((8, 8, 1), None, 1), "patch"),
        (((8, 8, 1), (2, 2, 2), 1), "patch"),
        (((8, 8, 1), (2,), 2), "patch"),
        (((8, 8), (4, 4), 4), "input_shape=(8, 8, 1)"),
        (((8, 8), 4, 4), "input_shape=(8, 8, 1)"),  # channels missing, or a signal: say which
        (((8,), 4, 4), "input_shape"),
        (((8, 0, 1), 4, 4), "input_shape[1]"),
        ((64, 4, 4), "input_shape"),
        (((8, 8, 1), 4, 4, "zero"), "same"),
        (((8, 8, 1), 4, 4, -1), "padding"),
        (((8, 8, 1), 4, 4, (1, 1, 1)), "padding"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(arguments, said):
    with pytest.raises(InputError) as caught:
        PatchGrid(*arguments)
    assert said in str(caught.value)
    assert "wanted:" in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "columns", "said"),
    [
        ((8, 8, 1), 192, "(8, 8, 3)"),
        ((8, 8, 1), 81, "(9, 9, 1)"),
        ((12, 1), 13, "(13, 1)"),
        ((8, 8, 1), 65, "(65, 1)"),
    ],
)
def test_points_of_another_size_are_refused(shape, columns, said):
    with pytest.raises(InputError) as caught:
        PatchGrid(shape, 4, 4).extract(np.ones((2, columns)))
    assert said in str(caught.value)
