"""The page of a study or a sweep: whole in itself, escaped, with the stored numbers."""

from __future__ import annotations

import html
from html.parser import HTMLParser

import pytest

pytest.importorskip("matplotlib")

from finitewidth.report.findings import Claim, Findings, Panel, Series, Table
from finitewidth.report.html import cell_text, page
from finitewidth.report.panels import study_figure

from .test_findings import FINDINGS

MARKUP = "<img src=x onerror=alert(1)>&\"'</script>"
COMMAND = "finitewidth study fully-connected --out 'a b'"


def page_of(findings, text="digits"):
    versions = {"finitewidth": "0.1.0", "numpy": "2.0"}
    return page(text, text, [text], findings, study_figure(findings), COMMAND, versions)


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def test_nothing_is_asked_from_a_network():
    text = page_of(FINDINGS)
    for tag, attributes in Tags(text).found:
        assert tag not in ("img", "iframe", "object", "base", "script")
        assert "src" not in attributes
        assert attributes.get("href", "data:,") == "data:,"
        assert attributes.get("xlink:href", "#").startswith("#")
    assert "default-src 'none'" in text


def test_labels_with_markup_are_text():
    """In every place where text from outside appears: title, lines, claims, tables, curves."""
    findings = Findings(
        claims=(Claim.above(MARKUP, MARKUP, 1.0, 0.1),),
        tables=(Table(MARKUP, (MARKUP,), ((MARKUP,),)),),
        panels=(Panel(MARKUP, MARKUP, MARKUP, (Series(MARKUP, "line", 0, (1.0, 2.0), (1.0, 2.0)),)),),
        notes=(MARKUP,),
    )
    text = page_of(findings, MARKUP)
    assert "<img" not in text
    assert "</script>" not in text
    assert html.escape(MARKUP) in text


def test_what_is_on_the_page():
    text = page_of(FINDINGS)
    for wanted in ("0.100(10)", html.escape(COMMAND), "numpy 2.0", "a note", "Supported on these data"):
        assert wanted in text
    tags = Tags(text).found
    assert dict(tags[0][1])["lang"] == "en"
    assert [tag for tag, _ in tags].count("svg") == 1
    assert all(attributes["scope"] == "col" for tag, attributes in tags if tag == "th")
    assert page_of(FINDINGS) == text


@pytest.mark.parametrize(
    ("cell", "text"), [(None, "—"), ("a", "a"), (3, "3"), (0.25, "0.2500"), ((0.0391, 0.0006), "0.0391(6)")]
)
def test_cells(cell, text):
    assert cell_text(cell) == text
