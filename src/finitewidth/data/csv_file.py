"""A csv file with a header and one target column, or several."""

from __future__ import annotations

import csv as csv_format
import gzip
import io
import itertools
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from finitewidth.checks import shown
from finitewidth.checks.exceptions import InputError
from finitewidth.data.encoding import Label
from finitewidth.data.files import MAX_BYTES, PathLike, TrainTest, existing, located, refuse_above
from finitewidth.data.table import Selection, Table, number_of, option, targets

DELIMITERS = {",": ",", ";": ";", "\t": "tab", "|": "|"}  # those that are guessed, by their names
SAMPLE = 50  # lines in which a header ends
BYTES_A_CHARACTER = 24.0  # of cells as Python holds texts: "10," are three characters and up to 60 bytes
_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")  # 1,5
_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}")  # 1.234: its sign may separate thousands
_UNNAMED = re.compile(r"Unnamed: \d+(\.\d+)*")  # as pandas calls a


def csv(
    path: PathLike,
    target: str | Sequence[str],
    n_train: int = 200,
    n_test: int | None = None,
    seed: int = 0,
    delimiter: str | None = None,
    standardise: str = "feature",
    task: str = "auto",
    classes: Sequence[Label] | None = None,
    max_bytes: float = MAX_BYTES,
    columns: str | Sequence[str] | None = None,
    drop: str | Sequence[str] | None = None,
    encode: str | Sequence[str] | None = None,
    impute: str | None = None,
    standardise_target: bool = False,
) -> TrainTest:
    """A csv file (UTF-8, with a header; .gz is unpacked): the column ``target`` is y, the others are inputs.

    x is (P, inputs), with ``input_names``. Several targets are real outputs, y (P, D).
    ``delimiter``: between the columns; None is whichever of ``, ; tab |`` finds the targets in the header. Numbers have
    decimal points, or decimal commas throughout.
    ``columns``: the inputs, in this order; ``drop``: columns that are none. A column without a name, such as the row
    numbers that pandas writes, is left out with a warning.
    ``encode``: columns to one-hot encode, or "text" for all that hold texts. ``impute``: "mean", "median" or
    "most_frequent" for missing numbers (missing texts: the most frequent). Both learn from the training part alone.
    ``task``: "classification" takes the target as class labels (names, or whole numbers), "regression" as
    numbers. "auto" takes text and whole numbers of at most 20 different values as class labels, numbers with
    a decimal point as numbers (but -1 and +1 alone as labels), and asks in the case between.
    ``standardise_target``: numbers are centred and scaled to variance 1, errors stated in their own units.

    Raises InputError with line and column for text in a number's place and for missing or infinite values, and where
    a delimiter or a number can be read in two ways; MemoryCapError for what unpacks or encodes to more than
    ``max_bytes``.
    """
    file = existing(path)
    what = f"file {str(path)!r}"
    with located(what):
        selection = Selection.of(target, columns, drop, encode, impute)
        table, unnamed = _read(file, selection, delimiter, task, max_bytes)
        train, test = table.parts(task, classes, n_train, n_test, seed, standardise, standardise_target)
    if unnamed:
        warnings.warn(
            f"{what}: column {unnamed[0]!r} has no name and is not used as an input "
            f"(name it in columns, --columns, to use it)",
            stacklevel=2,
        )
    return train, test


def _read(
    file: Path, selection: Selection, delimiter: str | None, task: str, max_bytes: float
) -> tuple[Table, list[str]]:
    """The table, and the columns that were left out because they have no name."""
    given = None if delimiter is None else checked_delimiter(delimiter)
    try:
        with _opened(file, max_bytes) as stream:
            first = list(itertools.islice(stream, SAMPLE))
            delimiter = given or _guessed(first, selection.targets)
            reader = csv_format.reader(itertools.chain(first, stream), delimiter=delimiter, strict=True)
            return _parsed(reader, selection, delimiter, task, max_bytes)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"no gzip file, or a damaged one ({error})", "a whole file", "pack it again") from error
    except OSError as error:
        raise InputError(f"unreadable ({error.strerror})", "a file you may read", "change its permissions") from error
    except UnicodeDecodeError as error:
        remedy = "save it as 'CSV UTF-8', or convert it: iconv -f latin1 -t utf-8"
        raise InputError("text in another encoding than UTF-8", "UTF-8 text in columns", remedy) from error
    except csv_format.Error as error:
        raise InputError(f"text that is no csv ({error})", "UTF-8 text in columns", "save it as csv again") from error


def _opened(file: Path, max_bytes: float) -> TextIO:
    """Raises MemoryCapError, before more is unpacked than fits."""
    most = int(min(max_bytes / BYTES_A_CHARACTER, 2**62))
    what = f"file {str(file)!r}"
    if file.suffix.lower() != ".gz":
        refuse_above(BYTES_A_CHARACTER * file.stat().st_size, max_bytes, what)
        return open(file, newline="", encoding="utf-8-sig")
    with gzip.open(file) as packed:
        unpacked = packed.read(most + 1)
    refuse_above(BYTES_A_CHARACTER * len(unpacked), max_bytes, f"{what}, of which a part alone")
    return io.TextIOWrapper(io.BytesIO(unpacked), newline="", encoding="utf-8-sig")


# --- delimiter and header -----------------------------------------------------------------------------


def checked_delimiter(delimiter: Any) -> str:
    """One character; "tab" and "\\t" stand for the tab."""
    if delimiter in ("\\t", "tab"):
        return "\t"
    if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n':
        raise InputError(
            f"delimiter = {shown(delimiter)}", "one character, no quote", "write delimiter=';', for example"
        )
    return delimiter


def _guessed(lines: list[str], targets: Sequence[str]) -> str:
    """The delimiter with which the header names the targets, or else has most names."""
    headers = {delimiter: _first_row(csv_format.reader(lines, delimiter=delimiter)) for delimiter in DELIMITERS}
    return max(headers, key=lambda delimiter: ({*targets} <= {*headers[delimiter]}, len(headers[delimiter])))


def _first_row(reader: Iterator[list[str]]) -> list[str]:
    """The names in one line each that a terminal may be shown; an empty line is no row."""
    row = next(filter(_filled, reader), [])
    return ["".join(c if c.isprintable() else " " for c in name).strip() for name in row]


def _filled(row: list[str]) -> bool:
    return any(map(str.strip, row))


def _refuse_header(names: list[str], delimiter: str) -> None:
    if all(not name or number_of(name) is not None for name in names):
        raise InputError("no header in line 1", "the names of the columns", "add a first line of names")
    counts = Counter(name for name in names if name and not _UNNAMED.fullmatch(name))
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise InputError(f"two columns named {twice[0]!r}", "different names", "rename one of them")
    if len(names) == 1:
        raise InputError(
            f"a single column {names[0]!r} where {DELIMITERS.get(delimiter, delimiter)!r} separates columns",
            "a target and at least one input",
            f"say what does with {option('delimiter', ';')}, for example, or add a column",
        )


# --- rows ---------------------------------------------------------------------------------------------


def _parsed(reader: Any, selection: Selection, delimiter: str, task: str, max_bytes: float) -> tuple[Table, list[str]]:
    names = _first_row(reader)
    _refuse_header(names, delimiter)
    names = [name or f"Unnamed: {place}" for place, name in enumerate(names)]
    inputs = selection.inputs(names)
    unnamed = [] if selection.columns else list(filter(_UNNAMED.fullmatch, inputs))
    inputs = inputs if selection.columns else [name for name in inputs if not _UNNAMED.fullmatch(name)]
    if not inputs:
        raise InputError("no input column with a name", "at least one", "name the columns in the first line")
    places = {name: place for place, name in enumerate(names)}
    used = [places[name] for name in (*selection.targets, *inputs)]
    cells, lines = [list[str]() for _ in used], list[int]()
    for row in filter(_filled, reader):
        if len(row) != len(names):
            raise InputError(
                f"line {reader.line_num} of {len(row)} values",
                f"{len(names)} values, as in the header",
                "mend the line, or check the delimiter",
            )
        lines.append(reader.line_num)
        for column, place in zip(cells, used, strict=True):
            column.append(row[place].strip())
    if not lines:
        raise InputError("a header and nothing below it", "at least one row of numbers", "add data")
    cells = _with_points(cells, delimiter)
    columns = {
        name: selection.column(name, column, lambda row: f"line {lines[row]}")
        for name, column in zip(inputs, cells[len(selection.targets) :], strict=True)
    }
    y = targets(
        cells[: len(selection.targets)], task, lambda d, row: f"column {selection.targets[d]!r}, line {lines[row]}"
    )
    return Table(columns, y, selection.impute, max_bytes), unnamed


def _with_points(columns: list[list[str]], delimiter: str) -> list[list[str]]:
    """The cells with points for decimal commas; InputError where their numbers can be read in two ways.

    Separators of thousands are never read: what may hold one is refused, unless other numbers prove the sign.
    """
    commas = [cell for column in columns for cell in column if "," in cell and _COMMA.fullmatch(cell)]
    points: list[str] = []
    if commas or delimiter == ";":
        points = [cell for column in columns for cell in column if "." in cell and number_of(cell) is not None]
    if commas and points:
        raise InputError(
            f"numbers with a point ({points[0]!r}) and with a comma ({commas[0]!r})",
            "one decimal sign, and no separators of thousands",
            "save the table without separators of thousands",
        )
    # Where columns are separated by semicolons, the comma may be the decimal sign and the point the other.
    for numbers in (commas, points):
        if numbers and all(map(_GROUPED.fullmatch, numbers)):
            raise InputError(
                f"{numbers[0]!r}, whose sign may be a decimal sign or separate thousands, here as in all numbers",
                "numbers that can be read in one way",
                "write thousands without separator and fractions with another number of digits",
            )
    if not commas:
        return columns
    return [[cell.replace(",", ".") if _COMMA.fullmatch(cell) else cell for cell in column] for column in columns]
