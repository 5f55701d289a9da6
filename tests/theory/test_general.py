"""Architectures of one's own: the package's networks written as such give the package's numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.theory.rows import row_of
from finitewidth.theory.validity import validity


@dataclass(frozen=True)
class Bare(fw.Network):
    widths: object = 100


@dataclass(frozen=True)
class Dense(fw.Network):
    """Fully connected, in the nested closure: ``K_l = Q_l kappa[K_{l-1}] / lambda_l``."""

    widths: object = 100

    def covariance(self, order_parameters, x1, x2):
        precisions = np.asarray(self.weight_precision)
        renormalised = (precisions[0], *(precisions[1:] / order_parameters))
        dense = fw.FullyConnected(self.widths, activation=self.phi, weight_precision=renormalised)
        return fw.kernels.nngp(dense, x1, x2)


@dataclass(frozen=True)
class Skip(fw.Network):
    """``f = v.phi(W x / sqrt(N0)) / sqrt(N) + u.x / sqrt(N0)``: the skip has no hidden layer to renormalise."""

    widths: object = 100

    def covariance(self, order_parameters, x1, x2):
        linear = x1 @ x2.T / x1.shape[1]
        dense = fw.FullyConnected(self.widths, activation=self.phi, weight_precision=self.weight_precision)
        hidden = fw.kernels.nngp(dense, x1, x2)
        return order_parameters[0] * hidden + linear / self.weight_precision[1]

    def init_hidden(self, key, input_shape):
        import jax

        return jax.random.normal(key, (self.widths[0], input_shape[0])) / self.weight_precision[0] ** 0.5

    def features(self, hidden, x):
        import jax.numpy as jnp

        phi = self.phi.jax_function(x @ hidden.T / x.shape[1] ** 0.5)
        return jnp.concatenate([phi / self.widths[0] ** 0.5, x / x.shape[1] ** 0.5], axis=1)

    def hidden_log_prior(self, hidden):
        return -0.5 * self.weight_precision[0] * (hidden**2).sum()

    def n_features(self, input_shape):
        return self.widths[0] + input_shape[0]


@pytest.mark.parametrize("widths", [(7,), (1_000_000,), (6, 30)])
def test_equals_the_networks_of_the_package(widths, train, test_set):
    prior = {"activation": "relu", "weight_precision": [0.7, *[1.3] * len(widths)]}
    closure = None if len(widths) == 1 else "nested"
    ours = fw.solve(fw.theory_of(Dense(widths=widths, **prior), 0.1), train)
    theirs = fw.solve(fw.theory_of(fw.FullyConnected(widths=widths, **prior), 0.1, closure), train)
    assert ours.converged
    if len(widths) == 1:
        deviation = np.sqrt(2 / widths[0])  # of log Q under its prior: the unit of the solver's tolerance
        assert ours.order_parameters == pytest.approx(theirs.order_parameters, rel=1e-5 * deviation)
    assert ours.log_evidence == pytest.approx(theirs.log_evidence, rel=1e-9)
    a, b = (fw.predict(solution, test_set.x) for solution in (ours, theirs))
    np.testing.assert_allclose(a.mean, b.mean, rtol=1e-6)
    np.testing.assert_allclose(a.variance, b.variance, rtol=1e-6)
    assert a.train_error == pytest.approx(b.train_error, rel=1e-6)


def test_two_layers_in_the_nested_closure(train):
    """erf, where the closures differ."""
    ours = fw.solve(fw.theory_of(Dense(widths=(6, 30)), 0.05), train)
    theirs = fw.solve(fw.theory_of(fw.FullyConnected(widths=(6, 30)), 0.05), train)
    np.testing.assert_allclose(ours.order_parameters, theirs.order_parameters, rtol=1e-4)
    assert ours.log_evidence == pytest.approx(theirs.log_evidence, rel=1e-9)


def test_evidence_gradient(train):
    solution = fw.solve(fw.theory_of(Dense(widths=(7,), weight_precision=[0.7, 1.3]), 0.1), train)
    known = fw.FullyConnected((7,), weight_precision=[0.7, 1.3])
    expected = fw.solve(fw.theory_of(known, 0.1), train).evidence_gradient()
    found = solution.evidence_gradient()
    assert found["temperature"] == pytest.approx(expected["temperature"], rel=1e-4)
    np.testing.assert_allclose(found["weight_precision"], expected["weight_precision"], rtol=1e-4)


def test_select_climbs_its_evidence(train):
    chosen = fw.select(Dense(widths=(10,)), train, widths=[10, 40], optimise=["temperature"])
    known = fw.select(fw.FullyConnected((10,)), train, widths=[10, 40], optimise=["temperature"])
    assert chosen.temperature == pytest.approx(known.temperature, rel=1e-3)
    assert [c.width for c in chosen.table] == [c.width for c in known.table]


def test_infinite_width_is_the_covariance_at_one(train, test_set):
    network = Skip(activation="erf")
    solution = fw.solve(fw.theory_of(network, 0.1, method="infinite"), train)
    limit = fw.predict(solution, test_set.x)
    wide = fw.predict(fw.solve(fw.theory_of(network.with_width(10**9), 0.1), train), test_set.x)
    np.testing.assert_allclose(wide.mean, limit.mean, rtol=1e-6)
    gram = fw.kernels.nngp(network, train.x) + 0.1 * np.eye(len(train))
    expected = fw.kernels.nngp(network, test_set.x, train.x) @ np.linalg.solve(gram, train.y)
    np.testing.assert_allclose(limit.mean, expected, rtol=1e-10)
    ends = [fw.solve(fw.theory_of(network, t, method="infinite"), train).log_evidence for t in (0.1001, 0.0999)]
    assert solution.evidence_gradient()["temperature"] == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=1e-4)


def test_curve_and_validity(train, test_set):
    curve = fw.learning_curve(Skip(), train, test_set, widths=[5, 50], temperature=0.1)
    assert [row.width for row in curve] == [5, 50]
    assert all(row.converged and row.validity is None for row in curve)
    solution = fw.solve(fw.theory_of(Skip(), 0.1), train)
    with pytest.raises(fw.InputError, match="the validity of a solution of Skip"):
        validity(solution)
    assert row_of(solution, test_set, 0.0).closure == "own"


def drawn_covariance(network, x, count):
    """Mean of f f' over finite networks, readouts averaged out, and its standard error."""
    import jax

    with jax.enable_x64(True):

        def gram(key):
            phi = network.features(network.init_hidden(key, x.shape[1:]), x)
            return phi @ phi.T / network.weight_precision[-1]

        draws = np.asarray(jax.jit(jax.vmap(gram))(jax.random.split(jax.random.key(0), count)))
    return draws.mean(0), draws.std(0, ddof=1) / np.sqrt(count)


@pytest.mark.statistical
def test_covariance_is_that_of_the_finite_network(train):
    """Monte Carlo over networks; the same with the skip left out must fail."""
    pytest.importorskip("jax")
    network, x = Skip(widths=50, weight_precision=[0.8, 1.5]), train.x[:5]
    mean, error = drawn_covariance(network, x, 400)
    assert (np.abs(mean - fw.kernels.nngp(network, x)) / error).max() < 4.0
    hidden_only = fw.kernels.nngp(fw.FullyConnected((50,), weight_precision=[0.8, 1.5]), x)
    assert (np.abs(mean - hidden_only) / error).max() > 4.0


def linear_task(n_points, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n_points, 20))
    return fw.Dataset(x, 3.0 * x @ np.full(20, 20**-0.5) + 0.1 * rng.standard_normal(n_points), classes=())


@pytest.mark.slow
@pytest.mark.statistical
def test_beside_samples():
    """Linear, so that features are Gaussian: the theory is within the errors, infinite width is not."""
    pytest.importorskip("jax")
    train, test = linear_task(20, 0), linear_task(30, 1)
    network = Skip(widths=60, activation="linear")
    with pytest.raises(fw.InputError, match=r"80 readout weights and width 60.*observables=\(\)"):
        fw.sample(network, train, test, 0.1)
    drawn = fw.sample(network, train, test, 0.1, draws=800, observables=()).errors(test.y)
    assert drawn.converged
    finite = fw.predict(fw.solve(fw.theory_of(network, 0.1), train), test.x).errors(test.y)
    infinite = fw.theory_of(network, 0.1, method="infinite")
    limit = fw.predict(fw.solve(infinite, train), test.x).errors(test.y)
    assert abs(finite.test_error - drawn.test_error) < 4 * drawn.test_error_se
    assert abs(limit.test_error - drawn.test_error) > 4 * drawn.test_error_se


@dataclass(frozen=True, kw_only=True)
class Wrong(Skip):
    """A covariance that cannot be one."""

    fault: str = ""

    def covariance(self, order_parameters, x1, x2):
        found = super().covariance(order_parameters, x1, x2)
        if self.fault == "shape":
            return found[:-1]
        return found * np.arange(len(found)) if self.fault == "asymmetric" else np.full_like(found, np.nan)


@pytest.mark.parametrize(
    ("fault", "said"), [("shape", "covariance of Wrong of shape"), ("asymmetric", "not symmetric"), ("nan", "NaN")]
)
def test_a_covariance_that_cannot_be(fault, said, train):
    with pytest.raises(fw.InputError, match=said):
        fw.solve(fw.theory_of(Wrong(fault=fault), 0.1), train)


def test_refusals(train):
    with pytest.raises(fw.InputError, match="without a covariance"):
        fw.theory_of(Bare(), 0.1)
    with pytest.raises(fw.InputError, match="closure"):
        fw.theory_of(Skip(), 0.1, closure="nested")
    for method in ("integrate", "neuron"):
        with pytest.raises(fw.InputError, match=f"method = '{method}' for Skip"):
            fw.theory_of(Skip(), 0.1, method=method)
    with pytest.raises(fw.InputError, match="krylov"):
        fw.theory_of(Skip(), 0.1, method=fw.Saddle(solver="krylov"))
    several = replace_targets(train)
    with pytest.raises(fw.InputError, match="2 outputs with Skip"):
        fw.solve(fw.theory_of(Skip(), 0.1), several)
    assert fw.solve(fw.theory_of(Skip(), 0.1, method="infinite"), several).converged
    with pytest.raises(fw.InputError, match="a Skip, whose layers are not known"):
        fw.kernels.ntk(Skip(), train.x)
    with pytest.raises(fw.MemoryCapError):
        fw.solve(fw.theory_of(Skip(), 0.1), train, memory=10.0)
    with pytest.raises(fw.InputError, match="at least one hidden layer"):
        replace(Skip(), widths=())


def replace_targets(train):
    return fw.Dataset(train.x, np.stack([train.y, -train.y], axis=1), classes=())
