"""Every test under coverage.py, branches counted: `make coverage`. Fails below the share in pyproject.toml.

Lines may be left out with a comment `pragma: no cover` only where a reason follows it on the same line.
What runs in other processes (workers of sweeps, commands started as such) is not counted.
"""

from __future__ import annotations

import re
import sys

from environments import ROOT, Environment, stream

PRAGMA = re.compile(r"#\s*pragma: no cover(?P<reason>.*)")


def unexplained() -> list[str]:
    """Lines left out without a reason beside them."""
    found = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            match = PRAGMA.search(line)
            if match and len(match["reason"].strip(" -:,;")) < 10:
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    return found


def main(arguments: list[str]) -> int:
    if wrong := unexplained():
        print("left out of coverage without a reason beside it:", *wrong, sep="\n", file=sys.stderr)
        return 1
    environment = Environment.beside(ROOT / ".venv-measure", "coverage", "cosmic-ray", "pytest-cov")
    seen = {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    return stream([str(environment.python), "-m", "pytest", "--cov", "--cov-report=term", *arguments], extra=seen)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
