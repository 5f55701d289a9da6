"""Panels show the values of their findings."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from finitewidth.report import plots
from finitewidth.report.findings import Findings, Panel, Series
from finitewidth.report.panels import draw_panel, study_figure

from .test_findings import FINDINGS


@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_saved(tmp_path, kind):
    path = plots.save(study_figure(FINDINGS), tmp_path / f"study.{kind}")
    assert path.stat().st_size > 5000


def test_names_along_the_axis_and_dollar_signs():
    series = (Series("a $x^", "line", 0, (0.0, 1.0), (0.1, 0.2)),)
    findings = Findings((), (), (Panel("t", "data", "test error", series, log_x=False, x_names=("a$b$", "c")),))
    figure = study_figure(findings)
    figure.canvas.draw()
    (ax,) = figure.axes
    assert ax.get_lines()[0].get_linestyle() == "None"
    assert [tick.get_text() for tick in ax.get_xticklabels()] == [r"a\$b\$", "c"]


def test_values():
    (ax,) = study_figure(FINDINGS).axes
    theory, limit, points = ax.get_lines()[0], ax.get_lines()[-1], ax.get_lines()[1]
    assert theory.get_ydata()[[0, 2]].tolist() == [0.3, 0.2]
    assert points.get_ydata().tolist() == [0.25]
    assert limit.get_ydata().tolist() == [0.1, 0.1]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_xscale()) == ("width N", "test error", "log")


def test_a_line_does_not_bridge_a_gap():
    for kind in ("line", "limit"):
        series = Series("s", kind, 0, (1.0, 2.0, 3.0, 4.0), (1.0, None, 3.0, 4.0))
        ax = plots.new_figure()[1][0]
        draw_panel(ax, Panel("t", "x", "y", (series,)))
        assert np.isnan(ax.get_lines()[0].get_ydata()).tolist() == [False, True, False, False]


def test_a_panel_without_a_result_is_drawn():
    ax = plots.new_figure()[1][0]
    draw_panel(ax, Panel("t", "x", "y", (Series("s", "line", 0, (1.0,), (None,)),), log_y=True))
    ax.figure.canvas.draw()
