"""What becomes of a finished study: tables for people, the figure, the HTML page."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from rich.table import Table as RichTable
from rich.text import Text

from finitewidth import checks
from finitewidth.display.tables import filled
from finitewidth.report import plots
from finitewidth.report.html import cell_text, page, write
from finitewidth.report.study_figure import study_figure
from finitewidth.studies.study import Report


def for_people(report: Report) -> Iterator[RichTable | Text]:
    """The question, every table, every claim, and what to know about them."""
    yield Text(report.question)
    for table in report.findings.tables:
        yield filled(table.title, table.columns, ([*map(cell_text, row)] for row in table.rows))
    for line in (*(claim.sentence for claim in report.findings.claims), *report.findings.notes):
        yield Text(line)


def draw(report: Report, folder: str | os.PathLike[str]) -> list[Path]:
    """The figure as PNG and PDF in the folder of the study, named after it."""
    figure = study_figure(report.findings)
    place = checks.path("folder", folder)
    return [plots.save(figure, place / f"{report.study}.{kind}") for kind in ("png", "pdf")]


def write_page(folder: str | os.PathLike[str]) -> list[Path]:
    """``report.html`` and the figures of a finished study; raises InputError where the folder holds none."""
    place = checks.path("folder", folder)
    report = Report.read(place)
    return write(place, report.study, lambda: (page(report.findings, report.plain), study_figure(report.findings)))
