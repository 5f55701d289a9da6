"""Which tests are slow: written by ``make timings`` into slow.txt, read by conftest.py, left out by ``make fast``.

``pytest --durations=0 | python tests/slow.py`` lists the test functions that take longest, all their parameters and
fixtures together, until what is left takes ``BUDGET`` seconds of one processor.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

LIST = Path(__file__).with_name("slow.txt")
BUDGET = 100.0
_LINE = re.compile(r"\s*([\d.]+)s (?:call|setup|teardown)\s+([^\[\s]+)")


def slow(report: Iterable[str], budget: float = BUDGET) -> list[str]:
    """Names of test functions, from the lines of pytest's report."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for line in report:
        if found := _LINE.match(line):
            seconds[found[2]] += float(found[1])
    left, names = sum(seconds.values()), []
    for name, taken in sorted(seconds.items(), key=lambda item: -item[1]):
        if left <= budget:
            break
        names.append(name)
        left -= taken
    return sorted(names)


def listed() -> frozenset[str]:
    """What the list holds."""
    return frozenset(LIST.read_text().split())


if __name__ == "__main__":
    found = slow(sys.stdin)
    if not found:
        sys.exit("no durations in the report: run pytest with --durations=0")
    LIST.write_text("\n".join(found) + "\n")
    print(f"{len(found)} slow test functions in {LIST}")
