"""Cases that judge the validity statement and the first order, in two sets.

None of them is among the forty of ``cases.py``, on which the statement's bounds were chosen. SEEN was fixed on
2026-11-30 and judged an earlier statement, at the kernel of infinite width; that today's is made at the saddle's
kernel was decided with that look in mind. FRESH was fixed on 2026-12-01, before anything was run on it. Between its
fixing and its run one thing changed, on the forty alone: when a statement draws more neurons.
``python benchmarks/fresh_cases.py FOLDER`` samples what is missing (half an hour) and writes ``fresh_cases.json``.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from cases import Case, convolutional, diabetes, fully, locally, recipe, sampled

import finitewidth as fw
from finitewidth.display.documents import json_ready

SEEN = (
    Case("cancer", fully(25)),
    Case("cancer", fully(100, activation="relu"), temperature=0.1, n_train=150),
    Case("cancer", fully(40, 40, activation="tanh"), temperature=0.1),
    Case("diabetes", fully(30, activation="relu"), temperature=0.5),
    Case("diabetes", fully(60, 60), temperature=0.3, n_train=120),
    Case("wine", fully(50), temperature=0.1, n_train=90, n_test=80, classes=(0, 1, 2)),
    Case("wine", fully(30, 30, activation="relu"), temperature=0.2, n_train=90, n_test=80, classes=(0, 1, 2)),
    Case("friedman", fully(50), temperature=0.1, n_train=150),
    Case("friedman", fully(40, 40, activation="relu"), temperature=0.1),
    Case("friedman", fully(100, activation="tanh"), n_train=200),
    Case("mnist-7", fully(60), classes=(4, 9)),
    Case("mnist-7", fully(200), classes=(4, 9), temperature=0.02, n_train=150),
    Case("mnist-7", fully(50, 50), classes=(2, 7)),
    Case("mnist-14", fully(100, activation="relu"), classes=(5, 8), temperature=0.1),
    Case("mnist-14", fully(60, activation="tanh"), classes=(1, 7)),
    Case("mnist-7", fully(80, 80, 80), classes=(3, 5), temperature=0.1),
    Case("mnist-7", fully(40, 40, 40, 40, activation="relu"), classes=(0, 6), temperature=0.1),
    Case("cifar-8", fully(40), classes=(2, 5), temperature=0.1),
    Case("cifar-16", fully(100, 100), classes=(3, 7)),
    Case("cifar-8", fully(60, activation="relu"), classes=(1, 9), temperature=0.2),
    Case("cifar-8", fully(80, 80, 80, activation="tanh"), classes=(4, 6), temperature=0.1),
    Case("mnist-14", convolutional(30, 7), classes=(2, 3)),
    Case("cifar-16", locally(40, 8, activation="tanh"), classes=(0, 8), temperature=0.1),
    Case("mnist-14", convolutional(50, 7, activation="relu", pool="average"), classes=(6, 8)),
    Case("cifar-16", convolutional(60, 8, activation="relu"), classes=(1, 6), temperature=0.1),
)

FRESH = (
    Case("cancer", fully(60), temperature=0.1),
    Case("cancer", fully(50, 50, activation="relu"), temperature=0.1),
    Case("cancer", fully(80, activation="tanh"), temperature=0.2, n_train=120),
    Case("diabetes", fully(40, activation="tanh"), temperature=0.3, n_train=120),
    Case("diabetes", fully(30, 30, activation="relu"), temperature=0.5),
    Case("wine", fully(60, activation="relu"), temperature=0.1, n_train=90, n_test=80, classes=(0, 1, 2)),
    Case("wine", fully(40, 40), temperature=0.2, n_train=90, n_test=80, classes=(0, 1, 2)),
    Case("friedman", fully(40, activation="relu"), temperature=0.1, n_train=120),
    Case("friedman", fully(80, 80), temperature=0.1, n_train=150),
    Case("friedman", fully(30, activation="tanh"), temperature=0.2),
    Case("mnist-7", fully(40), classes=(2, 3), temperature=0.1),
    Case("mnist-7", fully(100, activation="relu"), classes=(5, 6), n_train=150),
    Case("mnist-7", fully(60, 60, activation="tanh"), classes=(1, 9), temperature=0.1),
    Case("mnist-14", fully(80), classes=(0, 9)),
    Case("mnist-14", fully(60, 60, 60), classes=(3, 4), temperature=0.1),
    Case("mnist-14", fully(50, 50, 50, activation="relu"), classes=(7, 9), temperature=0.1),
    Case("mnist-7", fully(50, 50, 50, 50), classes=(0, 8), temperature=0.1),
    Case("mnist-14", fully(40, activation="relu"), classes=(6, 7), temperature=0.02),
    Case("cifar-8", fully(60, 60), classes=(0, 3), temperature=0.1),
    Case("cifar-16", fully(50, activation="relu"), classes=(2, 9), temperature=0.1),
    Case("cifar-8", fully(40, 40, 40, activation="relu"), classes=(5, 7), temperature=0.2),
    Case("cifar-16", fully(100, activation="tanh"), classes=(1, 4)),
    Case("mnist-14", convolutional(40, 7, activation="relu"), classes=(4, 5), temperature=0.1),
    Case("mnist-14", locally(30, 7), classes=(1, 8)),
    Case("cifar-16", convolutional(50, 8, activation="tanh"), classes=(3, 8), temperature=0.1),
    Case("cifar-16", convolutional(40, 8, pool="average"), classes=(2, 6)),
)


def load_fresh(case: Case, folder: Path) -> tuple[fw.Dataset, fw.Dataset]:
    """Training and test part."""
    if case.data == "diabetes":
        return diabetes(case.n_train, case.n_test)
    name, _, side = case.data.partition("-")
    if side:
        return recipe(folder, name, int(side), case.n_train, case.n_test, case.classes)
    from sklearn import datasets

    if name == "friedman":
        x, y = datasets.make_friedman1(600, random_state=0)
        pool = fw.Dataset(x, (y - y.mean()) / y.std(), classes=())
    else:
        x, y = (datasets.load_wine if name == "wine" else datasets.load_breast_cancer)(return_X_y=True)
        pool = fw.Dataset(x, y.astype(int), classes=case.classes)
    train, test = fw.data.split(pool, case.n_train, case.n_test, seed=0)
    train, test, _ = fw.data.standardise(train, test, "feature")
    return train, test


STORE = Path(__file__).with_name("fresh_cases.json")


def run(case: Case, folder: Path) -> dict[str, Any]:
    """The action with its validity, the matched first order, and the sample."""
    train, test = load_fresh(case, folder)
    return {"case": str(case), **both(case, train, test), "sample": sampled(case, train, test).to_dict()}


def both(case: Case, train: fw.Dataset, test: fw.Dataset) -> dict[str, Any]:
    """The action and the first order."""
    return {method: predicted(case, method, train, test) for method in ("saddle", "first-order")}


def predicted(case: Case, method: str, train: fw.Dataset, test: fw.Dataset) -> dict[str, Any]:
    """A row without sampling."""
    started = time.process_time()
    curve = fw.learning_curve(case.network, train, test, temperature=case.temperature, method=method)
    return curve[0].to_dict() | {"processor_seconds": time.process_time() - started}


def main() -> None:
    """Sample what is missing; with ``--again`` only predict anew."""
    found = json.loads(STORE.read_text()) if STORE.exists() else {}
    for case in SEEN + FRESH:
        if str(case) not in found:
            found[str(case)] = json_ready(run(case, Path(sys.argv[1])))
        elif "--again" in sys.argv:
            found[str(case)] |= json_ready(both(case, *load_fresh(case, Path(sys.argv[1]))))
        STORE.write_text(json.dumps(found, indent=1) + "\n")
        one = found[str(case)]
        off = 100 * (one["saddle"]["test_error"] / one["sample"]["test_error"] - 1)
        print(f"{case}: off by {off:+.1f} %; {one['saddle']['validity']['statement']}", flush=True)


if __name__ == "__main__":
    main()
