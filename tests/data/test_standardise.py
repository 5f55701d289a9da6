"""Standardisation: what each kind promises, its inverse, and that only the training part is looked at."""

from __future__ import annotations

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from finitewidth.checks.exceptions import InputError
from finitewidth.data import Dataset, Standardiser, standardise

X = np.random.default_rng(0).standard_normal((20, 3, 4)) * np.arange(1, 5) + 2.0
NUMBERS = st.floats(-1e6, 1e6, allow_subnormal=False)


def pair(x=X):
    y = np.arange(float(len(x)))
    return Dataset(x[:15], y[:15]), Dataset(x[15:], y[15:])


def test_global_is_the_recipe():
    z = Standardiser.fit(X).transform(X)
    centred = X - X.mean(axis=0)
    np.testing.assert_allclose(z, centred / np.sqrt((centred**2).mean()), rtol=1e-13, atol=1e-14)


def test_feature_gives_unit_variance():
    fitted = Standardiser.fit(X, "feature")
    z = fitted.transform(X)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-14)
    np.testing.assert_allclose(z.std(axis=0), 1, rtol=1e-13)
    assert fitted.scale.shape == fitted.mean.shape == (3, 4)


def test_none_changes_nothing():
    fitted = Standardiser.fit(X, "none")
    np.testing.assert_array_equal(fitted.transform(X), X)


@pytest.mark.parametrize("constant", [0.1, 1e-300, 1e17])
def test_constant_features_are_centred_exactly(constant):
    x = np.column_stack([np.full(7, constant), np.arange(7.0)])
    fitted = Standardiser.fit(x, "feature")
    assert fitted.scale[0] == 1.0
    for kind in ("feature", "global"):
        assert not Standardiser.fit(x, kind).transform(x)[:, 0].any()


@pytest.mark.parametrize("x", [np.full((5, 2), 0.1), np.zeros((3, 2, 2)), np.ones((1, 4))])
def test_all_constant(x):
    with pytest.raises(InputError, match="every input is constant"):
        Standardiser.fit(x, "global")
    assert not Standardiser.fit(x, "feature").transform(x).any()


@pytest.mark.parametrize("unit", [1e-250, 1e-170, 1e170, 1e250])
def test_extreme_units(unit):
    z = Standardiser.fit(X * unit).transform(X * unit)
    np.testing.assert_allclose(z, Standardiser.fit(X).transform(X), rtol=1e-10, atol=1e-12)


def test_overflow_is_refused():
    with pytest.raises(InputError, match="too large"):
        Standardiser.fit([[1.7e308], [1.7e308], [-1.7e308]])


@given(
    x=arrays.arrays(np.float64, st.tuples(st.integers(1, 8), st.integers(1, 5)), elements=NUMBERS),
    kind=st.sampled_from(["global", "feature", "none"]),
)
def test_inverse(x, kind):
    assume(kind != "global" or (x != x[0]).any())
    fitted = Standardiser.fit(x, kind)
    size = np.abs(x).max() + np.abs(fitted.mean).max()
    np.testing.assert_allclose(fitted.inverse(fitted.transform(x)), x, rtol=1e-13, atol=1e-14 * size)
    assert np.abs(fitted.transform(x)).max() < 1e7


def test_fitted_on_the_training_part_only():
    train, test = pair()
    other = test.with_inputs(test.x * 100)
    first, second = standardise(train, test), standardise(train, other)
    assert first[0].fingerprint() == second[0].fingerprint()
    np.testing.assert_allclose(first[0].x.mean(axis=0), 0, atol=1e-14)
    np.testing.assert_array_equal(first[1].x, first[2].transform(test.x))
    np.testing.assert_allclose(first[1].standardiser.inverse(first[1].x), test.x)


def test_targets_and_classes_stay():
    train = Dataset(X[:15], np.arange(15) % 3)
    test = train.like(X[15:], [0, 0, 1, 1, 1])
    _, after, fitted = standardise(train, test, "feature")
    assert after.classes == (0, 1, 2)
    np.testing.assert_array_equal(after.y, test.y)
    assert after.summary()["standardise"] == fitted.kind == "feature"


def test_twice_is_refused():
    train, test, _ = standardise(*pair())
    with pytest.raises(InputError, match="standardised before"):
        standardise(train, test)
    train, test, _ = standardise(*pair(), "none")
    assert standardise(train, test)[2].kind == "global"


def test_bad_input():
    with pytest.raises(InputError, match="did you mean 'global'"):
        Standardiser.fit(X, "globl")
    with pytest.raises(InputError, match="NaN"):
        Standardiser.fit(np.full((2, 2), np.nan))
    fitted = Standardiser.fit(X)
    for bad in (X[:, :2], X.reshape(20, 12)):
        with pytest.raises(InputError, match="shape"):
            fitted.transform(bad)
        with pytest.raises(InputError, match="shape"):
            fitted.inverse(bad)
