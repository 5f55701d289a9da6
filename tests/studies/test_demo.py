"""The demo at a small scale: what it prints, what it writes, and what it says when it cannot sample."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from finitewidth.cli import main
from finitewidth.curves.comparison import ComparedRow
from finitewidth.sampling import SampledRow
from finitewidth.studies import demo

pytest.importorskip("matplotlib")

SMALL = demo.Setting(n_train=40, widths=(10, 30, 100), sampled_widths=(20, 40, 60), draws=100)
NEEDED = {20: 100, 40: 300, 60: 10_000}  # draws until chains converge, of fake samples


def one_sample(setting, width, draws, train, test):
    converged = draws >= NEEDED[width]
    errors = {"train_error": 0.008, "test_error": 0.06, "bias": 0.04, "variance": 0.02, "accuracy": 0.9}
    own = {"width": width, "depth": 1, "temperature": 0.01, "n_train": 40, "method": "collapsed", "chains": 4}
    rest = {"r_hat": 1.01, "ess": 200.0, "acceptance": 0.8, "divergences": 0, "complete": True, "seconds": 1.0}
    message = "" if converged else f"{draws} draws: sample longer"
    rest |= {"draws": draws, "order_parameters": [1.0], "log_evidence": None, "message": message}
    return SampledRow(**own, **errors, **{f"{name}_se": 0.001 for name in errors}, **rest, converged=converged)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(demo, "Setting", lambda: SMALL)
    monkeypatch.setenv("COLUMNS", "80")


def test_table_and_figures(small, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(demo, "sample", one_sample)
    assert main(["demo", "--out", str(tmp_path / "a" / "b")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "…" not in out
    assert out.count("∞") == 2
    assert "0.0600(10)" in out
    assert "NOT CONVERGED, marked ?: width 60: 400 draws: sample longer" in out  # twice doubled, then given up
    assert out.count("NOT CONVERGED") == 1
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == ["demo.pdf", "demo.png"]


def test_json(small, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(demo, "sample", one_sample)
    assert main(["demo", "--out", str(tmp_path), "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert err == ""
    assert [(row["depth"], row["width"], row["method"]) for row in found["rows"][:4]] == [
        *((1, width, "saddle") for width in SMALL.widths),
        (1, None, "infinite"),
    ]
    assert [(p["width"], p["converged"]) for p in found["sampled"]] == [(20, True), (40, True), (60, False)]


def test_says_what_was_left_out(small, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "finitewidth.sampling", ModuleType("finitewidth.sampling"))
    assert main(["demo", "--out", str(tmp_path)]) == 0
    assert "Sampled check left out: cannot import name 'Sample'" in capsys.readouterr().out
    assert main(["demo", "--out", str(tmp_path), "--no-sample"]) == 0
    assert "Sampled check left out as asked." in capsys.readouterr().out


@pytest.mark.parametrize("converged", [(True, True, True), (True, False, True), (False, False, False)])
def test_the_legend_fits(converged):
    """Also where chains have not converged: its entries are more, and longer."""
    result = demo.run(SMALL, sampling=False)
    rows = [
        replace(one_sample(None, width, 0, None, None), converged=ok)
        for width, ok in zip(NEEDED, converged, strict=True)
    ]
    figure = demo.figure(replace(result, compared=tuple(ComparedRow({"sample": row}) for row in rows)))
    figure.draw_without_rendering()
    (legend,), page = figure.legends, figure.bbox
    box = legend.get_window_extent()
    assert page.x0 <= box.x0 < box.x1 <= page.x1
    assert box.y1 <= page.y1
    assert all(box.y0 >= ax.get_window_extent().y1 for ax in figure.axes)


def test_a_folder_that_cannot_be(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert main(["demo", "--out", str(tmp_path / "file" / "x")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1


def test_what_the_demo_claims_holds():
    """A narrow network beats its limit by variance; the error grows with width."""
    result = demo.run(replace(demo.Setting(), widths=(10, 100, 5000)), sampling=False)
    errors = [row.test_error for row in result.curves[1]]
    assert np.all(np.diff(errors) > 0)
    assert errors[0] < 0.65 * result.limits[1].test_error
    assert errors[-1] == pytest.approx(result.limits[1].test_error, rel=0.01)
    assert result.curves[1][0].bias == pytest.approx(result.limits[1].bias, rel=0.06)


@pytest.mark.slow
@pytest.mark.statistical
def test_sampled_network_is_near_the_theory():
    """With as many neurons as points they differ by some per cent, far less than either from infinite width."""
    setting = replace(demo.Setting(), n_train=40, widths=(40,), sampled_widths=(40,), draws=300)
    result = demo.run(setting, say=lambda text: None)
    (compared,) = result.compared
    point, row = compared.sample, result.curves[1][0]
    assert point.converged
    assert abs(row.test_error - point.test_error) < 0.08 * point.test_error + 3 * point.test_error_se
    assert point.test_error + 5 * point.test_error_se < result.limits[1].test_error  # the negative control
