"""One factorisation a job, whatever is drawn or printed from it."""

from __future__ import annotations

from collections import Counter

import pytest

from finitewidth import cli
from finitewidth.linalg import RegularisedGram, Spectrum

P = 37  # training points, like no other size in a job
DATA = ["--data", "digits", "--classes", "0,1", "--n-train", str(P), "--n-test", "20"]


@pytest.fixture
def factorised(monkeypatch):
    """How often matrices of the size of the training set are decomposed into eigenvectors, and into triangles."""
    counts: Counter[str] = Counter()
    spectrum, gram = Spectrum.of.__func__, RegularisedGram.__init__

    def counted(cls, matrix, overwrite=False):
        counts["eigen"] += len(matrix) == P
        return spectrum(cls, matrix, overwrite)

    def triangle(self, matrix, ridge):
        counts["cholesky"] += len(matrix) == P
        gram(self, matrix, ridge)

    monkeypatch.setattr(Spectrum, "of", classmethod(counted))
    monkeypatch.setattr(RegularisedGram, "__init__", triangle)
    return counts


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["--width", "5,20,80"],
        ["--width", "5,20", "--temperature", "0.05,0.2"],
        ["--method", "infinite", "--temperature", "0.05,0.2"],
        ["--depth", "2", "--closure", "product", "--width", "5,20"],
        ["--depth", "2", "--activation", "relu"],
    ],
)
def test_a_job_with_its_limit_factorises_once(more, factorised, monkeypatch, capsys):
    monkeypatch.setattr("finitewidth.theory.rows.validity", lambda solution, test: None)
    assert cli.main(["predict", *DATA, *more]) == 0
    assert (factorised["eigen"], factorised["cholesky"]) == (1, 0)


def test_infinite_width_at_one_temperature_needs_no_eigenvectors(factorised, capsys):
    assert cli.main(["predict", *DATA, "--method", "infinite"]) == 0
    assert (factorised["eigen"], factorised["cholesky"]) == (0, 1)


@pytest.mark.parametrize("more", [[], ["--width", "5,20,80"], ["--width", "5,20", "--temperature", "0.05,0.2"]])
def test_and_with_a_figure(more, factorised, monkeypatch, capsys, tmp_path):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("finitewidth.theory.rows.validity", lambda solution, test: None)
    monkeypatch.setattr("finitewidth.curves.tangent.tangent_of", lambda job, train, test: None)
    assert cli.main(["predict", *DATA, *more, "--figure", str(tmp_path / "figure.png")]) == 0
    assert (factorised["eigen"], factorised["cholesky"]) == (1, 0)


def test_several_outputs_too(factorised, monkeypatch, capsys):
    monkeypatch.setattr("finitewidth.theory.rows.validity", lambda solution, test: None)
    assert cli.main(["predict", *DATA[:3], "0,1,2", *DATA[4:], "--width", "5,20"]) == 0
    assert (factorised["eigen"], factorised["cholesky"]) == (1, 0)


@pytest.mark.parametrize("figure", [False, True], ids=["", "figure"])
def test_validity_adds_its_own(figure, factorised, monkeypatch, capsys, tmp_path):
    """One for all wide networks and for the figure's tangent: A at infinite width, and the spectrum of two very wide
    networks for the action's slopes."""
    monkeypatch.setattr("finitewidth.theory.expansion.slopes._recent", {})
    more = []
    if figure:
        pytest.importorskip("matplotlib")
        more = ["--figure", str(tmp_path / "figure.png")]
    assert cli.main(["predict", *DATA, "--width", "2000,4000", *more]) == 0
    assert factorised == {"eigen": 2, "cholesky": 1}


def test_validity_of_narrow_networks_adds_one_at_each_saddle(factorised, monkeypatch, capsys):
    monkeypatch.setattr("finitewidth.theory.expansion.slopes._recent", {})
    assert cli.main(["predict", *DATA, "--width", "20,40"]) == 0
    assert factorised == {"eigen": 4, "cholesky": 3}
