"""Looking at features: order parameters on their patches, kernels by class, information against width.

Every plot takes ``ax=`` and returns the Axes; ``figure_for`` composes those that fit an architecture. Colours:
diverging red-blue around the value of infinite width, cividis for what has no centre; colour-blind readers can tell
both scales apart.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
from scipy import ndimage

from finitewidth import features
from finitewidth.checks.exceptions import InputError
from finitewidth.curves import LearningCurve
from finitewidth.curves import learning_curve as solve_curve
from finitewidth.data import Dataset
from finitewidth.features import FeatureReport
from finitewidth.report.plots import (
    COLOURS,
    COLUMN,
    PAGE,
    learning_curve,
    legend_above,
    new_figure,
    order_parameters,
    require_matplotlib,
    style,
)
from finitewidth.theory.solution import QMap, TheorySolution

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from matplotlib.ticker import MaxNLocator

Array = np.ndarray
P = ParamSpec("P")
R = TypeVar("R")
_DIVERGING, _SEQUENTIAL = "RdBu_r", "cividis"
_NUMBERED = 6  # patches up to which the entries of Q are written into its matrix
_NAMED = 9  # patches up to which each has its tick
_GUIDE = "$\\propto 1/N$"
_POINTS = 300  # points that a drawn kernel shows: more do not differ in print


def _styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Draw in our style where the plot makes its own axes; axes that are given keep the style of their owner."""
    signature = inspect.signature(draw)

    @functools.wraps(draw)
    def in_style(*args: P.args, **options: P.kwargs) -> R:
        given = signature.bind(*args, **options).arguments
        if given.get("ax", given.get("axes")) is not None:
            return draw(*args, **options)
        with style():
            return draw(*args, **options)

    return in_style


# --- the order parameter ---------------------------------------------------------------------------------------------


@_styled
def q_matrix(qmap: QMap, ax: Axes | None = None) -> Axes:
    """Q of all pairs of patches, minus its value at infinite width, the identity.

    Red: more than at infinite width, blue: less. Ticks are patches (row, column) of the grid,
    where they are few, else rows of the grid.
    """
    names = [",".join(map(str, place)) for place in np.ndindex(*qmap.grid_shape)]
    if len(names) <= _NAMED:
        ax, what = _matrix(qmap.square, range(len(names)), names, ax), "patch"
    elif len(qmap.grid_shape) == 1:
        few = slice(None, None, -(-len(names) // 8))
        ax, what = _matrix(qmap.square, range(len(names))[few], names[few], ax), "patch"
    else:
        rows, length = qmap.grid_shape
        step = -(-rows // 8)
        places = (np.arange(0, rows, step) + 0.5) * length - 0.5
        ax, what = _matrix(qmap.square, places, [str(row) for row in range(0, rows, step)], ax), "row of patch"
        for edge in np.arange(1, rows) * length - 0.5:
            ax.axhline(edge, color="0.75", lw=0.3)
            ax.axvline(edge, color="0.75", lw=0.3)
        ax.tick_params(length=0)
    ax.set_xlabel(f"{what} $j$")
    ax.set_ylabel(f"{what} $i$")
    return ax


@_styled
def q_of_outputs(order_parameter: Any, names: Sequence[Any] | None = None, ax: Axes | None = None) -> Axes:
    """Q between D outputs (D, D), minus the identity; ``names``: of the outputs, for example the classes."""
    Q = np.asarray(order_parameter, dtype=float)
    if Q.ndim != 2 or Q.shape[0] != Q.shape[1]:
        raise InputError(
            f"an order parameter of shape {Q.shape}", "a square matrix", "reshape it to (outputs, outputs)"
        )
    ax = _matrix(Q, range(len(Q)), [str(name) for name in (names if names is not None else range(1, len(Q) + 1))], ax)
    ax.set_xlabel("output")
    ax.set_ylabel("output")
    return ax


@_styled
def q_on_image(qmap: QMap, images: Any, ax: Axes | None = None) -> Axes:
    """The diagonal of Q over the mean of ``images`` (points, ...): how much of its prior scale each patch keeps.

    The colour is Q_ii, averaged where patches overlap; the lines are contours of the mean image (of the standard
    deviation where the mean is zero, as in standardised data). Signals: both as curves.
    """
    ax = ax if ax is not None else new_figure(1, COLUMN, 2.9)[1][0]
    return _over_image(qmap, qmap.diagonal, images, ax, "$Q_{ii}$", None)


@_styled
def q_eigenvectors(qmap: QMap, images: Any, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """The leading eigenvectors of Q over the mean of ``images``, one for each of ``axes`` (default: three).

    The title gives the eigenvalue: 1 at infinite width. The sign of an eigenvector means nothing.
    """
    axes = list(axes) if axes is not None else new_figure(min(3, len(qmap.square)), PAGE, 2.3)[1]
    values, vectors = qmap.eigenvectors(len(axes))
    limit = float(np.abs(vectors).max())
    for k, (ax, value, vector) in enumerate(zip(axes, values, vectors, strict=False)):
        _over_image(qmap, vector, images, ax, "component" if k + 1 == len(values) else None, limit)
        ax.set_title(f"eigenvalue {value:.{2 if value < 9.995 else 0}f}", loc="left")
    return axes


# --- kernels ---------------------------------------------------------------------------------------------------------


@_styled
def kernel_by_class(kernel: Any, labels: Any = None, ax: Axes | None = None, limit: float | None = None) -> Axes:
    """A kernel (P, P) with its points ordered by class, and the boundaries of the classes.

    ``labels``: (P,); None leaves the order as it is. ``limit``: end of the colour scale, so that two kernels compare;
    by default the 99th percentile of the entries off the diagonal.
    Raises InputError for a kernel that is not square, or labels of another number.
    """
    K = np.asarray(kernel, dtype=float)
    names = None if labels is None else np.asarray(labels)
    if K.ndim != 2 or K.shape[0] != K.shape[1] or (names is not None and names.shape != K.shape[:1]):
        given = f"a kernel of shape {K.shape}" + ("" if names is None else f" with labels of shape {names.shape}")
        raise InputError(given, "(P, P) and (P,)", "use the same points for both")
    ax = ax if ax is not None else new_figure(1, COLUMN, 2.9)[1][0]
    order = np.arange(len(K)) if names is None else np.argsort(names, kind="stable")
    signed = _draw_kernel(K[np.ix_(order, order)], ax, limit)
    _mark_classes(ax, None if names is None else names[order], len(K), "black" if signed else "white")
    return ax


@_styled
def kernel_by_target(kernel: Any, targets: Any, ax: Axes | None = None, limit: float | None = None) -> Axes:
    """A kernel (P, P) of a regression, its points ordered by their targets (P,) or, of several, (P, D), by the first.

    Ticks are targets. ``limit``: as for ``kernel_by_class``. Raises InputError for shapes that do not fit.
    """
    K, y = np.asarray(kernel, dtype=float), np.asarray(targets, dtype=float)
    if K.ndim != 2 or K.shape[0] != K.shape[1] or y.ndim not in (1, 2) or len(y) != len(K):
        given = f"a kernel of shape {K.shape} with targets of shape {y.shape}"
        raise InputError(given, "(P, P), and (P,) or (P, D)", "use the same points for both")
    several = y.ndim == 2 and y.shape[1] > 1
    first = y.reshape(len(y), -1)[:, 0]
    ax = ax if ax is not None else new_figure(1, COLUMN, 2.9)[1][0]
    order = np.argsort(first, kind="stable")
    _draw_kernel(K[np.ix_(order, order)], ax, limit)
    places = np.unique(np.linspace(0, len(K) - 1, 3).round().astype(int))
    names = [f"{value:.2g}".replace("-", "−") for value in first[order][places]]
    ax.set_xticks(places, names)
    ax.set_yticks(places, names)
    label = "first target" if several else "target"
    ax.set_xlabel(label)
    ax.set_ylabel(label)
    return ax


@_styled
def alignment(reports: FeatureReport | Mapping[str, FeatureReport], ax: Axes | None = None) -> Axes:
    """Alignment (CKA) of the labels with the kernel at infinite width and with K_R, one pair of bars a report.

    ``reports``: what ``fw.features.report`` gives, or several of them by name.
    """
    named = {"": reports} if isinstance(reports, FeatureReport) else dict(reports)
    if not named:
        raise InputError("no reports", "at least one", "use fw.features.report(solution)")
    ax = ax if ax is not None else new_figure()[1][0]
    pairs = [("infinite width", COLOURS[5], "prior_alignment"), ("renormalised", COLOURS[0], "learned_alignment")]
    highest = max(max(r.prior_alignment, r.learned_alignment) for r in named.values())
    for k, (label, colour, field) in enumerate(pairs):
        values = [getattr(report, field) for report in named.values()]
        bars = ax.bar(np.arange(len(named)) + 0.4 * k - 0.2, values, 0.36, color=colour, label=label)
        ax.bar_label(bars, [f"{value:.3f}".replace("0.", ".") for value in values], padding=1, fontsize=6.5)
    ax.set_xticks(np.arange(len(named)), list(named))
    ax.tick_params(axis="x", length=0)
    ax.set_xlim(-0.6, len(named) - 0.4)
    ax.set_ylim(min(0.0, ax.get_ylim()[0]), 1.35 * highest if highest > 0 else None)
    ax.set_ylabel("alignment with the labels")
    ax.legend(loc="upper left", ncols=2, columnspacing=1.0, handlelength=1.0)
    return ax


# --- against width ---------------------------------------------------------------------------------------------------


@_styled
def between_patches(solutions: Iterable[TheorySolution], ax: Axes | None = None, label: str | None = None) -> Axes:
    """Share of the trace of K_R on pairs of patches i != j against the number of channels, in per cent.

    Zero for locally connected networks and at infinite width. Solutions that did not converge are left out.
    """
    found = [
        (float(max(s.theory.network.widths)), 100.0 * features.between_patches(s)) for s in solutions if s.converged
    ]
    ax = _against_width(found, ax, label)
    ax.axhline(0.0, color="0.5", lw=0.6, zorder=1)
    ax.set_xlabel("channels $N$")
    ax.set_ylabel("kernel between patches (%)")
    return ax


@_styled
def information_against_width(
    solutions: Iterable[TheorySolution], ax: Axes | None = None, label: str | None = None
) -> Axes:
    """``N I(Q)`` in nats against width: how far the network is from the kernel regime.

    In wide networks it falls as 1/N: a dotted line along the widths that do, to within a factor of 1.5. Solutions that
    did not converge are left out.
    """
    found = [(float(max(s.theory.network.widths)), features.information(s)) for s in solutions if s.converged]
    found = [(width, nats) for width, nats in found if nats > 0.0]
    ax = _against_width(found, ax, label)
    widths, nats = np.array(sorted(found), dtype=float).T
    apart = np.abs(np.log(widths * nats / (widths[-1] * nats[-1]))) > np.log(1.5)
    along = widths[np.max(np.flatnonzero(apart), initial=-1) + 1 :]
    if len(along) > 1:
        named = _GUIDE in ax.get_legend_handles_labels()[1]
        x = np.geomspace(along[0], along[-1], 50)
        y = nats[-1] * widths[-1] / x
        ax.plot(x, y, color="0.4", lw=2.5, ls=":", label=None if named else _GUIDE, zorder=1)
    if nats.max() > 10.0 * nats.min():
        _logarithmic(ax)
    elif ax.get_yscale() == "linear":
        ax.set_ylim(bottom=0.0)
    ax.set_xlabel("width $N$")
    ax.set_ylabel("$N\\,I(Q)$ (nats)")
    return ax


# --- what fits an architecture ---------------------------------------------------------------------------------------

_PATCHES: list[Any] = [["errors", "errors", "matrix", "diagonal"], ["first", "second", "before", "after"]]


def figure_for(
    curve: LearningCurve, solution: TheorySolution, test: Dataset, infinite: LearningCurve | None = None
) -> Figure:
    """The figure that fits a solution's architecture, a page wide.

    curve: predicted errors, one row or more. solution: that of the smallest width, where features are learned most.
    infinite: the limit, if it is at hand; else it is solved where the figure shows it.
    Patches: learning curve, Q, its diagonal and leading eigenvectors over the mean image, kernels on test points before
    and after. Others: learning curve, order parameters along it (or Q between outputs), information against width where
    widths vary, kernels before and after. Kernels are ordered by class, or by target.
    Without order parameters, or where the solution did not converge: errors and the kernel of infinite width.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    learned = solution.converged and solution.order_parameters.size > 0
    patches = learned and solution.on_patches and len(solution.q_map().positions) > 1
    plain = _feature_panels(curve, solution) if learned and not patches else {}
    one_kernel = learned and solution.theory.method != "integrate"
    kernels = ["before", "after"] if one_kernel else ["before"]
    mosaic = _PATCHES if patches else _mosaic(["errors", *plain], kernels)
    with style():
        figure = Figure(figsize=(PAGE, 2.6 if len(mosaic) == 1 else 3.9 if patches else 4.9))
        axes = figure.subplot_mosaic(mosaic)
        _draw_errors(axes["errors"], curve, solution, test, infinite)
        if patches:
            _draw_patches(axes, solution)
        for name, draw in plain.items():
            draw(axes[name])
        _draw_kernels(axes["before"], axes.get("after"), solution, test)
        for letter, ax in zip("abcdefg", axes.values(), strict=False):
            ax.set_title(f"({letter}) {ax.get_title(loc='left')}".rstrip(), loc="left")
    return figure


def _mosaic(curves: list[str], kernels: list[str]) -> list[Any]:
    """Up to three panels side by side, more in two rows."""
    if len(curves) + len(kernels) <= 3:
        return [[*curves, *kernels]]
    return [[name for name in row for _ in range(6 // len(row))] for row in (curves, kernels)]


def _draw_errors(
    ax: Axes, curve: LearningCurve, solution: TheorySolution, test: Dataset, infinite: LearningCurve | None
) -> None:
    """The learning curve with its limit, or the errors of a single row as bars."""
    rows = list(curve)
    if not any(row.converged for row in rows):
        ax.text(0.5, 0.5, "did not converge", ha="center", va="center", transform=ax.transAxes)
        ax.set_axis_off()
        return
    if len(rows) == 1:
        _error_bars(ax, rows[0])
        return
    temperature = solution.theory.temperature
    limit = None
    if len({row.temperature for row in rows}) == len({row.n_train for row in rows}) == 1:
        limit = infinite or solve_curve(
            solution.network, solution.train, test, temperature=temperature, method="infinite"
        )
    learning_curve(rows, ax, limit.rows[0] if limit else None)
    legend_above(ax)
    ax.set_title(_fixed(rows), loc="left")


def _error_bars(ax: Axes, row: Any) -> None:
    names = {"train_error": "train", "test_error": "test", "bias": "bias", "variance": "variance"}
    colours = (COLOURS[1], COLOURS[0], COLOURS[5], COLOURS[5])
    bars = ax.bar(list(names.values()), [getattr(row, name) for name in names], 0.6, color=colours)
    ax.bar_label(bars, fmt="%.3g", padding=1, fontsize=7)
    ax.margins(y=0.12)
    ax.tick_params(axis="x", length=0)
    ax.set_ylabel("predicted error")
    ax.set_title(f"{_width(row)}, $T$ = {row.temperature:g}", loc="left")


def _fixed(rows: list[Any]) -> str:
    """Of width and temperature what all rows share, and a reader does not see along the axis."""
    widths, temperatures = ({getattr(row, name) for row in rows} for name in ("width", "temperature"))
    if len(temperatures) == 1:
        return f"$T$ = {rows[0].temperature:g}"
    return _width(rows[0]) if len(widths) == 1 else ""


def _width(row: Any) -> str:
    if row.method == "infinite":
        return "infinite width"
    return "$N$ = " + (str(row.width) if isinstance(row.width, int) else ", ".join(map(str, row.width)))


def _draw_patches(axes: Mapping[str, Axes], solution: TheorySolution) -> None:
    images, qmap = _raw(solution.train), solution.q_map()
    q_matrix(qmap, axes["matrix"]).set_title(f"$Q-1$, {_at(solution)}", loc="left")
    q_on_image(qmap, images, axes["diagonal"]).set_title("diagonal of $Q$", loc="left")
    q_eigenvectors(qmap, images, [axes["first"], axes["second"]])


def _feature_panels(curve: LearningCurve, solution: TheorySolution) -> dict[str, Callable[[Axes], None]]:
    """What a figure shows of the order parameters: Q, and its information where widths vary."""
    temperature = solution.theory.temperature
    rows = [row for row in curve if row.converged]
    widths = {row.width for row in rows}
    if solution.theory.network.depth > 1 and len(widths) > 1:  # a line a layer leaves no room for temperatures
        rows = [row for row in rows if row.temperature == temperature]
    panels: dict[str, Callable[[Axes], None]] = {}
    if solution.train.n_outputs > 1:
        panels["q"] = lambda ax: _draw_outputs(ax, solution)
    elif len(rows) > 1:
        panels["q"] = lambda ax: _draw_q(ax, rows)
    along = _solutions_along(curve, solution) if len(widths) > 1 and solution.rated else []
    if len({s.theory.network.widths for s in along if features.information(s) > 0.0}) > 1:
        panels["information"] = lambda ax: _draw_information(ax, along)
    return panels


def _draw_outputs(ax: Axes, solution: TheorySolution) -> None:
    outputs = solution.train.n_outputs
    q_of_outputs(solution.order_parameters.reshape(outputs, outputs), solution.train.classes, ax)
    ax.set_title(f"$Q-1$, {_at(solution)}", loc="left")


def _draw_q(ax: Axes, rows: list[Any]) -> None:
    order_parameters(rows, ax).set_title(_fixed(rows), loc="left")
    if len(ax.get_legend_handles_labels()[1]) > 1:
        legend_above(ax)


def _draw_information(ax: Axes, along: list[TheorySolution]) -> None:
    information_against_width(along, ax).set_title(f"$T$ = {along[0].theory.temperature:g}", loc="left")
    if _GUIDE in ax.get_legend_handles_labels()[1]:
        ax.legend()


def _at(solution: TheorySolution) -> str:
    network = solution.theory.network
    widths = network.common_width if isinstance(network.common_width, tuple) else (network.common_width,)
    return f"$N$ = {', '.join(map(str, widths))}, $T$ = {solution.theory.temperature:g}"


def _draw_kernels(before: Axes, after: Axes | None, solution: TheorySolution, test: Dataset) -> None:
    """Kernels on test points, which the theory has not seen, on one colour scale."""
    part = test.subset(np.arange(min(len(test), _POINTS)))
    prior = features.prior_kernel(solution, part.x)
    learned = prior if after is None else features.renormalised_kernel(solution, part.x)
    limit = max(_kernel_limit(prior), _kernel_limit(learned))
    by_class = part.labels is not None
    draw, order = (kernel_by_class, part.labels) if by_class else (kernel_by_target, part.y)
    draw(prior, order, before, limit).set_title("$K$, infinite width", loc="left")
    if after is not None:
        draw(learned, order, after, limit).set_title(f"$K_R$, {_at(solution)}", loc="left")


def _solutions_along(curve: LearningCurve, solution: TheorySolution) -> list[TheorySolution]:
    """The solution with the order parameters of each row on its data and temperature: not to predict with."""
    network, found = solution.theory.network, []
    for row in curve:
        same = row.temperature == solution.theory.temperature and row.n_train == solution.train.n_points
        if same and row.converged and len(row.order_parameters) == solution.order_parameters.size:
            widths = row.width if isinstance(row.width, tuple) else (row.width,) * network.depth
            other = network.with_widths(widths)
            found.append(solution.at(other, np.array(row.order_parameters)))
    return found


def _raw(train: Dataset) -> Array:
    """The training inputs as they were before standardisation."""
    return train.x if train.standardiser is None else train.standardiser.inverse(train.x)


# --- parts -----------------------------------------------------------------------------------------------------------


def _matrix(Q: Array, places: Any, names: Sequence[str], ax: Axes | None) -> Axes:
    """Q - 1 in diverging colours, white at infinite width, with names at some places of both axes."""
    ax = ax if ax is not None else new_figure(1, COLUMN, 2.7)[1][0]
    deviation = Q - np.eye(len(Q))
    limit = max(float(np.abs(deviation).max()), 1e-12)
    image = ax.imshow(deviation, cmap=_DIVERGING, vmin=-limit, vmax=limit, interpolation="nearest")
    _frame(ax)
    upright = max(map(len, names)) > 2 and len(names) > 4
    ax.set_xticks(places, names, rotation=90 if upright else 0)
    ax.set_yticks(places, names)
    if len(Q) <= _NUMBERED:
        for (i, j), value in np.ndenumerate(deviation):
            colour = "white" if abs(value) > 0.6 * limit else "black"
            ax.text(j, i, _short(value), ha="center", va="center", color=colour, fontsize=6.5)
    _colour_bar(image, ax)
    return ax


def _short(value: float) -> str:
    """-0.54 as −.54, to fit into a cell."""
    text = f"{abs(value):.2f}".removeprefix("0") if abs(value) >= 0.005 else "0"
    return f"−{text}" if value < 0.0 and text != "0" else text


def _over_image(qmap: QMap, values: Array, images: Any, ax: Axes, label: str | None, limit: float | None) -> Axes:
    """Values of patches in colour, the mean image as contours over them. ``limit``: diverging colours around zero."""
    pixels, backdrop = _on_pixels(qmap, values), _mean_image(qmap, images)
    if pixels.ndim == 1:
        return _over_signal(pixels, backdrop, ax, label)
    low, high = (-limit, limit) if limit is not None else (None, None)
    colours = _DIVERGING if limit is not None else _SEQUENTIAL
    image = ax.imshow(pixels, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    _frame(ax)
    _contours(ax, backdrop)
    ax.set_xticks([])
    ax.set_yticks([])
    if label is not None:
        _colour_bar(image, ax, label)
    return ax


def _contours(ax: Axes, image: Array) -> None:
    """Where an image passes a third and two thirds of its range, in black lined with white: seen on every colour."""
    from matplotlib import patheffects

    if min(image.shape) < 2 or np.ptp(image) == 0.0:
        return
    finer = max(1, 64 // max(image.shape))
    smooth = ndimage.zoom(image, finer, order=3, mode="nearest", grid_mode=True)
    y, x = ((np.arange(size * finer) + 0.5) / finer - 0.5 for size in image.shape)
    low, high = np.quantile(smooth, (0.02, 0.98))
    lines = ax.contour(
        x, y, smooth, [low + part * (high - low) for part in (1 / 3, 2 / 3)], colors="black", linewidths=(0.5, 0.8)
    )
    lines.set_path_effects([patheffects.withStroke(linewidth=1.5, foreground="white", alpha=0.75)])


def _over_signal(values: Array, backdrop: Array, ax: Axes, label: str | None) -> Axes:
    ax.fill_between(np.arange(len(backdrop)), backdrop, color="0.85", lw=0, label="mean signal")
    twin = ax.twinx()
    twin.step(np.arange(len(values)), values, where="mid", color=COLOURS[0], label=label)
    twin.spines["right"].set(visible=True, color=COLOURS[0])
    twin.tick_params(axis="y", colors=COLOURS[0])
    twin.set_ylabel(label or "", color=COLOURS[0])
    ax.set_xlabel("position")
    ax.set_ylabel("mean signal")
    return ax


def _on_pixels(qmap: QMap, values: Array) -> Array:
    """Values of patches on the pixels they see, averaged where they overlap, NaN where none looks."""
    space = qmap.input_shape[:-1]
    total, seen = np.zeros(space), np.zeros(space)
    for corner, value in zip(qmap.positions, np.ravel(values), strict=True):
        inside = tuple(slice(max(0, int(a)), int(a) + size) for a, size in zip(corner, qmap.patch, strict=True))
        total[inside] += value
        seen[inside] += 1.0
    with np.errstate(invalid="ignore"):
        return np.where(seen > 0.0, total / seen, np.nan)


def _mean_image(qmap: QMap, images: Any) -> Array:
    """Mean over points and channels; the standard deviation where the mean is zero to rounding."""
    points = np.asarray(images, dtype=float)
    if points.ndim < 2 or points[0].size != np.prod(qmap.input_shape):
        raise InputError(f"images of shape {points.shape}", f"(points, {qmap.input_shape})", "give the training inputs")
    points = points.reshape(len(points), *qmap.input_shape)
    mean = points.mean((0, -1))
    return mean if np.abs(mean).max() > 1e-6 * np.abs(points).max() else points.std(0).mean(-1)


def _draw_kernel(K: Array, ax: Axes, limit: float | None) -> bool:
    """The picture with its colour bar, and whether its colours tell signs apart."""
    limit = _kernel_limit(K) if limit is None else limit
    signed = bool(K.min() < -0.02 * limit)
    low = -limit if signed else 0.0
    image = ax.imshow(K, cmap=_DIVERGING if signed else _SEQUENTIAL, vmin=low, vmax=limit, interpolation="nearest")
    _frame(ax)
    _colour_bar(image, ax, extend="both" if signed else "max")
    return signed


def _kernel_limit(kernel: Array) -> float:
    off = np.abs(kernel[~np.eye(len(kernel), dtype=bool)]) if len(kernel) > 1 else np.abs(kernel)
    return max(float(np.quantile(off, 0.99)), 1e-300)


def _mark_classes(ax: Axes, names: Array | None, count: int, colour: str) -> None:
    if names is None:
        ax.set_xlabel("point")
        ax.set_ylabel("point")
        return
    starts = np.append(np.flatnonzero(np.append(True, names[1:] != names[:-1])), count)
    for edge in starts[1:-1]:
        ax.axhline(edge - 0.5, color=colour, lw=0.7)
        ax.axvline(edge - 0.5, color=colour, lw=0.7)
    centres, found = 0.5 * (starts[1:] + starts[:-1]) - 0.5, [str(name) for name in names[starts[:-1]]]
    ax.set_xticks(centres, found)
    ax.set_yticks(centres, found)
    ax.tick_params(length=0)
    ax.set_xlabel("class")
    ax.set_ylabel("class")


def _against_width(found: list[tuple[float, float]], ax: Axes | None, label: str | None) -> Axes:
    if not found:
        raise InputError(
            "no solution with something to show", "one that converged, at finite width", "give other widths"
        )
    ax = ax if ax is not None else new_figure()[1][0]
    x, y = np.array(sorted(found), dtype=float).T
    ax.plot(x, y, marker="o", label=label or "theory", zorder=3)
    ax.set_xscale("log")
    if x[-1] < 30 * x[0]:
        ax.set_xticks(x[:: max(1, len(x) // 5)])
        ax.set_xticks([], minor=True)
    if x[-1] <= 1e5:
        ax.xaxis.set_major_formatter("{x:g}")
    return ax


def _logarithmic(ax: Axes) -> None:
    """A logarithmic y axis with 0.1, 0.2, 0.5 in place of powers of ten."""
    from matplotlib.ticker import LogLocator, NullLocator

    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter("{x:g}")


def _frame(ax: Axes) -> None:
    """Pictures have all four sides."""
    ax.spines[:].set_visible(True)


def _colour_bar(image: AxesImage, ax: Axes, label: str = "", extend: str = "neither") -> None:
    bar = ax.figure.colorbar(image, cax=ax.inset_axes((1.04, 0.0, 0.055, 1.0)), extend=extend, label=label)
    bar.outline.set_linewidth(0.5)
    bar.ax.tick_params(labelsize=7, width=0.5, length=2)
    bar.locator = _few_ticks()
    bar.update_ticks()


def _few_ticks() -> MaxNLocator:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(5)
