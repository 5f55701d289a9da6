"""One sweep a folder: SQLite's lock on an empty database, which ends with its process however that ends."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from finitewidth.checks.exceptions import InputError
from finitewidth.sweeps.store import legible, reading

FILE = "lock.sqlite"
_PATIENCE = 1.0  # seconds, for somebody may just look whether it is locked


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; InputError where another process holds it."""
    with legible(folder / FILE):
        db = sqlite3.connect(folder / FILE, timeout=_PATIENCE, isolation_level=None)
    with closing(db):
        if not _answers(db, "BEGIN EXCLUSIVE", folder):
            raise InputError(
                f"--out {str(folder)!r}, in which {_holder(folder)} is working",
                "a folder of its own for every sweep that runs",
                "wait for it, stop it, or choose another folder; finitewidth status shows how far it is",
            )
        yield


def is_locked(folder: Path) -> bool:
    """Whether a sweep is at work in the folder."""
    path = folder / FILE
    if not path.is_file():
        return False
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=0.0)) as db:
        return not _answers(db, "SELECT count(*) FROM sqlite_master", folder)


def _answers(db: sqlite3.Connection, question: str, folder: Path) -> bool:
    """False where the database is locked; InputError where there is another reason."""
    with legible(folder / FILE):
        try:
            db.execute(question)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            return False
    return True


def _holder(folder: Path) -> str:
    """Who began the latest run."""
    try:
        with reading(folder) as db:
            found = db.execute("SELECT pid, host, started_at FROM runs ORDER BY run DESC LIMIT 1").fetchone()
    except InputError:
        found = None
    return "another process" if found is None else "process {} on {} (since {})".format(*found)
