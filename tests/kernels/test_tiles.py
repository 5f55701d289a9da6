"""Blocks of points and their precision: cover, size, dtype, symmetry; and the parts of the operator on a cluster."""

from __future__ import annotations

import math
from concurrent.futures import CancelledError

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.checks.exceptions import InputError
from finitewidth.kernels import fully_connected, operator
from finitewidth.kernels.blocks import rectangle, slices, triangle
from finitewidth.kernels.fully_connected import Recursion
from finitewidth.kernels.operator import GramOperator, GramPart, Points


def points(count, *shape, seed=0):
    return np.random.default_rng(seed).standard_normal((count, *shape))


NETWORKS = {
    "erf": fw.FullyConnected((9, 8), weight_precision=(0.7, 1.3, 2.0), offset_precision=2.5),
    "steep": fw.FullyConnected((9,), weight_precision=(0.05, 0.01)),
    "relu": fw.FullyConnected((9, 8), activation="relu", weight_precision=(0.7, 0.1, 0.3)),
    "linear": fw.FullyConnected((9, 8, 7), activation="linear", weight_precision=(0.7, 0.5, 0.2, 0.3)),
    "linear with offsets": fw.FullyConnected((9, 8), activation="linear", offset_precision=0.5),
    "linear of scale one": fw.FullyConnected((9,), activation="linear", weight_precision=(0.25, 0.5)),
    "mean field": fw.FullyConnected((9, 8), activation="quadratic", readout="mean-field", offset_precision=3.0),
}


# --- rectangles ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 7, 12])
@pytest.mark.parametrize("block", [(1, 1), (2, 3), (3, 2), (5, 20), (20, 5), (12, 12)])
def test_blocks_cover_every_pair_once(count, block):
    ends = [(s.start, s.stop) for s in slices(12, 12 + count, block[0])]
    assert [i for a, b in ends for i in range(a, b)] == list(range(12, 12 + count))
    assert {b - a for a, b in ends[:-1]} <= {block[0]}
    for rows, columns in ((count, 2), (2, count), (count, count + 3)):
        seen = np.zeros((rows, columns), int)
        for i, j in rectangle(rows, columns, block):
            seen[i, j] += 1
            assert (i.stop - i.start, j.stop - j.start) == (
                min(block[0], rows - i.start),
                min(block[1], columns - j.start),
            )
        assert (seen == 1).all()
    seen, starts = np.zeros((count, count), int), {}
    for i, j in triangle(count, block):
        seen[i, j] += 1
        starts.setdefault(i.start, j.start)
        assert i.stop - i.start == min(block[0], count - i.start)
        assert j.stop - j.start == min(block[1], count - j.start)
    assert all(row == column for row, column in starts.items())
    assert (seen[np.triu_indices(count)] == 1).all()
    assert (seen <= 1).all()


# --- the recursion in blocks -----------------------------------------------------------------------------------------


def plain(network, x, y):
    """docs/theory.md section 1, entry by entry."""
    both = np.concatenate([x, y])
    K = both @ both.T / (network.weight_precision[0] * both.shape[1]) + network.offset_variance
    for layer in range(network.depth):
        own = np.diagonal(K)
        K = network.phi.kappa(own[:, None], K, own) / network.weight_precision[layer + 1]
        if layer < network.depth - 1:
            K = K + network.offset_variance
    K = K / network.widths[-1] if network.readout == "mean-field" else K
    return K[: len(x), len(x) :]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("block", [(3, 5), (4, 4), (1, 2), (100, 100)])
def test_any_blocks_of_the_recursion_give_the_same(name, block, monkeypatch):
    """Blocks wider than high (none is higher than wide) meet the diagonal in other ways than squares."""
    network, x, y = NETWORKS[name], points(11, 4), points(7, 4, seed=1)
    monkeypatch.setattr(fully_connected, "_BLOCK", block)
    rows, gram = Recursion.of(network, x), fw.kernels.nngp(network, x)
    close = {"rtol": 1e-11, "atol": 1e-12}
    np.testing.assert_allclose(gram, plain(network, x, x), rtol=3e-8, atol=1e-12)  # relu at correlation one
    off = ~np.eye(11, dtype=bool)
    np.testing.assert_allclose(gram[off], plain(network, x, x)[off], **close)
    np.testing.assert_allclose(fw.kernels.nngp(network, x, y), plain(network, x, y), **close)
    np.testing.assert_allclose(rows.cross(Recursion.of(network, y)), plain(network, x, y), **close)
    assert (gram == gram.T).all()
    assert (np.diagonal(gram) == fw.kernels.nngp_diagonal(network, x)).all()
    assert len(rows.diagonals) == network.depth + 1 == len(rows.prepared) + 1


@pytest.mark.parametrize("name", ["erf", "relu", "linear with offsets", "mean field"])
@pytest.mark.parametrize("block", [(3, 5), (4, 2), (100, 100)])
def test_pullback_in_any_blocks(name, block, monkeypatch):
    network, x, G = NETWORKS[name], points(9, 4), points(9, 9, seed=1)
    G, step, found = G + G.T, 1e-5, []
    for layer in range(network.depth + 1):
        moved = [list(network.weight_precision) for _ in range(2)]
        for sign, precision in zip((1.0, -1.0), moved, strict=True):
            precision[layer] *= math.exp(sign * step)
        more, less = (np.vdot(G, plain(network.with_precision(tuple(p)), x, x)) for p in moved)
        found.append((more - less) / (2.0 * step))
    monkeypatch.setattr(fully_connected, "_BLOCK", block)
    np.testing.assert_allclose(fw.kernels.nngp_pullback(network, x, G), found, rtol=2e-6)


def test_unequal_inputs_are_named():
    with pytest.raises(InputError, match=r"points of shapes \(3,\) and \(4,\)"):
        fw.kernels.nngp(NETWORKS["erf"], points(2, 3), points(5, 4))


# --- tiles in single and double precision ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("inner", [(3, 2), (2, 7), (50, 50)])
def test_a_tile_is_its_part_of_the_kernel(name, inner, monkeypatch):
    """Any rows and columns, of one set and of two, in both precisions; diagonals are known in double."""
    monkeypatch.setattr(operator, "_INNER", inner)
    network, x, y = NETWORKS[name], points(11, 4), points(9, 4, seed=1)
    K, L = plain(network, x, y), plain(network, x, x)
    i, j = slice(2, 9), slice(3, 8)
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 3e-6)):
        one, two = Points.of(network, x, dtype), Points.of(network, y, dtype)
        tile = one.tile(two, i, j)
        assert tile.dtype == one.dtype == dtype == one.recursion.x.dtype
        np.testing.assert_allclose(tile, K[i, j], atol=tolerance * np.abs(K).max())
        np.testing.assert_allclose(one.diagonal, np.diagonal(L), rtol=1e-7)
        assert one.diagonal.dtype == np.float64
        assert len(one) == 11
        assert len(two) == 9


def test_duals_that_lose_digits_are_computed_in_double():
    """relu in float32: only the products are rounded; erf and linear are computed in single precision altogether."""
    x = points(30, 5)
    rows = slice(0, 30)
    for name, single in (("erf", True), ("linear", True), ("relu", False), ("mean field", False)):
        network = NETWORKS[name]
        made = Points.of(network, x, np.float32)
        assert {p.dtype for p in made.recursion.prepared} == {np.dtype(np.float32 if single else np.float64)}
        if not single:
            rounded = (made.recursion.x @ made.recursion.x.T).astype(np.float64)
            own = Recursion.of(network, x)
            own.through_layers(rounded, own, rows, rows)
            tile = made.tile(made, rows, rows)
            np.testing.assert_allclose(tile, rounded.astype(np.float32), rtol=2e-7)
        doubled = Points.of(network, x, np.float64)
        assert {p.dtype for p in doubled.recursion.prepared} == {np.dtype(np.float64)}


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_large_variances_of_any_layer_are_kept_in_double(layer):
    """10^4 itself is not too large; a little more, in any layer, is."""
    x = np.array([[1.0], [-0.5]])
    for factor, dtype in ((1.0, np.float32), (1.0 - 1e-9, np.float64)):
        precision = [1.0, 1.0, 1.0]
        precision[layer] = 1e-4 * factor
        if layer < 2:
            precision[layer + 1] = 1e4  # so that no other layer is as large
        network = fw.FullyConnected((5, 5), activation="linear", weight_precision=tuple(precision))
        largest = max(1.0 / np.prod(precision[: k + 1]) for k in range(3))  # of the first point
        assert largest == 1e4 if factor == 1.0 else largest > 1e4
        made = Points.of(network, x, np.float32)
        assert made.dtype == dtype
        assert made.tile(made, slice(0, 2), slice(0, 2)).dtype == dtype


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("tile", [(4, 6), (6, 13), (5, 5), (40, 40)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parts_add_up_to_the_kernel(keep, tile, dtype, monkeypatch):
    """Squares and wider tiles; the diagonal is the one that is known, in the precision of the tiles."""
    monkeypatch.setattr(operator, "TILE", tile)
    network, x = NETWORKS["erf"], points(23, 4)
    made = Points.of(network, x, dtype)
    rows = slices(0, 23, tile[0])
    K = plain(network, x, x)
    parts = [GramPart(made, chosen, keep) for chosen in (rows[::2], rows[1::2])]
    whole = sum(part.multiply(np.eye(23)) for part in parts)
    np.testing.assert_allclose(whole, K, atol=1e-6 if dtype == np.float32 else 1e-13)
    assert (whole == whole.T).all()
    assert (np.diagonal(whole) == made.diagonal.astype(dtype)).all()
    assert all(bool(part.stored) == (keep and bool(part.rows)) for part in parts)
    assert {block.dtype for part in parts for block in part.stored.values()} <= {np.dtype(dtype)}
    assert whole.dtype == np.float64
    alone = GramPart(made, rows[:1], keep).multiply(np.eye(23))  # a first row of tiles, and its mirror image
    high = min(tile[0], 23)
    np.testing.assert_allclose(alone[:high], K[:high], atol=1e-6)
    np.testing.assert_allclose(alone[high:, :high], K[high:, :high], atol=1e-6)
    assert not alone[high:, high:].any()


# --- the operator ----------------------------------------------------------------------------------------------------


def test_what_an_operator_is_when_nothing_is_said():
    x, network = points(20, 4), NETWORKS["erf"]
    made = GramOperator(network, x)
    assert made.keep
    assert made.points.dtype == np.float32
    assert all(part.stored for part in made._parts)
    assert (len(made), made.passes) == (20, 0)
    made @ np.eye(20)
    made @ np.ones((20, 1))
    assert made.passes == 2
    assert made.trace == pytest.approx(np.trace(plain(network, x, x)))


def test_cross_products_in_tiles_of_any_shape(monkeypatch):
    network, x, y = NETWORKS["relu"], points(13, 4), points(10, 4, seed=1)
    K = plain(network, y, x)
    for tile in ((3, 5), (5, 6), (50, 50)):
        monkeypatch.setattr(operator, "TILE", tile)
        for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 1e-5)):
            cross = GramOperator(network, x, dtype=dtype).cross(y)
            V, W = points(13, 2, seed=2), points(10, 13, seed=3)
            np.testing.assert_allclose(cross @ V, K @ V, atol=tolerance)
            np.testing.assert_allclose(cross.T @ W, K.T @ W, atol=10 * tolerance)
            assert (cross @ V).dtype == np.float64
            np.testing.assert_allclose(cross @ np.asfortranarray(V), K @ V, atol=tolerance)


def test_other_inputs_are_named():
    with pytest.raises(InputError, match=r"points of shapes \(4,\) and \(3,\); wanted: the same shape"):
        GramOperator(NETWORKS["erf"], points(9, 3)).cross(points(7, 4))


# --- on workers ------------------------------------------------------------------------------------------------------


class Client:
    """A Dask client in this process that fails as it is told, and refuses what would go wrong on a real one."""

    def __init__(self, failures=()):
        self.failures, self.points, self.products = list(failures), 0, 0

    def scatter(self, data, broadcast=False, hash=True):
        assert broadcast  # every worker needs it
        assert not hash  # else equal columns would be one piece of data, freed with the first of them
        self.points += not isinstance(data, np.ndarray)
        return data

    def map(self, function, items, pure=True, **fixed):
        assert not pure  # else a product might be taken for an earlier one
        self.products += function is GramPart.multiply
        return [function(item, **fixed) for item in items]

    def gather(self, results):
        if self.failures:
            raise self.failures.pop(0)
        return results


def killed():
    from distributed.scheduler import KilledWorker

    return KilledWorker("product", None, [])


@pytest.mark.parametrize("keep", [True, False])
def test_every_way_to_lose_a_worker_is_waited_out(keep, monkeypatch):
    pytest.importorskip("distributed")
    slept = []
    monkeypatch.setattr(operator.time, "sleep", slept.append)
    monkeypatch.setattr(operator, "TILE", (8, 8))
    x, columns = points(30, 4), points(30, 2)
    expected = GramOperator(NETWORKS["erf"], x, dtype=np.float64) @ columns
    client = Client([OSError("gone"), CancelledError(), killed()])
    remote = GramOperator(NETWORKS["erf"], x, keep, np.float64, client)
    assert all(bool(part.stored) == keep for part in remote._gather._parts)
    np.testing.assert_allclose(remote @ columns, expected, rtol=1e-13)
    assert slept == [1.0, 3.0, 10.0]  # longer each time
    assert (client.points, client.products) == (4, 4)
    for failure in (OSError("gone"), CancelledError(), killed()):
        with pytest.raises(type(failure)):
            GramOperator(NETWORKS["erf"], x, keep, np.float64, Client([failure] * 4)) @ columns
    client = Client([ValueError("a fault of ours")])
    with pytest.raises(ValueError, match="ours"):
        GramOperator(NETWORKS["erf"], x, keep, np.float64, client) @ columns
    assert client.products == 1  # not tried again


def test_memory_of_all_workers():
    """All that there are, not the first few that Dask tells of by itself; any without a limit leaves none."""

    class Scheduled:
        def __init__(self, *limits):
            self.limits = limits

        def scheduler_info(self, n_workers=5):
            told = self.limits if n_workers == -1 else self.limits[:n_workers]
            return {"workers": {str(k): {"memory_limit": limit} for k, limit in enumerate(told)}}

    assert operator.workers_memory(Scheduled(*range(1, 8))) == 28.0
    assert operator.workers_memory(Scheduled(5, 0, 7)) == math.inf
    assert operator.workers_memory(Scheduled(5, None)) == math.inf
