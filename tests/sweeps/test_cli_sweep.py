"""finitewidth sweep and status: text, JSON, exit status, one line for what cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import finitewidth as fw
from finitewidth.cli import main
from finitewidth.sweeps.worker import Worker

pytest.importorskip("yaml")

PLAN = """\
data: digits
classes: [0, 1]
n_test: 20
grid:
  n_train: [30, 5000]
  width: [20, 1e12]
  temperature: [0.1, 0.5]
  method: [saddle, infinite]
"""


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    Path("plan.yaml").write_text(PLAN)


def refusal(capsys, *arguments: str) -> str:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("finitewidth: ")
    assert err.count("\n") == 1
    return err


def test_status(capsys):
    assert main(["sweep", "plan.yaml", "--out", "out"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "finished: 8 of 16 points done, 8 failed" in out
    assert "failed (8): n_train = 5000" in out.replace("\n", " ")
    assert main(["status", "out"]) == 0
    assert capsys.readouterr().out.startswith("finished: 8 of 16 points done, 8 failed")


def test_report(capsys, monkeypatch):
    """Of a sweep with failed points, widths of many decades, and infinite width."""
    pytest.importorskip("matplotlib")
    assert main(["sweep", "plan.yaml", "--out", "out"]) == 0
    capsys.readouterr()
    assert main(["report", "out", "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert files == ["out/report.html", "out/sweep.png", "out/sweep.pdf"]
    text = Path(files[0]).read_text(encoding="utf-8")
    assert "8 failed" in text
    assert "over width" in text
    monkeypatch.setattr("finitewidth.report.plots.save", lambda figure, path: path)  # once will do
    assert main(["report", "out"]) == 0
    assert capsys.readouterr().out.startswith("Page: out/report.html\nFigures: out/sweep.png, out/sweep.pdf")


def test_json(capsys):
    for command in (["sweep", "plan.yaml", "--out", "out", "--resume", "--retry-failed"], ["status", "out"]):
        assert main([*command, "--json"]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        found = json.loads(out)
        assert (found["planned"], found["done"], found["failed"], found["left"]) == (16, 8, 8, 0)
        assert found["version"] == fw.__version__
        assert Path(found["database"]).is_file()


def test_interrupt_is_130_and_keeps_what_is_done(capsys, monkeypatch):
    outcome, left = Worker.outcome, [2]

    def interrupted(self, task):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return outcome(self, task)

    monkeypatch.setattr(Worker, "outcome", interrupted)
    assert main(["sweep", "plan.yaml", "--out", "out", "--json"]) == 130
    assert capsys.readouterr() == ("", "")
    assert len(list(fw.sweeps.rows("out"))) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sweep",), "without a plan"),
        (("sweep", "plan.yaml"), "without --out"),
        (("sweep", "none.yaml", "--out", "out"), "none.yaml"),
        (("sweep", "plan.yaml", "--out", "plan.yaml"), "a folder"),
        (("sweep", "plan.yaml", "--out", "out", "--client", "dask"), "serial, local or tcp"),
        (("sweep", "plan.yaml", "--out", "out", "--workers", "0"), "at least 1"),
        (("sweep", "plan.yaml", "--out", "out", "--workers", "2"), "--client local"),
        (("sweep", "plan.yaml", "--out", "out", "--memory", "lots"), "8GB"),
        (("status", "nowhere"), "no sweep in it"),
        (("status", "."), "no sweep in it"),
    ],
)
def test_refused(capsys, arguments, words):
    assert words in refusal(capsys, *arguments)
    assert not Path("out").exists()


def test_a_mistake_is_shown_with_its_line(capsys):
    Path("plan.yaml").write_text(PLAN.replace("width", "widht"))
    assert "plan.yaml, line 6: unknown key 'widht'" in refusal(capsys, "sweep", "plan.yaml", "--out", "out")
