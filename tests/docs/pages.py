"""The code of a page, run in order in one folder, as its reader would.

- ``python`` blocks share their names. ``bash`` blocks run their ``finitewidth`` lines through the command line; lines
  of other programs are not run (``commands.missing`` holds them to what there is). Complete commands in the text, in
  backticks, are run as well, after the blocks; those with a placeholder (``--out DIR``) are not.
- A command whose output the page shows runs as it stands, others at the size of ``commands.SMALL``.
- Comments above a block, one a line, say what else is to be known: ``<!-- file: plan.yaml -->`` (written to the folder
  before anything runs), ``<!-- needs: sample, plot -->`` (extras), ``<!-- exit status 2 -->`` (of each command),
  ``<!-- not run: why -->``, ``<!-- output -->`` (a text block: what the block before it printed; ``...`` stands for
  anything), ``<!-- output within 5 % -->`` (its numbers may differ by so much).

``python -m tests.docs.pages docs/quickstart.md`` writes outputs anew into the page; read the difference before
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

from .commands import COMMAND, PLACEHOLDER, ROOT, commands, finitewidth, make_files

DOCS = ROOT / "docs"
FENCE = re.compile(
    r"(?P<marks>(?:^<!-- [^\n]*? -->\n)*)^```(?P<language>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
MARK = re.compile(r"<!-- (.*?) -->")
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?")
ERROR_BAR = re.compile(r"\(\d+\)")  # of 0.0391(6)
# what drawn neurons estimate: its noise, which differs between processors, may take it over a bound of its words
STATEMENT = re.compile(r"(?:good|off by about|unknown): .*?(?= Validity, width| Infinite width| Figure:|$)")
MARKS = re.compile(r"file: \S+|needs: [a-z, ]+|exit status \d+|not run: .{10,}|output|output within [\d.]+ %")
MODULE_OF_EXTRA = {
    "plot": "matplotlib",
    "sample": "jax",
    "data": "mlxtend",
    "sweep": "distributed",
    "cluster": "distributed",
    "table": "pandas",
}


@dataclass(frozen=True)
class Block:
    """A fenced block. span: of its text, in the page. line: the lines above it. shown: its output stands below it."""

    language: str
    text: str
    marks: tuple[str, ...] = ()
    span: tuple[int, int] = (0, 0)
    line: int = 0
    shown: bool = False

    def mark(self, begins: str) -> str | None:
        """What follows these words in a comment above the block; None without one."""
        return next((mark.removeprefix(begins) for mark in self.marks if mark.startswith(begins)), None)

    @property
    def is_output(self) -> bool:
        return self.mark("output") is not None

    @property
    def runs(self) -> bool:
        ours = self.language == "bash" and any(words[0] == "finitewidth" for words in commands(self.text))
        return (self.language == "python" or ours) and self.mark("not run: ") is None

    @property
    def status(self) -> int:
        """Exit status of its commands."""
        return int(self.mark("exit status ") or 0)

    @property
    def extras(self) -> list[str]:
        return [name.strip() for name in (self.mark("needs: ") or "").split(",") if name.strip()]

    @property
    def missing_extras(self) -> list[str]:
        return [name for name in self.extras if importlib.util.find_spec(MODULE_OF_EXTRA[name]) is None]


def pages() -> list[Path]:
    """Every page of the site, and those beside it."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]


def columns(page: Path) -> str:
    """How wide its code and output may be: the site has a menu beside them."""
    return "88" if page.parent == DOCS else "110"


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, directives of the site left out."""
    page_text = page.read_text(encoding="utf-8")
    fences = list(FENCE.finditer(page_text))
    marks = [tuple(MARK.findall(fence["marks"])) for fence in fences]
    shown = [any(mark.startswith("output") for mark in below) for below in [*marks, ()][1:]]
    return [
        Block(m["language"], m["text"], above, m.span("text"), page_text.count("\n", 0, m.start("text")), output)
        for m, above, output in zip(fences, marks, shown, strict=True)
    ]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def code_spans(page: Path) -> list[str]:
    """What stands in backticks in the text of a page, each in one line."""
    return [" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose(page))]


def commands_in_text(page: Path) -> list[list[str]]:
    """The commands among them."""
    return [words for span in code_spans(page) if COMMAND.match(span) for words in commands(span)]


def to_run(page: Path) -> list[Block]:
    """Every block of a page, and one for each complete command of finitewidth in its text."""
    complete = [
        words
        for words in commands_in_text(page)
        if words[0] == "finitewidth" and any("-" in word for word in words) and not PLACEHOLDER.search(" ".join(words))
    ]
    return blocks(page) + [Block("bash", shlex.join(words)) for words in complete]


def run(page: Path, folder: Path) -> Iterator[tuple[Block, str]]:
    """Run a page in a folder: every block, with what it printed where it is run."""
    found, names = to_run(page), {"__name__": "__main__"}
    make_files(folder, page.read_text(encoding="utf-8"))
    for block in found:
        if name := block.mark("file: "):
            (folder / name).write_text(block.text, encoding="utf-8")
    with contextlib.chdir(folder):
        for block in found:
            yield block, execute(block, names, page) if block.runs else ""


def execute(block: Block, names: dict[str, object], page: Path) -> str:
    """What a block prints; of commands that are to fail, what they say on stderr as well."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed if block.status else sys.stderr):
        if block.language == "python":
            source = "\n" * block.line + block.text  # so that a traceback names the line of the page
            exec(compile(source, str(page), "exec", dont_inherit=True), names)
        else:
            for program, *arguments in commands(block.text):
                if program == "finitewidth":
                    finitewidth(arguments, block.status, whole=block.shown)
    return printed.getvalue()


def agrees(wanted: Block, printed: str) -> bool:
    """Whether a text block is what was printed, up to blanks at line ends."""
    left, right = ("\n".join(line.rstrip() for line in text.strip().splitlines()) for text in (wanted.text, printed))
    within = wanted.mark("output within ")
    if within is None:
        return doctest.OutputChecker().check_output(left, right, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    apart = float(within.removesuffix(" %")) / 100.0
    left, right = (ERROR_BAR.sub("", text) for text in (left, right))  # one digit, which is noise itself
    left, right = (STATEMENT.sub("", " ".join(text.split())) for text in (left, right))
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
    for page in map(Path.resolve, map(Path, sys.argv[1:])):
        os.environ["COLUMNS"] = columns(page)
        page.write_text(rewritten(page), encoding="utf-8")
