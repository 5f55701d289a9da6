"""The site builds with warnings as errors, reads offline, and its formulas lead to the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .pages import DOCS

for library in ("sphinx", "myst_parser", "furo"):
    pytest.importorskip(library)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return target


def test_every_page_is_there(site):
    for page in DOCS.glob("*.md"):
        assert (site / f"{page.stem}.html").stat().st_size > 5000
    assert (site / "searchindex.js").exists()


def test_nothing_is_loaded_from_elsewhere(site):
    for page in site.glob("*.html"):
        loaded = re.findall(r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=\"([^\"]*)\"", page.read_text("utf-8"))
        assert loaded
        assert [address for address in loaded if "//" in address] == []


def test_formulas_lead_to_code_and_back(site):
    links = re.findall(r'href="(_modules/[^"#]*)#([^"]*)"', (site / "theory.html").read_text("utf-8"))
    assert len(set(links)) > 60
    for page, anchor in set(links):
        assert f'id="{anchor}"' in (site / page).read_text("utf-8"), (page, anchor)
    action = (site / "_modules/finitewidth/theory/action.html").read_text("utf-8")
    back = re.search(r'href="\.\./\.\./\.\./(\w+\.html)#([^"]*scalar_rate)"', action)
    assert f'id="{back[2]}"' in (site / back[1]).read_text("utf-8")


def test_formulas_are_mathml(site):
    assert (site / "theory.html").read_text("utf-8").count("<math") > 200


def test_messages_are_read_off_the_source(site):
    text = (site / "errors.html").read_text("utf-8")
    assert "two columns named …" in text
    assert text.count("<li><p>") > 250
