"""Hamiltonian Monte Carlo on the hidden weights, readouts integrated exactly (docs/theory.md section 7; Neal
2011).

Weights theta are whitened, of prior N(0, 1), and have masses m (metric.py), 1 before warmup. The flow of a Gaussian of
curvature m is a rotation of (theta, velocity), done exactly: half a kick by what is left of the slope of U, a rotation
by the step size, half a kick (Shahbaba et al. 2014). With m = 1 the step size is limited by the likelihood alone.
Warmup adapts it by dual averaging (Hoffman and Gelman 2014), and the masses; then it tries trajectory lengths and keeps
the one that moves the energy and the predictions farthest for its cost. It begins that as soon as the energy no longer
drifts, unless its length is given.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import erf_inv

from finitewidth.sampling.metric import Metric
from finitewidth.sampling.posterior import Arrays, Target
from finitewidth.sampling.program import Info, Records, Sampler, Settings, Stage

DIVERGENCE = 1000.0  # an energy error above this counts as a divergence
MAX_STEPS = 512  # leapfrog steps of one draw at most
_LARGEST_STEP = 1.0
_NEARLY = 0.7
_LENGTHS = (1.0, 1.6, 2.5)  # trajectory lengths tried, in radians of the rotation by the prior
_LONGEST_BURN_IN, _RACE, _STEP_SIZE = 300, 10, 20  # iterations, where the length of warmup is not given
_WINDOW = 15  # iterations over which the energy must not drift
_DRIFT, _OFF = 0.5, 0.15  # of the energy, in its standard deviations; of the acceptance from what is aimed at


class State(NamedTuple):
    """One chain: whitened weights (dim,), the likelihood's potential and its gradient there; and its masses."""

    theta: Array
    potential: Array
    gradient: Array
    metric: Metric

    @property
    def slope(self) -> Array:
        """Of U."""
        return self.gradient + self.theta

    @property
    def kick(self) -> Array:
        """What accelerates it beside the Gaussian whose curvature the masses are."""
        return self.theta - self.slope / self.metric.mass


@dataclass(frozen=True)
class Collapsed(Sampler):
    """The collapsed sampler. step_size, trajectory: fixed, or None to be adapted in warmup (the former with masses)."""

    target: Target
    step_size: float | None = field(default=None, compare=False)  # a setting, not part of the program
    trajectory: float | None = field(default=None, compare=False)
    acceptance: float = 0.75  # with 0.6 as few as 0.3 came out where masses change late in warmup

    conditional = True

    def init(self, key: Array, arrays: Arrays) -> State:
        """A draw from the prior, its potential not known yet: the first step finds it."""
        theta = jax.random.normal(key, arrays.scale.shape)
        return State(theta, jnp.array(jnp.inf), jnp.zeros_like(theta), Metric.of_prior(theta))

    def adapted(self, states: State) -> State:
        """With masses learned from the slopes that were seen."""
        return states._replace(metric=states.metric.learned(self.target.weight_shapes))

    def settings(self) -> Settings:
        """Before warmup."""
        step = self.step_size or 0.1
        return {"step_size": step, "trajectory": self.trajectory or 1.0, "max_steps": 32.0}

    def stages(self, warmup: int | None, draws: int) -> list[Stage]:
        """Burn-in, the race of trajectory lengths, the final step size, and the draws."""
        adapt, lengths = self.step_size is None, () if self.trajectory else _LENGTHS
        if warmup is None:
            burn, race, last = _LONGEST_BURN_IN, _RACE, _STEP_SIZE if adapt else 0
        elif lengths:
            burn, race = warmup // 2, warmup // (4 * len(lengths))
            last = warmup - burn - race * len(lengths)
        else:
            burn, race, last = warmup, 0, 0
        stages = [Stage("burn-in", burn, adapt, settles=warmup is None)]
        stages += [Stage(f"length {length}", race) for length in lengths]
        stages.append(Stage("step size", last, adapt))
        return [*(stage for stage in stages if stage.iterations > 0), Stage("draws", draws, draws=True)]

    def settled(self, stage: Stage, records: Records) -> bool:
        """Whether the energy no longer drifts, and steps are accepted as often as they should be."""
        energy, acceptance = records["energy"], records["acceptance"][:, -_WINDOW:]
        if energy.shape[1] < 2 * _WINDOW:
            return False
        before, last = energy[:, -2 * _WINDOW : -_WINDOW], energy[:, -_WINDOW:]
        drift = abs(float(last.mean() - before.mean()))
        deviation = float(np.sqrt(0.5 * (before.var(1) + last.var(1)).mean()))
        accepted = not stage.adapt or abs(float(acceptance.mean()) - self.acceptance) <= _OFF
        return accepted and drift <= _DRIFT * deviation

    def before(self, stage: Stage, settings: Settings, scores: dict[str, float]) -> Settings:
        """Settings a stage starts with; ``scores`` holds the scores of the lengths tried."""
        if stage.name.startswith("length"):
            return {**settings, "trajectory": float(stage.name.split()[1]), "max_steps": float(MAX_STEPS)}
        if stage.name == "burn-in":
            return settings
        chosen = self.trajectory or self._longest_good(scores)
        return {**settings, "trajectory": chosen, "max_steps": float(MAX_STEPS)}

    def _longest_good(self, scores: dict[str, float]) -> float:
        """The longest trajectory that scores nearly as well as the best: slow modes hide from one-draw lags."""
        tried = [scores.get(f"length {length}", 0.0) for length in _LENGTHS]
        good = [length for length, score in zip(_LENGTHS, tried, strict=True) if score >= _NEARLY * max(tried)]
        return max(good) if max(tried) > 0.0 else _LENGTHS[1]

    def score(self, stage: Stage, records: Records) -> float | None:
        """Effective draws per gradient of the predictions and of their squares, the slower of the two.

        (1 - r) / (1 + r) for autocorrelation r at one draw, as in a first-order autoregression.
        """
        if not stage.name.startswith("length") or records["energy"].shape[1] < 2:
            return None
        cost = float(records["steps"].mean()) + 2.0  # observing a draw costs about two gradients
        mean, variance = records["mean"], records["variance"]
        series = (mean, mean**2 + variance[..., None])
        correlation = max(0.0, *(1.0 - _jump(values) for values in series))
        return (1.0 - correlation) / (1.0 + correlation) / cost

    def step(self, state: State, key: Array, jitter: Array, settings: Any, arrays: Arrays) -> tuple[State, Info]:
        """One trajectory of random length, uniform between 1/2 and 3/2 of the setting, and its Metropolis test.

        Where the potential is not known, one step of no length.
        """
        drawn = jax.random.uniform(key, (state.theta.size + 1,), minval=jnp.nextafter(-1.0, 0.0))  # one call for all
        velocity = jnp.sqrt(2.0 / state.metric.mass) * erf_inv(drawn[:-1])
        chance = 0.5 * (1.0 + drawn[-1])
        step_size = jnp.minimum(settings["step_size"], _LARGEST_STEP)
        length = settings["trajectory"] * (0.5 + jitter)
        steps = jnp.clip(jnp.ceil(length / step_size), 1, settings["max_steps"]).astype(int)
        known = jnp.isfinite(state.potential)
        steps, step_size = jnp.where(known, steps, 1), jnp.where(known, step_size, 0.0)
        end, end_velocity, squares = self._integrate(state, velocity, step_size, steps, arrays)
        start_energy, end_energy = _total(state, velocity), _total(end, end_velocity)
        change = jnp.where(jnp.isfinite(end_energy), end_energy - start_energy, jnp.inf)
        acceptance = jnp.exp(jnp.minimum(0.0, -change))
        accepted = chance < acceptance
        metric = state.metric.seen(squares, steps, acceptance)
        state = jax.tree.map(lambda new, old: jnp.where(accepted, new, old), end, state)
        return state._replace(metric=metric), Info(acceptance, steps, change > DIVERGENCE)

    def gradients(self, settings: Settings, records: Records) -> float:
        """As many as leapfrog steps; the trajectory is not chosen yet."""
        length = self.trajectory or float(np.mean(_LENGTHS))
        return min(max(1.0, 0.5 + length / min(settings["step_size"], _LARGEST_STEP)), MAX_STEPS)

    def energy(self, state: State, arrays: Arrays) -> Array:
        """U, without constants."""
        return state.potential + 0.5 * (state.theta**2).sum()

    def _integrate(
        self, start: State, velocity: Array, step_size: Array, steps: Array, arrays: Arrays
    ) -> tuple[State, Array, Array]:
        """Where a trajectory ends, its velocity there, and the squares of U's slopes along it, added up."""
        cosine, sine = jnp.cos(step_size), jnp.sin(step_size)

        def leap(_: Any, carry: tuple[State, Array, Array]) -> tuple[State, Array, Array]:
            state, velocity, squares = carry
            velocity = velocity + 0.5 * step_size * state.kick
            theta = cosine * state.theta + sine * velocity
            velocity = cosine * velocity - sine * state.theta
            potential, gradient = jax.value_and_grad(self.target.potential)(theta, arrays)
            state = State(theta, potential, gradient, state.metric)
            return state, velocity + 0.5 * step_size * state.kick, squares + state.slope**2

        return jax.lax.fori_loop(0, steps, leap, (start, velocity, jnp.zeros_like(velocity)))


def _total(state: State, velocity: Array) -> Array:
    return state.potential + 0.5 * ((state.theta**2).sum() + (state.metric.mass * velocity**2).sum())


def _jump(values: np.ndarray) -> float:
    """Mean squared step of (chains, draws, ...) series over twice their variance: 1 - autocorrelation."""
    power = values.var(axis=(0, 1)).mean()
    return float((np.diff(values, axis=1) ** 2).mean() / (2.0 * power)) if power > 0.0 else 0.0
