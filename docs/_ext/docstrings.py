"""Docstrings as they are written here, to reStructuredText.

They are plain text: ``code`` in double backticks, lists of ``name: what it is`` without markup, headings underlined
with dashes. Lists become field lists, headings rubrics, and characters that reStructuredText would take for markup are
escaped. Types of public names are linked by the name under which they are documented.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import finitewidth

NAME = r"[a-z]\w*"
FIELD = re.compile(rf"^((?:{NAME})(?:(?:, | and | \.\. ){NAME})*): (\S.*)$")
RULE = re.compile(r"^-{4,}$")
CODE = re.compile(r"(``.+?``)", re.DOTALL)
MARKUP = re.compile(r"([|`]|(?<!\n)(?<!\n  )\*|_(?!\w))")  # a star that begins a line is a bullet


def converted(lines: list[str]) -> Iterator[str]:
    """The docstring's lines in reStructuredText."""
    lines = escaped("\n".join(lines)).split("\n")
    inside = False  # a field, whose later lines are indented below it
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if RULE.match(line):
            continue
        if RULE.match(following):
            yield from ("", f".. rubric:: {line}", "")
            continue
        field = FIELD.match(line.replace("\\_:", "_:"))
        if field:
            if not inside:
                yield ""
            inside = True
            yield f":{field[1]}: {field[2]}".replace("_:", r"\_:")
        elif not line.strip():
            inside = False
            yield ""
        else:
            yield f"    {line.strip()}" if inside else line


def escaped(text: str) -> str:
    """Without accidental markup outside of ``code``."""
    return "".join(part if part.startswith("``") else MARKUP.sub(r"\\\1", part) for part in CODE.split(text))


def _process(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    lines[:] = list(converted(lines))


def _public(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Link a type of the package under its public name."""
    target = node.get("reftarget", "")
    name = target.rpartition(".")[2]
    module = finitewidth._PUBLIC.get(name)
    if node.get("refdomain") != "py" or module is None or target == f"finitewidth.{name}":
        return None
    domain = env.get_domain("py")
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", f"finitewidth.{name}", node, contnode)


def setup(app: Any) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("autodoc-process-docstring", _process)
    app.connect("missing-reference", _public)
    return {"parallel_read_safe": True}
