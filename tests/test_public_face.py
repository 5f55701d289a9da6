"""What a user may rely on: every public name, and DESIGN.md's Python snippet on real digits."""

from __future__ import annotations

import difflib
import inspect
from types import FunctionType

import numpy as np
import public_api
import pytest

import finitewidth as fw


@pytest.mark.parametrize("name", sorted(set(fw.__all__) - {"__version__"}))
def test_every_name_resolves_and_is_documented(name):
    thing = getattr(fw, name)
    assert (inspect.getdoc(thing) or "").strip()
    # a dataclass without a docstring is given its signature, an exception or a class that of its parent
    assert not (inspect.isclass(thing) and (thing.__doc__ or "").startswith(f"{thing.__name__}("))
    if inspect.isclass(thing):
        assert thing.__doc__, f"{name} has only its parent's docstring"


@pytest.mark.parametrize("name", sorted(set(fw.__all__) - {"__version__"}))
def test_public_methods_are_documented(name):
    thing = getattr(fw, name)
    members = vars(thing) if inspect.isclass(thing) else {}
    public = set(members) - set(getattr(thing, "__dataclass_fields__", ()))
    methods = [n for n in public if not n.startswith("_") and isinstance(members[n], (FunctionType, property))]
    assert [n for n in methods if not inspect.getdoc(getattr(thing, n))] == []


def test_names_are_listed_once():
    assert len(fw.__all__) == len(set(fw.__all__))
    assert set(fw.__all__) <= set(dir(fw))


def test_the_public_face_is_as_written_down():
    written = public_api.FILE.read_text(encoding="utf-8").splitlines()
    found = public_api.text().splitlines()
    change = "\n".join(difflib.unified_diff(written, found, "docs/api.txt", "the package", lineterm="", n=0))
    assert not change, f"meant? then `{public_api.COMMAND}`, commit it, and see CONTRIBUTING.md, Deprecations\n{change}"


def test_what_the_public_face_shows():
    lines = public_api.text().splitlines()
    assert "    --json: bool" in lines
    assert "    --temperature: str = 0.05" in lines
    assert "finitewidth study NAME" in lines
    assert "    n_points: int  (property)" in lines
    assert "finitewidth.Gaussian(temperature: float)" in lines
    assert not [line for line in lines if "0x" in line or line.strip().startswith("_")]
    listed = {line.split("(")[0].split(":")[0] for line in lines if line.startswith("finitewidth.")}
    assert {f"finitewidth.{name}" for name in fw.__all__} <= listed


def test_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'Dataste'"):
        _ = fw.Dataste


def test_version():
    assert fw.__version__.split(".")[0].isdigit()


def test_snippet_of_the_design():
    train, test = fw.data.digits(classes=(0, 1), n_train=200, n_test=150)
    network = fw.FullyConnected(widths=(200, 200), activation="erf", weight_precision=1.0)
    theory = fw.theory_of(network, temperature=0.05)
    solution = fw.solve(theory, train)
    errors = fw.predict(solution, test.x).errors(test.y)
    curve = fw.learning_curve(network, train, test, widths=[50, 200, 1000], temperature=0.05)

    assert solution.converged
    assert solution.order_parameters.shape == (2,)
    assert np.isfinite(solution.log_evidence)
    assert solution.minima[0].gradient_norm < 1e-3
    assert errors.test_error == pytest.approx(errors.bias + errors.variance)
    assert 0.95 < errors.accuracy <= 1.0
    assert errors.train_error < errors.test_error < 0.2
    assert [row.width for row in curve] == [50, 200, 1000]
    assert curve[1].test_error == pytest.approx(errors.test_error, rel=1e-6)


def test_product_closure_of_the_snippet():
    train, _ = fw.data.digits(classes=(0, 1), n_train=200, n_test=150)
    network = fw.FullyConnected(widths=(200, 200))
    solution = fw.solve(fw.theory_of(network, temperature=0.05, closure="product"), train)
    assert solution.converged
    assert solution.theory.closure == "product"


@pytest.mark.parametrize(
    ("function", "names"),
    [
        ("theory_of", ["network", "temperature", "closure", "method"]),
        ("solve", ["what", "train", "temperature", "method"]),
        ("predict", ["what", "x", "train", "temperature", "method"]),
        ("learning_curve", ["network", "train", "test", "widths", "temperature", "n_train", "method"]),
        ("compare", ["network", "train", "test", "widths", "temperature", "methods"]),
    ],
)
def test_signatures(function, names):
    assert list(inspect.signature(getattr(fw, function)).parameters)[: len(names)] == names


def test_errors_and_solution_have_the_promised_fields():
    errors = set(fw.Errors.__dataclass_fields__)
    assert {"test_error", "bias", "variance", "accuracy", "train_error"} <= errors
    solution = fw.solve(fw.FullyConnected(widths=20), fw.Dataset(np.eye(6), np.arange(6.0)))
    assert isinstance(solution, fw.Solution)
    assert {"order_parameters", "converged", "log_evidence", "minima"} <= set(dir(solution))
