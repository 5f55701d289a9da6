"""Compiled programs on disk: found again by another process, in no folder that others can write to."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from finitewidth.runs import compilation_cache
from finitewidth.runs.compilation_cache import folder, kept_programs

posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="owners as POSIX has them")
PROGRAM = """
import jax
from finitewidth.runs.jax_runs import compiled, single_thread
found = []
jax.monitoring.register_event_listener(lambda name, **_: found.append(name))
def square(x): return (x @ x).sum()
with single_thread():
    print(compiled(square)(jax.numpy.ones((3, 3))))
print("/jax/compilation_cache/cache_hits" in found, jax.config.jax_compilation_cache_dir)
"""


def printed(**environment: str) -> list[str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=others | environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@posix
def test_another_process_finds_them(tmp_path):
    pytest.importorskip("jax")
    for hit in ("False", "True"):
        assert printed(XDG_CACHE_HOME=str(tmp_path)) == ["27.0", hit, "None"]
    assert (tmp_path / "finitewidth" / "jax").stat().st_mode & 0o777 == 0o700
    assert any(tmp_path.rglob("*square*"))


@posix
@pytest.mark.parametrize("variable", ["JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE"])
def test_variables_of_jax_hold(variable, tmp_path):
    pytest.importorskip("jax")
    value = str(tmp_path / "own") if variable.endswith("DIR") else "false"
    found = printed(**{"XDG_CACHE_HOME": str(tmp_path / "ours"), variable: value})
    assert found == ["27.0", "False", value if variable.endswith("DIR") else "None"]
    assert not (tmp_path / "ours").exists()


@posix
def test_the_usual_place(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert folder().parent == tmp_path / "finitewidth" / "jax"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert folder().parent == tmp_path / "home" / ".cache" / "finitewidth" / "jax"


@posix
@pytest.mark.parametrize("fault", ["writable by others", "a link", "a parent writable by others", "a file"])
def test_a_folder_that_is_not_safe_is_not_used(fault, tmp_path, monkeypatch):
    place = tmp_path / "finitewidth" / "jax"
    place.parent.mkdir()
    if fault == "a link":
        (tmp_path / "elsewhere").mkdir()
        place.symlink_to(tmp_path / "elsewhere")
    elif fault == "a file":
        place.write_text("")
    else:
        place.mkdir()
        (place if fault == "writable by others" else place.parent).chmod(0o777)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert folder() is None


@posix
def test_one_of_another_owner_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert folder() is not None
    monkeypatch.setattr(compilation_cache.os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    assert folder() is None


@posix
def test_settings_are_restored_and_its_size_is_bounded(tmp_path, monkeypatch, request):
    jax = pytest.importorskip("jax")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compilation_cache, "LARGEST", 100)
    own = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    request.addfinalizer(lambda: jax.config.update("jax_compilation_cache_dir", own))
    place = folder()
    place.mkdir()
    for k in range(5):
        (place / f"old-{k}").write_bytes(bytes(40))
        os.utime(place / f"old-{k}", (k, k))
    before = jax.config.jax_persistent_cache_min_compile_time_secs
    with kept_programs(), kept_programs():
        assert jax.config.jax_compilation_cache_dir == str(place)
        assert list(place.iterdir()) == []
        np.testing.assert_array_equal(jax.jit(lambda x: x + 1)(np.ones(2)), [2.0, 2.0])
    assert jax.config.jax_compilation_cache_dir is None
    assert jax.config.jax_persistent_cache_min_compile_time_secs == before
