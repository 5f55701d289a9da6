"""What a network has learned of its features (docs/theory.md section 5): a theory's solution, draws, trained networks.

The measures take plain matrices wherever they can, so that theory, samples and trained networks are compared with the
same functions.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from finitewidth import checks, kernels
from finitewidth.checks.exceptions import InputError
from finitewidth.data import Dataset
from finitewidth.kernels.local import LocalPoints, local_cross, local_diagonal
from finitewidth.linalg import RegularisedGram
from finitewidth.networks import Network
from finitewidth.sampling.draws import Draws
from finitewidth.theory.learned import LearnedFeatures
from finitewidth.theory.neuron.predictor import NeuronPredictor
from finitewidth.theory.solution import TheorySolution
from finitewidth.training.ensemble import Ensemble

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Array = np.ndarray
Source = TheorySolution | Draws | Ensemble


# --- the order parameter ------------------------------------------------------------------------------------


def information(source: Source, network: Network | None = None) -> float:
    """``N I(Q) = rate/2`` in nats: how far, in information, the network is from the kernel regime.

    ``I(Q) = 1/2 (tr Q - log det Q - dim)`` a neuron; summed over layers for deep networks. Zero at infinite width.
    Of draws (which need their ``network``) and trained networks, it is that of the last layer, from the readouts.
    """
    if isinstance(source, TheorySolution):
        return source.information
    network = _network(source, network)
    q = source.order_parameter
    outputs = source.mean.shape[3] if isinstance(source, Draws) and source.mean.ndim == 4 else 1
    if isinstance(source, Ensemble):
        outputs = source.readouts.shape[1]
    if not network.shares_weights:  # patches are independent: only the outputs of one patch mix
        blocks = [q[i : i + outputs, i : i + outputs] for i in range(0, len(q), outputs)]
        return sum(_information_of(block, network.widths[-1]) for block in blocks)
    return _information_of(q, network.widths[-1])


def _information_of(q: Array, width: float) -> float:
    """``N/2 (tr Q - log det Q - dim)``; infinite where readouts of fewer than dim neurons in all make Q singular."""
    values = np.linalg.eigvalsh(q)
    if values[0] <= len(values) * np.finfo(float).eps * values[-1]:
        return math.inf
    return 0.5 * width * float(np.sum(values - 1.0 - np.log(values)))


# --- kernels ------------------------------------------------------------------------------------------------


def alignment(k1: ArrayLike, k2: ArrayLike, centred: bool = True) -> float:
    """Centred kernel alignment of two (P, P) kernels, in [-1, 1] (Cortes, Mohri and Rostamizadeh 2012).

    ``<HK1H, HK2H> / (|HK1H| |HK2H|)`` with H the centring matrix; without ``centred``, H = 1.
    Raises InputError for other shapes, or where a (centred) kernel vanishes.
    """
    a, b = _pairs(k1, k2, (2,))
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


def label_alignment(kernel: ArrayLike, y: ArrayLike) -> float:
    """Centred alignment of a kernel (P, P) with y y^T; y is (P,) or (P, D)."""
    targets = checks.real_array("y", y, (1, 2))
    targets = targets.reshape(len(targets), -1)
    return alignment(kernel, targets @ targets.T)


def between_patches(solution: TheorySolution) -> float:
    """Share of tr K_R on the training points that pairs of patches i != j carry.

    0 at infinite width and for locally connected networks; what is not 0 is information that only a network with shared
    weights and finitely many channels can use. Raises InputError for an architecture without a map of patches.
    """
    qmap = solution.q_map()
    network, x = solution.theory.network, solution.train.x
    points = LocalPoints.of(network, x)  # type: ignore[arg-type]  # it has patches
    on_patches = np.asarray(network.phi.dual.diagonal(points.variance)[0]).sum(1)
    own = points.scale * float(np.diagonal(qmap.square) @ on_patches)
    total = float(local_diagonal(network, x, qmap.matrix).sum())  # type: ignore[arg-type]
    return 1.0 - own / total


def prior_kernel(solution: TheorySolution, x: Array | None = None) -> Array:
    """Kernel at infinite width on points ``x`` (default: the training points), (P, P)."""
    return kernels.nngp(solution.theory.network, solution.train.x if x is None else x)


def renormalised_kernel(solution: TheorySolution, x: Array | None = None) -> Array:
    """K_R(Q) of one output on points ``x`` (default: the training points), (P, P); several outputs are averaged."""
    x = solution.train.x if x is None else x
    if isinstance(solution.predictor, NeuronPredictor):
        return solution.predictor.kernel_at(x)
    if solution.train.n_outputs == 1:
        return solution.kernel(x)
    if not solution.order_parameters.size:
        return prior_kernel(solution, x)
    if solution.on_patches:
        matrix = solution.q_map().matrix
        return local_cross(solution.theory.network, x, x, matrix)  # type: ignore[arg-type]
    outputs = solution.train.n_outputs
    mean = float(np.trace(solution.order_parameters.reshape(outputs, outputs))) / outputs
    return mean * prior_kernel(solution, x)


def kernel_distance(start: ArrayLike, end: ArrayLike) -> Array:
    """``|K_end - K_start| / |K_start|`` in the Frobenius norm: of kernels (..., P, P), (...)."""
    start, end = _pairs(start, end)
    return np.linalg.norm(end - start, axis=(-2, -1)) / np.linalg.norm(start, axis=(-2, -1))


def hidden_kernel(source: Source) -> Array:
    """Mean of ``phi phi^T / N`` on the training points, (P, P); with patches, their mean.

    Of draws it is what was recorded (``observables=("hidden_kernel",)``), of trained networks the mean over networks.
    Of a solution it is known for one fully connected hidden layer and one output:
    ``lambda_1 [ K + (Q/N) K (A^-1 y y^T A^-1 - A^-1) K ]``, K the infinite-width kernel, A = Q K + T: to first order in
    1/N, the fluctuation of the features that the labels select. In the single-neuron theory it is measured on its
    particles, for every architecture of one hidden layer. Raises InputError where it is not known.
    """
    if isinstance(source, Draws):
        return source.observable("hidden_kernel").mean
    if isinstance(source, Ensemble):
        return source.hidden_kernels().mean(0)
    solution = source
    network, train = solution.theory.network, solution.train
    if isinstance(solution.predictor, NeuronPredictor):
        return solution.features.hidden_kernel
    if not network.kernel_recursion or network.depth != 1 or train.n_outputs != 1:
        raise InputError(
            f"the hidden kernel of {type(network).__name__} of depth {network.depth}, {train.n_outputs} outputs",
            "one hidden layer, fully connected, one output",
            "sample the network to see its hidden kernel",
        )
    K = prior_kernel(solution)
    q = float(solution.order_parameters[0]) if solution.order_parameters.size else 1.0
    share = q / network.widths[0] if solution.order_parameters.size else 0.0
    gram = RegularisedGram(q * K, solution.theory.temperature)
    pull = K @ gram.solve_range(train.y)
    change = np.outer(pull, pull) - K @ gram.inverse_range() @ K
    learned: Array = network.readout_precision * (K + share * change)
    return 0.5 * (learned + learned.T)


# --- the first layer ----------------------------------------------------------------------------------------


def weight_covariance(source: Source) -> Array:
    """``lambda_0 <w w^T>`` of first-layer weights w, (inputs, inputs), or (n, M, M) without shared weights.

    The prior's is the identity; leading eigenvectors are receptive fields (``learned``). Over all neurons and draws
    (recorded with ``observables=("weight_covariance",)``) or networks: of S networks of N neurons, chance alone moves
    every entry by about 1/sqrt(S N). Of solutions only the single-neuron theory knows it (with offsets one more row,
    the last); InputError for others.
    """
    if isinstance(source, TheorySolution):
        return source.features.weight_covariance
    if isinstance(source, Draws):
        return source.observable("weight_covariance").mean
    w = source.first_layer
    neurons = w.shape[0] * w.shape[-2]
    return source.network.weight_precision[0] * np.einsum("s...ai,s...aj->...ij", w, w) / neurons


# --- all of it ----------------------------------------------------------------------------------------------


def learned(source: Draws | Ensemble, network: Network | None = None, train: Dataset | None = None) -> LearnedFeatures:
    """The features of sampled or trained networks, as ``solution.features`` has those of the single-neuron theory.

    Draws, which need their ``network`` and ``train``, have what ``fw.sample`` recorded with
    ``observables=("weight_covariance", "hidden_kernel")``, and no readouts. Raises InputError where these are missing,
    or for several hidden layers.
    """
    network = _network(source, network)
    train = source.train if isinstance(source, Ensemble) else train
    if train is None:
        raise InputError("draws without their training set", "network and train", "give train=... as it was sampled")
    if network.depth != 1:
        raise InputError(f"the features of {network.depth} hidden layers", "one hidden layer", "take a shallow network")
    readouts = None
    if isinstance(source, Ensemble):
        v = source.readouts.reshape(len(source.seeds), source.readouts.shape[1], -1, network.widths[0])  # (S, D, n, N)
        neurons = v.transpose(0, 3, 2, 1).reshape(len(v) * network.widths[0], -1)
        readouts = math.sqrt(network.weight_precision[-1]) * neurons
    return LearnedFeatures(
        weight_covariance(source), hidden_kernel(source), readouts, network.field_shape(train.x.shape[1:])
    )


def _network(source: Source, network: Network | None) -> Network:
    if isinstance(source, Ensemble):
        if source.diverged.any():
            raise InputError(source.message.partition(";")[0], "networks that did not", "take a smaller learning_rate")
        return source.network
    if isinstance(source, TheorySolution):
        return source.theory.network
    if network is None:
        raise InputError("draws without their network", "the network that was sampled", "give network=... as well")
    return network


def _pairs(start: ArrayLike, end: ArrayLike, ndims: tuple[int, ...] | None = None) -> tuple[Array, Array]:
    """Two kernels, or stacks of them, that are square and of one shape."""
    first, second = (checks.real_array("kernel", kernel, ndims) for kernel in (start, end))
    if first.ndim < 2 or first.shape[-1] != first.shape[-2] or first.shape != second.shape:
        given = f"kernels of shapes {first.shape} and {second.shape}"
        raise InputError(given, "two square ones of one size", "use the same points for both")
    return first, second


def _centre(kernel: Array) -> Array:
    rows = kernel.mean(0)
    return kernel - rows - kernel.mean(1)[:, None] + rows.mean()
