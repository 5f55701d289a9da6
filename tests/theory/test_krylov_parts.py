"""Every error estimate of the Krylov way against what it estimates, computed densely: covered, and not by far."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import optimize, stats

import finitewidth as fw
from finitewidth.checks.exceptions import MemoryCapError
from finitewidth.kernels import operator
from finitewidth.theory import krylov as module
from finitewidth.theory.krylov import KrylovKernel, KrylovPredictor
from finitewidth.theory.saddle import shift_of_scale
from finitewidth.theory.scaled import unit_network
from finitewidth.theory.solver import Solver, krylov_bytes

NETWORK = fw.FullyConnected(widths=(50,), weight_precision=(1.0, 1.3))
T, S = 0.05, 0.8


def data(count=150, points=40, inputs=20, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count + points, inputs)) * np.arange(1, inputs + 1) ** -0.5 * 2.0
    y = np.sin(x[:, 0]) + 0.5 * x[:, 1] * x[:, 2] + 0.3 * rng.standard_normal(count + points)
    return fw.Dataset(x[:count], y[:count], classes=()), fw.Dataset(x[count:], y[count:], classes=())


@pytest.fixture(scope="module")
def case():
    """(train, test, a space of 35 dimensions, dense K of unit readout precision)."""
    train, test = data()
    shared = KrylovKernel.of(unit_network(NETWORK), train, Solver("krylov", probes=4, most_dimensions=35))
    return train, test, shared, fw.kernels.nngp(unit_network(NETWORK), train.x)


def solved_in_space(shared):
    """A^-1 y in the space, as a vector of training points."""
    basis = np.concatenate(shared.space.bases(), axis=1) @ shared.ritz.vectors
    return basis, basis @ (shared.target / (S * shared.ritz.values + T))


def test_residual_and_what_the_quadratic_form_lacks(case):
    """|r| / sqrt(T) of the residual of A^-1 y itself; the true lack is r A^-1 r, below |r|^2 / T."""
    train, _, shared, K = case
    A = S * K + T * np.eye(150)
    _, solution = solved_in_space(shared)
    r = train.y - A @ solution
    errors = shared.errors(S, T, (), 0.0)
    _, of_quadratic_form, of_residual = shared._noise_errors(S * shared.energy.values + T, S, T)
    assert errors.residual == pytest.approx(np.linalg.norm(r) / math.sqrt(T), rel=1e-6)
    assert errors.quadratic_form == pytest.approx(r @ r / T + of_quadratic_form, rel=1e-6)
    lack = train.y @ np.linalg.solve(A, train.y) - train.y @ solution
    assert 0.0 < lack <= errors.quadratic_form
    assert errors.log_evidence == 0.5 * (errors.log_det + errors.quadratic_form)
    assert (errors.dimensions, errors.stored, errors.single_precision) == (35, True, False)
    assert errors.passes == shared.operator.passes >= 7
    assert errors.noise == of_residual


@pytest.mark.parametrize(("s", "t"), [(S, T), (0.1, 1.0), (3.0, 0.5), (20.0, 0.01)])
def test_log_determinant_is_its_scatter_and_its_last_change(s, t, case):
    """99 % of the scatter of one estimate a probe, and what the last growth moved; no noise in double precision."""
    train, _, full, K = case
    exact = np.linalg.slogdet(s * K + t * np.eye(150))[1]
    growing = KrylovKernel.of(unit_network(NETWORK), train, Solver("krylov", probes=4))
    for shared, moves in ((full, False), (growing, True)):
        errors, energy = shared.errors(s, t, (), 0.0), shared.energy
        values = np.log(s * energy.values + t) @ energy.traces.multiplicities
        scatter = stats.t.ppf(0.995, 3) * values.std(ddof=1) / 2.0
        before = shared._coarser
        moved = abs(values.mean() - before.multiplicity @ np.log(s * before.values + t))
        assert bool(moved > 1e-9) is moves
        noise, _, _ = shared._noise_errors(s * energy.values + t, s, t)
        assert errors.log_det == pytest.approx(scatter + moved + noise, rel=1e-6, abs=1e-12)
        assert abs(values.mean() - exact) <= errors.log_det


@pytest.mark.parametrize("widths", [(50,), (20, 80)])
def test_the_error_of_the_scale_is_how_far_its_equation_moves(widths, case):
    """c(s) = drive(s) + d for a small d, solved by bracketing; and the d that is assumed, from scatter and change."""
    _, _, shared, _ = case
    shift = 0.3

    def root(d):
        return optimize.brentq(
            lambda x: float(shift_of_scale(x, widths) - shared.energy.data_term(np.exp(x + shift), T)) - d, -3, 3
        )

    x, d = root(0.0), 1e-4
    scale = math.exp(x + shift)
    assert shared._log_scale_error(d, scale, T, widths, shift) == pytest.approx(root(d) - x, rel=1e-3)
    errors, energy = shared.errors(scale, T, widths, shift), shared.energy
    nodes = scale * energy.values / (scale * energy.values + T)
    scatter = stats.t.ppf(0.995, 3) * (nodes @ energy.traces.multiplicities).std(ddof=1) / 2.0
    moved = abs(float(energy.data_term(scale, T) - shared._coarser.data_term(scale, T)))
    of_log_det, of_quadratic_form, _ = shared._noise_errors(scale * energy.values + T, scale, T)
    drive = moved + scatter + of_log_det + of_quadratic_form
    assert errors.log_scale == pytest.approx(drive / d * (root(d) - x), rel=2e-3)
    assert shared.errors(scale, T, (), shift).log_scale == 0.0
    steep = SimpleNamespace(energy=SimpleNamespace(data_term_slope=lambda *_: 1e9))
    assert KrylovKernel._log_scale_error(steep, d, scale, T, widths, shift) == math.inf


def test_noise_of_the_entries_covers_what_it_does(case):
    """Symmetric errors of that size in K, drawn: within the band nearly always, and the band within tenfold of them."""
    train, test, shared, K = case
    entry = 1e-5
    noisy = SimpleNamespace(_noise=entry, energy=shared.energy)
    found = KrylovKernel._noise_errors(noisy, S * shared.energy.values + T, S, T)
    A, r = S * K + T * np.eye(150), np.random.default_rng(0)
    a = np.linalg.solve(A, train.y)
    k = S * fw.kernels.nngp(unit_network(NETWORK), test.x, train.x)
    deviation = np.sqrt(np.diagonal(S * fw.kernels.nngp(unit_network(NETWORK), test.x) - k @ np.linalg.solve(A, k.T)))
    changes = []
    for _ in range(20):
        upper = np.triu(r.standard_normal((150, 150)))
        e = entry * S * (upper + np.triu(upper, 1).T)
        B = A + e
        moved = np.linalg.solve(B, train.y)
        changes.append(
            (
                abs(np.linalg.slogdet(B)[1] - np.linalg.slogdet(A)[1]),
                abs(train.y @ (moved - a)),
                np.abs(k @ (moved - a) / deviation).max(),
            )
        )
    most = np.max(changes, axis=0)
    assert (most <= 1.3 * np.array(found)).all()
    assert (np.array(found) <= [5.0 * most[0], 5.0 * most[1], 50.0 * most[2]]).all()


def test_single_precision_is_measured(case):
    train, *_ = case
    single = KrylovKernel.of(unit_network(NETWORK), train, Solver("krylov", precision="single"))
    assert single.errors(S, T, (), 0.0).single_precision
    assert 1e-9 < single._noise < 1e-6
    double = case[2]
    assert double._noise == pytest.approx(2.0**-52 * np.trace(case[3]) / 150, rel=1e-6, abs=0.0)


# --- growth -----------------------------------------------------------------------------------------------------------


def test_a_space_grows_until_it_is_enough_or_full():
    """16 passes to begin with, eight more at a time; at low temperature they are needed."""
    train, _ = data(400)
    for accuracy, most, T, grows in ((0.5, 2000, 1.0, False), (1e-3, 2000, 0.01, True), (1e-6, 60, 0.01, False)):
        solver = Solver("krylov", accuracy=accuracy, probes=4, most_dimensions=most)
        theory = fw.theory_of(NETWORK, T, method=fw.Saddle(solver=solver))
        shared = theory.factorise(train)
        first = shared.space.size
        assert first == min(80, most)
        solution = theory.solve(train, shared)
        enough = max(solution.solver_errors.residual, solution.solver_errors.log_scale) <= 0.5 * accuracy
        assert enough or shared.space.full
        assert (shared.space.size > first) is grows
        assert (shared.space.size - first) % 40 == 0 or shared.space.full
        assert solution.solver_errors.dimensions == shared.space.size
        e = solution.solver_errors
        assert solution.converged == (e.residual + e.noise <= accuracy and e.log_scale <= accuracy)
        if grows:
            exact = fw.solve(fw.theory_of(NETWORK, 0.01, method=fw.Saddle(solver="exact")), train)
            assert (solution.converged, solution.message) == (True, "")
            np.testing.assert_allclose(solution.order_parameters, exact.order_parameters, rtol=1e-3)
    assert not solution.converged
    assert "60 dimensions" in solution.message


def test_memory_is_asked_for_before_anything():
    train, _ = data(60)
    solver = Solver("krylov")
    need = krylov_bytes(train, solver)
    assert not KrylovKernel.of(unit_network(NETWORK), train, solver, need).operator.keep
    stored = 8.0 * (60 * 60 / 2 + 60 * operator.TILE[0])  # half of all pairs, and half a tile a row more
    for cap, kept in ((need + stored, True), (need + stored - 1.0, False)):
        assert KrylovKernel.of(unit_network(NETWORK), train, solver, cap).operator.keep is kept
    with pytest.raises(MemoryCapError, match="60 dimensions on 60 points"):
        KrylovKernel.of(unit_network(NETWORK), train, solver, 0.999 * need)
    with pytest.raises(MemoryCapError, match="a Krylov space of 12 dimensions on 60 points"):
        KrylovKernel.of(unit_network(NETWORK), train, Solver("krylov", most_dimensions=12), 10.0)


# --- test points ------------------------------------------------------------------------------------------------------


def variances(shared, x, K, train):
    """(in the space, exact), dense."""
    basis, _ = solved_in_space(shared)
    unit = unit_network(NETWORK)
    k, prior = fw.kernels.nngp(unit, x, train.x), fw.kernels.nngp_diagonal(unit, x)
    A = S * K + T * np.eye(len(K))
    inside = S * prior - S**2 * ((k @ basis) ** 2 / (S * shared.ritz.values + T)).sum(1)
    return inside, S * prior - S**2 * np.einsum("ip,pi->i", k, np.linalg.solve(A, k.T))


@pytest.mark.parametrize("count", [16, 17])
def test_what_variances_lack(count, case):
    """Up to 16 points each has its own; more share sixteen combinations of random signs, and the mean is known."""
    train, test, shared, K = case
    x = test.x[:count]
    points = shared.points(x.copy())
    inside, exact = variances(shared, x, K, train)
    assert points.complete is (count == 16)
    np.testing.assert_allclose(points.power, points.cross**2, rtol=1e-12)
    while not points.space.full and points.unresolved(S, T) > 1e-13:
        left = np.mean(inside - exact) - points.missing(S, T).mean()
        if points.complete:
            assert -1e-12 <= left <= points.unresolved(S, T) + 1e-12
        points.grow()
    missing = points.missing(S, T)
    assert missing.shape == (16,)
    predictor = KrylovPredictor(shared, S, T, (), 0.0)
    found = predictor._at(points, S)
    if points.complete:
        np.testing.assert_allclose(missing, inside - exact, rtol=1e-5, atol=1e-10)
        np.testing.assert_allclose(found.variance, exact, rtol=1e-6)
        assert predictor._variance_error(points) == points.unresolved(S, T)
    else:
        rng = np.random.default_rng([0, 1])
        w = rng.choice([-1.0, 1.0], (count, 16))
        basis, _ = solved_in_space(shared)
        k = fw.kernels.nngp(unit_network(NETWORK), x, train.x)
        A = S * K + T * np.eye(150)
        c = k.T @ w
        lack = (c * np.linalg.solve(A, c)).sum(0) - ((basis.T @ c) ** 2 / (S * shared.ritz.values + T)[:, None]).sum(0)
        np.testing.assert_allclose(missing, S**2 * lack / count, rtol=1e-5, atol=1e-10)
        np.testing.assert_allclose(found.variance, inside * (1.0 - missing.mean() / inside.mean()), rtol=1e-5)
        half = stats.t.ppf(0.995, 15) * missing.std(ddof=1) / 4.0
        assert predictor._variance_error(points) == pytest.approx(half + points.unresolved(S, T), rel=1e-9)
        assert abs(missing.mean() - np.mean(inside - exact)) <= half
    _, solution = solved_in_space(shared)
    k = fw.kernels.nngp(unit_network(NETWORK), x, train.x)
    np.testing.assert_allclose(found.mean, S * k @ solution, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("count", [16, 30])
@pytest.mark.parametrize(("s", "t"), [(S, T), (0.3, 2.0)])
def test_what_is_left_to_find_of_the_variances(count, s, t, case):
    """The lesser of a bound on |r|^2 / T, r the residual of A^-1 c, and of what the last growth found; a point each."""
    train, test, _, K = case
    x = test.x[:count]
    shared = KrylovKernel.of(unit_network(NETWORK), train, Solver("krylov", probes=4, most_dimensions=10))
    points, unit = module.KrylovPoints(shared, x), unit_network(NETWORK)
    signs = np.eye(16) if count == 16 else np.random.default_rng([0, 1]).choice([-1.0, 1.0], (count, 16))
    c, A = fw.kernels.nngp(unit, train.x, x) @ signs, s * K + t * np.eye(150)
    share, ruled = count * (1 if count == 16 else 16), set()
    before = 0.0  # nothing is missing in the space itself
    for _ in range(3):
        *first, own = points.space.bases()
        basis, first = np.concatenate([*first, own], axis=1), np.concatenate(first, axis=1)
        solved = np.linalg.solve(basis.T @ A @ basis, basis.T @ c)
        # how K leads either part of the solution out: of the first space, and of both
        out = [K @ first @ solved[: first.shape[1]], K @ own @ solved[first.shape[1] :]]
        out = [v - space @ (space.T @ v) for v, space in zip(out, (first, basis), strict=True)]
        bound = s**4 * (sum(np.linalg.norm(v, axis=0) for v in out) ** 2).sum() / t
        now = points.missing(s, t).sum() * (count if count > 16 else 1)
        gain = now - before
        before = now
        assert points.unresolved(s, t) * share == pytest.approx(max(min(gain, bound), 0.0), rel=1e-4, abs=1e-9)
        ruled.add("gain" if gain < bound else "bound")
        r = c - A @ (basis @ solved)
        assert s**2 * (r**2).sum() / t <= bound * (1.0 + 1e-9) + 1e-9
        points.grow()
    assert "gain" in ruled
