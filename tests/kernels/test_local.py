"""Local kernels: packed and streamed contractions against the plain definition, and known limits."""

import numpy as np
import pytest

import finitewidth as fw
from finitewidth import linalg
from finitewidth.checks.exceptions import MemoryCapError
from finitewidth.kernels import local, nngp, nngp_diagonal
from finitewidth.kernels.local import (
    LocalGram,
    LocalPoints,
    local_cross,
    local_diagonal,
    local_kernels,
    memory_estimate,
)
from finitewidth.networks.fully_connected import FullyConnected
from finitewidth.networks.local import Convolutional, LocallyConnected

IMAGES, SIGNALS = (6, 4, 2), (9, 2)
CASES = [
    (Convolutional(8, patch=2), IMAGES),
    (Convolutional(8, patch=2, activation="relu", offset_precision=2.0), IMAGES),
    (Convolutional(8, patch=(3, 2), stride=(1, 2), weight_precision=(0.5, 3.0)), IMAGES),
    (Convolutional(8, patch=(5,), stride=2, activation="tanh"), SIGNALS),
    (Convolutional(8, patch=3, stride=2, padding="same", readout="mean-field"), IMAGES),
    (Convolutional(8, patch=(3,), stride=(2,), padding="same", activation="quadratic"), SIGNALS),
    (LocallyConnected(8, patch=2), IMAGES),
    (LocallyConnected(8, patch=2, stride=1, activation="relu", offset_precision=2.0), IMAGES),
    (LocallyConnected(8, patch=(3,), activation="gelu", weight_precision=(0.5, 3.0)), SIGNALS),
]


@pytest.fixture(params=CASES, ids=lambda case: repr(case[0]))
def case(request):
    """(network, x, Q, W): more than one tile, symmetric Q and W."""
    network, shape = request.param
    r = np.random.default_rng(5)
    x = r.standard_normal((70, *shape))
    n = network.grid(x).n_patches
    Q, W = r.standard_normal((n, n)), r.standard_normal((70, 70))
    return network, x, Q @ Q.T, W + W.T


def scale(network, n):
    return 1.0 / (network.readout_precision * n)


def order_parameter(network, Q):
    """Of pairs of patches, or of patches that share no weights."""
    return Q if network.shares_weights else np.diagonal(Q)


def test_reference_kernels_by_their_definition(case):
    network, x, _, _ = case
    x = x[:4]
    K, patches = local_kernels(network, x), network.grid(x).extract(x)
    M = patches.shape[2]
    for i, j in [(0, 0), (0, 1), (1, 0), (2, 1)]:
        u, v = patches[:3, i], patches[1:, j]  # three pairs of points
        c11, c12, c22 = (np.sum(a * b, axis=1) for a, b in ((u, u), (u, v), (v, v)))
        c11, c12, c22 = (c / (network.weight_precision[0] * M) + network.offset_variance for c in (c11, c12, c22))
        if i != j and isinstance(network, LocallyConnected):
            expected = network.phi.mean(c11) * network.phi.mean(c22)
        else:
            expected = network.phi.kappa(c11, c12, c22)
        np.testing.assert_allclose(K[i, j, range(3), range(1, 4)], expected, atol=1e-12)
    np.testing.assert_allclose(K, local_kernels(network, x, x), atol=1e-14)


def test_contract_is_the_sum_over_pairs(case):
    network, x, Q, _ = case
    K = local_kernels(network, x)
    result = LocalGram.of(network, x).contract(order_parameter(network, Q))
    Q = Q if network.shares_weights else np.diag(np.diagonal(Q))
    np.testing.assert_allclose(result, scale(network, len(Q)) * np.einsum("ij,ijab->ab", Q, K), atol=1e-12)
    np.testing.assert_array_equal(result, result.T)


def test_project_is_the_sum_over_points(case):
    network, x, Q, W = case
    K, factor = local_kernels(network, x), scale(network, len(Q))
    G = factor * np.einsum("ab,ijab->ij", W, K)
    result = LocalGram.of(network, x).project(W)
    np.testing.assert_allclose(result, order_parameter(network, 0.5 * (G + G.T)), atol=1e-11)
    np.testing.assert_array_equal(result, result.T)


def test_project_is_the_adjoint_of_contract(case):
    network, x, Q, W = case
    gram, Q = LocalGram.of(network, x), order_parameter(network, Q)
    assert np.sum(W * gram.contract(Q)) == pytest.approx(np.sum(Q * gram.project(W)), rel=1e-11)


def test_streamed_equals_cached(case):
    network, x, Q, W = case
    Q = order_parameter(network, Q)
    cached, streamed = LocalGram.of(network, x), LocalGram(LocalPoints.of(network, x))
    assert (cached.storage, streamed.storage) == ("cached", "streamed")
    np.testing.assert_allclose(streamed.contract(Q), cached.contract(Q), atol=1e-13)
    np.testing.assert_allclose(streamed.project(W), cached.project(W), atol=1e-11)
    np.testing.assert_array_equal(streamed.project(W), streamed.project(W))  # whatever the threads do


def test_cross_and_diagonal_agree_with_the_reference(case):
    network, x, Q, _ = case
    other = np.random.default_rng(6).standard_normal((9, *x.shape[1:]))
    factor, K = scale(network, len(Q)), local_kernels(network, x, other)
    for matrix in (Q, np.triu(Q)):  # one that is not symmetric has a meaning between two outputs
        own = order_parameter(network, matrix)
        sums = np.einsum("ij,ijab->ab" if own.ndim == 2 else "i,iiab->ab", own, K)
        np.testing.assert_allclose(local_cross(network, x, other, own), factor * sums, atol=1e-12)
        whole = local_cross(network, x, x, own)
        np.testing.assert_allclose(local_diagonal(network, x, own), np.diagonal(whole), atol=1e-12)


def test_covariances_are_positive_semidefinite(case):
    network, x, Q, _ = case
    for gram in (LocalGram.of(network, x).contract(order_parameter(network, Q)), fw.kernels.nngp(network, x)):
        values = np.linalg.eigvalsh(gram)
        assert values[0] > -1e-12 * values[-1]


# --- limits that are known ---------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", [Convolutional, LocallyConnected])
@pytest.mark.parametrize("activation", ["erf", "relu", "tanh"])
def test_one_patch_as_large_as_the_image_is_the_fully_connected_kernel(architecture, activation):
    x, other = np.random.default_rng(0).standard_normal((2, 30, 5, 4, 2))
    fields = {"activation": activation, "weight_precision": (0.7, 2.0), "offset_precision": 3.0}
    network, dense = architecture(50, patch=(5, 4), **fields), FullyConnected(50, **fields)
    np.testing.assert_allclose(fw.kernels.nngp(network, x), nngp(dense, x), rtol=0, atol=1e-10)
    np.testing.assert_allclose(fw.kernels.nngp(network, x, other), nngp(dense, x, other), rtol=0, atol=1e-10)
    np.testing.assert_allclose(fw.kernels.nngp_diagonal(network, x), nngp_diagonal(dense, x), rtol=0, atol=1e-10)
    Q = order_parameter(network, np.array([[1.7]]))
    np.testing.assert_allclose(LocalGram.of(network, x).contract(Q), 1.7 * nngp(dense, x), atol=1e-10)


def test_patches_without_any_light_do_no_harm():
    x = np.random.default_rng(0).standard_normal((5, 6, 6, 1))
    x[:, :2] = 0.0
    for network in (Convolutional(5, patch=2, activation="relu"), LocallyConnected(5, patch=2)):
        assert np.isfinite(LocalGram.of(network, x).contract(order_parameter(network, np.ones((9, 9))))).all()


# --- what is refused ---------------------------------------------------------------------------------------


def test_a_cap_decides_between_cached_streamed_and_refused():
    x = np.random.default_rng(0).standard_normal((40, 8, 8, 1))
    network = Convolutional(5, patch=2, stride=1)
    grid = network.grid(x)
    cached, streamed = (memory_estimate(40, grid.n_patches, keep, grid.patch_size) for keep in (True, False))
    assert cached > streamed + 8 * (49 * 50 / 2) * (40 * 41 / 2) - 1
    assert LocalGram.of(network, x, cap=cached).storage == "cached"
    assert LocalGram.of(network, x, cap=cached - 1).storage == "streamed"
    with pytest.raises(MemoryCapError, match="larger stride") as caught:
        LocalGram.of(network, x, cap=streamed - 1)
    remedy = Convolutional(5, patch=2, stride=(2, 2))
    assert LocalGram.of(remedy, x, cap=streamed - 1).points.grid.n_patches == 16
    assert linalg.format_bytes(streamed) in str(caught.value)


def test_every_dual_is_computed_once(monkeypatch):
    """n^2 P^2 / 2 of them, and on the squares of the diagonal a little more."""
    counted = []
    kappa = LocalPoints.duals

    def counting(self, i, rows, other, j, columns):
        block = kappa(self, i, rows, other, j, columns)
        counted.append(block.size)
        return block

    monkeypatch.setattr(local.LocalPoints, "duals", counting)
    x = np.random.default_rng(0).standard_normal((256, 8, 8, 1))
    LocalGram.of(Convolutional(5, patch=2), x)
    assert sum(counted) < 1.02 * (16 * 256) ** 2 / 2
