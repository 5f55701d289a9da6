"""The list of slow tests: made from a report, and true."""

from __future__ import annotations

from pathlib import Path

from tests import slow

REPORT = """
12.00s call     tests/a.py::test_one[0.5-x]
3.00s setup    tests/a.py::test_one[0.5-x]
8.00s call     tests/a.py::Tests::test_two
0.50s teardown tests/a.py::test_three
2 passed in 20.1s
""".splitlines()


def test_the_longest_are_listed_until_the_rest_is_short():
    assert slow.slow(REPORT, 30.0) == []
    assert slow.slow(REPORT, 10.0) == ["tests/a.py::test_one"]
    assert slow.slow(REPORT, 8.4) == ["tests/a.py::Tests::test_two", "tests/a.py::test_one"]


def test_what_is_listed_is_there():
    root = Path(__file__).resolve().parents[1]
    for name in slow.listed():
        file, *_, function = name.split("::")
        assert f"def {function}(" in (root / file).read_text(), name
