"""Virtual environments that the checks of releases, of supported versions and of the tests work in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
# what would let an environment see more than what is installed in it
LEAKS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "MYPYPATH", "PIP_REQUIRE_VIRTUALENV", "PIP_CONSTRAINT")


class Failed(Exception):
    """A command that failed, with the end of what it said."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment in ``folder``."""

    folder: Path

    @classmethod
    def fresh(cls, folder: Path) -> Environment:
        """An empty one: pip, and nothing else."""
        run([sys.executable, "-m", "venv", "--clear", str(folder)])
        return cls(folder)

    @classmethod
    def beside(cls, folder: Path, *packages: str) -> Environment:
        """One that holds ``packages`` and sees all that the running Python has; kept between calls.

        So tools that measure the tests need no place among the locked requirements.
        """
        environment = cls(folder)
        if not environment.python.exists():
            cls.fresh(folder)
        places = [path for path in sys.path if path.endswith("site-packages") and Path(path) != environment.site]
        (environment.site / "beside.pth").write_text("\n".join(places) + "\n", encoding="utf-8")
        environment.pip("install", *packages)
        return environment

    @property
    def python(self) -> Path:
        return self.folder / ("Scripts" if os.name == "nt" else "bin") / "python"

    @property
    def site(self) -> Path:
        if os.name == "nt":
            return self.folder / "Lib" / "site-packages"
        return self.folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"

    def pip(self, *arguments: str, cwd: Path = ROOT) -> str:
        return self.run("-m", "pip", "--quiet", "--disable-pip-version-check", *arguments, cwd=cwd)

    def run(self, *arguments: str, cwd: Path = ROOT, extra: Mapping[str, str] | None = None) -> str:
        """What Python prints when it runs ``arguments``; raises Failed with the end of it where it fails."""
        return run([str(self.python), *arguments], cwd, extra)

    def disk(self) -> int:
        """Bytes on disk, whole blocks, of everything in the folder."""
        return sum(path.lstat().st_blocks * 512 for path in self.folder.rglob("*") if not path.is_symlink())


def clean(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment variables without those that leak packages in."""
    kept = {name: value for name, value in os.environ.items() if name not in LEAKS}
    return kept | {"PYTHONNOUSERSITE": "1"} | dict(extra or {})


def run(command: Sequence[str], cwd: Path = ROOT, extra: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=clean(extra), capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-25:])
        raise Failed(f"{' '.join(map(str, command))[:300]} ended with status {done.returncode}:\n{said}")
    return done.stdout


def stream(command: Sequence[str], cwd: Path = ROOT, extra: Mapping[str, str] | None = None) -> int:
    """Run a command that speaks for itself; its exit status."""
    return subprocess.run(command, cwd=cwd, env=clean(extra), check=False).returncode
