"""Self-contained HTML pages, of a study or a sweep: they open offline, and ask for nothing from any network."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from html import escape
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finitewidth import __version__
from finitewidth.checks.exceptions import InputError
from finitewidth.display.tables import NOTHING, number, with_error
from finitewidth.report import plots
from finitewidth.report.findings import Cell, Findings, Panel, Table
from finitewidth.report.panels import labels_of_marks, panel_svg
from finitewidth.runs.checkpoints import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "finitewidth: predicting the errors of finite-width Bayesian neural networks"  # as in CITATION.cff
PAGE = "report.html"
# what values that no study or sweep writes, in a damaged file, come to when they are drawn
_UNDRAWABLE = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError)
# no source but the page itself: a request would be refused by the browser
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def page(findings: Findings, about: Mapping[str, Any]) -> str:
    """The page of a study. about: ``study``, ``question``, ``scale``, ``source``, ``data``, ``command``, ``versions``,
    as ``study.json`` holds them; all text from outside is escaped."""
    return document(str(about["study"]), _sections(findings, about), findings)


def write(folder: Path, name: str, make: Callable[[], tuple[str, Figure | None]]) -> list[Path]:
    """The page and the figure of a study or a sweep, as ``report.html``, ``name``.png and ``name``.pdf in its folder.

    Raises InputError for values of which something cannot be drawn; the page is not written then.
    """
    try:
        text, figure = make()
        figures = [plots.save(figure, folder / f"{name}.{kind}") for kind in ("png", "pdf")] if figure else []
    except _UNDRAWABLE as error:
        raise InputError(
            f"{str(folder)!r}, of which something cannot be drawn ({type(error).__name__}: {error})",
            "results as a study or a sweep writes them",
            "run it again in another folder",
        ) from error
    place = write_whole(folder / PAGE, lambda draft: draft.write_text(text, encoding="utf-8", errors="replace"))
    return [place, *figures]


def document(title: str, sections: Iterable[str], findings: Findings) -> str:
    """A whole page of sections of HTML, which end with ``repeat``; ``title`` is plain text."""
    style, script = (_asset(name) for name in ("page.css", "page.js"))
    name = escape(f"{title} — finitewidth")
    body = "\n".join(sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<link rel="icon" href="data:,">
<title>{name}</title>
<style>
{style}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the results</a>
{body}
<script type="application/json" id="marks">{_marks(findings)}</script>
<script>
{script}</script>
</body>
</html>
"""


def cell_text(cell: Cell) -> str:
    """A cell for people: 0.0391(6) is a value with its standard error."""
    if cell is None:
        return NOTHING
    if isinstance(cell, str):
        return cell
    if isinstance(cell, tuple):
        return with_error(*cell)
    return str(cell) if isinstance(cell, int) else number(cell)


def _sections(findings: Findings, about: Mapping[str, Any]) -> Iterator[str]:
    yield header(f"Study {about['study']}, scale {about['scale']}", about["question"], [_data(about)])
    yield "<section aria-labelledby='claims'><h2 id='claims'>What holds on these data</h2>\n<ul class='claims'>"
    for claim in findings.claims:
        yield f"<li class='{escape(claim.verdict)}'>{escape(claim.sentence)}</li>"
    yield "</ul>\n<p class='quiet'>Decided at three standard errors; undecided below that.</p>"
    yield from (f"<p>{escape(note)}</p>" for note in findings.notes)
    yield "</section>"
    yield curves(findings)
    yield numbers(findings)
    data = about["data"]
    prints = f"training {data['train']['fingerprint'][:16]}…, test {data['test']['fingerprint'][:16]}…"
    yield f"{repeat(about['command'], about['versions'], prints)}\n</main>"


def header(kind: str, title: str, lines: Iterable[str]) -> str:
    """The beginning of the page; the main part begins behind it."""
    paragraphs = "\n".join(f"<p>{escape(line)}</p>" for line in lines)
    return f"""<header>
<p class='quiet'>{escape(kind)}</p>
<h1>{escape(title)}</h1>
{paragraphs}
</header>
<main id='main'>"""


def curves(findings: Findings) -> str:
    """The section of all panels."""
    panels = "".join(_panel(panel, f"panel-{k}") for k, panel in enumerate(findings.panels))
    return f"""<section aria-labelledby='curves'><h2 id='curves'>Curves</h2>
<p class='quiet'>Lines are theory, circles samples with bars of two standard errors. Point at a mark, or reach it with
the Tab key, to read its values.</p>
<div class='panels'>{panels}</div></section>"""


def numbers(findings: Findings) -> str:
    """The section of all tables."""
    tables = "".join(_table(table) for table in findings.tables)
    return f"""<section aria-labelledby='tables'><h2 id='tables'>Numbers</h2>
<p class='quiet'>0.0391(6) stands for 0.0391 ± 0.0006, one standard error.</p>
{tables}</section>"""


def _data(about: Mapping[str, Any]) -> str:
    train, test = about["data"]["train"], about["data"]["test"]
    classes = train.get("classes")
    named = f", classes {', '.join(map(str, classes))}" if classes else ""
    shape = f" of shape {' x '.join(map(str, train['shape']))}" if train.get("shape") else ""
    return f"Data: {about['source']}{named}; {train['points']} training and {test['points']} test points{shape}."


def _panel(panel: Panel, name: str) -> str:
    boxes = "".join(
        f"<label><input type='checkbox' checked data-hides='{name}-{k}'> "
        f"<span style='color:{plots.COLOURS[series.colour % len(plots.COLOURS)]}' aria-hidden='true'>"
        f"{_SIGNS[series.kind]}</span> {escape(series.name)}</label>"
        for k, series in enumerate(panel.series)
    )
    return (
        f"<figure class='panel'><figcaption>{escape(panel.title)}</figcaption>{panel_svg(panel, name)}"
        f"<p class='readout' role='status'></p><div class='legend'>{boxes}</div></figure>"
    )


_SIGNS = {"line": "━", "limit": "╌", "points": "○"}


def _table(table: Table) -> str:
    head = "".join(f"<th scope='col'>{escape(name)}</th>" for name in table.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td{_prose(text)}>{escape(text)}</td>" for text in map(cell_text, row)) + "</tr>"
        for row in table.rows
    )
    title = escape(table.title)
    return (
        f"<div class='scroll' tabindex='0' role='region' aria-label='{title}'><table><caption>{title}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _prose(text: str) -> str:
    return " class='prose'" if len(text) > 40 else ""


def repeat(command: str, versions: Mapping[str, str], fingerprints: str) -> str:
    """The section on how to repeat and to cite it."""
    used = versions.get("finitewidth", __version__)
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"""<section aria-labelledby="repeat"><h2 id="repeat">To repeat it</h2>
<pre>{escape(command)}</pre>
<p class="quiet">With {escape(named)}. Data fingerprints (SHA-256): {escape(fingerprints)}.</p>
<h2>How to cite</h2>
<pre>@software{{finitewidth,
  author  = {{The finitewidth developers}},
  title   = {{{escape(TITLE)}}},
  version = {{{escape(used)}}}
}}</pre></section>"""


def _marks(findings: Findings) -> str:
    """What the marks of every series show, by its group in a panel, as JSON.

    No label can break out of it: in a script element only "<" could end it.
    """
    found = {
        f"panel-{k}-{i}": list(labels_of_marks(panel, series))
        for k, panel in enumerate(findings.panels)
        for i, series in enumerate(panel.series)
    }
    return json.dumps(found).replace("<", "\\u003c").replace("&", "\\u0026")


def _asset(name: str) -> str:
    return resources.files("finitewidth.report").joinpath(name).read_text(encoding="utf-8")
