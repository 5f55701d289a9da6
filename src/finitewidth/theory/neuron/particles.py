"""Particles that sample one neuron in the field of all others: what is compiled (docs/neuron.md).

Weights are whitened, ``theta ~ N(0, 1)`` and readouts ``z ~ N(0, 1)``; psi (m, P) are a neuron's features, all scalings
but 1/sqrt(N) included, so that its output is ``u = psi^T z / sqrt(N)``, (P, D). Under a quadratic response the readouts
are Gaussian given the weights and integrated exactly; under a nonlinear one they are sampled beside the weights.

Few neurons are specialised, and most of the second moments is theirs. So particles are drawn from the neuron's density
times its strength ``E[|z|^2 | theta] / (m D)``, and averages weigh them by the inverse: every particle counts alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from finitewidth.runs.jax_runs import Leaf, compiler_options

T = TypeVar("T")
STEPS = 4  # leapfrog steps of one trajectory
_NEWTON = 6  # steps of the minimum over q: it starts next to it
_LARGEST_STEP = 1.2
_JITTER = (-1.6, 0.4)  # of the log step
_FLOOR = 0.2  # added to the strength: bounds the weight that one particle can have


@dataclass(frozen=True)
class Model:
    """Shapes and settings, no data: equal models share compiled code.

    points: P. patches: J, preactivations of a point. nonlinear: the response (2) instead of (1).
    """

    activation: Callable[[Array], Array]
    points: int
    patches: int
    pooled: bool
    outputs: int
    nonlinear: bool

    @property
    def readouts(self) -> int:
        """m D: readouts of one neuron."""
        return (1 if self.pooled else self.patches) * self.outputs


class Data(NamedTuple):
    """rows: (G, J P, r). scale: what multiplies phi. width: N."""

    rows: Leaf
    scale: Leaf
    width: Leaf


class Field(NamedTuple):
    """What all other neurons exert: s (D, P) and the response matrix R (D, P, D, P)."""

    s: Leaf
    R: Leaf


class Reference(NamedTuple):
    """The scalar action whose nonlinear response is added to the quadratic one (one output only).

    y: (P,). basis, values: of the kernel K / lambda_1. weight: N times the scalars that share q. log_q: of its minimum.
    s, R: slope and curvature of G_a at y, (P,) and (P, P). temperature: T.
    """

    y: Leaf
    basis: Leaf
    values: Leaf
    weight: Leaf
    log_q: Leaf
    s: Leaf
    R: Leaf
    temperature: Leaf


class Directions(NamedTuple):
    """Along which particles jump between bulk and specialised: vectors (G, r, k), deviations and log odds (G, k)."""

    vectors: Leaf
    deviations: Leaf
    log_odds: Leaf


class Moments(NamedTuple):
    """Averages over the particles of one round.

    f: (D, P), the mean output. kernel: K_R, (D, P, D, P). frozen: the response at frozen weights, same shape.
    order: E[z z^T] of each population, (G, m D, m D). acceptance, jumped: shares of trajectories and jumps.
    shift: by how many nats the change of the field moved the particles apart, standard deviation.
    """

    f: Leaf
    kernel: Leaf
    frozen: Leaf
    order: Leaf
    acceptance: Leaf
    jumped: Leaf
    shift: Leaf


class State(NamedTuple):
    """theta: (G, M, r). z: (G, M, m D); without meaning under a quadratic response."""

    theta: Leaf
    z: Leaf


class Neuron(NamedTuple):
    """Potential of every particle and what follows from it; psi is (G, M, m, P).

    mean, second: E[z | theta] (G, M, m D) and E[z z^T | theta] (G, M, m D, m D), or z itself and its square.
    frozen: covariance of z given theta under the quadratic response. weight: of the particle, not normalised, (G, M).
    """

    potential: Leaf
    gradient: State
    psi: Leaf
    mean: Leaf
    second: Leaf
    frozen: Leaf
    weight: Leaf


@jax.custom_jvp
def fast_erf(x: Array) -> Array:
    """erf to 1.5e-7, far below the noise of particles, in a quarter of the time (Abramowitz and Stegun 7.1.26)."""
    return _erf(x, jnp.exp(-x * x))


def _erf(x: Array, gauss: Array) -> Array:
    t = 1.0 / (1.0 + 0.3275911 * jnp.abs(x))
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return jnp.sign(x) * (1.0 - series * gauss)


@fast_erf.defjvp
def _erf_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    gauss = jnp.exp(-primals[0] * primals[0])
    return _erf(primals[0], gauss), 1.1283791670955126 * gauss * tangents[0]


def features(model: Model, theta: Array, rows: Array, scale: Array) -> Array:
    """psi (G, M, m, points) of weights (G, M, r) at rows (G, J points, r)."""
    phi = model.activation(theta @ jnp.swapaxes(rows, 1, 2))
    phi = scale * phi.reshape(*theta.shape[:2], model.patches, -1)
    return phi.mean(2, keepdims=True) if model.pooled else phi


def _responded(model: Model, psi: Array, R: Array) -> Array:
    """``R psi`` (G, M, m, D, D, P): index d of the field, e of the readout."""
    size = model.points
    if model.outputs == 1:
        return (psi @ R.reshape(size, size))[..., None, None, :]
    by_pairs = R.transpose(3, 0, 2, 1).reshape(size, -1)  # (q, d e p)
    return (psi @ by_pairs).reshape(*psi.shape[:3], model.outputs, model.outputs, size)


def _inverse(matrix: Array) -> tuple[Array, Array]:
    """Inverse and log-determinant of small positive definite matrices (..., k, k)."""
    if matrix.shape[-1] == 1:
        return 1.0 / matrix, jnp.log(matrix[..., 0, 0])
    factor = jnp.linalg.cholesky(matrix)
    eye = jnp.broadcast_to(jnp.eye(matrix.shape[-1]), matrix.shape)
    log_det = 2.0 * jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)).sum(-1)
    return jax.scipy.linalg.cho_solve((factor, True), eye), log_det


def conditional(model: Model, psi: Array, response: Array, s: Array, width: Array) -> tuple[Array, Array, Array]:
    """Readouts given the weights under the quadratic response: mean (..., m D), covariance and its log-determinant."""
    lead, k = psi.shape[:2], model.readouts
    if k == 1:  # without batches of 1 x 1 matrices, which would take most of the time
        variance = 1.0 / (1.0 + (psi[:, :, 0] * response[:, :, 0, 0, 0]).sum(-1) / width)
        mean = variance * (psi[:, :, 0] @ s[0]) / jnp.sqrt(width)
        return mean[..., None], variance[..., None, None], -jnp.log(variance)
    b = jnp.einsum("gkip,dp->gkid", psi, s).reshape(*lead, k) / jnp.sqrt(width)
    pull = jnp.einsum("gkip,gkjdep->gkidje", psi, response).reshape(*lead, k, k) / width
    covariance, log_det = _inverse(jnp.eye(k) + 0.5 * (pull + jnp.swapaxes(pull, -1, -2)))
    return jnp.einsum("gkab,gkb->gka", covariance, b), covariance, log_det


def evaluate(model: Model, state: State, data: Data, field: Field, reference: Reference | None) -> Neuron:
    """Potential, gradient and conditional moments of every particle."""
    psi, pull = jax.vjp(lambda theta: features(model, theta, data.rows, data.scale), state.theta)
    response = _responded(model, psi, field.R)
    mean, covariance, log_det = conditional(model, psi, response, field.s, data.width)
    k = model.readouts
    if reference is not None:
        potential, slope, by_z = _nonlinear(state.z, psi, response, data, field, reference)
        strength = _FLOOR + (state.z**2).mean(-1)
        by_z -= 2.0 / k * state.z / strength[..., None]
        second = state.z[..., :, None] * state.z[..., None, :]
        gradient = State(pull(slope)[0], by_z)
        return Neuron(potential - jnp.log(strength), gradient, psi, state.z, second, covariance, 1.0 / strength)
    second = covariance + mean[..., :, None] * mean[..., None, :]
    strength = _FLOOR + jnp.einsum("gkaa->gk", second) / k
    # slopes in Lambda (doubled) and in b of: log det Lambda / 2 - b.mean / 2 - log strength
    further = jnp.einsum("gkab,gkb->gka", covariance, mean)
    cross = further[..., :, None] * mean[..., None, :]
    square = covariance @ covariance if k > 1 else covariance**2
    share = 2.0 / (k * strength)
    by_matrix = second + share[..., None, None] * (square + cross + jnp.swapaxes(cross, -1, -2))
    by_mean = mean + share[..., None] * further
    root, lead = jnp.sqrt(data.width), psi.shape[:3]
    if k == 1:
        slope = (by_matrix[..., 0] * response[:, :, 0, 0, 0] / data.width - by_mean * field.s[0] / root)[:, :, None]
    else:
        pairs = by_matrix.reshape(*lead, model.outputs, *lead[2:], model.outputs)
        slope = jnp.einsum("gkidje,gkjdep->gkip", pairs, response) / data.width
        slope -= jnp.einsum("gkid,dp->gkip", by_mean.reshape(*lead, model.outputs), field.s) / root
    b = jnp.einsum("gkip,dp->gkid", psi, field.s).reshape(mean.shape) / root
    potential = 0.5 * log_det - 0.5 * (b * mean).sum(-1) - jnp.log(strength)
    gradient = State(pull(slope)[0], jnp.zeros_like(state.z))
    return Neuron(potential, gradient, psi, mean, second, covariance, 1.0 / strength)


def _nonlinear(
    z: Array, psi: Array, response: Array, data: Data, field: Field, reference: Reference
) -> tuple[Array, Array, Array]:
    """Potential of (theta, z) with the response (2), its slope in psi and in z; one output."""
    root = jnp.sqrt(data.width)
    u = jnp.einsum("gki,gkip->gkp", z, psi) / root
    Ru = jnp.einsum("gki,gkip->gkp", z, response[..., 0, 0, :]) / root - u @ reference.R
    left = reference.y - u
    energy, solved = _scalar_action(left, reference)
    pull = field.s[0] - reference.s
    potential = -(u @ pull) + 0.5 * (u * Ru).sum(-1) + energy
    by_u = Ru - pull - solved
    return potential, z[..., None] * by_u[:, :, None] / root, jnp.einsum("gkip,gkp->gki", psi, by_u) / root


def _scalar_action(y: Array, reference: Reference) -> tuple[Array, Array]:
    """``G_a(y) = min_q 1/2 [ w (q - log q) + log det A + y^T A^-1 y ]`` and ``A^-1 y``, A = q K + T; y (..., P)."""
    rotated = y @ reference.basis
    power, k, T, weight = rotated**2, reference.values, reference.temperature, reference.weight

    def newton(_: Any, log_q: Array) -> Array:
        q = jnp.exp(log_q)[..., None]
        signal = q * k
        shifted = signal + T
        slope = weight * (q[..., 0] - 1.0) + (signal / shifted * (1.0 - power / shifted)).sum(-1)
        curvature = (signal / shifted**2 * (T - power * (T - signal) / shifted)).sum(-1) + weight * q[..., 0]
        return log_q - jnp.clip(slope / jnp.maximum(jnp.abs(curvature), 1e-6 * weight), -0.5, 0.5)

    start = jnp.full(y.shape[:-1], 1.0) * reference.log_q
    log_q = jax.lax.stop_gradient(jax.lax.fori_loop(0, _NEWTON, newton, start))
    q = jnp.exp(log_q)
    shifted = q[..., None] * k + T
    energy = 0.5 * (weight * (q - log_q) + (jnp.log(shifted) + power / shifted).sum(-1))
    return energy, (rotated / shifted) @ reference.basis.T


def _normalised(weight: Array) -> Array:
    """Weights (G, M) that sum to one in each population."""
    return weight / weight.sum(1, keepdims=True)


def _moments(model: Model, neuron: Neuron, data: Data, *told: Array) -> Moments:
    outputs = model.outputs
    weight = _normalised(neuron.weight)
    mean = (weight[..., None] * neuron.mean).reshape(*neuron.psi.shape[:3], outputs)
    f = jnp.sqrt(data.width) * jnp.einsum("gkid,gkip->gdp", mean, neuron.psi)
    spread = jnp.einsum("gdp,geq->dpeq", f, f) / data.width
    kernel = _second(model, neuron.psi, neuron.psi, weight, neuron.second) - spread
    frozen = _second(model, neuron.psi, neuron.psi, weight, neuron.frozen)
    order = (weight[..., None, None] * neuron.second).sum(1)
    return Moments(f.sum(0), kernel, frozen, order, *told)


def _second(model: Model, at: Array, psi: Array, weight: Array, pairs: Array) -> Array:
    """``sum_g E_g[at^T C psi]`` (D, points, D, P) for C (G, M, m D, m D); at and psi are (G, M, m, points or P)."""
    outputs, points = model.outputs, psi.shape[-1]
    left = at.reshape(-1, at.shape[-1])
    if model.readouts == 1:
        return ((left.T * (weight * pairs[..., 0, 0]).ravel()) @ psi.reshape(-1, points))[None, :, None, :]
    lead = psi.shape[:3]
    blocks = (weight[..., None, None] * pairs).reshape(*lead, outputs, *lead[2:], outputs)
    mixed = jnp.einsum("gkidje,gkjq->gkideq", blocks, psi).reshape(len(left), -1)
    return (left.T @ mixed).reshape(-1, outputs, outputs, points).transpose(1, 0, 2, 3)


def _followed(state: State, neuron: Neuron, before: Array, key: Array) -> tuple[State, Neuron, Array]:
    """The particles at a new field, multiplied by how much likelier it makes them (sequential Monte Carlo).

    So the share of specialised neurons follows the field at once. before: potentials at the old field; systematic
    resampling (Douc and Cappe 2005), so that nothing happens where the field has not changed.
    """
    gain = before - neuron.potential
    gain = jnp.clip(jnp.where(jnp.isfinite(gain), gain, 0.0), -20.0, 20.0)
    count = gain.shape[1]
    share = jnp.cumsum(jax.nn.softmax(gain, axis=1), axis=1)
    marks = (jnp.arange(count) + jax.random.uniform(key, (len(gain), 1), minval=0.01, maxval=0.99)) / count
    chosen = jnp.minimum(jax.vmap(jnp.searchsorted)(share, marks), count - 1)

    def taken(leaf: Array) -> Array:
        return jax.vmap(lambda part, index: part[index])(leaf, chosen)

    return jax.tree.map(taken, state), jax.tree.map(taken, neuron), gain.std(1).max()


def advance(
    model: Model,
    state: State,
    before: Array,
    data: Data,
    field: Field,
    reference: Reference | None,
    directions: Directions,
    key: Array,
    step: Array,
) -> tuple[State, Array, Moments]:
    """Moments of the particles under the field, then one Hamiltonian trajectory and one jump of each.

    before: their potentials (G, M) under the last field; what they are now comes back. The prior is N(0, 1), so its
    flow is a rotation, done exactly (as in sampling/collapsed.py); step: in radians.
    """
    momentum_key, jitter_key, accept_key, jump_key, follow_key = jax.random.split(key, 5)
    force = partial(evaluate, model, data=data, field=field, reference=reference)
    state, start, shift = _followed(state, force(state), before, follow_key)
    keys = jax.random.split(momentum_key)
    momentum = State(jax.random.normal(keys[0], state.theta.shape), jax.random.normal(keys[1], state.z.shape))
    # each particle its own step: some sit where the potential is far stiffer than elsewhere
    shape = (*state.theta.shape[:2], 1)
    step = step * jnp.exp(jax.random.uniform(jitter_key, shape, minval=_JITTER[0], maxval=_JITTER[1]))
    step = jnp.minimum(step, _LARGEST_STEP)
    cosine, sine = jnp.cos(step), jnp.sin(step)

    def kick(momentum: State, gradient: State, size: Array) -> State:
        return jax.tree.map(lambda p, g: p - size * g, momentum, gradient)

    def leap(_: Array, carry: tuple[State, State, Array, State]) -> tuple[State, State, Array, State]:
        state, momentum, _, gradient = carry
        momentum = kick(momentum, gradient, 0.5 * step)
        turned = jax.tree.map(lambda x, p: cosine * x + sine * p, state, momentum)
        momentum = jax.tree.map(lambda x, p: cosine * p - sine * x, state, momentum)
        reached = force(turned)
        return turned, kick(momentum, reached.gradient, 0.5 * step), reached.potential, reached.gradient

    carry = (state, momentum, start.potential, start.gradient)
    end, end_momentum, potential, _ = jax.lax.fori_loop(0, STEPS, leap, carry)
    change = _energy(potential, end, end_momentum) - _energy(start.potential, state, momentum)
    state, potential, chance = _metropolis(accept_key, change, (end, potential), (state, start.potential))
    if reference is None:
        state, potential, jumped = _jump(model, state, potential, data, field, directions, jump_key)
    else:
        jumped = jnp.zeros(())
    return state, potential, _moments(model, start, data, chance, jumped, shift)


def _jump(
    model: Model, state: State, potential: Array, data: Data, field: Field, directions: Directions, key: Array
) -> tuple[State, Array, Array]:
    """An independent draw of the component along one of the directions, accepted by Metropolis' rule.

    Trajectories cross the barrier between bulk and specialised neurons seldom; this does in one step.
    """
    choice_key, draw_key, accept_key = jax.random.split(key, 3)
    lead, k = state.theta.shape[:2], directions.deviations.shape[-1]
    odds = jnp.broadcast_to(directions.log_odds[:, None], (*lead, k))
    chosen = jax.nn.one_hot(jax.random.categorical(choice_key, odds), k)
    vector = chosen @ jnp.swapaxes(directions.vectors, 1, 2)
    deviation = jnp.einsum("gkc,gc->gk", chosen, directions.deviations)
    old = (state.theta * vector).sum(-1)
    new = deviation * jax.random.normal(draw_key, lead)
    proposed = State(state.theta + (new - old)[..., None] * vector, state.z)
    reached = evaluate(model, proposed, data, field, None).potential
    shape = 0.5 * (1.0 - 1.0 / deviation**2)  # prior over proposal
    change = reached - potential + shape * (new**2 - old**2)
    return _metropolis(accept_key, change, (proposed, reached), (state, potential))


def _metropolis(key: Array, change: Array, new: Any, old: Any) -> tuple[State, Array, Array]:
    """The new (state, potential) where it is accepted, and the mean acceptance; change: of -log probability."""
    chance = jnp.exp(jnp.minimum(0.0, -jnp.where(jnp.isfinite(change), change, jnp.inf)))
    accepted = jax.random.uniform(key, chance.shape) < chance
    state = jax.tree.map(lambda a, b: jnp.where(accepted[..., None], a, b), new[0], old[0])
    return state, jnp.where(accepted, new[1], old[1]), chance.mean()


def _energy(potential: Array, state: State, momentum: State) -> Array:
    """The prior's part of z cancels under a quadratic response, where nothing moves z but the prior's rotation."""
    squares = [(x**2).sum(-1) for x in (*state, *momentum)]
    return potential + 0.5 * sum(squares)


def draw_readouts(model: Model, state: State, data: Data, field: Field, key: Array) -> Array:
    """Readouts (G, M, m D) given the weights under the quadratic response."""
    psi = features(model, state.theta, data.rows, data.scale)
    mean, covariance, _ = conditional(model, psi, _responded(model, psi, field.R), field.s, data.width)
    noise = jax.random.normal(key, mean.shape)
    return mean + jnp.einsum("gkab,gkb->gka", jnp.linalg.cholesky(covariance), noise)


class PointMoments(NamedTuple):
    """At other points: f (D, P*), K_R with the training points (D, P*, D, P), of each point (D, D, P*).

    f_train (D, P) and kernel (D, P, D, P) are of the same particles, so that the noise of both can be taken out.
    """

    f: Leaf
    cross: Leaf
    own: Leaf
    f_train: Leaf
    kernel: Leaf


def at_points(model: Model, state: State, data: Data, field: Field, rows: Array, key: Array) -> PointMoments:
    """Moments of one set of particles at other points; ``rows`` (G, J P*, r + r')."""
    neuron = readouts(model, state, data, field)
    psi, weight = neuron.psi, _normalised(neuron.weight)
    at = _features_at(model, state, data, rows, key)
    lead, outputs, N = psi.shape[:3], model.outputs, data.width
    means = (weight[..., None] * neuron.mean).reshape(*lead, outputs) * jnp.sqrt(N)
    f_at = jnp.einsum("gkid,gkip->gdp", means, at)
    f_train = jnp.einsum("gkid,gkip->gdp", means, psi)
    blocks = (weight[..., None, None] * neuron.second).reshape(*lead, outputs, *lead[2:], outputs)
    mixed = jnp.einsum("gkidje,gkjp->gkidep", blocks, at)
    return PointMoments(
        f_at.sum(0),
        _second(model, at, psi, weight, neuron.second) - jnp.einsum("gdp,geq->dpeq", f_at, f_train) / N,
        jnp.einsum("gkidep,gkip->dep", mixed, at) - jnp.einsum("gdp,gep->dep", f_at, f_at) / N,
        f_train.sum(0),
        _second(model, psi, psi, weight, neuron.second) - jnp.einsum("gdp,geq->dpeq", f_train, f_train) / N,
    )


def kernel_at(model: Model, state: State, data: Data, field: Field, rows: Array, key: Array) -> Array:
    """K_R between other points, averaged over outputs, (P*, P*)."""
    neuron = readouts(model, state, data, field)
    weight = _normalised(neuron.weight)
    at = _features_at(model, state, data, rows, key)
    means = (weight[..., None] * neuron.mean).reshape(*at.shape[:3], model.outputs)
    f = jnp.einsum("gkid,gkip->gdp", means, at)
    kernel = _second(model, at, at, weight, neuron.second) - jnp.einsum("gdp,geq->dpeq", f, f)
    return jnp.einsum("dpdq->pq", kernel) / model.outputs


def _features_at(model: Model, state: State, data: Data, rows: Array, key: Array) -> Array:
    """psi at other points; weights along directions outside the training span are drawn from their prior."""
    fresh = jax.random.normal(key, (*state.theta.shape[:2], rows.shape[2] - state.theta.shape[2]))
    return features(model, jnp.concatenate([state.theta, fresh], axis=-1), rows, data.scale)


class Readouts(NamedTuple):
    """psi (G, M, m, P), E[z | theta] (G, M, m D), E[z z^T | theta] and covariance (G, M, m D, m D), weight (G, M)."""

    psi: Leaf
    mean: Leaf
    second: Leaf
    covariance: Leaf
    weight: Leaf


def readouts(model: Model, state: State, data: Data, field: Field) -> Readouts:
    """The readouts of particles given their weights, and the weights of the particles in averages."""
    psi = features(model, state.theta, data.rows, data.scale)
    mean, covariance, _ = conditional(model, psi, _responded(model, psi, field.R), field.s, data.width)
    if model.nonlinear:
        strength = _FLOOR + (state.z**2).mean(-1)
        second = state.z[..., :, None] * state.z[..., None, :]
        return Readouts(psi, state.z, second, jnp.zeros_like(covariance), 1.0 / strength)
    second = covariance + mean[..., :, None] * mean[..., None, :]
    strength = _FLOOR + jnp.einsum("gkaa->gk", second) / model.readouts
    return Readouts(psi, mean, second, covariance, 1.0 / strength)


@lru_cache(maxsize=16)
def compiled(function: Callable[..., Any], model: Model) -> Callable[..., Any]:
    """``function(model, ...)``, compiled once a model and shape."""
    return jax.jit(partial(function, model), compiler_options=compiler_options())


def key_of(*numbers: int) -> Array:
    """A random key that depends on these numbers alone."""
    key = jax.random.key(numbers[0], impl="threefry2x32")
    for number in numbers[1:]:
        key = jax.random.fold_in(key, number)
    return key


def start(model: Model, populations: int, particles: int, rank: int, key: Array) -> State:
    """Weights and readouts from the prior."""
    first, second = jax.random.split(key)
    shape = (populations, particles)
    return State(
        jax.random.normal(first, (*shape, rank)),
        jax.random.normal(second, (*shape, model.readouts)),
    )


def numpy_of(tree: T) -> T:
    """The same tree with NumPy arrays."""
    return jax.tree.map(np.asarray, jax.device_get(tree))
