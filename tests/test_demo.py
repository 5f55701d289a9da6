"""The demo: one curve over widths on real digits, a picture, and the command that makes both."""

from __future__ import annotations

import json
import math

import pytest

import finitewidth as fw
from finitewidth import cli
from finitewidth.cli import main
from finitewidth.runs import durations

pytest.importorskip("matplotlib")


@pytest.fixture
def small(monkeypatch):
    for name, value in {"n_train": "30", "width": "5,20,1000", "within": "20%"}.items():
        monkeypatch.setitem(cli.DEMO, name, value)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(durations, "SHORT", math.inf)  # what is announced depends on the machine


def test_table_picture_and_the_command_that_makes_them(small, capsys, tmp_path):
    assert main(["demo", "--out", str(tmp_path / "a" / "b")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "…" not in out
    assert "digits, classes 6, 9: 30 training points" in out
    assert "Rests on samples at " in out
    assert (tmp_path / "a" / "b" / "demo.png").read_bytes().startswith(b"\x89PNG")
    (command,) = [line for line in out.splitlines() if line.startswith("finitewidth predict ")]
    assert main([*command.split()[1:], "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert all(f"{row['test_error']:.4f}" in out for row in rows)


def test_json(small, capsys, tmp_path):
    assert main(["demo", "--out", str(tmp_path), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    rows = json.loads(out)["rows"]
    assert [(row["width"], row["method"], row["met"]) for row in rows] == [(n, "curve", True) for n in (5, 20, 1000)]
    assert (tmp_path / "demo.png").exists()


def test_a_folder_that_cannot_be(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert main(["demo", "--out", str(tmp_path / "file" / "x")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.statistical
def test_what_the_demo_shows_is_so(capsys, tmp_path):
    """A narrow network beats its limit, theory alone is far off, and a sample that the curve does not know agrees."""
    assert main(["demo", "--out", str(tmp_path), "--json"]) == 0
    rows = {row["width"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert all(row["met"] for row in rows.values())
    assert rows[10]["test_error"] < 0.3 * rows[10]["infinite_test_error"]
    assert rows[10]["theory_test_error"] > 2.5 * rows[10]["test_error"]
    data = fw.data.digits(classes=(6, 9), n_train=100)
    sample = fw.sample(fw.FullyConnected(widths=300), *data, temperature=0.01, accuracy=0.01, seed=7)
    errors, row = sample.errors(data[1]), rows[300]  # the curve samples narrower ones
    slack = 3.0 * errors.test_error_se
    assert row["test_error_low"] - slack < errors.test_error < row["test_error_high"] + slack
    assert errors.test_error + slack < row["theory_test_error"]  # the negative control
