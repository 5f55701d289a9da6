"""The role src: from a formula to the function that implements it, and back.

``{src}`theory.action.action` `` links to that function on the page of its module (those of sphinx.ext.viewcode), whose
"docs" link leads back to the formula. A name that is gone is a warning, and with `make docs` an error; the test of the
pages resolves every one of them without Sphinx.
"""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from typing import Any

PACKAGE = "finitewidth"
PAGES = "_modules"


@dataclass(frozen=True)
class Place:
    """Where a function or class is defined. name: within the module, "Class.method". line: its first."""

    module: str
    name: str
    line: int

    @property
    def page(self) -> str:
        """The document that shows the module."""
        return f"{PAGES}/{self.module.replace('.', '/')}"

    @property
    def label(self) -> str:
        """How a link to it reads."""
        path = self.module.removeprefix(f"{PACKAGE}.").replace(".", "/")
        return f"{path}.py: {self.name}"


def locate(text: str) -> Place:
    """The place of ``theory.action.scalar_rate``; LookupError where there is no such function or class."""
    parts = [PACKAGE, *text.split(".")]
    for end in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        try:
            for name in parts[end:]:
                found = inspect.getattr_static(found, name)
        except AttributeError as error:
            raise LookupError(f"no {text} in {PACKAGE}") from error
        return _place(found, text)
    raise LookupError(f"no {text} in {PACKAGE}")


def _place(found: Any, text: str) -> Place:
    for wrapper in ("fget", "func", "__func__", "__wrapped__"):  # properties, cached ones, class methods, decorators
        found = getattr(found, wrapper, found)
    if not (inspect.isfunction(found) or inspect.isclass(found)) or not found.__module__.startswith(PACKAGE):
        raise LookupError(f"{text} is neither a function nor a class of {PACKAGE}")
    return Place(found.__module__, found.__qualname__, inspect.getsourcelines(found)[1])


def setup(app: Any) -> dict[str, Any]:
    """Register with Sphinx."""
    from docutils import nodes
    from sphinx.pycode import ModuleAnalyzer
    from sphinx.util import logging
    from sphinx.util.docutils import SphinxRole
    from sphinx.util.nodes import make_refnode

    logger = logging.getLogger(__name__)

    class SourceLink(nodes.inline):
        """Replaced by a link once it is known where it stands."""

    class Source(SphinxRole):
        def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
            try:
                place = locate(self.text)
            except LookupError as error:
                logger.warning("src: %s", error, location=self.get_location())
                return [nodes.literal(self.text, self.text)], []
            return [SourceLink("", "", nodes.literal(place.label, place.label), place=place, classes=["source"])], []

    def register(app: Any, doctree: Any) -> None:
        """Have viewcode make the page of the module, with an anchor at the function."""
        modules = app.env.__dict__.setdefault("_viewcode_modules", {})
        for link in doctree.findall(SourceLink):
            place = link["place"]
            if not modules.get(place.module):
                analyzer = ModuleAnalyzer.for_module(place.module)
                analyzer.find_tags()
                modules[place.module] = analyzer.code, analyzer.tags, {}, place.module
            _, tags, used, origin = modules[place.module]
            if place.name not in tags:
                logger.warning("src: no anchor for %s in %s", place.name, place.module, location=link)
                continue
            if used.setdefault(place.name, app.env.current_document.docname) == app.env.current_document.docname:
                target = f"{origin}.{place.name}"
                if target not in doctree.ids:  # where viewcode's way back leads
                    link["ids"].append(target)
                    doctree.ids[target] = link

    def resolve(app: Any, doctree: Any, docname: str) -> None:
        for link in list(doctree.findall(SourceLink)):
            place = link["place"]
            inner = link.children[0].deepcopy()
            reference = make_refnode(app.builder, docname, place.page, place.name, inner, f"line {place.line}")
            link.replace_self(nodes.inline("", "", reference, classes=link["classes"], ids=link["ids"]))

    app.add_role("src", Source())
    app.connect("doctree-read", register, priority=600)  # after viewcode
    app.connect("doctree-resolved", resolve)
    return {"parallel_read_safe": False}
