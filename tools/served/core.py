"""What core dependencies alone serve, and what is said where an extra is missing."""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import finitewidth as fw
from finitewidth.cli import main

# what the extras alone bring: none of it may be here, or this would show nothing (pydantic comes with Typer 0.29 too)
EXTRAS = ("arviz", "blackjax", "dask", "distributed", "jax", "matplotlib", "mlxtend", "optax", "pandas", "PIL")
EXTRAS = (*EXTRAS, "xarray", "yaml")
assert [name for name in EXTRAS if find_spec(name)] == []

for name in fw.__all__:
    getattr(fw, name)
for module in (fw.data, fw.kernels, fw.sweeps):
    for name in module.__all__:
        getattr(module, name)
for place in ("networks", "theory", "sampling", "training"):
    module = importlib.import_module(f"finitewidth.{place}")
    for name in module.__all__:
        getattr(module, name)

train, test = fw.data.digits(classes=(6, 9), n_train=40, n_test=30)
network = fw.FullyConnected(widths=(20,))
local = fw.Convolutional(channels=20, patch=4)
for described, methods in ((network, ("saddle", "integrate", "infinite")), (local, ("saddle", "infinite"))):
    for method in methods:
        solution = fw.solve(fw.theory_of(described, temperature=0.05, method=method), train)
        errors = fw.predict(solution, test.x).errors(test.y)
        assert solution.converged
        assert 0.0 < errors.test_error < 1.5
assert fw.FiniteWidthClassifier(widths=(20,)).fit(train.flat, train.labels).score(test.flat, test.labels) > 0.8
krylov = fw.learning_curve(network, train, test, widths=[20], temperature=0.05, method=fw.Saddle(solver="krylov"))
exact = fw.learning_curve(network, train, test, widths=[20], temperature=0.05, method=fw.Saddle(solver="exact"))
np.testing.assert_allclose(krylov.column("test_error"), exact.column("test_error"), rtol=1e-3)
assert main(["predict", "--data", "digits", "--classes", "6,9", "--n-train", "40", "--n-test", "30", "--json"]) == 0

Path("plan.yaml").write_text("data: digits\ngrid:\n  width: [10]\n")
WITHOUT = {
    "sample": lambda: fw.sample(network, train, test, 0.05, chains=2, draws=10),
    "plot": lambda: importlib.import_module("finitewidth.report.plots").new_figure(),
    "data": lambda: fw.data.mnist(n_train=10),
    "sweep": lambda: fw.sweeps.run("plan.yaml", "out"),
    "table": lambda: fw.sweeps.read("out"),
}
for extra, call in WITHOUT.items():
    try:
        call()
    except fw.MissingExtraError as error:
        if f"finitewidth[{extra}]" not in str(error):
            raise
    else:
        raise AssertionError(f"without the extra {extra} nothing was said")
assert [name for name in EXTRAS if name in sys.modules] == []
