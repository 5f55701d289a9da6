"""Cases that judge ``fw.Curve``: fixed on 2026-11-30, before it was written and before anything was run on them.

None is among the forty of ``cases.py``, the fresh ones of ``fresh_cases.py`` or the four of docs/accuracy.md.
``python benchmarks/curve_cases.py FOLDER`` samples every width to about one per cent and writes ``curve_cases.json``:
what is judged by. It goes on where it stopped.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from cases import Case, convolutional, fully, load, locally
from fresh_cases import load_fresh

import finitewidth as fw
from finitewidth.display.documents import json_ready

WIDTHS = (10, 20, 50, 100, 200, 500)
JUDGED = (  # widths of the networks here are replaced by those above
    Case("cancer", fully(10), temperature=0.1, n_train=120),
    Case("cancer", fully(10, 10)),
    Case("cancer", fully(10, activation="relu"), n_train=60),
    Case("wine", fully(10), n_train=80, n_test=80, classes=(0, 1, 2)),
    Case("wine", fully(10, activation="relu"), temperature=0.1, n_train=90, n_test=80, classes=(0, 1, 2)),
    Case("friedman", fully(10, 10), temperature=0.1, n_train=120),
    Case("friedman", fully(10, activation="relu")),
    Case("diabetes", fully(10), temperature=0.3),
    Case("diabetes", fully(10, 10, activation="tanh"), temperature=0.5, n_train=150),
    Case("mnist-7", fully(10), classes=(1, 8), temperature=0.02),
    Case("mnist-7", fully(10, 10), classes=(3, 6)),
    Case("mnist-7", fully(10, 10, activation="relu"), classes=(2, 5), temperature=0.1),
    Case("mnist-14", fully(10), classes=(0, 9), n_train=200),
    Case("mnist-14", fully(10, 10, activation="tanh"), classes=(7, 9)),
    Case("mnist-7", fully(10, 10, 10), classes=(6, 9), temperature=0.1),
    Case("cifar-8", fully(10), classes=(0, 5), n_train=150),
    Case("cifar-8", fully(10, 10), classes=(3, 8)),
    Case("cifar-16", fully(10, activation="relu"), classes=(2, 9), temperature=0.1),
    Case("cifar-8", fully(10, 10, 10, activation="relu"), classes=(1, 7), temperature=0.1),
    Case("mnist-14", convolutional(10, 7), classes=(4, 7)),
    Case("cifar-16", locally(10, 8), classes=(5, 9)),
    Case("mnist-14", convolutional(10, 7, activation="relu", pool="average"), classes=(3, 9), temperature=0.1),
    Case("digits", fully(10, 10), classes=(1, 2, 3), temperature=0.1, n_train=120),
    Case("digits", fully(10, activation="tanh"), classes=(5, 9), temperature=0.02, n_train=80),
)
STORE = Path(__file__).with_name("curve_cases.json")
ACCURACY = 0.012  # standard error of the test error that is sampled for, relative


def load_judged(case: Case, folder: Path) -> tuple[fw.Dataset, fw.Dataset]:
    """Training and test part."""
    return load(case, folder) if case.data == "digits" else load_fresh(case, folder)


def truth(case: Case, width: int, train: fw.Dataset, test: fw.Dataset) -> dict[str, Any]:
    """The network of that width, from other seeds than those of the curve and after a longer warmup."""
    started = time.process_time()
    (row,) = fw.learning_curve(
        *(case.network, train, test, [width], case.temperature),
        method=fw.Sample(accuracy=ACCURACY, warmup=300, seed=1, observables=()),
    )
    return row.to_dict() | {"processor_seconds": time.process_time() - started}


def main() -> None:
    """Sample what is missing."""
    found = json.loads(STORE.read_text()) if STORE.exists() else {}
    for width in (10, 200, 20, 50, 100, 500):
        for case in JUDGED:
            rows = found.setdefault(str(case), {})
            if str(width) not in rows:
                one = rows[str(width)] = json_ready(truth(case, width, *load_judged(case, Path(sys.argv[1]))))
                STORE.write_text(json.dumps(found, indent=1) + "\n")
                print(
                    f"{case} N {width}: {one['test_error']:.4f} +- {one['test_error_se']:.4f}, "
                    f"R-hat {one['r_hat']:.3f}, {one['draws']} draws, {one['processor_seconds']:.0f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
