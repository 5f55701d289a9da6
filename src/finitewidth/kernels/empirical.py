"""NNGP and NTK of any JAX function, estimated over finite networks drawn from their initial distribution.

For architectures without a closed form, and the second route to those that have one. With f = apply(params, x) and
params = init(key): NNGP = E[f f'], NTK = E[sum over parameters of df/dw df'/dw] (Jacot et al. 2018; Novak et al. 2020).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
    init: Callable[[Any, tuple[int, ...]], Any],
    apply: Callable[[Any, Any], Any],
    x1: Any,
    x2: Any = None,
    *,
    n_samples: int = 100,
    seed: int = 0,
) -> EmpiricalKernels:
    """Monte Carlo estimate of both kernels of ``apply`` between the points x1 and x2 (None: x1).

    init: ``init(key, input_shape)``, input_shape that of one point -> parameters, any pytree of arrays, drawn from the
        initial distribution. ``fw.FullyConnected(...).init`` is one.
    apply: ``apply(params, x)`` -> outputs (points,) or (points, outputs), each of its own point alone. Kernels are
        averaged over outputs. Differentiable by JAX.

    Derivatives, as many as parameters a point, are held of as many points at once as a quarter of the free memory
    takes; all pairs of such blocks are worked through.
    Raises InputError for a function that is not batched, mixes points, or returns NaN or infinity;
    MissingExtraError without JAX. Works in double precision; JAX's settings stay as they are.
    """
    with needed("jax", "sample", "Monte Carlo kernels"):
        import jax
    one = checks.real_array("x1", x1, (1, 2, 3, 4, 5))
    two = one[:0] if x2 is None else checks.real_array("x2", x2, (one.ndim,))
    checks.same_shape(one.shape[1:], two.shape[1:])
    n_samples = checks.positive_integer("n_samples", n_samples)
    if n_samples < 2:
        raise InputError("n_samples = 1", "at least 2, for a standard error", "take 100, for example")
    x, pairs = np.concatenate([one, two]), (slice(0, len(one)), slice(len(one) if len(two) else 0, None))
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(seed), n_samples)
        size = _checked_size(init, apply, keys[0], one)
        step = max(1, int(linalg.available_memory() * _SHARE / (8.0 * 4 * size)))
        sample = _sampler(apply, step)
        nngp, ntk = _Mean(), _Mean()
        for key in keys:
            kernels = sample(init(key, one.shape[1:]), x)
            nngp.add(kernels[0][pairs])
            ntk.add(kernels[1][pairs])
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


def _sampler(apply: Callable[[Any, Any], Any], step: int) -> Callable[[Tree, Array], tuple[Array, Array]]:
    """Both kernels of one network after the other, with functions that are compiled once."""
    import jax
    from jax.flatten_util import ravel_pytree

    @jax.jit
    def outputs(params: Tree, x: JaxArray) -> JaxArray:
        return apply(params, x).reshape(len(x), -1)

    @jax.jit
    def derivatives(params: Tree, x: JaxArray) -> JaxArray:
        flat, restore = ravel_pytree(params)

        def own(point: JaxArray) -> JaxArray:
            return jax.jacrev(lambda w: outputs(restore(w), point[None])[0])(flat)

        return jax.vmap(own)(x)  # (points, outputs, parameters)

    def scaled(values: Any) -> Array:
        """(points, ...), so that products are means over outputs."""
        values = np.asarray(values, dtype=np.float64)
        if not np.isfinite(values).all():
            raise InputError(
                "a function whose outputs or derivatives are NaN or infinite",
                "finite outputs and derivatives at every point and initial network",
                "rescale the points or the initial parameters; look for 0/0 and for roots of 0",
            )
        return values.reshape(len(values), -1) / np.sqrt(values.shape[1])

    def kernels(params: Tree, x: Array) -> tuple[Array, Array]:
        f, ntk = scaled(outputs(params, x)), np.empty((len(x), len(x)))
        for i in slices(0, len(x), step):
            rows = scaled(derivatives(params, x[i]))
            ntk[i, i] = rows @ rows.T
            for j in slices(i.stop, len(x), step):
                ntk[i, j] = rows @ scaled(derivatives(params, x[j])).T
                ntk[j, i] = ntk[i, j].T
        return f @ f.T, ntk

    return kernels


def _checked_size(init: Callable[..., Any], apply: Callable[[Any, Any], Any], key: Any, x: Array) -> int:
    """How many parameters there are.

    Refuses a function that is not batched, or whose output at a point depends on the other points.
    """
    import jax

    probe = x[:3] if len(x) > 1 else np.concatenate([x, x])
    wanted = "a batched function: (points, ...) -> (points,) or (points, outputs)"
    try:
        params = init(key, x.shape[1:])
        whole = np.asarray(apply(params, probe), dtype=np.float64)
    except InputError:
        raise
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise InputError(
            f"functions that fail on points of shape {probe.shape} ({type(error).__name__}: {error})",
            f"init(key, input_shape) and {wanted}",
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
    return sum(leaf.size for leaf in jax.tree.leaves(params))
