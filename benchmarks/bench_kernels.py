"""Speed and memory of the kernels of infinite width, on one core: run with OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1.

neural-tangents 0.6.5, the other implementation, does not import on a current JAX: its seconds were measured once, on
one core of a machine of the same kind, and are quoted. What runs here and now is compared side by side.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest
from pairs import compare

import finitewidth as fw


def images(count: int, side: int = 14) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, side, side, 1))


def conv(size: int, stride: int = 1) -> dict[str, dict[str, object]]:
    return {"conv": {"patch": [size, size], "stride": [stride, stride], "padding": "same"}}


DEEP = ["dense", "erf", "dense", "erf", "dense", "erf", "dense"]
FLAT = [conv(3), "erf", conv(3), "erf", conv(3), "erf", "flatten", "dense"]
TILES = [conv(2, 2), "erf", "global_average_pool", "dense"]
POOLED = [conv(3), "erf", "global_average_pool", "dense"]


def one_core(work: Callable[[], object], runs: int = 5) -> tuple[float, float]:
    """Least seconds of the clock and of processor time, which other programs on the machine lengthen less."""
    work()
    wall, processor = [], []
    for _ in range(runs):
        started = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - started[0])
        processor.append(time.process_time() - started[1])
    return min(wall), min(processor)


@pytest.mark.parametrize(
    ("name", "layers", "x", "seconds"),
    [
        ("depth-3 erf (2000, 784), NNGP", DEEP, np.random.default_rng(0).standard_normal((2000, 784)), 0.27),
        ("depth-3 erf (2000, 784), NTK", DEEP, np.random.default_rng(0).standard_normal((2000, 784)), 0.31),
        ("three 3x3 same + flatten, 200 images, NNGP", FLAT, images(200), 0.54),
        ("three 3x3 same + flatten, 200 images, NTK", FLAT, images(200), 0.54),
        ("2x2 stride 2 + average pooling, 200 images, NNGP", TILES, images(200), 2.2),
        ("2x2 stride 2 + average pooling, 200 images, NTK", TILES, images(200), 2.2),
    ],
)
def test_seconds_of_the_other_implementation(name: str, layers: list[object], x: np.ndarray, seconds: float) -> None:
    kernel = fw.kernels.from_layers(layers)
    wall, processor = one_core(lambda: kernel.ntk(x) if name.endswith("NTK") else kernel.nngp(x))
    print(f"\n{name}: {processor:.3f} s of processor ({wall:.3f} s on the clock) against {seconds} s")
    assert processor < seconds


def test_deep_kernel_against_plain_jax() -> None:
    """The same closed form under ``jax.jit`` in double precision, on the same inputs, in turn."""
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    x = np.random.default_rng(0).standard_normal((1000, 784))

    @jax.jit
    def plain(x):  # type: ignore[no-untyped-def]
        K = x @ x.T / x.shape[1]
        for _ in range(3):
            root = jnp.sqrt(1.0 + 2.0 * jnp.diagonal(K))
            K = 2.0 / jnp.pi * jnp.arcsin(2.0 * K / root[:, None] / root)
        return K

    kernel = fw.kernels.from_layers(DEEP)
    with jax.enable_x64(True):
        ratio = compare(lambda: kernel.nngp(x), lambda: plain(x).block_until_ready(), runs=5)
        assert np.abs(kernel.nngp(x) - np.asarray(plain(x))).max() < 1e-12
    print(f"\ndepth-3 erf kernel (1000, 784) / jax.jit: {ratio}")
    assert ratio.best < 1.0


def test_pooled_overlapping_windows_in_little_memory() -> None:
    """3x3 same + average pooling, 200 images, 38416 pairs of positions each: the other implementation ran out of it."""
    code = f"""
import resource, time, numpy as np, finitewidth as fw
x = np.random.default_rng(0).standard_normal((200, 14, 14, 1))
started = time.perf_counter()
fw.kernels.from_layers({POOLED!r}).nngp(x)
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, peak = map(float, done.stdout.split())
    print(f"\n3x3 same + average pooling, 200 images: {seconds:.1f} s, peak {peak / 1e9:.2f} GB of the whole process")
    assert peak < 4e9
