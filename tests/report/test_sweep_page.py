"""The page of a sweep: its points, a panel for every swept key, and no number that did not converge."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import replace

import pytest

pytest.importorskip("matplotlib")

import finitewidth as fw
from finitewidth.display.tables import number
from finitewidth.report import html, sweep_page
from finitewidth.report.panels import sweep_figure
from finitewidth.report.sweep_page import findings_of, panel_over, short, write_page

from .test_html import MARKUP, Tags

STATUS = fw.sweeps.Status("out", "finished", 2, 2, 0, 0, 0, 2, 4.0, 0.5, None, "then", "now", "finished", "serial", {})
RESULT = {"test_error": 0.25, "train_error": 0.125, "bias": 0.2, "variance": 0.05}


def point(status="done", converged=True, error=0.25, se=None, reason="", **config):
    result = RESULT | {"test_error": error} | ({} if se is None else {"test_error_se": se})
    return {
        "config": {"data": "digits", "method": "saddle"} | config,
        "status": status,
        "result": result if status == "done" else None,
        "converged": converged if status == "done" else None,
        "reason": reason,
        "versions": {"finitewidth": "0.1.0"},
        "data_fingerprint": f"{'a' * 64} {'b' * 64}",
    }


GRID = [point(width=n, temperature=t, error=n * t) for t in (0.5, 0.1) for n in (40, 10, 20)]


def drawn(panel):
    return {one.name: dict(zip(one.x, one.y, strict=True)) for one in panel.series}


def test_a_curve_over_each_swept_key():
    over_width, over_temperature = findings_of(GRID, STATUS).panels
    assert drawn(over_width) == {
        "temperature 0.1": {10: 1.0, 20: 2.0, 40: 4.0},
        "temperature 0.5": {10: 5.0, 20: 10.0, 40: 20.0},
    }
    assert over_width.log_x
    assert drawn(over_temperature)["width 20"] == {0.1: 2.0, 0.5: 10.0}


def test_what_did_not_converge_is_a_gap_and_said():
    rows = [
        point(width=10),
        point(width=20, converged=False, error=0.11, reason="too short"),
        point("failed", width=40, reason="out of memory"),
        point(width=80),
    ]
    found = findings_of(rows, STATUS)
    assert drawn(found.panels[0]) == {"test error": {10: 0.25, 20: None, 40: None, 80: 0.25}}
    assert found.tables[0].rows == (
        ("done", "10", 0.25, 0.2, 0.05, 0.125, ""),
        ("not converged", "20", None, None, None, None, "too short"),
        ("failed", "40", None, None, None, None, "out of memory"),
        ("done", "80", 0.25, 0.2, 0.05, 0.125, ""),
    )
    (ax,) = sweep_figure(found.panels).axes
    assert ax.get_lines()[0].get_marker() == "o"  # points between gaps are seen


def test_nothing_converged_is_no_panel():
    rows = [point(width=n, converged=False) for n in (10, 20)]
    assert findings_of(rows, STATUS).panels == ()


def test_samples_infinite_width_and_keys_that_some_points_lack():
    rows = [
        *(point(width=n, closure="nested") for n in (10, 20)),
        *(point(width=n, method="infinite") for n in (10, 20)),
        *(point(width=n, method="sample", se=0.01, chains=4) for n in (10, 20)),
    ]
    (over_width, over_method) = findings_of(rows, STATUS).panels  # neither closure nor chains have two values
    assert {one.name: one.kind for one in over_width.series} == {
        "saddle": "line",
        "infinite": "limit",
        "sample": "points",
    }
    assert over_width.series[2].se == (0.01, 0.01)
    assert over_method.x_names == ("infinite", "saddle", "sample")


def test_the_first_lines_are_shown_of_all_methods():
    rows = [point(width=n, seed=s, depth=d, method=m) for n in (10, 20) for s in range(5) for d in (1, 2) for m in "ab"]
    panel = panel_over("width", rows, ["width", "depth", "method", "seed"])
    lines = [f"{m}, depth {d}, seed {s}" for s, d in ((0, 1), (0, 2), (1, 1)) for m in "ab"]
    assert list(drawn(panel)) == lines


def test_keys_without_order_are_points_with_names():
    rows = [point(classes=c, error=0.1 * (k + 1)) for k, c in enumerate(([6, 9], [0, 1]))]
    (panel,) = findings_of(rows, STATUS).panels
    assert panel.x_names == ("0,1", "6,9")
    assert drawn(panel)["test error"] == {0.0: pytest.approx(0.2), 1.0: pytest.approx(0.1)}
    assert sweep_figure([panel]).axes[0].get_lines()[0].get_linestyle() == "None"  # nothing lies between names


def test_long_tables_say_what_is_left_out(monkeypatch):
    monkeypatch.setattr(sweep_page, "_MOST_ROWS", 2)
    table = findings_of(GRID, sweep_status(stored=6)).tables[0]
    assert len(table.rows) == 2
    assert table.title.startswith("The first 2 of 6 points")


def sweep_status(**changes):
    return replace(STATUS, **changes)


def test_configurations_in_short():
    assert short([40, 60]) == "40,60"
    assert short("a/very/long/path/to/the/data/of/someone.npz") == "...e/data/of/someone.npz"
    assert short(2_000_000) == "2e+06"
    assert short(None) == "—"


def test_names_from_outside_are_text():
    rows = [point(data=f"{MARKUP}$x^$", reason=MARKUP), point(data="b", reason="a$b")]
    found = findings_of(rows, STATUS)
    text = html.page("Sweep", MARKUP, [MARKUP], found, sweep_figure(found.panels), MARKUP, {MARKUP: MARKUP})
    assert not [tag for tag, _ in Tags(text).found if tag == "img"]


# --- of a folder ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("yaml")
    place = tmp_path_factory.mktemp("sweep") / "out"
    plan = {"data": "digits", "classes": [0, 1], "n_train": 20, "n_test": 10}
    grid = {"width": [10, 20], "method": ["saddle", "infinite"], "temperature": [0.1, 0.5]}
    fw.sweeps.run(plan | {"grid": grid}, place)
    return place


def test_page_and_figures(folder):
    files = write_page(folder)
    assert [path.name for path in files] == ["report.html", "sweep.png", "sweep.pdf"]
    assert all(path.stat().st_size > 5000 for path in files)
    text = files[0].read_text(encoding="utf-8")
    for row in fw.sweeps.rows(folder):
        assert f"<td>{number(row['result']['test_error'])}</td>" in text
    for wanted in (
        "finished: 8 of 8 points done",
        "finitewidth sweep plan.yaml --out",
        "&quot;grid&quot;",
        "default-src",
    ):
        assert wanted in text
    fw.sweeps.status(folder)  # what is beside a sweep does not disturb it


def test_a_sweep_that_has_not_come_far(folder, tmp_path):
    """Killed after a point, and before any."""
    other = shutil.copytree(folder, tmp_path / "other")
    for left in (1, 0):
        with sqlite3.connect(other / "results.sqlite") as db:
            kept = "SELECT point_id FROM points WHERE json_extract(config, '$.method') = 'saddle' LIMIT ?"
            db.execute(f"DELETE FROM points WHERE point_id NOT IN ({kept})", (left,))
            db.execute("UPDATE runs SET outcome = NULL, finished_at = NULL")
        db.close()
        files = write_page(other)
        assert f"stopped: {left} of 8 points done, {8 - left} left" in files[0].read_text(encoding="utf-8")
        assert len(files) == 1
        assert ("<table" in files[0].read_text(encoding="utf-8")) == (left > 0)


def test_values_that_no_sweep_writes(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    for name in ("report.html", "sweep.png", "sweep.pdf"):
        (other / name).unlink(missing_ok=True)
    with sqlite3.connect(other / "results.sqlite") as db:
        db.execute("UPDATE points SET result = json_set(result, '$.test_error_se', 5e-324)")
    db.close()
    with pytest.raises(fw.InputError, match="cannot be drawn"):
        write_page(other)
    assert not (other / "report.html").exists()


def test_neither_sweep_nor_study(tmp_path):
    with pytest.raises(fw.InputError, match="no sweep"):
        write_page(tmp_path)
