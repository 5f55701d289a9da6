"""Long runs on disk, their bar and their fingerprint. Those of real runs: tests of sampling and training."""

from __future__ import annotations

import json

import numpy as np
import pytest

from finitewidth import InputError
from finitewidth.runs.checkpoints import RunFile, now_and_then, save_arrays
from finitewidth.runs.fingerprints import versions
from finitewidth.runs.progress import progress_bar

ONE, TWO = json.dumps({"seed": 1}), json.dumps({"seed": 2})


def test_a_state_is_read_back_and_the_one_before_when_the_last_is_cut_short(tmp_path):
    file = RunFile(tmp_path / "run.npz", ONE)
    assert file.read() is None
    for step in (1, 2):
        file.write({"step": step}, {"weights": np.arange(3.0) * step})
    meta, arrays = file.read()
    assert meta["step"] == 2
    assert list(arrays) == ["weights"]
    np.testing.assert_array_equal(arrays["weights"], [0.0, 2.0, 4.0])
    file.path.write_bytes(file.path.read_bytes()[:-30])
    assert file.read()[0]["step"] == 1
    file.previous.write_bytes(b"")
    with pytest.raises(InputError, match="cannot be read"):
        file.read()


def test_other_runs_and_places_are_refused(tmp_path):
    RunFile(tmp_path / "run.npz", ONE).write({}, {})
    with pytest.raises(InputError, match=r"another run \(seed differ\)"):
        RunFile(tmp_path / "run.npz", TWO).read()
    with pytest.raises(InputError, match="a folder that exists"):
        RunFile(tmp_path / "nowhere" / "run.npz", ONE)


def test_saves_now_and_then(monkeypatch):
    saved = []
    for seconds, expected in ((1e6, []), (-1.0, [1, 2])):
        monkeypatch.setattr("finitewidth.runs.checkpoints.SAVE_EVERY", seconds)
        save = now_and_then(saved.append)
        save(1)
        save(2)
        assert saved == expected


def test_a_bar_only_where_it_is_wanted(capsys):
    for visible in (False, "width 4"):
        with progress_bar(visible, "warmup", 2, 0) as advance:
            advance("draws")
            advance("draws")
    out, err = capsys.readouterr()
    assert out == ""
    assert "width 4: draws" in err
    assert "2/2" in err


def test_versions_name_what_is_installed():
    assert {"numpy"} <= set(versions("no-such-package")) <= {"finitewidth", "jax", "jaxlib", "numpy"}


def test_objects_are_not_saved(tmp_path):
    with (tmp_path / "a.npz").open("wb") as file, pytest.raises(TypeError, match="weights holds objects"):
        save_arrays(file, weights=np.array([{}]))
    with (tmp_path / "b.npz").open("wb") as file:
        save_arrays(file, weights=np.ones(2), text=np.array("a"))
    with np.load(tmp_path / "b.npz", allow_pickle=False) as found:
        assert sorted(found) == ["text", "weights"]
