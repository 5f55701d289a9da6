"""The single-neuron theory beside sampled networks, on every case of ``cases.py`` with one hidden layer.

``python benchmarks/neuron_against_samples.py FOLDER [--only TEXT]`` solves what is missing in
``benchmarks/neuron_cases.json`` (an hour on one core; an interrupt keeps what is done) and writes the tables of
docs/neuron.md from it; errors beside samples are in the table of ``theory_against_samples.py``. Weights and readouts
are sampled here. FOLDER holds MNIST and CIFAR-10.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import cases
import numpy as np
import parts
from cases import Case, convolutional, fully

import finitewidth as fw
from finitewidth.display.documents import json_ready

HERE = Path(__file__).resolve().parent
STORE = HERE / "neuron_cases.json"

FEATURES = (
    Case("mnist-7", fully(20)),
    Case("digits", fully(30), classes=(3, 8)),
    Case("mnist-14", fully(30, precision=(1.5, 0.7)), temperature=0.02, classes=(4, 9)),
)
# a second batch on structured data, fixed before any of them was solved or sampled; every one is shown
FURTHER = (
    Case("digits", fully(20), temperature=0.02, classes=(1, 7)),
    Case("digits", fully(40), classes=(2, 3)),
    Case("digits", fully(30, activation="tanh"), temperature=0.02, classes=(5, 8)),
    Case("digits", fully(30, precision=(1.5, 0.7)), classes=(0, 6)),
    Case("digits", fully(20), n_train=60, classes=(4, 9)),
    Case("mnist-14", fully(30), classes=(1, 7)),
    Case("mnist-7", fully(25), temperature=0.1, n_train=150, classes=(3, 5)),
)
PATCHES = (Case("mnist-14", convolutional(40, 7)), Case("cifar-16", convolutional(40, 8)))
# points, inputs, particles, rounds; the largest only so far that a round can be timed
SIZES = (
    (100, 49, 1200, (150, 150)),
    (150, 256, 1200, (150, 150)),
    (150, 256, 2400, (150, 150)),
    (400, 256, 2400, (60, 60)),
    (1000, 784, 3000, (6, 6)),
)


def solved(case: Case, folder: Path, **options: Any) -> tuple[Any, Any, float]:
    """Solution, errors and processor seconds of one case."""
    train, test = cases.load(case, folder)
    theory = fw.theory_of(case.network, case.temperature, method=fw.SingleNeuron(**options))
    started = time.process_time()
    solution = fw.solve(theory, train)
    return solution, fw.predict(solution, test.x).errors(test.y), time.process_time() - started


def errors_of(case: Case, folder: Path, **options: Any) -> dict[str, Any]:
    """Plain data of one case."""
    solution, errors, seconds = solved(case, folder, **options)
    (result, *_) = solution.predictor.results
    return {
        **{name: getattr(errors, name) for name in ("test_error", "bias", "variance", "train_error", "accuracy")},
        "converged": solution.converged,
        "message": solution.message,
        "residual": result.residual,
        "change": result.change,
        "strength": result.strength,
        "order_parameters": solution.order_parameters.tolist(),
        "rounds": result.position.round,
        "seconds": seconds,
    }


def features_of(case: Case, folder: Path) -> dict[str, Any]:
    """Leading eigenvalue and eigenvector of the weight covariance, beside sampled ones."""
    solution, errors, _ = solved(case, folder)
    train, test = cases.load(case, folder)
    action = fw.predict(fw.solve(fw.theory_of(case.network, case.temperature), train), test.x).errors(test.y)
    draws = fw.sample(
        case.network, train, test, case.temperature, draws=500, observables=("order_parameter", "weight_covariance")
    )
    sampled = np.linalg.eigh(draws.observables["weight_covariance"].mean)
    value, field = solution.features.receptive_fields(1)
    return {
        "theory": float(value[0]),
        "sampled": float(sampled[0][-1]),
        "overlap": float(abs(field.ravel() @ sampled[1][:, -1])),
        "specialised": solution.features.specialised,
        "converged": solution.converged,
        "test_errors": {
            "sampled": draws.errors(test.y).test_error,
            "se": draws.errors(test.y).test_error_se,
            "action": action.test_error,
            "neuron": errors.test_error,
        },
    }


def further_of(case: Case, folder: Path) -> dict[str, Any]:
    """Sampled, by the action and by this theory."""
    train, test = cases.load(case, folder)
    draws = fw.sample(case.network, train, test, case.temperature, draws=500)
    sampled = draws.errors(test.y)
    action = fw.predict(fw.solve(fw.theory_of(case.network, case.temperature), train), test.x).errors(test.y)
    sample = {"test_error": sampled.test_error, "se": sampled.test_error_se, "converged": sampled.converged}
    return {"sample": sample, "action": action.test_error, "neuron": errors_of(case, folder)}


def patches_of(case: Case, folder: Path) -> dict[str, Any]:
    """Largest difference of an entry of Q from the sampled readouts."""
    solution, _, _ = solved(case, folder)
    train, test = cases.load(case, folder)
    draws = fw.sample(case.network, train, test, case.temperature, draws=800)
    q = solution.q_map().square
    sampled = draws.observables["order_parameter"]
    return {
        "largest": float(np.abs(q - sampled.mean).max()),
        "se": float(sampled.standard_error.max()),
        "theory": q.tolist(),
        "sampled": sampled.mean.tolist(),
    }


def cost_of(points: int, inputs: int, particles: int, rounds: tuple[int, int]) -> dict[str, Any]:
    """Processor seconds and peak memory of one solution with predictions at 100 points, teacher data."""
    train, test = fw.data.linear_teacher(points, 100, inputs)
    options = fw.SingleNeuron(particles=particles, rounds=rounds, response="quadratic")
    theory = fw.theory_of(fw.FullyConnected(widths=(50,)), 0.05, method=options)
    started = time.process_time()
    solution = fw.solve(theory, train)
    error = fw.predict(solution, test.x).errors(test.y).test_error
    return {
        "seconds": time.process_time() - started,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "converged": solution.converged,
        "rounds": solution.predictor.results[0].position.round,
        "test_error": error,
    }


def jobs(folder: Path) -> dict[str, Any]:
    """Everything that the page shows, by name; what takes longest last."""
    work: dict[str, Any] = {}
    for case in [case for case in cases.CASES if case.network.depth == 1]:
        work[f"quoted (auto) {case}"] = lambda case=case: errors_of(case, folder)
    work = dict(sorted(work.items(), key=lambda item: item[0].startswith("quoted (auto) cifar")))
    for case in PATCHES:
        work[f"patches {case}"] = lambda case=case: patches_of(case, folder)
    for case in FURTHER:
        work[f"further {case}"] = lambda case=case: further_of(case, folder)
    for case in FEATURES:
        work[f"features {case}"] = lambda case=case: features_of(case, folder)
    for size in SIZES:
        work[f"cost {size}"] = lambda size=size: cost_of(*size)
    return work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    found = json.loads(STORE.read_text()) if STORE.exists() else {}
    for name, work in jobs(given.folder).items():
        if name in found or given.only not in name:
            continue
        found[name] = json_ready(work())
        STORE.write_text(json.dumps(found, indent=1) + "\n")
        print(name, {k: v for k, v in found[name].items() if isinstance(v, (float, bool))}, flush=True)
    parts.write("neuron.md", "tables", [*further_table(found), *features_table(found), *cost_table(found)])


def further_table(found: dict[str, Any]) -> list[str]:
    """The second batch."""
    rows = [(case, found[f"further {case}"]) for case in FURTHER if f"further {case}" in found]
    if not rows:
        return []
    lines = [
        "## More structured data",
        "",
        "Cases fixed before any of them was solved or sampled, where the action was expected to be far off.",
        "",
        "| case | sampled | action, % off | neuron, % off | processor seconds |",
        "|---|---|---|---|---|",
    ]
    for case, row in rows:
        sample, ours = row["sample"], row["neuron"]
        action, off = (100 * (x / sample["test_error"] - 1) for x in (row["action"], ours["test_error"]))
        flags = ["" if one["converged"] else " (not converged)" for one in (sample, ours)]
        lines.append(
            f"| {case} | {sample['test_error']:.4f} ± {sample['se']:.4f}{flags[0]} | {action:+.1f} "
            f"| {off:+.1f}{flags[1]} | {ours['seconds']:.0f} |"
        )
    return [*lines, ""]


def features_table(found: dict[str, Any]) -> list[str]:
    """Weight covariance, and Q of convolutional networks."""
    lines = [
        "## Features",
        "",
        "Weights and readouts beside those of sampled networks. Overlap: of the leading eigenvectors.",
        "",
        "| case | top eigenvalue of the weight covariance | sampled | off, % | overlap | specialised "
        "| test error sampled | action | neuron |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for case in FEATURES:
        row = found.get(f"features {case}")
        if row:
            off, tests = 100 * (row["theory"] / row["sampled"] - 1), row["test_errors"]
            lines.append(
                f"| {case} | {row['theory']:.3f} | {row['sampled']:.3f} | {off:+.1f} | {row['overlap']:.4f} "
                f"| {row['specialised']:.3f} | {tests['sampled']:.4f} ± {tests['se']:.4f} | {tests['action']:.4f} "
                f"| {tests['neuron']:.4f}{'' if row['converged'] else ' (not converged)'} |"
            )
    lines += ["", "| case | Q: largest difference of an entry from the sampled readouts | largest SE of an entry |"]
    lines += ["|---|---|---|"]
    for case in PATCHES:
        row = found.get(f"patches {case}")
        if row:
            lines.append(f"| {case} | {row['largest']:.3f} | {row['se']:.3f} |")
    return [*lines, ""]


def cost_table(found: dict[str, Any]) -> list[str]:
    """Time and memory."""
    lines = [
        "## Cost",
        "",
        "Teacher data, N = 50, 100 test points, one thread; processor seconds, compilation included. The cases with "
        "P = 100 to 150 that converged took 10 to 300.",
        "",
    ]
    lines += ["| P | N0 | M | rounds | processor seconds | peak of the process, GB | converged |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for size in SIZES:
        row = found.get(f"cost {size}")
        if row:
            points, inputs, particles, _ = size
            lines.append(
                f"| {points} | {inputs} | {particles} | {row['rounds']} | {row['seconds']:.0f} | {row['peak_gb']:.1f} "
                f"| {'yes' if row['converged'] else 'no'} |"
            )
    return [*lines, ""]


if __name__ == "__main__":
    main()
