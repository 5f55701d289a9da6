"""What every study is: a question, two plans, a computation, and a folder that keeps all of it.

A folder holds one study: ``study.json`` (plan, data, findings), ``checkpoints/`` of the sampling, and the figures. The
same command goes on where it was; anything else is refused and nothing is overwritten.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.table import Table as RichTable
from rich.text import Text

from finitewidth import checks
from finitewidth.checks.exceptions import InputError
from finitewidth.checks.json_input import parse_json
from finitewidth.data import Dataset, load
from finitewidth.data.loaders import BUILT_IN
from finitewidth.display.documents import data_document, json_ready
from finitewidth.display.tables import filled
from finitewidth.report import plots
from finitewidth.report.findings import Findings
from finitewidth.report.html import cell_text, page, write
from finitewidth.report.panels import study_figure
from finitewidth.runs.checkpoints import folder_of, refuse_links, write_whole
from finitewidth.runs.durations import Jobs
from finitewidth.runs.fingerprints import versions

FILE = "study.json"
SCALES = ("small", "full")
_FORMAT = 1  # of study.json
_MOST_BYTES = 16 * 2**20  # of study.json


@dataclass(frozen=True)
class Plan:
    """What a study computes. Only the fields that a study uses count.

    classes: of the built-in data. widths: where the theory is solved. sampled: widths that are sampled as well.
    chains, draws, warmup: of every sampled network. networks: frozen, trained, or followed by others; steps: of
    training. patch, stride: of local ones, for images of that ``side``; others keep the proportions.
    n_target: training points of a target task; related: classes of another source task; correlations: of coupled
    layers, where the theory is solved; sampled_correlations: where that is held to samples.
    """

    classes: tuple[int, ...] = (6, 9)
    n_train: int = 60
    n_test: int = 200
    seed: int = 0
    activation: str = "erf"
    temperatures: tuple[float, ...] = (0.1,)
    widths: tuple[int, ...] = (10, 14, 20, 28, 40, 57, 80, 160, 320)
    sampled: tuple[int, ...] = (20, 80)
    depths: tuple[int, ...] = (1,)
    patch: int = 4
    stride: int = 4
    side: int = 8
    chains: int = 4
    draws: int = 600
    warmup: int = 200
    networks: int = 200
    steps: int = 1000
    n_target: int = 10
    related: tuple[int, ...] = (5, 6)
    correlations: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
    sampled_correlations: tuple[float, ...] = (0.5, 0.9)

    @property
    def temperature(self) -> float:
        """The first, where a study uses one."""
        return self.temperatures[0]

    def fitted(self, train: Dataset) -> Plan:
        """Patch and stride in proportion to the images, so that their number stays what the plan can afford."""
        if train.input_shape is None:
            return self
        side = min(train.input_shape[:2])
        patch, stride = (max(1, size * side // self.side) for size in (self.patch, self.stride))
        return replace(self, patch=patch, stride=stride, side=side)


FULL = Plan(  # what the plans of scale "full" start from
    n_train=500,
    n_test=1000,
    widths=(50, 100, 200, 400, 800, 1600),
    sampled=(100, 400),
    draws=1000,
    warmup=500,
)


@dataclass(frozen=True)
class Study:
    """A claim of the thesis that anyone can put to the test on their own data.

    compute: from the work in hand to the findings. images: whether points need a shape. outputs: "one", or "several".
    runs: what all networks cost that are sampled or trained, in the unit of the weights that ``work.jobs`` is given.
    """

    name: str
    question: str
    small: Plan
    full: Plan
    compute: Callable[[Work], Findings]
    images: bool = False
    outputs: str = "one"
    runs: Callable[[Plan], float] = lambda plan: 0.0

    def plan(self, scale: str) -> Plan:
        """The plan of a scale, "small" or "full"."""
        checks.choice("scale", scale, SCALES)
        return self.small if scale == "small" else self.full


@dataclass(frozen=True)
class Work:
    """A study under way: its plan, its data and where they are from, the folder of its checkpoints, who hears how it
    goes, and the networks that are still to be sampled or trained."""

    plan: Plan
    train: Dataset
    test: Dataset
    checkpoints: Path
    say: Callable[[str], Any]
    source: str = "digits"
    jobs: Jobs = field(default_factory=lambda: Jobs(0.0))

    def checkpoint(self, *words: Any) -> Path:
        """Where a run is kept, so that an interrupted study goes on."""
        self.checkpoints.mkdir(exist_ok=True)
        name = "-".join(map(str, words)).replace(" ", "-")
        return self.checkpoints / f"{re.sub(r'[^A-Za-z0-9.=-]', '', name)}.npz"


@dataclass(frozen=True)
class Report:
    """What a folder holds: the whole of ``study.json``."""

    study: str
    question: str
    findings: Findings
    plain: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Report:
        """Of a finished study; raises InputError where there is none."""
        plain = _read(folder)
        if plain is None or plain.get("findings") is None:
            state = "no study" if plain is None else "a study that is not finished"
            given = f"{str(folder)!r}, with {state} in it"
            raise InputError(given, "the folder of a study, or of a sweep", "run finitewidth study or sweep")
        try:
            _refuse_other_kinds(plain)
            return cls(plain["study"], plain["question"], Findings.from_dict(plain["findings"]), plain)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise _damaged(folder, type(error).__name__) from error


def run(
    study: Study,
    out: str | os.PathLike[str],
    scale: str = "small",
    data: str | None = None,
    data_options: dict[str, Any] | None = None,
    say: Callable[[str], Any] = lambda text: None,
    plan: Plan | None = None,
) -> Report:
    """Run or resume a study in the folder ``out``; what is finished is read, not computed again.

    data: a name or file as for ``fw.data.load``; None is scikit-learn's digits, at scale "small" only. data_options:
    classes, n_train, n_test, seed in place of the plan's. plan: in place of the one of that scale.
    Raises InputError for data without image shape where the study needs one, too few points, the wrong number of
    outputs, and a folder that holds anything else.
    """
    plan = _planned(plan or study.plan(scale), scale, data, data_options or {})
    train, test = _load(study, plan, data, data_options or {})
    plan = plan.fitted(train) if study.images else plan
    identity = json_ready(
        {
            "format": _FORMAT,
            "study": study.name,
            "scale": scale,
            "plan": asdict(plan),
            "train": train.fingerprint(),
            "test": test.fingerprint(),
        }
    )
    folder = _folder(out, identity)
    if (done := _read(folder)) is not None and done.get("findings") is not None:
        return Report.read(folder)
    plain = identity | {
        "question": study.question,
        "source": data or "digits",
        "data": json_ready(data_document(data or "digits", train, test)),
        "command": command(study.name, scale, data, data_options or {}, out),
        "versions": {"python": platform.python_version(), **versions("scipy", "scikit-learn")},
        "findings": None,
    }
    _write(folder, plain)
    started = time.perf_counter()
    jobs = Jobs(study.runs(plan), f"the networks of study {study.name}")
    findings = study.compute(Work(plan, train, test, folder / "checkpoints", say, data or "digits", jobs))
    _write(folder, plain | {"findings": findings.to_dict(), "seconds": time.perf_counter() - started})
    return Report.read(folder)


def command(name: str, scale: str, data: str | None, options: dict[str, Any], out: Any) -> str:
    """The command line that repeats a study."""
    words = ["finitewidth", "study", name]
    if data is not None:
        words += ["--data", data]
    for option, value in options.items():
        text = ",".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)
        words += [f"--{option.replace('_', '-')}", text]
    return shlex.join([*words, "--scale", scale, "--out", str(out)])


# --- what becomes of it ----------------------------------------------------------------------------------------------


def for_people(report: Report) -> Iterator[RichTable | Text]:
    """The question, every table, every claim, and what to know about them."""
    yield Text(report.question)
    for table in report.findings.tables:
        yield filled(table.title, table.columns, ([*map(cell_text, row)] for row in table.rows))
    for line in (*(claim.sentence for claim in report.findings.claims), *report.findings.notes):
        yield Text(line)


def draw(report: Report, folder: str | os.PathLike[str]) -> list[Path]:
    """The figure as PNG and PDF in the folder of the study, named after it."""
    figure = study_figure(report.findings)
    place = checks.path("folder", folder)
    return [plots.save(figure, place / f"{report.study}.{kind}") for kind in ("png", "pdf")]


def write_page(folder: str | os.PathLike[str]) -> list[Path]:
    """``report.html`` and the figures of a finished study; raises InputError where the folder holds none."""
    place = checks.path("folder", folder)
    report = Report.read(place)
    return write(place, report.study, lambda: (page(report.findings, report.plain), study_figure(report.findings)))


# --- data -------------------------------------------------------------------------------------------------------------


def _planned(plan: Plan, scale: str, data: str | None, options: dict[str, Any]) -> Plan:
    if data is None and scale == "full":
        raise InputError(
            "scale 'full' without data",
            "28 x 28 grey images of two classes, as an npz file",
            "make the file as docs/studies.md shows and give --data FILE.npz",
        )
    return replace(plan, **options)


def _load(study: Study, plan: Plan, data: str | None, options: dict[str, Any]) -> tuple[Dataset, Dataset]:
    wanted = {"classes": plan.classes, "n_train": plan.n_train, "n_test": plan.n_test, "seed": plan.seed}
    source = data or "digits"
    if source.lower().endswith(".npz"):  # used as given: nothing is drawn, and no class is chosen
        for name in ("classes", "seed"):
            if name in options:
                raise InputError(f"--{name} for the npz file {source!r}", "no such option", "an npz is used as given")
        wanted = {name: wanted[name] for name in ("n_train", "n_test")}
    elif source not in BUILT_IN and "classes" not in options:
        del wanted["classes"]  # the plan's are those of digits
    train, test = load(source, **wanted)
    if study.images and train.input_shape is None:
        raise InputError(
            f"study {study.name!r} on {source!r}, whose points have {train.n_inputs} inputs and no shape",
            "images, points x height x width [x channels]",
            "reshape x_train and x_test in the file, or choose a study without patches",
        )
    several = train.n_outputs > 1
    if several != (study.outputs == "several"):
        raise InputError(
            f"study {study.name!r} on data with {train.n_outputs} outputs",
            "three classes or more" if study.outputs == "several" else "one output, or two classes",
            f"choose {'more' if study.outputs == 'several' else 'two'} classes",
        )
    return train, test


# --- the folder -------------------------------------------------------------------------------------------------------


def _folder(out: str | os.PathLike[str], identity: dict[str, Any]) -> Path:
    """The folder, made if need be; refused where it holds anything but this very study."""
    folder = folder_of(out, "--out")
    refuse_links(folder, (FILE, "checkpoints"))
    plain, present = _read(folder), sorted(path.name for path in folder.iterdir())
    if plain is None and present:
        raise InputError(
            f"--out {str(folder)!r}, which holds {present[0]!r} and no study", "an empty folder", "choose another"
        )
    differing = [key for key, value in identity.items() if plain is not None and plain.get(key) != value]
    if plain is not None and differing:
        held = f"study {plain.get('study')!r} at scale {plain.get('scale')!r}"
        raise InputError(
            f"--out {str(folder)!r}, which holds {held} (another {differing[0]})",
            "an empty folder, or that of the same study on the same data",
            "choose another folder; nothing was changed",
        )
    return folder


def _read(folder: Path) -> dict[str, Any] | None:
    """What a folder holds, None where there is no study; raises InputError for a file of anything else."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        plain = parse_json(path.read_text(encoding="utf-8")) if path.stat().st_size <= _MOST_BYTES else None
    except (OSError, ValueError) as error:
        raise _damaged(folder, str(error)) from error
    if not isinstance(plain, dict):
        raise _damaged(folder, f"a JSON object of at most {_MOST_BYTES >> 20} MiB is wanted")
    return plain


def _damaged(folder: Path, why: str) -> InputError:
    return InputError(
        f"{str(folder / FILE)!r}, which is damaged ({why})", f"the {FILE} of a study", "take another folder"
    )


def _refuse_other_kinds(plain: dict[str, Any]) -> None:
    """What names files, or goes into a page, is text; raises ValueError, KeyError or TypeError."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,60}", plain["study"]):  # files are named after it
        raise ValueError("the name of the study")
    data = plain["data"]
    texts = [plain[name] for name in ("question", "scale", "source", "command")]
    texts += [data[part]["fingerprint"] for part in ("train", "test")]
    texts += [*plain["versions"], *plain["versions"].values()]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("something else in place of text")


def _write(folder: Path, plain: dict[str, Any]) -> None:
    text = json.dumps(plain, indent=1, allow_nan=False)
    write_whole(folder / FILE, lambda draft: draft.write_text(text, encoding="utf-8"))
