"""Langevin dynamics on all weights, as in the thesis or Metropolis-corrected (THEORY.md section 7).

The thesis steps ``w <- w - eta [grad 1/2 sum (y - f)^2 + T lambda w] + sqrt(2 eta T) xi``. In whitened
weights ``theta = sqrt(lambda) w`` and with ``epsilon = lambda eta T`` that is ``theta <- theta - epsilon
grad U + sqrt(2 epsilon) xi``, U the negative log posterior; one epsilon serves all layers. Its stationary
law is the posterior only for epsilon -> 0. The Metropolis test (Roberts and Tweedie 1996) removes the bias;
without it, ``step_bias`` shows the bias from two step sizes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from finitewidth.sampling.posterior import Arrays, Target, draw_all
from finitewidth.sampling.program import Info, Records, Sampler, Settings, Stage

DIVERGENCE = 1000.0
_STEPS = 50  # Langevin steps between two draws
_START = 1e-4  # step size that adaptation starts from
_UNADJUSTED_STEP = 2e-4


class State(NamedTuple):
    """One chain: all whitened weights, U and its gradient there."""

    theta: Array
    energy: Array
    gradient: Array


@dataclass(frozen=True)
class Langevin(Sampler):
    """Langevin dynamics. corrected: with the Metropolis test and, unless given, an adapted step size."""

    target: Target
    step_size: float | None = field(default=None, compare=False)  # a setting, not part of the program
    trajectory: float | None = field(default=None, compare=False)
    corrected: bool = True
    acceptance: float = 0.574  # optimal in high dimension (Roberts and Rosenthal 1998)

    def init(self, key: Array, arrays: Arrays) -> State:
        """Hidden weights from the prior, readouts from their posterior given these."""
        return self._state(draw_all(self.target, key, arrays), arrays)

    def settings(self) -> Settings:
        """Before warmup; ``trajectory`` is the number of steps between draws."""
        start = _START if self.corrected else _UNADJUSTED_STEP
        return {"step_size": self.step_size or start, "trajectory": float(round(self.trajectory or _STEPS))}

    def stages(self, warmup: int | None, draws: int) -> list[Stage]:
        """Burn-in and draws."""
        adapt = self.corrected and self.step_size is None
        stages = [Stage("burn-in", warmup, adapt)] if warmup else []
        return [*stages, Stage("draws", draws, draws=True)]

    def step(self, state: State, key: Array, jitter: Array, settings: Any, arrays: Arrays) -> tuple[State, Info]:
        """One draw: ``trajectory`` Langevin steps."""
        epsilon = settings["step_size"]

        def one(index: Array, carry: tuple[State, Array, Array]) -> tuple[State, Array, Array]:
            state, accepted, diverged = carry
            noise_key, accept_key = jax.random.split(jax.random.fold_in(key, index))
            new, change = self._propose(state, noise_key, epsilon, arrays)
            chance = jnp.exp(jnp.minimum(0.0, -change))
            taken = (jax.random.uniform(accept_key) < chance) if self.corrected else True
            state = jax.tree.map(lambda a, b: jnp.where(taken, a, b), new, state)
            return state, accepted + chance, diverged | (change > DIVERGENCE)

        steps = settings["trajectory"].astype(int)
        start = (state, jnp.zeros(()), jnp.zeros((), bool))
        state, accepted, diverged = jax.lax.fori_loop(0, steps, one, start)
        return state, Info(accepted / steps, steps, diverged)

    def gradients(self, settings: Settings, records: Records) -> float:
        """The steps between two draws."""
        return settings["trajectory"]

    def energy(self, state: State, arrays: Arrays) -> Array:
        """U of all weights, without constants."""
        return state.energy

    def _state(self, theta: Array, arrays: Arrays) -> State:
        return State(theta, *jax.value_and_grad(self.target.full_energy)(theta, arrays))

    def _propose(self, state: State, key: Array, epsilon: Array, arrays: Arrays) -> tuple[State, Array]:
        """A step, and its energy error: minus the log of the Metropolis-Hastings ratio."""
        noise = jax.random.normal(key, state.theta.shape)
        theta = state.theta - epsilon * state.gradient + jnp.sqrt(2.0 * epsilon) * noise
        new = self._state(theta, arrays)
        back = (state.theta - theta + epsilon * new.gradient) / jnp.sqrt(2.0 * epsilon)
        change = new.energy - state.energy + 0.5 * ((back**2).sum() - (noise**2).sum())
        return new, jnp.where(jnp.isfinite(change), change, jnp.inf)
