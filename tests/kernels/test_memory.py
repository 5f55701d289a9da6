"""Estimates of memory: against the arrays that are really made, and term by term against what they say they count."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import finitewidth as fw
from finitewidth import linalg
from finitewidth.kernels import local, operator
from finitewidth.kernels.local import LocalGram, LocalPoints, local_cross, local_kernels, memory_estimate
from finitewidth.kernels.operator import GramOperator, stored_bytes, working_bytes
from finitewidth.kernels.stack import _Program


def points(count, *shape, seed=0):
    return np.random.default_rng(seed).standard_normal((count, *shape))


def peak(work):
    tracemalloc.start()
    kept = work()
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    del kept
    return found


@pytest.fixture
def one_thread(monkeypatch):
    monkeypatch.setattr(linalg, "n_threads", lambda: 1)


# --- stacks ----------------------------------------------------------------------------------------------------------


def conv(size, strides=1, padding="same"):
    return {"conv": {"patch": size, "stride": strides, "padding": padding}}


DENSE = ["dense", "erf", "dense", "quadratic", "dense"]
FLAT = [conv([3, 2]), "erf", "flatten", "dense"]
POOLED = [conv([2, 3], padding="none"), "erf", "global_average_pool", "dense"]
TOKENS = ["self_attention", "relu", "global_average_pool"]
RESIDUAL = ["dense", {"residual": ["erf", "dense", {"residual": ["erf", "dense"]}]}, "erf", "dense"]


@pytest.mark.parametrize(
    ("layers", "shape", "n1", "n2"),
    [
        (DENSE, (20,), 700, 700),
        (FLAT, (12, 10, 2), 150, None),
        (POOLED, (9, 9, 1), 40, None),
        (TOKENS, (12, 6), 60, 40),
        (RESIDUAL, (7,), 700, None),
    ],
)
@pytest.mark.parametrize("tangent", [True, False])
def test_the_estimate_of_a_stack_is_near_the_peak(layers, shape, n1, n2, tangent, one_thread):
    kernel, x, y = fw.kernels.from_layers(layers), points(n1, *shape), None if n2 is None else points(n2, *shape)
    call = kernel.both if tangent else kernel.nngp
    call(x[:2])  # tables that are made once
    estimate = _Program.of(kernel.network.layers, shape).memory(n1, n2 or n1, tangent)
    assert 0.25 * estimate < peak(lambda: call(x, y)) < 1.2 * estimate


KINDS = (fw.Convolutional, fw.LocallyConnected)

# --- patches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(6, 4), (5, 5)])
def test_kept_pairs_are_counted_exactly(kind, size):
    x, network = points(70, *size, 2), kind(4, patch=2, stride=1)
    n, shared = network.grid(x).n_patches, network.shares_weights
    gram = LocalGram.of(network, x)
    more = memory_estimate(70, n, True, 8, shared) - memory_estimate(70, n, False, 8, shared)
    assert more == sum(kept.nbytes for kept in gram._store.values())


@pytest.mark.parametrize(("count", "image", "patch"), [(500, 8, 4), (80, 16, 2), (60, 40, 20)])
def test_the_estimate_of_patches_is_near_the_peak(count, image, patch, one_thread):
    """Where matrices, pairs of patches, and the patches themselves are most."""
    x, network = points(count, image, image, 1), fw.Convolutional(4, patch=patch)
    n, Q = (image // patch) ** 2, np.eye((image // patch) ** 2)
    for cached in (True, False):
        estimate = memory_estimate(count, n, cached, patch**2)

        def work(estimate=estimate):
            gram = LocalGram.of(network, x, cap=estimate)
            return gram, gram.project(gram.contract(Q))

        assert 0.25 * estimate < peak(work) < 1.1 * estimate


def test_without_a_cap_it_is_a_share_of_the_free_memory(monkeypatch):
    x = points(30, 6, 6, 1)
    for network in (kind(4, patch=2) for kind in KINDS):
        cached, streamed = (memory_estimate(30, 9, keep, 4, network.shares_weights) for keep in (True, False))
        for need, storage in ((cached, "cached"), (streamed, "streamed")):
            monkeypatch.setattr(linalg, "available_memory", lambda need=need: need / 0.7 * (1.0 + 1e-9))
            assert LocalGram.of(network, x).storage == storage
            monkeypatch.setattr(linalg, "available_memory", lambda need=need: need / 0.7 * (1.0 - 1e-9))
            if storage == "cached":
                assert LocalGram.of(network, x).storage == "streamed"
            else:
                with pytest.raises(fw.MemoryCapError):
                    LocalGram.of(network, x)
        # exactly what is needed is enough, and a given cap is taken as it is
        monkeypatch.setattr(linalg, "available_memory", lambda: 0.0)
        assert LocalGram.of(network, x, cached).storage == "cached"
        assert LocalGram.of(network, x, streamed).storage == "streamed"


def test_all_pairs_of_patches_are_refused_where_they_do_not_fit(monkeypatch):
    x, y, network = points(3, 4, 6, 1), points(5, 4, 6, 1), fw.Convolutional(4, patch=2)
    for one, two in ((x, y), (y, None)):
        monkeypatch.undo()
        K = local_kernels(network, one, two)
        monkeypatch.setattr(linalg, "available_memory", lambda K=K: float(K.nbytes))
        local_kernels(network, one, two)
        monkeypatch.setattr(linalg, "available_memory", lambda K=K: K.nbytes - 1.0)
        with pytest.raises(fw.MemoryCapError, match=r"all 6\^2 pairs of patches.*give fewer points, or use LocalGram"):
            local_kernels(network, one, two)


# --- blocks of duals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", [fw.Convolutional, fw.LocallyConnected])
@pytest.mark.parametrize(("tile", "block"), [(16, 2000), (9, 81), (7, 20)])
def test_any_tiles_and_blocks_give_the_same(architecture, tile, block, monkeypatch):
    """And no more duals at a time than a block holds, one pair of patches on one tile excepted."""
    x, y, network = points(35, 6, 4, 1), points(20, 6, 4, 1, seed=1), architecture(4, patch=2, activation="relu")
    half = points(6, 6, seed=2)
    Q, W = half @ half.T, points(35, 35, seed=3)
    W, own = W + W.T, Q if network.shares_weights else np.diagonal(Q)

    def everything():
        streamed = LocalGram(LocalPoints.of(network, x))
        cached = LocalGram.of(network, x)
        return (
            *(made.contract(own) for made in (streamed, cached)),
            *(made.project(W) for made in (streamed, cached)),
            local_cross(network, x, y, own),
            local.local_diagonal(network, x, own),
        )

    whole, sizes, duals = everything(), [], LocalPoints.duals

    def watching(self, i, rows, other, j, columns):
        found = duals(self, i, rows, other, j, columns)
        sizes.append((found.size, len(found)))
        return found

    monkeypatch.setattr(local, "_TILE", tile)
    monkeypatch.setattr(local, "_BLOCK", block)
    monkeypatch.setattr(LocalPoints, "duals", watching)
    for a, b in zip(whole, everything(), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-12, atol=1e-12)
    assert all(size <= block or pairs <= 2 for size, pairs in sizes)
    assert max(pairs for _, pairs in sizes) > 1 or block <= tile**2


def test_duals_that_a_zero_weight_needs_are_not_computed(monkeypatch):
    counted, duals = [], LocalPoints.duals

    def watching(self, i, rows, other, j, columns):
        found = duals(self, i, rows, other, j, columns)
        counted.append(found.size)
        return found

    monkeypatch.setattr(LocalPoints, "duals", watching)
    x, y, network = points(7, 4, 4, 1), points(5, 4, 4, 1), fw.Convolutional(4, patch=2)
    Q = np.zeros((4, 4))
    Q[1, 2] = Q[3, 3] = 0.7
    K = local_kernels(network, x, y)
    np.testing.assert_allclose(local_cross(network, x, y, Q), 0.7 * (K[1, 2] + K[3, 3]) / 4.0, rtol=1e-12)
    assert sum(counted) == 2 * 7 * 5


# --- the operator ----------------------------------------------------------------------------------------------------


def test_bytes_of_a_product_are_those_of_its_sums(monkeypatch):
    network = fw.FullyConnected(9)
    monkeypatch.setattr(operator, "TILE", (16, 24))
    for count, columns in ((1, 3), (15, 1), (16, 2), (17, 2), (90, 3), (300, 2)):
        made = GramOperator(network, points(count, 4), dtype=np.float64)
        V = np.ones((count, columns))
        sums = list(made._gather(V))
        assert working_bytes(count, columns) == sum(part.nbytes for part in sums)
        assert len(sums) == min(16, -(-count // 16))
        np.testing.assert_allclose(sum(sums), fw.kernels.nngp(network, points(count, 4)) @ V, atol=1e-12)


def test_bytes_of_the_tiles():
    """Half the matrix, and half a tile a row beside it: what rows of tiles take that all start on the diagonal."""
    for dtype, size in ((np.float32, 4), (np.float64, 8)):
        assert stored_bytes(1000, dtype) == size * (1000 * 1000 / 2 + 1000 * 512)
    assert stored_bytes(1, np.float32) == 4 * 512.5
