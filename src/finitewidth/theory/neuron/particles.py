"""Particles that sample one neuron in the field of all others: what is compiled (docs/neuron.md).

Weights are whitened, ``theta ~ N(0, 1)`` and readouts ``z ~ N(0, 1)``; psi (m, P) are a neuron's features, all scalings
but 1/sqrt(N) included, so that its output is ``u = psi^T z / sqrt(N)``, (P, D). Given the weights the readouts are
Gaussian and integrated exactly.

Few neurons are specialised, and most of the second moments is theirs. So particles are drawn from the neuron's density
times its strength ``E[|z|^2 | theta] / (m D)``, and averages weigh them by the inverse: every particle counts alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from finitewidth.runs.jax_runs import Leaf, compiler_options

STEPS = 4  # leapfrog steps of one trajectory
_LARGEST_STEP = 1.2
_JITTER = (-1.6, 0.4)  # of the log step
_FLOOR = 0.2  # added to the strength: bounds the weight that one particle can have


@dataclass(frozen=True)
class Model:
    """Shapes and settings, no data: equal models share compiled code.

    points: P. patches: J, preactivations of a point.
    """

    activation: Callable[[Array], Array]
    points: int
    patches: int
    pooled: bool
    outputs: int

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


class Directions(NamedTuple):
    """Along which particles jump between bulk and specialised: vectors (G, r, k), deviations and log odds (G, k)."""

    vectors: Leaf
    deviations: Leaf
    log_odds: Leaf


class Moments(NamedTuple):
    """Averages over the particles of one round.

    f: (D, P), the mean output. kernel: K_R, (D, P, D, P). frozen: the response at frozen weights, same shape.
    order: E[z z^T] of each population, (G, m D, m D). acceptance: share of the trajectories. shift: by how many nats
    the change of the field moved the particles apart, standard deviation.
    """

    f: Leaf
    kernel: Leaf
    frozen: Leaf
    order: Leaf
    acceptance: Leaf
    shift: Leaf


class Neuron(NamedTuple):
    """Every particle's features and readouts given its weights; psi is (G, M, m, P).

    mean, second, covariance: E[z | theta] (G, M, m D), E[z z^T | theta] and its central part (G, M, m D, m D).
    strength: (G, M), one over the particle's weight. potential: (G, M), -log of the density but for the prior.
    """

    psi: Leaf
    mean: Leaf
    second: Leaf
    covariance: Leaf
    strength: Leaf
    potential: Leaf


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


def conditional(model: Model, psi: Array, data: Data, field: Field) -> Neuron:
    """Readouts given the weights: Gaussian, precision ``1 + psi R psi^T / N``, mean covariance psi s / sqrt(N)."""
    lead, k, root = psi.shape[:2], model.readouts, jnp.sqrt(data.width)
    # R is symmetric: as a constant, R psi gives the gradient of psi R psi^T without another product with R
    response = jax.lax.stop_gradient(_responded(model, psi, field.R))
    if k == 1:  # without batches of 1 x 1 matrices, which would take most of the time
        pull = (psi[:, :, 0] * response[:, :, 0, 0, 0]).sum(-1) / data.width
        b = (psi[:, :, 0] @ field.s[0]) / root
        variance = 1.0 / (1.0 + 2.0 * pull - jax.lax.stop_gradient(pull))
        mean, covariance, log_det = (variance * b)[..., None], variance[..., None, None], jnp.log(variance)
        explained = variance * b * b
    else:
        b = jnp.einsum("gkip,dp->gkid", psi, field.s).reshape(*lead, k) / root
        pull = jnp.einsum("gkip,gkjdep->gkidje", psi, response).reshape(*lead, k, k) / data.width
        pull = pull + jnp.swapaxes(pull - jax.lax.stop_gradient(pull), -1, -2)
        factor = jnp.linalg.cholesky(jnp.eye(k) + 0.5 * (pull + jnp.swapaxes(pull, -1, -2)))
        covariance = jax.scipy.linalg.cho_solve((factor, True), jnp.broadcast_to(jnp.eye(k), factor.shape))
        log_det = -2.0 * jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)).sum(-1)
        mean = jnp.einsum("gkab,gkb->gka", covariance, b)
        explained = (b * mean).sum(-1)
    second = covariance + mean[..., :, None] * mean[..., None, :]
    strength = _FLOOR + jnp.einsum("gkaa->gk", second) / k
    return Neuron(psi, mean, second, covariance, strength, -0.5 * (log_det + explained) - jnp.log(strength))


def readouts(model: Model, theta: Array, data: Data, field: Field) -> Neuron:
    """What follows from the weights of every particle."""
    return conditional(model, features(model, theta, data.rows, data.scale), data, field)


def evaluate(model: Model, theta: Array, data: Data, field: Field) -> tuple[Neuron, Array]:
    """``readouts``, and the gradient of the potential in theta."""

    def total(theta: Array) -> tuple[Array, Neuron]:
        neuron = readouts(model, theta, data, field)
        return neuron.potential.sum(), neuron

    (_, neuron), gradient = jax.value_and_grad(total, has_aux=True)(theta)
    return neuron, gradient


def shares(neuron: Neuron) -> Array:
    """Weights (G, M) of the particles in averages; they sum to one in each population."""
    weight = 1.0 / neuron.strength
    return weight / weight.sum(1, keepdims=True)


def _moments(model: Model, neuron: Neuron, data: Data, acceptance: Array, shift: Array) -> Moments:
    weight = shares(neuron)
    f = _mean_output(model, neuron, weight, neuron.psi, data)
    kernel = _second(model, neuron.psi, neuron.psi, weight, neuron.second) - _product(f, f, data)
    frozen = _second(model, neuron.psi, neuron.psi, weight, neuron.covariance)
    order = (weight[..., None, None] * neuron.second).sum(1)
    return Moments(f.sum(0), kernel, frozen, order, acceptance, shift)


def _mean_output(model: Model, neuron: Neuron, weight: Array, at: Array, data: Data) -> Array:
    """``N E[u]`` of each population, (G, D, points); at: psi (G, M, m, points)."""
    mean = (weight[..., None] * neuron.mean).reshape(*at.shape[:3], model.outputs)
    return jnp.sqrt(data.width) * jnp.einsum("gkid,gkip->gdp", mean, at)


def _product(f: Array, other: Array, data: Data) -> Array:
    """What the means take from second moments, (D, points, D, other points)."""
    return jnp.einsum("gdp,geq->dpeq", f, other) / data.width


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


# --- one round -------------------------------------------------------------------------------------------------------


def advance(
    model: Model,
    theta: Array,
    before: Array,
    data: Data,
    field: Field,
    directions: Directions,
    key: Array,
    step: Array,
) -> tuple[Array, Array, Moments]:
    """Moments of the particles under the field, then one Hamiltonian trajectory and one jump of each.

    theta: (G, M, r). before: their potentials (G, M) under the last field; what they are now comes back. The prior is
    N(0, 1), so its flow is a rotation, done exactly (as in sampling/collapsed.py); step: in radians.
    """
    momentum_key, jitter_key, accept_key, jump_key, follow_key = jax.random.split(key, 5)
    force = partial(evaluate, model, data=data, field=field)
    neuron, gradient = force(theta)
    chosen, shift = _followed(neuron.potential, before, follow_key)
    theta, neuron, gradient = jax.tree.map(
        lambda leaf: jax.vmap(lambda part, index: part[index])(leaf, chosen), (theta, neuron, gradient)
    )
    momentum = jax.random.normal(momentum_key, theta.shape)
    # each particle its own step: some sit where the potential is far stiffer than elsewhere
    shape = (*theta.shape[:2], 1)
    step = step * jnp.exp(jax.random.uniform(jitter_key, shape, minval=_JITTER[0], maxval=_JITTER[1]))
    step = jnp.minimum(step, _LARGEST_STEP)
    cosine, sine = jnp.cos(step), jnp.sin(step)

    def leap(_: Array, carry: tuple[Array, ...]) -> tuple[Array, ...]:
        theta, momentum, _, gradient = carry
        momentum = momentum - 0.5 * step * gradient
        theta, momentum = cosine * theta + sine * momentum, cosine * momentum - sine * theta
        reached, gradient = force(theta)
        return theta, momentum - 0.5 * step * gradient, reached.potential, gradient

    before_it = (theta, momentum, neuron.potential, gradient)
    end, end_momentum, potential, _ = jax.lax.fori_loop(0, STEPS, leap, before_it)
    change = _energy(potential, end, end_momentum) - _energy(neuron.potential, theta, momentum)
    theta, potential, acceptance = _metropolis(accept_key, change, (end, potential), (theta, neuron.potential))
    theta, potential = _jump(model, theta, potential, data, field, directions, jump_key)
    return theta, potential, _moments(model, neuron, data, acceptance, shift)


def _followed(potential: Array, before: Array, key: Array) -> tuple[Array, Array]:
    """Which particles go on at a new field: multiplied by how much likelier it makes them (sequential Monte Carlo).

    So the share of specialised neurons follows the field at once. before: potentials at the old field; systematic
    resampling (Douc and Cappe 2005), so that nothing happens where the field has not changed.
    """
    gain = before - potential
    gain = jnp.clip(jnp.where(jnp.isfinite(gain), gain, 0.0), -20.0, 20.0)
    count = gain.shape[1]
    share = jnp.cumsum(jax.nn.softmax(gain, axis=1), axis=1)
    marks = (jnp.arange(count) + jax.random.uniform(key, (len(gain), 1), minval=0.01, maxval=0.99)) / count
    return jnp.minimum(jax.vmap(jnp.searchsorted)(share, marks), count - 1), gain.std(1).max()


def _jump(
    model: Model, theta: Array, potential: Array, data: Data, field: Field, directions: Directions, key: Array
) -> tuple[Array, Array]:
    """An independent draw of the component along one of the directions, accepted by Metropolis' rule.

    Trajectories cross the barrier between bulk and specialised neurons seldom; this does in one step.
    """
    choice_key, draw_key, accept_key = jax.random.split(key, 3)
    lead, k = theta.shape[:2], directions.deviations.shape[-1]
    odds = jnp.broadcast_to(directions.log_odds[:, None], (*lead, k))
    chosen = jax.nn.one_hot(jax.random.categorical(choice_key, odds), k)
    vector = chosen @ jnp.swapaxes(directions.vectors, 1, 2)
    deviation = jnp.einsum("gkc,gc->gk", chosen, directions.deviations)
    old = (theta * vector).sum(-1)
    new = deviation * jax.random.normal(draw_key, lead)
    proposed = theta + (new - old)[..., None] * vector
    reached = readouts(model, proposed, data, field).potential
    shape = 0.5 * (1.0 - 1.0 / deviation**2)  # prior over proposal
    change = reached - potential + shape * (new**2 - old**2)
    return _metropolis(accept_key, change, (proposed, reached), (theta, potential))[:2]


def _metropolis(
    key: Array, change: Array, new: tuple[Array, Array], old: tuple[Array, Array]
) -> tuple[Array, Array, Array]:
    """The new theta and potential where they are accepted, and the mean acceptance; change: of -log probability."""
    chance = jnp.exp(jnp.minimum(0.0, -jnp.where(jnp.isfinite(change), change, jnp.inf)))
    accepted = jax.random.uniform(key, chance.shape) < chance
    return jnp.where(accepted[..., None], new[0], old[0]), jnp.where(accepted, new[1], old[1]), chance.mean()


def _energy(potential: Array, theta: Array, momentum: Array) -> Array:
    return potential + 0.5 * (theta**2 + momentum**2).sum(-1)


# --- other points ----------------------------------------------------------------------------------------------------


class PointMoments(NamedTuple):
    """At other points: f (D, P*), K_R with the training points (D, P*, D, P), of each point (D, D, P*).

    f_train (D, P) and kernel (D, P, D, P) are of the same particles, so that the noise of both can be taken out.
    """

    f: Leaf
    cross: Leaf
    own: Leaf
    f_train: Leaf
    kernel: Leaf


def at_points(model: Model, theta: Array, data: Data, field: Field, rows: Array, key: Array) -> PointMoments:
    """Moments of one set of particles at other points; ``rows`` (G, J P*, r + r')."""
    neuron = readouts(model, theta, data, field)
    weight, at = shares(neuron), _features_at(model, theta, data, rows, key)
    f_at, f = (_mean_output(model, neuron, weight, psi, data) for psi in (at, neuron.psi))
    lead, outputs = at.shape[:3], model.outputs
    blocks = (weight[..., None, None] * neuron.second).reshape(*lead, outputs, *lead[2:], outputs)
    mixed = jnp.einsum("gkidje,gkjp->gkidep", blocks, at)
    return PointMoments(
        f_at.sum(0),
        _second(model, at, neuron.psi, weight, neuron.second) - _product(f_at, f, data),
        jnp.einsum("gkidep,gkip->dep", mixed, at) - jnp.einsum("gdp,gep->dep", f_at, f_at) / data.width,
        f.sum(0),
        _second(model, neuron.psi, neuron.psi, weight, neuron.second) - _product(f, f, data),
    )


def kernel_at(model: Model, theta: Array, data: Data, field: Field, rows: Array, key: Array) -> Array:
    """K_R between other points, averaged over outputs, (P*, P*)."""
    neuron = readouts(model, theta, data, field)
    weight, at = shares(neuron), _features_at(model, theta, data, rows, key)
    f = _mean_output(model, neuron, weight, at, data)
    kernel = _second(model, at, at, weight, neuron.second) - _product(f, f, data)
    return jnp.einsum("dpdq->pq", kernel) / model.outputs


def _features_at(model: Model, theta: Array, data: Data, rows: Array, key: Array) -> Array:
    """psi at other points; weights along directions outside the training span are drawn from their prior."""
    fresh = jax.random.normal(key, (*theta.shape[:2], rows.shape[2] - theta.shape[2]))
    return features(model, jnp.concatenate([theta, fresh], axis=-1), rows, data.scale)


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
