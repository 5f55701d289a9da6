"""The source holds no door to code in data: no pickle, eval, exec, YAML tags or shell. Read from the syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import finitewidth

SOURCE = Path(finitewidth.__file__).parent
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "subprocess", "ctypes", "pty"}
ALLOWED = {"sweeps/cluster.py": {"ctypes"}}  # interrupts a thread of a worker, which Python itself has no call for
BUILT_IN = {"eval", "exec", "compile", "__import__", "breakpoint"}
CALLS = {
    *("os.system", "os.popen", "os.execv", "os.spawnl", "np.load", "numpy.load", "pandas.read_pickle"),
    *(
        "yaml.load",
        "yaml.load_all",
        "yaml.unsafe_load",
        "yaml.full_load",
    ),
}
LOADERS = {"yaml.Loader", "yaml.UnsafeLoader", "yaml.FullLoader", "yaml.CLoader"}


def name_of(node: ast.AST) -> str:
    """yaml.SafeLoader, from its syntax tree."""
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def doors(tree: ast.AST) -> Iterator[str]:
    """Everything in a module that could run what data hold, with its line."""
    for node in ast.walk(tree):
        found = []
        if isinstance(node, ast.Import):
            found = [a.name for a in node.names if a.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found = [node.module] if node.module.split(".")[0] in MODULES else []
        elif isinstance(node, ast.Call):
            called = name_of(node.func)
            found = [called] if called in BUILT_IN | CALLS else []
            for keyword in node.keywords:
                true = isinstance(keyword.value, ast.Constant) and keyword.value.value is True
                if keyword.arg in ("shell", "allow_pickle") and true:
                    found.append(f"{keyword.arg}=True")
            if called.endswith("format.read_array") and not any(k.arg == "allow_pickle" for k in node.keywords):
                found.append(f"{called} without allow_pickle=False")
        elif isinstance(node, ast.Attribute) and name_of(node) in LOADERS:
            found = [name_of(node)]
        yield from (f"line {node.lineno}: {what}" for what in found)


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_door(path):
    allowed = ALLOWED.get(path.relative_to(SOURCE).as_posix(), set())
    found = list(doors(ast.parse(path.read_text(encoding="utf-8"))))
    assert {door.partition(": ")[2] for door in found} == allowed, found


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "eval('1')",
        "yaml.load(text)",
        "yaml.compose(text, Loader=yaml.UnsafeLoader)",
        "np.load(path)",
        "np.save(file, x, allow_pickle=True)",
        "run('ls', shell=True)",
        "np.lib.format.read_array(stream)",
        "os.system('true')",
    ],
)
def test_every_door_would_be_seen(code):
    assert len(list(doors(ast.parse(code)))) == 1
