"""Teachers: the law they promise, seeds, and independence of the sizes asked for."""

from __future__ import annotations

import numpy as np
import pytest

from finitewidth.checks.exceptions import InputError
from finitewidth.data import linear_teacher, one_hidden_layer_teacher, random_labels

TEACHERS = {
    "linear": lambda n, m, **options: linear_teacher(n, m, 7, noise=0.1, **options),
    "network": lambda n, m, **options: one_hidden_layer_teacher(n, m, 7, width=5, noise=0.1, **options),
    "labels": lambda n, m, **options: random_labels(n, m, 7, **options),
}


@pytest.mark.parametrize("teacher", TEACHERS.values(), ids=TEACHERS)
class TestEvery:
    def test_same_seed_same_data(self, teacher):
        for first, second in zip(teacher(10, 5, seed=1), teacher(10, 5, seed=1), strict=True):
            assert first.fingerprint() == second.fingerprint()

    def test_other_seed_other_data(self, teacher):
        assert teacher(10, 5, seed=1)[0].fingerprint() != teacher(10, 5, seed=2)[0].fingerprint()

    def test_sizes_do_not_disturb_one_another(self, teacher):
        small, large = teacher(10, 5, seed=1), teacher(20, 5, seed=1)
        assert small[1].fingerprint() == large[1].fingerprint()
        np.testing.assert_array_equal(small[0].x, large[0][:10].x)
        np.testing.assert_allclose(small[0].y, large[0][:10].y, rtol=1e-12, atol=1e-14)  # BLAS sums by its own blocks

    def test_train_and_test_differ(self, teacher):
        train, test = teacher(10, 10, seed=0)
        assert not np.isin(train.x, test.x).any()

    @pytest.mark.parametrize("bad", [{"n": 0}, {"m": 0}, {"n": 2.5}, {"seed": -1}, {"seed": "a"}])
    def test_bad_input(self, teacher, bad):
        options = {"n": 10, "m": 5, "seed": 0} | bad
        with pytest.raises(InputError, match="wanted"):
            teacher(**options)


@pytest.mark.statistical
def test_linear_teacher_is_linear_with_unit_variance():
    train, test = linear_teacher(30, 20_000, 10, seed=0)
    weights, *_ = np.linalg.lstsq(train.x, train.y)
    np.testing.assert_allclose(test.x @ weights, test.y, atol=1e-12)
    assert np.linalg.norm(weights) == pytest.approx(1, abs=1e-12)
    assert (test.y**2).mean() == pytest.approx(1, abs=5 * np.sqrt(2 / 20_000))
    assert train.classes is None


@pytest.mark.statistical
def test_noise_has_the_stated_deviation():
    clean, noisy = (linear_teacher(10, 20_000, 10, noise=noise, seed=0)[1] for noise in (0.0, 0.5))
    np.testing.assert_array_equal(clean.x, noisy.x)
    assert np.std(noisy.y - clean.y) == pytest.approx(0.5, rel=5 / np.sqrt(2 * 20_000))


@pytest.mark.parametrize("activation", ["erf", "relu", "quadratic"])
@pytest.mark.statistical
def test_network_teacher_has_mean_zero_and_unit_variance(activation):
    test = one_hidden_layer_teacher(1, 20_000, 20, width=50, activation=activation, seed=0)[1]
    assert test.y.mean() == pytest.approx(0, abs=0.05)
    assert test.y.std() == pytest.approx(1, abs=0.05)


def test_network_teacher_of_one_linear_neuron_is_linear():
    train, test = one_hidden_layer_teacher(30, 20, 5, width=1, activation="linear", seed=0)
    design = np.column_stack([train.x, np.ones(30)])
    weights, *_ = np.linalg.lstsq(design, train.y)
    np.testing.assert_allclose(np.column_stack([test.x, np.ones(20)]) @ weights, test.y, atol=1e-12)


@pytest.mark.statistical
def test_random_labels_are_independent_of_x():
    train, _ = random_labels(20_000, 1, 3, seed=0)
    assert set(train.y) == {-1.0, 1.0}
    assert abs(train.y.mean()) < 5 / np.sqrt(20_000)
    assert np.abs(train.x.T @ train.y / 20_000).max() < 5 / np.sqrt(20_000)
    assert random_labels(1, 1, 3, seed=0)[0].classes == (-1, 1)


@pytest.mark.parametrize(
    "call",
    [
        lambda: linear_teacher(10, 10, 0),
        lambda: linear_teacher(10, 10, 5, noise=-1.0),
        lambda: linear_teacher(10, 10, 5, noise=np.nan),
        lambda: one_hidden_layer_teacher(10, 10, 5, width=0),
        lambda: one_hidden_layer_teacher(10, 10, 5, width=3, activation="rellu"),
    ],
)
def test_bad_options(call):
    with pytest.raises(InputError, match="wanted"):
        call()
