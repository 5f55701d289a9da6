"""Plots of features: what is drawn are the numbers of the solution; every architecture has its figure."""

import numpy as np
import pytest

pytest.importorskip("matplotlib")

import matplotlib as mpl
from matplotlib.figure import Figure

import finitewidth as fw
from finitewidth.report import feature_plots as draw

T = 0.05
TRAIN, TEST = fw.data.digits(classes=(0, 1), n_train=40, n_test=30)
CNN, LCN = fw.Convolutional(channels=10, patch=4), fw.LocallyConnected(channels=10, patch=4)
FC = fw.FullyConnected(widths=(10,))


def solved(network, train=TRAIN, **more):
    return fw.solve(fw.theory_of(network, T, **more), train)


@pytest.fixture(scope="module")
def cnn():
    return solved(CNN)


@pytest.fixture
def ax():
    return Figure().subplots()


def picture(ax):
    return np.asarray(ax.get_images()[0].get_array())


def rendered(figure):
    """Draw for real: layout and text errors, warnings included, show only then."""
    figure.canvas.draw()
    return figure


def test_q_matrix_shows_q_minus_one(cnn, ax):
    qmap = cnn.q_map()
    assert draw.q_matrix(qmap, ax) is ax
    np.testing.assert_allclose(picture(ax), qmap.square - np.eye(4))
    low, high = ax.get_images()[0].get_clim()
    assert low == -high  # white is infinite width
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0,0", "0,1", "1,0", "1,1"]
    rendered(ax.figure)


@pytest.mark.parametrize(
    "network",
    [CNN, LCN, fw.Convolutional(channels=10, patch=4, stride=2), fw.Convolutional(channels=10, patch=3, stride=4)],
    ids=["cnn", "lcn", "overlapping", "gaps"],
)
def test_q_on_image_averages_the_patches_over_a_pixel(network, ax):
    """Second route: every pixel asks which patches see it."""
    qmap = solved(network).q_map()
    draw.q_on_image(qmap, ax)
    drawn, q = picture(ax), np.diagonal(qmap.square)
    for row in range(8):
        for column in range(8):
            seen = [
                q[k]
                for k, (a, b) in enumerate(qmap.positions)
                if a <= row < a + qmap.patch[0] and b <= column < b + qmap.patch[1]
            ]
            expected = np.mean(seen) if seen else np.nan
            np.testing.assert_allclose(np.ma.filled(drawn[row, column], np.nan), expected)
    rendered(ax.figure)


def test_padding_hangs_over_the_edge(ax):
    qmap = solved(fw.Convolutional(channels=10, patch=3, stride=2, padding="same")).q_map()
    draw.q_on_image(qmap, ax)
    assert picture(ax).shape == (8, 8)
    assert np.isfinite(picture(ax)).all()


def test_eigenvectors_are_drawn_on_their_patches(cnn):
    axes = draw.q_eigenvectors(cnn.q_map())
    values, vectors = cnn.q_map().eigenvectors(3)
    assert len(axes) == 3
    for ax, value, vector in zip(axes, values, vectors, strict=True):
        np.testing.assert_allclose(picture(ax)[::4, ::4], vector)
        assert f"{value:.2f}" in ax.get_title(loc="left")
        assert ax.get_images()[0].get_clim()[1] == np.abs(vectors).max()
    rendered(axes[0].figure)


def test_signals_are_curves(ax):
    x = np.random.default_rng(0).standard_normal((30, 12)) + np.sin(np.arange(12))
    network = fw.Convolutional(channels=10, patch=(4,), input_shape=(12, 1))
    solution = solved(network, fw.Dataset(x, x[:, 0], classes=()))
    draw.q_on_image(solution.q_map(), ax)
    (step,) = ax.get_lines()
    np.testing.assert_allclose(step.get_ydata(), np.repeat(np.diagonal(solution.q_map().square), 4))
    draw.q_matrix(solution.q_map(), Figure().subplots())
    curve = fw.learning_curve(network, solution.train, solution.train, widths=[10, 20], temperature=T)
    rendered(draw.figure_for(curve, solution))


def test_a_given_axes_keeps_its_style_and_own_axes_are_ours(cnn, ax):
    before = dict(mpl.rcParams)
    draw.q_matrix(cnn.q_map(), ax)
    own = draw.q_matrix(cnn.q_map())
    assert own.xaxis.label.get_fontsize() == 9
    assert own.xaxis.label.get_fontfamily() == ["STIXGeneral"]
    assert ax.xaxis.label.get_fontfamily() != own.xaxis.label.get_fontfamily()
    assert dict(mpl.rcParams) == before


THREE = fw.data.digits(classes=(0, 1, 2), n_train=30, n_test=20)
FIGURES = {
    "fc": (FC, (TRAIN, TEST), [10, 20, 40], 2),
    "deep": (fw.FullyConnected(widths=(10, 10)), (TRAIN, TEST), [10, 20], 2),
    "fc, one width": (FC, (TRAIN, TEST), [10], 2),
    "fc, classes": (FC, THREE, [10, 20], 2),
    "cnn": (CNN, (TRAIN, TEST), [10, 20], 5),
    "cnn, classes": (CNN, THREE, [10, 20], 5),
    "pooled": (fw.Convolutional(channels=10, patch=4, pool="average"), (TRAIN, TEST), [10, 20], 2),
    "one patch": (fw.Convolutional(channels=10, patch=8), (TRAIN, TEST), [10, 20], 2),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_architecture_has_its_figure(name):
    network, (train, test), widths, panels = FIGURES[name]
    curve = fw.learning_curve(network, train, test, widths=widths, temperature=T)
    figure = rendered(draw.figure_for(curve, solved(network.with_width(min(widths)), train)))
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    lettered = [title[1] for title in titles if title.startswith("(")]
    assert lettered == list("abcde"[:panels])
    assert figure.get_size_inches()[0] == 7.0
    assert all(f"$T$ = {T}" in title for title in titles if "(a)" in title or "Q-1" in title)


def test_integrated_order_parameters_have_a_figure():
    """They have no one Q, but a mean along the curve."""
    curve = fw.learning_curve(FC, TRAIN, TEST, widths=[10, 20], temperature=T, method="integrate")
    figure = rendered(draw.figure_for(curve, solved(FC, method="integrate")))
    (q,) = [ax for ax in figure.axes if ax.get_ylabel() == "mean of $Q$"]
    assert list(q.get_lines()[0].get_ydata()) == [row.order_parameters[0] for row in curve]


def test_several_temperatures_are_lines_of_both_panels():
    curve = fw.learning_curve(FC, TRAIN, TEST, widths=[10, 20], temperature=[T, 1.0])
    errors, q = rendered(draw.figure_for(curve, solved(FC))).axes[:2]
    for ax in (errors, q):
        lines = [line for line in ax.get_lines() if line.get_label() in ("$T$ = 0.05", "$T$ = 1")]
        assert len({line.get_linestyle() for line in lines}) == 2  # told apart in grey
    assert errors.get_lines()[0].get_color() == q.get_lines()[0].get_color()


def test_figures_without_order_parameters_or_without_convergence():
    import dataclasses

    curve = fw.learning_curve(FC, TRAIN, TEST, temperature=T, method="infinite")
    assert len(rendered(draw.figure_for(curve, solved(FC, method="infinite"))).axes) == 2
    failed = dataclasses.replace(solved(CNN), converged=False)
    curve = fw.learning_curve(CNN, TRAIN, TEST, widths=[10, 20], temperature=T)
    figure = rendered(draw.figure_for(curve, failed))
    assert not any("Q" in ax.get_title(loc="left") for ax in figure.axes)
