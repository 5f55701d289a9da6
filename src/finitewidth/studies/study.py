"""What every study is: a question, two plans, a computation, and a folder with all that comes of it.

A folder holds one study: ``study.json`` (plan, data, findings), ``report.html``, the figures, and ``checkpoints/`` of
what is sampled. The same command goes on where it was; anything else is refused, and nothing is overwritten.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table as RichTable
from rich.text import Text

from finitewidth import checks
from finitewidth.checks.exceptions import InputError
from finitewidth.checks.json_input import parse_json
from finitewidth.data import Dataset, load
from finitewidth.data.loaders import BUILT_IN
from finitewidth.display.documents import data_document, json_ready
from finitewidth.display.tables import filled
from finitewidth.report import html
from finitewidth.report.findings import Findings
from finitewidth.report.panels import study_figure
from finitewidth.report.plots import require_matplotlib
from finitewidth.runs.checkpoints import folder_of, refuse_links, write_whole
from finitewidth.runs.fingerprints import versions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILE = "study.json"
SCALES = ("small", "full")
_FORMAT = 2  # of study.json
_MOST_BYTES = 16 * 2**20  # of study.json


@dataclass(frozen=True)
class Plan:
    """What a study computes. Only the fields that a study uses count.

    classes: of the built-in data. widths: where the theory is solved. sampled: widths that are sampled as well.
    chains, draws, warmup: of every sampled network. networks: frozen, or followed by others. patch, stride: of local
    ones, for images of that ``side``; others keep the proportions.
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

    compute: from the work in hand to the findings. images: whether points need a shape.
    """

    name: str
    question: str
    small: Plan
    full: Plan
    compute: Callable[[Work], Findings]
    images: bool = False

    def plan(self, scale: str) -> Plan:
        """The plan of a scale, "small" or "full"."""
        checks.choice("scale", scale, SCALES)
        return self.small if scale == "small" else self.full


@dataclass(frozen=True)
class Work:
    """A study under way: its plan, its data and where they are from, the folder of its checkpoints, and who hears how
    it goes."""

    plan: Plan
    train: Dataset
    test: Dataset
    checkpoints: Path
    say: Callable[[str], Any]
    source: str = "digits"

    def checkpoint(self, *words: Any) -> Path:
        """Where a run, or several, are saved, so that an interrupted study goes on."""
        self.checkpoints.mkdir(exist_ok=True)
        name = "-".join(map(str, words)).replace(" ", "-")
        return self.checkpoints / re.sub(r"[^A-Za-z0-9.=-]", "", name)


@dataclass(frozen=True)
class Report:
    """What a study came to. plain: the whole of ``study.json``. files: the page and the figures."""

    findings: Findings
    plain: dict[str, Any]
    files: list[Path]

    def for_people(self) -> Iterator[RichTable | Text]:
        """The question, every table, every claim, and what to know about them."""
        yield Text(self.plain["question"])
        for table in self.findings.tables:
            yield filled(table.title, table.columns, ([*map(html.cell_text, row)] for row in table.rows))
        for line in (*(claim.sentence for claim in self.findings.claims), *self.findings.notes):
            yield Text(line)


def run(
    study: Study,
    out: str | os.PathLike[str],
    scale: str = "small",
    data: str | None = None,
    data_options: dict[str, Any] | None = None,
    say: Callable[[str], Any] = lambda text: None,
) -> Report:
    """Run or resume a study in the folder ``out``; what is sampled there is not sampled again.

    data: a name or file as for ``fw.data.load``; None is scikit-learn's digits, at scale "small" only. data_options:
    classes, n_train, n_test, seed in place of the plan's.
    Raises InputError for data without image shape where the study needs one, too few points, several outputs, and a
    folder that holds anything else; MissingExtraError without matplotlib.
    """
    require_matplotlib()
    options = data_options or {}
    plan = replace(study.plan(scale), **options)
    if data is None and scale == "full":
        raise InputError(
            "scale 'full' without data",
            "28 x 28 grey images of two classes, as an npz file",
            "make the file as docs/studies.md shows and give --data FILE.npz",
        )
    train, test = _load(study, plan, data, options)
    plan = plan.fitted(train) if study.images else plan
    identity = {
        "format": _FORMAT,
        "study": study.name,
        "scale": scale,
        "plan": asdict(plan),
        "train": train.fingerprint(),
        "test": test.fingerprint(),
    }
    folder = _folder(out, json_ready(identity))
    plain = identity | {
        "question": study.question,
        "source": data or "digits",
        "data": data_document(data or "digits", train, test),
        "command": command(study.name, scale, data, options, out),
        "versions": {"python": platform.python_version(), **versions("scipy", "scikit-learn")},
        "findings": None,
    }
    if not (folder / FILE).exists():
        _write(folder, plain)
    started = time.perf_counter()
    findings = study.compute(Work(plan, train, test, folder / "checkpoints", say, data or "digits"))
    plain = json_ready(plain | {"findings": asdict(findings), "seconds": time.perf_counter() - started})
    files = html.write(folder, study.name, lambda: _page(findings, plain))
    _write(folder, plain)
    return Report(findings, plain, files)


def _page(findings: Findings, plain: dict[str, Any]) -> tuple[str, Figure]:
    """The page and its figure. plain: as ``study.json`` holds it."""
    figure, data = study_figure(findings), plain["data"]
    points = f"{data['train']['points']} training and {data['test']['points']} test points"
    kind, lines = f"Study {plain['study']}, scale {plain['scale']}", [f"Data: {plain['source']}; {points}."]
    text = html.page(kind, plain["question"], lines, findings, figure, plain["command"], plain["versions"])
    return text, figure


def command(name: str, scale: str, data: str | None, options: dict[str, Any], out: Any) -> str:
    """The command line that repeats a study."""
    words = ["finitewidth", "study", name]
    if data is not None:
        words += ["--data", data]
    for option, value in options.items():
        text = ",".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)
        words += [f"--{option.replace('_', '-')}", text]
    return shlex.join([*words, "--scale", scale, "--out", str(out)])


# --- data -------------------------------------------------------------------------------------------------------------


def _load(study: Study, plan: Plan, data: str | None, options: dict[str, Any]) -> tuple[Dataset, Dataset]:
    source = data or "digits"
    drawn = {"classes": plan.classes, "seed": plan.seed} if source in BUILT_IN else {}
    train, test = load(source, **{"n_train": plan.n_train, "n_test": plan.n_test} | drawn | options)
    if study.images and train.input_shape is None:
        raise InputError(
            f"study {study.name!r} on {source!r}, whose points have {train.n_inputs} inputs and no shape",
            "images, points x height x width [x channels]",
            "reshape x_train and x_test in the file, or choose a study without patches",
        )
    if train.n_outputs > 1:
        given = f"study {study.name!r} on data with {train.n_outputs} outputs"
        raise InputError(given, "one output, or two classes", "choose two classes")
    return train, test


# --- the folder -------------------------------------------------------------------------------------------------------


def _folder(out: str | os.PathLike[str], identity: dict[str, Any]) -> Path:
    """The folder, made if need be; refused where it holds anything but this very study."""
    folder = folder_of(out, "--out")
    refuse_links(folder, (FILE, "checkpoints"))
    found, present = held(folder), sorted(path.name for path in folder.iterdir())
    if found is None and present:
        raise InputError(
            f"--out {str(folder)!r}, which holds {present[0]!r} and no study", "an empty folder", "choose another"
        )
    differing = [key for key, value in identity.items() if found is not None and found.get(key) != value]
    if found is not None and differing:
        other = f"study {found.get('study')!r} at scale {found.get('scale')!r}"
        raise InputError(
            f"--out {str(folder)!r}, which holds {other} (another {differing[0]})",
            "an empty folder, or that of the same study on the same data",
            "choose another folder; nothing was changed",
        )
    return folder


def held(folder: Path) -> dict[str, Any] | None:
    """What ``study.json`` says, None where there is none; raises InputError for a file of anything else."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        plain = parse_json(path.read_text(encoding="utf-8")) if path.stat().st_size <= _MOST_BYTES else None
    except (OSError, ValueError):
        plain = None
    if not isinstance(plain, dict):
        raise InputError(f"{str(path)!r}, which is damaged", f"the {FILE} of a study", "take another folder")
    return plain


def _write(folder: Path, plain: dict[str, Any]) -> None:
    text = json.dumps(json_ready(plain), indent=1, allow_nan=False)
    write_whole(folder / FILE, lambda draft: draft.write_text(text, encoding="utf-8"))
