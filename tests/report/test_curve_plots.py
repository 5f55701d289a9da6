"""The figure of ``fw.Curve`` shows the rows, fits its page whatever they are, and leaves the legend free."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import lru_cache

import numpy as np
import pytest

import finitewidth as fw

pytest.importorskip("matplotlib")

from finitewidth.curves.on_demand import CurveRow
from finitewidth.inference.methods import Row
from finitewidth.report.plots import on_demand, on_demand_figure

TWELVE = (3, 5, 8, 12, 20, 30, 50, 80, 150, 300, 1000, 5000)
SIZES = (5, 10, 15, 20, 25, 28, 30)
MANY = "samples at 3, 5, 8, 12, 20, 30, 50"
INTERVALS = ("test_error", "bias", "variance", "train_error")


def made_up(width: int, error: float, sampled: bool) -> CurveRow:
    """Draws nothing: a row of theory, with samples and intervals beside it."""
    data = fw.data.digits(classes=(6, 9), n_train=30, n_test=40)
    (row,) = fw.learning_curve(fw.FullyConnected(widths=width), *data, temperature=0.05)
    own = {field.name: getattr(row, field.name) for field in fields(Row)} | {"test_error": error, "method": "curve"}
    shifts = [(name, end, by) for name in INTERVALS for end, by in (("_low", -0.1), ("_high", 0.1))]
    ends = {name + end: (1.0 + by) * own[name] for name, end, by in shifts}
    return CurveRow(
        **own,
        **ends,
        rests_on="samples at 5, 20",
        met=True,
        theory_test_error=row.test_error,
        infinite_test_error=0.2,
        sampled_test_error=1.02 * error if sampled else None,
        sampled_test_error_se=0.01 * error if sampled else None,
    )


@lru_cache
def rows_of(name: str) -> list[CurveRow]:
    if name == "three widths":
        return [made_up(5, 0.08, True), made_up(20, 0.13, True), made_up(80, 0.17, False)]
    rows = rows_of("three widths")
    return {
        "one width": rows[:1],
        "unequal layers": [replace(rows[0], width=(10, 20))],
        "two temperatures": [replace(row, temperature=t) for t in (0.1, 1.0) for row in rows],
        "seven panels": [replace(row, n_train=size) for size in SIZES for row in rows],
        "twelve widths": [replace(rows[k % 3], width=n, rests_on=MANY) for k, n in enumerate(TWELVE)],
    }[name]


def lines(ax):
    return {line.get_label(): line for line in ax.lines}


@pytest.mark.parametrize(
    "name", ["three widths", "one width", "unequal layers", "two temperatures", "seven panels", "twelve widths"]
)
def test_everything_is_on_the_page_and_nothing_on_the_curves(name):
    figure = on_demand_figure(rows_of(name))
    figure.draw_without_rendering()
    page, (legend,) = figure.bbox, figure.legends
    boxes = [legend.get_window_extent(), *(ax.get_tightbbox() for ax in figure.axes)]
    for box in boxes:
        assert page.x0 <= box.x0 < box.x1 <= page.x1
        assert page.y0 <= box.y0 < box.y1 <= page.y1
    assert all(boxes[0].y0 >= box.y1 for box in boxes[1:])
    assert not any(one.overlaps(other) for k, one in enumerate(boxes) for other in boxes[:k])


def test_shows_the_rows():
    rows = rows_of("three widths")
    ax = on_demand(rows[::-1])  # in whatever order
    drawn = lines(ax)
    assert np.array_equal(drawn["test error"].get_xdata(), [5, 20, 80])
    assert np.array_equal(drawn["test error"].get_ydata(), [row.test_error for row in rows])
    assert np.array_equal(drawn["theory alone"].get_ydata(), [row.theory_test_error for row in rows])
    assert drawn["theory alone"].get_linewidth() < drawn["test error"].get_linewidth()
    assert set(drawn["infinite width"].get_ydata()) == {rows[0].infinite_test_error}
    assert drawn["infinite width"].get_linestyle() == "--"
    (band,) = [one for one in ax.collections if one.get_label() == "90 % interval"]
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices}
    assert corners >= {(row.width, end) for row in rows for end in (row.test_error_low, row.test_error_high)}


def test_samples_have_bars_of_two_standard_errors():
    sampled = [row for row in rows_of("three widths") if row.sampled_test_error is not None]
    (drawn,) = on_demand(rows_of("three widths")).containers
    ends = np.array(drawn.lines[2][0].get_segments())
    assert np.array_equal(ends[:, :, 0], [[row.width] * 2 for row in sampled])
    half = [2.0 * row.sampled_test_error_se for row in sampled]
    assert (ends[:, 1, 1] - ends[:, 0, 1]) / 2.0 == pytest.approx(half)
    assert ends[:, :, 1].mean(1) == pytest.approx([row.sampled_test_error for row in sampled])


def test_a_single_width_is_a_point_with_its_interval():
    (row,) = rows_of("one width")
    ax = on_demand([row])
    assert lines(ax)["test error"].get_ydata().tolist() == [row.test_error]
    (interval,) = [one for one in ax.collections if one.get_label() == "90 % interval"]
    assert interval.get_segments()[0][:, 1] == pytest.approx([row.test_error_low, row.test_error_high])
    assert list(ax.get_xticks()) == [row.width]


def test_theory_alone_is_shown_where_it_has_a_solution():
    first, *others = rows_of("three widths")
    drawn = lines(on_demand([replace(first, theory_test_error=np.nan), *others]))["theory alone"]
    assert np.isnan(drawn.get_ydata()).tolist() == [True, False, False]


def test_one_panel_each_of_temperatures_and_sizes():
    titles = [ax.get_title("left") for ax in on_demand_figure(rows_of("two temperatures")).axes]
    assert titles == ["$T = 0.1$, $P = 30$", "$T = 1$, $P = 30$"]
    assert len(on_demand_figure(rows_of("seven panels")).axes) == 7
