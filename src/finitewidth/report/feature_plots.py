"""Looking at features: order parameters on their patches, kernels by class.

Every plot takes ``ax=`` and returns the Axes; ``figure_for`` composes those that fit an architecture. Colours:
diverging red-blue around the value of infinite width, cividis for what has no centre; colour-blind readers can tell
both scales apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from finitewidth import features
from finitewidth.checks.exceptions import InputError
from finitewidth.curves import LearningCurve
from finitewidth.curves import learning_curve as solve_curve
from finitewidth.data import Dataset
from finitewidth.report.plots import (
    COLOURS,
    PAGE,
    drawing,
    learning_curve,
    legend_above,
    new_figure,
    order_parameters,
    require_matplotlib,
    style,
)
from finitewidth.theory.expansion import FirstOrderSlopes
from finitewidth.theory.solution import QMap, TheorySolution

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

Array = np.ndarray
_DIVERGING, _SEQUENTIAL = "RdBu_r", "cividis"
_SQUARE = 2.9  # inches: height of a picture of its own
_NUMBERED = 6  # patches up to which the entries of Q are written into its matrix
_NAMED = 9  # patches up to which each has its tick
_POINTS = 300  # points that a drawn kernel shows: more do not differ in print


# --- the order parameter ---------------------------------------------------------------------------------------------


def q_matrix(qmap: QMap, ax: Axes | None = None) -> Axes:
    """Q of all pairs of patches, minus its value at infinite width, the identity.

    Red: more than at infinite width, blue: less. Ticks are patches (row, column) of the grid,
    where they are few, else rows of the grid.
    """
    names = [",".join(map(str, place)) for place in np.ndindex(*qmap.grid_shape)]
    with drawing(ax, _SQUARE) as ax:
        if len(names) <= _NAMED:
            _matrix(qmap.square, range(len(names)), names, "patch", ax)
            return ax
        rows, length = (*qmap.grid_shape, 1)[:2]
        shown = range(0, rows, -(-rows // 8))
        places = (np.array(shown) + 0.5) * length - 0.5
        _matrix(qmap.square, places, list(map(str, shown)), "row of patch" if length > 1 else "patch", ax)
        for edge in np.arange(1, rows if length > 1 else 0) * length - 0.5:
            ax.axhline(edge, color="0.75", lw=0.3)
            ax.axvline(edge, color="0.75", lw=0.3)
        ax.tick_params(length=0)
    return ax


def q_of_outputs(order_parameter: Any, names: Sequence[Any] | None = None, ax: Axes | None = None) -> Axes:
    """Q between D outputs (D, D), minus the identity; ``names``: of the outputs, for example the classes."""
    Q = np.asarray(order_parameter, dtype=float)
    if Q.ndim != 2 or Q.shape[0] != Q.shape[1]:
        raise InputError(
            f"an order parameter of shape {Q.shape}", "a square matrix", "reshape it to (outputs, outputs)"
        )
    shown = [str(name) for name in (names if names is not None else range(1, len(Q) + 1))]
    with drawing(ax, _SQUARE) as ax:
        _matrix(Q, range(len(Q)), shown, "output", ax)
    return ax


def q_on_image(qmap: QMap, images: Any, ax: Axes | None = None) -> Axes:
    """The diagonal of Q over the mean of ``images`` (points, ...): how much of its prior scale each patch keeps.

    The colour is Q_ii, averaged where patches overlap; the lines are contours of the mean image (of the standard
    deviation where the mean is zero, as in standardised data). Signals: both as curves.
    """
    with drawing(ax, _SQUARE) as ax:
        return _over_image(qmap, qmap.diagonal, images, ax, "$Q_{ii}$", None)


def q_eigenvectors(qmap: QMap, images: Any, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """The leading eigenvectors of Q over the mean of ``images``, one for each of ``axes`` (default: three).

    The title gives the eigenvalue: 1 at infinite width. The sign of an eigenvector means nothing.
    """
    if axes is None:
        with style():
            return q_eigenvectors(qmap, images, new_figure(min(3, len(qmap.square)), PAGE, 2.3)[1])
    values, vectors = qmap.eigenvectors(len(axes))
    limit = float(np.abs(vectors).max())
    for k, (ax, value, vector) in enumerate(zip(axes, values, vectors, strict=False)):
        _over_image(qmap, vector, images, ax, "component" if k + 1 == len(values) else None, limit)
        ax.set_title(f"eigenvalue {value:.{2 if value < 9.995 else 0}f}", loc="left")
    return list(axes)


# --- kernels ---------------------------------------------------------------------------------------------------------


def kernel_by_class(kernel: Any, labels: Any, ax: Axes | None = None, limit: float | None = None) -> Axes:
    """A kernel (P, P) with its points ordered by class, and the boundaries of the classes.

    ``labels``: (P,). ``limit``: end of the colour scale, so that two kernels compare; by default the 99th percentile of
    the entries off the diagonal.
    Raises InputError for a kernel that is not square, or labels of another number.
    """
    names = np.asarray(labels)
    K = _square(kernel, names, names.ndim == 1)
    order = np.argsort(names, kind="stable")
    names = names[order]
    starts = np.append(np.flatnonzero(np.append(True, names[1:] != names[:-1])), len(K))
    with drawing(ax, _SQUARE) as ax:
        colour = "black" if _draw_kernel(K[np.ix_(order, order)], ax, limit) else "white"
        for edge in starts[1:-1]:
            ax.axhline(edge - 0.5, color=colour, lw=0.7)
            ax.axvline(edge - 0.5, color=colour, lw=0.7)
        ax.tick_params(length=0)
        _name_axes(ax, 0.5 * (starts[1:] + starts[:-1]) - 0.5, [str(name) for name in names[starts[:-1]]], "class")
    return ax


def kernel_by_target(kernel: Any, targets: Any, ax: Axes | None = None, limit: float | None = None) -> Axes:
    """A kernel (P, P) of a regression, its points ordered by their targets (P,) or, of several, (P, D), by the first.

    Ticks are targets. ``limit``: as for ``kernel_by_class``. Raises InputError for shapes that do not fit.
    """
    y = np.asarray(targets, dtype=float)
    K = _square(kernel, y, y.ndim in (1, 2))
    first = y.reshape(len(y), -1)[:, 0]
    order = np.argsort(first, kind="stable")
    places = np.unique(np.linspace(0, len(K) - 1, 3).round().astype(int))
    names = [f"{value:.2g}".replace("-", "−") for value in first[order][places]]
    with drawing(ax, _SQUARE) as ax:
        _draw_kernel(K[np.ix_(order, order)], ax, limit)
        _name_axes(ax, places, names, "first target" if y.ndim == 2 and y.shape[1] > 1 else "target")
    return ax


def _square(kernel: Any, along: Array, fits: bool) -> Array:
    """The kernel, if these labels or targets fit to it."""
    K = np.asarray(kernel, dtype=float)
    if not fits or K.ndim != 2 or not K.shape[0] == K.shape[1] == len(along):
        given = f"a kernel of shape {K.shape} with labels or targets of shape {along.shape}"
        raise InputError(given, "(P, P) and one label or target a point", "use the same points for both")
    return K


# --- what fits an architecture ---------------------------------------------------------------------------------------

_PATCHES: list[Any] = [["errors", "errors", "matrix", "diagonal"], ["first", "second", "before", "after"]]


def figure_for(
    curve: LearningCurve,
    solution: TheorySolution,
    test: Dataset,
    infinite: LearningCurve | None = None,
    tangent: FirstOrderSlopes | None = None,
) -> Figure:
    """The figure that fits a solution's architecture, a page wide.

    curve: predicted errors, one row or more. solution: that of the smallest width, where features are learned most.
    infinite: the limit, if it is at hand; else it is solved where the figure shows it. tangent: of ``fw.first_order``,
    drawn to a curve over widths.
    Patches: learning curve, Q, its diagonal and leading eigenvectors over the mean image, kernels on test points before
    and after. Others: learning curve, order parameters along it (or Q between outputs), kernels before and after.
    Kernels are ordered by class, or by target.
    Without order parameters, or where the solution did not converge: errors and the kernel of infinite width.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    learned = solution.converged and solution.order_parameters.size > 0
    patches = learned and solution.on_patches and len(solution.q_map().positions) > 1
    with style():
        figure = Figure(figsize=(PAGE, 3.9 if patches else 4.9))
        several = solution.train.n_outputs > 1 or sum(row.converged for row in curve) > 1
        errors = ["errors", *(["q"] if learned and several else [])]
        kernels = ["before", *(["after"] if learned and solution.theory.method != "integrate" else [])]
        if patches:
            mosaic = _PATCHES
        elif len(errors) + len(kernels) <= 3:
            figure.set_figheight(2.6)
            mosaic = [[*errors, *kernels]]
        else:
            mosaic = [errors, kernels]
        axes = figure.subplot_mosaic(mosaic)
        _draw_errors(axes["errors"], curve, solution, test, infinite, tangent)
        if patches:
            _draw_patches(axes, solution)
        if "q" in axes:
            _draw_q(axes["q"], curve, solution)
        _draw_kernels(axes["before"], axes.get("after"), solution, test)
        for letter, ax in zip("abcdefg", axes.values(), strict=False):
            ax.set_title(f"({letter}) {ax.get_title(loc='left')}".rstrip(), loc="left")
    return figure


def _draw_errors(
    ax: Axes,
    curve: LearningCurve,
    solution: TheorySolution,
    test: Dataset,
    infinite: LearningCurve | None,
    tangent: FirstOrderSlopes | None,
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
    learning_curve(rows, ax, limit.rows[0] if limit else None, tangent=tangent)
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
    return "infinite width" if row.method == "infinite" else _named(row.width)


def _named(width: int | tuple[int, ...]) -> str:
    return f"$N$ = {', '.join(map(str, width)) if isinstance(width, tuple) else width}"


def _draw_patches(axes: Mapping[str, Axes], solution: TheorySolution) -> None:
    images, qmap = _raw(solution.train), solution.q_map()
    q_matrix(qmap, axes["matrix"]).set_title(f"$Q-1$, {_at(solution)}", loc="left")
    q_on_image(qmap, images, axes["diagonal"]).set_title("diagonal of $Q$", loc="left")
    q_eigenvectors(qmap, images, [axes["first"], axes["second"]])


def _draw_q(ax: Axes, curve: LearningCurve, solution: TheorySolution) -> None:
    """Q between outputs, or order parameters along the curve."""
    outputs = solution.train.n_outputs
    if outputs > 1:
        q_of_outputs(solution.order_parameters.reshape(outputs, outputs), solution.train.classes, ax)
        ax.set_title(f"$Q-1$, {_at(solution)}", loc="left")
        return
    rows = [row for row in curve if row.converged]
    if solution.theory.network.depth > 1 and len({row.width for row in rows}) > 1:
        rows = [row for row in rows if row.temperature == solution.theory.temperature]  # a line a layer is enough
    order_parameters(rows, ax).set_title(_fixed(rows), loc="left")
    if len(ax.get_legend_handles_labels()[1]) > 1:
        legend_above(ax)


def _at(solution: TheorySolution) -> str:
    return f"{_named(solution.theory.network.common_width)}, $T$ = {solution.theory.temperature:g}"


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


def _raw(train: Dataset) -> Array:
    """The training inputs as they were before standardisation."""
    return train.x if train.standardiser is None else train.standardiser.inverse(train.x)


# --- parts -----------------------------------------------------------------------------------------------------------


def _matrix(Q: Array, places: Any, names: Sequence[str], what: str, ax: Axes) -> None:
    """Q - 1 in diverging colours, white at infinite width, with names at some places of both axes."""
    deviation = Q - np.eye(len(Q))
    limit = max(float(np.abs(deviation).max()), 1e-12)
    image = ax.imshow(deviation, cmap=_DIVERGING, vmin=-limit, vmax=limit, interpolation="nearest")
    upright = max(map(len, names)) > 2 and len(names) > 4
    _name_axes(ax, places, names, what, rotation=90 if upright else 0)
    if len(Q) <= _NUMBERED:
        for (i, j), value in np.ndenumerate(deviation):
            colour = "white" if abs(value) > 0.6 * limit else "black"
            ax.text(j, i, _short(value), ha="center", va="center", color=colour, fontsize=6.5)
    _colour_bar(image, ax)


def _name_axes(ax: Axes, places: Any, names: Sequence[str], what: str, rotation: float = 0) -> None:
    """The same names along both axes of a picture of pairs."""
    ax.set_xticks(places, names, rotation=rotation)
    ax.set_yticks(places, names)
    ax.set_xlabel(what)
    ax.set_ylabel(what)


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
    ax.spines[:].set_visible(True)
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
    _colour_bar(image, ax, extend="both" if signed else "max")
    return signed


def _kernel_limit(kernel: Array) -> float:
    off = np.abs(kernel[~np.eye(len(kernel), dtype=bool)]) if len(kernel) > 1 else np.abs(kernel)
    return max(float(np.quantile(off, 0.99)), 1e-300)


def _colour_bar(image: AxesImage, ax: Axes, label: str = "", extend: str = "neither") -> None:
    """Beside a picture, which has all four sides."""
    from matplotlib.ticker import MaxNLocator

    ax.spines[:].set_visible(True)
    place = ax.inset_axes((1.04, 0.0, 0.055, 1.0))
    bar = ax.figure.colorbar(image, cax=place, extend=extend, label=label, ticks=MaxNLocator(5))
    bar.outline.set_linewidth(0.5)
    bar.ax.tick_params(labelsize=7, width=0.5, length=2)
