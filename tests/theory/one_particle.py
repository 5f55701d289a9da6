"""One particle of the single-neuron theory, written out in NumPy from the formulas of docs/neuron.md; what it takes to
replay the package's random numbers."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from finitewidth.runs.jax_runs import single_thread

jax = pytest.importorskip("jax")
P, RANK, T = 4, 3, 0.3


class Case:
    """Data, field and particles of one model, small, and what the formulas say of them."""

    def __init__(self, patches=1, pooled=False, outputs=1, populations=1, particles=6, seed=0):
        import jax.numpy as jnp

        from finitewidth.theory.neuron import particles as cp

        rng = np.random.default_rng(seed)
        self.model = cp.Model(jnp.tanh, P, patches, pooled, outputs)
        self.patches, self.pooled, self.outputs = patches, pooled, outputs
        self.m = 1 if pooled else patches
        self.k, self.values, self.width, self.scale = self.m * outputs, outputs * P, 5.0, 1.4
        self.rows = rng.standard_normal((populations, patches * P, RANK))
        self.theta = rng.standard_normal((populations, particles, RANK))
        self.set_field(3)

    def set_field(self, seed):
        rng = np.random.default_rng(seed)
        root = rng.standard_normal((self.values, self.values))
        self.s, self.R = 1.5 * rng.standard_normal(self.values), root @ root.T / self.values + 0.2 * np.eye(self.values)

    @property
    def given(self):
        """(data, field) as the compiled code takes them."""
        from finitewidth.theory.neuron import particles as cp

        shape = (self.outputs, P)
        data = cp.Data(self.rows, np.float64(self.scale), np.float64(self.width))
        return data, cp.Field(self.s.reshape(shape), self.R.reshape(*shape, *shape))

    def psi(self, theta, rows):
        """(m, points) of one neuron."""
        phi = self.scale * np.array([np.tanh(row @ theta) for row in rows]).reshape(self.patches, -1)
        return phi.mean(0, keepdims=True) if self.pooled else phi

    def spread(self, psi):
        """(D points, m D): u of all outputs, one output after another, is this times z / sqrt(N)."""
        out = np.zeros((self.outputs, psi.shape[1], self.m, self.outputs))
        for d in range(self.outputs):
            out[d, :, :, d] = psi.T
        return out.reshape(-1, self.k)

    def neuron(self, g, theta):
        """Potential and conditional moments of one particle."""
        psi, N = self.psi(theta, self.rows[g]), self.width
        Psi = self.spread(psi)
        precision = np.eye(self.k) + Psi.T @ self.R @ Psi / N
        covariance = np.linalg.inv(precision)
        mean = covariance @ Psi.T @ self.s / math.sqrt(N)
        second = covariance + np.outer(mean, mean)
        potential = 0.5 * np.linalg.slogdet(precision)[1] - 0.5 * mean @ precision @ mean
        strength = 0.2 + np.trace(second) / self.k
        return SimpleNamespace(
            potential=potential - math.log(strength),
            psi=psi,
            mean=mean,
            second=second,
            covariance=covariance,
            strength=strength,
            Psi=Psi,
        )

    def neurons(self, theta):
        """All of them: [population][particle]."""
        return [[self.neuron(g, one) for one in part] for g, part in enumerate(theta)]

    def moments(self, neurons):
        """f, K_R, the response at frozen weights and E[z z^T], by weighted averages of u and u u^T."""
        f, total = np.zeros(self.values), np.zeros((2, self.values, self.values))
        orders = []
        for population in neurons:
            norm, mean, order = (
                sum(1.0 / one.strength for one in population),
                np.zeros(self.values),
                np.zeros((self.k, self.k)),
            )
            for one in population:
                share = 1.0 / one.strength / norm
                mean += share * math.sqrt(self.width) * one.Psi @ one.mean
                order += share * one.second
                total[0] += share * one.Psi @ one.second @ one.Psi.T
                total[1] += share * one.Psi @ one.covariance @ one.Psi.T
            total[0] -= np.outer(mean, mean) / self.width
            f += mean
            orders.append(order)
        return f, total[0], total[1], np.array(orders)


CASES = {
    "one": {},
    "patches": {"patches": 3, "populations": 2},
    "outputs": {"patches": 2, "outputs": 2},
    "pooled": {"patches": 2, "pooled": True, "outputs": 2, "populations": 2},
}


def derivative(function, x, step=1e-3):
    """Of a function of a vector, by differences of fourth order."""
    out = np.zeros_like(x)
    for i in range(len(x)):
        at = [function(x + k * step * np.eye(len(x))[i]) for k in (1, -1, 2, -2)]
        out[i] = (8 * (at[0] - at[1]) - (at[2] - at[3])) / (12 * step)
    return out


def ran(function, *given):
    """Compiled as a whole, as in use: one operation after another would take much longer to compile."""
    with single_thread():
        return jax.tree.map(np.asarray, jax.jit(function, static_argnums=0)(*given))


def close(got, want, **tolerance):
    np.testing.assert_allclose(np.asarray(got), want, **({"rtol": 1e-8, "atol": 1e-10} | tolerance))


# --- what was drawn ---------------------------------------------------------------------------------------------------


class Draws:
    """Random numbers of NumPy in place of ``jax.random``'s, which take long to compile; and from which keys."""

    def __init__(self, monkeypatch, seed=0):
        self.found, self.keys, self._patch, self._rng = [], [], monkeypatch, np.random.default_rng(seed)

    def ran(self, function, model, *given):
        """``function``, compiled, and all that it drew."""
        import jax.numpy as jnp

        drawn, rng = [], self._rng

        def kept(name, key, out):
            drawn.append((name, jax.random.key_data(key), out))
            return jnp.asarray(out)

        def normal(key, shape):
            return kept("normal", key, rng.standard_normal(shape))

        def uniform(key, shape, minval=0.0, maxval=1.0):
            return kept("uniform", key, rng.uniform(minval, maxval, shape))

        def categorical(key, logits):
            return kept("categorical", key, jnp.argmax(logits + rng.gumbel(size=logits.shape), axis=-1))

        def whole(model, *given):
            out = function(model, *given)
            return out, [part[1] for part in drawn], [part[2] for part in drawn]

        with self._patch.context() as patch:
            for draw in (normal, uniform, categorical):
                patch.setattr(jax.random, draw.__name__, draw)
            out, keys, found = ran(whole, model, *given)
        self.keys = [tuple(one.ravel().tolist()) for one in keys]
        self.found = [(name, one) for (name, *_), one in zip(drawn, found, strict=True)]
        return out

    def of(self, name):
        return [found for kind, found in self.found if kind == name]

    @property
    def independent(self):
        return len(set(self.keys)) == len(self.keys)


def key(*numbers):
    from finitewidth.theory.neuron import particles as cp

    return cp.key_of(*numbers)
