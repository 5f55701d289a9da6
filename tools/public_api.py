"""The public face of finitewidth as text, one line a name, in docs/api.txt: `python tools/public_api.py` writes it.

tests/test_public_face.py compares, so that nothing public changes unnoticed. What the lines promise: CONTRIBUTING.md.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, get_args, get_type_hints

FILE = Path(__file__).parents[1] / "docs" / "api.txt"
COMMAND = "make api"
PLACES = (
    "finitewidth",
    "finitewidth.data",
    "finitewidth.features",
    "finitewidth.kernels",
    "finitewidth.networks",
    "finitewidth.sampling",
    "finitewidth.sweeps",
    "finitewidth.theory",
    "finitewidth.training",
)
HEAD = f"""# Every public name of finitewidth with its signature, and every command with its options.
# Written by `{COMMAND}`; compared by tests/test_public_face.py; what it promises: CONTRIBUTING.md, Deprecations.
"""


class _Verbatim:
    """Text that a signature shows as it is, where it would show a quoted string or an address in memory."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def text() -> str:
    """The whole file."""
    parts = [HEAD.rstrip(), *("\n".join(_place(name)) for name in PLACES), "\n".join(_commands())]
    return "\n\n".join(parts) + "\n"


def _place(name: str) -> Iterator[str]:
    module = importlib.import_module(name)
    yield f"# {name}"
    for member in _names(module):
        thing = getattr(module, member)
        home = _home(thing, member)
        if home is not None and home in PLACES and home != name and len(home) < len(name):
            continue  # listed above, under the shorter name
        yield from _thing(f"{name}.{member}", thing)


def _names(module: ModuleType) -> list[str]:
    """``__all__``, or the public functions and classes that the module itself defines."""
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return sorted(listed)
    defined = {name: thing for name, thing in vars(module).items() if not name.startswith("_")}
    return sorted(name for name, thing in defined.items() if getattr(thing, "__module__", None) == module.__name__)


def _home(thing: Any, member: str) -> str | None:
    """The first public place that has this very thing under this name."""
    for place in PLACES:
        module = importlib.import_module(place)
        if member in _names(module) and getattr(module, member) is thing:
            return place
    return None


def _thing(name: str, thing: Any) -> Iterator[str]:
    if isinstance(thing, ModuleType):
        yield f"{name}: module"
    elif inspect.isclass(thing):
        yield f"{name}{_signature(thing)}"
        yield from (f"    {line}" for line in _members(thing))
    elif callable(thing):
        yield f"{name}{_signature(thing)}"
    else:  # a constant; the version alone changes with every release
        yield f"{name}: {type(thing).__name__}" + ("" if _is_version(name) else f" = {thing!r}")


def _is_version(name: str) -> bool:
    return name.endswith(".__version__")


def _members(cls: type) -> Iterator[str]:
    """Methods, properties and fields that our own classes give it; what libraries add is not ours to promise."""
    ours = [base for base in cls.__mro__ if base.__module__.split(".")[0] == "finitewidth"]
    found: dict[str, str] = {}
    for base in reversed(ours):
        for name, member in vars(base).items():
            line = None if name.startswith("_") else _member(name, member)
            if line is not None:
                found[name] = line
    if dataclasses.is_dataclass(cls):
        for field in dataclasses.fields(cls):
            if not field.name.startswith("_"):
                found[field.name] = f"{field.name}: {_annotation(field.type)}"
    yield from (found[name] for name in sorted(found))


def _member(name: str, member: Any) -> str | None:
    if isinstance(member, property):
        assert isinstance(member.fget, FunctionType)
        return f"{name}: {_returned(member.fget)}  (property)"
    if type(member).__name__ == "cached_property":
        return f"{name}: {_returned(member.func)}  (property)"
    if isinstance(member, (staticmethod, classmethod)):
        return f"{name}{_signature(member.__func__)}  ({type(member).__name__})"
    return f"{name}{_signature(member)}" if isinstance(member, FunctionType) else None


def _returned(function: FunctionType) -> str:
    return _annotation(function.__annotations__.get("return", "Any"))


def _signature(thing: Any) -> str:
    try:
        signature = inspect.signature(thing)
    except (TypeError, ValueError):
        return "(...)"  # an exception or another class without a signature of its own
    parameters = [
        p.replace(annotation=_shown(p.annotation), default=_default(p.default)) for p in signature.parameters.values()
    ]
    result = signature.empty if inspect.isclass(thing) else _shown(signature.return_annotation)
    return str(signature.replace(parameters=parameters, return_annotation=result))


def _shown(annotation: Any) -> Any:
    return annotation if annotation is inspect.Signature.empty else _Verbatim(_annotation(annotation))


def _annotation(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _default(default: Any) -> Any:
    if isinstance(default, FunctionType):
        return _Verbatim(default.__name__)
    return _Verbatim(re.sub(r" object at 0x[0-9a-f]+", "", repr(default))) if " at 0x" in repr(default) else default


def _commands() -> Iterator[str]:
    """From the functions that Typer is given: what it makes of them is its own and changes with its versions."""
    from finitewidth.cli import app

    yield "# finitewidth on the command line"
    registered: Any = app.registered_commands
    functions = {command.name or command.callback.__name__: command.callback for command in registered}
    for name in sorted(functions):
        hints = get_type_hints(functions[name], include_extras=True)
        parameters = inspect.signature(functions[name]).parameters.values()
        yield " ".join(["finitewidth", name, *(p.name.upper() for p in parameters if not _option(hints[p.name]))])
        for parameter in parameters:
            if option := _option(hints[parameter.name]):
                kind = inspect.formatannotation(get_args(hints[parameter.name])[0])
                plain = parameter.default is None or kind == "bool"
                yield f"    {option}: {kind}" + ("" if plain else f" = {parameter.default}")


def _option(hint: Any) -> str:
    """How an option is written, "" for an argument; Typer takes the first name for a default until it runs."""
    (note,) = hint.__metadata__
    names = [note.default, *(note.param_decls or ())]
    return "/".join(name for name in names if str(name).startswith("--"))


def main() -> int:
    FILE.write_text(text(), encoding="utf-8")
    print(f"{FILE.relative_to(FILE.parents[1])}: {len(text().splitlines())} lines")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(FILE.parents[1] / "src"))  # this checkout's, whatever is installed
    sys.exit(main())
