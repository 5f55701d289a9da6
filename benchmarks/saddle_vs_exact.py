"""How fast the saddle becomes exact: ``python benchmarks/saddle_vs_exact.py`` prints docs/saddle_vs_exact.md.

Linear networks with one output, for which integration over the order parameters is exact (Bassetti et al. 2025).
"""

from __future__ import annotations

import numpy as np

import finitewidth as fw

HEAD = """# The saddle against the exact posterior

Produced by `python benchmarks/saddle_vs_exact.py`. Linear networks, one output, T = 0.2, a noisy linear teacher, 50
test points; hidden layers N, (N, 2N), (N, 2N, N). Exact: `method="integrate"`, itself held to importance sampling and
to SciPy's quadrature in `tests/exact/test_linear_oracle.py`. The exponent is the slope of log error in log N, over all
widths and over the last doubling; a law 1/N is -1, reached once N is well above P (on some data the coefficient of 1/N
of the test error nearly vanishes; the fall is then faster).
"""
SIZES = np.array([20, 40, 80, 160, 320])
SHAPES = {1: (1,), 2: (1, 2), 3: (1, 2, 1)}
TEMPERATURE = 0.2
CASES = ((15, 20), (12, 6), (40, 10))  # training points, inputs: P < inputs and P > inputs


def data(n_train, n_inputs, seed=0):
    """A noisy linear teacher: training set, 50 test points."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n_train + 50, n_inputs))
    y = x[:, 0] + 0.3 * rng.standard_normal(n_train + 50)
    return fw.Dataset(x[:n_train], y[:n_train], classes=()), fw.Dataset(x[n_train:], y[n_train:], classes=())


def relative_errors(train, test, shape):
    """(sizes, 2): of the test error, and of the log evidence per training point (absolute, nats)."""
    out = []
    for size in SIZES:
        network = fw.FullyConnected(widths=tuple(int(size) * w for w in shape), activation="linear")
        exact, saddle = (fw.solve(fw.theory_of(network, TEMPERATURE, method=m), train) for m in ("integrate", "saddle"))
        a, b = (fw.predict(s, test.x).errors(test.y).test_error for s in (exact, saddle))
        out.append((abs(b / a - 1.0), abs(saddle.log_evidence - exact.log_evidence) / len(train)))
    return np.array(out)


def exponent(values):
    """Slope of log error in log N."""
    return float(np.polyfit(np.log(SIZES), np.log(values), 1)[0])


def main() -> None:
    """Print the page."""
    print(HEAD)
    for title, column in (
        ("Relative error of the test error", 0),
        ("Error of the log evidence per training point, nats", 1),
    ):
        print(f"## {title}\n")
        print("| P | inputs | L | " + " | ".join(f"N = {n}" for n in SIZES) + " | exponent | last doubling |")
        print("|---|---|---|" + "---|" * (len(SIZES) + 2))
        for n_train, n_inputs in CASES:
            train, test = data(n_train, n_inputs)
            for depth, shape in SHAPES.items():
                values = relative_errors(train, test, shape)[:, column]
                cells = " | ".join(f"{v:.2e}" for v in values)
                last = np.log2(values[-1] / values[-2])
                print(f"| {n_train} | {n_inputs} | {depth} | {cells} | {exponent(values):.2f} | {last:.2f} |")
        print()


if __name__ == "__main__":
    main()
