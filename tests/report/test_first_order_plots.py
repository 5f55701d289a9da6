"""Figures against 1/N: the tangent is the exact first order, and touches what it is drawn to."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import finitewidth as fw

pytest.importorskip("matplotlib")

from matplotlib.figure import Figure

from finitewidth import cli
from finitewidth.checks.exceptions import InputError
from finitewidth.curves.tangent import tangent_of
from finitewidth.jobs.job import Job
from finitewidth.report import first_order_plots as draw
from finitewidth.report import plots

T, WIDTHS = 0.1, [20, 50, 200]
NETWORK = fw.FullyConnected(widths=50)
TRAIN, TEST = fw.data.digits(classes=(3, 8), n_train=30, n_test=20)
QUICK = fw.FirstOrder(neurons=4_000)


@pytest.fixture(scope="module")
def slopes():
    return fw.first_order(NETWORK, TRAIN, TEST, T, neurons=4_000)


@pytest.fixture(scope="module")
def curve():
    return fw.learning_curve(NETWORK, TRAIN, TEST, WIDTHS, T)


def line(ax, label):
    (found,) = [one for one in ax.lines if one.get_label() == label]
    return found


def wedge(ax):
    """Corners of the filled region that belongs to the tangent."""
    return np.concatenate([path.vertices for path in ax.collections[-1].get_paths()])


@pytest.mark.parametrize("quantity", ["test_error", "train_error", "bias", "variance", "accuracy", "log_evidence"])
def test_curve_tangent_and_infinite_width(quantity, curve, slopes):
    exact = plots.slope_of(slopes, quantity)
    ax = plots.learning_curve(
        curve, infinite=exact.infinite, quantity=quantity, split=False, tangent=slopes, inverse=True
    )
    drawn = line(ax, "theory")
    np.testing.assert_allclose(drawn.get_xdata(), [1 / 200, 1 / 50, 1 / 20])
    np.testing.assert_allclose(drawn.get_ydata(), curve.column(quantity)[::-1].astype(float))
    tangent = line(ax, "exact to first order")
    x, y = np.array(tangent.get_xdata()), np.array(tangent.get_ydata())
    kept = np.isfinite(y)
    assert kept[0]
    np.testing.assert_allclose(y[kept], exact.infinite + exact.slope * x[kept])
    ((place, height),) = line(ax, "infinite width").get_xydata()
    assert (place, height) == (0.0, exact.infinite)
    assert ax.get_ylim()[0] < height < ax.get_ylim()[1]


def test_the_wedge_is_two_standard_errors(curve, slopes):
    corners = wedge(plots.learning_curve(curve, tangent=slopes, inverse=True))
    exact = slopes.test_error
    at = corners[:, 0].max()
    ends = corners[np.isclose(corners[:, 0], at), 1]
    np.testing.assert_allclose(
        [ends.min(), ends.max()], exact.infinite + (exact.slope + 2.0 * exact.slope_se * np.array([-1, 1])) * at
    )


def test_the_interval(slopes):
    rows = fw.learning_curve(NETWORK, TRAIN, TEST, [50, 200], T, method=QUICK)
    error, evidence = draw.first_order_figure(rows, slopes).axes
    band = next(c for c in error.collections if c.get_label() == "interval")
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.min() == pytest.approx(min(row.test_error_low for row in rows))
    # the method's log evidence touches the tangent: to first order it is exact
    wide, narrow = np.array(line(evidence, "theory").get_ydata())
    exact = slopes.evidence_slope.as_slope
    assert wide - exact.infinite == pytest.approx(exact.slope / 200, rel=0.05)
    assert narrow > wide if exact.slope > 0 else narrow < wide


def test_names_of_widths_do_not_overlap(slopes):
    rows = fw.learning_curve(NETWORK, TRAIN, TEST, [20, 21, 22, 30, 50, 100, 500, 1000, 5000], T)
    figure = Figure(figsize=(3.4, 2.6))
    ax = plots.learning_curve(rows, figure.subplots(), tangent=slopes, inverse=True)
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in ax.get_xticklabels()]
    assert [label.get_text() for label in ax.get_xticklabels()][:2] == ["∞", "20"]
    boxes = sorted(boxes, key=lambda box: box.x0)
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"curve": []}, "without rows"),
        ({"quantity": "error"}, "did you mean"),
        ({"curve": fw.learning_curve(NETWORK, TRAIN, TEST, [20, 50], 0.2)}, "temperature = 0.2; wanted: that of the"),
        ({"curve": fw.learning_curve(NETWORK, TRAIN, TEST, [20, 50], T, [10])}, "n_train = 10"),
        (
            {
                "curve": [
                    fw.learning_curve(fw.FullyConnected((width, 10)), TRAIN, TEST, None, T)[0] for width in (20, 50)
                ]
            },
            "one proportion",
        ),
    ],
)
def test_what_does_not_belong_together_is_refused(change, words, curve, slopes):
    with pytest.raises(InputError, match=words):
        plots.learning_curve(**({"curve": curve, "tangent": slopes, "inverse": True} | change))


def test_wider_or_deeper():
    chosen = fw.select(NETWORK, TRAIN, widths=[20, 50], depths=[1, 2], optimise=["temperature"])
    (ax,) = draw.selection_figure(chosen).axes
    for depth, name in ((1, "1 layer"), (2, "2 layers")):
        rows = {1 / row.network.widths[0]: row.log_evidence for row in chosen.table if row.depth == depth}
        assert dict(line(ax, name).get_xydata().tolist()) == pytest.approx(rows)
    starts = [one.get_ydata()[0] for one in ax.lines if list(one.get_xdata()) == [0.0]]
    assert starts == [slope.infinite for slope in chosen.evidence_slopes.values()]
    low, high = ax.get_ylim()
    for slope in chosen.evidence_slopes.values():  # the axis holds the tangents
        assert low < slope.infinite + slope.total / 20 < high
    ax.figure.canvas.draw()


# --- on a logarithmic axis --------------------------------------------------------------------------------------------


def test_the_tangent_in_a_learning_curve(curve, slopes):
    ax = plots.learning_curve(curve, tangent=slopes)
    limits = plots.learning_curve(curve).get_ylim()
    assert ax.get_ylim() == limits
    tangent = line(ax, "exact to first order")
    x, y = np.array(tangent.get_xdata()), np.array(tangent.get_ydata())
    seen = np.isfinite(y)
    np.testing.assert_allclose(y[seen], slopes.test_error.infinite + slopes.test_error.slope / x[seen])
    assert x.max() == pytest.approx(200)
    several = fw.learning_curve(NETWORK, TRAIN, TEST, [20, 50], [0.1, 1.0])
    assert "exact to first order" not in plots.learning_curve(several, tangent=slopes).get_legend_handles_labels()[1]


def test_which_jobs_have_a_tangent(slopes):
    found = tangent_of(Job.of(NETWORK, T, widths=WIDTHS), TRAIN, TEST)
    noise = np.hypot(found.test_error.slope_se, slopes.test_error.slope_se)
    assert abs(found.test_error.slope - slopes.test_error.slope) < 4.0 * noise
    assert tangent_of(Job.of(NETWORK, T, QUICK, WIDTHS), TRAIN, TEST).test_error == slopes.test_error
    assert tangent_of(Job.of(NETWORK, T, widths=WIDTHS, n_train=[20]), TRAIN, TEST).n_train == 20
    for other in (
        Job.of(NETWORK, T),
        Job.of(NETWORK, [T, 0.2], widths=WIDTHS),
        Job.of(NETWORK, T, widths=WIDTHS, n_train=[20, 30]),
        Job.of(fw.FullyConnected(widths=50, readout="mean-field"), T, widths=WIDTHS),
    ):
        assert tangent_of(other, TRAIN, TEST) is None


@pytest.mark.parametrize("more", [["--activation", "relu"], ["--method", "first-order"]])
def test_on_the_command_line(more, tmp_path, monkeypatch):
    drawn = []
    save = plots.save
    monkeypatch.setattr(plots, "save", lambda figure, path: drawn.append(figure) or save(figure, path))
    words = ["--data", "digits", "--classes", "3,8", "--n-train", "30", "--n-test", "20", "--width", "100,300"]
    more = [*more, *(["--neurons", "4000"] if "first-order" in more else [])]
    assert cli.main(["predict", *words, *more, "--figure", str(tmp_path / "f.png")]) == 0
    names = drawn[0].axes[0].get_legend_handles_labels()[1]
    assert "exact to first order" in names
    drawn[0].canvas.draw()
