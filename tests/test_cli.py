"""The command line: its JSON, its exit status, and one line for whatever cannot be used."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.cli import main
from finitewidth.runs import durations

QUICK = ("--data", "digits", "--classes", "0,1", "--n-train", "30", "--n-test", "20")
ROW_KEYS = {
    *("width", "depth", "temperature", "method", "train_error", "test_error", "bias", "variance", "accuracy"),
    *("order_parameters", "log_evidence", "converged", "seconds", "closure", "n_train", "message"),
}


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(durations, "SHORT", math.inf)  # what is announced depends on the machine


@pytest.fixture
def arrays():
    generator = np.random.default_rng(0)
    x = generator.standard_normal((40, 6))
    y = np.where(x[:, 0] > 0, 1, -1)
    return {"x_train": x[:30], "y_train": y[:30], "x_test": x[30:], "y_test": y[30:]}


@pytest.fixture
def npz(arrays):
    np.savez("data.npz", **arrays)
    return "data.npz"


def document(capsys, *arguments: str, command: str = "predict") -> dict:
    assert main([command, *arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def refusal(capsys, *arguments: str) -> str:
    """The one line of a command that must fail, and leave nothing behind."""
    before = sorted(Path().iterdir())
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("finitewidth: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert sorted(Path().iterdir()) == before
    return err


# --- what it prints -----------------------------------------------------------------------------------


def test_json_of_predict(capsys):
    found = document(capsys, *QUICK, "--width", "20,1e12", "--temperature", "0.1")
    assert set(found) == {"rows", "data", "version"}
    assert found["version"] == fw.__version__
    assert found["data"]["source"] == "digits"
    assert (found["data"]["train"]["points"], found["data"]["test"]["points"]) == (30, 20)
    assert [row["width"] for row in found["rows"]] == [20, 10**12]
    for row in found["rows"]:
        assert set(row) >= ROW_KEYS
        assert row["test_error"] == pytest.approx(row["bias"] + row["variance"])
        assert row["order_parameters"] == [row["mean_order_parameter"]]
        assert row["converged"] is True


def test_same_numbers_as_in_python(capsys):
    (row,) = document(capsys, *QUICK, "--widths", "20,30", "--precision", "1,2,3")["rows"]
    train, test = fw.data.digits(classes=(0, 1), n_train=30, n_test=20)
    network = fw.FullyConnected(widths=(20, 30), weight_precision=(1.0, 2.0, 3.0))
    (expected,) = fw.learning_curve(network, train, test)
    assert row["width"] == [20, 30]
    assert row["test_error"] == pytest.approx(expected.test_error, rel=1e-12)
    assert row["log_evidence"] == pytest.approx(expected.log_evidence, rel=1e-12)


@pytest.mark.parametrize("widths", ["40", "40,40"])
def test_width_is_a_list_with_widths(capsys, widths):
    (row,) = document(capsys, *QUICK, "--widths", widths)["rows"]
    assert row["width"] == [40] * len(widths.split(","))
    assert row["depth"] == len(row["width"])


def test_every_width_at_every_temperature(capsys):
    rows = document(
        capsys, *QUICK, "--width", "20,30", "--depth", "2", "--temperature", "0.1,1", "--closure", "product"
    )
    pairs = [(row["temperature"], row["width"]) for row in rows["rows"]]
    assert pairs == [(0.1, 20), (0.1, 30), (1.0, 20), (1.0, 30)]
    assert {row["closure"] for row in rows["rows"]} == {"product"}


def test_prior_options_reach_the_network(capsys):
    options = ("--offset-precision", "2", "--readout", "mean-field", "--activation", "relu", "--width", "20")
    (row,) = document(capsys, *QUICK, *options)["rows"]
    train, test = fw.data.digits(classes=(0, 1), n_train=30, n_test=20)
    network = fw.FullyConnected(widths=20, activation="relu", offset_precision=2.0, readout="mean-field")
    assert row["test_error"] == fw.learning_curve(network, train, test)[0].test_error


def test_infinite_width_has_no_order_parameters(capsys):
    (row,) = document(capsys, *QUICK, "--method", "infinite")["rows"]
    assert row["order_parameters"] == []
    assert row["mean_order_parameter"] is None
    assert row["method"] == "infinite"


def test_method_neuron(capsys, monkeypatch):
    """Its options reach it; that it solves: test_jobs.py."""
    asked = []
    instead = fw.Saddle().theory
    monkeypatch.setattr(fw.SingleNeuron, "theory", lambda self, *given: asked.append(self) or instead(*given))
    options = ("--method", "neuron", "--particles", "500", "--seconds", "90", "--width", "2000")
    (row,) = document(capsys, *QUICK, *options)["rows"]
    assert set(asked) == {fw.SingleNeuron(particles=500, seconds=90.0)}
    assert row["width"] == 2000


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--particles", "500"), "use method neuron"),
        (("--method", "neuron", "--depth", "2"), "one hidden layer"),
        (("--method", "neuron", "--seconds", "0"), "a duration"),
        (("--method", "neuron", "--particles", "10"), "at least 200"),
    ],
)
def test_refused_neurons(capsys, options, words):
    assert words in refusal(capsys, "predict", *QUICK, *options)


def test_validity_is_told(capsys):
    assert main(["predict", *QUICK, "--width", "5,5000"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "Validity, width 5000: good: expect the test error to hold within" in told


def test_npz_is_used_as_given(capsys, npz, arrays):
    (row,) = document(capsys, "--data", npz, "--width", "25")["rows"]
    train = fw.Dataset(arrays["x_train"], arrays["y_train"])
    test = fw.Dataset(arrays["x_test"], arrays["y_test"])
    network = fw.FullyConnected(widths=25)
    assert row["test_error"] == fw.learning_curve(network, train, test)[0].test_error


def test_csv(capsys, arrays):
    table = np.column_stack([arrays["x_train"], arrays["x_train"] @ np.arange(6.0) / 7.0])
    np.savetxt("data.csv", table, delimiter=",", header="a,b,c,d,e,f,price", comments="")
    found = document(capsys, "--data", "data.csv", "--target", "price", "--n-train", "20", "--seed", "3")
    assert found["data"]["test"]["points"] == 10
    assert found["rows"][0]["accuracy"] is None


ROOMS = "size;colour;price\n" + "".join(f"{i % 7},5;{('red', 'blue')[i % 2]};{i},25\n" for i in range(30))


def test_csv_of_a_spreadsheet(capsys):
    Path("rooms.csv").write_text(ROOMS)
    given = ("predict", "--data", "rooms.csv", "--target", "price", "--n-train", "20", "--width", "20")
    assert "--encode" in refusal(capsys, *given)
    assert main([*given, "--encode", "text"]) == 0
    assert "\nInputs (3): size, colour=blue, colour=red\n" in capsys.readouterr().out
    found = document(capsys, *given[1:], "--drop", "colour", "--delimiter", ";")
    assert found["data"]["train"]["input_names"] == found["data"]["test"]["input_names"] == ["size"]
    both = ("--data", "rooms.csv", "--n-train", "20", "--target", "price,size")
    found = document(capsys, *both, "--columns", "colour", "--encode", "colour")
    assert (found["data"]["train"]["outputs"], found["data"]["train"]["inputs"]) == (2, 2)
    assert "does not exist" in refusal(capsys, "predict", "--data", "room.csv", "--target", "price")
    assert "different names" in refusal(capsys, *given, "--columns", "a,,b")
    assert "did you mean 'median'?" in refusal(capsys, *given, "--impute", "medan")


@pytest.mark.filterwarnings("default:file 'with.csv'")
def test_a_column_that_numbers_the_rows_is_no_input(capsys):
    # What pandas' to_csv writes: the targets are sorted, so that the row number gives them away.
    rng = np.random.default_rng(0)
    noise, target = rng.standard_normal(60), (np.arange(60) - 29.5) / 17.3
    rows = [f"{a:.3f},{t:.3f}\n" for a, t in zip(noise, target, strict=True)]
    Path("with.csv").write_text(",a,y\n" + "".join(f"{i},{row}" for i, row in enumerate(rows)))
    Path("without.csv").write_text("a,y\n" + "".join(rows))
    printed = {}
    for name in ("with", "without"):
        assert main(["predict", "--data", f"{name}.csv", "--target", "y", "--width", "100", "--n-train", "40"]) == 0
        printed[name] = capsys.readouterr()
    assert "column 'Unnamed: 0' has no name and is not used" in printed["with"].err
    assert printed["without"].err == ""
    assert printed["with"].out.splitlines()[1:] == printed["without"].out.splitlines()[1:]


def test_table_fits_80_columns_and_names_the_limit(capsys):
    assert main(["predict", *QUICK, "--width", "20,1e12", "--temperature", "0.1"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out
    assert "\x1b" not in out
    assert "1e+12" in out
    assert "Infinite width (T = 0.1): test error" in out


def test_what_did_not_converge_shows_no_number(capsys, monkeypatch):
    solve = fw.theory_of(fw.FullyConnected(widths=20), 0.05).__class__.solve

    def failing(self, *arguments, **options):
        solution = solve(self, *arguments, **options)
        for name, value in (("converged", False), ("message", "gradient too large")):
            object.__setattr__(solution, name, value)
        return solution

    monkeypatch.setattr("finitewidth.theory.scaled.ScaledKernel.solve", failing)
    assert main(["predict", *QUICK, "--width", "20"]) == 0
    out = capsys.readouterr().out
    assert "NOT CONVERGED, no result: width 20: gradient too large" in out
    (line,) = [line for line in out.splitlines() if line.split()[:1] == ["20"]]
    assert set(line.split()[1:]) == {"—"}
    (row,) = document(capsys, *QUICK, "--width", "20")["rows"]
    assert row["converged"] is False
    names = ("test_error", "train_error", "bias", "variance", "accuracy", "log_evidence", "order_parameters")
    names += ("mean_order_parameter",)
    assert [row[name] for name in names] == [None] * len(names)


def test_infinite_width_is_one_row_whatever_the_widths(capsys):
    rows = document(capsys, *QUICK, "--method", "infinite", "--width", "10,100", "--temperature", "0.1,1")["rows"]
    assert [(row["width"], row["temperature"]) for row in rows] == [(None, 0.1), (None, 1.0)]
    assert main(["predict", *QUICK, "--method", "infinite", "--width", "10,100"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines() if "∞" in line] == ["∞"]


@pytest.mark.parametrize("more", [("--method", "integrate"), ("--temperature", "0.1,1")])
def test_figures_of_other_methods_and_temperatures(capsys, more):
    pytest.importorskip("matplotlib")
    assert main(["predict", *QUICK, "--width", "20,40", *more, "--figure", "a.svg"]) == 0
    assert "a.svg" in capsys.readouterr().out


def test_figure(capsys):
    pytest.importorskip("matplotlib")
    assert main(["predict", *QUICK, "--width", "20,40", "--figure", "curve.pdf"]) == 0
    assert [path.name for path in Path().iterdir()] == ["curve.pdf"]
    assert Path("curve.pdf").stat().st_size > 1000
    assert "curve.pdf" in capsys.readouterr().out


# --- sample and compare -------------------------------------------------------------------------------

SHORT = ("--draws", "30", "--warmup", "40", "--chains", "2")
SAMPLED_KEYS = ROW_KEYS - {"closure"} | {"test_error_se", "train_error_se", "r_hat", "ess", "acceptance"}


def test_json_of_sample(capsys):
    found = document(capsys, *QUICK, *SHORT, "--width", "5", command="sample")
    assert set(found) == {"rows", "data", "version"}
    (row,) = found["rows"]
    assert set(row) >= SAMPLED_KEYS
    train, test = fw.data.digits(classes=(0, 1), n_train=30, n_test=20)
    draws = fw.sample(fw.FullyConnected(widths=5), train, test, 0.05, chains=2, draws=30, warmup=40, seed=0)
    assert row["width"] == 5
    assert row["test_error"] == draws.errors(test.y).test_error


def test_one_chain_has_no_r_hat(capsys):
    (row,) = document(capsys, *QUICK, *SHORT[:4], "--chains", "1", "--width", "5", command="sample")["rows"]
    assert row["r_hat"] is None
    assert row["converged"] is False
    assert "one chain" in row["message"]


def test_json_of_compare(capsys):
    (row,) = document(capsys, *QUICK, *SHORT, "--widths", "5", "--methods", "infinite,sample", command="compare")[
        "rows"
    ]
    assert set(row) >= {"width", "theory", "sample", "difference"}
    assert set(row["theory"]) >= ROW_KEYS
    assert set(row["sample"]) >= SAMPLED_KEYS
    assert row["width"] == row["theory"]["width"] == row["sample"]["width"] == [5]
    assert row["theory"]["method"] == "infinite"
    assert set(row["difference"]) == {"in_se", "percent"}


@pytest.mark.parametrize("command", ["sample", "compare"])
def test_tables_and_figures_of_samples(capsys, command):
    pytest.importorskip("matplotlib")
    assert main([command, *QUICK, *SHORT, "--width", "5", "--figure", "curve.png"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert max(map(len, out.splitlines())) <= 80
    assert "NOT CONVERGED, marked ?: width 5" in out
    assert "one standard error" in out
    assert Path("curve.png").stat().st_size > 1000


def test_an_interrupted_sample_keeps_its_rows(capsys, monkeypatch):
    from finitewidth.runs import long_runs

    calls, carry_out = [], long_runs.carry_out

    def stopping(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return carry_out(*arguments)

    monkeypatch.setattr(long_runs, "carry_out", stopping)
    assert main(["sample", *QUICK, *SHORT, "--width", "5,8", "--json"]) == 130
    out, err = capsys.readouterr()
    assert [row["width"] for row in json.loads(out)["rows"]] == [5]
    assert err == "finitewidth: interrupted: 1 of 2 networks done\n"


TRAINED = ("--steps", "20", "--seeds", "2", "--width", "5")


def without_seconds(document: dict) -> dict:
    for row in document["rows"]:
        del row["seconds"]
    return document


@pytest.mark.parametrize(
    ("method", "options"), [("sample", (*SHORT, "--seed", "3", "--width", "5")), ("train", TRAINED)]
)
def test_predict_by_a_method_is_its_command(capsys, method, options):
    found = [
        without_seconds(document(capsys, *QUICK, *options, *more, command=command))
        for command, more in (("predict", ("--method", method)), (method, ()))
    ]
    assert found[0] == found[1]
    assert found[0]["rows"][0]["test_error_se"] > 0.0


def test_json_of_train(capsys):
    pytest.importorskip("optax")
    (row,) = document(capsys, *QUICK, *TRAINED, "--temperature", "0.1", command="train")["rows"]
    train, test = fw.data.digits(classes=(0, 1), n_train=30, n_test=20)
    networks = fw.train(fw.FullyConnected(widths=5), train, test, 0.1, steps=20, seeds=2)
    assert (row["networks"], row["steps"], row["method"]) == (2, 20, "adam")
    assert row["test_error"] == networks.errors().test_error
    (plain,) = document(capsys, *QUICK, *TRAINED, "--temperature", "0", command="train")["rows"]
    assert (plain["temperature"], plain["test_error"] == row["test_error"]) == (0.0, False)


def test_several_methods_side_by_side(capsys):
    given = ("--methods", "saddle,integrate,infinite", "--width", "10,20")
    rows = document(capsys, *QUICK, *given, command="compare")["rows"]
    assert [row["width"] for row in rows] == [10, 20]
    for row in rows:
        assert list(row["methods"]) == ["saddle", "integrate", "infinite"]
        assert list(row["differences"]) == ["saddle", "integrate"]
        saddle, infinite = (row["methods"][name]["test_error"] for name in ("saddle", "infinite"))
        assert row["differences"]["saddle"] == {"in_se": None, "percent": pytest.approx(100 * (saddle / infinite - 1))}
    assert main(["compare", *QUICK, *given]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert [word for line in out.splitlines() for word in line.split() if word in given[1].split(",")] == [
        *("saddle", "integrate", "infinite") * 2
    ]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("predict", "--draws", "30"), "--draws with method saddle; wanted: one of its settings (--closure, --solver)"),
        (("predict", "--method", "sample", "--closure", "nested"), "use method saddle or integrate"),
        (("predict", "--method", "infinite", "--closure", "nested"), "one of its settings (--solver)"),
        (("predict", "--method", "train", "--chains", "2"), "use method sample"),
        (("sample", "--steps", "30"), "--steps"),
        (("train", "--draws", "30"), "--draws"),
        (("train", "--momentum", "0.9"), "a setting of sgd"),
        (("compare", "--methods", "saddle,infinite", "--draws", "30"), "use method sample"),
        (("compare", "--methods", "saddle"), "two of them at least"),
        (("compare", "--methods", "saddle,sampel"), "did you mean 'sample'?"),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, tuple) else "",
)
def test_settings_of_another_method(capsys, command, words):
    assert words in refusal(capsys, *command, *QUICK)


# --- classes of one's own -----------------------------------------------------------------------------

OURS = """
from dataclasses import dataclass
import finitewidth as fw

@dataclass(frozen=True)
class Linear(fw.Network):
    widths: object = 100
    def covariance(self, q, x1, x2):
        return q[0] * x1.reshape(len(x1), -1) @ x2.reshape(len(x2), -1).T / x1[0].size

class Ours(fw.Saddle):
    name = "ours"

@dataclass(frozen=True)
class Twice(fw.Likelihood):
    temperature: float
    def posterior(self, covariance, y):
        return fw.Gaussian(2 * self.temperature).posterior(covariance, y)

number = 3
"""


@pytest.fixture
def ours(monkeypatch):
    """A module in the current folder."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("ours_of_a_test.py").write_text(OURS)
    yield "ours_of_a_test"
    sys.modules.pop("ours_of_a_test", None)


def test_classes_of_the_current_folder(capsys, ours):
    def row(*options):
        return document(capsys, *QUICK, "--width", "20", *options)["rows"][0]

    linear = row("--activation", "linear")
    for options in (("--network", f"{ours}:Linear"), ("--method", f"{ours}:Ours", "--activation", "linear")):
        assert row(*options)["test_error"] == pytest.approx(linear["test_error"], rel=1e-6)
    twice = row("--method", "infinite", "--temperature", "0.1")["test_error"]
    given = ("--method", "infinite", "--temperature", "0.05")
    assert row(*given, "--likelihood", "finitewidth:Gaussian")["test_error"] == row(*given)["test_error"] != twice
    assert row(*given, "--likelihood", f"{ours}:Twice")["test_error"] == pytest.approx(twice, rel=1e-6)
    (both,) = document(capsys, *QUICK, "--width", "20", "--methods", f"{ours}:Ours,saddle", command="compare")["rows"]
    assert both["theory"]["test_error"] == both["sample"]["test_error"]
    assert main(["predict", *QUICK, "--width", "20", "--network", f"{ours}:Linear"]) == 0
    assert "Linear, 1 hidden layer" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("nothing_there:Class", "No module named 'nothing_there'"),
        ("ours_of_a_test:Nothing", "has no attribute 'Nothing'"),
        ("ours_of_a_test:number", "which is none"),
        ("ours_of_a_test:fw", "which is none"),
        ("ours_of_a_test:", "module:Class"),
        (".x:Class", "module:Class"),
        ("os:system", "which is none"),
        ("wrong_of_a_test:Class", "ZeroDivisionError"),
    ],
)
@pytest.mark.parametrize("option", ["--network", "--method", "--likelihood"])
def test_what_is_no_class_of_ones_own(capsys, ours, option, value, words):
    Path("wrong_of_a_test.py").write_text("1 / 0\n")
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    try:
        assert words in refusal(capsys, "predict", *QUICK, option, value)
    finally:
        sys.dont_write_bytecode = before


SAMPLING_REFUSED = [
    (("--draws", "0"), "at least 1"),
    (("--chains", "0"), "at least 1"),
    (("--warmup", "-1"), "whole number of at least 0"),
    (("--sampler", "gibbs"), "one of 'collapsed'"),
    (("--step-size", "0"), "above 0"),
    (("--checkpoint", "/dev/null/x"), "a folder"),
    (("--memory", "1KB"), "1"),
]


@pytest.mark.parametrize(("options", "wanted"), SAMPLING_REFUSED, ids=str)
@pytest.mark.parametrize("command", ["sample", "compare"])
def test_refused_sampling(capsys, command, options, wanted):
    assert wanted in refusal(capsys, command, *QUICK, *options)


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"finitewidth {fw.__version__}\n"


def test_interrupt_is_130(monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("finitewidth.curves.curve_of", interrupt)
    assert main(["predict", *QUICK]) == 130


@pytest.mark.parametrize("as_json", [False, True], ids=["table", "json"])
def test_what_takes_too_long_is_refused(capsys, monkeypatch, as_json):
    monkeypatch.setattr("finitewidth.theory.solving._seconds", lambda *_: 5000.0)
    said = refusal(capsys, "predict", *QUICK, *(["--json"] if as_json else []))
    assert "would take about 1.4 hours; wanted: at most 1 hour; use fewer training points" in said
    assert said.endswith("--time 3h, fw.time_limit('3h')\n")
    assert main(["predict", *QUICK, "--time", "2h"]) == 0


def test_what_takes_long_is_announced_beside_the_result(capsys, monkeypatch):
    monkeypatch.setattr("finitewidth.theory.solving._seconds", lambda *_: 100.0)
    monkeypatch.setattr(durations, "SHORT", 5.0)
    assert main(["predict", *QUICK, "--json"]) == 0
    out, err = capsys.readouterr()
    assert len(json.loads(out)["rows"]) == 1
    assert err.startswith("finitewidth: expected: about 1.7 minutes (an eigendecomposition on ")
    assert err.count("\n") == 1


def test_as_a_program():
    command = [sys.executable, "-m", "finitewidth.cli", "predict"]
    good = subprocess.run([*command, *QUICK, "--json"], capture_output=True, text=True, check=True)
    assert len(json.loads(good.stdout)["rows"]) == 1
    assert good.stderr == ""
    bad = subprocess.run([*command, *QUICK, "--width", "-3"], capture_output=True, text=True, check=False)
    assert (bad.returncode, bad.stdout, bad.stderr.count("\n")) == (2, "", 1)


# --- what it refuses ----------------------------------------------------------------------------------

# fmt: off
REFUSED = [
    (("--temperature", "0"), "above 0"),
    (("--temperature", "0", "--json"), "above 0"),
    (("--temperature", "-1"), "above 0"),
    (("--temperature", "nan"), "finite number"),
    (("--temperature", "warm"), "--temperature 'warm'"),
    (("--temperature", ""), "--temperature ''"),
    (("--width", "0"), "at least 1"),
    (("--width", "10,2.5"), "whole number"),
    (("--width", "inf"), "whole number"),
    (("--width", "wide"), "--width 'wide'"),
    (("--width", ""), "--width ''"),
    (("--depth", "0"), "at least 1"),
    (("--depth", "1,2"), "a single number"),
    (("--widths", "10,20", "--width", "10"), "only one of them"),
    (("--widths", "10,20", "--depth", "3"), "leave --depth out"),
    (("--precision", "-1"), "above 0"),
    (("--precision", "1,2,3"), "1 value or 2"),
    (("--offset-precision", "0"), "above 0"),
    (("--activation", "erg"), "did you mean 'erf'?"),
    (("--method", "sadle"), "did you mean 'saddle'?"),
    (("--closure", "nestled"), "did you mean 'nested'?"),
    (("--readout", "meanfield"), "did you mean 'mean-field'?"),
    (("--network", "cnnn"), "did you mean 'cnn'?"),
    (("--standardise", "globl"), "did you mean 'global'?"),
    (("--patch", "8"), "network 'fc'"),
    (("--network", "cnn"), "without a patch"),
    (("--network", "cnn", "--patch", "big"), "--patch 'big'"),
    (("--network", "cnn", "--patch", "4", "--stride", "0"), "at least 1"),
    (("--network", "cnn", "--patch", "9", "--input-shape", "8x8x1"), "patch"),
    (("--network", "cnn", "--patch", "4", "--depth", "2"), "one hidden layer"),
    (("--network", "lcn", "--patch", "4", "--input-shape", "eight"), "16x16x1"),
    (("--memory", "lots"), "8GB"),
    (("--memory", "1kB"), "which needs about"),
    (("--time", "soon"), "2h"),
    (("--time", "-1h"), "2h"),
    (("--classes", "0"), "at least two"),
    (("--classes", "0,11"), "one of"),
    (("--n-train", "0"), "at least 1"),
    (("--n-train", "5000"), "at most"),
    (("--seed", "-1"), "at least 0"),
    (("--figure", "curve.jpeg"), ".png"),
    (("--figure", "nowhere/curve.png"), "folder"),
    (("--widht", "10"), "--width, --widths"),
    (("--temperature",), "--temperature"),
]
# fmt: on


@pytest.mark.parametrize(
    ("options", "words"), REFUSED, ids=lambda value: "_".join(value) if isinstance(value, tuple) else ""
)
def test_refused(capsys, options, words):
    assert words in refusal(capsys, "predict", *QUICK, *options)


def test_refused_before_the_data_are_read(capsys, monkeypatch):
    monkeypatch.setattr("finitewidth.data.load", lambda *_, **__: pytest.fail("data were read"))
    for options, words in (("--method", "x"), "one of"), (("--temperature", "1,-1"), "above 0"):
        assert words in refusal(capsys, "predict", *QUICK, *options)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("predict",), "no --data"),
        (("predict", "--data", "digts"), "did you mean 'digits'?"),
        (("predict", "--data", "none.npz"), "does not exist"),
        (("predct",), "predict"),
        (("predict", "digits"), "digits"),
        (("--versoin",), "--version"),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, tuple) else "",
)
def test_refused_commands_and_data(capsys, arguments, words):
    assert words in refusal(capsys, *arguments)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("x_train", np.full((30, 6), np.nan), "NaN or infinity"),
        ("x_train", np.zeros((30, 2, 2, 2, 2)), "dimensions"),
        ("x_train", np.zeros((29, 6)), "29 points"),
        ("x_train", np.zeros((0, 6)), "at least one point"),
        ("x_test", np.zeros((10, 5)), "x of shape"),
        ("y_train", np.ones(30, dtype=int), "class"),
        ("y_train", np.array(["a", "b"] * 15), "text"),
        ("y_test", np.array([7] * 10), "unseen in training"),
        ("x_train", np.array([[object()] * 6] * 30), "pickle"),
    ],
)
def test_refused_npz(capsys, arrays, name, value, words):
    np.savez("bad.npz", **(arrays | {name: value}))
    assert words in refusal(capsys, "predict", "--data", "bad.npz")


def test_refused_truncated_npz(capsys, npz):
    content = Path(npz).read_bytes()
    Path(npz).write_bytes(content[: len(content) // 2])
    assert "damaged or truncated" in refusal(capsys, "predict", "--data", npz)


@pytest.mark.parametrize("option", ["--classes", "--target"])
def test_npz_is_not_recoded(capsys, npz, option):
    value = {"--classes": "0,1"}.get(option, "5")
    assert "which does not take it" in refusal(capsys, "predict", "--data", npz, option, value)


def test_npz_gives_its_first_points(capsys, npz, arrays):
    out = document(capsys, "--data", npz, "--n-train", "12", "--n-test", "5", "--seed", "3")
    assert (out["data"]["train"]["points"], out["data"]["test"]["points"]) == (12, 5)
    assert "at most the" in refusal(capsys, "predict", "--data", npz, "--n-train", "100000")


def raw_regression(arrays, inputs=1.0):
    """Targets of 150, with a deviation of 70 around it."""
    y = {f"y_{part}": 70.0 * arrays[f"x_{part}"][:, 0] + 150.0 for part in ("train", "test")}
    np.savez("raw.npz", **{f"x_{part}": inputs * arrays[f"x_{part}"] for part in ("train", "test")}, **y)
    return y


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("command", ["predict", "sample"])
def test_far_data_are_said_in_one_line(capsys, arrays, command):
    raw_regression(arrays, inputs=255.0)
    sampling = ("--chains", "1", "--draws", "2", "--warmup", "1") if command == "sample" else ()
    assert main([command, "--data", "raw.npz", "--width", "20", *sampling, "--json"]) == 0
    out, err = capsys.readouterr()
    (row,) = json.loads(out)["rows"]
    assert err.startswith("finitewidth: warning: inputs of mean square ")
    assert all(word in err for word in ("targets of mean square", "--standardise feature", "--standardise-target"))
    assert err.count("\n") == 1
    if command == "predict":
        assert row["validity"]["expected_relative_error"] is None
        assert row["validity"]["statement"].startswith("unknown: inputs of mean square")


def test_standardised_targets_leave_errors_in_their_own_units(capsys, arrays):
    y = raw_regression(arrays)
    given = ("--data", "raw.npz", "--standardise-target", "--width", "20")
    (row,) = (found := document(capsys, *given))["rows"]
    mean, scale = y["y_train"].mean(), y["y_train"].std()
    parts = [fw.Dataset(arrays[f"x_{part}"], (y[f"y_{part}"] - mean) / scale) for part in ("train", "test")]
    wanted = fw.learning_curve(fw.FullyConnected(widths=20), *parts)[0]
    for name in ("test_error", "bias", "variance", "train_error"):
        assert row[name] == pytest.approx(scale**2 * getattr(wanted, name), rel=1e-9)
    assert found["data"]["train"]["target_scaling"] == {"mean": [pytest.approx(mean)], "scale": pytest.approx(scale)}
    assert row["validity"]["expected_relative_error"] is not None
    assert main(["predict", *given]) == 0
    assert "target standardised (mean 1" in capsys.readouterr().out


def test_npz_is_standardised_when_that_is_said(capsys, arrays):
    np.savez("pixels.npz", **(arrays | {name: 255.0 * arrays[name] for name in ("x_train", "x_test")}))
    (row,) = (found := document(capsys, "--data", "pixels.npz", "--standardise", "global"))["rows"]
    train, test = (fw.Dataset(arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test"))
    wanted = fw.learning_curve(fw.FullyConnected(widths=100), *fw.data.standardise(train, test)[:2])[0]
    assert row["test_error"] == pytest.approx(wanted.test_error, rel=1e-9)
    assert found["data"]["train"]["standardise"] == "global"


def test_only_numbers_are_standardised(capsys, npz):
    assert "class labels" in refusal(capsys, "predict", "--data", npz, "--standardise-target")
    assert "standardise_target" in refusal(capsys, "predict", *QUICK, "--standardise-target")


def test_refused_csv(capsys):
    Path("bad.csv").write_text("a,b,yield\n1,2,0.5\n1,two,0.25\n")
    assert "text ('two') in a number's place" in refusal(capsys, "predict", "--data", "bad.csv", "--target", "yield")
    assert "did you mean" in refusal(capsys, "predict", "--data", "bad.csv", "--target", "yeild")
    assert "target" in refusal(capsys, "predict", "--data", "bad.csv")


@pytest.mark.parametrize("dtype", ["int64", "float32"])
def test_integer_and_single_precision_inputs_work(capsys, arrays, dtype):
    inputs = {name: (3 * arrays[name]).astype(dtype) for name in ("x_train", "x_test")}
    np.savez("data.npz", **(arrays | inputs))
    assert document(capsys, "--data", "data.npz")["rows"][0]["converged"]


# --- studies ------------------------------------------------------------------------------------------


def test_list_of_studies(capsys):
    listed = document(capsys, "list", command="study")["studies"]
    assert {"name": "fully-connected"}.items() <= listed[0].items()
    assert main(["study", "list"]) == 0
    out = capsys.readouterr().out
    assert all(study["name"] in out for study in listed)


def test_study_and_its_page(capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    from tests.studies.test_study import Toy

    from finitewidth import studies

    monkeypatch.setitem(studies.STUDIES, "toy", Toy().study)
    found = document(capsys, "toy", "--out", "a b", "--seed", "3", command="study")
    assert found["plan"]["seed"] == 3
    assert found["command"] == "finitewidth study toy --seed 3 --scale small --out 'a b'"
    assert found["files"] == ["a b/report.html", "a b/toy.png", "a b/toy.pdf"]
    assert "finitewidth study toy" in Path("a b/report.html").read_text(encoding="utf-8")
    assert main(["study", "toy", "--out", "a b", "--seed", "3"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert found["findings"]["claims"][0]["statement"] in out
    assert "Page: a b/report.html" in out
    assert "nothing was changed" in refusal(capsys, "study", "toy", "--out", "a b")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("study", "fully-conected", "--out", "x"), "fully-connected"),
        (("study", "fully-connected"), "--out"),
        (("study", "fully-connected", "--out", "x", "--scale", "full"), "npz"),
        (("study", "fully-connected", "--out", "x", "--n-train", "5000"), "points"),
        (("study", "fully-connected", "--out", "x", "--classes", "0,1,2"), "two classes"),
        (("report", "nowhere"), "no sweep"),
    ],
)
def test_studies_that_cannot_be(capsys, arguments, says):
    pytest.importorskip("matplotlib")
    assert says in refusal(capsys, *arguments)


@pytest.mark.parametrize("options", [("--target", "a", "--target", "b"), ("--drop=a", "--drop", "b")])
def test_columns_given_twice_are_refused(capsys, options):
    """Only the last would count, and the first target become an input."""
    assert "given twice" in refusal(capsys, "predict", "--data", "any.csv", *options)
