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
def test_what_the_readme_shows_of_it_is_so():
    """A narrow network beats its limit, theory alone is far off, and a sample that the curve does not know agrees.

    The numbers of the README: tests/docs/test_pages.py holds them to what its command prints.
    """
    text = README.read_text(encoding="utf-8")
    for name in ("data", "classes", "n_train", "temperature"):
        assert f"--{name.replace('_', '-')} {cli.DEMO[name]} " in text
    shown = {int(width): tuple(map(float, numbers)) for width, *numbers in ROW.findall(text)}
    data = fw.data.digits(classes=(6, 9), n_train=100, n_test=200)
    network = fw.FullyConnected(widths=10)
    (infinite,) = fw.learning_curve(network, *data, temperature=0.01, method="infinite")
    narrow, wide = fw.learning_curve(network, *data, [10, 300], 0.01)
    assert shown[10][0] < 0.3 * infinite.test_error
    assert narrow.test_error > 2.5 * shown[10][0]
    sample = fw.sample(network.with_width(300), *data, temperature=0.01, accuracy=0.01, seed=7)
    errors, (_, low, high) = sample.errors(data[1]), shown[300]
    slack = 3.0 * errors.test_error_se
    assert low - slack < errors.test_error < high + slack
    assert errors.test_error + slack < wide.test_error  # the negative control
