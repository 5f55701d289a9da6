"""The kernel as an operator against its Gram matrix: every activation, tile sizes, precisions, Dask workers."""

from __future__ import annotations

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.kernels import operator
from finitewidth.kernels.operator import GramOperator, stored_bytes

NETWORKS = [
    fw.FullyConnected(widths=(9,)),
    fw.FullyConnected(widths=(9, 9), weight_precision=(2.0, 0.5, 3.0), offset_precision=4.0),
    fw.FullyConnected(widths=(9,), activation="relu", readout="mean-field"),
    fw.FullyConnected(widths=(9, 9), activation="linear"),
    fw.FullyConnected(widths=(9,), activation="tanh"),
]


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(operator, "TILE", (16, 24))
    monkeypatch.setattr(operator, "_INNER", (7, 11))
    monkeypatch.setattr(operator, "_PARTS", 3)


@pytest.mark.parametrize(
    ("network", "count"),
    [(n, count) for n in NETWORKS for count in (1, 15, 16, 90) if n.phi.name != "tanh"] + [(NETWORKS[-1], 33)],
)
@pytest.mark.parametrize("keep", [True, False])
def test_products_equal_the_gram_matrix(network, keep, count, rng, small_tiles):
    x, columns = rng.standard_normal((count, 6)), rng.standard_normal((count, 3))
    K = fw.kernels.nngp(network, x)
    double = GramOperator(network, x, keep, np.float64)
    np.testing.assert_allclose(double @ columns, K @ columns, rtol=1e-12, atol=1e-12)
    assert double.noise() == 0.0
    assert double.trace == pytest.approx(np.trace(K), rel=1e-13)
    single = GramOperator(network, x, keep, np.float32)
    np.testing.assert_allclose(single @ columns, K @ columns, atol=3e-6 * np.abs(K).max() * count**0.5)
    assert single.noise() < 1e-6 * np.abs(K).max()
    other = rng.standard_normal((40, 6))
    cross, right = fw.kernels.nngp(network, other, x), rng.standard_normal((40, 2))
    np.testing.assert_allclose(double.cross(other) @ columns, cross @ columns, atol=1e-12)
    np.testing.assert_allclose(double.cross(other).T @ right, cross.T @ right, atol=1e-12)


def test_noise_is_the_error_of_an_entry(rng):
    x = rng.standard_normal((300, 50))
    single, K = GramOperator(NETWORKS[0], x, dtype=np.float32), fw.kernels.nngp(NETWORKS[0], x)
    measured = np.sqrt(np.mean((single @ np.eye(300) - K) ** 2))
    assert single.noise() == pytest.approx(measured, rel=0.3)
    assert single.noise() > 0.0


def test_variances_too_large_for_single_precision(rng):
    """Correlations within 1e-7 of one: float32 would round them past it."""
    x = 1e4 * rng.standard_normal((50, 5))
    single = GramOperator(NETWORKS[0], x, dtype=np.float32)
    np.testing.assert_allclose(single @ np.eye(50), fw.kernels.nngp(NETWORKS[0], x), atol=1e-12)


def test_stored_bytes_are_those_kept(rng):
    x = rng.standard_normal((1500, 3))
    for dtype in (np.float32, np.float64):
        parts = GramOperator(NETWORKS[0], x, True, dtype)._parts
        kept = sum(block.nbytes for part in parts for block in part.stored.values())
        assert kept <= stored_bytes(1500, dtype) <= 1.5 * kept
    assert not any(part.stored for part in GramOperator(NETWORKS[0], x, False)._parts)


@pytest.mark.parametrize("keep", [True, False])
def test_dask_workers_give_the_same(keep, rng, small_tiles):
    distributed = pytest.importorskip("distributed")
    x, columns = rng.standard_normal((90, 6)), rng.standard_normal((90, 3))
    local = GramOperator(NETWORKS[1], x, keep, np.float64) @ columns
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        remote = GramOperator(NETWORKS[1], x, keep, np.float64, client)
        assert (remote @ columns == local).all()
        assert (remote @ columns == local).all()
        assert remote.passes == 2
