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
from typing import ClassVar, NamedTuple

import numpy as np

from finitewidth.theory.expansion.functionals import Form, Functional, InfiniteWidth, dense
from finitewidth.theory.expansion.neurons import Neurons
from finitewidth.theory.expansion.recursion import PairDerivatives

Array = np.ndarray
EVIDENCE = "log_evidence"
_SPARED = 4  # one neuron in so many, of a lower layer, looks at what adds little noise to the test error and costs much
_PROBED = 4  # test points of a batch at which lower layers look at what accuracy has of variance'


@dataclass(frozen=True)
class Layer(abc.ABC):
    """One hidden layer: its neurons, and the functionals of the kernel at the top."""

    state: InfiniteWidth
    neurons: Neurons
    functionals: Sequence[Functional]
    cost: ClassVar[float]  # products with P x P matrices, of one neuron

    @abc.abstractmethod
    def derivatives(self, u: Array, weight: Array, generator: np.random.Generator) -> tuple[list[Array], Array]:
        """Of features ``u`` (B, patches, n) with weights (B,): first and half the second derivatives.

        First ones along every neuron's K', an array (B,) for every functional, or of the first few neurons; second
        ones, (F,), their means over neurons.
        """

    def average(self, count: int, generator: np.random.Generator) -> Array:
        """The change of every functional, times the width, as ``count`` neurons have it, (F,)."""
        u, weight = self.neurons.draw(count, generator)
        first, out = self.derivatives(u, weight, generator)
        names = [f.name for f in self.functionals]
        along = weight * first[names.index(EVIDENCE)]
        for k, (name, slope) in enumerate(zip(names, first, strict=True)):
            out[k] += (0.5 if name == EVIDENCE else 1.0) * float(np.mean(along[: len(slope)] * slope))
        return out


class LastLayer(Layer):
    """K' = delta = sum_i u_i u_i^T - K, and no K''."""

    cost = 2.0

    def derivatives(self, u: Array, weight: Array, generator: np.random.Generator) -> tuple[list[Array], Array]:
        """See ``Layer``."""
        state = self.state
        seen: dict[int, Array] = {}

        def along(columns: Array) -> Array:
            if id(columns) not in seen:
                seen[id(columns)] = _products(u, columns)
            return seen[id(columns)]

        white = along(state.half)
        overlap = white @ white.swapaxes(1, 2)
        alpha, tau = along(state.a), along(state.test_vectors)
        own, mean_now = self._mean_now
        mean = (tau.swapaxes(1, 2) @ alpha) - mean_now
        first, second = [], np.empty(len(self.functionals))
        for k, f in enumerate(self.functionals):
            slope = np.full(len(u), -self._first_now[k])
            for form in f.first:
                slope += (along(form.left) * along(form.right)).sum(1) @ form.weight
            first.append(slope)
            total = np.full(len(u), self._forms_now[k])
            for form in f.forms:
                pairs = (along(form.left) * form.weight) @ along(form.right).swapaxes(1, 2)
                total -= (pairs * overlap).sum((1, 2))
            if f.test_mean:
                total += f.test_mean * np.square(mean).sum((1, 2))
            if f.train_mean:
                moved = along(state.train_vectors).swapaxes(1, 2) @ alpha - self._train_mean_now
                total += f.train_mean * np.square(moved).sum((1, 2))
            if f.second is not None:
                both = np.concatenate([mean, (np.square(tau).sum(1) - own)[:, :, None]], axis=2)
                total += np.einsum("btd,tde,bte->b", both, f.second, both, optimize=True)
            second[k] = weight @ total / len(u)
        return first, second

    @cached_property
    def _mean_now(self) -> tuple[Array, Array]:
        """w^T K w and w^T K a at the test points, (P*,) and (P*, D): what delta's mean takes away."""
        kernel, vectors, test = self.state.kernel, self.state.test_vectors, slice(self.state.n_train, None)
        left = kernel @ vectors[: self.state.n_train]
        own = np.vecdot(vectors[: self.state.n_train].T, (kernel.T @ vectors).T) + left[test].diagonal()
        return own + self.state.own[test], vectors.T @ (kernel @ self.state.a)

    @cached_property
    def _train_mean_now(self) -> Array:
        """The same of w^T K a at the training points, (P, D)."""
        return self.state.train_vectors.T @ (self.state.kernel[: self.state.n_train] @ self.state.a)

    @cached_property
    def _first_now(self) -> list[float]:
        """The first derivative along K itself, of every functional: what delta's mean takes away."""
        kernel = self.state.kernel
        parts = [dense(f.first, kernel.shape[1], len(kernel)) for f in self.functionals]
        return [float(np.vdot(part, kernel[: len(part)]) + own @ self.state.own) for part, own in parts]

    @cached_property
    def _forms_now(self) -> list[float]:
        """The same of the forms."""
        whiten, kernel = self.state.gram.whiten, self.state.kernel

        def now(form: Form) -> float:
            right = whiten(kernel[: len(form.right)].T @ form.right)
            return float(np.vdot(whiten(kernel[: len(form.left)].T @ form.left) * form.weight, right))

        return [sum(map(now, f.forms)) for f in self.functionals]


def _products(u: Array, columns: Array) -> Array:
    """Features (B, patches, n), of all or the training points, times ``columns`` (n or P, k) in one matrix product."""
    flat = u.reshape(-1, u.shape[2])[:, : len(columns)]
    return (flat @ columns).reshape(*u.shape[:2], -1)


class _Dense(NamedTuple):
    """What is not linear in K' a of a first derivative: ``<G, K'> + g . diag K' - now``.

    rows (n,), pairs (n or P, P): the same as ``u^2 . rows + u^T pairs u`` of one neuron.
    """

    gradient: Array
    own: Array
    rows: Array
    pairs: Array
    now: float


@dataclass(frozen=True)
class LowerLayer(Layer):
    """K' follows from ``delta = u u^T - C`` through the layers above, pair by pair.

    above: derivatives of K in C. covariance: C (n, n), without offsets.
    """

    above: PairDerivatives
    covariance: Array
    cost = 9.0

    @cached_property
    def _image(self) -> tuple[Array, Array]:
        """K' along C, (n, P), and its diagonal (n,): what delta's mean takes away."""
        return self.above.image(self.covariance)

    @cached_property
    def _dense_parts(self) -> list[_Dense | None]:
        """Of every functional."""
        (ga, gc, gb), train = self.above.first, slice(0, self.state.n_train)
        found: list[_Dense | None] = []
        for f in self.functionals:
            forms = [form for form in f.first if form.right is not self.state.a]
            if not forms:
                found.append(None)
                continue
            gradient, own = dense(forms, self.state.n_train, len(ga))
            few = slice(0, len(gradient))
            rows = own * self.above.own
            rows[few] += (gradient * ga[few]).sum(1)
            rows[train] += (gradient * gb[few]).sum(0)
            now = float(np.vdot(gradient, self._image[0][few]) + own @ self._image[1])
            found.append(_Dense(gradient, own, rows, gradient * gc[few], now))
        return found

    def derivatives(self, u: Array, weight: Array, generator: np.random.Generator) -> tuple[list[Array], Array]:
        """See ``Layer``; the product of first derivatives has most of the noise, and costs a tenth of the rest."""
        u, few = u[:, 0], max(1, len(u) // _SPARED)
        change = [self._times(u, a) for a in self.state.a.T]
        firsts = [
            self.first(k, u if f.name in ("bias", EVIDENCE) else u[:few], change)
            for k, f in enumerate(self.functionals)
        ]
        return firsts, self.halves(u[:few], weight[:few], [each[:few] for each in change], generator)

    def first(self, k: int, u: Array, change: list[Array]) -> Array:
        """First derivative of functional k, (B,), for u (B, n); change: K' a of every output, for these and more."""
        total, part = np.zeros(len(u)), self._dense_parts[k]
        for form in self.functionals[k].first:
            if form.right is self.state.a:
                total += _linear(form, [each[: len(u)] for each in change])
        if part is not None:
            few = slice(0, len(part.pairs))
            total += np.square(u) @ part.rows - part.now
            total += np.vecdot(u[:, few] @ part.pairs, u[:, : self.state.n_train])
        return total

    def halves(self, u: Array, weight: Array, change: list[Array], generator: np.random.Generator) -> Array:
        """Half the second derivatives, (F,)."""
        solved = [self.state.gram.solve_range(each[:, : self.state.n_train].T).T for each in change]
        back = [self._times(u, each) for each in solved]
        P, cross = self.state.n_train, self.state.cross
        mean = np.stack([each[:, P:] - each[:, :P] @ cross for each in change], axis=2)  # mean' at the test points
        bent = self._second_derivative(u, weight)
        out = np.empty(len(self.functionals))
        for k, f in enumerate(self.functionals):
            total = self._means(f, change, solved, back, mean) + self._probes(f, u, mean, generator)
            out[k] = weight @ total / len(u) + 0.5 * self._along_second(f, self._dense_parts[k], bent)
        return out

    def _along_second(self, f: Functional, part: _Dense | None, bent: tuple[Array, Array]) -> float:
        """F' along the mean of K''."""
        linear = [bent[0] @ a for a in self.state.a.T]
        found = sum(float(_linear(form, linear)) for form in f.first if form.right is self.state.a)
        if part is not None:
            found += float(np.vdot(part.gradient, bent[0][: len(part.gradient)]) + part.own @ bent[1])
        return found

    def _means(self, f: Functional, change: list[Array], solved: list[Array], back: list[Array], mean: Array) -> Array:
        """What follows from K' a and K' A^-1 K' a alone, (B,)."""
        total = np.zeros(len(mean))
        for form in f.forms:
            if form.right is self.state.a:
                total -= _linear(form, back)
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


def _linear(form: Form, images: list[Array]) -> Array:
    """The sum over outputs of w L . image, for images of ``a`` (..., n): (...)."""
    few = slice(0, len(form.left))
    columns = zip(images, form.left.T, form.weight, strict=True)
    return sum((weight * (image[..., few] @ left) for image, left, weight in columns), start=np.zeros(()))
