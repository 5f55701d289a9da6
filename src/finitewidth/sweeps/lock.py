"""One sweep a folder: a lock of the operating system, which ends with its process however that ends."""

from __future__ import annotations

import errno
import json
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from finitewidth.checks.exceptions import InputError
from finitewidth.checks.json_input import parse_json
from finitewidth.runs.durations import now

FILE = ".lock"
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL}  # file systems without locks


class FolderLock:
    """Held while the ``with`` block lasts; InputError where another process holds it.

    Where the system has no such lock, a file beside it says who works here; it counts until that process has gone.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._file: Any = None
        self._claim: Path | None = None

    def __enter__(self) -> FolderLock:
        self._file = open(self.path, "a+", encoding="utf-8")
        try:
            free = _lock(self._file)
        except OSError:
            free = self._claimed()
        if not free:
            holder = self.holder()
            self._file.close()
            raise InputError(
                f"--out {str(self.path.parent)!r}, in which {holder} is working",
                "a folder of its own for every sweep that runs",
                "wait for it, stop it, or choose another folder; finitewidth status shows how far it is",
            )
        self._file.seek(0)
        self._file.truncate()
        json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since": now()}, self._file)
        self._file.flush()
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()  # which unlocks
        if self._claim is not None:
            self._claim.unlink(missing_ok=True)

    def holder(self) -> str:
        """Who wrote the file last."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            held: Any = parse_json(self.path.read_text(encoding="utf-8"))
            return f"process {held['pid']} on {held['host']} (since {held['since']})"
        return "another process"

    def _claimed(self) -> bool:
        claim = self.path.with_name(f"{FILE}.claim")
        with suppress(OSError, ValueError, KeyError, TypeError):
            held: Any = parse_json(claim.read_text(encoding="utf-8"))
            if held["host"] == socket.gethostname() and not _alive(int(held["pid"])):
                claim.unlink()
        try:
            with open(claim, "x", encoding="utf-8") as file:
                json.dump({"pid": os.getpid(), "host": socket.gethostname()}, file)
        except FileExistsError:
            return False
        self._claim = claim
        return True


def is_locked(folder: Path) -> bool:
    """Whether a sweep is at work in the folder."""
    path = folder / FILE
    if not path.exists():
        return False
    try:
        with open(path, "r+", encoding="utf-8") as file:
            return not _lock(file)
    except OSError:
        return path.with_name(f"{FILE}.claim").exists()


def _lock(file: Any) -> bool:
    """Take the system's lock; False where somebody has it, OSError where there is none."""
    try:
        import fcntl
    except ImportError:
        raise OSError(errno.ENOSYS, "no fcntl") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            raise
        return False
    return True


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
