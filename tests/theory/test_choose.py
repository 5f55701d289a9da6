"""From names to theories: defaults, refusals with their parts, what several outputs make of a theory."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.exceptions import InputError
from finitewidth.linalg import Spectrum
from finitewidth.prediction import Errors, Prediction
from finitewidth.theory.general import General
from finitewidth.theory.integrate import Integrated
from finitewidth.theory.local import LocalRenormalisation
from finitewidth.theory.nested import Nested
from finitewidth.theory.outputs import SeveralOutputs
from finitewidth.theory.rows import TheoryRow as Row
from finitewidth.theory.rows import row_of
from finitewidth.theory.scaled import KernelSpectrum, ScaledKernel, unit_network
from finitewidth.theory.solver import Solver
from finitewidth.theory.validity import Validity

ONE, DEEP = fw.FullyConnected(widths=(9,)), fw.FullyConnected(widths=(9, 9))


@dataclass(frozen=True)
class Bare(fw.Network):
    widths: object = 100


@dataclass(frozen=True)
class Own(fw.Network):
    widths: object = 100

    def covariance(self, order_parameters, x1, x2):
        return np.prod(order_parameters) * (x1 @ x2.T)


@pytest.mark.parametrize(
    ("network", "options", "kind"),
    [
        (ONE, {}, ScaledKernel),
        (ONE, {"closure": "nested"}, ScaledKernel),
        (DEEP, {}, Nested),
        (DEEP, {"closure": "nested"}, Nested),
        (DEEP, {"closure": "product"}, ScaledKernel),
        (fw.FullyConnected(widths=(9, 9), activation="relu"), {"closure": "nested"}, ScaledKernel),
        (fw.FullyConnected(widths=(9, 9), activation="relu", offset_precision=1.0), {}, Nested),
        (DEEP, {"method": "infinite"}, ScaledKernel),
        (ONE, {"method": "integrate"}, Integrated),
        (DEEP, {"method": "integrate"}, Integrated),
        (fw.Convolutional(channels=5, patch=2), {}, LocalRenormalisation),
        (fw.Convolutional(channels=5, patch=2, pool="average"), {}, ScaledKernel),
        (fw.Convolutional(channels=5, patch=2, pool="average"), {"method": "integrate"}, Integrated),
        (fw.Convolutional(channels=5, patch=2), {"method": "infinite"}, ScaledKernel),
        (Own(widths=(3,)), {}, General),
        (Own(widths=(3,)), {"method": "infinite"}, General),
    ],
)
def test_the_theory_that_serves(network, options, kind):
    theory = fw.theory_of(network, 0.3, **options)
    assert type(theory) is kind
    assert (theory.temperature, theory.network) == (0.3, network)
    infinite = options.get("method") == "infinite"
    assert getattr(theory, "infinite", False) is infinite
    assert theory.method == options.get("method", "saddle")
    if kind is Nested:
        assert theory.by_default is ("closure" not in options)
    if infinite:
        assert theory.widths == ()


def test_solvers_go_where_they_can():
    krylov = Solver("krylov", 0.05)
    assert fw.theory_of(ONE, 0.1, method=fw.Saddle(solver=krylov)).solver is krylov
    assert fw.theory_of(ONE, 0.1, method=fw.Infinite(solver=krylov)).solver is krylov
    assert fw.theory_of(ONE, 0.1).solver == Solver()
    integrated = fw.theory_of(ONE, 0.1, method=fw.Integrate(solver="auto:0.05")).theory
    assert integrated.solver == Solver("exact", 0.05)  # integrals need the whole spectrum
    for network, options, said in (
        (DEEP, {}, "solver 'krylov' for the nested closure of a deep network"),
        (ONE, {"method": "integrate"}, "solver 'krylov' for method 'integrate' with FullyConnected"),
        (fw.LocallyConnected(channels=5, patch=2), {}, "solver 'krylov' for method 'saddle' with LocallyConnected"),
    ):
        with pytest.raises(InputError, match=said):
            fw.theory_of(network, 0.1, solver=krylov, **options)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: fw.theory_of("erf", 0.1), r"network = 'erf'; wanted: a Network; write fw.FullyConnected"),
        (lambda: fw.theory_of(ONE, 0.0), "temperature"),
        (lambda: fw.theory_of(ONE, 0.1, "neste"), "did you mean 'nested'"),
        (lambda: fw.theory_of(ONE, 0.1, method="integral"), "method"),
        (
            lambda: fw.theory_of(ONE, 0.1, method=fw.SingleNeuron()),
            "options of method 'neuron' with method = 'sa",
        ),
        (
            lambda: fw.theory_of(fw.Convolutional(channels=5, patch=2), 0.1, method="integrate"),
            "method = 'integrate' for a network on patches; wanted: scalar",
        ),
        (lambda: fw.theory_of(Bare(), 0.1), "Bare without a covariance"),
        (lambda: fw.theory_of(Own(), 0.1, "product"), "closure = 'product' with Own; wanted: its own covariance"),
        (lambda: fw.theory_of(Own(), 0.1, method="integrate"), "method = 'integrate' with Own"),
        (lambda: fw.solve(ONE, None), "a theory; write fw.theory_of"),
        (lambda: fw.solve(fw.theory_of(ONE, 0.1), [1, 2]), r"train = \[1, 2\]; wanted: a Dataset; write fw.Dataset"),
    ],
)
def test_refusals(call, said):
    with pytest.raises(InputError, match=said):
        call()


def test_what_several_outputs_make_of_it():
    for theory in (fw.theory_of(ONE, 0.2), fw.theory_of(DEEP, 0.2), fw.theory_of(DEEP, 0.2, "product")):
        assert theory.for_outputs(1) is theory
        several = theory.for_outputs(2)
        assert (type(several), several.network, several.temperature) == (SeveralOutputs, theory.network, 0.2)
    for theory in (
        fw.theory_of(fw.Convolutional(channels=5, patch=2), 0.2),
        fw.theory_of(DEEP, 0.2, method="infinite"),
    ):
        assert theory.for_outputs(3) is theory
    for theory, said in (
        (fw.theory_of(ONE, 0.2, method="integrate"), "method = 'integrate' with 3 outputs; wanted: one output"),
        (fw.theory_of(DEEP, 0.2, "nested"), "closure = 'nested' with 3 outputs"),
        (
            fw.theory_of(ONE, 0.2, method=fw.Saddle(solver="krylov")),
            "solver 'krylov' with 3 outputs; wanted: one output",
        ),
    ):
        with pytest.raises(InputError, match=said):
            theory.for_outputs(3)
        assert theory.for_outputs(1) is theory


def test_a_closure_named_by_hand_was_asked_for():
    assert not Nested(DEEP, 0.1).by_default
    with pytest.raises(InputError, match="closure = 'nested' with 2 outputs"):
        Nested(DEEP, 0.1).for_outputs(2)
    assert (ScaledKernel(ONE, 0.1).method, ScaledKernel(ONE, 0.1).solver) == ("saddle", Solver())


def test_the_cap_reaches_the_theory(train):
    from finitewidth.theory.solver import exact_bytes

    need = exact_bytes(train)
    assert fw.solve(fw.theory_of(ONE, 0.1), train, need).converged
    with pytest.raises(fw.MemoryCapError):
        fw.solve(fw.theory_of(ONE, 0.1), train, need - 1.0)
    need = 8.0 * 5 * 12**2 + 3 * train.flat.nbytes  # five arrays of pairs, the inputs three times
    assert fw.solve(fw.theory_of(DEEP, 0.1), train, need).converged
    with pytest.raises(fw.MemoryCapError, match="nested closure on 12 points"):
        fw.solve(fw.theory_of(DEEP, 0.1), train, need - 1.0)
    need = 8.0 * 6 * 12**2 + 3 * train.flat.nbytes
    assert fw.solve(fw.theory_of(Own(widths=(5,)), 0.1), train, need).converged
    with pytest.raises(fw.MemoryCapError, match="the action on 12 points"):
        fw.solve(fw.theory_of(Own(widths=(5,)), 0.1), train, need - 1.0)


# --- spectra that are kept --------------------------------------------------------------------------------------------


def test_spectra_are_asked_of_the_keeper_while_it_is_there(train):
    asked = []

    def keeper(network, x, compute):
        asked.append(network)
        found = compute(x)
        return Spectrum(2.0 * found.values, found.vectors)

    plain = KernelSpectrum.of(ONE, train).spectrum.values
    with kept.keeping(keeper):
        doubled = KernelSpectrum.of(ONE, train).spectrum.values
        with kept.keeping(lambda network, x, compute: Spectrum(np.zeros(12), np.eye(12))):
            assert (KernelSpectrum.of(ONE, train).spectrum.values == 0.0).all()
        KernelSpectrum.of(ONE, train)
    np.testing.assert_allclose(doubled, 2.0 * plain)
    assert asked == [unit_network(ONE)] * 2
    np.testing.assert_array_equal(KernelSpectrum.of(ONE, train).spectrum.values, plain)
    with pytest.raises(ZeroDivisionError), kept.keeping(keeper):
        raise ZeroDivisionError
    KernelSpectrum.of(ONE, train)
    assert len(asked) == 2


# --- rows of learning curves ------------------------------------------------------------------------------------------


def solution_of(train, **parts):
    """A converged solution whose predictor says what it is told."""
    mean, variance, error = parts.pop("mean", 0.5), parts.pop("variance", 0.25), parts.pop("train_error", 0.125)
    predictor = SimpleNamespace(predict=lambda x: Prediction(np.full(len(x), mean), np.full(len(x), variance), error))
    solved = fw.solve(fw.theory_of(parts.pop("network", ONE), 0.1), train)
    return dataclasses.replace(solved, predictor=predictor, gradient=None, **parts)


def test_a_row_is_its_solution(train, test_set):
    solution = solution_of(train, message="note")
    row = row_of(solution, test_set, -1e6)
    bias = float(np.mean((test_set.y - 0.5) ** 2))
    assert (row.bias, row.variance, row.train_error) == (pytest.approx(bias), 0.25, 0.125)
    assert row.test_error == pytest.approx(bias + 0.25)
    assert (row.width, row.depth, row.temperature, row.n_train) == (9, 1, 0.1, 12)
    assert (row.method, row.closure, row.solver, row.message) == ("saddle", "product", "exact", "note")
    assert (row.solver_error, row.log_evidence_error, row.accuracy, row.validity) == (None, None, None, None)
    assert row.order_parameters == solution.order_parameters.tolist()
    assert row.log_evidence == solution.log_evidence
    assert row.seconds > 1e6
    deep = solution_of(train, network=fw.FullyConnected(widths=(9, 4)))
    assert (row_of(deep, test_set, 0.0).width, row_of(deep, test_set, 0.0).depth) == ((9, 4), 2)
    assert row_of(solution_of(train, network=DEEP), test_set, 0.0).width == 9
    sized = dataclasses.replace(solution, errors=SimpleNamespace(log_evidence=0.75))
    assert (row_of(sized, test_set, 0.0).log_evidence_error, row_of(sized, test_set, 0.0).solver) == (0.75, "krylov")


@pytest.mark.parametrize("bad", [{"mean": np.inf}, {"variance": np.nan}, {"train_error": np.inf}])
def test_errors_beyond_double_precision_are_no_result(bad, train, test_set):
    with np.errstate(invalid="ignore"):
        row = row_of(solution_of(train, **bad), test_set, 0.0)
    assert not row.converged
    assert "beyond double precision" in row.message
    assert np.isnan([row.test_error, row.train_error, row.bias, row.variance]).all()


def test_plain_data_of_a_row(train, test_set, unchangeable, monkeypatch):
    unchangeable(curves)
    row = row_of(solution_of(train), test_set, 0.0)
    monkeypatch.setattr(curves, "validity", lambda solution: Validity(0.5, "words"))
    said = dataclasses.replace(row, assessed=solution_of(train), order_parameters=[1.0, 2.0])
    plain = json.loads(json.dumps(said.to_dict()))
    assert plain["validity"] == {"expected_relative_error": 0.5, "statement": "words"}
    assert plain["order_parameters"] == [1.0, 2.0]
    assert set(plain) == {f.name for f in dataclasses.fields(Row)} - {"assessed"} | {"validity"}
    assert row.to_dict()["validity"] is None
    assert set(Errors.__dataclass_fields__) <= set(plain)


def test_a_curve_is_its_rows(train, test_set):
    curve = fw.learning_curve(ONE, train, test_set, widths=[5, 20], temperature=0.3)
    assert (len(curve), [row.width for row in curve], curve[1].width, curve[-1].width) == (2, [5, 20], 20, 20)
    assert curve.column("temperature").tolist() == [0.3, 0.3]
    (row,) = fw.learning_curve(ONE, train, test_set)
    assert (row.temperature, row.method, row.n_train) == (0.05, "saddle", 12)
    whole = fw.learning_curve(ONE, train, test_set, n_train=[12, 3])
    assert whole.column("n_train").tolist() == [12, 3]
    with pytest.raises(InputError, match="n_train = 13; wanted: at most 12 points"):
        fw.learning_curve(ONE, train, test_set, n_train=[13])
    for arguments, said in (
        (("erf", train, test_set), "network = 'erf'; wanted: a Network"),
        ((ONE, 3, test_set), "train = 3; wanted: a Dataset"),
        ((ONE, train, 4), "test = 4; wanted: a Dataset"),
    ):
        with pytest.raises(InputError, match=said):
            fw.learning_curve(*arguments)


def test_what_rows_share(train, test_set):
    theory = fw.theory_of(ONE, 0.1)
    row, shared = solved_row(theory, train, test_set)
    assert isinstance(shared, KernelSpectrum)
    again, same = solved_row(theory, train, test_set, shared)
    assert same is shared
    assert (again.log_evidence, again.validity) == (row.log_evidence, None)
    assessed, _ = solved_row(theory, train, test_set, shared, None, True)
    assert assessed.validity is not None


def test_a_test_error_off_by_more_than_the_accuracy_is_no_result(train, test_set, monkeypatch):
    from finitewidth.theory.krylov import KrylovPredictor

    for error, fine in ((0.01, True), (0.0101, False), (np.nan, False)):
        monkeypatch.setattr(KrylovPredictor, "estimated_error", lambda self, x, y, error=error: error)
        (row,) = fw.learning_curve(ONE, train, test_set, temperature=0.5, method=fw.Saddle(solver="krylov"))
        assert row.converged is fine
        assert row.solver_error is error
        assert np.isfinite(row.test_error) == fine
        assert ("test error off by up to" in row.message) is not fine
