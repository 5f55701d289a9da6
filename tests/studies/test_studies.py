"""Every study at a tiny plan: its findings are whole, resumable, and follow from the numbers that they show."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest

pytest.importorskip("jax")
pytest.importorskip("matplotlib")

from tests.studies.tiny import tiny

from finitewidth import FullyConnected, InputError, learning_curve
from finitewidth.data import Dataset, digits
from finitewidth.display.documents import json_ready
from finitewidth.studies import STUDIES, Work, run
from finitewidth.studies.local_renormalisation import networks, permuted
from finitewidth.studies.theory_and_samples import correlation
from finitewidth.studies.transfer import PROTOCOLS, _limit, tasks
from finitewidth.theory.transfer import transfer

NAMES = ("fully-connected", "local-renormalisation", "transfer")


def test_registry():
    assert set(STUDIES) == set(NAMES)
    for study in STUDIES.values():
        assert study.question.endswith("?")
        assert study.images == (study.name == "local-renormalisation")
        for plan in (study.small, study.full):
            assert set(plan.sampled) <= {*plan.widths, *plan.sampled}
            assert study.images is False or plan.patch <= 8


@pytest.fixture(autouse=True)
def nothing_is_rendered(monkeypatch):
    """Panels are made, but no PNG, PDF or SVG of them: that is tested once, in test_study.py."""
    monkeypatch.setattr("finitewidth.report.plots.save", lambda figure, path: path)
    monkeypatch.setattr("finitewidth.report.plots.svg_of", lambda figure: "")


@pytest.mark.parametrize("name", [*NAMES[:-1], pytest.param("transfer", marks=pytest.mark.slow)])
def test_study(name, tmp_path):
    """Whole findings and a page of them; every claim is one of three verdicts; again it comes to the same."""
    study = tiny(STUDIES[name])
    report = run(study, tmp_path)
    found = report.findings
    assert found.claims
    assert {claim.verdict for claim in found.claims} <= {"supported", "contradicted", "undecided"}
    assert all(len(row) == len(table.columns) for table in found.tables for row in table.rows)
    assert all(len(s.x) == len(s.y) for panel in found.panels for s in panel.series)
    assert all(v is None or math.isfinite(v) for panel in found.panels for s in panel.series for v in s.y)
    assert json.loads((tmp_path / "study.json").read_text())["findings"] == report.plain["findings"]
    assert [path.name for path in report.files] == ["report.html", f"{name}.png", f"{name}.pdf"]
    assert report.files[0].stat().st_size < 1_000_000
    assert json_ready(asdict(again(study, tmp_path))) == report.plain["findings"]
    if name == "fully-connected":
        interrupted_and_resumed(study, tmp_path / "cut", found)


def again(study, folder, say=print):
    """The findings of the data of ``run``, with what is in the folder; nothing is drawn."""
    plan = study.small
    data = digits(classes=plan.classes, n_train=plan.n_train, n_test=plan.n_test, seed=plan.seed)
    return study.compute(Work(plan, *data, folder / "checkpoints", say))


def interrupted_and_resumed(study, folder, whole):
    """A study that broke off after its first networks samples them no second time, and ends with the same numbers."""

    def stop_before_the_second(text):
        if text.startswith("Sampling: L = 3"):
            raise KeyboardInterrupt

    folder.mkdir()
    with pytest.raises(KeyboardInterrupt):
        again(study, folder, stop_before_the_second)
    (kept,) = (folder / "checkpoints").rglob("*.npz")
    with np.load(kept) as file:
        drawn = {name: file[name] for name in file if name != "meta"}
    assert again(study, folder) == whole
    with np.load(kept) as file:
        for name, values in drawn.items():
            np.testing.assert_array_equal(file[name], values)


def test_permutation_is_one_and_the_same():
    train, test = digits(classes=(0, 1), n_train=10, n_test=5)
    order = np.random.default_rng(0).permutation(64)
    for part in (train, test):
        moved = permuted(part, order)
        assert moved.x.shape == part.x.shape
        np.testing.assert_array_equal(moved.flat, part.flat[:, order])
        np.testing.assert_array_equal(moved.y, part.y)
    assert not np.array_equal(permuted(train, order).x, train.x)


def test_shuffling_leaves_the_fully_connected_theory():
    """To rounding; and its negative control: the convolutional theory does change."""
    data = digits(classes=(3, 8), n_train=12, n_test=8)
    order = np.random.default_rng(0).permutation(64)
    shuffled = [permuted(part, order) for part in data]
    found = networks(STUDIES["local-renormalisation"].small)
    full, local = (
        np.abs(
            learning_curve(found[name], *shuffled, [4, 16]).column("test_error")
            / learning_curve(found[name], *data, [4, 16]).column("test_error")
            - 1.0
        ).max()
        for name in ("fully connected", "convolutional")
    )
    assert full < 1e-10
    assert local > 1e-3


@pytest.mark.parametrize(("scale", "side", "expected"), [("small", 8, 9), ("small", 28, 9), ("full", 28, 16)])
def test_as_many_patches_on_images_of_any_size(scale, side, expected):
    images = np.random.default_rng(0).standard_normal((4, side, side))
    plan = STUDIES["local-renormalisation"].plan(scale).fitted(Dataset(images, np.array([0, 1, 0, 1])))
    assert networks(plan)["convolutional"].grid(images).n_patches == expected


def test_networks_share_activation_and_priors():
    found = networks(STUDIES["local-renormalisation"].small)
    assert {network.phi.name for network in found.values()} == {"erf"}
    assert {network.weight_precision for network in found.values()} == {(1.0, 1.0)}


def work(train: Dataset, test: Dataset, source: str, tmp_path, **options) -> Work:
    return Work(replace(STUDIES["transfer"].small, **options), train, test, tmp_path, print, source)


def test_tasks_of_transfer(tmp_path):
    """Target and sources share no point; only built-in data have a related task; shuffled labels are the same ones."""
    train, test = digits(classes=(6, 9), n_train=20, n_test=5)
    target, sources = tasks(work(train, test, "digits", tmp_path, n_target=6))
    assert [len(target), *map(len, sources.values())] == [6, 14, 14, 14]
    same, related, shuffled = sources.values()
    np.testing.assert_array_equal(np.concatenate([target.x, same.x]), train.x)
    assert related.classes == (5, 6)
    assert "related (5, 6)" in sources
    np.testing.assert_array_equal(np.sort(shuffled.y), np.sort(same.y))
    assert not np.array_equal(shuffled.y, same.y)
    assert list(tasks(work(train, test, "my.npz", tmp_path))[1]) == ["same task", "shuffled labels"]


def test_too_few_points_for_two_tasks(tmp_path):
    train, test = digits(classes=(6, 9), n_train=10, n_test=5)
    with pytest.raises(InputError, match="10 training points, of which 10 are the target's"):
        tasks(work(train, test, "digits", tmp_path))
    one = train.subset(train.y > 0)
    with pytest.raises(InputError, match="with one label"):
        tasks(work(one, test, "digits", tmp_path, n_target=2))


def test_transfer_at_infinite_width(tmp_path):
    """No source has an effect in its limit, which is the theory's at a huge width; the control is a finite one."""
    train, test = digits(classes=(6, 9), n_train=20, n_test=5)
    here = work(train, test, "digits", tmp_path, n_target=6)
    target, sources = tasks(here)
    for protocol in PROTOCOLS.values():
        for width, near in ((10**9, True), (10, False)):
            coupled = protocol.of_correlation(FullyConnected(widths=width, activation="erf"), 0.8)
            found = transfer(coupled, sources["same task"], target, here.plan.temperature)
            error = found.predict(test.x).errors(test.y).test_error
            assert (abs(error / _limit(here, coupled, target).test_error - 1.0) < 1e-6) == near


def test_correlation_and_its_error(rng):
    """The spread over redrawn samples is the spread that fresh samples show."""
    theory, error = np.linspace(0.0, 1.0, 10), np.full(10, 0.1)
    fresh = [np.corrcoef(theory, theory + error * rng.standard_normal(10))[0, 1] for _ in range(500)]
    value, spread = correlation(theory, theory.copy(), error)
    assert value == pytest.approx(1.0)
    assert spread == pytest.approx(np.std(fresh), rel=0.2)
    assert math.isnan(correlation(theory[:2], theory[:2], error[:2])[0])
