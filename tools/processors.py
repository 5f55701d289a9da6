"""Every test as if on other processors, and with other random numbers: `make processors`, before a release.

Chains are not bit-equal between processors: a rounding in the last place sends them another way. A test that asks
something of one trajectory then fails somewhere else, for a user. What this processor can do at all is taken away from
BLAS, XLA and NumPy in turn, and every seed is shifted; a failure here is a test to mend, not a tolerance to widen.
Programs are optimised as users' are, which `make test` leaves out (tests/conftest.py).
"""

from __future__ import annotations

import os
import sys

import numpy as np
from environments import ROOT, stream

# instructions that this processor has and NumPy would choose
OPTIONAL = " ".join(np.show_config(mode="dicts")["SIMD Extensions"].get("found", []))
SETTINGS = {
    "OpenBLAS for Haswell": {"OPENBLAS_CORETYPE": "Haswell"},
    "OpenBLAS for Nehalem": {"OPENBLAS_CORETYPE": "Nehalem"},
    "XLA with AVX2": {"XLA_FLAGS": "--xla_cpu_max_isa=AVX2"},
    "XLA with SSE 4.2": {"XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2"},
    "NumPy without optional instructions": {"NPY_DISABLE_CPU_FEATURES": OPTIONAL},
    "seeds shifted by 1": {"SEED_SHIFT": "1048576"},
    "seeds shifted by 2": {"SEED_SHIFT": "2097152"},
}


def main(arguments: list[str]) -> int:
    """Run pytest with ``arguments`` once a setting; the exit status is that of the worst run."""
    results = {}
    for number, (name, setting) in enumerate(SETTINGS.items(), 1):
        print(f"{number} of {len(SETTINGS)}: {name} ({' '.join(f'{k}={v!r}' for k, v in setting.items())})", flush=True)
        cache = ROOT / ".pytest_cache" / f"jax-{number}"  # programs compiled for one processor are not another's
        extra = {"OPENBLAS_NUM_THREADS": "1", "FULLY_OPTIMISED": "1", "JAX_COMPILATION_CACHE_DIR": os.fspath(cache)}
        results[name] = stream([sys.executable, "-m", "pytest", *arguments], extra=extra | setting)
    for name, status in results.items():
        print(f"{'FAILED' if status else 'passed'}: {name}")
    return max(results.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
