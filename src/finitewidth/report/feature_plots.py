"""Looking at features: order parameters on their patches, kernels by class.

Every plot takes ``ax=`` and returns the Axes; ``figure_for`` composes those that fit an architecture. Colours:
diverging red-blue around the value of infinite width, cividis for what has no centre; colour-blind readers can tell
both scales apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from finitewidth import features
from finitewidth.checks.exceptions import InputError
from finitewidth.curves import LearningCurve
from finitewidth.data import Dataset
from finitewidth.report.plots import (
    COLOURS,
    PAGE,
    drawing,
    learning_curve,
    legend_above,
    new_figure,
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
_NAMED = 9  # patches or groups of points up to which each has its tick
_POINTS = 300  # points that a drawn kernel shows: more do not differ in print


# --- the order parameter ---------------------------------------------------------------------------------------------


def q_matrix(qmap: QMap, ax: Axes | None = None) -> Axes:
    """Q of all pairs of patches, minus its value at infinite width, the identity.

    Red: more than at infinite width, blue: less. Where patches are few, each has its place (row, column) beside it.
    """
    names = [",".join(map(str, place)) for place in np.ndindex(*qmap.grid_shape)]
    with drawing(ax, _SQUARE) as ax:
        _matrix(qmap.square, names, "patch", ax)
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
        _matrix(Q, shown, "output", ax)
    return ax


def q_on_image(qmap: QMap, ax: Axes | None = None) -> Axes:
    """The diagonal of Q on the pixels of the inputs: how much of its prior scale each patch keeps.

    The colour is Q_ii, averaged where patches overlap. Signals: a curve.
    """
    with drawing(ax, _SQUARE) as ax:
        return _on_image(qmap, qmap.diagonal, ax, "$Q_{ii}$", None)


def q_eigenvectors(qmap: QMap, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """The leading eigenvectors of Q on the pixels of the inputs, one for each of ``axes`` (default: three).

    The title gives the eigenvalue: 1 at infinite width. The sign of an eigenvector means nothing.
    """
    if axes is None:
        with style():
            return q_eigenvectors(qmap, new_figure(min(3, len(qmap.square)), PAGE, 2.3)[1])
    values, vectors = qmap.eigenvectors(len(axes))
    limit = float(np.abs(vectors).max())
    for k, (ax, value, vector) in enumerate(zip(axes, values, vectors, strict=False)):
        _on_image(qmap, vector, ax, "component" if k + 1 == len(values) else None, limit)
        ax.set_title(f"eigenvalue {value:.{2 if value < 9.995 else 0}f}", loc="left")
    return list(axes)


# --- kernels ---------------------------------------------------------------------------------------------------------


def kernel_in_order(
    kernel: Any, values: Any, ax: Axes | None = None, limit: float | None = None, what: str = "class"
) -> Axes:
    """A kernel (P, P) with its points ordered by ``values`` (P,), labels or targets; few values are groups.

    limit: end of the colour scale, so that two kernels compare; by default the 99th percentile of the entries off the
    diagonal. what: the values are called.
    Raises InputError for a kernel that is not square, or values of another number.
    """
    K, along = np.asarray(kernel, dtype=float), np.asarray(values)
    if along.ndim != 1 or K.shape != (len(along), len(along)):
        given = f"a kernel of shape {K.shape} with values of shape {along.shape}"
        raise InputError(given, "(P, P) and one value a point", "use the same points for both")
    order = np.argsort(along, kind="stable")
    along = along[order]
    starts = np.append(np.flatnonzero(np.append(True, along[1:] != along[:-1])), len(K))
    with drawing(ax, _SQUARE) as ax:
        colour = "black" if _draw_kernel(K[np.ix_(order, order)], ax, limit) else "white"
        if len(starts) > _NAMED:
            places = np.unique(np.linspace(0, len(K) - 1, 3).round().astype(int))
            _name_axes(ax, places, [f"{value:.2g}" for value in along[places]], what)
            return ax
        for edge in starts[1:-1]:
            ax.axhline(edge - 0.5, color=colour, lw=0.7)
            ax.axvline(edge - 0.5, color=colour, lw=0.7)
        ax.tick_params(length=0)
        _name_axes(ax, 0.5 * (starts[1:] + starts[:-1]) - 0.5, [f"{value}" for value in along[starts[:-1]]], what)
    return ax


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
    infinite: the limit, drawn where it is given. tangent: of ``fw.first_order``, drawn to a curve over widths.
    Patches: learning curve, Q, its diagonal and leading eigenvectors on their patches, kernels on test points before
    and after. Others: learning curve, mean of Q along it (or Q between outputs), kernels before and after.
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
        learning_curve(curve, axes["errors"], infinite, tangent=tangent)
        axes["errors"].set_title(_fixed(list(curve)), loc="left")
        legend_above(axes["errors"])
        if patches:
            _draw_patches(axes, solution)
        if "q" in axes:
            _draw_q(axes["q"], curve, solution)
        _draw_kernels(axes["before"], axes.get("after"), solution, test)
        for letter, ax in zip("abcdefg", axes.values(), strict=False):
            ax.set_title(f"({letter}) {ax.get_title(loc='left')}".rstrip(), loc="left")
    return figure


def _fixed(rows: list[Any]) -> str:
    """Of width and temperature what all rows share, and a reader does not see along the axis."""
    widths, temperatures = ({getattr(row, name) for row in rows} for name in ("width", "temperature"))
    if len(temperatures) == 1:
        return f"$T$ = {rows[0].temperature:g}"
    return _named(rows[0].width) if len(widths) == 1 else ""


def _named(width: int | tuple[int, ...]) -> str:
    return f"$N$ = {', '.join(map(str, width)) if isinstance(width, tuple) else width}"


def _draw_patches(axes: Mapping[str, Axes], solution: TheorySolution) -> None:
    qmap = solution.q_map()
    q_matrix(qmap, axes["matrix"]).set_title(f"$Q-1$, {_at(solution)}", loc="left")
    q_on_image(qmap, axes["diagonal"]).set_title("diagonal of $Q$", loc="left")
    q_eigenvectors(qmap, [axes["first"], axes["second"]])


def _draw_q(ax: Axes, curve: LearningCurve, solution: TheorySolution) -> None:
    """Q between outputs, or its mean along the curve."""
    outputs = solution.train.n_outputs
    if outputs > 1:
        q_of_outputs(solution.order_parameters.reshape(outputs, outputs), solution.train.classes, ax)
        ax.set_title(f"$Q-1$, {_at(solution)}", loc="left")
        return
    learning_curve(curve, ax, 1.0, quantity="mean_order_parameter").set_title(_fixed(list(curve)), loc="left")
    legend_above(ax)


def _at(solution: TheorySolution) -> str:
    return f"{_named(solution.theory.network.common_width)}, $T$ = {solution.theory.temperature:g}"


def _draw_kernels(before: Axes, after: Axes | None, solution: TheorySolution, test: Dataset) -> None:
    """Kernels on test points, which the theory has not seen, on one colour scale."""
    part = test.subset(np.arange(min(len(test), _POINTS)))
    prior = features.prior_kernel(solution, part.x)
    learned = prior if after is None else features.renormalised_kernel(solution, part.x)
    limit = max(_kernel_limit(prior), _kernel_limit(learned))
    labelled = part.labels is not None
    values, what = (part.labels, "class") if labelled else (part.y.reshape(len(part), -1)[:, 0], "target")
    kernel_in_order(prior, values, before, limit, what).set_title("$K$, infinite width", loc="left")
    if after is not None:
        kernel_in_order(learned, values, after, limit, what).set_title(f"$K_R$, {_at(solution)}", loc="left")


# --- parts -----------------------------------------------------------------------------------------------------------


def _matrix(Q: Array, names: Sequence[str], what: str, ax: Axes) -> None:
    """Q - 1 in diverging colours, white at infinite width, with names at both axes where they are few."""
    deviation = Q - np.eye(len(Q))
    limit = max(float(np.abs(deviation).max()), 1e-12)
    image = ax.imshow(deviation, cmap=_DIVERGING, vmin=-limit, vmax=limit, interpolation="nearest")
    ax.set(xlabel=what, ylabel=what)
    if len(names) <= _NAMED:
        _name_axes(ax, range(len(names)), names, what)
    _colour_bar(image, ax)


def _name_axes(ax: Axes, places: Any, names: Sequence[str], what: str) -> None:
    """The same names along both axes of a picture of pairs."""
    upright = max(map(len, names)) > 2 and len(names) > 4
    ax.set_xticks(places, names, rotation=90 if upright else 0)
    ax.set_yticks(places, names)
    ax.set(xlabel=what, ylabel=what)


def _on_image(qmap: QMap, values: Array, ax: Axes, label: str | None, limit: float | None) -> Axes:
    """Values of patches in colour, with ``limit`` in diverging colours around zero."""
    pixels = _on_pixels(qmap, values)
    if pixels.ndim == 1:
        ax.step(np.arange(len(pixels)), pixels, where="mid", color=COLOURS[0])
        ax.set(xlabel="position", ylabel=label or "component")
        return ax
    low, high = (-limit, limit) if limit is not None else (None, None)
    colours = _DIVERGING if limit is not None else _SEQUENTIAL
    image = ax.imshow(pixels, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    if label is not None:
        _colour_bar(image, ax, label)
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
    """Beside a picture, as high as it."""
    ax.spines[:].set_visible(True)
    bar = ax.figure.colorbar(image, cax=ax.inset_axes((1.04, 0.0, 0.055, 1.0)), extend=extend, label=label)
    bar.ax.tick_params(labelsize=7)
