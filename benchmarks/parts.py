"""The parts of the documentation that benchmarks write, each between two comments on its page."""

from __future__ import annotations

from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"


def write(page: str, name: str, lines: list[str]) -> None:
    """Put ``lines`` in the place of what stands between ``<!-- begin: NAME -->`` and ``<!-- end: NAME -->``."""
    path, begin, end = DOCS / page, f"<!-- begin: {name} -->", f"<!-- end: {name} -->"
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{path}: no part {begin} ... {end}")
    text = "\n".join(lines).strip()
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")
