"""Networks whose hidden layer is drawn from the prior and fixed, the readout integrated exactly (random features)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from finitewidth import checks
from finitewidth.checks.exceptions import InputError, needed
from finitewidth.data import Dataset
from finitewidth.data.dataset import same_targets
from finitewidth.inference.likelihoods import Gaussian
from finitewidth.inference.prediction import in_own_units
from finitewidth.networks import Network

Array = np.ndarray


@dataclass(frozen=True)
class FrozenErrors:
    """Averages over frozen networks, each with its standard error (``_se``).

    order_parameter: ``1 - Tr(A^-1 K_W)/N`` with K_W the kernel of the drawn features: how far the readouts' posterior
    variance is below their prior's. test_error is the average of ``(y - mean)^2 + variance`` of each network; bias that
    of the mean over all networks, variance the rest.
    """

    test_error: float
    test_error_se: float
    bias: float
    bias_se: float
    variance: float
    train_error: float
    train_error_se: float
    order_parameter: float
    order_parameter_se: float


def sample_frozen(
    network: Network, train: Dataset, test: Dataset, temperature: float, networks: int = 200, seed: int = 0
) -> FrozenErrors:
    """Draw ``networks`` hidden layers from the prior and condition each network's readout on the data.

    Any architecture with one output. Raises InputError for several outputs or fewer than two networks,
    MissingExtraError without JAX.
    """
    same_targets(train, test)
    temperature = checks.positive("temperature", temperature)
    if train.n_outputs != 1 or checks.positive_integer("networks", networks) < 2:
        raise InputError(
            f"{networks} frozen networks of {train.n_outputs} outputs",
            "one output, and at least two networks",
            "choose two classes and more networks",
        )
    found = [
        _one(features, train, test, temperature, network.widths[-1])
        for features in _features(network, train, test, networks, seed)
    ]
    mean, variance, train_errors, order_parameters = (np.array(values) for values in zip(*found, strict=True))
    test_error, test_error_se = _average(((test.y - mean) ** 2 + variance).mean(1))
    bias, bias_se = squared_bias(mean, test.y)
    averages = FrozenErrors(
        *(test_error, test_error_se, bias, bias_se, test_error - bias),
        *_average(train_errors),
        *_average(order_parameters),
    )
    return in_own_units(averages, train.encoding)


def _features(network: Network, train: Dataset, test: Dataset, networks: int, seed: int) -> list[tuple[Array, Array]]:
    """Features of the training and test points of each network, divided by sqrt(lambda_L)."""
    with needed("jax", "sample", "drawing networks"):
        import jax
    with jax.enable_x64(True):
        scale = 1.0 / math.sqrt(network.weight_precision[-1])
        shape = train.x.shape[1:]

        @jax.jit
        def both(key: jax.Array) -> list[jax.Array]:
            hidden = network.init_hidden(key, shape)
            return [scale * network.features(hidden, x) for x in map(jax.numpy.asarray, (train.x, test.x))]

        drawn = [both(key) for key in jax.random.split(jax.random.key(seed), networks)]
        return [(np.asarray(phi), np.asarray(at)) for phi, at in drawn]


def _one(
    features: tuple[Array, Array], train: Dataset, test: Dataset, temperature: float, width: int
) -> tuple[Array, Array, float, float]:
    """Mean and variance at the test points, train error and order parameter of one network."""
    phi, at = features
    kernel = phi @ phi.T
    posterior = Gaussian(temperature).posterior(kernel, train.y)
    mean, variance = posterior.predict(at @ phi.T, np.einsum("if,if->i", at, at))
    used = len(kernel) - temperature * posterior.gram.inverse_trace  # Tr(A^-1 K_W)
    return mean, variance, posterior.train_error, 1.0 - used / phi.shape[1]


def squared_bias(mean: Array, y: Array) -> tuple[float, float]:
    """Mean squared error of the mean of networks ``mean`` (S, P*), free of the noise of finitely many, and its error.

    ``(y - m_i)(y - m_j)`` over pairs i != j has no noise bias; the error is from leaving one network out (jackknife).
    """
    count = len(mean)
    away = y - mean
    total, own = away.sum(0), (away**2).sum(0)
    value = float(((total**2 - own) / (count * (count - 1))).mean())
    rest, rest_own = total - away, own - away**2
    left = ((rest**2 - rest_own) / ((count - 1) * max(count - 2, 1))).mean(1)
    return value, float(math.sqrt((count - 1) / count * ((left - left.mean()) ** 2).sum()))


def _average(values: Array) -> tuple[float, float]:
    """The mean, and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))
