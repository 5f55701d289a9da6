"""NNGP and NTK of a list of layers at infinite width, in blocks of pairs of points.

A first pass takes every point with itself through the layers and keeps what the rules need of single points: the
variance of every position at every activation, the weights of attention. A second pass takes blocks of pairs
through all layers while they stay in cache, the symmetric half only once. No covariance between positions of all
pairs of points is ever stored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from finitewidth import checks, linalg
from finitewidth.checks.exceptions import InputError
from finitewidth.display import Displayed, Settings
from finitewidth.kernels import rules
from finitewidth.kernels.blocks import rectangle, slices, triangle
from finitewidth.kernels.rules import State, Step
from finitewidth.networks import layers as L
from finitewidth.networks.base import Network
from finitewidth.networks.patches import times
from finitewidth.networks.stack import LayeredNetwork, layers_of

Array = np.ndarray
PARAMETERS = ("whitened", "weights")
_WORK = {False: 2**17, True: 2**16}  # doubles of one array of a block, without and with all pairs of positions
_BLOCK = (128, 256)  # most points of a block along rows and columns


def from_layers(layers: Any, input_shape: tuple[int, ...] | None = None) -> StackKernel:
    """The infinite-width kernels of a network or a list of layers: ``.nngp(x1, x2)`` and ``.ntk(x1, x2)``.

    layers, input_shape: a ``Network``, or as of ``fw.Network([...])``; widths may be left out. Raises InputError for
    layers, settings and orders that cannot be.
    """
    if isinstance(layers, Network):
        return StackKernel(layers_of(layers))
    return StackKernel(LayeredNetwork(layers, input_shape))


@dataclass(frozen=True)
class Kernels(Displayed):
    """NNGP and NTK of the same points, (points1, points2) each, or (points,) of points with themselves."""

    nngp: Array
    ntk: Array


@dataclass(frozen=True)
class StackKernel(Settings):
    """Covariance (NNGP) and neural tangent kernel of layers at infinite width.

    Points are (points, inputs), (points, tokens, features), (points, height, width [, channels]), or flat with the
    network's input_shape. Where the last layer has weights these are the kernels of one output; after flatten or
    pooling, of the features: their mean product. The mean-field readout divides by the network's own N_L once more.
    """

    network: LayeredNetwork

    def nngp(self, x1: Any, x2: Any = None) -> Array:
        """Covariance of an output at the points, (points1, points2); symmetric when ``x2`` is None.

        Raises InputError for points that do not fit the layers or each other; MemoryCapError, before anything is
        computed, for more than the free memory. Sources: ``kernels.rules``.
        """
        return self._pairs(x1, x2, None)[0]

    def ntk(self, x1: Any, x2: Any = None, parameters: str = "whitened") -> Array:
        """Neural tangent kernel, (points1, points2): the sum over parameters of products of derivatives.

        parameters: "whitened": standard normal ones, variances outside; "weights": the weights themselves, whose
        variances are in their prior (docs/theory.md section 1). Otherwise as ``nngp``.
        """
        return self.both(x1, x2, parameters).ntk

    def both(self, x1: Any, x2: Any = None, parameters: str = "whitened") -> Kernels:
        """NNGP and NTK in one pass."""
        return Kernels(*self._pairs(x1, x2, checks.choice("parameters", parameters, PARAMETERS)))

    def diagonal(self, x: Any, parameters: str = "whitened") -> Kernels:
        """NNGP and NTK of every point with itself, (points,) each."""
        return self._own(x, checks.choice("parameters", parameters, PARAMETERS))

    def _own(self, x: Any, tangent: str | None) -> Kernels:
        x = self._points(x)
        points = _Points.of(_Program.of(self.network.layers, x.shape[1:]), x, tangent)
        return Kernels(*self._over_width(points.nngp, points.ntk))

    def _over_width(self, *found: Array) -> list[Array]:
        if self.network.readout == "mean-field":
            for kernel in found:
                kernel /= self.network.widths[-1]
        return list(found)

    def nngp_diagonal(self, x: Any) -> Array:
        """Covariance of an output at every point with itself, (points,)."""
        return self._own(x, None).nngp

    def feature_mean(self, x: Any) -> Array:
        """Prior mean of a feature of the last hidden layer (times sqrt(N)) at every point, (points,)."""
        layers, x = self.network.layers[:-1], self._points(x)
        last = max((i for i, layer in enumerate(layers) if isinstance(layer, L.Nonlinearity)), default=0)
        phi, before, behind = layers[last], layers[:last], layers[last + 1 :]
        if not isinstance(phi, L.Nonlinearity) or L.weighted(behind):
            return np.zeros(len(x))
        variances = _Program.of(before, x.shape[1:], single=False).variances(x)  # (positions, P)
        means = phi.phi.mean(variances).T.reshape(len(x), *L.walk(before, x.shape[1:-1])[-1], 1)
        for layer in behind:
            means = _apply_to_inputs(layer, means)
        return means.reshape(len(x), -1).mean(1)

    def _points(self, x: Any) -> Array:
        return self.network.points(checks.real_array("x", x, (2, 3, 4)))

    def _pairs(self, x1: Any, x2: Any, tangent: str | None) -> list[Array]:
        one = self._points(x1)
        two = one if x2 is None else self._points(x2)
        checks.same_shape(one.shape[1:], two.shape[1:])
        program = _Program.of(self.network.layers, one.shape[1:])
        linalg.require_memory(
            program.memory(len(one), len(two), tangent is not None),
            f"a kernel between {len(one)} and {len(two)} points of {times(one.shape[1:])}",
            "give fewer points at a time",
        )
        left = _Points.of(program, one, tangent)
        found = _kernels(left, left if x2 is None else _Points.of(program, two, tangent))
        for kernel in self._over_width(*found):
            linalg.check_finite(kernel)
        return found


@dataclass(frozen=True)
class _Program:
    """The layers in place for points of one shape.

    before: linear layers without weights on the inputs, applied to these directly. first: a convolution or dense
    layer that reads the inputs, contracted as one matrix product.
    """

    before: tuple[L.Layer, ...]
    first: L.Layer | None
    full: bool  # whether the first covariance holds all pairs of positions
    n: int  # its positions
    steps: list[Step]

    @classmethod
    def of(cls, layers: tuple[L.Layer, ...], point_shape: tuple[int, ...], single: bool = True) -> _Program:
        """``single``: refuse layers that end in several positions."""
        spaces = L.walk(layers, tuple(point_shape[:-1]))
        if single and spaces[-1]:
            raise InputError(
                f"layers that end in {times(spaces[-1])} positions",
                "one output a point",
                'end with "flatten" or "global_average_pool", and {"dense": {}}',
            )
        start = 0
        while start < len(layers) and isinstance(layers[start], (L.Flatten, L.GlobalAveragePool, L.AveragePool)):
            start += 1
        steps = _place(layers[start:], spaces[start], False)
        first = layers[start] if start < len(layers) and isinstance(layers[start], (L.Conv, L.Dense)) else None
        if first is not None and steps:
            step = steps[0]
            full = step.full_out if getattr(first, "shared", True) else False
            n = math.prod(first.output_space(step.space))
        else:
            full, n = steps[0].full if steps else False, math.prod(spaces[start])
        return cls(layers[:start], first, full, n, steps)

    def features(self, x: Array) -> Array:
        """(positions, P, M) whose products are the first covariance: inputs, or windows of the first convolution."""
        for layer in self.before:
            x = _apply_to_inputs(layer, x)
        if isinstance(self.first, L.Conv):
            x = self.first.grid(x.shape[1:-1], x.shape[-1]).extract(x)
        x = x.reshape(len(x), -1, x.shape[-1])
        return np.ascontiguousarray(x.swapaxes(0, 1)) / math.sqrt(x.shape[-1])

    def through(self, gram: Array, tangent: str | None, sides: rules.Sides) -> State:
        """The first covariance taken through all layers; its array is used up."""
        state = State(gram, tangent)
        steps = self.steps
        if isinstance(self.first, L.Conv):
            rules.finish_conv(self.first, steps[0], state)
            steps = steps[1:]
        rules.run(steps, state, sides)
        return state

    def variances(self, x: Array) -> Array:
        """Of the last layer's outputs at every position of points with themselves, (positions, P)."""
        features, ends = self.features(x), []
        for part in slices(0, len(x), max(1, _WORK[self.pairwise] // self.largest)):
            ends.append(self.through(_own_gram(features[:, part], self.full), None, _Own()).nngp)
        return np.concatenate(ends, axis=-1)

    @property
    def largest(self) -> int:
        """Most entries that a pair of points has in any layer."""
        sizes = [self.n ** (1 + self.full)]
        for step in _every(self.steps):
            inside, outside = math.prod(step.space), math.prod(step.layer.output_space(step.space))
            sizes += [inside ** (1 + step.full), outside ** (1 + step.full_out)]
        if isinstance(self.first, L.Conv):  # what is in front of it is never formed
            del sizes[1]
        return max(sizes)

    @property
    def pairwise(self) -> bool:
        """Whether all pairs of positions occur."""
        return self.full or any(step.full for step in _every(self.steps))

    def block(self, rows: int, columns: int) -> tuple[int, int]:
        """Points of a block: one row where pairs of positions fill it, so that operands stay contiguous."""
        wide = min(columns, _BLOCK[1], max(1, _WORK[self.pairwise] // self.largest))
        return min(rows, _BLOCK[0], max(1, _WORK[self.pairwise] // (self.largest * wide))), wide

    def memory(self, n1: int, n2: int, tangent: bool) -> float:
        """Bytes: results, features and what is stored of single points, and the blocks in work."""
        arrays = 2 if tangent else 1
        kept = 0.0
        for step in _every(self.steps):
            n = math.prod(step.space)
            if isinstance(step.layer, L.Nonlinearity):
                kept += n * (2 + len(step.layer.phi.dual.prepare(np.ones(1))))
            elif isinstance(step.layer, L.SelfAttention):
                kept += 2 * n**2
        block = self.block(n1, n2)
        own = self.largest * min(max(n1, n2), max(1, _WORK[self.pairwise] // self.largest))
        work = 3 * arrays * max(linalg.n_threads() * self.largest * block[0] * block[1], own)
        depth = 1 + max((len(step.inner) for step in _every(self.steps)), default=0)
        first = self.first
        inputs = self.n * (first.grid(self.steps[0].space).patch_size if isinstance(first, L.Conv) else 9)
        return 8.0 * (arrays * n1 * n2 + (n1 + n2) * (kept + 3 * inputs) + work * depth)


def _every(steps: list[Step]) -> list[Step]:
    return [s for step in steps for s in (step, *(i for inner in step.inner for i in _every(inner)))]


def _place(layers: tuple[L.Layer, ...], space: tuple[int, ...], full_out: bool) -> list[Step]:
    """Steps of the layers, each with all pairs of positions where the layers behind need them."""
    spaces, needs, steps = L.walk(layers, space), _needs(layers, full_out), []
    for layer, before, full, behind in zip(layers, spaces, needs, needs[1:], strict=False):
        parts = layer.parts if isinstance(layer, L.Residual) else ()
        steps.append(Step(layer, before, full, behind, [_place(part, before, behind) for part in parts]))
    return steps


def _needs(layers: tuple[L.Layer, ...], behind: bool) -> list[bool]:
    """Whether all pairs of positions are needed in front of every layer, and behind the last one."""
    needs = [behind]
    for layer in reversed(layers):
        needs.insert(0, _needs_pairs(layer, needs[0]))
    return needs


def _needs_pairs(layer: L.Layer, behind: bool) -> bool:
    """Whether the input's covariance must hold all pairs of positions, given whether the output's must."""
    if isinstance(layer, (L.GlobalAveragePool, L.AveragePool, L.SelfAttention)):
        return True
    if isinstance(layer, L.Flatten) or (isinstance(layer, L.Conv) and not layer.shared):
        return False
    if isinstance(layer, L.Residual):
        return behind or any(_needs(part, behind)[0] for part in layer.parts)
    return behind


def _apply_to_inputs(layer: L.Layer, x: Array) -> Array:
    """Flatten and pooling of the inputs themselves."""
    if not isinstance(layer, L.AveragePool):
        return layer.apply((), x)
    grid = layer.grid(x.shape[1:-1], x.shape[-1])
    return grid.extract(x).reshape(len(x), *grid.grid_shape, -1, x.shape[-1]).mean(axis=-2)


# --- points with themselves ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Points:
    """What the second pass needs of single points; nngp, ntk: of every point with itself, (P,)."""

    program: _Program
    tangent: str | None
    features: Array
    prepared: dict[Step, Array]
    nngp: Array
    ntk: Array

    @classmethod
    def of(cls, program: _Program, x: Array, tangent: str | None) -> _Points:
        features = program.features(x)
        passes, ends = [], []
        for part in slices(0, len(x), max(1, _WORK[program.pairwise] // program.largest)):
            own = _Own()
            ends.append(program.through(_own_gram(features[:, part], program.full), tangent, own))
            passes.append(own)
        prepared = passes[0].prepared
        if len(passes) > 1:  # what is prepared together may be of another length than in parts
            for step in prepared:
                seen = np.concatenate([own.observed[step] for own in passes], axis=-1)
                prepared[step] = rules.prepare(step.layer, seen)
        nngp = np.concatenate([end.nngp.reshape(-1) for end in ends])
        ntk = np.concatenate([_zero_if_none(end).reshape(-1) for end in ends])
        return cls(program, tangent, features, prepared, nngp, ntk)


def _zero_if_none(state: State) -> Array:
    return np.zeros_like(state.nngp) if state.ntk is None else state.ntk


class _Own:
    """Sides of pairs (x, x): what a step observes of the points serves both, and is stored."""

    def __init__(self) -> None:
        self.observed: dict[Step, Array] = {}
        self.prepared: dict[Step, Array] = {}

    def of(self, step: Step, state: State) -> tuple[Array, Array]:
        self.observed[step] = seen = rules.observe(step.layer, step, state)
        self.prepared[step] = ready = rules.prepare(step.layer, seen)
        return ready, ready


def _own_gram(features: Array, full: bool) -> Array:
    """(positions [, positions], P): products of every point with itself."""
    if not full:
        return np.vecdot(features, features)
    by_point = features.swapaxes(0, 1)
    return np.ascontiguousarray(np.moveaxis(by_point @ by_point.swapaxes(1, 2), 0, -1))


# --- pairs of points -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Between:
    """Sides of a rectangle of pairs."""

    left: _Points
    right: _Points
    i: slice
    j: slice

    def of(self, step: Step, state: State) -> tuple[Array, Array]:
        one, two = self.left.prepared[step], self.right.prepared[step]
        return one[..., self.i, None], two[..., None, self.j]

    def block(self, columns: Array) -> State:
        program, rows = self.left.program, self.left.features[:, self.i]
        n, height, inputs = rows.shape
        width = self.j.stop - self.j.start
        if not program.full:
            gram = rows @ columns[..., self.j].swapaxes(0, 1)
        elif height == 1:
            gram = rows[:, 0] @ columns[..., self.j].reshape(inputs, n * width)
        else:
            gram = rows[:, None] @ columns[..., self.j].swapaxes(0, 1)[None]
        shape = (n, n, height, width) if program.full else (n, height, width)
        return program.through(gram.reshape(shape), self.left.tangent, self)


def _kernels(left: _Points, right: _Points) -> list[Array]:
    """Kernels of all pairs, (points1, points2) each; of a set with itself exactly symmetric."""
    symmetric = left is right
    columns = right.features.transpose(2, 0, 1).copy()
    shape = len(left.nngp), len(right.nngp)
    out = [np.empty(shape) for _ in range(2 if left.tangent else 1)]

    def work(i: slice, j: slice) -> None:
        state = _Between(left, right, i, j).block(columns)
        for K, block in zip(out, (state.nngp, _zero_if_none(state)), strict=False):
            block = block.reshape(i.stop - i.start, j.stop - j.start)
            K[i, j] = block
            if symmetric:
                K[j, i] = block.T
            if symmetric and i.start == j.start:  # rounding of a product need not be symmetric
                square = block[:, : i.stop - i.start]
                K[i, i] = np.triu(square) + np.triu(square, 1).T

    block = left.program.block(*shape)
    linalg.run_blocks(work, triangle(len(left.nngp), block) if symmetric else rectangle(*shape, block))
    if symmetric:
        for K, own in zip(out, (left.nngp, left.ntk), strict=False):
            K[np.diag_indices(len(K))] = own
    return out
