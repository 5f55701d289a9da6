"""Sampled curves: one row a run, checked before the first, resumable, and honest about interrupts."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("jax")
pytest.importorskip("arviz")

from finitewidth.data import Dataset
from finitewidth.exceptions import InputError
from finitewidth.networks import Convolutional, FullyConnected, LocallyConnected
from finitewidth.sampling import curves, sample, sampled_curve

SHORT = {"chains": 2, "draws": 20, "warmup": 30}
NETWORK = FullyConnected(widths=(4,))


@pytest.fixture(scope="module")
def data() -> tuple[Dataset, Dataset]:
    x = np.random.default_rng(0).standard_normal((20, 4))
    y = np.where(x[:, 0] > 0, 1.0, -1.0)
    return Dataset(x[:12], y[:12]), Dataset(x[12:], y[12:])


def test_a_row_is_a_run_of_sample(data):
    (row,) = sampled_curve(NETWORK, *data, temperature=0.2, seed=3, **SHORT)
    draws = sample(NETWORK, *data, temperature=0.2, seed=3, **SHORT)
    errors = draws.errors(data[1].y)
    for name in ("test_error", "test_error_se", "train_error", "bias", "variance", "accuracy", "r_hat", "ess"):
        assert getattr(row, name) == getattr(errors, name)
    assert row.order_parameters == [draws.order_parameter.item()]
    assert row.acceptance == draws.acceptance.mean()
    assert (row.width, row.depth, row.temperature, row.n_train, row.method) == (4, 1, 0.2, 12, "collapsed")
    assert (row.log_evidence, row.complete) == (None, True)
    assert set(row.to_dict()) == set(type(row).__dataclass_fields__)


def test_order_of_rows(data):
    found = [(row.temperature, row.width) for row in sampled_curve(NETWORK, *data, [4, 5], [0.2, 0.5], **SHORT)]
    assert found == [(0.2, 4), (0.2, 5), (0.5, 4), (0.5, 5)]


@pytest.mark.parametrize(
    ("network", "entries"),
    [
        (Convolutional(channels=3, patch=2), 4),
        (LocallyConnected(channels=3, patch=2), 2),
        (Convolutional(channels=3, patch=2, pool="average"), 1),
        (FullyConnected(widths=(3, 5)), 1),
    ],
)
def test_order_parameters_as_the_theory_lays_them_out(data, network, entries):
    images = [Dataset(part.x.reshape(-1, 2, 2), part.y) for part in data]
    if not isinstance(network, FullyConnected):
        images = [Dataset(part.x.reshape(-1, 4, 1), part.y) for part in data]
        network = type(network)(channels=3, patch=(2, 1), stride=(2, 1), pool=network.pool)
    (row,) = sampled_curve(network, *images, temperature=0.2, **SHORT)
    assert len(row.order_parameters) == entries


def test_everything_is_checked_before_the_first_run(data, monkeypatch):
    monkeypatch.setattr(curves, "sample", lambda *_, **__: pytest.fail("ran"))
    with pytest.raises(InputError, match="temperature"):
        sampled_curve(NETWORK, *data, [3, 5], [0.2, -1.0], **SHORT)
    with pytest.raises(InputError, match="draws"):
        sampled_curve(NETWORK, *data, [3, 5], draws=0)
    with pytest.raises(InputError, match="as the training targets were"):
        sampled_curve(NETWORK, data[0], Dataset(data[1].x, np.eye(3)[np.arange(8) % 3]), **SHORT)
    with pytest.raises(TypeError):
        sampled_curve(NETWORK, *data, darws=5)


def test_resumes_where_it_was(data, tmp_path, monkeypatch):
    whole = list(sampled_curve(NETWORK, *data, [4, 5], 0.2, **SHORT))
    unfinished = sampled_curve(NETWORK, *data, [4, 5], 0.2, checkpoint=tmp_path / "runs", **SHORT)
    next(unfinished)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["width-4-temperature-0.2.npz"]
    resumed = list(sampled_curve(NETWORK, *data, [4, 5], 0.2, checkpoint=tmp_path / "runs", **SHORT))
    assert [row.test_error for row in resumed] == [row.test_error for row in whole]


def test_a_checkpoint_folder_that_cannot_be(data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="a folder"):
        sampled_curve(NETWORK, *data, checkpoint=tmp_path / "file" / "runs", **SHORT)


def interrupted_at(run: int, monkeypatch):
    calls = []

    def stopping(*arguments, **options):
        calls.append(1)
        if len(calls) == run:
            raise KeyboardInterrupt
        return sample(*arguments, **options)

    monkeypatch.setattr(curves, "sample", stopping)


def test_an_interrupt_keeps_what_is_done(data, monkeypatch):
    interrupted_at(2, monkeypatch)
    rows = list(sampled_curve(NETWORK, *data, [4, 5, 6], 0.2, **SHORT))
    assert [row.width for row in rows] == [4]


def test_an_interrupt_of_the_first_run_is_passed_on(data, monkeypatch):
    interrupted_at(1, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        list(sampled_curve(NETWORK, *data, [4, 5], 0.2, **SHORT))


def test_one_chain_says_so(data):
    (row,) = sampled_curve(NETWORK, *data, temperature=0.2, **SHORT | {"chains": 1})
    assert math.isnan(row.r_hat)
    assert not row.converged
    assert "one chain" in row.message
