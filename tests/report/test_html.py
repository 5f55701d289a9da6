"""The page of a study: whole in itself, escaped, with the stored numbers, and read in headless Chromium if there."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from finitewidth.report.findings import Claim, Findings, Panel, Series, Table
from finitewidth.report.html import cell_text, page

from .chromium import BROWSER, page_in_chromium
from .test_findings import FINDINGS

MARKUP = "<img src=x onerror=alert(1)>&\"'</script>"
DATA = {"points": 10, "shape": [8, 8, 1], "classes": [MARKUP, "b"], "fingerprint": "f" * 64}
ABOUT = {
    "study": "fully-connected",
    "question": f"Why {MARKUP}?",
    "scale": "small",
    "source": "digits",
    "data": {"train": DATA, "test": DATA},
    "command": "finitewidth study fully-connected --out 'a b'",
    "versions": {"finitewidth": "0.1.0", "numpy": "2.0"},
}


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def test_nothing_is_asked_from_a_network():
    for tag, attributes in Tags(page(FINDINGS, ABOUT)).found:
        assert tag not in ("img", "iframe", "object", "base")
        assert "src" not in attributes
        assert attributes.get("href", "data:,") in ("data:,", "#main")
    assert "default-src 'none'" in page(FINDINGS, ABOUT)
    assert len(page(FINDINGS, ABOUT)) < 100_000


def test_labels_with_markup_are_text():
    """In every place where text from outside appears: question, classes, claims, tables, curves."""
    findings = Findings(
        claims=(Claim.above(MARKUP, MARKUP, 1.0, 0.1),),
        tables=(Table(MARKUP, (MARKUP,), ((MARKUP,),)),),
        panels=(Panel(MARKUP, MARKUP, MARKUP, (Series(MARKUP, "line", 0, (1.0, 2.0), (1.0, 2.0)),)),),
        notes=(MARKUP,),
    )
    text = page(findings, ABOUT)
    assert "<img" not in text
    assert text.count("</script>") == 2
    assert html.escape(MARKUP) in text
    assert marks_of(text)["panel-0-0"][0].startswith(f"{MARKUP}: {MARKUP} 1")


def test_numbers_of_the_page_are_the_stored_ones():
    text = page(FINDINGS, ABOUT)
    assert marks_of(text) == {  # a row without a result has no mark
        "panel-0-0": ["theory: width N 10, test error 0.3000", "theory: width N 40, test error 0.2000"],
        "panel-0-1": ["sampled: width N 20, test error 0.250(10)"],
        "panel-0-2": ["limit: width N 10, test error 0.1000", "limit: width N 40, test error 0.1000"],
    }
    assert "0.10(1)" not in text
    assert "0.100(10)" in text
    for wanted in (
        "finitewidth study fully-connected --out &#x27;a b&#x27;",
        "numpy 2.0",
        "@software{finitewidth",
        "a note",
    ):
        assert wanted in text


def marks_of(text):
    """The words of every mark, by the group of its series."""
    return json.loads(re.search(r'id="marks">(.*?)</script>', text, re.S)[1])


def test_every_word_has_its_mark():
    """Groups of marks in the drawing, in order; what an axis cannot show has neither mark nor words."""
    y, se = (0.3, -0.2, None, 0.4), (0.1, 0.1, None, None)
    series = (Series("a", "points", 0, (1.0, 2.0, 3.0, 4.0), y, se), Series("b", "line", 1, (1.0, 2.0), (0.2, 0.3)))
    for log_y in (False, True):
        panel = Panel("t", "x", "y", series, log_y=log_y)
        text = page(Findings((), (), (panel,)), ABOUT)
        words = marks_of(text)
        assert [len(found) for found in words.values()] == [2 if log_y else 3, 2]
        for name, found in words.items():
            drawn = re.search(rf'<g id="{name}">.*?<g clip-path=[^>]*>(.*?)</g>', text, re.S)[1]
            places = [float(x) for x in re.findall(r'<use [^>]*x="([\d.]+)"', drawn)]
            assert len(places) == len(found)
            assert places == sorted(places)


def test_it_can_be_used_without_eyes_and_mouse():
    tags = Tags(page(FINDINGS, ABOUT)).found
    assert dict(tags[0][1])["lang"] == "en"
    for tag, attributes in tags:
        if tag == "svg":
            assert attributes["aria-label"]
        if tag == "th":
            assert attributes["scope"] == "col"


@pytest.mark.parametrize(
    ("cell", "text"), [(None, "—"), ("a", "a"), (3, "3"), (0.25, "0.2500"), ((0.0391, 0.0006), "0.0391(6)")]
)
def test_cells(cell, text):
    assert cell_text(cell) == text


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_in_headless_chromium(tmp_path: Path):
    """Every mark says what it shows, to the mouse, the keyboard and a screen reader; nothing is asked for."""
    path = tmp_path / "page.html"
    path.write_text(page(FINDINGS, ABOUT), encoding="utf-8")
    with page_in_chromium(tmp_path / "profile") as opened:
        assert opened.open(path.as_uri()) < 3.0
        opened.value("document.querySelector('input[data-hides]').click()")
        assert opened.value("document.getElementById('panel-0-0').style.display") == "none"
        opened.value("document.querySelector('input[data-hides]').click()")
        assert opened.value("document.querySelectorAll('use[tabindex=\"0\"]').length") == 5
        opened.value("document.querySelectorAll('#panel-0-0 use')[1].focus()")
        assert opened.value("document.querySelector('.readout').textContent").startswith("theory: width N 40")
        assert opened.value("window.innerWidth >= document.documentElement.scrollWidth")
        asked = {event["request"]["url"] for event in opened.seen("Network.requestWillBeSent")}
        assert {url for url in asked if not url.startswith("data:")} == {path.as_uri()}
        assert opened.seen("Runtime.exceptionThrown") == opened.seen("Log.entryAdded") == []
        assert opened.seen("Runtime.consoleAPICalled") == []
