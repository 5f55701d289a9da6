"""A Dataset checks itself, encodes its targets, and is split by the recipe of docs/theory.md section 9."""

from __future__ import annotations

import dataclasses
import json
import pickle

import numpy as np
import pytest

from finitewidth.checks.exceptions import InputError
from finitewidth.data import Dataset, Standardiser, split

X = np.random.default_rng(0).standard_normal((6, 4))


class TestTargets:
    @pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint8, np.int32])
    def test_two_classes_become_signs_in_sorted_order(self, dtype):
        data = Dataset(X, np.array([7, 3, 3, 7, 7, 3], dtype=dtype))
        assert data.y.tolist() == [1, -1, -1, 1, 1, -1]
        assert data.classes == (3, 7)
        assert data.labels.tolist() == [7, 3, 3, 7, 7, 3]
        assert (data.n_outputs, data.is_classification) == (1, True)

    def test_booleans_are_classes(self):
        data = Dataset(X, np.arange(6) > 2)
        assert data.y.tolist() == [-1, -1, -1, 1, 1, 1]
        assert data.classes == (False, True)

    @pytest.mark.parametrize("dtype", [np.int64, np.float64, np.float32])
    def test_signs_are_kept(self, dtype):
        signs = np.array([1, -1, 1, 1, -1, -1], dtype=dtype)
        data = Dataset(X, signs)
        np.testing.assert_array_equal(data.y, signs)
        assert data.classes == (-1, 1)
        assert all(type(c) is int for c in data.classes)

    def test_more_classes_become_centred_one_hot(self):
        data = Dataset(X, [5, 2, 9, 2, 5, 9])
        third = 1 / 3
        np.testing.assert_allclose(data.y[:3], np.eye(3)[[1, 0, 2]] - third, atol=1e-15)
        np.testing.assert_allclose(data.y.sum(axis=1), 0, atol=1e-15)
        assert data.classes == (2, 5, 9)
        assert data.labels.tolist() == [5, 2, 9, 2, 5, 9]
        assert data.n_outputs == 3

    def test_floats_are_numbers(self):
        y = np.array([0.0, 1.0, 2.0, 0.0, 1.0, 2.0])
        data = Dataset(X, y)
        np.testing.assert_array_equal(data.y, y)
        assert (data.classes, data.labels, data.is_classification) == (None, None, False)

    def test_real_outputs(self):
        y = np.arange(12.0).reshape(6, 2)
        data = Dataset(X, y)
        np.testing.assert_array_equal(data.y, y)
        assert (data.n_outputs, data.classes) == (2, None)

    def test_a_single_column_is_a_vector(self):
        assert Dataset(X, np.arange(6.0)[:, None]).y.shape == (6,)
        assert Dataset(X, np.array([[0], [1], [0], [1], [0], [1]])).classes == (0, 1)

    def test_empty_classes_say_numbers(self):
        data = Dataset(X, [1, -1, 1, 1, -1, 3], classes=())
        assert data.y.tolist() == [1, -1, 1, 1, -1, 3]
        assert data.classes is None

    def test_given_classes_fix_the_order(self):
        assert Dataset(X, [0, 1, 1, 0, 0, 1], classes=(1, 0)).y.tolist() == [1, -1, -1, 1, 1, -1]
        np.testing.assert_allclose(Dataset(X[:1], [4], classes=(9, 4, 0)).y, [[-1 / 3, 2 / 3, -1 / 3]])

    def test_given_classes_allow_a_missing_one(self):
        data = Dataset(X[:2], [1, 1], classes=(0, 1))
        assert data.y.tolist() == [1, 1]
        assert data.labels.tolist() == [1, 1]

    def test_labels_as_floats_with_classes(self):
        assert Dataset(X[:2], [1.0, 1.0], classes=(1, 0)).y.tolist() == [-1, -1]

    def test_names_need_classes(self):
        names = np.array(["cat", "dog"] * 3)
        with pytest.raises(InputError, match=r"'cat'.*pass classes="):
            Dataset(X, names)
        for y in (names, names.astype(object), list(names)):
            data = Dataset(X, y, classes=("cat", "dog"))
            assert data.y.tolist() == [-1, 1] * 3
            assert data.labels.tolist() == names.tolist()

    def test_one_point_with_a_sign(self):
        assert Dataset(X[:1], [1.0]).classes == (-1, 1)


@pytest.mark.parametrize(
    ("y", "options", "message"),
    [
        ([0, 0, 0, 0, 0, 0], {}, "one class only"),
        ([1.0] * 6, {}, "one class only"),
        ([0, 1, 2, 0, 1, 2], {"classes": (0, 1)}, "class 2, unseen in training"),
        ([0.5, 1, 0, 0, 1, 1], {"classes": (0, 1)}, "class 0.5, unseen"),
        (["0", "1"] * 3, {"classes": (0, 1)}, "class '0', unseen"),
        ([0, 1, 0], {}, "6 points and y with 3"),
        ([0.0, np.nan, 0, 0, 0, 0], {}, "NaN"),
        ([0.0, np.inf, 0, 0, 0, 0], {"classes": (0, 1)}, "NaN or infinity"),
        (np.zeros((6, 2, 2)), {}, "shape"),
        (3.0, {}, "shape"),
        (None, {}, "type object"),
        ([1j] * 6, {}, "complex"),
        ([{}, 1, 2, 3, 4, 5], {}, "type object"),
        ([[1, 2], [3], [1], [1], [1], [1]], {}, "uneven"),
        (np.zeros((6, 2)), {"classes": (0, 1)}, "one class label a point"),
        (np.ones((6, 3)), {"classes": (0, 1, 2)}, "one class label a point"),
        ([0, 1] * 3, {"classes": (0,)}, "at least two classes"),
        ([0, 1] * 3, {"classes": (0, 0)}, "all different"),
        ([0, 1] * 3, {"classes": (0, "a")}, "only numbers or only names"),
        ([0, 1] * 3, {"classes": "01"}, "tuple"),
        ([0, 1] * 3, {"classes": 2}, "tuple"),
    ],
)
def test_bad_targets(y, options, message):
    with pytest.raises(InputError, match=message) as caught:
        Dataset(X, y, **options)
    assert "\n" not in str(caught.value)


def test_numbers_given_as_integers_are_not_a_thousand_classes():
    with pytest.raises(InputError, match="as floats"):
        Dataset(np.zeros((200, 1)), np.arange(200))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros(6), "dimensions"),
        (np.zeros((6, 2, 2, 2, 2)), "dimensions"),
        (np.zeros((0, 4)), "at least one point"),
        (np.zeros((6, 0)), "at least one point"),
        (np.full((6, 2), np.nan), "NaN"),
        (np.full((6, 2), np.inf), "infinity"),
        (np.full((6, 2), "1"), "type <U1"),
        (np.full((6, 2), None), "type object"),
        (np.zeros((6, 2), dtype=complex), "complex"),
        ([[1, 2], [3]], "uneven"),
    ],
)
def test_bad_inputs(x, message):
    with pytest.raises(InputError, match=message):
        Dataset(x, np.arange(6.0))


class TestArrays:
    @pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64, bool])
    def test_converted_to_float64(self, dtype):
        data = Dataset(np.eye(6, dtype=dtype), np.arange(6.0, dtype=np.float32))
        assert data.x.dtype == data.y.dtype == np.float64
        assert data.x.flags.c_contiguous

    def test_read_only_and_apart_from_the_callers_arrays(self):
        x, y = X.copy(), np.arange(6.0)
        data = Dataset(x, y)
        with pytest.raises(ValueError, match="read-only"):
            data.x[0, 0] = 1
        with pytest.raises(ValueError, match="read-only"):
            data.y[0] = 1
        before = data.fingerprint()
        x[:], y[:] = 0, 0  # still writeable
        assert data.fingerprint() == before

    def test_fortran_order(self):
        data = Dataset(np.asfortranarray(X), np.arange(6.0))
        assert data.x.flags.c_contiguous
        np.testing.assert_array_equal(data.x, X)

    @pytest.mark.parametrize(("shape", "image"), [((6, 12), None), ((6, 3, 4), (3, 4, 1)), ((6, 2, 2, 3), (2, 2, 3))])
    def test_shapes(self, shape, image):
        data = Dataset(np.zeros(shape), np.arange(6.0))
        assert (data.n_points, len(data), data.n_inputs, data.input_shape) == (6, 6, 12, image)
        assert data.flat.shape == (6, 12)
        assert data.flat.base is not None

    def test_frozen(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            Dataset(X, np.arange(6.0)).x = X

    def test_pandas(self):
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame(X)
        data = Dataset(frame, pandas.Series([0, 1] * 3))
        np.testing.assert_array_equal(data.x, X)
        assert data.classes == (0, 1)

    def test_pickle(self):
        data = Dataset(X, [0, 1] * 3)
        assert pickle.loads(pickle.dumps(data)).fingerprint() == data.fingerprint()


class TestParts:
    data = Dataset(X, [5, 3, 3, 5, 5, 3], classes=(5, 3))

    def test_subset_keeps_the_encoding(self):
        part = self.data.subset([0, 3])
        assert part.y.tolist() == [-1, -1]
        assert part.labels.tolist() == [5, 5]
        np.testing.assert_array_equal(part.x, X[[0, 3]])
        assert not part.x.flags.writeable

    def test_mask_slice_and_index(self):
        mask = self.data.labels == 3
        assert self.data[mask].labels.tolist() == [3, 3, 3]
        assert self.data[1:3].labels.tolist() == [3, 3]
        assert self.data[-1].labels.tolist() == [3]
        assert [len(point) for point in self.data] == [1] * 6

    @pytest.mark.parametrize("bad", [[], [6], [-7], [0.5], [[0]], [True, False], np.zeros(6, bool), "a", 0])
    def test_bad_indices(self, bad):
        with pytest.raises(InputError, match="ind"):
            self.data.subset(bad)

    def test_with_inputs(self):
        images = self.data.with_inputs(X.reshape(6, 2, 2))
        assert images.input_shape == (2, 2, 1)
        assert images.classes == (5, 3)
        with pytest.raises(InputError, match="5 points"):
            self.data.with_inputs(X[:5])

    def test_like(self):
        assert self.data.like(X[:2], [3, 3]).y.tolist() == [1, 1]
        with pytest.raises(InputError, match="unseen"):
            self.data.like(X[:2], [3, 4])
        with pytest.raises(InputError, match=r"test x of shape \(3,\) a point, \(4,\) in training"):
            self.data.like(X[:2, :3], [3, 3])

    def test_like_numbers(self):
        numbers = Dataset(X, np.arange(6.0))
        assert numbers.like(X[:2], [1, -1]).classes is None
        with pytest.raises(InputError, match="test y"):
            numbers.like(X[:2], np.zeros((2, 3)))


class TestIdentity:
    def test_fingerprint_is_stable(self):
        data = Dataset([[0.0, 1.0], [2.0, 3.0]], [0, 1])
        assert data.fingerprint() == "2c970f7171a0073ec2e95aebacd5427b0fabb4455599d78d2a03fa0771e1c7ac"

    def test_fingerprint_tells_contents_apart(self):
        prints = {
            Dataset(X, [0, 1] * 3).fingerprint(),
            Dataset(X, [0, 2] * 3).fingerprint(),
            Dataset(X, [1, 0] * 3).fingerprint(),
            Dataset(X.reshape(6, 2, 2), [0, 1] * 3).fingerprint(),
            Dataset(X + 1e-15, [0, 1] * 3).fingerprint(),
        }
        assert len(prints) == 5

    def test_input_names(self):
        data = Dataset(X, X[:, 0], input_names=["a", "b", "c", "d"])
        same = (data, data[:2], data.with_inputs(X.reshape(6, 2, 2)), data.like(X, X[:, 0]), data.subset([0, 3]))
        assert {part.input_names for part in same} == {("a", "b", "c", "d")}
        assert data.summary()["input_names"] == ["a", "b", "c", "d"]
        assert data.with_inputs(X[:, :2]).input_names is None
        assert data.with_inputs(X[:, :2], input_names=("a", "b")).input_names == ("a", "b")
        assert data.fingerprint() == Dataset(X, X[:, 0]).fingerprint()
        for bad in (("a",), "abcd", (1, 2, 3, 4)):
            with pytest.raises(InputError, match="input_names"):
                Dataset(X, X[:, 0], input_names=bad)

    def test_summary_is_json(self):
        data = Dataset(X.reshape(6, 2, 2), np.array([0, 1] * 3))
        summary = json.loads(json.dumps(data.summary()))
        assert summary == {
            "points": 6,
            "inputs": 4,
            "input_names": None,
            "outputs": 1,
            "classes": [0, 1],
            "shape": [2, 2, 1],
            "standardise": "none",
            "target_scaling": None,
            "fingerprint": data.fingerprint(),
        }

    def test_the_standardiser_shows(self):
        fitted = Standardiser.fit(X, "feature")
        data = Dataset(fitted.transform(X), [0, 1] * 3, standardiser=fitted)
        assert data.summary()["standardise"] == "feature"
        assert data[:2].standardiser is fitted
        assert "feature" in repr(data)


class TestSplit:
    data = Dataset(np.arange(40.0)[:, None], np.arange(40) % 2)

    def test_recipe(self):
        train, test = split(self.data, 10, 5, seed=3)
        order = np.random.default_rng(3).permutation(40)
        assert train.x[:, 0].tolist() == order[:10].tolist()
        assert test.x[:, 0].tolist() == order[10:15].tolist()

    def test_all_the_rest(self):
        train, test = split(self.data, 10, None, seed=0)
        assert sorted([*train.x[:, 0], *test.x[:, 0]]) == list(range(40))

    @pytest.mark.parametrize(("n_train", "n_test"), [(30, 11), (40, None), (41, None)])
    def test_too_many(self, n_train, n_test):
        with pytest.raises(InputError, match="40 points available"):
            split(self.data, n_train, n_test, seed=0)

    @pytest.mark.parametrize(
        ("n_train", "n_test", "seed"),
        [
            (0, 1, 0),
            (1.5, 1, 0),
            (10, 0, 0),
            (10, -1, 0),
            ("a", 1, 0),
            (10, 10, -1),
            (10, 10, 0.5),
            (10, 10, None),
        ],
    )
    def test_bad_counts_and_seeds(self, n_train, n_test, seed):
        with pytest.raises(InputError, match="wanted"):
            split(self.data, n_train, n_test, seed)

    def test_missing_class(self):
        with pytest.raises(InputError, match=r"class [01];.*increase n_train or change the seed"):
            split(self.data, 1, 5, seed=0)

    def test_regression_has_no_classes_to_miss(self):
        train, _ = split(Dataset(X, np.arange(6.0)), 1, 5, seed=0)
        assert len(train) == 1
