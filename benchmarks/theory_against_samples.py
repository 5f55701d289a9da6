"""Theory beside sampled networks on every case of ``cases.py``.

``python benchmarks/theory_against_samples.py FOLDER [--workers 1] [--only TEXT]`` samples what is missing in
``benchmarks/sampled_cases.json`` (half an hour on two processors; an interrupt keeps what is done) and writes the
table of docs/theory_against_samples.md from it. FOLDER holds MNIST and CIFAR-10 (see ``cases.py``).
"""

from __future__ import annotations

import argparse
import json
import platform
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cases
import numpy as np
import parts
from cases import CASES, Case

import finitewidth as fw
from finitewidth.display.documents import json_ready
from finitewidth.display.tables import number, with_error
from finitewidth.jobs.job import method_of
from finitewidth.sampling import SampledRow

HERE = Path(__file__).resolve().parent
STORE = HERE / "sampled_cases.json"
VALIDITY = HERE / "validity_cases.json"


def run(case: Case, folder: Path) -> dict[str, Any]:
    """Theory and sample of one case, as plain data."""
    train, test = cases.load(case, folder)
    theories = {}
    for closure in case.closures:
        method = case.method if closure is None else replace(method_of(case.method), closure=closure)
        curve = fw.learning_curve(case.network, train, test, temperature=case.temperature, method=method)
        theories[closure or "only"] = curve[0].to_dict()
    row = cases.sampled(case, train, test)
    return {
        "case": str(case),
        "theory": json_ready(theories),
        "sample": json_ready(row.to_dict()),
        "q": None if case.n_outputs > 1 else q_difference(case, theories, row),
        "machine": machine(),
    }


def q_difference(case: Case, theories: dict[str, Any], row: SampledRow) -> list[float] | None:
    """Largest and mean difference of the order parameters, in parts of their mean diagonal."""
    q = np.array(next(iter(theories.values()))["order_parameters"])
    sampled = np.array(row.order_parameters)
    if case.network.depth > 1 or q.shape != sampled.shape:
        return None
    size = round(len(q) ** 0.5) if isinstance(case.network, fw.Convolutional) and len(q) > 1 else 0
    scale = np.diag(q.reshape(size, size)).mean() if size else q.mean()
    difference = np.abs(q - sampled) / scale
    return [float(difference.max()), float(difference.mean())]


def machine() -> str:
    """Processor and libraries."""
    import jax

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = f"{len(lines)} x {lines[0].partition(':')[2].strip()}" if lines else model
    return f"{model}; finitewidth {fw.__version__}, jax {jax.__version__} on {jax.default_backend()}"


def table(found: dict[str, Any]) -> list[str]:
    """In the order of the cases."""
    shown = [case for case in CASES if str(case) in found]
    rows = [found[str(case)] for case in shown]
    samples = [row["sample"] for row in rows]
    off = np.array([abs(percent_off(row)) for row in rows])
    return [
        "| data | P | network | T | test error, theory | sampled | off, % | off, SE | validity, expected % "
        "| train error, theory | sampled |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *map(line_of, shown, rows),
        "",
        f"{len(rows)} cases, {sum(sample['converged'] for sample in samples)} converged (R-hat at most "
        f"{max(sample['r_hat'] for sample in samples):.3f}, effective sample size at least "
        f"{min(sample['ess'] for sample in samples):.0f}). The test error of the theory (default closure) is within "
        f"2 % of the sampled one in {np.sum(off <= 2)}, within 10 % in {np.sum(off <= 10)}, worse in "
        f"{np.sum(off > 10)}.",
        "",
        "Sampled on " + "; ".join(sorted({row["machine"] for row in rows})) + ".",
    ]


def percent_off(row: dict[str, Any], closure: str | None = None) -> float:
    """Test error of the theory minus that of the sample, in per cent of the sample."""
    theory = row["theory"][closure] if closure else next(iter(row["theory"].values()))
    return 100.0 * (theory["test_error"] / row["sample"]["test_error"] - 1.0)


def line_of(case: Case, row: dict[str, Any]) -> str:
    theories, sample = list(row["theory"].values()), row["sample"]

    def both(values: list[str]) -> str:
        return values[0] if len(values) == 1 else f"{values[0]} ({values[1]})"

    in_se = [(t["test_error"] - sample["test_error"]) / sample["test_error_se"] for t in theories]
    cells = [
        case.data_and_classes,
        str(case.n_train),
        case.architecture,
        f"{case.temperature:g}",
        both([number(t["test_error"]) for t in theories]),
        with_error(sample["test_error"], sample["test_error_se"]) + ("" if sample["converged"] else " (not converged)"),
        both([f"{percent_off(row, closure):+.1f}" for closure in row["theory"]]),
        both([f"{gap:+.1f}" for gap in in_se]),
        validity_of(case),
        both([number(t["train_error"]) for t in theories]),
        with_error(sample["train_error"], sample["train_error_se"]),
    ]
    return "| " + " | ".join(cells) + " |"


def validity_of(case: Case) -> str:
    """What is said of the prediction without a sample, from ``validity_calibration.py``."""
    stated = json.loads(VALIDITY.read_text()).get(str(case))
    if stated is None:
        return ""
    return stated["answer"] if stated["expected"] is None else f"{stated['answer']} {100 * stated['expected']:.1f}"


def main() -> None:
    """Sample what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    arguments = parser.parse_args()
    found: dict[str, Any] = json.loads(STORE.read_text()) if STORE.exists() else {}
    missing = [case for case in CASES if arguments.only in str(case) and str(case) not in found]
    with ProcessPoolExecutor(arguments.workers, get_context("spawn")) as pool:
        for done in as_completed([pool.submit(run, case, arguments.folder) for case in missing]):
            row = done.result()
            found[row["case"]] = row
            STORE.write_text(json.dumps(found, indent=1) + "\n")
            print(f"{row['case']}: {percent_off(row):+.1f} %, {row['sample']['seconds']:.0f} s", flush=True)
    parts.write("theory_against_samples.md", "forty cases", table(found))


if __name__ == "__main__":
    main()
