"""Files of data as they are: hashes that tell whether one has changed."""

from __future__ import annotations

import hashlib
from pathlib import Path

from finitewidth import checks
from finitewidth.data.files import existing
from finitewidth.data.loaders import BUILT_IN, OPENML


def fingerprint_of(source: str) -> str | None:
    """SHA-256 (hex) of a file, or of all files of a folder with their names; None for data that are no file.

    Raises InputError for a file that is not there.
    """
    if source in BUILT_IN or source.startswith(OPENML):
        return None
    path = checks.path("data", source)
    existing(path, folder=path.is_dir())
    if path.is_file():
        return _of_file(path)
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{_of_file(file)}\n".encode())
    return digest.hexdigest()


def _of_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
