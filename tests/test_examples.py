"""Examples run from beginning to end, each as its reader would start it, and draw what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
NEEDS = {
    "04_theory_against_samples": ("jax", "matplotlib"),
    "06_sweep_on_a_cluster": ("distributed", "zarr", "pandas"),
    "kernel_methods": (),
}


SLOW = ("04_theory_against_samples", "06_sweep_on_a_cluster")  # compile two samplers, start workers
MARKED = [pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if path.stem in SLOW else []) for path in EXAMPLES]


@pytest.mark.parametrize("path", MARKED)
def test_example(path, tmp_path):
    for module in NEEDS.get(path.stem, ("matplotlib",)):
        pytest.importorskip(module)
    command = [sys.executable, str(path), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    figures = re.findall(r"^figure: (.*)$", done.stdout, re.MULTILINE)
    assert all(os.path.getsize(figure) > 1000 for figure in figures)
    assert figures or path.stem in ("06_sweep_on_a_cluster", "kernel_methods")
    assert done.stdout


def test_percent_scripts():
    assert [path.stem[:2] for path in EXAMPLES][:6] == [f"{number:02}" for number in range(1, 7)]
    for path in EXAMPLES:
        text = path.read_text(encoding="utf-8")
        assert text.startswith("# %% [markdown]\n# # ")
        assert text.count("\n# %%\n") >= 3
