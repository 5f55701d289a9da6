"""The page of a study: whole in itself, escaped, with the stored numbers, and read in headless Chromium if there."""

from __future__ import annotations

import html
import json
import re
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import pytest

from finitewidth.report.findings import Claim, Findings, Panel, QMatrix, Series, Stop, Table
from finitewidth.report.html import cell_text, page
from finitewidth.report.svg import panel_svg

from .chromium import BROWSER, page_in_chromium
from .test_findings import FINDINGS

MARKUP = "<img src=x onerror=alert(1)>&\"'</script>"
DATA = {"points": 10, "shape": [8, 8, 1], "classes": [MARKUP, "b"], "fingerprint": "f" * 64}
ABOUT = {
    "study": "fc-width",
    "question": f"Why {MARKUP}?",
    "scale": "small",
    "source": "digits",
    "data": {"train": DATA, "test": DATA},
    "command": "finitewidth study fc-width --out 'a b'",
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
    """In every place where text from outside appears: question, classes, claims, tables, curves, maps, bars."""
    findings = Findings(
        claims=(Claim.above(MARKUP, MARKUP, 1.0, 0.1),),
        tables=(Table(MARKUP, (MARKUP,), ((MARKUP,),)),),
        panels=(Panel(MARKUP, MARKUP, MARKUP, (Series(MARKUP, "line", 0, (1.0, 2.0), (1.0, 2.0)),)),),
        slider=(Stop(MARKUP, (QMatrix(MARKUP, ((1.0,),)),), ()),),
        notes=(MARKUP,),
    )
    text = page(findings, ABOUT)
    assert "<img" not in text
    assert text.count("</script>") == 2
    assert html.escape(MARKUP) in text
    stops = re.search(r'id="stops">(.*?)</script>', text, re.S)
    assert json.loads(stops[1])["stops"][0]["label"] == MARKUP


def test_numbers_of_the_page_are_the_stored_ones():
    text = page(FINDINGS, ABOUT)
    stops = json.loads(re.search(r'id="stops">(.*?)</script>', text, re.S)[1])["stops"]
    assert stops == json.loads(json.dumps([asdict(stop) for stop in FINDINGS.slider]))
    drawn = [float(a["data-y"]) for tag, a in Tags(text).found if tag == "circle"]
    assert drawn == [0.3, 0.2, 0.25, 0.1, 0.1]  # a row without a result has no mark
    assert "0.10(1)" not in text
    assert "0.100(10)" in text
    for wanted in ("finitewidth study fc-width --out &#x27;a b&#x27;", "numpy 2.0", "@software{finitewidth", "a note"):
        assert wanted in text


def test_it_can_be_used_without_eyes_and_mouse():
    tags = Tags(page(FINDINGS, ABOUT)).found
    assert dict(tags[0][1])["lang"] == "en"
    for tag, attributes in tags:
        if tag in ("svg", "circle"):
            assert attributes["aria-label"]
        if tag == "circle":
            assert attributes["tabindex"] == "0"
        if tag == "th":
            assert attributes["scope"] == "col"
    assert [a["for"] for tag, a in tags if tag == "label" and "for" in a] == ["slider"]


@pytest.mark.parametrize(
    ("cell", "text"), [(None, "—"), ("a", "a"), (3, "3"), (0.25, "0.2500"), ((0.0391, 0.0006), "0.0391(6)")]
)
def test_cells(cell, text):
    assert cell_text(cell) == text


@pytest.mark.parametrize(("log_x", "log_y", "diagonal"), [(True, True, False), (False, False, True)])
def test_marks_are_where_the_values_are(log_x, log_y, diagonal):
    series = Series("s", "points", 0, (1.0, 10.0, 100.0), (1.0, 10.0, 100.0), (0.0, 0.0, 0.0))
    text = panel_svg(Panel("t", "x", "y", (series,), log_x, log_y, diagonal), "p")
    x, y = ([float(a[k]) for tag, a in Tags(text).found if tag == "circle"] for k in ("cx", "cy"))
    steps = [(x[1] - x[0]) / (x[2] - x[0]), (y[1] - y[0]) / (y[2] - y[0])]
    assert steps == pytest.approx([0.5, 0.5] if log_x else [1 / 11, 1 / 11], abs=2e-3)
    assert x[0] < x[2]
    assert y[0] > y[2]  # up is more


def test_a_line_does_not_bridge_a_gap():
    y = (1.0, None, 3.0, 4.0)
    for kind in ("line", "limit"):
        series = Series("s", kind, 0, (1.0, 2.0, 3.0, 4.0), y)
        lines = [
            a["points"] for tag, a in Tags(panel_svg(Panel("t", "x", "y", (series,)), "p")).found if tag == "polyline"
        ]
        assert [len(points.split()) for points in lines] == [1, 2]


def test_places_with_names():
    names = ("erf", "an activation of a very long name", "relu")
    series = Series("s", "line", 0, (0.0, 2.0), (1.0, 3.0))
    text = panel_svg(Panel("t", "activation", "y", (series,), log_x=False, x_names=names), "p")
    assert "polyline" not in text  # nothing lies between names
    assert "s: activation relu, y 3.0000" in text
    assert ">erf<" in text
    assert "an activation of a very long name" not in text
    assert "an activation" in text


def test_a_panel_without_a_result_says_so():
    assert "no data" in panel_svg(Panel("t", "x", "y", (Series("s", "line", 0, (1.0,), (None,)),)), "p")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_in_headless_chromium(tmp_path: Path):
    """The slider is moved by the keyboard, and what the page then shows is what is stored."""
    path = tmp_path / "page.html"
    path.write_text(page(FINDINGS, ABOUT), encoding="utf-8")

    def shown(opened, stop):
        q = opened.value("[...document.querySelectorAll('[data-q]')].map(e => Number(e.dataset.q))")
        bars = opened.value("[...document.querySelectorAll('[data-bar]')].map(e => e.dataset.total)")
        assert opened.value("document.getElementById('stop-label').textContent") == f"width {stop.label}"
        assert opened.value("document.getElementById('slider').getAttribute('aria-valuetext')") == f"width {stop.label}"
        assert q == [value for row in stop.maps[0].matrix for value in row]
        assert float(bars[0]) == pytest.approx(stop.bars[0].bias + stop.bars[0].variance)
        return bars

    with page_in_chromium(tmp_path / "profile") as opened:
        assert opened.open(path.as_uri()) < 3.0
        first, last = FINDINGS.slider
        shown(opened, first)
        opened.value("document.getElementById('slider').focus()")
        opened.press("End", 35)
        assert shown(opened, last)[1] == "null"  # a bar without a result says so
        opened.value("document.querySelector('input[data-hides]').click()")
        assert opened.value("document.querySelector('g[data-series]').style.display") == "none"
        opened.value("document.querySelector('input[data-hides]').click()")
        opened.value("document.querySelectorAll('circle')[1].focus()")
        assert opened.value("document.querySelector('.readout').textContent").startswith("theory: width N 40")
        assert opened.value("window.innerWidth >= document.documentElement.scrollWidth")
        asked = {event["request"]["url"] for event in opened.seen("Network.requestWillBeSent")}
        assert {url for url in asked if not url.startswith("data:")} == {path.as_uri()}
        assert opened.seen("Runtime.exceptionThrown") == opened.seen("Log.entryAdded") == []
        assert opened.seen("Runtime.consoleAPICalled") == []
