"""``fw.Curve`` on the cases of ``curve_cases.py``, judged by their samples: writes ``curve_answers.json``.

``python benchmarks/curve_answers.py FOLDER`` makes the curves (half an hour); with ``--sampling`` it then samples every
width of some of them to the same accuracy, for the time; with ``--announced`` it makes curves of ten other cases, for
the time that is announced; with ``--table`` it prints the tables of docs/accuracy.md.
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

from cases import Case
from curve_cases import JUDGED, WIDTHS, load_judged
from curve_cases import STORE as TRUTH
from fresh_cases import FRESH, SEEN

import finitewidth as fw
from finitewidth.display.documents import json_ready
from finitewidth.inference.prediction import DEVIATIONS, ERRORS
from finitewidth.runs import durations

WITHIN = 0.05
STORE = Path(__file__).with_name("curve_answers.json")
TIMED = JUDGED[::6]  # whose every width is sampled, for the time
OTHERS = (*SEEN[2::5], *FRESH[1::5])  # judge the announced time; fixed before any curve of theirs was made


def answer(case: Case, folder: Path) -> dict[str, Any]:
    """Rows of the curve, what it took, and what was said beforehand."""
    train, test = load_judged(case, folder)
    said: list[str] = []
    began, started = time.perf_counter(), time.process_time()
    with durations.announced(said.append):
        curve = fw.learning_curve(case.network, train, test, WIDTHS, case.temperature, method=fw.Curve(within=WITHIN))
    took = {"processor_seconds": time.process_time() - started, "seconds": time.perf_counter() - began}
    return {"rows": curve.to_dicts(), "announced": said} | took


def sampling(case: Case, folder: Path) -> list[float]:
    """Processor seconds of samples of every width, each as accurate as the curve was asked to be at 90 %."""
    train, test = load_judged(case, folder)
    seconds = []
    for width in WIDTHS:
        started = time.process_time()
        network = case.network.with_width(width)
        fw.sample(network, train, test, case.temperature, accuracy=WITHIN / DEVIATIONS, observables=()).errors(test)
        seconds.append(time.process_time() - started)
    return seconds


def holds(row: dict[str, Any], sampled: dict[str, Any], name: str) -> bool:
    """Whether the 90 % interval of the curve holds the sampled value, which has a standard error of its own."""
    apart = sampled[name] - row[name]
    reach = row[f"{name}_high"] - row[name] if apart > 0.0 else row[name] - row[f"{name}_low"]
    return abs(apart) <= math.hypot(reach, DEVIATIONS * sampled[f"{name}_se"])


def named(case: Case) -> str:
    """Without widths."""
    layers = f"{case.network.depth} layer" + ("s" if case.network.depth > 1 else "")
    kind, *others = case.architecture.replace("10-", "").split(" 10 ")
    return f"{case.data_and_classes}, P {case.n_train}, {kind} {' '.join(others)}, {layers}, T {case.temperature:g}"


def table() -> None:
    """Every case, and shares over all widths."""
    answers, truths = json.loads(STORE.read_text()), json.loads(TRUTH.read_text())
    counted = {name: [0, 0] for name in ("within", *ERRORS)}
    print(
        "| case | sampled at | off by %, at the widths | 90 % holds | theory off by % | s |\n|---|---|---|---|---|---|"
    )
    for case in JUDGED:
        if str(case) not in answers:
            continue
        one, truth = answers[str(case)], truths[str(case)]
        off, inside, theory = [], [], []
        for row in one["rows"]:
            sampled = truth.get(str(row["width"]))
            if sampled is None:
                off.append("-")
                continue
            relative = row["test_error"] / sampled["test_error"] - 1.0
            counted["within"][0] += abs(relative) <= WITHIN
            counted["within"][1] += 1
            for name in ERRORS:
                held = holds(row, sampled, name)
                counted[name][0] += held
                counted[name][1] += 1
                if name == "test_error":
                    inside.append("yes" if held else "no")
            off.append(f"{100 * relative:+.1f}")
            theory.append(100 * abs(row["theory_test_error"] / sampled["test_error"] - 1.0))
        places = one["rows"][0]["rests_on"].removeprefix("samples at ")
        held_at = f"{inside.count('yes')} of {len(inside)}"
        worst = f"{max(theory):.0f}" if theory else "-"
        print(f"| {named(case)} | {places} | {', '.join(off)} | {held_at} | {worst} | {one['processor_seconds']:.0f} |")
    for name, (good, count) in counted.items():
        print(f"{name}: {good} of {count}, {100 * good / max(count, 1):.1f} %")
    for case in (*JUDGED, *OTHERS):
        if str(case) in answers:
            print(f"{named(case)}: {answers[str(case)]['seconds']:.0f} s; {answers[str(case)]['announced']}")
    timed = [one for one in answers.values() if "sampling_seconds" in one]
    if timed:
        ours, theirs = (
            sum(value)
            for value in zip(*((o["processor_seconds"], sum(o["sampling_seconds"])) for o in timed), strict=True)
        )
        print(f"processor seconds of {len(timed)} cases: curve {ours:.0f}, every width sampled {theirs:.0f}")


def main() -> None:
    """Make what is missing."""
    if "--table" in sys.argv:
        table()
        return
    found = json.loads(STORE.read_text()) if STORE.exists() else {}
    for case in OTHERS if "--announced" in sys.argv else JUDGED:
        if str(case) not in found:
            found[str(case)] = json_ready(answer(case, Path(sys.argv[1])))
            STORE.write_text(json.dumps(found, indent=1) + "\n")
            print(f"{case}: {found[str(case)]['processor_seconds']:.0f} s", flush=True)
    for case in TIMED if "--sampling" in sys.argv else ():
        if "sampling_seconds" not in found[str(case)]:
            found[str(case)]["sampling_seconds"] = sampling(case, Path(sys.argv[1]))
            STORE.write_text(json.dumps(found, indent=1) + "\n")
            print(f"{case}: sampled in {sum(found[str(case)]['sampling_seconds']):.0f} s", flush=True)


if __name__ == "__main__":
    main()
