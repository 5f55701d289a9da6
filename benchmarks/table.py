"""``make bench``: one table of this project beside other libraries, and how its seconds grow; into docs/benchmarks.md.

    python benchmarks/table.py [--quick]

Every ratio is ours over theirs: two pieces of work on the same inputs, timed in turn in this one process, each library
on one thread. Spread: of the pairs. ``--quick`` takes small problems, to see that it runs; it writes nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import parts
from pairs import compare, times
from scipy.linalg import eigh

import finitewidth as fw

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}
PAGE, FIGURE = "benchmarks.md", "growth_laws.svg"
T = 0.05


@dataclass(frozen=True)
class Line:
    """One row of the table: pairs of seconds, or of seconds for one effective sample."""

    what: str
    against: str
    ours: list[float]
    theirs: list[float]
    note: str = ""

    def __str__(self) -> str:
        ratios = [a / b for a, b in zip(self.ours, self.theirs, strict=True)]
        cells = (
            self.what,
            self.against,
            f"{np.median(self.ours):.3g}",
            f"{np.median(self.theirs):.3g}",
            f"**{np.median(ratios):.2g}** ({min(ratios):.2g}-{max(ratios):.2g})",
            self.note,
        )
        return "| " + " | ".join(cells) + " |"


def data(count: int, points: int = 200, inputs: int = 784) -> tuple[fw.Dataset, fw.Dataset]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((count + points, inputs))
    y = np.sign(x @ rng.standard_normal(inputs))
    return fw.Dataset(x[:count], y[:count]), fw.Dataset(x[count:], y[count:], classes=(-1, 1))


def line(what: str, against: str, ours: Callable[[], object], theirs: Callable[[], object], note: str = "") -> Line:
    print(f"{what} / {against} ...", file=sys.stderr, flush=True)
    ratio = compare(ours, theirs, runs=5)
    return Line(what, against, ratio.ours, ratio.yardstick, note)


# --- other libraries --------------------------------------------------------------------------------------------------


def against_scipy(count: int) -> list[Line]:
    train, test = data(count)
    network, widths = fw.FullyConnected(widths=(10,)), [int(w) for w in np.geomspace(10, 10_000, 20)]
    K = fw.kernels.nngp(network, train.x)
    theory = fw.theory_of(network, T)
    shared = theory.factorise(train)
    return [
        line(
            f"learning curve, 20 widths, P = {count}",
            "SciPy `eigh` of K",
            lambda: fw.learning_curve(network, train, test, widths, T),
            lambda: eigh(K),
            "ours makes K and predicts 200 points too",
        ),
        line(
            f"one more width and temperature, P = {count}",
            "SciPy `eigh` of K",
            lambda: fw.theory_of(fw.FullyConnected(widths=(317,)), 0.07).solve(train, shared),
            lambda: eigh(K),
        ),
        line(
            f"learning curve by Krylov space, P = {count}, within 1 %",
            "SciPy `eigh` of K",
            lambda: fw.learning_curve(network, train, test, widths, T, method=fw.Saddle(solver="krylov")),
            lambda: eigh(K),
            "for memory, not for speed at this P",
        ),
    ]


def against_scikit_learn(count: int) -> list[Line]:
    """A linear network at infinite width is a Gaussian process with a dot-product kernel: equal numbers."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct

    train, test = data(count)
    network = fw.FullyConnected(widths=(10,), activation="linear")
    kernel = ConstantKernel(1.0 / train.n_inputs, "fixed") * DotProduct(0.0, "fixed")
    temperatures = [float(t) for t in np.geomspace(0.01, 1.0, 10)]

    def theirs(some: list[float]) -> tuple[np.ndarray, np.ndarray]:
        for t in some:
            model = GaussianProcessRegressor(kernel, alpha=t, optimizer=None).fit(train.x, train.y)
            out = model.predict(test.x, return_std=True)
        return out

    def ours(some: list[float]) -> object:
        return fw.learning_curve(network, train, test, temperature=some, method="infinite")

    mean, sd = theirs(temperatures[:1])
    found = fw.predict(fw.solve(fw.theory_of(network, temperatures[0], method="infinite"), train), test.x)
    apart = max(np.abs(found.mean - mean).max(), np.abs(found.std - sd).max())
    assert apart < 1e-6, apart
    name = "scikit-learn `GaussianProcessRegressor`"
    note = f"equal to {apart:.0e}"
    return [
        line(
            f"infinite width, one temperature, P = {count}",
            name,
            lambda: ours(temperatures[:1]),
            lambda: theirs(temperatures[:1]),
            note,
        ),
        line(
            f"infinite width, ten temperatures, P = {count}",
            name,
            lambda: ours(temperatures),
            lambda: theirs(temperatures),
            note,
        ),
    ]


def against_jax(count: int) -> list[Line]:
    import jax
    import jax.numpy as jnp

    x = data(count)[0].x

    def plain(depth: int) -> Callable[[np.ndarray], jax.Array]:
        @jax.jit
        def kernel(x: jax.Array) -> jax.Array:
            K = x @ x.T / x.shape[1]
            for _ in range(depth):
                root = jnp.sqrt(1.0 + 2.0 * jnp.diagonal(K))
                K = 2.0 / jnp.pi * jnp.arcsin(jnp.clip(2.0 * K / root[:, None] / root, -1.0, 1.0))
            return K

        return kernel

    lines = []
    with jax.enable_x64(True):
        for depth in (1, 3):
            network, theirs = fw.FullyConnected(widths=(10,) * depth), plain(depth)
            apart = np.abs(fw.kernels.nngp(network, x) - np.asarray(theirs(x))).max()
            assert apart < 1e-12, apart
            lines.append(
                line(
                    f"erf kernel of depth {depth}, ({count}, 784)",
                    "`jax.jit` of the same formula",
                    lambda n=network: fw.kernels.nngp(n, x),
                    lambda f=theirs: f(x).block_until_ready(),
                    f"equal to {apart:.0e}",
                )
            )
    return lines


def against_blackjax(repeats: int) -> list[Line]:
    from bench_sampling import speed
    from cases import Case, fully

    case = Case("digits", fully(20), classes=(6, 9), temperature=0.05, n_train=60, n_test=100)
    seconds: dict[str, list[float]] = {"collapsed": [], "nuts": []}
    for seed in range(repeats):
        for sampler, draws in (("collapsed", 200), ("nuts", 100)):
            print(f"sampler {sampler}, seed {seed} ...", file=sys.stderr, flush=True)
            seconds[sampler].append(1.0 / speed(case, seed=seed, sampler=sampler, draws=draws).of_draws)
    return [
        Line(
            "one effective draw of the test error, digits 6/9, P = 60, N = 20",
            "BlackJAX NUTS on all weights",
            seconds["collapsed"],
            seconds["nuts"],
            "drawing only; processor seconds",
        )
    ]


# --- growth -----------------------------------------------------------------------------------------------------------


Growth = dict[str, tuple[str, list[float], list[float]]]


def growth(quick: bool) -> Growth:
    """name -> (what is solved, sizes, seconds)."""
    step = 4 if quick else 1
    rng = np.random.default_rng(0)
    out: Growth = {}

    def measure(name: str, what: str, sizes: list[int], work: Callable[[int], object]) -> None:
        print(f"growth with {name} ...", file=sys.stderr, flush=True)
        out[name] = (what, [float(s) for s in sizes], [min(times(lambda s=s: work(s), 3)) for s in sizes])

    sets = {p: data(p // step, 100) for p in (400, 800, 1600, 3200)}
    measure("P", "one hidden layer", list(sets), lambda p: fw.learning_curve(fw.FullyConnected(widths=(50,)), *sets[p]))
    middle = sets[400]
    measure(
        "N",
        "one hidden layer, P = 400",
        [10, 100, 1000, 10_000, 100_000],
        lambda n: fw.learning_curve(fw.FullyConnected(widths=(n,)), *middle),
    )
    images = fw.Dataset(rng.standard_normal((200 // step, 16, 16)), np.sign(rng.standard_normal(200 // step)))
    measure(
        "n",
        "convolutional, P = 200",
        [4, 16, 64],
        lambda n: fw.solve(fw.theory_of(fw.Convolutional(channels=50, patch=16 // round(n**0.5)), T), images),
    )
    x = middle[0].x
    many = {d: fw.Dataset(x, (x @ rng.standard_normal((784, d))).argmax(1)) for d in (3, 6, 12, 24)}
    measure(
        "D",
        "one hidden layer, P = 400",
        list(many),
        lambda d: fw.solve(fw.theory_of(fw.FullyConnected(widths=(200,)), T), many[d]),
    )
    small = data(200 // step)[0]
    measure(
        "L",
        "nested closure, P = 200",
        [2, 3, 4, 5],
        lambda depth: fw.solve(fw.theory_of(fw.FullyConnected(widths=(50,) * depth), T), small),
    )
    return out


def exponent(sizes: list[float], seconds: list[float]) -> tuple[float, float]:
    """Slope of log seconds, and the largest relative deviation from the fit."""
    slope, start = np.polyfit(np.log(sizes), np.log(seconds), 1)
    fitted = np.exp(start + slope * np.log(sizes))
    return float(slope), float(np.abs(fitted / seconds - 1.0).max())


def draw(found: Growth, path: Path) -> None:
    from finitewidth.report import plots

    plots.require_matplotlib()
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(found), figsize=(2.2 * len(found), 2.3), sharey=True, layout="constrained")
    for ax, (name, (what, sizes, seconds)) in zip(axes, found.items(), strict=True):
        slope, start = np.polyfit(np.log(sizes), np.log(seconds), 1)
        ax.loglog(sizes, seconds, "o", ms=4)
        ax.loglog(sizes, np.exp(start) * np.array(sizes) ** slope, lw=1)
        ax.set_title(f"{what}\n~ {name}^{slope:.2f}", fontsize=7)
        ax.set_xlabel(name)
        ax.minorticks_off()
        ax.set_xticks(sizes, [f"{s:g}" for s in sizes], fontsize=6, rotation=40)
        ax.tick_params(axis="y", labelsize=6)
    axes[0].set_ylabel("seconds")
    figure.savefig(path, metadata={"Date": None})


# --- output -----------------------------------------------------------------------------------------------------------


def machine() -> str:
    import jax
    import scipy
    import sklearn

    model = "unknown processor"
    with open("/proc/cpuinfo") as lines:
        model = next((text.split(":")[1].strip() for text in lines if text.startswith("model name")), model)
    avx512 = np._core._multiarray_umath.__cpu_features__["AVX512_SKX"]
    load = os.getloadavg()[0]
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} x {model} ({'with' if avx512 else 'without'} AVX-512), one "
        f"thread each, load average {load:.1f} at the end (other programs on the machine lengthen both sides); Python "
        f"{platform.python_version()}, NumPy {np.__version__}, SciPy {scipy.__version__}, scikit-learn "
        f"{sklearn.__version__}, JAX {jax.__version__}."
    )


def document(lines: list[Line], found: Growth) -> list[str]:
    laws = [
        f"| {name} | {what} | {', '.join(f'{s:g}' for s in sizes)} | {', '.join(f'{t:.3g}' for t in seconds)} | "
        f"{exponent(sizes, seconds)[0]:.2f} ({100 * exponent(sizes, seconds)[1]:.0f} %) |"
        for name, (what, sizes, seconds) in found.items()
    ]
    return [
        f"Written by `make bench`. {machine()}",
        "",
        "| ours | against | ours, s | theirs, s | ratio, median (all pairs) | |",
        "|---|---|---|---|---|---|",
        *map(str, lines),
        "",
        "| grows with | of | sizes | seconds | exponent (largest deviation of the fit) |",
        "|---|---|---|---|---|",
        *laws,
        "",
        f"![seconds against sizes]({FIGURE})",
    ]


def main() -> None:
    if any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):  # libraries read them when they start
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ONE_THREAD)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    count = 300 if options.quick else 2000
    lines = against_scipy(count) + against_scikit_learn(count) + against_jax(count)
    lines += against_blackjax(1 if options.quick else 3)
    found = growth(options.quick)
    written = document(lines, found)
    print(*written, sep="\n")
    if not options.quick:
        draw(found, parts.DOCS / FIGURE)
        parts.write(PAGE, "make bench", written)


if __name__ == "__main__":
    main()
