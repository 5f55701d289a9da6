"""Self-contained HTML pages, of a study or a sweep: they open offline, and ask for nothing from any network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from html import escape
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from finitewidth.checks.exceptions import InputError
from finitewidth.display.tables import NOTHING, number, with_error
from finitewidth.report import plots
from finitewidth.report.findings import Cell, Claim, Findings, Table
from finitewidth.runs.checkpoints import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = "report.html"
# what values that no study or sweep writes, in a damaged file, come to when they are drawn
_UNDRAWABLE = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError)
# no source but the page itself: a request would be refused by the browser
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


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


def page(
    kind: str,
    title: str,
    lines: Iterable[str],
    findings: Findings,
    figure: Figure | None,
    command: str,
    versions: Mapping[str, str],
) -> str:
    """A whole page: what it is of, claims, curves, tables, and how to repeat it; all text from outside is escaped."""
    css = resources.files("finitewidth.report").joinpath("page.css").read_text(encoding="utf-8")
    libraries = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<link rel="icon" href="data:,">
<title>{escape(kind)} — finitewidth</title>
<style>
{css}</style>
</head>
<body>
<p class="quiet">{escape(kind)}</p>
<h1>{escape(title)}</h1>
{_paragraphs((*lines, *findings.notes))}
{_claims(findings.claims)}
{"" if figure is None else _curves(figure)}
<h2>Numbers</h2>
<p class="quiet">0.0391(6) stands for 0.0391 ± 0.0006, one standard error.</p>
{"".join(map(_table, findings.tables))}
<h2>To repeat it</h2>
<pre>{escape(command)}</pre>
<p class="quiet">With {escape(libraries)}.</p>
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


def _paragraphs(lines: Iterable[str]) -> str:
    return "\n".join(f"<p>{escape(line)}</p>" for line in lines)


def _claims(claims: Iterable[Claim]) -> str:
    found = "\n".join(f"<li class='{escape(claim.verdict)}'>{escape(claim.sentence)}</li>" for claim in claims)
    if not found:
        return ""
    return f"""<h2>What holds on these data</h2>
<ul class='claims'>{found}</ul>
<p class='quiet'>Decided at three standard errors; undecided below that.</p>"""


def _curves(figure: Figure) -> str:
    return f"""<h2>Curves</h2>
<p class='quiet'>Lines are theory, circles samples with bars of two standard errors, gaps what failed or did
not converge.</p>
<figure role='img' aria-label='Curves'>{plots.svg_of(figure)}</figure>"""


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
