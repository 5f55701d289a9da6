"""Weights of some draws, from which predictions at any points follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from finitewidth.linalg import require_memory
from finitewidth.runs.jax_runs import compiler_options, single_thread

if TYPE_CHECKING:
    from jax import Array as JaxArray

    from finitewidth.sampling.observables import Record
    from finitewidth.sampling.posterior import Arrays, Target
    from finitewidth.sampling.run import SamplingRun

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Weights:
    """positions: whitened weights of k draws of every chain, (chains, k, dim); see ``posterior.Target``."""

    run: SamplingRun
    positions: Array

    def outputs(self, x: Array) -> tuple[Array, Array]:
        """E[f(x) | draw] and Var[f(x) | draw], as ``Draws`` has them, of the k draws.

        The readouts are conditioned on the training set exactly, or are those drawn; weights of inputs outside the
        training span have their prior, and are drawn as the sampler draws them. Raises MemoryCapError.
        """
        run, engine = self.run, self.run.engine
        numbers = 4.0 * self.positions[..., 0].size * len(x) * (run.y.shape[1] + 1) + run.working(len(x))
        require_memory(8.0 * numbers, f"{len(x)} points to predict", "predict fewer at once")
        at, n_extra = run.inputs.at(x)
        compiled = _compiled(replace(engine.sampler.target, n_extra=n_extra), engine.sampler.conditional)
        arrays = engine.arrays._replace(test=at)
        with single_thread():
            records = [
                [compiled(theta, engine.seed, chain, engine.iteration(k), arrays) for k, theta in enumerate(thetas)]
                for chain, thetas in enumerate(self.positions)
            ]
        mean, variance = (
            np.array([[one[name] for one in chain] for chain in records]) for name in ("mean", "variance")
        )
        return run.outputs(mean, variance)


@lru_cache(maxsize=16)
def _compiled(target: Target, conditional: bool) -> Callable[..., Record]:
    import jax

    from finitewidth.sampling.observables import observe
    from finitewidth.sampling.program import observing_key

    def one(theta: JaxArray, seed: int, chain: int, iteration: int, arrays: Arrays) -> Record:
        return observe(target, theta, observing_key(seed, chain, iteration), arrays, (), conditional)[0]

    return jax.jit(one, compiler_options=compiler_options())
