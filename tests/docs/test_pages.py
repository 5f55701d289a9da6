"""README and documentation: code runs and prints what the page says, links and source links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import finitewidth as fw
from finitewidth.cli import app

from .pages import DOCS, MARKS, MODULE_OF_EXTRA, ROOT, Block, agrees, blocks, commands, pages, run

PAGES = pages()
README = ROOT / "README.md"
INDENTED = re.compile(r"^    finitewidth .*$", re.MULTILINE)
SOURCE_ROLE = re.compile(r"\{src\}`([^`]*)`")


def named(page: Path) -> str:
    return page.stem


SLOW = ("quickstart", "recipes")  # they sample
RUN = [
    pytest.param(page, id=page.stem, marks=[pytest.mark.slow] if page.stem in SLOW else [])
    for page in PAGES
    if any(block.runs for block in blocks(page))
]


@pytest.mark.parametrize("page", RUN)
def test_code_runs_and_prints_what_the_page_says(page, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "88")
    for block in blocks(page):
        if block.missing_extras:
            pytest.skip(f"needs the extra {block.missing_extras[0]!r}")
    last, compared = "", 0
    for block, printed in run(page, tmp_path):
        if block.is_output:
            assert agrees(block, last), f"{page.name} says\n{block.text}\nand the code prints\n{last}"
            compared += 1
        last = printed if block.runs else last
    assert compared == sum(block.is_output for block in blocks(page))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_marks_are_known_and_say_why(page):
    for block in blocks(page):
        assert not block.mark or block.mark.startswith(MARKS), block.mark
        assert not block.mark.startswith("not run: ") or len(block.mark) > len("not run: ") + 10
        assert set(block.extras) <= set(MODULE_OF_EXTRA)
        if block.language == "bash" and block.runs:
            others = [
                line for line in block.text.splitlines() if line and not line.startswith(("finitewidth ", "#", " "))
            ]
            assert not others, f"{page.name}: not run and not marked: {others}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_have_these_options(page):
    """Parsed, whether they are run or not."""
    texts = [block.text for block in blocks(page) if block.language == "bash"]
    texts += INDENTED.findall(page.read_text(encoding="utf-8"))
    program = typer.main.get_command(app)
    for arguments in (arguments for text in texts for arguments in commands(text)):
        command = program.commands[arguments[0]]
        parsed = [argument for argument in arguments[1:] if argument != "--help"]
        if parsed or arguments[-1] != "--help":
            command.make_context(arguments[0], parsed)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_python_is_formatted(page):
    """As ruff would; on the site in lines that fit beside its menu."""
    length = "110" if page == README else "88"
    found = [block for block in blocks(page) if block.language == "python"]
    for block in found:
        assert ruffed(block.text, "format", "--line-length", length, "-").stdout == block.text
    whole = "\n\n\n".join(block.text.strip() for block in found) + "\n"
    done = ruffed(whole, "check", "--quiet", "--select", "F", "-")
    assert done.returncode == 0, done.stdout


def ruffed(text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ruff", *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target


def test_formulas_name_code_that_exists():
    spec = importlib.util.spec_from_file_location("places_of_docs", DOCS / "_ext" / "places.py")
    places = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = places  # its dataclass looks itself up
    spec.loader.exec_module(places)
    found = [name for page in PAGES for name in SOURCE_ROLE.findall(page.read_text(encoding="utf-8"))]
    assert len(set(found)) > 60
    for name in found:
        assert places.locate(name).line > 0
    for gone in ("theory.action.reaction", "theory.action.LOG_2PI", "nothing.at_all"):
        with pytest.raises(LookupError):
            places.locate(gone)


def test_every_public_name_is_in_the_reference():
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    for name in set(fw.__all__) - {"__version__"}:
        assert re.search(rf"finitewidth\.{name}\b", text), name


def test_readme_ends_in_a_fact():
    (block,) = [block for block in blocks(README) if block.language == "python"]
    assert block.text.strip().splitlines()[-1].startswith("assert ")


@pytest.mark.parametrize(
    ("mark", "wanted", "printed", "same"),
    [
        ("output", "a ... c", "a b c", True),
        ("output", "a c", "a b c", False),
        ("output within 5 %", "error 0.100, N 3", "error 0.104, N 3", True),
        ("output within 5 %", "error 0.100, N 3", "error 0.106, N 3", False),
        ("output within 5 %", "error 0.100", "error 0.100 0.2", False),
        ("output within 5 %", "error 0.100", "accuracy 0.100", False),
    ],
)
def test_how_outputs_are_compared(mark, wanted, printed, same):
    assert agrees(Block("text", wanted, mark, (0, 0)), printed) is same
