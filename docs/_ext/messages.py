"""The directive messages: every refusal of the package, read off the source, so that none is missing or gone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import finitewidth

SOURCE = Path(finitewidth.__file__).parent
RAISED = ("InputError", "KeywordError", "MemoryCapError")


def messages() -> Iterator[tuple[str, list[str]]]:
    """(module, the three parts) of every refusal whose text stands in the source."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in RAISED and len(node.args) == 3:
                parts = [shown(part) for part in node.args]
                if any(part != "…" for part in parts):
                    yield path.relative_to(SOURCE).with_suffix("").as_posix(), parts


def shown(part: ast.expr) -> str:
    """A text as the user sees it, with … for what is filled in."""
    if isinstance(part, ast.Constant):
        return str(part.value)
    if isinstance(part, ast.JoinedStr):
        return "".join(str(piece.value) if isinstance(piece, ast.Constant) else "…" for piece in part.values)
    if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Add):
        return shown(part.left) + shown(part.right)
    if isinstance(part, ast.IfExp):
        return f"{shown(part.body)} / {shown(part.orelse)}"
    return "…"


def setup(app: Any) -> dict[str, Any]:
    """Register with Sphinx."""
    from docutils import nodes
    from sphinx.util.docutils import SphinxDirective

    class Messages(SphinxDirective):
        def run(self) -> list[nodes.Node]:
            by_module: dict[str, list[list[str]]] = {}
            for module, parts in messages():
                by_module.setdefault(module, []).append(parts)
            return [node for module, rows in by_module.items() for node in self.of_module(module, rows)]

        def of_module(self, module: str, rows: list[list[str]]) -> list[nodes.Node]:
            texts = [f"{given}; wanted: {wanted}; {remedy}" for given, wanted, remedy in rows]
            items = [nodes.list_item("", nodes.paragraph(text, text)) for text in texts]
            return [nodes.rubric(module, module), nodes.bullet_list("", *items)]

    app.add_directive("messages", Messages)
    return {"parallel_read_safe": True}
