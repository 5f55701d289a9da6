"""Plans: what they mean, and what is refused with its line."""

from __future__ import annotations

import dataclasses
import itertools
import re
from pathlib import Path

import pytest

import finitewidth as fw
from finitewidth.data.table import STRATEGIES
from finitewidth.jobs.job import METHODS
from finitewidth.jobs.options import PredictOptions, command_of
from finitewidth.sweeps import Plan
from finitewidth.sweeps.plan_keys import KINDS, used
from finitewidth.sweeps.point import Point

yaml = pytest.importorskip("yaml")

PLAN = """\
data: digits
classes: [0, 1]
n_train: 30
n_test: 20
seed: 0
network: fc
depth: 2
activation: erf
method: saddle
closure: nested
precision: 1.0
grid:
  width: [20, 40, 80, 160]
  temperature: [0.02, 5e-2, 0.1, 0.5]
"""


@pytest.fixture
def plan_of(tmp_path):
    def written(text: str) -> Plan:
        path = tmp_path / "plan.yaml"
        path.write_text(text)
        return Plan.of(path)

    return written


def test_the_plan_of_the_design(plan_of):
    plan = plan_of(PLAN)
    points = list(plan.points())
    assert plan.size == len(points) == len({point.id for point in points}) == 16
    places = [(point.config["width"], point.config["temperature"]) for point in points]
    assert places == list(itertools.product((20, 40, 80, 160), (0.02, 0.05, 0.1, 0.5)))
    values = points[0].values("digits")
    assert [values[name] for name in ("classes", "depth", "closure", "temperature")] == [("0", "1"), 2, "nested", 0.02]


def test_a_flag(plan_of):
    """One that is not set is left out, so that points have the names that they had before it was there."""
    without = {point.id for point in plan_of(PLAN).points()}
    assert {point.id for point in plan_of("standardise_target: false\n" + PLAN).points()} == without
    point = Point.of({"data": "my.csv", "target": "price", "standardise_target": True})
    assert point.id != Point.of({"data": "my.csv", "target": "price"}).id
    assert point.values("my.csv")["standardise_target"] is True
    with pytest.raises(fw.InputError, match=r"line 1: .*standardise_target for data 'digits'"):
        plan_of("standardise_target: true\n" + PLAN)
    with pytest.raises(fw.InputError, match="line 1: standardise_target: 'yes'; wanted: true or false"):
        plan_of("standardise_target: 'yes'\n" + PLAN)


def test_a_point_is_named_by_its_content(plan_of):
    ids = {point.id for point in plan_of(PLAN).points()}
    same = PLAN.replace("depth: 2", "depth: '2'").replace("classes: [0, 1]", "classes: 0,1").replace("0.02", "2e-2")
    same = same.replace("seed: 0\n", "").replace("precision: 1.0\n", "")  # the defaults
    assert {point.id for point in plan_of(same).points()} == ids
    assert Plan.of(yaml.safe_load(PLAN)).grids == plan_of(PLAN).grids
    other = {point.id for point in plan_of(PLAN.replace("n_train: 30", "n_train: 31")).points()}
    assert not ids & other


def test_keys_that_a_point_does_not_use_make_no_points(plan_of):
    text = "data: digits\nnetwork: fc\ngrid:\n  method: [saddle, infinite, sample]\n  closure: [nested, product]\n"
    methods = [point.config["method"] for point in plan_of(text + "  draws: [10, 20]\n").points()]
    assert sorted(methods) == ["infinite", "saddle", "saddle", "sample", "sample"]


def test_several_grids(plan_of):
    points = list(plan_of("data: digits\ngrid:\n  - width: [20, 40]\n  - widths: [[20, 30], [5, 6, 7]]\n").points())
    assert [point.config.get("width", point.config.get("widths")) for point in points] == [20, 40, [20, 30], [5, 6, 7]]


def test_points_that_share_work_follow_one_another(plan_of):
    grid = "  temperature: [0.1, 0.2]\n  seed: [0, 1]\n  width: [5, 6]\n  activation: [erf, relu]\n"
    groups = [point.group for point in plan_of("data: digits\ngrid:\n" + grid).points()]
    assert len(list(itertools.groupby(groups))) == len(set(groups)) == 4


# fmt: off
REFUSED = [
    (("depth: 2", "detph: 2"), "line 7", "did you mean 'depth'?"),
    (("width: [", "widht: ["), "line 13", "did you mean 'width'?"),
    (("depth: 2", "depth: 2\ndepth: 3"), "line 8", "second time (first in line 7)"),
    (("depth: 2", "width: 30"), "line 13", "both in the grid and outside (plan.yaml, line 7)"),
    (("depth: 2", "widths: [20, 30]"), "line 7", "only one of them"),
    (("depth: 2", "draws: 100"), "line 7", "do not use it"),
    (("depth: 2", "patch: 4"), "line 7", "do not use it"),
    (("depth: 2", "depth: true"), "line 7", "one text or number"),
    (("depth: 2", "depth: [1, 2]"), "line 7", "one text or number"),
    (("depth: 2", "depth: two"), "line 7", "number"),
    (("depth: 2", "depth: 0"), "line 7", "at least 1"),
    (("depth: 2", "depth:"), "line 7", "(nothing)"),
    (("depth: 2", "json: true"), "line 7", "unknown key"),
    (("depth: 2", "keep_draws: 3"), "line 7", "true or false"),
    (("data: digits\n", "data: digits\nimpute: men\n"), "line 2", "did you mean 'mean'?"),
    (("data: digits\n", "data: digits\ndelimiter: ''\n"), "line 2", "one character"),
    (("data: digits\n", "data: digits\ncolumns: [a, a]\n"), "line 2", "different names of columns"),
    (("data: digits\n", "data: digits\ndrop: a\n"), "line 2", "which does not take it"),
    (("data: digits\n", "data: nowhere.csv\ntarget: y\n"), "line 1", "does not exist"),
    (("method: saddle", "method: neuron"), "line 10", "closure with method neuron"),
    (("method: saddle\nclosure: nested", "method: neuron"), "line 9", "one hidden layer"),
    (("method: saddle", "method: sadle"), "line 9", "did you mean 'saddle'?"),
    (("method: saddle", "method: os:system"), "line 9", "one of 'saddle'"),
    (("network: fc", "network: os:system"), "line 6", "one of 'fc'"),
    (("network: fc", "likelihood: os:system"), "line 6", "unknown key 'likelihood'"),
    (("erf", "erg"), "line 8", "did you mean 'erf'?"),
    (("closure: nested", "closure: nestled"), "line 10", "did you mean 'nested'?"),
    (("precision: 1.0", "precision: [1, 2]"), "line 11", "1 value or 3"),
    (("precision: 1.0", "precision: -1"), "line 11", "above 0"),
    (("0.5]", "-0.5]"), "line 14", "at least 0"),
    (("0.02, 5e-2, 0.1, 0.5]", "0]"), "line 14", "above 0"),
    (("160]", "2.5]"), "line 13", "whole number"),
    (("[20, 40, 80, 160]", "[]"), "line 13", "an empty grid"),
    (("[20, 40, 80, 160]", "20"), "line 13", "a list of values"),
    (("seed: 0", "seed: &s 0"), "line 5", "anchor"),
    (("seed: 0", "seed: !!python/name:os.system"), "line 5", "the tag"),
    (("seed: 0", "seed: 0: 1"), "line 5", "YAML"),
    (("seed: 0", "1: 2"), "line 5", "a key that is no word"),
    (("data: digits\n", ""), "plan.yaml, line 1", "no data"),
    ((PLAN, "data: digits\ngrid: {}"), "line 2", "an empty grid"),
    ((PLAN, "data: digits\ngrid: []"), "line 2", "an empty grid"),
    ((PLAN, "- digits"), "line 1", "no keys"),
    ((PLAN, ""), "plan.yaml", "no keys"),
    ((PLAN, "[" * 5000), "plan.yaml", "wanted"),
]
# fmt: on


@pytest.mark.parametrize(("change", "line", "words"), REFUSED, ids=lambda v: str(v)[-30:])
def test_refused_with_its_line(tmp_path, monkeypatch, change, line, words):
    monkeypatch.chdir(tmp_path)
    assert change[0] in PLAN
    Path("plan.yaml").write_text(PLAN.replace(*change, 1))
    with pytest.raises(fw.InputError) as error:
        Plan.of("plan.yaml")
    message = str(error.value)
    assert line in message
    assert words in message
    assert message.count("; ") >= 2
    assert "\n" not in message


def test_columns_of_a_table(plan_of, tmp_path):
    (tmp_path / "rooms.csv").write_text("size,rooms,price\n1,2,3\n")
    names = "target: [price, 'a, b']\ndrop: size\nencode: text\nimpute: mean\ndelimiter: tab\n"
    (point,) = plan_of("data: rooms.csv\n" + names).points()
    assert (point.config["target"], point.config["drop"], point.config["encode"]) == (
        ["price", "a, b"],
        ["size"],
        ["text"],
    )
    data = command_of(point.values(str(tmp_path / "rooms.csv"))).data_options
    assert (data["target"], data["drop"], data["delimiter"]) == (("price", "a, b"), ("size",), "\t")
    (other,) = plan_of("data: rooms.csv\n" + names.replace("drop: size", "drop: rooms")).points()
    assert (point.data_key, point.group) != (other.data_key, other.group)
    assert point.data_key != other.data_key
    (plain,) = plan_of("data: rooms.csv\ntarget: price\n").points()
    assert plain.config["target"] == ["price"]
    swept = plan_of("data: rooms.csv\ntarget: price\ngrid:\n  columns: [size, [size, rooms]]\n").points()
    assert [point.config["columns"] for point in swept] == [["size"], ["size", "rooms"]]


def test_a_combination_that_cannot_be_is_left_to_its_point(plan_of):
    plan = plan_of("data: digits\ngrid:\n  method: [saddle, neuron]\n  depth: [1, 2]\n")
    assert plan.size == 4


@pytest.mark.parametrize("path", ["nowhere.yaml", "."])
def test_no_file(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(fw.InputError, match="a file; check the path"):
        Plan.of(path)


def test_what_may_be_imputed_is_what_the_data_know():
    assert tuple(KINDS["impute"].read("--impute", name) for name in STRATEGIES) == STRATEGIES


def test_every_option_of_the_command_line_is_a_key():
    fields = {field.name for field in dataclasses.fields(PredictOptions)}
    assert fields - {"json", "figure", "checkpoint", "memory", "time", "likelihood", "seconds"} == set(KINDS)
    assert set().union(*(used(method, network) for method in METHODS for network in ("fc", "cnn"))) == set(KINDS)


@pytest.mark.parametrize("method", METHODS)
def test_a_point_holds_every_default(method):
    """So that another default of a later version is another point."""
    point = Point.of({"data": "digits", "method": method})
    settings = {
        "saddle": {"solver": "auto"},
        "infinite": {"solver": "auto"},
        "first-order": {"neurons": 200_000, "tolerance": 0.01},
    }
    settings |= {
        "sample": {"chains": 4, "sampler": "collapsed"},
        "train": {"optimiser": "adam", "steps": 2000, "seeds": 8},
    }
    job = {"data": "digits", "network": "fc", "depth": 1, "width": 100, "activation": "erf", "precision": 1.0}
    job |= {"readout": "standard", "temperature": 0.05, "seed": 0, "method": method}
    assert point.config == job | settings.get(method, {})


def test_the_example_is_a_plan():
    plan = Plan.of(Path(__file__).parents[2] / "examples" / "sweep.yaml")
    assert plan.size == len(list(plan.points())) == 168


def test_the_plans_of_the_documentation_are_plans(plan_of):
    text = (Path(__file__).parents[2] / "docs" / "sweeps.md").read_text()
    blocks = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert [plan_of(block).size for block in blocks]


def test_every_key_is_documented():
    text = (Path(__file__).parents[2] / "docs" / "sweeps.md").read_text()
    assert [key for key in (*KINDS, "grid", "keep_draws") if f"`{key}`" not in text] == []
