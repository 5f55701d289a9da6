"""A csv file with a header and one target column, or several."""

from __future__ import annotations

import csv as csv_format
import gzip
import itertools
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from finitewidth.checks import shown
from finitewidth.checks.exceptions import InputError
from finitewidth.data.cells import Decimals, number_of, option
from finitewidth.data.columns import Selection, Table
from finitewidth.data.encoding import Label
from finitewidth.data.files import MAX_BYTES, PathLike, TrainTest, existing, located, parts, refuse_above

DELIMITERS = {",": ",", ";": ";", "\t": "tab", "|": "|"}  # those that are guessed, by their names
SAMPLE = 50  # lines from which the delimiter is guessed
BYTES_A_CHARACTER = 4.0  # the densest table, "0,1,0,1", has two bytes a number, and float64 takes eight
_UNNAMED = re.compile(r"Unnamed: \d+(\.\d+)*")  # as pandas calls a column without a name


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
    ``delimiter``: between the columns; None is the tab for .tsv, and otherwise whichever of ``, ; tab |`` divides
    the first lines evenly. Numbers have decimal points, or decimal commas throughout.
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
    if not _packed(file):
        refuse_above(BYTES_A_CHARACTER * file.stat().st_size, max_bytes, what)
    with located(what):
        selection = Selection.of(target, columns, drop, encode, impute)
        table, unnamed = _read(file, selection, delimiter, max_bytes)
        rows = table.rows(task, classes)
        train, test = parts(rows, n_train, n_test, seed, standardise, standardise_target, table.prepare)
    if unnamed:
        warnings.warn(
            f"{what}: column {unnamed[0]!r} has no name and is not used as an input "
            f"(name it in columns, --columns, to use it)",
            stacklevel=2,
        )
    return train, test


def _read(file: Path, selection: Selection, delimiter: str | None, max_bytes: float) -> tuple[Table, list[str]]:
    """The table, and the columns that were left out because they have no name."""
    if delimiter is None and file.name.lower().removesuffix(".gz").endswith(".tsv"):
        delimiter = "\t"
    if delimiter is not None:
        delimiter = checked_delimiter(delimiter)
    try:
        opened = gzip.open if _packed(file) else open
        with opened(file, "rt", newline="", encoding="utf-8-sig") as stream:
            lines = _bounded(stream, max_bytes, f"file {str(file)!r}, of which a part alone")
            first = list(itertools.islice(lines, SAMPLE))
            delimiter = delimiter or _guessed(first, selection.targets or ())
            reader = csv_format.reader(itertools.chain(first, lines), delimiter=delimiter, strict=True)
            return _parse(reader, selection, delimiter, max_bytes)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"no gzip file, or a damaged one ({error})", "a whole file", "pack it again") from error
    except OSError as error:
        raise InputError(f"unreadable ({error.strerror})", "a file you may read", "change its permissions") from error
    except UnicodeDecodeError as error:
        remedy = "save it as 'CSV UTF-8', or convert it: iconv -f latin1 -t utf-8"
        raise InputError("text in another encoding than UTF-8", "UTF-8 text in columns", remedy) from error
    except csv_format.Error as error:
        raise InputError(f"text that is no csv ({error})", "UTF-8 text in columns", "save it as csv again") from error


def _packed(file: Path) -> bool:
    return file.suffix.lower() == ".gz"


def _bounded(stream: IO[str], max_bytes: float, what: str) -> Iterator[str]:
    """Lines; raises MemoryCapError before more is read than fits: what a packed file holds is not known before."""
    most = int(min(max_bytes / BYTES_A_CHARACTER, 2**62))
    left = most
    while line := stream.readline(left + 1):
        left -= len(line)
        if left < 0:
            refuse_above(BYTES_A_CHARACTER * (most + 1), max_bytes, what)
        yield line


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
    """The delimiter with which the header names the targets and every line has as many cells as the header."""
    tables = {delimiter: _rows(lines, delimiter) for delimiter in DELIMITERS}
    possible = [delimiter for delimiter, rows in tables.items() if rows and len(rows[0]) > 1]
    for fits in (
        lambda rows: set(targets) <= {_clean(name) for name in rows[0]},
        lambda rows: len(set(map(len, rows))) == 1,
    ):
        possible = [delimiter for delimiter in possible if fits(tables[delimiter])] or possible
    if len(possible) > 1:
        raise InputError(
            "columns that may be separated by " + " or by ".join(repr(DELIMITERS[d]) for d in possible),
            "the delimiter",
            f"say {option('delimiter', DELIMITERS[possible[0]])}, for example",
        )
    return possible[0] if possible else ","


def _rows(lines: list[str], delimiter: str) -> list[list[str]]:
    rows = [row for row in csv_format.reader(lines, delimiter=delimiter) if any(map(str.strip, row))]
    return rows[:-1] if len(lines) == SAMPLE else rows  # the last may go on in the next line


def _header(cells: list[str], delimiter: str) -> list[str]:
    names = [_clean(name) for name in cells]
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
    return [name or f"Unnamed: {place}" for place, name in enumerate(names)]


def _clean(name: str) -> str:
    """A name in one line that a terminal may be shown."""
    return "".join(c if c.isprintable() else " " for c in name).strip()


# --- rows ---------------------------------------------------------------------------------------------


def _parse(reader: Any, selection: Selection, delimiter: str, max_bytes: float) -> tuple[Table, list[str]]:
    rows = (row for row in reader if any(map(str.strip, row)))  # an empty line is no row
    names, inputs = _chosen(next(rows, []), selection, delimiter)
    unnamed = [name for name in inputs if _UNNAMED.fullmatch(name) and selection.columns is None]
    known: dict[str, str] = {}
    columns = [selection.column(name, known, max_bytes) for name in inputs if name not in unnamed]
    if not columns:
        raise InputError("no input column with a name", "at least one", "name the columns in the first line")
    decimals, targets = Decimals(delimiter), selection.targets or ()
    answers, lines = [list[str]() for _ in targets], list[int]()
    picked = [names.index(column.name) for column in columns]
    asked = [names.index(name) for name in targets]
    for row in rows:
        line = reader.line_num
        _refuse_uneven(row, names, line)
        place_of_row = f"line {line}"
        for column, i in zip(columns, picked, strict=True):
            number = None if column.all_text else decimals.number(row[i], line)
            column.take(row[i], number, place_of_row)
        for answer, i in zip(answers, asked, strict=True):
            answer.append(decimals.with_point(row[i].strip(), line))
        lines.append(line)
    if not lines:
        raise InputError("a header and nothing below it", "at least one row of numbers", "add data")
    decimals.refuse_doubt()

    def place(target: int, row: int) -> str:
        return f"column {targets[target]!r}, line {lines[row]}"

    return Table(columns, answers, place, selection.impute, max_bytes), unnamed


def _chosen(header: list[str], selection: Selection, delimiter: str) -> tuple[list[str], list[str]]:
    """The names of all columns, and of those that are inputs."""
    try:
        names = _header(header, delimiter)
        return names, selection.inputs(names)
    except InputError as error:
        if header and header[0].startswith("#"):
            raise InputError(error.given, error.wanted, "remove the lines of comment at the top") from error
        raise


def _refuse_uneven(row: list[str], names: list[str], line: int) -> None:
    if len(row) != len(names):
        raise InputError(
            f"line {line} of {len(row)} values",
            f"{len(names)} values, as in the header",
            "mend the line, or check the delimiter",
        )
