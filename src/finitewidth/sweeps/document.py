"""A YAML file as plain data that remember their lines. No tags, no references, no key twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from finitewidth.checks.exceptions import InputError, needed
from finitewidth.data.files import existing

if TYPE_CHECKING:
    from yaml import Node, SafeLoader

MOST_BYTES = 2**18  # PyYAML takes seconds and hundreds of megabytes for them
_LONGEST = 4096  # characters of a value; numbers in base 60 take quadratic time
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
        existing(path)  # a pipe would never end
        if path.stat().st_size > MOST_BYTES:
            large = f"{str(path)!r}, which is larger than {MOST_BYTES // 2**10} KiB"
            raise InputError(large, "a plan", "write a grid, not its points")
        try:
            return cls.of(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise InputError(f"{str(path)!r} ({reason})", "a plan, a YAML file", "check the path") from error

    @classmethod
    def of(cls, text: str, name: str = "plan") -> Document:
        """See ``read``."""
        with needed("PyYAML", "sweep", "a plan"):
            import yaml
        lines: dict[Place, int] = {}
        try:
            loader = _loader(name, text)
            values = _plain(name, loader.get_single_node(), (), lines, loader)
        except InputError:
            raise
        except (yaml.YAMLError, ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
            mark = getattr(error, "problem_mark", None)
            place = name if mark is None else f"{name}, line {mark.line + 1}"
            problem = getattr(error, "problem", None) or (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(f"{place}: {problem}", "YAML", "see docs/sweeps.md for an example") from error
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


def _loader(name: str, text: str) -> SafeLoader:
    """Of plain YAML: tags could ask for objects, references for exponentially much, nesting for hours."""
    import yaml

    class Loader(yaml.SafeLoader):
        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            event = self.peek_event()
            what = None
            if isinstance(event, yaml.AliasEvent) or event.anchor:
                what = "an anchor or a reference (& or *)"
            elif event.tag is not None:
                what = f"the tag {event.tag}"
            elif len(getattr(event, "value", "")) > _LONGEST:
                what = f"a value of {len(event.value)} characters"
            elif self.depth > _DEEPEST:
                what = f"lists within lists, more than {_DEEPEST} deep"
            if what is not None:
                line = event.start_mark.line + 1
                raise InputError(f"{name}, line {line}: {what}", "plain texts, numbers, lists", "write the value out")
            self.depth += 1
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

    return Loader(text)


def _plain(name: str, node: Node | None, place: Place, lines: dict[Place, int], loader: SafeLoader) -> object:
    """Plain data of a node; notes the lines of all below."""
    import yaml

    if node is None:
        return None
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.ScalarNode):
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
