"""Pictures of infinite width draw what they are given, into the axes they are given."""

from __future__ import annotations

import pytest

import finitewidth as fw

pytest.importorskip("matplotlib")

from finitewidth.report import infinite_plots
from finitewidth.report.plots import new_figure

NETWORK = fw.FullyConnected(widths=(10,))


@pytest.fixture(scope="module")
def data():
    return fw.data.digits(classes=(0, 1), n_train=40, n_test=30)


def lines(ax):
    return {line.get_label(): line for line in ax.lines}


def test_lazy_training(data):
    train, test = data
    curve = fw.lazy_training(NETWORK, train).curve(test, times=[0.0, 0.1, 1.0, 10.0])
    ax = new_figure()[1][0]
    assert infinite_plots.lazy_training(curve, ax) is ax
    drawn = lines(ax)
    assert list(drawn["test error"].get_ydata()) == [row.test_error for row in curve][1:]  # t = 0 has no logarithm
    assert drawn[r"test error, $t \to \infty$"].get_ydata()[0] == curve.limit.test_error
    with pytest.raises(fw.InputError, match="times above 0"):
        infinite_plots.lazy_training(fw.lazy_training(NETWORK, train).curve(test, times=[0.0]))


def test_spectral_curve(data):
    curve = fw.spectral_learning_curve(NETWORK, data[0], [5, 10, 20], trials=4)
    ax = infinite_plots.spectral_curve(curve)
    line = lines(ax)["from the spectrum"]
    assert line.get_ydata()[0] == pytest.approx(curve[0].test_error)
    assert line.get_ydata()[-1] == pytest.approx(curve[-1].test_error)
    (bars,) = ax.containers
    assert list(bars[0].get_ydata()) == [row.sampled_test_error for row in curve]
    assert ax.get_legend()


def test_without_trials_and_with_one_size(data):
    curve = fw.spectral_learning_curve(NETWORK, data[0], [10], trials=0)
    ax = infinite_plots.spectral_curve(curve)
    assert not ax.containers
