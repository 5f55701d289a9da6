"""What a solution gives away: maps of Q, features, gradients, and predictions that double precision cannot hold."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.checks.exceptions import InputError
from finitewidth.inference.prediction import Prediction
from finitewidth.theory import learned
from finitewidth.theory import solution as solution_module
from finitewidth.theory.learned import LearnedFeatures
from finitewidth.theory.saddle import Minimum
from finitewidth.theory.solution import QMap, TheorySolution, at_saddle


def qmap(matrix, grid):
    return QMap(np.asarray(matrix, float), np.zeros((len(matrix), len(grid))), (2,) * len(grid), (4, 4, 1), grid)


def test_maps_with_and_without_shared_weights():
    matrix = np.diag([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    matrix[0, 1] = matrix[1, 0] = 0.5
    full, alone = qmap(matrix, (2, 3)), qmap(np.arange(1.0, 7.0), (2, 3))
    np.testing.assert_array_equal(full.square, matrix)
    np.testing.assert_array_equal(alone.square, np.diag(np.arange(1.0, 7.0)))
    for found in (full, alone):
        assert found.diagonal.tolist() == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]


TWO, THREE = (fw.data.digits(classes=range(n), n_train=20, n_test=10)[0] for n in (2, 3))


@pytest.mark.parametrize(
    ("network", "train", "shape"),
    [
        (fw.FullyConnected(widths=(10, 20)), TWO, None),
        (fw.FullyConnected(widths=(10, 20)), THREE, (3, 3)),
        (fw.Convolutional(channels=10, patch=4), TWO, (4, 4)),
        (fw.Convolutional(channels=10, patch=4), THREE, (12, 12)),
        (fw.LocallyConnected(channels=10, patch=4), TWO, None),
        (fw.LocallyConnected(channels=10, patch=4), THREE, (4, 3, 3)),
        (fw.Convolutional(channels=10, patch=4, pool="average"), TWO, None),
    ],
    ids=["layers", "outputs", "patches", "patches and outputs", "alone", "alone, outputs", "pooled"],
)
def test_mean_order_parameter(network, train, shape):
    """Over layers, or over the diagonal."""
    solution = fw.solve(fw.theory_of(network, 0.1), train)
    q = solution.order_parameters
    values = q if shape is None else np.diagonal(q.reshape(shape), axis1=-2, axis2=-1)
    assert solution.mean_order_parameter == pytest.approx(values.mean(), rel=1e-12)
    assert np.isnan(fw.solve(fw.theory_of(network, 0.1, method="infinite"), train).mean_order_parameter)


def test_leading_eigenvectors_point_to_the_positive():
    """Known ones: q = 5 along (-1, -1, -1, 1)/2, and 2 across; the sign is turned so that entries sum to above 0."""
    first, second = np.array([-1.0, -1.0, -1.0, 1.0]) / 2.0, np.array([1.0, -1.0, 0.0, 0.0]) / np.sqrt(2.0)
    matrix = np.eye(4) + 4.0 * np.outer(first, first) + np.outer(second, second)
    values, vectors = qmap(matrix, (2, 2)).eigenvectors(2)
    np.testing.assert_allclose(values, [5.0, 2.0], rtol=1e-12)
    assert vectors.shape == (2, 2, 2)
    np.testing.assert_allclose(vectors[0].ravel(), -first, atol=1e-12)
    np.testing.assert_allclose(np.abs(vectors[1].ravel()), np.abs(second), atol=1e-12)
    np.testing.assert_allclose(qmap(matrix, (2, 2)).eigenvectors(1)[1].ravel(), -first, atol=1e-12)
    assert qmap(matrix, (2, 2)).eigenvectors()[1].shape == (3, 2, 2)
    assert qmap(matrix, (2, 2)).eigenvectors(9)[0].shape == (4,)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_receptive_fields(sign):
    """A covariance with offsets (a last row) and one matrix a patch: of their mean, without the last row."""
    field, other = sign * np.array([0.8, 0.6, 0.0]), np.array([0.6, -0.8, 0.0])
    weights = np.eye(4)
    weights[:3, :3] += 7.0 * np.outer(field, field) + 2.0 * np.outer(other, other)
    weights[3, 3] = 50.0
    for covariance in (weights, np.stack([0.5 * weights, 1.5 * weights])):
        found = LearnedFeatures(covariance, np.eye(2), None, (3, 1))
        values, vectors = found.receptive_fields(2)
        np.testing.assert_allclose(values, [8.0, 3.0], rtol=1e-12)
        np.testing.assert_allclose(vectors[0], sign * field[:, None], atol=1e-12)
        np.testing.assert_allclose(np.abs(vectors[1]), np.abs(other)[:, None], atol=1e-12)
        assert found.receptive_fields()[1].shape == (3, 3, 1)
        assert len(found.receptive_fields(7)[0]) == 3
        across = np.array([0.8, -0.6, 0.0])  # of mixed signs: turned as a whole
        mixed = LearnedFeatures(np.eye(3) + np.outer(across, across), np.eye(2), None, (3,))
        np.testing.assert_allclose(mixed.receptive_fields(1)[1], [across], atol=1e-12)


def test_the_share_of_specialised_neurons(unchangeable):
    """Quantiles of a Gaussian: 0.0027 beyond three deviations; of a hundred more that stand apart, those."""
    unchangeable(learned)
    from scipy.stats import norm

    v = norm.ppf((np.arange(100_000) + 0.5) / 100_000)[:, None] * [1.0, 7.0]
    features = LearnedFeatures(np.eye(1), np.eye(1), v, (1,))
    assert features.specialised == pytest.approx(2.0 * norm.sf(3.0), abs=1e-5)
    apart = np.array([1.0] * 50 + [-1.0] * 50 + [4.4, -4.4, 4.46, -4.46])[:, None]  # 3 / 0.6745 = 4.448
    assert LearnedFeatures(np.eye(1), np.eye(1), apart, (1,)).specialised == pytest.approx(2 / 104)
    with pytest.raises(InputError, match="readouts"):
        _ = LearnedFeatures(np.eye(1), np.eye(1), None, (1,)).specialised


@pytest.fixture
def solution(train):
    return fw.solve(fw.theory_of(fw.FullyConnected(widths=(9,)), 0.1), train)


def test_what_a_solution_says_of_itself(solution, train):
    assert (solution.solver, solution.message, solution.converged) == ("exact", "", True)
    best = solution.minima[0]
    assert (solution.action, solution.gradient_norm) == (best.action, best.gradient_norm)
    infinite = fw.solve(fw.theory_of(fw.FullyConnected(widths=(9,)), 0.1, method="infinite"), train)
    assert (infinite.action, infinite.gradient_norm) == (-infinite.log_evidence, 0.0)
    two = TheorySolution(None, train, np.ones(1), -1.0, True, "", (Minimum(np.ones(1), 1.0, 0.25), best), None)
    assert (two.action, two.gradient_norm, two.solver) == (1.0, 0.25, "exact")
    krylov = TheorySolution(None, train, np.ones(1), -1.0, True, "", (), None, None, SimpleNamespace())
    assert krylov.solver == "krylov"


def test_what_a_solution_has_not(solution, train):
    for call, said in (
        (solution.q_map, "no patches"),
        (lambda: solution.features, "learned features of ScaledKernel"),
        (fw.solve(fw.theory_of(fw.FullyConnected(widths=(9,)), 0.1, method="integrate"), train).evidence_gradient,
         "integrated solution"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=said):
            call()


def test_an_action_without_a_minimum(train, unchangeable):
    unchangeable(solution_module)
    found = at_saddle("theory", train, (), np.ones(3), "predictor", None)
    assert (found.converged, found.minima, found.theory, found.predictor) == (False, (), "theory", "predictor")
    assert np.isnan(found.order_parameters).tolist() == [True] * 3
    assert np.isnan(found.log_evidence)
    assert "no finite minimum" in found.message
    assert found.gradient is None


class Fixed:
    """A predictor that says what it is told."""

    def __init__(self, mean=0.0, variance=1.0, train_error=0.5):
        self.parts = mean, variance, train_error

    def predict(self, x):
        mean, variance, train_error = self.parts
        return Prediction(np.full(len(x), mean), np.full(len(x), variance), train_error)


@pytest.mark.parametrize("part", ["mean", "variance", "train_error"])
@pytest.mark.parametrize("converged", [True, False])
def test_predictions_that_are_not_finite_are_refused(part, converged, train):
    def made(**parts):
        return TheorySolution(None, train, np.ones(1), 0.0, converged, "", (), Fixed(**parts))

    x = train.x[:3]
    assert made().predict(x).train_error == 0.5
    for value in (np.nan, np.inf):
        bad = made(**{part: value})
        with pytest.raises(InputError, match="NaN or infinite") as caught:
            bad.predict(x)
        assert ("did not converge" in str(caught.value)) is not converged
        assert "rescale" in str(caught.value)


def test_points_of_other_inputs(solution):
    for shape in ((2, 2, 3), (5,), (2, 5, 1, 1)):
        with pytest.raises(InputError, match=r"x of shape .* a point, \(5,\) in training"):
            solution.predict(np.ones(shape))


def test_a_data_set_or_its_inputs(solution):
    points = fw.Dataset(np.arange(15.0).reshape(3, 5), np.arange(3.0))
    np.testing.assert_array_equal(solution.predict(points).mean, solution.predict(points.x).mean)


def test_a_solution_is_one_of_any_method(solution, train, test_set):
    """What ``fw.Solution`` promises, by second routes: errors of the prediction, the row's line, rate and kernel."""
    assert isinstance(solution, fw.Solution)
    assert (solution.network, solution.likelihood, solution.complete) == (
        fw.FullyConnected(widths=(9,)),
        fw.Gaussian(0.1),
        True,
    )
    assert solution.errors(test_set) == solution.predict(test_set.x).errors(test_set.y)
    row = solution.row(test_set, 3.0)
    assert row.test_error == solution.errors(test_set).test_error
    assert 3.0 < row.seconds < 60.0
    (q,) = solution.order_parameters
    assert solution.information == pytest.approx(0.5 * 9 * (q - np.log(q) - 1.0), rel=1e-9)
    np.testing.assert_allclose(
        solution.kernel(test_set.x), q * fw.kernels.nngp(solution.network, test_set.x), rtol=1e-12
    )
    assert not solution.on_patches


def test_a_solution_without_its_matrices(solution, test_set):
    """Enough for its validity, not to predict with."""
    bare = solution.bare()
    for call in (lambda: bare.predict(test_set), lambda: bare.errors(test_set)):
        with pytest.raises(InputError, match=r"a solution without its matrices; wanted: .*solve again"):
            call()
    integrated = fw.solve(solution.network, solution.train, 0.1, "integrate")
    for call in (lambda: integrated.information, lambda: integrated.kernel(test_set.x)):
        with pytest.raises(InputError, match=r"integrated order parameters.*use method='saddle'"):
            call()
