"""Examples run from beginning to end, and draw what they say."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
NEEDS = {
    "04_theory_against_samples": ("jax", "matplotlib"),
    "06_sweep_on_a_cluster": ("distributed", "pandas"),
    "kernel_methods": (),
}


PROGRAMS = ("06_sweep_on_a_cluster",)  # started as a reader would; the others in this process
SLOW = ("04_theory_against_samples", "06_sweep_on_a_cluster")  # compile two samplers, start workers
MARKED = [pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if path.stem in SLOW else []) for path in EXAMPLES]


@pytest.mark.parametrize("path", MARKED)
def test_example(path, tmp_path, monkeypatch, capsys):
    for module in NEEDS.get(path.stem, ("matplotlib",)):
        pytest.importorskip(module)
    printed = started(path, tmp_path) if path.stem in PROGRAMS else ran(path, tmp_path, monkeypatch, capsys)
    figures = re.findall(r"^figure: (.*)$", printed, re.MULTILINE)
    assert all(os.path.getsize(figure) > 1000 for figure in figures)
    assert figures or path.stem in ("06_sweep_on_a_cluster", "kernel_methods")
    assert printed
    if path.stem in PROGRAMS:
        assert "48 of 48 points through tcp://" in printed


def started(path, folder):
    command = [sys.executable, str(path), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return done.stdout


def ran(path, folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(path), str(folder)])
    monkeypatch.chdir(folder)
    runpy.run_path(str(path), run_name="__main__")
    return capsys.readouterr().out


def test_percent_scripts():
    assert [path.stem[:2] for path in EXAMPLES][:6] == [f"{number:02}" for number in range(1, 7)]
    for path in EXAMPLES:
        text = path.read_text(encoding="utf-8")
        assert text.startswith("# %% [markdown]\n# # ")
        assert text.count("\n# %%\n") >= 3
