"""The role src: from a formula to the function that implements it, and back.

``{src}`theory.action.action` `` links to that function on the page of its module (those of sphinx.ext.viewcode), whose
"docs" link leads back to the formula. A name that is gone is a warning, and with `make docs` an error; the test of the
pages resolves every one of them without Sphinx.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from places import locate
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging
from sphinx.util.docutils import SphinxRole
from sphinx.util.nodes import make_refnode

logger = logging.getLogger(__name__)


class SourceLink(nodes.inline):
    """Replaced by a link once it is known where it stands."""


class Source(SphinxRole):
    """``{src}`theory.action.action` ``."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        try:
            place = locate(self.text)
        except LookupError as error:
            logger.warning("src: %s", error, location=self.get_location())
            return [nodes.literal(self.text, self.text)], []
        settings = {"page": place.page, "module": place.module, "name": place.name, "line": place.line}
        return [SourceLink("", "", nodes.literal(place.label, place.label), classes=["source"], place=settings)], []


def register(app: Any, doctree: nodes.document) -> None:
    """Have viewcode make the page of the module, with an anchor at the function."""
    modules = app.env.__dict__.setdefault("_viewcode_modules", {})
    here = app.env.current_document.docname
    for link in doctree.findall(SourceLink):
        module, name = link["place"]["module"], link["place"]["name"]
        if not modules.get(module):
            analyzer = ModuleAnalyzer.for_module(module)
            analyzer.find_tags()
            modules[module] = analyzer.code, analyzer.tags, {}, module
        _, tags, used, origin = modules[module]
        if name not in tags:
            logger.warning("src: no anchor for %s in %s", name, module, location=link)
        elif used.setdefault(name, here) == here and f"{origin}.{name}" not in doctree.ids:
            link["ids"].append(f"{origin}.{name}")  # where viewcode's way back leads
            doctree.ids[f"{origin}.{name}"] = link


def resolve(app: Any, doctree: nodes.document, docname: str) -> None:
    """Make the links."""
    for link in list(doctree.findall(SourceLink)):
        place, inner = link["place"], link.children[0].deepcopy()
        title = f"{place['name']}, line {place['line']}"
        reference = make_refnode(app.builder, docname, place["page"], place["name"], inner, title)
        link.replace_self(nodes.inline("", "", reference, classes=link["classes"], ids=link["ids"]))


def setup(app: Any) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_node(SourceLink)
    app.add_role("src", Source())
    app.connect("doctree-read", register, priority=600)  # after viewcode
    app.connect("doctree-resolved", resolve)
    return {"parallel_read_safe": False}
