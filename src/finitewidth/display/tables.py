"""Tables for people: 80 columns, readable without colour."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from finitewidth.data import Dataset

if TYPE_CHECKING:
    from finitewidth.curves.comparison import ComparedRow
    from finitewidth.inference.methods import Row
    from finitewidth.networks import Network

NOTHING = "—"  # stands where there is no result
_READING = "0.0391(6) stands for 0.0391 ± 0.0006, one standard error"
_COLUMNS = 80
_MEAN_Q = "mean Q: over the layers, or over the diagonal of Q (patches, outputs); --json has all of Q"
_NAMES = {"fc": "fully connected", "cnn": "convolutional", "lcn": "locally connected"}


def title(
    source: str, train: Dataset, test: Dataset, kind: str, network: Network, temperatures: Sequence[float]
) -> str:
    """Data, architecture and temperature in two lines; in a third, how targets were standardised."""
    names = train.classes or ()
    classes = f", classes {_listed(names)}" if 0 < len(names) <= 4 else f", {len(names)} classes" * bool(names)
    layers = f"{network.depth} hidden layer" + ("s" if network.depth > 1 else "")
    heat = _listed([f"{t:g}" for t in temperatures])
    return (
        f"{source}{classes}: {train.n_points} training points, {test.n_points} test points\n"
        f"{_NAMES.get(kind, type(network).__name__)}, {layers}, {network.activation_names}, "
        f"T = {heat}{_of_targets(train)}"
    )


def _of_targets(train: Dataset) -> str:
    if train.target_scaling is None:
        return ""
    mean, scale = _listed([f"{m:.4g}" for m in train.target_scaling.mean]), train.target_scaling.scale
    return f"\ntarget standardised (mean {mean}, deviation {scale:.4g}): errors in its own units, T not"


def predictions(rows: Iterable[Row], heading: str) -> Table:
    """One line a prediction: width, errors, accuracy, log evidence; no number where it did not converge."""
    rows = list(rows)
    columns = _columns(rows)
    cells = ([_cell(row, name) for name in columns] for row in rows)
    return filled(heading, columns, cells, _MEAN_Q if "mean Q" in columns else None)


def curve(rows: Iterable[Row], heading: str) -> Table:
    """Rows of one method: predictions, or what was sampled or trained."""
    rows = list(rows)
    if all(hasattr(row, "r_hat") for row in rows):
        return samples(rows, heading)
    return trained(rows, heading) if all(hasattr(row, "networks") for row in rows) else predictions(rows, heading)


def trained(rows: Iterable[Row], heading: str) -> Table:
    """One line a width: errors of trained networks with standard errors over seeds; ? where they had not converged."""
    rows = list(rows)
    named = any(row.accuracy is not None for row in rows)
    columns = [
        *("width", *_several(rows), "test error", "bias", "variance"),
        *("train error", *(["accuracy"] if named else []), "networks"),
    ]
    return filled(heading, columns, ([_sample_cell(row, name) for name in columns] for row in rows), _READING)


def samples(rows: Iterable[Row], heading: str) -> Table:
    """One line a sampled network: 0.0399(8) is 0.0399 ± 0.0008, one standard error; ? where it did not converge."""
    rows = list(rows)
    several = len({row.temperature for row in rows}) > 1
    named = any(row.accuracy is not None for row in rows)
    columns = [
        *("width", *(["T"] if several else []), "test error", "bias"),
        *([] if several and named else ["variance"]),  # test error - bias
        *("train error", *(["accuracy"] if named else []), "R-hat", "ESS"),
    ]
    return filled(heading, columns, ([_sample_cell(row, name) for name in columns] for row in rows), _READING)


def comparison(rows: Iterable[ComparedRow], heading: str) -> Table:
    """One line a network: theory, sample with its standard error as in ``samples``, and theory minus sample."""
    rows = list(rows)
    if rows and not _theory_beside_sample(rows[0]):
        return side_by_side(rows, heading)
    several = len({row.temperature for row in rows}) > 1
    columns = ["width", *(["T"] if several else []), "test theory", "test sampled", "off by SE", "off by %"]
    columns += ["train theory", "train sampled", *([] if several else ["R-hat"])]
    table = plain_table(heading, columns, _READING)
    for row in rows:
        off = row.difference
        cells = {
            "width": _cell(row.theory, "width"),
            "T": f"{row.temperature:g}",
            "test theory": _cell(row.theory, "test error"),
            "test sampled": _sample_cell(row.sample, "test error"),
            "off by SE": NOTHING if off.in_se is None else f"{off.in_se:+.1f}",
            "off by %": NOTHING if off.percent is None else f"{off.percent:+.1f}",
            "train theory": _cell(row.theory, "train error"),
            "train sampled": _sample_cell(row.sample, "train error"),
            "R-hat": _sample_cell(row.sample, "R-hat"),
        }
        table.add_row(*[cells[name] for name in columns])
    return table


def _theory_beside_sample(row: ComparedRow) -> bool:
    return len(row.rows) == 2 and hasattr(row.sample, "r_hat") and not hasattr(row.theory, "test_error_se")


def side_by_side(rows: Iterable[ComparedRow], heading: str) -> Table:
    """One line a network and method; each is compared with the last of its network."""
    rows = list(rows)
    several = ["T"] if len({row.temperature for row in rows}) > 1 else []
    columns = ["width", *several, "method", "test error", "off by SE", "off by %", "bias", "variance", "train error"]
    table = plain_table(heading, columns, _READING)
    for row in rows:
        for name, one in row.rows.items():
            off = row.difference_of("test_error", name) if name in row.others else None
            cells = [_cell(one, "width"), *(f"{row.temperature:g}" for _ in several), name, _error(one, "test error")]
            cells += [
                NOTHING if off is None or x is None else f"{x:+.1f}" for x in (off and off.in_se, off and off.percent)
            ]
            table.add_row(*cells, *(_error(one, name) for name in ("bias", "variance", "train error")))
    return table


def _error(row: Row, column: str) -> str:
    return _sample_cell(row, column) if hasattr(row, "test_error_se") else _cell(row, column)


def plain_table(heading: str, columns: Sequence[str], caption: str | None = None) -> Table:
    """An empty table in our style; a heading of several words takes several lines."""
    table = Table(
        title=heading,
        caption=caption,
        caption_justify="left",
        caption_style="",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="",
        header_style="",
        pad_edge=False,
    )
    for name in columns:
        table.add_column("\n".join(name.rsplit(" ", 1)), justify="right", no_wrap=True)
    return table


def inputs(names: Sequence[str]) -> Text:
    """One line with the names of the inputs, as many as have room."""
    line = "".join(c if c.isprintable() else "?" for c in f"Inputs ({len(names)}): {', '.join(names)}")
    return Text(line if len(line) <= _COLUMNS else f"{line[: _COLUMNS - 5].rsplit(', ', 1)[0]}, ...")


def filled(heading: str, columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str | None = None) -> Table:
    """A table in our style with these cells."""
    table = plain_table(heading, columns, caption)
    for row in rows:
        table.add_row(*row)
    return table


def notes(rows: Iterable[Row], infinite: Iterable[Row] | None = None) -> Iterator[Text]:
    """What to know about the rows: those without a result, other minima, the distance to infinite width."""
    rows = list(rows)
    several = _several(rows)
    for row in rows:
        place = ", ".join([f"width {width(row)}", *(f"{name} = {_cell(row, name)}" for name in several)])
        if not row.converged:
            what = "marked ?" if hasattr(row, "test_error_se") else "no result"
            yield Text(f"NOT CONVERGED, {what}: {place}: {row.message}")
        elif row.message not in ("", "converged"):
            yield Text(f"Note: {place}: {row.message}")
    yield from _solvers(rows)
    yield from _validities(rows, several)
    for limit in infinite or ():
        yield Text(_against_infinite([r for r in rows if r.temperature == limit.temperature], limit))


def _solvers(rows: list[Any]) -> Iterator[Text]:
    """One line where a Krylov space stood in for the eigendecomposition."""
    found = [row for row in rows if getattr(row, "solver", "exact") == "krylov" and row.converged]
    if found:
        error = 100 * max(row.solver_error for row in found)
        evidence = max(row.log_evidence_error for row in found)
        yield Text(
            f"Solver: Krylov space, not an eigendecomposition; it leaves the test error off by up to {error:.2g} %, "
            f"the log evidence by {evidence:.2g} (99 % intervals)."
        )


def _several(rows: Iterable[Row]) -> list[str]:
    """Temperature and training points, as far as rows differ in them."""
    return [name for name in ("T", "P") if len({_cell(row, name) for row in rows}) > 1]


def _validities(rows: list[Row], several: list[str]) -> Iterator[Text]:
    """One line a statement, with the rows that share it."""
    places: dict[str, dict[str, None]] = {}
    for row in rows:
        found = getattr(row, "validity", None)
        if found is not None:
            apart = ", ".join(f"{name} = {_cell(row, name)}" for name in several)
            place = width(row) + (f" ({apart})" if apart else "")
            places.setdefault(found.statement, {})[place] = None
    for statement, where in places.items():
        yield Text(f"Validity, width {', '.join(where)}: {statement}")


def number(value: float | None) -> str:
    """Four decimals, or three digits and an exponent where they would be lost."""
    if value is None or value != value:
        return NOTHING
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e3 else f"{value:.2e}"


def with_error(value: float, error: float) -> str:
    """1.309(4): value and standard error in its last digit, two digits where the first is a one."""
    if not (0.0 < error < math.inf):
        return number(value)
    power = math.floor(math.log10(error))
    decimals = max(0, 1 - power if round(error / 10.0**power) == 1 else -power)
    if decimals > 7:
        return f"{value:.2e}({error:.0e})"
    return f"{value:.{decimals}f}({round(error * 10**decimals)})"


def width(row: Row) -> str:
    """50, 40-60 (one width a layer), 1e+12, ∞."""
    if row.method == "infinite":
        return "∞"
    sizes = row.width if isinstance(row.width, (list, tuple)) else [row.width]
    return "-".join(str(n) if n < 1e6 else f"{n:.3g}" for n in sizes)


def _columns(rows: list[Any]) -> list[str]:
    several = _several(rows)
    parameters = max(len(row.order_parameters) for row in rows)
    named = any(row.accuracy is not None for row in rows)
    q = ["Q"] if parameters == 1 else ["mean Q"] if parameters else []
    return [
        *("width", *several),
        *("test error", "bias", "variance", "train error"),
        *(["accuracy"] if named else []),
        *q,
        *([] if several and named and q else ["log evidence"]),
    ]


def _cell(row: Any, column: str) -> str:
    if column == "width":
        return width(row)
    if column == "T":
        return f"{row.temperature:g}"
    if column == "P":
        return str(row.n_train)
    if not row.converged:
        return NOTHING
    if column.endswith("Q"):
        q = getattr(row, "mean_order_parameter", math.nan)
        return NOTHING if math.isnan(q) else f"{q:.3g}"
    if column == "accuracy":
        return NOTHING if row.accuracy is None else f"{100 * row.accuracy:.2f} %"
    if column == "log evidence":
        return NOTHING if row.log_evidence != row.log_evidence else f"{row.log_evidence:.2f}"
    return number(getattr(row, column.replace(" ", "_")))


def _sample_cell(row: Any, column: str) -> str:
    if column in ("width", "T", "P"):
        return _cell(row, column)
    if column == "networks":
        return str(row.networks)
    if column == "R-hat":
        return NOTHING if row.r_hat != row.r_hat else f"{row.r_hat:.3f}"
    if column == "ESS":
        return NOTHING if row.ess != row.ess else f"{row.ess:.0f}" if row.ess < 9999.5 else f"{row.ess / 1000:.0f}k"
    if column == "accuracy":
        return NOTHING if row.accuracy is None else f"{100 * row.accuracy:.1f} %"
    name = column.replace(" ", "_")
    if column.endswith("error"):
        return with_error(getattr(row, name), getattr(row, f"{name}_se")) + ("" if row.converged else "?")
    return number(getattr(row, name))


def _against_infinite(rows: list[Row], limit: Row) -> str:
    text = f"Infinite width (T = {limit.temperature:g}): test error {number(limit.test_error)}"
    solved = [row for row in rows if row.converged]
    if not (solved and limit.converged):
        return text
    row = min(solved, key=lambda r: min(r.width) if isinstance(r.width, tuple) else r.width)
    change = 100 * (row.test_error / limit.test_error - 1)
    side = "above" if change > 0 else "below"
    return f"{text}; width {width(row)} is {abs(change):.2g} % {side} it."


def _listed(items: Sequence[object]) -> str:
    shown = ", ".join(map(str, items[:10]))
    return shown if len(items) <= 10 else f"{shown}, ..."
