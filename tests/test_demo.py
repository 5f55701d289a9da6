"""The demo: one curve over widths on real digits, a picture, and the command that makes both."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

import finitewidth as fw
from finitewidth import cli
from finitewidth.cli import main
from finitewidth.runs import durations

pytest.importorskip("matplotlib")

README = Path(__file__).parents[1] / "README.md"
ROW = re.compile(r"^ +(\d+) +([\d.]+) +([\d.]+) – ([\d.]+) ", re.MULTILINE)  # width, test error, 90 % interval


@pytest.fixture
def small(monkeypatch):
    for name, value in {"n_train": "20", "width": "500,1000", "within": "50%"}.items():
        monkeypatch.setitem(cli.DEMO, name, value)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(durations, "SHORT", math.inf)  # what is announced depends on the machine


def test_table_picture_and_the_command_that_makes_them(small, capsys, tmp_path):
    assert main(["demo", "--out", str(tmp_path / "a" / "b")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "…" not in out
    assert "digits, classes 6, 9: 20 training points" in out
    assert "Rests on first order; exact at infinite width" in out
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
    assert [(row["width"], row["method"], row["met"]) for row in rows] == [(n, "curve", True) for n in (500, 1000)]
    assert (tmp_path / "demo.png").exists()


def test_a_folder_that_cannot_be(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert main(["demo", "--out", str(tmp_path / "file" / "x")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1


def test_what_the_readme_shows_of_it_is_so():
    """A narrow network beats its limit, and theory alone is far off.

    The numbers of the README: tests/docs/test_pages.py holds them to what its command prints.
    """
    text = README.read_text(encoding="utf-8")
    for name in ("data", "classes", "n_train"):
        assert f"--{name.replace('_', '-')} {cli.DEMO[name]} " in text
    assert "temperature" not in cli.DEMO
    shown = {int(width): tuple(map(float, numbers)) for width, *numbers in ROW.findall(text)}
    data = fw.data.digits(classes=(6, 9), n_train=100, n_test=200)
    network = fw.FullyConnected(widths=10)
    (infinite,) = fw.learning_curve(network, *data, method="infinite")
    (narrow,) = fw.learning_curve(network, *data)
    assert shown[10][0] < 0.4 * infinite.test_error
    assert narrow.test_error > 1.8 * shown[10][0]
    assert infinite.test_error == pytest.approx(shown[1000][0], rel=0.05)
