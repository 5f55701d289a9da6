"""Theory beside sampled networks on every case of ``cases.py``.

``python benchmarks/theory_against_samples.py FOLDER [--workers 1] [--only TEXT]`` samples what is missing in
``benchmarks/sampled_cases.json`` (half an hour on two processors; an interrupt keeps what is done) and writes
docs/theory_against_samples.md from it. FOLDER holds MNIST and CIFAR-10 (see ``cases.py``).
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cases
import numpy as np
from cases import CASES, Case

import finitewidth as fw
from finitewidth.display.documents import json_ready
from finitewidth.display.tables import number, with_error
from finitewidth.inference.likelihoods import Gaussian
from finitewidth.inference.methods import Problem
from finitewidth.jobs import method_of
from finitewidth.sampling import SampledRow

HERE = Path(__file__).resolve().parent
STORE = HERE / "sampled_cases.json"
PAGE = HERE.parent / "docs" / "theory_against_samples.md"
LONGEST = 8  # times the draws of a case, before it is given up as not converged

HEAD = """# Theory beside sampled networks

Produced by `python benchmarks/theory_against_samples.py FOLDER`; the cases were fixed in `benchmarks/cases.py` before
any of them was sampled here; the first ten are older reference cases (below). All weight precisions are 1 unless
stated; P training points, at most 200 test points. Sampled: collapsed Hamiltonian Monte Carlo, four chains of at least
500 draws, more until R-hat is at most 1.01; 0.0391(6) stands for 0.0391 ± 0.0006, one standard error. Off: theory
minus sample, in per cent of the sample and in standard errors. Deep networks: nested closure, in brackets product.
"""


def run(case: Case, folder: Path) -> dict[str, Any]:
    """Theory and sample of one case, as plain data."""
    train, test = cases.load(case, folder)
    theories = {}
    for closure in case.closures:
        method = case.method if closure is None else replace(method_of(case.method), closure=closure)
        curve = fw.learning_curve(case.network, train, test, temperature=case.temperature, method=method)
        theories[closure or "only"] = curve[0].to_dict()
    draws = case.draws
    while True:
        problem = Problem(case.network, Gaussian(case.temperature))
        started = time.perf_counter()
        (solution,) = fw.Sample(draws=draws).solutions([problem], train, test)
        row = solution.row(test, time.perf_counter() - started)
        if row.converged or draws >= LONGEST * case.draws:
            break
        draws *= 2
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


def page(found: dict[str, Any]) -> str:
    """The table, in the order of the cases."""
    lines = [
        HEAD,
        "| data | P | network | T | test error, theory | sampled | off, % | off, SE | train error, theory | sampled "
        "| R-hat | ESS | Q: largest, mean difference |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [line_of(case, found[str(case)]) for case in CASES if str(case) in found]
    rows = [found[str(case)] for case in CASES if str(case) in found]
    off = np.array([abs(percent_off(row)) for row in rows])
    lines += [
        "",
        f"{len(rows)} cases, {sum(row['sample']['converged'] for row in rows)} converged. The test error of the "
        f"theory (default closure) is within 2 % of the sampled one in {np.sum(off <= 2)}, within 10 % in "
        f"{np.sum(off <= 10)}, worse in {np.sum(off > 10)}. Q: theory against the readouts of the samples, in parts of "
        "its mean diagonal.",
        "",
        "The reference cases, sampled before this package existed (quoted) and here, in combined standard errors:",
        "",
        "| data | network | quoted | here | apart, SE |",
        "|---|---|---|---|---|",
        *(reference_line(case, found[str(case)]) for case in CASES if case.quoted and str(case) in found),
        "",
        "Sampled on " + "; ".join(sorted({row["machine"] for row in rows})) + ".",
    ]
    return "\n".join(lines) + "\n"


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
        with_error(sample["test_error"], sample["test_error_se"]),
        both([f"{percent_off(row, closure):+.1f}" for closure in row["theory"]]),
        both([f"{gap:+.1f}" for gap in in_se]),
        both([number(t["train_error"]) for t in theories]),
        with_error(sample["train_error"], sample["train_error_se"]),
        f"{sample['r_hat']:.3f}" + ("" if sample["converged"] else " (not converged)"),
        f"{sample['ess']:.0f}",
        "" if row["q"] is None else "{:.3f}, {:.3f}".format(*row["q"]),
    ]
    return "| " + " | ".join(cells) + " |"


def reference_line(case: Case, row: dict[str, Any]) -> str:
    (quoted, error), sample = case.quoted, row["sample"]
    apart = (sample["test_error"] - quoted) / np.hypot(error, sample["test_error_se"])
    here = with_error(sample["test_error"], sample["test_error_se"])
    return f"| {case.data_and_classes} | {case.architecture} | {with_error(quoted, error)} | {here} | {apart:+.1f} |"


def main() -> None:
    """Sample what is missing, then write the page."""
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
    PAGE.write_text(page(found))


if __name__ == "__main__":
    sys.exit(main())
