"""The scikit-learn skin: its conventions, its equality with the theory, and its limit of infinite width."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits, load_iris, make_moons
from sklearn.exceptions import NotFittedError
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Kernel
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import finitewidth as fw
from finitewidth import FiniteWidthClassifier, FiniteWidthRegressor
from finitewidth.theory import solution

RNG = np.random.default_rng(7)
X = RNG.standard_normal((40, 5))
Y = np.sin(X[:, 0]) + 0.5 * X[:, 1] + 0.1 * RNG.standard_normal(40)
X_NEW = RNG.standard_normal((15, 5))
MOONS = make_moons(80, noise=0.2, random_state=0)


@parametrize_with_checks(
    [
        FiniteWidthRegressor(),
        FiniteWidthClassifier((20, 30), "relu", offset_precision=1.0),
    ]
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


class NetworkKernel(Kernel):
    """The NNGP kernel of a network as a scikit-learn kernel without hyperparameters."""

    def __init__(self, network):
        self.network = network

    def __call__(self, X, Y=None, eval_gradient=False):
        assert not eval_gradient
        return fw.kernels.nngp(self.network, X, Y)

    def diag(self, X):
        return fw.kernels.nngp_diagonal(self.network, X)

    def is_stationary(self):
        return False


class TestInfiniteWidth:
    """At N = 10^12 the log evidence differs from the Gaussian process's by (N (Q - 1))^2 / 4N a layer, mean
    and deviation by about (Q - 1); with 40 points at T = 0.5 all of that is below 1e-9, so 1e-8 is absolute.
    """

    TEMPERATURE = 0.5
    CASES = (
        (1, "erf", "saddle"),
        (1, "erf", "integrate"),
        (3, "relu", "saddle"),
        (2, "tanh", "saddle"),
        (3, "erf", "infinite"),
    )

    def pair(self, depth, activation, method, width=10**12, y=Y):
        given = {"weight_precision": (0.7, *(1.3,) * depth), "activation": activation}
        ours = FiniteWidthRegressor((width,) * depth, **given, temperature=self.TEMPERATURE, method=method)
        kernel = NetworkKernel(fw.FullyConnected(widths=(width,) * depth, **given))
        theirs = GaussianProcessRegressor(kernel, alpha=self.TEMPERATURE, optimizer=None, normalize_y=True)
        return ours.fit(X, y), theirs.fit(X, y)

    @pytest.mark.parametrize(("depth", "activation", "method"), CASES)
    def test_equals_gaussian_process(self, depth, activation, method):
        ours, theirs = self.pair(depth, activation, method)
        for x in (X, X_NEW):
            for a, b in zip(ours.predict(x, True), theirs.predict(x, True), strict=True):
                np.testing.assert_allclose(a, b, rtol=0, atol=1e-8)
        assert ours.log_evidence_ == pytest.approx(theirs.log_marginal_likelihood_value_, rel=0, abs=1e-8)
        np.testing.assert_allclose(ours.order_parameters_, 1.0, atol=1e-8)
        assert ours.solution_.theory.closure == ("nested" if activation == "tanh" else "product")

    def test_several_outputs(self):
        ours, theirs = self.pair(2, "tanh", "infinite", y=np.stack([Y, X[:, 2] ** 2], axis=1))
        for a, b in zip(ours.predict(X_NEW, True), theirs.predict(X_NEW, True), strict=True):
            assert a.shape == (15, 2)
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-8)
        assert ours.log_evidence_ == pytest.approx(theirs.log_marginal_likelihood_value_, rel=0, abs=1e-8)
        assert (ours.n_outputs_, ours.order_parameters_.size) == (2, 0)

    def test_a_finite_width_is_another_model(self):  # the control: the comparison above can fail
        ours, theirs = self.pair(1, "erf", "saddle", width=100)
        assert np.abs(ours.predict(X_NEW) - theirs.predict(X_NEW)).max() > 1e-4


class TestRegressor:
    @pytest.mark.parametrize(
        ("activation", "closure", "method"),
        [
            ("relu", "product", "saddle"),
            ("tanh", "product", "integrate"),
            ("erf", "nested", "saddle"),
            ("erf", "nested", "infinite"),
        ],
    )
    def test_is_the_theory(self, activation, closure, method):
        widths = (30,) if closure == "product" else (30, 20)
        given = {"activation": activation, "weight_precision": 0.8, "offset_precision": 2.0}
        given |= {"readout": "mean-field"}
        closed = {"saddle": fw.Saddle(closure), "integrate": fw.Integrate(closure)}
        method = closed.get(method, method) if len(widths) > 1 else method
        ours = FiniteWidthRegressor(widths, **given, temperature=0.2, method=method, standardise_target=False)
        ours.fit(X, Y)
        network = fw.FullyConnected(widths=widths, **given)
        solution = fw.solve(network, fw.Dataset(X, Y), 0.2, method)
        wanted = fw.predict(solution, X_NEW)
        mean, std = ours.predict(X_NEW, return_std=True)
        np.testing.assert_array_equal(mean, wanted.mean)
        np.testing.assert_array_equal(std, np.sqrt(wanted.variance))
        np.testing.assert_array_equal(ours.predict(X_NEW), mean)
        np.testing.assert_array_equal(ours.order_parameters_, solution.order_parameters)
        assert ours.log_evidence_ == solution.log_evidence
        assert (ours.n_features_in_, ours.n_outputs_) == (5, 1)

    def test_a_method_by_name_and_as_an_object(self):
        """The same bits; a likelihood in place of the temperature too, and after cloning, as in a grid search."""
        named = FiniteWidthRegressor((30, 20), temperature=0.2).fit(X, Y)
        for given in ({"method": fw.Saddle()}, {"method": fw.Saddle(closure="nested")}):
            ours = clone(FiniteWidthRegressor((30, 20), temperature=fw.Gaussian(0.2), **given)).fit(X, Y)
            np.testing.assert_array_equal(ours.predict(X_NEW, True), named.predict(X_NEW, True))
        product = FiniteWidthRegressor((30, 20), temperature=0.2, method=fw.Saddle(closure="product")).fit(X, Y)
        assert np.abs(product.predict(X_NEW) - named.predict(X_NEW)).max() > 1e-6
        with pytest.raises(TypeError, match="closure"):
            FiniteWidthRegressor(closure="product")

    @pytest.mark.parametrize(
        "method", [fw.Sample(draws=10, warmup=10, chains=2), fw.Train(steps=20, seeds=2)], ids=["sample", "train"]
    )
    def test_averages_stay_where_they_have_not_converged(self, method):
        """A warning, and predictions all the same: those of the method on standardised targets."""
        pytest.importorskip("jax")
        with pytest.warns(fw.ConvergenceWarning, match="not converged"):
            ours = FiniteWidthRegressor((9,), temperature=0.3, method=method).fit(X, Y)
        train = fw.Dataset(X, (Y - Y.mean()) / Y.std(), classes=())
        wanted = fw.predict(fw.FullyConnected(widths=(9,)), X_NEW, train, 0.3, method).mean * Y.std() + Y.mean()
        np.testing.assert_allclose(ours.predict(X_NEW), wanted, rtol=1e-9)
        assert np.isnan(ours.log_evidence_)

    def test_ready_network(self):
        network = fw.FullyConnected(widths=(30, 20), activation="erf", weight_precision=(1.0, 2.0, 3.0))
        ready = FiniteWidthRegressor(network=network).fit(X, Y)
        named = FiniteWidthRegressor((30, 20), "erf", (1.0, 2.0, 3.0)).fit(X, Y)
        np.testing.assert_array_equal(ready.predict(X_NEW), named.predict(X_NEW))
        np.testing.assert_array_equal(clone(ready).fit(X, Y).predict(X_NEW), named.predict(X_NEW))
        with pytest.raises(fw.InputError, match=r"widths = \(50,\) beside a ready network"):
            FiniteWidthRegressor((50,), network=network).fit(X, Y)

    @pytest.mark.parametrize("kind", ["cnn", "lcn"])
    def test_networks_on_patches(self, kind):
        images, labels = load_digits(n_class=2, return_X_y=True)
        x, y = images[:60] / 16.0, np.where(labels[:60] == 1, 1.0, -1.0)
        local = {"patch": 4, "stride": 2, "padding": "none", "pool": "none", "input_shape": (8, 8, 1)}
        ours = FiniteWidthRegressor(50, network=kind, **local, standardise_target=False).fit(x[:40], y[:40])
        network = {"cnn": fw.Convolutional, "lcn": fw.LocallyConnected}[kind](channels=50, **local)
        solution = fw.solve(fw.theory_of(network, 0.05), fw.Dataset(x[:40], y[:40]))
        mean, std = ours.predict(x[40:], return_std=True)
        wanted = fw.predict(solution, x[40:])
        np.testing.assert_array_equal(mean, wanted.mean)
        np.testing.assert_array_equal(std, wanted.std)
        assert ours.order_parameters_.size == {"cnn": 81, "lcn": 9}[kind]
        assert ours.n_features_in_ == 64
        twin = pickle.loads(pickle.dumps(ours))
        np.testing.assert_array_equal(twin.predict(x[40:]), mean)

    @pytest.mark.parametrize("dtype", [np.float32, np.int64, np.int8])
    def test_other_numbers_are_converted(self, dtype):
        x, y = (3 * X).astype(dtype), (3 * Y).astype(dtype)
        given = FiniteWidthRegressor().fit(x, y).predict(x)
        assert given.dtype == np.float64
        np.testing.assert_array_equal(
            given, FiniteWidthRegressor().fit(x.astype(float), y.astype(float)).predict(x.astype(float))
        )

    @pytest.mark.parametrize("y", [[1], [1.0], [[0.5, -2.0]]])
    def test_one_training_point(self, y):
        ours = FiniteWidthRegressor().fit(X[:1], y)
        mean, std = ours.predict(X_NEW, return_std=True)
        assert mean.shape == std.shape == (15, *np.shape(y)[1:])
        assert np.isfinite(mean).all()
        assert (std > 0).all()

    def test_signs_are_numbers(self):
        signs = np.where(Y > 0, 1, -1)
        ours = FiniteWidthRegressor().fit(X, signs)
        assert ours.solution_.train.classes is None
        same = FiniteWidthRegressor().fit(X, signs.astype(float))
        np.testing.assert_array_equal(ours.predict(X), same.predict(X))

    def test_several_outputs(self):
        targets = np.stack([Y, X[:, 2] ** 2], axis=1)
        ours = FiniteWidthRegressor((30,), standardise_target=False).fit(X, targets)
        solution = fw.solve(fw.theory_of(fw.FullyConnected(widths=(30,)), 0.05), fw.Dataset(X, targets))
        mean, std = ours.predict(X_NEW, return_std=True)
        assert mean.shape == std.shape == (15, 2)
        np.testing.assert_array_equal(mean, fw.predict(solution, X_NEW).mean)
        assert (ours.n_outputs_, ours.order_parameters_.size) == (2, 4)

    @pytest.mark.parametrize("y", [Y, np.stack([Y, X[:, 2] ** 2], axis=1)], ids=["one", "two"])
    def test_predictions_move_with_the_unit_of_each_target(self, y):
        """Kelvin and millimetres for Celsius and metres: the same prediction in other words."""
        unit, zero = np.array([1000.0, 1e-3])[: y.ndim], np.array([273.0, -5.0])[: y.ndim]
        unit, zero = (unit[0], zero[0]) if y.ndim == 1 else (unit, zero)
        (mean, std), (moved, wide) = (
            FiniteWidthRegressor((30,)).fit(X, t).predict(X_NEW, return_std=True) for t in (y, unit * y + zero)
        )
        np.testing.assert_allclose(moved, unit * mean + zero, rtol=1e-6)
        np.testing.assert_allclose(wide, unit * std, rtol=1e-6)

    def test_is_the_theory_of_standardised_targets(self):
        ours = FiniteWidthRegressor((30,)).fit(X, 70.0 * Y + 150.0)
        z = (Y - Y.mean()) / Y.std()
        solution = fw.solve(fw.theory_of(fw.FullyConnected(widths=(30,)), 0.05), fw.Dataset(X, z))
        np.testing.assert_allclose(ours.target_mean_, 70.0 * Y.mean() + 150.0)
        np.testing.assert_allclose(ours.target_scale_, 70.0 * Y.std())
        wanted = 70.0 * (Y.std() * fw.predict(solution, X_NEW).mean + Y.mean()) + 150.0
        np.testing.assert_allclose(ours.predict(X_NEW), wanted, rtol=1e-9)
        assert ours.log_evidence_ == pytest.approx(solution.log_evidence, rel=1e-9)

    def test_raw_diabetes(self):
        """Targets of 150 and 77 around it gave R^2 = -4.6; Ridge(10) has 0.36."""
        x, y = load_diabetes(return_X_y=True)
        half = make_pipeline(StandardScaler(), FiniteWidthRegressor(temperature=0.5)).fit(x[:221], y[:221])
        assert half.score(x[221:], y[221:]) > 0.4
        with pytest.warns(fw.ScaleWarning, match=r"^targets of mean square 2.+standardise the targets"):
            raw = make_pipeline(StandardScaler(), FiniteWidthRegressor(standardise_target=False)).fit(x[:221], y[:221])
        assert raw.score(x[221:], y[221:]) < -1.0
        with pytest.warns(fw.ScaleWarning, match=r"^inputs of mean square 0\.002.+StandardScaler"):
            FiniteWidthRegressor().fit(x[:221], y[:221])

    def test_constant_targets(self):
        np.testing.assert_allclose(FiniteWidthRegressor().fit(X, np.full(40, 7.0)).predict(X_NEW), 7.0)

    def test_neither_inputs_nor_targets_are_touched(self):
        x, y = X.copy(), Y.copy()
        FiniteWidthRegressor().fit(x, y).predict(x)
        np.testing.assert_array_equal(x, X)
        np.testing.assert_array_equal(y, Y)
        assert x.flags.writeable
        assert y.flags.writeable

    def test_input_written_over_between_two_predictions(self):
        ours, x = FiniteWidthRegressor().fit(X, Y), X_NEW.copy()
        ours.predict(x)
        x[:] = X[:15]
        np.testing.assert_array_equal(ours.predict(x), ours.predict(X[:15].copy()))


class TestClassifier:
    def test_is_the_theory(self):
        x, y = MOONS
        ours = FiniteWidthClassifier((60,), temperature=0.1, offset_precision=1.0).fit(x[:50], y[:50])
        network = fw.FullyConnected(widths=(60,), offset_precision=1.0)
        train = fw.Dataset(x[:50], y[:50])
        solution = fw.solve(fw.theory_of(network, 0.1), train)
        wanted = fw.predict(solution, x[50:])
        proba = ours.predict_proba(x[50:])
        np.testing.assert_allclose(proba.sum(axis=1), 1.0, rtol=1e-15)
        np.testing.assert_allclose(ours.decision_function(x[50:]), wanted.mean / wanted.std, rtol=1e-14)
        np.testing.assert_array_equal(ours.predict(x[50:]), (wanted.mean > 0).astype(int))
        right = proba[np.arange(30), y[50:]]
        expected = wanted.errors(train.like(x[50:], y[50:]).y).accuracy
        assert np.mean(right) == pytest.approx(expected, rel=1e-14)
        assert ours.log_evidence_ == solution.log_evidence
        assert ours.score(x[50:], y[50:]) > 0.8

    @pytest.mark.parametrize("names", [("yes", "no"), (0, 1), (1, 2), (-1, 1), (False, True), (2.0, 5.0)], ids=str)
    def test_any_labels(self, names):
        x, y = MOONS
        labels = np.array(names)[y]
        ours = FiniteWidthClassifier().fit(x, labels)
        assert ours.classes_.tolist() == sorted(names)
        assert ours.predict(x).dtype == labels.dtype
        signs = np.where(labels == ours.classes_[1], 1.0, -1.0)
        np.testing.assert_array_equal(ours.solution_.train.y, signs)
        np.testing.assert_array_equal(ours.predict(x) == ours.classes_[1], ours.predict_proba(x)[:, 1] > 0.5)
        assert ours.score(x, labels) > 0.8

    def test_more_classes(self):
        x, y = load_iris(return_X_y=True)
        names = np.array(["c", "a", "b"])[y]
        ours = FiniteWidthClassifier((50,), offset_precision=1.0).fit(x[::2], names[::2])
        assert ours.classes_.tolist() == ["a", "b", "c"]
        assert (ours.n_outputs_, ours.order_parameters_.size) == (3, 9)
        mean, proba = ours.decision_function(x[1::2]), ours.predict_proba(x[1::2])
        assert mean.shape == proba.shape == (75, 3)
        wanted = fw.predict(ours.solution_, x[1::2])
        np.testing.assert_array_equal(mean, wanted.mean)
        np.testing.assert_array_equal(ours.predict(x[1::2]), ours.classes_[mean.argmax(axis=1)])
        np.testing.assert_allclose(proba.sum(axis=1), 1.0, rtol=1e-12)
        place = np.searchsorted(ours.classes_, names[1::2])
        truth = fw.Dataset(x[1::2], place, classes=(0, 1, 2)).y
        assert proba[np.arange(75), place].mean() == pytest.approx(wanted.errors(truth).accuracy, rel=1e-12)
        assert ours.score(x[1::2], names[1::2]) > 0.9

    def test_object_labels(self):
        x, y = MOONS
        labels = np.array(["yes", "no"], dtype=object)[y]
        assert FiniteWidthClassifier().fit(x, labels).classes_.tolist() == ["no", "yes"]

    def test_decision_is_finite_at_zero_variance(self):
        from finitewidth.estimators import _standardised

        result = fw.Prediction(np.array([-1.0, 0.0, 2.0]), np.zeros(3), 0.0)
        decision = _standardised(result)
        assert np.isfinite(decision).all()
        np.testing.assert_array_equal(np.sign(decision), [-1, 0, 1])

    @pytest.mark.parametrize(("y", "words"), [(np.zeros(40, int), "one class"), (Y, "Unknown label type")])
    def test_bad_labels(self, y, words):
        with pytest.raises(ValueError, match=words):
            FiniteWidthClassifier().fit(X, y)


class TestInScikitLearn:
    def test_pipeline_and_grid_search(self):
        pipeline = make_pipeline(StandardScaler(), FiniteWidthRegressor())
        grid = {
            "finitewidthregressor__widths": [(10,), (50,), (20, 20)],
            "finitewidthregressor__temperature": [0.05, 0.5],
        }
        search = GridSearchCV(pipeline, grid, cv=3, error_score="raise").fit(X, Y)
        assert search.best_params_["finitewidthregressor__widths"] in grid["finitewidthregressor__widths"]
        assert search.best_estimator_[-1].solution_.converged
        assert search.score(X, Y) > 0.5

    @pytest.mark.parametrize(("scoring", "least"), [("accuracy", 0.75), ("roc_auc", 0.8), ("neg_brier_score", -0.2)])
    def test_classifier_scores(self, scoring, least):
        classifier = FiniteWidthClassifier(offset_precision=1.0, temperature=0.3)
        assert cross_val_score(classifier, *MOONS, scoring=scoring, cv=3).min() > least

    def test_real_digits(self):
        x, y = load_digits(n_class=2, return_X_y=True)
        pipeline = make_pipeline(StandardScaler(), FiniteWidthClassifier((200, 200)))
        assert pipeline.fit(x[:150], y[:150]).score(x[150:], y[150:]) > 0.97

    def test_parameters(self):
        ours = FiniteWidthRegressor(activation=np.tanh).set_params(widths=(7, 8), temperature=0.3)
        copied = clone(ours)
        assert copied.get_params() == ours.get_params()
        assert copied.fit(X, Y).solution_.theory.network.widths == (7, 8)
        with pytest.raises(ValueError, match="Invalid parameter"):
            ours.set_params(depth=3)

    @pytest.mark.parametrize(
        "given",
        [
            {"activation": "erf"},
            {"activation": "leaky_relu", "widths": (9, 8)},
            {"activation": np.tanh, "widths": (9, 8), "method": fw.Saddle(closure="product")},
            {"activation": "relu", "method": "integrate"},
            {"activation": "relu", "method": "infinite"},
        ],
        ids=str,
    )
    def test_pickles_and_copies(self, given):
        ours = FiniteWidthRegressor(**given).fit(X[:12], Y[:12])
        before = ours.predict(X_NEW, return_std=True)
        for twin in (pickle.loads(pickle.dumps(ours)), copy.deepcopy(ours)):
            np.testing.assert_array_equal(twin.predict(X_NEW, return_std=True), before)
            if ours.method != "integrate":
                slope = twin.solution_.evidence_gradient()["temperature"]
                assert slope == ours.solution_.evidence_gradient()["temperature"]

    def test_a_pickle_leaves_the_test_points_behind(self):
        ours = FiniteWidthRegressor().fit(X, Y)
        before = len(pickle.dumps(ours))
        ours.predict(np.tile(X_NEW, (100, 1)))
        assert len(pickle.dumps(ours)) == before


class TestBadInput:
    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"temperature": 0.0}, "temperature = 0.0"),
            ({"widths": (0,)}, r"widths\[0\] = 0"),
            ({"widths": ()}, r"widths = \(\)"),
            ({"weight_precision": -1.0}, "weight_precision"),
            ({"activation": "rellu"}, "did you mean 'relu'"),
            ({"method": "sadle"}, "did you mean 'saddle'"),
            ({"method": 3}, "method = 3; .*write method='saddle'"),
            ({"method": "neuron", "widths": (9, 8)}, "method = 'neuron'.*2 hidden layers"),
            ({"method": fw.Saddle("product"), "network": "cnn", "patch": 1, "input_shape": (1, 5, 1)}, "closure"),
            ({"network": "fcc"}, "did you mean 'fc'"),
            ({"patch": 2}, "the option patch for network 'fc'"),
            ({"network": "cnn"}, "without a patch"),
            ({"network": "cnn", "patch": 9, "input_shape": (1, 5, 1)}, "patch"),
        ],
        ids=str,
    )
    def test_parameters(self, given, words):
        with pytest.raises(fw.InputError, match=words):
            FiniteWidthRegressor(**given).fit(X, Y)

    def test_targets(self):
        with pytest.raises(ValueError, match="NaN"):
            FiniteWidthRegressor().fit(X, np.full(40, np.nan))
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            FiniteWidthRegressor().fit(X, Y[:-1])
        with pytest.raises(ValueError, match="type <U"):
            FiniteWidthRegressor().fit(X, np.full(40, "a"))

    def test_points(self):
        with pytest.raises(NotFittedError):
            FiniteWidthRegressor().predict(X)
        with pytest.raises(ValueError, match="X has 4 features, but FiniteWidthRegressor is expecting 5"):
            FiniteWidthRegressor().fit(X, Y).predict(X[:, :4])

    def test_not_converged_never_looks_converged(self, monkeypatch):
        ours = FiniteWidthRegressor()
        monkeypatch.setattr(solution, "GRADIENT_TOLERANCE", -1.0)  # nothing is good enough
        monkeypatch.setattr(solution, "_ROUNDING", -1.0)
        with pytest.warns(fw.ConvergenceWarning, match="rescale the data"):
            ours.fit(X, Y)
        assert not ours.solution_.converged
        assert np.isnan(ours.log_evidence_)
        with pytest.raises(fw.InputError, match="did not converge"):
            ours.predict(X)
        with pytest.raises(fw.InputError, match="did not converge"):
            ours.score(X, Y)
