"""The saddle beside exact posteriors of linear networks: ``python benchmarks/saddle_vs_exact.py``, some minutes.

It writes two tables into docs/theory_against_samples.md. One output: integration over the order parameters is exact
(Bassetti et al. 2025). Convolutions and several outputs: importance sampling over the Wishart prior of Q, by the oracle
of ``tests/exact/test_wishart_oracle.py``; P = N and the inputs grow along, as in the limit the theory is the leading
order of. Negative control there: infinite width, Q = 1, whose differences must not fall as 1/N.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import parts

import finitewidth as fw

SIZES = (20, 40, 80, 160, 320)
SHAPES = {1: (1,), 2: (1, 2), 3: (1, 2, 1)}
TEMPERATURE = 0.2
CASES = ((15, 20), (12, 6), (40, 10))  # training points, inputs: P < inputs and P > inputs
ORACLE = Path(__file__).parents[1] / "tests" / "exact" / "test_wishart_oracle.py"
WIDTHS = (20, 40, 80, 160)
SEEDS = (1, 2, 3, 4)  # data sets, averaged in the exponents
DRAWS = 4000
QUANTITIES = ("test error (relative)", "Q (relative)", "log evidence (nats a value)")


def data(n_train: int, n_inputs: int, seed: int = 0) -> tuple[fw.Dataset, fw.Dataset]:
    """A noisy linear teacher: training set, 50 test points."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n_train + 50, n_inputs))
    y = x[:, 0] + 0.3 * rng.standard_normal(n_train + 50)
    return fw.Dataset(x[:n_train], y[:n_train], classes=()), fw.Dataset(x[n_train:], y[n_train:], classes=())


def differences(train: fw.Dataset, test: fw.Dataset, shape: tuple[int, ...]) -> np.ndarray:
    """(2, sizes): of the test error, relative, and of the log evidence a training point, nats."""
    out = []
    for size in SIZES:
        network = fw.FullyConnected(widths=tuple(size * w for w in shape), activation="linear")
        exact, saddle = (fw.solve(fw.theory_of(network, TEMPERATURE, method=m), train) for m in ("integrate", "saddle"))
        a, b = (fw.predict(s, test.x).errors(test.y).test_error for s in (exact, saddle))
        out.append((abs(b / a - 1.0), abs(saddle.log_evidence - exact.log_evidence) / len(train)))
    return np.array(out).T


def exponent(sizes: tuple[int, ...], values: np.ndarray) -> float:
    """Slope of log values in log sizes."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def scalar_table() -> list[str]:
    """One output: test error and log evidence of every case and depth, at the ends and in the middle of the widths."""
    titles = [f"N = {n}" for n in SIZES[::2]] + ["exponent", "last doubling"]
    lines = [f"| P, inputs, L | test error: {' | '.join(titles)} | log evidence: {' | '.join(titles)} |"]
    lines.append("|---" * (1 + 2 * len(titles)) + "|")
    for n_train, n_inputs in CASES:
        train, test = data(n_train, n_inputs)
        for depth, shape in SHAPES.items():
            cells = []
            for values in differences(train, test, shape):
                cells += [f"{value:.1e}" for value in values[::2]]
                cells += [f"{exponent(SIZES, values):.2f}", f"{np.log2(values[-1] / values[-2]):.2f}"]
            lines.append(f"| {n_train}, {n_inputs}, {depth} | {' | '.join(cells)} |")
    return lines


def load_oracle() -> ModuleType:
    """The oracle's module, from its file."""
    spec = importlib.util.spec_from_file_location("wishart_oracle", ORACLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def matrix_table() -> list[str]:
    """Matrices Q: root-mean-square differences over the data sets, times N."""
    oracle, smallest = load_oracle(), np.inf
    lines = ["| linear network | difference × N of | " + " | ".join(f"N = {N}" for N in WIDTHS)]
    lines[0] += " | exponent | of infinite width |"
    lines.append("|---" * (len(WIDTHS) + 4) + "|")
    for name, make in oracle.PROBLEMS.items():
        off: dict[str, list[np.ndarray]] = {"saddle": [], "infinite": []}
        for N in WIDTHS:
            problems = [make(N, seed=seed) for seed in SEEDS]
            exact = [oracle.oracle_of(problem, N, draws=DRAWS) for problem in problems]
            smallest = min(smallest, *(one.effective for one in exact))
            for method, found in off.items():
                gaps = [
                    oracle.differences(oracle.saddle(problem, N, method), one, problem.train.y.size)[0]
                    for problem, one in zip(problems, exact, strict=True)
                ]
                found.append(np.sqrt(np.mean(np.square(gaps), axis=0)))
        for quantity, saddle, infinite in zip(QUANTITIES, *map(np.transpose, off.values()), strict=True):
            cells = " | ".join(f"{value:.2f}" for value in saddle * np.array(WIDTHS))
            slopes = f"{exponent(WIDTHS, saddle):.2f} | {exponent(WIDTHS, infinite):.2f}"
            lines.append(f"| {name} | {quantity} | {cells} | {slopes} |")
    return [*lines, "", f"Smallest effective number of draws: {smallest:.0f} of {DRAWS}."]


if __name__ == "__main__":
    parts.write("theory_against_samples.md", "one output", scalar_table())
    parts.write("theory_against_samples.md", "matrices", matrix_table())
