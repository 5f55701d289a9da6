"""The counts by which the structure is judged: ``python tools/structure.py`` prints them."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import finitewidth

SOURCE = Path(finitewidth.__file__).parent
NETWORKS = (
    "FullyConnected",
    "LocalNetwork",
    "Convolutional",
    "LocallyConnected",
    "LayeredNetwork",
    "Network",
    "Coupled",
)
THEORIES = (
    *("Theory", "ScaledKernel", "Nested", "IntegratedScale", "SeveralOutputs", "LocalRenormalisation"),
    *("General", "CovarianceSaddle", "NeuronTheory"),
)
JOB = {
    *(
        "network",
        "what",
        "train",
        "test",
        "x",
        "source",
        "target",
        "temperature",
        "method",
        "methods",
        "widths",
        "n_train",
    ),
    *(
        "activation",
        "weight_precision",
        "offset_precision",
        "readout",
        "patch",
        "stride",
        "padding",
        "pool",
        "input_shape",
    ),
    *("channels", "closure", "layers"),
}  # parameters that describe networks, data, likelihood, method


def trees() -> Iterator[tuple[Path, ast.Module]]:
    """Every module and its syntax tree."""
    for path in sorted(SOURCE.rglob("*.py")):
        yield path.relative_to(SOURCE), ast.parse(path.read_text())


def decisions(classes: tuple[str, ...], room: str) -> list[str]:
    """Places outside a room that ask what class something is (isinstance, type(..) is)."""
    found = []
    for path, tree in trees():
        if path.parts[0] == room:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance" and len(node.args) == 2:
                names = {getattr(part, "id", getattr(part, "attr", "")) for part in ast.walk(node.args[1])}
                if names & set(classes):
                    found.append(f"{path}:{node.lineno}")
    return found


def returning_any() -> list[str]:
    """Functions whose return type is Any."""
    return [
        f"{path}:{node.lineno} {node.name}"
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and getattr(node.returns, "id", "") == "Any"
    ]


def many_parameters(most: int = 8) -> list[str]:
    """Public functions, and estimators, with more parameters that are not part of the job."""
    found = []
    for name in finitewidth.__all__:
        value = getattr(finitewidth, name)
        if inspect.isfunction(value) or hasattr(value, "fit"):
            own = [p for p in inspect.signature(value).parameters if p not in JOB]
            if len(own) > most:
                found.append(f"{name} ({len(own)}: {', '.join(own)})")
    return found


def lines() -> int:
    """Of source."""
    return sum(
        len(path.read_text().splitlines()) for path in SOURCE.rglob("*") if path.suffix in (".py", ".css", ".js")
    )


def rooms() -> list[str]:
    """Folders and modules at the top."""
    return sorted(
        p.name for p in SOURCE.iterdir() if re.fullmatch(r"[a-z]\w*(\.py)?", p.name) and p.name != "__pycache__"
    )


def main() -> None:
    """Print every count, and the places behind those that are few."""
    for what, found in (
        ("decisions on the class of a network outside networks/", decisions(NETWORKS, "networks")),
        ("decisions on the class of a theory outside theory/", decisions(THEORIES, "theory")),
        ("functions that return Any", returning_any()),
        ("public functions with more than 8 parameters that are not part of the job", many_parameters()),
    ):
        print(f"{len(found):4d}  {what}", *(f"        {place}" for place in found), sep="\n")
    print(f"{len(rooms()):4d}  rooms: {', '.join(rooms())}")
    print(f"{lines():,} lines of source")


if __name__ == "__main__":
    main()
