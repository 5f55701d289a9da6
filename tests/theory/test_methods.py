"""The theories of the action as methods: which theory serves, refusals with their parts, several outputs."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.checks.exceptions import InputError
from finitewidth.inference.likelihoods import Gaussian, Likelihood
from finitewidth.inference.methods import Control, Problem
from finitewidth.theory.general import General, Nested
from finitewidth.theory.integrate import IntegratedNested, IntegratedScale
from finitewidth.theory.local import LocalRenormalisation
from finitewidth.theory.neuron.single import NeuronTheory
from finitewidth.theory.scaled import ScaledKernel, SeveralOutputs
from finitewidth.theory.solver import EXACT, Solver

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
        (ONE, {"method": "integrate"}, IntegratedScale),
        (DEEP, {"method": "integrate"}, IntegratedNested),
        (fw.Convolutional(channels=5, patch=2), {}, LocalRenormalisation),
        (fw.Convolutional(channels=5, patch=2, pool="average"), {}, ScaledKernel),
        (fw.Convolutional(channels=5, patch=2, pool="average"), {"method": "integrate"}, IntegratedScale),
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


RELU = fw.FullyConnected(widths=(9, 9), activation="relu")
CNN, LCN = fw.Convolutional(channels=5, patch=2), fw.LocallyConnected(channels=5, patch=2)
POOLED = fw.Convolutional(channels=5, patch=2, pool="average")


@dataclass(frozen=True)
class Same(Likelihood):
    """Gaussian noise that does not say so."""

    temperature: float = 0.1

    def posterior(self, covariance, y):
        return Gaussian(self.temperature).posterior(covariance, y)


def test_solvers_go_where_they_can():
    krylov = Solver("krylov", 0.05)
    for method in (fw.Saddle, fw.Infinite):
        assert fw.theory_of(ONE, 0.1, method=method(solver=krylov)).solver is krylov
        assert method(solver="krylov:0.05") == method(solver=krylov)
    assert fw.theory_of(ONE, 0.1).solver == Solver()
    assert fw.theory_of(ONE, 0.1, method="integrate").solver == EXACT  # integrals need the whole spectrum
    assert fw.theory_of(RELU, 0.1, method=fw.Saddle(solver=krylov)).solver is krylov  # one scale, no closure needed
    assert fw.theory_of(DEEP, 0.1, method=fw.Saddle("product", krylov)).solver is krylov
    for network, noise, methods, said in (
        (DEEP, 0.1, [fw.Saddle], "the nested closure of a deep network"),
        (LCN, 0.1, [fw.Saddle, fw.Infinite], "LocallyConnected; wanted: one hidden layer"),
        (POOLED, 0.1, [fw.Saddle, fw.Infinite], "Convolutional; wanted: .* fully connected"),
        (Own(), 0.1, [fw.Saddle, fw.Infinite], "Own; wanted"),
        (ONE, Same(), [fw.Saddle, fw.Infinite], "FullyConnected; wanted: .* Gaussian"),
    ):
        for method in methods:
            with pytest.raises(InputError, match=f"solver 'krylov' for {said}.*solver='exact'"):
                method(solver=krylov).serves(Problem(network, Likelihood.of(noise)))


def test_methods_are_values():
    """Equal settings are equal methods; nothing changes them; they say what they are."""
    assert len({fw.Saddle(), fw.Saddle(None, "auto"), fw.Saddle(solver=fw.Solver("auto")), fw.Saddle("product")}) == 2
    for method in (fw.Saddle(), fw.Integrate(), fw.Infinite(), fw.SingleNeuron()):
        assert eval(f"fw.{method!r}") == method
        assert not method.averages
    assert repr(fw.Saddle(closure="product")) == "Saddle(closure='product')"
    with pytest.raises(FrozenInstanceError):
        fw.Saddle().closure = "product"


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: fw.Saddle(closure="neste"), "did you mean 'nested'"),
        (lambda: fw.Integrate(closure="produkt"), "did you mean 'product'"),
        (lambda: fw.Saddle(solver="krilov"), "did you mean 'krylov'"),
        (lambda: fw.Infinite(solver="exakt"), "did you mean 'exact'"),
        (lambda: fw.Integrate(solver="krylov"), r"Integrate\(solver='krylov'\); wanted: keywords among closure"),
        (lambda: fw.Infinite(closure="product"), r"Infinite\(closure='product'\); wanted: keywords among solver"),
        (lambda: fw.SingleNeuron(solver="exact"), "wanted: keywords among particles"),
        (lambda: fw.SingleNeuron(progress=True), "wanted: keywords among particles"),
    ],
)
def test_an_option_that_a_method_does_not_have(made, said):
    with pytest.raises(InputError, match=said):
        made()


NOT_GAUSSIAN = "the likelihood Same.* with order parameters of patches, or with closure 'nested'; wanted: a Gaussian"


@pytest.mark.parametrize(
    ("method", "network", "likelihood", "outputs", "said"),
    [
        (fw.Saddle("product"), CNN, 0.1, 1, "closure = 'product' with Convolutional; wanted: .*; leave closure out"),
        (fw.Saddle("nested"), LCN, 0.1, 1, "closure = 'nested' with LocallyConnected"),
        (fw.Saddle("nested"), POOLED, 0.1, 1, "closure = 'nested' with Convolutional"),
        (fw.Integrate("product"), POOLED, 0.1, 1, "closure = 'product' with Convolutional"),
        (fw.Saddle("product"), Own(), 0.1, 1, "closure = 'product' with Own; wanted: .*a covariance of its own"),
        (fw.Saddle(), Bare(), 0.1, 1, "Bare without a covariance; .*write Bare.covariance"),
        (fw.Infinite(), Bare(), 0.1, 1, "Bare without a covariance"),
        (fw.Integrate(), CNN, 0.1, 1, "method = 'integrate' for Convolutional; wanted: scalar order parameters"),
        (fw.Integrate(), Own(), 0.1, 1, "method = 'integrate' for Own; wanted: scalar order parameters"),
        (fw.SingleNeuron(), DEEP, 0.1, 1, "method = 'neuron' for FullyConnected with 2 hidden layers"),
        (fw.SingleNeuron(), Own(), 0.1, 1, "method = 'neuron' for Own"),
        (fw.Saddle("nested"), DEEP, 0.1, 2, "closure = 'nested' with 2 outputs; wanted: the product closure"),
        (fw.Saddle(solver="krylov"), ONE, 0.1, 2, "solver 'krylov' with 2 outputs; wanted: one output; use solver"),
        (fw.Integrate(), ONE, 0.1, 2, "method = 'integrate' with 2 outputs; wanted: one output; use method='saddle'"),
        (fw.Saddle(), Own(), 0.1, 2, "2 outputs with Own; wanted: one output"),
        (fw.Integrate(), ONE, Same(), 1, "method 'integrate' with the likelihood Same.*; wanted: a Gaussian"),
        (fw.SingleNeuron(), ONE, Same(), 1, "method 'neuron' with the likelihood Same.*; wanted: a Gaussian"),
        (fw.Saddle(), CNN, Same(), 1, NOT_GAUSSIAN),
        (fw.Saddle("nested"), DEEP, Same(), 1, NOT_GAUSSIAN),
    ],
)
def test_what_a_method_does_not_serve(method, network, likelihood, outputs, said):
    problem = Problem(network, Likelihood.of(likelihood))
    with pytest.raises(InputError, match=said):
        method.serves(problem, outputs)
    data = fw.Dataset(np.ones((3, 4, 4)), np.ones((3, outputs)), classes=())
    with pytest.raises(InputError, match=said):
        fw.learning_curve(network, data, data, temperature=likelihood, method=method)


@pytest.mark.parametrize(
    ("method", "network", "outputs"),
    [
        (fw.Saddle(), ONE, 3),
        (fw.Saddle(), DEEP, 3),  # nested for one output, the product closure's matrix for several
        (fw.Saddle("nested"), ONE, 3),  # one layer: closures are the same
        (fw.Saddle("nested"), RELU, 3),
        (fw.Saddle(), CNN, 3),
        (fw.Saddle(), LCN, 3),
        (fw.Infinite(), DEEP, 3),
        (fw.Infinite(), Own(), 3),
        (fw.Integrate("nested"), DEEP, 1),
        (fw.SingleNeuron(), CNN, 3),
    ],
)
def test_what_a_method_serves(method, network, outputs):
    assert method.serves(Problem(network, Gaussian(0.1)), outputs) is None


def test_other_likelihoods_take_the_general_theory():
    cases = (ONE, fw.Saddle()), (DEEP, fw.Saddle("product")), (DEEP, fw.Saddle()), (CNN, fw.Infinite())
    for network, method in cases:
        theory = fw.theory_of(network, Same(0.2), method=method)
        assert (type(theory), theory.temperature, theory.likelihood) == (General, 0.2, Same(0.2))
        assert (theory.method, theory.infinite) == (method.name, method.name == "infinite")


def test_the_single_neuron_theory():
    for network, kind in ((ONE, NeuronTheory), (POOLED, NeuronTheory), (CNN, NeuronTheory)):
        theory = fw.theory_of(network, 0.3, method=fw.SingleNeuron(seed=3))
        assert (type(theory), theory.temperature, theory.options) == (kind, 0.3, fw.SingleNeuron(seed=3))
        assert theory.control == Control()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: fw.theory_of("erf", 0.1), r"network = 'erf'; wanted: a Network; write fw.FullyConnected"),
        (lambda: fw.theory_of(ONE, 0.0), "temperature"),
        (lambda: fw.theory_of(ONE, 0.1, "neste"), "did you mean 'nested'"),
        (lambda: fw.theory_of(ONE, 0.1, method="integral"), "did you mean 'integrate'"),
        (lambda: fw.theory_of(ONE, 0.1, "product", "infinite"), "closure = 'product' with method 'infinite'"),
        (lambda: fw.theory_of(ONE, 0.1, method="sample"), "the theory of method 'sample'; .*write fw.solve"),
    ],
)
def test_refusals(call, said):
    with pytest.raises(InputError, match=said):
        call()


@pytest.mark.parametrize("widths", [(9,), (9, 9)])
@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_the_general_saddle_is_that_of_the_scaled_kernel(widths, activation, train, test_set):
    """Two routes: a spectrum and its scalar equation, or dense algebra and differences; prior precisions unequal."""
    network = fw.FullyConnected(widths, activation=activation, weight_precision=(0.8, *[1.4] * len(widths)))
    general = General(network, Gaussian(0.1)).solve(train)
    known = ScaledKernel(network, 0.1).solve(train)
    assert general.converged
    np.testing.assert_allclose(general.order_parameters, known.order_parameters, rtol=1e-6)
    assert general.log_evidence == pytest.approx(known.log_evidence, rel=1e-9)
    a, b = general.predict(test_set.x), known.predict(test_set.x)
    scale = np.abs(b.mean).max()
    np.testing.assert_allclose(a.mean, b.mean, rtol=1e-7, atol=1e-7 * scale)
    np.testing.assert_allclose(a.variance, b.variance, rtol=1e-7)
    assert a.train_error == pytest.approx(b.train_error, rel=1e-7)
    off = ScaledKernel(network, 0.101).solve(train).predict(test_set.x)  # the control: a temperature 1 % off
    assert np.abs(off.variance / b.variance - 1.0).max() > 1e-4


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
    assert not Nested(DEEP, Gaussian(0.1)).by_default
    with pytest.raises(InputError, match="closure = 'nested' with 2 outputs"):
        Nested(DEEP, Gaussian(0.1)).for_outputs(2)
    assert (ScaledKernel(ONE, 0.1).method, ScaledKernel(ONE, 0.1).solver) == ("saddle", Solver())


def test_the_cap_reaches_the_theory(train):
    from finitewidth.theory.solver import exact_bytes

    need = exact_bytes(train)
    assert fw.solve(fw.theory_of(ONE, 0.1), train, memory=need).converged
    with pytest.raises(fw.MemoryCapError):
        fw.solve(fw.theory_of(ONE, 0.1), train, memory=need - 1.0)
    need = 8.0 * 5 * 12**2 + 3 * train.flat.nbytes  # five arrays of pairs, the inputs three times
    assert fw.solve(fw.theory_of(DEEP, 0.1), train, memory=need).converged
    with pytest.raises(fw.MemoryCapError, match="nested closure on 12 points"):
        fw.solve(fw.theory_of(DEEP, 0.1), train, memory=need - 1.0)
    need = 8.0 * 6 * 12**2 + 3 * train.flat.nbytes
    assert fw.solve(fw.theory_of(Own(widths=(5,)), 0.1), train, memory=need).converged
    with pytest.raises(fw.MemoryCapError, match="the action on 12 points"):
        fw.solve(fw.theory_of(Own(widths=(5,)), 0.1), train, memory=need - 1.0)
