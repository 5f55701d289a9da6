"""The demo: predicted error against width on real digits, and a check by sampling.

Sixes against nines, a hundred images, relu: at low temperature a narrow network beats its infinite-width
limit, and what it gains is variance.

The setting was picked from some 400 (pairs of digits, activations, temperatures, sizes) because width
matters much in it and relu stays near the samples; erf on the same digits is a factor of two off at width 30.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from finitewidth import __version__
from finitewidth.curves import LearningCurve, learning_curve
from finitewidth.curves.comparison import ComparedRow
from finitewidth.data import Dataset, digits
from finitewidth.display import documents
from finitewidth.display import tables as display_tables
from finitewidth.inference.methods import Row
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

    def network(self, depth: int) -> FullyConnected:
        """Of the narrowest width."""
        return FullyConnected(widths=self.widths[:1] * depth, activation=self.activation)


@dataclass(frozen=True)
class Result:
    """Curves and limits by depth, theory beside samples of one hidden layer, and what is to be said about them."""

    setting: Setting
    train: Dataset
    test: Dataset
    curves: dict[int, LearningCurve]
    limits: dict[int, Row]
    compared: tuple[ComparedRow, ...]
    note: str


def run(setting: Setting, sampling: bool = True, say: Callable[[str], Any] = print) -> Result:
    """Solve the theory at every width and depth, then sample a few widths."""
    train, test = digits(classes=setting.classes, n_train=setting.n_train)
    t = setting.temperature
    curves, limits = {}, {}
    for depth in setting.depths:
        network = setting.network(depth)
        curve = learning_curve(network, train, test, setting.widths, t)
        curves[depth] = LearningCurve(tuple(map(without_validity, curve)))  # it is looked at where there are samples
        limits[depth] = learning_curve(network, train, test, temperature=t, method="infinite")[0]
    rows, note = _checked(setting, train, test, say) if sampling else ((), "Sampled check left out as asked.")
    return Result(setting, train, test, curves, limits, rows, note)


def _checked(
    setting: Setting, train: Dataset, test: Dataset, say: Callable[[str], Any]
) -> tuple[tuple[ComparedRow, ...], str]:
    """Theory beside samples at a few widths, and a line about what was left out, if anything."""
    sampled = []
    for width in setting.sampled_widths:
        say(f"Sampling the network of width {width} ...")
        try:
            sampled.append(_sampled(setting, width, train, test))
        except ImportError as error:
            return (), f"Sampled check left out: {error}."
    theory = learning_curve(setting.network(1), train, test, setting.sampled_widths, setting.temperature)
    pairs = zip(theory, sampled, strict=True)
    return tuple(ComparedRow({"saddle": row, "sample": sample}) for row, sample in pairs), ""


def _sampled(setting: Setting, width: int, train: Dataset, test: Dataset) -> Row:
    """Errors of one width, from as many draws as the chains need to agree."""
    for attempt in range(setting.attempts):
        row = sample(setting, width, setting.draws * 2**attempt, train, test)
        if row.converged:
            break
    return row


def sample(setting: Setting, width: int, draws: int, train: Dataset, test: Dataset) -> Row:
    """The row of one sampled network; ImportError without JAX."""
    from finitewidth.sampling import Sample

    method = Sample(chains=setting.chains, draws=draws)
    return learning_curve(setting.network(1), train, test, [width], setting.temperature, method=method)[0]


# --- for people ---------------------------------------------------------------------------------------


def tables(result: Result) -> Iterator[Table | Text]:
    """A table for each depth with its limit as last line, then theory beside samples."""
    for depth, curve in result.curves.items():
        network = result.setting.network(depth)
        heading = display_tables.title("digits", result.train, result.test, "fc", network, [result.setting.temperature])
        yield display_tables.curve([*curve, result.limits[depth]], heading)
        yield from display_tables.notes(curve)
    if result.compared:
        yield display_tables.comparison(result.compared, "One hidden layer: theory beside the sampled network")
        yield from display_tables.notes(row.sample for row in result.compared)
    if result.note:
        yield Text(result.note)


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

    def panel(ax: Any, quantity: str) -> None:
        for (depth, curve), colour in zip(result.curves.items(), plots.COLOURS, strict=False):
            plots.learning_curve(
                curve,
                ax,
                infinite=result.limits[depth],
                quantity=quantity,
                split=depth == 1,
                label=f"{depth} hidden layer{'s' * (depth > 1)}",
                colour=colour,
            )
        plots.draw_sampled(ax, [row.sample for row in result.compared], quantity, plots.COLOURS[0])

    setting = result.setting
    drawn = plots.two_panels(panel, left_out=("bias", "variance"))
    left, right = drawn.axes
    with plots.style():
        middle = len(setting.widths) // 2
        width, row = setting.widths[middle], result.curves[1][middle]
        for name, height in (("bias", 0.5 * row.bias), ("variance", row.bias + 0.5 * row.variance)):
            left.text(width, height, name, color=plots.COLOURS[0], ha="center", va="center")
        text = f"digits {setting.classes[0]} and {setting.classes[1]}, $P = {setting.n_train}$\n"
        text += f"{setting.activation}, $T = {setting.temperature:g}$"
        right.text(0.97, 0.05, text, transform=right.transAxes, ha="right", va="bottom", linespacing=1.4)
    return drawn


# --- for programs -------------------------------------------------------------------------------------


def document(result: Result, figures: list[Path]) -> dict[str, Any]:
    """Rows of predict (infinite width last at each depth), of sample, data, figures."""
    rows = [row for depth, curve in result.curves.items() for row in (*curve, result.limits[depth])]
    plain = documents.rows_document(rows, "digits", result.train, result.test)
    return plain | {
        "sampled": [documents.row_document(row.sample) for row in result.compared],
        "note": result.note,
        "figures": [str(path) for path in figures],
        "version": __version__,
    }
