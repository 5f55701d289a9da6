"""Bounds that need no reference, for kernels that are singular to rounding and temperatures down to 1e-12.

For every covariance K and T > 0, at the training points: y - f = T (K + T)^-1 y, so |y - f| <= |y|; the predictive
variance lies between 0 and the prior's; and (y - f)^2 plus the variance, on average, is the train error. What rounding
leaves of k(x, X) where K is zero must not be divided by T.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.features import hidden_kernel
from finitewidth.inference.prediction import Errors
from finitewidth.networks.coupled import Joint, SourceFirst
from finitewidth.theory.frozen import frozen
from finitewidth.theory.transfer import transfer
from finitewidth.theory.validity import validity

EPSILON = np.finfo(float).eps
TEMPERATURES = [1e-12, 1e-6, 1.0]
SCALES = [1.0, 100.0]
Points = Callable[[float], fw.Dataset]


@dataclass(frozen=True)
class Renormalised(fw.Network):
    """``K_R = prod_l Q_l K`` of a fully connected network with offsets, as a user would write it."""

    widths: object = 100

    def covariance(self, Q, x1, x2):
        network = fw.FullyConnected(self.widths, activation=self.phi, offset_precision=1.0)
        return float(np.prod(Q)) * fw.kernels.nngp(network, x1, x2)

    def rate(self, Q):
        return float(sum(n * (q - 1.0 - np.log(q)) for n, q in zip(self.widths, np.atleast_1d(Q), strict=True)))


# --- data whose kernels are singular to rounding ----------------------------------------------------------------------


def smooth(scale: float) -> fw.Dataset:
    """A line through all points: eigenvalues fall below rounding after ten or so."""
    x = np.linspace(-3.0, 3.0, 30)
    return fw.Dataset(scale * x[:, None], np.sin(x) + np.sin(4.0 * x), classes=())


def noise(scale: float) -> fw.Dataset:
    """Targets that no smooth function fits."""
    return fw.Dataset(smooth(scale).x, np.random.default_rng(0).standard_normal(30), classes=())


def twice(scale: float) -> fw.Dataset:
    """Every point twice, with contradictory targets."""
    rng = np.random.default_rng(0)
    x = scale * rng.standard_normal((12, 4))
    return fw.Dataset(np.concatenate([x, x]), rng.standard_normal(24), classes=())


def constant(scale: float) -> fw.Dataset:
    return fw.Dataset(np.full((20, 4), scale), np.random.default_rng(0).standard_normal(20), classes=())


def as_images(points: Points) -> Points:
    """16 points as 4 x 4 images that change as the points do."""

    def images(scale: float) -> fw.Dataset:
        made = points(scale)
        kept = np.r_[0:8, len(made) // 2 : len(made) // 2 + 8]  # both copies of points that come twice
        pixels = made.x[kept].mean(1)[:, None] * (1.0 + np.arange(16) / 8.0)
        return fw.Dataset(pixels.reshape(-1, 4, 4), made.y[kept], classes=())

    return images


VECTORS = [smooth, noise, twice, constant]
IMAGES = [smooth, twice, constant]
over = pytest.mark.parametrize


def named(points: Points) -> str:
    return points.__name__


# --- the bounds -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bounds:
    """y: targets of the training points. condition: of K + T, from above. prior: variances, where they are known."""

    y: np.ndarray
    condition: float
    prior: np.ndarray | None = None

    @classmethod
    def of(cls, train: fw.Dataset, temperature: float, prior: np.ndarray) -> Bounds:
        return cls(train.y, 1.0 + train.n_points * float(prior.max()) / temperature, prior)

    def hold(self, found: fw.Prediction) -> None:
        """For predictions at the training points."""
        assert ((self.y - found.mean) ** 2).sum() <= (self.y**2).sum() * (1.0 + 1e-6)
        assert (found.variance >= 0.0).all()
        if self.prior is not None:
            assert (found.variance <= self.prior * (1.0 + 1e-9)).all()
        self.test_is_train(found.errors(self.y))

    def test_is_train(self, errors: Errors) -> None:
        """In units of the mean square of y, as far as double precision tells."""
        rounding = 1e-6 + min(4.0 * EPSILON * self.condition, 0.01)
        assert abs(errors.test_error - errors.train_error) <= rounding * float(np.mean(self.y**2))


def hold_for(network, train: fw.Dataset, temperature: float, method: str) -> bool:
    """Check one solution, if it converged; whether it did."""
    solution = fw.solve(fw.theory_of(network, temperature, method=method), train)
    if not solution.converged:
        return False
    found = fw.predict(solution, train.x)
    if method == "integrate" or train.n_outputs > 1:  # the prior's scale is not one number
        Bounds(train.y, np.inf).hold(found)
        return True
    prior = np.diagonal(solution.theory.covariance(solution.order_parameters, train.x, train.x))
    Bounds.of(train, temperature, prior).hold(found)
    if solution.gradient is not None:
        gradient = solution.evidence_gradient()
        assert np.isfinite([gradient["temperature"], *gradient["weight_precision"]]).all()
    return True


@over("temperature", TEMPERATURES)
@over("activation", ["erf", "relu"])
@over("points", VECTORS, ids=named)
class TestVectors:
    def test_infinite(self, points, activation, temperature):
        for depth, scale in itertools.product((1, 2, 3), SCALES):
            network = fw.FullyConnected(widths=(20,) * depth, activation=activation)
            assert hold_for(network, points(scale), temperature, "infinite")

    def test_one_layer(self, points, activation, temperature):
        network = fw.FullyConnected(widths=20, activation=activation)
        assert hold_for(network, points(1.0), temperature, "saddle")
        assert hold_for(network, points(1.0), temperature, "integrate")
        mean_field = fw.FullyConnected(
            widths=20, activation=activation, readout="mean-field", weight_precision=(1.0, 0.05)
        )
        assert hold_for(mean_field, points(100.0), temperature, "saddle")

    def test_own_architecture(self, points, activation, temperature):
        for scale in SCALES:
            assert hold_for(Renormalised(widths=20, activation=activation), points(scale), temperature, "infinite")

    def test_several_outputs(self, points, activation, temperature):
        made = points(100.0)
        train = fw.Dataset(made.x, np.stack([made.y, np.cos(3.0 * made.y)], axis=1), classes=())
        network = fw.FullyConnected(widths=20, activation=activation)
        assert hold_for(network, train, temperature, "infinite")
        hold_for(network, train, temperature, "saddle")

    @over("scale", SCALES)
    def test_lazy_training(self, points, scale, activation, temperature):
        train, network = points(scale), fw.FullyConnected(widths=20, activation=activation)
        rows = fw.lazy_training(network, train).curve(train, times=[1.0])
        assert rows.limit.bias <= np.mean(train.y**2) * (1.0 + 1e-6)
        assert rows.limit.test_error == pytest.approx(rows.limit.train_error, abs=0.01)

    @over("scale", SCALES)
    def test_frozen_features(self, points, scale, activation, temperature):
        """The averages over frozen networks: the mean network is none of them, and f = Q K A^-1 y."""
        train, network = points(scale), fw.FullyConnected(widths=20, activation=activation)
        errors = frozen(network, train, train, temperature).errors
        assert errors.bias <= np.mean(train.y**2) * (1.0 + 1e-6)
        assert errors.variance >= 0.0
        Bounds.of(train, temperature, fw.kernels.nngp_diagonal(network, train.x)).test_is_train(errors)


@over("points", VECTORS, ids=named)
def test_saddles_that_may_not_converge(points):
    """Deep networks in the nested closure, and architectures of one's own: right, or they say so."""
    for temperature in (1e-12, 1e-6):
        hold_for(fw.FullyConnected(widths=(20, 20), activation="erf"), points(1.0), temperature, "saddle")
        hold_for(Renormalised(widths=20, activation="relu"), points(1.0), temperature, "saddle")


@over("temperature", [1e-12, 1e-6])
def test_hidden_kernel_and_validity(temperature):
    train, network = twice(1.0), fw.FullyConnected(widths=20, activation="erf")
    solution = fw.solve(fw.theory_of(network, temperature), train)
    K = fw.kernels.nngp(network, train.x)
    assert np.abs(hidden_kernel(solution)).max() <= K.max() + (train.y**2).sum() / 20.0
    assert not np.isinf(validity(solution).expected_relative_error)


def test_integrated_nested_closure():
    network = fw.FullyConnected(widths=(20, 20), activation="erf")
    solution = fw.solve(fw.theory_of(network, 1e-9, method="integrate"), smooth(1.0))
    Bounds(solution.train.y, np.inf).hold(fw.predict(solution, solution.train.x))


@pytest.mark.slow
def test_single_neuron():
    """Its f at the training points is measured on particles: as far as it converged."""
    options = fw.SingleNeuron(particles=200, rounds=(40, 40))
    network = fw.FullyConnected(widths=20, activation="erf")
    solution = fw.solve(fw.theory_of(network, 1e-6, method=options), constant(1.0))
    found = fw.predict(solution, solution.train.x)
    y = solution.train.y
    assert ((y - found.mean) ** 2).sum() <= (y**2).sum() * 1.1
    assert (found.variance >= 0.0).all()
    assert found.variance.max() < 1e-3


@over("protocol", [Joint, SourceFirst])
@over("points", VECTORS, ids=named)
def test_transfer(points, protocol):
    made = points(1.0)
    train = fw.Dataset(made.x[::3], made.y[::3], classes=())
    coupled = protocol(fw.FullyConnected(widths=20, activation="relu"), 0.5)
    for temperature in (1e-12, 1e-2):
        solution = transfer(coupled, fw.Dataset(train.x, train.y[::-1].copy(), classes=()), train, temperature)
        Bounds(train.y, np.inf).hold(solution.predict(train.x))


@over("temperature", [1e-12, 1e-6])
@over("points", IMAGES, ids=named)
class TestImages:
    @over("make", [fw.Convolutional, fw.LocallyConnected])
    def test_patches(self, points, make, temperature):
        for scale in SCALES:
            network, train = make(channels=20, patch=2, activation="relu"), as_images(points)(scale)
            assert hold_for(network, train, temperature, "infinite")
            hold_for(network, train, temperature, "saddle")

    def test_average_pooling(self, points, temperature):
        for scale in SCALES:
            network, train = (
                fw.Convolutional(channels=20, patch=2, activation="relu", pool="average"),
                as_images(points)(scale),
            )
            assert hold_for(network, train, temperature, "infinite")
            assert hold_for(network, train, temperature, "saddle")


@over("make", [fw.Convolutional, fw.LocallyConnected])
@over("temperature", [1e-12, 1e-6])
def test_patches_with_several_outputs(make, temperature):
    made = as_images(twice)(1.0)
    train = fw.Dataset(made.x, np.stack([made.y, np.cos(3.0 * made.y)], axis=1), classes=())
    hold_for(make(channels=20, patch=2), train, temperature, "saddle")


@over("make", [fw.Convolutional, fw.LocallyConnected])
@over("points", [smooth, twice], ids=named)
def test_most_saddles_on_singular_kernels_converge(make, points):
    network = make(channels=20, patch=2, activation="relu")
    train = as_images(points)(1.0)
    assert sum(hold_for(network, train, temperature, "saddle") for temperature in (1e-12, 1e-9, 1e-6, 1.0)) >= 3


# --- right values known otherwise -------------------------------------------------------------------------------------


def sines() -> tuple[np.ndarray, fw.Dataset]:
    x = np.linspace(-30.0, 30.0, 100)[:, None]
    return x, fw.Dataset(x, np.sin(x[:, 0]) + np.sin(2.0 * x[:, 0]), classes=())


def test_sines_at_a_tiny_temperature():
    """google/neural-tangents 76, 128, 198: architectures of one's own agree with the spectrum."""
    x, train = sines()
    settings = {"activation": "relu", "weight_precision": 1.0 / 2.25, "offset_precision": 400.0}

    @dataclass(frozen=True)
    class Same(fw.Network):
        widths: object = 100

        def covariance(self, Q, x1, x2):
            return fw.kernels.nngp(fw.FullyConnected(self.widths, **settings), x1, x2)

    network = fw.FullyConnected(widths=(50,), **settings)
    right = fw.predict(fw.solve(fw.theory_of(network, 1e-12, method="infinite"), train), x)
    own = fw.predict(fw.solve(fw.theory_of(Same(widths=(50,)), 1e-12, method="infinite"), train), x)
    for found in (right, own):
        Bounds(train.y, np.inf).hold(found)
        assert found.errors(train.y).test_error == pytest.approx(0.315, abs=0.01)


@over("ridge", [1e-3, 1e-9, 1e-12, 1e-13])
def test_regression_without_a_ridge_is_least_squares(ridge):
    """A linear kernel of 16 inputs on 60 points: the minimum-norm solution, on the same subsets."""
    rng = np.random.default_rng(1)
    x, y = 100.0 * rng.standard_normal((100, 16)), rng.standard_normal(100)
    network = fw.FullyConnected(widths=(20,), activation="linear")
    (row,) = fw.spectral_learning_curve(network, fw.Dataset(x, y, classes=()), [60], ridge=ridge, trials=10)
    subsets, errors = np.random.default_rng(0), []
    for _ in range(10):
        chosen = subsets.permutation(100)[:60]
        subsets.standard_normal(60)  # label noise, of variance zero
        w = np.linalg.lstsq(x[chosen], y[chosen], rcond=None)[0]
        errors.append(np.mean((y - x @ w) ** 2))
    assert row.sampled_test_error == pytest.approx(np.mean(errors), rel=1e-6)


def test_hidden_kernel_of_equal_inputs():
    """Rank one, by hand: f = kappa q P mean(y) / (q kappa P + T) at every point."""
    train, temperature = constant(100.0), 1e-12
    network = fw.FullyConnected(widths=20, activation="erf")
    solution = fw.solve(fw.theory_of(network, temperature), train)
    q, kappa, count = float(solution.order_parameters[0]), fw.kernels.nngp_diagonal(network, train.x)[0], len(train)
    shifted = q * kappa * count + temperature
    pull = kappa * count * train.y.mean() / shifted
    right = kappa + q / 20.0 * (pull**2 - kappa**2 * count / shifted)
    np.testing.assert_allclose(hidden_kernel(solution), right, rtol=0.01)


def test_no_warning_of_numpys_from_a_locally_connected_saddle():
    """GPflow 553: duplicated points, contradictory targets, hardly noise; warnings are errors in these tests."""
    rng = np.random.default_rng(1)
    x = 100.0 * rng.standard_normal((50, 4, 4))
    train = fw.Dataset(np.concatenate([x, x]), rng.standard_normal(100), classes=())
    network = fw.LocallyConnected(channels=20, patch=2, activation="linear")
    solution = fw.solve(fw.theory_of(network, 1e-12), train)
    assert solution.converged
    Bounds(train.y, np.inf).hold(fw.predict(solution, train.x))


@over("scale", [1e-140, 1e-60, 1e60, 1e140])
@over("make", [fw.Convolutional, fw.LocallyConnected])
def test_no_warning_of_numpys_at_extreme_scales(make, scale):
    made = as_images(twice)(1.0)
    for train in (fw.Dataset(scale * made.x, made.y, classes=()), fw.Dataset(made.x, scale * made.y, classes=())):
        for activation in ("erf", "linear"):
            try:
                solution = fw.solve(fw.theory_of(make(channels=20, patch=2, activation=activation), 1e-9), train)
                fw.predict(solution, train.x)
            except fw.InputError:
                continue


@over("scale", [1.0, 100.0, 1e3, 1e6])
@over("method", [fw.Infinite(), fw.Saddle("product")])
def test_a_variance_is_not_rounding(method, scale):
    """Two quadratic layers: prior variances up to 1e48, of which the variance is T at most at the training points."""
    rng = np.random.default_rng(0)
    train = fw.Dataset(scale * rng.standard_normal((24, 16)), rng.standard_normal(24))
    theory = fw.theory_of(fw.FullyConnected((30, 30), activation="quadratic"), 0.01, method=method)
    errors = fw.predict(fw.solve(theory, train), train).errors(train)
    assert 0.0 <= errors.variance <= 0.01
    assert errors.test_error <= errors.train_error * (1.0 + 1e-9)
