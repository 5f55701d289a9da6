"""A YAML file as plain data that remember their lines. No tags, no references, no key twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from finitewidth.checks.exceptions import InputError, MissingExtraError
from finitewidth.data.files import existing

if TYPE_CHECKING:
    from yaml import Node, SafeLoader

MOST_BYTES = 8 * 2**20
_MOST_EVENTS = 300_000  # keys, values and lists of a file: beyond, reading takes minutes and gigabytes
_LONGEST, _LONGEST_NUMBER = 4096, 100  # characters of a value; numbers in base 60 take quadratic time
_DEEPEST = 8
Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """name: what messages call it. values: plain data. lines: of every key and item, by its place."""

    name: str
    values: Any
    lines: dict[Place, int] = field(default_factory=dict)
    text: str = ""

    @classmethod
    def read(cls, path: Path) -> Document:
        """Raises InputError for a file that is not YAML, with the line; MissingExtraError without PyYAML."""
        return cls.of(_text(path), str(path))

    @classmethod
    def of(cls, text: str, name: str = "plan") -> Document:
        """See ``read``."""
        yaml = _yaml()
        try:
            _refuse_references(name, text)
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            lines: dict[Place, int] = {}
            values = _plain(name, node, (), lines, yaml.SafeLoader(""))
        except (yaml.YAMLError, ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
            if isinstance(error, InputError):
                raise
            raise _no_yaml(name, error) from error
        return cls(name, values, lines, text)

    def refuse(self, place: Sequence[str | int], given: str, wanted: str, remedy: str) -> NoReturn:
        """Raise InputError that names the line of the nearest known place."""
        raise InputError(f"{self.where(place)}: {given}", wanted, remedy)

    def where(self, place: Sequence[str | int]) -> str:
        """plan.yaml, line 7."""
        found = tuple(place)
        while found and found not in self.lines:
            found = found[:-1]
        return f"{self.name}, line {self.lines[found]}" if found in self.lines else self.name


def _yaml() -> ModuleType:
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError("PyYAML", "sweep", "a plan") from error
    return yaml


def _text(path: Path) -> str:
    wanted = "a plan, a YAML file"
    try:
        existing(path)  # a pipe would never end
        if path.stat().st_size <= MOST_BYTES:
            return path.read_text(encoding="utf-8")
    except InputError as error:
        raise InputError(error.given, wanted, error.remedy) from error
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputError(f"{str(path)!r} ({reason})", wanted, "check the path") from error
    large = f"{str(path)!r}, which is larger than {MOST_BYTES // 2**20} MiB"
    raise InputError(large, "a plan", "write a grid, not its points")


def _refuse_references(name: str, text: str) -> None:
    """Tags could ask for objects, references for exponentially much, nesting for hours."""
    yaml = _yaml()
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
        what = f"more than {_MOST_EVENTS} keys and values" if count > _MOST_EVENTS else None
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            what = f"lists within lists, more than {_DEEPEST} deep"
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            what = "an anchor or a reference (& or *)"
        elif not what and getattr(event, "tag", None) is not None:
            what = f"the tag {event.tag}"
        elif not what and len(getattr(event, "value", "")) > _LONGEST:
            what = f"a value of {len(event.value)} characters"
        if what:
            line = event.start_mark.line + 1
            raise InputError(f"{name}, line {line}: {what}", "plain texts, numbers, lists", "write the value out")


def _plain(name: str, node: Node | None, place: Place, lines: dict[Place, int], loader: SafeLoader) -> object:
    """Plain data of a node; notes the lines of all below."""
    yaml = _yaml()
    if node is None:
        return None
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.ScalarNode):
        if not node.tag.endswith(":str") and len(node.value) > _LONGEST_NUMBER:
            line = node.start_mark.line + 1
            raise InputError(f"{name}, line {line}: a number of {len(node.value)} digits", "a shorter one", "round it")
        return loader.construct_object(node)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(name, item, (*place, i), lines, loader) for i, item in enumerate(node.value)]
    found: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        key = loader.construct_object(key_node) if isinstance(key_node, yaml.ScalarNode) else None
        if not isinstance(key, str):
            raise InputError(f"{name}, line {line}: a key that is no word", "a key", "see docs/sweeps.md")
        if key in found:
            before = lines[(*place, key)]
            raise InputError(
                f"{name}, line {line}: {key} a second time (first in line {before})", "every key once", "keep one"
            )
        lines[(*place, key)] = line
        found[key] = _plain(name, value_node, (*place, key), lines, loader)
    return found


def _no_yaml(name: str, error: Exception) -> InputError:
    mark = getattr(error, "problem_mark", None)
    place = name if mark is None else f"{name}, line {mark.line + 1}"
    problem = getattr(error, "problem", None) or (str(error).splitlines() or [type(error).__name__])[0]
    return InputError(f"{place}: {problem}", "YAML", "see docs/sweeps.md for an example")
