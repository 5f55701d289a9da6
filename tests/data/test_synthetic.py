"""The teacher: the law it promises, seeds, and independence of the sizes asked for."""

from __future__ import annotations

import numpy as np
import pytest

from finitewidth.checks.exceptions import InputError, MemoryCapError
from finitewidth.data import one_hidden_layer_teacher


def teacher(n_train, n_test, **options):
    return one_hidden_layer_teacher(n_train, n_test, 7, **{"width": 5, "noise": 0.1} | options)


def test_seeds():
    for first, second in zip(teacher(10, 5, seed=1), teacher(10, 5, seed=1), strict=True):
        assert first.fingerprint() == second.fingerprint()
    assert teacher(10, 5, seed=1)[0].fingerprint() != teacher(10, 5, seed=2)[0].fingerprint()


def test_sizes_do_not_disturb_one_another():
    small, large = teacher(10, 5, seed=1), teacher(20, 5, seed=1)
    assert small[1].fingerprint() == large[1].fingerprint()
    np.testing.assert_array_equal(small[0].x, large[0][:10].x)
    np.testing.assert_allclose(small[0].y, large[0][:10].y, rtol=1e-12, atol=1e-14)  # BLAS sums by its own blocks


def test_train_and_test_differ():
    train, test = teacher(10, 10, seed=0)
    assert not np.isin(train.x, test.x).any()


@pytest.mark.parametrize(
    "bad",
    [
        {"n_train": 0},
        {"n_test": 0},
        {"n_train": 2.5},
        {"seed": -1},
        {"seed": "a"},
        {"noise": -1.0},
        {"noise": np.nan},
        {"width": 0},
        {"activation": "rellu"},
    ],
)
def test_bad_input(bad):
    with pytest.raises(InputError, match="wanted"):
        teacher(**{"n_train": 10, "n_test": 5} | bad)


def test_what_does_not_fit_is_not_drawn():
    for sizes in ((10**12, 5, 7, 5), (5, 5, 10**10, 5), (5, 5, 7, 10**10)):
        with pytest.raises(MemoryCapError, match="needs"):
            one_hidden_layer_teacher(*sizes)


@pytest.mark.statistical
def test_noise_has_the_stated_deviation():
    clean, noisy = (teacher(10, 20_000, noise=noise, seed=0)[1] for noise in (0.0, 0.5))
    np.testing.assert_array_equal(clean.x, noisy.x)
    assert np.std(noisy.y - clean.y) == pytest.approx(0.5, rel=5 / np.sqrt(2 * 20_000))


@pytest.mark.parametrize("activation", ["erf", "relu", "quadratic"])
@pytest.mark.statistical
def test_mean_zero_and_unit_variance(activation):
    test = one_hidden_layer_teacher(1, 20_000, 20, width=50, activation=activation, seed=0)[1]
    assert test.y.mean() == pytest.approx(0, abs=0.05)
    assert test.y.std() == pytest.approx(1, abs=0.05)


def test_one_linear_neuron_is_linear():
    train, test = one_hidden_layer_teacher(30, 20, 5, width=1, activation="linear", seed=0)
    design = np.column_stack([train.x, np.ones(30)])
    weights, *_ = np.linalg.lstsq(design, train.y)
    np.testing.assert_allclose(np.column_stack([test.x, np.ones(20)]) @ weights, test.y, atol=1e-12)
