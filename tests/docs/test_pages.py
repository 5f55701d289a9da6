"""README and documentation: code runs and prints what the page says, links and source links lead somewhere."""

from __future__ import annotations

import importlib.util
import operator
import re
import subprocess
import sys
from pathlib import Path

import pytest

import finitewidth as fw

from .commands import COMMAND, ROOT, commands, missing, options, small
from .pages import (
    DOCS,
    MARKS,
    MODULE_OF_EXTRA,
    Block,
    agrees,
    blocks,
    code_spans,
    columns,
    commands_in_text,
    pages,
    prose,
    run,
    to_run,
)

PAGES = pages()
README = ROOT / "README.md"
SOURCE_ROLE = re.compile(r"\{src\}`([^`]*)`")


def named(page: Path) -> str:
    return page.stem


RUN = [pytest.param(page, id=page.stem) for page in PAGES if any(block.runs for block in to_run(page))]


@pytest.mark.parametrize("page", RUN)
def test_code_runs_and_prints_what_the_page_says(page, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns(page))
    monkeypatch.setenv("FINITEWIDTH_TRACEBACK", "1")
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
def test_marks_are_known(page):
    for block in blocks(page):
        assert all(MARKS.fullmatch(mark) for mark in block.marks), block.marks
        assert set(block.extras) <= set(MODULE_OF_EXTRA)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_exist(page):
    """Command, options, scripts and targets, whether they are run or not; all in fenced blocks or in backticks."""
    right = [block for block in blocks(page) if block.language == "bash" and not block.status]
    found = [words for block in right for words in commands(block.text)]
    made = {block.mark("file: ") for block in blocks(page)}
    for words in found + commands_in_text(page):
        assert missing(words) in {"", *made}, " ".join(words)
    for block in blocks(page):
        if block.language == "bash" and block.mark("not run: ") is None:
            assert all(COMMAND.match(" ".join(words)) for words in commands(block.text)), "not run and not marked"
    assert [line for line in prose(page).splitlines() if COMMAND.match(line.strip()) and line.startswith("    ")] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_options_and_names_exist(page):
    known = options()
    for span in code_spans(page):
        if span.startswith("--"):
            assert re.match(r"--[a-z-]+", span)[0] in known, span
        elif named_thing := re.match(r"fw((?:\.\w+)+)", span):
            operator.attrgetter(named_thing[1][1:])(fw)


@pytest.mark.parametrize(
    "command",
    [
        "finitewidth curve --solver krylov",
        "finitewidth predict --widht 10",
        "make nothing",
        "python tests/nothing.py",
        "python -m tests_of_nothing",
        'pip install ".[nothing]"',
        "pytest -s benchmarks/nothing.py",
    ],
)
def test_what_is_missing_is_seen(command):
    assert missing(*commands(command))


def test_small_commands_keep_what_is_written():
    written = ["compare", "--data", "digits", "--width", "20,50", "--figure", "f.pdf"]
    assert small(written)[: len(written)] == written
    assert small(written)[-2:] == ["--width", "4"]
    assert small(["status", "results"]) == ["status", "results"]


@pytest.mark.parametrize("width", sorted({columns(page) for page in PAGES}))
def test_python_is_formatted(width, tmp_path):
    """As ruff would; on the site in lines that fit beside its menu."""
    for page in (page for page in PAGES if columns(page) == width):
        code = [block.text for block in blocks(page) if block.language == "python"]
        (tmp_path / f"{page.stem}.py").write_text("\n\n\n".join(code), encoding="utf-8")
        for number, text in enumerate(code):
            (tmp_path / f"{page.stem}_block_{number}.py").write_text(text, encoding="utf-8")
    ruff("format", "--diff", "--line-length", width, *map(str, tmp_path.glob("*_block_*.py")))
    ruff("check", "--quiet", "--select", "F", "--exclude", "*_block_*.py", str(tmp_path))


def ruff(*arguments: str) -> None:
    command = [sys.executable, "-m", "ruff", *arguments, "--config", str(ROOT / "pyproject.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


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


def test_index_names_every_page():
    text = prose(DOCS / "index.md")
    for page in {path.name for path in DOCS.glob("*.md")} - {"index.md"}:
        assert f"]({page})" in text, page


def test_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 110


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
    assert agrees(Block("text", wanted, (mark,)), printed) is same
