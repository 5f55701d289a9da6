"""Small data sets that every test may use; all are deterministic."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests import chance, slow

from finitewidth.data import Dataset

# compiled in a fifth of the time; the programs are slower, but those of tests run for a moment
QUICK_TO_COMPILE = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"


def pytest_configure(config: pytest.Config) -> None:
    """Programs are compiled quickly, unless FULLY_OPTIMISED is set, and kept for the other worker and the next run."""
    flags = os.environ.get("XLA_FLAGS", "")
    if "FULLY_OPTIMISED" not in os.environ and QUICK_TO_COMPILE not in flags:
        os.environ["XLA_FLAGS"] = f"{QUICK_TO_COMPILE} {flags}".strip()  # of a flag given twice the last counts
    kept = config.rootpath / ".pytest_cache" / "jax"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(kept))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[Any]:
    """Thousands of tests live to the end: the search for garbage passes them over, and is made more seldom."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
        gc.set_threshold(20_000, 20, 50)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that neither worker is left with one at the end."""
    listed = slow.listed()
    for item in items:
        if item.nodeid.partition("[")[0] in listed:
            item.add_marker("slow")
    heavy = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in heavy)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """The tests of a file go to one worker, which so compiles and solves once what they share."""
    if config.getoption("dist") != "load":
        return None
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    with chance.other_numbers(chance.SHIFT, numpy=chance.is_statistical(item)):
        return (yield)


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool:
    chance.judge(pyfuncitem)
    return True


def small_data(n_points: int = 12, n_inputs: int = 5, seed: int = 0, noise: float = 0.3) -> Dataset:
    """A noisy linear and quadratic target of standard normal inputs."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n_points, n_inputs))
    y = x[:, 0] + 0.5 * x[:, -1] ** 2 - 0.5 + noise * rng.standard_normal(n_points)
    return Dataset(x, y, classes=())


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def train() -> Dataset:
    return small_data()


@pytest.fixture
def test_set() -> Dataset:
    return small_data(9, seed=1)


@pytest.fixture
def make_data():
    """``make_data(n_points, n_inputs, seed, noise)`` -> Dataset."""
    return small_data
