"""Results on disk: SQLite, one row and one transaction a point; draws beside it. One process writes."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from finitewidth.checks.exceptions import InputError
from finitewidth.runs.durations import now
from finitewidth.sweeps.draws_file import write_draws
from finitewidth.sweeps.point import Point

DATABASE, DRAWS, CHECKPOINTS = "results.sqlite", "draws", "checkpoints"
_APPLICATION, _FORMAT = 0x66775357, 1  # pragmas that say whose file this is
_SCHEMA = """
CREATE TABLE points (
    point_id TEXT PRIMARY KEY, config TEXT NOT NULL, status TEXT NOT NULL, result TEXT,
    started_at TEXT, finished_at TEXT, seconds REAL, reason TEXT,
    converged INTEGER, seed INTEGER, versions TEXT, data_fingerprint TEXT, peak_memory INTEGER, draws_path TEXT,
    run INTEGER
);
CREATE INDEX points_of_run ON points (run, status, converged);
CREATE TABLE data (data TEXT PRIMARY KEY, fingerprint TEXT NOT NULL);
CREATE TABLE runs (
    run INTEGER PRIMARY KEY, plan TEXT, client TEXT, planned INTEGER, before INTEGER, failed_before INTEGER,
    started_at TEXT, finished_at TEXT, outcome TEXT, pid INTEGER, host TEXT
);
"""
_INSERT = f"INSERT OR REPLACE INTO points VALUES ({', '.join('?' * 15)})"
_PATIENCE = 10.0  # seconds, for somebody else reads or writes
_STEPS = 10_000  # thousands of SQLite's instructions that a reader may take whatever the size of the file
_NETWORKED = ("nfs", "lustre", "gpfs", "beegfs", "cifs", "smb", "ceph", "fuse.", "9p", "afs", "panfs", "orangefs")


@dataclass(frozen=True)
class Outcome:
    """What became of a point.

    status: "done" or "failed". result: one row as predict and sample print it; None where it failed. reason: why it
    failed, or what there is to know of a result. data_fingerprint: of training and test part, both. peak_memory: bytes
    of the process that worked. draws: to be kept. versions: JSON. scale: warnings of the size of the data, not stored
    by themselves.
    """

    point: Point
    status: str
    result: dict[str, Any] | None
    reason: str
    started_at: str
    finished_at: str
    seconds: float
    versions: str
    data_fingerprint: str | None = None
    peak_memory: int | None = None
    draws: Any = None
    scale: Sequence[str] = ()

    @property
    def converged(self) -> bool | None:
        """Of the result, where there is one."""
        return None if self.result is None else bool(self.result.get("converged", True))


class Store:
    """The results of a folder, opened by the one process that writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / DATABASE
        self.run = 0
        self._seen: dict[str, str] = {}
        with legible(self.path):
            self._db = sqlite3.connect(self.path, isolation_level=None, timeout=_PATIENCE)
            try:
                self._open()
            except BaseException:
                self._db.close()
                raise

    def _open(self) -> None:
        db = self._db
        fresh = not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not fresh:
            refuse_foreign(db, self.path)
            problem = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if problem != "ok":
                raise sqlite3.DatabaseError(problem)
        # write-ahead logs need memory shared with readers
        mode, sync = ("TRUNCATE", "FULL") if _networked(self.folder) else ("WAL", "NORMAL")
        db.execute(f"PRAGMA journal_mode={mode}")
        db.execute(f"PRAGMA synchronous={sync}")
        if fresh:
            with self._transaction():
                for statement in _SCHEMA.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA application_id={_APPLICATION}")
                db.execute(f"PRAGMA user_version={_FORMAT}")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Leave one file behind, unless somebody reads."""
        with suppress(sqlite3.Error):
            self._db.execute("PRAGMA journal_mode=DELETE")
        self._db.close()

    # --- points -----------------------------------------------------------------------------------------------

    def statuses(self) -> dict[str, str]:
        """Of the points that are stored, by their ids."""
        with legible(self.path):
            return dict(self._db.execute("SELECT point_id, status FROM points").fetchall())

    def add(self, outcome: Outcome) -> None:
        """Draws first, under their last name when they are whole; then the row."""
        with _writing(self.folder):
            draws = None if outcome.draws is None else f"{DRAWS}/{outcome.point.id}.npz"
            if draws is not None:
                (self.folder / DRAWS).mkdir(exist_ok=True)
                write_draws(self.folder / draws, outcome.draws.to_datatree())
            row = {  # in the order of the columns
                "point_id": outcome.point.id,
                "config": outcome.point.text,
                "status": outcome.status,
                "result": None if outcome.result is None else json.dumps(outcome.result, allow_nan=False),
                "started_at": outcome.started_at,
                "finished_at": outcome.finished_at,
                "seconds": outcome.seconds,
                "reason": outcome.reason,
                "converged": outcome.converged,
                "seed": outcome.point.config.get("seed"),
                "versions": outcome.versions,
                "data_fingerprint": outcome.data_fingerprint,
                "peak_memory": outcome.peak_memory,
                "draws_path": draws,
                "run": self.run,
            }
            with self._transaction() as db:
                db.execute(_INSERT, tuple(row.values()))

    # --- data and runs ----------------------------------------------------------------------------------------

    def refuse_changed(self, point: Point, fingerprint: str) -> None:
        """InputError unless the data of a point are those that the folder's first point on them saw."""
        key = point.data_key
        if self._seen.get(key) == fingerprint:
            return
        with _writing(self.folder), self._transaction() as db:
            db.execute("INSERT OR IGNORE INTO data VALUES (?, ?)", (key, fingerprint))
            before = db.execute("SELECT fingerprint FROM data WHERE data = ?", (key,)).fetchone()[0]
        if before != fingerprint:
            raise InputError(
                f"data {point.config['data']!r}, which have changed (fingerprint {fingerprint})",
                f"fingerprint {before}, as when this sweep began",
                "bring the old data back, or choose another --out; nothing was changed",
            )
        self._seen[key] = fingerprint

    def begin(self, plan: str, client: str, planned: int, before: int, failed_before: int) -> None:
        """A new run; ``planned`` points, ``before`` of which are done already."""
        values = (plan, client, planned, before, failed_before, now(), os.getpid(), socket.gethostname())
        with _writing(self.folder), self._transaction() as db:
            cursor = db.execute(
                "INSERT INTO runs (plan, client, planned, before, failed_before, started_at, pid, host) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )
            self.run = int(cursor.lastrowid or 0)

    def end(self, outcome: str) -> None:
        """How the run ended."""
        with _writing(self.folder), self._transaction() as db:
            db.execute("UPDATE runs SET finished_at = ?, outcome = ? WHERE run = ?", (now(), outcome, self.run))


def refuse_foreign(db: sqlite3.Connection, path: Path) -> None:
    """InputError for a database that is not of this version's sweeps: other tables, or views, triggers, expressions.

    Nothing of its schema is run before.
    """
    db.execute("PRAGMA trusted_schema=OFF")
    db.execute("PRAGMA cell_size_check=ON")
    found = [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    if found != [_APPLICATION, _FORMAT] or _schema_of(db) != _own_schema():
        raise InputError(
            f"{str(path)!r}, which is no database of this version's sweeps",
            "an empty folder, or that of a sweep",
            "choose another folder; nothing was changed",
        )


def _schema_of(db: sqlite3.Connection) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name")]


@lru_cache(maxsize=1)
def _own_schema() -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(_SCHEMA)
        return _schema_of(db)


def _refuse_to_run_on(db: sqlite3.Connection, path: Path) -> None:
    """Damaged pages may point at one another; what takes far more steps than the file has bytes is ended."""
    left = _STEPS + sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*")) // 100

    def ended() -> bool:
        nonlocal left
        left -= 1
        return left < 0

    db.set_progress_handler(ended, 1000)


@contextmanager
def reading(folder: Path) -> Iterator[sqlite3.Connection]:
    """The database of a folder, for reading, also while a sweep writes. Raises InputError where there is none."""
    path = folder / DATABASE
    if not path.is_file():
        raise InputError(f"{str(folder)!r}, with no sweep in it", "the folder of a sweep", "check the path")
    with legible(path):
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_PATIENCE)
        db.row_factory = sqlite3.Row
        try:
            _refuse_to_run_on(db, path)
            refuse_foreign(db, path)
            yield db
        finally:
            db.close()


@contextmanager
def legible(path: Path) -> Iterator[None]:
    """What SQLite says of a file is bad input."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "UTF-8" in str(error) or str(error) == "interrupted":
            raise damaged(path, error) from error
        raise InputError(f"{str(path)!r} ({error})", "a file that can be read and written", "check the disk") from error
    except (sqlite3.Error, UnicodeDecodeError) as error:  # of damaged pages SQLite's own message may be no text
        raise damaged(path, error) from error


def damaged(path: Path, error: object) -> InputError:
    return InputError(
        f"{str(path)!r}, which is damaged ({error})",
        "the database of a sweep",
        "move it away to start afresh, or save its rows with sqlite3's .recover",
    )


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """A disk that takes no more ends the sweep; what is on it stays whole."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"{str(folder)!r}, which takes no more ({reason})",
            "room for the results",
            "make room and run the same command again; every point that was done is kept",
        ) from error


def _networked(folder: Path) -> bool:
    """Whether the folder is on a file system that other machines see."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    except (OSError, IndexError):
        return False
    place = folder.resolve()
    holding = [(len(point), kind) for point, kind in mounts if place.is_relative_to(point)]
    return max(holding, default=(0, ""))[1].startswith(_NETWORKED)
