"""Long runs on disk, their bar and their fingerprint. Those of real runs: tests of sampling and training."""

from __future__ import annotations

import json

import numpy as np
import pytest

from finitewidth import InputError
from finitewidth.runs.checkpoints import RunFile, save_arrays
from finitewidth.runs.fingerprints import versions
from finitewidth.runs.progress import progress_bar


def interrupt(*_):
    raise KeyboardInterrupt


ONE, TWO = json.dumps({"seed": 1}), json.dumps({"seed": 2})


def test_a_state_is_read_back_and_stays_where_the_next_is_cut_short(tmp_path, monkeypatch):
    file = RunFile(tmp_path / "run.npz", ONE)
    assert file.read() is None
    for step in (1, 2):
        file.write({"step": step}, {"weights": np.arange(3.0) * step})
    meta, arrays = file.read()
    assert meta["step"] == 2
    assert list(arrays) == ["weights"]
    np.testing.assert_array_equal(arrays["weights"], [0.0, 2.0, 4.0])
    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        file.write({"step": 3}, {})
    assert file.read()[0]["step"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["run.npz"]
    file.path.write_bytes(file.path.read_bytes()[:-30])
    with pytest.raises(InputError, match="cannot be read"):
        file.read()


def test_other_runs_and_places_are_refused(tmp_path):
    RunFile(tmp_path / "run.npz", ONE).write({}, {})
    with pytest.raises(InputError, match=r"another run \(seed differ\)"):
        RunFile(tmp_path / "run.npz", TWO).read()
    with pytest.raises(InputError, match="a folder that exists"):
        RunFile(tmp_path / "nowhere" / "run.npz", ONE)


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
