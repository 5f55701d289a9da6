"""Where in the package a dotted name is defined: what the role src links to. Without Sphinx, for the tests."""

from __future__ import annotations

import functools
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


@functools.cache
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
    return Place(found.__module__, found.__qualname__, inspect.findsource(found)[1] + 1)
