"""Stacks of layers against neural-tangents 0.6.5, to 1e-8: see ``neural_tangents_reference.py``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import finitewidth as fw

CASES = json.loads(Path(__file__).with_name("stacks.json").read_text())


def worst(got, wanted):
    return np.abs(np.asarray(got) / np.asarray(wanted) - 1.0).max()


@pytest.mark.parametrize("name", CASES)
def test_equal_to_the_independent_implementation(name):
    case = CASES[name]
    rng = np.random.default_rng(3)
    x1, x2 = rng.standard_normal((3, *case["point_shape"])), rng.standard_normal((2, *case["point_shape"]))
    kernel = fw.kernels.from_layers(case["layers"])
    assert worst(kernel.nngp(x1, x2), case["nngp"]) < 1e-8
    assert worst(kernel.ntk(x1, x2), case["ntk"]) < 1e-8


def test_another_variance_would_be_seen():
    case = CASES["conv_gap"]
    rng = np.random.default_rng(3)
    x1, x2 = rng.standard_normal((3, *case["point_shape"])), rng.standard_normal((2, *case["point_shape"]))
    kernel = fw.kernels.from_layers([*case["layers"][:-1], {"dense": {"weight_precision": 1.0 / 2.0001}}])
    assert worst(kernel.nngp(x1, x2), case["nngp"]) > 1e-8
