"""The Krylov way against the eigendecomposition: errors within their estimates, edges, refusals, negative controls."""

from __future__ import annotations

import json

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.checks.exceptions import InputError, MemoryCapError
from finitewidth.theory.krylov import KrylovKernel, KrylovPredictor
from finitewidth.theory.scaled import KernelSpectrum, unit_network
from finitewidth.theory.spectrum import ScalePredictor

WIDTHS = [5, 50, 500, 10**12]
NETWORK = fw.FullyConnected(widths=(50,))


def data(count=300, points=80, inputs=30, seed=0):
    """Inputs with decaying directions, a noisy nonlinear target."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count + points, inputs)) * np.arange(1, inputs + 1) ** -0.5 * 2.0
    y = np.sin(x[:, 0]) + 0.5 * x[:, 1] * x[:, 2] + 0.3 * rng.standard_normal(count + points)
    return fw.Dataset(x[:count], y[:count], classes=()), fw.Dataset(x[count:], y[count:], classes=())


def solver(**options):
    return fw.Solver("krylov", **options)


def kernel(train, network=NETWORK, **options):
    return KrylovKernel.of(unit_network(network), train, solver(**options))


@pytest.mark.parametrize(
    "network",
    [
        NETWORK,
        fw.FullyConnected(widths=(50, 50), weight_precision=(1.0, 2.0, 0.5)),
        fw.FullyConnected(widths=(50,), activation="relu", offset_precision=2.0),
        fw.FullyConnected(widths=(50,), activation="linear", readout="mean-field"),
    ],
    ids=["erf", "deep", "relu", "linear"],
)
def test_a_learning_curve_from_one_space(network):
    """Test error within the accuracy, and every error within its estimate."""
    train, test = data(500)
    arguments = {"widths": WIDTHS[:3], "temperature": [0.05, 0.5]}
    closure = "product" if network.depth > 1 else None
    exact, found = (
        fw.learning_curve(network, train, test, **arguments, method=fw.Saddle(closure, way))
        for way in ("exact", solver(most_dimensions=400))
    )
    for row, truth in zip(found, exact, strict=True):
        assert (row.converged, row.solver, truth.solver) == (True, "krylov", "exact")
        off = abs(row.test_error / truth.test_error - 1.0)
        assert off <= row.solver_error + 1e-9
        assert row.solver_error <= 0.01
        assert abs(row.log_evidence - truth.log_evidence) <= row.log_evidence_error + 1e-6
        np.testing.assert_allclose(row.order_parameters, truth.order_parameters, rtol=0.01)
        assert row.train_error == pytest.approx(truth.train_error, rel=0.01)


def test_energies_at_every_scale():
    """log det(1 + s K / T) within 1 %, the quadratic form and drive too, from one space and for every s."""
    train, _ = data()
    shared, exact = kernel(train), KernelSpectrum.of(NETWORK, train)
    for _ in range(3):
        shared.grow()
    for s in (0.01, 0.1, 1.0, 10.0, 100.0):
        log_det = shared.energy.multiplicity @ np.log1p(s * shared.energy.values / 0.05)
        truth = np.log1p(s * exact.spectrum.values / 0.05).sum()
        assert log_det == pytest.approx(truth, rel=0.01)
        errors = shared.errors(s, 0.05, (), 0.0)
        assert abs(log_det - truth) <= errors.log_det + 1e-9
        off = abs(shared.energy.energy(s, 0.05) - exact.energy.energy(s, 0.05))
        assert off <= errors.log_evidence + 1e-9


@pytest.mark.statistical
def test_estimates_cover_over_seeds():
    """99 % intervals of the test error and the log determinant; the control shrinks them tenfold."""
    train, test = data(400, 60)
    exact = fw.solve(fw.theory_of(NETWORK, 0.05, method=fw.Saddle(solver="exact")), train)
    truth = fw.predict(exact, test.x).errors(test.y).test_error
    ratios = []
    for seed in range(10):
        options = solver(seed=seed, probes=8, test_probes=8, most_dimensions=200)
        solution = fw.solve(fw.theory_of(NETWORK, 0.05, method=fw.Saddle(solver=options)), train)
        found = fw.predict(solution, test.x).errors(test.y).test_error
        estimate = solution.predictor.estimated_error(test.x, test.y)
        evidence = abs(solution.log_evidence - exact.log_evidence)
        ratios.append((abs(found / truth - 1.0) / estimate, evidence / solution.solver_errors.log_evidence))
    assert np.max(ratios) <= 1.0
    assert (10.0 * np.array(ratios) > 1.0).any(0).all()


def test_infinite_width():
    """N -> infinity and no order parameter at all are the Gaussian process."""
    train, test = data()
    wide, limit = (
        fw.learning_curve(NETWORK, train, test, widths, 0.1, method=method(solver=solver()))[0]
        for widths, method in (([10**12], fw.Saddle), (None, fw.Infinite))
    )
    exact = fw.learning_curve(NETWORK, train, test, None, 0.1, method=fw.Infinite(solver="exact"))[0]
    assert wide.test_error == pytest.approx(limit.test_error, rel=1e-8)
    assert limit.test_error == pytest.approx(exact.test_error, rel=0.01)
    assert limit.order_parameters == []


def test_few_test_points_have_exact_variances():
    """As many probes as points: each gets its own kernel."""
    train, test = data(points=10)
    exact, found = (
        fw.solve(fw.theory_of(NETWORK, 0.2, method=fw.Saddle(solver=s)), train)
        for s in ("exact", solver(accuracy=1e-3))
    )
    truth, given = (fw.predict(s, test.x) for s in (exact, found))
    scale = found.order_parameters[0] / exact.order_parameters[0]
    np.testing.assert_allclose(given.variance, truth.variance, rtol=2e-3 + abs(scale - 1.0))
    np.testing.assert_allclose(given.mean, truth.mean, atol=1e-3)


def test_means_stay_within_their_bound():
    """At equal scale: |error| <= sqrt(variance) residual, for a space that is far too small."""
    train, test = data()
    shared = kernel(train, probes=4, most_dimensions=30)
    predictor, errors = KrylovPredictor(shared, 1.0, 0.05, (), 0.0), shared.errors(1.0, 0.05, (), 0.0)
    exact = ScalePredictor(KernelSpectrum.of(NETWORK, train), np.ones(1), np.ones(1), 0.05).predict(test.x)
    found = predictor._at(shared.points(test.x), 1.0)
    assert errors.residual > 0.01
    assert (np.abs(found.mean - exact.mean) <= errors.residual * exact.std * (1.0 + 1e-6) + 1e-9).all()


def test_too_small_a_space_says_so():
    """The negative control: few dimensions miss the accuracy, the estimate covers, and no row looks like a result."""
    train, test = data()
    exact = fw.learning_curve(NETWORK, train, test, [50], 1e-3, method=fw.Saddle(solver="exact"))[0]
    row = fw.learning_curve(NETWORK, train, test, [50], 1e-3, method=fw.Saddle(solver=solver(most_dimensions=40)))[0]
    assert (row.converged, row.solver) == (False, "krylov")
    assert "above the accuracy" in row.message
    assert np.isnan(row.test_error)
    solution = fw.solve(fw.theory_of(NETWORK, 1e-3, method=fw.Saddle(solver=solver(most_dimensions=40))), train)
    assert not solution.converged
    assert abs(solution.log_evidence - exact.log_evidence) > 1.0
    found = fw.predict(solution, test.x).errors(test.y).test_error
    off = abs(found / exact.test_error - 1.0)
    assert 0.01 < off <= solution.predictor.estimated_error(test.x, test.y)


def test_single_precision_at_a_tiny_temperature_is_reported():
    """Noise of the kernel's entries drowns the answer; double precision does not."""
    train, _ = data()
    options = {"precision": "single", "most_dimensions": 500}
    coarse = fw.solve(fw.theory_of(NETWORK, 1e-7, method=fw.Infinite(solver=solver(**options))), train)
    fine = fw.solve(fw.theory_of(NETWORK, 1e-7, method=fw.Infinite(solver=solver(most_dimensions=500))), train)
    exact = fw.solve(fw.theory_of(NETWORK, 1e-7, method=fw.Infinite(solver="exact")), train)
    assert coarse.solver_errors.single_precision
    assert abs(coarse.log_evidence - exact.log_evidence) <= coarse.solver_errors.log_evidence
    assert not coarse.converged
    assert "precision='double'" in coarse.message
    assert fine.converged
    assert fine.log_evidence == pytest.approx(exact.log_evidence, rel=1e-6)


def test_single_precision_where_it_is_enough():
    train, test = data()
    rows = [
        fw.learning_curve(NETWORK, train, test, [50], 0.05, method=fw.Saddle(solver=solver(precision=p)))[0]
        for p in ("single", "double")
    ]
    assert rows[0].test_error == pytest.approx(rows[1].test_error, rel=1e-4)
    assert rows[0].log_evidence == pytest.approx(rows[1].log_evidence, abs=0.01)


@pytest.mark.parametrize("case", ["fewer points than probes", "copies", "constant", "zero", "one point"])
def test_edges(case):
    """Spaces that end early are exact, or as good as their estimate says."""
    train, test = data(60, 12)
    x, y = np.array(train.x), np.array(train.y)
    if case == "fewer points than probes":
        x, y = x[:9], y[:9]
    elif case == "one point":
        x, y = x[:1], y[:1]
    elif case == "copies":
        x, y = np.concatenate([x[:20]] * 3), y
    elif case == "constant":
        y = np.ones(60)
    else:
        y = np.zeros(60)
    train = fw.Dataset(x, y, classes=())
    exact = fw.learning_curve(NETWORK, train, test, WIDTHS, 0.05, method=fw.Saddle(solver="exact"))
    found = fw.learning_curve(NETWORK, train, test, WIDTHS, 0.05, method=fw.Saddle(solver=solver()))
    for row, truth in zip(found, exact, strict=True):
        assert row.converged
        assert abs(row.test_error / truth.test_error - 1.0) <= row.solver_error + 1e-7
        assert abs(row.log_evidence - truth.log_evidence) <= row.log_evidence_error + 1e-6


def test_seeds_repeat():
    train, test = data(200, 40)
    options = {"widths": [50], "temperature": 0.5}
    rows = [
        fw.learning_curve(
            NETWORK, train, test, **options, method=fw.Saddle(solver=solver(seed=seed, most_dimensions=150))
        )[0]
        for seed in (3, 3, 4)
    ]
    assert rows[0].log_evidence == rows[1].log_evidence
    assert rows[0].test_error == rows[1].test_error
    assert rows[0].log_evidence != rows[2].log_evidence


def test_the_kernel_made_anew_is_the_kernel_kept():
    train, test = data(600, 40)
    need = fw.theory.solver.krylov_bytes(train, solver())
    theory = fw.theory_of(NETWORK, 0.5, method=fw.Saddle(solver=solver()))
    kept, anew = (fw.solve(theory, train, memory=cap) for cap in (1e9, need + 1e3))
    assert kept.solver_errors.stored
    assert not anew.solver_errors.stored
    assert kept.errors(test).test_error == pytest.approx(anew.errors(test).test_error, rel=1e-9)
    with pytest.raises(MemoryCapError, match="most_dimensions"):
        fw.solve(theory, train, memory=0.9 * need)


class TestChoice:
    def chosen(self, given, train, memory=None, network=NETWORK):
        return fw.Solver.of(given).uses_krylov(network, train, memory)

    def test_by_memory_and_accuracy(self):
        train, _ = data(7000, 2, inputs=3)
        assert not self.chosen("auto", train, 1e10)
        assert self.chosen("auto", train, 1e9)
        assert self.chosen("auto:0.01", train, 1e10)
        assert not self.chosen("auto:0.00001", train, 1e9)  # refused by the eigendecomposition
        assert not self.chosen("auto", train, 1e6)  # by both
        assert not self.chosen("exact", train, 1e6)
        assert self.chosen("krylov", train, 1e10)

    def test_it_is_stated_in_the_output(self):
        train, test = data(200, 20)
        rows = fw.learning_curve(NETWORK, train, test, [50], 0.5, method=fw.Saddle(solver="krylov:0.02"))
        from finitewidth.display import tables

        (note,) = [str(n) for n in tables.notes(rows) if "Krylov" in str(n)]
        assert "99 %" in note
        plain = rows.to_dicts()[0]
        assert (plain["solver"], json.loads(json.dumps(plain))["solver_error"] < 0.02) == ("krylov", True)

    @pytest.mark.parametrize(
        ("given", "wanted"),
        [
            ("krilov", "did you mean 'krylov'"),
            ("krylov:", "krylov:0.01"),
            ("krylov:x", "a number"),
            ("krylov:2", "below 1"),
            ("auto:-1", "above 0"),
        ],
    )
    def test_names(self, given, wanted):
        with pytest.raises(InputError, match=wanted):
            fw.Solver.of(given)

    @pytest.mark.parametrize("options", [{"probes": 3}, {"test_probes": 1}, {"precision": "half"}, {"seed": -1}])
    def test_options(self, options):
        with pytest.raises(InputError):
            solver(**options)

    @pytest.mark.parametrize(
        ("network", "wanted"),
        [
            (fw.FullyConnected(widths=(9, 9)), "nested closure"),
            (fw.Convolutional(channels=9, patch=2), "solver 'krylov' for Convolutional; wanted: .*only rescaled"),
            (fw.Convolutional(channels=9, patch=2, pool="average"), "fully connected"),
        ],
    )
    def test_theories_that_do_more_than_rescale(self, network, wanted, rng):
        train = fw.Dataset(rng.standard_normal((12, 4, 4)), rng.standard_normal(12), classes=())
        with pytest.raises(InputError, match=wanted):
            fw.solve(network, train, 0.1, fw.Saddle(solver="krylov"))

    def test_a_homogeneous_deep_network_needs_no_closure(self):
        fw.theory_of(fw.FullyConnected(widths=(9, 9), activation="relu"), 0.1, method=fw.Saddle(solver="krylov"))

    def test_several_outputs(self, rng):
        train = fw.Dataset(rng.standard_normal((12, 4)), rng.standard_normal((12, 2)), classes=())
        for method in (fw.Saddle, fw.Infinite):
            with pytest.raises(InputError, match="2 outputs; wanted: one output"):
                fw.solve(NETWORK, train, 0.1, method(solver="krylov"))

    def test_no_gradient_of_the_evidence(self):
        train, _ = data(100, 2)
        solution = fw.solve(fw.theory_of(NETWORK, 0.5, method=fw.Saddle(solver=solver())), train)
        with pytest.raises(InputError, match="solver='exact'"):
            solution.evidence_gradient()


def test_on_dask_workers():
    """The whole curve, its products on workers: equal to the one of this process."""
    distributed = pytest.importorskip("distributed")
    train, test = data(300, 40)
    here = fw.learning_curve(NETWORK, train, test, [50], 0.1, method=fw.Saddle(solver=solver()))[0]
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        there = fw.learning_curve(NETWORK, train, test, [50], 0.1, method=fw.Saddle(solver=solver(client=client)))[0]
    assert there.test_error == pytest.approx(here.test_error, rel=1e-12)
    assert there.log_evidence == pytest.approx(here.log_evidence, rel=1e-12)


class TestCommandLine:
    DATA = ("--data", "digits", "--classes", "3,8", "--n-train", "60", "--n-test", "30", "--width", "20")

    def test_json_states_the_solver(self, capsys):
        from finitewidth.cli import main

        for solver_name, error in (("krylov:0.05", True), ("auto", False)):
            assert main(["predict", *self.DATA, "--solver", solver_name, "--json"]) == 0
            (row,) = json.loads(capsys.readouterr().out)["rows"]
            assert row["solver"] == ("krylov" if error else "exact")
            assert (row["solver_error"] is not None) == error

    @pytest.mark.parametrize("options", [("--depth", "2"), ("--method", "neuron"), ("--classes", "1,2,3")])
    def test_refusals_take_one_line(self, options, capsys):
        from finitewidth.cli import main

        assert main(["predict", *self.DATA, "--solver", "krylov", *options]) == 2
        assert capsys.readouterr().err.count("wanted:") == 1
