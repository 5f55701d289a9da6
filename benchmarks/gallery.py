"""The gallery: every study at scale small, its figure into docs/figures, its findings into docs/studies.md.

    python benchmarks/gallery.py DIR      # minutes a study; what is in DIR already goes on where it was

Every sentence and figure comes from a run.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import parts

from finitewidth import studies
from finitewidth.report import plots
from finitewidth.report.findings import Claim
from finitewidth.report.panels import study_figure

LARGEST = 100_000  # bytes of a figure in the repository
IN_ERRORS = re.compile(r", [\d.]+ standard errors from .*$")  # follows from the value and its error


def main(folder: Path) -> None:
    reports = {name: studies.run(study, folder / name, say=print) for name, study in studies.STUDIES.items()}
    versions = {
        ", ".join(f"{library} {version}" for library, version in report.plain["versions"].items())
        for report in reports.values()
    }
    lines = [f"Made by {' and '.join(sorted(versions))}.", ""]
    for name, report in reports.items():
        figure = draw(name, report).relative_to(parts.DOCS)
        lines += [f"### {name}", "", report.plain["question"], "", f"![{name}: theory beside samples]({figure})", ""]
        lines += [*findings(report.findings.claims), ""]
    parts.write("studies.md", "gallery", lines)


def findings(claims: tuple[Claim, ...]) -> Iterator[str]:
    """One line a statement, with the numbers of every verdict; what the first says of them is not said again."""
    for statement in dict.fromkeys(claim.statement for claim in claims):
        same = [claim for claim in claims if claim.statement == statement]
        numbers: dict[str, list[str]] = {}
        for claim in same:
            what, _, value = IN_ERRORS.sub("", claim.evidence).rpartition(": ")
            if claim is not same[0]:
                known = same[0].evidence.rpartition(": ")[0].split(", ")
                what = ", ".join(part for part in what.split(", ") if part not in known)
            numbers.setdefault(claim.verdict, []).append(f"{what}: {value}")
        verdicts = (f"**{verdict}** ({'; '.join(values)})" for verdict, values in numbers.items())
        yield f"- {statement}: {'; '.join(verdicts)}"


def draw(name: str, report: studies.Report) -> Path:
    """The study's figure as SVG; refuses one that is too large for the repository."""
    path = parts.DOCS / "figures" / f"{name}.svg"
    path.parent.mkdir(exist_ok=True)
    path.write_text(compact(plots.svg_of(study_figure(report.findings))), encoding="utf-8")
    if path.stat().st_size > LARGEST:
        raise SystemExit(f"{path}: {path.stat().st_size} bytes; wanted: at most {LARGEST}; draw less")
    return path


def compact(svg: str) -> str:
    """The same picture in fewer bytes: one decimal, short names, no comments, no indentation."""
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\b([1-9]\d*\.\d)\d+", r"\1", svg)  # a tenth of a point is enough, but not for scales below one
    for number, name in enumerate(sorted(set(re.findall(r'id="(p[0-9a-f]{10})"', svg)))):
        svg = svg.replace(name, f"p{number}")
    svg = re.sub(r'<g id="(?:line2d|text|patch|xtick|ytick|LineCollection|matplotlib\.axis)_\d+"', "<g", svg)
    svg = svg.replace("STIXGeneral-Regular-", "g").replace("xlink:href", "href")
    svg = re.sub(r"\n\s*", "\n", svg)
    svg = re.sub(r'style="([^"]*)"', lambda style: style[0].replace(": ", ":").replace("; ", ";"), svg)
    svg = re.sub(r'(?<= d=)"([^"]*)"', lambda path: re.sub(r"\s*([A-Za-z])\s*", r"\1", path[0]), svg)
    while (less := re.sub(r"<g>\n((?:(?!</?g).)*?)</g>\n", r"\1", svg, flags=re.DOTALL)) != svg:
        svg = less
    return svg


if __name__ == "__main__":
    main(Path(sys.argv[1]))
