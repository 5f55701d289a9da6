"""A study in its folder: kept, resumed, refused; what its data must be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from finitewidth import InputError
from finitewidth.report.findings import Claim, Findings, Panel, Series, Table
from finitewidth.studies import Plan, Study, run
from finitewidth.studies.study import FILE, held

pytest.importorskip("matplotlib")

PLAN = Plan(n_train=20, n_test=10)


def findings(work) -> Findings:
    value = float(np.mean(work.train.x))
    return Findings(
        (Claim.above("a statement", "a number", 1.0, 0.1),),
        (Table("a table", ("a",), ((value,),)),),
        (Panel("a panel", "x", "y", (Series("a", "line", 0, (1.0, 2.0), (1.0, 2.0)),)),),
    )


class Toy:
    """A study that counts how often it computes, and breaks off at first where asked to."""

    def __init__(self, interrupted: bool = False, **options) -> None:
        self.count, self.interrupted = 0, interrupted
        self.study = Study("toy", "Why?", PLAN, PLAN, self.compute, **options)

    def compute(self, work):
        self.count += 1
        if self.interrupted and self.count == 1:
            raise KeyboardInterrupt
        return findings(work)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_again_in_the_same_folder(tmp_path):
    folder = tmp_path / "a" / "b"
    first, again = run(Toy().study, folder), run(Toy().study, folder)
    assert again.findings == first.findings
    assert first.plain["command"] == f"finitewidth study toy --scale small --out {folder}"
    assert first.plain["versions"]["finitewidth"]
    assert held(folder)["findings"] == first.plain["findings"]
    assert sorted(contents(folder)) == ["report.html", "study.json", "toy.pdf", "toy.png"]


@pytest.fixture
def no_files_of_figures(monkeypatch):
    monkeypatch.setattr("finitewidth.report.plots.save", lambda figure, path: path)


@pytest.mark.usefixtures("no_files_of_figures")
def test_interrupted_and_resumed(tmp_path):
    toy = Toy(interrupted=True)
    with pytest.raises(KeyboardInterrupt):
        run(toy.study, tmp_path)
    assert list(contents(tmp_path)) == [FILE]
    assert run(toy.study, tmp_path).findings.claims[0].verdict == "supported"


@pytest.mark.parametrize(
    "other",
    [
        {"study": Study("other", "Why?", PLAN, PLAN, findings)},
        {"study": Study("toy", "Why?", replace(PLAN, draws=7), PLAN, findings)},
        {"data_options": {"seed": 3}},
        {"scale": "full", "data": "digits"},
    ],
)
@pytest.mark.usefixtures("no_files_of_figures")
def test_a_folder_of_another_study_is_refused(tmp_path, other):
    run(Toy().study, tmp_path)
    before = contents(tmp_path)
    with pytest.raises(InputError, match=r"holds study 'toy'.*nothing was changed"):
        run(**{"study": Toy().study, "out": tmp_path} | other)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["notes.txt", FILE])
def test_a_folder_of_anything_else_is_refused(tmp_path, name):
    (tmp_path / name).write_text("[]" if name == FILE else "mine")
    before = contents(tmp_path)
    with pytest.raises(InputError):
        run(Toy().study, tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("damage", ["{", "[]", "[" * 100, '{"a": NaN}'])
def test_a_damaged_study_is_refused(tmp_path, damage):
    (tmp_path / FILE).write_text(damage)
    with pytest.raises(InputError, match="damaged"):
        run(Toy().study, tmp_path)


def test_no_place_for_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--out"):
        run(Toy().study, tmp_path / "file" / "x")


# --- data -------------------------------------------------------------------------------------------------------------


def save(path, shape=(30, 6), classes=2):
    generator = np.random.default_rng(0)
    x = generator.standard_normal(shape)
    y = np.arange(len(x)) % classes
    np.savez(path, x_train=x[:20], y_train=y[:20], x_test=x[20:], y_test=y[20:])
    return str(path)


def test_data_without_shape(tmp_path):
    data = save(tmp_path / "flat.npz")
    assert run(Toy().study, tmp_path / "a", data=data).plain["source"] == data
    with pytest.raises(InputError, match="no shape"):
        run(Toy(images=True).study, tmp_path / "b", data=data)
    assert not (tmp_path / "b").exists()


def test_too_few_points(tmp_path):
    data = save(tmp_path / "data.npz")
    with pytest.raises(InputError, match=r"n_train = 21.*at most the 20"):
        run(Toy().study, tmp_path / "a", data=data, data_options={"n_train": 21})
    with pytest.raises(InputError, match="n_test"):
        run(Toy().study, tmp_path / "a", data_options={"n_test": 5000})
    assert not (tmp_path / "a").exists()


def test_outputs(tmp_path):
    three = save(tmp_path / "three.npz", classes=3)
    with pytest.raises(InputError, match="3 outputs"):
        run(Toy().study, tmp_path / "a", data=three)


def test_full_needs_data(tmp_path):
    with pytest.raises(InputError, match="npz"):
        run(Toy().study, tmp_path, scale="full")
    with pytest.raises(InputError, match="scale"):
        run(Toy().study, tmp_path, scale="huge")
    with pytest.raises(InputError, match="does not take it"):
        run(Toy().study, tmp_path, data=save(tmp_path / "a.npz"), data_options={"seed": 1})
