"""NNGP and NTK of any JAX function, estimated over finite networks drawn from their initial distribution.

For architectures without a closed form, and the second route to those that have one. With f = apply(params, x) and
params = init(key): NNGP = E[f f'], NTK = E[sum over parameters of df/dw df'/dw] (Jacot et al. 2018; Novak et al. 2020).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from finitewidth import checks, linalg
from finitewidth.checks.exceptions import InputError, needed
from finitewidth.display import Displayed
from finitewidth.kernels.blocks import slices

if TYPE_CHECKING:
    from jax import Array as JaxArray

    from finitewidth.runs.jax_runs import Tree

Array = np.ndarray
_SHARE = 0.25  # of the free memory that derivatives in work may take


@dataclass(frozen=True)
class EmpiricalKernels(Displayed):
    """Means over ``n_samples`` networks, and their standard errors, all (points1, points2).

    A network of finite width N has kernels of its own: those of infinite width are off by O(1/N), which the standard
    errors do not contain.
    """

    nngp: Array
    nngp_se: Array
    ntk: Array
    ntk_se: Array
    n_samples: int


def empirical(
    init: Callable[..., Any],
    apply: Callable[[Any, Any], Any],
    x1: Any,
    x2: Any = None,
    *,
    n_samples: int = 100,
    seed: int = 0,
    block: int | None = None,
) -> EmpiricalKernels:
    """Monte Carlo estimate of both kernels of ``apply`` between the points x1 and x2 (None: x1).

    init: ``init(key)`` or ``init(key, input_shape)``, input_shape that of one point -> parameters, any pytree of
        arrays, drawn from the initial distribution. ``fw.FullyConnected(...).init`` is one.
    apply: ``apply(params, x)`` -> outputs (points,) or (points, outputs), each of its own point alone. Kernels are
        averaged over outputs. Differentiable by JAX.
    block: points whose derivatives (parameters each) are held at once; None: what a quarter of the free memory holds.
        All pairs of blocks are worked through, so that small blocks take more time.

    Raises InputError for a function that is not batched, mixes points, or returns NaN or infinity;
    MissingExtraError without JAX. Works in double precision; JAX's settings stay as they are.
    """
    jax = _jax()
    one = checks.real_array("x1", x1, (1, 2, 3, 4, 5))
    two = None if x2 is None else checks.real_array("x2", x2, (one.ndim,))
    checks.same_shape(one.shape[1:], one.shape[1:] if two is None else two.shape[1:])
    n_samples = checks.positive_integer("n_samples", n_samples)
    if n_samples < 2:
        raise InputError("n_samples = 1", "at least 2, for a standard error", "take 100, for example")
    with jax.enable_x64(True):
        draw = _draw(init, one.shape[1:])
        keys = jax.random.split(jax.random.key(seed), n_samples)
        _check(apply, draw(keys[0]), one)
        size = sum(leaf.size for leaf in jax.tree.leaves(draw(keys[0])))
        fits = linalg.available_memory() * _SHARE / (8.0 * 4 * size)
        step = max(1, int(fits)) if block is None else checks.positive_integer("block", block)
        sample = _Sampler(apply, one, two, step)
        nngp, ntk = _Mean(), _Mean()
        for key in keys:
            params = draw(key)
            nngp.add(sample.nngp(params))
            ntk.add(sample.ntk(params))
    return EmpiricalKernels(nngp.mean, nngp.standard_error, ntk.mean, ntk.standard_error, n_samples)


class _Mean:
    """Running mean and standard error (Welford 1962)."""

    def __init__(self) -> None:
        self.count, self.mean, self._spread = 0, np.zeros(()), np.zeros(())

    def add(self, value: Array) -> None:
        self.count += 1
        difference = value - self.mean
        self.mean = self.mean + difference / self.count
        self._spread = self._spread + difference * (value - self.mean)

    @property
    def standard_error(self) -> Array:
        return np.sqrt(self._spread / ((self.count - 1) * self.count))


class _Sampler:
    """Kernels of one network after the other, with functions that are compiled once."""

    def __init__(self, apply: Callable[[Any, Any], Any], one: Array, two: Array | None, step: int) -> None:
        import jax
        from jax.flatten_util import ravel_pytree

        self.one, self.two, self.step = one, two, step

        def outputs(params: Tree, x: JaxArray) -> JaxArray:
            f = apply(params, x)
            return f.reshape(len(x), -1)

        def derivatives(params: Tree, x: JaxArray) -> JaxArray:
            flat, restore = ravel_pytree(params)

            def own(point: JaxArray) -> JaxArray:
                return jax.jacrev(lambda w: outputs(restore(w), point[None])[0])(flat)

            return jax.vmap(own)(x)  # (points, outputs, parameters)

        self._outputs, self._derivatives = jax.jit(outputs), jax.jit(derivatives)

    def nngp(self, params: Tree) -> Array:
        f = self._checked(self._outputs(params, self.one))
        g = f if self.two is None else self._checked(self._outputs(params, self.two))
        return f @ g.T / f.shape[1]

    def ntk(self, params: Tree) -> Array:
        columns = self.one if self.two is None else self.two
        out = np.empty((len(self.one), len(columns)))
        for i, rows in self._parts(params, self.one, 0):
            if self.two is None:
                out[i, i] = rows @ rows.T
            for j, others in self._parts(params, columns, i.stop if self.two is None else 0):
                out[i, j] = rows @ others.T
                if self.two is None:
                    out[j, i] = out[i, j].T
        return out

    def _parts(self, params: Tree, x: Array, start: int) -> Iterator[tuple[slice, Array]]:
        for part in slices(start, len(x), self.step):
            J = self._checked(self._derivatives(params, x[part]))
            yield part, J.reshape(len(J), -1) / np.sqrt(J.shape[1])

    @staticmethod
    def _checked(values: Any) -> Array:
        values = np.asarray(values, dtype=np.float64)
        if not np.isfinite(values).all():
            raise InputError(
                "a function whose outputs or derivatives are NaN or infinite",
                "finite outputs and derivatives at every point and initial network",
                "rescale the points or the initial parameters; look for 0/0 and for roots of 0",
            )
        return values


def _draw(init: Callable[..., Any], point_shape: tuple[int, ...]) -> Callable[[Any], Any]:
    """init of a key alone, whichever of its two forms it has."""
    needed = [
        p
        for p in inspect.signature(init).parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if len(needed) > 2:
        raise InputError(
            f"an init with {len(needed)} arguments",
            "init(key) or init(key, input_shape)",
            "bind the others in a lambda",
        )
    return (lambda key: init(key, point_shape)) if len(needed) == 2 else init


def _check(apply: Callable[[Any, Any], Any], params: Tree, x: Array) -> None:
    """Refuse a function that is not batched, or whose output at a point depends on the other points."""
    probe = x[:3] if len(x) > 1 else np.concatenate([x, x])
    wanted = "a batched function: (points, ...) -> (points,) or (points, outputs)"
    try:
        whole = np.asarray(apply(params, probe), dtype=np.float64)
    except InputError:
        raise
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise InputError(
            f"a function that fails on points of shape {probe.shape} ({type(error).__name__}: {error})",
            wanted,
            "wrap it in jax.vmap over points, or reshape the points",
        ) from error
    if whole.ndim not in (1, 2) or len(whole) != len(probe):
        raise InputError(
            f"a function that returns shape {whole.shape} for {len(probe)} points",
            wanted,
            "wrap it in jax.vmap(apply, in_axes=(None, 0)), or flatten its outputs",
        )
    alone = np.asarray(apply(params, probe[:1]), dtype=np.float64)
    if np.isfinite(whole).all() and not np.allclose(alone[0], whole[0], rtol=1e-4, atol=1e-4 * np.abs(whole).max()):
        raise InputError(
            "a function whose output at a point changes with the other points of the batch",
            "outputs that depend on their own point alone",
            "leave batch normalisation out, or use its evaluation mode",
        )


def _jax() -> ModuleType:
    with needed("jax", "sample", "Monte Carlo kernels"):
        import jax
    return jax
