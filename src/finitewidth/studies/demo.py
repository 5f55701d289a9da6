"""The demo: predicted error against width on real digits, and a check by sampling.

Sixes against nines, a hundred images, relu: at low temperature a narrow network beats its infinite-width
limit, and what it gains is variance.

The setting was picked from some 400 (pairs of digits, activations, temperatures, sizes) because width
matters much in it and relu stays near the samples; erf on the same digits is a factor of two off at width 30.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from finitewidth import __version__
from finitewidth.curves import LearningCurve, learning_curve
from finitewidth.data import Dataset, digits
from finitewidth.display import documents
from finitewidth.display import tables as report_tables
from finitewidth.networks import FullyConnected
from finitewidth.report import plots
from finitewidth.runs import checkpoints
from finitewidth.theory.rows import without_validity

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILES = ("demo.png", "demo.pdf")


@dataclass(frozen=True)
class Setting:
    """What the demo predicts; chains that have not converged start again with twice the draws, ``attempts`` in all."""

    classes: tuple[int, int] = (6, 9)
    n_train: int = 100
    activation: str = "relu"
    temperature: float = 0.01
    widths: tuple[int, ...] = (10, 15, 22, 33, 50, 75, 110, 170, 300, 600, 1500, 5000)
    depths: tuple[int, ...] = (1, 2)
    sampled_widths: tuple[int, ...] = (30, 100)
    chains: int = 4
    draws: int = 600
    attempts: int = 3

    def network(self, depth: int, width: int) -> FullyConnected:
        return FullyConnected(widths=(width,) * depth, activation=self.activation)


@dataclass(frozen=True)
class Sampled:
    """Errors of the sampled network of one hidden layer, with standard errors; whether the chains agree."""

    width: int
    test_error: float
    test_error_se: float
    train_error: float
    train_error_se: float
    r_hat: float
    converged: bool
    message: str


@dataclass(frozen=True)
class Result:
    """Curves and limits by depth, sampled points, and what is to be said about them."""

    setting: Setting
    train: Dataset
    test: Dataset
    curves: dict[int, LearningCurve]
    limits: dict[int, Any]
    sampled: tuple[Sampled, ...]
    note: str


def run(setting: Setting, sampling: bool = True, say: Callable[[str], Any] = print) -> Result:
    """Solve the theory at every width and depth, then sample a few widths."""
    train, test = digits(classes=setting.classes, n_train=setting.n_train)
    t = setting.temperature
    curves, limits = {}, {}
    for depth in setting.depths:
        network = setting.network(depth, setting.widths[0])
        curve = learning_curve(network, train, test, setting.widths, t)
        curves[depth] = LearningCurve(tuple(map(without_validity, curve)))  # it is looked at where there are samples
        limits[depth] = learning_curve(network, train, test, temperature=t, method="infinite")[0]
    points, note = sampled_check(setting, train, test, say) if sampling else ((), "Sampled check left out as asked.")
    return Result(setting, train, test, curves, limits, points, note)


def sampled_check(
    setting: Setting, train: Dataset, test: Dataset, say: Callable[[str], Any]
) -> tuple[tuple[Sampled, ...], str]:
    """Sampled errors at a few widths, and a line about what was left out, if anything."""
    points: list[Sampled] = []
    for width in setting.sampled_widths:
        say(f"Sampling the network of width {width} ...")
        try:
            points.append(_sampled(setting, width, train, test))
        except ImportError as error:
            return (), f"Sampled check left out: {error}."
    return tuple(points), ""


def _sampled(setting: Setting, width: int, train: Dataset, test: Dataset) -> Sampled:
    """Errors of one width, from as many draws as the chains need to agree."""
    from finitewidth.sampling import sample

    network, temperature = setting.network(1, width), setting.temperature
    for attempt in range(setting.attempts):
        draws = setting.draws * 2**attempt
        drawn = sample(network, train, test, temperature, chains=setting.chains, draws=draws, seed=0)
        errors = drawn.errors(test.y)
        if errors.converged:
            break
    names = ("test_error", "test_error_se", "train_error", "train_error_se", "r_hat")
    numbers = {name: float(getattr(errors, name)) for name in names}
    return Sampled(width, **numbers, converged=errors.converged, message=errors.message)


# --- for people ---------------------------------------------------------------------------------------


def tables(result: Result) -> Iterator[Table | Text]:
    """A table for each depth with its limit as last line, then theory beside samples."""
    for depth, curve in result.curves.items():
        network = result.setting.network(depth, result.setting.widths[0])
        heading = report_tables.title("digits", result.train, result.test, "fc", network, [result.setting.temperature])
        yield report_tables.curve([*curve, result.limits[depth]], heading)
        yield from report_tables.notes(curve)
    if result.sampled:
        yield _sampled_table(result)
        for point in result.sampled:
            if not point.converged:
                yield Text(f"Sampled at width {point.width}: NOT CONVERGED, {point.message}")
    if result.note:
        yield Text(result.note)


def _sampled_table(result: Result) -> Table:
    table = report_tables.plain_table(
        "One hidden layer: theory beside the sampled network (± one standard error)",
        ("width", "test theory", "test sampled", "theory off by", "train theory", "train sampled", "R-hat"),
    )
    for point, row in zip(result.sampled, _theory_at(result), strict=True):
        table.add_row(
            str(point.width),
            f"{row.test_error:.4f}",
            f"{point.test_error:.4f} ± {point.test_error_se:.4f}",
            f"{100 * (row.test_error / point.test_error - 1):+.1f} %",
            f"{row.train_error:.4f}",
            f"{point.train_error:.4f}",
            f"{point.r_hat:.3f}",
        )
    return table


def _theory_at(result: Result) -> LearningCurve:
    """The theory at the sampled widths."""
    widths = [point.width for point in result.sampled]
    network = result.setting.network(1, widths[0])
    return learning_curve(network, result.train, result.test, widths=widths, temperature=result.setting.temperature)


def folder_of(text: str) -> Path:
    """The folder for the figures, made if need be; raises InputError where it cannot be."""
    plots.require_matplotlib()
    return checkpoints.folder_of(text, "--out")


def draw(result: Result, folder: Path) -> list[Path]:
    """demo.png and demo.pdf."""
    drawn = figure(result)
    return [plots.save(drawn, folder / name) for name in FILES]


def figure(result: Result) -> Figure:
    """(a) test error with its two parts, (b) train error."""
    drawn, (left, right) = plots.new_figure(2, plots.PAGE, 2.9)
    with plots.style():
        _draw_panel(left, result, "test_error")
        _draw_panel(right, result, "train_error")
        plots.panel(left, "a")
        plots.panel(right, "b")
        _name_parts(left, result)
        _say_what(right, result)
        handles, names = left.get_legend_handles_labels()
        shown = [i for i, name in enumerate(names) if name not in ("bias", "variance")]
        plots.legend_of_figure(drawn, [handles[i] for i in shown], [names[i] for i in shown])
    return drawn


def _draw_panel(ax: Any, result: Result, quantity: str) -> None:
    for (depth, curve), colour in zip(result.curves.items(), plots.COLOURS, strict=False):
        plots.learning_curve(
            curve,
            ax,
            infinite=result.limits[depth],
            quantity=quantity,
            split=depth == 1,
            label={1: "one hidden layer", 2: "two hidden layers"}.get(depth, f"{depth} hidden layers"),
            colour=colour,
        )
    plots.draw_sampled(ax, result.sampled, quantity, plots.COLOURS[0])


def _name_parts(ax: Any, result: Result) -> None:
    """Write bias and variance into their areas, at one hidden layer."""
    row = result.curves[1][len(result.curves[1]) // 2]
    for name, height in (("bias", 0.5 * row.bias), ("variance", row.bias + 0.5 * row.variance)):
        ax.text(row.width, height, name, color=plots.COLOURS[0], ha="center", va="center")


def _say_what(ax: Any, result: Result) -> None:
    setting = result.setting
    first, second = setting.classes
    text = f"digits {first} and {second}, $P = {setting.n_train}$\n"
    text += f"{setting.activation}, $T = {setting.temperature:g}$"
    ax.text(0.97, 0.05, text, transform=ax.transAxes, ha="right", va="bottom", linespacing=1.4)


# --- for programs -------------------------------------------------------------------------------------


def document(result: Result, figures: list[Path]) -> dict[str, Any]:
    """Rows of predict (infinite width last at each depth), sampled points, data, figures."""
    rows = [row for depth, curve in result.curves.items() for row in (*curve, result.limits[depth])]
    plain = documents.rows_document(rows, "digits", result.train, result.test)
    return plain | {
        "sampled": documents.json_ready([asdict(point) for point in result.sampled]),
        "note": result.note,
        "figures": [str(path) for path in figures],
        "version": __version__,
    }
