"""Imports run one way (DESIGN.md) and never in circles; `import finitewidth` is light and changes nothing.

Imports inside functions count; those under ``if TYPE_CHECKING`` do not.
"""

from __future__ import annotations

import ast
import functools
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import finitewidth

SOURCE = Path(finitewidth.__file__).parent
ROOT = "finitewidth"
ORDER = (  # a unit imports from rows above its own, and from its neighbours only in the first row
    ("checks", "display", "linalg", "activations", "data"),
    ("networks",),
    ("kernels", "inference"),
    ("runs",),
    ("theory", "sampling", "training"),
    ("jobs",),
    ("curves", "features"),
    ("estimators",),
    ("sweeps",),
    ("report",),
    ("studies",),
    ("cli",),
)
RANK = {unit: rank for rank, units in enumerate(ORDER) for unit in units}


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join((ROOT, *(parts[:-1] if parts[-1] == "__init__" else parts)))


MODULES = {module_name(path): path for path in sorted(SOURCE.rglob("*.py"))}


def is_type_checking(test: ast.expr) -> bool:
    return "TYPE_CHECKING" in (getattr(test, "id", ""), getattr(test, "attr", ""))


def import_nodes(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Every import below ``node`` that happens when the program runs."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child
        elif isinstance(child, ast.If) and is_type_checking(child.test):
            for other in child.orelse:
                yield from import_nodes(ast.Module([other], []))
        else:
            yield from import_nodes(child)


def resolve(target: str) -> str:
    """The module behind a dotted name: itself, the module of a public name of the package, or its parent."""
    parent, _, name = target.rpartition(".")
    if target in MODULES:
        return target
    if parent == ROOT and name in finitewidth._PUBLIC:
        return f"{ROOT}.{finitewidth._PUBLIC[name]}"
    return parent


def imported(module: str, tree: ast.AST) -> Iterator[str]:
    """The modules of this package that ``module`` imports."""
    for node in import_nodes(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            assert node.level == 0, f"{module} imports relatively in line {node.lineno}"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (resolve(name) for name in names if name.split(".")[0] == ROOT)


@functools.cache
def imports_of(module: str) -> set[str]:
    return set(imported(module, ast.parse(MODULES[module].read_text(encoding="utf-8"))))


def unit_of(module: str) -> str:
    return ([*module.split("."), ""])[1]


def complaint(module: str, target: str) -> str | None:
    """What is wrong with ``module`` importing ``target``, if anything."""
    ours, theirs = unit_of(module), unit_of(target)
    if ours == theirs or not theirs:  # the root itself holds no code but the version
        return None
    if not ours:
        return f"{module} imports {target} at run time; it resolves names on first use"
    if RANK[ours] > RANK[theirs] or RANK[ours] == RANK[theirs] == 0:
        return None
    return f"{module} imports {target}"


def test_every_module_has_its_place():
    homeless = {unit_of(module) for module in MODULES} - set(RANK) - {""}
    assert not homeless, f"add {homeless} to ORDER"


def test_imports_run_one_way():
    complaints = [complaint(m, t) for m in MODULES if unit_of(m) in {"", *RANK} for t in imports_of(m)]
    assert not (found := sorted(filter(None, complaints))), "\n".join(found)


def test_no_cycles():
    graph = {module: imports_of(module) - {ROOT, module} for module in MODULES}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


@pytest.mark.parametrize(
    ("module", "code", "wrong"),
    [
        ("finitewidth.theory.x", "from finitewidth import kernels", False),
        ("finitewidth.theory.x", "def f():\n    from finitewidth.sampling import run", True),
        ("finitewidth.kernels.x", "import finitewidth.theory", True),
        ("finitewidth.kernels.x", "from finitewidth import Solution", True),
        ("finitewidth.sampling.x", "from finitewidth import solve", True),
        ("finitewidth.curves.x", "from finitewidth.jobs.job import Job", False),
        ("finitewidth.networks.x", "if TYPE_CHECKING:\n    from finitewidth.theory import Theory", False),
        ("finitewidth.data.x", "from finitewidth import linalg", False),
        ("finitewidth", "from finitewidth.data import Dataset", True),
    ],
)
def test_the_rule_has_teeth(module, code, wrong):
    assert any(complaint(module, target) for target in imported(module, ast.parse(code))) == wrong


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_import_is_light():
    heavy = ("jax", "sklearn", "matplotlib", "typer", "rich", "pandas", "scipy", "numpy")
    assert run(f"import finitewidth, sys; print([m for m in {heavy} if m in sys.modules])") == "[]"


def test_help_is_light():
    heavy = ("jax", "sklearn", "matplotlib", "pandas", "scipy", "numpy")
    assert run(f"import finitewidth.cli, sys; print([m for m in {heavy} if m in sys.modules])") == "[]"


def test_all_public_names_load_without_optional_libraries():
    """JAX's settings are so left alone too."""
    optional = ("jax", "matplotlib", "typer", "optax", "blackjax", "arviz", "mlxtend", "PIL")
    code = f"""
import finitewidth as fw, sys
for name in fw.__all__:
    getattr(fw, name)
print([m for m in {optional} if m in sys.modules])
"""
    assert run(code) == "[]"
