"""The commands that pages name: whether what they name exists, and how they are run.

Run at the size of ``SMALL`` (appended: of an option given twice the last counts), so that every documented command can
be, with every option that is written. Studies compute nothing, and figures are made but not written: that is for their
own tests.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import itertools
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import typer

from finitewidth.data import digits

ROOT = Path(__file__).parents[2]
ASSIGNMENT = re.compile(r"^[A-Z_]+=")
COMMAND = re.compile(r"^(?:[A-Z_]+=\S+ )*(?:finitewidth|make|python|pytest|pip)(?: |$)")
PLACEHOLDER = re.compile(r"\b[A-Z]{2,}\b|[$]")  # DIR, NAME.py, $HOME
_DATA = "--n-train 20 --n-test 10"
_CHAINS = f"{_DATA} --chains 2 --draws 20 --warmup 20"
_TRAINED = f"{_DATA} --steps 20 --seeds 2"
SMALL = {"predict": _DATA, "sample": _CHAINS, "train": _TRAINED, "study": "--n-train 12 --n-test 8"}


def commands(text: str) -> Iterator[list[str]]:
    """The words of every command in shell lines, without the variables set for it; ``&&`` joins several."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            if command := list(itertools.dropwhile(ASSIGNMENT.match, words[:end])):
                yield command
            words = words[end + 1 :]


# --- what they name ------------------------------------------------------------------------------------


def missing(command: list[str]) -> str:
    """What a command names and is not there; empty if all is."""
    program, *arguments = command
    if program == "finitewidth":
        return _misused(arguments)
    plain = [word for word in arguments if not word.startswith("-") and not ASSIGNMENT.match(word)]
    if program == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        return ", ".join(sorted(set(plain) - set(targets)))
    if program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
            "optional-dependencies"
        ]
        return ", ".join(set(re.findall(r"\[(\w+)\]", " ".join(plain))) - set(extras))
    if arguments[0] == "-m":
        return "" if importlib.util.find_spec(arguments[1]) else arguments[1]
    scripts = [word for word in plain if word.endswith(".py") and not PLACEHOLDER.search(word)]
    return ", ".join(script for script in scripts if not (ROOT / script).exists())


@functools.cache
def _program() -> typer.core.TyperGroup:
    from finitewidth.cli import app

    return typer.main.get_command(app)


def _misused(arguments: list[str]) -> str:
    """What the command line would say of the names of command and options."""
    given = [word for word in arguments if word not in ("--help", "--version")]
    try:
        if given:
            _program().commands[given[0]].make_context(given[0], given[1:])
    except KeyError:
        return given[0]
    except Exception as error:  # Typer's own class is private
        return str(error)
    return ""


@functools.cache
def options() -> set[str]:
    """Every option of the command line, and of the scripts beside the package."""
    program = _program()
    known = {name for command in [program, *program.commands.values()] for p in command.params for name in p.opts}
    scripts = [path for folder in ("benchmarks", "tools", "tests") for path in (ROOT / folder).rglob("*.py")]
    return known | {name for path in scripts for name in re.findall(r'"(--[a-z-]+)"', path.read_text(encoding="utf-8"))}


# --- how they are run ----------------------------------------------------------------------------------


def finitewidth(arguments: list[str], status: int = 0, whole: bool = False) -> None:
    """Run a command in this folder, at its own size where ``whole``; it has to leave with this exit status."""
    from finitewidth.cli import main

    with contextlib.ExitStack() as quick:
        if not whole:
            quick.enter_context(mock.patch("finitewidth.report.plots.save", lambda figure, path: path))
        if not whole and arguments[0] == "study":
            quick.enter_context(_studies_that_compute_nothing())
        left = main(arguments if whole else small(arguments))
    assert left == status, f"finitewidth {shlex.join(arguments)}: exit status {left}, wanted {status}"


def small(arguments: list[str]) -> list[str]:
    """The same command with few points and draws, and one narrow network where it is sampled."""
    smaller = SMALL.get(_work(arguments), "").split()
    if "--n-train" in arguments and int(arguments[arguments.index("--n-train") + 1]) < 20:
        return arguments  # small as it is
    if "--chains" in smaller and "--width" in arguments:
        smaller += ["--width", "4"]
    if "--within" in arguments:
        smaller += ["--within", "50%"]
    return [*arguments, *smaller]


def _work(arguments: list[str]) -> str:
    """The command, or the one that does the same as a method of it."""
    if arguments[0] not in ("predict", "compare"):
        return arguments[0]
    option, default = ("--method", "saddle") if arguments[0] == "predict" else ("--methods", "saddle,sample")
    methods = arguments[arguments.index(option) + 1] if option in arguments else default
    return next((name for name in ("sample", "train") if name in methods.split(",")), "predict")


def _studies_that_compute_nothing() -> contextlib.AbstractContextManager[object]:
    from tests.studies.test_study import findings

    from finitewidth.studies import STUDIES

    return mock.patch.dict(STUDIES, {name: replace(study, compute=findings) for name, study in STUDIES.items()})


def make_files(folder: Path, text: str) -> None:
    """What a reader would have: the repository's examples, and the files named in a page that are the reader's own."""
    (folder / "examples").symlink_to(ROOT / "examples")
    for name, write in FILES.items():
        if name in text:
            write(folder / name)


def _parts(path: Path) -> None:
    train, test = digits(classes=(6, 9), n_train=40, n_test=20)
    np.savez(path, x_train=train.x, y_train=train.y, x_test=test.x, y_test=test.y)


def _prices(path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((60, 3))
    np.savetxt(path, rows, delimiter=",", header="size,rooms,price", comments="")


def _photos(path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(path, x=rng.integers(0, 256, (1500, 32, 32, 3), np.uint8), y=rng.integers(0, 2, 1500))


FILES: dict[str, Callable[[Path], None]] = {
    "my.npz": _parts,
    "big.npz": _parts,
    "my.csv": _prices,
    "cifar10.npz": _photos,
}
