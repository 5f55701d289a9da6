"""Averages over prior neurons: what the finite width of one layer adds to every functional, times its width.

With delta one neuron's share of the fluctuation of its layer's covariance, K' and K'' the first and second derivative
of the kernel at the top along it, and ell the log evidence, the error eps and the log evidence change by

    < eps''(K', K')/2 + eps' K''/2 + (eps' K') (ell' K') >   and   < ell''(K', K')/2 + ell' K''/2 + (ell' K')^2 / 2 >.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from finitewidth.theory.expansion.functionals import Form, Functional, InfiniteWidth
from finitewidth.theory.expansion.neurons import Neurons
from finitewidth.theory.expansion.recursion import PairDerivatives

Array = np.ndarray
EVIDENCE = "log_evidence"
_SPARED = 4  # one neuron in so many looks at second derivatives of other things than the test error, in lower layers
_PROBED = 4  # test points of a batch at which lower layers look at what accuracy has of variance'


@dataclass(frozen=True)
class Layer(abc.ABC):
    """One hidden layer: its neurons, and the functionals of the kernel at the top."""

    state: InfiniteWidth
    neurons: Neurons
    functionals: Sequence[Functional]

    @abc.abstractmethod
    def halves(self, u: Array, weight: Array, generator: np.random.Generator) -> Array:
        """Half the second derivative of every functional, (F,): mean over neurons of features ``u`` (B, patches, n)."""

    @abc.abstractmethod
    def firsts(self, u: Array) -> Array:
        """First derivatives along every neuron's K', (B, F)."""

    def average(self, count: int, generator: np.random.Generator) -> Array:
        """The change of every functional, times the width, as ``count`` neurons have it, (F,)."""
        u, weight = self.neurons.draw(count, generator)
        first = self.firsts(u)
        evidence = [f.name == EVIDENCE for f in self.functionals]
        along = first[:, evidence.index(True)] * np.where(evidence, 0.5, 1.0)[:, None]
        return self.halves(u, weight, generator) + (weight * along * first.T).mean(1)


class LastLayer(Layer):
    """K' = delta = sum_i u_i u_i^T - K: P^2 operations a neuron, and no K''."""

    def firsts(self, u: Array) -> Array:
        square = np.square(u).sum(1)
        columns = []
        for f in self.functionals:
            seen = np.vecdot(_products(u, f.gradient), u[:, :, : self.state.n_train]).sum(1)
            now = np.vdot(f.gradient, self.state.kernel[: len(f.gradient)]) + f.own @ self.state.own
            columns.append(seen + square @ f.own - now)
        return np.stack(columns, axis=1)

    def halves(self, u: Array, weight: Array, generator: np.random.Generator) -> Array:
        state, train = self.state, u[:, :, : self.state.n_train]
        white = state.gram.whiten(train.reshape(-1, state.n_train).T).T.reshape(*train.shape[:2], -1)
        overlap = white @ white.swapaxes(1, 2)
        seen: dict[int, Array] = {}

        def along(vectors: Array) -> Array:
            if id(vectors) not in seen:
                seen[id(vectors)] = _products(u, vectors)
            return seen[id(vectors)]

        alpha, tau = along(state.a), along(state.test_vectors)
        own, mean_now = self._mean_now
        mean = (tau.swapaxes(1, 2) @ alpha) - mean_now
        out = np.empty(len(self.functionals))
        for k, f in enumerate(self.functionals):
            total = np.full(len(u), self._forms_now[k])
            for form in f.forms:
                pairs = (along(form.left) * form.weight) @ along(form.right).swapaxes(1, 2)
                total -= (pairs * overlap).sum((1, 2))
            if f.test_mean:
                total += f.test_mean * np.square(mean).sum((1, 2))
            if f.train_mean:
                total += f.train_mean * self._train_change(train, alpha)
            if f.second is not None:
                both = np.concatenate([mean, (np.square(tau).sum(1) - own)[:, :, None]], axis=2)
                total += np.einsum("btd,tde,bte->b", both, f.second, both, optimize=True)
            out[k] = weight @ total / len(u)
        return out

    @cached_property
    def _mean_now(self) -> tuple[Array, Array]:
        """w^T K w and w^T K a at the test points, (P*,) and (P*, D): what delta's mean takes away."""
        kernel, vectors, test = self.state.kernel, self.state.test_vectors, slice(self.state.n_train, None)
        left = kernel @ vectors[: self.state.n_train]
        own = np.vecdot(vectors[: self.state.n_train].T, (kernel.T @ vectors).T) + left[test].diagonal()
        return own + self.state.own[test], vectors.T @ (kernel @ self.state.a)

    @cached_property
    def _forms_now(self) -> list[float]:
        """The sum of the forms of K itself, of every functional: what delta's mean takes away."""
        whiten, kernel = self.state.gram.whiten, self.state.kernel

        def now(form: Form) -> float:
            right = whiten(kernel[: len(form.right)].T @ form.right)
            return float(np.vdot(whiten(kernel[: len(form.left)].T @ form.left) * form.weight, right))

        return [sum(map(now, f.forms)) for f in self.functionals]

    def _train_change(self, train: Array, alpha: Array) -> Array:
        """Sum of mean'^2 over training points and outputs, (B,)."""
        state = self.state
        change = np.einsum("bid,bip->pbd", alpha, train) - (state.kernel[: state.n_train] @ state.a)[:, None, :]
        moved = state.temperature * state.gram.solve_range(change.reshape(state.n_train, -1))
        return np.square(moved).reshape(state.n_train, len(train), -1).sum((0, 2))


def _products(u: Array, columns: Array) -> Array:
    """Features (B, patches, n), of all or the training points, times ``columns`` (n or P, k) in one matrix product."""
    flat = u.reshape(-1, u.shape[2])[:, : len(columns)]
    return (flat @ columns).reshape(*u.shape[:2], -1)


@dataclass(frozen=True)
class LowerLayer(Layer):
    """K' follows from ``delta = u u^T - C`` through the layers above, pair by pair.

    above: derivatives of K in C. covariance: C (n, n), without offsets.
    """

    above: PairDerivatives
    covariance: Array

    @cached_property
    def _image(self) -> tuple[Array, Array]:
        """K' along C, (n, P), and its diagonal (n,): what delta's mean takes away."""
        return self.above.image(self.covariance)

    def firsts(self, u: Array) -> Array:
        u = u[:, 0]
        square, train = np.square(u), slice(0, self.state.n_train)
        ga, gc, gb = self.above.first
        columns = []
        for f in self.functionals:
            few = slice(0, len(f.gradient))
            rows = f.own * self.above.own
            rows[few] += (f.gradient * ga[few]).sum(1)
            rows[train] += (f.gradient * gb[few]).sum(0)
            seen = square @ rows + np.vecdot(u[:, few] @ (f.gradient * gc[few]), u[:, train])
            columns.append(seen - np.vdot(f.gradient, self._image[0][few]) - f.own @ self._image[1])
        return np.stack(columns, axis=1)

    def halves(self, u: Array, weight: Array, generator: np.random.Generator) -> Array:
        u = u[:, 0]
        change = [self._times(u, a) for a in self.state.a.T]
        solved = [self.state.gram.solve_range(each[:, : self.state.n_train].T).T for each in change]
        back = [self._times(u, each) for each in solved]
        P, cross = self.state.n_train, self.state.cross
        mean = np.stack([each[:, P:] - each[:, :P] @ cross for each in change], axis=2)  # mean' at the test points
        bent = self._second_derivative(u, weight)
        some = slice(0, max(1, len(u) // _SPARED))
        out = np.empty(len(self.functionals))
        for k, f in enumerate(self.functionals):
            total = self._means(f, change, solved, back, mean)
            out[k] = weight @ total / len(u) + 0.5 * (np.vdot(f.gradient, bent[0][: len(f.gradient)]) + f.own @ bent[1])
            probed = slice(None) if f.name == "variance" else some
            rest = self._probes(f, u[probed], mean[probed], generator)
            out[k] += weight[probed] @ rest / len(rest)
        return out

    def _means(self, f: Functional, change: list[Array], solved: list[Array], back: list[Array], mean: Array) -> Array:
        """What follows from K' a and K' A^-1 K' a alone, (B,)."""
        total = np.zeros(len(mean))
        for form in f.forms:
            if form.right is self.state.a:
                for each, left, weight in zip(back, form.left.T, form.weight, strict=True):
                    total -= weight * (each[:, : len(left)] @ left)
        if f.test_mean:
            total += f.test_mean * np.square(mean).sum((1, 2))
        if f.train_mean:
            for each in solved:
                total += f.train_mean * self.state.temperature**2 * np.square(each).sum(1)
        return total

    def _probes(self, f: Functional, u: Array, mean: Array, generator: np.random.Generator) -> Array:
        """The rest, (B,): sums over many points of which every neuron sees one random combination, or some."""
        total = np.zeros(len(u))
        for form in f.forms:
            if form.right is not self.state.a:
                total -= self._form(u, form, generator)
        if f.second is not None:
            total += self._at_some_points(u, f.second, mean, generator)
        return total

    def _times(self, u: Array, z: Array) -> Array:
        """K' z of every neuron, (B, n), for z (P,), or (B, P), at the training points."""
        ga, gc, gb = self.above.first
        square, train = np.square(u), slice(0, self.state.n_train)
        out = square * (z @ ga.T) + u * ((u[:, train] * z) @ gc.T) + (square[:, train] * z) @ gb.T
        return out - z @ self._image[0].T

    def _along(self, u: Array, z: Array) -> Array:
        """(K' z)_X of every neuron, (B, P), for z (B, n), or (B, P) at the training points."""
        few, train = slice(0, z.shape[-1]), slice(0, self.state.n_train)
        ga, gc, gb = (part[few] for part in self.above.first)
        square = np.square(u)
        out = (square[:, few] * z) @ ga + u[:, train] * ((u[:, few] * z) @ gc) + square[:, train] * (z @ gb)
        return out - z @ self._image[0][few]

    def _form(self, u: Array, form: Form, generator: np.random.Generator) -> Array:
        """The sum over columns: one random combination of them a neuron, which has it for its mean."""
        signs = generator.choice((-1.0, 1.0), size=(len(u), len(form.weight)))
        size = np.sqrt(np.abs(form.weight))
        left = self._whitened(self._along(u, (signs * size) @ form.left.T))
        if (form.weight >= 0.0).all() or (form.weight <= 0.0).all():
            return np.sign(form.weight.sum()) * np.vecdot(left, left)
        right = self._whitened(self._along(u, (signs * size * np.sign(form.weight)) @ form.right.T))
        return np.vecdot(left, right)

    def _whitened(self, along: Array) -> Array:
        return self.state.gram.whiten(along.T).T

    def _second_derivative(self, u: Array, weight: Array) -> tuple[Array, Array]:
        """Mean of K'' over neurons: (n, P), and its diagonal (n,)."""
        P, C = self.state.n_train, self.covariance
        haa, hac, hab, hcc, hcb, hbb = self.above.second
        square = np.square(u)
        variance, cross = np.diagonal(C), C[:, :P]
        weighted = (weight / len(u))[:, None]
        fourth = (weighted * square**2).sum(0) - variance**2
        squares = (weighted * square).T @ square[:, :P]
        own_cross = (weighted * square * u).T @ u[:, :P] - variance[:, None] * cross
        cross_own = (weighted * u).T @ (square * u)[:, :P] - cross * variance[:P]
        bent = haa * fourth[:, None] + hbb * fourth[:P] + 2.0 * (hac * own_cross + hcb * cross_own)
        bent += 2.0 * hab * (squares - variance[:, None] * variance[:P]) + hcc * (squares - cross**2)
        return bent, self.above.own_second * fourth

    def _at_some_points(self, u: Array, second: Array, mean: Array, generator: np.random.Generator) -> Array:
        """The quadratic form of (mean', variance'), of all test points as some of them have it."""
        points = self.state.test.n_points
        count = min(_PROBED, points)
        total = np.zeros(len(u))
        for t in generator.choice(points, count, replace=False):
            both = np.concatenate([mean[:, t], self._variance_change(u, t)[:, None]], axis=1)
            total += np.einsum("bd,de,be->b", both, second[t], both)
        return total * (points / count)

    def _variance_change(self, u: Array, t: int) -> Array:
        """variance' = w^T K' w at test point t, (B,)."""
        P, row = self.state.n_train, self.state.n_train + t
        ga, gc, gb = self.above.first
        w, train, square = self.state.test_vectors[:P, t], u[:, :P], np.square(u)
        weighted = train * w
        inside = np.vecdot(weighted @ gc[:P], weighted) + square[:, :P] @ (w * (ga[:P] @ w + w @ gb[:P]))
        across = square[:, row] * (ga[row] @ w) + u[:, row] * (weighted @ gc[row]) + square[:, :P] @ (gb[row] * w)
        now = w @ self._image[0][:P] @ w + 2.0 * (self._image[0][row] @ w) + self._image[1][row]
        return inside + 2.0 * across + square[:, row] * self.above.own[row] - now
