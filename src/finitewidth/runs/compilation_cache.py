"""What JAX compiled for this package, kept on disk, so that the same programs start at once in later processes.

A compiled program is code that runs with the rights of whoever loads it: a folder that anybody else could write to is
never used.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import stat
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

LARGEST = 256 * 2**20  # bytes that it may hold when it is opened
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_lock = threading.Lock()
_users = 0  # contexts that have it open
_before: dict[str, Any] = {}  # JAX's settings, to be restored when the last of them closes


@contextlib.contextmanager
def kept_programs() -> Iterator[None]:
    """JAX looks for compiled programs on disk, and leaves them there, for as long as the context lasts.

    Does nothing where the user has set a cache of their own (``JAX_COMPILATION_CACHE_DIR``), or switched it off
    (``JAX_ENABLE_COMPILATION_CACHE=false``), and where there is no safe place for one.
    """
    try:
        _open()
        yield
    finally:
        _close()


def folder() -> Path | None:
    """Where compiled programs are kept; None where there is no safe place for them."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    found = (Path(home) if os.path.isabs(home) else Path("~/.cache").expanduser()) / "finitewidth" / "jax"
    return found / _processor() if found.is_absolute() and _is_safe(found) else None


def _is_safe(path: Path) -> bool:
    """Whether the folder, made if need be, is the user's own, and nobody else can write to it or exchange it."""
    if not hasattr(os, "geteuid"):  # Windows: no owner that could be checked so
        return False
    with contextlib.suppress(OSError):
        for folder in (path.parent, path):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        own = path.lstat()
        if not stat.S_ISDIR(own.st_mode) or own.st_uid != os.geteuid() or own.st_mode & _OTHERS_WRITE:
            return False
        return all(_keeps(parent.stat()) for parent in path.resolve().parents)
    return False


def _keeps(folder: os.stat_result) -> bool:
    """Whether only its owner, the user or root, can exchange what is in a folder that others own or write to."""
    trusted = folder.st_uid in (0, os.geteuid())
    return trusted and (not folder.st_mode & _OTHERS_WRITE or bool(folder.st_mode & stat.S_ISVTX))


@cache
def _processor() -> str:
    """A name for this kind of processor: programs are compiled for its instructions, and homes may be shared."""
    told = platform.machine() + platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        told += "".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _open() -> None:
    global _users
    with _lock:
        _users += 1
        if _users > 1:
            return
        import jax

        settings: Any = jax.config
        if settings.jax_compilation_cache_dir is not None or not settings.jax_enable_compilation_cache:
            return
        place = folder()
        if place is None:
            return
        with contextlib.suppress(OSError):
            place.mkdir(mode=0o700, exist_ok=True)
            _prune(place)
            _use(
                jax_compilation_cache_dir=str(place),
                jax_persistent_cache_min_compile_time_secs=0.0,
                jax_persistent_cache_min_entry_size_bytes=0,
            )


def _close() -> None:
    global _users
    with _lock:
        _users -= 1
        if _users == 0 and _before:
            _use(**_before)
            _before.clear()


def _use(**settings: Any) -> None:
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    for name, value in settings.items():
        _before.setdefault(name, getattr(jax.config, name))
        jax.config.update(name, value)
    compilation_cache.reset_cache()  # JAX looks at its settings once


def _prune(place: Path) -> None:
    """Begin anew where it holds too much."""
    files = list(place.iterdir())
    with contextlib.suppress(OSError):  # another process removes too
        if sum(file.stat().st_size for file in files) > LARGEST:
            for file in files:
                file.unlink(missing_ok=True)
