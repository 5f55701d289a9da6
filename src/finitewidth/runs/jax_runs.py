"""How this package uses JAX: double precision and one thread a lane, out of memory said plainly."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import numpy as np

from finitewidth.checks.exceptions import InputError, MissingExtraError
from finitewidth.runs.compilation_cache import kept_programs

Tree = Any  # a pytree of JAX: arrays in lists, tuples and mappings; whoever made it knows which
Leaf = Any  # an array in it: JAX's in compiled code, NumPy's (or a number) outside


def on_cpu() -> bool:
    """Whether JAX computes on a CPU."""
    import jax

    return bool(jax.default_backend() == "cpu")


def compiler_options() -> dict[str, Any]:
    """Of a compiled function that is one lane of several: on a CPU it keeps to its own thread."""
    return {"xla_cpu_multi_thread_eigen": False} if on_cpu() else {}


@lru_cache(maxsize=64)
def compiled(function: Callable[..., Any], *settings: Any, lane: bool = True) -> Callable[..., Any]:
    """``function`` with its first arguments bound, compiled once for equal ones.

    lane: it is one of several, see ``compiler_options``.
    """
    import jax

    return jax.jit(partial(function, *settings), compiler_options=compiler_options() if lane else {})


@contextlib.contextmanager
def memory_errors(what: str, remedy: str) -> Iterator[None]:
    """Out of memory as Python says it, whatever the estimate was."""
    import jax

    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise MemoryError(f"{what} ran out of memory; {remedy}") from error


def one_blas_thread() -> contextlib.AbstractContextManager[Any]:
    """One BLAS thread, in all threads, for as long as the context lasts."""
    import scipy.linalg  # noqa: F401  the BLAS that jaxlib calls, loaded before its threads are limited
    from threadpoolctl import threadpool_limits

    limits: contextlib.AbstractContextManager[Any] = threadpool_limits(1, user_api="blas")
    return limits


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """Float64 in JAX (in this thread), one BLAS thread, and programs kept, for as long as the context lasts."""
    import jax

    with one_blas_thread(), kept_programs(), jax.enable_x64(True):
        yield


@contextlib.contextmanager
def lanes(count: int) -> Iterator[Callable[[Callable[[Any], Tree], Iterable[Any]], list[Tree]]]:
    """Does work on parts, ``count`` at once, each on a thread of its own in float64; NumPy's arrays come back."""

    def lane(work: Callable[[Any], Tree], part: Any) -> Tree:
        import jax

        with jax.enable_x64(True):  # a setting of the thread
            return jax.device_get(work(part))

    with one_blas_thread(), kept_programs(), ThreadPoolExecutor(count) as pool:
        yield lambda work, parts: list(pool.map(partial(lane, work), parts))


def require_jax(network: Any, purpose: str, *others: str) -> None:
    """MissingExtraError without JAX and ``others``; InputError for an activation that JAX cannot differentiate."""
    for library in ("jax", *others):
        try:
            importlib.import_module(library)
        except ImportError as error:
            raise MissingExtraError(library, "sample", purpose) from error
    import jax

    try:
        for phi in network.activations:
            jax.eval_shape(phi.jax_function, jax.ShapeDtypeStruct((2,), np.float32))
    except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError, TypeError) as error:
        raise InputError(
            f"activation {network.activation_names!r}, which does not take JAX arrays",
            "a function of operators and jax.numpy",
            "write it with jax.numpy, or name one of finitewidth's own",
        ) from error
