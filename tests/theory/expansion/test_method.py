"""First order as a method: rows, intervals, what is shared and refused; the command line."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

import finitewidth as fw
from finitewidth import cli
from finitewidth.checks.exceptions import InputError
from finitewidth.data.scaling import TargetScaling
from finitewidth.theory.expansion import slopes as module
from finitewidth.theory.expansion import slopes as recent


@pytest.fixture(scope="module")
def digits():
    return fw.data.digits(classes=(3, 8), n_train=60, n_test=60)


QUICK = fw.FirstOrder(neurons=4_000)


def correction(slopes, width):
    """(c - c_action) / (N eps)."""
    return (slopes.test_error.slope - slopes.action.test_error) / (width * slopes.test_error.infinite)


def test_matched_to_first_order(digits):
    """eps_action exp(d), d at the kernel of the saddle where that is another; the interval: d, d at K, noise."""
    train, test = digits
    network = fw.FullyConnected(widths=(100,))
    rows = fw.learning_curve(network, train, test, [30, 10_000], 0.1, method=QUICK)
    action = fw.learning_curve(network, train, test, [30, 10_000], 0.1)
    slopes = fw.first_order(network, train, test, 0.1, neurons=4_000)
    for row, theirs in zip(rows, action, strict=True):
        (q,) = theirs.order_parameters
        at_saddle = fw.FullyConnected(widths=(100,), weight_precision=(1.0, 1.0 / q))
        there = slopes if row.width == 10_000 else fw.first_order(at_saddle, train, test, 0.1, neurons=4_000)
        d, at_infinity = (correction(found, row.width) for found in (there, slopes))
        assert row.test_error == pytest.approx(theirs.test_error * math.exp(d), rel=1e-9)
        noise = 1.645 * there.test_error.slope_se / (row.width * there.test_error.infinite)
        margin = math.sqrt(d**2 + (d - at_infinity) ** 2 + noise**2)
        assert math.log(row.test_error_high / row.test_error) == pytest.approx(margin)
        assert math.log(row.test_error / row.test_error_low) == pytest.approx(margin)
        assert row.bias + row.variance == pytest.approx(row.test_error)
        assert row.order_parameters == theirs.order_parameters
        assert row.converged
    assert rows[1].test_error == pytest.approx(slopes.test_error.at(10_000), rel=1e-4)
    assert rows[1].accuracy == pytest.approx(slopes.accuracy.at(10_000), abs=1e-5)
    assert rows[1].train_error == pytest.approx(slopes.train_error.at(10_000), rel=1e-4)


def test_the_log_evidence_is_matched_too(digits):
    """Linear networks: the integral over Q has it exactly; the saddle misses a term of order 1/N."""
    train, test = digits
    network = fw.FullyConnected(widths=(400,), activation="linear")
    (exact,) = fw.learning_curve(network, train, test, temperature=0.1, method="integrate")
    (action,) = fw.learning_curve(network, train, test, temperature=0.1)
    (row,) = fw.learning_curve(network, train, test, temperature=0.1, method=QUICK)
    noise = row.evidence_slope.total_se / 400
    assert abs(row.log_evidence - exact.log_evidence) < 4.0 * noise + 0.1 * abs(
        action.log_evidence - exact.log_evidence
    )
    assert row.to_dict()["evidence_slope"]["total"] == row.evidence_slope.total


def at_infinite_width(method, network, train, test):
    """N (error - infinite) for N -> infinity, from two widths."""
    (infinite,) = fw.learning_curve(network, train, test, temperature=0.1, method="infinite")
    rows = fw.learning_curve(network, train, test, [20_000, 40_000], 0.1, method=method)
    near, far = (row.width * (row.test_error - infinite.test_error) for row in rows)
    return 2.0 * far - near


@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_the_expansion_at_the_saddle_is_exact_to_first_order(digits, activation):
    """The action is not, two layers deep: the control."""
    train, test = (part.subset(np.arange(20)) for part in digits)
    network = fw.FullyConnected((20, 20), activation=activation)
    slopes = fw.first_order(network, train, test, 0.1, neurons=1_000)
    method = fw.FirstOrder(neurons=1_000)
    assert at_infinite_width(method, network, train, test) == pytest.approx(slopes.test_error.slope, rel=0.01)
    action = at_infinite_width("saddle", network, train, test)
    assert action == pytest.approx(slopes.action.test_error, rel=0.01)
    assert action != pytest.approx(slopes.test_error.slope, rel=0.02)


@pytest.mark.slow
def test_deep_relu_expands_at_the_saddle(digits):
    """At infinite width the correction is several times too large (docs/first_order.md)."""
    train, test = fw.data.digits(classes=(3, 8), n_train=100, n_test=200)
    network = fw.FullyConnected((150, 150, 150), activation="relu")
    problem = fw.inference.methods.Problem(network, fw.Gaussian(0.1))
    solution = fw.FirstOrder(neurons=5_000).solve(problem, train)
    at_infinity = correction(solution.slopes(test), 150)
    d = math.log(solution.errors(test).test_error / fw.Saddle().solve(problem, train).errors(test).test_error)
    assert abs(d) < 0.4 * abs(at_infinity)


def test_one_average_for_all_widths(digits, monkeypatch):
    calls = []
    monkeypatch.setattr(recent, "_recent", {})
    whole = module.averages
    monkeypatch.setattr(module, "averages", lambda *given: calls.append(given[0].network) or whole(*given))
    fw.learning_curve(fw.FullyConnected((40, 20)), *digits, [3000, 6000], [0.1, 0.2], method=QUICK)
    assert len(calls) == 2  # temperatures


def test_slopes_of_the_same_numbers_in_other_units_are_others():
    """Errors are in the units of the targets before they were standardised, which two data sets may differ in."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((30, 3)), rng.standard_normal(30)
    found = []
    for unit in (1.0, 8.0):
        train = fw.Dataset(x[:20], unit * y[:20], classes=())
        scaling = TargetScaling.fit(train.y)
        parts = [part.with_scaled_targets(scaling) for part in (train, fw.Dataset(x[20:], unit * y[20:], classes=()))]
        (row,) = fw.learning_curve(fw.FullyConnected(widths=500), *parts, temperature=0.1, method=QUICK)
        found.append((row.test_error, row.test_error_se))
    np.testing.assert_allclose(found[1], 64.0 * np.array(found[0]))


def test_a_narrow_network_has_no_number(digits):
    train, test = digits
    (row,) = fw.learning_curve(fw.FullyConnected(widths=(3,)), train, test, temperature=0.005, method=QUICK)
    assert not row.converged
    assert np.isnan([row.test_error, row.bias, row.test_error_low]).all()
    assert "use method curve" in row.message
    solution = QUICK.solve(fw.inference.methods.Problem(fw.FullyConnected(3), fw.Gaussian(0.005)), train)
    with pytest.raises(InputError, match="method='sample'"):
        solution.errors(test)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"tolerance": -1.0}, "tolerance"), ({"neurons": 0}, "neurons"), ({"seed": -1}, "seed")],
)
def test_settings_are_checked(options, words):
    with pytest.raises(InputError, match=words):
        fw.FirstOrder(**options)


def test_other_likelihoods_are_refused():
    @dataclasses.dataclass(frozen=True)
    class Other(fw.Likelihood):
        temperature: float = 0.1

        def posterior(self, *given):
            raise NotImplementedError

    with pytest.raises(InputError, match="Gaussian likelihood"):
        fw.FirstOrder().serves(fw.inference.methods.Problem(fw.FullyConnected(9), Other()))


def test_command_line(capsys):
    words = ["--data", "digits", "--classes", "3,8", "--n-train", "40", "--n-test", "40", "--width", "200"]
    assert cli.main(["predict", *words, "--method", "first-order", "--neurons", "2000", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["method"] == "first-order"
    assert row["test_error_low"] < row["test_error"] < row["test_error_high"]
    assert row["test_error_se"] > 0.0
    slope = row["evidence_slope"]
    assert slope["by_layer"] == [pytest.approx(slope["total"])]
    assert slope["total_se"] > 0.0
    assert cli.main(["predict", *words, "--method", "first-order", "--neurons", "2000"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"Evidence slope at infinite width: {slope['total']:+.0f} ± " in text
    assert text.count("Evidence slope") == 1
    assert cli.main(["compare", *words, "--methods", "saddle,first-order", "--neurons", "2000"]) == 0
    assert "first-order" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.statistical
def test_the_sampled_network_approaches_infinite_width_along_the_slope():
    """N (sampled - infinite) on real data, extrapolated from two widths."""
    pytest.importorskip("jax")
    train, test = fw.data.digits(classes=(3, 8), n_train=30, n_test=40)
    network, T, found = fw.FullyConnected(widths=(40,)), 0.1, []
    slopes = fw.first_order(network, train, test, T, tolerance=0.005)  # noise of the samples is larger
    for width in (40, 80):
        draws = fw.sample(network.with_width(width), train, test, temperature=T, chains=4, draws=250, seed=0)
        errors = draws.errors(test.y)
        found.append((width * (errors.test_error - slopes.test_error.infinite), width * errors.test_error_se))
    (near, near_se), (far, far_se) = found
    noise = math.hypot(2.0 * far_se, near_se, slopes.test_error.slope_se)
    assert abs(2.0 * far - near - slopes.test_error.slope) < 3.0 * noise
