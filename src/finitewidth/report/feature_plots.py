"""Looking at features: order parameters on their patches.

Every plot takes ``ax=`` and returns the Axes; ``figure_for`` composes those that fit an architecture. Colours:
diverging red-blue around the value of infinite width, cividis for what has no centre; colour-blind readers can tell
both scales apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from finitewidth.checks.exceptions import InputError
from finitewidth.curves import LearningCurve
from finitewidth.report.plots import (
    COLOURS,
    PAGE,
    drawing,
    equals,
    learning_curve,
    learning_curve_figure,
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
_NAMED = 9  # patches up to which each has its tick


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


# --- what fits an architecture ---------------------------------------------------------------------------------------

_PATCHES: list[Any] = [["errors", "matrix", "diagonal"], ["errors", "first", "second"]]
_OTHERS: list[Any] = [["errors", "q"]]


def figure_for(
    curve: LearningCurve,
    solution: TheorySolution,
    infinite: LearningCurve | None = None,
    tangent: FirstOrderSlopes | None = None,
) -> Figure:
    """The figure that fits a solution's architecture, a page wide.

    curve: predicted errors, one row or more. solution: that of the smallest width, where features are learned most.
    infinite: the limit, drawn where it is given. tangent: of ``fw.first_order``, drawn to a curve over widths.
    Patches: test error, Q, its diagonal and leading eigenvectors on their patches. Others: test error beside Q between
    outputs, or the mean of Q along the curve. Without order parameters, or where the solution did not converge: errors.
    """
    if not solution.converged or not solution.order_parameters.size:
        return learning_curve_figure(curve, infinite, tangent=tangent)
    require_matplotlib()
    from matplotlib.figure import Figure

    patches = solution.on_patches and len(solution.q_map().positions) > 1
    with style():
        figure = Figure(figsize=(PAGE, 3.9 if patches else 2.8))
        axes = figure.subplot_mosaic(_PATCHES if patches else _OTHERS)
        learning_curve(curve, axes["errors"], infinite, tangent=tangent)
        legend_above(axes["errors"])
        if len({row.temperature for row in curve}) == 1:
            axes["errors"].set_title(equals("temperature", solution.theory.temperature), loc="left")
        if patches:
            _draw_patches(axes, solution)
        else:
            _draw_q(axes["q"], curve, solution)
        for letter, ax in zip("abcde", axes.values(), strict=False):
            ax.set_title(f"({letter}) {ax.get_title(loc='left')}".rstrip(), loc="left")
    return figure


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
    learning_curve(curve, ax, 1.0, quantity="mean_order_parameter")
    legend_above(ax)


def _at(solution: TheorySolution) -> str:
    theory = solution.theory
    return f"{equals('width', theory.network.common_width)}, {equals('temperature', theory.temperature)}"


# --- parts -----------------------------------------------------------------------------------------------------------


def _matrix(Q: Array, names: Sequence[str], what: str, ax: Axes) -> None:
    """Q - 1 in diverging colours, white at infinite width, with names at both axes where they are few."""
    deviation = Q - np.eye(len(Q))
    limit = max(float(np.abs(deviation).max()), 1e-12)
    image = ax.imshow(deviation, cmap=_DIVERGING, vmin=-limit, vmax=limit, interpolation="nearest")
    ax.set(xlabel=what, ylabel=what)
    if len(names) <= _NAMED:
        ax.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 2 else 0)
        ax.set_yticks(range(len(names)), names)
    _colour_bar(image, ax)


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


def _colour_bar(image: AxesImage, ax: Axes, label: str = "") -> None:
    """Beside a picture, as high as it."""
    ax.spines[:].set_visible(True)
    bar = ax.figure.colorbar(image, cax=ax.inset_axes((1.04, 0.0, 0.055, 1.0)), label=label)
    bar.ax.tick_params(labelsize=7)
