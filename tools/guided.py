"""Hostile input led by coverage (Atheris, on libFuzzer) for what reads bytes: `make guided`.

    python tools/guided.py --minutes 5                     # every reader of bytes in turn, so long each, and a table
    python tools/guided.py --only plan --minutes 30

Random damage (`make fuzz`) seldom gets past the first checks of a reader; this search keeps every input that reaches a
branch that none before it has reached, and goes on from there. It starts from the valid files of tests/fuzz, in an
empty corpus, so that runs differ only by libFuzzer's own seed. An escape is what it is there: anything but an answer
or an error of three parts, a case longer than SECONDS, or more than MEMORY. It stops that reader, and its input stays
in guided/, from where `python tools/guided.py --only plan --case guided/plan-crash-...` repeats it.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from environments import ROOT, Environment

OUT = ROOT / "guided"
SECONDS = 20  # that one case may take, instrumented
MEMORY = 2000  # MB that the process may take
LONGEST = 8192  # bytes of an input
INSTRUMENTED = (
    "finitewidth.data",
    "finitewidth.sweeps",
    "finitewidth.studies",
    "finitewidth.runs.checkpoints",
    "finitewidth.checks.json_input",
    "finitewidth.report",
)
INSTRUMENTED += ("yaml", "zipfile", "csv", "json", "numpy.lib._format_impl")
READERS = ("npz", "csv", "plan", "study", "checkpoint", "picture")


def reader(name: str, folder: Path) -> tuple[Callable[[bytes], object], list[bytes]]:
    """What takes bytes, and valid ones."""
    from tests.fuzz import readers

    import finitewidth as fw
    from finitewidth.data import images

    valid = folder / "valid"
    valid.mkdir()
    place = folder / {"npz": "a.npz", "csv": "a.csv", "plan": "a.yaml", "study": "study.json"}.get(name, "run.npz")

    def written(data: bytes) -> Path:
        place.write_bytes(data)
        return place

    if name == "npz":
        files = readers.npz_files(valid)
        return (lambda data: fw.data.load(written(data), max_bytes=readers.SMALL)), files["files"]
    if name == "csv":
        texts = [text.encode() for text in readers.csv_texts(valid)]
        return (lambda data: fw.data.csv(written(data), "y", n_train=5, max_bytes=readers.SMALL)), texts
    if name == "plan":
        plans = [text.encode() for text in (*readers.PLANS, *readers.TRICKS) if len(text) < LONGEST]
        return (lambda data: list(fw.sweeps.Plan.of(written(data)).points())[:5]), plans
    if name == "study":
        from finitewidth.studies.study import held

        return (lambda data: held(written(data).parent)), [json.dumps(readers.study(valid)).encode()]
    if name == "checkpoint":
        sampling, _ = readers.long_runs()
        return (lambda data: readers.read_run(sampling, written(data))), [readers.checkpoints(valid)[0]["bytes"]]
    pictures = [data for _, data in readers.pictures(valid)]
    root = folder / "pictures"
    for label in ("a", "b"):
        (root / label).mkdir(parents=True)
        (root / label / "0.png").write_bytes(pictures[0])

    def read_picture(data: bytes) -> None:
        (root / "b" / "1.png").write_bytes(data)
        with mock.patch.object(images, "MAX_PIXELS", 2**16):
            fw.data.image_folder(root, n_train=2, max_bytes=readers.SMALL)

    return read_picture, pictures


def judged(read: Callable[[bytes], object], data: bytes) -> None:
    """Raises what escapes."""
    from tests.fuzz.case import quiet, three_parts

    from finitewidth.checks.exceptions import InputError, MissingExtraError

    try:
        with quiet():
            read(data)
    except (InputError, MissingExtraError) as error:
        if not three_parts(error):
            raise RuntimeError(f"no three parts: {error}") from error


def inside(given: argparse.Namespace) -> int:
    """In the environment that has Atheris: search, or repeat one case."""
    (name,) = given.only
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]
    with tempfile.TemporaryDirectory(prefix="finitewidth-guided-") as place:
        folder = Path(place)
        if given.case:
            judged(reader(name, folder)[0], given.case.read_bytes())
            print("no escape")
            return 0
        import atheris

        with atheris.instrument_imports(include=INSTRUMENTED, enable_loader_override=False):
            read, valid = reader(name, folder)
            for data in valid:  # what is imported at the first call is to be followed too
                judged(read, data)
        corpus = folder / "corpus"
        corpus.mkdir()
        for number, data in enumerate(valid):
            (corpus / f"valid-{number}").write_bytes(data)
        limits = [f"-max_total_time={60 * given.minutes:.0f}", f"-timeout={SECONDS}", f"-rss_limit_mb={MEMORY}"]
        told = [f"-artifact_prefix={OUT}/{name}-", f"-max_len={LONGEST}", "-print_final_stats=1", "-verbosity=1"]
        atheris.Setup([sys.argv[0], *limits, *told, str(corpus)], lambda data: judged(read, data))
        atheris.Fuzz()  # does not come back
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0, help="of every reader")
    parser.add_argument("--only", nargs="+", choices=READERS, default=list(READERS), metavar="READER")
    parser.add_argument("--case", type=Path, help="a file to repeat with one reader")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        return inside(given)
    environment = Environment.beside(ROOT / ".venv-measure", "atheris")
    OUT.mkdir(exist_ok=True)
    command = [str(environment.python), __file__, "--inside", "--minutes", str(given.minutes)]
    if given.case:
        return subprocess.run([*command, "--only", *given.only, "--case", str(given.case)]).returncode
    print("| reader | inputs tried | branches reached | escapes |\n|---|---|---|---|", flush=True)
    escaped = 0
    for name in given.only:
        log = OUT / f"{name}.log"
        with log.open("w") as output:
            done = subprocess.run([*command, "--only", name], stdout=output, stderr=subprocess.STDOUT)
        said = log.read_text(errors="replace")
        tried = re.findall(r"number_of_executed_units:\s*(\d+)", said)
        reached = re.findall(r"cov: (\d+)", said)
        escapes = int(done.returncode != 0)
        escaped += escapes
        print(f"| {name} | {(tried or ['?'])[-1]} | {(reached or ['?'])[-1]} | {escapes} |", flush=True)
        if escapes:
            print(f"  see {log}")
    return 1 if escaped else 0


if __name__ == "__main__":
    sys.exit(main())
