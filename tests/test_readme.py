"""The Python of README.md runs as printed, and what it asserts holds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_python_runs_and_ends_in_a_fact():
    (block,) = blocks()
    assert block.strip().splitlines()[-1].startswith("assert ")
    exec(compile(block, str(README), "exec"), {})


def test_python_is_formatted():
    (block,) = blocks()
    command = [sys.executable, "-m", "ruff", "format", "--line-length", "110", "-"]
    done = subprocess.run(command, input=block, capture_output=True, text=True, check=True)
    assert done.stdout == block


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#:]+)\)", README.read_text(encoding="utf-8")):
        assert (README.parent / target).exists(), target
