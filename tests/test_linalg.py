"""Factorisations against dense NumPy, singular matrices, memory sizes."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from scipy import linalg as sla

from finitewidth import linalg
from finitewidth.checks.exceptions import InputError, MemoryCapError
from finitewidth.linalg import RegularisedGram, Spectrum


def covariance(rng, size=7, rank=None):
    half = rng.standard_normal((size, rank or size))
    return half @ half.T


class TestSpectrum:
    def test_equals_numpy(self, rng):
        K = covariance(rng)
        before = K.copy()
        spectrum = Spectrum.of(K)
        np.testing.assert_allclose(spectrum.values, np.linalg.eigvalsh(K), rtol=1e-12)
        np.testing.assert_allclose((spectrum.vectors * spectrum.values) @ spectrum.vectors.T, K, atol=1e-13)
        np.testing.assert_allclose(spectrum.rotate(K), spectrum.vectors.T @ K, rtol=1e-13)
        assert (before == K).all()
        assert spectrum.size == 7

    def test_overwrite_gives_the_same(self, rng):
        K = covariance(rng)
        np.testing.assert_allclose(Spectrum.of(K.copy(), overwrite=True).values, Spectrum.of(K).values, rtol=1e-13)

    @pytest.mark.parametrize("rank", [1, 3])
    @pytest.mark.parametrize("scale", [1e-100, 1.0, 1e100])
    def test_rounding_is_not_signal(self, rank, scale, rng):
        """Null directions must be exactly null: at T -> 0 a large scale would take rounding for signal."""
        spectrum = Spectrum.of(scale * covariance(rng, 9, rank))
        assert (spectrum.values > 0.0).sum() == rank
        assert (spectrum.values[:-rank] == 0.0).all()

    def test_zero_matrix(self):
        assert (Spectrum.of(np.zeros((4, 4))).values == 0.0).all()


class TestRegularisedGram:
    @pytest.mark.parametrize("rank", [7, 2])
    def test_equals_dense_inverse(self, rank, rng):
        K, ridge = covariance(rng, rank=rank), 0.3
        A = K + ridge * np.eye(7)
        gram, y = RegularisedGram(K, ridge), rng.standard_normal((7, 2))
        np.testing.assert_allclose(gram.solve(y), np.linalg.solve(A, y), rtol=1e-10)
        np.testing.assert_allclose(gram.solve(y[:, 0]), np.linalg.solve(A, y[:, 0]), rtol=1e-10)
        np.testing.assert_allclose(gram.inverse(), np.linalg.inv(A), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(gram.whiten(y).T @ gram.whiten(y), y.T @ np.linalg.solve(A, y), rtol=1e-10)
        assert gram.log_det == pytest.approx(np.linalg.slogdet(A)[1], rel=1e-12)
        assert gram.size == 7

    def test_inverse_is_symmetric(self, rng):
        inverse = RegularisedGram(covariance(rng), 0.1).inverse()
        assert (inverse == inverse.T).all()

    def test_where_cholesky_fails(self):
        """A negative eigenvalue of rounding that the ridge cannot mend: the eigendecomposition takes over."""
        K = np.array([[1.0, 1.0 + 1e-12], [1.0 + 1e-12, 1.0]])
        gram, exact = RegularisedGram(K, 1e-14), np.array([1.0, 1.0]) / 2.0
        np.testing.assert_allclose(gram.solve(np.ones(2)), exact, rtol=1e-10)
        assert gram.log_det == pytest.approx(math.log(2.0) + math.log(1e-14), rel=1e-10)
        np.testing.assert_allclose(gram.inverse() @ np.ones(2), exact, atol=0.05)
        w = gram.whiten(np.ones((2, 1)))
        assert (w.T @ w).item() == pytest.approx(1.0, rel=1e-10)

    def test_where_cholesky_passes_by_luck(self):
        """Equal rows but for the last bit: a factor exists, and it is rounding."""
        K = np.array([[1.0, 1.0], [1.0, 1.0 + 2.0 * np.finfo(float).eps]])
        assert sla.lapack.dpotrf(K, lower=True)[1] == 0
        gram, y = RegularisedGram(K, 1e-17), np.array([1.0, -1.0])
        assert np.abs(K @ gram.solve_range(y)).max() < 1e-12
        assert (gram.whiten(K) ** 2).sum(0) == pytest.approx([1.0, 1.0], rel=1e-12)
        np.testing.assert_allclose(gram.solve(y), y / 1e-17, rtol=1e-12)

    def test_errors_of_a_covariance_far_above_rounding(self, rng):
        """Pivots of K + T below T: K is no covariance to that accuracy, whatever the epsilon of the machine."""
        exact, ridge = covariance(rng, 30, 3), 2e-8
        error, other = 1e-9 * rng.standard_normal((2, 30, 30))
        K, y = exact + error + error.T, np.linalg.svd(exact)[0][:, -1]  # a direction that the covariance does not know
        factor, info = sla.lapack.dpotrf(K + ridge * np.eye(30), lower=True)
        assert info == 0
        assert np.abs((exact + other) @ sla.lapack.dpotrs(factor, y, lower=True)[0]).max() > 0.1
        assert np.abs((exact + other) @ RegularisedGram(K, ridge).solve_range(y)).max() < 1e-6

    def test_well_conditioned_matrices_keep_their_cholesky_factor(self, rng):
        """At any ridge: bit for bit, at its price."""
        K = covariance(rng, 30) + np.eye(30)
        for ridge in (0.0, 1e-15, 1e-9, 1.0, 1e9):
            gram, y = RegularisedGram(K, ridge), rng.standard_normal(30)
            factor = sla.lapack.dpotrf(K + ridge * np.eye(30), lower=True)[0]
            assert (gram.solve(y) == sla.lapack.dpotrs(factor, y, lower=True)[0].ravel()).all()
            assert (gram.solve_range(y) == gram.solve(y)).all()
            assert (gram.inverse_range() == gram.inverse()).all()

    @pytest.mark.parametrize("ridge", [1e-16, 1e-13, 1e-10, 1e-6])
    def test_range_of_a_singular_matrix(self, ridge, rng):
        """K A^-1 y and K A^-1 K by the definition, on an orthonormal basis that is known."""
        basis = np.linalg.qr(rng.standard_normal((9, 9)))[0][:, :3]
        values, y = np.array([1.0, 2.0, 5.0]), rng.standard_normal(9)
        K = (basis * values) @ basis.T
        gram = RegularisedGram(0.5 * (K + K.T), ridge)
        through = (basis * (values / (values + ridge))) @ basis.T  # K A^-1
        np.testing.assert_allclose(K @ gram.solve_range(y), through @ y, atol=1e-9)
        np.testing.assert_allclose(K @ gram.inverse_range() @ K, through @ K, atol=1e-9)
        np.testing.assert_allclose(gram.whiten(K).T @ gram.whiten(K), through @ K, atol=1e-9)
        log_det = np.log(values + ridge).sum() + 6.0 * math.log(ridge)
        assert gram.log_det == pytest.approx(log_det, rel=1e-6)

    def test_nothing_is_changed(self, rng):
        K, y = covariance(rng), rng.standard_normal(7)
        before = K.copy(), y.copy()
        gram = RegularisedGram(K, 0.1)
        gram.solve(y), gram.whiten(y), gram.inverse()
        assert (before[0] == K).all()
        assert (y == before[1]).all()


@pytest.mark.parametrize("factorise", [Spectrum.of, lambda K: RegularisedGram(K, 1.0)])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e200])
def test_covariances_that_overflowed_are_refused(factorise, bad):
    K = np.eye(3)
    K[1, 2] = K[2, 1] = bad
    with pytest.raises(InputError, match="rescale the inputs"):
        factorise(K)


@pytest.mark.parametrize("x", [1e-300, 1e-12, -1e-12, 1e-5, 0.0199, 0.0201, -0.0199, -0.5, -1 + 1e-9, 3.0, 1e12])
def test_excess_against_a_long_sum(x):
    """x - log(1 + x): Taylor with exact binary fractions for small x, plain subtraction for large."""
    series = math.fsum((-1) ** k * x**k / k for k in range(2, 40)) if abs(x) < 0.1 else 0.0
    exact = series or x - math.log1p(x)
    assert linalg.x_minus_log1p(x) == pytest.approx(exact, rel=1e-14)


def test_excess_at_minus_one_is_infinite():
    assert linalg.x_minus_log1p(-1.0) == np.inf
    assert linalg.x_minus_log1p(np.array([0.0, 1.0])).tolist() == pytest.approx([0.0, 1.0 - math.log(2.0)])


class TestMemory:
    @pytest.mark.parametrize(
        ("text", "size"),
        [("8GB", 8e9), ("500 MB", 5e8), ("2GiB", 2**31), ("1.5tb", 1.5e12), ("100", 100.0), (" 3 kb ", 3e3), (7, 7.0)],
    )
    def test_sizes(self, text, size):
        assert linalg.parse_memory(text) == size

    @pytest.mark.parametrize("text", ["", "lots", "8XB", "-1GB", "nan GB", "infGB", "0", "GB", "1e"])
    def test_what_is_no_size(self, text):
        with pytest.raises(InputError, match="8GB"):
            linalg.parse_memory(text)

    def test_what_is_neither_a_size_nor_a_text(self):
        for size in (0, -1.0, np.nan, np.inf, True, [], np.ones(2), 10**400, -(10**5000), b"8GB"):
            with pytest.raises(InputError, match="memory"):
                linalg.memory_cap(size)

    def test_a_cap_may_be_left_out(self):
        assert linalg.memory_cap(None) is None
        assert linalg.memory_cap("1kB") == 1e3

    @pytest.mark.parametrize(
        ("size", "text"), [(1.5e9, "1.5 GB"), (3e8, "300 MB"), (12.0, "12 B"), (2e12, "2 TB"), (4e3, "4 kB")]
    )
    def test_format(self, size, text):
        assert linalg.format_bytes(size) == text

    def test_refusal_says_how_much(self):
        with pytest.raises(MemoryCapError, match=r"a thing, which needs about 2 GB; wanted: at most 1 GB .*; do less"):
            linalg.require_memory(2e9, "a thing", "do less", 1e9)
        linalg.require_memory(1e9, "a thing", "do less", 1e9)
        with pytest.raises(MemoryCapError, match="available now"):
            linalg.require_memory(1e30, "a thing", "do less")

    def test_available(self):
        assert 1e6 < linalg.available_memory() < 1e15


class TestBlocks:
    @pytest.mark.parametrize("threads", ["1", "2", "3"])
    def test_every_block_once(self, threads, monkeypatch):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        done = np.zeros(40)

        def work(k):
            done[k] += 1

        linalg.run_blocks(work, [(k,) for k in range(40)])
        assert (done == 1).all()
        assert linalg.n_threads() == int(threads)

    def test_an_error_in_a_thread_is_raised(self, monkeypatch):
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        with pytest.raises(ZeroDivisionError):
            linalg.run_blocks(lambda k: 1 // k, [(k,) for k in range(40)])

    @pytest.mark.parametrize("text", ["", "0", "many"])
    def test_threads_without_a_setting(self, text, monkeypatch):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert linalg.n_threads() >= 1


def test_threads_end_soon_after_an_interrupt(monkeypatch):
    """What is running ends at its next look, and what waits is never begun."""
    monkeypatch.setattr(linalg, "n_threads", lambda: 2)
    begun, ended = [], []

    def work(item):
        begun.append(item)
        try:
            while item:  # until somebody gives up
                linalg.stop_if_given_up()
                time.sleep(0.001)
        finally:
            ended.append(item)

    results = linalg.map_threads(work, range(8))
    assert next(results) is None
    with pytest.raises(KeyboardInterrupt):
        results.throw(KeyboardInterrupt())
    assert sorted(begun) == sorted(ended)
    assert len(begun) <= 4
    linalg.stop_if_given_up()  # of no pool: nothing to give up
