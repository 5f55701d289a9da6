"""Networks whose hidden layer stays at its prior and whose readout alone learns (random features), one hidden layer.

Their order parameter is that of the action without the label term, ``N (Q - 1) = -Tr(A^-1 K_R)``, A = Q K + T: it says
what finite width does before anything is learned. Features are taken for Gaussian; the errors are averages over the
frozen layer, by the deterministic equivalents of a Wishart matrix (Bai and Silverstein 2010, chapter 3; Louart, Liao
and Couillet 2018). Held to random Wishart matrices and to drawn networks in the tests.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize

from finitewidth import checks, kernels
from finitewidth.checks.exceptions import InputError
from finitewidth.data import Dataset
from finitewidth.data.dataset import same_targets
from finitewidth.display import Displayed
from finitewidth.inference.prediction import Errors, in_own_units
from finitewidth.linalg import Spectrum, left_over
from finitewidth.networks import Network

Array = np.ndarray


@dataclass(frozen=True)
class FrozenSolution(Displayed):
    """What to expect of the frozen networks of one width.

    order_parameter: Q in (0, 1). errors: averages over frozen layers; bias is that of the mean network, variance the
    rest.
    """

    order_parameter: float
    errors: Errors


def frozen(network: Network, train: Dataset, test: Dataset, temperature: float) -> FrozenSolution:
    """Errors of a one-hidden-layer fully connected network with one output, the hidden layer frozen at its prior.

    Raises InputError for other architectures, and for a temperature that is not positive.
    """
    refuse_others(network, train)
    same_targets(train, test)
    temperature = checks.positive("temperature", temperature)
    width, y = network.widths[0], train.y
    spectrum = Spectrum.of(kernels.nngp(network, train.x), overwrite=True)
    k = spectrum.values
    q = frozen_scale(k, width, temperature)
    shifted = q * k + temperature
    a, left = spectrum.rotate(y) / shifted, temperature / shifted
    # a change of the Wishart matrix moves A^-1 y and, through it, itself: the geometric series of that
    strength = q**2 / width * float(k @ a**2) / (1.0 - q**2 / width * float(((k / shifted) ** 2).sum()))
    cross = spectrum.project(kernels.nngp(network, test.x, train.x))
    mean = q * cross @ a
    # of K(x, x): what each direction of the training points explains, and the rest
    explained = np.divide(cross**2, k, out=np.zeros_like(cross), where=k > 0.0)
    rest = left_over(kernels.nngp_diagonal(network, test.x), explained.sum(1))
    own = rest + explained @ left  # K(x, x) - q k A^-1 k
    between = strength * (rest + explained @ left**2)  # k(x, x) - 2 q k A^-1 k + q^2 k A^-1 K A^-1 k
    bias = float(np.mean((test.y - mean) ** 2))
    variance = float(np.mean(q * own + between))
    residual = temperature**2 / len(y) * float(a @ a + strength * (k / shifted**2).sum())
    train_error = residual + temperature / len(y) * q * float((k / shifted).sum())
    errors = Errors(bias + variance, bias, variance, None, train_error)
    return FrozenSolution(q, in_own_units(errors, train.encoding))


def frozen_scale(eigenvalues: Array, width: int, temperature: float) -> float:
    """The root Q in (0, 1] of ``N (Q - 1) + sum_k Q k / (Q k + T) = 0``; the left side grows with Q."""
    k = np.maximum(eigenvalues, 0.0)
    if k.max() == 0.0:
        return 1.0

    def imbalance(log_q: float) -> float:
        signal = np.exp(log_q) * k
        return float(width * np.expm1(log_q) + np.sum(signal / (signal + temperature)))

    low = -1.0
    while imbalance(low) > 0.0:
        low *= 2.0
    return float(np.exp(optimize.brentq(imbalance, low, 0.0, xtol=1e-14)))


def refuse_others(network: Network, train: Dataset) -> None:
    """Raise InputError unless the network is fully connected, of one hidden layer, with one output."""
    if not network.kernel_recursion or network.depth != 1 or train.n_outputs != 1:
        raise InputError(
            f"a frozen {type(network).__name__} of depth {network.depth}, {train.n_outputs} outputs",
            "one hidden layer, fully connected, one output",
            "use FullyConnected(widths=N)",
        )
