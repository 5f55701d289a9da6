"""What Python shows: short text, tables as on the command line; nothing heavy on the way."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessRegressor

import finitewidth as fw
from finitewidth import Convolutional, FullyConnected, LocallyConnected, SingleNeuron, Solver, cli
from finitewidth.checks.exceptions import KeywordError
from finitewidth.curves.comparison import ComparedRow, Comparison
from finitewidth.curves.selection import Candidate, Selection
from finitewidth.data import Standardiser
from finitewidth.display import Displayed, Tabulated, short
from finitewidth.inference.likelihoods import Gaussian
from finitewidth.networks.coupled import Joint
from finitewidth.runs.fingerprints import every_field
from finitewidth.sampling import Sampled
from finitewidth.theory import rows as theory_rows
from finitewidth.theory.validity import Validity
from finitewidth.training.ensemble import History

HOSTILE = "<script>alert(1)</script>&\"'"
RNG = np.random.default_rng(0)
X, Z = RNG.standard_normal((40, 6)), RNG.standard_normal((9, 6))
TRAIN, TEST = fw.Dataset(X, np.tanh(X[:, 0])), fw.Dataset(Z, np.tanh(Z[:, 0]))
NAMED = fw.Dataset(X, np.where(X[:, 0] > 0, HOSTILE, "cat"), classes=("cat", HOSTILE))
IMAGES = fw.Dataset(X.reshape(40, 6, 1), TRAIN.y)
NETWORK = FullyConnected(widths=20)
CONVOLUTIONAL = Convolutional(channels=10, patch=(2, 1))
Kernel = fw.kernels.NetworkKernel
LAYERS = [{"conv": {"patch": [3, 3]}}, "relu", "flatten", "dense"]
NETWORKS = [
    NETWORK,
    FullyConnected(widths=(20, 30), activation="relu", offset_precision=2.0),
    FullyConnected(widths=(20, 20), weight_precision=(1.0, 2.5, 1 / 3), readout="mean-field"),
    CONVOLUTIONAL,
    Convolutional(channels=10, patch=(2, 1), stride=(1, 1), pool="average", padding="same"),
    LocallyConnected(channels=10, patch=2, input_shape=(4, 4, 1)),
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Skip(fw.Network):
    widths: object = 100
    strength: float = 0.5

    def covariance(self, q, x1, x2):
        return (q[0] + self.strength) * x1 @ x2.T / x1.shape[1]


def draws() -> fw.Draws:
    series = RNG.standard_normal((2, 50))
    mean = RNG.standard_normal((2, 50, 9))
    attrs = {"network": repr(NETWORK), "sampler": "collapsed", "temperature": 0.05}
    counts = np.ones((2, 50), int)
    return fw.Draws(mean, mean**2, series**2, series, series**0, counts, counts < 0, {}, {"step": 0.1}, True, {}, attrs)


def ensemble() -> fw.Ensemble:
    history = History(np.arange(3), *np.ones((3, 2, 3)))
    settings = {"optimiser": "adam", "temperature": 0.05, "learning_rate": 0.01}
    return fw.Ensemble(NETWORK, TRAIN, TEST, np.arange(2), {}, {}, history, settings, complete=False)


def compared(width: int) -> ComparedRow:
    theory = fw.learning_curve(NETWORK, TRAIN, TEST, [width])[0]
    sampled = Sampled(NETWORK.with_width(width), Gaussian(0.05), TRAIN, draws(), TEST.x).row(TEST, 1.0)
    return ComparedRow({"saddle": theory, "sample": sampled})


def shown() -> dict[str, object]:
    """One of each; of several methods and architectures where they print by rules of their own."""
    solutions = {m: fw.solve(fw.theory_of(NETWORK, 0.05, method=m), TRAIN) for m in ("saddle", "integrate", "infinite")}
    local = fw.solve(fw.theory_of(CONVOLUTIONAL, 0.05), IMAGES)
    deep = fw.solve(fw.theory_of(NETWORKS[1], 0.05), TRAIN)
    prediction = fw.predict(solutions["saddle"], TEST.x)
    lazy = fw.lazy_training(NETWORK, TRAIN)
    named = fw.Activation.from_function(np.sin, HOSTILE)
    networks = (fw.FullyConnected(n, activation=named, weight_precision=(1.0, 2.0)) for n in range(1, 60))
    candidates = tuple(Candidate(network, 0.1, -3.0, network.widths > (1,), "") for network in networks)
    outputs = fw.Dataset(X, X[:, :5])
    return {
        **{f"network {i}": network for i, network in enumerate([*NETWORKS, Skip(widths=3), Joint(NETWORK, 0.1)])},
        **{name: value for m, s in solutions.items() for name, value in ((m, s), (f"theory of {m}", s.theory))},
        **{"deep": deep, "local": local, "local theory": local.theory, "map": local.q_map(), "minimum": deep.minima[0]},
        "outputs": fw.solve(fw.theory_of(NETWORK, 0.05), outputs),
        "own theory": fw.theory_of(Skip(widths=3), 0.1),
        "neuron": fw.theory_of(NETWORK, 0.05, method=fw.SingleNeuron(seed=2)),
        **{"data": TRAIN, "classes": NAMED, "scaling": Standardiser.fit(X), "prediction": prediction},
        **{"errors": prediction.errors(TEST.y), "draws": draws(), "ensemble": ensemble()},
        "sampled errors": draws().errors(TEST.y),
        "curve": fw.learning_curve(NETWORK, TRAIN, TEST, [10, 20], [0.1, 0.2], [20, 40]),
        "long curve": fw.learning_curve(NETWORK, TRAIN, TEST, range(1, 200)),
        "row": fw.learning_curve(NETWORK, TRAIN, TEST)[0],
        "comparison": Comparison((compared(10), compared(20)), False),
        **{"nothing": Comparison((), False), "no rows": fw.LearningCurve(()), "compared": compared(10)},
        "selection": Selection(NETWORK, 0.1, solutions["saddle"], candidates),
        **{"lazy": lazy, "lazy curve": lazy.curve(TEST), "lazy row": lazy.curve(TEST)[0]},
        "spectral": fw.spectral_learning_curve(NETWORK, TRAIN, [5, 10], trials=2),
        **{
            "kernel": Kernel(),
            "stack": fw.kernels.from_layers(LAYERS),
            "kernels": fw.kernels.from_layers(NETWORK).both(X),
        },
        **{"solver": Solver("krylov"), "options": SingleNeuron()},
        "plan": fw.sweeps.Plan.of({"data": "digits", "grid": {"width": [10, 20]}}),
    }


SHOWN = shown()


@pytest.fixture
def counted(monkeypatch):
    """The solutions whose validity is computed; the computation itself is left out."""
    seen = []

    def compute(solution, test):
        seen.append(solution)
        width = solution.theory.network.widths[0]
        return Validity("good", 1.0 / width, f"as good as width {width} can be")

    monkeypatch.setattr(theory_rows, "validity", compute)
    return seen


@pytest.mark.parametrize("name", SHOWN)
def test_text_of_few_lines(name):
    value = SHOWN[name]
    lines = repr(value).splitlines()
    assert 1 <= len(lines) <= (50 if isinstance(value, Tabulated) else 10)
    assert max(map(len, lines)) <= 320
    assert isinstance(value, Displayed)
    assert lines == [line.rstrip() for line in lines]


def test_arrays_are_not_written_out():
    long = fw.Prediction(np.linspace(-1.0, 2.0, 5000), np.full(5000, 0.5), 0.1)
    assert repr(long).split() == repr(copy.deepcopy(long)).split()
    assert repr(long) == "Prediction(mean=<array (5000,), -1 to 2>, variance=<array (5000,), 0.5 to 0.5>,\n" + (
        " " * 11 + "train_error=0.1)"
    )
    assert short(np.array([1.0, 2.0])) == "[1, 2]"
    assert short(list(range(1000))) == "[0, 1, 2, 3, 4, 5, ... 1000 in all]"
    assert short(np.zeros((3, 0))) == "<array (3, 0)>"
    assert short((1.23456789,)) == "(1.23457,)"
    assert len(short("x" * 5000)) <= 200


def test_no_text_runs_over_ten_lines():
    many = dataclasses.make_dataclass("Many", [f"field_{i}" for i in range(500)], bases=(Displayed,), frozen=True)
    lines = repr(many(*range(500))).splitlines()
    assert len(lines) == 10
    assert lines[-1].endswith(" ...)")


def test_standard_errors_stand_behind_their_values():
    text = repr(SHOWN["sampled errors"])
    assert " ± " in text
    assert "_se=" not in text


def test_nothing_is_diagnosed_for_the_sake_of_a_text(monkeypatch):
    sampled = draws()
    monkeypatch.setattr(fw.Draws, "errors", None)
    assert "chains=2" in repr(sampled)
    assert "_watched" not in vars(sampled)


# --- networks and kernels -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", [*NETWORKS, Skip(widths=(3, 4), strength=0.1), Solver("krylov", 0.1)])
def test_a_choice_prints_as_it_is_made(network):
    assert eval(repr(network)) == network
    assert len(repr(network).splitlines()) == 1
    for other in (pickle.loads(pickle.dumps(network)), copy.copy(network), copy.deepcopy(network)):
        assert other == network
        assert repr(other) == repr(network)
    assert dataclasses.replace(network) == network


def test_networks_that_differ_print_differently():
    changed = [
        dataclasses.replace(NETWORK, **change)
        for change in (
            {"widths": 21},
            {"widths": (20, 20), "weight_precision": 1.0},
            {"activation": "relu"},
            {"activation": np.sin},
            {"weight_precision": 2.0},
            {"weight_precision": (1.0, 1.0 + 1e-15)},
            {"offset_precision": 1.0},
            {"readout": "mean-field"},
        )
    ]
    assert len({repr(network) for network in [NETWORK, *changed]}) == len(changed) + 1


def test_fingerprints_are_those_of_before():
    """Checkpoints of earlier versions are found by this text."""
    assert every_field(Joint(NETWORK, 0.1)) == (
        "Joint(network=FullyConnected(activation=Activation(name='erf', odd=True, homogeneous=False), "
        "weight_precision=(1.0, 1.0), offset_precision=None, readout='standard', widths=(20,)), coupling=0.1)"
    )
    assert every_field(Skip(widths=3)) == (
        "Skip(activation=Activation(name='erf', odd=True, homogeneous=False), weight_precision=(1.0, 1.0), "
        "offset_precision=None, readout='standard', widths=(3,), strength=0.5)"
    )


def test_kernels_that_differ_print_differently():
    kernels = [
        Kernel(),
        Kernel(depth=5, activation="relu"),
        Kernel(kind="ntk"),
        Kernel(layers=LAYERS, input_shape=(8, 8, 1)),
        Kernel(layers=LAYERS, input_shape=(8, 8, 1), depth=3),
        Kernel(weight_precision=1.0 + 1e-12),
        Kernel(weight_precision_bounds="fixed"),
    ]
    assert all(a != b for i, a in enumerate(kernels) for b in kernels[:i])
    assert len({repr(kernel) for kernel in kernels}) == len(kernels)
    for kernel in kernels:
        assert eval(repr(kernel), {"NetworkKernel": Kernel}) == kernel == clone(kernel)
    first, second = map(fw.kernels.from_layers, (LAYERS, [*LAYERS[:1], "erf", *LAYERS[2:]]))
    assert repr(first) != repr(second)


def test_a_fitted_kernel_can_be_read():
    kernel = Kernel(depth=2)
    fitted = GaussianProcessRegressor(kernel.clone_with_theta(kernel.theta + 0.1), optimizer=None).fit(X, X[:, 0])
    text = repr(fitted.kernel_)  # values of theta are NumPy's
    assert text.startswith("NetworkKernel(depth=2, activation='erf', weight_precision=1.105")
    assert "np.float64" not in text
    assert eval(text, {"NetworkKernel": Kernel}) == fitted.kernel_


# --- learning curves ----------------------------------------------------------------------------------------------


def test_a_curve_prints_as_the_command_line_does(capsys, monkeypatch, counted):
    monkeypatch.setenv("COLUMNS", "80")
    options = "--data digits --classes 0,1 --n-train 30 --n-test 20 --width 10,50 --temperature 0.1"
    assert cli.main(["predict", *options.split()]) == 0
    out = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    train, test = fw.data.digits(classes=(0, 1), n_train=30, n_test=20)
    curve = fw.learning_curve(NETWORK, train, test, [10, 50], 0.1)
    title, place, *body = str(curve).splitlines()
    assert title == "Predicted errors, method saddle"
    assert place == "1 hidden layer, 30 training points, T = 0.1"
    start = out.index(body[1])
    assert out[start : start + len(body) - 1] == body[1:]
    assert any(line.startswith("Validity, width 10") for line in body)


def test_validity_is_computed_when_it_is_looked_at(counted):
    curve = fw.learning_curve(NETWORK, TRAIN, TEST, [10, 50])
    assert "not yet computed" in repr(curve)
    assert counted == []
    assert "Validity, width 10:" in str(curve)
    assert "not yet computed" not in repr(curve)
    assert repr(curve) == str(curve)
    assert [row["validity"] for row in curve.to_dicts()] == [dataclasses.asdict(row.validity) for row in curve]
    assert len(counted) == 2
    for solution in counted:  # no P x P matrix
        assert solution.gradient is None
        with pytest.raises(fw.InputError, match="without its matrices"):
            solution.predict(TEST)
    again = pickle.loads(pickle.dumps(curve))
    assert again == curve
    assert [row.validity for row in again] == [row.validity for row in curve]
    assert len(counted) == 2


def test_which_rows_have_a_validity(counted):
    def has(count, **options):
        rows = fw.learning_curve(NETWORK, TRAIN, TEST, range(5, 5 + count), **options)
        return {row.assessed is not None for row in rows}

    assert has(12) == {True}
    assert has(13) == {False}
    assert has(7, temperature=[0.1, 0.2]) == {False}
    assert has(1, method="infinite") == {False}
    assert counted == []


def test_a_long_curve_is_shortened_in_the_middle():
    text = str(SHOWN["long curve"])
    widths = [int(line.split()[0]) for line in text.splitlines() if line.strip()[:1].isdigit() and "layer" not in line]
    assert widths == [*range(1, 16), *range(185, 200)]
    assert "The first 15 and the last 15 of 199 rows." in text


def test_sizes_and_temperatures_have_columns():
    text = repr(SHOWN["curve"])
    assert "T = 0.1, 0.2" in text
    assert "20, 40 training points" in text
    rows = [line.split()[:3] for line in text.splitlines() if line.strip()[:2] in ("10", "20")]
    assert rows == [[n, t, p] for p in ("20", "40") for t in ("0.1", "0.2") for n in ("10", "20")]


def test_a_data_frame(counted):
    pandas = pytest.importorskip("pandas")
    curve = fw.learning_curve(NETWORK, TRAIN, TEST, [10, 50])
    frame = pandas.json_normalize(curve.to_dicts())
    assert frame["width"].tolist() == [10, 50]
    np.testing.assert_array_equal(frame["test_error"], curve.column("test_error"))
    assert frame["validity.expected_relative_error"].tolist() == [0.1, 0.02]
    assert frame["validity.statement"].tolist() == ["as good as width 10 can be", "as good as width 50 can be"]


# --- keywords -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "args", "keywords", "remedy"),
    [
        (FullyConnected, (), {"width": 50}, "did you mean widths=(100, 100), say, one a layer?"),
        (FullyConnected, (40,), {"depth": 2}, "did you mean widths=(100, 100), say, one a layer?"),
        (FullyConnected, (), {"hidden_layer_sizes": (10, 20)}, "did you mean widths=(100, 100), say, one a layer?"),
        (FullyConnected, (50,), {"activaton": "relu"}, "did you mean activation?"),
        (FullyConnected, (50,), {"bias": True}, "did you mean offset_precision, one over the variance?"),
        (FullyConnected, (50,), {"qqqqqq": 1}, "see help(FullyConnected)"),
        (Convolutional, (), {"width": 10, "patch": 3}, "did you mean channels?"),
        (LocallyConnected, (), {"channels": 10, "kernel_size": (3, 3)}, "did you mean patch?"),
        (Skip, (), {"strenght": 1.0}, "did you mean strength?"),
        (Solver, (), {"accurcy": 0.1}, "did you mean accuracy?"),
        (SingleNeuron, (), {"particle": 3}, "did you mean particles?"),
        (fw.Dataset, (), {"X": np.ones((30, 40)), "y": np.ones(30)}, "did you mean x?"),
        (fw.FiniteWidthRegressor, (), {"n_layers": 2}, "did you mean widths=(100, 100), say, one a layer?"),
        (Kernel, (), {"weight_variance": 2.0}, "did you mean weight_precision, one over the variance?"),
    ],
)
def test_a_keyword_that_is_none(kind, args, keywords, remedy):
    with pytest.raises(KeywordError) as caught:
        kind(*args, **keywords)
    error = caught.value
    assert error.remedy == remedy
    assert isinstance(error, fw.InputError)
    assert isinstance(error, TypeError)
    assert error.given.startswith(f"{kind.__name__}(")
    assert len(error.given) < 400
    assert pickle.loads(pickle.dumps(error)).args == error.args


def test_constructors_of_ones_own_take_what_they_like():
    class Open(fw.FullyConnected):
        def __init__(self, **anything):
            super().__init__(widths=anything.pop("size"))

    assert Open(size=7).widths == (7,)


def test_estimators_are_cloned_with_their_parameters():
    for one in (fw.FiniteWidthRegressor(widths=30), Kernel(depth=3)):
        assert clone(one).get_params() == one.get_params()
