"""What fuzzing found in theories (docs/security.md): arguments of any kind, scales at the ends of double precision."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.checks.exceptions import InputError, MemoryCapError
from finitewidth.theory.saddle import LogCholesky, _root, matrix_rate, squarable

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((6, 3)), RNG.standard_normal(6)
TRAIN = fw.Dataset(X, Y, classes=())
NETWORK = fw.FullyConnected(widths=(5, 5))
# on the way to a refusal NumPy may say that something overflowed
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
ODD = ([], np.array([np.nan, np.nan]), "", 0, False, 10**5000)


def kind_of(value):
    return type(value).__name__  # the whole numbers here are too long to print


@pytest.mark.parametrize("closure", ODD, ids=kind_of)
def test_a_closure_of_any_kind_is_refused(closure):
    with pytest.raises(InputError, match="closure"):
        fw.theory_of(NETWORK, 0.1, closure=closure)


@pytest.mark.parametrize("parameters", ODD, ids=kind_of)
def test_parameters_of_any_kind_are_refused(parameters):
    with pytest.raises(InputError, match="parameters"):
        fw.kernels.ntk(NETWORK, X, parameters=parameters)


@pytest.mark.parametrize("value", ODD, ids=kind_of)
def test_methods_and_options_of_any_kind_are_refused(value):
    with pytest.raises(InputError, match="method"):
        fw.theory_of(fw.FullyConnected(widths=5), 0.1, method=value)
    for name in ("closure", "solver"):
        with pytest.raises(InputError, match=name):
            fw.Saddle(**{name: value})
    for name in ("particles", "rounds", "seconds", "seed"):
        if name == "seed" and type(value) is int and value == 0:
            continue  # it is one
        with pytest.raises(InputError, match=name):
            fw.SingleNeuron(**{name: value})


def test_widths_of_uneven_lists_are_refused():
    with pytest.raises(InputError, match="widths"):
        fw.FiniteWidthClassifier(widths=[[1], [1, 2]]).fit(X, [0, 1, 0, 1, 0, 1])


@pytest.mark.parametrize("memory", [*ODD, -(10**5000), np.inf], ids=kind_of)
def test_a_cap_that_is_no_size_is_refused_wherever_one_is_taken(memory):
    for call in (
        lambda: fw.solve(fw.theory_of(NETWORK, 0.1), TRAIN, memory=memory),
        lambda: fw.learning_curve(NETWORK, TRAIN, TRAIN, memory=memory),
        lambda: fw.lazy_training(NETWORK, TRAIN, memory=memory),
        lambda: fw.spectral_learning_curve(NETWORK, TRAIN, [2], memory=memory),
    ):
        with pytest.raises(InputError, match="memory"):
            call()


def test_a_cap_is_a_number_or_a_text():
    for memory in (1e9, "1GB"):
        assert fw.solve(fw.theory_of(NETWORK, 0.1), TRAIN, memory=memory).converged
    with pytest.raises(MemoryCapError, match="1 kB"):
        fw.solve(fw.theory_of(NETWORK, 0.1), TRAIN, memory="1kB")


@pytest.mark.parametrize(
    ("x", "y", "network", "temperature"),
    [  # Q where the identity's multiples have no square; kernels and targets far beyond each other
        (1e8 * X, np.stack([Y, 2 * Y], 1), fw.FullyConnected(widths=(2, 2, 2), activation="quadratic"), 1e-12),
        (X, np.stack([Y, -Y], 1), fw.FullyConnected(widths=(1, 1), weight_precision=1e-150), 1e6),
        (1e75 * X, Y, fw.FullyConnected(widths=2, weight_precision=1e-150, readout="mean-field"), 1.0),
        (X[:, :, None], np.stack([Y, Y], 1), fw.Convolutional(channels=10, patch=1, activation="leaky_relu",
            weight_precision=1e150, offset_precision=1.0), 1e-300),
    ],
)  # fmt: skip
def test_extreme_scales_are_solved_flagged_or_refused(x, y, network, temperature):
    train = fw.Dataset(x, y, classes=())
    try:
        solution = fw.solve(fw.theory_of(network, temperature), train)
    except InputError as error:
        assert "wanted" in str(error)  # noqa: PT017
        return
    if solution.converged:
        assert np.isfinite(solution.order_parameters).all()
        assert np.isfinite(solution.log_evidence)
    else:
        assert solution.message


def test_a_root_that_rounding_moved_out_of_its_interval_is_at_the_nearer_end():
    assert _root(lambda v: v - 1.0, 0.0, 3.0) == pytest.approx(1.0, abs=1e-12)
    assert _root(lambda v: v + 1e-9, 0.0, 3.0) == 0.0
    assert _root(lambda v: v - 3.0 - 1e-9, 0.0, 3.0) == 3.0
    assert _root(lambda v: v, 0.0, 3.0) == 0.0
    assert _root(lambda v: v - 3.0, 0.0, 3.0) == 3.0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_wild_step_is_infinitely_bad(value):
    q = np.eye(3)
    q[1, 1] = value
    rate, slope = matrix_rate(5.0, q)
    assert rate == np.inf
    np.testing.assert_array_equal(slope, np.zeros((3, 3)))


def test_the_scales_that_coordinates_can_have():
    for scale in (1e-149, 1.0, 1e149):
        assert squarable(scale)
        assert np.isfinite(LogCholesky(scale * np.eye(2), 1.0).matrix(np.zeros(3))).all()
    for scale in (0.0, 1e-150, 1e150, np.inf, np.nan, -1.0):
        assert not squarable(scale)


def test_a_stack_whose_kernel_overflows_is_refused():
    layers = [{"dense": {"weight_precision": 1e-160}}, "relu", {"dense": {"weight_precision": 1e-160}}]
    stack = fw.kernels.from_layers(layers)
    for kernel, scale in itertools.product((stack.nngp, stack.ntk), (1.0, 1e150)):
        with pytest.raises(InputError, match="covariance"):
            kernel(scale * X)


def test_labels_and_layers_too_long_to_print_are_refused():
    for classes in (10**5000, np.array(1.0), "ab", b"ab"):
        with pytest.raises(InputError, match="classes"):
            fw.Dataset(X, Y, classes=classes)
    with pytest.raises(InputError, match="classes"):
        fw.Dataset(X, [0, 1, 0, 1, 0, 1], classes=(10**5000, 10**5000))
    with pytest.raises(InputError, match="layers"):
        fw.kernels.from_layers(10**5000)
    for value in ODD:
        with pytest.raises(InputError, match="mechanism"):
            fw.kernels.from_layers([{"self_attention": {"mechanism": value}}, "flatten", {"dense": {}}])


def test_times_of_any_kind_are_refused():
    flow = fw.lazy_training(NETWORK, TRAIN)
    for time in (10**400, -(10**5000), -1.0, np.nan, True, "1", np.ones(2)):
        with pytest.raises(InputError, match="time"):
            flow.predict(X, time)
    np.testing.assert_array_equal(flow.predict(X, np.inf).mean, flow.predict(X, np.float64(np.inf)).mean)
