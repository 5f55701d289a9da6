"""What a network has learned of its features, measured on a theory's solution (docs/theory.md section 5).

The measures take plain matrices wherever they can, so that theory, samples and trained networks are compared with the
same functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from finitewidth import kernels
from finitewidth.data import Dataset
from finitewidth.exceptions import InputError
from finitewidth.kernels.local import LocalPoints, local_cross, local_diagonal
from finitewidth.linalg import RegularisedGram
from finitewidth.networks import FullyConnected, Network
from finitewidth.theory.learned import LearnedFeatures
from finitewidth.theory.neuron.predictor import NeuronPredictor, input_shape
from finitewidth.theory.solution import Solution

Array = np.ndarray


def information(solution: Solution) -> float:
    """``N I(Q) = rate/2`` in nats: how far, in information, the network is from the kernel regime.

    ``I(Q) = 1/2 (tr Q - log det Q - dim)`` a neuron; summed over layers for deep networks. Zero at infinite width.
    """
    return 0.5 * float(solution.theory.rate(solution.order_parameters))


def alignment(k1: Any, k2: Any, centred: bool = True) -> float:
    """Centred kernel alignment of two (P, P) kernels, in [-1, 1] (Cortes, Mohri and Rostamizadeh 2012).

    ``<HK1H, HK2H> / (|HK1H| |HK2H|)`` with H the centring matrix; without ``centred``, H = 1.
    Raises InputError for other shapes, or where a (centred) kernel vanishes.
    """
    a, b = (np.array(k, dtype=float) for k in (k1, k2))
    if a.ndim != 2 or a.shape[0] != a.shape[1] or a.shape != b.shape:
        raise InputError(
            f"kernels of shapes {a.shape} and {b.shape}", "two square ones of one size", "use the same points"
        )
    if centred:
        a, b = _centre(a), _centre(b)
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    if norms == 0.0:
        raise InputError(
            "a kernel that is constant over the points",
            "one that varies",
            "use more points, or centred=False",
        )
    return float(np.vdot(a, b)) / norms


def label_alignment(kernel: Any, y: Any, centred: bool = True) -> float:
    """Alignment of a kernel (P, P) with y y^T; y is (P,) or (P, D)."""
    targets = np.asarray(y, dtype=float).reshape(len(y), -1)
    return alignment(kernel, targets @ targets.T, centred)


def between_patches(solution: Solution) -> float:
    """Share of tr K_R on the training points that pairs of patches i != j carry.

    0 at infinite width and for locally connected networks; what is not 0 is information that only a network with shared
    weights and finitely many channels can use. Raises InputError for an architecture without a map of patches.
    """
    qmap = solution.q_map()
    network, x = solution.theory.network, solution.train.x
    points = LocalPoints.of(network, x)
    on_patches = np.asarray(network.phi.dual.diagonal(points.variance)[0]).sum(1)
    own = points.scale * float(np.diagonal(qmap.square) @ on_patches)
    total = float(local_diagonal(network, x, qmap.matrix).sum())
    return 1.0 - own / total


def prior_kernel(solution: Solution, x: Any = None) -> Array:
    """Kernel at infinite width on points ``x`` (default: the training points), (P, P)."""
    return kernels.nngp(solution.theory.network, solution.train.x if x is None else x)


def renormalised_kernel(solution: Solution, x: Any = None) -> Array:
    """K_R(Q) of one output on points ``x`` (default: the training points), (P, P); several outputs are averaged."""
    x = solution.train.x if x is None else x
    if isinstance(solution.predictor, NeuronPredictor):
        return solution.predictor.kernel_at(x)
    if solution.train.n_outputs == 1:
        return solution.theory.covariance(solution.order_parameters, x)
    if not solution.order_parameters.size:
        return prior_kernel(solution, x)
    if hasattr(solution.theory, "q_map"):
        matrix = solution.q_map().matrix
        return local_cross(solution.theory.network, x, x, matrix)
    outputs = solution.train.n_outputs
    mean = float(np.trace(solution.order_parameters.reshape(outputs, outputs))) / outputs
    return mean * prior_kernel(solution, x)


def hidden_kernel(solution: Solution) -> Array:
    """Posterior mean of ``phi phi^T / N`` of a one-hidden-layer fully connected network with one output, (P, P).

    ``lambda_1 [ K + (Q/N) K (A^-1 y y^T A^-1 - A^-1) K ]``, K the infinite-width kernel, A = Q K + T: to first order in
    1/N, the fluctuation of the features that the labels select. In the single-neuron theory it is measured on its
    particles, for every architecture of one hidden layer. Raises InputError for other architectures.
    """
    network, train = solution.theory.network, solution.train
    if isinstance(solution.predictor, NeuronPredictor):
        return solution.features.hidden_kernel
    if not isinstance(network, FullyConnected) or network.depth != 1 or train.n_outputs != 1:
        raise InputError(
            f"the hidden kernel of {type(network).__name__} of depth {network.depth}, {train.n_outputs} outputs",
            "one hidden layer, fully connected, one output",
            "sample the network to see its hidden kernel",
        )
    K = prior_kernel(solution)
    q = float(solution.order_parameters[0]) if solution.order_parameters.size else 1.0
    share = q / network.widths[0] if solution.order_parameters.size else 0.0
    gram = RegularisedGram(q * K, solution.theory.temperature)
    a = gram.solve(train.y)
    change = np.outer(a, a) - gram.inverse()
    learned: Array = network.readout_precision * (K + share * K @ change @ K)
    return 0.5 * (learned + learned.T)


def learned(draws: Any, network: Network, train: Dataset) -> LearnedFeatures:
    """The features of sampled networks, as ``solution.features`` has those of the single-neuron theory.

    draws: what ``fw.sample`` gave with ``observables=("weight_covariance", "hidden_kernel")``; it holds no readouts, so
    ``readouts`` is None. Raises InputError where these were not recorded, or for several hidden layers.
    """
    if network.depth != 1:
        raise InputError(
            f"the features of {network.depth} hidden layers", "one hidden layer", "sample a shallow network"
        )
    for name in ("weight_covariance", "hidden_kernel"):
        if name not in draws.observables:
            raise InputError(
                f"draws without {name}", "draws that recorded it", "sample with observables=('weight_covariance', ...)"
            )
    return LearnedFeatures(
        draws.observables["weight_covariance"].mean,
        draws.observables["hidden_kernel"].mean,
        None,
        input_shape(network, train),
    )


@dataclass(frozen=True)
class FeatureReport:
    """The measures of one solution, side by side.

    information: N I(Q), nats. between_patches: see there; None without patches. prior_alignment, learned_alignment:
    of the labels with the kernel at infinite width and with K_R. kernels_alignment: of the two kernels.
    """

    information: float
    between_patches: float | None
    prior_alignment: float
    learned_alignment: float
    kernels_alignment: float


def report(solution: Solution) -> FeatureReport:
    """All measures of a solution on its training points."""
    before, after = prior_kernel(solution), renormalised_kernel(solution)
    y = solution.train.y
    return FeatureReport(
        information(solution),
        between_patches(solution) if hasattr(solution.theory, "q_map") else None,
        label_alignment(before, y),
        label_alignment(after, y),
        alignment(before, after),
    )


def _centre(kernel: Array) -> Array:
    rows = kernel.mean(0)
    return kernel - rows - kernel.mean(1)[:, None] + rows.mean()
