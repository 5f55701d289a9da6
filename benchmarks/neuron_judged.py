"""The single-neuron theory beside samples, on cases fixed on 2026-11-30 before anything was run on them.

None is among those of ``cases.py``, ``fresh_cases.py`` or ``curve_cases.py``.
``python benchmarks/neuron_judged.py FOLDER`` runs what is missing in ``neuron_judged.json``, every arm of every case in
a process of its own on one thread with nothing compiled beforehand, stops after about 9 minutes (call it again until it
says nothing), and writes the table of docs/neuron.md. FOLDER holds MNIST. ``--features`` compares what neurons learn on
three other cases. Rows "quadratic" and "nonlinear" in the file are of the code before the nonlinear response was
deleted (commit 48c6969).
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import parts
from cases import Case, convolutional, fully, load
from fresh_cases import load_fresh

import finitewidth as fw

JUDGED = (
    Case("mnist-7", fully(15), classes=(2, 7), temperature=0.02),
    Case("mnist-7", fully(20), classes=(3, 8)),
    Case("mnist-7", fully(30, activation="tanh"), classes=(4, 6), n_train=120),
    Case("mnist-7", fully(50, activation="relu"), classes=(5, 6), temperature=0.1),
    Case("mnist-7", fully(10), classes=(1, 9), temperature=0.1, n_train=90),
    Case("mnist-7", fully(100), classes=(0, 7), n_train=150),
    Case("mnist-7", fully(40), classes=(2, 8), temperature=0.01),
    Case("mnist-14", fully(20), classes=(0, 4)),
    Case("mnist-14", fully(40, activation="relu"), classes=(2, 6), n_train=120),
    Case("mnist-14", fully(60, activation="tanh"), classes=(8, 9), temperature=0.1, n_train=150),
    Case("mnist-14", fully(80), classes=(1, 5), temperature=0.02, n_train=150),
    Case("digits", fully(15), classes=(0, 8)),
    Case("digits", fully(30, activation="relu"), classes=(1, 4), temperature=0.02),
    Case("digits", fully(50, activation="tanh"), classes=(3, 9), n_train=120),
    Case("digits", fully(100), classes=(2, 7), temperature=0.1, n_train=150),
    Case("digits", fully(20), classes=(4, 7), temperature=0.2, n_train=90),
    Case("cancer", fully(20, activation="relu"), n_train=120),
    Case("cancer", fully(50), temperature=0.1, n_train=150),
    Case("cancer", fully(30, activation="tanh"), temperature=0.02),
    Case("wine", fully(20), temperature=0.1, n_train=90, n_test=80, classes=(0, 1, 2)),
    Case("mnist-14", convolutional(30, 7), classes=(5, 7)),
    Case("mnist-14", convolutional(20, 7, pool="average"), classes=(1, 3), temperature=0.1),
)
LEARNED = (
    Case("mnist-7", fully(20)),
    Case("digits", fully(30), classes=(3, 8)),
    Case("digits", fully(40), classes=(2, 3)),
)
STORE = Path(__file__).with_name("neuron_judged.json")
LIMIT = 60  # processor seconds of the theory; samples have none
ALONE = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "JAX_ENABLE_COMPILATION_CACHE": "false"}
AT_ONCE = 540.0  # seconds of one call
ARMS: dict[str, Any] = {
    "truth": fw.Sample(accuracy=0.01),
    "neuron": fw.SingleNeuron(seconds=3600.0),
    "sample": fw.Sample(accuracy=0.06, seed=1),
    "saddle": "saddle",
}


def sets_of(case: Case, folder: Path) -> tuple[fw.Dataset, fw.Dataset]:
    """Training and test part."""
    return load(case, folder) if case.data == "digits" else load_fresh(case, folder)


def row_of(case: Case, arm: str, folder: Path) -> dict[str, Any]:
    """Errors of one arm, in a process of its own."""
    train, test = sets_of(case, folder)
    return fw.learning_curve(case.network, train, test, temperature=case.temperature, method=ARMS[arm])[0].to_dict()


def measured(case: Case, arm: str, folder: Path) -> dict[str, Any]:
    """The row of ``row_of``, or that it was cut off; processor seconds of the whole process, imports included."""

    def limit() -> None:
        if arm == "neuron":
            resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT))

    before, started = used(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, __file__, str(folder), "--one", str(JUDGED.index(case)), arm],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=limit,
        env=os.environ | ALONE,
        check=False,
    )
    if done.returncode not in (0, -signal.SIGKILL):
        raise SystemExit(f"{case}: {arm} failed")
    took = {"processor_seconds": used() - before, "seconds": time.perf_counter() - started}
    return (json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"cut": True}) | took


def used() -> float:
    """Processor seconds of all processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def features_of(case: Case, folder: Path) -> dict[str, Any]:
    """Leading eigenvalue and eigenvector of the weight covariance, beside sampled ones."""
    train, test = sets_of(case, folder)
    solution = fw.solve(case.network, train, case.temperature, ARMS["neuron"])
    draws = fw.sample(case.network, train, test, case.temperature, draws=500, observables=("weight_covariance",))
    values, vectors = np.linalg.eigh(draws.observables["weight_covariance"].mean)
    found = {"case": str(case), "sampled": float(values[-1]), "converged": solution.converged}
    if solution.converged:
        (value,), field = solution.features.receptive_fields(1)
        found |= {"theory": float(value), "overlap": float(abs(field.ravel() @ vectors[:, -1]))}
        found |= {"specialised": solution.features.specialised}
    return found


def table(found: dict[str, Any]) -> list[str]:
    """Every case that was run."""
    lines = ["| case | sampled to 1 % | s | neuron, off, % | s | action, off, % |", "|---|---|---|---|---|---|"]
    for case in JUDGED:
        rows = found.get(str(case), {})
        if "neuron" not in rows or "truth" not in rows:
            continue
        truth, neuron = rows["truth"], rows["neuron"]
        off = "no answer" if not neuron.get("converged") else f"{percent(neuron, truth):+.1f}"
        action = f"{percent(rows['saddle'], truth):+.1f}" if "saddle" in rows else ""
        lines.append(
            f"| {str(case).removesuffix(', saddle')} | {truth['test_error']:.4f} ± {truth['test_error_se']:.4f} "
            f"| {truth['processor_seconds']:.0f} | {off} | {neuron['processor_seconds']:.0f} | {action} |"
        )
    return lines


def percent(row: dict[str, Any], truth: dict[str, Any]) -> float:
    """How far the test error is off."""
    return 100.0 * float(row["test_error"] / truth["test_error"] - 1.0)


def main() -> None:
    """Run what is missing."""
    folder = Path(sys.argv[1])
    if "--one" in sys.argv:
        place, arm = sys.argv[-2:]
        from finitewidth.display.documents import json_ready

        print(json.dumps(json_ready(row_of(JUDGED[int(place)], arm, folder))))
        return
    if "--features" in sys.argv:
        for case in LEARNED:
            print(features_of(case, folder), flush=True)
        return
    found = json.loads(STORE.read_text()) if STORE.exists() else {}
    ends = time.perf_counter() + AT_ONCE
    for arms in (("truth", "neuron"), ("sample", "saddle")):
        for case, arm in itertools.product(JUDGED, arms):
            if arm in found.setdefault(str(case), {}):
                continue
            if time.perf_counter() > ends - LIMIT:
                print("call it again")
                return
            found[str(case)][arm] = one = measured(case, arm, folder)
            STORE.write_text(json.dumps(found, indent=1) + "\n")
            shown = {name: one.get(name) for name in ("test_error", "test_error_se", "converged", "message")}
            print(f"{case}: {arm} {one['processor_seconds']:.1f} s, {shown}", flush=True)
    parts.write("neuron.md", "table", table(found))


if __name__ == "__main__":
    main()
