"""How each layer maps covariances and tangent kernels, on a block of pairs of points.

A block holds ``K_pq(x, x')`` as (positions p, positions q, *pairs of points), or only p = q as (positions, *pairs):
whichever the layers behind need. Same-padded convolutions followed by flatten never leave p = q; average pooling
and attention need every pair. A vector is one position. K is the covariance of a channel (Novak et al. 2019;
Garriga-Alonso et al. 2019; Hron et al. 2020), Theta the neural tangent kernel of whitened parameters, or of the
weights themselves (docs/theory.md section 1; Jacot et al. 2018; Arora et al. 2019).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any, Protocol

import numpy as np

from finitewidth.networks import layers as L

Array = np.ndarray


@dataclass
class State:
    """``nngp`` is K; ``ntk`` is Theta, None while it is zero or where it is not wanted.

    ``tangent`` says of what parameters Theta is wanted: "whitened", "weights" (themselves), or None.
    Rules write into both arrays.
    """

    nngp: Array
    tangent: str | None = None
    ntk: Array | None = None

    @property
    def raw(self) -> bool:
        """Whether the tangent kernel is that of the weights themselves."""
        return self.tangent == "weights"

    def affine(self, weight_variance: float, offset_variance: float) -> None:
        """A layer with weights, its inputs already contracted: K <- w K + b, Theta <- w Theta + its own share."""
        K = self.nngp
        own = K.copy() if self.raw else None  # d f / d W is larger than of whitened ones
        if weight_variance != 1.0:
            K *= weight_variance
        if offset_variance:
            K += offset_variance
        if own is not None and offset_variance:
            own += 1.0
        if self.tangent:
            self.add_to_ntk(K if own is None else own, weight_variance)

    def add_to_ntk(self, own: Array, weight_variance: float) -> None:
        if self.ntk is None:
            self.ntk = own.copy()
        else:
            self.ntk *= weight_variance
            self.ntk += own

    def copy(self) -> State:
        ntk = None if self.ntk is None else self.ntk.copy()
        return State(self.nngp.copy(), self.tangent, ntk)

    def map(self, function: Any) -> None:
        """The same linear map for both arrays."""
        self.nngp = function(self.nngp)
        if self.ntk is not None:
            self.ntk = function(self.ntk)


class Sides(Protocol):
    """Where a rule finds what belongs to one point: the points of the rows, and of the columns of the block."""

    def of(self, step: Step, state: State) -> tuple[Array, Array]:
        """What the step prepared of both sets, (..., *pairs) broadcasting against each other."""
        ...


@dataclass(eq=False)
class Step:
    """One layer in a place: its space in front, and whether all pairs of positions are there, and behind it."""

    layer: Any
    space: tuple[int, ...]
    full: bool
    full_out: bool
    inner: list[list[Step]] = field(default_factory=list)


def run(steps: list[Step], state: State, sides: Sides) -> None:
    """One layer after another, in place."""
    for step in steps:
        rule(step.layer, step, state, sides)


def between(step: Step, left: Array, right: Array) -> tuple[Array, Array]:
    """(k, positions, *pairs) of both sides, ready to broadcast against the block."""
    return (left[:, :, None], right[:, None]) if step.full else (left, right)


@singledispatch
def observe(layer: Any, step: Step, state: State) -> Array:
    """What the layer must know of single points, from their covariances with themselves: (..., points).

    Most layers need the variance of every position.
    """
    K = state.nngp
    return np.array(np.einsum("iip->ip", K) if step.full else K)


@singledispatch
def prepare(layer: Any, observed: Array) -> Array:
    """The same in the form that the rule uses, (..., points)."""
    raise NotImplementedError(type(layer).__name__)


@singledispatch
def rule(layer: Any, step: Step, state: State, sides: Sides) -> None:
    """Turn the block of the layer's input into that of its output."""
    raise NotImplementedError(type(layer).__name__)


# --- layers that see one position at a time --------------------------------------------------------------------------


@prepare.register
def _(layer: L.Nonlinearity, observed: Array) -> Array:
    return layer.phi.dual.prepare(observed)


@rule.register
def _(layer: L.Nonlinearity, step: Step, state: State, sides: Sides) -> None:
    p1, p2 = between(step, *sides.of(step, state))
    if state.ntk is None:
        layer.phi.dual.kappa(p1, p2, state.nngp, out=state.nngp)
    else:
        state.nngp, slope = layer.phi.dual.kappa_and_slope(p1, p2, state.nngp)
        state.ntk *= slope


@prepare.register
def _(layer: L.LayerNorm, observed: Array) -> Array:
    return 1.0 / np.sqrt(layer.epsilon + observed)[None]


@rule.register
def _(layer: L.LayerNorm, step: Step, state: State, sides: Sides) -> None:
    p1, p2 = between(step, *sides.of(step, state))
    for K in (state.nngp, state.ntk):
        if K is not None:
            K *= p1[0]
            K *= p2[0]


@rule.register
def _(layer: L.Dense, step: Step, state: State, sides: Sides) -> None:
    state.affine(layer.weight_variance, layer.offset_variance)


# --- layers that move between positions ------------------------------------------------------------------------------


@rule.register
def _(layer: L.Conv, step: Step, state: State, sides: Sides) -> None:
    state.map(lambda K: convolve(layer, step.space, K, step.full))
    finish_conv(layer, step, state)


def convolve(layer: L.Conv, space: tuple[int, ...], K: Array, full: bool) -> Array:
    """Mean over places d of a patch, K_{p+d,q+d}, zero outside the image."""
    windows, directions = layer.grid(space).windows, len(space)
    K = K.reshape(*space, *(space if full else ()), *K.shape[2 if full else 1 :])
    for axis, window in enumerate(windows):
        K = window_sum(K, (axis, directions + axis) if full else (axis,), *window)
    K *= 1.0 / math.prod(size for _, _, size, _ in windows)
    return _flat(K, directions, full)


def finish_conv(layer: L.Conv, step: Step, state: State) -> None:
    """Variances of weights and offsets; without shared weights different positions are independent."""
    state.affine(layer.weight_variance, layer.offset_variance)
    if not layer.shared and step.full_out:
        state.map(_on_diagonal)


def window_sum(K: Array, axes: tuple[int, ...], count: int, before: int, size: int, step: int) -> Array:
    """Sum over offsets d < size of K at ``o step + d - before`` for o < count, along all ``axes`` at once."""
    if (size, step) == (1, 1):
        return K.copy()
    length = K.shape[axes[0]]
    out = np.zeros([count if axis in axes else full for axis, full in enumerate(K.shape)])
    for d in range(size):
        first = max(0, -((d - before) // step))
        last = min(count, (length - 1 + before - d) // step + 1)
        if first < last:
            source = slice(first * step + d - before, (last - 1) * step + d - before + 1, step)
            out[_at(K.ndim, axes, slice(first, last))] += K[_at(K.ndim, axes, source)]
    return out


def _at(rank: int, axes: tuple[int, ...], where: slice) -> tuple[slice, ...]:
    return tuple(where if axis in axes else slice(None) for axis in range(rank))


def _flat(K: Array, directions: int, full: bool) -> Array:
    """(*space [, *space], *pairs) -> (positions [, positions], *pairs)."""
    n = math.prod(K.shape[:directions])
    return K.reshape((n, n, *K.shape[2 * directions :]) if full else (n, *K.shape[directions:]))


def _on_diagonal(K: Array) -> Array:
    out = np.zeros((len(K), *K.shape))
    out[np.diag_indices(len(K))] = K
    return out


@rule.register
def _(layer: L.AveragePool, step: Step, state: State, sides: Sides) -> None:
    windows, directions = layer.grid(step.space).windows, len(step.space)
    scale = 1.0 / math.prod(size for _, _, size, _ in windows) ** 2

    def pool(K: Array) -> Array:
        K = K.reshape(*step.space, *step.space, *K.shape[2:])
        for axis, window in enumerate(windows):
            K = window_sum(window_sum(K, (axis,), *window), (directions + axis,), *window)
        K *= scale
        return _needed_pairs(_flat(K, directions, True), step)

    state.map(pool)


def _needed_pairs(K: Array, step: Step) -> Array:
    """Of all pairs of positions, those that the layers behind need."""
    return K if step.full_out else _same_positions(K)


def _same_positions(K: Array) -> Array:
    """Of all pairs of positions, p = q."""
    return np.ascontiguousarray(np.einsum("ii...->i...", K))


@rule.register
def _(layer: L.GlobalAveragePool, step: Step, state: State, sides: Sides) -> None:
    def pool(K: Array) -> Array:
        n = len(K)
        return (K.reshape(n * n, -1).sum(0) / n**2).reshape(1, *K.shape[2:])

    state.map(pool)


@rule.register
def _(layer: L.Flatten, step: Step, state: State, sides: Sides) -> None:
    state.map(lambda K: K.mean(0)[None])


@rule.register
def _(layer: L.Residual, step: Step, state: State, sides: Sides) -> None:
    beside = state.copy()
    for part, steps in zip((state, beside), step.inner, strict=True):
        needs_pairs = steps[0].full if steps else step.full_out
        if step.full and not needs_pairs:  # the other part does
            part.map(_same_positions)
        run(steps, part, sides)
    state.nngp += beside.nngp
    if state.ntk is not None and beside.ntk is not None:
        state.ntk += beside.ntk


# --- attention -------------------------------------------------------------------------------------------------------


@observe.register
def _(layer: L.SelfAttention, step: Step, state: State) -> Array:
    return state.nngp.copy()


@prepare.register
def _(layer: L.SelfAttention, observed: Array) -> Array:
    """Attention of position p to k at infinite width, (positions, positions, points)."""
    logits = layer.weight_variance * observed
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return logits


@rule.register
def _(layer: L.SelfAttention, step: Step, state: State, sides: Sides) -> None:
    if not layer.softmax:
        _identity_attention(layer, step, state)
        return
    z1, z2 = sides.of(step, state)
    state.map(lambda K: _attend(z1, K, z2, step))
    w, b = layer.weight_variance**2, layer.offset_variance
    inverse = 2.0 * (layer.weight_precision if state.raw else 1.0)
    K = state.nngp
    K *= w
    if state.tangent:
        state.add_to_ntk(inverse * K + _offset_share(b, state), w)
    K += b


def _attend(z1: Array, K: Array, z2: Array, step: Step) -> Array:
    """``sum_kl z1_pk K_kl z2_ql``, all p and q or p = q alone."""
    right = np.moveaxis(K, (0, 1), (-2, -1)) @ np.moveaxis(z2, (0, 1), (-1, -2))  # (*pairs, k, q)
    left = np.moveaxis(z1, (0, 1), (-2, -1))
    if not step.full_out:
        return np.ascontiguousarray(np.moveaxis(np.einsum("...pk,...kp->...p", left, right), -1, 0))
    return np.ascontiguousarray(np.moveaxis(left @ right, (-2, -1), (0, 1)))


def _identity_attention(layer: L.SelfAttention, step: Step, state: State) -> None:
    """Independent queries and keys, 1/sqrt(d): K_pq sum_kl K_kl^2, a product of three factors linear in the input."""
    K, s, b = state.nngp, layer.weight_variance**4, layer.offset_variance
    square = np.einsum("kl...,kl...->...", K, K)
    kept = _needed_pairs(K, step)
    if state.tangent:
        own = 4.0 * (layer.weight_precision if state.raw else 1.0) * kept * square
        if state.ntk is not None:
            own += 2.0 * kept * np.einsum("kl...,kl...->...", K, state.ntk)
            own += _needed_pairs(state.ntk, step) * square
        own *= s
        own += _offset_share(b, state)
        state.ntk = own
    state.nngp = kept * (s * square)
    state.nngp += b


def _offset_share(offset_variance: float, state: State) -> float:
    return float(offset_variance > 0.0) if state.raw else offset_variance
