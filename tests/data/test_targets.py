"""What targets stand for: standardised ones and their way back, and what is refused in their place."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.data import Dataset, TargetEncoding, TargetScaling, standardise, standardise_target
from finitewidth.inference.likelihoods import Gaussian
from finitewidth.inference.methods import Problem

RNG = np.random.default_rng(5)
X = RNG.standard_normal((30, 4))
Y = 77.0 * np.sin(X[:, 0]) + 152.0
NETWORK = fw.FullyConnected(widths=(20,))
PROBLEM = Problem(NETWORK, Gaussian(0.05))
SIGNS = np.array([-1.0, 1.0, 1.0, -1.0])


def pair(y=Y):
    return Dataset(X[:20], y[:20], classes=()), Dataset(X[20:], y[20:], classes=())


class TestScaling:
    def test_one_target(self):
        scaling = TargetScaling.fit(Y)
        z = scaling.transform(Y)
        assert (z.mean(), z.std()) == (pytest.approx(0.0, abs=1e-14), pytest.approx(1.0))
        np.testing.assert_allclose(scaling.inverse(z), Y, rtol=1e-14)

    def test_several_targets_share_one_unit(self):
        """So that an average over outputs has one: each is centred, and all are divided by the same number."""
        y = np.stack([Y, 3.0 * Y[::-1]], axis=1)
        z = TargetScaling.fit(y).transform(y)
        np.testing.assert_allclose(z.mean(0), 0.0, atol=1e-14)
        assert np.mean(z**2) == pytest.approx(1.0)
        assert z[:, 1].std() == pytest.approx(3.0 * z[:, 0].std())
        np.testing.assert_allclose(TargetScaling.fit(y).inverse(z), y, rtol=1e-13)

    @pytest.mark.parametrize("y", [np.full(5, 0.1), np.full((5, 2), 3.0), [1e-200, 2e-200], [1e200, -1e200]])
    def test_no_scale(self, y):
        with pytest.raises(fw.InputError, match="standard deviation of"):
            TargetScaling.fit(np.array(y))


class TestDatasets:
    def test_the_training_part_decides(self):
        train, test = standardise_target(*pair())
        mean, scale = Y[:20].mean(), Y[:20].std()
        np.testing.assert_allclose(train.y, (Y[:20] - mean) / scale)
        np.testing.assert_allclose(test.y, (Y[20:] - mean) / scale)
        np.testing.assert_allclose(train.target_scaling.inverse(test.y), Y[20:])
        assert train.encoding == test.encoding == train[:3].encoding

    def test_it_stays_with_other_inputs(self):
        train, _, _ = standardise(*standardise_target(*pair()), "feature")
        assert train.target_scaling == TargetScaling.fit(Y[:20])
        assert train.summary()["target_scaling"] == dataclasses.asdict(train.target_scaling)

    def test_points_in_the_users_units_become_like_those_in_training(self):
        train, test = standardise_target(*pair())
        again = train.like(X[20:], Y[20:])
        np.testing.assert_array_equal(again.y, test.y)
        assert again.encoding == train.encoding

    def test_twice(self):
        with pytest.raises(fw.InputError, match="standardised before"):
            standardise_target(*standardise_target(*pair()))

    def test_classes(self):
        train = Dataset(X[:4], SIGNS)
        with pytest.raises(fw.InputError, match="class labels, to be standardised"):
            standardise_target(train, train)
        with pytest.raises(fw.InputError, match="target_scaling"):
            Dataset(X[:4], SIGNS, target_scaling=TargetScaling((0.0,), 1.0))


@pytest.fixture
def parts():
    """Standardised data, the same numbers without a memory of that, and the square of the scale."""
    train, test = standardise_target(*pair())
    bare = tuple(Dataset(part.x, part.y, classes=()) for part in (train, test))
    return (train, test), bare, train.target_scaling.scale**2


SAMPLING = {"chains": 2, "draws": 6, "warmup": 4}
TRAINING = {"steps": 4, "seeds": 2}


class TestOwnUnits:
    """The same numbers computed without a memory of the scale, times its square."""

    def same(self, ours, bare, factor):
        for field in dataclasses.fields(bare):
            squared = field.name.removesuffix("_se") in ("test_error", "bias", "variance", "train_error")
            wanted = getattr(bare, field.name)
            if isinstance(wanted, float):
                wanted = pytest.approx(wanted * (factor if squared else 1.0), rel=1e-12, nan_ok=True)
            assert getattr(ours, field.name) == wanted, field.name

    @pytest.mark.parametrize("method", ["saddle", "integrate", "infinite"])
    def test_theory(self, parts, method):
        (train, test), bare, factor = parts
        theory = fw.theory_of(NETWORK, 0.1, method=method)
        found, plain = (fw.predict(fw.solve(theory, d), test.x) for d in (train, bare[0]))
        np.testing.assert_array_equal(found.mean, plain.mean)
        self.same(found.errors(test.y), plain.errors(test.y), factor)
        mean, std = train.target_scaling.inverse(found.mean), train.target_scaling.scale * found.std
        error = np.mean((Y[20:] - mean) ** 2 + std**2)  # in the user's own units throughout
        assert found.errors(test).test_error == pytest.approx(error, rel=1e-12)

    def test_learning_curve(self, parts):
        given, bare, factor = parts
        ours, plain = (fw.learning_curve(NETWORK, *d, [20, 40]).column("test_error") for d in (given, bare))
        np.testing.assert_allclose(ours, factor * plain, rtol=1e-12)

    def test_samples(self, parts):
        given, bare, factor = parts
        ours, plain = (fw.sample(NETWORK, *d, 0.1, **SAMPLING) for d in (given, bare))
        self.same(ours.errors(given[1].y), plain.errors(given[1].y), factor)
        self.same(ours.prediction().errors(given[1].y), plain.prediction().errors(given[1].y), factor)

    def test_training(self, parts):
        given, bare, factor = parts
        ours, plain = (fw.train(NETWORK, *d, **TRAINING) for d in (given, bare))
        self.same(ours.errors(), plain.errors(), factor)
        self.same(ours.predict(given[1]).errors(given[1].y), plain.predict(bare[1]).errors(given[1].y), factor)
        np.testing.assert_allclose(ours.history.test_error, factor * plain.history.test_error)
        np.testing.assert_array_equal(ours.history.objective, plain.history.objective)

    def test_linearised_and_frozen_networks(self, parts):
        from finitewidth.sampling.frozen import sample_frozen
        from finitewidth.theory.frozen import frozen

        given, bare, factor = parts
        ours, plain = (fw.lazy_training(NETWORK, d[0]).curve(d[1], times=[1.0]) for d in (given, bare))
        self.same(ours[0], plain[0], factor)
        self.same(ours.limit, plain.limit, factor)
        self.same(*(frozen(NETWORK, *d, 0.1).errors for d in (given, bare)), factor)
        self.same(*(sample_frozen(NETWORK, *d, 0.1, networks=3) for d in (given, bare)), factor)

    def test_spectral_curve(self, parts):
        (train, _), (bare, _), factor = parts
        ours, plain = (fw.spectral_learning_curve(NETWORK, d, [5, 10], trials=2) for d in (train, bare))
        for mine, other in zip(ours, plain, strict=True):
            assert mine.test_error == pytest.approx(factor * other.test_error)
            assert mine.sampled_test_error_se == pytest.approx(factor * other.sampled_test_error_se)
            assert mine.deviation == other.deviation


class TestRefused:
    TWO = Dataset(X[:4], np.array([3, 8, 8, 3]))  # 3 is -1, 8 is +1
    THREE = Dataset(X[:4], np.array(["a", "b", "c", "a"]), classes=("a", "b", "c"))

    @pytest.mark.parametrize(
        "y",
        [
            (SIGNS + 1.0) / 2.0,
            (SIGNS + 3.0) / 2.0,
            TWO.labels,
            TWO.labels.astype(str),
            SIGNS > 0,
            0.9 * SIGNS,
            Dataset(X[:4], TWO.labels, classes=(8, 3)),
            Dataset(X[:4], SIGNS > 0),
            Dataset(X[:4], [0.0, 1.0, 1.0, 0.0], classes=()),
            THREE,
            SIGNS[:3],
            SIGNS[:, None],
        ],
        ids=str,
    )
    def test_two_classes(self, y):
        with pytest.raises(fw.InputError, match=r"train\.like\(x, y\), or fw\.Dataset\(x, y, classes=train\.classes\)"):
            self.TWO.encoding.targets(y, (4,))

    @pytest.mark.parametrize("y", [np.eye(3)[[0, 1, 2, 0]], np.array([0, 1, 2, 0]), THREE.labels, TWO, THREE.y[:, ::2]])
    def test_three_classes(self, y):
        with pytest.raises(fw.InputError, match=r"train\.like"):
            self.THREE.encoding.targets(y, (4, 3))

    @pytest.mark.parametrize("y", [SIGNS, SIGNS.astype(int), list(SIGNS), TWO, Dataset(X[:4], SIGNS, classes=())])
    def test_what_is_encoded_alike(self, y):
        np.testing.assert_array_equal(self.TWO.encoding.targets(y, (4,)), SIGNS)

    def test_three_classes_encoded_alike(self):
        for y in (self.THREE, self.THREE.y, Dataset(X[:4], self.THREE.y)):
            np.testing.assert_array_equal(self.THREE.encoding.targets(y, (4, 3)), self.THREE.y)

    @pytest.mark.parametrize("y", [SIGNS, Y[:4], np.zeros(4), np.arange(4), Dataset(X[:4], SIGNS)])
    def test_regression_takes_any_numbers(self, y):
        np.testing.assert_array_equal(TargetEncoding().targets(y, (4,)), getattr(y, "y", y))

    def test_regression_takes_no_class_indices(self):
        with pytest.raises(fw.InputError, match=r"classes \(3, 8\) where those in training were of numbers"):
            TargetEncoding().targets(self.TWO, (4,))

    def test_reversed_signs(self):
        train = Dataset(X[:4], SIGNS, classes=(1, -1))
        with pytest.raises(fw.InputError, match="same order"):
            train.encoding.targets(Dataset(X[:4], SIGNS), (4,))

    def test_raw_and_standardised_targets(self):
        (train, test), raw = standardise_target(*pair()), pair()[1]
        np.testing.assert_array_equal(train.encoding.targets(test, (10,)), test.y)
        np.testing.assert_array_equal(train.encoding.targets(5.0 * test.y, (10,)), 5.0 * test.y)
        for one, other in ((train, raw), (raw, test)):
            with pytest.raises(fw.InputError, match="not standardised alike"):
                one.encoding.targets(other, (10,))
        with pytest.raises(fw.InputError, match=r"mean size 1.* look like those before they were standardised"):
            train.encoding.targets(raw.y, (10,))

    @pytest.mark.parametrize(("mean", "scale"), [(0.0, 9.0), (0.0, 1e-3), (152.0, 77.0), (3.0, 1.0)])
    def test_raw_numbers_are_known_by_their_likelihood(self, mean, scale):
        """And standardised ones are not taken for them, whatever outliers and shifts they have."""
        z = np.random.default_rng(0).standard_normal(30)
        scaling = fw.data.TargetScaling((mean,), scale)
        assert scaling.fits_better_raw(mean + scale * z)
        for standardised in (z, z + 1.0, np.append(z, 1e3)):
            assert not scaling.fits_better_raw(standardised)


class TestWhereTheyMeet:
    """Whatever takes a training and a test set compares them before it starts."""

    @pytest.mark.parametrize(
        "meet",
        [
            lambda train, test: fw.learning_curve(NETWORK, train, test),
            lambda train, test: fw.sample(NETWORK, train, test, 0.1),
            lambda train, test: next(fw.Sample().solutions([PROBLEM], train, test)),
            lambda train, test: fw.train(NETWORK, train, test),
            lambda train, test: fw.Train().solutions([PROBLEM], train, test),
            lambda train, test: fw.compare(NETWORK, train, test),
            lambda train, test: fw.lazy_training(NETWORK, train).curve(test),
        ],
    )
    @pytest.mark.parametrize("classes", [(8, 3), (3, 5)])
    def test_other_classes(self, meet, classes):
        train = Dataset(X[:20], np.array([3, 8] * 10))
        test = Dataset(X[20:], np.array(classes * 5), classes=classes)
        with pytest.raises(fw.InputError, match="where those in training were of the classes"):
            list(meet(train, test))

    def test_predictions_draws_and_trained_networks_alike(self):
        train = Dataset(X[:20], np.array([0, 1] * 10))
        test = train.like(X[20:], np.array([0, 1] * 5))
        solved = fw.predict(fw.solve(fw.theory_of(NETWORK, 0.1), train), test.x)
        draws = fw.sample(NETWORK, train, test, 0.1, **SAMPLING)
        for found in (solved, draws, draws.prediction(), fw.train(NETWORK, train, test, **TRAINING)):
            assert found.errors(test).accuracy == found.errors(test.y).accuracy is not None
            with pytest.raises(fw.InputError, match=r"targets such as 0\.0, 1\.0; wanted: -1, \+1"):
                found.errors(test.labels)
