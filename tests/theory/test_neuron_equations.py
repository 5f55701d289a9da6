"""The single-neuron theory a second time: one particle after another in NumPy, from the formulas of docs/neuron.md."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import special, stats

from theory.one_particle import CASES, RANK, Case, Draws, P, close, derivative, key, ran

jax = pytest.importorskip("jax")


@pytest.mark.parametrize("name", CASES)
def test_every_particle_by_hand(name):
    from finitewidth.theory.neuron import particles as cp

    case = Case(**CASES[name])
    got, gradient = ran(cp.evaluate, case.model, case.theta, *case.given)
    known = ran(cp.readouts, case.model, case.theta, *case.given)
    assert case.model.readouts == case.k
    for g, k in np.ndindex(got.potential.shape):
        want = case.neuron(g, case.theta[g, k])
        for field in got._fields:
            close(getattr(got, field)[g, k], getattr(want, field), rtol=1e-7)
            close(getattr(known, field)[g, k], getattr(want, field), rtol=1e-7)
        close(gradient[g, k], derivative(lambda x: case.neuron(g, x).potential, case.theta[g, k]), atol=1e-6)  # noqa: B023


@pytest.mark.parametrize("k", [1, 2])
def test_the_readouts_are_integrated(k):
    """The potential is minus the log of a Gaussian integral over z of exp(s u - u R u / 2), times the strength."""
    case = Case(patches=k)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    for theta in case.theta[0]:
        one = case.neuron(0, theta)
        total, second = 0.0, 0.0
        for places in itertools.product(range(60), repeat=k):
            z = nodes[list(places)]
            u = one.Psi @ z / math.sqrt(case.width)
            weight = np.prod(weights[list(places)]) / (2 * math.pi) ** (k / 2)
            weight *= math.exp(case.s @ u - 0.5 * u @ case.R @ u)
            total, second = total + weight, second + weight * z @ z
        assert one.potential == pytest.approx(-math.log(total * (0.2 + second / total / k)), rel=1e-6)


def test_the_quick_erf():
    from finitewidth.theory.neuron import particles as cp

    x = np.concatenate([np.linspace(-4.0, 4.0, 801), [1e-3, -1e-3, 30.0, -30.0]])
    value, slope = ran(lambda _, x: jax.jvp(cp.fast_erf, (x,), (2.0 + 0.0 * x,)), None, x)
    close(ran(lambda _, x: cp.fast_erf(x), None, x), special.erf(x), atol=2e-7, rtol=0)
    close(value, special.erf(x), atol=2e-7, rtol=0)
    close(slope, 4.0 / math.sqrt(math.pi) * np.exp(-(x**2)))


# --- averages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_averages_at_other_points_by_hand(name, monkeypatch):
    """Directions that only test points have are drawn from the prior: what is drawn is recorded."""
    from finitewidth.theory.neuron import particles as cp

    case, rng = Case(**CASES[name]), np.random.default_rng(1)
    groups, count, points = *case.theta.shape[:2], 3
    rows = rng.standard_normal((groups, case.patches * points, RANK + 4))
    draws, again = Draws(monkeypatch), Draws(monkeypatch)
    got = draws.ran(cp.at_points, case.model, case.theta, *case.given, rows, key(1))
    kernel = again.ran(cp.kernel_at, case.model, case.theta, *case.given, rows, key(1))
    fresh = draws.of("normal") + again.of("normal")
    assert [part.shape for part in fresh] == [(groups, count, 4)] * 2
    neurons = case.neurons(case.theta)
    f_train, K, _, _ = case.moments(neurons)
    size, D = points * case.outputs, case.outputs
    f, cross, own = np.zeros(size), np.zeros((size, case.values)), np.zeros((size, size))
    for g, population in enumerate(neurons):
        norm, mean, at_train = sum(1.0 / one.strength for one in population), np.zeros(size), np.zeros(case.values)
        for k, one in enumerate(population):
            share = 1.0 / one.strength / norm
            At = case.spread(case.psi(np.append(case.theta[g, k], fresh[0][g, k]), rows[g]))
            mean += share * math.sqrt(case.width) * At @ one.mean
            at_train += share * math.sqrt(case.width) * one.Psi @ one.mean
            cross += share * At @ one.second @ one.Psi.T
            own += share * At @ one.second @ At.T
        f += mean
        cross -= np.outer(mean, at_train) / case.width
        own -= np.outer(mean, mean) / case.width
    close(got.f, f.reshape(D, points))
    close(got.cross, cross.reshape(D, points, D, P))
    close(got.own, np.einsum("dpep->dep", own.reshape(D, points, D, points)))
    close(got.f_train, f_train.reshape(D, P))
    close(got.kernel, K.reshape(D, P, D, P))
    close(kernel, np.einsum("dpdq->pq", own.reshape(D, points, D, points)) / D)


# --- one round -------------------------------------------------------------------------------------------------------


def resampled(gain, uniform):
    """Indices of one population after systematic resampling: the k-th mark at (k + uniform) / M."""
    gain = np.clip(np.where(np.isfinite(gain), gain, 0.0), -20.0, 20.0)
    upper = np.cumsum(np.exp(gain) / np.exp(gain).sum())
    return [next(i for i, top in enumerate(upper) if (k + uniform) / len(gain) <= top) for k in range(len(gain))]


def one_round(case, before, directions, draws, step):
    """``advance``, one particle after another."""
    normal, uniform = draws.of("normal"), draws.of("uniform")
    follow, jitter, accept = uniform[0], uniform[1], uniform[2]
    theta, shifts = case.theta.copy(), []
    for g, group in enumerate(case.neurons(theta)):
        gain = before[g] - np.array([one.potential for one in group])
        chosen = resampled(gain, float(follow[g, 0]))
        shifts.append(np.std(np.clip(np.where(np.isfinite(gain), gain, 0.0), -20.0, 20.0)))
        theta[g] = theta[g][chosen]
    moments = case.moments(case.neurons(theta))
    potential, chance = np.zeros(theta.shape[:2]), np.zeros(theta.shape[:2])
    for g, k in np.ndindex(potential.shape):
        angle = min(step * math.exp(jitter[g, k, 0]), 1.2)
        x, p = theta[g, k], normal[0][g, k]

        def at(x):
            return case.neuron(g, x).potential  # noqa: B023

        old, start = at(x) + 0.5 * (x @ x + p @ p), x
        for _ in range(4):
            p = p - 0.5 * angle * derivative(at, x)
            x, p = math.cos(angle) * x + math.sin(angle) * p, math.cos(angle) * p - math.sin(angle) * x
            p = p - 0.5 * angle * derivative(at, x)
        chance[g, k] = min(1.0, math.exp(old - at(x) - 0.5 * (x @ x + p @ p)))
        x = x if accept[g, k] < chance[g, k] else start
        choice = draws.of("categorical")[0][g, k]
        vector, deviation = directions.vectors[g, :, choice], directions.deviations[g, choice]
        before_jump, after = x @ vector, deviation * normal[1][g, k]
        proposed = x + (after - before_jump) * vector
        prior, proposal = stats.norm(0.0, 1.0).logpdf, stats.norm(0.0, deviation).logpdf
        ratio = prior(after) - prior(before_jump) + proposal(before_jump) - proposal(after)
        jumped = min(1.0, math.exp(ratio + at(x) - at(proposed)))
        theta[g, k] = proposed if uniform[3][g, k] < jumped else x
        potential[g, k] = at(theta[g, k])
    return theta, potential, moments, chance, max(shifts)


@pytest.mark.parametrize("name", ["one", "patches", "outputs"])
def test_one_round_by_hand(name, monkeypatch):
    """Resampling, moments, four leapfrog steps, Metropolis, a jump; with the random numbers that were drawn."""
    from finitewidth.theory.neuron import particles as cp

    case = Case(**CASES[name], particles=8)
    groups, count = case.theta.shape[:2]
    rng = np.random.default_rng(2)
    vectors = np.stack([np.linalg.qr(rng.standard_normal((RANK, RANK)))[0][:, :2] for _ in range(groups)])
    odds = np.array([[0.0, 0.0], [-60.0, 0.0]])[:groups]  # the second population jumps along its second direction
    directions = cp.Directions(vectors, 0.8 + rng.random((groups, 2)), odds)
    potential = [[one.potential for one in part] for part in case.neurons(case.theta)]
    before, draws = np.array(potential) + 0.8 * rng.standard_normal((groups, count)), Draws(monkeypatch)
    given = (case.model, case.theta, before, *case.given, directions, key(5), np.float64(0.75))
    got, after, moments = draws.ran(cp.advance, *given)
    assert draws.independent
    theta, now, (f, kernel, frozen, order), chance, shift = one_round(case, before, directions, draws, 0.75)
    D = case.outputs
    close(moments.f, f.reshape(D, P))
    close(moments.kernel, kernel.reshape(D, P, D, P))
    close(moments.frozen, frozen.reshape(D, P, D, P))
    close(moments.order, order)
    close(moments.shift, shift)
    close(moments.acceptance, chance.mean(), atol=1e-5)
    close(got, theta, atol=1e-5)
    close(after, now, atol=1e-5)
    if name == "patches":
        assert (draws.of("categorical")[0][1] == 1).all()
    jitter = draws.of("uniform")[1]
    assert jitter.shape == (groups, count, 1)
    assert 0.0 < chance.mean() < 1.0


@pytest.mark.parametrize("seed", range(3))
def test_systematic_resampling(seed, monkeypatch):
    """Gains beyond 20 nats count as 20, those that are not known as none; populations apart."""
    from finitewidth.theory.neuron import particles as cp

    rng, draws = np.random.default_rng(seed), Draws(monkeypatch)
    gain = 2.0 * rng.standard_normal((2, 7))
    gain[0, 1], gain[1, 2:4] = [30.0, np.nan, -25.0][seed], 0.0
    gain[1, 0] = [-40.0, 3.0, np.inf][seed]
    potential = rng.standard_normal((2, 7))
    given = (None, potential, potential + gain, key(seed))
    got, shift = draws.ran(lambda _, *given: cp._followed(*given), *given)
    marks = draws.of("uniform")[0]
    assert marks[0, 0] != marks[1, 0]
    for g in range(2):
        np.testing.assert_array_equal(got[g], resampled(gain[g], float(marks[g, 0])))
    known = np.clip(np.where(np.isfinite(gain), gain, 0.0), -20.0, 20.0)
    close(shift, max(np.std(part) for part in known))


def test_metropolis():
    """Down is always accepted, up with exp(-change); what is not a number, or infinite, never."""
    from finitewidth.theory.neuron import particles as cp

    count = 4000
    change = np.repeat([[-1.0, np.log(4.0), np.nan, np.inf, -np.inf]], count // 5, axis=1)
    ones, zeros = np.ones((1, count, 2)), np.zeros((1, count, 2))
    given = (key(0), change, (ones, ones[..., 0]), (zeros, zeros[..., 0]))
    theta, potential, mean = ran(lambda _, *given: cp._metropolis(*given), None, *given)
    np.testing.assert_array_equal(theta, np.repeat(potential[..., None], 2, axis=-1))
    shares = np.asarray(potential).reshape(5, -1).mean(1)
    assert (shares[0], shares[2], shares[3], shares[4]) == (1.0, 0.0, 0.0, 0.0)
    assert shares[1] == pytest.approx(0.25, abs=0.05)
    assert float(mean) == pytest.approx((1.0 + 0.25) / 5)
