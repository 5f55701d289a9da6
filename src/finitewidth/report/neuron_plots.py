"""Learned features, theory beside samples: receptive fields, spectrum of the weights, law of the readouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from finitewidth.checks.exceptions import InputError
from finitewidth.report.plots import COLOURS, PAGE, drawing, new_figure, require_matplotlib, style
from finitewidth.theory.learned import LearnedFeatures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = np.ndarray
_MARKS = ("o", "x", "s", "^")


def receptive_fields(features: LearnedFeatures, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """Leading eigenvectors of the weight covariance as images, one for each of ``axes`` (default: three).

    The title gives the eigenvalue: 1 under the prior. The sign means nothing. Inputs without two directions are curves.
    """
    axes = list(axes) if axes is not None else new_figure(3, PAGE, 2.3)[1]
    values, fields = features.receptive_fields(len(axes))
    limit = float(np.abs(fields).max())
    for ax, value, field in zip(axes, values, fields, strict=False):
        image = field.mean(-1) if field.ndim == 3 else field
        if image.ndim == 2:
            ax.imshow(image, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set_visible(True)
        else:
            ax.plot(np.arange(len(image)), image)
            ax.set_xlabel("input")
        ax.set_title(f"eigenvalue {value:.2f}", loc="left")
    return axes


def weight_spectrum(features: Mapping[str, LearnedFeatures], ax: Axes | None = None, count: int = 15) -> Axes:
    """The largest eigenvalues of the weight covariance, one set of marks for each of ``features`` by name."""
    if not features:
        raise InputError("no features", "at least one, by name", "give {'theory': solution.features}")
    with drawing(ax) as ax:
        for colour, mark, (name, learned) in zip(COLOURS, _MARKS, features.items(), strict=False):
            values, _ = learned.receptive_fields(count)
            ranks = np.arange(1, len(values) + 1)
            ax.plot(ranks, values, mark, color=colour, label=name, fillstyle="none", ls="none")
        ax.axhline(1.0, color="0.5", lw=0.6, zorder=1)
        ax.set_xlabel("rank")
        ax.set_ylabel("eigenvalue of $\\lambda_0 \\langle w w^T \\rangle$")
        ax.legend()
    return ax


def readout_law(features: LearnedFeatures, ax: Axes | None = None) -> Axes:
    """Density of the readouts, and the Gaussian of their median: what lies outside it are specialised neurons.

    Raises InputError where readouts were not recorded.
    """
    if features.readouts is None:
        raise InputError("features without readouts", "the law of v", "take solution.features of method 'neuron'")
    values = features.readouts.ravel()
    edge = float(np.quantile(np.abs(values), 0.9995)) * 1.1
    x = np.linspace(-edge, edge, 301)
    gaussian = stats.norm(scale=float(np.median(np.abs(values))) / 0.6745)
    with drawing(ax) as ax:
        ax.hist(values, list(np.linspace(-edge, edge, 61)), density=True, color=COLOURS[5], label="neurons")
        ax.plot(x, gaussian.pdf(x), color="black", lw=0.8, label="Gaussian")
        ax.set_yscale("log")
        ax.set_ylim(bottom=0.2 / len(values), top=None)
        ax.set_xlabel("readout $\\sqrt{\\lambda_1}\\, v$")
        ax.set_ylabel("density")
        ax.set_title(f"specialised {100 * features.specialised:.1f} %", loc="left")
        ax.legend(loc="upper right", fontsize=6.5)
    return ax


def features_figure(theory: LearnedFeatures, sample: LearnedFeatures | None = None) -> Figure:
    """Theory beside samples: two receptive fields of each, both spectra, and the law of the readouts."""
    require_matplotlib()
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(PAGE, 3.8))
        grid = figure.add_gridspec(2, 4)
        sides = {"theory": theory} | ({} if sample is None else {"samples": sample})
        for row, (name, learned) in enumerate(sides.items()):
            axes = [figure.add_subplot(grid[row, column]) for column in (0, 1)]
            receptive_fields(learned, axes)
            axes[0].set_ylabel(name)
        spectrum = figure.add_subplot(grid[0, 2:])
        weight_spectrum(sides, spectrum).set_title("weights", loc="left")
        readout_law(theory, figure.add_subplot(grid[1, 2:]))
    return figure
