"""Numbers as tables show them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from rich.console import Console

from finitewidth.curves.comparison import ComparedRow
from finitewidth.display import tables
from finitewidth.display.tables import with_error
from finitewidth.sampling import SampledRow
from finitewidth.theory import TheoryRow


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (1.3093, 0.0040, "1.309(4)"),
        (0.03912, 0.00063, "0.0391(6)"),
        (0.03912, 0.0012, "0.0391(12)"),
        (0.1234, 0.0097, "0.123(10)"),
        (123.4, 5.0, "123(5)"),
        (1234.0, 56.0, "1234(56)"),
        (2.5e-9, 3e-11, "2.50e-09(3e-11)"),
        (0.5, 0.0, "0.5000"),
        (0.5, math.nan, "0.5000"),
    ],
)
def test_standard_error_in_the_last_digits(value, error, text):
    assert with_error(value, error) == text


def theory_row(width: int, temperature: float) -> TheoryRow:
    numbers = {"train_error": 0.0163, "test_error": 0.079, "bias": 0.0307, "variance": 0.0483, "accuracy": 0.996}
    named = {
        "method": "saddle",
        "closure": "product",
        "message": "",
        "converged": True,
        "complete": True,
        "log_evidence": -5.69,
    }
    return TheoryRow(width, 1, temperature, 60, order_parameters=[0.66], seconds=0.1, **numbers, **named)


def sampled_row(width: int, temperature: float, converged: bool = False) -> SampledRow:
    numbers = {"train_error": 0.0082, "test_error": 0.0396, "bias": 0.0135, "variance": 0.0261, "accuracy": 0.99311}
    errors = dict.fromkeys((f"{name}_se" for name in numbers), 0.00123)
    found = {"r_hat": 1.0269, "ess": 12345.6, "acceptance": 0.87, "divergences": 0, "converged": converged}
    run = {"chains": 4, "draws": 60, "complete": True, "message": "too short", "seconds": 1.0}
    place = {"width": width, "depth": 1, "temperature": temperature, "n_train": 60, "method": "collapsed"}
    return SampledRow(**place, **numbers, **errors, **found, **run, order_parameters=[0.7], log_evidence=None)


def beside(theory: TheoryRow, sampled: SampledRow) -> ComparedRow:
    return ComparedRow({"saddle": theory, "sample": sampled})


def printed(table) -> str:
    console = Console(width=80, highlight=False, markup=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


@pytest.mark.parametrize("temperatures", [(0.05,), (0.02, 0.1)])
@pytest.mark.parametrize("kind", ["curve", "comparison"])
def test_fits_80_columns(kind, temperatures):
    rows = [sampled_row(width, t) for t in temperatures for width in (20, 1000)]
    if kind == "comparison":
        rows = [beside(theory_row(row.width, row.temperature), row) for row in rows]
    text = printed(getattr(tables, kind)(rows, "digits"))
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert "0.0396(12)?" in text


def test_q_is_in_every_table():
    shallow, deep = theory_row(20, 0.1), replace(theory_row(20, 0.1), order_parameters=[0.5, 0.7])
    for row, q in ((shallow, 0.66), (deep, 0.6)):
        text = printed(tables.curve([replace(row, mean_order_parameter=q)], "digits"))
        assert ("mean Q: over the layers" in text) == (row is deep)
        (line,) = [line for line in text.splitlines() if line.split()[:1] == ["20"]]
        assert str(q) in line.split()
        assert max(map(len, text.splitlines())) <= 80


def lines_of(row: ComparedRow) -> list[list[str]]:
    return [line.split() for line in printed(tables.comparison([row], "")).splitlines() if line.split()[:1] == ["20"]]


def test_each_method_beside_the_last():
    assert lines_of(beside(theory_row(20, 0.1), sampled_row(20, 0.1, converged=True))) == [
        ["20", "saddle", "0.0790", "+32.0", "+99.5", "0.0307", "0.0163"],
        ["20", "sample", "0.0396(12)", tables.NOTHING, tables.NOTHING, "0.0135", "0.0082(12)"],
    ]


def test_no_difference_where_there_is_no_result():
    theory, sampled = lines_of(beside(theory_row(20, 0.1), sampled_row(20, 0.1)))
    assert theory[3:5] == sampled[3:5] == [tables.NOTHING] * 2
    assert sampled[2] == "0.0396(12)?"


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (("size", "rooms"), "Inputs (2): size, rooms"),
        (
            tuple(f"pixel{i}" for i in range(99)),
            "Inputs (99): pixel0, pixel1, pixel2, pixel3, pixel4, pixel5, pixel6, ...",
        ),
        (("a" * 200,), "Inputs (1): " + "a" * 63 + ", ..."),
        (("a\x1b[2J",), "Inputs (1): a?[2J"),
    ],
)
def test_inputs_in_one_line(names, line):
    assert tables.inputs(names).plain == line
    assert len(line) <= 80
