"""``fw.Curve``: what was asked for, what it rests on, and nothing lost."""

from __future__ import annotations

import json
from functools import lru_cache

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.cli import main
from finitewidth.curves import refinement
from finitewidth.curves.refinement import Refinement

WIDTHS = (5, 20, 80)
ERF = fw.FullyConnected(widths=20)


@lru_cache
def digits(*classes: int) -> tuple[fw.Dataset, fw.Dataset]:
    return fw.data.digits(classes=classes, n_train=30, n_test=40)


def curve(network: fw.Network = ERF, widths=WIDTHS, within=0.1, classes=(3, 8), **options):
    settings = {name: options.pop(name) for name in ("seconds", "seed") if name in options}
    method = fw.Curve(within=within, **settings)
    return fw.learning_curve(network, *digits(*classes), widths, 0.1, method=method, **options)


@lru_cache
def made():
    return curve()


def test_every_width_is_as_accurate_as_asked_for():
    for row in made():
        assert row.met
        assert row.converged
        assert row.complete
        assert row.message == ""
        assert row.test_error_low < row.test_error < row.test_error_high < 1.1 * row.test_error
        assert row.bias + row.variance == pytest.approx(row.test_error)
        assert row.bias_low < row.bias < row.bias_high
        assert row.variance_low < row.variance < row.variance_high
        assert row.train_error_low < row.train_error < row.train_error_high
        assert 0.5 < row.accuracy < 1.0
    assert made()[0].rests_on.startswith("samples at ")


def test_narrows_towards_infinite_width():
    spread = [row.test_error_high / row.test_error_low for row in curve(widths=(1000, 10**5))]
    assert spread[1] < spread[0] < 1.1
    wide = curve(widths=(10**5,))[0]
    assert wide.test_error == pytest.approx(wide.infinite_test_error, rel=1e-3)
    assert wide.rests_on == "first order"
    assert wide.sampled_test_error is None


def test_the_same_seed_gives_the_same_numbers():
    again = curve()
    assert [row.test_error for row in again] == [row.test_error for row in made()]


@pytest.mark.statistical
def test_linear_networks_are_where_their_integral_is():
    linear = fw.FullyConnected(widths=20, activation="linear")
    exact = fw.learning_curve(linear, *digits(3, 8), WIDTHS, 0.1, method="integrate")
    for row, true in zip(curve(linear), exact, strict=True):
        assert row.test_error_low < true.test_error < row.test_error_high
        assert row.train_error == pytest.approx(true.train_error, rel=0.1)


def test_too_little_time_gives_what_there_is_and_says_so():
    row = curve(widths=(5,), within=0.001, seconds=0.01)[0]
    assert not row.met
    assert row.rests_on == "first order"
    assert row.converged
    assert "not 0.1 %: more samples would take too long" in row.message
    assert fw.Curve(seconds=1.0).accuracy == 0.01
    assert fw.Curve().accuracy == 0.05


def test_samples_of_an_earlier_call_serve_other_widths(tmp_path):
    first = curve(widths=(5, 20), checkpoint=tmp_path)
    files = {path.name for path in tmp_path.glob("*.npz")}
    assert files
    assert all(name.startswith("curve-width-") and "n-train-30" in name for name in files)
    second = curve(widths=(10,), checkpoint=tmp_path)
    assert set(first[0].rests_on.split()) & set(second[0].rests_on.split()) > {"samples", "at"}
    with pytest.raises(fw.InputError, match="checkpoint"):
        fw.learning_curve(ERF, *fw.data.digits((1, 7), 30, 40), (5, 20), 0.1, method="curve", checkpoint=tmp_path)


def test_an_interrupt_keeps_what_is_done(monkeypatch):
    sample, taken = Refinement._sample, []

    def interrupted(self, width, *others):
        if taken:
            raise KeyboardInterrupt
        taken.append(width)
        sample(self, width, *others)

    monkeypatch.setattr(Refinement, "_sample", interrupted)
    found = curve(within=0.05)
    assert not found.complete
    assert len(found) == len(WIDTHS)
    assert found[0].rests_on == f"samples at {taken[0]}"
    assert not found[0].complete
    assert any("interrupted" in row.message for row in found)


def test_after_an_interrupt_no_other_temperature_is_sampled(monkeypatch):
    taken = []

    def interrupted(self, width, *others):
        taken.append(self.temperature)
        raise KeyboardInterrupt

    monkeypatch.setattr(Refinement, "_sample", interrupted)
    found = fw.learning_curve(ERF, *digits(3, 8), (5,), [0.1, 1.0], method=fw.Curve(within=0.01))
    assert taken == [0.1]
    assert [row.temperature for row in found] == [0.1, 1.0]
    assert not any(row.complete for row in found)


def test_the_time_is_that_of_all_temperatures(monkeypatch):
    given = []
    monkeypatch.setattr(Refinement, "refine", lambda self, seconds: given.append(seconds))
    fw.learning_curve(ERF, *digits(3, 8), (5,), [0.1, 1.0, 10.0], method=fw.Curve(seconds=30.0))
    assert given[0] < 10.0
    assert given[2] < 30.0


def test_samples_of_earlier_calls_are_taken_as_they_are(tmp_path, monkeypatch):
    curve(widths=(5,), checkpoint=tmp_path)
    monkeypatch.setattr(refinement, "carry_out", None)
    row = curve(widths=(20,), within=0.01, seconds=0.01, checkpoint=tmp_path)[0]
    assert row.rests_on == "samples at 5"


def test_no_sample_takes_more_memory_than_there_is():
    row = curve(widths=(5,), memory="100MB")[0]
    assert not row.met
    assert row.rests_on == "first order"
    assert "its sample is not used" in row.message
    assert "100 MB" in row.message


def test_a_longer_sample_that_disagrees_takes_the_shorter_one_with_it(monkeypatch):
    class ApartInTheEnd(refinement.SamplingRun):
        def collect(self, state):
            draws = super().collect(state)
            if self.settings.accuracy < 0.02:
                draws.energy[::2] += 1e6
            return draws

    monkeypatch.setattr(refinement, "SamplingRun", ApartInTheEnd)
    monkeypatch.setattr(refinement, "_SHARE", 1.0)
    row = curve(widths=(5,), within=0.03)[0]
    assert not row.met
    assert row.sampled_test_error is None
    assert "its sample is not used" in row.message


@pytest.mark.parametrize(
    ("x", "y", "vanishing"),
    [
        (np.eye(4), np.zeros(4), ("bias",)),
        (np.zeros((4, 4)), np.arange(4.0), ("variance",)),
        (np.zeros((4, 4)), np.zeros(4), ("test_error", "train_error")),
    ],
    ids=["targets", "inputs", "both"],
)
def test_errors_that_are_zero_stay_zero(x, y, vanishing):
    data = fw.Dataset(x, y, classes=())
    row = fw.learning_curve(ERF, data, data, (20,), 0.1, method=fw.Curve(within=0.5, seconds=0.01))[0]
    for name in vanishing:
        assert [getattr(row, name + end) for end in ("", "_low", "_high")] == [0.0] * 3
    assert row.met


def test_labels_that_are_certain():
    data = fw.Dataset(5.0 * np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array([1.0, -1.0]))
    row = fw.learning_curve(ERF, data, data, (20,), 1e-6, method=fw.Curve(within=0.5, seconds=0.01))[0]
    assert row.accuracy == pytest.approx(1.0, abs=1e-11)


def test_chains_that_disagree_are_not_used(monkeypatch):
    class Apart(refinement.SamplingRun):
        def collect(self, state):
            draws = super().collect(state)
            draws.energy[::2] += 1e6
            return draws

    monkeypatch.setattr(refinement, "SamplingRun", Apart)
    row = curve(widths=(5,))[0]
    assert not row.met
    assert row.rests_on == "first order"
    assert row.sampled_test_error is None
    assert "its sample is not used" in row.message


@pytest.mark.parametrize(
    ("network", "classes"),
    [
        (fw.FullyConnected(widths=20, activation="relu"), (1, 2, 3)),
        (fw.FullyConnected(widths=(10, 20)), (3, 8)),
        (fw.Convolutional(channels=10, patch=4, activation="relu", pool="average"), (3, 8)),
        (fw.Network([{"dense": {"width": 10}}, "relu", {"dense": {"width": 10}}, "relu", {"dense": {}}]), (3, 8)),
    ],
    ids=["outputs", "unequal", "pooled", "layers"],
)
def test_whatever_can_be_sampled(network, classes):
    (row,) = curve(network, None, within=0.2, classes=classes)
    assert row.met
    assert row.test_error_low < row.test_error < row.test_error_high
    assert row.width == network.common_width


def test_temperatures_and_sizes_are_curves_of_their_own():
    found = fw.learning_curve(ERF, *digits(3, 8), (40, 1000), [0.1, 1.0], n_train=[10, 30], method=fw.Curve(within=0.2))
    places = [(row.n_train, row.temperature, row.width) for row in found]
    assert places == [(n, t, w) for n in (10, 30) for t in (0.1, 1.0) for w in (40, 1000)]
    assert len({row.infinite_test_error for row in found}) == 4


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (lambda: fw.Curve(within=1.5), "below 1"),
        (lambda: fw.Curve(seconds=-1.0), "seconds"),
        (lambda: curve(fw.FullyConnected(widths=5, readout="mean-field"), None), "mean-field"),
        (lambda: fw.solve(ERF, digits(3, 8)[0], 0.1, "curve"), "test set"),
        (lambda: fw.FiniteWidthRegressor(method="curve").fit(np.eye(4), np.arange(4.0)), "test set"),
    ],
)
def test_refusals(action, words):
    with pytest.raises(fw.InputError, match=words):
        action()


def test_a_comparison_counts_the_interval_of_the_curve():
    from finitewidth.curves.comparison import Difference

    row = made()[0]
    off = Difference.of(row, fw.learning_curve(ERF, *digits(3, 8), (5,), 0.1, method="saddle")[0], "test_error")
    deviation = (row.test_error_high - row.test_error_low) / (2 * 1.645)
    assert off.in_se == pytest.approx((1.0 - 1.0 / (1.0 + off.percent / 100)) * row.test_error / deviation)


def test_single_predictions_and_other_test_sets_are_refused():
    train, test = digits(3, 8)
    (solution,) = fw.Curve(within=0.5).solutions([refinement_problem()], train, test)
    assert solution.errors(test).test_error > 0.0
    with pytest.raises(fw.InputError, match="single points"):
        solution.predict(test)
    with pytest.raises(fw.InputError, match="another test set"):
        solution.errors(test.subset(np.arange(5)))


def refinement_problem():
    from finitewidth.inference.methods import Problem

    return Problem(fw.FullyConnected(widths=500), fw.Gaussian(0.1))


def test_command_line(capsys, tmp_path):
    given = [
        "predict",
        "--data",
        "digits",
        "--classes",
        "3,8",
        "--n-train",
        "30",
        "--n-test",
        "40",
        "--width",
        "200,800",
    ]
    figure = tmp_path / "curve.png"
    assert main([*given, "--within", "20%", "--json", "--figure", str(figure)]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert figure.stat().st_size > 10_000
    assert [row["method"] for row in rows] == ["curve", "curve"]
    assert all(row["met"] and row["test_error_low"] < row["test_error"] < row["test_error_high"] for row in rows)
    assert main([*given, "--within", "20%"]) == 0
    shown = capsys.readouterr().out
    assert "90 %" in shown
    assert "exact at infinite width" in shown
    assert main([*given, "--within", "20%", "--method", "saddle"]) == 2
    assert "--within" in capsys.readouterr().err
    assert main([*given, "--within", "0.001%", "--seconds", "1"]) == 0
    assert "would take too long" in " ".join(capsys.readouterr().out.split())
