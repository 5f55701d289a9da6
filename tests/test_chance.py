"""How statistical tests are judged: chance is forgiven, a fault is not, and a control must be noticed at once."""

from __future__ import annotations

pytest_plugins = "pytester"

CONFTEST = """
import pytest
from tests import chance


def pytest_configure(config):
    config.addinivalue_line("markers", "statistical")
    config.addinivalue_line("markers", "control")


def pytest_pyfunc_call(pyfuncitem):
    chance.judge(pyfuncitem)
    return True
"""

CASES = """
from functools import cache

import numpy as np
import pytest

seen = []


@cache
def drawn():
    return np.random.default_rng(0).standard_normal()


def differs():
    seen.append(drawn())
    return len(set(seen)) > 1


@pytest.mark.statistical
def test_chance():
    assert differs()


@pytest.mark.statistical
def test_fault():
    differs()
    raise AssertionError


@pytest.mark.statistical
@pytest.mark.control
def test_control():
    seen.clear()
    assert differs()


def test_exact():
    seen.clear()
    assert differs()


@pytest.mark.statistical
def test_error():
    raise ValueError
"""


def test_judged_again_with_other_numbers(pytester):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(CASES)
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:xdist")
    result.assert_outcomes(passed=1, failed=4)
    result.stdout.fnmatch_lines([f"*FAILED*test_{name}*" for name in ("fault", "control", "exact", "error")])
