"""The public functions, given values of every kind and size: an answer that holds up, or an error of three parts."""

from __future__ import annotations

import math
import random
import traceback
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

import finitewidth as fw

from .case import Target

ODD: tuple[Any, ...] = (
    *(
        0,
        -1,
        0.5,
        math.nan,
        math.inf,
        -math.inf,
        1e-300,
        1e300,
        5e-324,
        10**400,
        -(10**5000),
        True,
        None,
        "1",
        "",
        b"1",
    ),
    *([], [1], (1, 2), {}, {"a": 1}, set(), 1 + 0j, Decimal(1), Fraction(10**400), np.float32(2), np.int8(3), object()),
    *(np.array(1.0), np.array([1.0]), np.array("x"), np.nan * np.ones(2), [[1], [1, 2]], range(3), np.bool_(True)),
)
NAMES = ("erf", "relu", "linear", "quadratic", "leaky_relu") * 5 + ("tanh", "gelu", "sigmoid", "silu")
SCALES = (*(1.0,) * 16, 1e-3, 1e3, 1e-8, 1e8, 1e-150, 1e150, 1e-75, 1e75, 1e-308)


def often(rng: random.Random, good: tuple[Any, ...], share: float = 0.9) -> Any:
    """One of the good values, or now and then, in wild cases, any value at all."""
    return rng.choice(good) if tame(rng) or rng.random() < share else rng.choice(ODD)


def tame(rng: random.Random) -> bool:
    """Whether this case is to get past the checks, so that its numbers come to be computed."""
    if not hasattr(rng, "tame"):
        rng.tame = rng.random() < 0.6  # type: ignore[attr-defined]
    return bool(rng.tame)  # type: ignore[attr-defined]


def some(rng: random.Random, share: float = 0.3, **options: tuple[Any, ...]) -> dict[str, Any]:
    """Some of the options, each often with a good value."""
    return {name: often(rng, values) for name, values in options.items() if rng.random() < share}


def numbers(rng: random.Random, *shape: int) -> np.ndarray:
    """An array with repeated rows, constant columns, zeros, any scale, now and then NaN."""
    array = np.random.default_rng(rng.randrange(2**32)).standard_normal(shape)
    if rng.random() < 0.2 and array.size and array.ndim:
        array[rng.randrange(len(array))] = array[0]
    if rng.random() < 0.1 and array.ndim > 1 and array.size:
        array[:, 0] = rng.choice((0.0, 1.0, 1e8))
    if rng.random() < 0.1:
        array = np.round(array)
    array *= rng.choice(SCALES)
    if rng.random() < 0.03 and array.size and not tame(rng):
        array.flat[0] = rng.choice((math.nan, math.inf, 1e308))
    return array


def any_array(rng: random.Random, *shape: int) -> Any:
    """Numbers, often of that shape and type."""
    if tame(rng):
        return numbers(rng, *shape)
    if rng.random() < 0.06:
        return rng.choice(ODD)
    if rng.random() < 0.1:
        shape = tuple(rng.choice((0, 1, 2, 3)) for _ in range(rng.randrange(5)))
    array = numbers(rng, *shape)
    kind = rng.randrange(25)
    if kind == 0:
        return array.astype(complex)
    if kind == 1:
        return array.astype(object)
    if kind == 2:
        return array.astype(str)
    if kind == 3:
        return array.astype(np.float16)
    if kind == 4:
        return np.ma.masked_array(array, rng.random() < 0.5)
    if kind == 5:
        return array.tolist()
    if kind == 6:
        return array.astype(np.longdouble)
    if kind == 7:
        return np.asfortranarray(array)[..., ::-1] if array.ndim else array
    return array


def targets(rng: random.Random, count: int) -> tuple[Any, Any]:
    """(y, classes)."""
    kind = rng.choice((0, 1, 3, 5, 6, 7)) if tame(rng) else rng.randrange(8)
    if kind == 1 and tame(rng):
        return np.array([rng.randrange(3) for _ in range(count)]), (0, 1, 2)
    if kind == 0:
        return [rng.choice((-1, 1)) for _ in range(count)], None
    if kind == 1:
        return np.array([rng.randrange(3) for _ in range(count)]), rng.choice((None, (0, 1, 2), (0, 1)))
    if kind == 2:
        return np.array([rng.choice("ab") for _ in range(count)]), rng.choice((("a", "b"), None))
    if kind == 3:
        return numbers(rng, count, 2), rng.choice(((), None))
    if kind == 4:
        return any_array(rng, count), rng.choice(((), None, (0, 1)))
    return numbers(rng, count), ()


def dataset(rng: random.Random, shape: tuple[int, ...] | None = None) -> fw.Dataset:
    """A data set that may be odd but is one: others are refused here."""
    count = rng.randrange(2, 9)
    shape = shape or rng.choice(((3,), (1,), (2, 2), (4, 2, 1)))
    y, classes = targets(rng, count)
    return fw.Dataset(numbers(rng, count, *shape), y, classes=classes)


def network(rng: random.Random, share: float = 0.97, dense: bool = False, quick: bool = False) -> Any:
    """A network of any architecture, or a fully connected one; ``quick``: whose kernel has a closed form."""
    options = some(
        rng,
        0.3,
        activation=NAMES[:-4] if quick else NAMES,
        weight_precision=(1.0, 0.5, 1e-6, 1e6, 1e-150, 1e150),
        offset_precision=(1.0, 1e-3, 1e8),
        readout=("standard", "mean-field"),
    )
    width = often(rng, (1, 2, 10, 300, 10**6, 10**12), share)
    if dense or rng.random() < 0.7:
        depth = rng.choice((1,) * 8 + (2, 3))
        return fw.FullyConnected(widths=often(rng, (width, (width,) * depth), share), **options)
    local = rng.choice((fw.Convolutional, fw.LocallyConnected))
    more = some(
        rng, 0.3, stride=(1, 2), padding=("none", "same", 1), pool=("none", "average"), input_shape=((2, 2, 1), (4, 1))
    )
    return local(channels=width, patch=often(rng, (1, 2, (2, 1)), share), **options, **more)


def temperature(rng: random.Random) -> Any:
    return often(rng, (0.05, 1.0, 1e-12, 1e-6, 1e6, 1e-300, 1e300), 0.95)


def finite(value: Any, message: str = "") -> None:
    assert np.isfinite(np.asarray(value, dtype=float)).all(), f"not finite {message}"


def sound(prediction: fw.Prediction) -> None:
    """What every prediction is."""
    finite(prediction.mean)
    finite(prediction.variance)
    assert (np.asarray(prediction.variance) >= 0.0).all()
    assert prediction.train_error >= 0.0


# --- one function each ------------------------------------------------------------------------------------------------


def data_set(rng: random.Random) -> None:
    count = rng.randrange(5)
    y, classes = targets(rng, rng.randrange(9) if rng.random() < 0.1 else count)
    made = fw.Dataset(any_array(rng, count, 3), y, classes=often(rng, (classes,), 0.95))
    finite(made.x)
    finite(made.y)
    made.summary()
    made.subset(often(rng, ([0], [-1], slice(None), np.ones(len(made), bool)))) if rng.random() < 0.5 else made[0]


def splitting(rng: random.Random) -> None:
    from finitewidth.data import standardise
    from finitewidth.data.dataset import split

    whole = dataset(rng)
    train, test = split(whole, often(rng, (1, 2, 3)), often(rng, (1, 2, None)), often(rng, (0, 1, 2**70)))
    a, b, _ = standardise(train, test, often(rng, ("none", "global", "feature")))
    finite(a.x)
    finite(b.x)


def fully_connected(rng: random.Random) -> None:
    network(rng, 0.6).with_width(often(rng, (1, 5)))


def activation(rng: random.Random) -> None:
    made = fw.FullyConnected(widths=(3,), activation=often(rng, NAMES, 0.7))
    finite(made.phi(np.array([-1.0, 0.0, 2.0])))


def kernel(rng: random.Random) -> None:
    x = any_array(rng, 3, 2, 2) if rng.random() < 0.5 else any_array(rng, 3, 2)
    k = fw.kernels.nngp(network(rng), x, *([any_array(rng, *np.shape(x))] if rng.random() < 0.3 else []))
    finite(k)


def tangent_kernel(rng: random.Random) -> None:
    x = any_array(rng, 3, 2, 2) if rng.random() < 0.4 else any_array(rng, 3, 2)
    finite(fw.kernels.ntk(network(rng), x, **some(rng, 0.2, parameters=("weights", "whitened"))))


def layers(rng: random.Random) -> None:
    dense = {"dense": some(rng, 0.7, weight_precision=(1.0, 2.0), offset_precision=(None, 10.0))}
    conv = {"conv": some(rng, 0.8, patch=([2, 2], [1, 1]), stride=([1, 1], [2, 2]), padding=("same", "none", 1))}
    attend = {"self_attention": some(rng, 0.9, mechanism=("softmax", "identity"))}
    known = (dense, dense, "erf", "relu", conv, "flatten", "global_average_pool", attend, {"dense_per_token": {}})
    stack = [often(rng, known, 0.95) for _ in range(rng.randrange(5))] + [dense]
    made = fw.kernels.from_layers(often(rng, (stack,), 0.95), *([] if rng.random() < 0.8 else [(2, 2, 1)]))
    x = any_array(rng, 3, 2, 2, 1) if rng.random() < 0.6 else any_array(rng, 3, 2)
    finite(made.nngp(x) if rng.random() < 0.5 else made.ntk(x))


def theory(
    rng: random.Random, share: float = 0.95, methods: tuple[str, ...] = ("saddle", "integrate", "infinite")
) -> Any:
    chosen = (*methods, fw.Saddle(solver="exact"), fw.Integrate(closure="product"), fw.Infinite(solver="exact"))
    given: dict[str, Any] = some(rng, 0.5, closure=("nested", "product", None), method=chosen)
    return fw.theory_of(often(rng, (network(rng),), share), temperature(rng), **given)


def theories(rng: random.Random) -> None:
    theory(rng, 0.8, ("saddle", "integrate", "infinite", "neuron", "saddel"))


def solving(rng: random.Random) -> None:
    train = dataset(rng)
    solution = fw.solve(theory(rng), often(rng, (train,), 0.97), **some(rng, 0.05, memory=(1e9, 1e5, "1GB")))
    if solution.converged:
        finite(solution.order_parameters, "order parameters")
        finite(solution.log_evidence, "log evidence")
        finite(solution.action)


def predicting(rng: random.Random) -> None:
    train = dataset(rng)
    solution = fw.solve(theory(rng), train)
    x = any_array(rng, 2, *train.x.shape[1:])
    prediction = fw.predict(solution, x)
    if solution.converged:
        sound(prediction)
        errors = prediction.errors(any_array(rng, *prediction.mean.shape))
        assert errors.test_error >= 0.0


def curve(rng: random.Random) -> None:
    train = dataset(rng, (3,))
    test = train[:2] if rng.random() < 0.7 else dataset(rng, (3,))
    rows = fw.learning_curve(
        network(rng, dense=tame(rng)),
        often(rng, (train,), 0.98),
        often(rng, (test, train), 0.98),
        **some(
            rng,
            0.4,
            widths=([1, 10], [5], [10**12]),
            temperature=(0.1, [0.1, 1e-9], [1e6]),
            n_train=([1], [2, 1]),
            method=("saddle", "infinite", "integrate", fw.Saddle(closure="nested"), fw.Saddle(closure="product")),
            memory=(1e9,),
        ),
    )
    for row in rows:
        if row.converged:
            finite([row.test_error, row.train_error, row.bias, row.variance, row.log_evidence])
            assert min(row.test_error, row.train_error, row.bias, row.variance) >= 0.0


def selecting(rng: random.Random) -> None:
    train = dataset(rng, (3,))
    found = fw.select(
        network(rng, dense=tame(rng), quick=True),
        train,
        **some(
            rng,
            0.3,
            temperature=(0.1, 1e-3),
            widths=([5], [3, 30]),
            activations=(["erf"], ["relu"]),
            depths=([1], [2]),
            optimise=((), ("temperature",), ("precision",)),
            method=("saddle", "infinite"),
        ),
    )
    finite(found.table[0].log_evidence)
    str(found)


def spectral(rng: random.Random) -> None:
    train = dataset(rng, (3,))
    fw.spectral_learning_curve(
        often(rng, (network(rng, dense=True), fw.kernels.nngp(fw.FullyConnected(widths=(3,)), train.x)), 0.95),
        train,
        often(rng, ([1, 2], [3], 2, []), 0.9),
        **some(rng, 0.3, ridge=(0.1, 1e-9), trials=(0, 2), noise=(0.0, 0.1), seed=(0, 1)),
    )


def solver(rng: random.Random) -> None:
    fw.Solver(
        **some(
            rng,
            0.5,
            kind=("auto", "exact", "krylov"),
            accuracy=(0.1, None),
            probes=(4, 31),
            test_probes=(5,),
            most_dimensions=(10,),
            seed=(0, 3),
            precision=("auto", "single", "double"),
        )
    )


def methods(rng: random.Random) -> None:
    kind, settings = rng.choice(_METHODS)
    kind(**some(rng, 0.5, **settings))


def likelihoods(rng: random.Random) -> None:
    assert fw.Gaussian(often(rng, (0.05, 1e-12, 1e300), 0.5)).temperature > 0.0


def predictions(rng: random.Random) -> None:
    shape = (3, 2) if rng.random() < 0.3 else (3,)
    prediction = fw.Prediction(numbers(rng, *shape), np.abs(numbers(rng, *shape)), 0.1)
    errors = prediction.errors(any_array(rng, *shape))
    assert errors.accuracy is None or 0.0 <= errors.accuracy <= 1.0


def validated(function: Callable[[], Any]) -> Any:
    """What scikit-learn's own validation refuses, with the texts that its conventions ask for, counts as refused."""
    try:
        return function()
    except (ValueError, TypeError) as error:
        frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
        if isinstance(error, fw.InputError) or not any("sklearn" in name for name in frames):
            raise
        raise fw.InputError("what scikit-learn refuses", "what it takes", "see its message") from error


def regressor(rng: random.Random) -> None:
    model = fw.FiniteWidthRegressor(
        **some(rng, 0.2, widths=(5, (50, 3)), activation=NAMES[:3], temperature=(0.1, 1e-9), network=("fc", "cnn"))
    )
    validated(lambda: model.fit(any_array(rng, 5, 3), any_array(rng, 5)))
    validated(lambda: model.predict(any_array(rng, 2, 3), return_std=rng.random() < 0.5))


def classifier(rng: random.Random) -> None:
    model = fw.FiniteWidthClassifier(
        **some(rng, 0.2, widths=(5, (50, 3)), weight_precision=(1.0, (1.0, 2.0)), temperature=(0.1, 1e-9))
    )
    y = rng.choice((np.array([0, 1, 0, 1, 2]), np.array(list("ababa")), any_array(rng, 5), np.ones(5)))
    validated(lambda: model.fit(any_array(rng, 5, 3), y))
    finite(validated(lambda: model.predict_proba(numbers(rng, 2, 3))))


def feature_measures(rng: random.Random) -> None:
    f = fw.features
    which = rng.randrange(3)
    if which == 0:
        value = f.alignment(any_array(rng, 3, 3), any_array(rng, 3, 3), centred=rng.random() < 0.5)
        assert math.isnan(value) or -1.001 <= value <= 1.001
    elif which == 1:
        f.label_alignment(any_array(rng, 3, 3), any_array(rng, 3))
    else:
        f.kernel_distance(any_array(rng, 3, 3), any_array(rng, 3, 3))


def of_solutions(rng: random.Random) -> None:
    solution = fw.solve(theory(rng), dataset(rng))
    rng.choice(
        (
            fw.features.information,
            fw.features.renormalised_kernel,
            fw.features.between_patches,
            fw.features.prior_kernel,
        )
    )
    solution.evidence_gradient() if rng.random() < 0.5 else solution.q_map()


def teachers(rng: random.Random) -> None:
    from finitewidth.data import synthetic

    sizes = {"n_train": often(rng, (3, 5)), "n_test": often(rng, (2, 4)), "n_inputs": often(rng, (2, 3))}
    more = some(rng, 0.3, seed=(0, 1), noise=(0.0, 0.1), activation=("erf", "relu", "quadratic"))
    synthetic.one_hidden_layer_teacher(**sizes, width=often(rng, (2, 5)), **more)


def blocks(rng: random.Random) -> None:
    from finitewidth.data import block_average

    block_average(any_array(rng, 2, 4, 4), often(rng, (1, 2, 4, 3)))


def linearised(rng: random.Random) -> None:
    train = dataset(rng, (3,))
    flow = fw.lazy_training(often(rng, (network(rng, dense=tame(rng)),), 0.97), often(rng, (train,), 0.97))
    options = some(rng, 0.5, times=([0.1, 1.0], [0.0], 1.0))
    flow.curve(often(rng, (train[:2],), 0.9), **options)


def sampling(rng: random.Random, function: Callable[..., Any], bad: dict[str, tuple[Any, ...]]) -> None:
    """The checks of what would compile for seconds: at least one option cannot be."""
    train = dataset(rng, (3,))
    given = {name: rng.choice(values) for name, values in bad.items() if rng.random() < 0.3}
    name = rng.choice(list(bad))
    given[name] = rng.choice(bad[name])
    if "optimiser" not in bad:
        given = {"temperature": often(rng, (0.1,), 0.7)} | given
    function(often(rng, (network(rng),), 0.95), train, train, **given)


def comparing(network: Any, train: Any, test: Any, temperature: Any, **settings: Any) -> None:
    fw.compare(network, train, test, temperature=temperature, methods=("saddle", fw.Sample(**settings)))


_METHODS: tuple[tuple[Any, dict[str, tuple[Any, ...]]], ...] = (
    (fw.Saddle, {"closure": ("nested", "product", None), "solver": ("auto", "exact", fw.Solver("krylov"))}),
    (fw.Integrate, {"closure": ("nested", "product", None)}),
    (fw.Infinite, {"solver": ("auto", "exact", fw.Solver("krylov"))}),
    (fw.SingleNeuron, {"particles": (200, 512), "seconds": (1, 60.0)}),
    (fw.Sample, {"chains": (1, 4), "warmup": (0, None), "seed": (0, 3), "observables": ("order_parameter", (), ["x"])}),
    (fw.Train, {"optimiser": ("adam", "sgd"), "batch": (5, None), "seeds": (3, [1, 2]), "learning_rate": (0.1, None)}),
)
_NUMBER = (0, -1, math.nan, math.inf, "x", None, 10**400, 1.5)
_SAMPLING: dict[str, tuple[Any, ...]] = {
    "chains": (0, -1, 1.5, "x", 10**400),
    "draws": (0, -1, 2.5, "x", 10**9),
    "sampler": ("x", None, 3),
}
_TRAINING: dict[str, tuple[Any, ...]] = {
    "optimiser": ("x", None, 3),
    "steps": (0, -1, 2.5, "x", None),
    "seeds": (0, -1, [], [1, 1], [2**70], "x", None),
    "learning_rate": (0.0, -1.0, math.nan, "x"),
    "momentum": (1.0, -0.5, "x"),
    "batch": (0, 10**6, "x", 1.5),
}


def plans(rng: random.Random) -> None:
    from .mutate import value

    plan: Any = {"data": "digits", "grid": {"width": often(rng, ([3, 4], np.arange(1, 4), range(2, 4)))}}
    plan |= {
        rng.choice(("depth", "seed", "method", "temperature", "x", 3)): value(rng) for _ in range(rng.randrange(3))
    }
    for point in fw.sweeps.Plan.of(often(rng, (plan,), 0.95)).points():
        assert len(point.id) == 24


def _target(name: str, function: Callable[[random.Random], Any], cost: float = 0.005) -> Target:
    return Target(name, lambda rng, folder, valid: function(rng), kind="function", cost=cost)


def _later(name: str, bad: dict[str, tuple[Any, ...]]) -> Target:
    return _target(f"fw.{name}", lambda rng: sampling(rng, getattr(fw, name), bad))


def _folder_functions(rng: random.Random, folder: Path, valid: Any) -> None:
    """What takes a folder or a file, given anything."""
    place = rng.choice(
        (*ODD, str(folder), folder, folder / "x", "~nobody-here/x", "\x00", "a" * 5000, "\ud800", "/dev/zero")
    )
    function = rng.choice(
        (fw.sweeps.status, fw.sweeps.read, fw.data.load, fw.data.npz, fw.data.image_folder, "rows", "csv")
    )
    if function == "rows":
        list(fw.sweeps.rows(place))
    elif function == "csv":
        fw.data.csv(place, "y")
    else:
        function(place)


FUNCTIONS = (
    _target("fw.Dataset", data_set),
    _target("data.split and standardise", splitting),
    _target("data.block_average", blocks),
    _target("data.synthetic", teachers),
    Target("readers given anything", _folder_functions, kind="function"),
    _target("fw.Activation", activation),
    _target("networks", fully_connected),
    _target("kernels.nngp", kernel, 0.01),
    _target("kernels.ntk", tangent_kernel),
    _target("kernels.from_layers", layers),
    _target("fw.theory_of", theories),
    _target("fw.solve", solving, 0.03),
    _target("fw.predict", predicting, 0.03),
    _target("fw.learning_curve", curve, 0.03),
    _target("fw.select", selecting, 0.03),
    _target("fw.spectral_learning_curve", spectral),
    _target("fw.Solver", solver),
    _target("methods", methods),
    _target("fw.Gaussian", likelihoods),
    _target("fw.Prediction", predictions),
    _target("fw.FiniteWidthRegressor", regressor, 0.02),
    _target("fw.FiniteWidthClassifier", classifier, 0.02),
    _target("features of arrays", feature_measures),
    _target("features of solutions", of_solutions, 0.02),
    _target("fw.lazy_training", linearised, 0.03),
    _later("sample", _SAMPLING),
    _target("fw.compare", lambda rng: sampling(rng, comparing, _SAMPLING)),
    _later("step_bias", {"step_size": (0.0, -1.0, math.nan, "x", None, 10**400)}),
    _later("train", _TRAINING),
    _target("sweeps.Plan", plans, 0.01),
)
