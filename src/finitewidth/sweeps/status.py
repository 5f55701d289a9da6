"""How far a sweep is, from this process or any other."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from finitewidth import __version__, checks
from finitewidth.checks.exceptions import InputError
from finitewidth.runs.durations import format_time
from finitewidth.sweeps.lock import is_locked
from finitewidth.sweeps.store import DATABASE, damaged, reading


@dataclass(frozen=True)
class Status:
    """Of the latest run in a folder.

    state: "running", "finished", or "stopped" (interrupted, killed, out of disk; the same command goes on). planned:
    points of its plan; done and failed: of those, with what earlier runs did. not_converged: of those done in this run.
    stored: points of all plans in the folder. rate: points a second in this run. seconds_left: at that rate; None
    where nothing is known.
    """

    folder: str
    state: str
    planned: int
    done: int
    failed: int
    not_converged: int
    left: int
    stored: int
    seconds: float
    rate: float | None
    seconds_left: float | None
    started_at: str
    finished_at: str | None
    outcome: str | None
    client: str
    failures: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return asdict(self) | {"database": str(Path(self.folder) / DATABASE), "version": __version__}

    def lines(self) -> list[str]:
        """The same for people, a line a fact."""
        lines = [
            f"{self.state}: {self.done} of {self.planned} points done"
            + (f", {self.failed} failed" if self.failed else "")
            + (f", {self.left} left" if self.left else "")
        ]
        if self.rate is not None:
            left = f", {format_time(self.seconds_left)} left" if self.seconds_left and self.left else ""
            lines.append(f"{self.rate:.3g} points/s over {format_time(self.seconds)}{left} ({self.client})")
        if self.not_converged:
            lines.append(f"NOT CONVERGED: {self.not_converged} points of this run; see column converged")
        if self.stored > self.done + self.failed:
            lines.append(f"{self.stored - self.done - self.failed} more points of other plans are in the folder")
        lines += [f"failed ({count}): {reason}" for reason, count in self.failures.items()]
        return lines


def status(folder: str | os.PathLike[str]) -> Status:
    """Read how far the sweep in a folder is, while it runs or later. Raises InputError where there is none."""
    place = checks.path("folder", folder)
    running = place.is_dir() and is_locked(place)
    with reading(place) as db:
        run = db.execute("SELECT * FROM runs ORDER BY run DESC LIMIT 1").fetchone()
        if run is None:
            raise InputError(f"{str(folder)!r}, whose sweep has not begun", "a sweep that has begun", "run the sweep")
        counts = db.execute(
            "SELECT status, count(*), sum(converged = 0) FROM points WHERE run = ? GROUP BY status", (run["run"],)
        ).fetchall()
        stored = db.execute("SELECT count(*) FROM points").fetchone()[0]
        reasons = db.execute(
            "SELECT reason, count(*) FROM points WHERE run = ? AND status = 'failed' GROUP BY reason "
            "ORDER BY count(*) DESC LIMIT 10",
            (run["run"],),
        ).fetchall()
    try:
        return _status(folder, running, run, counts, stored, reasons)
    except (TypeError, ValueError) as error:  # SQLite takes any type in any column
        raise damaged(place / DATABASE, error) from error


def _status(
    folder: str | os.PathLike[str], running: bool, run: Any, counts: list[Any], stored: int, reasons: list[Any]
) -> Status:
    texts = [run["started_at"], run["client"], *(run[name] or "" for name in ("finished_at", "outcome"))]
    if not all(isinstance(text, str) for text in (*texts, *(row[0] for row in (*counts, *reasons)))):
        raise TypeError("something else in place of text")
    now_done = {row[0]: row[1] for row in counts}
    fresh = sum(now_done.values())
    done, failed = run["before"] + now_done.get("done", 0), run["failed_before"] + now_done.get("failed", 0)
    seconds = _seconds(run["started_at"], None if running else run["finished_at"])
    left = max(0, run["planned"] - done - failed)
    rate = fresh / seconds if fresh and seconds > 0.0 else None
    return Status(
        folder=str(folder),
        state="running" if running else "finished" if run["outcome"] == "finished" else "stopped",
        planned=run["planned"],
        done=done,
        failed=failed,
        not_converged=sum(row[2] or 0 for row in counts),
        left=left,
        stored=stored,
        seconds=seconds,
        rate=rate,
        seconds_left=left / rate if rate else None,
        started_at=run["started_at"],
        finished_at=run["finished_at"],
        outcome=run["outcome"],
        client=run["client"],
        failures={row[0]: row[1] for row in reasons},
    )


def _seconds(start: str, end: str | None) -> float:
    last = datetime.now(UTC) if end is None else datetime.fromisoformat(end)
    return (last - datetime.fromisoformat(start)).total_seconds()
