"""The quick tests with the oldest, or the newest, versions of the dependencies: `make oldest`, `make newest`.

Oldest are the lower bounds of pyproject.toml, to the letter; newest is what pip takes when nothing is locked. Each has
a virtual environment of its own, kept between calls.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

from environments import ROOT, Environment, Failed, stream

# of the tools that test, the newest: what they may be is of no concern to a user
TOOLS = ("hypothesis", "pytest", "pytest-benchmark", "pytest-xdist", "ruff")
BOUND = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)\s*>=\s*(?P<version>[0-9][0-9a-z.]*)")


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements(described: dict) -> list[str]:
    """Of the core and of every extra that users install; ``dev`` is ours, ``all`` only names the others."""
    extras = described["optional-dependencies"]
    return [
        *described["dependencies"],
        *(line for name in extras if name not in ("all", "dev", "docs") for line in extras[name]),
    ]


def lowest(lines: list[str]) -> dict[str, str]:
    """Lower bound of every requirement; ValueError for one that has none."""
    found = {}
    for line in lines:
        match = BOUND.match(line)
        if match is None:
            raise ValueError(f"{line!r} in pyproject.toml has no lower bound to test; write NAME>=VERSION")
        found[match["name"]] = match["version"]
    return found


def installed(kind: str, folder: Path) -> Environment:
    """The environment with this package, editable, all its extras, and what runs the tests."""
    environment = Environment(folder)
    wanted = [f"{name}=={version}" for name, version in lowest(requirements(project())).items()]
    stamp, state = folder / ".installed", "\n".join([kind, *wanted])
    if kind == "oldest" and stamp.exists() and stamp.read_text() == state:
        return environment
    if not environment.python.exists() or kind == "oldest":
        Environment.fresh(folder)
    options = ["--upgrade", "--upgrade-strategy", "eager"]
    if kind == "oldest":
        bounds = folder / "bounds.txt"
        bounds.write_text("\n".join(wanted) + "\n", encoding="utf-8")
        options = ["--constraint", str(bounds)]
    environment.pip("install", *options, "--editable", ".[all]", *TOOLS)
    stamp.write_text(state)
    return environment


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in ("oldest", "newest"):
        print("which versions? python tools/supported.py oldest|newest [PYTEST ARGUMENTS]", file=sys.stderr)
        return 2
    kind, *pytest = arguments
    print(f"installing the {kind} supported versions (minutes, the first time)", flush=True)
    try:
        environment = installed(kind, ROOT / f".venv-{kind}")
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    names = sorted(lowest(requirements(project())))
    code = "import importlib.metadata as m, sys; print(*(f'{n} {m.version(n)}' for n in sys.argv[1:]), sep=', ')"
    print(f"{kind}: {environment.run('-c', code, *names).strip()}", flush=True)
    # old versions meet newer ones of what they need in turn, which warn of uses that are going out
    warnings = ["-W", "default", "-W", "ignore::DeprecationWarning"] if kind == "oldest" else []
    command = [str(environment.python), "-m", "pytest", *warnings, *pytest]
    # other releases of JAX may not have the flags with which tests/conftest.py makes compiling quick
    return stream(command, extra={"OPENBLAS_NUM_THREADS": "1", "FULLY_OPTIMISED": "1"})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
