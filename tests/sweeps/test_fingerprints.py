"""Fingerprints of data: of a file, of a folder, of what has none."""

from __future__ import annotations

import hashlib

import pytest

from finitewidth import InputError
from finitewidth.sweeps.fingerprints import fingerprint_of


def test_of_a_file_its_sha256(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"numbers")
    assert fingerprint_of(str(tmp_path / "a.npz")) == hashlib.sha256(b"numbers").hexdigest()


def test_of_a_folder_names_and_contents(tmp_path):
    found = []
    for name, content in (("a/1.png", b"one"), ("a/2.png", b"one"), ("b/2.png", b"two")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
        found.append(fingerprint_of(str(tmp_path)))
    (tmp_path / "b/2.png").write_bytes(b"TWO")
    found.append(fingerprint_of(str(tmp_path)))
    (tmp_path / "b/2.png").rename(tmp_path / "b/3.png")
    found.append(fingerprint_of(str(tmp_path)))
    assert len(set(found)) == 5
    assert fingerprint_of(str(tmp_path)) == found[-1]


def test_what_comes_with_the_package_has_none():
    assert fingerprint_of("digits") is None
    assert fingerprint_of("openml:iris") is None


def test_nothing_there(tmp_path):
    with pytest.raises(InputError, match="wanted"):
        fingerprint_of(str(tmp_path / "nothing.npz"))
