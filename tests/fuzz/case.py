"""What a case is, and what may come of it."""

from __future__ import annotations

import contextlib
import io
import random
import shutil
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finitewidth.checks.exceptions import InputError, MissingExtraError

SECONDS = 60  # after which a case counts as hanging
ACCEPTED, REFUSED, ESCAPED = "accepted", "refused", "escaped"


@dataclass(frozen=True)
class Target:
    """A reader or a function.

    run(rng, folder): makes one case from ``rng`` (and the valid files of ``make``), and lets the package have it; what
    it raises is judged, what it returns is not. ``folder`` is empty at the start of every case.
    make(folder): valid files to mutate, made once a process. kind: "reader" or "function". cost: seconds a case, about.
    """

    name: str
    run: Callable[[random.Random, Path, Any], Any]
    make: Callable[[Path], Any] = lambda folder: None
    kind: str = "reader"
    cost: float = 0.003


@dataclass
class Tally:
    """Counts of a target, and the escapes with the cases that they came from."""

    tried: int = 0
    accepted: int = 0
    refused: int = 0
    escapes: list[tuple[int, str]] = field(default_factory=list)

    def add(self, index: int, outcome: str, told: str) -> None:
        self.tried += 1
        self.accepted += outcome == ACCEPTED
        self.refused += outcome == REFUSED
        if outcome == ESCAPED:
            self.escapes.append((index, told))


class Hang(BaseException):
    """A case that takes longer than SECONDS; no ``except Exception`` stops it."""


class Runner:
    """One target with its folder; ``run(index)`` does one case."""

    def __init__(self, target: Target, folder: Path) -> None:
        self.target, self.folder = target, folder
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "valid").mkdir(parents=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.valid = target.make(folder / "valid")

    def run(self, index: int, seconds: int = SECONDS) -> tuple[str, str]:
        """(outcome, where it escaped)."""
        return self.judged(random.Random(f"{self.target.name}:{index}"), seconds)

    def judged(self, rng: random.Random, seconds: int = SECONDS) -> tuple[str, str]:
        case = self.folder / "case"
        shutil.rmtree(case, ignore_errors=True)
        case.mkdir()
        try:
            with quiet(), alarm(seconds):
                self.target.run(rng, case, self.valid)
        except (InputError, MissingExtraError) as error:
            return (REFUSED, "") if three_parts(error) else (ESCAPED, f"no three parts: {error}")
        except Hang:
            return ESCAPED, f"hangs: {traceback.format_exc(limit=-3)}"
        except Exception as error:
            return ESCAPED, place(error)
        left = [path.name for path in case.rglob("*.part")]
        return (ESCAPED, f"partial files {left}") if left else (ACCEPTED, "")


def three_parts(error: Exception) -> bool:
    """Whether a message says what was given, what is wanted, what to do; in one line that a terminal may be shown."""
    text = str(error)
    if not text.isprintable() or len(text) > 4000:
        return False
    if isinstance(error, InputError):
        parts = [error.given, error.wanted, error.remedy]
        return all(isinstance(part, str) and part.strip() for part in parts) and "; wanted: " in text
    return "; wanted: " in text


def place(error: BaseException) -> str:
    """Where an error left the package: the same defect gives the same text."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "finitewidth" in f.filename]
    at = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "outside the package"
    return f"{type(error).__name__} at {at}: {' '.join(str(error).split())[:200]}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No warnings, and nothing on stdout and stderr."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def alarm(seconds: int) -> Iterator[None]:
    """``Hang`` after so many seconds, in the main thread.

    Counted in ticks: those that a process sleeps through because it was stopped count as one.
    """
    ticks = 0

    def ring(*_: Any) -> None:
        nonlocal ticks
        ticks += 1
        if ticks >= seconds:
            raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 1.0, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def command(arguments: list[str]) -> None:
    """``finitewidth`` with these arguments; raises what its exit status means."""
    from finitewidth import cli

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main(arguments)
    said = err.getvalue()
    if status == 0:
        return
    lines = said.strip().splitlines()
    if status != 2 or len(lines) != 1 or not lines[0].isprintable() or "Traceback" in said:
        raise RuntimeError(f"exit status {status} with {said[-300:]!r}")
    raise InputError("bad input", "other input", "as the line on stderr says")
