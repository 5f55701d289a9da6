"""The collapsed posterior against direct Gaussian algebra in NumPy, on both sides of Woodbury's identity."""

from __future__ import annotations

import numpy as np
import pytest

jax = pytest.importorskip("jax")

from finitewidth.networks import Convolutional, FullyConnected, LocallyConnected  # noqa: E402
from finitewidth.sampling import posterior  # noqa: E402
from finitewidth.sampling.langevin import Langevin  # noqa: E402
from finitewidth.sampling.program import observe  # noqa: E402

T = 0.3
SIDES = pytest.mark.parametrize(("points", "features"), [(9, 4), (4, 9)])


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def problem(points: int, features: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(points + 10 * features)
    return (
        rng.standard_normal((points, features)),
        rng.standard_normal((points, 3)),
        rng.standard_normal((3, features)),
    )


def direct_energy(phi: np.ndarray, y: np.ndarray) -> float:
    a = phi @ phi.T + T * np.eye(len(phi))
    return 0.5 * y.shape[1] * np.linalg.slogdet(a)[1] + 0.5 * float(np.sum(y * np.linalg.solve(a, y)))


@SIDES
def test_energy_and_its_gradient(points, features):
    phi, y, _ = problem(points, features)
    value, gradient = jax.value_and_grad(posterior.collapsed_energy)(phi, y, T)
    assert value == pytest.approx(direct_energy(phi, y), rel=1e-12)
    step = 1e-6
    for index in [(0, 0), (points - 1, features - 1)]:
        shift = np.zeros_like(phi)
        shift[index] = step
        slope = (direct_energy(phi + shift, y) - direct_energy(phi - shift, y)) / (2 * step)
        assert gradient[index] == pytest.approx(slope, rel=1e-6, abs=1e-8)


@SIDES
def test_conditional_expectations(points, features):
    phi, y, at = problem(points, features)
    given = posterior.condition(phi, y, T)
    mean, variance = posterior.predict(given, phi, at, T)
    inverse = np.linalg.inv(phi @ phi.T + T * np.eye(points))
    cross = at @ phi.T
    covariance = at @ at.T - cross @ inverse @ cross.T
    np.testing.assert_allclose(mean, cross @ inverse @ y, rtol=1e-10)
    np.testing.assert_allclose(variance, np.diag(covariance), rtol=1e-9)
    fit = phi @ phi.T @ inverse @ y
    spread = T * np.trace(phi @ phi.T @ inverse) / points
    expected = np.mean((y - fit) ** 2) + spread
    assert posterior.train_error(given, phi, T) == pytest.approx(expected, rel=1e-10)


@pytest.mark.statistical
@SIDES
def test_matheron_readouts_have_the_conditional_moments(points, features):
    phi, y, _ = problem(points, features)
    keys = jax.random.split(jax.random.key(0), 8_000)
    z = np.asarray(jax.vmap(lambda key: posterior.draw_readouts(key, phi, y, T))(keys))
    given = posterior.condition(phi, y, T)
    covariance = np.linalg.inv(np.eye(features) + phi.T @ phi / T)
    scale = np.sqrt(np.diag(covariance))[:, None]
    np.testing.assert_array_less(np.abs(z.mean(0) - given.mean) / scale * np.sqrt(len(z)), 5.0)
    got = np.cov(z[..., 0].T)
    np.testing.assert_allclose(got, covariance, atol=0.08)


@pytest.mark.statistical
@pytest.mark.parametrize("points", [20, 3])
def test_order_parameter_is_that_of_drawn_readouts(points):
    """Two patches, three channels, two outputs: the contraction over channels against plain draws of z."""
    rng = np.random.default_rng(3)
    phi, y = rng.standard_normal((points, 6)), rng.standard_normal((points, 2))
    given = posterior.condition(phi, y, T)
    q = np.asarray(posterior.readout_gram(given, phi, T, width=3))
    keys = jax.random.split(jax.random.key(1), 8_000)
    z = np.asarray(jax.vmap(lambda key: posterior.draw_readouts(key, phi, y, T))(keys))
    z = z.reshape(-1, 2, 3, 2)  # draw, patch, channel, output
    drawn = np.einsum("siad,sjae->sidje", z, z).reshape(len(z), 4, 4) / 3
    error = drawn.std(0) / np.sqrt(len(z))
    assert (np.abs(drawn.mean(0) - q) < 5 * error).all()


NETWORKS = [
    FullyConnected(widths=(3, 4), weight_precision=(2.0, 0.5, 3.0), offset_precision=4.0, readout="mean-field"),
    Convolutional(channels=3, patch=2, activation="relu", offset_precision=2.0),
    LocallyConnected(channels=3, patch=2, stride=1),
    Convolutional(channels=5, patch=2, pool="average"),
]


@pytest.mark.parametrize("network", NETWORKS)
def test_target_of_every_network(network):
    """Whitened weights have a standard normal prior, and the full energy is that of Network.apply."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((7, 4, 4)), rng.standard_normal((7, 2))
    x = x.reshape(7, -1) if isinstance(network, FullyConnected) else x
    target = posterior.Target(network, x.shape[1:])
    scale = target.prior_deviation()
    arrays = posterior.Arrays(x, y, x[:2], scale, T)
    theta = rng.standard_normal(scale.size + 2 * target.n_features)
    hidden = target.hidden(theta[: scale.size], arrays)
    assert network.hidden_log_prior(hidden) == pytest.approx(-0.5 * np.sum(theta[: scale.size] ** 2))
    z = theta[scale.size :].reshape(-1, 2)
    params = {"hidden": hidden, "readout": z.T * target.readout_scale}
    residual = y - network.apply(params, x)
    energy = 0.5 * np.sum(residual**2) / T - network.log_prior(params)
    assert target.full_energy(theta, arrays) == pytest.approx(float(energy), rel=1e-12)
    record, terms = observe(target, theta, jax.random.key(0), arrays, ("order_parameter", "hidden_kernel"), False)
    np.testing.assert_allclose(record["mean"], network.apply(params, x[:2]), rtol=1e-12)
    assert record["train_error"] == pytest.approx(float(np.mean(residual**2)), rel=1e-12)
    width = network.widths[-1]
    diagonal = (z.reshape(-1, width, 2) ** 2).sum(1).ravel() / width
    np.testing.assert_allclose(np.diag(terms["order_parameter"]), diagonal, rtol=1e-12)


def test_hidden_kernel_is_the_mean_of_phi_phi():
    x = np.random.default_rng(0).standard_normal((6, 5))
    for readout in ("standard", "mean-field"):
        network = FullyConnected(widths=(4,), activation="tanh", weight_precision=(1.0, 3.0), readout=readout)
        target = posterior.Target(network, x.shape[1:])
        scale = target.prior_deviation()
        arrays = posterior.Arrays(x, np.ones((6, 1)), x, scale, T)
        theta = np.random.default_rng(1).standard_normal(scale.size)
        _, terms = observe(target, theta, jax.random.key(0), arrays, ("hidden_kernel",), True)
        phi = np.tanh(x @ theta.reshape(4, 5).T / np.sqrt(5))
        np.testing.assert_allclose(terms["hidden_kernel"], phi @ phi.T / 4, rtol=1e-12)


def test_a_langevin_step_by_hand():
    """``theta - epsilon grad U + sqrt(2 epsilon) xi``; minus the log of the ratio of Metropolis and Hastings."""
    network, epsilon = FullyConnected(widths=(3,), weight_precision=(2.0, 0.5)), 0.03
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 4)), rng.standard_normal((6, 1))
    target = posterior.Target(network, (4,))
    sampler, arrays = Langevin(target), posterior.Arrays(x, y, x, target.prior_deviation(), T)
    theta, key = rng.standard_normal(4 * 3 + 3), jax.random.key(0)
    start = sampler._state(theta, arrays)
    new, change = sampler._propose(start, key, epsilon, arrays)
    noise = np.asarray(jax.random.normal(key, theta.shape))
    np.testing.assert_allclose(new.theta, theta - epsilon * start.gradient + np.sqrt(2.0 * epsilon) * noise, rtol=1e-12)

    def log_joint(here, there):
        """Of being at ``here`` and proposing ``there``."""
        mean = here - epsilon * jax.grad(target.full_energy)(here, arrays)
        return -target.full_energy(here, arrays) - ((there - mean) ** 2).sum() / (4.0 * epsilon)

    assert change == pytest.approx(float(log_joint(theta, new.theta) - log_joint(new.theta, theta)), rel=1e-9)
    assert abs(change) > 0.01
