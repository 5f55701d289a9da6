"""An architecture, a method and a likelihood of one's own, each in a file of under 60 lines outside the package."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import finitewidth as fw
from finitewidth import cli
from finitewidth.inference.likelihoods import Gaussian

HERE = Path(__file__).parent / "extensions"
DATA = ["--data", "digits", "--classes", "0,1", "--n-train", "30", "--n-test", "20"]


@pytest.fixture(scope="module")
def own():
    """The three files, as in the folder that a user works in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        import random_features
        import skip_network
        import student_t

        yield skip_network.Skip, random_features.RandomFeatures, student_t.StudentT
    for name in ("skip_network", "random_features", "student_t"):
        sys.modules.pop(name)


@pytest.fixture(scope="module")
def digits():
    return fw.data.digits(classes=(0, 1), n_train=30, n_test=20)


def rows_of(capsys, monkeypatch, *options):
    monkeypatch.syspath_prepend(str(HERE))
    assert cli.main([*options, *DATA, "--json"]) == 0
    return json.loads(capsys.readouterr().out)["rows"]


@pytest.mark.parametrize("name", ["skip_network", "random_features", "student_t"])
def test_each_is_short(name):
    assert len((HERE / f"{name}.py").read_text().splitlines()) < 60


# --- an architecture --------------------------------------------------------------------------------------------------


@pytest.mark.statistical
def test_the_network_states_the_covariance_that_it_has(own):
    network, x = own[0](40), np.random.default_rng(0).standard_normal((4, 6))
    result = fw.kernels.empirical(lambda key, _: network.init(key, (6,), 8), network.apply, x, n_samples=100)
    expected = fw.kernels.nngp(network, x)
    off = np.abs(result.nngp - expected) / result.nngp_se
    assert off.max() < 4.0
    assert (np.abs(result.nngp - 1.3 * expected) / result.nngp_se).max() > 6.0  # the control


def test_the_network_in_theory_and_sampler(own, digits):
    network = own[0](30)
    curve = fw.learning_curve(network, *digits, widths=[10, 30])
    assert all(row.converged for row in curve)
    drawn = fw.sample(network, *digits, temperature=0.05, draws=30, warmup=40, chains=2)
    assert drawn.errors(digits[1]).test_error == pytest.approx(curve[1].test_error, rel=0.5)


def test_the_network_by_its_path(own, digits, capsys, monkeypatch):
    (row,) = rows_of(capsys, monkeypatch, "predict", "--network", "skip_network:Skip", "--width", "30")
    (expected,) = fw.learning_curve(own[0](30), *digits)
    assert row["test_error"] == pytest.approx(expected.test_error, rel=1e-10)


def test_a_selection_among_networks_without_a_first_order_has_no_evidence_slope(own, digits):
    chosen = fw.select(own[0](20), digits[0], optimise=[])
    assert chosen.evidence_slopes == {}
    assert chosen.evidence_slope is None
    assert "slope" not in str(chosen)


# --- a method ---------------------------------------------------------------------------------------------------------


def test_the_method_in_curves_and_estimators(own, digits):
    train, test = digits
    network, method = fw.FullyConnected(4000), own[1](networks=2)
    row, wide = (fw.learning_curve(network, train, test, method=m)[0] for m in (method, "infinite"))
    assert row.method == "random-features"
    assert row.test_error == pytest.approx(wide.test_error, rel=0.1)  # random features of many neurons
    fitted = fw.FiniteWidthRegressor(network=network, method=method, standardise_target=False).fit(train.flat, train.y)
    np.testing.assert_allclose(fitted.predict(test.flat), fw.predict(network, test, train, method=method).mean)


def test_the_method_by_its_path(own, digits, capsys, monkeypatch):
    command = ("compare", "--methods", "saddle,random_features:RandomFeatures", "--width", "10")
    (row,) = rows_of(capsys, monkeypatch, *command)
    (expected,) = fw.compare(fw.FullyConnected(10), *digits, methods=("saddle", own[1]()))
    assert row["sample"]["test_error"] == pytest.approx(expected.sample.test_error, rel=1e-6)


# --- a likelihood -----------------------------------------------------------------------------------------------------


def test_the_likelihood_is_gaussian_where_it_has_no_tails(own):
    rng = np.random.default_rng(0)
    root, y = rng.standard_normal((12, 12)), rng.standard_normal(12)
    K = root @ root.T / 12
    student, gaussian = own[2](0.3, freedom=1e9).posterior(K, y), Gaussian(0.3).posterior(K, y)
    assert student.energy == pytest.approx(gaussian.energy, rel=1e-6)
    assert student.train_error == pytest.approx(gaussian.train_error, rel=1e-6)
    np.testing.assert_allclose(student.cotangent(), gaussian.cotangent(), atol=1e-6)


def test_the_slope_of_its_evidence(own):
    rng = np.random.default_rng(1)
    root, y, move = rng.standard_normal((8, 8)), 2.0 * rng.standard_normal(8), rng.standard_normal((8, 8))
    K, move, h = root @ root.T / 8 + 0.1 * np.eye(8), move + move.T, 1e-6
    up, down = (own[2](0.3).posterior(K + sign * h * move, y).energy for sign in (1.0, -1.0))
    assert np.vdot(own[2](0.3).posterior(K, y).cotangent(), move) == pytest.approx((up - down) / (2 * h), rel=1e-5)


def test_the_likelihood_shrugs_at_an_outlier(own, digits):
    """Regression with a target that is far off: heavy tails believe it less."""
    train, test = digits
    y = np.array(train.y)
    y[0] = -30.0 * y[0]
    spoilt, network = fw.Dataset(train.x, y, classes=()), fw.FullyConnected(50)
    clean = fw.predict(network, test.x, fw.Dataset(train.x, np.array(train.y), classes=())).mean
    off = {
        noise: np.abs(fw.predict(network, test.x, spoilt, noise).mean - clean).mean() for noise in (own[2](0.05), 0.05)
    }
    assert off[own[2](0.05)] < 0.3 * off[0.05]


def test_the_likelihood_by_its_path_and_in_estimators(own, digits, capsys, monkeypatch):
    train, test = digits
    (row,) = rows_of(capsys, monkeypatch, "predict", "--likelihood", "student_t:StudentT", "--width", "30")
    solution = fw.solve(fw.FullyConnected(30), train, own[2](0.05))
    assert solution.converged
    assert row["test_error"] == pytest.approx(solution.errors(test).test_error, rel=1e-9)
    fitted = fw.FiniteWidthClassifier(widths=30, temperature=own[2](0.05)).fit(train.flat, train.y)
    assert fitted.score(test.flat, test.y) > 0.9
    with pytest.raises(fw.InputError, match="Gaussian likelihood"):
        fw.solve(fw.FullyConnected(30), train, own[2](0.05), method="integrate")
