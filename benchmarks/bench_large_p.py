"""Many points: the Krylov way against the eigendecomposition, its seconds and memory, and the same on Dask workers.

    python benchmarks/bench_large_p.py accuracy [seeds]     P = 4000: every width and scale against the exact solution
    python benchmarks/bench_large_p.py curve P [cap in GB]  a curve of 20 widths: seconds, peak memory, passes
    python benchmarks/bench_large_p.py growth P P ..        the same for several P, each in its own process, and a fit
    python benchmarks/bench_large_p.py pass P P ..          one product with the kernel, kept and made anew
    python benchmarks/bench_large_p.py dask P               local Dask workers against this process

MNIST is read from ``../shared/data/mnist_10k.npz`` or $FINITEWIDTH_DATA; more than 9500 points repeat it with noise.
What it prints is the record in docs/large_p.md.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import finitewidth as fw
from finitewidth.kernels.operator import GramOperator, stored_bytes
from finitewidth.linalg import available_memory
from finitewidth.theory.rows import row_of

FOLDER = Path(os.environ.get("FINITEWIDTH_DATA", Path(__file__).parents[2] / "shared" / "data"))
NETWORK = fw.FullyConnected(widths=(100,))
WIDTHS = [int(w) for w in np.geomspace(10, 10_000, 20)]
SCALES = (0.01, 0.1, 1.0, 10.0, 100.0)
TEMPERATURE = 0.05
N_TEST = 500
PIXEL_NOISE = 0.1


def mnist(count: int) -> tuple[fw.Dataset, fw.Dataset]:
    """Even against odd digits, 784 pixels; beyond 9500 points, images drawn again with noise on every pixel."""
    with np.load(FOLDER / "mnist_10k.npz", allow_pickle=False) as held:
        images, digits = held["x"].reshape(10_000, -1) / 255.0, held["y"].astype(int)
    rng = np.random.default_rng(0)
    order = rng.permutation(10_000)
    chosen = order[N_TEST : N_TEST + count]
    if count > len(chosen):
        chosen = rng.choice(order[N_TEST:], count)
    both = images[np.concatenate([chosen, order[:N_TEST]])]
    if count > 9500:
        both += PIXEL_NOISE * rng.standard_normal(both.shape)
    y = np.where(digits[np.concatenate([chosen, order[:N_TEST]])] % 2 == 0, 1.0, -1.0)
    both -= both[:count].mean(0)
    both /= np.sqrt(np.mean(both[:count] ** 2))
    return fw.Dataset(both[:count], y[:count]), fw.Dataset(both[count:], y[count:])


def synthetic(count: int) -> tuple[fw.Dataset, fw.Dataset]:
    """784 Gaussian inputs of decaying variance, labels of a quadratic teacher with a tenth of them flipped."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((count + N_TEST, 784)) * np.arange(1, 785) ** -0.5
    x /= np.sqrt(np.mean(x**2))
    hidden = np.tanh(x @ rng.standard_normal((784, 20)) / 5.0)
    y = np.sign(hidden @ rng.standard_normal(20)) * np.where(rng.random(count + N_TEST) < 0.1, -1.0, 1.0)
    return fw.Dataset(x[:count], y[:count]), fw.Dataset(x[count:], y[count:])


def accuracy(seeds: int) -> None:
    """Test errors, log-determinants and evidences against the eigendecomposition, and how often estimates cover."""
    for make in (mnist, synthetic):
        train, test = make(4000)
        started = time.perf_counter()
        exact = fw.learning_curve(NETWORK, train, test, WIDTHS, TEMPERATURE, method=fw.Saddle(solver="exact"))
        print(f"\n{make.__name__}, P = 4000: exact {time.perf_counter() - started:.0f} s")
        spectrum = fw.theory_of(NETWORK, TEMPERATURE, method=fw.Saddle(solver="exact")).factorise(train).spectrum.values
        compared = [against_exact(train, test, exact, spectrum, seed) for seed in range(seeds)]
        for name in ("test error", "log det", "log evidence"):
            off = np.array([c[name] for c in compared])
            print(
                f"{name:>13}: largest difference {off[..., 0].max():.2e}, root mean square "
                f"{np.sqrt(np.mean(off[..., 0] ** 2)):.2e}; mean estimate {off[..., 1].mean():.2e}; covered "
                f"{np.sum(off[..., 0] <= off[..., 1])} of {off[..., 0].size}"
            )
        print("log det, by scale: " + ", ".join(f"s = {s:g}: {e:.1e}" for s, e in by_scale(compared)))
        print(f"converged {sum(c['converged'] for c in compared)} of {len(compared) * len(WIDTHS)}; ", end="")
        print("seconds " + ", ".join(f"{c['seconds']:.0f}" for c in compared), flush=True)


def against_exact(train: fw.Dataset, test: fw.Dataset, exact: fw.LearningCurve, values: np.ndarray, seed: int) -> dict:
    """(difference, estimate) of one seed; relative for test errors and log-determinants, nats for evidences."""
    started = time.perf_counter()
    solver = fw.Solver("krylov", seed=seed)
    theories = [fw.theory_of(NETWORK.with_width(w), TEMPERATURE, method=fw.Saddle(solver=solver)) for w in WIDTHS]
    shared = theories[0].factorise(train)
    rows = [row_of(theory.solve(train, shared), test) for theory in theories]
    seconds = time.perf_counter() - started
    dets = []
    for s in SCALES:
        truth = np.log1p(s * values / TEMPERATURE).sum()
        found = float(shared.energy.multiplicity @ np.log1p(s * shared.energy.values / TEMPERATURE))
        dets.append((abs(found / truth - 1.0), shared.errors(s, TEMPERATURE, (), 0.0).log_det / truth))
    pairs = list(zip(rows, exact, strict=True))
    return {
        "test error": [(abs(r.test_error / e.test_error - 1.0), r.solver_error) for r, e in pairs],
        "log evidence": [(abs(r.log_evidence - e.log_evidence), r.log_evidence_error) for r, e in pairs],
        "log det": dets,
        "converged": sum(row.converged for row in rows),
        "seconds": seconds,
    }


def by_scale(compared: list[dict]) -> list[tuple[float, float]]:
    return list(zip(SCALES, np.array([c["log det"] for c in compared])[..., 0].max(0), strict=True))


def curve(count: int, cap: float) -> None:
    """One curve in this process; prints a JSON line."""
    train, test = mnist(count)
    started, processor = time.perf_counter(), time.process_time()
    theories = [fw.theory_of(NETWORK.with_width(w), TEMPERATURE, method=fw.Saddle(solver="krylov")) for w in WIDTHS]
    shared = theories[0].factorise(train, cap * 1e9)
    rows = [row_of(theory.solve(train, shared), test) for theory in theories]
    found = {
        "P": count,
        "widths": len(rows),
        "seconds": round(time.perf_counter() - started, 1),
        "processor seconds": round(time.process_time() - processor, 1),
        "peak GiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "stored": shared.operator.keep,
        "dimensions": shared.space.size,
        "passes": shared.operator.passes,
        "converged": sum(row.converged for row in rows),
        "largest estimated error": float(f"{max(row.solver_error or np.nan for row in rows):.2g}"),
        "log evidence error": float(f"{max(row.log_evidence_error or np.nan for row in rows):.2g}"),
        "test errors": [round(rows[k].test_error, 5) for k in (0, 10, 19)],
    }
    print(json.dumps(found), flush=True)


def growth(counts: list[int]) -> None:
    """Curves of several sizes, each in its own process, and the power law of their seconds."""
    found = []
    for count in counts:
        done = subprocess.run(
            [sys.executable, __file__, "curve", str(count)], capture_output=True, text=True, check=True
        )
        print(done.stdout.strip(), flush=True)
        found.append(json.loads(done.stdout))
    for name in ("seconds", "processor seconds"):
        power_law([f["P"] for f in found], [f[name] for f in found], name)


def power_law(counts: list[int], seconds: list[float], name: str) -> None:
    if len(counts) > 1:
        slope, start = np.polyfit(np.log(counts), np.log(seconds), 1)
        predicted = np.exp(start + slope * np.log(counts))
        worst = float(np.max(np.abs(predicted / seconds - 1.0)))
        at = float(np.exp(start + slope * np.log(1e5)))
        print(f"{name} ~ P^{slope:.2f} (within {100 * worst:.0f} %); at P = 100,000: {at:.3g}", flush=True)


def one_pass(counts: list[int]) -> None:
    """Seconds of one product with 32 columns, of the clock and of the processors; kept only where memory is there."""
    seconds: dict[bool, list[tuple[int, float, float]]] = {True: [], False: []}
    for count in counts:
        train, _ = mnist(count)
        columns = np.random.default_rng(0).standard_normal((count, 32))
        for keep in (True, False):
            if keep and stored_bytes(count, np.float32) > 0.5 * available_memory():
                continue
            made, operator = timed(partial(GramOperator, NETWORK, train.x, keep))
            taken, _ = timed(partial(operator.__matmul__, columns))
            seconds[keep].append((count, *taken))
            print(
                f"P = {count}, {'kept' if keep else 'made anew'}: {shown(made)} to begin, {shown(taken)} a pass",
                flush=True,
            )
            del operator
    for keep, found in seconds.items():
        for k, name in ((1, "clock"), (2, "processors")):
            power_law([f[0] for f in found], [f[k] for f in found], f"{'kept' if keep else 'made anew'}, {name}")


def timed(work: Callable[[], Any]) -> tuple[tuple[float, float], Any]:
    started = time.perf_counter(), time.process_time()
    out = work()
    return (time.perf_counter() - started[0], time.process_time() - started[1]), out


def shown(seconds: tuple[float, float]) -> str:
    return f"{seconds[0]:.2f} s ({seconds[1]:.2f} of processors)"


def on_workers(count: int) -> None:
    """The same curve with products in this process and on two local worker processes."""
    from distributed import Client, LocalCluster

    train, test = mnist(count)
    rows = {}
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        for name, client_or_none in (("this process", None), ("two workers", client)):
            started = time.perf_counter()
            solver = fw.Solver("krylov", client=client_or_none, precision="single")
            rows[name] = fw.learning_curve(NETWORK, train, test, WIDTHS, TEMPERATURE, method=fw.Saddle(solver=solver))
            print(f"P = {count}, {name}: {time.perf_counter() - started:.1f} s", flush=True)
    pairs = list(zip(*rows.values(), strict=True))
    off = max(abs(a.test_error / b.test_error - 1.0) for a, b in pairs)
    nats = max(abs(a.log_evidence - b.log_evidence) for a, b in pairs)
    print(f"largest differences: test error {off:.1e} relative, log evidence {nats:.1e} nats")


def main(arguments: list[str]) -> None:
    command, numbers = arguments[0], [float(text) for text in arguments[1:]]
    counts = [int(n) for n in numbers]
    if command == "accuracy":
        accuracy(*(counts or [10]))
    elif command == "curve":
        curve(counts[0], numbers[1] if len(numbers) > 1 else 4.0 * 2**30 / 1e9)
    elif command == "growth":
        growth(counts)
    elif command == "pass":
        one_pass(counts)
    else:
        on_workers(counts[0])


if __name__ == "__main__":
    main(sys.argv[1:])
