"""The only place that factorises a matrix, and that knows what to do when one is singular.

Covariances are positive semidefinite, often of low rank, and known to rounding; the regularised Gram matrix
``A = K + T`` is what is solved with. An eigendecomposition of K serves every scale and temperature in O(P); a Cholesky
factor of A serves one of them at a tenth of the cost.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from scipy import linalg as sla
from threadpoolctl import ThreadpoolController

from finitewidth import checks
from finitewidth.checks.exceptions import InputError, MemoryCapError

Array = np.ndarray
_LARGEST = 1e150  # its square is a finite double
_EPSILON = float(np.finfo(float).eps)
_NOISE = 64.0 * _EPSILON  # of the largest eigenvalue: what rounding makes of those that are zero


@dataclass(frozen=True)
class Spectrum:
    """Eigendecomposition ``K = U diag(values) U^T`` of a covariance; values >= 0, ascending; U is (P, P)."""

    values: Array
    vectors: Array

    @classmethod
    def of(cls, gram: Array, overwrite: bool = False) -> Spectrum:
        """Factorise a symmetric (P, P) matrix; eigenvalues within its rounding error become 0.

        That error is read off from the most negative eigenvalue, and is 64 roundings of the largest one at least: there
        eigenvalues of K, computed twice in different order, agree to about a per cent. Left in, it would be taken for
        signal by a large scale: contradictory targets at T -> 0 are then fitted by noise.

        With ``overwrite`` the matrix is used as work space: the peak is then three P x P arrays, the given one
        included.
        """
        check_finite(gram)
        if len(gram) == 1:  # SciPy 1.13.0 gives LAPACK too little work space for it
            return cls(np.maximum(np.array(gram[0], dtype=float), 0.0), np.ones((1, 1)))
        values, vectors = sla.eigh(
            gram.T, overwrite_a=overwrite, check_finite=False, driver="evd"
        )  # .T: Fortran order without a copy
        noise = max(-2.0 * values[0], _NOISE * values[-1])
        values[values <= noise] = 0.0
        return cls(values, vectors)

    @property
    def size(self) -> int:
        return len(self.values)

    def rotate(self, columns: Array) -> Array:
        """U^T columns."""
        return self.vectors.T @ columns

    def project(self, cross: Array) -> Array:
        """k(x, X) U of a cross covariance (P*, P), exactly zero where K is: K u = 0 implies k(x, X) u = 0.

        What rounding leaves there would be divided by the temperature.
        """
        out = cross @ self.vectors
        out *= self.values > 0.0
        return out


_SAFE = 1e6  # pivots so many times above the rounding error of K are right to a millionth
_INDEFINITE = 0.99  # share of the ridge below which no pivot of a covariance can be


class RegularisedGram:
    """``A = K + T`` for one covariance K (P, P) and ridge T > 0: solves, log-determinant, inverse.

    Cholesky where its pivots stand well above the rounding error of K. Otherwise the eigendecomposition of K, whose
    eigenvalues within that error are 0: Cholesky's factor, where there is one by luck, would divide rounding by T.

    Where K is zero, so is every covariance with the training points, but for rounding. What multiplies such covariances
    therefore is ``solve_range``, ``inverse_range`` and ``whiten``, which leave these directions out; targets have
    components there, of precision 1/T (``solve``, ``inverse``, ``log_det``).
    """

    def __init__(self, gram: Array, ridge: float) -> None:
        check_finite(gram)
        self.ridge, self.size = ridge, len(gram)
        self._factor = _trusted_factor(gram, ridge)
        if self._factor is None:
            spectrum = Spectrum.of(gram)
            self._shifted, self._vectors = spectrum.values + ridge, spectrum.vectors
            self._range = spectrum.values > 0.0

    def solve(self, columns: Array) -> Array:
        """A^-1 columns."""
        if self._factor is not None:
            return sla.lapack.dpotrs(self._factor, columns, lower=True)[0].reshape(columns.shape)
        rotated = self._vectors.T @ columns
        return self._vectors @ (rotated.T / self._shifted).T

    def solve_range(self, columns: Array) -> Array:
        """A^-1 columns without the directions in which K is zero: what is multiplied with covariances."""
        if self._factor is not None:
            return self.solve(columns)
        return self._range_vectors @ ((self._range_vectors.T @ columns).T / self._shifted[self._range]).T

    def whiten(self, cross: Array) -> Array:
        """W with W^T W = k(X, x)^T A^-1 k(X, x) of a covariance (P, columns) with the training points."""
        if self._factor is not None:
            return sla.solve_triangular(self._factor, cross, lower=True, check_finite=False)
        return ((self._range_vectors.T @ cross).T / np.sqrt(self._shifted[self._range])).T

    @cached_property
    def log_det(self) -> float:
        if self._factor is not None:
            return 2.0 * float(np.log(np.diagonal(self._factor)).sum())
        return float(np.log(self._shifted).sum())

    def inverse(self) -> Array:
        """A^-1 in full (P, P): gradients of a log-determinant need every entry."""
        if self._factor is None:
            return (self._vectors / self._shifted) @ self._vectors.T
        inverse, info = sla.lapack.dpotri(self._factor, lower=True)
        assert info == 0
        inverse = np.tril(inverse)
        inverse += np.tril(inverse, -1).T
        return inverse

    @cached_property
    def inverse_trace(self) -> float:
        """Tr A^-1, from the inverse of the factor: half the work of ``inverse``."""
        if self._factor is None:
            return float(np.sum(1.0 / self._shifted))
        inverse, info = sla.lapack.dtrtri(self._factor, lower=True)
        assert info == 0
        return float(np.vdot(inverse, inverse))

    def inverse_range(self) -> Array:
        """A^-1 (P, P) without these directions."""
        if self._factor is not None:
            return self.inverse()
        return (self._range_vectors / self._shifted[self._range]) @ self._range_vectors.T

    @cached_property
    def _range_vectors(self) -> Array:
        return self._vectors[:, self._range]


def _trusted_factor(gram: Array, ridge: float) -> Array | None:
    """Lower Cholesky factor of ``gram + ridge``; None where rounding of the covariance decides what it is.

    Every pivot of K + T is T at least, if K is a covariance.
    """
    regularised = np.array(gram, order="F")
    diagonal = regularised.ravel(order="K")[:: len(gram) + 1]  # a view
    rounding = len(gram) * _EPSILON * float(diagonal.max())
    diagonal += ridge
    # LAPACK by name: on small matrices, solved many times, SciPy's wrappers would take most of the time
    factor, info = sla.lapack.dpotrf(regularised, lower=True, overwrite_a=True)
    trusted = info == 0 and float(np.diagonal(factor).min()) ** 2 > max(_SAFE * rounding, _INDEFINITE * ridge)
    return factor if trusted else None


def left_over(whole: Array, part: Array) -> Array:
    """``whole - part`` of variances (points, ...) and the parts that are explained; zero where only rounding is left.

    The rounding is that of the largest of them, which one factorisation has in common.
    """
    left = whole - part
    rounding = _NOISE * np.max(whole, axis=0, initial=0.0)
    return np.where((left > rounding) | ~np.isfinite(left), left, 0.0)


def row_basis(rows: Array, threshold: float = 0.0) -> Array:
    """Orthonormal basis (columns, r) of the span of rows, without directions of singular values up to the threshold.

    Rounding, a 1e-10th of the largest singular value, is always left out.
    """
    _, values, basis = np.linalg.svd(rows, full_matrices=False)
    return np.ascontiguousarray(basis[values > max(threshold, 1e-10 * float(values[0]))].T)


def check_finite(gram: Array) -> None:
    """A covariance that overflowed cannot be factorised; say so where it is noticed."""
    if not (gram.min() > -_LARGEST and gram.max() < _LARGEST):  # False for NaN
        raise InputError(
            "a covariance with NaN, infinity or entries above 1e150",
            "covariances whose squares are finite",
            "rescale the inputs (standardise them) or raise the prior precisions",
        )


def x_minus_log1p(x: Array | float) -> Array:
    """``x - log(1 + x)`` without cancellation: the rate of a scalar order parameter Q = 1 + x."""
    x = np.asarray(x, dtype=float)
    small = np.abs(x) < 0.02
    t = np.where(small, x, 0.0)
    series = np.zeros_like(t)
    for k in range(11, 1, -1):  # t^2/2 - t^3/3 + ...
        series = series * -t + 1.0 / k
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(small, t * t * series, x - np.log1p(x))


# --- memory and threads ----------------------------------------------------------------------------------------------


def n_threads() -> int:
    """Threads for blocked kernels: OMP_NUM_THREADS if it is set, else the processors this process may use."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) > 0 else len(os.sched_getaffinity(0))


def run_blocks(work: Callable[..., None], blocks: Iterable[tuple[Any, ...]]) -> None:
    """Call ``work(*block)`` for every block, on all threads; NumPy releases the GIL inside.

    BLAS keeps to the calling thread meanwhile: its own threads inside ours would wait for one another.
    """
    for _ in map_threads(lambda block: work(*block), list(blocks), a_thread=4):
        pass


def map_threads(work: Callable[[Any], Any], items: Sequence[Any], a_thread: int = 1) -> Iterator[Any]:
    """``work(item)`` of every item, in their order, on all threads; BLAS keeps to the calling one as in run_blocks.

    a_thread: items below which no further thread is started; a few small ones are done before a pool has started.
    """
    threads = min(n_threads(), len(items) // a_thread)
    if threads <= 1:
        yield from map(work, items)
        return
    with _pool(threads) as pool:
        yield from pool.map(work, items)


_own = threading.local()  # of a thread of a pool: whether the pool has been given up


@contextmanager
def _pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that are given up at an error or an interrupt: what waits is dropped, what runs ends at its next look."""
    given_up = threading.Event()

    def begin() -> None:
        _own.given_up = given_up

    with _thread_pools().limit(limits=1, user_api="blas"), ThreadPoolExecutor(threads, initializer=begin) as pool:
        try:
            yield pool
        except BaseException:
            given_up.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def stop_if_given_up() -> None:
    """For work of minutes on a thread of map_threads to call now and then: Ctrl-C has to wait for it."""
    given_up = getattr(_own, "given_up", None)
    if given_up is not None and given_up.is_set():
        raise RuntimeError("given up")


SMALL = 400  # rows of a matrix below which a second BLAS thread costs more than it brings


@contextmanager
def arithmetic(size: int) -> Iterator[None]:
    """For work on so many points: one BLAS thread where matrices are small, and no warnings of NumPy's.

    On small matrices threads would mostly wait. What overflows becomes infinite or NaN, and the result says so: it has
    not converged, or is refused.
    """
    with (
        _thread_pools().limit(limits=1, user_api="blas") if size <= SMALL else nullcontext(),
        np.errstate(over="ignore", invalid="ignore", divide="ignore"),
    ):
        yield


@lru_cache(maxsize=1)
def _thread_pools() -> ThreadpoolController:
    return ThreadpoolController()


def memory_cap(memory: str | float | None) -> float | None:
    """Bytes that a caller allows, None where nothing is said; raises InputError for what is no size."""
    return None if memory is None else parse_memory(memory)


def parse_memory(text: str | float) -> float:
    """Bytes of "8GB", "500 MB", "2GiB" or a number; raises InputError for anything else."""
    if not isinstance(text, str):
        return checks.positive("memory", text)
    units = {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12}
    units |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
    return checks.with_unit("memory", text, units, "a size such as 8GB or 500MB")


def available_memory() -> float:
    """Bytes this process could take now: what the kernel says is available, within the control group's limit."""
    sizes = []
    try:
        with open("/proc/meminfo") as lines:
            sizes += [1024.0 * float(line.split()[1]) for line in lines if line.startswith("MemAvailable")]
        for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
            if os.path.exists(path):
                with open(path) as limit:
                    text = limit.read().strip()
                sizes += [float(text)] if text.isdigit() else []
    except OSError:
        pass
    if sizes:
        return min(sizes)
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def require_memory(need: float, what: str, remedy: str, cap: float | None = None) -> None:
    """Refuse before starting what would need more than the cap (or than the machine has free)."""
    limit = available_memory() if cap is None else cap
    if need > limit:
        kind = "available now" if cap is None else "the cap given"
        raise MemoryCapError(
            f"{what}, which needs about {format_bytes(need)}",
            f"at most {format_bytes(limit)} ({kind})",
            remedy,
        )


def format_bytes(size: float) -> str:
    """1.5 GB, 300 MB."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size:.0f} B"
