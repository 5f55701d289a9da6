"""Every layer against a slow second implementation: all pairs of positions always there, windows as 0/1 matrices.

The package keeps p = q alone where that is enough, moves windows by slices, works in blocks and carries constants
along; here nothing of that is done.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import finitewidth as fw
from finitewidth import linalg
from finitewidth.kernels import stack as implementation
from finitewidth.kernels.rules import window_sum
from finitewidth.kernels.stack import _Program
from finitewidth.networks import LayeredNetwork
from finitewidth.networks import layers as L


def points(count, *shape, seed=0):
    return np.random.default_rng(seed).standard_normal((count, *shape))


# --- the second implementation ---------------------------------------------------------------------------------------


def offset_matrices(layer, space):
    """One 0/1 matrix (positions out, positions in) for every place in a window, and the space that comes out."""
    rank = len(space)
    size, steps = ((v,) * rank if isinstance(v, int) else v for v in (layer.patch, layer.stride))
    if layer.padding == "same":
        out = tuple(math.ceil(n / s) for n, s in zip(space, steps, strict=True))
        pad = [max((o - 1) * s + f - n, 0) // 2 for o, s, f, n in zip(out, steps, size, space, strict=True)]
    else:
        out, pad = tuple((n - f) // s + 1 for n, f, s in zip(space, size, steps, strict=True)), [0] * rank
    found = []
    for d in itertools.product(*map(range, size)):
        matrix = np.zeros((math.prod(out), math.prod(space)))
        for row, p in enumerate(itertools.product(*map(range, out))):
            q = tuple(p[k] * steps[k] + d[k] - pad[k] for k in range(rank))
            if all(0 <= q[k] < space[k] for k in range(rank)):
                matrix[row, np.ravel_multi_index(q, space)] = 1.0
        found.append(matrix)
    return found, out


def both_sides(matrix, K):
    return np.einsum("pk,abkl,ql->abpq", matrix, K, matrix)


def weighted(K, T, w, b, raw):
    """w K + b, and the tangent kernel: of these weights and biases, whitened or themselves, and of those before."""
    own = K + (b > 0.0) if raw else w * K + b
    return w * K + b, own if T is None else w * T + own


def reference(layers, x, raw=False):
    """(K, Theta) between all points, (points, points)."""
    stack = LayeredNetwork(layers)
    x = x.reshape(len(x), *stack.point_shape(x.shape[1:]))
    space, flat = x.shape[1:-1], x.reshape(len(x), -1, x.shape[-1])
    K, T, space = through(stack.layers, np.einsum("apc,bqc->abpq", flat, flat) / x.shape[-1], None, space, raw)
    assert K.shape[2:] == (1, 1)
    assert space == ()
    return K[..., 0, 0], np.zeros(K.shape[:2]) if T is None else T[..., 0, 0]


def through(layers, K, T, space, raw):
    for layer in layers:
        own = np.einsum("aapp->ap", K)
        if isinstance(layer, L.Dense):
            K, T = weighted(K, T, layer.weight_variance, layer.offset_variance, raw)
        elif isinstance(layer, L.Conv):
            matrices, space = offset_matrices(layer, space)
            K, T = (None if A is None else sum(both_sides(m, A) for m in matrices) / len(matrices) for A in (K, T))
            K, T = weighted(K, T, layer.weight_variance, layer.offset_variance, raw)
            if not layer.shared:
                K, T = (A * np.eye(A.shape[2]) for A in (K, T))
        elif isinstance(layer, (L.Flatten, L.GlobalAveragePool, L.AveragePool)):
            if isinstance(layer, L.AveragePool):
                matrices, space = offset_matrices(layer, space)
                matrix = sum(matrices) / len(matrices)
                K, T = (None if A is None else both_sides(matrix, A) for A in (K, T))
                continue
            mean = (lambda A: np.trace(A, axis1=2, axis2=3) / A.shape[2]) if isinstance(layer, L.Flatten) else None
            mean = mean or (lambda A: A.mean((2, 3)))
            K, T = (None if A is None else mean(A)[..., None, None] for A in (K, T))
            space = ()
        elif isinstance(layer, L.Nonlinearity):
            K, _, slope, _ = layer.phi.kappa_gradient(own[:, None, :, None], K, own[None, :, None, :])
            T = T * slope
        elif isinstance(layer, L.LayerNorm):
            root = np.sqrt(own + layer.epsilon)
            K, T = (A / root[:, None, :, None] / root[None, :, None, :] for A in (K, T))
        elif isinstance(layer, L.SelfAttention):
            K, T = attention(layer, K, T, raw)
        else:
            assert isinstance(layer, L.Residual)
            (K1, T1, space), (K2, T2, _) = (through(part, K, T, space, raw) for part in (layer.branch, layer.shortcut))
            K, T = K1 + K2, T1 + T2
    return K, T, space


def attention(layer, K, T, raw):
    w, inverse = layer.weight_variance, 1.0 / layer.weight_variance if raw else 1.0
    b, shift = layer.offset_variance, float(layer.offset_variance > 0.0) if raw else layer.offset_variance
    if layer.mechanism == "identity":
        s, power = w**4, np.einsum("abkl,abkl->ab", K, K)[..., None, None]
        own = s * power * K * 4.0 * inverse + shift
        if T is not None:
            own = own + s * (power * T + 2.0 * K * np.einsum("abkl,abkl->ab", K, T)[..., None, None])
        return s * power * K + b, own
    logits = w * np.einsum("aapk->apk", K)
    z = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)
    K, T = (None if A is None else w**2 * np.einsum("apk,abkl,bql->abpq", z, A, z) for A in (K, T))
    own = 2.0 * inverse * K + shift
    return K + b, own if T is None else own + T


def conv(size, strides=1, padding="same", w=1.0, b=0.0, name="conv"):
    return {
        name: {"patch": size, "stride": strides, "padding": padding, **precisions(w, b)},
    }


def pool(window, strides, padding="none"):
    return {"average_pool": {"patch": window, "stride": strides, "padding": padding}}


def dense(w=1.0, b=0.0, name="dense"):
    return {name: precisions(w, b)}


def precisions(w, b):
    """Of weights of variance w and offsets of variance b."""
    return {"weight_precision": 1.0 / w, "offset_precision": 1.0 / b if b else None}


SOFTMAX = {"self_attention": precisions(1.4, 0.3)}
ROOT = {"self_attention": {**precisions(0.7, 0.3), "mechanism": "identity"}}
PER_TOKEN = dense(1.3, 0.2, "dense_per_token")
FIRST = conv([3, 2], [2, 1], w=1.7, b=0.2)
LOCAL = conv([2, 3], w=0.6, b=0.4, name="locally_connected")
IMAGE, TOKENS, SIGNAL = (5, 4, 2), (4, 3), (7, 2)

STACKS = {
    "dense": ([dense(1.7, 0.3), "erf", dense(0.4), "relu", dense(2.5, 0.7)], (6,)),
    "one weight": ([dense(1.7, 0.3)], (5,)),
    "flat": ([FIRST, "erf", conv([2, 3], [1, 2], "none", 0.5, 0.3), "relu", "flatten", dense(2.0, 0.1)], IMAGE),
    "pooled": ([FIRST, "relu", conv([2, 2], [2, 1], w=0.5), "erf", "global_average_pool", dense(2.0, 0.1)], IMAGE),
    "points of size one": ([conv([1, 1], b=0.1), "erf", conv([1, 1], [2, 3]), "global_average_pool"], IMAGE),
    "window larger than the image": ([conv([5, 6]), "relu", conv([6, 5]), "global_average_pool"], (2, 3, 1)),
    "steps over": ([conv([2, 1], [3, 2], "none"), "erf", conv([1, 2], [2, 2]), "global_average_pool"], (7, 6, 1)),
    "local first": ([LOCAL, "relu", conv([3, 2], b=0.2), "quadratic", "global_average_pool", "dense"], IMAGE),
    "local behind": ([FIRST, "relu", LOCAL, "relu", pool([2, 2], [1, 2]), "flatten", "dense"], IMAGE),
    "local behind a pool": ([FIRST, pool(2, 1), LOCAL, "relu", "global_average_pool"], IMAGE),
    "local flat": ([LOCAL, "relu", conv([3, 2], [2, 2], b=0.2), "erf", "flatten", "dense"], IMAGE),
    "pools": ([FIRST, pool([2, 3], [1, 2], "same"), "erf", "flatten", dense(0.7)], IMAGE),
    "pools twice": ([FIRST, "relu", pool([2, 3], [2, 1], "same"), pool(2, 1), "global_average_pool"], IMAGE),
    "pool of inputs": ([pool([2, 3], [1, 2], "same"), FIRST, "erf", "flatten", "dense"], IMAGE),
    "two pools of inputs": ([pool([3, 2], [2, 1]), pool(2, 1, "same"), "flatten", dense(1.2, 0.3)], IMAGE),
    "mean of inputs": (["global_average_pool", dense(1.2, 0.3), "relu", "dense"], IMAGE),
    "inputs alone": (["flatten"], IMAGE),
    "mean of inputs alone": (["global_average_pool"], IMAGE),
    "pooled inputs alone": ([pool([2, 3], [1, 2], "same"), "global_average_pool"], IMAGE),
    "residual": (
        [FIRST, {"residual": ["relu", conv([3, 3], w=0.6, b=0.2)]}, "erf", "flatten", dense(1.5)],
        IMAGE,
    ),
    "residual pooled": (
        [FIRST, {"residual": ["relu", conv([3, 3], w=0.6), "erf", conv([1, 2], b=0.1)]}, "global_average_pool"],
        IMAGE,
    ),
    "shortcut": (
        [
            FIRST,
            {"residual": {"branch": ["relu", conv(3, 2, b=0.2)], "shortcut": [conv([1, 1], 2, w=0.3)]}},
            "relu",
            "flatten",
            "dense",
        ],
        IMAGE,
    ),
    "shortcut pooled": (
        [
            FIRST,
            {"residual": {"branch": ["relu", conv(3, 2)], "shortcut": [pool(2, 2, "same")]}},
            "relu",
            "global_average_pool",
        ],
        IMAGE,
    ),
    "local in a residual": ([FIRST, {"residual": ["relu", LOCAL]}, "relu", "global_average_pool", "dense"], IMAGE),
    "residual in a residual": (
        [dense(1.2), {"residual": ["relu", dense(0.5, 0.1), {"residual": ["erf", dense(0.7)]}]}, "relu", dense(2.0)],
        (4,),
    ),
    "attention in a residual": ([PER_TOKEN, {"residual": [SOFTMAX]}, "relu", "flatten", dense(0.7)], TOKENS),
    "attention in a pooled residual": ([PER_TOKEN, {"residual": [SOFTMAX]}, "global_average_pool"], TOKENS),
    "attention beside weights": (
        [PER_TOKEN, {"residual": {"branch": ["relu", PER_TOKEN, ROOT], "shortcut": [PER_TOKEN]}}, "relu", "flatten"],
        TOKENS,
    ),
    "norms": (
        [FIRST, {"layer_norm": {"epsilon": 0.3}}, "relu", conv([2, 2], b=0.2), "layer_norm", "erf", "flatten", "dense"],
        IMAGE,
    ),
    "norms pooled": ([FIRST, {"layer_norm": {"epsilon": 0.3}}, "relu", "global_average_pool", dense(0.7)], IMAGE),
    "tokens": ([PER_TOKEN, "relu", PER_TOKEN, "erf", "global_average_pool", dense(0.7, 0.1)], TOKENS),
    "softmax": ([SOFTMAX, "relu", SOFTMAX, "global_average_pool", "dense"], TOKENS),
    "softmax flat": ([PER_TOKEN, "relu", SOFTMAX, "erf", "flatten", "dense"], TOKENS),
    "root": ([ROOT, "relu", ROOT, "global_average_pool", "dense"], TOKENS),
    "root flat": ([PER_TOKEN, "relu", ROOT, "erf", "flatten", "dense"], TOKENS),
    "root without biases": (
        [{"self_attention": {"weight_precision": 0.6, "mechanism": "identity"}}, "flatten"],
        TOKENS,
    ),
    "attention to pixels": ([FIRST, "erf", SOFTMAX, "relu", "global_average_pool"], (3, 4, 1)),
    "signal": ([conv([3], [2], b=0.2), "relu", conv([2], [1], "none"), "erf", "flatten", "dense"], SIGNAL),
    "signal pooled": ([conv([4], w=1.4), "relu", pool([2], [2], "same"), "global_average_pool", "dense"], SIGNAL),
}


def stacks(*left_out):
    return [name for name in STACKS if not any(part in name for part in left_out)]


@pytest.mark.parametrize("name", stacks())
def test_equals_the_slow_implementation(name):
    """Whole, in two sets, on the diagonal, without the tangent kernel; whitened and raw, and what is the default."""
    layers, shape = STACKS[name]
    x, kernel = points(5, *shape), fw.kernels.from_layers(layers)
    for parameters in ("whitened", "weights"):
        K, T = reference(layers, x, parameters == "weights")
        close = {"rtol": 3e-8, "atol": 1e-10}  # relu slopes at correlation one: a root of rounding
        whole, cross = kernel.both(x, parameters=parameters), kernel.both(x[:2], x[2:], parameters)
        own = kernel.diagonal(x, parameters)
        np.testing.assert_allclose(whole.nngp, K, **close)
        np.testing.assert_allclose(whole.ntk, T, **close)
        np.testing.assert_allclose(cross.nngp, K[:2, 2:], rtol=1e-10)
        np.testing.assert_allclose(cross.ntk, T[:2, 2:], rtol=1e-10)
        np.testing.assert_allclose(own.nngp, np.diagonal(K), **close)
        np.testing.assert_allclose(own.ntk, np.diagonal(T), **close)
        np.testing.assert_allclose(kernel.ntk(x[:2], x[2:], parameters), T[:2, 2:], **close)
        np.testing.assert_allclose(kernel.nngp(x), K, **close)
        np.testing.assert_allclose(kernel.nngp(x[:2], x[2:]), K[:2, 2:], **close)
        if parameters == "whitened":
            for default in (kernel.ntk(x), kernel.both(x).ntk):
                np.testing.assert_allclose(default, T, **close)
            np.testing.assert_allclose(kernel.diagonal(x).ntk, np.diagonal(T), **close)


def test_the_two_kinds_of_parameters_differ():
    """Else the test above would say nothing of the default."""
    for name in ("dense", "pooled", "softmax", "root"):
        layers, shape = STACKS[name]
        kernel, x = fw.kernels.from_layers(layers), points(3, *shape)
        assert (np.abs(kernel.ntk(x, parameters="weights") / kernel.ntk(x) - 1.0) > 0.01).all()


# --- windows ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 2), (1, 3)])
def test_window_sums_place_by_place(axes):
    """All counts, margins, sizes and steps of a short axis; later windows may lie beside the image altogether."""
    K = points(4, 4, 4, 4)
    for count, before, size, step in itertools.product((1, 2, 3), (0, 1, 3), (1, 2, 5), (1, 2, 3)):
        if (size, step) == (1, 1):
            count, before = 4, 0  # nothing moves
        before = min(before, size - 1)
        matrices = np.zeros((size, count, 4))
        for d, o in itertools.product(range(size), range(count)):
            if 0 <= (place := o * step + d - before) < 4:
                matrices[d, o, place] = 1.0
        expected = 0.0
        for matrix in matrices:
            part = K
            for axis in axes:
                part = np.moveaxis(np.tensordot(matrix, part, (1, axis)), 0, axis)
            expected = expected + part
        found = window_sum(K, axes, count, before, size, step)
        np.testing.assert_allclose(found, expected, atol=1e-13)
        assert not np.shares_memory(found, K)  # rules write into what they are given


def test_layers_without_a_rule_say_so():
    class Unknown(L.Layer):
        pass


@pytest.mark.parametrize("name", ["flat", "softmax", "attention in a residual", "norms"])
def test_single_points_go_in_parts(name, monkeypatch):
    """Parts of the first pass hold what a block may, and fit together: prepared data and results are those of all."""
    layers, shape = STACKS[name]
    x, stack = points(7, *shape), LayeredNetwork(layers)
    program = _Program.of(stack.layers, stack.point_shape(shape))
    whole = implementation._Points.of(program, stack.points(x), "weights")
    sizes, through_all = [], _Program.through

    def watching(self, gram, tangent, sides):
        sizes.append(gram.shape[-1])
        return through_all(self, gram, tangent, sides)

    monkeypatch.setattr(_Program, "through", watching)
    monkeypatch.setattr(implementation, "_WORK", dict.fromkeys((False, True), 3 * program.largest + 1))
    parts = implementation._Points.of(program, stack.points(x), "weights")
    assert sizes == [3, 3, 1]
    np.testing.assert_allclose(parts.nngp, whole.nngp, rtol=1e-12)
    np.testing.assert_allclose(parts.ntk, whole.ntk, rtol=1e-12)
    assert list(parts.prepared) == list(whole.prepared)
    for step, one in parts.prepared.items():
        np.testing.assert_allclose(one, whole.prepared[step], rtol=1e-12)
    monkeypatch.setattr(implementation, "_WORK", dict.fromkeys((False, True), 1))
    sizes.clear()
    implementation._Points.of(program, stack.points(x), "weights")
    assert sizes == [1] * 7


# --- what is said and what is kept -----------------------------------------------------------------------------------


def test_refusals_name_shapes_and_counts(monkeypatch):
    kernel = fw.kernels.from_layers(STACKS["pooled"][0])
    with pytest.raises(fw.InputError, match=r"points of shapes \(5, 4, 2\) and \(5, 3, 2\)"):
        kernel.nngp(points(2, 5, 4, 2), points(3, 5, 3, 2))
    monkeypatch.setattr(linalg, "available_memory", lambda: 1e3)
    with pytest.raises(fw.MemoryCapError, match=r"a kernel between 2 and 3 points of 5 x 4 x 2.*give fewer points"):
        kernel.nngp(points(2, *IMAGE), points(3, *IMAGE))
    for call in (kernel.ntk, kernel.both):
        with pytest.raises(fw.MemoryCapError, match="between 2 and 2 points"):
            call(points(2, *IMAGE))


def test_positions_that_are_left_are_named():
    """Those behind the last layer, not those in front of it."""
    with pytest.raises(fw.InputError, match=r"layers that end in 3 x 2 positions; wanted: one output a point"):
        fw.kernels.from_layers([conv([2, 2], [2, 2])]).nngp(points(2, 5, 4, 1))


def test_kernels_beyond_double_precision_are_refused():
    """In one set and in two, with and without the tangent kernel, which may be the only one to overflow."""
    x = np.full((2, 3), 1e200)
    kernel = fw.kernels.from_layers([dense(), "erf", dense(1e250), "linear", dense(1e250)])
    with np.errstate(over="ignore", invalid="ignore"):
        for other in (None, x):
            for call in (fw.kernels.from_layers([dense()]).nngp, kernel.both, kernel.ntk):
                with pytest.raises(fw.InputError, match="finite"):
                    call(x, other)
