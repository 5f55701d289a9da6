"""Would the tests notice? Mutants of theory, kernels, predictions and likelihoods, and how many of them the tests kill.

    make mutants                                             # 300 of them, half an hour on two processors
    python tools/mutants.py --count 100 --seed 1             # another sample
    python tools/mutants.py --only theory/krylov.py          # of one module

A mutant changes one operator, comparison, number, keyword or decorator (Cosmic Ray's list; of binary operators only
the arithmetic ones, for an "or" of two floats is killed by anyone; not inside annotations, which never run). Places
are drawn at random, and one mutant a place. Each mutant is judged by the tests that execute its line, the quickest
first, then by others of the same files, until one fails or SECONDS of tests have passed.

Cosmic Ray itself starts Python anew for every mutant and runs one command for all modules; here each is judged in a
fork of a process that has NumPy, SciPy and JAX imported, by tests of its own, and what a mutant leaves alone is
compiled once for all (JAX's persistent cache). Every so often the same is done without a mutant: such a control must
survive, or the tests fail by themselves and the count means nothing.

Results go to mutants/results.jsonl, one line a mutant; the same command goes on where it was. Which test executes
which line is kept beside it, a file of tests each, and found anew where that file or the source has changed.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import functools
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import math
import os
import random
import re
import resource
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from environments import ROOT, Environment, stream

SOURCE = ROOT / "src"
MUTATED = ("theory", "kernels", "inference")
TESTS = (
    *("tests/test_prediction.py", "tests/test_likelihoods.py", "tests/test_krylov.py"),
    *("tests/kernels", "tests/theory", "tests/exact"),
    *("tests/comparison", "tests/test_estimators.py", "tests/test_features.py"),  # what else judges these modules
)
OUT = ROOT / "mutants"
RESULTS = OUT / "results.jsonl"
SECONDS = 60.0  # of tests, as timed undisturbed, that may judge one mutant
LONGEST = 15.0  # seconds of processor time, under coverage.py: tests that take longer judge no mutant
PATIENCE = 10.0  # times the processor time that the tests take: then a mutant hangs, and counts as killed
ASLEEP = 900.0  # seconds by the clock, after which a mutant that does not even use the processor hangs
CONTROL = 25  # mutants between two controls
ARITHMETIC = {"Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Pow"}
PRELOADED = ("hypothesis", "jax", "pytest", "scipy.optimize", "scipy.special", "sklearn.gaussian_process")
PYTEST = ["-q", "-x", "-p", "no:cacheprovider"]


@dataclass(frozen=True)
class Mutant:
    """One change of one file. occurrence: which of the operator's places; None is the control, no change at all."""

    file: str
    line: int
    column: int
    operator: str
    occurrence: int | None

    @property
    def path(self) -> Path:
        return SOURCE / "finitewidth" / self.file

    def code(self) -> str:
        """The changed source."""
        text = self.path.read_text(encoding="utf-8")
        if self.occurrence is None:
            return text
        from cosmic_ray.mutating import mutate_code
        from cosmic_ray.plugins import get_operator

        changed: str | None = mutate_code(text, get_operator(self.operator)(), self.occurrence)
        assert changed is not None
        return changed

    def difference(self) -> str:
        lines = (self.path.read_text(encoding="utf-8").splitlines(), self.code().splitlines())
        return "\n".join(
            line for line in difflib.unified_diff(*lines, n=0, lineterm="") if line[:3] not in ("---", "+++")
        )


# --- which mutants there are --------------------------------------------------------------------------------


def mutated(only: list[str]) -> list[str]:
    package = SOURCE / "finitewidth"
    found = [package / name for name in MUTATED if name.endswith(".py")]
    found += [path for name in MUTATED if not name.endswith(".py") for path in sorted((package / name).rglob("*.py"))]
    names = [path.relative_to(package).as_posix() for path in found]
    return [name for name in names if not only or name in only]


def mutants(file: str) -> Iterator[Mutant]:
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    text = (SOURCE / "finitewidth" / file).read_text(encoding="utf-8")
    tree, never = get_ast(text), annotations(text)
    for name in operator_names():
        if not wanted(name) or get_operator(name).arguments():
            continue
        operator = get_operator(name)()
        places = (start for node in ast_nodes(tree) for start, _ in operator.mutation_positions(node))
        for occurrence, (line, column) in enumerate(places):
            if not any(first <= (line, column) < last for first, last in never):
                yield Mutant(file, line, column, name, occurrence)


def wanted(operator: str) -> bool:
    match = re.search(r"ReplaceBinaryOperator_(\w+?)_(\w+)$", operator)
    return match is None or set(match.groups()) <= ARITHMETIC


def annotations(text: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where annotations stand, (line, column) from and to."""
    found: list[ast.expr | None] = []
    for node in ast.walk(ast.parse(text)):
        found += [getattr(node, "annotation", None), getattr(node, "returns", None)]
    return [
        ((node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0))
        for node in found
        if isinstance(node, ast.expr)
    ]


def sample(count: int, seed: int, only: list[str]) -> list[Mutant]:
    """One mutant at each of ``count`` places, drawn without replacement."""
    places = defaultdict(list)
    for file in mutated(only):
        for mutant in mutants(file):
            places[mutant.file, mutant.line, mutant.column].append(mutant)
    draw = random.Random(seed)
    chosen = draw.sample(sorted(places), min(count, len(places)))
    print(
        f"{len(places)} places, {sum(map(len, places.values()))} mutants; {len(chosen)} of them, seed {seed}",
        flush=True,
    )
    return [draw.choice(places[place]) for place in chosen]


# --- which tests judge them ---------------------------------------------------------------------------------


class Watch:
    """A pytest plugin: what each test executes, and how long it takes."""

    def __init__(self) -> None:
        import coverage

        self.coverage = coverage.Coverage(
            data_file=None, source=[str(SOURCE / "finitewidth")], config_file=False, messages=False
        )
        self.seconds: dict[str, float] = defaultdict(float)
        self.left_out: set[str] = set()
        self.coverage.start()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        import pytest

        self.coverage.switch_context(nodeid)
        signal.signal(signal.SIGPROF, lambda *_: pytest.skip("takes too long to judge mutants"))
        signal.setitimer(signal.ITIMER_PROF, LONGEST)

    def pytest_runtest_logfinish(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0.0)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] += report.duration
        if report.outcome != "passed":
            self.left_out.add(report.nodeid)

    def found(self) -> dict[str, Any]:
        self.coverage.stop()
        data = self.coverage.get_data()
        lines: dict[str, dict[str, list[str]]] = {}
        kept = {test: seconds for test, seconds in self.seconds.items() if test not in self.left_out}
        for path in data.measured_files():
            name = Path(path).relative_to(SOURCE / "finitewidth").as_posix()
            by_line = data.contexts_by_lineno(path)
            lines[name] = {str(line): sorted(set(tests) & set(kept)) for line, tests in by_line.items()}
        return {"seconds": kept, "lines": lines}


def mapped(jobs: int) -> dict[str, Any]:
    """Tests by line, and their seconds; made once, and anew where the source or a file of tests has changed."""
    lines: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    seconds: dict[str, float] = {}
    places = [ROOT / place for place in TESTS]
    files = [file for place in places for file in (sorted(place.glob("test_*.py")) if place.is_dir() else [place])]
    maps, source = {}, b"".join((SOURCE / "finitewidth" / name).read_bytes() for name in mutated([]))
    for file in files:
        digest = hashlib.sha256(source + file.read_bytes()).hexdigest()[:12]
        maps[file.relative_to(ROOT).as_posix()] = OUT / f"map-{file.stem}-{digest}.json"
    missing = [(place, file) for place, file in maps.items() if not file.exists()]

    def find(share: list[tuple[str, Path]]) -> int:
        for place, file in share:
            print(f"which test executes which line: running {place}", flush=True)
            in_fork(functools.partial(_write_map, file, place), None)
        return 0

    in_forks([functools.partial(find, missing[start::jobs]) for start in range(min(jobs, len(missing)))])
    for file in maps.values():
        found = json.loads(file.read_text())
        seconds |= found["seconds"]
        for name, by_line in found["lines"].items():
            for line, tests in by_line.items():
                lines[name][line] += tests
    return {"seconds": seconds, "lines": lines}


def _write_map(file: Path, place: str) -> int:
    import pytest

    watch = Watch()
    pytest.main([argument for argument in PYTEST if argument != "-x"] + [place], plugins=[watch])
    file.write_text(json.dumps(watch.found()))
    return 0


def judges(mutant: Mutant, tests: dict[str, Any]) -> list[str]:
    """Those that execute the line, quickest first, then others of their files, as far as SECONDS reach."""
    by_line, seconds = tests["lines"].get(mutant.file, {}), tests["seconds"]
    touching = {test for line in _statement(mutant) for test in by_line.get(str(line), ())}
    if not touching or not _in_function(mutant):  # executed at import, in whichever test comes first
        touching = {test for listed in by_line.values() for test in listed}
    places = {test.partition("::")[0] for test in touching}
    others = {test for test in seconds if test.partition("::")[0] in places} - touching
    chosen, total = [], 0.0
    for test in (*sorted(touching, key=seconds.__getitem__), *sorted(others, key=seconds.__getitem__)):
        if total + seconds[test] <= SECONDS or not chosen:
            chosen.append(test)
            total += seconds[test]
    return chosen


def _in_function(mutant: Mutant) -> bool:
    """Whether the line belongs to the body of a function, and not to its head, a class or the module."""
    functions = (
        n for n in ast.walk(ast.parse(mutant.path.read_text(encoding="utf-8"))) if isinstance(n, ast.FunctionDef)
    )
    return any(n.body[0].lineno <= mutant.line <= (n.end_lineno or 0) for n in functions)


def _statement(mutant: Mutant) -> range:
    """Lines of the smallest statement around a mutant."""
    tree = ast.parse(mutant.path.read_text(encoding="utf-8"))
    around = [n for n in ast.walk(tree) if isinstance(n, ast.stmt) and n.lineno <= mutant.line <= (n.end_lineno or 0)]
    if not around:  # a decorator
        return range(mutant.line, mutant.line + 2)
    smallest = min(around, key=lambda n: (n.end_lineno or 0) - n.lineno)
    return range(smallest.lineno, (smallest.end_lineno or 0) + 1)


# --- judging ------------------------------------------------------------------------------------------------


class Changed(importlib.machinery.SourceFileLoader):
    """Loads the mutant in place of the file."""

    def __init__(self, name: str, path: str, code: str) -> None:
        super().__init__(name, path)
        self.changed = code

    def get_code(self, fullname: str) -> Any:
        return compile(self.changed, self.path, "exec")


class Finder(importlib.abc.MetaPathFinder):
    def __init__(self, mutant: Mutant) -> None:
        parts = mutant.path.relative_to(SOURCE).with_suffix("").parts
        self.name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        self.loader = Changed(self.name, str(mutant.path), mutant.code())

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(fullname, self.loader.path, loader=self.loader)


def judge(mutant: Mutant, tests: list[str]) -> int:
    """In a fork: status of pytest with the mutant in place."""
    import pytest

    sys.meta_path.insert(0, Finder(mutant))
    status = int(pytest.main([*PYTEST, *tests]))
    import finitewidth

    assert Path(finitewidth.__file__).is_relative_to(SOURCE)
    return status


def in_fork(function: Callable[[], int], seconds: float | None) -> int | None:
    """Exit status of a function in a fork of this process; None where it takes ``seconds`` of processor time.

    Of processor time, for that of the clock runs on while other work, or a suspended machine, holds it up.
    """
    child = os.fork()
    if child == 0:
        if seconds is not None:
            resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds), math.ceil(seconds) + 5))
        with open(OUT / f"output-{os.getppid()}.txt", "w") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        try:
            status = function()
        except BaseException as error:
            print(repr(error), flush=True)
            status = 99
        os._exit(status)
    deadline = time.monotonic() + (math.inf if seconds is None else ASLEEP)
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return None if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU else status
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def in_forks(functions: list[Callable[[], int]]) -> None:
    """All at once, each in a fork; the first that fails raises."""
    children = []
    for function in functions:
        child = os.fork()
        if child == 0:
            try:
                status = function()
            except BaseException as error:
                print(repr(error), file=sys.stderr, flush=True)
                status = 99
            os._exit(status)
        children.append(child)
    failed = [child for child in children if os.waitpid(child, 0)[1]]
    if failed:
        sys.exit(f"{len(failed)} of {len(children)} processes failed")


def verdict(mutant: Mutant, tests: dict[str, Any]) -> dict[str, Any]:
    chosen = judges(mutant, tests)
    started = time.monotonic()
    allowed = 30.0 + PATIENCE * sum(tests["seconds"][test] for test in chosen)
    status = in_fork(functools.partial(judge, mutant, chosen), allowed) if chosen else 0
    outcome = "hangs" if status is None else "survived" if status == 0 else "killed"
    why = ""
    if outcome == "killed":
        said = (OUT / f"output-{os.getpid()}.txt").read_text(errors="replace")
        if "not found: " in said:  # tests that were renamed while this ran would kill anything
            sys.exit(f"pytest does not find {chosen[0]} any more: leave the tests alone meanwhile")
        why = next(iter(re.findall(r"^(?:FAILED|ERROR) (.*)$", said, re.MULTILINE)), f"status {status}")[:200]
    return asdict(mutant) | {
        "outcome": outcome,
        "tests": len(chosen),
        "why": why,
        "seconds": round(time.monotonic() - started, 1),
        "difference": mutant.difference() if outcome == "survived" else "",
    }


# --- the whole ----------------------------------------------------------------------------------------------


def wilson(killed: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927)."""
    share, spread = killed / count, z**2 / count
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    return middle - half, middle + half


def told(results: list[dict[str, Any]]) -> str:
    real, controls = ([r for r in results if (r["occurrence"] is None) == control] for control in (False, True))
    by_file = Counter((r["file"], r["outcome"]) for r in real)
    lines = ["| module | mutants | killed | hang | survive |", "|---|---|---|---|---|"]
    for file in sorted({r["file"] for r in real}):
        killed, hang, survive = (by_file[file, outcome] for outcome in ("killed", "hangs", "survived"))
        lines.append(f"| `{file}` | {killed + hang + survive} | {killed} | {hang} | {survive} |")
    killed = sum(r["outcome"] != "survived" for r in real)
    low, high = wilson(killed, len(real))
    lines.append(f"\n{killed} of {len(real)} killed: {killed / len(real):.1%} (95 % interval {low:.1%} to {high:.1%}).")
    broken = [r for r in controls if r["outcome"] != "survived"]
    lines.append(f"{len(controls)} controls, {len(controls) - len(broken)} of which survive, as all must.")
    lines += [
        f"\n{r['file']}:{r['line']} {r['operator'].split('/')[-1]}\n{r['difference']}" for r in real if r["difference"]
    ]
    return "\n".join(lines)


def work(given: argparse.Namespace) -> int:
    OUT.mkdir(exist_ok=True)
    sys.path.insert(0, str(SOURCE))
    os.environ |= {"OPENBLAS_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} | {
        "JAX_COMPILATION_CACHE_DIR": str(OUT / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    chosen = sample(given.count, given.seed, given.only)
    with_controls: list[Mutant] = []
    for place, mutant in enumerate(chosen):
        if place % CONTROL == 0:
            with_controls.append(Mutant(mutant.file, mutant.line, mutant.column, "none", None))
        with_controls.append(mutant)
    for library in PRELOADED:  # once, for all forks
        importlib.import_module(library)
    tests = mapped(given.jobs)

    def judged_already() -> dict[tuple, dict[str, Any]]:
        lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
        found = [json.loads(line) for line in lines]
        return {tuple(result[name] for name in Mutant.__dataclass_fields__): result for result in found}

    known = judged_already()
    left = []
    for mutant in with_controls:
        before = known.get(tuple(asdict(mutant).values()))
        if before is None or (given.again and before["outcome"] == "survived" and mutant.occurrence is not None):
            left.append(mutant)

    def judge_all(share: list[Mutant]) -> int:
        for mutant in share:
            found = verdict(mutant, tests)
            with RESULTS.open("a") as file:
                file.write(json.dumps(found) + "\n")
            told_of = f"{found['outcome']:9}{mutant.file}:{mutant.line} {mutant.operator} {found['why']}"
            print(f"{told_of} ({found['seconds']} s)", flush=True)
        return 0

    in_forks([functools.partial(judge_all, left[start :: given.jobs]) for start in range(min(given.jobs, len(left)))])
    known = judged_already()
    wanted_results = [known[tuple(asdict(mutant).values())] for mutant in with_controls]
    print(told(wanted_results))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[], metavar="FILE")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="mutants at a time")
    parser.add_argument("--again", action="store_true", help="judge survivors anew, after tests have changed")
    given = parser.parse_args()
    if importlib.util.find_spec("cosmic_ray"):
        return work(given)
    environment = Environment.beside(ROOT / ".venv-measure", "coverage", "cosmic-ray", "pytest-cov")
    return stream([str(environment.python), __file__, *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
