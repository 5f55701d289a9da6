"""Random numbers of tests: other ones when a statistical test is judged again, and in all of a run with SEED_SHIFT.

Three standard errors are exceeded by chance in one of some hundred comparisons, and there are thousands of them; where
that happens differs between processors, on which no two chains are alike. So a statistical test that fails is judged
again with fresh random numbers, twice at most: a fault fails each time, chance does not. What the test must notice (its
negative control) is held to be noticed each time: a test marked ``control`` is judged once.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SHIFT = int(os.environ.get("SEED_SHIFT", "0"))
ATTEMPTS = 3
_STEP = 2**20  # between the seeds of two attempts: above all seeds that tests use
_DATA = str(Path("finitewidth", "data"))  # which points are drawn from a data set stays as it is


def judge(item: pytest.Function) -> None:
    """Run a test; a statistical one again, with other random numbers, where it fails by an assertion."""
    arguments = {name: item.funcargs[name] for name in item._fixtureinfo.argnames}
    attempts = ATTEMPTS if is_statistical(item) and item.get_closest_marker("control") is None else 1
    for attempt in range(attempts):
        try:
            with other_numbers(attempt * _STEP, numpy=True):
                item.obj(**arguments)
            return
        except AssertionError:
            if attempt == attempts - 1:
                raise
            forget(item.module)


def is_statistical(item: pytest.Item) -> bool:
    return item.get_closest_marker("statistical") is not None


def forget(module: ModuleType) -> None:
    """What a test module computed once, and programs compiled with the old seeds."""
    for value in vars(module).values():
        if hasattr(value, "cache_clear"):
            value.cache_clear()
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()


@contextlib.contextmanager
def other_numbers(shift: int, numpy: bool) -> Iterator[None]:
    """JAX's keys, and NumPy's generators where wanted, of seeds with some bits turned."""
    if not shift:
        yield
        return
    import jax

    key, generator = jax.random.key, np.random.default_rng

    def shifted(seed=None):
        whole = isinstance(seed, (int, np.integer)) and _DATA not in sys._getframe(1).f_code.co_filename
        return generator(int(seed) ^ shift if whole else seed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax.random, "key", lambda seed, **options: key(seed ^ shift, **options))
        if numpy:
            patch.setattr(np.random, "default_rng", shifted)
        yield
