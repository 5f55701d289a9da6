"""Block Krylov spaces against dense NumPy: bases, quadratures, every kind of rank deficiency."""

from __future__ import annotations

import numpy as np
import pytest

from finitewidth.linalg import Spectrum
from finitewidth.linalg.krylov import KrylovSpace, trace_quadrature


def covariance(values, seed=0):
    """A matrix with these eigenvalues in random directions."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values), len(values))))
    return (q * values) @ q.T


def space_of(K, start, steps, capacity=10_000, base=None):
    space = KrylovSpace(K.__matmul__, start, capacity, base)
    space.advance(steps)
    return space


DECAY = 10.0 * np.arange(1, 121) ** -1.5


class TestSpace:
    def test_basis_is_orthonormal_and_h_is_the_projection(self, rng):
        K, start = covariance(DECAY), rng.standard_normal((120, 5))
        space = space_of(K, start, 9)
        (V,) = space.bases()
        assert V.shape == (120, 45)
        np.testing.assert_allclose(V.T @ V, np.eye(45), atol=1e-13)
        np.testing.assert_allclose(space.projected, V.T @ K @ V, atol=1e-12)
        np.testing.assert_allclose(V[:, :5] @ space.start, start, atol=1e-12)
        leaving = K @ V - V @ space.projected
        np.testing.assert_allclose(np.linalg.norm(leaving, axis=0)[:40], 0.0, atol=1e-12)
        np.testing.assert_allclose(leaving[:, 40:].T @ leaving[:, 40:], space.residual.T @ space.residual, atol=1e-12)

    def test_a_space_on_top_of_another(self, rng):
        K = covariance(DECAY)
        base = space_of(K, rng.standard_normal((120, 4)), 6)
        start = rng.standard_normal((120, 3))
        space = space_of(K, start, 5, base=base)
        V = np.concatenate(space.bases(), axis=1)
        assert V.shape == (120, 24 + 15)
        np.testing.assert_allclose(V.T @ V, np.eye(39), atol=1e-13)
        np.testing.assert_allclose(space.projected, V.T @ K @ V, atol=1e-12)
        np.testing.assert_allclose(V[:, :27] @ space.start, start, atol=1e-12)
        base.advance(2)  # does not touch what stands on it
        assert np.concatenate(space.bases(), axis=1).shape == V.shape

    def test_solutions_for_every_shift(self, rng):
        K, y = covariance(DECAY), rng.standard_normal(120)
        space = space_of(K, np.concatenate([y[:, None], rng.standard_normal((120, 4))], axis=1), 20)
        ritz, (V,) = space.ritz(), space.bases()
        c = ritz.coordinates(space.start)[:, 0]
        for s, T in [(0.01, 1.0), (1.0, 0.1), (100.0, 0.1)]:
            exact = np.linalg.solve(s * K + T * np.eye(120), y)
            found = V @ (ritz.vectors @ (c / (s * ritz.values + T)))
            residual = y - (s * K + T * np.eye(120)) @ found
            predicted = s * np.linalg.norm(ritz.outward @ (c / (s * ritz.values + T)))
            assert np.linalg.norm(residual) == pytest.approx(predicted, rel=1e-6, abs=1e-10)
            short = y @ exact - y @ found  # the Galerkin value is from below, by no more than this
            assert -1e-9 <= short <= np.linalg.norm(residual) ** 2 / T + 1e-9

    @pytest.mark.parametrize("rank", [1, 3, 40])
    def test_it_ends_where_nothing_new_comes(self, rank, rng):
        values = np.append(DECAY[:rank], np.zeros(120 - rank))
        space = space_of(covariance(values), rng.standard_normal((120, 6)), 100)
        assert space.invariant
        assert space.full
        assert space.size <= rank + 6
        kept = Spectrum.of(space.projected).values[::-1][: min(rank, space.size)]
        np.testing.assert_allclose(kept, DECAY[: len(kept)], rtol=1e-9)

    def test_a_block_wider_than_the_matrix_and_a_zero_column(self, rng):
        K = covariance(DECAY[:7])
        start = np.concatenate([np.zeros((7, 1)), rng.standard_normal((7, 20))], axis=1)
        space = space_of(K, start, 5)
        assert (space.size, space.invariant) == (7, True)
        np.testing.assert_allclose(space.ritz().values[::-1], DECAY[:7], rtol=1e-10)
        np.testing.assert_allclose(space.ritz().coordinates(space.start)[:, 0], 0.0, atol=1e-14)

    def test_nothing_at_all(self):
        space = space_of(np.eye(5), np.zeros((5, 2)), 3)
        assert (space.size, space.invariant) == (0, True)

    def test_capacity(self, rng):
        space = space_of(covariance(DECAY), rng.standard_normal((120, 5)), 100, capacity=33)
        assert space.size == 30
        assert space.full
        assert not space.invariant


def quadrature_of(K, probes, steps, seed=0):
    start = np.random.default_rng(seed).standard_normal((len(K), probes))
    space = space_of(K, start, steps)
    ritz = space.ritz()
    return trace_quadrature(ritz, ritz.coordinates(space.start), len(K), float(np.trace(K)))


class TestTraces:
    VALUES = 100.0 * np.arange(1, 401) ** -1.2

    @pytest.mark.statistical
    def test_within_its_standard_errors(self):
        """Over twenty seeds and five shifts; the control adds one per cent, which must be seen."""
        K, scores, controls = np.diag(self.VALUES), [], []
        for seed in range(20):
            quadrature = quadrature_of(K, 12, 15, seed)
            assert quadrature.exact > 20
            for s in (0.1, 1.0, 10.0):
                nodes, exact = np.log1p(s * quadrature.nodes), np.log1p(s * self.VALUES).sum()
                error = float(quadrature.standard_error(nodes))
                scores.append((float(quadrature.multiplicity @ nodes) - exact) / error)
                controls.append(scores[-1] + 0.01 * exact / error)
        assert np.abs(np.mean(scores)) < 0.7  # three seeds' worth: the shifts share probes
        assert np.std(scores) < 1.6
        assert np.abs(np.mean(controls)) > 2.0

    def test_counts_and_trace_are_exact(self):
        K = np.diag(self.VALUES)
        quadrature = quadrature_of(K, 6, 10)
        np.testing.assert_allclose(quadrature.multiplicities.sum(0), 400.0, rtol=1e-10)
        np.testing.assert_allclose(quadrature.nodes @ quadrature.multiplicities, np.trace(K), rtol=1e-10)
        assert (quadrature.multiplicities[-quadrature.exact :] == 1.0).all()

    def test_deflation_pays(self):
        """The same space without exact pairs has a far larger error."""
        K, start = np.diag(self.VALUES), np.random.default_rng(0).standard_normal((400, 12))
        space = space_of(K, start, 15)
        ritz = space.ritz()
        power = ritz.coordinates(space.start) ** 2
        plain = 400 * (np.log1p(ritz.values) @ (power / power.sum(0)))
        quadrature = trace_quadrature(ritz, ritz.coordinates(space.start), 400, float(np.trace(K)))
        assert 5 * float(quadrature.standard_error(np.log1p(quadrature.nodes))) < plain.std(ddof=1) / np.sqrt(12)

    @pytest.mark.parametrize(
        "values",
        [
            np.full(60, 2.0),
            np.repeat([3.0, 0.5], 30),
            np.append(np.ones(50), np.zeros(10)),
            np.append(np.full(30, 5.0), 0.1 * np.linspace(0.5, 1.5, 30)),  # copies hidden by deflation, and a tail
        ],
    )
    def test_many_copies_of_one_eigenvalue(self, values):
        """More copies than a block has vectors: leading pairs must not count once each."""
        quadrature = quadrature_of(np.diag(values), 8, 12)
        exact = np.log1p(values).sum()
        nodes = np.log1p(quadrature.nodes)
        error = np.nan_to_num(quadrature.standard_error(nodes))
        assert abs(quadrature.multiplicity @ nodes - exact) <= 4.0 * error + 1e-8 * exact

    def test_a_space_that_is_everything(self):
        quadrature = quadrature_of(covariance(DECAY[:9]), 12, 3)
        assert quadrature.exact == 9
        np.testing.assert_allclose(quadrature.nodes[::-1], DECAY[:9], rtol=1e-10)
        assert (quadrature.multiplicities == 1.0).all()
