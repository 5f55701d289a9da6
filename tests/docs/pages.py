"""The code blocks of a page, run in order in one folder, as its reader would.

- ``python`` blocks share their names; ``bash`` blocks run their lines that begin with ``finitewidth`` through the
  command line (other lines are comments, or the block is marked).
- A comment above a block says what else is to be known: ``<!-- file: plan.yaml -->`` (written to the folder before
  anything runs), ``<!-- needs: sample, plot -->`` (extras), ``<!-- not run: why -->``, ``<!-- output -->`` (a text
  block: what the block before it printed; ``...`` stands for anything), ``<!-- output within 5 % -->`` (its numbers may
  differ by so much).

``python tests/docs/pages.py docs/quickstart.md`` writes outputs anew into the page; read the difference before
committing it.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib.util
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FENCE = re.compile(r"(?:^<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<language>[^\n]*)\n(?P<text>.*?)^```$", re.M | re.S)
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?")
ERROR_BAR = re.compile(r"\(\d+\)")  # of 0.0391(6)
WITHIN = re.compile(r"^output within ([\d.]+) %$")
RUN = ("python", "bash")
MARKS = ("file: ", "needs: ", "not run: ", "output")
MODULE_OF_EXTRA = {
    "plot": "matplotlib",
    "sample": "jax",
    "data": "mlxtend",
    "sweep": "zarr",
    "cluster": "distributed",
    "table": "pandas",
}


@dataclass(frozen=True)
class Block:
    """A fenced block. span: of its text, in the page. line: the lines above it."""

    language: str
    text: str
    mark: str
    span: tuple[int, int]
    line: int = 0

    @property
    def is_output(self) -> bool:
        return self.mark.startswith("output")

    @property
    def runs(self) -> bool:
        return self.language in RUN and not self.mark.startswith("not run: ")

    @property
    def extras(self) -> list[str]:
        needs = self.mark.removeprefix("needs: ") if self.mark.startswith("needs: ") else ""
        return [name.strip() for name in needs.split(",") if name.strip()]

    @property
    def missing_extras(self) -> list[str]:
        return [name for name in self.extras if importlib.util.find_spec(MODULE_OF_EXTRA[name]) is None]


def pages() -> list[Path]:
    """Every page of the site, and the README."""
    return [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, directives of the site left out."""
    page_text = page.read_text(encoding="utf-8")
    return [
        Block(m["language"], m["text"], m["mark"] or "", m.span("text"), page_text.count("\n", 0, m.start("text")))
        for m in FENCE.finditer(page_text)
    ]


def commands(text: str) -> Iterator[list[str]]:
    """Arguments of every finitewidth command in shell lines; ``&&`` joins several."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            if words[0] == "finitewidth":
                yield words[1:end]
            words = words[end + 1 :]


def run(page: Path, folder: Path) -> Iterator[tuple[Block, str]]:
    """Run a page in a folder: every block, with what it printed where it is run."""
    found, names = blocks(page), {"__name__": "__main__"}
    for block in found:
        if block.mark.startswith("file: "):
            (folder / block.mark.removeprefix("file: ")).write_text(block.text, encoding="utf-8")
    with contextlib.chdir(folder):
        for block in found:
            yield block, execute(block, names, page) if block.runs else ""


def execute(block: Block, names: dict[str, object], page: Path) -> str:
    """What a block prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        if block.language == "python":
            source = "\n" * block.line + block.text  # so that a traceback names the line of the page
            exec(compile(source, str(page), "exec", dont_inherit=True), names)
        else:
            for arguments in commands(block.text):
                from finitewidth.cli import main

                status = main(arguments)
                assert status == 0, f"finitewidth {shlex.join(arguments)}: exit status {status}"
    return printed.getvalue()


def agrees(wanted: Block, printed: str) -> bool:
    """Whether a text block is what was printed, up to blanks at line ends."""
    left, right = ("\n".join(line.rstrip() for line in text.strip().splitlines()) for text in (wanted.text, printed))
    tolerance = WITHIN.match(wanted.mark)
    if not tolerance:
        return doctest.OutputChecker().check_output(left, right, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    apart = float(tolerance[1]) / 100.0
    left, right = (ERROR_BAR.sub("", text) for text in (left, right))  # one digit, which is noise itself
    numbers = [[float(n) for n in NUMBER.findall(text)] for text in (left, right)]
    words = [NUMBER.sub("#", text).split() for text in (left, right)]
    close = (abs(a - b) <= apart * abs(a) for a, b in zip(*numbers, strict=False))
    return words[0] == words[1] and len(numbers[0]) == len(numbers[1]) and all(close)


def rewritten(page: Path) -> str:
    """The page with its outputs as they come out now; those that agree stay as they are."""
    text, shift, last = page.read_text(encoding="utf-8"), 0, ""
    with tempfile.TemporaryDirectory() as folder:
        for block, printed in run(page, Path(folder)):
            if block.is_output and not agrees(block, last):
                new = "\n".join(line.rstrip() for line in last.strip("\n").splitlines()) + "\n"
                start, end = (at + shift for at in block.span)
                text, shift = text[:start] + new + text[end:], shift + len(new) - (end - start)
            last = printed if block.runs else last
    return text


if __name__ == "__main__":
    os.environ.setdefault("COLUMNS", "88")
    for name in sys.argv[1:]:
        Path(name).write_text(rewritten(Path(name)), encoding="utf-8")
