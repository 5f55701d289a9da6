"""The full posterior by BlackJAX's no-U-turn sampler, an independent witness (Hoffman and Gelman 2014)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import blackjax
import jax
import jax.numpy as jnp
from blackjax.adaptation.base import get_filter_adapt_info_fn
from jax import Array

from finitewidth.sampling.posterior import Arrays, Target, draw_all
from finitewidth.sampling.program import Info, Sampler, Settings, Stage

_START = 0.01  # step size that adaptation starts from


class State(NamedTuple):
    """One chain: BlackJAX's state of all whitened weights, and the result of window adaptation for this chain."""

    chain: Any
    step_size: Array
    inverse_mass: Array


@dataclass(frozen=True)
class Nuts(Sampler):
    """NUTS with Stan's window adaptation of step size and diagonal metric, both of BlackJAX, chain by chain."""

    target: Target
    warmup: int
    step_size: float | None = None
    acceptance: float = 0.8

    def init(self, key: Array, arrays: Arrays) -> State:
        """Start from the prior with readouts given the rest, and adapt."""
        start_key, adapt_key = jax.random.split(key)
        position = draw_all(self.target, start_key, arrays)
        density = partial(self._log_density, arrays=arrays)
        if self.warmup == 0:
            step_size = jnp.asarray(self.step_size or _START)
            return State(blackjax.nuts.init(position, density), step_size, jnp.ones_like(position))
        adaptation = blackjax.window_adaptation(
            blackjax.nuts,
            density,
            initial_step_size=_START,
            target_acceptance_rate=self.acceptance,
            adaptation_info_fn=get_filter_adapt_info_fn(),
        )
        result, _ = adaptation.run(adapt_key, position, num_steps=self.warmup)
        found = result.parameters
        step_size = found["step_size"] if self.step_size is None else jnp.asarray(self.step_size)
        return State(result.state, step_size, found["inverse_mass_matrix"])

    def settings(self) -> Settings:
        """None shared by the chains."""
        return {}

    def stages(self, warmup: int | None, draws: int) -> list[Stage]:
        """Draws only: the window adaptation is part of ``init``."""
        return [Stage("draws", draws, draws=True)]

    def step(self, state: State, key: Array, jitter: Array, settings: Any, arrays: Arrays) -> tuple[State, Info]:
        """One NUTS trajectory."""
        density = partial(self._log_density, arrays=arrays)
        chain, info = blackjax.nuts.build_kernel()(key, state.chain, density, state.step_size, state.inverse_mass)
        taken = Info(info.acceptance_rate, info.num_integration_steps, info.is_divergent)
        return state._replace(chain=chain), taken

    def position(self, state: State) -> Array:
        """All whitened weights."""
        return state.chain.position

    def energy(self, state: State, arrays: Arrays) -> Array:
        """U of all weights, without constants."""
        return -state.chain.logdensity

    def _log_density(self, theta: Array, arrays: Arrays) -> Array:
        return -self.target.full_energy(theta, arrays)
