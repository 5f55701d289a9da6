"""Plots draw into the axes they are given, return them, and change nothing else."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import finitewidth as fw

pytest.importorskip("matplotlib")

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from finitewidth.checks.exceptions import InputError, MissingExtraError
from finitewidth.report import plots


@pytest.fixture(scope="module")
def data():
    return fw.data.digits(classes=(0, 1), n_train=30, n_test=20)


@pytest.fixture(scope="module")
def network():
    return fw.FullyConnected(widths=20)


@pytest.fixture(scope="module")
def curve(data, network):
    return fw.learning_curve(network, *data, widths=[10, 30, 100], temperature=0.1)


@pytest.fixture(scope="module")
def limit(data, network):
    return fw.learning_curve(network, *data, temperature=0.1, method="infinite")


def line(ax, label):
    (found,) = [one for one in ax.lines if one.get_label() == label]
    return found


def test_draws_the_rows_it_is_given(curve):
    ax = plots.learning_curve(curve)
    assert isinstance(ax, Axes)
    drawn = line(ax, "theory")
    assert np.array_equal(drawn.get_xdata(), [10, 30, 100])
    assert np.array_equal(drawn.get_ydata(), curve.column("test_error"))
    assert ax.get_legend_handles_labels()[1] == ["theory", "bias", "variance"]


def test_uses_the_axes_it_is_given(curve):
    ax = Figure().subplots()
    assert plots.learning_curve(curve, ax=ax, quantity="train_error") is ax
    assert np.array_equal(line(ax, "theory").get_ydata(), curve.column("train_error"))


def test_limit_is_a_dashed_line(curve, limit):
    for given in (limit[0].test_error, limit):
        drawn = line(plots.learning_curve(curve, infinite=given), "infinite width")
        assert drawn.get_ydata()[0] == limit[0].test_error
        assert drawn.get_linestyle() == "--"


def test_sampled_points_have_bars_of_two_standard_errors(curve):
    points = [{"width": 20, "test_error": 0.1, "test_error_se": 0.01}]
    ax = plots.learning_curve(curve, sampled=points)
    (bars,) = ax.containers
    (segment,) = bars[2][0].get_segments()
    assert segment[:, 1] == pytest.approx([0.08, 0.12])


def test_one_line_for_each_temperature(data, network):
    rows = fw.learning_curve(network, *data, widths=[10, 30], temperature=[0.1, 1.0])
    ax = plots.learning_curve(rows)
    assert [one.get_label() for one in ax.lines] == ["theory, $T$ = 0.1", "theory, $T$ = 1"] or [
        one.get_label() for one in ax.lines
    ] == ["$T$ = 0.1", "$T$ = 1"]


def test_axis_is_what_varies_most(data, network):
    rows = fw.learning_curve(network, *data, widths=[10, 30], temperature=[0.1, 0.3, 1.0])
    ax = plots.learning_curve(rows)
    assert ax.get_xlabel() == "temperature $T$"
    assert [one.get_label() for one in ax.lines] == ["$N$ = 10", "$N$ = 30"]
    assert len({one.get_linestyle() for one in ax.lines}) == 2


def test_mean_order_parameter(curve):
    ax = plots.learning_curve(curve, infinite=1.0, quantity="mean_order_parameter")
    assert list(line(ax, "theory").get_ydata()) == [row.mean_order_parameter for row in curve]
    assert ax.get_ylabel() == "mean of $Q$"


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_a_legend_above_hides_no_curve(scale):
    figure = Figure()
    ax = figure.subplots()
    for k in range(5):
        ax.plot([1, 2], [1.0, 3.0 + k], label=f"a line {k}")
    ax.set_yscale(scale)
    plots.legend_above(ax)
    figure.canvas.draw()
    highest = ax.transData.transform((2, 7.0))[1]
    assert ax.get_legend().get_window_extent().y0 > highest


def test_axis_is_what_varies(data, network):
    assert (
        plots.learning_curve(fw.learning_curve(network, *data, temperature=[0.1, 1.0])).get_xlabel()
        == "temperature $T$"
    )
    sizes = fw.learning_curve(network, *data, n_train=[10, 20, 30])
    assert plots.learning_curve(sizes).get_xlabel() == "training points $P$"


def test_what_did_not_converge_is_a_gap(curve):
    from dataclasses import replace

    rows = [curve[0], replace(curve[1], converged=False), curve[2]]
    assert np.isnan(line(plots.learning_curve(rows), "theory").get_ydata()).tolist() == [False, True, False]


def test_one_row_is_a_point(curve):
    assert line(plots.learning_curve([curve[0]]), "theory").get_marker() == "o"


def test_nothing_global_changes(curve, limit, tmp_path):
    before, backend = dict(mpl.rcParams), mpl.rcParams._get("backend")
    had_pyplot = "matplotlib.pyplot" in sys.modules
    plots.save(plots.learning_curve_figure(curve, infinite=limit), tmp_path / "curve.png")
    assert {k: v for k, v in mpl.rcParams.items() if before[k] != v} == {}
    assert mpl.rcParams._get("backend") == backend
    assert ("matplotlib.pyplot" in sys.modules) == had_pyplot


def test_saved_whole_or_not_at_all(curve, tmp_path, monkeypatch):
    figure = plots.learning_curve_figure(curve)
    path = tmp_path / "curve.pdf"
    assert plots.save(figure, path) == path
    first = path.read_bytes()

    def fail(file, **_):
        file.write_bytes(b"half a fig")
        raise OSError("disk full")

    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        plots.save(figure, path)
    assert [p.name for p in tmp_path.iterdir()] == ["curve.pdf"]
    assert path.read_bytes() == first


def test_refusals(curve, monkeypatch):
    with pytest.raises(InputError, match="did you mean 'test_error'"):
        plots.learning_curve(curve, quantity="testerror")
    with pytest.raises(InputError, match="without rows"):
        plots.learning_curve([])
    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"finitewidth\[plot\]"):
        plots.learning_curve(curve)


# --- sampled rows and comparisons -----------------------------------------------------------------------


def sampled(width, test_error, temperature=0.1, converged=True):
    return {
        "width": width,
        "temperature": temperature,
        "test_error": test_error,
        "test_error_se": 0.01,
        "train_error": 0.1,
        "train_error_se": 0.001,
        "converged": converged,
    }


def points(ax):
    """Label, positions and faces of what was drawn with error bars."""
    return [
        (bars.get_label(), bars.lines[0].get_xydata().tolist(), bars.lines[0].get_markerfacecolor())
        for bars in ax.containers
    ]


def test_samples_go_to_the_line_of_their_temperature(data, network):
    curve = fw.learning_curve(network, *data, widths=[10, 30], temperature=[0.1, 1.0])
    ax = plots.learning_curve(curve, sampled=[sampled(10, 0.2), sampled(10, 0.4, temperature=1.0)])
    colours = [bars.lines[0].get_markeredgecolor() for bars in ax.containers]
    assert [xy for _, xy, _ in points(ax)] == [[[10.0, 0.2]], [[10.0, 0.4]]]
    assert colours == [plots.COLOURS[0], plots.COLOURS[1]]


def test_what_did_not_converge_is_drawn_apart(curve):
    ax = plots.learning_curve(curve, sampled=[sampled(10, 0.2), sampled(30, 0.3, converged=False)])
    assert points(ax) == [
        ("sampled", [[10.0, 0.2]], "white"),
        ("sampled, not converged", [[30.0, 0.3]], "0.75"),
    ]


def test_markers_at_the_ends_are_whole(curve):
    left, right = plots.learning_curve(curve, sampled=[sampled(10, 0.2)]).get_xlim()
    assert left < 10
    assert right > 100


def test_against_temperature(data, network):
    curve = fw.learning_curve(network, *data, temperature=[0.1, 1.0])
    ax = plots.learning_curve(curve, sampled=[sampled(20, 0.2), sampled(20, 0.4, temperature=1.0)])
    assert points(ax)[0][1] == [[0.1, 0.2], [1.0, 0.4]]


def test_sampled_rows_are_points_not_a_line(data, network):
    """Of a sampler's own curve; the numbers and bars are those of its rows."""
    pytest.importorskip("jax")
    rows = fw.learning_curve(network, *data, [4, 8], 0.1, method=fw.Sample(draws=20, chains=2, warmup=20))
    (bars,) = plots.learning_curve(rows).containers
    assert bars.lines[0].get_xydata().tolist() == [[row.width, row.test_error] for row in rows]
    (segment, _) = bars.lines[2][0].get_segments()
    assert segment[1, 1] - segment[0, 1] == pytest.approx(4.0 * rows[0].test_error_se)
