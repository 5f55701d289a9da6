"""The validity statement and the matched first order, held to sampled posteriors.

``python benchmarks/validity_calibration.py FOLDER`` states the validity of the forty cases of ``cases.py``, on which
its bounds were chosen (samples in ``sampled_cases.json``), takes that of the fresh ones from ``fresh_cases.json``, and
writes docs/validity.md. FOLDER holds MNIST and CIFAR-10.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cases
import numpy as np
from fresh_cases import FRESH, SEEN, STORE
from scipy.stats import spearmanr

import finitewidth as fw

HERE = Path(__file__).resolve().parent
TRUTH = HERE / "sampled_cases.json"
OWN = HERE / "validity_cases.json"
PAGE = HERE.parent / "docs" / "validity.md"
COLUMNS = (
    "| case | sampled | action, off by % | answer | expected, % | first order, off by % | low to high |\n"
    "|---|---|---|---|---|---|---|"
)


def calibrated(folder: Path) -> list[dict[str, Any]]:
    """The forty: real error of the action, answer, expected error, processor seconds."""
    found: dict[str, Any] = json.loads(OWN.read_text()) if OWN.exists() else {}
    truth = json.loads(TRUTH.read_text())
    for case in cases.CASES:
        name = str(case)
        if name not in found:
            train, test = cases.load(case, folder)
            solution = fw.solve(fw.theory_of(case.network, case.temperature, method=case.method), train)
            started = time.process_time()
            stated = fw.validity(solution, test)
            real = solution.errors(test).test_error / truth[name]["sample"]["test_error"] - 1.0
            expected = None if math.isnan(stated.expected_relative_error) else stated.expected_relative_error
            found[name] = {
                "case": name,
                "off": real,
                "answer": stated.answer,
                "expected": expected,
                "seconds": time.process_time() - started,
            }
            OWN.write_text(json.dumps(found, indent=1) + "\n")
    return list(found.values())


def judged(chosen: Sequence[cases.Case]) -> list[dict[str, Any]]:
    """The same of other cases, with the matched first order."""
    found, stored = [], json.loads(STORE.read_text())
    for one in (stored[str(case)] for case in chosen if str(case) in stored):
        stated, sampled = one["saddle"]["validity"], one["sample"]["test_error"]
        found.append(
            {
                "case": one["case"],
                "off": one["saddle"]["test_error"] / sampled - 1.0,
                "answer": stated["answer"],
                "expected": stated["expected_relative_error"],
                "seconds": one["saddle"]["processor_seconds"],
                "sampled": sampled,
                "converged": one["sample"]["converged"],
                "first": one["first-order"],
            }
        )
    return found


def summary(rows: list[dict[str, Any]]) -> str:
    """What is asked of the statement, counted."""
    off = np.array([abs(row["off"]) for row in rows])
    answer = np.array([row["answer"] for row in rows])
    expected = np.array([np.nan if row["expected"] is None else row["expected"] for row in rows])
    good, about, unknown = (answer == name for name in ("good", "off by about", "unknown"))
    right = (off[about] < 2.0 * expected[about]) & (expected[about] < 2.0 * off[about])
    rho = float(spearmanr(off[~unknown], expected[~unknown])[0])
    worst = 100 * off[good].max(initial=0.0)
    return (
        f"{len(rows)} cases: {good.sum()} called good, the worst of them {worst:.0f} % off; {about.sum()} off by about "
        f"so much, {right.sum()} of these within a factor of two; {unknown.sum()} unknown. Spearman's correlation of "
        f"real and expected error among the statements made: {rho:.2f}."
    )


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The action, what is said of its validity, and the matched prediction: one line a case."""
    lines = [COLUMNS]
    action, matched, inside, reach = [], [], [], []
    for row in rows:
        first, sampled = row["first"], row["sampled"]
        shown = ["", ""]
        if first["converged"]:
            error = first["test_error"] / sampled - 1.0
            action.append(abs(row["off"]))
            matched.append(abs(error))
            inside.append(first["test_error_low"] <= sampled <= first["test_error_high"])
            reach.append(first["test_error_high"] / first["test_error"] - 1.0)
            shown = [f"{100 * error:+.1f}", f"{first['test_error_low']:.4f} to {first['test_error_high']:.4f}"]
        expected = "" if row["expected"] is None else f"{100 * row['expected']:.1f}"
        cells = [row["case"], f"{sampled:.4f}", f"{100 * row['off']:+.1f}", row["answer"], expected, *shown]
        lines.append(f"| {' | '.join(cells)} |")
    both = [100 * np.array(x) for x in (action, matched)]
    refused = [100 * abs(row["off"]) for row in rows if not row["first"]["converged"]]
    lines += [
        "",
        f"Of the {len(matched)} that the first order serves: the action is {np.median(both[0]):.1f} % off in the "
        f"median and {both[0].max():.0f} % at worst, the first order {np.median(both[1]):.1f} % and "
        f"{both[1].max():.0f} %; {sum(inside)} of the intervals hold the sample, half of them reach less than "
        f"{100 * np.median(reach):.1f} % "
        f"above the number. It refuses {len(refused)}, where the action is "
        f"{np.median(refused or [0.0]):.0f} % off in the median.",
    ]
    return lines


def section(title: str, chosen: Sequence[cases.Case]) -> list[str]:
    """Of the page: a count, what is missing, and the table."""
    rows = judged(chosen)
    missing = len(chosen) - len(rows)
    lines = ["", title, "", summary(rows), *([f"{missing} not sampled yet."] if missing else [])]
    unsure = [row["case"] for row in rows if not row["converged"]]
    lines += [f"Samples that had not converged: {'; '.join(unsure)}."] if unsure else []
    return [*lines, "", *table(rows)]


def main(folder: Path) -> None:
    """Write the page: what stands before the tables stays."""
    head = PAGE.read_text().partition("## The fresh cases")[0].rstrip()
    lines = [head, *section("## The fresh cases", FRESH), *section("## Cases seen before", SEEN)]
    lines += ["", "## The forty on which bounds were chosen", "", summary(calibrated(folder))]
    lines += ["What was said of each is in [their table](theory_against_samples.md#forty-cases)."]
    PAGE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
