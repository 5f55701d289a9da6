"""What cannot be solved on patches: one line that says what was given, what is wanted and what to do."""

import re

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.kernels.local import memory_estimate

IMAGES = np.random.default_rng(0).standard_normal((12, 8, 8))
LABELS = np.arange(12) % 2
BOTH = pytest.mark.parametrize("kind", [fw.Convolutional, fw.LocallyConnected])


def solve(network, x=IMAGES, y=LABELS, **more):
    return fw.solve(fw.theory_of(network, 0.05), fw.Dataset(x, y), **more)


def refused(match, call, *args, error=fw.InputError, **more):
    """The message, which has its three parts on one line."""
    with pytest.raises(error, match=match) as caught:
        call(*args, **more)
    text = str(caught.value)
    assert "; wanted: " in text
    assert "\n" not in text
    assert isinstance(caught.value, fw.InputError)
    given, wanted, remedy = caught.value.given, caught.value.wanted, caught.value.remedy
    assert all((given, wanted, remedy))
    return text


@BOTH
def test_patch_larger_than_the_image(kind):
    text = refused("patch of 9 x 9", solve, kind(channels=5, patch=9))
    assert "8 x 8" in text
    assert "patch=(8, 8)" in text
    refused("patch of 3 x 9", kind, channels=5, patch=(3, 9), input_shape=(8, 8, 1))


@BOTH
@pytest.mark.parametrize("stride", [0, -1, (2, 0), 1.5, "two"])
def test_a_stride_that_is_none(kind, stride):
    refused("stride", kind, channels=5, patch=2, stride=stride)


@BOTH
@pytest.mark.parametrize("patch", [0, (0, 2), 2.5, (2, 2, 2), ()])
def test_a_patch_that_is_none(kind, patch):
    refused("patch", kind, channels=5, patch=patch)


@pytest.mark.parametrize("channels", [0, -3, 2.5, "many", None])
def test_channels_that_are_none(channels):
    refused("channels", fw.Convolutional, channels=channels, patch=2)


@BOTH
def test_input_shape_that_does_not_multiply_to_the_columns(kind):
    text = refused(
        r"points of shape \(64,\)", solve, kind(channels=5, patch=2, input_shape=(8, 9, 1)), IMAGES.reshape(12, 64)
    )
    assert "8 x 9 x 1 = 72" in text
    assert "input_shape=(8, 8, 1)" in text
    refused("shape", solve, kind(channels=5, patch=2, input_shape=(4, 16, 1)))


@BOTH
def test_flat_points_without_a_shape(kind):
    text = refused("flat points of 64 inputs", solve, kind(channels=5, patch=2), IMAGES.reshape(12, 64))
    assert "input_shape=(8, 8, 1)" in text


@BOTH
def test_channels_missing_in_the_shape(kind):
    text = refused("without channels", kind, channels=5, patch=2, input_shape=(8, 8))
    assert "input_shape=(8, 8, 1)" in text


def test_test_points_of_another_shape():
    solution = solve(fw.Convolutional(channels=5, patch=2))
    refused("x of shape", fw.predict, solution, IMAGES[:, :7])


@pytest.mark.parametrize("outputs", [1, 3])
def test_more_patches_than_memory_allows(outputs):
    """The refusal names its estimate and something smaller, before anything is allocated."""
    x = np.random.default_rng(0).standard_normal((200, 28, 28))
    train = fw.Dataset(x, np.arange(200) % (outputs + 1) if outputs > 1 else np.arange(200) % 2)
    theory = fw.theory_of(fw.Convolutional(channels=5, patch=4, stride=1), 0.05)
    cap = 30e6 if outputs == 1 else 500e6
    text = refused("625 patches", fw.solve, theory, train, memory=cap, error=fw.MemoryCapError)
    assert re.search(r"need[s]? about [\d.]+ [MG]B", text)
    assert f"{cap / 1e6:.0f} MB" in text


def test_a_larger_stride_fits():
    x = np.random.default_rng(0).standard_normal((60, 16, 16))
    network, cap = fw.Convolutional(channels=5, patch=4, stride=1), 1.02 * memory_estimate(60, 16, False, 16)
    text = refused("169 patches", solve, network, x, np.arange(60) % 2, memory=cap, error=fw.MemoryCapError)
    assert "a larger stride" in text
    assert solve(fw.Convolutional(channels=5, patch=4, stride=4), x, np.arange(60) % 2, memory=cap).converged


def test_one_class():
    refused("one class only", fw.Dataset, IMAGES, np.zeros(12, int))


def test_a_class_unseen_in_training():
    train = fw.Dataset(IMAGES, np.arange(12) % 3)
    refused("unseen in training", train.like, IMAGES, np.arange(12) % 4)
    solution = fw.solve(fw.theory_of(fw.Convolutional(channels=5, patch=4), 0.05), train)
    two = fw.Dataset(IMAGES, LABELS)  # another encoding
    refused("targets of shape", fw.predict(solution, IMAGES).errors, two.y)


def test_what_has_no_theory():
    refused("pool", fw.LocallyConnected, channels=5, patch=2, pool="average")
    refused("pool", fw.Convolutional, channels=5, patch=2, pool="max")
    refused("padding", fw.Convolutional, channels=5, patch=2, padding="zero")
    refused("integrate", fw.theory_of, fw.Convolutional(channels=5, patch=2), 0.05, method="integrate")
    pooled = solve(fw.Convolutional(channels=5, patch=2, pool="average"))
    refused("no patches", pooled.q_map)
    infinite = fw.theory_of(fw.Convolutional(channels=5, patch=2), 0.05, method="infinite")
    refused("no patches", fw.solve(infinite, fw.Dataset(IMAGES, LABELS)).q_map)
