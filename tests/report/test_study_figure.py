"""The figure of a study shows the values of its findings."""

from __future__ import annotations

import pytest

pytest.importorskip("matplotlib")

from finitewidth.report import plots
from finitewidth.report.study_figure import study_figure

from .test_findings import FINDINGS


@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_saved(tmp_path, kind):
    path = plots.save(study_figure(FINDINGS), tmp_path / f"study.{kind}")
    assert path.stat().st_size > 5000


def test_values():
    (ax,) = study_figure(FINDINGS).axes
    theory, limit, points = ax.get_lines()[0], ax.get_lines()[-1], ax.get_lines()[1]
    assert theory.get_ydata()[[0, 2]].tolist() == [0.3, 0.2]
    assert points.get_ydata().tolist() == [0.25]
    assert limit.get_ydata().tolist() == [0.1, 0.1]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_xscale()) == ("width N", "test error", "log")
