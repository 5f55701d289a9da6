"""Run the cases: ``python -m tests.fuzz --minutes 30``. See the package's docstring."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .case import ESCAPED, SECONDS, Runner, Tally
from .functions import FUNCTIONS
from .readers import READERS

TARGETS = {target.name: target for target in (*READERS, *FUNCTIONS)}
WANTED = {"reader": 20_000, "function": 5_000}
MEMORY = 6 * 2**30  # bytes of address space beyond what a worker starts with
CHUNK = 250
TICK = 0.02  # seconds between two looks at the processes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="wall time after which no further chunk is begun")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", help="names of targets, separated by commas")
    parser.add_argument("--count", type=int, help="cases of every target, in place of 20,000 or 5,000")
    parser.add_argument("--state", type=Path, help="a file of what is done: the same command goes on from there")
    parser.add_argument("--table", type=Path, help="a file for the table, Markdown")
    parser.add_argument("--case", help="one case, target:number, with its traceback")
    given = parser.parse_args()
    if given.case:
        return one(given.case)
    names = given.only.split(",") if given.only else list(TARGETS)
    tallies, seconds = resumed(given.state, names)
    left = list(chunks(names, tallies, given.count))
    started, saved, context = time.monotonic(), 0.0, multiprocessing.get_context("fork")
    place = Path(tempfile.mkdtemp(prefix="finitewidth-fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    running: list[Job] = []
    try:
        while left or running:
            while left and len(running) < given.jobs and time.monotonic() - started < 60.0 * given.minutes:
                name, indices = left.pop(0)
                folder = place / f"{name}-{indices[0]}"
                running.append(Job(context, name, indices, folder))
            if not running:
                break
            running = [job for job in running if not job.ended(tallies[job.name])]
            if given.state and time.monotonic() - saved > 2.0:
                saved = time.monotonic()
                save(given.state, tallies, seconds + saved - started)
            time.sleep(TICK)
        if given.state:
            save(given.state, tallies, seconds + time.monotonic() - started)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    text = table(tallies, seconds + time.monotonic() - started, given.jobs)
    print(text)
    if given.table:
        given.table.write_text(text)
    return 1 if any(tally.escapes for tally in tallies.values()) else 0


def one(case: str) -> int:
    """A single case, raising what it raises."""
    import random

    name, _, index = case.rpartition(":")
    folder = Path(tempfile.mkdtemp(prefix="finitewidth-fuzz-"))
    runner = Runner(TARGETS[name], folder)
    (folder / "case").mkdir()
    print(f"in {folder}", file=sys.stderr)
    runner.target.run(random.Random(f"{name}:{index}"), folder / "case", runner.valid)
    print("accepted")
    return 0


def resumed(path: Path | None, names: list[str]) -> tuple[dict[str, Tally], float]:
    plain = json.loads(path.read_text()) if path is not None and path.exists() else {}
    seconds = float(plain.pop("seconds", 0.0))
    tallies = {name: Tally(**values) for name, values in plain.items()}
    return tallies | {name: Tally() for name in names if name not in tallies}, seconds


def save(path: Path, tallies: dict[str, Tally], seconds: float) -> None:
    """Whole or not at all."""
    draft = path.with_name(f"{path.name}.part")
    draft.write_text(json.dumps({"seconds": seconds} | {name: vars(tally) for name, tally in tallies.items()}))
    os.replace(draft, path)


def chunks(names: list[str], tallies: dict[str, Tally], count: int | None) -> Iterator[tuple[str, list[int]]]:
    """What is left, every target in turn: when time is up, all of them have had theirs."""
    queues = {}
    for name in names:
        total = count or WANTED[TARGETS[name].kind]
        indices = range(tallies[name].tried, total)
        size = CHUNK * (4 if TARGETS[name].kind == "reader" else 1)
        queues[name] = [list(indices[i : i + size]) for i in range(0, len(indices), size)]
    for turn in range(max(map(len, queues.values()), default=0)):
        for name in names:
            if turn < len(queues[name]):
                yield name, queues[name][turn]


def work(name: str, indices: list[int], folder: Path, pipe: Any) -> None:
    """In a process of its own, with bounded memory: a case that takes it down is found by the number it was at."""
    with open("/proc/self/statm") as statm:
        now = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))
    runner = Runner(TARGETS[name], folder)
    for index in indices:
        pipe.send((index, "begun", ""))
        pipe.send((index, *runner.run(index)))
    pipe.close()


class Job:
    """A process with the cases it works on."""

    def __init__(self, context: Any, name: str, indices: list[int], folder: Path) -> None:
        self.name, self.last, self.quiet = name, -1, 0.0
        self.pipe, theirs = context.Pipe(duplex=False)
        self.process = context.Process(target=work, args=(name, indices, folder, theirs))
        self.process.start()
        theirs.close()

    def ended(self, tally: Tally) -> bool:
        """Take in what it says; True when it has gone. One that says nothing for a long time is ended."""
        try:
            while self.pipe.poll(0):
                index, outcome, told = self.pipe.recv()
                self.quiet, self.last = 0.0, index
                if outcome != "begun":
                    tally.add(index, outcome, told)
                    self.last = -1
            self.quiet += TICK
            if self.quiet < 4.0 * SECONDS:
                return False
            self.process.kill()
        except EOFError:
            pass
        self.process.join()
        if self.last >= 0:  # the case at which it ended
            tally.add(self.last, ESCAPED, f"the process ended ({self.process.exitcode})")
        return True


def table(tallies: dict[str, Tally], seconds: float, jobs: int) -> str:
    """Markdown; below it every escape, once a place, with the case that repeats it."""
    lines = ["| target | kind | wanted | tried | answered | refused | escaped |", "|---|---|---|---|---|---|---|"]
    for name, tally in tallies.items():
        kind = TARGETS[name].kind
        counts = (tally.tried, tally.accepted, tally.refused, len(tally.escapes))
        lines.append(f"| {name} | {kind} | {WANTED[kind]} | " + " | ".join(map(str, counts)) + " |")
    total = sum(tally.tried for tally in tallies.values())
    escaped = sum(len(tally.escapes) for tally in tallies.values())
    lines.append(f"\n{total} cases in {seconds / 60.0:.1f} minutes, {jobs} at a time; {escaped} escapes.")
    for name, tally in tallies.items():
        places: dict[str, list[int]] = {}
        for index, told in tally.escapes:
            places.setdefault(told.split(": ")[0], []).append(index)
        first = {told.split(": ")[0]: told for _, told in reversed(tally.escapes)}
        for key, indices in places.items():
            lines.append(f"\n{len(indices)} x {first[key]}\n    python -m tests.fuzz --case {name}:{indices[0]}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
